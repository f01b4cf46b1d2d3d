"""An LX6/LX7 core for the code that `asm.xtensa` makes: counts instructions exactly, fast enough for whole models.

A routine is translated into one Python function: registers are local variables, a basic block is a run of statements,
a zero-overhead loop over a straight body is a `for`, a branch of a block to itself a `while`. The MAC16 loop that fills
most of the time, four mula.dd.*.ldinc, is a numpy dot product. `sim.qemu_xtensa` is the independent check.

Refused: accesses that are not aligned or not to memory that the routine may use, code bytes read other than by aligned
words, the parts of the stack that register windows spill to, a return without the stack pointer and return address of
the entry, and reading a special register that nothing has set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from midgehost.codegen.sim.core import INSTRUCTION_LIMIT, READ, STACK_BYTES, WRITE, Core, Fault, Memory

_ORIGIN: Final = 0x3FFB_0000
_RAM_BYTES: Final = 4 << 20
_CODE: Final = 4  # right to a word of code: it is read as a whole
_RETURN: Final = 0x8000_0000 | _ORIGIN  # the window increment of call8 in the top bits
_SPILLED: Final = 32  # bytes at the top of a frame that belong to the windows
_M32: Final = 0xFFFF_FFFF

# What the caller leaves in the registers.
_POISON: Final = 0xBAD0_0001

Translated = Callable[..., tuple[int, int, int, int]]


class XtensaWin(Core):
    """Counts instructions."""

    arch, unit, estimate = "xtensawin", "instructions", False
    always_checked = True

    def __init__(self) -> None:
        data = memoryview(bytearray(_RAM_BYTES))
        super().__init__(Memory(_ORIGIN, data, bytearray(_RAM_BYTES // 4)))
        self._pieces: dict[int, int] = {}  # address -> size of what was loaded
        self._known: dict[bytes, tuple[Translated, int]] = {}
        self._views = data.cast("I"), data.cast("H"), data, np.frombuffer(data, np.int16)

    def load(self, data: bytes, align: int = 16) -> int:
        address = super().load(data, align)
        self._pieces[address] = len(data)
        return address

    def _execute(self, code: int, args: int, check: bool) -> tuple[int, int]:
        if code not in self._pieces or code % 4:
            raise Fault(f"no routine was loaded at {code:#010x}")
        size = self._pieces[code]
        content = self.ram.read(code, size)
        if content not in self._known:
            self._known[content] = translate(content)
        run, frame = self._known[content]
        rights: Any = self.ram.rights
        bottom = self.stack - frame
        if frame < _SPILLED or bottom < self.stack - STACK_BYTES:
            raise Fault(f"the routine's frame has {frame} bytes")
        self.ram.set_rights(code, size, _CODE)
        self.ram.set_rights(self.stack - STACK_BYTES, STACK_BYTES, 0)
        self.ram.set_rights(bottom, frame - _SPILLED, READ | WRITE)
        words, halves, octets, numbers = self._views
        try:
            result, count, a0, a1 = run(words, halves, octets, numbers, rights, args, self.stack)
        except IndexError:
            raise Fault("an access lies outside of the memory") from None
        except TypeError:
            raise Fault("a special register is read that nothing has set") from None
        finally:
            self.ram.set_rights(code, size, READ)
            self.ram.set_rights(self.stack - STACK_BYTES, STACK_BYTES, READ | WRITE)
        if a0 != _RETURN or a1 != bottom:
            raise Fault("the routine did not restore a0 or a1")
        return result, count


def make(arch: str) -> Core:
    """A new core."""
    return XtensaWin()


@dataclass(frozen=True)
class Instruction:
    """A decoded instruction: statements for what it does, and where it may go.

    `kind` is "plain", "entry" (`target` is the frame's size), "branch" (taken if `test`), "jump", "loop" (`test` is the
    number of rounds) or "return". `mac` holds the operands of a mula.dd.*.ldinc.
    """

    at: int
    end: int
    kind: str = "plain"
    statements: tuple[str, ...] = ()
    test: str = ""
    target: int = 0
    mac: tuple[int, ...] = ()


def translate(code: bytes) -> tuple[Translated, int]:
    """The Python function of a routine, and the bytes of its stack frame. Raises Fault."""
    routine = XtensaCode(code)
    scope: dict[str, Any] = {"refuse": _refuse, "multiply": _multiply, "too_long": _too_long}
    exec(compile("\n".join(routine.function()), "<routine>", "exec"), scope)
    return scope["run"], routine.frame


class XtensaCode:
    """A routine, decoded: `instructions` holds all that control may reach, by offset; cut into basic blocks."""

    def __init__(self, code: bytes) -> None:
        self.instructions = _reachable(code)
        self.frame = self._frame()
        every = self.instructions.values()
        loops = [i for i in every if i.kind == "loop"]
        self._straight = {loop.end for loop in loops if self._is_straight(loop)}  # where such a body begins
        self._ends = {loop.target: loop for loop in loops if loop.end not in self._straight}
        leaders = {0}
        leaders.update(i.target for i in every if i.kind in ("branch", "jump"))
        leaders.update(i.end for i in every if i.kind == "branch")
        leaders.update(at for loop in self._ends.values() for at in (loop.end, loop.target))
        self._numbers = {at: number for number, at in enumerate(sorted(leaders))}

    def function(self) -> Iterable[str]:
        """The lines of a function that runs the routine."""
        yield "def run(W, H, B, N, R, args, stack):"
        yield f" a0 = {_RETURN}; a1 = stack; a2 = {_POISON}; a3 = 1; a4 = 0; a5 = args"
        yield " " + " = ".join(f"a{i}" for i in range(6, 16)) + f" = {_POISON}"
        yield " sar = acc = m0 = m1 = m2 = m3 = lcount = None"
        yield f" n = 0; b = {self._numbers[0]}"
        yield " while True:"
        yield f"  if n > {INSTRUCTION_LIMIT}: too_long()"
        blocks = [list(self._block(at)) for at in self._numbers]
        yield from _dispatch(blocks, 0, len(blocks), "  ")

    def _frame(self) -> int:
        """The bytes of the stack frame. Raises Fault unless the routine begins with its only entry."""
        entries = [i for i in self.instructions.values() if i.kind == "entry"]
        first = self.instructions[0]
        if first.kind == "jump":
            first = self.instructions[first.target]
        if entries != [first]:
            raise Fault("the routine does not begin with its only entry")
        return first.target

    def _is_straight(self, loop: Instruction) -> bool:
        """Whether a loop's body is plain instructions that nothing jumps into."""
        at = loop.end
        while at < loop.target:
            if at not in self.instructions or self.instructions[at].kind != "plain":
                return False
            at = self.instructions[at].end
        inside = range(loop.end, loop.target)
        jumps = (i for i in self.instructions.values() if i.kind in ("branch", "jump"))
        return at == loop.target and not any(i.target in inside for i in jumps)

    def _block(self, start: int) -> Iterable[str]:
        """The lines of a block; its last ones set b, or return."""
        at, count = start, 0
        lines: list[str] = []
        while True:
            instruction = self.instructions[at]
            count += 1
            lines += instruction.statements
            at = instruction.end
            if instruction.kind == "return":
                return [*lines, f"return a2, n + {count}, a0, a1"]
            if instruction.kind == "jump":
                return [*lines, f"n += {count}; b = {self._numbers[instruction.target]}; continue"]
            if instruction.kind == "branch":
                return self._branch(lines, instruction, start, count)
            if instruction.kind == "loop":
                if instruction.end not in self._straight:
                    inside, behind = self._numbers[instruction.end], self._numbers[instruction.target]
                    into = f"lcount = {instruction.test}; b = {inside} if lcount else {behind}"
                    return [*lines, f"n += {count}", into, "continue"]
                lines += self._straight_loop(instruction)
                at = instruction.target
            if at in self._numbers:
                return [*lines, f"n += {count}", self._after(at), "continue"]

    def _after(self, at: int) -> str:
        """Where control goes that reaches an address by itself: a loop's end leads back while rounds are left."""
        if at not in self._ends:
            return f"b = {self._numbers[at]}"
        return f"lcount -= 1; b = {self._numbers[self._ends[at].end]} if lcount else {self._numbers[at]}"

    def _branch(self, lines: list[str], branch: Instruction, start: int, count: int) -> list[str]:
        taken = f"b = {self._numbers[branch.target]}; continue"
        lines = [*lines, f"n += {count}"]
        if branch.target == start:
            again = [*lines, f"if not ({branch.test}): break", f"if n > {INSTRUCTION_LIMIT}: too_long()"]
            return ["while True:", *(" " + line for line in again), self._after(branch.end), "continue"]
        return [*lines, f"if {branch.test}: {taken}", self._after(branch.end), "continue"]

    def _straight_loop(self, loop: Instruction) -> list[str]:
        """A zero-overhead loop with all its rounds."""
        body: list[Instruction] = []
        at = loop.end
        while at < loop.target:
            body.append(self.instructions[at])
            at = body[-1].end
        lines = [f"rounds = {loop.test}", f"n += rounds * {len(body)}", f"if n > {INSTRUCTION_LIMIT}: too_long()"]
        pointers = _dot_pointers(body)
        if pointers is not None:
            x, w = pointers
            call = f"acc, m0, m1, m2, m3 = multiply(W, N, R, {x}, {w}, rounds, acc, m0, m2, {loop.end})"
            return [*lines, f"if rounds: {call}; {x} += 8 * rounds; {w} += 8 * rounds"]
        return [*lines, "for _ in range(rounds):", *(" " + line for i in body for line in i.statements or ("pass",))]


