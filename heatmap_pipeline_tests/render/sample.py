"""A small made-up book to draw: a random walk, levels that are born near it and die where it crosses them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from heatmap_pipeline.bins import Candles
from heatmap_pipeline.instants import DAY, MICROSECONDS, SECONDS, day_of, day_start, iso
from heatmap_pipeline.model.parameters import MODELS, ModelParameters
from heatmap_pipeline.store.columns import Reports
from heatmap_pipeline.symbols import contract_of
from heatmap_pipeline.views.columns import Cells, Columns, PartColumns, as_columns
from heatmap_pipeline.views.data import ModelData, SymbolData, Version
from heatmap_pipeline.views.heatmap import binned
from heatmap_pipeline.views.modelled import ModelledSums, joined, modelled_of_day
from heatmap_pipeline.views.replay import Books, Replay, Source
from heatmap_pipeline.views.window import make_window
from heatmap_pipeline.views.zones import WindowZones

BUCKET = 100.0


def walk(days: int = 3, seed: int = 1, step: int = 900, start: str = "2024-07-01") -> pd.DataFrame:
    """Candles of `step` seconds around 60,000 USDT."""
    random = np.random.default_rng(seed)
    number = days * 86400 // step
    close = 60_000 * np.exp(np.cumsum(random.normal(0, 0.003, number)))
    opens = np.concatenate([[60_000.0], close[:-1]])
    wick = np.abs(random.normal(0, 60, (2, number)))
    return pd.DataFrame(
        {
            "open_time": pd.date_range(start, periods=number, freq=f"{step}s").astype("datetime64[us]"),
            "open": opens,
            "high": np.maximum(opens, close) + wick[0],
            "low": np.minimum(opens, close) - wick[1],
            "close": close,
            "volume": random.uniform(10, 100, number),
        }
    )


def cells(candles: pd.DataFrame, seed: int = 1) -> dict[str, Any]:
    """Sparse cells, one snapshot per candle: each candle opens a long 2 to 12 % below and a short as far above."""
    random = np.random.default_rng(seed)
    counts: list[int] = []
    keys: list[tuple[int, int]] = []
    active: list[float] = []
    consumed: list[float] = []
    book: dict[tuple[int, int], float] = {}
    bar: Any  # pandas does not say what is in a row
    for bar in candles.itertuples():
        dead: dict[tuple[int, int], float] = {}
        for key in list(book):
            side, index = key
            price = (index + 0.5) * BUCKET
            if (side > 0 and bar.low <= price) or (side < 0 and bar.high >= price):
                dead[key] = book.pop(key)
        for side in (1, -1):
            key = (side, int(bar.close * (1 - side * random.uniform(0.02, 0.12)) // BUCKET))
            book[key] = book.get(key, 0.0) + float(random.lognormal(14, 1))
        there = sorted(book.keys() | dead.keys(), key=itemgetter(1, 0))
        counts.append(len(there))
        keys += there
        active += [book.get(key, 0.0) for key in there]
        consumed += [dead.get(key, 0.0) for key in there]
    sides, buckets = np.array(keys).T
    times = np.repeat(candles["open_time"].to_numpy().astype("datetime64[us]"), counts)
    return {
        "timestamps": times,
        "buckets": buckets,
        "sides": sides,
        "active": np.array(active),
        "consumed": np.array(consumed),
    }


def source(
    candles: pd.DataFrame, symbol: str = "BTCUSDT", model: str = "turnover", bucket: float = BUCKET, **changes: Any
) -> Source:
    """A history over these candles; `changes` may say that it is simulated or that its last day is provisional."""
    stamps = candles["open_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    prices = {name: candles[name].to_numpy(dtype=float) for name in ("open", "high", "low", "close", "volume")}
    bars = Candles(int(np.diff(stamps).min()) // MICROSECONDS, stamps, **prices, quote_volume=prices["volume"])
    days = sorted({day_of(int(stamp)) for stamp in stamps})
    data = ModelData(
        name=model,
        first_day=days[0],
        last_day=days[-1],
        newest_complete=days[-1],
        newest_parameters=ModelParameters(MODELS["delta"], bucket),
        price=float(prices["close"][-1]),
        days=tuple(days),
        parameters={day: ModelParameters(MODELS["delta"], bucket) for day in days},
        fresh={},
        provisional=frozenset(days[-1:] if changes.get("provisional") else []),
        missing=(),
        broken=(),
        times=stamps,
        rows=np.arange(len(stamps)),
        open_interest=np.ones(len(stamps)),
        factor=np.ones(len(stamps)),
        bounds={day: tuple(np.searchsorted(stamps, (day_start(day), day_start(day) + DAY)).tolist()) for day in days},
        begin=int(stamps[0]),
        end=int(stamps[-1]) + bars.step,
        located_share=0.0,
        snapshot_seconds=bars.seconds,
        cells_from=None,
    )
    simulated, quote = bool(changes.get("simulated")), contract_of(symbol).quote
    history = SymbolData(symbol, "", bucket, simulated, "demo", bars.seconds, {model: data}, quote=quote, candles=bars)
    nothing: Any = None  # no database stands behind it
    return Source(Version("", {symbol: history}, {}, nothing), history, data, None, Books(0))


def deaths(past: Source, **table: Any) -> dict[str, Any]:
    """The cells of `table` in which something was liquidated, as a lot each: at their middle, of an entry 5 % away."""
    dead = np.flatnonzero(table["consumed"] > 0)
    dead = dead[np.argsort(table["timestamps"][dead], kind="stable")]
    side, price = table["sides"][dead], (table["buckets"][dead] + 0.5) * past.symbol.bucket
    return {
        "timestamp": table["timestamps"][dead].astype("datetime64[us]").astype(np.int64),
        "side": side,
        "leverage": np.full(len(dead), 20.0),
        "liq_price": np.round(price * 1e8).astype(np.int64),
        "entry_price": price * (1 + 0.05 * side),
        "volume": table["consumed"][dead],
    }


def draw(
    past: Source,
    interval: str = "15m",
    located_share: float = 0.9,
    max_rows: int = 1000,
    reports: Sequence[Reports] = (),
    **table: Any,
) -> Columns:
    """What is drawn of a history that consists of the cells of `table`, see `cells`, and of real liquidations."""
    model, seconds = past.model, SECONDS[interval]
    window = make_window(past.symbol.name, model.begin, model.end, seconds, model.begin, None)
    column = (table["timestamps"].astype("datetime64[us]").astype(np.int64) - window.first) // window.step
    price = table["buckets"].astype(np.int64) * round(past.symbol.bucket * 1e8)
    order = np.lexsort((-table["sides"], price, column))
    nothing = np.zeros(window.count, dtype=np.int64)
    active, consumed = (table[name][order].astype(float) for name in ("active", "consumed"))
    sides = table["sides"][order].astype(np.int8)
    shares = np.full(window.count, located_share)
    cells_ = (column[order], price[order], sides, active, consumed)
    modelled = joined(
        [modelled_of_day(deaths(past, **table), past.symbol.candles, None, window.first, window.step, window.count)]
    )
    played = Replay(*cells_, nothing, nothing, shares, modelled)
    return as_columns(binned(past, window, interval, played, None, max_rows), reports)


@cache
def _book(days: int, seed: int) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Candles and their cells, made once, so leave them as they are."""
    candles = walk(days, seed)
    return candles, cells(candles, seed)


