"""A board's file system as midge keeps it: two slots, models shared by both, and what the boot code remembers of them.

/main.py                        starts the boot code in /midge/base-<sha8>, see deploy/base.py
/midge/<slot>/lib/midge/*.mpy   the device package         /midge/<slot>/node.json   the compiled node file
/midge/<slot>/manifest          names every file of the slot; written last
/midge/models/<name>-<sha12>.midge                         beside it .try and .ok, what is known of its machine code
/midge/active                   "a" or "b": the slot that has confirmed itself
/midge/trial                    "b 3": an update, and the starts that it has left
/midge/fallback, floor, hold    see firmware/midge/boot.py
/midge/trust.json               on an adopted board: its node's name and the keys that it trusts

Every one of these files is replaced by a rename, so it is whole at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

from midgehost.deploy.base import PREFIX, Base
from midgehost.deploy.probe import set_clock
from midgehost.deploy.transport import Transport
from midgehost.errors import DeployError, RemoteError

ROOT = "/midge"
ACTIVE, TRIAL, FALLBACK = f"{ROOT}/active", f"{ROOT}/trial", f"{ROOT}/fallback"
FLOOR, TRUST = f"{ROOT}/floor", f"{ROOT}/trust.json"
HOLD = f"{ROOT}/hold"
BOOKKEEPING = frozenset({ACTIVE, TRIAL, FALLBACK, FLOOR, TRUST, HOLD})
MARKS = (".try", ".ok")  # beside a file: what is known of its machine code, see firmware/midge/kernels/trust.py
MODELS = f"{ROOT}/models"
MAIN = "/main.py"
FOREIGN_MAIN = "/main.py.bak"
SLOTS = ("a", "b")

_MARK = b"# midge:"  # how our main.py begins
_STATEMENT = f"{ROOT}/keys.new"
_HOLD_SECONDS = 300  # a held board starts its node again when it has heard nothing for so long
_BATCH = 16
_HASH_TIMEOUT = 120.0  # s, for a batch
_PROMPT_TIMEOUT = 10.0  # s, for a held board to boot to its prompt
_PROMPT_PATIENCE = 2.0  # s of silence after which it is asked for one

# The clock that gives a held board back to its node: main.py's, or a new one after a restart without main.py.
_HOLD_CLOCK = """
if globals().get('_midge_held'):
 import machine
 if globals().get('_timer') is None:
  try:_timer=machine.Timer(-1)
  except ValueError:_timer=machine.Timer(0)
 _timer.init(mode=machine.Timer.ONE_SHOT,period={ms},callback=lambda t:machine.reset())
"""
_CHECK = """
{enter}
import gc
gc.collect()
from midge.slots import check,accept_keys
try:
 {call}
 print('ok')
except Exception as e:
 from midge.errors import describe
 e=describe(e)
 print('refused',e['code'],e['what'])
check=accept_keys=None
{leave}
"""
_AGENT = """
import os,hashlib,binascii
def _midge_ls(p):
 for e in os.ilistdir(p):
  q=p+'/'+e[0]
  if e[1]&0x4000:_midge_ls(q)
  else:print(os.stat(q)[6],q)
def _midge_rm(p):
 try:d=os.stat(p)[0]&0x4000
 except OSError:return
 if d:
  for e in list(os.ilistdir(p)):_midge_rm(p+'/'+e[0])
  os.rmdir(p)
 else:os.remove(p)
def _midge_prune(p):
 try:d=list(os.ilistdir(p))
 except OSError:return
 for e in d:
  if e[1]&0x4000:
   q=p+'/'+e[0]
   _midge_prune(q)
   if not list(os.ilistdir(q)):os.rmdir(q)
def _midge_h(paths):
 m=memoryview(bytearray(1024))
 for p in paths:
  h=hashlib.sha256()
  with open(p,'rb') as f:
   while 1:
    n=f.readinto(m)
    if not n:break
    h.update(m[:n])
  print(binascii.hexlify(h.digest()).decode())
def _midge_mv(a,b):
 try:os.rename(a,b)
 except OSError as e:
  if e.errno!=17:raise
  os.remove(b)
  os.rename(a,b)
def _midge_cp(a,b):
 m=memoryview(bytearray(1024))
 with open(a,'rb') as f,open(b,'wb') as g:
  while 1:
   n=f.readinto(m)
   if not n:break
   g.write(m[:n])
"""


class ForeignMain(DeployError):
    """The board has a main.py that is not midge's."""

    code = "deploy.foreign_main"

    def __init__(self, why: str, do: str) -> None:
        super().__init__(f"The board has a main.py that midge did not write{why}.", do)


class Refused(DeployError):
    """The board's own check did not pass an update; `remote_code` is the device's, update.* (docs/updates.md)."""

    code = "deploy.refused"

    def __init__(self, remote_code: str, what: str) -> None:
        self.remote_code, self.remote_what = remote_code, what
        super().__init__(
            f"The board refuses the update: {what} [{remote_code}]; what ran before still runs.",
            "docs/errors.md says what the code means.",
        )