def _reachable(code: bytes) -> dict[int, Instruction]:
    """Every instruction that control may reach, by offset."""
    found: dict[int, Instruction] = {}
    todo = [0]
    while todo:
        at = todo.pop()
        if at in found:
            continue
        if not 0 <= at < len(code):
            raise Fault(f"the routine runs on to offset {at:#x}, outside of its code")
        instruction = found[at] = decode(code, at)
        if instruction.kind in ("branch", "jump", "loop"):
            todo.append(instruction.target)
        if instruction.kind not in ("jump", "return"):
            todo.append(instruction.end)
    return found


def _dispatch(blocks: Sequence[list[str]], low: int, high: int, indent: str) -> Iterable[str]:
    """A tree of tests that leads to block number b."""
    if high - low == 1:
        yield from (indent + line for line in blocks[low])
        return
    middle = (low + high) // 2
    yield f"{indent}if b < {middle}:"
    yield from _dispatch(blocks, low, middle, indent + " ")
    yield f"{indent}else:"
    yield from _dispatch(blocks, middle, high, indent + " ")


# (half, w, x, y) of the loop that multiplies two streams, words in m0 and m1 by words in m2 and m3
_DOT: Final = ((0, 1, 0, 2), (3, 3, 0, 2), (0, 0, 1, 3), (3, 2, 1, 3))


