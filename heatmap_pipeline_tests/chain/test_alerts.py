"""Rules shown a computed home, day after day: what they tell is what the tables say, and each thing once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from heatmap_pipeline.alert_rules import CascadeRule, NearRule, Rule, ZoneRule
from heatmap_pipeline.chain.alerts import watch_symbol
from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import alerts as stored
from heatmap_pipeline.store.alerts import StoredAlert, last_alerts, load_watches
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.data import load_version
from heatmap_pipeline.views.replay import Books, Source, replay
from heatmap_pipeline.views.window import make_window
from heatmap_pipeline.views.zones import zones_of_window
from heatmap_pipeline_tests._once import copied_once
from heatmap_pipeline_tests.api.homes import BTC, compute, day, rows, settings_of

LAST = 9
HOUR = 3600 * MICROSECONDS
NEAR = NearRule(name="near", when="near", within_percent=1.0, volume=1e6)
COMES_AND_GOES = ZoneRule(name="zone", when="zone", volume=2e6, within_percent=9.0)
CASCADE = CascadeRule(name="cascade", when="cascade", times=1.5)
RULES: tuple[Rule, ...] = (NEAR, COMES_AND_GOES, CASCADE)


def quarters(home: Path) -> Settings:
    return settings_of(home, models=("turnover",), snapshot_interval="15m")


def look(settings: Settings, rules: Sequence[Rule] = RULES) -> list[StoredAlert]:
    return watch_symbol(partial(Warehouse(settings.home).connect, BTC), BTC, settings.models, rules)


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Eight days, of which the rules have seen the end; then the ninth, which they have seen too."""

    def make(home: Path) -> None:
        settings = quarters(home)
        compute(settings, BTC, [day(number) for number in range(1, LAST)])
        assert {alert.kind for alert in look(settings)} <= {"near"}, "at the first look nothing has happened yet"
        compute(settings, BTC, [day(LAST)])
        look(settings)
        publish(Warehouse(home), [BTC])

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HEATMAP_")]:
            patch.delenv(name)
        return quarters(copied_once(tmp_path_factory, "alerts", make))


@pytest.fixture(scope="module")
def told(looked: Settings) -> list[StoredAlert]:
    """What was told of the last day, oldest first."""
    with Warehouse(looked.home).read() as con:
        return last_alerts(con, BTC, 1000, day_start(day(LAST)) + 1)[::-1]


def test_what_is_told_is_published_and_each_thing_once(looked: Settings, told: list[StoredAlert]) -> None:
    assert {alert.kind for alert in told} == {"near", "appears", "consumed", "cascade"}
    assert len(set(told)) == len(told)
    assert all(alert.at % (900 * MICROSECONDS) == 0 for alert in told)
    assert [alert.at for alert in told] == sorted(alert.at for alert in told)
    with Warehouse(looked.home).connect(BTC) as con:
        assert last_alerts(con, None, 3) == told[::-1][:3]
        assert {watch.evaluated for watch in load_watches(con, BTC).values()} == {day_start(day(LAST)) + DAY}
    # What rules remember stays at home.
    assert rows(looked, "SELECT count(*) FROM alert_watches") == [(0,)]


@pytest.mark.parametrize(
    ("lost", "of_day"),
    [("snapshot_days", "day"), ("liquidation_snapshots", "timestamp"), ("raw_candles", "open_time")],
)
def test_rules_wait_for_cells_and_candles_that_are_not_stored(
    looked: Settings, tmp_path: Path, lost: str, of_day: str
) -> None:
    shutil.copytree(looked.home, tmp_path / "home")
    settings = quarters(tmp_path / "home")
    warehouse = Warehouse(settings.home)
    with warehouse.connect(BTC) as con:
        con.execute(f"DELETE FROM {lost} WHERE {of_day} >= ?", [day(LAST)])
        watches, alerts = load_watches(con, BTC), last_alerts(con, BTC, 1000)
    look(settings)
    with warehouse.connect(BTC) as con:
        assert {name: watch.evaluated for name, watch in load_watches(con, BTC).items()} == {
            name: watch.evaluated for name, watch in watches.items()
        }
        assert last_alerts(con, BTC, 1000) == alerts
        con.execute("DELETE FROM alert_watches")
    look(settings)  # a first look
    with warehouse.connect(BTC) as con:
        assert all(watch.evaluated for watch in load_watches(con, BTC).values())