def model_path(name: str, data: bytes) -> str:
    """Where a bundle lies: its hash is in its name, so another version never overwrites it."""
    return f"{MODELS}/{name}-{hashlib.sha256(data).hexdigest()[:12]}.midge"


class Slots:
    """What midge has on a board. Every method raises what `Transport.exec` raises."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._has_agent = False

    def _run(self, code: str, timeout: float = 60.0) -> str:
        if not self._has_agent:
            self._transport.exec(_AGENT)
            self._has_agent = True
        return self._transport.exec(code, timeout)

    # --- looking ------------------------------------------------------------------------------------------------------

    def files(self) -> dict[str, int]:
        """The sizes of all files below /midge; empty when there is none."""
        listing = self._run(f"try:_midge_ls({ROOT!r})\nexcept OSError as e:\n if e.errno!=2:raise")
        return {path: int(size) for size, path in (line.split(" ", 1) for line in listing.splitlines())}

    def digests(self, paths: Iterable[str]) -> dict[str, str]:
        """The SHA-256 of files, as the board computes it. Raises RemoteError (ENOENT)."""
        found: dict[str, str] = {}
        for some in batched(paths):
            self.keep_held()
            found |= dict(zip(some, self._run(f"_midge_h({some!r})", _HASH_TIMEOUT).split(), strict=True))
        return found

    def text(self, path: str) -> str:
        """A small file's text; empty when it is not there."""
        code = f"try:\n with open({path!r}) as _f:print(_f.read(),end='')\nexcept OSError as e:\n if e.errno!=2:raise"
        return self._run(code)

    def active(self) -> str | None:
        """The slot that runs."""
        slot = self.text(ACTIVE).strip()
        return slot if slot in SLOTS else None

    def version_floor(self) -> int:
        """The highest version that was ever confirmed; 0 on a new board."""
        text = self.text(FLOOR).strip()
        return int(text) if text.isdecimal() else 0

    def trust(self) -> dict[str, Any] | None:
        """What an adopted board trusts; None on any other."""
        text = self.text(TRUST)
        return cast(dict[str, Any], json.loads(text)) if text else None

    def fallback(self) -> dict[str, Any]:
        """Slot, version and reason (`why`: code and what) of the update that failed last; empty when none did."""
        try:
            return cast(dict[str, Any], json.loads(self.text(FALLBACK)))
        except ValueError:
            return {}

    def check(self, slot: str, base: Base) -> None:
        """Lets the boot code that lies on the board judge a slot. Raises Refused."""
        names = None if base.board is None else [base.board]
        answer = self._run(_CHECK.format(enter=base.enter(), leave=base.leave(), call=f"check({slot!r},{names!r})"))
        _raise_refusal(answer)

    def passes(self, slot: str, base: Base) -> bool:
        """Whether `check` passes."""
        try:
            self.check(slot, base)
        except Refused:
            return False
        return True

    def accept_keys(self, base: Base, statement: bytes) -> None:
        """Makes an adopted board trust the keys of a statement that a key it trusts has signed. Raises Refused."""
        self._transport.put(_STATEMENT, statement)
        answer = self._run(_CHECK.format(enter=base.enter(), leave=base.leave(), call=f"accept_keys({_STATEMENT!r})"))
        self.remove([_STATEMENT])
        _raise_refusal(answer)

    def models_of(self, slot: str) -> set[str]:
        """The models that a slot's node file names; empty when it is damaged or absent."""
        try:
            return set(re.findall(rf"{MODELS}/[^\"]+", json.dumps(json.loads(self.text(f"{ROOT}/{slot}/node.json")))))
        except ValueError:
            return set()

    def main_is_foreign(self) -> bool:
        """Whether /main.py is the user's own."""
        text = self._run(f"try:print(open({MAIN!r}).read({len(_MARK)}))\nexcept OSError:pass")
        return bool(text) and text.encode()[: len(_MARK)] != _MARK

    def starts_nodes(self) -> bool:
        """Whether /main.py is midge's."""
        return self.exists(MAIN) and not self.main_is_foreign()

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return "y" in self._run(f"try:os.stat({path!r});print('y')\nexcept OSError:pass")

    # --- changing -----------------------------------------------------------------------------------------------------

    def remove(self, paths: Iterable[str]) -> None:
        """Removes files and whole folders; those that are not there are no error."""
        for path in paths:
            self._run(f"_midge_rm({path!r})")

    def prune(self, folder: str) -> None:
        """Removes the empty folders below a folder: the board refuses a slot that has one."""
        self._run(f"_midge_prune({folder!r})")

    def write_manifest(self, slot: str, data: bytes) -> None:
        """Completes a slot: without its manifest it never runs."""
        self.replace(f"{ROOT}/{slot}/manifest", data)

    def set_clock(self) -> None:
        """Gives the board this computer's time (UTC)."""
        set_clock(self._transport, time.gmtime())

    def copy(self, source: str, target: str) -> None:
        """Copies a file on the board; the target's folder must be there."""
        self._run(f"_midge_cp({source!r},{target!r})")

    def make_folders(self, path: str) -> None:
        """Makes the folders that a file needs."""
        parts = path.split("/")[1:-1]
        folders = ["/" + "/".join(parts[: i + 1]) for i in range(len(parts))]
        self._run("".join(f"try:os.mkdir({f!r})\nexcept OSError as e:\n if e.errno!=17:raise\n" for f in folders))

    def replace(self, path: str, data: bytes) -> None:
        """A file's new content, whole at any moment: written beside it and renamed."""
        self._transport.put(f"{path}.new", data)
        self._run(f"_midge_mv({path + '.new'!r},{path!r})")

    def arm(self, slot: str, boots: int) -> None:
        """Puts a slot on trial: it runs after the next reset, and has so many starts to confirm itself."""
        self.remove([FALLBACK])  # of an earlier one
        self.replace(TRIAL, f"{slot} {boots}".encode())

    def disarm(self) -> None:
        """Ends a trial; the active slot runs after the next reset."""
        self.remove([TRIAL, f"{TRIAL}.new"])

    def install_main(self, source: bytes, force: bool) -> None:
        """Puts our main.py in place; a foreign one is kept as main.py.bak with `force`. Raises ForeignMain."""
        if self.text(MAIN).encode() == source:
            return
        self.check_main(force)
        self._transport.put(f"{MAIN}.new", source)
        if self.main_is_foreign():
            self._run(f"os.rename({MAIN!r},{FOREIGN_MAIN!r})")
        self._run(f"_midge_mv({MAIN + '.new'!r},{MAIN!r})")

    def check_main(self, force: bool) -> None:
        """Raises ForeignMain when `install_main` would have to refuse."""
        if not self.main_is_foreign():
            return
        if not force:
            raise ForeignMain("", f"With --force it is kept as {FOREIGN_MAIN} and put back by `midge remove`.")
        if self.exists(FOREIGN_MAIN):
            raise ForeignMain(f", and an older one is kept as {FOREIGN_MAIN}", "Remove or rename one of them.")

    def send_base(self, base: Base) -> None:
        """Puts the base's files beside the one that boots; never over a whole file."""
        present = set(self.files())
        digests = self.digests(path for path in base.files if path in present)
        for path, data in base.files.items():
            if digests.get(path) != hashlib.sha256(data).hexdigest():
                self._transport.put(path, data)

    def install_base(self, base: Base, force: bool) -> None:
        """Makes the base the one that boots, and removes older ones; its files lie on the board. Raises ForeignMain."""
        self.install_main(base.main, force)
        old = {path.rpartition("/midge/")[0] for path in self.files() if path.startswith(PREFIX)} - {base.folder}
        self.remove(sorted(old))

    def restore_main(self) -> None:
        """Takes our main.py away and puts the user's own back, if one was kept."""
        self.remove([f"{MAIN}.new"])
        if not self.main_is_foreign():
            self.remove([MAIN])
            if self.exists(FOREIGN_MAIN):
                self._run(f"os.rename({FOREIGN_MAIN!r},{MAIN!r})")

    # --- holding ------------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Makes the board idle: no node, no watchdog. Ends with `Transport.reset`, or by itself when we go silent."""
        if self.starts_nodes():
            self.hold_again()

    def hold_again(self) -> None:
        """The same for a board that was idle: what it has started since (a watchdog) ends with a reset."""
        if self.starts_nodes():
            self._transport.put(HOLD, str(_HOLD_SECONDS).encode())
        self._transport.reset()
        self._has_agent = False
        heard, end = b"", time.monotonic() + _PROMPT_TIMEOUT
        while not heard.endswith(b">>> ") and time.monotonic() < end:
            said = self._transport.read(_PROMPT_PATIENCE)
            if not said:  # a port that went away with the reset came back without the prompt: ask for another
                self._transport.write(b"\r")
            heard = heard[-64:] + said
        self._transport.exec("_midge_held=True")
        self.keep_held()

    def keep_held(self) -> None:
        """Winds the board's clock again; to be called before anything that takes long."""
        self._run(_HOLD_CLOCK.format(ms=1000 * _HOLD_SECONDS))

    def restart(self) -> None:
        """Gives the board a clean heap; it stays held."""
        self._transport.restart()
        self._has_agent = False
        self._transport.exec("_midge_held=True")
        self.keep_held()

    def release(self) -> None:
        """Resets the board: the active node starts."""
        with contextlib.suppress(RemoteError):
            self._run(f"_midge_rm({HOLD!r})")  # there still when the board's boot was interrupted
        self._transport.reset()
        self._has_agent = False


def batched(paths: Iterable[str]) -> Iterator[list[str]]:
    """As many as a board hashes in one go."""
    waiting = list(paths)
    for at in range(0, len(waiting), _BATCH):
        yield waiting[at : at + _BATCH]


def _raise_refusal(answer: str) -> None:
    words = answer.strip().split(" ", 2)
    if words[0] != "ok":
        raise Refused(*words[1:])
