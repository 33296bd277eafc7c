"""Which days are asked of which source of real liquidations, what stays, what stops nothing, and dead feeds."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.chain import calendar
from heatmap_pipeline.chain import liquidations as chain
from heatmap_pipeline.chain.liquidations import (
    QUIET_HOURS,
    SourceDay,
    feed_lines,
    feeds,
    files_digest,
    ingest_liquidations,
    quiet_stretch,
    recorded_lines,
)
from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.liquidations import bitget, gate
from heatmap_pipeline.market.liquidations.sources import REACH, SOURCES, LiquidationSource
from heatmap_pipeline.market.liquidations.streams import STREAMS
from heatmap_pipeline.market.liquidations.tables import (
    HOUR,
    Liquidations,
    clean_liquidations,
    clip_ranges,
    raw_rows,
    superseded,
)
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.source_kinds import RECORDED_EXCHANGES
from heatmap_pipeline.store.liquidations import WatchedHours, load_liquidations
from heatmap_pipeline.store.raw import save_raw
from heatmap_pipeline.store.sql import Connection, rows
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.store.tiny import market

BTC = "BTCUSDT"
DAYS = tuple(date(2024, 3, 1) + timedelta(days=n) for n in range(3))
START = day_start(DAYS[0])


def test_a_file_of_any_name_counts(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "home", liquidations_folder=tmp_path)
    before = files_digest(settings)
    (tmp_path / os.fsdecode(b"\xff.csv")).touch()
    assert files_digest(settings) != before


class Told:
    """A source that says what it is given, and remembers what it was asked."""

    def __init__(
        self, source: str, hours: tuple[float, ...], recorded: tuple[tuple[float, float], ...], size: float = 1.0
    ) -> None:
        self.asked: list[tuple[date, date]] = []
        self.whole = clean_liquidations(
            raw_rows(
                [START + round(hour * HOUR) for hour in hours],
                ["long"] * len(hours),
                [9.0] * len(hours),
                [size] * len(hours),
                [np.nan] * len(hours),
            ),
            symbol=BTC,
            source=source,
            place="a test",
            recorded=np.array([[START + round(a * HOUR), START + round(b * HOUR)] for a, b in recorded], np.int64),
            facts={},
        )

    def read(self, symbol: str, first: date, last: date) -> list[Liquidations]:
        assert symbol == BTC
        self.asked.append((first, last))
        return [self.whole.between(day_start(first), day_start(last) + DAY)]


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, symbol: str, first: date, last: date) -> list[Liquidations]:
        raise self.error


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    """A warehouse with the candles of three days."""
    made = Warehouse(tmp_path)
    with made.connect(BTC) as con:
        save_raw(con, "candles", market(BTC, days=DAYS)[0], "archive")
    return made


def stored(warehouse: Warehouse, source: str) -> Liquidations:
    with warehouse.connect(BTC) as con:
        return load_liquidations(con, BTC, source, DAYS[0], DAYS[-1])


def recorded_hours(made: Liquidations) -> list[list[float]]:
    return [[(start - START) / HOUR, (end - START) / HOUR] for start, end in made.recorded.tolist()]


def test_all_days_are_asked_for_at_once_and_each_is_told_of(warehouse: Warehouse) -> None:
    source = Told("binance_file", (1, 30, 31), ((0.5, 40),))
    report = ingest_liquidations(partial(warehouse.connect, BTC), {"files": source}, BTC, DAYS)
    assert source.asked == [(DAYS[0], DAYS[-1])]
    assert report.days == {
        DAYS[0]: {"binance_file": SourceDay(1, 23.5, True)},
        DAYS[1]: {"binance_file": SourceDay(2, 16.0, True)},
        DAYS[2]: {},
    }
    assert report.troubles == {}
    again = ingest_liquidations(partial(warehouse.connect, BTC), {"files": source}, BTC, DAYS)
    assert not any(each.changed for day in again.days.values() for each in day.values())


def test_days_without_candles_are_not_asked_for(warehouse: Warehouse) -> None:
    source = Told("binance_file", (1,), ((0, 240),))
    ingest_liquidations(partial(warehouse.connect, BTC), {"files": source}, BTC, [*DAYS, DAYS[-1] + timedelta(days=1)])
    assert source.asked == [(DAYS[0], DAYS[-1])]
    ingest_liquidations(partial(warehouse.connect, BTC), {"files": source}, BTC, [DAYS[-1] + timedelta(days=1)])
    assert len(source.asked) == 1


def test_a_source_that_fails_is_told_of_once_and_stops_no_other(
    warehouse: Warehouse, caplog: pytest.LogCaptureFixture
) -> None:
    sources: dict[str, LiquidationSource] = {
        "binance_archive": Failing(MarketError("the file is broken")),
        "bybit_stream": Failing(NoDataError("nothing was recorded")),
        "files": Told("binance_file", (1,), ((0, 72),)),
    }
    with caplog.at_level(logging.WARNING):
        report = ingest_liquidations(partial(warehouse.connect, BTC), sources, BTC, DAYS)
    assert report.troubles == {"binance_archive": "the file is broken", "bybit_stream": "nothing was recorded"}
    assert len(stored(warehouse, "binance_file").table) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "liquidations of BTCUSDT from binance_archive are not recorded: the file is broken"
    ]


def test_a_defect_is_no_trouble_of_a_source(warehouse: Warehouse) -> None:
    with pytest.raises(ZeroDivisionError):
        ingest_liquidations(partial(warehouse.connect, BTC), {"files": Failing(ZeroDivisionError())}, BTC, DAYS)


def test_a_day_of_which_nothing_is_said_any_more_stays_and_another_is_replaced(warehouse: Warehouse) -> None:
    ingest_liquidations(
        partial(warehouse.connect, BTC), {"files": Told("binance_file", (1, 30), ((0, 72),))}, BTC, DAYS
    )
    ingest_liquidations(partial(warehouse.connect, BTC), {"files": Told("binance_file", (2, 3), ((1, 4),))}, BTC, DAYS)
    made = stored(warehouse, "binance_file")
    assert recorded_hours(made) == [[1, 4], [24, 48], [48, 72]]
    assert ((made.table["timestamp"].astype("int64") - START) / HOUR).tolist() == [2, 3, 30]


@pytest.fixture
def today_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[date], None]:
    return lambda day: monkeypatch.setattr(calendar, "today", lambda: day)


def test_a_source_that_forgets_keeps_what_it_said(warehouse: Warehouse, today_is: Callable[[date], None]) -> None:
    today_is(DAYS[2])
    first = Told("bitget_rest", (1, 13, 30), ((0, 34),))
    ingest_liquidations(partial(warehouse.connect, BTC), {"bitget_rest": first}, BTC, DAYS)
    # Later it knows the first day from noon on only, and one of that day came late; the day after is whole by now.
    later = Told("bitget_rest", (13, 14, 30, 40), ((12, 60),))
    ingest_liquidations(partial(warehouse.connect, BTC), {"bitget_rest": later}, BTC, DAYS)
    assert later.asked == [(DAYS[1], DAYS[2])], "what is recorded from midnight to midnight is not asked for again"
    made = stored(warehouse, "bitget_rest")
    assert recorded_hours(made) == [[0, 24], [24, 48], [48, 60]]
    assert ((made.table["timestamp"].astype("int64") - START) / HOUR).tolist() == [1, 13, 30, 40]
    today_is(DAYS[2] + timedelta(days=REACH["bitget_rest"]))
    gone = Told("bitget_rest", (60,), ((55, 72),))
    report = ingest_liquidations(partial(warehouse.connect, BTC), {"bitget_rest": gone}, BTC, DAYS)
    assert gone.asked == [(DAYS[2], DAYS[2])], "no further back than it goes"
    assert recorded_hours(stored(warehouse, "bitget_rest"))[-1] == [48, 72]
    assert report.days[DAYS[2]] == {"bitget_rest": SourceDay(1, 24.0, True)}
    today_is(DAYS[2] + timedelta(days=90))
    report = ingest_liquidations(partial(warehouse.connect, BTC), {"bitget_rest": gone}, BTC, DAYS)
    assert len(gone.asked) == 1
    assert report.troubles == {}, "all of it is recorded"


def test_days_beyond_the_reach_of_a_source_are_not_recorded(
    warehouse: Warehouse, today_is: Callable[[date], None]
) -> None:
    today_is(DAYS[2] + timedelta(days=90))
    source = Told("bitget_rest", (1,), ((0, 72),))
    report = ingest_liquidations(partial(warehouse.connect, BTC), {"bitget_rest": source}, BTC, DAYS)
    assert source.asked == []
    assert report.troubles == {"bitget_rest": "bitget_rest: none of these days is asked for, it goes back 3 days"}


def test_the_tables_of_sources_agree() -> None:
    assert REACH == {"gate_stats": gate.REACH_DAYS, "gate_orders": gate.REACH_DAYS, "bitget_rest": bitget.REACH_DAYS}
    assert REACH.keys() <= SOURCES.keys()
    assert {exchange: f"{exchange}_stream" for exchange in STREAMS} == {
        exchange: source for source, exchange in chain.STREAMS.items()
    }
    assert set(RECORDED_EXCHANGES) == set(STREAMS)


ranges = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), max_size=3)


@examples(50)
@given(st.lists(st.integers(0, 12), max_size=6), ranges, st.lists(st.integers(0, 12), max_size=6), ranges)
def test_the_newer_word_counts_where_it_was_recorded(
    old: list[int], old_ranges: list[tuple[int, int]], new: list[int], new_ranges: list[tuple[int, int]]
) -> None:
    def said(hours: list[int], spans: list[tuple[int, int]], size: float) -> Liquidations:
        covered = [hour for hour in hours if any(a <= hour < a + n for a, n in spans)]
        return Told("bitget_rest", tuple(covered), tuple((a, a + n) for a, n in spans), size).whole

    before, newer = said(old, old_ranges, 1.0), said(new, new_ranges, 2.0)
    made = superseded(before, newer)
    for hour in range(13):
        span = START + hour * HOUR, START + (hour + 1) * HOUR
        whose = newer if len(clip_ranges(newer.recorded, *span)) else before
        assert made.between(*span).content_hash() == whose.between(*span).content_hash()
    assert superseded(made, newer).content_hash() == made.content_hash()


# -- feeds


def hours_of(activity: list[float], events: list[int], recorded: list[float]) -> WatchedHours:
    hour = START + HOUR * np.arange(len(activity), dtype=np.int64)
    return WatchedHours(hour, np.array(activity), np.array(events), np.array(recorded))


CALM, WILD = 1.0, 5.0


def test_a_stream_is_dead_that_prints_nothing_while_the_market_moves() -> None:
    activity = [CALM] * 30 + [WILD] * 10
    alive = [1] * 40
    assert quiet_stretch(hours_of(activity, alive, [1.0] * 40)) is None
    dead = [1] * 30 + [0] * 10
    assert quiet_stretch(hours_of(activity, dead, [1.0] * 40)) == 39
    assert quiet_stretch(hours_of(activity, [1] * 30 + [0] * 5 + [1] + [0] * 4, [1.0] * 40)) is None
    assert quiet_stretch(hours_of(activity, [1] * 30 + [0] * 6 + [1] * 4, [1.0] * 40)) == 35
    # Not recorded is not printed either, but before the first record nobody listened.
    assert quiet_stretch(hours_of(activity, dead, [1.0] * 30 + [0.0] * 10)) == 39
    assert quiet_stretch(hours_of(activity, [0] * 40, [0.0] * 40)) is None
    assert quiet_stretch(hours_of(activity, [0] * 40, [0.0] * 36 + [1.0] * 4)) is None
    # A calm market prints nothing, and is no fault of the stream.
    assert quiet_stretch(hours_of([WILD] * 30 + [CALM] * 10, dead, [1.0] * 40)) is None


def test_hours_that_are_missing_are_no_hours_in_a_row() -> None:
    hours = hours_of([CALM] * 30 + [WILD] * QUIET_HOURS, [1] * 30 + [0] * QUIET_HOURS, [1.0] * 36)
    assert quiet_stretch(hours) == 35
    hours.hour[-1] += HOUR
    assert quiet_stretch(hours) is None


@pytest.fixture
def moving(tmp_path: Path) -> Callable[..., Any]:
    """Tell of a stream over three days, of which the last is the wildest."""

    def feed(hours: tuple[float, ...], recorded: tuple[tuple[float, float], ...], names: tuple[str, ...]) -> Any:
        warehouse = Warehouse(tmp_path / "moving")
        settings = load_settings(home=tmp_path / "moving", liquidations=names)
        candles = market(BTC, days=DAYS)[0]
        candles[2].table["volume"] *= 100
        with warehouse.connect(BTC) as con:
            save_raw(con, "candles", candles, "archive")
        ingest_liquidations(
            partial(warehouse.connect, BTC), {"bybit_stream": Told("bybit_stream", hours, recorded)}, BTC, DAYS
        )
        with warehouse.connect(BTC) as con:
            return (
                feeds(con, settings, BTC, DAYS[2], DAYS[2]),
                list(feed_lines(con, settings, BTC, DAYS[1], DAYS[2])),
                list(recorded_lines(con)),
            )

    return feed


EACH_HOUR = tuple(hour + 0.5 for hour in range(72))


def test_a_feed_that_lives(moving: Callable[..., Any]) -> None:
    ([feed], lines, recorded) = moving(EACH_HOUR, ((0, 72),), ("bybit_stream",))
    assert (feed.source, feed.words, feed.late) == ("bybit_stream", "", "")
    assert feed.numbers == {"recorded_hours": 72.0, "events": 72}
    assert lines == []
    assert recorded == [
        "liquidations of BTCUSDT by bybit_stream: 2024-03-01 00:00 .. 2024-03-04 00:00, 72.0 h recorded, 72 rows, "
        "not complete; not of the market's own exchange"
    ]


def test_a_silent_feed_names_the_command(moving: Callable[..., Any], tmp_path: Path) -> None:
    ([feed], lines, _) = moving(EACH_HOUR[:60], ((0, 72),), ("bybit_stream",))
    assert feed.words == (
        "BTCUSDT bybit_stream: printed nothing from 2024-03-03T18:00:00Z for 6 hours in which the market moved more "
        f"than usual; look at the recorder, or start it with `heatmap record BTCUSDT --exchange bybit --home "
        f"{tmp_path / 'moving'}`"
    )
    assert feed.numbers["quiet_until"] == "2024-03-04T00:00:00Z"
    assert lines == [f"feed    {feed.words}"]


def test_a_recorder_that_stopped(moving: Callable[..., Any]) -> None:
    ([feed], _, _) = moving(EACH_HOUR[:60], ((0, 60),), ("bybit_stream",))
    assert "was not recorded from 2024-03-03T18:00:00Z" in feed.words
    ([feed], lines, _) = moving(EACH_HOUR[:69], ((0, 69),), ("bybit_stream",))
    assert feed.words == ""
    assert "the record ends 3 hours before the candles" in lines[0]


def test_a_stream_that_was_never_recorded(moving: Callable[..., Any]) -> None:
    feeds_of, lines, _ = moving(EACH_HOUR, ((0, 72),), ("bybit_stream", "binance_stream"))
    assert [feed.words[:48] for feed in feeds_of] == ["", "BTCUSDT binance_stream: nothing was recorded yet"]
    assert len(lines) == 1


def test_what_is_not_configured_is_not_watched(moving: Callable[..., Any]) -> None:
    assert moving((), ((0, 72),), ())[:2] == ([], [])
    assert moving((), ((0, 72),), ("gate_stats", "binance_archive"))[:2] == ([], [])


def test_a_kill_between_two_sources_leaves_the_first_and_the_run_after_makes_the_rest(
    warehouse: Warehouse,
) -> None:
    first, second = Told("binance_file", (1, 30), ((0, 72),)), Told("bybit_stream", (2, 40), ((0, 72),))

    class Killed(BaseException):
        pass

    class Killing:
        def read(self, symbol: str, first: date, last: date) -> list[Liquidations]:
            raise Killed

    with pytest.raises(Killed):
        ingest_liquidations(partial(warehouse.connect, BTC), {"files": first, "bybit_stream": Killing()}, BTC, DAYS)
    assert len(stored(warehouse, "binance_file").table) == 2
    ingest_liquidations(partial(warehouse.connect, BTC), {"files": first, "bybit_stream": second}, BTC, DAYS)

    def content(con: Connection) -> list[Any]:
        return [rows(con, f"FROM {table} ORDER BY ALL") for table in ("raw_liquidations", "recorded")]

    with warehouse.connect(BTC) as con:
        repaired = content(con)
    clean = Warehouse(warehouse.home / "clean")
    with clean.connect(BTC) as con:
        save_raw(con, "candles", market(BTC, days=DAYS)[0], "archive")
    ingest_liquidations(partial(clean.connect, BTC), {"files": first, "bybit_stream": second}, BTC, DAYS)
    with clean.connect(BTC) as con:
        assert content(con) == repaired