def test_zones_are_those_that_views_find_and_prices_those_of_the_candles(
    looked: Settings, told: list[StoredAlert]
) -> None:
    with Warehouse(looked.home).read() as con:
        version = load_version(con, looked.models)
        symbol = version.data(BTC)
        source = Source(version, symbol, symbol.models["turnover"], None, Books(1 << 20))
        first = day_start(day(LAST))
        window = make_window(BTC, source.model.begin, source.model.end, 900, first - DAY, first + DAY)
        zones = zones_of_window(source, window, replay(source, window.first, window.last, 900)).zones
    for alert in told:
        begin = alert.at - 900 * MICROSECONDS
        ((close, low, high),) = rows(
            looked,
            "SELECT arg_max(close, open_time), min(low), max(high) FROM raw_candles "
            "WHERE epoch_us(open_time) >= ? AND epoch_us(open_time) < ?",
            begin,
            alert.at,
        )
        assert alert.price == close
        if alert.kind in {"near", "appears"}:
            there = zones.of((begin - window.first) // window.step)
            (zone,) = [
                zone for zone in there if (zone.side, zone.low, zone.high) == (alert.side, alert.low, alert.high)
            ]
            assert zone.volume == pytest.approx(alert.volume, rel=1e-9)
        if alert.kind == "consumed":
            assert alert.peak is not None
            assert high >= alert.peak if alert.side == "short" else low <= alert.peak
        if alert.kind == "near":
            assert alert.low is not None
            assert alert.high is not None
            assert max(alert.low - close, close - alert.high) <= 0.01 * close


def test_a_cascade_is_more_than_so_many_times_the_median_of_its_hour(looked: Settings, told: list[StoredAlert]) -> None:
    """Against SQL: the hours of eight days, of which the first is not whole, and the last one's until then."""
    cascades = [alert for alert in told if alert.kind == "cascade"]
    assert cascades
    ((begin,),) = rows(looked, "SELECT min(epoch_us(timestamp)) FROM book_ledger")
    for alert in cascades:
        start = (alert.at - 1) // HOUR * HOUR
        ((volume, usual),) = rows(
            looked,
            """
            WITH hours AS (
                SELECT epoch_us(timestamp) // 3600000000 * 3600000000 AS hour, sum(volume) AS volume
                FROM position_events WHERE event_type = 'liquidate' AND side = $1 AND timestamp < make_timestamp($2)
                GROUP BY ALL
            ), every AS (
                SELECT h AS hour, coalesce(volume, 0) AS volume
                FROM range($4, $3 + 1, 3600000000) AS t(h) LEFT JOIN hours ON hours.hour = h
            )
            SELECT max(volume) FILTER (WHERE hour = $3), greatest(
                median(volume) FILTER (WHERE hour < $3 AND hour % 86400000000 = $3 % 86400000000),
                median(volume) FILTER (WHERE hour < $3)
            ) FROM every
            """,
            alert.side,
            alert.at,
            start,
            -(-begin // HOUR) * HOUR,
        )
        assert alert.volume == pytest.approx(volume, rel=1e-9)
        assert volume > 1.5 * usual > 0
        assert f"{volume / usual:.1f} times the usual" in alert.words
        assert (alert.low, alert.high, alert.peak) == (None, None, None)


def test_within_the_day_the_interval_going_on_is_looked_at_as_far_as_it_goes(
    looked: Settings, told: list[StoredAlert], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after intraday runs at 23:30, 23:50, 23:55 and midnight: each sees what there is, nothing is told twice."""
    home = shutil.copytree(looked.home, tmp_path / "home")
    settings = quarters(home)
    midnight = day_start(day(LAST)) + DAY
    look(settings, ())
    shown = []
    for minutes in (30, 10, 5, 0):
        monkeypatch.setattr(stored, "newest_end", lambda *_, end=midnight - minutes * 60 * MICROSECONDS: end)
        look(settings)
        with Warehouse(home).connect(BTC) as con:
            shown += [watch.evaluated for watch in load_watches(con, BTC).values()]
    ends = [midnight - minutes * 60 * MICROSECONDS for minutes in (30, 10, 5, 0)]
    assert shown == [end for end in ends for _ in RULES]
    with Warehouse(home).connect(BTC) as con:
        fresh = [alert for alert in last_alerts(con, BTC, 1000, ends[0] + 1) if alert not in told]
    assert len({(alert.rule, alert.kind, alert.side, alert.low) for alert in fresh}) == len(fresh)
    closes = dict(rows(looked, "SELECT epoch_us(open_time) + 300000000, close FROM raw_candles"))
    assert all(alert.price == closes[alert.at] for alert in fresh)


def test_looking_again_tells_nothing_new(looked: Settings, told: list[StoredAlert]) -> None:
    again = look(looked)
    assert again[-len(told) :] == told
    with Warehouse(looked.home).connect(BTC) as con:
        assert len(last_alerts(con, BTC, 1000)) == len(again)


def test_a_rule_that_was_changed_looks_anew_and_one_that_is_gone_is_forgotten(looked: Settings) -> None:
    before = look(looked)
    near = NEAR.model_copy(update={"volume": 2e6})
    other = CASCADE.model_copy(update={"symbols": ("ETHUSDT",), "name": "other"})
    after = look(looked, (near, COMES_AND_GOES, other))
    fresh = after[len(before) :]
    assert {alert.at for alert in fresh} <= {day_start(day(LAST)) + DAY}, "the newest instant only"
    assert {alert.rule for alert in fresh} <= {"near"}
    with Warehouse(looked.home).connect(BTC) as con:
        assert set(load_watches(con, BTC)) == {"near", "zone"}
    look(looked, ())
    with Warehouse(looked.home).connect(BTC) as con:
        assert load_watches(con, BTC) == {}


def test_a_symbol_without_anything_computed_is_left_alone(tmp_path: Path) -> None:
    settings = quarters(tmp_path)
    with Warehouse(tmp_path).connect(BTC) as con:
        assert last_alerts(con, BTC, 10) == []
    assert look(settings) == []