def _dot_pointers(body: Sequence[Instruction]) -> tuple[str, str] | None:
    """The pointers of the two streams, if that is what a loop's body does."""
    macs = [i.mac for i in body]
    if [mac and (mac[0], mac[1], *mac[3:]) for mac in macs] != list(_DOT):
        return None
    x, w, x_again, w_again = (mac[2] for mac in macs)
    return (f"a{x}", f"a{w}") if x == x_again != w == w_again else None


def _multiply(
    words: Any, numbers: Any, rights: Any, x: int, w: int, rounds: int, acc: int, m0: int, m2: int, at: int
) -> tuple[int, int, int, int, int]:
    """`rounds` of four products of two streams whose first words are in m0 and m2: acc, m0, m1, m2, m3 afterwards."""
    last: list[int] = []
    factors: list[Any] = []
    for pointer, first in (x, m0), (w, m2):
        i = (pointer - _ORIGIN & _M32) >> 2
        read = rights[i + 1 : i + 2 * rounds + 1]
        if pointer & 3 or len(read) < 2 * rounds or read.translate(None, _READABLE):
            raise Fault(f"a loop reads {2 * rounds} words behind {pointer:#010x}, near offset {at:#x}: not allowed")
        factor = numbers[2 * i : 2 * (i + 2 * rounds)].astype(np.int64)
        factor[0], factor[1] = _signed(first), _signed(first >> 16)
        factors.append(factor)
        last.append(i + 2 * rounds)
    i, j = last
    return acc + int(factors[0] @ factors[1]), words[i], words[i - 1], words[j], words[j - 1]


