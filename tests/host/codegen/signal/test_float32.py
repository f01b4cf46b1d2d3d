"""Single precision in integers against numpy's, on all four cores."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

import numpy as np
import pytest

from midgehost.codegen import sim
from midgehost.codegen.ir.code import Builder, Reg
from midgehost.codegen.kernels import LOWERINGS
from midgehost.codegen.machine import ABI
from midgehost.codegen.signal import float32
from midgehost.codegen.signal.float32 import Float

_AT_ONCE: Final = 8192  # what the memory of an emulated core has room for
Operation = Callable[[Builder, Float, Float], Float]

_SIGNED: Final[dict[str, tuple[Operation, Callable[..., np.ndarray]]]] = {
    "add": (float32.add, np.add),
    "subtract": (float32.subtract, np.subtract),
    "multiply": (float32.multiply, np.multiply),
    "square": (lambda b, x, _: float32.square(b, x), lambda x, _: x * x),
    "load and store": (lambda _, x, __: x, lambda x, _: x),
}
_POSITIVE: Final[dict[str, tuple[Operation, Callable[..., np.ndarray]]]] = {
    "divide": (float32.divide, np.divide),
    "divide by 50": (lambda b, x, _: float32.divide_by(b, x, 50), lambda x, _: x / np.float32(50)),
    "root": (lambda b, x, _: float32.square_root(b, x), lambda x, _: np.sqrt(x)),
}


@pytest.fixture(autouse=True)
def _emulators() -> None:
    pytest.importorskip("unicorn")


def numbers(rng: np.random.Generator, n: int, signed: bool) -> np.ndarray:
    """Pairs of float32: near and far from each other, with mantissas that round badly, zeros if signed."""
    spread = rng.choice([0, 1, 3, 30], n)[:, None]
    exponent = 127 + rng.integers(-spread, spread + 1, (n, 2))
    fraction = rng.integers(0, 1 << 23, (n, 2))
    kind = rng.integers(0, 6, (n, 2))
    fraction = np.select(
        [kind == 0, kind == 1, kind == 2, kind == 3],
        [0, (1 << 23) - 1, fraction >> 12 << 12, fraction & 3],
        fraction,
    )
    stored = (rng.integers(0, 1 + signed, (n, 2)) << 31 | exponent << 23 | fraction).astype(np.uint32)
    twins = stored[: n // 4]  # all but equal: what a difference cancels
    twins[:, 1] = twins[:, 0] + rng.integers(-3, 4, len(twins)).astype(np.uint32)
    if signed:
        stored[rng.random((n, 2)) < 0.05] = 0
    return stored.view(np.float32)


def run(arch: str, work: Callable[[Builder, Reg, Reg], Reg], first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`work` on the words of both arrays, as words."""
    lowering = LOWERINGS[arch]()
    b = Builder(lowering.features)
    source, out = b.load32(b.block, 4), b.load32(b.block, 12)
    with b.repeat(b.load32(b.block, 8)):
        b.store32(work(b, b.load32(source), b.load32(source, 4)), out)
        source += 8
        out += 4
    b.finish()
    words = np.stack([first.view(np.uint32), second.view(np.uint32)], axis=1)
    results: list[bytes] = []
    with sim.core(arch) as core:
        code = core.load(lowering.assemble(b))
        inputs, found = core.alloc(8 * _AT_ONCE), core.alloc(4 * _AT_ONCE)
        for start in range(0, len(words), _AT_ONCE):
            part = words[start : start + _AT_ONCE]
            core.write(inputs, part.tobytes())
            block = core.put(struct.pack("<4I", ABI, inputs, len(part), found))
            assert core.call(code, block, check=False)[0] == 0
            results.append(core.read(found, 4 * len(part)))
    return np.frombuffer(b"".join(results), np.uint32)


def on_floats(operation: Operation, signed: bool) -> Callable[[Builder, Reg, Reg], Reg]:
    """The operation on stored values."""
    if signed:
        return lambda b, x, y: float32.pack(b, operation(b, float32.unpack(b, x), float32.unpack(b, y)))
    load = float32.unpack_positive
    return lambda b, x, y: float32.pack_positive(b, operation(b, load(b, x), load(b, y)))


