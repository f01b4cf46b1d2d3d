"""The steps of the detectors: everything that one sample makes `update` compute, in single precision.

The block of a call holds addresses of the arrays that are the detector's state (`Word`). A step returns a Status.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.signal import contexts, float32, probation, scales
from midgehost.codegen.signal.contexts import Memory
from midgehost.codegen.signal.float32 import Float
from midgehost.codegen.signal.scales import Io

REPLAYED: Final = 8  # recorded samples for each new one, as in firmware/midge/anomaly/context.py

_HIGHEST_VALUE, _HIGHEST_SURPRISE = 2.0, 4.0
_VALUE_WEIGHT, _SURPRISE_POWER = 0.7, -1  # the score is 0.7 value + 0.5 surprise


class Status(IntEnum):
    """What `update` does next. 1 is a block of another abi."""

    LEARNING = 0
    SCORE = 2
    ALARM = 3
    UNUSABLE = 4  # nothing has changed
    RECORDED = 5  # as LEARNING; the recording of "context" is full
    LEARNT = 6  # as SCORE; its recording has been replayed
    LEARNT_ALARM = 7
    CALM = 8  # as SCORE, after an alarm
    LEARNT_CALM = 9


class Word(IntEnum):
    """The words of a block: addresses, and three numbers from COUNT on. "multiscale" has the first four."""

    ABI, IO, FLOATS, COUNTS, MEMORY, SEEN, LAST, STAY, CODES, RANGE, COUNT, SIZE, REPLAYED = range(13)


def multiscale(b: Builder) -> None:
    """MultiscaleZScore.update."""
    io, counts = _word(b, Word.IO), _word(b, Word.COUNTS)
    scales.refuse(b, b.load32(io, 4 * Io.SAMPLE), Status.UNUSABLE)
    score, seen = scales.step(b, io, _word(b, Word.FLOATS), counts)
    with b.when(seen <= b.const(scales.WARMUP)):
        b.finish(Status.LEARNING)
    b.store32(score, io, 4 * Io.SCORE)
    with _alarming(b, io, score):
        b.finish(Status.ALARM)
    with _calming(b, io):
        b.finish(Status.CALM)
    b.finish(Status.SCORE)


def context(b: Builder) -> None:
    """ContextZScore.update, apart from what follows RECORDED."""
    io, memory = _word(b, Word.IO), _word(b, Word.MEMORY)
    scales.refuse(b, b.load32(io, 4 * Io.SAMPLE), Status.UNUSABLE)
    score, seen = scales.step(b, io, _word(b, Word.FLOATS), _word(b, Word.COUNTS))
    value = _faded(b, memory, Memory.VALUE, _deviation(b, score, seen))
    with b.when(seen.equals(1)), b.seldom():
        b.store32(b.load32(io, 4 * Io.SAMPLE), memory, 4 * Memory.REFERENCE)
    sample = float32.unpack(b, b.load32(io, 4 * Io.SAMPLE))
    y = float32.subtract(b, sample, contexts.load(b, memory, Memory.REFERENCE))
    _record(b, y)
    surprise, learnt = _surprise(b, memory, y)
    b.lower(surprise, b.const(float32.bits(_HIGHEST_SURPRISE)))
    recent = _faded(b, memory, Memory.CONTEXT, surprise)
    weighted = float32.multiply(b, value, float32.constant(b, _VALUE_WEIGHT))
    halved = Float(recent.exponent + _SURPRISE_POWER, recent.mantissa)
    score = float32.pack_positive(b, float32.add(b, weighted, halved))
    b.store32(score, io, 4 * Io.SCORE)
    with _alarming(b, io, score):
        nothing = b.const(0)
        b.store32(nothing, memory, 4 * Memory.VALUE)
        b.store32(nothing, memory, 4 * Memory.CONTEXT)
        with b.when(learnt.differs(0)):
            b.finish(Status.LEARNT_ALARM)
        b.finish(Status.ALARM)
    with _calming(b, io):
        with b.when(learnt.differs(0)):
            b.finish(Status.LEARNT_CALM)
        b.finish(Status.CALM)
    with b.when(learnt.differs(0)):
        b.finish(Status.LEARNT)
    b.finish(Status.SCORE)


def _word(b: Builder, which: Word) -> Reg:
    return b.load32(b.block, 4 * which)


@contextmanager
def _alarming(b: Builder, io: Reg, score: Reg) -> Generator[None]:
    """The body runs if the score is above the threshold and no alarm has been raised lately."""
    threshold = b.load32(io, 4 * Io.THRESHOLD)
    hold = b.load32(_word(b, Word.COUNTS), scales.HOLD)
    with b.when(score > threshold), b.when(hold.equals(0)), b.seldom():
        b.store32(threshold, io, 4 * Io.ALARMED)
        yield


@contextmanager
def _calming(b: Builder, io: Reg) -> Generator[None]:
    """The body runs if the last sample raised an alarm."""
    with b.when(b.load32(io, 4 * Io.ALARMED).differs(0)), b.seldom():
        b.store32(b.const(0), io, 4 * Io.ALARMED)
        yield


def _deviation(b: Builder, score: Reg, seen: Reg) -> Reg:
    """The square root of the scales' score, limited, as it is stored."""
    deviation = b.copy(0)
    with b.when(seen > b.const(scales.WARMUP)):
        deviation.set(float32.pack_positive(b, float32.square_root(b, float32.unpack(b, score))))
        b.lower(deviation, b.const(float32.bits(_HIGHEST_VALUE)))
    return deviation