_READABLE: Final = bytes([READ, READ | WRITE])


def _signed(half: int) -> int:
    return (half & 0xFFFF ^ 0x8000) - 0x8000


def _refuse(what: str, address: int, size: int, at: int) -> None:
    where = "is not aligned" if address % size else "lies outside of what the routine may access"
    raise Fault(f"a {what} of {size} bytes at {address:#010x} {where}, near offset {at:#x} of the routine")


def _too_long() -> None:
    raise Fault(f"the routine runs longer than {INSTRUCTION_LIMIT:,} instructions")


# -- instructions


def _s(value: str) -> str:
    """The signed value of a register."""
    return f"(({value} ^ 0x80000000) - 0x80000000)"


def _h(value: str, high: int) -> str:
    """The signed value of a half."""
    half = f"{value} >> 16" if high else f"{value} & 65535"
    return f"(({half} ^ 32768) - 32768)"


# op2 -> expression of r from s and t, by op1
_RRR: Final[dict[int, dict[int, str]]] = {
    0: {
        1: "{s} & {t}", 2: "{s} | {t}", 3: "{s} ^ {t}", 8: "{s} + {t} & M", 9: "({s} << 1) + {t} & M",
        10: "({s} << 2) + {t} & M", 11: "({s} << 3) + {t} & M", 12: "{s} - {t} & M", 13: "({s} << 1) - {t} & M",
        14: "({s} << 2) - {t} & M", 15: "({s} << 3) - {t} & M",
    },
    1: {
        8: "({s} << 32 | {t}) >> sar & M", 9: "{t} >> sar", 10: "({s} << 32) >> sar & M", 11: "{st} >> sar & M",
        12: "({s} & 65535) * ({t} & 65535)", 13: "{sl} * {tl} & M",
    },
    2: {8: "{s} * {t} & M", 10: "{s} * {t} >> 32", 11: "{ss} * {st} >> 32 & M"},
    3: {
        4: "{s} if {ss} < {st} else {t}", 5: "{t} if {ss} < {st} else {s}", 6: "{s} if {s} < {t} else {t}",
        7: "{t} if {s} < {t} else {s}",
    },
}  # fmt: skip
_MOVES: Final = {8: "not {t}", 9: "{t}", 10: "{t} & 0x80000000", 11: "not {t} & 0x80000000"}
_COMPARES: Final = (
    "not {s} & {t}", "{s} == {t}", "{ss} < {st}", "{s} < {t}", "{s} & {t} == {t}", "not {s} >> ({t} & 31) & 1", "", "",
    "{s} & {t}", "{s} != {t}", "{ss} >= {st}", "{s} >= {t}", "{s} & {t} != {t}", "{s} >> ({t} & 31) & 1",
)  # fmt: skip
_ZERO: Final = ("not {s}", "{s}", "{s} & 0x80000000", "not {s} & 0x80000000")
_B4CONST: Final = (-1, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256)
_B4CONSTU: Final = (32768, 65536, *_B4CONST[2:])
_ROUNDS: Final = {8: "({s} - 1 & M) + 1", 9: "max({s}, 0)", 10: "max({ss}, 0)"}


