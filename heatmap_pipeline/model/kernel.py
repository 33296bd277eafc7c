"""The compiled loop over the candles of one day: the six steps of the model, a function each.

Lots, books, cells and candles are records in numpy arrays, so that the steps read like those in `stepwise.py`;
`engine.py` makes the arrays, calls `run` and reads what it wrote. An amount called `base_*` was divided by the survival
factor of its book when it was added: times the factor of now it is in contracts or USDT. Sides are 0 long, 1 short.

numba counts references to whole arrays wherever a function that takes them cannot be proven to end one way, and that
costs more than the step itself. So records are handed on rather than arrays where a single one will do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from heatmap_pipeline.compiled import compiled


def _record(*fields: tuple[str, str]) -> np.dtype[np.void]:
    """Return a type whose single values give their fields as attributes, compiled and in Python."""
    return np.dtype((np.record, list(fields)))


CANDLE = _record(
    ("open_time", "i8"),
    ("low", "i8"),
    ("high", "i8"),
    ("close", "i8"),
    ("volume", "f8"),
    ("flow", "f8"),
    ("open_interest", "f8"),
    ("factor", "f8"),
    ("side", "i8"),
    ("ends", "i8"),
)
"""A candle: prices in 1e-8 USDT, the `factor` of a level shift, the `side` a book of both opens on, `ends` 1 if a
snapshot is due."""

TIER = _record(("leverage", "f8"), ("share", "f8"))
"""A leverage and its share of what opens and is liquidable."""

ENTRY = _record(("price", "f8"), ("share", "f8"))
"""An entry price of a candle, USDT, and its share; 0 where another entry with that price has taken it over."""

LOT = _record(
    ("side", "i8"),
    ("leverage", "f8"),
    ("price", "i8"),
    ("base_quantity", "f8"),
    ("base_volume", "f8"),
    ("opened_at", "i8"),
    ("cell", "i8"),
    ("alive", "i8"),
)
"""A lot: `price` in 1e-8 USDT, `cell` the position of its cell, `alive` 1 or 0."""

BOOK = _record(
    ("number", "i8"),
    ("first_side", "i8"),
    ("last_side", "i8"),
    ("survival", "f8"),
    ("base_quantity", "f8"),
    ("base_volume", "f8"),
    ("lots", "i8"),
    ("unlocated", "f8"),
)
"""A book: the sides it holds, its survival factor, the sums over its living lots, how many they are, and the rest."""

CELL = _record(("number", "i8"), ("lots", "i8"), ("base_volume", "f8"), ("consumed", "f8"))
"""A cell of the map: `number` is 2 x bucket + side, `consumed` the USDT liquidated since the last snapshot."""

ITEM = _record(("key", "f8"), ("lot", "i8"))
"""A lot in a heap; item 0 says how many follow, item 1 has the smallest key.

Prices are whole numbers below 2**53, so that a float holds them exactly.
"""

TALLY = _record(("lots", "i8"), ("opens", "i8"), ("deaths", "i8"), ("closes", "i8"), ("snapshots", "i8"))
"""How many rows of the day's arrays are in use."""

LEDGER = _record(
    ("rescaled", "f8"),
    ("opened", "f8"),
    ("liquidated", "f8"),
    ("liquidated_at_once", "f8"),
    ("closed", "f8"),
    ("dropped", "f8"),
    ("located", "f8"),
    ("unlocated", "f8"),
    ("active_volume", "f8"),
    ("consumed_volume", "f8"),
)
"""A candle in a book, as reported: contracts and USDT."""

OPEN = _record(
    ("timestamp", "i8"),
    ("side", "i1"),
    ("passed", "i1"),
    ("leverage", "f8"),
    ("entry_price", "f8"),
    ("liq_price", "i8"),
    ("quantity", "f8"),
    ("volume", "f8"),
)
DEATH = _record(("at", "i8"), ("lot", "i8"), ("quantity", "f8"), ("volume", "f8"))
CLOSE = _record(("at", "i8"), ("book", "i8"), ("quantity", "f8"), ("volume", "f8"))
"""Events as reported, in contracts and USDT; `at`, `lot` and `book` are numbers of rows.

The `side` of what opened is +1 or -1 already, and `passed` 1 if the close had reached its price: it died at once."""

