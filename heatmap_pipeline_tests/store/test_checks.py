"""Each rule passes on good tables and fails on the fault it is there for."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest

from heatmap_pipeline.store import checks
from heatmap_pipeline.store.checks import Check, CheckReport
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline_tests.store.tiny import DAYS, INTERVAL, MODELS_USED, STEP

CHECKS: dict[str, Check] = {
    name: check
    for name, check in inspect.getmembers(checks, inspect.isfunction)
    if check.__module__ == checks.__name__ and not name.startswith("_")
}
"""Every rule there is: one that is added has to have a fault below."""

_ANY = "rowid = (SELECT min(rowid) FROM {table} WHERE model = 'turnover' AND {condition})"


@pytest.fixture
def con(rolled_back: Connection) -> Connection:
    """The good tables; what a test does to them is rolled back."""
    return rolled_back


def _check(con: Connection, name: str, model: str = "turnover") -> CheckReport:
    return CHECKS[name](con, "BTCUSDT", model, DAYS[0], DAYS[-1])


@pytest.mark.parametrize("model", MODELS_USED)
@pytest.mark.parametrize("name", list(CHECKS))
def test_good_tables_pass(con: Connection, name: str, model: str) -> None:
    report = _check(con, name, model)
    assert report.passed, report
    assert report.description.endswith("holds")
    for day in DAYS:
        assert CHECKS[name](con, "BTCUSDT", model, day, day).passed


def test_the_good_tables_are_worth_checking(con: Connection) -> None:
    for model in MODELS_USED:
        deaths: dict[str, Any] = dict(_check(con, "levels_consumed", model).numbers)
        assert _check(con, "ledger_conserves", model).numbers["rows"] == 3 * 86_400 // STEP * (
            2 if model == "turnover" else 1
        )
        assert deaths["liquidations"] >= 20
        assert deaths["lots"] > 50
        assert _check(con, "cells_add_up", model).numbers["sums"] == 3 * 86_400 // INTERVAL * (
            2 if model == "turnover" else 1
        )


_MIDDAY = f"'{DAYS[1]} 12:00:00'"


def _reached_but_not_passed(side: str) -> str:
    """Say of a lot of an earlier candle, which price reached with a wick only, that it opened in that very candle."""
    wick = "e.liq_price < c.close" if side == "long" else "e.liq_price > c.close"
    return (
        "UPDATE position_events SET opened_at = timestamp WHERE rowid = (SELECT min(e.rowid) FROM position_events AS e "
        "JOIN raw_candles AS c ON c.open_time = e.timestamp AND c.symbol = e.symbol WHERE e.model = 'turnover' "
        f"AND e.event_type = 'liquidate' AND e.side = '{side}' AND e.opened_at < e.timestamp AND {wick})"
    )


_FAULTS = {
    "low above close": ("candles_valid", f"UPDATE raw_candles SET low = high WHERE open_time = {_MIDDAY}"),
    "high below open": ("candles_valid", f"UPDATE raw_candles SET high = low WHERE open_time = {_MIDDAY}"),
    "negative price": ("candles_valid", f"UPDATE raw_candles SET low = -1 WHERE open_time = {_MIDDAY}"),
    "price not a number": ("candles_valid", f"UPDATE raw_candles SET high = 'nan' WHERE open_time = {_MIDDAY}"),
    "negative volume": ("candles_valid", f"UPDATE raw_candles SET volume = -1 WHERE open_time = {_MIDDAY}"),
    "infinite volume": ("candles_valid", f"UPDATE raw_candles SET volume = 'inf' WHERE open_time = {_MIDDAY}"),
    "off the grid": (
        "candles_valid",
        f"UPDATE raw_candles SET open_time = open_time + INTERVAL 7 SECOND WHERE open_time = {_MIDDAY}",
    ),
    "candle of another day": ("candles_valid", f"UPDATE raw_candles SET day = day + 1 WHERE open_time = {_MIDDAY}"),
    "candle twice": (
        "candles_valid",
        f"INSERT INTO raw_candles SELECT * FROM raw_candles WHERE open_time = {_MIDDAY}",
    ),
    "candle missing": ("candles_complete", f"DELETE FROM raw_candles WHERE open_time = {_MIDDAY}"),
    "contracts zero": (
        "open_interest_valid",
        f"UPDATE raw_open_interest SET contracts = 0 WHERE snapshot_time = {_MIDDAY}",
    ),
    "contracts not a number": (
        "open_interest_valid",
        f"UPDATE raw_open_interest SET contracts = 'nan' WHERE snapshot_time = {_MIDDAY}",
    ),
    "negative value": (
        "open_interest_valid",
        f"UPDATE raw_open_interest SET value = -1 WHERE snapshot_time = {_MIDDAY}",
    ),
    "sample of another day": (
        "open_interest_valid",
        f"UPDATE raw_open_interest SET day = day + 1 WHERE snapshot_time = {_MIDDAY}",
    ),
    "sample twice": (
        "open_interest_valid",
        f"INSERT INTO raw_open_interest SELECT * FROM raw_open_interest WHERE snapshot_time = {_MIDDAY}",
    ),
    "day held": ("open_interest_complete", f"DELETE FROM raw_open_interest WHERE day = '{DAYS[1]}'"),
    "contracts lost": ("ledger_conserves", f"UPDATE book_ledger SET opened = opened + 1 WHERE timestamp = {_MIDDAY}"),
    "ledger row missing": ("ledger_conserves", f"DELETE FROM book_ledger WHERE timestamp = {_MIDDAY}"),
    "contracts lost at midnight": (
        "ledger_conserves",
        f"UPDATE book_ledger SET closed = closed + 0.001 WHERE timestamp = '{DAYS[2]} 00:00:00'",
    ),
    "contracts lost at the start": (
        "ledger_conserves",
        f"UPDATE book_ledger SET closed = closed + 0.001 WHERE timestamp = '{DAYS[0]} 00:00:00'",
    ),
    "total not a number": ("ledger_conserves", f"UPDATE book_ledger SET located = 'nan' WHERE timestamp = {_MIDDAY}"),
    "total off": (
        "totals_equal_open_interest",
        f"UPDATE book_ledger SET unlocated = unlocated * (1 + 1e-8) WHERE timestamp = {_MIDDAY}",
    ),
    "lot of an earlier day in reach": (
        "levels_consumed",
        f"UPDATE open_positions SET opened_at = '{DAYS[0]} 00:00:00', liq_price = (SELECT min(low) FROM raw_candles "
        f"WHERE day = '{DAYS[2]}') WHERE "
        + _ANY.format(table="open_positions", condition=f"side = 'long' AND day = '{DAYS[2]}'"),
    ),
    "lot of the same day in reach": (
        "levels_consumed",
        f"UPDATE open_positions SET opened_at = '{DAYS[2]} 12:00:00', liq_price = (SELECT max(high) FROM raw_candles "
        f"WHERE open_time > '{DAYS[2]} 12:00:00') WHERE "
        + _ANY.format(table="open_positions", condition=f"side = 'short' AND day = '{DAYS[2]}'"),
    ),
    "lot from no candle": (
        "levels_consumed",
        f"UPDATE open_positions SET opened_at = '{DAYS[2]} 12:00:01' WHERE "
        + _ANY.format(table="open_positions", condition=f"day = '{DAYS[2]}'"),
    ),
    "long liquidated too low": (
        "levels_consumed",
        "UPDATE position_events SET liq_price = 1 WHERE "
        + _ANY.format(table="position_events", condition="event_type = 'liquidate' AND side = 'long'"),
    ),
    "short liquidated too high": (
        "levels_consumed",
        "UPDATE position_events SET liq_price = 1e6 WHERE "
        + _ANY.format(table="position_events", condition="event_type = 'liquidate' AND side = 'short'"),
    ),
    "liquidated before it opened": (
        "levels_consumed",
        "UPDATE position_events SET opened_at = timestamp + INTERVAL 1 SECOND WHERE "
        + _ANY.format(table="position_events", condition="event_type = 'liquidate'"),
    ),
    "long at once that the low reached and the close did not": ("levels_consumed", _reached_but_not_passed("long")),
    "short at once that the high reached and the close did not": ("levels_consumed", _reached_but_not_passed("short")),
    "rescaled not a number": (
        "quantities_valid",
        "UPDATE book_ledger SET rescaled = 'nan' WHERE " + _ANY.format(table="book_ledger", condition="true"),
    ),
    "passed at once below 0": (
        "quantities_valid",
        "UPDATE book_ledger SET liquidated_at_once = -1 WHERE " + _ANY.format(table="book_ledger", condition="true"),
    ),
    "contracts made by a level": (
        "ledger_conserves",
        f"UPDATE book_ledger SET rescaled = -0.001 WHERE timestamp = {_MIDDAY}",
    ),
    "cell lost": (
        "cells_add_up",
        "DELETE FROM liquidation_snapshots WHERE "
        + _ANY.format(table="liquidation_snapshots", condition="active_volume > 1"),
    ),
    "consumed too much": (
        "cells_add_up",
        "UPDATE liquidation_snapshots SET consumed_volume = consumed_volume * 1.001 WHERE "
        + _ANY.format(table="liquidation_snapshots", condition="consumed_volume > 1"),
    ),
    "cells of no candle": (
        "cells_add_up",
        "UPDATE liquidation_snapshots SET timestamp = timestamp + INTERVAL 1 SECOND WHERE "
        + _ANY.format(table="liquidation_snapshots", condition="active_volume > 1"),
    ),
    "cell twice": (
        "cells_unique",
        "INSERT INTO liquidation_snapshots SELECT * FROM liquidation_snapshots WHERE model = 'turnover' LIMIT 1",
    ),
    "ledger row twice": (
        "cells_unique",
        "INSERT INTO book_ledger SELECT * FROM book_ledger WHERE model = 'turnover' LIMIT 1",
    ),
    "lot twice": ("cells_unique", "INSERT INTO open_positions SELECT * FROM open_positions LIMIT 1"),
    "negative active": (
        "quantities_valid",
        "UPDATE liquidation_snapshots SET active_volume = -1e-9 WHERE "
        + _ANY.format(table="liquidation_snapshots", condition="true"),
    ),
    "located not a number": (
        "quantities_valid",
        "UPDATE book_ledger SET located = 'nan' WHERE " + _ANY.format(table="book_ledger", condition="true"),
    ),
    "infinite lot": (
        "quantities_valid",
        "UPDATE open_positions SET volume = 'inf' WHERE " + _ANY.format(table="open_positions", condition="true"),
    ),
    "negative event": (
        "quantities_valid",
        "UPDATE position_events SET quantity = -1 WHERE "
        + _ANY.format(table="position_events", condition="event_type = 'close'"),
    ),
    "day twice": (
        "days_unique",
        f"INSERT INTO heatmap_days SELECT * FROM heatmap_days WHERE day = '{DAYS[2]}' AND model = 'turnover'",
    ),
    "cells of an older state": (
        "snapshots_current",
        f"UPDATE snapshot_days SET state_hash = 'x' WHERE day = '{DAYS[1]}'",
    ),
    "no cells": ("snapshots_current", f"DELETE FROM snapshot_days WHERE day = '{DAYS[1]}'"),
}


def test_what_a_level_shift_takes_away_is_no_fault(con: Connection) -> None:
    con.execute(f"UPDATE book_ledger SET rescaled = -1, opened = opened + 1 WHERE timestamp = {_MIDDAY}")
    for name in ("quantities_valid", "ledger_conserves"):
        assert _check(con, name).passed


@pytest.mark.parametrize("fault", list(_FAULTS))
def test_a_planted_fault_fails(con: Connection, fault: str) -> None:
    name, statement = _FAULTS[fault]
    assert con.execute(statement).fetchall()[0][0] > 0
    report = _check(con, name)
    assert not report.passed
    assert "holds" not in report.description
    assert any(isinstance(value, int) and value > 0 for value in report.numbers.values())


def test_dropped_contracts_are_accounted_for(con: Connection) -> None:
    con.execute("UPDATE book_ledger SET opened = opened + 1, dropped = dropped + 1")
    assert _check(con, "ledger_conserves").passed


def test_every_check_has_a_fault() -> None:
    assert {name for name, _ in _FAULTS.values()} == set(CHECKS)


def test_conservation_is_checked_from_the_start_of_a_new_history(con: Connection) -> None:
    """A history that begins anew starts from its own first sample, not from the day before the gap."""
    con.execute(f"DELETE FROM heatmap_days WHERE day = '{DAYS[1]}'")
    con.execute(f"DELETE FROM book_ledger WHERE CAST(timestamp AS DATE) = '{DAYS[1]}'")
    con.execute(f"UPDATE heatmap_days SET previous_hash = '' WHERE day = '{DAYS[2]}'")
    report = _check(con, "ledger_conserves")
    assert report.numbers["candles_that_lose_or_make_contracts"] == 2  # this history did not begin at its first sample
    assert str(report.numbers["first_candle"]).startswith(f"{DAYS[2]}T00:00")


def test_a_day_of_today_may_end_early(con: Connection) -> None:
    con.execute(f"DELETE FROM raw_candles WHERE open_time >= '{DAYS[2]} 12:00:00'")
    assert not _check(con, "candles_complete").passed
    con.execute(f"UPDATE heatmap_days SET provisional = true WHERE day = '{DAYS[2]}'")
    assert _check(con, "candles_complete").passed


def test_a_candle_may_open_and_close_at_its_low_and_high(con: Connection) -> None:
    con.execute("UPDATE raw_candles SET low = least(open, close), high = greatest(open, close), volume = 0")
    assert _check(con, "candles_valid").passed


@pytest.mark.parametrize(("side", "edge"), [("long", "low"), ("short", "high")])
def test_a_price_that_touches_a_lot_liquidates_it(con: Connection, side: str, edge: str) -> None:
    """Of an earlier candle by a wick, of the same one by its close; 1e-8 beyond is too far."""
    change = (
        "UPDATE position_events AS e SET liq_price = {price} FROM raw_candles AS c WHERE c.open_time = e.timestamp "
    )
    change += f"AND e.event_type = 'liquidate' AND e.side = '{side}' AND e.opened_at {{when}} e.timestamp"
    for when, price in (("<", edge), ("=", "close")):
        assert con.execute(change.format(when=when, price=f"c.{price}")).fetchall()[0][0] > 0
        assert _check(con, "levels_consumed").passed
    beyond = "-" if side == "long" else "+"
    con.execute(change.format(when="<", price=f"c.{edge} {beyond} 1e-8"))
    assert not _check(con, "levels_consumed").passed


def test_a_day_that_is_not_computed_yet_may_lack_candles_all_the_same(con: Connection) -> None:
    con.execute(f"DELETE FROM raw_candles WHERE open_time = {_MIDDAY}")
    con.execute("DELETE FROM heatmap_days")
    assert _check(con, "candles_complete").numbers["missing_candles"] == 1


def test_an_empty_range_has_nothing_wrong(con: Connection) -> None:
    later = DAYS[-1] + timedelta(days=40)
    for name, check in CHECKS.items():
        assert check(con, "BTCUSDT", "turnover", later, later).passed, name
        assert check(con, "NOSUCH", "turnover", later, later).passed, name
