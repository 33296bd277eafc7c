"""The fast engine: one day of any model; here its arrays are checked, made and read, `kernel.py` is the compiled loop.

It computes what `stepwise.py` spells out, in other words:

- closing shrinks every lot of a book by the same ratio, so a book carries one survival factor S and its lots are stored
  as quantity / S at the moment they open; a closing is one multiplication, whatever the size of the book;
- lots that price reaches pop from a heap per side (longs highest first, shorts lowest first);
- the cells of the map are running sums of lots per bucket and side, times S; a day knows beforehand which it can touch.

That makes a day O(N log N + output). Every day starts again from S = 1 with the lots in a fixed order, so a run over
many days is the loop over its days, bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.model import kernel
from heatmap_pipeline.model.book import (
    BOOKS,
    LONG,
    SHORT,
    Columns,
    DayCandles,
    DayResult,
    Ints,
    Lots,
    ModelState,
)
from heatmap_pipeline.model.liquidation import price_factor
from heatmap_pipeline.model.parameters import ModelError, ModelParameters
from heatmap_pipeline.prices import MAX_PRICE

_DENSE = 1 << 19
"""Up to this many cells from the lowest lot to the highest are numbered through a table; beyond, by sorting."""


def start_state(parameters: ModelParameters, open_interest: float) -> ModelState:
    """Return the state before the first candle of a history.

    Args:
        parameters: the model.
        open_interest: the first valid sample, in contracts.

    Raises:
        ModelError: if the open interest is not a positive number.
    """
    if not (np.isfinite(open_interest) and open_interest > 0):
        raise ModelError(f"open_interest = {open_interest!r} at the start of a history is not a positive number")
    first = open_interest if parameters.spec.rules.holds_open_interest else 0.0
    return ModelState(Lots.empty(), tuple(first for _ in BOOKS[parameters.spec.books]), float(open_interest))


def run_day(
    parameters: ModelParameters,
    state: ModelState,
    candles: DayCandles,
    snapshot_seconds: int | None = None,
    shown: Collection[float] | None = None,
) -> DayResult:
    """Carry the books through the candles of one day.

    Args:
        parameters: the model, resolved for symbol and day.
        state: what the day before left (`start_state` for the first day).
        candles: the day's model candles with their flows, n of them; n may be 0.
        snapshot_seconds: distance of the snapshots in seconds, a multiple of the candle step; None computes no cells.
        shown: leverages whose lots the cells are of; None means all. The books hold every lot whatever is shown, so
            state, ledger and events are the same to the last bit.

    Returns:
        The new state, ledger, events, and cells if asked for.

    Raises:
        ModelError: for arrays of different length, numbers that are not finite, candles out of order, prices outside
            (0, 1e7] USDT, a factor that is not positive, a flow that is not what the open interest changed beyond it,
            or a snapshot distance that does not fit.
    """
    _check(parameters, state, candles, snapshot_seconds)
    spec = parameters.spec
    rules = kernel.Rules(
        holds_open_interest=spec.rules.holds_open_interest,
        closes=spec.rules.closes,
        turnover=float(spec.turnover),
        liquidable=float(spec.liquidable),
        dust_share=float(spec.dust_share),
        drops_dust=spec.dust_rule == "drop",
        snapshot_step=(snapshot_seconds or 1) * 1_000_000,
    )
    day = _day(parameters, state, candles, snapshot_seconds, shown)
    kernel.run(day, rules)
    return _result(state, candles, day, snapshot_seconds is not None)


def _check(parameters: ModelParameters, state: ModelState, candles: DayCandles, snapshot_seconds: int | None) -> None:
    n = len(candles)
    for name in ("open", "high", "low", "close", "volume", "flow", "open_interest", "factor"):
        column = getattr(candles, name)
        if column.shape != (n,):
            raise ModelError(f"candles.{name} has shape {column.shape}, expected ({n},)")
        if not np.isfinite(column).all():
            raise ModelError(f"candles.{name}[{int(np.argmin(np.isfinite(column)))}] is not finite")
    if len(state.unlocated) != len(BOOKS[parameters.spec.books]):
        raise ModelError(f"state has {len(state.unlocated)} books, model {parameters.spec.name} has other books")
    if snapshot_seconds is not None and (snapshot_seconds <= 0 or snapshot_seconds % parameters.interval):
        raise ModelError(
            f"snapshot interval {snapshot_seconds} s is not a multiple of the candle interval {parameters.interval} s"
        )
    if n:
        _check_values(state, candles)


def _check_values(state: ModelState, candles: DayCandles) -> None:
    if (np.diff(candles.open_time) <= 0).any():
        raise ModelError("candles.open_time is not strictly rising")
    if candles.low.min() <= 0 or candles.high.max() > MAX_PRICE:
        raise ModelError(f"candles hold a price outside (0, {MAX_PRICE:g}]")
    if candles.volume.min() < 0:
        raise ModelError(f"candles.volume[{int(np.argmin(candles.volume))}] is negative")
    if candles.open_interest.min() < 0:
        raise ModelError(f"candles.open_interest[{int(np.argmin(candles.open_interest))}] is negative")
    if candles.factor.min() <= 0:
        raise ModelError(f"candles.factor[{int(np.argmin(candles.factor))}] is not positive")
    before = np.concatenate(([state.open_interest], candles.open_interest[:-1])) * candles.factor
    off = np.abs(before + candles.flow - candles.open_interest)
    if (off > 1e-9 * np.maximum(before, candles.open_interest)).any():
        raise ModelError(
            f"candles.flow[{int(np.argmax(off))}] is not what candles.open_interest changed beyond the factor"
        )


def _day(
    parameters: ModelParameters,
    state: ModelState,
    candles: DayCandles,
    snapshot_seconds: int | None,
    shown: Collection[float] | None,
) -> kernel.Day:
    """Return the arrays of a day, filled with what the kernel starts from."""
    n, old, books = len(candles), state.lots, len(state.unlocated)
    tiers = np.empty(len(parameters.tiers), kernel.TIER)
    tiers["leverage"], weight = np.array(parameters.tiers).T
    tiers["share"] = weight
    entries = _entries(parameters, candles)
    prices = _birth_prices(parameters, entries["price"], tiers["leverage"])
    if snapshot_seconds is None:  # one cell takes all, and is never looked at
        ends, numbers = np.zeros(n, dtype=np.bool_), np.zeros(1, dtype=np.int64)
        known_cell, birth_cell = np.zeros(len(old), dtype=np.int64), np.zeros_like(prices)
    else:
        ends = _interval_ends(candles.open_time, snapshot_seconds)
        lot_cells = old.liq_price // parameters.bucket_units * 2 + (old.side < 0)
        birth_cells = prices // parameters.bucket_units * 2 + np.arange(2)[:, None, None, None]
        if shown is not None:
            leverages = list(shown)
            lot_cells = _hidden(lot_cells, ~np.isin(old.leverage, leverages))
            birth_cells = _hidden(birth_cells, ~np.isin(tiers["leverage"], leverages))
        numbers, known_cell, birth_cell = _cells(lot_cells, birth_cells)
    cells = np.zeros(len(numbers), kernel.CELL)
    cells["number"] = numbers
    most = books * entries.size * len(tiers)  # opened on one day
    capacity = len(old) + most
    return kernel.Day(
        candles=_candles(candles, ends),
        births=kernel.Births(tiers, entries, prices, birth_cell),
        known=kernel.Columns(
            _own(old.side),
            _own(old.leverage),
            _own(old.liq_price),
            _own(old.quantity),
            _own(old.volume),
            _own(old.opened_at),
        ),
        known_cell=known_cell,
        lots=np.empty(capacity, kernel.LOT),
        places=np.full(1 << max(4, (2 * capacity - 1).bit_length()), -1, dtype=np.int64),
        books=_books(state),
        cells=cells,
        reach=_heaps(2, capacity),
        small=_heaps(books, capacity if parameters.spec.dust_rule == "drop" else 0),
        tally=np.zeros(1, kernel.TALLY),
        ledger=np.zeros((n, books), kernel.LEDGER),
        opens=np.empty(most, kernel.OPEN),
        deaths=np.empty(capacity, kernel.DEATH),
        closes=np.empty(n * books, kernel.CLOSE),
        snapshots=_snapshots(len(cells) * int(np.count_nonzero(ends))),
    )


def _candles(candles: DayCandles, ends: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    rows = np.empty(len(candles), kernel.CANDLE)
    for name in ("low", "high", "close"):
        rows[name] = _units(getattr(candles, name))
    for name in ("open_time", "volume", "flow", "open_interest", "factor"):
        rows[name] = getattr(candles, name)
    rows["side"], rows["ends"] = candles.close < candles.open, ends
    return rows


def _books(state: ModelState) -> npt.NDArray[Any]:
    books = np.zeros(len(state.unlocated), kernel.BOOK)
    books["number"] = books["first_side"] = books["last_side"] = np.arange(len(books))
    books["last_side"][-1] = 1
    books["survival"], books["unlocated"] = 1.0, state.unlocated
    return books


def _snapshots(room: int) -> kernel.Snapshots:
    """Return columns for the most rows there can be; memory that no row reaches is never taken."""
    times, buckets = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
    return kernel.Snapshots(times, buckets, np.empty(room, dtype=np.int8), np.empty(room), np.empty(room))


def _heaps(heaps: int, capacity: int) -> npt.NDArray[Any]:
    """Return empty heaps: item 0 of each counts the others."""
    items = np.empty((heaps, 1 + capacity), kernel.ITEM)
    items["lot"][:, 0] = 0
    return items


def _own(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a contiguous, writable copy: for any other layout numba would compile everything once more."""
    return np.array(array, order="C")


