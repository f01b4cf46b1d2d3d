# Runs in MicroPython before boot.py: turns the unix port into a board, then runs what a board runs at boot.


def _setup():
    import gc
    import json
    import os
    import sys
    from collections import namedtuple

    import machine
    import micropython
    import vfs

    micropython.kbd_intr(-1)  # a Ctrl-C now would leave a half-made board
    board = json.loads(os.getenv("MIDGE_VIRTUAL_BOARD"))

    import _clock
    import _console
    import _flash
    import _i2c
    import _interrupt
    import _link
    import _module
    import _ops
    import _pin
    import _system
    import _timer

    link = _link.Link(board["link_fd"])
    controller = _interrupt.Controller(link)

    def power_cut(*where):
        link.request(_ops.POWER_CUT, data=b"".join(n.to_bytes(4, "little") for n in where))

    flash = _flash.Flash(board["flash"], board["cut"], power_cut)
    sizes = {"progsize": board["progsize"], "readsize": 32}
    try:
        root = vfs.VfsLfs2(flash, **sizes)
    except OSError:
        vfs.VfsLfs2.mkfs(flash, **sizes)
        root = vfs.VfsLfs2(flash, **sizes)

    names = _pin.make(link, controller, board["events_fd"])
    names.update(_i2c.make(link, names["Pin"]))
    names.update(_system.make(link, controller, board))
    names["RTC"] = _clock.make(link, board["epoch"], board["clock_ahead"])
    names["Timer"] = _timer.make(link, controller)
    _module.Module(machine, without=("mem8", "mem16", "mem32"), **names)

    def named(title, fields):
        return namedtuple(title, tuple(fields))(*fields.values())

    real = sys.implementation
    identity = {
        "name": real.name,
        "version": tuple(board["version"]) or real.version,
        "_machine": board["machine"],
        "_mpy": real._mpy,
    }
    uname = named("uname", board["uname"])
    _module.Module(
        sys,
        platform=board["platform"],
        implementation=named("implementation", identity),
        stdout=_console.make(link, sys.stdout),
    )
    host_only = ("system", "getenv", "putenv", "unsetenv", "VfsPosix", "VfsLfs1")
    _module.Module(os, without=host_only, uname=lambda: uname, sync=lambda: None)

    vfs.umount("/")
    vfs.mount(root, "/")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]
    sys.argv[:] = []
    for name in list(sys.modules):
        if name.startswith("_") and name not in ("__main__", "_thread"):
            sys.modules.pop(name)
    gc.collect()
    link.request(_ops.BOOTED)
    micropython.kbd_intr(3)
    return link, _ops.READY, ("boot.py",) if board["raw"] else ("boot.py", "main.py")


def _show(error):
    # The traceback without the frames of this file, which a board does not have
    import io
    import sys

    text = io.StringIO()
    sys.print_exception(error, text)
    for line in text.getvalue().split("\n")[:-1]:
        if "start.py" not in line:
            print(line)


def _run(name):
    import vfs  # noqa: F401

    try:
        with open(name) as file:
            source = file.read()
    except OSError:
        return
    try:
        exec(compile(source, name, "exec"), globals())
    except SystemExit:
        raise
    except BaseException as error:
        _show(error)


def _boot(link, ready, scripts):
    import micropython

    try:
        for name in scripts:
            _run(name)
    except KeyboardInterrupt:  # between two scripts
        pass
    micropython.kbd_intr(-1)  # the host must hear of it
    link.request(ready)
    micropython.kbd_intr(3)


_boot(*_setup())
del _setup, _show, _run, _boot