_TINY = 1e-100
"""A survival factor below this is replaced by 1."""


class Births(NamedTuple):
    """What may open: `tiers` (k,) TIER and `entries` (n, e) ENTRY.

    By side, candle, entry and tier, shape (2, n, e, k): the price in 1e-8 USDT and the position of its cell.
    """

    tiers: Any
    entries: Any
    price: Any
    cell: Any


class Columns(NamedTuple):
    """The columns of lots outside the kernel, as in `book.Lots`."""

    side: Any
    leverage: Any
    price: Any
    quantity: Any
    volume: Any
    opened_at: Any


class Snapshots(NamedTuple):
    """The columns of the cells, as they go out."""

    timestamp: Any
    price_bucket: Any
    side: Any
    active_volume: Any
    consumed_volume: Any


class Rules(NamedTuple):
    """What distinguishes one model from another, and the distance of the snapshots in microseconds."""

    holds_open_interest: bool
    closes: bool
    turnover: float
    liquidable: float
    dust_share: float
    drops_dust: bool
    snapshot_step: int


class Day(NamedTuple):
    """All arrays of a day of n candles, k tiers and B books.

    Attributes:
        candles: (n,) CANDLE.
        births: what each candle would open.
        known: the lots of the day before.
        known_cell: the position of their cells.
        lots: LOT by number, those of the day before first; room for all that may open.
        places: table from a lot's key to its number, -1 where empty; a power of 2 long, less than half full.
        books: (B,) BOOK.
        cells: CELL in the order of the output.
        reach: (2, capacity) ITEM, a heap per side: lots by price, the one that dies first on top.
        small: (B, capacity) ITEM, a heap per book: lots by quantity, the smallest on top; empty unless dust drops.
        tally: (1,) TALLY.
        ledger: (n, B) LEDGER, all 0.
        opens: OPEN.
        deaths: DEATH.
        closes: CLOSE.
        snapshots: rows of cells.
    """

    candles: Any
    births: Births
    known: Columns
    known_cell: Any
    lots: Any
    places: Any
    books: Any
    cells: Any
    reach: Any
    small: Any
    tally: Any
    ledger: Any
    opens: Any
    deaths: Any
    closes: Any
    snapshots: Snapshots


# All functions from here on are compiled. They have no annotations: numba infers the types.


@compiled
def run(day, rules):  # type: ignore[no-untyped-def]
    """Carry the books through the day; everything is written into the arrays of `day`."""
    candles, births, known, known_cell, lots, places, books, cells, reach, small = day[:10]
    tallies, ledger, opens, deaths, closes, snapshots = day[10:]
    tally = tallies[0]
    _enter(known, known_cell, rules, tally, lots, places, books, cells, reach, small)
    for i in range(len(candles)):
        candle = candles[i]
        for b in range(len(books)):
            book, row = books[b], ledger[i, b]
            row.rescaled = _rescale(candle.factor, book)
            for side in range(book.first_side, book.last_side + 1):
                while _reached(candle, side, reach):
                    number = _pop(reach, side)
                    lot = lots[number]
                    if lot.alive:
                        _liquidate(i, number, lot, book, cells[lot.cell], row, tally, deaths[tally.deaths])
            row.opened, closed = _net(rules, candle, book, row.liquidated)
            row.closed = _close(i, closed, book, tally, closes[tally.closes])
            if book.survival < _TINY:
                _renew(book, lots, cells, reach, small)
            if rules.drops_dust and row.closed > 0.0:
                row.dropped = _drop_dust(rules.dust_share, book, lots, cells, small)
            if row.opened > 0.0:
                _open(i, rules, candle, births, book, row, tally, lots, places, cells, reach, small, opens)
            if rules.holds_open_interest:
                _correct(candle.open_interest, book)
            if not rules.drops_dust and i == len(candles) - 1:
                _unlocate_dust(rules.dust_share, book, tally, lots, cells)
            row.located, row.unlocated, row.active_volume = _located(book), book.unlocated, _active(book)
        if candle.ends:
            start = candle.open_time // rules.snapshot_step * rules.snapshot_step
            _snapshot(start, books, tally, cells, snapshots)
    _leave(tally, lots, books)


