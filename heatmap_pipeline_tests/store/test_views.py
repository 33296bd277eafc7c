"""The views everybody writes, each against a plain way to the same rows."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from heatmap_pipeline.instants import day_start
from heatmap_pipeline.model import zones
from heatmap_pipeline.model.book import located_share
from heatmap_pipeline.model.parameters import MODELS, ModelParameters
from heatmap_pipeline.store.raw import SymbolRecord, put_symbol
from heatmap_pipeline.store.schema import relations
from heatmap_pipeline.store.sql import Connection, constant, dates, day_bounds, insert, sides, timestamps
from heatmap_pipeline.symbols import contract_of
from heatmap_pipeline_tests.store.tiny import BUCKET, DAYS, INTERVAL, MODELS_USED, STEP, compute, parameters

_END = day_bounds(DAYS[-1])[1]
_WIDTH = timedelta(seconds=INTERVAL)

BY_GROUP = """
    SELECT symbol, model, timestamp, price_bucket,
        coalesce(sum(active_volume) FILTER (WHERE side = 'long'), 0) AS long_volume,
        coalesce(sum(active_volume) FILTER (WHERE side = 'short'), 0) AS short_volume,
        coalesce(sum(consumed_volume) FILTER (WHERE side = 'long'), 0) AS long_consumed_volume,
        coalesce(sum(consumed_volume) FILTER (WHERE side = 'short'), 0) AS short_consumed_volume
    FROM liquidation_snapshots GROUP BY symbol, model, timestamp, price_bucket
"""
"""The view `heatmap` as one would write it, and as it was."""


def wild_cells(con: Connection, seed: int) -> None:
    """Put cells of two symbols of their own beside the others: any side anywhere, with holes and empty intervals."""
    rng = np.random.default_rng(seed)
    instants = (
        day_start(DAYS[0]) + np.array([n for n in range(2 * 86_400 // INTERVAL) if n % 17]) * INTERVAL * 1_000_000
    )
    time, bucket, long = (part.ravel() for part in np.meshgrid(instants, np.arange(8), [True, False], indexing="ij"))
    for symbol in ("AUSDT", "BUSDT"):
        put_symbol(con, SymbolRecord(symbol, STEP, BUCKET, "demo", True, "USDT"))
        for day in DAYS[:2]:
            con.execute("INSERT INTO snapshot_days VALUES (?, 'wild', ?, 'x', ?, 1)", [symbol, day, INTERVAL])
        there = rng.random(len(time)) < 0.7
        active = rng.choice([0.0, 1.5, 3.25, 7.0], len(time))
        consumed = np.where(active > 0, rng.choice([0.0, 0.5], len(time)), 0.5)
        count = int(there.sum())
        insert(
            con,
            "liquidation_snapshots",
            {
                "symbol": constant(symbol, count),
                "model": constant("wild", count),
                "timestamp": timestamps(time[there]),
                "price_bucket": pa.array(BUCKET * bucket[there]),
                "side": sides(np.where(long[there], 1, -1).astype(np.int8)),
                "active_volume": pa.array(active[there]),
                "consumed_volume": pa.array(consumed[there]),
            },
        )


def test_by_way_of_arrow_the_frame_is_the_same(con: Connection) -> None:
    """docs/tables.md says so: it makes no Python object of every text, and no other column, type or value."""
    wild_cells(con, 1)
    order = "FROM heatmap ORDER BY symbol, model, timestamp, price_bucket"
    pd.testing.assert_frame_equal(con.sql(order).to_arrow_table().to_pandas(), con.sql(order).df(), check_exact=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_heatmap_is_its_cells_grouped(con: Connection, seed: int) -> None:
    """Whatever lies where: the model's cells, of which few buckets hold both sides, and cells that no model makes."""
    wild_cells(con, seed)
    columns = (
        "symbol, model, timestamp, price_bucket, long_volume, short_volume, long_consumed_volume, short_consumed_volume"
    )
    for left, right in (("heatmap", f"({BY_GROUP})"), (f"({BY_GROUP})", "heatmap")):
        assert con.execute(f"SELECT {columns} FROM {left} EXCEPT ALL SELECT {columns} FROM {right}").fetchall() == []
    both = con.execute("SELECT model, count(*) FROM heatmap WHERE long_volume > 0 AND short_volume > 0 GROUP BY ALL")
    assert dict(both.fetchall())["wild"] > 100
    old = con.execute("DESCRIBE heatmap").fetchall()[:8]
    assert [row[:2] for row in old] == [row[:2] for row in con.execute(f"DESCRIBE {BY_GROUP}").fetchall()]


