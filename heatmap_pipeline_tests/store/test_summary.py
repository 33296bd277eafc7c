"""What is said of every symbol without its candles, held against small changes of a home of three days."""

from __future__ import annotations

from datetime import date
from typing import TypeAlias

import pytest

from heatmap_pipeline.instants import DAY, MICROSECONDS, ONE_DAY, day_start
from heatmap_pipeline.store.sql import Connection, rows
from heatmap_pipeline.store.summary import (
    ChainOfDays,
    NewestBook,
    cells_of,
    chains_of_days,
    closes_at,
    newest_books_of,
    recent_closes,
)
from heatmap_pipeline_tests.store.tiny import DAYS, INTERVAL, STEP

BTC = "BTCUSDT"
PAIR = (BTC, "turnover")
FIRST, SECOND, THIRD = DAYS
CANDLE = STEP * MICROSECONDS


@pytest.fixture
def con(rolled_back: Connection) -> Connection:
    """The home; what a test does to it is rolled back."""
    return rolled_back


def chain(con: Connection) -> ChainOfDays:
    return chains_of_days(con, [BTC, "NOSUCHUSDT"])[PAIR]


def newest(con: Connection) -> NewestBook:
    return newest_books_of(con, chains_of_days(con, [BTC]))[PAIR]


Said: TypeAlias = tuple[date, date, date | None, tuple[date, ...], tuple[date, ...], tuple[date, ...]]
"""First, last and complete day, and those that are provisional, missing, broken."""


def said(one: ChainOfDays) -> Said:
    return one.first, one.last, one.complete, one.provisional, one.missing, one.broken


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("", (FIRST, THIRD, THIRD, (), (), ())),
        (f"SET provisional = true WHERE day = '{THIRD}'", (FIRST, THIRD, SECOND, (THIRD,), (), ())),
        ("SET provisional = true", (FIRST, THIRD, None, DAYS, (), ())),
        (f"SET state_hash = 'other' WHERE day = '{SECOND}'", (FIRST, THIRD, THIRD, (), (), (THIRD,))),
        (f"SET previous_hash = 'gone' WHERE day = '{FIRST}'", (FIRST, THIRD, THIRD, (), (), (FIRST,))),
        (f"SET previous_hash = '' WHERE day = '{THIRD}'", (FIRST, THIRD, THIRD, (), (), ())),
        (f"SET day = day + 3 WHERE day = '{THIRD}'",
         (FIRST, THIRD + 3 * ONE_DAY, THIRD + 3 * ONE_DAY, (), (THIRD, THIRD + ONE_DAY, THIRD + 2 * ONE_DAY),
          (THIRD + 3 * ONE_DAY,))),
        (f"SET day = day + 1, previous_hash = '' WHERE day = '{THIRD}'",
         (FIRST, THIRD + ONE_DAY, THIRD + ONE_DAY, (), (THIRD,), ())),
    ],
)  # fmt: skip
def test_days_that_are_missing_broken_or_not_over(con: Connection, change: str, expected: Said) -> None:
    if change:
        con.execute(f"UPDATE heatmap_days {change} AND model = 'turnover'" if "WHERE" in change else
                    f"UPDATE heatmap_days {change} WHERE model = 'turnover'")  # fmt: skip
    assert said(chain(con)) == expected
    assert said(chains_of_days(con, [BTC])[BTC, "delta"]) == (FIRST, THIRD, THIRD, (), (), ())


def test_the_newest_parameters_are_those_of_the_last_day(con: Connection) -> None:
    ((text,),) = rows(con, "SELECT DISTINCT parameters FROM heatmap_days WHERE model = 'turnover'")
    assert (chain(con).parameters, chain(con).newest_parameters) == ((text,), text)
    con.execute(f"UPDATE heatmap_days SET parameters = 'new' WHERE model = 'turnover' AND day = '{THIRD}'")
    assert sorted(chain(con).parameters) == sorted(["new", text])
    assert chain(con).newest_parameters == "new"


def test_the_newest_book_is_that_of_the_last_candle_wherever_that_is(con: Connection) -> None:
    whole = newest(con)
    assert (whole.first, whole.last) == (day_start(FIRST), day_start(THIRD) + DAY - CANDLE)
    ((share,),) = rows(
        con,
        "SELECT avg(located) / any_value(open_interest) FROM book_ledger WHERE model = 'turnover' "
        "AND epoch_us(timestamp) = ?",
        [whole.last],
    )
    assert whole.located_share == pytest.approx(share, rel=1e-12)
    ((close,),) = rows(con, "SELECT close FROM raw_candles WHERE epoch_us(open_time) = ?", [whole.last])
    assert whole.close == close
    # Days without any candle, the first and the last: those between tell.
    con.execute(f"DELETE FROM book_ledger WHERE CAST(timestamp AS DATE) <> '{SECOND}' AND model = 'turnover'")
    second = newest(con)
    assert (second.first, second.last) == (day_start(SECOND), day_start(THIRD) - CANDLE)
    con.execute("DELETE FROM raw_candles WHERE epoch_us(open_time) = ?", [second.last])
    assert newest(con).close is None
    con.execute("DELETE FROM book_ledger WHERE model = 'turnover'")
    assert list(newest_books_of(con, chains_of_days(con, [BTC]))) == [(BTC, "delta")]


def test_closes_are_those_of_the_candles_that_were_asked_for(con: Connection) -> None:
    asked = [day_start(FIRST), day_start(THIRD) + DAY - CANDLE, day_start(THIRD) + DAY]
    found = closes_at(con, {*((BTC, time) for time in asked), ("NOSUCHUSDT", asked[0])})
    expected = rows(con, "SELECT close FROM raw_candles WHERE epoch_us(open_time) IN (?, ?) ORDER BY open_time",
                    asked[:2])  # fmt: skip
    assert found == {(BTC, time): close for time, (close,) in zip(asked[:2], expected, strict=True)}
    assert closes_at(con, []) == {}


def test_recent_closes_are_the_last_of_each_interval_within_what_is_asked_for(con: Connection) -> None:
    """From the first instant on and before the last one, over midnight; an interval without a candle has none."""
    first, end = day_start(SECOND) - 2 * CANDLE, day_start(SECOND) + 3 * CANDLE
    con.execute("DELETE FROM raw_candles WHERE epoch_us(open_time) = ?", [day_start(SECOND) + 2 * CANDLE])
    hour = 3600 * MICROSECONDS
    closes = dict(rows(con, "SELECT epoch_us(open_time), close FROM raw_candles"))
    assert recent_closes(con, [(BTC, first, end)], 3600) == {
        BTC: [(first, closes[first + CANDLE]), (first + hour, closes[first + hour + CANDLE])]
    }
    assert recent_closes(con, [(BTC, first + CANDLE, first + hour + CANDLE)], 3600) == {
        BTC: [(first, closes[first + CANDLE]), (first + hour, closes[first + hour])]
    }
    assert recent_closes(con, [("NOSUCHUSDT", first, end)], 3600) == recent_closes(con, [], 3600) == {}


def test_cells_begin_on_the_first_day_that_has_some_and_have_the_newest_interval(con: Connection) -> None:
    assert cells_of(con, [BTC, "NOSUCHUSDT"]) == {(BTC, model): (FIRST, INTERVAL) for model in ("turnover", "delta")}
    con.execute(f"DELETE FROM snapshot_days WHERE day = '{FIRST}'")
    con.execute(f"UPDATE snapshot_days SET interval_seconds = 900 WHERE day = '{THIRD}'")
    assert cells_of(con, [BTC]) == {(BTC, model): (SECOND, 900) for model in ("turnover", "delta")}