class _Fields:
    """The fields of an instruction word, and its operands as text."""

    def __init__(self, code: bytes, at: int) -> None:
        self.at = at
        self.op0 = code[at] & 15
        self.end = at + (2 if self.op0 >= 8 else 3)
        word = int.from_bytes(code[at : self.end], "little")
        self.word, self.code = word, code
        self.t, self.s, self.r = word >> 4 & 15, word >> 8 & 15, word >> 12 & 15
        self.op1, self.op2, self.imm8 = word >> 16 & 15, word >> 20 & 15, word >> 16 & 255

    def text(self, template: str) -> str:
        r, s, t = f"a{self.r}", f"a{self.s}", f"a{self.t}"
        values = {"r": r, "s": s, "t": t, "ss": _s(s), "st": _s(t), "sl": _h(s, 0), "tl": _h(t, 0)}
        return template.format(**values).replace(" M", f" {_M32}")

    def plain(self, *statements: str) -> Instruction:
        return Instruction(self.at, self.end, statements=tuple(self.text(s) for s in statements))

    def branch(self, test: str, distance: int) -> Instruction:
        return Instruction(self.at, self.end, "branch", (), self.text(test), self.at + 4 + distance)


def decode(code: bytes, at: int) -> Instruction:
    """The instruction at an offset of the code. Raises Fault if `asm.xtensa` has no such instruction."""
    fields = _Fields(code, at)
    decoder = _DECODERS.get(fields.op0)
    found = decoder(fields) if decoder and fields.end <= len(code) else None
    if found is None:
        raise Fault(f"the instruction {fields.word:#08x} at offset {at:#x} is not known")
    return found


def _qrst(f: _Fields) -> Instruction | None:
    expression = _RRR.get(f.op1, {}).get(f.op2)
    if expression is not None:
        return f.plain(f"{{r}} = {expression}")
    match f.op1, f.op2:
        case 0, 0:
            return _snm0(f)
        case 0, 4:
            return _st1(f)
        case 0, 6 if f.s == 0:
            return f.plain("{r} = -{t} & M")
        case 0, 6 if f.s == 1:
            return f.plain("{r} = abs({st}) & M")
        case 1, 0 | 1:
            return f.plain(f"{{r}} = {{s}} << {32 - (f.op2 << 4 | f.t)} & M")
        case 1, 2 | 3:
            return f.plain(f"{{r}} = {{st}} >> {(f.op2 & 1) << 4 | f.s} & M")
        case 1, 4:
            return f.plain(f"{{r}} = {{t}} >> {f.s}")
        case 1, 6:
            return _special(f, swap=True)
        case 3, 0 | 1:
            return _special(f, write=f.op2 == 1)
        case 3, 2:
            top = 1 << (f.t + 7)
            return f.plain(f"{{r}} = (({{s}} & {2 * top - 1}) ^ {top}) - {top} & M")
        case 3, 3:
            top = 1 << (f.t + 7)
            return f.plain(f"{{r}} = min(max({{ss}}, {-top}), {top - 1}) & M")
        case 3, move if move in _MOVES:
            return f.plain(f"if {_MOVES[move]}: {{r}} = {{s}}")
        case ((4 | 5), _):
            shift = (f.op1 & 1) << 4 | f.s
            return f.plain(f"{{r}} = {{t}} >> {shift} & {(2 << f.op2) - 1}")
        case _:
            return None


def _snm0(f: _Fields) -> Instruction | None:
    if f.word in (0x002000, 0x002010, 0x0020C0):  # isync, rsync, memw
        return f.plain()
    return None


def _st1(f: _Fields) -> Instruction | None:
    match f.r:
        case 0:
            return f.plain("sar = {s} & 31")
        case 1:
            return f.plain("sar = 32 - ({s} & 31)")
        case 4:
            return f.plain(f"sar = {f.s | (f.t & 1) << 4}")
        case 15:
            return f.plain("{t} = 32 - {s}.bit_length()")
        case _:
            return None


_SPECIAL: Final = {3: "sar", 32: "m0", 33: "m1", 34: "m2", 35: "m3"}