@compiled
def _rescale(factor, book):  # type: ignore[no-untyped-def]
    """Multiply all that is open by the factor of a level shift; return the contracts that this added."""
    if factor == 1.0:
        return 0.0
    added = (factor - 1.0) * _total(book)
    book.survival *= factor
    book.unlocated *= factor
    return added


@compiled
def _reached(candle, side, reach):  # type: ignore[no-untyped-def]
    """Return whether price reached the first lot of a side."""
    return reach[side, 0].lot > 0 and reach[side, 1].key <= (-candle.low if side == 0 else candle.high)


@compiled
def _liquidate(i, number, lot, book, cell, row, tally, death):  # type: ignore[no-untyped-def]
    """Step 1: take out a lot that price reached."""
    death.at, death.lot = i, number
    death.quantity, death.volume = lot.base_quantity * book.survival, lot.base_volume * book.survival
    row.liquidated += death.quantity
    row.consumed_volume += death.volume
    cell.consumed += death.volume
    _forget(lot, book, cell)
    if death.quantity > 0.0 and death.volume > 0.0:  # else it shrank to nothing before price came
        tally.deaths += 1


@compiled
def _net(rules, candle, book, liquidated):  # type: ignore[no-untyped-def]
    """Step 2: return how many contracts open and close."""
    again = rules.turnover * candle.volume
    if not rules.closes:
        return again, 0.0
    net = candle.flow + liquidated if rules.holds_open_interest else candle.flow
    fall, total = max(-net, 0.0), _total(book)
    # Where all that the fall leaves is closed too, it is all there is to the last bit, and no rest of 1e-16 stays.
    return max(net, 0.0) + max(min(again, total - fall), 0.0), max(min(again + fall, total), fall)


@compiled
def _close(i, wanted, book, tally, close):  # type: ignore[no-untyped-def]
    """Step 3: shrink every lot and the unlocated quantity by the same ratio; return the contracts closed."""
    total = _total(book)
    ratio = min(wanted / total, 1.0) if total > 0.0 else 0.0
    if ratio > 0.0:
        close.at, close.book, close.quantity, close.volume = i, book.number, ratio * total, ratio * _active(book)
        tally.closes += 1
        book.survival *= 1.0 - ratio
        book.unlocated *= 1.0 - ratio
    return ratio * total


@compiled
def _open(  # type: ignore[no-untyped-def]
    i, rules, candle, births, book, row, tally, lots, places, cells, reach, small, opens
):
    """Step 4: open each entry and tier its share, into the living lot with its key or a new one.

    What has no price to be liquidated at, or one that the close had passed, is unlocated.
    """
    tiers, entries, prices, cell_of = births
    side = candle.side if book.first_side < book.last_side else book.first_side
    book.unlocated += row.opened * (1.0 - rules.liquidable)
    for e in range(entries.shape[1]):
        entry = entries[i, e]
        opened = row.opened * rules.liquidable * entry.share
        if opened <= 0.0:
            continue
        for k in range(len(tiers)):
            tier, price, c = tiers[k], prices[side, i, e, k], cell_of[side, i, e, k]
            quantity = opened * tier.share
            volume = quantity * entry.price
            if price <= 0 or volume <= 0.0:
                book.unlocated += quantity
                continue
            event = opens[tally.opens]
            tally.opens += 1
            event.timestamp, event.side, event.leverage = candle.open_time, 1 - 2 * side, tier.leverage
            event.entry_price, event.liq_price = entry.price, price
            event.quantity, event.volume = quantity, volume
            event.passed = candle.close <= price if side == 0 else candle.close >= price
            if event.passed:
                _die_at_once(event, book, row, cells[c])
                continue
            place = _place(places, lots, side, tier.leverage, price)
            number = places[place]
            if number < 0 or not lots[number].alive:
                number = tally.lots
                tally.lots += 1
                places[place] = number
                _begin(lots[number], side, tier.leverage, price, c, candle.open_time)
                book.lots += 1
                cells[c].lots += 1
                _push(reach, side, _reach_key(lots[number]), number)
                if rules.drops_dust:
                    _push(small, book.number, quantity / book.survival, number)
            _add(quantity / book.survival, volume / book.survival, lots[number], book, cells[c])


