"""The model step by step, on plain dictionaries and loops: written to be read, and to check the engine against.

Follows docs/model.md word for word. Clarity before speed: every lot shrinks by itself and totals are summed anew
for each candle. `engine.py` computes the same numbers fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from heatmap_pipeline.model.levels import Candle, HeatmapCell, HeatmapSnapshot, Key, LiquidationLevel, Side
from heatmap_pipeline.model.liquidation import (
    entries,
    infer_side,
    passed_at_once,
    price_factor,
    round_liq_price,
    should_liquidate,
)
from heatmap_pipeline.model.parameters import ModelError, ModelParameters, ModelSpec

_DAY = 86_400_000_000
"""Microseconds of a day."""


@dataclass
class Book:
    """The open interest of one book: lots with a liquidation price, and a quantity without.

    Attributes:
        side: the side of a book that holds one, None if it holds both.
        lots: by side, leverage and liquidation price.
        unlocated: contracts without a liquidation price that price will find: open before the first sample, not
            liquidable, or dust; closed like any other, never liquidated, never drawn.
    """

    side: Side | None = None
    lots: dict[Key, LiquidationLevel] = field(default_factory=dict)
    unlocated: float = 0.0

    @property
    def located(self) -> float:
        """Contracts with a liquidation price."""
        return math.fsum(lot.quantity for lot in self.lots.values())

    @property
    def total(self) -> float:
        """All contracts of the book."""
        return self.located + self.unlocated

    @property
    def active_volume(self) -> float:
        """Volume of all lots, USDT at entry."""
        return math.fsum(lot.volume for lot in self.lots.values())

    def add(self, level: LiquidationLevel) -> None:
        """Put a level into the book; one with the same key joins the lot, which keeps its earliest `opened_at`."""
        lot = self.lots.get(level.key)
        if lot is None:
            self.lots[level.key] = replace(level)
        else:
            lot.quantity += level.quantity
            lot.volume += level.volume
            lot.opened_at = min(lot.opened_at, level.opened_at)


class Closing(NamedTuple):
    """What a closing took: the ratio applied to all, contracts with unlocated's part, USDT of located lots."""

    ratio: float
    quantity: float
    volume: float


class Opening(NamedTuple):
    """What a candle opened: lots, lots that its close had passed already, and contracts without a liquidation price."""

    levels: tuple[LiquidationLevel, ...]
    at_once: tuple[LiquidationLevel, ...]
    unlocated: float


@dataclass(frozen=True)
class CandleOutcome:
    """What one candle did to one book, and the book after it.

    Quantities are contracts, volumes USDT at entry. `rescaled` is what a level shift added (below 0: took away).
    `liquidated` is of lots of earlier candles, `liquidated_at_once` of those that opened where the close had passed
    already, a part of `opened`. `opens` are the levels as they opened, before joining a lot; `liquidations` the lots as
    they died, those at once last and among the `opens` too; `closed_volume` the located lots' part of `closed`.
    `cells` are sorted by bucket, long before short.
    """

    timestamp: int
    side: Side | None
    open_interest: float
    rescaled: float
    opened: float
    liquidated: float
    liquidated_at_once: float
    closed: float
    dropped: float
    located: float
    unlocated: float
    active_volume: float
    consumed_volume: float
    closed_volume: float
    opens: tuple[LiquidationLevel, ...]
    liquidations: tuple[LiquidationLevel, ...]
    cells: tuple[HeatmapCell, ...]

    @property
    def total(self) -> float:
        """All contracts of the book after the candle."""
        return self.located + self.unlocated


@dataclass(frozen=True)
class StepwiseRun:
    """A whole run.

    Attributes:
        outcomes: one per candle and book, candles in time order, books in the order of `books`.
        snapshots: one per candle, over all books.
        books: the books after the last candle.
    """

    outcomes: tuple[CandleOutcome, ...]
    snapshots: tuple[HeatmapSnapshot, ...]
    books: tuple[Book, ...]


def new_books(parameters: ModelParameters, start_open_interest: float) -> tuple[Book, ...]:
    """Return a model's books before its first candle.

    Args:
        parameters: the model.
        start_open_interest: open interest of the first sample, contracts.
    """
    start = start_open_interest if parameters.spec.rules.holds_open_interest else 0.0
    if parameters.spec.books == "one":
        return (Book(unlocated=start),)
    return (Book("long", unlocated=start), Book("short", unlocated=start))


def side_shares(book: Book, candle: Candle) -> dict[Side, float]:
    """Return the share of what opens in a book that goes to each side; what the shares leave is unlocated.

    A book of one side opens that side; the one book that holds both opens the side the candle names.
    """
    return {book.side or infer_side(candle): 1.0}