def _units(price: npt.NDArray[np.float64]) -> Ints:
    return np.rint(price * 1e8).astype(np.int64)


def _entries(parameters: ModelParameters, candles: DayCandles) -> npt.NDArray[Any]:
    """Return the entries of each candle, shape (n candles, e entries), those with equal prices put together."""
    entry = parameters.spec.entry
    rows = np.empty((len(candles), len(entry)), kernel.ENTRY)
    for e, (name, share) in enumerate(entry):
        rows["price"][:, e], rows["share"][:, e] = getattr(candles, name), share
        for earlier in range(e):
            equal = (rows["price"][:, earlier] == rows["price"][:, e]) & (rows["share"][:, earlier] > 0)
            rows["share"][equal, earlier] += rows["share"][equal, e]
            rows["share"][equal, e] = 0.0
    return rows


def _birth_prices(
    parameters: ModelParameters, entry: npt.NDArray[np.float64], leverage: npt.NDArray[np.float64]
) -> Ints:
    """Return the liquidation prices (1e-8 USDT) of what may open: shape (2 sides, n candles, e entries, k tiers)."""
    spec, rate = parameters.spec, parameters.bracket.maintenance_margin_rate
    prices = np.empty((2, *entry.shape, len(leverage)), dtype=np.int64)
    for row, side in enumerate(("long", "short")):
        factor = np.array([price_factor(float(tier), side, rate, spec.formula) for tier in leverage])
        prices[row] = np.floor(entry[..., None] * factor / parameters.tick + 0.5) * parameters.tick_units
    return prices


