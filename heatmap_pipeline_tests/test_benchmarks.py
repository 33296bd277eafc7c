"""The benchmarks run and give numbers; how large those are is for a quiet machine to say, not for a test."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import cost, exchange, footprint, size, symbols
from benchmarks.measure import Measured, Setting
from heatmap_pipeline_tests._homes import draw_nothing
from heatmap_pipeline_tests.orchestration.light import light_runs


def test_the_benchmarks_of_the_engine_give_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "numbers.json"
    chosen = ["--only", "engine", "--only", "year", "--only", "steps"]
    assert benchmarks.main(["--quick", *chosen, "--json", str(file), "--folder", str(tmp_path)]) == 0
    written = json.loads(file.read_text())
    assert {"cores", "python", "numba"} <= written["machine"].keys()
    assert len(written["rows"]) == 6  # two models each
    for row in written["rows"]:
        assert math.isfinite(row["median"])
        assert row["median"] > 0
        assert min(row["values"]) <= row["median"] <= max(row["values"])
        assert row["expected"] is None  # too little was measured for a target
        assert row["limit"]
    assert "engine delta" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # nothing is left behind


def test_a_row_says_how_it_stands_to_its_target() -> None:
    row = Measured("a", "b", "s", (3.0, 1.0, 2.0), "c", expected=4.0)
    assert row.value == 2.0
    assert row.ratio == 0.5
    assert Measured("a", "b", "s", (1.0,), "c").ratio is None


def test_what_age_costs_is_measured_for_books_and_rows(tmp_path: Path) -> None:
    rows = footprint.books(Setting(tmp_path, quick=True))
    names = {row.name.partition(": ")[2] for row in rows}
    assert names == {"engine ms", "lots", "state bytes", "position_events", "liquidation_snapshots"}
    assert all(math.isfinite(row.value) and row.value > 0 for row in rows)
    assert "footprint" not in {one.name for one in benchmarks.BENCHMARKS if not one.on_request}


def test_what_is_fetched_is_asked_for_once(tmp_path: Path) -> None:
    first, again = exchange.fetch(Setting(tmp_path, quick=True))
    assert first.what.startswith("2 pages of candles and ")
    assert first.value > again.value > 0


@pytest.mark.slow
def test_many_symbols_are_served_and_measured(tmp_path: Path) -> None:
    start, first, memory = symbols.many_symbols(Setting(tmp_path, quick=True))
    assert 0 < start.value < math.inf
    assert first.value > 0
    assert "symbols (2)" in memory.what
    assert memory.value > 50


@pytest.mark.slow
def test_the_room_of_a_year_is_told_by_table(tmp_path: Path) -> None:
    every, newest = size.symbol_year(Setting(tmp_path, quick=True))
    assert every.value > newest.value > 1
    for row in (every, newest):
        assert "position_events" in row.what
        assert row.expected is None  # too little was stored for a target


@pytest.mark.slow
@pytest.mark.fleet
def test_what_a_symbol_costs_is_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "4h")
    monkeypatch.setenv("HEATMAP_MODELS", "turnover")
    with light_runs():  # without Dagster, which is most of it
        rows = {row.name: row for row in cost.cost(Setting(tmp_path, quick=True))}
    assert {row.unit for row in rows.values()} == {"s", "MB", "x"}
    assert all(math.isfinite(row.value) for row in rows.values())
    assert 0 < rows["cost, predicted room"].value < 3
