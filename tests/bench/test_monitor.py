"""`midge monitor` on a virtual board: garbage and dropped lines do not end it, what it writes is exact."""

from __future__ import annotations

import csv
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from midgehost.cli import monitor
from midgehost.cli.live import LiveChart
from midgehost.cli.monitor import csv_sink, follow
from midgehost.deploy.transport import SerialTransport
from midgehost.errors import NotFound
from midgehost.records import Record
from midgehost.virtual.board import VirtualBoard

# A node's voice without a node: a pack every 20 ms, its number as the value and as the time.
_TALK = b"""
import time
n=0
while True:
 n+=1
 print('[{"bn":"n/","bt":%d.%03d,"n":"s.x","u":"g","v":%d}]'%(1700000000+n//1000,n%1000,n))
 time.sleep_ms(20)
"""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[VirtualBoard]:
    """A board that talks, at a path that outlives its line."""
    with VirtualBoard(link=tmp_path / "tty") as board:
        with SerialTransport(board.path) as line:
            line.put("/main.py", _TALK)
            line.reset()
        yield board


def watch(
    port: str, until: Callable[[list[Record], list[str]], bool], timeout: float = 20
) -> tuple[list[Record], list[str]]:
    """Follows a port until the records and words that came are enough."""
    records: list[Record] = []
    words: list[str] = []
    with closing(follow(port, time.monotonic() + 20)) as events:
        for event in events:
            if isinstance(event, Record):
                records.append(event)
            elif event:
                words.append(event)
            if until(records, words):
                return records, words
    raise AssertionError(f"not enough came: {len(records)} records, {words}")


def numbers(records: list[Record]) -> list[int]:
    return [int(record.value) for record in records]


def test_records_come_whole_and_in_order(board: VirtualBoard) -> None:
    records, words = watch(board.path, lambda records, _: len(records) >= 60)
    first = numbers(records)[0]
    assert numbers(records) == list(range(first, first + len(records))), "a record was lost"
    assert [record.t for record in records] == [1_700_000_000_000 + n for n in numbers(records)]
    assert words == []


def test_garbage_between_lines_costs_a_line_at_most(board: VirtualBoard) -> None:
    for _ in range(3):
        board.inject(b"\xff\x00\x80[{\r\n[1,2\n{}}\n")
    records, _ = watch(board.path, lambda records, _: len(records) >= 40)
    found = numbers(records)
    assert found == sorted(set(found))
    assert found[-1] - found[0] + 1 - len(found) <= 6


def test_a_dropped_line_comes_back(board: VirtualBoard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_BACK_OFF_S", (0.05, 0.1))
    port = board.path
    threading.Timer(0.3, board.unplug).start()
    threading.Timer(0.9, board.replug).start()

    def enough(records: list[Record], words: list[str]) -> bool:
        return bool(words) and "is back" in words[-1] and numbers(records)[-1] > 60

    records, words = watch(port, enough)
    assert words[0] == f"the line to {port} dropped; trying to come back"
    assert words[1:-1] == [f"waiting: There is no board at {port}."]
    assert words[-1] == f"the line to {port} is back"
    assert numbers(records) == sorted(set(numbers(records)))


def test_silence_is_worth_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_SILENCE_S", 0.5)
    with VirtualBoard() as board:
        _, words = watch(board.path, lambda _, words: bool(words))
    port = board.path or words[0].split()[0]
    assert words == [f"{port} has said nothing for 0.5 s: if no node runs on it, deploy one."]


def test_a_board_that_was_never_there_is_an_error() -> None:
    with pytest.raises(NotFound):
        list(follow("/dev/ttyNONE", time.monotonic() + 5))


def test_it_ends_in_time(board: VirtualBoard) -> None:
    began = time.monotonic()
    list(follow(board.path, began + 0.5))
    assert 0.5 <= time.monotonic() - began < 2


def test_json_and_csv(board: VirtualBoard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "records.csv"
    monitor.command(board.path, as_json=True, csv_file=table, seconds=1.0)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) > 5
    assert printed[0].keys() == {"node", "n", "t", "v", "u"}
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["t_ms", "node", "name", "value", "unit"]
    assert rows[1:] == [[str(r["t"]), "n", "s.x", str(r["v"]), "g"] for r in printed]


def test_csv_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for t in (1_700_000_000_123, None):
        with csv_sink(path) as save:
            save(Record("n", "z.alarm", True, t))
    assert path.read_text().splitlines() == [
        "t_ms,node,name,value,unit",
        "1700000000123,n,z.alarm,True,",
        ",n,z.alarm,True,",
    ]


# --- the view ---------------------------------------------------------------------------------------------------------


def lines_of(chart: LiveChart, width: int, height: int) -> list[str]:
    from rich.console import Console

    console = Console(width=width, height=height, no_color=True, legacy_windows=False)
    with console.capture() as capture:
        console.print(chart.render(width, height))
    return capture.get().splitlines()


def filled() -> LiveChart:
    chart = LiveChart("title")
    for i in range(300):
        t = 5_000 + i * 50
        chart.add(Record("n", "accel.x", (i % 20) / 10, t, "g"))
        chart.add(Record("n", "accel.y", -1.0, t, "g"))
        chart.add(Record("n", "z.score", float(i == 200), t))
    chart.add(Record("n", "z.alarm", True, 15_000))
    chart.add(Record("n", "net.class", "imbalance", 15_000))
    chart.add(Record("n", "net.p", 0.75, 15_000))
    chart.add(Record("n", "sys.heap", 51_234, 15_000))
    chart.add(Record("n", "alert", "z.alarm", 15_000, extra={"model": "fan", "plan": "0123abcd", "kernels": "viper"}))
    chart.note("the line dropped")
    return chart


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (60, 12), (200, 60)])
def test_the_view_fits_the_terminal(width: int, height: int) -> None:
    lines = lines_of(filled(), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for word in (
        "accel.x 1.9",
        "net imbalance 75%",
        "1 alarm, 1 alert",
        "heap 51,234 B",
        "ALERT z.alarm [fan 0123abcd viper]",
    ):
        assert word in text
    assert "the line dropped" in text
    assert ("z.score" in text) == (height >= 24)


def test_the_view_without_records() -> None:
    lines = lines_of(LiveChart("title"), 80, 24)
    assert len(lines) <= 24
    assert any("no records yet" in line for line in lines)


def test_a_board_that_boots_again_goes_on_to_the_right() -> None:
    chart = filled()
    chart.add(Record("n", "accel.x", 0.5, 100, "g"))
    chart.add(Record("n", "accel.x", 0.5, 1_100, "g"))
    times = [t for t, _ in chart._signals["accel.x"]]
    assert times == sorted(times)
    assert times[-1] - times[-2] == pytest.approx(1.0)
