"""The fast engine: one day of any model, compiled.

It computes what `stepwise.py` spells out, in other words:

- closing shrinks every lot of a book by the same ratio, so a book carries one survival factor S and its lots are stored
  as quantity / S at the moment they open; a closing is one multiplication, whatever the size of the book;
- lots that price reaches pop from a heap per side (longs highest first, shorts lowest first);
- the cells of the map are running sums of lots per bucket and side, times S; a day knows beforehand which it can touch.

That makes a day O(N log N + output). Every day starts again from S = 1 with the lots in a fixed order, so a run over
many days is the loop over its days, bit for bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from heatmap_pipeline.model.book import (
    BOOKS,
    LONG,
    SHORT,
    Columns,
    DayCandles,
    DayResult,
    Floats,
    Ints,
    Lots,
    ModelState,
)
from heatmap_pipeline.model.liquidation import price_factor
from heatmap_pipeline.model.parameters import MAX_PRICE, ModelError, ModelParameters

_DENSE = 1 << 19
"""Up to this many cells from the lowest lot to the highest are numbered through a table; beyond, by sorting."""

_TINY = 1e-100
"""A survival factor below this is folded into the lots, so that it never underflows."""


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
    first = open_interest if parameters.spec.starts_with == "open_interest" else 0.0
    return ModelState(Lots.empty(), tuple(first for _ in BOOKS[parameters.spec.books]), float(open_interest))


def run_day(
    parameters: ModelParameters, state: ModelState, candles: DayCandles, snapshot_seconds: int | None = None
) -> DayResult:
    """Carry the books through the candles of one day.

    Args:
        parameters: the model, resolved for symbol and day.
        state: what the day before left (`start_state` for the first day).
        candles: the day's model candles with their flows, n of them; n may be 0.
        snapshot_seconds: distance of the snapshots in seconds, a multiple of the candle step; None computes no cells.

    Returns:
        The new state, ledger, events, and cells if asked for.

    Raises:
        ModelError: for arrays of different length, numbers that are not finite, candles out of order, prices outside
            (0, 1e7] USDT, a flow that is not the change of the open interest, or a snapshot distance that does not fit.
    """
    _check(parameters, state, candles, snapshot_seconds)
    tiers = parameters.tiers
    leverage = np.array([row[0] for row in tiers])
    weight = np.array([row[1] for row in tiers])
    births = _birth_prices(parameters, candles.close, leverage)
    lots = state.lots
    lot_side = (lots.side < 0).astype(np.int64)
    if snapshot_seconds is None:
        cells, lot_cell, birth_cell, ends = _no_cells(lots, births)
    else:
        cells, lot_cell, birth_cell = _cells(parameters, lot_side, lots.liq_price, births)
        ends = _interval_ends(candles.open_time, snapshot_seconds)
    spec = parameters.spec
    raw = _run(  # type: ignore[call-arg]  # numba's stubs do not count starred arguments
        _units(candles.low),
        _units(candles.high),
        *map(_own, (candles.close, candles.volume, candles.flow, candles.open_interest, candles.open_time)),
        (candles.close < candles.open).astype(np.int64),
        ends,
        leverage,
        weight * (1.0 - spec.unlevered),
        births,
        birth_cell,
        lot_side,
        *map(_own, (lots.leverage, lots.liq_price, lots.quantity, lots.volume, lots.opened_at)),
        lot_cell,
        np.array(state.unlocated, dtype=np.float64),
        cells,
        (snapshot_seconds or 1) * 1_000_000,
        spec.nets,
        float(spec.turnover),
        float(spec.unlevered),
        float(spec.dust),
        spec.dust_rule == "drop",
        spec.starts_with == "open_interest",
    )
    return _result(state, candles, leverage, raw, snapshot_seconds is not None)


def _check(parameters: ModelParameters, state: ModelState, candles: DayCandles, snapshot_seconds: int | None) -> None:
    n = len(candles)
    for name in ("open", "high", "low", "close", "volume", "flow", "open_interest"):
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
    if n == 0:
        return
    if (np.diff(candles.open_time) <= 0).any():
        raise ModelError("candles.open_time is not strictly rising")
    if candles.low.min() <= 0 or candles.high.max() > MAX_PRICE:
        raise ModelError(f"candles hold a price outside (0, {MAX_PRICE:g}] USDT")
    if candles.volume.min() < 0:
        raise ModelError(f"candles.volume[{int(np.argmin(candles.volume))}] is negative")
    if candles.open_interest.min() < 0:
        raise ModelError(f"candles.open_interest[{int(np.argmin(candles.open_interest))}] is negative")
    before = np.concatenate(([state.open_interest], candles.open_interest[:-1]))
    off = np.abs(before + candles.flow - candles.open_interest)
    if (off > 1e-9 * np.maximum(before, candles.open_interest)).any():
        raise ModelError(f"candles.flow[{int(np.argmax(off))}] is not the change of candles.open_interest")


def _own(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a contiguous, writable copy: for any other layout numba would compile everything once more."""
    return np.array(array, order="C")


