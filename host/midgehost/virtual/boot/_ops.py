# What the board asks of the host, one byte each. The host imports this very file, so the two cannot disagree.

HEADER = 8  # op, seq, a, b, c, d, wanted answer length (u16 little-endian); the payload follows
ANSWER = 4  # status, seq, payload length (u16); the payload follows, then zeros: MicroPython reads exact lengths
PAYLOAD = 1024  # most that one request or answer carries

OK = 0  # other statuses are errno values, raised on the board as OSError
INVALID = 255  # the payload is the message of a ValueError

BOOTED = 1  # the file system is mounted, boot.py comes next
READY = 2  # boot.py and main.py are done, the REPL comes next
STDOUT = 3  # payload: bytes for the line, as they are
RESET = 4  # never answered
POWER_CUT = 5  # payload: u32 offset, length, kept; never answered
CLOCK = 6  # payload: i64 seconds that the board's clock is ahead of the host's
WDT_START = 7  # payload: u32 ms
WDT_FEED = 8
BOOTLOADER = 9  # never answered

PIN_OPEN = 16  # a: number, or the payload is a name -> the number
PIN_INIT = 17  # a: number, b: mode, c: pull
PIN_WRITE = 18  # a: number, b: level
PIN_READ = 19  # a: number -> level
PIN_IRQ = 20  # a: number, b: edges
ADC_OPEN = 21  # a: pin number, or the payload is a channel -> the pin number
ADC_READ = 22  # a: pin number -> u16
PWM = 23  # a: number, payload: u32 Hz, u16 duty (0 Hz: off)
TIMER = 24  # payload: i32 id
I2C_OPEN = 25  # a: bus, b: sda, c: scl (NONE: the default) -> sda, scl
I2C = 26  # a: address, b: sda, c: scl, payload written first, then `wanted` bytes read -> them

NONE = 255
PIN_IN, PIN_OUT, PIN_OPEN_DRAIN = 0, 1, 2
PULL_UP, PULL_DOWN = 1, 2
RISING, FALLING = 1, 2