@compiled
def _die_at_once(event, book, row, cell):  # type: ignore[no-untyped-def]
    """Count what the close had passed when it opened; somebody holds it again, nobody knows where."""
    row.liquidated_at_once += event.quantity
    row.consumed_volume += event.volume
    cell.consumed += event.volume
    book.unlocated += event.quantity


@compiled
def _begin(lot, side, leverage, price, cell, opened_at):  # type: ignore[no-untyped-def]
    """Make an empty lot."""
    lot.side, lot.leverage, lot.price, lot.cell = side, leverage, price, cell
    lot.base_quantity, lot.base_volume, lot.opened_at, lot.alive = 0.0, 0.0, opened_at, 1


@compiled
def _correct(open_interest, book):  # type: ignore[no-untyped-def]
    """Make a book hold the whole open interest to the last bit, whatever rounding has left."""
    total = _total(book)
    if total > 0.0:
        book.survival *= open_interest / total
        book.unlocated *= open_interest / total
    else:
        book.unlocated = open_interest


@compiled
def _drop_dust(dust_share, book, lots, cells, small):  # type: ignore[no-untyped-def]
    """Step 5, first rule: drop lots of less than a share of the book, smallest first; return their contracts."""
    dropped, limit = 0.0, dust_share * _total(book)
    b = book.number
    while small[b, 0].lot > 0 and small[b, 1].key * book.survival < limit:
        number = _pop(small, b)
        lot = lots[number]
        cell = cells[lot.cell]
        if lot.alive and lot.base_quantity * book.survival >= limit:  # it was joined since it got its place in the heap
            _push(small, b, lot.base_quantity, number)
        elif lot.alive:
            dropped += lot.base_quantity * book.survival
            _forget(lot, book, cell)
    return dropped


@compiled
def _unlocate_dust(dust_share, book, tally, lots, cells):  # type: ignore[no-untyped-def]
    """Step 5, second rule: move lots of less than a share of the book to the unlocated quantity."""
    limit = dust_share * _total(book)
    for number in range(tally.lots):
        lot = lots[number]
        if lot.alive and _holds(book, lot.side) and lot.base_quantity * book.survival < limit:
            book.unlocated += lot.base_quantity * book.survival
            _forget(lot, book, cells[lot.cell])


@compiled
def _snapshot(start, books, tally, cells, snapshots):  # type: ignore[no-untyped-def]
    """Step 6: write a row per cell that holds or lost anything, and set what it lost back to 0."""
    timestamp, price_bucket, sides, active_volume, consumed_volume = snapshots
    factor = (books[0].survival, books[len(books) - 1].survival)
    row = tally.snapshots
    for at in range(len(cells)):
        cell = cells[at]
        side = cell.number & 1
        now = cell.base_volume * factor[side] if cell.lots > 0 else 0.0
        if now > 0.0 or cell.consumed > 0.0:
            timestamp[row], price_bucket[row], sides[row] = start, cell.number >> 1, 1 - 2 * side
            active_volume[row], consumed_volume[row] = max(now, 0.0), cell.consumed
            cell.consumed = 0.0
            row += 1
    tally.snapshots = row


@compiled
def _located(book):  # type: ignore[no-untyped-def]
    return max(book.base_quantity * book.survival, 0.0)


@compiled
def _active(book):  # type: ignore[no-untyped-def]
    return max(book.base_volume * book.survival, 0.0)


