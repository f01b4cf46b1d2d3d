"""What machine code is to midge: routines, the calls that use them, and what an arch has to offer.

A routine is the whole body of a viper-kind function. It is entered as MicroPython calls one, by the arch's C ABI with
(self, n_args, n_kw, args): args[0] is a small int, 2 * (address of the block >> 2) + 1. The block is nine int32,
[abi, in0, in1, out, weights, params, scratch, row0, row1]: absolute addresses (an operand that a call does not have
is 0), and the rows of this slice. The routine preserves what the ABI says and returns a status as a small int (1 is
status 0): 0 done, 1 a block of another abi, 4 an input that is not a number. It calls nothing, knows no address but
those of its block, reads and writes words only at multiples of 4 and halfwords at multiples of 2, and never code bytes
by less than a word.

Guaranteed by plan and loader: in0, in1, out, scratch and weights are multiples of 16 (a place with an offset inside of
a tensor is exempt), params of 4; tensors and scratch may be overwritten up to the next multiple of 16. An operator's
calls run in order, each from its first row to its last, on one scratch: the first call finds anything in it, the others
what the call before left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from midgehost.models.graph import Node
from midgehost.models.ops.base import Call, Place

ABI: Final = 1
BLOCK_WORDS: Final = 9
STATUS_OK, STATUS_ABI = 0, 1

Form = Literal["speed", "size"]  # of weights: the stream of the fastest kernel, or about one byte a weight


@dataclass(frozen=True)
class Routine:
    """Position-independent machine code. Equal code is one routine, whoever made it; `name` is for people."""

    name: str
    code: bytes


@dataclass(frozen=True)
class MachineCall:
    """A call of a routine before memory is planned: like `ops.base.Call`, with a routine instead of a kernel number.

    `cost` estimates the cycles (RV32 and Xtensa: instructions) of all `rows` together, in zero-wait memory. Rows cost
    about the same and are small: one row never takes longer than a few hundred microseconds.
    """

    routine: Routine
    in0: Place | None
    out: Place
    in1: Place | None = None
    weights: bytes = b""
    params: Sequence[int] = ()  # int32 values
    scratch_bytes: int = 0
    rows: int = 1
    macs: int = 0
    cost: float = 0.0


class Backend(ABC):
    """The kernels of one mpy arch."""

    arch: ClassVar[str]

    @abstractmethod
    def fast(self, node: Node, form: Form, tile_bytes: int | None) -> Sequence[MachineCall] | None:
        """Hand-written kernels for this operator, or None where there are none for its shape and options.

        `tile_bytes` limits the weights of a call (they stay in flash, a tile a block); None: no limit. A call may
        compute a part of the outputs: all calls together compute all of them.
        """

    @abstractmethod
    def general(self, call: Call) -> MachineCall:
        """The same kernel as viper's, compiled for this arch: same weights, params and rows. Every kernel has one."""
