"""What pictures and status are told, and the views for people."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.store import read
from heatmap_pipeline.store.days import record_failure
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import save_raw
from heatmap_pipeline.store.sql import Connection, day_bounds, micros
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests.store.tiny import BUCKET, DAYS, INTERVAL, MODELS_USED, STEP, compute, market

_START, _END = day_bounds(DAYS[0], DAYS[-1])


def test_windows_of_candles(con: Connection) -> None:
    candles, _ = market("BTCUSDT")
    start = datetime(2024, 3, 1, 23, tzinfo=UTC)
    found = read.load_candles_window(con, "BTCUSDT", start, start + timedelta(hours=2))
    expected = pd.concat([candles[0].table.iloc[-4:], candles[1].table.iloc[:4]], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def _expected(model: str, step: int) -> dict[tuple[int, float, int], tuple[float, float]]:
    """Sample in the plainest way: last interval of each step, sum of consumed."""
    rows = [
        tuple(values)
        for _, result in compute("BTCUSDT", model)
        for values in zip(*(column.tolist() for column in result.cells.values()), strict=True)
    ]
    cells: dict[tuple[int, float, int], tuple[float, float]] = {}
    for time, bucket, side, active, consumed in rows:
        at = time // (step * 10**6) * step * 10**6
        was = cells.get((at, bucket * BUCKET, side), (0.0, 0.0))
        is_last = time == at + (step - INTERVAL) * 10**6
        cells[at, bucket * BUCKET, side] = (active if is_last else was[0], was[1] + consumed)
    return {key: value for key, value in cells.items() if value != (0.0, 0.0)}


@pytest.mark.parametrize("step", [INTERVAL, 2 * INTERVAL, 14400, 86400])
@pytest.mark.parametrize("model", MODELS_USED)
def test_cells_are_sampled(con: Connection, model: str, step: int) -> None:
    found = read.load_cells(con, "BTCUSDT", model, _START, _END, step)
    keys = list(zip(found.timestamps.tolist(), found.price_buckets.tolist(), found.sides.tolist(), strict=True))
    assert keys == sorted(keys, key=lambda key: (key[0], key[1], -key[2]))
    expected = _expected(model, step)
    assert set(keys) == set(expected)
    assert len(found) == len(keys)
    np.testing.assert_array_equal(found.active, [expected[key][0] for key in keys])
    np.testing.assert_allclose(found.consumed, [expected[key][1] for key in keys], rtol=1e-12)
    np.testing.assert_array_equal(found.indices(BUCKET) * BUCKET, found.price_buckets)


def test_an_empty_book_is_not_shown_as_the_one_before(con: Connection) -> None:
    """The last interval of the step exists, though it has no cell: what was active before it must not be drawn."""
    last = _END - timedelta(seconds=INTERVAL)
    con.execute("DELETE FROM liquidation_snapshots WHERE timestamp = ? AND model = 'delta'", [last])
    con.execute("UPDATE liquidation_snapshots SET consumed_volume = 0")
    found = read.load_cells(con, "BTCUSDT", "delta", _START, _END, 2 * INTERVAL)
    assert found.timestamps.max() < micros(_END) - 2 * INTERVAL * 10**6
    empty = "SELECT count(*) FROM liquidation_map WHERE model = ?"
    assert con.execute(empty, ["delta"]).fetchall() == [(0,)]
    assert con.execute(empty, ["turnover"]).fetchall()[0][0] > 0


def test_a_step_must_be_a_multiple(con: Connection) -> None:
    with pytest.raises(StoreError, match="step 900 s is not a multiple of the stored snapshots' 1800 s"):
        read.load_cells(con, "BTCUSDT", "delta", _START, _END, 900)
    assert len(read.load_cells(con, "NOSUCH", "delta", _START, _END, 900)) == 0


def test_coverage(con: Connection) -> None:
    ledger = compute("BTCUSDT", "turnover")[-1][1].ledger
    located, unlocated = ledger["located"][-2:].sum(), ledger["unlocated"][-2:].sum()
    assert read.coverage(con, "BTCUSDT", "turnover") == pytest.approx(located / (located + unlocated))
    assert read.coverage(con, "BTCUSDT", "delta") == 1.0
    assert read.coverage(con, "NOSUCH", "delta") == 0.0


def test_status(con: Connection) -> None:
    candles, _ = market("RAWUSDT")
    save_raw(con, "candles", candles[:1], "archive")
    turnover, delta, raw = read.status(con)
    assert (turnover.symbol, turnover.model, turnover.source, turnover.simulated) == (
        "BTCUSDT",
        "turnover",
        "demo",
        True,
    )
    assert (delta.first_day, delta.last_day, delta.days) == (DAYS[0], DAYS[-1], 3)
    assert (delta.gaps, delta.failed, delta.provisional_days) == ((), (), ())
    assert delta.newest_candle == _END - timedelta(seconds=STEP)
    assert json.loads(delta.parameters[DAYS[0]])["model"] == "delta"
    assert (raw.symbol, raw.model, raw.days, raw.first_day, raw.source) == ("RAWUSDT", None, 0, None, "")
    con.execute("UPDATE heatmap_days SET state_hash = 'x' WHERE day = ? AND model = 'delta'", [DAYS[0]])
    con.execute("DELETE FROM heatmap_days WHERE day = ? AND model = 'turnover'", [DAYS[1]])
    con.execute("UPDATE heatmap_days SET provisional = true WHERE day = ?", [DAYS[2]])
    record_failure(con, "BTCUSDT", "raw_candles", DAYS[2] + timedelta(days=1), "corrupt file")
    turnover, delta, _ = read.status(con)
    assert turnover.gaps == (DAYS[1],)
    assert delta.provisional_days == (DAYS[2],)
    assert delta.failed == (("raw_candles", DAYS[2] + timedelta(days=1), "corrupt file"),)


def test_missing_days_are_those_between_the_first_and_the_last() -> None:
    days = [date(2024, 1, n) for n in (1, 2, 3, 7, 8)]
    assert read.missing_days(days) == tuple(date(2024, 1, n) for n in (4, 5, 6))
    assert read.missing_days([]) == ()


def test_stored_days(warehouse: Warehouse) -> None:
    with warehouse.connect() as con:
        assert read.stored_days(con, "BTCUSDT") == (DAYS[0], DAYS[-1])
        with pytest.raises(StoreError, match="NOSUCH: nothing is stored yet"):
            read.stored_days(con, "NOSUCH")
    assert read.first_published_day(warehouse) is None
    publish(warehouse, ["BTCUSDT"])
    assert read.first_published_day(warehouse) == DAYS[0]
    warehouse.published.write_bytes(b"nonsense" * 2000)
    assert read.first_published_day(warehouse) is None


@pytest.mark.parametrize("model", MODELS_USED)
def test_the_map_runs_from_the_price_outward(con: Connection, model: str) -> None:
    rows = con.execute(
        "SELECT price_bucket, long_volume, short_volume, distance_percent, cumulative_volume, close, timestamp "
        "FROM liquidation_map WHERE model = ?",
        [model],
    ).fetchall()
    close = market("BTCUSDT")[0][-1].table["close"].iloc[-1]
    lots = compute("BTCUSDT", model)[-1][1].state.lots
    assert {row[5] for row in rows} == {close}
    assert {row[6] for row in rows} == {_END - timedelta(seconds=INTERVAL)}
    assert sum(row[1] for row in rows) == pytest.approx(lots.volume[lots.side == 1].sum())
    assert sum(row[2] for row in rows) == pytest.approx(lots.volume[lots.side == -1].sum())
    for bucket, _, _, distance, cumulative, *_ in rows:
        price = lots.liq_price / 1e8
        if bucket <= close:
            outward = (lots.side == 1) & (price >= bucket)
        else:
            outward = (lots.side == -1) & (price < bucket + BUCKET)
        assert cumulative == pytest.approx(lots.volume[outward].sum())
        assert distance == pytest.approx(100 * (bucket / close - 1))


def test_the_view_sets_the_sides_beside_each_other(con: Connection) -> None:
    totals = "SELECT sum({}), sum({}), sum({}), sum({}) FROM {}"
    wide = ("long_volume", "short_volume", "long_consumed_volume", "short_consumed_volume")
    cells = tuple(
        f"CASE WHEN side = '{side}' THEN {name} END"
        for name in ("active_volume", "consumed_volume")
        for side in ("long", "short")
    )
    one = con.execute(totals.format(*wide, "heatmap")).fetchall()[0]
    assert one == pytest.approx(con.execute(totals.format(*cells, "liquidation_snapshots")).fetchall()[0])
    unique = "SELECT count(*), count(DISTINCT (symbol, model, timestamp, price_bucket)) FROM heatmap"
    count, distinct = con.execute(unique).fetchall()[0]
    assert count == distinct > 100
