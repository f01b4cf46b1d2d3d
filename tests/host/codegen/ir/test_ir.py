"""The intermediate representation on emulated cores: every arch computes what the interpreter computes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import get_args

import pytest

from midgehost.codegen import sim
from midgehost.codegen.ir.code import Builder, Comparison, Condition, Reg
from midgehost.codegen.ir.interpret import interpret
from midgehost.codegen.ir.lower import Lowering
from midgehost.codegen.kernels import LOWERINGS
from midgehost.codegen.machine import ABI

CONDITIONS: tuple[Condition, ...] = get_args(Condition)
EDGES = (0, 1, -1, 2, 127, -128, 255, 0x7FFF, -0x8000, 0x10000, (1 << 31) - 1, -(1 << 31), 0x5A5A1234)
IN0, OUT, BASE, SIZE = 64, 1024, 0, 4096  # the interpreter's memory: block, input, output

Write = Callable[[Builder, Reg, Reg], None]  # (builder, input's address, output's address) -> a program's body


@pytest.fixture(scope="module", params=sim.ARCHES)
def core(request: pytest.FixtureRequest) -> Iterator[sim.Core]:
    pytest.importorskip("unicorn")
    with sim.core(request.param) as made:
        yield made


def program(lowering: Lowering, write: Write, status: int = 0) -> Builder:
    builder = Builder(lowering.features)
    source, target = builder.load32(builder.block, 4), builder.load32(builder.block, 12)
    write(builder, source, target)
    builder.finish(status)
    return builder


def interpreted(builder: Builder, data: bytes, size: int) -> tuple[int, bytes]:
    """The status and the output's bytes."""
    memory = bytearray(SIZE)
    memory[:36] = struct.pack("<9i", ABI, IN0, 0, OUT, 0, 0, 0, 0, 1)
    memory[IN0 : IN0 + len(data)] = data
    status = interpret(builder.code, memory, BASE)
    return status, bytes(memory[OUT : OUT + size])


def executed(core: sim.Core, code: bytes, data: bytes, size: int) -> tuple[int, bytes]:
    mark = core.mark()
    at, source, target = core.load(code), core.put(data), core.put(bytes(size))
    status, _ = core.call(at, core.block(source, 0, target))
    found = core.read(target, size)
    core.release(mark)
    return status, found


def check(core: sim.Core, write: Write, inputs: Sequence[Sequence[int]], outputs: int, status: int = 0) -> None:
    """Runs a program on each of some inputs, words, both ways."""
    lowering = LOWERINGS[core.arch]()
    builder = program(lowering, write, status)
    code = lowering.assemble(builder)
    for values in inputs:
        data = struct.pack(f"<{len(values)}i", *values)
        assert executed(core, code, data, 4 * outputs) == interpreted(builder, data, 4 * outputs)


BINARY: dict[str, Callable[[Builder, Reg, Reg], Reg]] = {
    "add": lambda b, x, y: x + y,
    "sub": lambda b, x, y: x - y,
    "mul": lambda b, x, y: x * y,
    "and": lambda b, x, y: x & y,
    "or": lambda b, x, y: x | y,
    "xor": lambda b, x, y: x ^ y,
    "shl": lambda b, x, y: x << (y & 31),
    "sar": lambda b, x, y: x >> (y & 31),
    "shr": lambda b, x, y: x.shifted_right(y & 31),
    "neg": lambda b, x, y: -x + y,
    "high": lambda b, x, y: b.high_product(x, y),
    "divide": lambda b, x, y: b.quotient(x & 0x7FFFFFFF, (y | 1) & 0x7FFFFFFF),
    "reversed": lambda b, x, y: 5 - x + (y << 3),
}


