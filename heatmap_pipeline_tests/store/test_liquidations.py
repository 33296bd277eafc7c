"""Real liquidations in and out: a day in place of a day, what was recorded, and the hours beside the model's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.liquidations.tables import (
    HOUR,
    LEAST_RECORDED,
    Liquidations,
    clean_liquidations,
    raw_rows,
)
from heatmap_pipeline.store import liquidations as stored
from heatmap_pipeline.store.liquidations import (
    days_recorded_whole,
    liquidation_sources,
    load_liquidations,
    recorded_ranges,
    save_liquidations,
    watched_hours,
)
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import SymbolRecord, put_symbol, save_raw
from heatmap_pipeline.store.schema import amounts, schema_text
from heatmap_pipeline.store.sql import Connection, insert, rows
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.symbols import own_exchange
from heatmap_pipeline_tests.store.tiny import DAYS, STEP, market

BTC, BYBIT = "BTCUSDT", "BYBIT_BTCUSDT"
FIRST = DAYS[0]
START = day_start(FIRST)


def told(
    *events: tuple[float, str, float, float],
    source: str = "bybit_stream",
    complete: bool = True,
    resolution: int = 0,
    recorded: tuple[tuple[float, float], ...] = ((0, 24),),
) -> Liquidations:
    """Return liquidations of (hour of the first day, side, price, quantity); recorded in hours, too."""
    return clean_liquidations(
        raw_rows(
            [START + round(event[0] * HOUR) for event in events],
            [event[1] for event in events],
            [event[2] for event in events],
            [event[3] for event in events],
            [np.nan] * len(events),
        ),
        symbol=BTC,
        source=source,
        place="a test",
        resolution_seconds=resolution,
        complete=complete,
        recorded=np.array([[START + round(a * HOUR), START + round(b * HOUR)] for a, b in recorded], dtype=np.int64),
    )


def by_day(made: Liquidations, days: int = 3) -> dict[date, Liquidations]:
    return {day: made.of_day(day) for day in (FIRST + timedelta(days=n) for n in range(days))}


def content(con: Connection) -> list[Any]:
    return [
        rows(con, "FROM raw_liquidations ORDER BY ALL"),
        rows(con, "FROM recorded ORDER BY ALL"),
        rows(con, "SELECT * EXCLUDE created_at FROM raw_days WHERE kind = 'liquidations' ORDER BY ALL"),
    ]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Connection]:
    """A warehouse in which nothing is stored."""
    with Warehouse(tmp_path / "fresh").connect(BTC) as con:
        yield con


EVENTS = told(
    (1.5, "long", 60000.0, 2.0),
    (1.5, "long", 60000.0, 2.0),
    (25.0, "short", 61000.0, 1.0),
    (47.9, "long", np.nan, 3.0),
    recorded=((0.5, 30), (30.25, 72)),
)


def test_what_is_saved_comes_back_to_the_last_bit(fresh: Connection) -> None:
    days = by_day(EVENTS)
    assert save_liquidations(fresh, days) == list(DAYS)
    whole = load_liquidations(fresh, BTC, "bybit_stream", DAYS[0], DAYS[-1])
    pd.testing.assert_frame_equal(whole.table, EVENTS.table)
    for day in DAYS:
        back = load_liquidations(fresh, BTC, "bybit_stream", day, day)
        assert back.content_hash() == days[day].content_hash()
    # Ranges are cut at midnights, and together they are what was recorded.
    ranges = recorded_ranges(fresh, BTC, "bybit_stream", DAYS[0], DAYS[-1])
    hours = (ranges - START) / HOUR
    assert hours.tolist() == [[0.5, 24], [24, 30], [30.25, 48], [48, 72]]
    assert days_recorded_whole(fresh, BTC, "bybit_stream", DAYS[0], DAYS[-1]) == {DAYS[2]}
    assert rows(fresh, "SELECT price FROM raw_liquidations WHERE quantity = 3") == [(None,)]


def test_only_a_day_that_differs_is_written(fresh: Connection) -> None:
    save_liquidations(fresh, by_day(EVENTS))
    before = rows(fresh, "SELECT day, created_at FROM raw_days WHERE kind = 'liquidations' ORDER BY day")
    assert save_liquidations(fresh, by_day(EVENTS)) == []
    other = told((25.0, "short", 61000.0, 1.0), (26.0, "long", 60000.0, 1.0), recorded=((24, 48),))
    assert save_liquidations(fresh, {DAYS[1]: other.of_day(DAYS[1])}) == [DAYS[1]]
    after = rows(fresh, "SELECT day, created_at FROM raw_days WHERE kind = 'liquidations' ORDER BY day")
    assert [row for row in after if row[0] != DAYS[1]] == [row for row in before if row[0] != DAYS[1]]
    assert rows(fresh, "SELECT count(*) FROM raw_liquidations GROUP BY day ORDER BY day") == [(2,), (2,)]
    assert rows(fresh, "SELECT count(*) FROM recorded WHERE day = ?", [DAYS[1]]) == [(1,)]


def test_days_in_one_go_or_one_by_one_are_the_same(fresh: Connection) -> None:
    save_liquidations(fresh, by_day(EVENTS))
    at_once = content(fresh)
    for table in ("raw_liquidations", "recorded"):
        fresh.execute(f"DELETE FROM {table}")
    fresh.execute("DELETE FROM raw_days WHERE kind = 'liquidations'")
    for day, made in reversed(by_day(EVENTS).items()):
        save_liquidations(fresh, {day: made})
    assert content(fresh) == at_once


def test_sources_do_not_touch_each_other(fresh: Connection) -> None:
    save_liquidations(fresh, by_day(EVENTS))
    save_liquidations(fresh, {FIRST: told((3, "short", 1.0, 1.0), source="binance_stream", complete=False)})
    save_liquidations(fresh, {FIRST: told(source="binance_stream", complete=False)})
    assert rows(fresh, "SELECT source, count(*) FROM raw_liquidations GROUP BY source") == [("bybit_stream", 4)]
    assert save_liquidations(fresh, by_day(EVENTS)) == []


def test_a_save_that_fails_leaves_everything_as_it_was(fresh: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    save_liquidations(fresh, by_day(EVENTS))
    before = content(fresh)

    def broken(con: Connection, table: str, columns: Any) -> int:
        if table == "recorded":
            raise RuntimeError("killed")
        return insert(con, table, columns)

    monkeypatch.setattr(stored, "insert", broken)
    with pytest.raises(RuntimeError, match="killed"):
        save_liquidations(fresh, by_day(told((2, "long", 5.0, 1.0))))
    assert content(fresh) == before


def test_a_change_of_liquidations_alone_is_published(warehouse: Warehouse) -> None:
    publish(warehouse, [BTC])
    assert not publish(warehouse, [BTC]).changed
    for made in (EVENTS, told((2, "long", 5.0, 1.0)), told(recorded=((0, 3),))):
        with warehouse.connect(BTC) as con:
            save_liquidations(con, by_day(made))
            expected = content(con)
        assert publish(warehouse, [BTC]).changed
        with warehouse.read() as con:
            assert content(con) == expected
        assert not publish(warehouse, [BTC]).changed


# -- the hours beside the model's


@pytest.fixture
def empty(fresh: Connection) -> Connection:
    """A warehouse in which a model computed the first three hours of a day, in candles of half an hour."""
    zeros = ", ".join(f"0 AS {name}" for name in amounts("book_ledger"))
    for half in range(6):
        fresh.execute(
            f"INSERT INTO book_ledger BY NAME SELECT ? AS symbol, 'turnover' AS model, ? AS timestamp, {zeros}",
            [BTC, at(half / 2)],
        )
    for hour, kind, side, quantity, opened in (
        (0.5, "liquidate", "long", 2.0, -5.0),  # stood before its hour
        (0.5, "liquidate", "long", 1.0, 0.0),  # opened within it
        (0.5, "liquidate", "long", 0.5, 0.5),  # passed at once
        (1.0, "liquidate", "short", 4.0, 0.5),
        (1.0, "close", "short", 7.0, None),
        (1.0, "open", "short", 8.0, 1.0),
    ):
        fresh.execute(
            "INSERT INTO position_events (symbol, model, timestamp, event_type, side, quantity, volume, opened_at) "
            "VALUES (?, 'turnover', ?, ?, ?, ?, 1, ?)",
            [BTC, at(hour), kind, side, quantity, None if opened is None else at(opened)],
        )
    return fresh


def at(hour: float) -> datetime:
    return datetime.combine(FIRST, datetime.min.time()) + timedelta(hours=hour)


def hourly(con: Connection) -> list[tuple[Any, ...]]:
    return [
        ((hour - at(0)) // timedelta(hours=1), *rest)
        for hour, *rest in rows(
            con,
            "SELECT hour, side, predicted, predicted_at_start, reported, recorded FROM liquidations_hourly "
            "WHERE symbol = ? AND model = 'turnover' ORDER BY hour, side",
            [BTC],
        )
    ]


def test_without_a_record_every_hour_is_missing(empty: Connection) -> None:
    assert hourly(empty) == [
        (0, "long", 3.5, 2.0, None, False),
        (0, "short", 0.0, 0.0, None, False),
        (1, "long", 0.0, 0.0, None, False),
        (1, "short", 4.0, 4.0, None, False),
        (2, "long", 0.0, 0.0, None, False),
        (2, "short", 0.0, 0.0, None, False),
    ]
    assert rows(empty, "SELECT DISTINCT source FROM liquidations_hourly") == [(None,)]


def test_hours_by_hand(empty: Connection) -> None:
    made = told(
        (0.1, "long", 9.0, 1.5), (0.9, "long", 9.0, 0.25), (2.5, "short", 9.0, 6.0), recorded=((0, 2), (2.5, 24))
    )
    save_liquidations(empty, {FIRST: made})
    assert [row[:2] + row[4:] for row in hourly(empty)] == [
        (0, "long", 1.75, True),
        (0, "short", 0.0, True),  # recorded, and nothing happened
        (1, "long", 0.0, True),
        (1, "short", 0.0, True),
        (2, "long", None, False),  # half of it was recorded: nobody knows
        (2, "short", None, False),
    ]


@pytest.mark.parametrize(("lost", "recorded"), [(70, True), (74, False)])
def test_an_hour_may_lose_some_seconds(empty: Connection, lost: float, recorded: bool) -> None:
    save_liquidations(empty, {FIRST: told(recorded=((0, 0.4), (0.4 + lost / 3600, 24)))})
    assert [row[5] for row in hourly(empty)] == [recorded] * 2 + [True] * 4


def test_one_source_is_chosen_and_never_mixed_with_another(empty: Connection) -> None:
    ours = {
        "bybit_stream": told((0, "long", 9.0, 1.0)),
        "gate_stats": told((0, "long", 9.0, 2.0), source="gate_stats", resolution=300),
        "binance_daily": told((0, "long", 9.0, 4.0), source="binance_daily", complete=False, resolution=86400),
        "binance_file": told((0, "long", 9.0, 8.0), source="binance_file", complete=False, recorded=((0, 5),)),
        "binance_stream": told((0, "long", 9.0, 16.0), source="binance_stream", complete=False, recorded=((0, 9),)),
    }
    chosen = []
    for made in ours.values():
        save_liquidations(empty, {FIRST: made})
        (best,) = [one for one in liquidation_sources(empty, BTC) if one.chosen]
        assert best == liquidation_sources(empty)[0]
        chosen.append(best.source)
        assert hourly(empty)[0][4] == ours[best.source].table["quantity"].iloc[0]
        assert rows(empty, "SELECT count(*), any_value(source) FROM liquidations_hourly") == [(6, best.source)]
    # Complete and as long: the name. A day's sums fit no hour. Its own exchange wins, the longer record of it then.
    assert chosen == ["bybit_stream", "bybit_stream", "bybit_stream", "binance_file", "binance_stream"]
    for one in liquidation_sources(empty, BTC):
        assert one.exchange == ours[one.source].exchange
        assert one.own_exchange == (one.exchange == own_exchange(BTC))
        assert one.recorded_hours == pytest.approx(float(np.diff(ours[one.source].recorded).sum()) / HOUR)
        assert (one.complete, one.rows) == (bool(ours[one.source].table["complete"].all()), 1)


def test_of_a_market_of_another_exchange_that_exchange_s_record_is_its_own(fresh: Connection) -> None:
    """Whichever recorded more: the name of a market alone does not say whose it is."""
    put_symbol(fresh, SymbolRecord(BYBIT, 300, 100.0, "exchange", simulated=False, exchange="bybit"))
    for source, until in (("bybit_stream", 5), ("binance_stream", 9)):
        for symbol in (BTC, BYBIT):
            made = replace(told((0, "long", 9.0, 1.0), source=source, recorded=((0, until),)), symbol=symbol)
            save_liquidations(fresh, {FIRST: made})
    chosen = {one.symbol: (one.source, one.own_exchange) for one in liquidation_sources(fresh) if one.chosen}
    assert chosen == {BTC: ("binance_stream", True), BYBIT: ("bybit_stream", True)}


def test_sums_of_a_day_alone_are_chosen_for_no_hour(empty: Connection) -> None:
    save_liquidations(empty, {FIRST: told((0, "long", 9.0, 4.0), resolution=86400)})
    assert [one.chosen for one in liquidation_sources(empty)] == [False]
    assert {row[4] for row in hourly(empty)} == {None}


def test_the_view_of_hours_takes_the_same_share_for_a_recorded_one_as_the_program() -> None:
    assert f">= {LEAST_RECORDED} * 3.6e9" in schema_text()


def test_hours_of_a_real_little_history(con: Connection) -> None:
    """The same sums as pandas makes of the tables, for both models of three days."""
    save_liquidations(con, by_day(EVENTS))
    events = con.execute("FROM position_events WHERE event_type = 'liquidate' AND symbol = 'BTCUSDT'").df()
    events["hour"] = events["timestamp"].dt.floor("h")
    events["old"] = events["quantity"].where(events["opened_at"] < events["hour"], 0.0)
    wanted = events.groupby(["model", "hour", "side"], observed=True)[["quantity", "old"]].sum()
    view = con.execute("FROM liquidations_hourly WHERE symbol = 'BTCUSDT'").df()
    assert len(view) == 2 * 72 * 2
    assert len(wanted) > 20
    hours = view.set_index(["model", "hour", "side"])
    np.testing.assert_allclose(hours.loc[wanted.index, "predicted"], wanted["quantity"], rtol=1e-12)
    np.testing.assert_allclose(hours.loc[wanted.index, "predicted_at_start"], wanted["old"], rtol=1e-12)
    assert hours["predicted"].sum() == pytest.approx(wanted["quantity"].sum())
    assert hours["recorded"].sum() == 2 * 2 * 70  # neither the first hour nor the one with the gap
    assert hours["reported"].isna().sum() == 2 * 2 * 2
    assert hours["reported"].sum() == 2 * (4 + 1 + 3)


def test_watched_hours(fresh: Connection) -> None:
    save_raw(fresh, "candles", market(BTC)[0], "archive")
    save_liquidations(fresh, by_day(EVENTS))
    watched = watched_hours(fresh, BTC, "bybit_stream", DAYS[0], DAYS[0])
    assert watched.hour.tolist() == list(range(START, START + DAY, HOUR))
    assert watched.events.tolist() == [0, 2] + [0] * 22
    assert watched.recorded.tolist() == [0.5] + [1.0] * 23
    candles = fresh.execute("FROM raw_candles WHERE symbol = 'BTCUSDT' AND day = ? ORDER BY open_time", [FIRST]).df()
    first = candles.iloc[: 3600 // STEP]
    assert watched.activity[0] == pytest.approx(
        (first["high"].max() - first["low"].min()) / first["open"].iloc[0] * first["volume"].sum()
    )