def create_positions(
    candle: Candle, opened: float, parameters: ModelParameters, shares: Mapping[Side, float]
) -> Opening:
    """Return what a candle opens: one level per side, entry price and leverage, and the rest as unlocated.

    Args:
        candle: has the entry prices; what it opens is dated with its start.
        opened: contracts, not negative.
        parameters: liquidable share, entries, leverage weights, margin rate, price grid.
        shares: share of `opened` by side (`side_shares`).

    Raises:
        ModelError: if `opened` is negative or not finite.
    """
    _check_quantity("opened", opened)
    spec = parameters.spec
    levels: list[LiquidationLevel] = []
    at_once: list[LiquidationLevel] = []
    liquidable = opened * spec.liquidable
    unlocated = opened * (1 - spec.liquidable) + liquidable * (1 - math.fsum(shares.values()))
    for side, share in shares.items():
        for entry_price, entry_share in entries(candle, spec.entry).items():
            for leverage, weight in parameters.tiers:
                quantity = liquidable * share * entry_share * weight
                factor = price_factor(leverage, side, parameters.bracket.maintenance_margin_rate, spec.formula)
                price = round_liq_price(entry_price, factor, parameters.tick, parameters.tick_units)
                volume = quantity * entry_price
                if price <= 0 or volume <= 0:  # no price to be liquidated at, or nothing to liquidate
                    unlocated += quantity
                    continue
                level = LiquidationLevel(side, leverage, price, quantity, volume, candle.open_time, parameters)
                (at_once if passed_at_once(level, candle) else levels).append(level)
    return Opening(tuple(levels), tuple(at_once), unlocated)


