"""ESP32 boards from power-on to REPL: ROM loader, reset circuit, flash, and the MicroPython that the flash boots.

    with EspBoard("esp32c3") as board:
        subprocess.run(["esptool", "--port", board.url, "flash-id"], env=board.environment)

`chips` and `rom` are the chip that esptool talks to, `circuit` is what DTR and RTS do to it, `boot` what it checks
before it runs an image, `lines` how a client reaches it, and `board` joins them. Commands: Espressif's "Serial
Protocol" and "Firmware Image Format"; register addresses: the technical reference manuals.
"""