def sample(symbol: str = "BTCUSDT", model: str = "turnover", days: int = 3, seed: int = 1, **changes: Any) -> Columns:
    """What is drawn of the small book; `changes` are other candles, other arguments of `source` or columns of cells."""
    candles, made = _book(days, seed)
    table = dict(made)
    table |= {name: changes.pop(name) for name in table.keys() & changes.keys()}
    table |= {"reports": changes.pop("reports", ())}
    return draw(source(changes.pop("candles", candles), symbol, model, **changes), **table)


def reports(
    rows: Sequence[tuple[str, float, float, float, float]],
    recorded: Sequence[tuple[str, str]] = (("2024-07-01", "2024-07-11"),),
    source: str = "binance_stream",
    complete: bool | None = True,
    resolution_seconds: int = 0,
) -> Reports:
    """Real liquidations; rows are (time, side, price, quantity, volume), rising."""
    table = [(np.datetime64(time, "us").astype(np.int64), *rest) for time, *rest in rows]
    times, sides, *amounts = np.array(table, dtype=float).reshape(-1, 5).T
    stretches = np.array([[np.datetime64(end, "us").astype(np.int64) for end in ends] for ends in recorded])
    return Reports(
        source,
        complete,
        resolution_seconds,
        stretches.reshape(-1, 2),
        times.astype(np.int64),
        sides.astype(np.int8),
        *amounts,
    )


