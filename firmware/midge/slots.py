# Which slot starts: an update on trial while it has starts left, else the active one; and neither before its files are
# those of its manifest. Trusted base, see boot.py.

import json

import machine
from micropython import const, kbd_intr

from midge import update
from midge.errors import MidgeError, describe
from midge.running import ROOT, Update
from midge.trial import Trial, fall_back, remove, text, write

_SLOTS = ("a", "b")
_FORMER = const(4)  # keys that are remembered


def select(boards):
    # The Update to run, or None. `boards`: the names that this board goes by, or None.
    active = text("active")
    facts = update.facts(boards)
    facts["clock"] = 0  # an update may expire before it is taken, not between two boots
    trial = _read_trial()
    if trial and trial[0] == active:  # confirmed, and then the power went
        remove("trial")
    elif trial:
        found = _on_trial(facts, *trial)
        if found:
            return found
    failed = _read_fallback(active)
    if active not in _SLOTS:
        print("midge: there is no node to start%s" % _reason(failed))
        return None
    try:
        manifest = _check(active, facts)
    except Exception as error:
        return _before(facts, active, describe(error))
    return _confirmed(active, manifest, failed)


def check(slot, boards):
    # The manifest of a slot, if the slot is what it says and may run. Raises MidgeError update.*. What was refused is
    # no way back either, see _before.
    try:
        return _check(slot, update.facts(boards))
    except MidgeError:
        if slot != text("active"):
            remove(slot + "/manifest")
        raise


def _check(slot, facts):
    active = text("active")
    return update.verify(ROOT + slot, _trust(slot == active), _floor(), facts, ROOT + active if active else None)


def accept_keys(path):
    # Makes this board trust the keys of a statement. What runs was signed by the keys before.
    trust = _trust()
    former = (trust["keys"] + trust.get("former", []))[:_FORMER]
    trust = update.accept_keys(path, trust)
    trust["former"] = former
    write("trust.json", json.dumps(trust))


def version(slot):
    # That a manifest gives itself, or 0; for messages only.
    try:
        return int(json.loads(text(slot + "/manifest").split("\n")[0])["version"])
    except Exception:
        return 0


def _trust(former=False):
    # With the `former` keys for what was confirmed before they were replaced: that very manifest is as good as it was.
    trust = update.read_trust(ROOT + "trust.json")
    if trust and former:
        trust["keys"] = trust["keys"] + trust.get("former", [])
    return trust


def _floor():
    floor = text("floor")
    return int(floor) if floor.isdigit() else 0


def _read_trial():
    # (slot, starts left, whether the last boot was one of them), or None.
    parts = text("trial").split()
    if len(parts) in (2, 3) and parts[0] in _SLOTS and parts[1].isdigit():
        return parts[0], int(parts[1]), len(parts) == 3
    remove("trial")
    return None


def _on_trial(facts, slot, left, ran):
    # The Update, or None when it has had its chances. Ctrl-C waits until the trial's `run` can tell it from a failure.
    kbd_intr(-1)
    try:
        if ran and machine.reset_cause() == getattr(machine, "WDT_RESET", None):
            raise MidgeError("update.watchdog", "it hung, or reset the board")
        if not left:
            raise MidgeError("update.not_confirmed", "it was started and started again, and never confirmed itself")
        write("trial", "%s %d run" % (slot, left - 1))
        return Trial(slot, _check(slot, facts)["version"])
    except Exception as error:
        kbd_intr(3)
        fall_back(slot, version(slot), describe(error))
        return None


def _read_fallback(active):
    # What failed last; nothing when something newer was confirmed in that slot.
    try:
        failed = json.loads(text("fallback"))
        if failed["slot"] != active:
            return failed
    except (ValueError, KeyError, TypeError):
        pass
    remove("fallback")
    return None


def _confirmed(slot, manifest, failed):
    if manifest["version"] > _floor():  # confirmed, and then the power went
        write("floor", str(manifest["version"]))
    if failed:
        return Update(slot, manifest["version"], failed["version"], failed["why"])
    return Update(slot, manifest["version"])


def _before(facts, active, why):
    # The active slot is damaged. What was confirmed before it may still be there; what never was has a version above
    # the floor.
    other = "a" if active == "b" else "b"
    try:
        manifest = update.verify(ROOT + other, _trust(True), 0, facts)
        if manifest["version"] > _floor():
            raise MidgeError("update.not_confirmed", "never confirmed")
    except Exception:
        print("midge: no node starts: slot %s: %s: %s" % (active, why["code"], why["what"]))
        return None
    fall_back(active, version(active), why)
    write("active", other)
    return _confirmed(other, manifest, _read_fallback(other))


def _reason(failed):
    if not failed:
        return ""
    why = failed["why"]
    return ": version %d failed: %s: %s" % (failed["version"], why["code"], why["what"])
