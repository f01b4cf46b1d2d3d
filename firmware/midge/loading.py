# Loads a bundle into a Model and runs its test vectors. What only loading needs leaves the heap when that is done.

import gc
import json
import struct

from midge.bundle import Bundle
from midge.errors import MidgeError
from midge.inference import Tensor
from midge.kernels import forget

_ABI = 1


def load(model, path, level, breathe):
    # See Model. Machine code comes first, where bundle and board have it.
    bundle = Bundle(path)
    try:
        info = json.loads(bundle.read("META"))
        if info.get("abi") != _ABI:
            raise MidgeError("model.bad_bundle", "its kernel calls have version %s" % info.get("abi"))
        model.name = info["name"]
        if bundle.machine and level in (None, "machine"):
            _load_machine(model, bundle, info["machine"], level, breathe)
        if model.level is None:
            _load_general(model, bundle, info, level)
    finally:
        bundle.close()
        forget("midge.bundle")


def self_test(model, path, breathe):
    # The number of test vectors in the bundle at that path, the model's own, that the model does not reproduce.
    bundle = Bundle(path)
    try:
        return _differing(model, bundle, breathe)
    finally:
        bundle.close()
        forget("midge.bundle")


def _load_machine(model, bundle, need, level, breathe):
    # Where the machine code cannot be used: `reason` is why, if another plan will do, else that is raised.
    try:
        from midge.kernels import machine

        trust = machine.require(bundle, need)
        _read(model, bundle, need, "TENM", machine.SECTIONS, machine.heap(bundle, need), machine.read, need)
        if not trust.proven:
            _prove(model, bundle, trust, breathe)
        model.level = "machine"
    except (MidgeError, ImportError) as error:
        _drop(model)
        if level == "machine" or not bundle.general:
            raise
        model.reason = getattr(error, "what", "no machine code on this board")
    finally:
        forget("midge.kernels.machine")


def _load_general(model, bundle, info, level):
    if level == "machine" or not bundle.general:
        raise MidgeError("model.no_kernels", "no plan for %s in this bundle" % (level or "this board"))
    from midge.kernels import general

    model.level = general.best(level)
    heap = bundle.size("WGHT") + bundle.size("PARM")
    _read(model, bundle, info, "TENS", general.SECTIONS, heap, general.General, model.level)


def _prove(model, bundle, trust, breathe):
    # The first calls of machine code on this board, which may crash it.
    trust.trying()
    try:
        differ = _differing(model, bundle, breathe)
    except MidgeError:
        differ = True
    except BaseException:  # Ctrl-C: nothing is known
        trust.interrupted()
        raise
    if differ:
        trust.failed()
        raise MidgeError("model.no_kernels", "machine code failed its self-test")
    trust.passed()


def _read(model, bundle, need, tensors, sections, heap, plan, how):
    # A plan in the memory that `need` names, `heap` bytes at least beside the arena. The arena comes first, while the
    # heap is whole: the collector does not move.
    gc.collect()
    nbytes = need["arena_bytes"] + need["scratch_bytes"]
    try:
        if nbytes + heap > gc.mem_free():
            raise MemoryError
        model._arena = bytearray(nbytes)
        model._plan = plan(bundle, model._arena, how)
        model.inputs, model.outputs = _tensors(bundle.read(tensors))
    except MemoryError:  # not enough, or not in one piece
        _drop(model)
        raise MidgeError(
            "model.too_big", "it needs %d bytes of heap, %d are free" % (need["heap_bytes"], gc.mem_free())
        )
    model.residence = model._plan.residence
    model.plan_hash = bundle.digest(*sections)
    view = memoryview(model._arena)
    model._inputs = [view[t.offset : t.offset + t.nbytes] for t in model.inputs]
    model._outputs = [view[t.offset : t.offset + t.nbytes] for t in model.outputs]


def _drop(model):
    model._arena = model._plan = model._inputs = model._outputs = None
    gc.collect()


def _differing(model, bundle, breathe):
    failed = 0
    bundle.seek("TEST")
    (count,) = struct.unpack("<I", bundle.file.read(4))
    for _ in range(count):
        for view in model._inputs:
            bundle.file.readinto(view)
        if breathe:
            for _ in model.steps():
                breathe()
        else:
            model.invoke()
        same = True
        for view in model._outputs:
            same = bundle.file.read(len(view)) == view and same
        failed += not same
    return failed


def _tensors(section):
    # (inputs, outputs) of a TENS section.
    n_inputs, n_outputs = section[0], section[1]
    found = []
    at = 4
    for _ in range(n_inputs + n_outputs):
        offset, nbytes, mantissa, zero, exponent, letter, rank, n_name, n_labels = struct.unpack_from(
            "<IIiibBBBI", section, at
        )
        at += 24
        shape = struct.unpack_from("<%dI" % rank, section, at)
        at += 4 * rank
        name = str(section[at : at + n_name], "utf8")
        at += n_name
        labels = str(section[at : at + n_labels], "utf8")
        at += n_labels
        at += -at % 4
        dtype = "float32" if letter == 102 else "int8"
        scale = mantissa * 2.0**exponent
        found.append(Tensor(name, shape, dtype, scale, zero, labels.split("\n") if labels else [], offset, nbytes))
    return found[:n_inputs], found[n_inputs:]