def _hidden(cells: Ints, mask: npt.NDArray[np.bool_]) -> Ints:
    """Return cells with those of the lots that are not shown put together: one per side, below all buckets."""
    return np.where(mask, (cells & 1) - 2, cells)


def _cells(of_lots: Ints, of_births: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the cells that lots and births of the day lie in, and the position of each lot and birth among them.

    A cell is 2 x bucket + side (0 long, 1 short); they rise, so that they are in the order of the output.
    """
    if of_lots.size + of_births.size == 0:
        return of_lots, of_lots, of_births
    both = np.concatenate((of_lots, of_births.ravel()))
    low = int(both.min())
    span = int(both.max()) - low + 1
    if span > _DENSE:
        cells, place = np.unique(both, return_inverse=True)
    else:
        used = np.zeros(span, dtype=np.bool_)
        used[both - low] = True
        cells = np.flatnonzero(used)
        place = (np.cumsum(used) - 1)[both - low]
        cells += low
    return cells, place[: len(of_lots)], place[len(of_lots) :].reshape(of_births.shape)


def _interval_ends(open_time: Ints, snapshot_seconds: int) -> npt.NDArray[np.bool_]:
    """Return which candles are the last existing one of their snapshot interval."""
    interval = open_time // (snapshot_seconds * 1_000_000)
    ends = np.ones(len(open_time), dtype=np.bool_)
    ends[:-1] = interval[1:] != interval[:-1]
    return ends


def _result(state: ModelState, candles: DayCandles, day: kernel.Day, with_cells: bool) -> DayResult:
    time, lots, tally = candles.open_time, day.lots, day.tally[0]
    n, books = day.ledger.shape
    table: Columns = {
        "timestamp": np.repeat(time, books),
        "book": np.tile(np.arange(books), n),
        "open_interest": np.repeat(candles.open_interest, books),
    }
    table.update({name: day.ledger[name].ravel() for name in kernel.LEDGER.names or ()})
    opened = day.opens[: tally.opens]
    opens: Columns = {name: opened[name].copy() for name in kernel.OPEN.names or () if name != "passed"}
    liquidations = _liquidations(time, lots, day.deaths[: tally.deaths], opens, np.flatnonzero(opened["passed"]))
    rows = day.closes[: tally.closes]
    closes: Columns = {"timestamp": time[rows["at"]]}
    closes.update({name: rows[name].copy() for name in ("book", "quantity", "volume")})
    open_interest = float(candles.open_interest[-1]) if n else state.open_interest
    survivors = _survivors(lots[: tally.lots], len(state.lots))
    new = ModelState(survivors, tuple(float(quantity) for quantity in day.books["unlocated"]), open_interest)
    snapshots: Columns = {}
    if with_cells:
        snapshots = {name: column[: tally.snapshots] for name, column in day.snapshots._asdict().items()}
        if len(day.cells) and day.cells["number"][0] < 0:  # the first ones are of what is not shown
            seen = snapshots["price_bucket"] >= 0
            snapshots = {name: column[seen] for name, column in snapshots.items()}
    return DayResult(new, table, opens, liquidations, closes, snapshots)


def _liquidations(time: Ints, lots: Any, deaths: Any, opens: Columns, passed: Ints) -> Columns:
    """Return the lots that price reached and, of what opened, the rows that the close had passed, by candle."""
    rows: Columns = {
        "timestamp": time[deaths["at"]],
        "side": np.where(lots["side"][deaths["lot"]] == 0, LONG, SHORT).astype(np.int8),
        "leverage": lots["leverage"][deaths["lot"]],
        "entry_price": deaths["volume"] / deaths["quantity"],
        "liq_price": lots["price"][deaths["lot"]],
        "quantity": deaths["quantity"].copy(),
        "volume": deaths["volume"].copy(),
        "opened_at": lots["opened_at"][deaths["lot"]],
    }
    if len(passed):
        at_once = {name: column[passed] for name, column in opens.items()}
        at_once["opened_at"] = at_once["timestamp"]
        order = np.argsort(np.concatenate((rows["timestamp"], at_once["timestamp"])), kind="stable")
        rows = {name: np.concatenate((column, at_once[name]))[order] for name, column in rows.items()}
    return rows


def _survivors(lots: Any, old: int) -> Lots:
    """Return the lots that live, in the fixed order; the old ones are in order already, the day's new ones few."""
    alive = np.flatnonzero(lots["alive"])
    split = int(np.searchsorted(alive, old))
    new = alive[split:]
    new = new[np.lexsort((lots["price"][new], lots["leverage"][new], lots["side"][new]))]
    kinds = (np.int8, np.float64, np.int64, np.float64, np.float64, np.int64)
    out = kernel.Columns(*(np.empty(len(alive), kind) for kind in kinds))
    kernel.collect(lots, alive[:split], new, out)
    return Lots(*out)
