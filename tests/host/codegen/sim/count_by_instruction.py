"""A script: the worker's counts by block beside counts by instruction. Prints both as (instructions, cycles).

`python count_by_instruction.py ARCH CODE_HEX` runs the code with r0 / a0 = the address of 4 KB of data.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

import unicorn

import midgehost.codegen.sim as package

_PATH = Path(package.__file__).with_name("unicorn_worker.py")
_SPEC = importlib.util.spec_from_file_location("unicorn_worker", _PATH)
worker = importlib.util.module_from_spec(_SPEC)
sys.modules["unicorn_worker"] = worker
_SPEC.loader.exec_module(worker)

SIZE = 1 << 20


def main() -> None:
    arch, code = sys.argv[1], bytes.fromhex(sys.argv[2])
    isa = worker.Rv32() if arch == "rv32imc" else worker.Thumb2()
    ram = (ctypes.c_char * SIZE)()
    ram[: len(code)] = code
    engine = worker.Engine(isa, ram, SIZE, None)
    origin = worker.ORIGIN
    engine.call(origin, origin + 0x80000, origin + 0xF0000, origin + 0xFF000, 1 << 32)
    print(engine.instructions, engine.cycles if isa.thumb else engine.instructions)

    instructions = cycles = 0
    following, after_access = 0, False

    def on_code(uc: object, address: int, size: int, _: object) -> None:
        nonlocal instructions, cycles, following, after_access
        at = address - origin
        kind, cost = isa.cost(bytes(ram[at : at + size]))
        cycles += cost + 2 * (address != following) + (kind == 1 and not after_access)
        instructions += 1
        following, after_access = address + size, kind == 1

    engine = worker.Engine(isa, ram, SIZE, None)
    engine.uc.hook_add(unicorn.UC_HOOK_CODE, on_code)
    engine.call(origin, origin + 0x80000, origin + 0xF0000, origin + 0xFF000, 1 << 32)
    print(instructions, cycles if isa.thumb else instructions)


if __name__ == "__main__":
    main()