def without_levels(data: Columns) -> Columns:
    """The same heatmap when nothing is open and nothing was liquidated."""
    none = np.zeros(0, dtype=np.int64)
    zones = WindowZones(data.zones.zones.rows(none), np.zeros(0))
    nothing, empty = np.zeros(0), Cells(none, none, np.zeros(0))
    dead = ModelledSums(none, nothing, nothing, none, nothing, nothing)
    modelled = dict.fromkeys(data.modelled, dead)
    return replace(data, cells=dict.fromkeys(data.cells, empty), zones=zones, modelled=modelled)


REPORTED_ROWS = (
    ("2024-07-03T12:00", 1, 58_000.0, 40.0, 2_320_000.0),
    ("2024-07-06T03:05", 1, float("nan"), 300.0, float("nan")),
    ("2024-07-06T03:10", -1, 61_000.0, 100.0, float("nan")),
    ("2024-07-08T12:00", -1, 62_000.0, 50.0, 3_100_000.0),
    ("2024-07-08T12:14:59", -1, 63_000.0, 50.0, 3_150_000.0),
)
REPORTED_RECORDED = (("2024-07-02", "2024-07-05"), ("2024-07-05T12:00", "2024-07-10"))


@cache
def reported_days(**how: Any) -> Columns:
    """The ten days with a few real liquidations, of which two stretches were recorded."""
    return sample(days=10, reports=[reports(REPORTED_ROWS, REPORTED_RECORDED, **how)])


@cache
def ten_days(model: str = "turnover") -> Columns:
    """Ten days of the small book, another one per model; made once, so leave it as it is."""
    return sample(model=model, days=10, seed=1 if model == "turnover" else 2)


BASE_MARKETS = {"BTCUSDT": ("Binance", 0.6), "BYBIT_BTCUSDT": ("Bybit", 0.3), "GATE_BTCUSDT": ("Gate", 0.1)}
"""Three markets of a base: how their exchanges are written, and what each has of every cell of the ten days."""
LATE_COLUMNS = 12
"""Gate is this much late: missing in the last three hours of the ten days."""


def base_days(*shown: str, data: Columns | None = None) -> Columns:
    """The ten days as the sum of markets of a base, of all of `BASE_MARKETS` unless some are named."""
    data = ten_days() if data is None else data
    columns = len(data.times)
    names = shown or tuple(BASE_MARKETS)
    ends = {name: columns - (LATE_COLUMNS if name == "GATE_BTCUSDT" else 0) for name in names}

    there = [name for name in names if ends[name] == columns]

    def of(name: str, column: Any, volume: Any) -> Any:
        return np.where(column < ends[name], volume * BASE_MARKETS[name][1], np.nan)

    def added(column: Any, volume: Any) -> Any:
        return np.nansum([of(name, column, volume) for name in names], axis=0)

    found = data.zones.zones
    sides = {"long": found.side == 1, "short": found.side == -1}
    parts, by_market = [], []
    for name in names:
        cells = {kind: of(name, one.column, one.volume) for kind, one in data.cells.items()}
        zones = {side: of(name, found.book[rows], found.volume[rows]) for side, rows in sides.items()}
        share = np.where(np.arange(columns) < ends[name], 0.02, np.nan)
        by_market.append(PartColumns(name, cells, share, zones, data.modelled, None))
        newest = int(data.times[ends[name] - 1]) + data.seconds * MICROSECONDS
        late = [[ends[name], columns]] if ends[name] < columns else []
        exchange = BASE_MARKETS[name][0]
        parts.append(
            {
                "symbol": name,
                "exchange": exchange.lower(),
                "title": f"{exchange} USDT-M perpetual",
                "quote": "USDT",
                "newest": iso(newest),
                "open_interest": 10_000.0 * BASE_MARKETS[name][1],
                "located_share": 0.02,
                "without_candles": late,
                "missing": bool(late),
                "share": None if late else BASE_MARKETS[name][1] / sum(BASE_MARKETS[one][1] for one in there),
            }
        )
    said = {"markets": len(names), "markets_present": len(there), "candles_of": names[0], "parts": parts}
    title = f"BTC perpetuals: {', '.join(BASE_MARKETS[name][0] for name in names)}"
    return replace(
        data,
        cells={kind: replace(one, volume=added(one.column, one.volume)) for kind, one in data.cells.items()},
        zones=replace(data.zones, zones=replace(found, volume=added(found.book, found.volume))),
        meta={**data.meta, **said, "symbol": "BTC", "title": title},
        by_market=tuple(by_market),
    )
