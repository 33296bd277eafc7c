"""Cells of the newest days only, lots of few days: every answer is the one of a home that keeps all, bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.api.health import health
from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.chain.history import ChainError, outdated_days, read_history
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.client.local import Local
from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.settings import SIMULATED_MARKER, Settings
from heatmap_pipeline.store import commit
from heatmap_pipeline.store.export import export
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.data import Version, load_version
from heatmap_pipeline.views.replay import Books, Replay, Source, replay
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import BTC, assert_same, copy_home, real, tables

pytestmark = pytest.mark.slow

DAYS = [date(2024, 2, 26) + timedelta(days=number) for number in range(8)]
MONTH_END = date(2024, 2, 29)
KEPT, LOTS = 3, 2
BY_DAY = ("liquidation_snapshots", "snapshot_days", "open_positions", "lot_days")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("archive")
    write_demo_days(root, BTC, DAYS)
    (root / SIMULATED_MARKER).unlink()
    return root


@pytest.fixture(scope="module")
def whole(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home that keeps everything. Nobody changes it."""
    return compute_home(real(tmp_path_factory.mktemp("whole") / "home", archive), DAYS[0], DAYS[-1])


@pytest.fixture(scope="module")
def once(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A home with cells of three days and lots of two, and of the month's end. Nobody changes it; `few` is a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "LOT_DAYS", LOTS)
        yield compute_home(real(tmp_path_factory.mktemp("few") / "home", archive, keep_cells=KEPT), DAYS[0], DAYS[-1])


@pytest.fixture
def few(once: Settings, tmp_path: Path) -> Settings:
    return once.model_copy(update={"home": copy_home(once.home, tmp_path / "home")})


@pytest.fixture(scope="module")
def replays(whole: Settings, once: Settings) -> Iterator[Callable[..., list[Replay]]]:
    """What both homes answer; a function, as Hypothesis writes out every argument, and what a home holds is long."""
    with Warehouse(whole.home).read() as full, Warehouse(once.home).read() as short:
        versions = load_version(full, whole.models), load_version(short, once.models)

        def replays_of(*question: Any) -> list[Replay]:
            return [shown(version, *question) for version in versions]

        yield replays_of


def asked(settings: Settings, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with Warehouse(settings.home).connect(BTC) as con:
        return con.execute(query, list(values)).fetchall()


def days_of(settings: Settings, table: str) -> set[date]:
    return {day for (day,) in asked(settings, f"SELECT DISTINCT day FROM {table}")}


def test_only_the_newest_days_have_cells_and_few_have_lots(whole: Settings, once: Settings) -> None:
    assert days_of(whole, "snapshot_days") == days_of(whole, "lot_days") == set(DAYS)
    assert days_of(once, "snapshot_days") == set(DAYS[-KEPT:])
    assert days_of(once, "lot_days") == days_of(once, "open_positions") == {MONTH_END, *DAYS[-LOTS:]}
    assert {day for (day,) in asked(once, "SELECT DISTINCT CAST(timestamp AS DATE) FROM liquidation_snapshots")} == set(
        DAYS[-KEPT:]
    )


def test_all_else_is_the_same_and_what_is_kept_is(whole: Settings, once: Settings) -> None:
    for name in ("warehouse", "heatmap.duckdb"):
        full, short = tables(whole.home / name), tables(once.home / name)
        assert_same(
            {key: table for key, table in short.items() if key not in BY_DAY},
            {key: table for key, table in full.items() if key not in BY_DAY},
        )
    for table, column in (("liquidation_snapshots", "timestamp"), ("open_positions", "day")):
        kept = days_of(once, "snapshot_days" if column == "timestamp" else "lot_days")
        query = f"FROM {table} WHERE CAST({column} AS DATE) IN (SELECT unnest(?::DATE[])) ORDER BY ALL"
        rows = asked(once, query, sorted(kept))
        assert rows == asked(whole, query, sorted(kept))
        assert rows


def shown(version: Version, model: str, window: tuple[int, int, int], weights: Any, tiers: Any) -> Replay:
    symbol = version.data(BTC)
    return replay(Source(version, symbol, symbol.models[model], weights, Books(1 << 20), tiers), *window)


@given(
    first=st.integers(0, 8 * 24 - 1),
    hours=st.integers(1, 72),
    seconds=st.sampled_from([300, 900, 3600]),
    model=st.sampled_from(["turnover", "delta"]),
    weights=st.sampled_from([None, ((10.0, 0.25), (50.0, 0.75))]),
    tiers=st.sampled_from([None, (25.0, 50.0)]),
)
@examples(60)
def test_any_window_is_answered_the_same(
    replays: Callable[..., list[Replay]], first: int, hours: int, seconds: int, model: str, weights: Any, tiers: Any
) -> None:
    start = day_start(DAYS[0]) + first * 3600 * MICROSECONDS
    window = (start, min(start + hours * 3600 * MICROSECONDS, day_start(DAYS[-1]) + DAY), seconds)
    full, short = replays(model, window, weights, tiers)
    np.testing.assert_equal(asdict(short), asdict(full))


@pytest.mark.parametrize("question", ["nested", "columns", "map"])
@pytest.mark.parametrize("day", [DAYS[0], DAYS[2], DAYS[-1]])
def test_the_endpoint_answers_the_same_bytes(whole: Settings, once: Settings, day: date, question: str) -> None:
    path, query = "/liquidations/map", {"symbol": BTC, "time": f"{day}T18:00:00Z"}
    if question != "map":
        path = "/liquidations/heatmap-timeseries"
        window = {"start_time": f"{day}T06:00:00Z", "end_time": f"{day}T22:00:00Z"}
        query = {"symbol": BTC, **window, "interval": "15m", "format": question}
    answers = []
    for settings in (whole, once):
        local = Local(settings.home)
        answers.append(re.sub(rb'"version": ?"[0-9a-f]+"', b"", local.ask(path, query)))
        local.close()
    assert answers[0] == answers[1]
    assert len(answers[0]) > 2000


def test_the_zones_of_a_day_come_from_its_lots_or_its_cells(whole: Settings, once: Settings) -> None:
    """Of a day that has neither there are none, and the tables say which days those are."""
    query = "SELECT model, day, side, rank, low, high, peak, price, volume, share FROM daily_zones ORDER BY ALL"
    known = days_of(once, "snapshot_days") | days_of(once, "lot_days")
    assert known == {MONTH_END, *DAYS[-KEPT:]}
    expected = [row for row in asked(whole, query) if row[1] in known]
    found = asked(once, query)
    assert [row[:4] for row in found] == [row[:4] for row in expected]
    assert len({row[1] for row in found}) == len(known)
    np.testing.assert_allclose(np.array([row[4:] for row in found]), np.array([row[4:] for row in expected]), rtol=1e-9)


def test_a_day_in_the_middle_is_computed_again_from_books_that_are_not_kept(few: Settings, whole: Settings) -> None:
    """From the nearest lots before it, of the month's end or of none at all, which is the history's beginning."""
    connect = partial(Warehouse(few.home).connect, BTC)
    for day in (DAYS[2], DAYS[5]):
        asked(few, "UPDATE heatmap_days SET input_hash = 'other', state_hash = 'other' WHERE day = ?", day)
        again = DAYS[DAYS.index(day) :]
        list(advance(connect, few, BTC, again))
        list(sample(connect, few, BTC, again))
        query = "SELECT * EXCLUDE (created_at) FROM heatmap_days ORDER BY ALL"
        assert asked(few, query) == asked(whole, query)
        assert days_of(few, "lot_days") == {MONTH_END, *DAYS[-LOTS:]}
        assert days_of(few, "snapshot_days") == set(DAYS[-KEPT:])


def test_a_book_that_does_not_come_out_as_recorded_is_refused(few: Settings) -> None:
    asked(few, "UPDATE raw_candles SET volume = volume * 2 WHERE day = ?", DAYS[4])
    asked(few, "UPDATE heatmap_days SET parameters = '{}' WHERE day = ?", DAYS[-1])
    asked(few, "DELETE FROM open_positions")
    asked(few, "DELETE FROM lot_days WHERE day > ?", DAYS[3])
    with pytest.raises(
        ChainError, match=rf"the book of {DAYS[4]}, .*`heatmap forget BTCUSDT.*`heatmap run BTCUSDT --start {DAYS[0]}"
    ):
        list(advance(partial(Warehouse(few.home).connect, BTC), few, BTC, [DAYS[-1]]))


def test_more_cells_come_back_by_the_run_that_status_names_and_fewer_go_with_the_next(
    few: Settings, whole: Settings
) -> None:
    connect = partial(Warehouse(few.home).connect, BTC)
    more = few.model_copy(update={"keep_cells": 6})
    with connect() as con:
        outdated = [stale.day for stale in outdated_days(more, read_history(con, more, BTC), "turnover")]
        assert not outdated_days(few, read_history(con, few, BTC), "turnover")
    assert outdated == DAYS[2:5]
    (line,) = (line for line in status_lines(more) if line.startswith("stale") and "turnover" in line)
    rebuilding = f"rebuild with `heatmap run BTCUSDT --start {DAYS[2]} --end {DAYS[-1]}"
    assert f"were not kept, or are at another interval; {rebuilding}" in line
    list(sample(connect, more, BTC, DAYS[2:]))
    query = "FROM liquidation_snapshots WHERE timestamp >= ? ORDER BY ALL"
    assert asked(few, query, DAYS[2]) == asked(whole, query, DAYS[2])
    list(sample(connect, few.model_copy(update={"keep_cells": 2}), BTC, DAYS[-1:]))
    assert days_of(few, "snapshot_days") == set(DAYS[-2:])
    publish(Warehouse(few.home), [BTC])
    with Warehouse(few.home).read() as con:
        oldest = con.execute("SELECT min(CAST(timestamp AS DATE)), min(day) FROM liquidation_snapshots, snapshot_days")
        assert oldest.fetchall() == [(DAYS[-2], DAYS[-2])]


def test_status_health_and_an_export_say_from_which_day_there_are_cells(
    few: Settings, whole: Settings, tmp_path: Path
) -> None:
    said = [line for line in status_lines(few) if line.startswith("cells")]
    assert [line.split(";")[0] for line in said] == [
        f"cells   BTCUSDT {model}: cells of days before {DAYS[-KEPT]} are not kept (HEATMAP_KEEP_CELLS)"
        for model in ("turnover", "delta")
    ]
    assert not [line for line in status_lines(whole) if line.startswith("cells")]
    with Warehouse(few.home).read() as con:
        body = health(load_version(con, few.models), "", few)[1]
    assert {one["cells_from"] for one in body["symbols"]} == {str(DAYS[-KEPT])}
    export(Warehouse(few.home), tmp_path / "export")
    guide = (tmp_path / "export" / "README.md").read_text()
    assert f"| {DAYS[-KEPT]} | archive |" in guide