def rescale(book: Book, factor: float) -> float:
    """Multiply all that is open by the factor of a level shift and return the contracts that this added.

    Args:
        book: changed in place; prices and times of opening stay.
        factor: new level of the open interest / old one.

    Raises:
        ModelError: if the factor is not positive and finite.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ModelError(f"factor = {factor!r} is not positive and finite")
    added = (factor - 1) * book.total
    for lot in book.lots.values():
        lot.quantity *= factor
        lot.volume *= factor
    book.unlocated *= factor
    return added


def remove_proportionally(book: Book, closed: float) -> Closing:
    """Close contracts of a book: every lot and the unlocated quantity shrink by the same ratio; empty lots leave.

    Args:
        book: changed in place.
        closed: contracts wanted, not negative; at most the book's total is taken.

    Raises:
        ModelError: if `closed` is negative or not finite.
    """
    _check_quantity("closed", closed)
    total = book.total
    ratio = min(closed / total, 1.0) if total > 0 else 0.0
    volume = ratio * book.active_volume
    for lot in book.lots.values():
        lot.quantity *= 1 - ratio
        lot.volume *= 1 - ratio
    book.unlocated *= 1 - ratio
    book.lots = {key: lot for key, lot in book.lots.items() if lot.quantity > 0 and lot.volume > 0}
    return Closing(ratio, ratio * total, volume)


def process_candle(
    book: Book,
    candle: Candle,
    flow: float,
    parameters: ModelParameters,
    *,
    factor: float = 1.0,
    last_of_day: bool = False,
    open_interest: float = math.nan,
) -> CandleOutcome:
    """Take one book through one candle: liquidate, net, close, open, dust, snapshot, in this order.

    A level shift takes effect before all of it.

    Args:
        book: changed in place; all its lots were opened in earlier candles.
        candle: the candle.
        flow: change of open interest against `factor` times that of the previous existing candle, contracts.
        parameters: the model.
        factor: of a level shift that takes effect in this candle; 1 without any.
        last_of_day: whether this is the day's last existing candle, when dust may move to unlocated.
        open_interest: contracts at the candle's end; only passed on to the outcome.

    Raises:
        ModelError: if the flow is not finite, or the factor not positive and finite.
    """
    if not math.isfinite(flow):
        raise ModelError(f"flow = {flow!r} of candle {candle.open_time} is not finite")
    spec = parameters.spec
    rescaled = rescale(book, factor)

    # 1. Liquidate
    liquidations = tuple(lot for lot in book.lots.values() if should_liquidate(lot, candle))
    for lot in liquidations:
        del book.lots[lot.key]
    liquidated = math.fsum(lot.quantity for lot in liquidations)

    # 2. Net
    opened, closed = _net(book, candle, flow, liquidated, spec)

    # 3. Close
    closing = remove_proportionally(book, closed)
    dropped = 0.0
    if spec.dust_rule == "drop" and closing.ratio > 0:
        dropped = _take_dust(book, spec.dust_share)

    # 4. Open
    opening = create_positions(candle, opened, parameters, side_shares(book, candle))
    for level in opening.levels:
        book.add(level)
    liquidated_at_once = math.fsum(level.quantity for level in opening.at_once)
    book.unlocated += opening.unlocated + liquidated_at_once  # somebody holds it again: open interest says so

    # 5. Dust (the other rule has had its turn after step 3)
    if spec.dust_rule == "unlocate" and last_of_day:
        book.unlocated += _take_dust(book, spec.dust_share)

    # 6. Snapshot
    consumed = liquidations + opening.at_once
    return CandleOutcome(
        timestamp=candle.open_time,
        side=book.side,
        open_interest=open_interest,
        rescaled=rescaled,
        opened=opened,
        liquidated=liquidated,
        liquidated_at_once=liquidated_at_once,
        closed=closing.quantity,
        dropped=dropped,
        located=book.located,
        unlocated=book.unlocated,
        active_volume=book.active_volume,
        consumed_volume=math.fsum(lot.volume for lot in consumed),
        closed_volume=closing.volume,
        opens=opening.levels + opening.at_once,
        liquidations=consumed,
        cells=_cells(book.lots.values(), consumed, parameters.bucket_units),
    )


def _net(book: Book, candle: Candle, flow: float, liquidated: float, spec: ModelSpec) -> tuple[float, float]:
    """Return the contracts that open and those that close."""
    again = spec.turnover * candle.volume
    if not spec.rules.closes:
        return again, 0.0
    net = flow + liquidated if spec.rules.holds_open_interest else flow
    fall, total = max(-net, 0.0), book.total
    opened = max(net, 0.0) + max(min(again, total - fall), 0.0)
    # fall + g, written so that it is the total to the last bit where g is all that the fall leaves.
    closed = max(min(fall + again, total), fall)
    return opened, closed


def run_stepwise(
    candles: Sequence[Candle],
    flows: Sequence[float],
    parameters: ModelParameters,
    start_open_interest: float,
    books: Sequence[Book] | None = None,
    factors: Sequence[float] | None = None,
) -> StepwiseRun:
    """Run a model over the candles of one or more days; the last candle given ends its day.

    Args:
        candles: existing candles in time order; a missing one is simply not there.
        flows: change of open interest of each candle, contracts, same length; what a level shift changed is no part.
        parameters: the model.
        start_open_interest: open interest before the first candle, contracts.
        books: books to continue with (they are changed); None starts a history.
        factors: of the level shift that takes effect in each candle, same length, 1 where there is none; None: all 1.

    Raises:
        ModelError: if lengths differ, a factor is not positive, the candles are not in time order or the starting open
            interest is negative.
    """
    if len(flows) != len(candles):
        raise ModelError(f"flows has {len(flows)} values for {len(candles)} candles; give one per candle")
    factors = [1.0] * len(candles) if factors is None else factors
    if len(factors) != len(candles):
        raise ModelError(f"factors has {len(factors)} values for {len(candles)} candles; give one per candle")
    _check_quantity("start_open_interest", start_open_interest)
    for earlier, later in pairwise(candles):
        if later.open_time <= earlier.open_time:
            raise ModelError(f"candle {later.open_time} does not start after the one before it, {earlier.open_time}")
    current = new_books(parameters, start_open_interest) if books is None else tuple(books)
    outcomes: list[CandleOutcome] = []
    snapshots = []
    open_interest = start_open_interest
    for index, (candle, flow, factor) in enumerate(zip(candles, flows, factors, strict=True)):
        open_interest = factor * open_interest + flow
        last = index + 1 == len(candles) or candles[index + 1].open_time // _DAY > candle.open_time // _DAY
        of_candle = [
            process_candle(book, candle, flow, parameters, factor=factor, last_of_day=last, open_interest=open_interest)
            for book in current
        ]
        outcomes += of_candle
        snapshots.append(_snapshot(of_candle))
    return StepwiseRun(tuple(outcomes), tuple(snapshots), current)


def _take_dust(book: Book, dust_share: float) -> float:
    """Take the lots of less than a share of the book's contracts out of it and return their contracts."""
    limit = dust_share * book.total
    small = [lot for lot in book.lots.values() if lot.quantity < limit]
    for lot in small:
        del book.lots[lot.key]
    return math.fsum(lot.quantity for lot in small)


def _cells(
    active: Iterable[LiquidationLevel], consumed: Iterable[LiquidationLevel], bucket_units: int
) -> tuple[HeatmapCell, ...]:
    """Return the sums of volume per bucket and side."""
    volumes: dict[tuple[int, Side], tuple[list[float], list[float]]] = {}
    for column, lots in enumerate((active, consumed)):
        for lot in lots:
            bucket = lot.liq_price // bucket_units
            volumes.setdefault((bucket, lot.side), ([], []))[column].append(lot.volume)
    return tuple(
        HeatmapCell(bucket * bucket_units / 1e8, side, math.fsum(alive), math.fsum(dead))
        for (bucket, side), (alive, dead) in sorted(volumes.items())
    )


def _snapshot(outcomes: Sequence[CandleOutcome]) -> HeatmapSnapshot:
    """Return the snapshot of a candle over all its books."""
    return HeatmapSnapshot.from_cells(
        outcomes[0].timestamp,
        [cell for outcome in outcomes for cell in outcome.cells],
        positions_created=sum(len(outcome.opens) for outcome in outcomes),
        positions_consumed=sum(len(outcome.liquidations) for outcome in outcomes),
    )


def _check_quantity(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ModelError(f"{name} = {value!r} is negative or not finite")