def test_a_state_is_known_at_the_end_of_its_interval(con: Connection) -> None:
    apart = con.execute("SELECT DISTINCT state_at - timestamp, state_at IS NULL FROM heatmap").fetchall()
    assert apart == [(_WIDTH, False)]
    assert con.execute("SELECT DISTINCT state_at, timestamp FROM liquidation_map").fetchall() == [(_END, _END - _WIDTH)]
    con.execute("DELETE FROM snapshot_days WHERE day = ?", [DAYS[0]])  # as a snapshot saved by hand leaves it
    known = con.execute(
        "SELECT CAST(timestamp AS DATE), count(*) > 100, count(state_at) = 0 FROM heatmap GROUP BY 1 ORDER BY 1"
    )
    assert known.fetchall() == [(day, True, day == DAYS[0]) for day in DAYS]


TOUCHED = """
    SELECT h.* FROM heatmap AS h JOIN raw_candles AS c ON c.symbol = h.symbol AND c.open_time = h.state_at
    WHERE (h.long_volume > 0 AND c.low <= h.price_bucket) OR (h.short_volume > 0 AND c.high >= h.price_bucket + ?)
"""


def test_what_stands_at_the_end_of_an_interval_is_consumed_by_the_candle_that_follows(con: Connection) -> None:
    con.execute(f"CREATE TEMP TABLE touched AS {TOUCHED}", [BUCKET])
    touched = con.execute(
        "SELECT count(*), count(*) FILTER (WHERE n.long_consumed_volume + n.short_consumed_volume > 0) "
        "FROM touched AS t LEFT JOIN heatmap AS n ON n.symbol = t.symbol AND n.model = t.model "
        "AND n.timestamp = t.state_at AND n.price_bucket = t.price_bucket"
    )
    ((count, consumed),) = touched.fetchall()
    assert consumed == count > 50


