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
from heatmap_pipeline.model.liquidation import infer_side, price_factor, round_liq_price, should_liquidate
from heatmap_pipeline.model.parameters import ModelError, ModelParameters

_DAY = 86_400_000_000
"""Microseconds of a day."""


@dataclass
class Book:
    """The open interest of one book: lots with a liquidation price, and a quantity without.

    Attributes:
        side: the side of a book that holds one, None if it holds both.
        lots: by side, leverage and liquidation price.
        unlocated: contracts whose entry or leverage is unknown; closed like any other, never liquidated, never drawn.
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
    def coverage(self) -> float:
        """Located share of the total, 0 for an empty book."""
        total = self.total
        return self.located / total if total > 0 else 0.0

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
    """What a candle opened: the located part as levels, the rest as a quantity without a liquidation price."""

    levels: tuple[LiquidationLevel, ...]
    unlocated: float


@dataclass(frozen=True)
class CandleOutcome:
    """What one candle did to one book, and the book after it.

    Quantities are contracts, volumes USDT at entry. `opens` are the levels as they opened, before joining a lot;
    `liquidations` the lots as they died; `closed_volume` the located lots' part of `closed`. `cells` are sorted by
    bucket, long before short.
    """

    timestamp: int
    side: Side | None
    open_interest: float
    opened: float
    liquidated: float
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
    start = start_open_interest if parameters.spec.starts_with == "open_interest" else 0.0
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
    """Return what opens at a candle's close: one level per side and leverage, and the rest as unlocated.

    Args:
        candle: opens at its close, dated with its start.
        opened: contracts, not negative.
        parameters: leverage weights, margin rate, price grid.
        shares: share of `opened` by side (`side_shares`).

    Raises:
        ModelError: if `opened` is negative or not finite.
    """
    _check_quantity("opened", opened)
    spec = parameters.spec
    levels = []
    located = 0.0
    for side, share in shares.items():
        for leverage, weight in parameters.tiers:
            quantity = opened * share * (1 - spec.unlevered) * weight
            factor = price_factor(leverage, side, parameters.bracket.maintenance_margin_rate, spec.formula)
            price = round_liq_price(candle.close, factor, parameters.tick, parameters.tick_units)
            volume = quantity * candle.close
            if price <= 0 or quantity <= 0 or volume <= 0:
                continue  # no price to be liquidated at, or nothing to liquidate: stays in the remainder
            levels.append(LiquidationLevel(side, leverage, price, quantity, volume, candle.open_time, parameters))
            located += quantity
    return Opening(tuple(levels), max(opened - located, 0.0))


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
    last_of_day: bool = False,
    open_interest: float = math.nan,
) -> CandleOutcome:
    """Take one book through one candle: liquidate, net, close, open, dust, snapshot, in this order.

    Args:
        book: changed in place; all its lots were opened in earlier candles.
        candle: the candle.
        flow: change of open interest against the previous existing candle, contracts.
        parameters: the model.
        last_of_day: whether this is the day's last existing candle, when dust may move to unlocated.
        open_interest: contracts at the candle's end; only passed on to the outcome.

    Raises:
        ModelError: if the flow is not finite.
    """
    if not math.isfinite(flow):
        raise ModelError(f"flow = {flow!r} of candle {candle.open_time} is not finite")
    spec = parameters.spec

    # 1. Liquidate
    liquidations = tuple(lot for lot in book.lots.values() if should_liquidate(lot, candle))
    for lot in liquidations:
        del book.lots[lot.key]
    liquidated = math.fsum(lot.quantity for lot in liquidations)

    # 2. Net
    net = flow + liquidated if spec.nets else flow
    churn = max(min(spec.turnover * candle.volume, book.total - max(-net, 0.0)), 0.0)

    # 3. Close
    closing = remove_proportionally(book, max(-net, 0.0) + churn)
    dropped = 0.0
    if spec.dust_rule == "drop" and closing.ratio > 0:
        dropped = _take_dust(book, spec.dust)

    # 4. Open
    opened = max(net, 0.0) + churn
    opening = create_positions(candle, opened, parameters, side_shares(book, candle))
    for level in opening.levels:
        book.add(level)
    book.unlocated += opening.unlocated

    # 5. Dust (the other rule has had its turn after step 3)
    if spec.dust_rule == "unlocate" and last_of_day:
        book.unlocated += _take_dust(book, spec.dust)

    # 6. Snapshot
    return CandleOutcome(
        timestamp=candle.open_time,
        side=book.side,
        open_interest=open_interest,
        opened=opened,
        liquidated=liquidated,
        closed=closing.quantity,
        dropped=dropped,
        located=book.located,
        unlocated=book.unlocated,
        active_volume=book.active_volume,
        consumed_volume=math.fsum(lot.volume for lot in liquidations),
        closed_volume=closing.volume,
        opens=opening.levels,
        liquidations=liquidations,
        cells=_cells(book.lots.values(), liquidations, parameters.bucket_units),
    )


def run_stepwise(
    candles: Sequence[Candle],
    flows: Sequence[float],
    parameters: ModelParameters,
    start_open_interest: float,
    books: Sequence[Book] | None = None,
) -> StepwiseRun:
    """Run a model over the candles of one or more days; the last candle given ends its day.

    Args:
        candles: existing candles in time order; a missing one is simply not there.
        flows: change of open interest of each candle, contracts, same length.
        parameters: the model.
        start_open_interest: open interest before the first candle, contracts.
        books: books to continue with (they are changed); None starts a history.

    Raises:
        ModelError: if lengths differ, the candles are not in time order or the starting open interest is negative.
    """
    if len(flows) != len(candles):
        raise ModelError(f"flows has {len(flows)} values for {len(candles)} candles; give one per candle")
    _check_quantity("start_open_interest", start_open_interest)
    for one, other in pairwise(candles):
        if other.open_time <= one.open_time:
            raise ModelError(f"candle {other.open_time} does not start after the one before it, {one.open_time}")
    current = new_books(parameters, start_open_interest) if books is None else tuple(books)
    outcomes: list[CandleOutcome] = []
    snapshots = []
    open_interest = start_open_interest
    for index, (candle, flow) in enumerate(zip(candles, flows, strict=True)):
        open_interest += flow
        last = index + 1 == len(candles) or candles[index + 1].open_time // _DAY > candle.open_time // _DAY
        of_candle = [
            process_candle(book, candle, flow, parameters, last_of_day=last, open_interest=open_interest)
            for book in current
        ]
        outcomes += of_candle
        snapshots.append(_snapshot(of_candle))
    return StepwiseRun(tuple(outcomes), tuple(snapshots), current)


def _take_dust(book: Book, dust: float) -> float:
    """Take the lots of less volume than `dust` (USDT) out of a book and return their contracts."""
    small = [lot for lot in book.lots.values() if lot.volume < dust]
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