def _units(price: npt.NDArray[np.float64]) -> Ints:
    return np.rint(price * 1e8).astype(np.int64)


def _birth_prices(
    parameters: ModelParameters, close: npt.NDArray[np.float64], leverage: npt.NDArray[np.float64]
) -> Ints:
    """Return the liquidation price (1e-8 USDT) of what opens at each candle: shape (2 sides, n candles, k tiers)."""
    spec, rate = parameters.spec, parameters.bracket.maintenance_margin_rate
    prices = np.empty((2, len(close), len(leverage)), dtype=np.int64)
    for row, side in enumerate(("long", "short")):
        factor = np.array([price_factor(float(one), side, rate, spec.formula) for one in leverage])
        prices[row] = np.floor(close[:, None] * factor / parameters.tick + 0.5).astype(np.int64) * parameters.tick_units
    return prices


def _no_cells(lots: Lots, births: Ints) -> tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]]:
    nothing = np.zeros(0, dtype=np.int64)
    return (
        nothing,
        np.zeros(len(lots), dtype=np.int64),
        np.zeros_like(births),
        np.zeros(births.shape[1], dtype=np.bool_),
    )


def _cells(parameters: ModelParameters, lot_side: Ints, lots: Ints, births: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the cells that lots and births of the day lie in, and the position of each lot and birth among them.

    A cell is 2 x bucket + side (0 long, 1 short); they rise, so that they are in the order of the output.
    """
    of_lots = lots // parameters.bucket_units * 2 + lot_side
    of_births = births // parameters.bucket_units * 2 + np.arange(2)[:, None, None]
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
    return cells, place[: len(lots)], place[len(lots) :].reshape(births.shape)


def _interval_ends(open_time: Ints, snapshot_seconds: int) -> npt.NDArray[np.bool_]:
    """Return which candles are the last existing one of their snapshot interval."""
    interval = open_time // (snapshot_seconds * 1_000_000)
    ends = np.ones(len(open_time), dtype=np.bool_)
    ends[:-1] = interval[1:] != interval[:-1]
    return ends


def _result(state: ModelState, candles: DayCandles, leverage: Floats, raw: Any, with_cells: bool) -> DayResult:
    lot, unlocated, ledger, opened, liquidated, closed, cells = raw
    time = candles.open_time
    n, books = ledger.shape[1:]
    names = ("opened", "liquidated", "closed", "dropped", "located", "unlocated", "active_volume", "consumed_volume")
    table: Columns = {
        "timestamp": np.repeat(time, books),
        "book": np.tile(np.arange(books), n),
        "open_interest": np.repeat(candles.open_interest, books),
    }
    table.update({name: ledger[row].ravel() for row, name in enumerate(names)})
    at, side, tier, price, quantity, volume = opened
    opens: Columns = {
        "timestamp": time[at],
        "side": _side(side),
        "leverage": leverage[tier],
        "entry_price": candles.close[at],
        "liq_price": price,
        "quantity": quantity,
        "volume": volume,
    }
    at, which, quantity, volume = liquidated
    liquidations: Columns = {
        "timestamp": time[at],
        "side": _side(lot[0][which]),
        "leverage": lot[1][which],
        "entry_price": volume / quantity,
        "liq_price": lot[2][which],
        "quantity": quantity,
        "volume": volume,
        "opened_at": lot[5][which],
    }
    at, book, quantity, volume = closed
    closes: Columns = {"timestamp": time[at], "book": book, "quantity": quantity, "volume": volume}
    open_interest = float(candles.open_interest[-1]) if n else state.open_interest
    new = ModelState(_survivors(lot, len(state.lots)), tuple(float(one) for one in unlocated), open_interest)
    of_cells = ("timestamp", "price_bucket", "side", "active_volume", "consumed_volume")
    snapshots: Columns = dict(zip(of_cells, cells, strict=True)) if with_cells else {}
    return DayResult(new, table, opens, liquidations, closes, snapshots)


def _side(row: Ints) -> npt.NDArray[np.int8]:
    return np.where(row == 0, LONG, SHORT).astype(np.int8)


def _survivors(lot: Any, old: int) -> Lots:
    """Return the lots that live, in the fixed order; the old ones are in order already, the day's new ones few."""
    side, leverage, price, quantity, volume, opened_at, alive = lot
    new = old + np.flatnonzero(alive[old:])
    new = new[np.lexsort((price[new], leverage[new], side[new]))]
    order = _merge(side, leverage, price, np.flatnonzero(alive[:old]), new)
    return Lots(_side(side[order]), leverage[order], price[order], quantity[order], volume[order], opened_at[order])


@njit(cache=True)
def _merge(side, leverage, price, left, right):  # type: ignore[no-untyped-def]  # compiled: numba infers the types
    out = np.empty(len(left) + len(right), dtype=np.int64)
    i = j = 0
    for position in range(len(out)):
        if j >= len(right):
            take_left = True
        elif i >= len(left):
            take_left = False
        else:
            a, b = left[i], right[j]
            if side[a] != side[b]:
                take_left = side[a] < side[b]
            elif leverage[a] != leverage[b]:
                take_left = leverage[a] < leverage[b]
            else:
                take_left = price[a] <= price[b]
        if take_left:
            out[position] = left[i]
            i += 1
        else:
            out[position] = right[j]
            j += 1
    return out


@njit(cache=True)
def _push(heap, size, key, item):  # type: ignore[no-untyped-def]
    position = size
    while position > 0:
        parent = (position - 1) >> 1
        if key[heap[parent]] <= key[item]:
            break
        heap[position] = heap[parent]
        position = parent
    heap[position] = item
    return size + 1


@njit(cache=True)
def _sink(heap, size, key, position):  # type: ignore[no-untyped-def]
    item = heap[position]
    while True:
        child = 2 * position + 1
        if child >= size:
            break
        if child + 1 < size and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        if key[item] <= key[heap[child]]:
            break
        heap[position] = heap[child]
        position = child
    heap[position] = item


@njit(cache=True)
def _pop(heap, size, key):  # type: ignore[no-untyped-def]
    size -= 1
    heap[0] = heap[size]
    if size > 0:
        _sink(heap, size, key, 0)
    return size


@njit(cache=True)
def _slot(table, side, leverage, price, one_side, one_leverage, one_price):  # type: ignore[no-untyped-def]
    """Return where in the open-addressing table the lot with this key stands, or the empty place where it belongs."""
    mask = len(table) - 1
    mixed = (one_price // 10 ^ (one_price >> 17)) * 0x9E3779B1 + np.int64(one_leverage * 1024.0) * 0x85EBCA6B + one_side
    position = (mixed ^ (mixed >> 29)) & mask
    while True:
        held = table[position]
        if held < 0 or (side[held] == one_side and price[held] == one_price and leverage[held] == one_leverage):
            return position
        position = (position + 1) & mask


@njit(cache=True)
def _snapshot(columns, row, start, cells, survival, volume, lots, consumed):  # type: ignore[no-untyped-def]
    """Write the rows of one snapshot from `row` on, set what was consumed back to 0, and return the next free row.

    Apart from the long loop for speed: inside it numba would count references to the columns at every row, which takes
    ten times as long.
    """
    times, buckets, sides, active, dead = columns
    factor = (survival[0], survival[len(survival) - 1])
    for at in range(len(cells)):
        s = cells[at] & 1
        now = volume[at] * factor[s] if lots[at] > 0 else 0.0
        if now > 0.0 or consumed[at] > 0.0:
            times[row], buckets[row], sides[row] = start, cells[at] >> 1, 1 - 2 * s
            active[row], dead[row] = max(now, 0.0), consumed[at]
            consumed[at] = 0.0
            row += 1
    return row


@njit(cache=True)
def _run(  # type: ignore[no-untyped-def]  # noqa: C901, PLR0912, PLR0915  # one compiled loop, each step marked
    low,
    high,
    close,
    candle_volume,
    flow,
    open_interest,
    open_time,
    candle_side,
    ends,
    tier_leverage,
    tier_share,
    births,
    birth_cell,
    lot_side,
    lot_leverage,
    lot_price,
    lot_quantity,
    lot_volume,
    lot_opened_at,
    lot_cell,
    unlocated_before,
    cells,
    snapshot_step,
    nets,
    turnover,
    unlevered,
    dust,
    drops_dust,
    holds_open_interest,
):
    n, k, books = len(close), len(tier_leverage), len(unlocated_before)
    old = len(lot_side)
    capacity = old + n * k * books
    with_cells = len(cells) > 0

    # Lots by number; base_* is the amount divided by the survival factor when it was added.
    side = np.empty(capacity, dtype=np.int64)
    leverage = np.empty(capacity)
    price = np.empty(capacity, dtype=np.int64)
    base_quantity = np.empty(capacity)
    base_volume = np.empty(capacity)
    opened_at = np.empty(capacity, dtype=np.int64)
    cell = np.empty(capacity, dtype=np.int64)
    alive = np.zeros(capacity, dtype=np.bool_)
    side[:old], leverage[:old], price[:old], opened_at[:old] = lot_side, lot_leverage, lot_price, lot_opened_at
    base_quantity[:old], base_volume[:old], cell[:old], alive[:old] = lot_quantity, lot_volume, lot_cell, True
    count = old

    # Books.
    survival = np.ones(books)
    sum_quantity = np.zeros(books)
    sum_volume = np.zeros(books)
    lots_in = np.zeros(books, dtype=np.int64)
    unlocated = unlocated_before.copy()

    # Finding lots: by key, by price, and by size where dust is dropped.
    places = 16
    while places < 2 * capacity:
        places *= 2
    table = np.full(places, -1, dtype=np.int64)
    reach = np.empty((2, capacity), dtype=np.int64)
    reach_size = np.zeros(2, dtype=np.int64)
    reach_key = np.empty(capacity, dtype=np.int64)  # longs die from the highest price down, so their key is negated
    small = np.empty((books, capacity if drops_dust else 0), dtype=np.int64)
    small_size = np.zeros(books, dtype=np.int64)
    small_key = np.empty(capacity)

    # Cells.
    cell_volume = np.zeros(len(cells))
    cell_lots = np.zeros(len(cells), dtype=np.int64)
    cell_consumed = np.zeros(len(cells))
    room = len(cells) * np.count_nonzero(ends)  # the most there can be; memory that no row reaches is never taken
    columns = (
        np.empty(room, dtype=np.int64),
        np.empty(room, dtype=np.int64),
        np.empty(room, dtype=np.int8),
        np.empty(room),
        np.empty(room),
    )
    rows = 0

    for one in range(old):
        s = side[one]
        b = s if books == 2 else 0
        table[_slot(table, side, leverage, price, s, leverage[one], price[one])] = one
        reach_key[one] = -price[one] if s == 0 else price[one]
        reach[s, reach_size[s]] = one
        reach_size[s] += 1
        if drops_dust:
            small_key[one] = base_volume[one]
            small[b, small_size[b]] = one
            small_size[b] += 1
        sum_quantity[b] += base_quantity[one]
        sum_volume[b] += base_volume[one]
        lots_in[b] += 1
        if with_cells:
            cell_volume[cell[one]] += base_volume[one]
            cell_lots[cell[one]] += 1
    for s in range(2):
        for position in range(reach_size[s] // 2 - 1, -1, -1):
            _sink(reach[s], reach_size[s], reach_key, position)
    if drops_dust:
        for b in range(books):
            for position in range(small_size[b] // 2 - 1, -1, -1):
                _sink(small[b], small_size[b], small_key, position)

    # What is reported.
    ledger = np.zeros((8, n, books))
    rows_open = n * k * books
    open_at = np.empty(rows_open, dtype=np.int64)
    open_side = np.empty(rows_open, dtype=np.int64)
    open_tier = np.empty(rows_open, dtype=np.int64)
    open_price = np.empty(rows_open, dtype=np.int64)
    open_quantity = np.empty(rows_open)
    open_volume = np.empty(rows_open)
    opens = 0
    dead_at = np.empty(capacity, dtype=np.int64)
    dead_lot = np.empty(capacity, dtype=np.int64)
    dead_quantity = np.empty(capacity)
    dead_volume = np.empty(capacity)
    deads = 0
    close_at = np.empty(n * books, dtype=np.int64)
    close_book = np.empty(n * books, dtype=np.int64)
    close_quantity = np.empty(n * books)
    close_volume = np.empty(n * books)
    closes = 0

    for i in range(n):
        for b in range(books):
            first_side = b
            last_side = b if books == 2 else 1

            # 1. Liquidate what price reached.
            liquidated = 0.0
            consumed = 0.0
            for s in range(first_side, last_side + 1):
                threshold = -low[i] if s == 0 else high[i]
                while reach_size[s] > 0 and reach_key[reach[s, 0]] <= threshold:
                    one = reach[s, 0]
                    reach_size[s] = _pop(reach[s], reach_size[s], reach_key)
                    if not alive[one]:
                        continue
                    alive[one] = False
                    quantity = base_quantity[one] * survival[b]
                    volume = base_volume[one] * survival[b]
                    liquidated += quantity
                    consumed += volume
                    sum_quantity[b] -= base_quantity[one]
                    sum_volume[b] -= base_volume[one]
                    lots_in[b] -= 1
                    if quantity > 0.0 and volume > 0.0:  # else it shrank to nothing before price came
                        dead_at[deads], dead_lot[deads] = i, one
                        dead_quantity[deads], dead_volume[deads] = quantity, volume
                        deads += 1
                    if with_cells:
                        at = cell[one]
                        cell_volume[at] -= base_volume[one]
                        cell_lots[at] -= 1
                        if cell_lots[at] == 0:
                            cell_volume[at] = 0.0
                        cell_consumed[at] += volume
            if lots_in[b] == 0:
                sum_quantity[b] = 0.0
                sum_volume[b] = 0.0

            # 2. Net the flow.
            located = max(sum_quantity[b] * survival[b], 0.0)
            total = located + unlocated[b]
            net = flow[i] + liquidated if nets else flow[i]
            again = max(min(turnover * candle_volume[i], total - max(-net, 0.0)), 0.0)
            opened = max(net, 0.0) + again
            closed = max(-net, 0.0) + again

            # 3. Close: every lot and the unlocated quantity shrink by the same ratio.
            ratio = min(closed / total, 1.0) if total > 0.0 else 0.0
            shrunk = ratio * total
            dropped = 0.0
            if ratio > 0.0:
                close_at[closes], close_book[closes] = i, b
                close_quantity[closes] = shrunk
                close_volume[closes] = ratio * max(sum_volume[b] * survival[b], 0.0)
                closes += 1
                survival[b] *= 1.0 - ratio
                unlocated[b] *= 1.0 - ratio
                if ratio == 1.0 or survival[b] == 0.0:
                    for s in range(first_side, last_side + 1):
                        for position in range(reach_size[s]):
                            alive[reach[s, position]] = False
                        reach_size[s] = 0
                    for at in range(len(cells)):
                        if books == 1 or cells[at] & 1 == b:
                            cell_volume[at] = 0.0
                            cell_lots[at] = 0
                    small_size[b] = 0
                    sum_quantity[b] = 0.0
                    sum_volume[b] = 0.0
                    lots_in[b] = 0
                    survival[b] = 1.0
                elif survival[b] < _TINY:
                    for s in range(first_side, last_side + 1):
                        for position in range(reach_size[s]):
                            one = reach[s, position]
                            base_quantity[one] *= survival[b]
                            base_volume[one] *= survival[b]
                            small_key[one] *= survival[b]
                    for at in range(len(cells)):
                        if books == 1 or cells[at] & 1 == b:
                            cell_volume[at] *= survival[b]
                    sum_quantity[b] *= survival[b]
                    sum_volume[b] *= survival[b]
                    survival[b] = 1.0

                # 5. Dust that is dropped, smallest first; a joined lot is larger than its place in the heap says.
                while drops_dust and small_size[b] > 0 and small_key[small[b, 0]] * survival[b] < dust:
                    one = small[b, 0]
                    small_size[b] = _pop(small[b], small_size[b], small_key)
                    if not alive[one]:
                        continue
                    if base_volume[one] * survival[b] >= dust:
                        small_key[one] = base_volume[one]
                        small_size[b] = _push(small[b], small_size[b], small_key, one)
                        continue
                    alive[one] = False
                    dropped += base_quantity[one] * survival[b]
                    sum_quantity[b] -= base_quantity[one]
                    sum_volume[b] -= base_volume[one]
                    lots_in[b] -= 1
                    if lots_in[b] == 0:
                        sum_quantity[b] = 0.0
                        sum_volume[b] = 0.0
                    if with_cells:
                        at = cell[one]
                        cell_volume[at] -= base_volume[one]
                        cell_lots[at] -= 1
                        if cell_lots[at] == 0:
                            cell_volume[at] = 0.0

            # 4. Open at the close.
            if opened > 0.0:
                s = candle_side[i] if books == 1 else b
                unlocated[b] += opened * unlevered
                for tier in range(k):
                    quantity = opened * tier_share[tier]
                    volume = quantity * close[i]
                    if births[s, i, tier] <= 0:
                        unlocated[b] += quantity
                        continue
                    if volume <= 0.0:
                        continue
                    open_at[opens], open_side[opens], open_tier[opens] = i, s, tier
                    open_price[opens] = births[s, i, tier]
                    open_quantity[opens], open_volume[opens] = quantity, volume
                    opens += 1
                    place = _slot(table, side, leverage, price, s, tier_leverage[tier], births[s, i, tier])
                    one = table[place]
                    if one >= 0 and alive[one]:
                        base_quantity[one] += quantity / survival[b]
                        base_volume[one] += volume / survival[b]
                    else:
                        one = count
                        count += 1
                        side[one], leverage[one], price[one] = s, tier_leverage[tier], births[s, i, tier]
                        base_quantity[one] = quantity / survival[b]
                        base_volume[one] = volume / survival[b]
                        opened_at[one], alive[one] = open_time[i], True
                        cell[one] = birth_cell[s, i, tier]
                        table[place] = one
                        reach_key[one] = -price[one] if s == 0 else price[one]
                        reach_size[s] = _push(reach[s], reach_size[s], reach_key, one)
                        if drops_dust:
                            small_key[one] = base_volume[one]
                            small_size[b] = _push(small[b], small_size[b], small_key, one)
                        lots_in[b] += 1
                        if with_cells:
                            cell_lots[cell[one]] += 1
                    sum_quantity[b] += quantity / survival[b]
                    sum_volume[b] += volume / survival[b]
                    if with_cells:
                        cell_volume[cell[one]] += volume / survival[b]

            # A book that holds the whole open interest does so to the last bit: what rounding left is put right here.
            if holds_open_interest:
                total = max(sum_quantity[b] * survival[b], 0.0) + unlocated[b]
                if total > 0.0:
                    survival[b] *= open_interest[i] / total
                    unlocated[b] *= open_interest[i] / total
                else:
                    unlocated[b] = open_interest[i]

            # 5. Dust that moves to unlocated, once a day.
            if not drops_dust and i == n - 1:
                for one in range(count):
                    s = side[one]
                    if alive[one] and (books == 1 or s == b) and base_volume[one] * survival[b] < dust:
                        alive[one] = False
                        unlocated[b] += base_quantity[one] * survival[b]
                        sum_quantity[b] -= base_quantity[one]
                        sum_volume[b] -= base_volume[one]
                        lots_in[b] -= 1
                        if with_cells:
                            at = cell[one]
                            cell_volume[at] -= base_volume[one]
                            cell_lots[at] -= 1
                            if cell_lots[at] == 0:
                                cell_volume[at] = 0.0
                if lots_in[b] == 0:
                    sum_quantity[b] = 0.0
                    sum_volume[b] = 0.0

            ledger[0, i, b] = opened
            ledger[1, i, b] = liquidated
            ledger[2, i, b] = shrunk
            ledger[3, i, b] = dropped
            ledger[4, i, b] = max(sum_quantity[b] * survival[b], 0.0)
            ledger[5, i, b] = unlocated[b]
            ledger[6, i, b] = max(sum_volume[b] * survival[b], 0.0)
            ledger[7, i, b] = consumed

        # 6. Snapshot.
        if with_cells and ends[i]:
            start = open_time[i] // snapshot_step * snapshot_step
            rows = _snapshot(columns, rows, start, cells, survival, cell_volume, cell_lots, cell_consumed)

    for one in range(count):
        if alive[one]:
            b = side[one] if books == 2 else 0
            base_quantity[one] *= survival[b]
            base_volume[one] *= survival[b]
            alive[one] = base_quantity[one] > 0.0 and base_volume[one] > 0.0
    return (
        (
            side[:count],
            leverage[:count],
            price[:count],
            base_quantity[:count],
            base_volume[:count],
            opened_at[:count],
            alive[:count],
        ),
        unlocated,
        ledger,
        (
            open_at[:opens],
            open_side[:opens],
            open_tier[:opens],
            open_price[:opens],
            open_quantity[:opens],
            open_volume[:opens],
        ),
        (dead_at[:deads], dead_lot[:deads], dead_quantity[:deads], dead_volume[:deads]),
        (close_at[:closes], close_book[:closes], close_quantity[:closes], close_volume[:closes]),
        (columns[0][:rows], columns[1][:rows], columns[2][:rows], columns[3][:rows], columns[4][:rows]),
    )