def test_bands_live_as_long_as_nothing_interrupts_them(con: Connection) -> None:
    wild_cells(con, 3)
    instants: defaultdict[tuple[Any, ...], dict[datetime, tuple[float, float]]] = defaultdict(dict)
    query = (
        "SELECT symbol, model, side, price_bucket, timestamp, active_volume, consumed_volume FROM liquidation_snapshots"
    )
    last: dict[tuple[str, str], datetime] = {}
    for symbol, model, side, bucket, timestamp, active, consumed in con.execute(query).fetchall():
        instants[symbol, model, side, bucket][timestamp] = active, consumed
        if active > 0:
            last[symbol, model] = max(timestamp, last.get((symbol, model), timestamp))
    expected = []
    for band, cells in instants.items():
        standing = sorted(time for time, (active, _) in cells.items() if active > 0)
        begins = [time for time in standing if time - _WIDTH not in standing]
        for began in begins:
            end = began
            while end + _WIDTH in standing:
                end += _WIDTH
            volumes = [cells[began + n * _WIDTH][0] for n in range((end - began) // _WIDTH + 1)]
            stands = end == last[band[0], band[1]]
            gone = end + _WIDTH
            hours = (gone - began) / timedelta(hours=1)
            eaten = None if stands else cells.get(gone, (0.0, 0.0))[1]
            expected.append((*band, began, None if stands else gone, hours, max(volumes), volumes[-1], eaten))
    found = con.execute("FROM band_lives").fetchall()
    assert sorted(found, key=str) == sorted(expected, key=str)
    assert {row[1] for row in found} == {"wild", *MODELS_USED}
    longest = max(row[6] for row in found)
    assert longest > 24, "a band goes on over midnight"


def test_the_located_share_of_a_day_is_that_of_its_last_candle(con: Connection) -> None:
    found = {(row[1], row[2]): row[3:] for row in con.execute("FROM located_shares").fetchall()}
    assert len(found) == len(MODELS_USED) * len(DAYS)
    for model in MODELS_USED:
        for day, (_, result) in zip(DAYS, compute("BTCUSDT", model), strict=True):
            last = result.ledger["timestamp"] == result.ledger["timestamp"].max()
            located, (open_interest, *_) = result.ledger["located"][last], result.ledger["open_interest"][last]
            share = located_share(located.tolist(), float(open_interest))
            assert found[model, day] == pytest.approx((open_interest, located.mean(), share))
            assert share > 0


def test_the_leverage_mix_adds_up_to_the_book(con: Connection) -> None:
    for model in MODELS_USED:
        lots = compute("BTCUSDT", model)[-1][1].state.lots
        rows = con.execute("FROM leverage_mix WHERE model = ? AND day = ?", [model, DAYS[-1]]).fetchall()
        assert {(row[3], row[4]) for row in rows} == {
            ("long" if side > 0 else "short", leverage) for side, leverage in zip(lots.side, lots.leverage, strict=True)
        }
        for _, _, _, side, leverage, count, quantity, volume, share in rows:
            of_side = (lots.side > 0) == (side == "long")
            those = of_side & (lots.leverage == leverage)
            assert count == those.sum()
            assert (quantity, volume) == pytest.approx((lots.quantity[those].sum(), lots.volume[those].sum()))
            assert share == pytest.approx(lots.volume[those].sum() / lots.volume[of_side].sum())


def test_parameters_are_those_of_the_days(con: Connection) -> None:
    con.execute("UPDATE heatmap_days SET parameters = ? WHERE day = ?", ['{"dust": 0.01, "turnover": 0.05}', DAYS[0]])
    names = [name for name, *_ in con.execute("DESCRIBE model_parameters").fetchall()]
    for row in con.execute("FROM model_parameters WHERE day > ?", [DAYS[0]]).fetchall():
        columns = dict(zip(names, row, strict=True))
        given = parameters(columns["model"])
        recorded = json.loads(given.to_json())
        tiers, entries = recorded.pop("leverage_weights"), recorded.pop("entry")
        assert [columns.pop("leverages"), columns.pop("weights")] == [list(part) for part in zip(*tiers, strict=True)]
        assert [columns.pop("entries"), columns.pop("entry_weights")] == [
            list(part) for part in zip(*entries, strict=True)
        ]
        assert {name: columns[name] for name in recorded} == recorded
        assert columns.keys() - recorded.keys() == {"symbol", "day"}
    earlier = con.execute(
        "SELECT turnover, liquidable, leverages, dust_share FROM model_parameters WHERE day = ?", [DAYS[0]]
    )
    assert set(map(str, earlier.fetchall())) == {"(0.05, None, None, None)"}


def test_every_parameter_that_a_day_records_is_a_column() -> None:
    """A parameter that comes has to be put into the view as well."""
    (view,) = [relation for relation in relations() if relation.name == "model_parameters"]
    for model in MODELS.values():
        recorded = json.loads(ModelParameters(model, BUCKET).to_json()).keys()
        assert recorded - view.types.keys() == {"leverage_weights", "entry"}


def test_liquidations_of_an_hour_in_the_quote_asset(con: Connection) -> None:
    """Beside the contracts: what is known of the volume, and NULL where the record does not say all of it."""
    found = con.execute(
        "SELECT model, sum(predicted_volume), sum(predicted_lots), sum(predicted) FROM liquidations_hourly GROUP BY ALL"
    ).fetchall()
    stored = con.execute(
        "SELECT model, sum(volume), count(*), sum(quantity) FROM position_events "
        "WHERE event_type = 'liquidate' GROUP BY ALL"
    ).fetchall()
    assert sorted(found) == [(model, *map(pytest.approx, numbers)) for model, *numbers in sorted(stored)]
    hours = "SELECT reported, reported_volume, recorded, hour, side FROM liquidations_hourly WHERE model = 'delta'"
    con.execute("UPDATE raw_liquidations SET volume = quantity * 50000")
    rows = con.execute(hours).fetchall()
    for reported, volume, recorded, *_ in rows:
        assert volume == (pytest.approx(reported * 50000) if recorded else None)
    assert {row[2] for row in rows} == {True, False}
    con.execute(
        "UPDATE raw_liquidations SET volume = NULL WHERE timestamp = (SELECT min(timestamp) FROM raw_liquidations)"
    )
    changed = [
        (old, new)
        for old, new in zip(sorted(rows, key=_place), sorted(con.execute(hours).fetchall(), key=_place), strict=True)
        if old != new
    ]
    ((old, new),) = changed
    assert (new[0], new[1]) == (old[0], None), "what is known of an hour in part is not its volume"


def _place(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[3:]


def wild_book(con: Connection, seed: int, close: float, bucket: float) -> None:
    """Put a book of lots at the ends of two days beside the others, thick and thin, with gaps, all around a price."""
    rng = np.random.default_rng(seed)
    put_symbol(con, SymbolRecord("WUSDT", STEP, bucket, "demo", True, "USDT"))
    for day in DAYS[:2]:
        con.execute(
            "INSERT INTO raw_candles SELECT * REPLACE ('WUSDT' AS symbol, ? AS close) FROM raw_candles WHERE day = ?",
            [close, day],
        )
        con.execute(
            "INSERT INTO heatmap_days SELECT * REPLACE ('WUSDT' AS symbol, ? AS parameters) FROM heatmap_days "
            "WHERE day = ? AND model = 'turnover'",
            [json.dumps({"bucket": bucket}), day],
        )
        away = np.abs(rng.normal(0, 0.08, 400)).clip(0.001, 0.6)
        for sign in (1, -1):
            insert(
                con,
                "open_positions",
                {
                    "symbol": constant("WUSDT", 300),
                    "model": constant("turnover", 300),
                    "day": dates([day], [300]),
                    "side": sides(np.full(300, sign, dtype=np.int8)),
                    "leverage": pa.array(np.full(300, 10.0)),
                    "entry_price": pa.array(np.full(300, close)),
                    "liq_price": pa.array(np.round(close * (1 - sign * rng.choice(away, 300)), 8)),
                    "quantity": pa.array(np.ones(300)),
                    "volume": pa.array(rng.lognormal(10, 2, 300)),
                    "opened_at": timestamps(np.full(300, day_start(day))),
                },
            )


@pytest.mark.parametrize(
    ("close", "bucket"),
    [(60_123.4, 100.0), (60_123.4, 5.0), (60_123.4, 0.3), (0.0123, 0.00001), (3_456.7, 50.0)],
    ids=["as chosen", "fine", "far too fine", "cheap", "coarser than the smoothing"],
)
def test_zones_are_those_of_the_model(con: Connection, close: float, bucket: float) -> None:
    """The rule in SQL and the one in Python, for the market's books and for wild ones."""
    wild_book(con, 7, close, bucket)
    names = ("low", "high", "peak", "price", "volume", "distance_percent", "share")
    query = "SELECT DISTINCT symbol, model, day, close, bucket FROM daily_zones JOIN buckets USING (symbol, model, day)"
    books = con.execute(query).fetchall()
    assert len(books) == len(MODELS_USED) * len(DAYS) + 2
    for symbol, model, day, last, height in books:
        of = [symbol, model, day]
        units = round(height * 1e8)
        cells = con.execute(
            f"SELECT CAST(round(liq_price * 1e8) AS BIGINT) // {units} * {units} AS bucket, side = 'long' AS long, "
            "sum(volume) AS volume FROM open_positions WHERE symbol = ? AND model = ? AND day = ? "
            "GROUP BY ALL ORDER BY ALL",
            of,
        ).fetchnumpy()
        expected = zones.find_zones(
            np.zeros(len(cells["bucket"]), dtype=np.int64),
            np.asarray(cells["bucket"], dtype=np.int64),
            np.where(cells["long"], 1, -1).astype(np.int8),
            np.asarray(cells["volume"], dtype=np.float64),
            np.array([last]),
            units,
        ).of(0)
        found = con.execute(
            f"SELECT side, {', '.join(names)}, rank FROM daily_zones WHERE symbol = ? AND model = ? AND day = ? "
            "ORDER BY side, low",
            of,
        ).fetchall()
        assert [row[0] for row in found] == [zone.side for zone in expected]
        assert len(found) > 1
        for row, zone in zip(found, expected, strict=True):
            assert row[1:-1] == pytest.approx([getattr(zone, name) for name in names], rel=1e-9, abs=1e-12)
        for side in ("long", "short"):
            near = [zone for zone in expected if zone.side == side and abs(zone.distance_percent) <= 10]
            ranked = {row[-1]: row[5] for row in found if row[0] == side and row[-1] is not None}
            assert [ranked[n + 1] for n in range(len(ranked))] == pytest.approx(
                sorted((zone.volume for zone in near), reverse=True)
            )


def test_a_zone_is_hit_when_a_candle_of_the_next_day_comes_to_its_near_edge(con: Connection) -> None:
    candles = con.execute("SELECT open_time, low, high, close, day FROM raw_candles ORDER BY open_time").fetchall()
    closes = {day: close for *_, close, day in candles}
    ranges = {
        day: (min(row[1] for row in candles if row[4] == day), max(row[2] for row in candles if row[4] == day))
        for day in DAYS
    }
    zones = con.execute("SELECT model, day, side, low, high, close, state_at FROM daily_zones").fetchall()
    hits = con.execute("SELECT model, day, side, low, high, reached, reached_at, usual_share FROM zone_hits").fetchall()
    found = {row[:4]: row[4:] for row in hits}
    assert len(found) == len(hits) == len(zones) > 20
    outcomes = set()
    for model, day, side, low, high, close, state_at in zones:
        assert state_at == day_bounds(day)[1]
        assert close == closes[day]
        edge, down = (high, True) if side == "long" else (low, False)
        first = next(
            (row[0] for row in candles if row[0] >= state_at and (row[1] <= edge if down else row[2] >= edge)), None
        )
        way = 1 - edge / close if down else edge / close - 1
        moves = [
            1 - ranges[after][0] / closes[before] if down else ranges[after][1] / closes[before] - 1
            for before, after in pairwise(DAYS)
        ]
        usual = sum(move >= way for move in moves) / len(moves)
        over = day < DAYS[-1]
        if not over or first is None or first < state_at + timedelta(days=1):
            assert found[model, day, side, low] == (high, first is not None if over else None, first, usual)
            outcomes.add(first is not None if over else None)
    assert outcomes == {True, False, None}
    con.execute("DELETE FROM raw_candles WHERE open_time = (SELECT max(open_time) FROM raw_candles)")
    unknown = con.execute("SELECT count(*) FROM zone_hits WHERE day = ? AND reached IS NOT NULL", [DAYS[1]]).fetchall()
    assert unknown == [(0,)], "the 24 hours are not over"


def test_the_markets_of_a_base_add_up_to_the_last_bit(con: Connection) -> None:
    """In the largest bucket of each day; a finer market's cells are put together by price, and nobody else's change."""
    for symbol, bucket in (("BTCUSDT", BUCKET), ("BYBIT_BTCUSDT", 20.0)):
        put_symbol(con, SymbolRecord.of(contract_of(symbol), STEP, bucket, "demo", simulated=True))
    finer = "json_merge_patch(parameters, '{\"bucket\": 20.0}') AS parameters"
    for table, more in (("heatmap_days", f", {finer}"), ("snapshot_days", "")):
        con.execute(
            f"INSERT INTO {table} SELECT * REPLACE ('BYBIT_BTCUSDT' AS symbol{more}) FROM {table} "
            "WHERE symbol = 'BTCUSDT'"
        )
    con.execute(
        "INSERT INTO liquidation_snapshots SELECT * EXCLUDE (n) REPLACE ('BYBIT_BTCUSDT' AS symbol, "
        "active_volume / (7 * n + 3) AS active_volume, price_bucket + 20 * n AS price_bucket) "
        "FROM liquidation_snapshots, range(5) AS fine(n) WHERE symbol = 'BTCUSDT' AND n <> 3 "
        "AND timestamp < (SELECT max(timestamp) FROM liquidation_snapshots)"
    )
    expected: dict[tuple[Any, ...], float] = {}
    for symbol, *cell, price, side, volume in con.execute(
        "SELECT symbol, model, timestamp, price_bucket, side, active_volume FROM liquidation_snapshots "
        "WHERE symbol LIKE '%BTCUSDT' ORDER BY ALL"
    ).fetchall():
        key = (symbol, *cell, price // BUCKET * BUCKET, side)
        expected[key] = expected.get(key, 0.0) + volume
    found = con.execute(
        "SELECT symbol, model, timestamp, price_bucket, side, active_volume, base, exchange, state_at - timestamp "
        "FROM heatmap_by_base"
    ).fetchall()
    assert {row[:5]: row[5] for row in found} == expected
    assert len(found) == len(expected) > 1000
    assert {(row[0], *row[6:]) for row in found} == {
        ("BTCUSDT", "BTC", "binance", _WIDTH),
        ("BYBIT_BTCUSDT", "BTC", "bybit", _WIDTH),
    }
    own = "SELECT model, timestamp, price_bucket, side, active_volume, consumed_volume FROM"
    whole = f"{own} heatmap_by_base WHERE symbol = 'BTCUSDT'"
    cells = f"{own} liquidation_snapshots WHERE symbol = 'BTCUSDT'"
    assert con.execute(f"({whole} EXCEPT ALL {cells}) UNION ALL ({cells} EXCEPT ALL {whole})").fetchall() == []
    newest = con.execute("SELECT DISTINCT symbol FROM heatmap_by_base WHERE timestamp = ?", [_END - _WIDTH]).fetchall()
    assert newest == [("BTCUSDT",)], "who has nothing at that time has no row"
