"""Alerts and what rules remember, in and out of their tables, and what rules are shown of the others."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.model.alerts import Memory, Seen
from heatmap_pipeline.model.zones import Zone
from heatmap_pipeline.store import alerts
from heatmap_pipeline.store.alerts import (
    StoredAlert,
    Watch,
    first_hour,
    last_alerts,
    load_books,
    load_prices,
    load_watches,
    newest_end,
    save_watches,
)
from heatmap_pipeline.store.sql import Connection, rows
from heatmap_pipeline_tests.store.tiny import DAYS, INTERVAL, STEP

BTC, ETH = "BTCUSDT", "ETHUSDT"
HOUR = 3600 * MICROSECONDS
FIRST, SECOND, THIRD = map(day_start, DAYS)
TOLD = StoredAlert(BTC, "turnover", FIRST, "near", "near", "long", 6e4, 5e4, 5.1e4, None, 1e6, "words")


@pytest.fixture
def con(rolled_back: Connection, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """A home without alerts; what a test does to it is rolled back."""
    monkeypatch.setattr(alerts, "transaction", nullcontext)  # that of the test is open
    rolled_back.execute("DELETE FROM alerts")
    rolled_back.execute("DELETE FROM alert_watches")
    return rolled_back


def test_what_a_rule_remembers_comes_back_and_replaces_what_it_did(con: Connection) -> None:
    zone = Zone("short", 102.0, 103.5, 102.5, 102.7, 1e6, 0.25, 0.5)
    first = Watch('{"name": "zone"}', FIRST + 900 * MICROSECONDS, Memory((Seen(zone, FIRST),), frozenset({"long"})))
    save_watches(con, BTC, {"zone": first, "near": Watch("{}", FIRST, Memory())}, [])
    assert load_watches(con, BTC) == {"zone": first, "near": Watch("{}", FIRST, Memory())}
    save_watches(con, ETH, {"zone": Watch("{}", SECOND, Memory())}, [])
    save_watches(con, BTC, {"zone": replace(first, evaluated=SECOND)}, [])
    assert load_watches(con, BTC) == {"zone": replace(first, evaluated=SECOND)}
    assert load_watches(con, ETH) == {"zone": Watch("{}", SECOND, Memory())}


def test_of_each_symbol_the_newest_alerts_are_kept(con: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "KEPT", 3)
    save_watches(con, ETH, {}, [replace(TOLD, symbol=ETH, at=FIRST - DAY)])
    mine = [replace(TOLD, at=FIRST + hour * HOUR, words=f"{hour}") for hour in (4, 1, 2, 3, 3)]
    save_watches(con, BTC, {}, mine[:2])
    assert [alert.words for alert in last_alerts(con, BTC, 9)] == ["4", "1"]
    save_watches(con, BTC, {}, mine[2:])
    assert [alert.words for alert in last_alerts(con, BTC, 9)] == ["4", "3", "3"]
    assert [alert.symbol for alert in last_alerts(con, None, 9)] == [BTC, BTC, BTC, ETH]


def test_the_last_alerts_are_the_newest_first_since_an_instant(con: Connection) -> None:
    told = [replace(TOLD, at=FIRST + hour * HOUR, low=None, peak=1.5, words=f"{hour}") for hour in range(5)]
    save_watches(con, BTC, {}, told)
    assert last_alerts(con, BTC, 9) == told[::-1]
    assert last_alerts(con, BTC, 2) == [told[4], told[3]]
    assert last_alerts(con, BTC, 9, FIRST + 3 * HOUR) == [told[4], told[3]]
    assert last_alerts(con, BTC, 9, FIRST + 3 * HOUR + 1) == [told[4]]
    assert last_alerts(con, ETH, 9) == []


def test_the_newest_candle_ends_after_its_start_and_the_first_whole_hour_begins_after_the_first(
    con: Connection,
) -> None:
    assert newest_end(con, BTC, "turnover") == THIRD + DAY
    assert newest_end(con, BTC, "nosuch") is None
    assert first_hour(con, BTC, "turnover") == FIRST
    con.execute("DELETE FROM book_ledger WHERE epoch_us(timestamp) = ? AND model = 'turnover'", [FIRST])
    assert first_hour(con, BTC, "turnover") == FIRST + HOUR, "00:30 begins no whole hour"
    assert first_hour(con, BTC, "delta") == FIRST


def test_books_are_those_of_the_intervals_between_two_instants(con: Connection) -> None:
    """Of those that end after the first and begin before the second, over midnight; one without cells is there too."""
    width = INTERVAL * MICROSECONDS
    con.execute("DELETE FROM liquidation_snapshots WHERE epoch_us(timestamp) = ?", [SECOND])
    books = load_books(con, BTC, "turnover", SECOND - width, SECOND + 2 * width)
    assert sorted(set(books["start"].tolist())) == [SECOND - width, SECOND, SECOND + width]
    assert set(books["interval"].tolist()) == {width}
    assert books["volume"][books["start"] == SECOND].tolist() == [0.0]
    sooner = load_books(con, BTC, "turnover", SECOND - width - 1, SECOND + 2 * width + 1)
    assert sorted(set(sooner["start"].tolist())) == [SECOND + number * width for number in range(-2, 3)]
    ((cells, volume),) = rows(
        con,
        "SELECT count(*), sum(active_volume) FROM liquidation_snapshots WHERE model = 'turnover' "
        "AND epoch_us(timestamp) = ? AND active_volume > 0",
        [SECOND + width],
    )
    of_interval = books["volume"][books["start"] == SECOND + width]
    assert (len(of_interval), of_interval.sum()) == (cells, pytest.approx(volume))


def test_prices_begin_with_the_candle_of_an_instant(con: Connection) -> None:
    last = THIRD + DAY - STEP * MICROSECONDS
    assert load_prices(con, BTC, last)["start"].tolist() == [last]
    assert load_prices(con, BTC, last + 1)["start"].tolist() == []
