"""What must hold of the stored tables: one function per rule, each over a range of days of one symbol and model.

What belongs here: the rules of the model (docs/model.md, section 5) and of the data, as queries. What does not: what
happens when one fails (`orchestration/`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, TypeAlias

import numpy as np

from heatmap_pipeline.model.book import Ints
from heatmap_pipeline.model.parameters import BOOK_RULES
from heatmap_pipeline.store.schema import amounts, symbol_tables
from heatmap_pipeline.store.sql import Connection, arrow, column, day_bounds, micros, rows, scalar, side_column

Numbers: TypeAlias = dict[str, int | float | str]

_MAY_BE_NEGATIVE = frozenset({"rescaled"})
"""Columns of contracts that say which way they went."""


@dataclass(frozen=True)
class CheckReport:
    """Whether a rule holds, a sentence for people, and the numbers behind it."""

    passed: bool
    description: str
    numbers: Numbers = field(default_factory=dict)


Check: TypeAlias = Callable[[Connection, str, str, date, date], CheckReport]
"""(connection, symbol, model, first day, last day) -> report; both days included."""


def _report(rule: str, counts: Mapping[str, int], **numbers: int | float | str) -> CheckReport:
    """Return a report that fails where any of the counted faults occurs, and names those that do."""
    faults = {name: int(count or 0) for name, count in counts.items()}
    counted = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in faults.items() if count)
    return CheckReport(not counted, f"{rule}: {counted or 'holds'}", {**faults, **numbers})


def _counts(con: Connection, query: str, parameters: list[Any]) -> dict[str, int]:
    table = arrow(con, query, parameters)
    return {name: int(table.column(name)[0].as_py() or 0) for name in table.column_names}


def candles_valid(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """Each candle once, on the grid, in its day; prices positive, within low and high; volume finite, not negative."""
    counts = _counts(
        con,
        """
        WITH c AS (
            SELECT r.*, d.step_seconds AS step FROM raw_candles AS r
            LEFT JOIN raw_days AS d ON d.symbol = r.symbol AND d.day = r.day AND d.kind = 'candles'
            WHERE r.symbol = ? AND r.day BETWEEN ? AND ?
        )
        SELECT count(*) AS candles,
            count(*) FILTER (WHERE low > least(open, close) OR high < greatest(open, close)) AS outside_low_and_high,
            count(*) FILTER (WHERE NOT (isfinite(open) AND isfinite(high) AND isfinite(low) AND isfinite(close)
                AND least(open, high, low, close) > 0)) AS prices_not_positive,
            count(*) FILTER (WHERE NOT (isfinite(volume) AND volume >= 0)) AS bad_volumes,
            count(*) FILTER (WHERE step IS NULL OR epoch_us(open_time) % (step * 1000000) <> 0) AS off_grid,
            count(*) FILTER (WHERE CAST(open_time AS DATE) <> day) AS of_another_day,
            count(*) - count(DISTINCT open_time) AS duplicates
        FROM c
        """,
        [symbol, first, last],
    )
    candles = counts.pop("candles")
    return _report("candles", counts, candles=candles)


def candles_complete(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """No candle is missing from a stored day (if it was not over, up to its newest). Information, not a fault."""
    chain = rows(
        con,
        """
        SELECT d.day, coalesce(CASE WHEN coalesce(p.provisional, false)
            THEN (epoch_us(max(c.open_time)) - epoch_us(CAST(d.day AS TIMESTAMP))) // (d.step_seconds * 1000000) + 1
            ELSE 86400 // d.step_seconds END - count(c.open_time), 0) AS missing
        FROM raw_days AS d
        LEFT JOIN raw_candles AS c ON c.symbol = d.symbol AND c.day = d.day
        LEFT JOIN (SELECT day, bool_or(provisional) AS provisional FROM heatmap_days WHERE symbol = ? GROUP BY day) AS p
            ON p.day = d.day
        WHERE d.symbol = ? AND d.kind = 'candles' AND d.day BETWEEN ? AND ?
        GROUP BY d.day, d.step_seconds, p.provisional ORDER BY d.day
        """,
        [symbol, symbol, first, last],
    )
    holes = [(day, missing) for day, missing in chain if missing > 0]
    numbers: Numbers = {"days": len(chain)}
    if holes:
        numbers["first_day_with_holes"] = str(holes[0][0])
    return _report("completeness", {"missing_candles": sum(missing for _, missing in holes)}, **numbers)


def open_interest_valid(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """Each sample once per day, positive, taken within its day or at the midnight that ends it."""
    counts = _counts(
        con,
        """
        WITH o AS (
            SELECT r.*, d.step_seconds AS step FROM raw_open_interest AS r
            LEFT JOIN raw_days AS d ON d.symbol = r.symbol AND d.day = r.day AND d.kind = 'open_interest'
            WHERE r.symbol = ? AND r.day BETWEEN ? AND ?
        )
        SELECT count(*) AS samples,
            count(*) FILTER (WHERE NOT (isfinite(contracts) AND contracts > 0)) AS not_positive,
            count(*) FILTER (WHERE value IS NOT NULL AND NOT (isfinite(value) AND value >= 0)) AS bad_values,
            count(*) FILTER (WHERE snapshot_time < day OR step IS NULL
                OR snapshot_time > day + INTERVAL 1 DAY + to_seconds(step)) AS of_another_day,
            count(*) - count(DISTINCT (day, snapshot_time)) AS duplicates
        FROM o
        """,
        [symbol, first, last],
    )
    samples = counts.pop("samples")
    return _report("open interest", counts, samples=samples)


def open_interest_complete(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """No day of candles is without samples (it would be held, flow 0). Information, not a fault."""
    days_held = rows(
        con,
        "SELECT DISTINCT c.day FROM raw_days AS c WHERE c.symbol = ? AND c.kind = 'candles' AND c.day BETWEEN ? AND ? "
        "AND NOT EXISTS (SELECT 1 FROM raw_open_interest AS o WHERE o.symbol = c.symbol AND o.day = c.day "
        "AND o.day BETWEEN ? AND ?) ORDER BY 1",
        [symbol, first, last, first, last],
    )
    numbers: Numbers = {"first_held_day": str(days_held[0][0])} if days_held else {}
    return _report("open interest", {"days_held": len(days_held)}, **numbers)


def ledger_conserves(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """Per candle and book: total = previous - liquidated - closed + opened - dropped + rescaled, from the start on."""
    days = rows(
        con,
        "SELECT day, previous_hash, parameters FROM heatmap_days "
        "WHERE symbol = ? AND model = ? AND day <= ? ORDER BY day",
        [symbol, model, last],
    )
    starts = {day: parameters for day, previous_hash, parameters in days if not previous_hash}
    from_day = max([day for day in starts if day <= first], default=first)
    # Only the last candle before the range is needed from before it, unless the history begins in between.
    start, end = day_bounds(first, last)
    table = arrow(
        con,
        """
        SELECT timestamp, side, located + unlocated AS total,
            opened - liquidated - closed - dropped + rescaled AS change
        FROM book_ledger WHERE symbol = ? AND model = ? AND timestamp < ? AND timestamp >= coalesce(
            (SELECT max(timestamp) FROM book_ledger
             WHERE symbol = ? AND model = ? AND timestamp >= ? AND timestamp < ?), ?)
        ORDER BY side NULLS FIRST, timestamp
        """,
        [symbol, model, end, symbol, model, day_bounds(from_day)[0], start, start],
    )
    time, total = column(table, "timestamp", np.int64), column(table, "total", np.float64)
    book = _book_codes(table)
    previous = np.concatenate(([np.nan], total))[:-1]
    previous[np.flatnonzero(np.diff(book, prepend=-9))] = np.nan  # the first row of each book
    for start_day, parameters in starts.items():
        opens_with = _opening_total(con, symbol, start_day, parameters)
        for code in np.unique(book):
            at = np.flatnonzero((book == code) & (time >= micros(day_bounds(start_day)[0])))
            if len(at) and start_day >= from_day:
                previous[at[0]] = opens_with
    known = np.isfinite(previous) & (time >= micros(start))
    change = column(table, "change", np.float64)
    error = np.abs(total - (previous + change))[known]
    allowed = 1e-9 * np.maximum(previous, total)[known] + 1e-9
    bad = ~(error <= allowed)
    numbers: Numbers = {"rows": int(known.sum()), "worst_contracts": float(error[np.isfinite(error)].max(initial=0.0))}
    if bad.any():
        numbers["first_candle"] = str(time[known][bad].min().astype("datetime64[us]"))
    return _report("conservation", {"candles_that_lose_or_make_contracts": int(bad.sum())}, **numbers)


def _book_codes(table: Any) -> Ints:
    """Return +1, -1, or 0 where a book holds both sides."""
    blank = table.column("side").is_null().to_numpy()
    return np.where(blank, 0, side_column(table)).astype(np.int64)


def _opening_total(con: Connection, symbol: str, day: date, parameters: str) -> float:
    """Return what is in a book before the first candle of a history, contracts."""
    if not BOOK_RULES[json.loads(parameters)["books"]].holds_open_interest:
        return 0.0
    shares = rows(
        con,
        "SELECT contracts FROM raw_open_interest WHERE symbol = ? AND day = ? ORDER BY snapshot_time LIMIT 1",
        [symbol, day],
    )
    return float(shares[0][0]) if shares else float("nan")


def totals_equal_open_interest(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """Where each book holds the whole open interest, located + unlocated is the open interest after every candle."""
    start, end = day_bounds(first, last)
    counts = _counts(
        con,
        """
        SELECT count(*) AS candles, count(*) FILTER (WHERE NOT (abs(located + unlocated - open_interest)
            <= 1e-9 * open_interest)) AS totals_off
        FROM book_ledger WHERE symbol = ? AND model = ? AND side IS NOT NULL AND timestamp >= ? AND timestamp < ?
        """,
        [symbol, model, start, end],
    )
    return _report("total = open interest", {"totals_off": counts["totals_off"]}, rows=counts["candles"])


def levels_consumed(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """No lot lies within the reach of a later candle, each liquidated one was reached by its candle or by its close."""
    survivors = _counts(
        con,
        """
        WITH c AS (
            SELECT day, open_time,  -- prices as the model compares them: whole numbers of 1e-8
                min(low) OVER later AS low, max(high) OVER later AS high,
                min(low) OVER whole AS day_low, max(high) OVER whole AS day_high
            FROM (SELECT day, open_time, round(low * 1e8) AS low, round(high * 1e8) AS high
                FROM raw_candles WHERE symbol = ? AND day BETWEEN ? AND ?)
            WINDOW whole AS (PARTITION BY day),
                later AS (PARTITION BY day ORDER BY open_time ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING)
        ), p AS (
            SELECT o.day, o.side, round(o.liq_price * 1e8) AS liq_price,
                greatest(o.opened_at, CAST(o.day AS TIMESTAMP)) AS since,
                o.opened_at < CAST(o.day AS TIMESTAMP) AS before
            FROM open_positions AS o WHERE o.symbol = ? AND o.model = ? AND o.day BETWEEN ? AND ?
        ), days AS (SELECT day, any_value(day_low) AS low, any_value(day_high) AS high FROM c GROUP BY day)
        SELECT count(*) AS lots, count(*) FILTER (WHERE CASE
            WHEN p.before THEN (p.side = 'long' AND p.liq_price >= days.low)
                OR (p.side = 'short' AND p.liq_price <= days.high)
            WHEN c.open_time IS NULL THEN true
            ELSE (p.side = 'long' AND p.liq_price >= c.low) OR (p.side = 'short' AND p.liq_price <= c.high)
            END) AS lots_left_within_reach
        FROM p LEFT JOIN days ON days.day = p.day LEFT JOIN c ON c.day = p.day AND c.open_time = p.since
        """,
        [symbol, first, last, symbol, model, first, last],
    )
    start, end = day_bounds(first, last)
    deaths = _counts(
        con,
        """
        SELECT count(*) AS liquidations, count(*) FILTER (WHERE e.opened_at > e.timestamp OR c.low IS NULL
            OR (e.side = 'long' AND round(e.liq_price * 1e8)
                < round(1e8 * CASE WHEN e.opened_at = e.timestamp THEN c.close ELSE c.low END))
            OR (e.side = 'short' AND round(e.liq_price * 1e8)
                > round(1e8 * CASE WHEN e.opened_at = e.timestamp THEN c.close ELSE c.high END)))
            AS liquidations_out_of_reach
        FROM position_events AS e LEFT JOIN raw_candles AS c
            ON c.symbol = e.symbol AND c.open_time = e.timestamp AND c.day BETWEEN ? AND ?
        WHERE e.symbol = ? AND e.model = ? AND e.event_type = 'liquidate' AND e.timestamp >= ? AND e.timestamp < ?
        """,
        [first, last, symbol, model, start, end],
    )
    return _report(
        "consumption",
        {
            "lots_left_within_reach": survivors["lots_left_within_reach"],
            "liquidations_out_of_reach": deaths["liquidations_out_of_reach"],
        },
        lots=survivors["lots"],
        liquidations=deaths["liquidations"],
    )


def cells_add_up(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """Per interval and book, cells sum to the ledger: active at the interval's last candle, consumed over it."""
    start, end = day_bounds(first, last)
    counts = _counts(
        con,
        """
        WITH d AS (SELECT *, interval_seconds * 1000000 AS us FROM snapshot_days),
        l AS (
            SELECT make_timestamp(epoch_us(b.timestamp) // d.us * d.us) AS at, b.side,
                arg_max(b.active_volume, b.timestamp) AS active, sum(b.consumed_volume) AS consumed
            FROM book_ledger AS b JOIN d
                ON d.symbol = b.symbol AND d.model = b.model AND d.day = CAST(b.timestamp AS DATE)
            WHERE b.symbol = ? AND b.model = ? AND b.timestamp >= ? AND b.timestamp < ?
            GROUP BY 1, 2
        ), one AS (SELECT coalesce(bool_and(side IS NULL), false) AS book FROM l),
        s AS (
            SELECT timestamp AS at, CASE WHEN one.book THEN NULL ELSE side END AS side,
                sum(active_volume) AS active, sum(consumed_volume) AS consumed
            FROM liquidation_snapshots, one
            WHERE symbol = ? AND model = ? AND timestamp >= ? AND timestamp < ?
            GROUP BY 1, 2
        ), pairs AS (
            SELECT coalesce(s.active, 0) AS active, coalesce(s.consumed, 0) AS consumed,
                coalesce(l.active, 0) AS ledger_active, coalesce(l.consumed, 0) AS ledger_consumed
            FROM l FULL JOIN s ON l.at = s.at AND l.side IS NOT DISTINCT FROM s.side
        )
        SELECT count(*) AS intervals,
            count(*) FILTER (WHERE NOT (abs(active - ledger_active) <= 1e-9 * ledger_active + 1e-4)) AS active_sums_off,
            count(*) FILTER (WHERE NOT (abs(consumed - ledger_consumed) <= 1e-9 * ledger_consumed + 1e-4))
                AS consumed_sums_off
        FROM pairs
        """,
        [symbol, model, start, end, symbol, model, start, end],
    )
    intervals = counts.pop("intervals")
    return _report("cells = ledger", counts, sums=intervals)


def cells_unique(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """Each timestamp, bucket and side has one cell, each candle and book one row of the ledger, each lot one row."""
    start, end = day_bounds(first, last)
    key = [symbol, model, start, end]
    repeated = 0
    # A few days at a time: a year of cells at once would be a table of millions of groups in memory.
    for n in range(0, (last - first).days + 1, 16):
        begins = first + timedelta(days=n)
        repeated += scalar(
            con,
            "SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM liquidation_snapshots "
            "WHERE symbol = ? AND model = ? AND timestamp >= ? AND timestamp < ? "
            "GROUP BY timestamp, price_bucket, side)",
            [symbol, model, *day_bounds(begins, min(begins + timedelta(days=15), last))],
        )
    counts = {
        "repeated_cells": repeated,
        "repeated_ledger_rows": scalar(
            con,
            "SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM book_ledger WHERE symbol = ? "
            "AND model = ? AND timestamp >= ? AND timestamp < ? GROUP BY timestamp, side)",
            key,
        ),
        "repeated_lots": scalar(
            con,
            "SELECT coalesce(sum(n - 1), 0)::BIGINT FROM (SELECT count(*) AS n FROM open_positions WHERE symbol = ? "
            "AND model = ? AND day BETWEEN ? AND ? GROUP BY day, side, leverage, liq_price)",
            [symbol, model, first, last],
        ),
    }
    return _report("uniqueness", counts)


def quantities_valid(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """Every quantity, volume, price and leverage is finite, and none is negative but what a shift took away."""
    counts = {}
    for table in symbol_tables(private=False):
        # A table of no days, the scores, is no amount of anything: differences and correlations may be negative.
        if "model" not in table.types or table.time_column is None or not (names := amounts(table.name)):
            continue
        # NaN counts as the largest number in DuckDB, so it has to be asked for; isfinite does.
        bad = " OR ".join(
            f"NOT isfinite({name})" + ("" if name in _MAY_BE_NEGATIVE else f" OR {name} < 0") for name in names
        )
        days, bounds = table.within(first, last)
        counts[f"bad_rows_of_{table.name}"] = scalar(
            con,
            f"SELECT count(*) FROM {table.name} WHERE symbol = ? AND model = ? AND {days} AND ({bad})",  # noqa: S608
            [symbol, model, *bounds],
        )
    return _report("quantities", counts)


def days_unique(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """No day is stored twice."""
    counts = {
        f"repeated_rows_of_{table}": scalar(
            con,
            f"SELECT count(*) - count(DISTINCT day) FROM {table} "  # noqa: S608 - a table name of ours
            "WHERE symbol = ? AND model = ? AND day BETWEEN ? AND ?",
            [symbol, model, first, last],
        )
        for table in ("heatmap_days", "snapshot_days", "lot_days")
    }
    return _report("days", counts)


def snapshots_current(con: Connection, symbol: str, model: str, first: date, last: date) -> CheckReport:
    """Every computed day of those whose cells are kept has cells made from the state it has now."""
    days_without = rows(
        con,
        "SELECT h.day FROM heatmap_days AS h WHERE h.symbol = ? AND h.model = ? AND h.day BETWEEN ? AND ? "
        "AND NOT EXISTS (SELECT 1 FROM snapshot_days AS s WHERE s.symbol = h.symbol AND s.model = h.model "
        "AND s.day = h.day AND s.state_hash = h.state_hash) ORDER BY h.day",
        [symbol, model, first, last],
    )
    numbers: Numbers = {"first_day": str(days_without[0][0])} if days_without else {}
    return _report("snapshots", {"days_without_current_snapshots": len(days_without)}, **numbers)