@compiled
def _total(book):  # type: ignore[no-untyped-def]
    return _located(book) + book.unlocated


@compiled
def _holds(book, side):  # type: ignore[no-untyped-def]
    return book.first_side <= side <= book.last_side


@compiled
def _add(base_quantity, base_volume, lot, book, cell):  # type: ignore[no-untyped-def]
    """Add to a lot, and to the sums of its book and cell."""
    lot.base_quantity += base_quantity
    lot.base_volume += base_volume
    book.base_quantity += base_quantity
    book.base_volume += base_volume
    cell.base_volume += base_volume


@compiled
def _forget(lot, book, cell):  # type: ignore[no-untyped-def]
    """Take a lot out of its book and cell; sums without a lot are 0, whatever rounding would leave."""
    lot.alive = 0
    book.base_quantity -= lot.base_quantity
    book.base_volume -= lot.base_volume
    book.lots -= 1
    if book.lots == 0:
        book.base_quantity = 0.0
        book.base_volume = 0.0
    cell.base_volume -= lot.base_volume
    cell.lots -= 1
    if cell.lots == 0:
        cell.base_volume = 0.0


@compiled
def _renew(book, lots, cells, reach, small):  # type: ignore[no-untyped-def]
    """Start again from a survival factor of 1, so that it never underflows."""
    if book.survival == 0.0:
        _empty(book, lots, cells, reach, small)
    else:
        _fold(book, lots, cells, reach, small)
    book.survival = 1.0


@compiled
def _empty(book, lots, cells, reach, small):  # type: ignore[no-untyped-def]
    """Forget all lots of a book at once."""
    for side in range(book.first_side, book.last_side + 1):
        for position in range(1, reach[side, 0].lot + 1):
            lots[reach[side, position].lot].alive = 0
        reach[side, 0].lot = 0
    small[book.number, 0].lot = 0
    for at in range(len(cells)):
        if _holds(book, cells[at].number & 1):
            cells[at].base_volume, cells[at].lots = 0.0, 0
    book.base_quantity, book.base_volume, book.lots = 0.0, 0.0, 0


@compiled
def _fold(book, lots, cells, reach, small):  # type: ignore[no-untyped-def]
    """Multiply the survival factor of a book into all that stands on it."""
    for side in range(book.first_side, book.last_side + 1):
        for position in range(1, reach[side, 0].lot + 1):
            lot = lots[reach[side, position].lot]
            lot.base_quantity *= book.survival
            lot.base_volume *= book.survival
            if lot.alive and not (lot.base_quantity > 0.0 and lot.base_volume > 0.0):
                _forget(lot, book, cells[lot.cell])
    for position in range(1, small[book.number, 0].lot + 1):
        small[book.number, position].key *= book.survival
    for at in range(len(cells)):
        if _holds(book, cells[at].number & 1):
            cells[at].base_volume *= book.survival
    book.base_quantity *= book.survival
    book.base_volume *= book.survival


@compiled
def _enter(known, known_cell, rules, tally, lots, places, books, cells, reach, small):  # type: ignore[no-untyped-def]
    """Put the lots of the day before into table, books, cells and heaps."""
    side, leverage, price, quantity, volume, opened_at = known
    for number in range(len(side)):
        lot, cell = lots[number], cells[known_cell[number]]
        _begin(lot, np.int64(side[number] < 0), leverage[number], price[number], known_cell[number], opened_at[number])
        book = books[min(lot.side, len(books) - 1)]
        book.lots += 1
        cell.lots += 1
        _add(quantity[number], volume[number], lot, book, cell)
        places[_place(places, lots, lot.side, lot.leverage, lot.price)] = number
        _append(reach, lot.side, _reach_key(lot), number)
        if rules.drops_dust:
            _append(small, book.number, lot.base_quantity, number)
    tally.lots = len(side)
    _order(reach)
    _order(small)