def check(arch: str, n: int, seed: int) -> None:
    """Every operation on n pairs."""
    rng = np.random.default_rng(seed)
    for operations, signed in ((_SIGNED, True), (_POSITIVE, False)):
        for name, (operation, reference) in operations.items():
            x = numbers(rng, n, signed)
            got = run(arch, on_floats(operation, signed), x[:, 0], x[:, 1])
            wanted = (reference(x[:, 0], x[:, 1]) + np.float32(0)).view(np.uint32)  # zeros have no sign
            differ = np.flatnonzero(got != wanted)
            assert not len(differ), f"{name} of {x[differ[0]]}: {got[differ[0]]:#x}, not {wanted[differ[0]]:#x}"


@pytest.mark.parametrize("arch", LOWERINGS)
def test_every_operation_rounds_as_numpy_does(arch: str) -> None:
    check(arch, 1000, 1)


@pytest.mark.soak
@pytest.mark.parametrize("arch", LOWERINGS)
def test_many_operations_round_as_numpy_does(arch: str) -> None:
    for seed in range(2, 12):
        check(arch, 20_000, seed)


def test_what_is_too_small_to_be_normal_is_stored_as_zero() -> None:
    tiny = np.array([1e-30, -1e-30, 2**-126, 1e-19, 3e-38], np.float32)
    factor = np.array([1e-15, 1e-15, 0.5, 1e-18, 1], np.float32)
    got = run("armv6m", on_floats(float32.multiply, signed=True), tiny, factor).view(np.float32)
    assert got.tolist() == [0, 0, 0, float(np.float32(1e-19) * np.float32(1e-18)), float(np.float32(3e-38))]
    assert got.view(np.uint32)[:3].tolist() == [0, 0, 0]


def test_integers_come_and_go() -> None:
    counts = np.array([0, 1, 2, 255, 256, 4095, 65537, (1 << 24) - 1, 1 << 24], np.uint32)
    got = run("armv6m", lambda b, n, _: float32.pack(b, float32.from_integer(b, n)), counts, counts)
    assert got.view(np.float32).tolist() == counts.tolist()
    values = np.array([0, 0.49, 0.999, 1, 1.5, 2.999, 7, 254.99, 8388607], np.float32)
    got = run("armv6m", lambda b, x, _: float32.to_integer(b, float32.unpack(b, x)), values, values)
    assert got.tolist() == values.astype(int).tolist()


@pytest.mark.parametrize("arch", LOWERINGS)
def test_products_with_a_byte(arch: str) -> None:
    rng = np.random.default_rng(4)
    x = numbers(rng, 2000, signed=False)[:, 0]
    code = rng.integers(0, 256, len(x)).astype(np.uint32)

    def work(b: Builder, first: Reg, second: Reg) -> Reg:
        return float32.pack(b, float32.multiply_by_byte(b, float32.unpack(b, first), second))

    assert (run(arch, work, x, code) == (x * code.astype(np.float32)).view(np.uint32)).all()


def test_the_estimate_of_a_reciprocal_is_close_and_never_overflows() -> None:
    d = np.arange(1 << 15, (1 << 16) + 1, dtype=np.uint32)
    got = run("armv6m", lambda b, x, _: float32.reciprocal(b, x), d, d).astype(np.float64)
    assert np.abs(got * d / 2**31 - 1).max() < 2**-14
    assert got.max() <= 1 << 16


def test_the_estimate_of_a_reciprocal_root_is_close_and_never_overflows() -> None:
    x = np.arange(1 << 14, 1 << 16, dtype=np.uint32)
    got = run("armv6m", lambda b, value, _: float32.reciprocal_root(b, value), x, x).astype(np.float64)
    assert np.abs(got * np.sqrt(x) / 2**23 - 1).max() < 2**-12
    assert got.max() < 1 << 16