def _special(f: _Fields, write: bool = False, swap: bool = False) -> Instruction | None:
    """rsr, wsr or xsr. The accumulator is kept as a number of any size, its registers are parts of it."""
    number = f.word >> 8 & 255
    if number in _SPECIAL:
        name = _SPECIAL[number]
        get, put = f"{name} + 0", f"{name} = {{t}}"
    elif number == 16:
        get, put = "acc & M", "acc = ((acc or 0) & ~M) | {t}"
    elif number == 17:
        get = "((acc >> 32 & 255) ^ 128) - 128 & M"
        put = "acc = ((acc or 0) & M) | ((({t} & 255) ^ 128) - 128) << 32"
    else:
        return None
    put = put.replace("~M)", f"~{_M32})")
    if swap:
        return f.plain(f"old = {get}", put, "{t} = old")
    return f.plain(put if write else f"{{t}} = {get}")


def _l32r(f: _Fields) -> Instruction | None:
    at = (f.at + 3 & ~3) + ((f.word >> 8) - 0x10000) * 4
    if not 0 <= at <= f.at - 4:
        return None
    return f.plain(f"{{t}} = {int.from_bytes(f.code[at : at + 4], 'little')}")


def _access(f: _Fields, name: str, size: int, offset: int, signed: bool = False) -> Instruction:
    """A load or store, checked."""
    view, shift = {1: ("B", 0), 2: ("H", 1), 4: ("W", 2)}[size]
    right = WRITE if name == "write" else READ | _CODE if size == 4 else READ
    cell = f"{view}[i >> {shift}]" if shift else "B[i]"
    lines = [
        f"i = {{s}} + {offset - _ORIGIN} & M",
        f"if {f'i & {size - 1} or ' if size > 1 else ''}not R[i >> 2] & {right}: "
        f"refuse('{name}', {{s}} + {offset} & M, {size}, {f.at})",
    ]
    if name == "write":
        mask = {1: " & 255", 2: " & 65535", 4: ""}[size]
        lines.append(f"{cell} = {{t}}{mask}")
    else:
        lines.append(f"{{t}} = ({cell} ^ 32768) - 32768 & M" if signed else f"{{t}} = {cell}")
    return f.plain(*lines)


def _lsai(f: _Fields) -> Instruction | None:
    signed8 = (f.imm8 ^ 128) - 128
    match f.r:
        case 0 | 1 | 2:
            return _access(f, "read", 1 << f.r, f.imm8 << f.r)
        case 9:
            return _access(f, "read", 2, f.imm8 << 1, signed=True)
        case 4 | 5 | 6:
            return _access(f, "write", 1 << f.r - 4, f.imm8 << f.r - 4)
        case 10:
            value = (f.s << 8 | f.imm8) ^ 2048
            return f.plain(f"{{t}} = {value - 2048 & _M32}")
        case 12:
            return f.plain(f"{{t}} = {{s}} + {signed8} & M")
        case 13:
            return f.plain(f"{{t}} = {{s}} + {signed8 * 256} & M")
        case _:
            return None


def _mac16(f: _Fields) -> Instruction | None:
    halves, kind = f.op1 & 3, f.op1 >> 2
    x, y, w = f"m{f.r >> 2 & 1}", f"m{(f.t >> 2 & 1) + 2}", f.r & 3
    load = f.op2 in (0, 1, 4, 5, 8, 9)
    step = 4 if f.op2 in (0, 4, 8) else -4
    statements: list[str] = []
    if load:
        statements += [
            f"i = {{s}} + {step - _ORIGIN} & M",
            f"if i & 3 or not R[i >> 2] & {READ}: refuse('read', {{s}} + {step} & M, 4, {f.at})",
        ]
    if f.op2 < 8:
        first = f"a{f.s}" if f.op2 in (3, 7) else x
        second = f"a{f.t}" if f.op2 in (4, 5, 6, 7) else y
        product = f"{_h(first, halves & 1)} * {_h(second, halves >> 1)}"
        if kind == 0 and f.op2 == 7:
            product = "(" + ") * (".join(
                f"{o} >> 16" if high else f"{o} & 65535" for o, high in ((first, halves & 1), (second, halves >> 1))
            ) + ")"  # fmt: skip
        elif kind == 0:
            return None
        statements.append({0: "acc = ", 1: "acc = ", 2: "acc += ", 3: "acc -= "}[kind] + product)
    elif f.op2 > 9 or f.op1 or f.r > 3 or f.t:
        return None
    if load:
        statements += [f"m{w} = W[i >> 2]", f"{{s}} = {{s}} + {step} & M"]
    mac = (halves, w, f.s, f.r >> 2 & 1, (f.t >> 2 & 1) + 2) if f.op2 == 0 and kind == 2 else ()
    return Instruction(f.at, f.end, statements=tuple(f.text(s) for s in statements), mac=mac)


