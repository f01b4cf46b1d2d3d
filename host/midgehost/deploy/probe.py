"""What a board says of itself: the arch decides which code it gets, the free bytes whether it fits."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from midgehost.boards import Board, identify
from midgehost.codegen.mpy import ARCHES
from midgehost.deploy.transport import Transport

NATIVE_ABI = (6, 3)  # what mpy-cross 1.29 writes; bytecode needs only the first number

_PROBE = """
import sys,os,gc,json,time,binascii
gc.collect()
i=sys.implementation
s=os.statvfs('/')
try:
 from machine import unique_id
 u=binascii.hexlify(unique_id()).decode()
except (ImportError,AttributeError):
 u=''
print(json.dumps([i.name,list(i.version)[:3],getattr(i,'_mpy',0),getattr(i,'_machine',''),sys.platform,u,
gc.mem_free(),gc.mem_alloc(),time.gmtime(0)[0],s[0],s[0]*s[2],s[0]*s[3]]))
"""


@dataclass(frozen=True)
class BoardInfo:
    """A board as it is now. Sizes in bytes."""

    implementation: str  # micropython | circuitpython
    version: tuple[int, ...]
    mpy: tuple[int, int]  # version and sub-version of the .mpy files it loads
    arch: str | None  # for machine code in .mpy files; None: it takes none of ours
    machine: str
    platform: str
    unique_id: str  # hex; empty when the board has none
    heap_free: int
    heap_total: int
    epoch: int  # the year its clock counts from: 1970 or 2000
    block_bytes: int
    fs_total: int
    fs_free: int

    @property
    def title(self) -> str:
        """For messages: `rp2, MicroPython 1.26.1, armv6m`."""
        return f"{self.platform}, {self.implementation} {self.firmware}, {self.arch or 'bytecode only'}"

    @property
    def firmware(self) -> str:
        """1.26.1"""
        return ".".join(map(str, self.version))

    @property
    def board(self) -> Board | None:
        """The board file that fits; None where none or several do. Raises BadBoardFile."""
        return identify(self.platform, self.machine)


def set_clock(transport: Transport, now: time.struct_time) -> None:
    """Gives the board that time (UTC)."""
    fields = (*now[:3], now.tm_wday, *now[3:6], 0)
    transport.exec(f"import machine\nmachine.RTC().datetime({fields!r})")


def probe(transport: Transport) -> BoardInfo:
    """Asks the board. Interrupts what runs; raises what `Transport.exec` raises."""
    answer = json.loads(transport.exec(_PROBE))
    name, version, mpy, machine, platform, unique_id, free, used, epoch, block, total, fs_free = answer
    abi = (mpy & 0xFF, mpy >> 8 & 3)
    number = mpy >> 10 & 0xF
    names = {n: name for name, n in ARCHES.items()}
    arch = names.get(number) if abi == NATIVE_ABI else None
    return BoardInfo(
        implementation=name,
        version=tuple(version),
        mpy=abi,
        arch=arch,
        machine=machine,
        platform=platform,
        unique_id=unique_id,
        heap_free=free,
        heap_total=free + used,
        epoch=epoch,
        block_bytes=block,
        fs_total=total,
        fs_free=fs_free,
    )