@pytest.mark.parametrize("name", BINARY)
def test_operations_on_edges(core: sim.Core, name: str) -> None:
    pairs = [(x, y) for x in EDGES for y in EDGES]

    def write(b: Builder, source: Reg, target: Reg) -> None:
        with b.repeat(len(pairs)):
            b.store32(BINARY[name](b, b.load32(source), b.load32(source, 4)), target)
            source += 8
            target += 4

    lowering = LOWERINGS[core.arch]()
    builder = program(lowering, write)
    data = struct.pack(f"<{2 * len(pairs)}i", *(v for pair in pairs for v in pair))
    memory = bytearray(SIZE)
    memory[:36] = struct.pack("<9i", ABI, IN0, 0, 2048, 0, 0, 0, 0, 1)
    memory[IN0 : IN0 + len(data)] = data
    interpret(builder.code, memory, BASE)
    assert executed(core, lowering.assemble(builder), data, 4 * len(pairs))[1] == memory[2048 : 2048 + 4 * len(pairs)]


NUMBERS = (
    0,
    1,
    7,
    8,
    -1,
    -7,
    -8,
    100,
    255,
    256,
    -255,
    -256,
    1000,
    -2048,
    2047,
    4095,
    0xFFFF,
    -70000,
    1 << 30,
    -(1 << 31),
)


@pytest.mark.parametrize("op", ["add", "sub", "and", "or", "xor", "mul"])
def test_operations_with_numbers(core: sim.Core, op: str) -> None:
    def write(b: Builder, source: Reg, target: Reg) -> None:
        value = b.load32(source)
        for i, number in enumerate(NUMBERS):
            made = {
                "add": lambda n: value + n, "sub": lambda n: value - n, "and": lambda n: value & n,
                "or": lambda n: value | n, "xor": lambda n: value ^ n, "mul": lambda n: value * n,
            }[op](number)  # fmt: skip
            b.store32(made, target, 4 * i)

    check(core, write, [[0x12345678], [-1], [77]], len(NUMBERS))


def test_shifts_by_numbers(core: sim.Core) -> None:
    def write(b: Builder, source: Reg, target: Reg) -> None:
        value = b.load32(source)
        for i in range(32):
            for shifted in (value << i, value >> i, value.shifted_right(i)):
                b.store32(shifted, target)
                target += 4

    check(core, write, [[-0x12345679]], 96)


COMPARED = (0, 1, -1, 5, 9, 100, 128, 255, 256, 300, -5, -1000, 40000, 1 << 20)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_comparisons(core: sim.Core, condition: Condition) -> None:
    def write(b: Builder, source: Reg, target: Reg) -> None:
        for number in COMPARED:
            for other in (number, b.const(number)):
                value, seen = b.load32(source), b.copy(1)
                with b.when(Comparison(condition, value, other)):
                    seen.set(2)
                with b.otherwise():
                    seen += 7
                b.store32(seen, target)
                target += 4

    check(core, write, [[v] for v in (0, 1, -1, 5, 256, 300, -1000, 1 << 20, -(1 << 31))], 2 * len(COMPARED))


def test_memory(core: sim.Core) -> None:
    """Every width, near and far offsets, offsets in registers, limits."""

    def write(b: Builder, source: Reg, target: Reg) -> None:
        for load in (b.load8u, b.load8s, b.load16u, b.load16s, b.load32):
            for offset in (0, 4, 32, 64, 124, 128, 252, 256):
                for by in (offset, b.const(offset)):
                    value = load(source, by)
                    b.clamp(value, -100_000_000, 100_000_000)
                    b.store32(value, target)
                    target += 4
        for offset in (0, 30, 62, 124, 254, 256):
            value = b.load32(source, 8)
            b.store8(value, target, offset + 1)
            b.store16(value, target, offset)
            b.store32(value, target, 4 * offset)

    check(core, write, [[(i * 0x9E3779B1 & 0xFFFFFFFF) - (1 << 31) for i in range(70)]], 80 + 260)


def test_loops(core: sim.Core) -> None:
    """All kinds, nested, with branches at the end of their bodies."""

    def write(b: Builder, source: Reg, target: Reg) -> None:
        count, total = b.load32(source), b.copy(0)
        with b.repeat(count):
            total += count
        with b.repeat_if_any(count - 3), b.repeat(3):
            total += 1
            with b.when((total & 1).equals(0)):
                total ^= 5
        with b.loop_while(total < 100):
            total += count
        with b.forever() as loop:
            total -= 7
            loop.exit_if(total < 0)
            total += 3
        b.store32(total, target)

    check(core, write, [[1], [2], [3], [4], [9]], 1)


