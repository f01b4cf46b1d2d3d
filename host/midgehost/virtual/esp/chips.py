"""The four chips as esptool sees them: identity, registers that it reads, and what their ROM prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from midgehost.errors import NotFound


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip. Addresses are of its own memory map; `boot_offset` is where its ROM looks for an image in flash."""

    name: str  # esptool's --chip
    board: str  # midge's board file
    image_id: int  # esp_chip_id_t in image headers
    tells_id: bool  # GET_SECURITY_INFO; else the word at 0x40001000 tells
    magic: int
    boot_offset: int
    spi: int  # base of the controller that the flash hangs on
    spi_usr2: int
    spi_w0: int
    mac: int  # eFuse words with the MAC, the lower one first
    registers: Mapping[int, int] = field(default_factory=dict)  # at reset
    has_usb: bool  # USB-Serial-JTAG
    banner: str
    cause: str
    download: str
    spi_boot: str


CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            name="esp32",
            board="esp32",
            image_id=0,
            tells_id=False,
            magic=0x00F01D83,
            boot_offset=0x1000,
            spi=0x3FF42000,
            spi_usr2=0x24,
            spi_w0=0x80,
            mac=0x3FF5A004,
            registers={
                0x3FF5A00C: 1 << 15 | 1 << 9,  # revision bit 0, package D0WD
                0x3FF5A014: 1 << 20,  # revision bit 1
                0x3FF6607C: 1 << 31,  # revision bit 2: v3
                0x3FF40014: 40_000_000 // 115_200,  # the UART's clock divider: a 40 MHz crystal
                0x3FF5A010: 128,  # 8 MHz clock and
                0x3FF5F06C: 800 << 7,  # its calibration: 40 MHz again
            },
            has_usb=False,
            banner="ets Jul 29 2019 12:21:46\r\n\r\n",
            cause="POWERON_RESET",
            download="0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))",
            spi_boot="0x13 (SPI_FAST_FLASH_BOOT)",
        ),
        Chip(
            name="esp32s3",
            board="esp32-s3",
            image_id=9,
            tells_id=True,
            magic=0x9,
            boot_offset=0,
            spi=0x60002000,
            spi_usr2=0x20,
            spi_w0=0x58,
            mac=0x60007044,
            has_usb=True,
            banner="ESP-ROM:esp32s3-20210327\r\nBuild:Mar 27 2021\r\n",
            cause="POWERON",
            download="0x0 (DOWNLOAD(USB/UART0))",
            spi_boot="0x8 (SPI_FAST_FLASH_BOOT)",
        ),
        Chip(
            name="esp32c3",
            board="esp32-c3",
            image_id=5,
            tells_id=True,
            magic=0x1B31506F,
            boot_offset=0,
            spi=0x60002000,
            spi_usr2=0x20,
            spi_w0=0x58,
            mac=0x60008844,
            registers={0x60008850: 4 << 18},  # revision 0.4
            has_usb=True,
            banner="ESP-ROM:esp32c3-api1-20210207\r\nBuild:Feb  7 2021\r\n",
            cause="POWERON",
            download="0x5 (DOWNLOAD(USB/UART0/1))",
            spi_boot="0xd (SPI_FAST_FLASH_BOOT)",
        ),
        Chip(
            name="esp32c6",
            board="esp32-c6",
            image_id=13,
            tells_id=True,
            magic=0x2CE0806F,
            boot_offset=0,
            spi=0x60003000,
            spi_usr2=0x20,
            spi_w0=0x58,
            mac=0x600B0844,
            has_usb=True,
            banner="ESP-ROM:esp32c6-20220919\r\nBuild:Sep 19 2022\r\n",
            cause="POWERON",
            download="0x4 (DOWNLOAD(USB/UART0/SDIO_REI_FEO))",
            spi_boot="0xc (SPI_FAST_FLASH_BOOT)",
        ),
    )
}


def chip_of(name: str) -> Chip:
    """The chip of that name, esptool's (esp32c3) or midge's (esp32-c3). Raises NotFound."""
    for chip in CHIPS.values():
        if name in (chip.name, chip.board):
            return chip
    raise NotFound(f"There is no virtual chip {name!r}.", f"Chips: {', '.join(CHIPS)}.")
