# The rest of `machine`: resets and their causes, watchdog, identity, clock rate.
import time

import _ops


def make(link, controller, board):
    def reset():
        link.request(_ops.RESET)

    def bootloader(timeout_ms=0):
        if not board["bootloader"]:
            raise NotImplementedError("a virtual board has no bootloader to enter")
        link.request(_ops.BOOTLOADER)

    frequency = [board["freq"]]

    def freq(hz=None):
        if hz is None:
            return frequency[0]
        frequency[0] = hz

    class WDT:
        # Once started it cannot be stopped; starving it resets the board.
        def __init__(self, id=0, timeout=5000):
            if id != 0:
                raise ValueError("WDT(%d) doesn't exist" % id)
            link.request(_ops.WDT_START, data=(timeout & 0xFFFFFFFF).to_bytes(4, "little"))

        def feed(self):
            link.request(_ops.WDT_FEED)

    names = {
        "reset": reset,
        "bootloader": bootloader,
        "freq": freq,
        "WDT": WDT,
        "unique_id": lambda: bytes(board["unique_id"]),
        "reset_cause": lambda: board["reset_cause"],
        "disable_irq": controller.disable,
        "enable_irq": controller.enable,
        "lightsleep": time.sleep_ms,
    }
    names.update(board["reset_causes"])
    return names
