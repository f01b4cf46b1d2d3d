"""The inner product by MAC16: one instruction a multiply-accumulate, in a zero-overhead loop.

    loop  n, end
    mula.dd.ll.ldinc  m1, x, m0, m2      acc += low halves of m0 and m2, while m1 is loaded
    mula.dd.hh.ldinc  m3, w, m0, m2      acc += high halves, while m3 is loaded
    mula.dd.ll.ldinc  m0, x, m1, m3
    mula.dd.hh.ldinc  m2, w, m1, m3

Two words are in flight, so a load has an instruction between itself and its use. The accumulator has 40 bits.

Do interrupts keep these registers? Read in ESP-IDF's sources: `_xt_context_save` (freertos, portable/xtensa/
xtensa_context.S), which every interrupt of low and medium priority with a C handler goes through, stores SAR, LBEG,
LEND and LCOUNT in the frame and then, as XCHAL_EXTRA_SA_SIZE > 0, calls xthal_save_extra_nw; what that saves is listed
by XCHAL_NCP_SA_LIST (components/xtensa/{esp32,esp32s3}/include/xtensa/config/tie.h): on both chips ACCLO, ACCHI and m0
to m3 are in it. So they survive interrupts and preemption by another task. Sure as far as reading goes; not tried on a
board. Handlers of high priority (levels 4 and 5, NMI) are assembly that saves what it uses itself. A task that gives up
the core by itself loses these registers, as the ABI says; a routine calls nothing.
"""

from __future__ import annotations

from typing import Final

from midgehost.codegen.asm.base import AssemblyError
from midgehost.codegen.asm.xtensa import Xtensa

ROUND: Final = 4  # products a round
ROUND_BYTES: Final = 8  # of each stream


def place_loop(a: Xtensa, ahead: int) -> None:
    """Pads so that a zero-overhead loop `ahead` bytes from here needs no nop before it."""
    if (a.here + ahead) % 4 in (0, 3):
        a.nop()


def add_products(a: Xtensa, rounds: int, x: int, w: int) -> None:
    """acc += products of two streams whose first words are in m0 and m2, where x and w point; both advance.

    Afterwards the words behind the streams are in m0 and m2.
    """
    if a.here % 4 in (0, 3):
        raise AssemblyError("this loop would need a nop: see place_loop")
    end = a.fresh("dot")
    a.loop(rounds, end)
    a.mula_dd_ldinc("ll", 1, x, 0, 2)
    a.mula_dd_ldinc("hh", 3, w, 0, 2)
    a.mula_dd_ldinc("ll", 0, x, 1, 3)
    a.mula_dd_ldinc("hh", 2, w, 1, 3)
    a.label(end)


def add_products_of_bytes(a: Xtensa, rounds: int, x: int, w: int, mask: int, t: int, u: int) -> None:
    """The same with int8 weights, four a word, widened on the way to 256 times their values; w points at them.

    x holds plain values, widened; the first word is in m0. `mask` holds 0xFF00FF00. 2.25 instructions a product.
    """
    end = a.fresh("dot")
    a.loop(rounds, end)
    a.l32i(t, w)
    a.addi(w, w, 4)
    a.slli(u, t, 8)
    a.and_(u, u, mask)
    a.and_(t, t, mask)
    a.mula_da_ldinc("ll", 1, x, 0, u)
    a.mula_da("hh", 0, u)
    a.mula_da_ldinc("ll", 0, x, 1, t)
    a.mula_da("hh", 1, t)
    a.label(end)


def clear(a: Xtensa, small: int) -> None:
    """acc = 0; register `small` holds a number below 65536."""
    a.umul_aa("hh", small, small)
