"""The recorder's files: hours that join, lines that tear anywhere, and machines that sleep."""

from __future__ import annotations

import json
import shutil
import tempfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.liquidations.recording import RecordingReader, RecordingWriter
from heatmap_pipeline.market.liquidations.streams import Event
from heatmap_pipeline.market.liquidations.tables import Liquidations
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline_tests._examples import examples

START = day_start(date(2026, 4, 3)) // 1000
HOUR = 3_600_000


def writer(root: Path, now: int = START, run: str = "a") -> RecordingWriter:
    return RecordingWriter(root, "bybit", "BTCUSDT", run, now)


def event(at: int, side: str = "Buy", quantity: str = "1") -> Event:
    return Event(at, side, "60000.5", quantity)


def read(root: Path, start: int = START - 12 * HOUR, end: int = START + 12 * HOUR) -> Liquidations:
    return RecordingReader(root).read("bybit", "BTCUSDT", start * 1000, end * 1000)


def stretches(made: Liquidations) -> list[list[int]]:
    """Return what was recorded, milliseconds after the start."""
    return [[start // 1000 - START, end // 1000 - START] for start, end in made.recorded.tolist()]


def folder(root: Path) -> Path:
    return root / "bybit" / "BTCUSDT"


def test_hours_and_days_join_without_a_gap(tmp_path: Path) -> None:
    made = writer(tmp_path, START - 5_000)
    made.open(START - 5_000)
    for at in range(START - 4_500, START + 4_800, 500):
        made.alive(at + 137)
    made.event(event(START - 200), 1, START + 300)
    made.event(event(START + 200), 2, START + 300)
    made.close()
    assert len(list(folder(tmp_path).glob("*.jsonl"))) == 2
    assert stretches(read(tmp_path)) == [[-5_000, 4_637]]
    before, after = read(tmp_path, START - DAY // 1000, START), read(tmp_path, START, START + DAY // 1000)
    assert (stretches(before), stretches(after)) == ([[-5_000, 0]], [[0, 4_637]])
    assert [len(part.table) for part in (before, after)] == [1, 1]
    assert RecordingReader(tmp_path).exchanges("BTCUSDT") == ["bybit"]


def test_silence_across_the_hour_takes_back_what_the_marks_said(tmp_path: Path) -> None:
    made = writer(tmp_path, START - 5_000)
    made.open(START - 5_000)
    for at in range(-4_000, 9_000, 1_000):
        made.alive(START + at)
    made.closed(START - 3_000, "silent", START + 9_000)
    made.close()
    assert stretches(read(tmp_path)) == [[-5_000, -3_000]]


def test_a_machine_that_slept_did_not_record(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.open(START)
    for at in (500, 1_000, 9_000, 70_000, 70_500):
        made.alive(START + at)
    made.close()
    assert stretches(read(tmp_path)) == [[0, 9_000], [70_000, 70_500]]


def test_nothing_is_recorded_while_nobody_listens(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.alive(START)
    made.closed(START + 1, "never open", START + 1)
    made.close()
    with pytest.raises(NoDataError, match="nothing was recorded"):
        read(tmp_path)


def test_a_torn_line_is_ended_by_the_next_run_and_counted(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.open(START)
    made.event(event(START + 100), 1, START + 150)
    made.alive(START + 500)
    made.close()
    [path] = folder(tmp_path).glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b'{"event":17752')
    torn = read(tmp_path)
    assert torn.repairs == {"torn_lines": 1}
    assert stretches(torn) == [[0, 500]]
    again = writer(tmp_path, START + 2_000, run="b")
    again.open(START + 2_000)
    # The same number of a message, but of another run: a liquidation of its own.
    again.event(event(START + 2_100), 1, START + 2_150)
    again.alive(START + 2_500)
    again.close()
    both = read(tmp_path)
    assert both.repairs == {"torn_lines": 1}
    assert stretches(both) == [[0, 500], [2_000, 2_500]]
    assert len(both.table) == 2


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "{}",
        '{"event":1775174400100}',
        '{"alive":"soon"}',
        '{"alive":true}',
        '{"strange":1775174400100}',
        '{"event":1775174400100,"side":"Buy","price":"x","quantity":"1","message":1,"received":1}',
    ],
)
def test_a_line_that_no_recorder_wrote_is_refused_with_file_and_row(tmp_path: Path, line: str) -> None:
    made = writer(tmp_path)
    made.open(START)
    made.close()
    [path] = folder(tmp_path).glob("*.jsonl")
    with path.open("a") as file:
        file.write(f'{line}\n{{"alive":{START + 500}}}\n')
    with pytest.raises(MarketError, match=r"BTCUSDT-2026-04-03T00\.jsonl, row 3: is no line of a recorder"):
        read(tmp_path)


def test_a_side_or_an_amount_that_cannot_be_is_refused(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.open(START)
    made.event(Event(START + 1, "Up", "1", "1"), 1, START)
    made.alive(START + 500)
    made.close()
    with pytest.raises(MarketError, match="row 3: side 'Up' is no word of bybit"):
        read(tmp_path)


def test_files_of_other_names_and_hours_are_left_alone(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.open(START)
    made.alive(START + 500)
    made.close()
    (folder(tmp_path) / "BTCUSDT-2026-04-03T99.jsonl").write_text("x\ny\n")
    (folder(tmp_path) / "BTCUSDT-2026-04-02T00.jsonl").write_text("x\ny\n")
    (folder(tmp_path) / "notes.txt").write_text("x\ny\n")
    assert read(tmp_path, START, START + HOUR).facts == {"files": 1}


def test_a_late_event_beyond_a_day_is_odd(tmp_path: Path) -> None:
    made = writer(tmp_path)
    made.open(START)
    made.event(event(START - 2 * DAY // 1000), 1, START)
    made.event(event(START + 2 * DAY // 1000), 2, START)
    made.alive(START + 500)
    made.close()
    result = read(tmp_path)
    assert (len(result.table), result.repairs) == (0, {"odd_messages": 2})


def whole_recording(root: Path) -> bytes:
    """Write an hour of one run, marks and events, and return its file."""
    made = writer(root)
    made.open(START)
    for step in range(1, 25):
        made.event(event(START + step * 500 - 100, "Buy" if step % 2 else "Sell", f"{step}.25"), step, START + step)
        made.alive(START + step * 500)
        if step == 12:
            made.closed(START + step * 500, "cut", START + step * 500)
            made.open(START + step * 500 + 400)
    made.close()
    [path] = folder(root).glob("*.jsonl")
    return path.read_bytes()


@examples(15)
@given(st.data())
def test_wherever_it_is_cut_it_is_read_to_the_last_whole_line(data: st.DataObject) -> None:
    root = Path(tempfile.mkdtemp())
    try:
        whole = whole_recording(root)
        complete = read(root)
        cut = data.draw(st.integers(1, len(whole)))
        [path] = folder(root).glob("*.jsonl")
        path.write_bytes(whole[:cut])
        made = read(root)
        lines = whole[:cut].split(b"\n")
        written = [json.loads(line) for line in whole[:cut].split(b"\n")[:-1]]
        if lines[-1] and whole[cut : cut + 1] == b"\n":  # only the end of the line is missing
            written.append(json.loads(lines[-1]))
        assert len(made.table) == sum("event" in line for line in written)
        assert made.table.equals(complete.table.iloc[: len(made.table)])
        last = [line.get("alive", line.get("closed")) for line in written if "alive" in line or "closed" in line]
        assert (made.recorded[:, 1].max() // 1000 if len(made.recorded) else START) == (last[-1] if last else START)
        assert made.repairs.get("torn_lines", 0) <= 1
        # And a recorder that comes back does not make it worse.
        again = writer(root, START + 60_000, run="b")
        again.open(START + 60_000)
        again.alive(START + 60_500)
        again.close()
        after = read(root)
        assert after.table.equals(made.table)
        assert stretches(after)[-1] == [60_000, 60_500]
    finally:
        shutil.rmtree(root)
