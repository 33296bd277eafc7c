"""Real liquidations as they are read for a window: summed without losing any, each source apart, nothing invented."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import pytest

from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.store.columns import Reports, reported_liquidations
from heatmap_pipeline.store.schema import schema_text
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline_tests.store.tiny import FIRST

START = day_start(FIRST)
STEP = 300 * MICROSECONDS


@pytest.fixture
def con() -> Iterator[Connection]:
    """An empty database."""
    with duckdb.connect(":memory:") as con:
        con.execute(schema_text())
        yield con


def put(con: Connection, symbol: str, source: str, *rows: tuple[str, str, float | None, float, float | None]) -> None:
    """Store single liquidations: (time of the first day, side, price, quantity, volume)."""
    for time, *rest in rows:
        con.execute(
            "INSERT INTO raw_liquidations VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, true)",
            [symbol, FIRST, f"{FIRST} {time}", source, *rest],
        )


def put_recorded(con: Connection, symbol: str, source: str, *stretches: tuple[str, str]) -> None:
    for begin, end in stretches:
        con.execute("INSERT INTO recorded VALUES (?, ?, ?, ?, ?)", [symbol, FIRST, source, begin, end])


def read(con: Connection, first: int = START, last: int = START + 2 * DAY) -> list[Reports]:
    return reported_liquidations(con, "BTCUSDT", first, last, STEP)


def table(reports: Reports) -> list[tuple[float, ...]]:
    parts = ((reports.time - START) / STEP, reports.side, reports.price, reports.quantity, reports.volume)
    return [tuple(row) for row in np.stack(parts, axis=1).tolist()]


def test_liquidations_are_summed_by_candle_side_and_what_is_known(con: Connection) -> None:
    put(
        con,
        "BTCUSDT",
        "bybit_stream",
        ("00:04:59.9", "long", 100.0, 1.0, 100.0),
        ("00:00:00", "long", 200.0, 3.0, 600.0),
        ("00:00:01", "long", None, 5.0, None),
        ("00:00:02", "short", 300.0, 7.0, None),
        ("00:05:00", "long", 100.0, 2.0, 200.0),
    )
    put(con, "ETHUSDT", "bybit_stream", ("00:00:00", "long", 1.0, 1.0, 1.0))
    put_recorded(con, "BTCUSDT", "bybit_stream", (f"{FIRST}", f"{FIRST} 12:00"))
    (found,) = read(con)
    assert (found.source, found.complete, found.resolution_seconds) == ("bybit_stream", True, 0)
    rows = table(found)
    assert [row for row in rows if not np.isnan(row).any()] == [(0, 1, 175, 4, 700), (1, 1, 100, 2, 200)]
    assert {row[:2] + row[3:4] for row in rows if np.isnan(row).any()} == {(0, 1, 5), (0, -1, 7)}
    inside = read(con, START + STEP, START + 2 * STEP)[0]
    assert table(inside) == [(1, 1, 100, 2, 200)]
    assert inside.recorded.tolist() == [[START + STEP, START + 2 * STEP]]


def test_what_was_recorded_is_told_also_where_nothing_happened(con: Connection) -> None:
    assert read(con) == []
    day = str(FIRST)
    put_recorded(con, "BTCUSDT", "gate_stats", (f"{day} 06:00", f"{day} 23:00"))
    put_recorded(con, "BTCUSDT", "gate_stats", (f"{day} 23:00", f"{day} 23:30"), (f"{day} 23:45", f"{day} 23:50"))
    put(con, "BTCUSDT", "unrecorded_source", ("00:00:00", "long", 1.0, 1.0, 1.0))
    (found,) = read(con)
    assert (found.source, found.complete, len(found.time)) == ("gate_stats", None, 0)
    hours = (found.recorded - START) / (12 * STEP)
    np.testing.assert_allclose(hours, [[6, 23.5], [23.75, 23 + 50 / 60]], rtol=1e-12)
    assert read(con, START, START + STEP) == []


@pytest.mark.parametrize("order", [1, -1])
def test_sums_do_not_depend_on_the_order_of_the_rows(con: Connection, order: int) -> None:
    random = np.random.default_rng(3)
    quantities = random.lognormal(0, 4, 200).tolist()
    rows = [
        (f"00:01:{n % 60:02d}.{n:03d}", "long", 100 + n / 7, quantity, None) for n, quantity in enumerate(quantities)
    ]
    put(con, "BTCUSDT", "bybit_stream", *rows[::order])
    put_recorded(con, "BTCUSDT", "bybit_stream", (f"{FIRST}", f"{FIRST} 12:00"))
    (found,) = read(con)
    told = sorted(rows)
    assert found.quantity[0] == pytest.approx(sum(quantity for _, _, _, quantity, _ in told), rel=1e-15)
    assert found.price[0] == pytest.approx(np.average([row[2] for row in told], weights=[row[3] for row in told]))