@compiled
def _leave(tally, lots, books):  # type: ignore[no-untyped-def]
    """Turn base amounts into contracts and USDT; lots without any are dead."""
    for number in range(tally.lots):
        lot = lots[number]
        if lot.alive:
            survival = books[min(lot.side, len(books) - 1)].survival
            lot.base_quantity *= survival
            lot.base_volume *= survival
            lot.alive = lot.base_quantity > 0.0 and lot.base_volume > 0.0


@compiled
def _reach_key(lot):  # type: ignore[no-untyped-def]
    """Return what lots die by: longs from the highest price down, so theirs is negated."""
    return float(-lot.price if lot.side == 0 else lot.price)


@compiled
def _has_key(lot, side, leverage, price):  # type: ignore[no-untyped-def]
    return lot.side == side and lot.price == price and lot.leverage == leverage


@compiled
def _place(places, lots, side, leverage, price):  # type: ignore[no-untyped-def]
    """Return where in the table the lot with this key stands, or the empty place where it belongs."""
    mask = len(places) - 1
    mixed = (price // 10 ^ (price >> 17)) * 0x9E3779B1 + np.int64(leverage * 1024.0) * 0x85EBCA6B + side
    position = (mixed ^ (mixed >> 29)) & mask
    while places[position] >= 0 and not _has_key(lots[places[position]], side, leverage, price):
        position = (position + 1) & mask
    return position


@compiled
def _append(heap, h, key, lot):  # type: ignore[no-untyped-def]
    """Put a lot at the end of a heap, out of order."""
    heap[h, 0].lot += 1
    item = heap[h, heap[h, 0].lot]
    item.key, item.lot = key, lot


@compiled
def _order(heap):  # type: ignore[no-untyped-def]
    """Put heaps in order."""
    for h in range(len(heap)):
        for position in range(heap[h, 0].lot // 2, 0, -1):
            _sink(heap, h, position)


@compiled
def _push(heap, h, key, lot):  # type: ignore[no-untyped-def]
    """Add a lot to a heap."""
    heap[h, 0].lot += 1
    position = heap[h, 0].lot
    while position > 1 and heap[h, position >> 1].key > key:
        heap[h, position] = heap[h, position >> 1]
        position >>= 1
    item = heap[h, position]
    item.key, item.lot = key, lot


@compiled
def _pop(heap, h):  # type: ignore[no-untyped-def]
    """Take the lot with the smallest key off a heap and return its number."""
    top, last = heap[h, 1].lot, heap[h, 0].lot
    heap[h, 1] = heap[h, last]
    heap[h, 0].lot = last - 1
    _sink(heap, h, 1)
    return top


@compiled
def _sink(heap, h, position):  # type: ignore[no-untyped-def]
    """Let the item at a position sink to where no smaller one is below it."""
    key, lot, last = heap[h, position].key, heap[h, position].lot, heap[h, 0].lot
    while 2 * position <= last:
        child = 2 * position
        if child < last and heap[h, child + 1].key < heap[h, child].key:
            child += 1
        if key <= heap[h, child].key:
            break
        heap[h, position] = heap[h, child]
        position = child
    item = heap[h, position]
    item.key, item.lot = key, lot


@compiled
def collect(lots, old, new, out):  # type: ignore[no-untyped-def]
    """Write lots by number into columns, in the fixed order; `old` and `new` are in this order each."""
    side, leverage, price, quantity, volume, opened_at = out
    i = j = 0
    for row in range(len(side)):
        if j == len(new) or (i < len(old) and _precedes(lots[old[i]], lots[new[j]])):
            lot = lots[old[i]]
            i += 1
        else:
            lot = lots[new[j]]
            j += 1
        side[row], leverage[row], price[row], opened_at[row] = 1 - 2 * lot.side, lot.leverage, lot.price, lot.opened_at
        quantity[row], volume[row] = lot.base_quantity, lot.base_volume


@compiled
def _precedes(lot, other):  # type: ignore[no-untyped-def]
    """Return whether a lot comes first in the fixed order: side, leverage, price."""
    if lot.side != other.side:
        return lot.side < other.side
    if lot.leverage != other.leverage:
        return lot.leverage < other.leverage
    return lot.price < other.price