@pytest.mark.parametrize("live", [5, 13, 30, 60])
def test_more_values_than_registers(core: sim.Core, live: int) -> None:
    """Values, constants and a loop's count live across a loop that changes them all."""

    def write(b: Builder, source: Reg, target: Reg) -> None:
        values = [b.load32(source, 4 * i) for i in range(live)]
        factor = b.const(0x01234567)
        with b.repeat(3):
            for i, value in enumerate(values):
                value += values[(i * 7 + 3) % live]
                value *= factor
                value ^= i
        for i, value in enumerate(values):
            b.store32(value, target, 4 * i)

    check(core, write, [[i * i * 977 - 5000 for i in range(live)]], live)


def test_code_longer_than_branches_and_literals_reach(core: sim.Core) -> None:
    def write(b: Builder, source: Reg, target: Reg) -> None:
        value = b.load32(source)
        with b.repeat(2):
            with b.when(value < 0):
                for i in range(350):
                    value ^= 0x01010101 * (i % 120 + 1)
                    value += i
            with b.otherwise():
                value += 1
                with b.when(value.equals(6)), b.repeat(2):
                    for i in range(350):
                        value += 0x00314159 + (i % 50 << 24)
        b.store32(value, target)

    check(core, write, [[-1], [5], [7]], 1)


def test_status_and_abi(core: sim.Core) -> None:
    check(core, lambda b, source, target: b.store32(source - source, target), [[0]], 1, status=4)
    lowering = LOWERINGS[core.arch]()
    code = core.load(lowering.assemble(program(lowering, lambda b, source, target: None)))
    assert core.call(code, core.block())[0] == 0
    assert core.call(code, core.block(abi=2))[0] == 1


def random_program(rng: Random, depth: int = 3) -> Write:
    """Some variables, changed at random in nested blocks."""

    def write(b: Builder, source: Reg, target: Reg) -> None:
        values = [b.load32(source, 4 * i) for i in range(rng.randint(3, 24))]

        def block(level: int) -> None:
            for _ in range(rng.randint(1, 8)):
                value = rng.choice(values)
                kind = rng.randrange(9)
                other = rng.choice([rng.choice(values), rng.choice(EDGES), rng.randint(-300, 300)])
                if kind == 0:
                    value.set(BINARY[rng.choice(list(BINARY))](b, rng.choice(values), rng.choice(values)))
                elif kind == 1:
                    value += other
                elif kind == 2:
                    value.set(other if isinstance(other, int) else other * value)
                elif kind == 3:
                    value ^= other
                elif kind == 4:
                    b.clamp(value, rng.randint(-500, 0), rng.choice(values))
                elif kind == 5:
                    value >>= rng.randrange(32)
                elif level and kind == 6:
                    condition = rng.choice(CONDITIONS)
                    with b.when(Comparison(condition, value, other)):
                        block(level - 1)
                    if rng.random() < 0.5:
                        with b.otherwise():
                            block(level - 1)
                elif level and kind == 7:
                    with b.repeat(rng.randint(1, 3)):
                        block(level - 1)
                elif level:
                    with b.repeat_if_any(value & 3):
                        block(level - 1)

        block(depth)
        for i, value in enumerate(values):
            b.store32(value, target, 4 * i)

    return write


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(core: sim.Core, seed: int) -> None:
    _random_program(core, seed)


@pytest.mark.soak
def test_many_random_programs(core: sim.Core) -> None:
    for seed in range(1000, 2000):
        _random_program(core, seed)


def _random_program(core: sim.Core, seed: int) -> None:
    rng = Random(seed)
    state = rng.getstate()

    def write(b: Builder, source: Reg, target: Reg) -> None:
        rng.setstate(state)  # every arch and both runs get the same program
        random_program(rng)(b, source, target)

    values = [rng.choice([rng.choice(EDGES), rng.randint(-(1 << 31), (1 << 31) - 1)]) for _ in range(24)]
    check(core, write, [values], 24)
