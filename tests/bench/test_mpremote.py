"""The real mpremote on a virtual board."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from conftest import Mpremote
from midgehost.virtual.board import VirtualBoard


def test_exec_eval_run(mpremote: Mpremote, tmp_path: Path) -> None:
    assert mpremote("exec", "print(6*7)").stdout == "42\n"
    assert mpremote("eval", "2**40").stdout == "1099511627776\n"
    script = tmp_path / "s.py"
    script.write_text("for i in range(3):\n    print(i, end=' ')\n")
    assert mpremote("run", str(script)).stdout == "0 1 2 "
    assert "ZeroDivisionError" in mpremote("exec", "1/0", code=1).stdout


def test_soft_reset_forgets_and_keeps_files(mpremote: Mpremote) -> None:
    mpremote("exec", "x=1; f=open('kept','w'); f.write('k'); f.close()")
    assert mpremote("resume", "exec", "print(x)").stdout == "1\n"
    mpremote("soft-reset")
    assert "NameError" in mpremote("resume", "exec", "print(x)", code=1).stdout
    assert mpremote("cat", "kept").stdout == "k"


def test_reset(mpremote: Mpremote, shared_board: VirtualBoard) -> None:
    before = shared_board.boots.count("hard")
    mpremote("reset")
    deadline = time.monotonic() + 10
    while shared_board.boots.count("hard") == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shared_board.boots.count("hard") == before + 1
    assert mpremote("exec", "import machine; print(machine.reset_cause() == machine.WDT_RESET)").stdout == "True\n"


def test_files(mpremote: Mpremote, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "a.bin").write_bytes(data)
    (tmp_path / "tree" / "sub" / "b.txt").write_text("b\n")
    mpremote("cp", "-r", str(tmp_path / "tree"), ":")
    assert "5120 a.bin" in mpremote("ls", "tree").stdout
    assert "b.txt" in mpremote("tree").stdout
    assert mpremote("cat", "tree/sub/b.txt").stdout == "b\n"
    assert hashlib.sha256(data).hexdigest() in mpremote("sha256sum", "tree/a.bin").stdout
    mpremote("cp", ":tree/a.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == data
    (tmp_path / "copy").mkdir()
    mpremote("cp", "-r", ":tree", str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "tree" / "sub" / "b.txt").read_text() == "b\n"
    assert "VfsLfs2" in mpremote("df").stdout
    mpremote("rm", "-r", ":tree")
    assert "tree" not in mpremote("ls").stdout


def test_mount(mpremote: Mpremote, tmp_path: Path) -> None:
    (tmp_path / "mounted.py").write_text("VALUE = 'from the host'\n")
    code = "import mounted; print(mounted.VALUE); open('written.bin','wb').write(bytes(range(256)))"
    assert "from the host" in mpremote("mount", str(tmp_path), "exec", code).stdout
    assert (tmp_path / "written.bin").read_bytes() == bytes(range(256))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_mip_from_a_local_index(mpremote: Mpremote, tmp_path: Path) -> None:
    (tmp_path / "widget.py").write_text("WORD = 'installed'\n")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path)))
    url = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "package.json").write_text(json.dumps({"version": "1", "urls": [["widget.py", f"{url}/widget.py"]]}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        mpremote("mip", "install", f"{url}/package.json")
    finally:
        server.shutdown()
        server.server_close()
    assert mpremote("exec", "import widget; print(widget.WORD)").stdout == "installed\n"


@pytest.mark.parametrize(
    "loop",
    [
        "while True: pass",
        "import time\nwhile True: time.sleep(1)",
        "@micropython.viper\ndef f():\n    i = 0\n    while i < 1000000000000: i += 1\nf()",
    ],
    ids=["bytecode", "sleep", "viper"],
)
def test_ctrl_c_out_of_an_endless_loop(mpremote: Mpremote, shared_board: VirtualBoard, loop: str) -> None:
    command = [str(Path(sys.executable).with_name("mpremote")), "connect", shared_board.path]
    runner = subprocess.Popen(
        [*command, "exec", "print('started')\n" + loop], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert runner.stdout is not None
    assert runner.stdout.readline().strip() == b"started"
    runner.send_signal(signal.SIGINT)
    runner.wait(timeout=20)
    runner.stdout.close()
    assert mpremote("exec", "print('alive')").stdout == "alive\n"