def _si(f: _Fields) -> Instruction | None:
    n, m = f.t & 3, f.t >> 2
    signed8, signed12 = (f.imm8 ^ 128) - 128, (f.word >> 12 ^ 2048) - 2048
    match n, m:
        case 0, _:
            distance = (f.word >> 6 ^ 1 << 17) - (1 << 17)
            return Instruction(f.at, f.end, "jump", target=f.at + 4 + distance)
        case 1, _:
            return f.branch(_ZERO[m], signed12)
        case 2, _:
            value = _B4CONST[f.r]
            test = (f"{{s}} == {value & _M32}", f"{{s}} != {value & _M32}", f"{{ss}} < {value}", f"{{ss}} >= {value}")
            return f.branch(test[m], signed8)
        case 3, 0 if f.s == 1:
            frame = (f.word >> 12) * 8
            return Instruction(f.at, f.end, "entry", (f"a1 -= {frame}",), target=frame)
        case 3, 1 if f.r in _ROUNDS:
            return Instruction(f.at, f.end, "loop", (), f.text(_ROUNDS[f.r]), f.at + 4 + f.imm8)
        case 3, 2:
            return f.branch(f"{{s}} < {_B4CONSTU[f.r]}", signed8)
        case 3, 3:
            return f.branch(f"{{s}} >= {_B4CONSTU[f.r]}", signed8)
        case _:
            return None


def _compare(f: _Fields) -> Instruction | None:
    distance = (f.imm8 ^ 128) - 128
    if f.r & 6 == 6:
        bit = f.t | (f.r & 1) << 4
        return f.branch(f"{'' if f.r & 8 else 'not '}{{s}} >> {bit} & 1", distance)
    return f.branch(_COMPARES[f.r], distance)


def _narrow_add(f: _Fields) -> Instruction:
    return f.plain("{r} = {s} + {t} & M")


def _narrow_addi(f: _Fields) -> Instruction:
    return f.plain(f"{{r}} = {{s}} + {f.t or -1} & M")


def _narrow_load(f: _Fields) -> Instruction:
    return _access(f, "read", 4, f.r * 4)


def _narrow_store(f: _Fields) -> Instruction:
    return _access(f, "write", 4, f.r * 4)


def _st2(f: _Fields) -> Instruction | None:
    if f.t >= 8:
        return None
    value = f.t << 4 | f.r
    return f.plain(f"{{s}} = {value - 128 & _M32 if value >= 96 else value}")


def _st3(f: _Fields) -> Instruction | None:
    if f.r == 0:
        return f.plain("{t} = {s}")
    if f.word == 0xF01D:
        return Instruction(f.at, f.end, "return")
    return f.plain() if f.word == 0xF03D else None


_DECODERS: Final[dict[int, Callable[[_Fields], Instruction | None]]] = {
    0: _qrst, 1: _l32r, 2: _lsai, 4: _mac16, 6: _si, 7: _compare, 8: _narrow_load, 9: _narrow_store, 10: _narrow_add,
    11: _narrow_addi, 12: _st2, 13: _st3,
}  # fmt: skip