def _faded(b: Builder, memory: Reg, which: Memory, latest: Reg) -> Float:
    """What is left of the float, or the latest one, as it is stored, where that is more."""
    fading = float32.unpack(b, b.load32(_word(b, Word.IO), 4 * Io.FADING))
    stored = float32.pack_positive(b, float32.multiply(b, contexts.load(b, memory, which), fading))
    b.raise_to(stored, latest)
    b.store32(stored, memory, 4 * which)
    return float32.unpack(b, stored)


def _record(b: Builder, y: Float) -> None:
    """Leaves the routine while the recording is not full."""
    codes, count, size = _word(b, Word.CODES), _word(b, Word.COUNT), _word(b, Word.SIZE)
    with b.when(codes.differs(0)), b.when(count < size), b.seldom():
        probation.record(b, _word(b, Word.RANGE), codes, count, y)
        count += 1
        b.store32(count, b.block, 4 * Word.COUNT)
        with b.when(count.equals(size)):
            b.finish(Status.RECORDED)
        b.finish(Status.LEARNING)


def _surprise(b: Builder, memory: Reg, y: Float) -> tuple[Reg, Reg]:
    """How surprising y is, as it is stored. While there is a recording, a few of its samples are learnt instead and y
    is not judged; whether those were the last ones."""
    surprise, learnt, left, codes = b.copy(0), b.copy(0), b.copy(1), _word(b, Word.CODES)
    with b.when(codes.differs(0)):
        left.set(REPLAYED)
    with b.when(b.load32(memory, 4 * Memory.PER_UNIT).differs(0)):
        judge = contexts.Contexts(b, memory, _word(b, Word.SEEN), _word(b, Word.LAST), _word(b, Word.STAY))
        recording = probation.Recording(b, _word(b, Word.RANGE))
        with b.forever() as loop:
            with b.when(codes.differs(0)):
                at = _word(b, Word.REPLAYED)
                y.assign(recording.value(b.load8u(codes, at)))
                at += 1
                b.store32(at, b.block, 4 * Word.REPLAYED)
                with b.when(at.equals(_word(b, Word.SIZE))), b.seldom():
                    left.set(1)
                    learnt.set(1)
            excess = judge.surprise(y)
            left -= 1
            loop.exit_if(left.equals(0))
        judge.store()
        with b.when(codes.equals(0)):
            surprise.set(float32.pack(b, excess))
            with b.when(surprise <= b.const(float32.bits(contexts.EXPECTED))):
                surprise.set(0)
    with b.when(learnt.differs(0)), b.seldom():
        b.store32(b.const(0), b.block, 4 * Word.CODES)
    return surprise, learnt
