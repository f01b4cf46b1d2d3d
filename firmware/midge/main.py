# midge: starts the node of this board. Written by `midge deploy`, taken away by `midge remove`.
import sys

sys.path.insert(0, "/midge/base")  # the host completes this name, and names the board below: deploy/base.py
try:
    from midge.boot import choose
except Exception as error:  # damaged, or not for this firmware: the prompt is what is left
    print("midge: no node starts, the boot code does not load: %r" % error)
else:
    _update, _timer = choose(None)  # the timer of a board that is held
    del choose  # what it needed leaves the heap
    if _update:
        _timer = _update.run()
