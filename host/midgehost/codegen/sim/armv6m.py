"""A Cortex-M0+ as in the RP2040: rp2040py's core, whose cycles are the data sheet's with memory that never waits.

Loads and stores take 2 cycles, LDM and STM 1 + N, MULS 1, a taken branch 2. Read-only data lies where the RP2040 has
its flash, which waits no longer than RAM here; so a model may be larger than the RAM. Every access is checked.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any, Final

from rp2040py.rp2040 import RP2040

from midgehost.codegen.sim.core import READ, WRITE, Core, Fault, Memory

_SRAM, _FLASH = 0x2000_0000, 0x1000_0000
_BREAKPOINT: Final = b"\x00\xbe"  # BKPT #0
_SAVED: Final = {register: 0xC0DE0000 + register for register in range(4, 12)}  # r4-r11 at entry


class _Returned(Exception):
    """The routine has come back to its caller."""


class _Refusing:
    """The logger of the chip: whatever the core warns of is a fault."""

    def warning(self, _: str, message: str) -> None:
        raise Fault(message)

    warn = error = warning

    def info(self, *_: Any) -> None:
        return

    debug = info


class ArmV6M(Core):
    """Counts cycles."""

    arch, unit, estimate = "armv6m", "cycles", False
    always_checked = True

    def __init__(self) -> None:
        self._chip: Any = RP2040()
        self._chip.logger = _Refusing()
        self._chip.on_break = self._on_break
        sram, flash = memoryview(self._chip.sram), memoryview(self._chip.flash)
        super().__init__(
            Memory(_SRAM, sram, bytearray(len(sram) // 4)), Memory(_FLASH, flash, bytearray(len(flash) // 4))
        )
        self._landing = self.load(_BREAKPOINT, 4)
        self._guard()

    def _execute(self, code: int, args: int, check: bool) -> tuple[int, int]:
        core = self._chip.core
        registers = core.registers
        for register in range(16):
            registers[register] = 0xBAD0_0001 + 2 * register
        for register, value in _SAVED.items():
            registers[register] = value
        registers[1], registers[2], registers[3] = 1, 0, args
        registers[13], registers[14], registers[15] = self.stack, self._landing | 1, code
        core.cycles = 0
        try:
            deque(islice(iter(core.execute_instruction, 0), self.limit), maxlen=0)
        except _Returned:
            pass
        except Fault as fault:
            raise Fault(f"{fault}, near offset {registers[15] - 2 - code:#x} of the routine") from None
        else:
            raise Fault(f"the routine runs longer than {self.limit:,} instructions")
        changed = [f"r{register}" for register, value in _SAVED.items() if registers[register] != value]
        if registers[13] != self.stack:
            changed.append("sp")
        if changed:
            raise Fault(f"the routine did not restore {', '.join(changed)}")
        return registers[0], core.cycles

    def _on_break(self, _: int) -> None:
        if self._chip.core.registers[15] - 2 != self._landing:
            raise Fault("a breakpoint instruction")
        raise _Returned

    def _guard(self) -> None:
        """Puts checked accesses in place of the chip's own: pieces of memory only, multiples of the size only."""
        ram, rom = self.ram, self.rom
        ram_rights, rom_rights = ram.rights, rom.rights
        ram_words, ram_halves, ram_bytes = ram.data.cast("I"), ram.data.cast("H"), ram.data
        rom_words, rom_halves, rom_bytes = rom.data.cast("I"), rom.data.cast("H"), rom.data
        ram_end, rom_end = ram.end, rom.end

        def refuse(what: str, address: int, size: int) -> Fault:
            where = "is not aligned" if address % size else "lies outside of what the routine may access"
            return Fault(f"{what} of {size} bytes at {address:#010x} {where}")

        # The chip in pure Python hands over sums of registers that are not yet cut to 32 bits.

        def read32(address: int) -> int:
            at = (address - _SRAM) >> 2
            if _SRAM <= address < ram_end and not address & 3 and ram_rights[at] & READ:
                return ram_words[at]
            at = (address - _FLASH) >> 2
            if _FLASH <= address < rom_end and not address & 3 and rom_rights[at] & READ:
                return rom_words[at]
            if address >> 32:
                return read32(address & 0xFFFFFFFF)
            raise refuse("a read", address, 4)

        def read16(address: int) -> int:
            at = address - _FLASH
            if _FLASH <= address < rom_end and not address & 1 and rom_rights[at >> 2] & READ:
                return rom_halves[at >> 1]
            at = address - _SRAM
            if _SRAM <= address < ram_end and not address & 1 and ram_rights[at >> 2] & READ:
                return ram_halves[at >> 1]
            if address >> 32:
                return read16(address & 0xFFFFFFFF)
            raise refuse("a read", address, 2)

        def read8(address: int) -> int:
            at = address - _SRAM
            if _SRAM <= address < ram_end and ram_rights[at >> 2] & READ:
                return ram_bytes[at]
            at = address - _FLASH
            if _FLASH <= address < rom_end and rom_rights[at >> 2] & READ:
                return rom_bytes[at]
            if address >> 32:
                return read8(address & 0xFFFFFFFF)
            raise refuse("a read", address, 1)

        def write32(address: int, value: int) -> None:
            at = (address - _SRAM) >> 2
            if not _SRAM <= address < ram_end or address & 3 or not ram_rights[at] & WRITE:
                if address >> 32:
                    return write32(address & 0xFFFFFFFF, value)
                raise refuse("a write", address, 4)
            ram_words[at] = value & 0xFFFFFFFF
            return None

        def write16(address: int, value: int) -> None:
            at = address - _SRAM
            if not _SRAM <= address < ram_end or address & 1 or not ram_rights[at >> 2] & WRITE:
                if address >> 32:
                    return write16(address & 0xFFFFFFFF, value)
                raise refuse("a write", address, 2)
            ram_halves[at >> 1] = value & 0xFFFF
            return None

        def write8(address: int, value: int) -> None:
            at = address - _SRAM
            if not _SRAM <= address < ram_end or not ram_rights[at >> 2] & WRITE:
                if address >> 32:
                    return write8(address & 0xFFFFFFFF, value)
                raise refuse("a write", address, 1)
            ram_bytes[at] = value & 0xFF
            return None

        chip = self._chip
        chip.read_uint32, chip.read_uint16, chip.read_uint8 = read32, read16, read8
        chip.write_uint32, chip.write_uint16, chip.write_uint8 = write32, write16, write8


def make(_: str) -> Core:
    """A new core."""
    return ArmV6M()
