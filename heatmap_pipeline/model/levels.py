"""The things a heatmap is made of, as objects that refuse impossible values: candle, lot, cell, snapshot.

What belongs here: their fields, their validation and their totals. What does not: the rules that move them
(`liquidation.py`, `stepwise.py`) and the arrays that the engine works on (`book.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import InitVar, dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np

from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Floats, Sides
from heatmap_pipeline.model.parameters import ModelError, ModelParameters
from heatmap_pipeline.prices import MAX_PRICE

Side: TypeAlias = Literal["long", "short"]
Key: TypeAlias = tuple[Side, float, int]
"""(side, leverage, liquidation price in units of 1e-8 USDT): what makes two openings the same lot."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def side_sign(side: str | int) -> int:
    """Return +1 for 'long' or +1, -1 for 'short' or -1.

    Raises:
        ModelError: for any other side.
    """
    if side in ("long", LONG):
        return LONG
    if side in ("short", SHORT):
        return SHORT
    raise ModelError(f"side = {side!r} is unknown; use 'long' or 'short'")


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


@dataclass(frozen=True)
class Candle:
    """One candle of a USDT-margined linear perpetual.

    Attributes:
        open_time: start of the candle, microseconds since 1970-01-01 UTC.
        open: price at the start, USDT.
        high: highest price, USDT.
        low: lowest price, USDT.
        close: price at the end, USDT.
        volume: traded contracts (base units).

    Raises:
        ModelError: if a price is not in (0, 1e7], low or high do not enclose the body, or volume is negative.
    """

    open_time: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    def __post_init__(self) -> None:
        for name in ("open", "high", "low", "close"):
            value = getattr(self, name)
            if not 0 < value <= MAX_PRICE:
                raise ModelError(f"candle {self.open_time}: {name} = {value!r} is not a price in (0, {MAX_PRICE:g}]")
        if self.low > min(self.open, self.close):
            raise ModelError(f"candle {self.open_time}: low = {self.low!r} is above open or close")
        if self.high < max(self.open, self.close):
            raise ModelError(f"candle {self.open_time}: high = {self.high!r} is below open or close")
        if not (math.isfinite(self.volume) and self.volume >= 0):
            raise ModelError(f"candle {self.open_time}: volume = {self.volume!r} is negative or not finite")

    @property
    def time(self) -> datetime:
        """Start of the candle, UTC."""
        return _time(self.open_time)


@dataclass
class LiquidationLevel:
    """A lot: contracts of one side and leverage that are liquidated together at one price.

    Attributes:
        side: 'long' or 'short'.
        leverage: multiple, above 1.
        liq_price: liquidation price, integer in units of 1e-8 USDT, so that a touch is exact.
        quantity: contracts.
        volume: USDT at entry: the sum of quantity x entry price of all that opened into the lot.
        opened_at: start of the earliest candle that opened into the lot, microseconds since 1970-01-01 UTC.
        parameters: the parameters in use, to check the leverage against; not stored.

    Raises:
        ModelError: if the side is unknown, leverage is not above 1 or not a tier of `parameters`, or a price, quantity
            or volume is not positive and finite.

    Example:
        >>> level = LiquidationLevel("long", 10.0, 5_400_000_000_000, 2.0, 120_000.0, 0)
        >>> level.price, level.entry_price
        (54000.0, 60000.0)
    """

    side: Side
    leverage: float
    liq_price: int
    quantity: float
    volume: float
    opened_at: int
    parameters: InitVar[ModelParameters | None] = None

    def __post_init__(self, parameters: ModelParameters | None) -> None:
        if self.side not in ("long", "short"):
            raise ModelError(f"side = {self.side!r} is unknown; use 'long' or 'short'")
        if not (math.isfinite(self.leverage) and self.leverage > 1):
            raise ModelError(f"leverage = {self.leverage!r} is not above 1")
        if parameters is not None:
            allowed = [leverage for leverage, _ in parameters.tiers]
            if self.leverage not in allowed:
                names = ", ".join(f"{leverage:g}" for leverage in allowed)
                raise ModelError(f"leverage = {self.leverage!r} is not allowed; the parameters in use have {names}")
        for name in ("liq_price", "quantity", "volume"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ModelError(f"{name} = {value!r} is not positive")

    @property
    def key(self) -> Key:
        """What makes two openings the same lot."""
        return (self.side, self.leverage, self.liq_price)

    @property
    def price(self) -> float:
        """Liquidation price, USDT."""
        return self.liq_price / 1e8

    @property
    def entry_price(self) -> float:
        """Mean entry price, USDT."""
        return self.volume / self.quantity


@dataclass(frozen=True)
class HeatmapCell:
    """One price bucket of one side in one snapshot.

    Attributes:
        price_bucket: lower edge of the bucket, USDT.
        side: 'long' or 'short'.
        active_volume: USDT at entry of the lots in the bucket that are still open.
        consumed_volume: USDT at entry of the lots in the bucket that were liquidated within the snapshot's interval.

    Raises:
        ModelError: if the side is unknown, a number is negative or not finite, or both volumes are 0: an empty bucket
            has no cell.
    """

    price_bucket: float
    side: Side
    active_volume: float
    consumed_volume: float

    def __post_init__(self) -> None:
        if self.side not in ("long", "short"):
            raise ModelError(f"side = {self.side!r} is unknown; use 'long' or 'short'")
        for name in ("price_bucket", "active_volume", "consumed_volume"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ModelError(f"{name} = {value!r} is negative or not finite")
        if not (self.active_volume > 0 or self.consumed_volume > 0):
            raise ModelError(f"active_volume and consumed_volume of bucket {self.price_bucket!r} are both 0")


@dataclass(frozen=True, eq=False)
class HeatmapSnapshot:
    """The map at the end of one candle, held as arrays; cells become objects only when they are asked for.

    Built thousands of times, so only the shapes are checked; `from_cells` checks every value.

    Attributes:
        timestamp: start of the candle whose end the snapshot shows, microseconds since 1970-01-01 UTC.
        price_buckets: lower edges of the buckets, USDT, shape (n,).
        sides: +1 long, -1 short, int8, shape (n,).
        active_volumes: USDT, shape (n,).
        consumed_volumes: USDT, shape (n,).
        positions_created: number of lots opened in the candle, one per side, leverage and entry price.
        positions_consumed: number of lots liquidated in the candle, those that opened in it included.

    Raises:
        ModelError: if the arrays are not one-dimensional and equally long, or a count is negative.
    """

    timestamp: int
    price_buckets: Floats
    sides: Sides
    active_volumes: Floats
    consumed_volumes: Floats
    positions_created: int = 0
    positions_consumed: int = 0

    def __post_init__(self) -> None:
        shape = self.price_buckets.shape
        if len(shape) != 1:
            raise ModelError(f"price_buckets has shape {shape}; it must have one dimension")
        if not (self.sides.shape == self.active_volumes.shape == self.consumed_volumes.shape == shape):
            raise ModelError(
                f"sides {self.sides.shape}, active_volumes {self.active_volumes.shape} and consumed_volumes "
                f"{self.consumed_volumes.shape} must have the shape of price_buckets, {shape}"
            )
        if self.positions_created < 0 or self.positions_consumed < 0:
            raise ModelError(
                f"positions_created = {self.positions_created!r}, positions_consumed = {self.positions_consumed!r}: "
                "a count is negative"
            )

    @classmethod
    def from_cells(
        cls,
        timestamp: int,
        cells: Iterable[HeatmapCell],
        positions_created: int = 0,
        positions_consumed: int = 0,
    ) -> HeatmapSnapshot:
        """Return the snapshot of these cells, sorted by bucket, long before short.

        Raises:
            ModelError: if a bucket and side occurs twice.
        """
        rows = sorted(cells, key=lambda cell: (cell.price_bucket, cell.side))
        for row, following in pairwise(rows):
            if (row.price_bucket, row.side) == (following.price_bucket, following.side):
                raise ModelError(f"cells: bucket {row.price_bucket!r} {row.side} occurs twice")
        return cls(
            timestamp,
            np.array([cell.price_bucket for cell in rows], dtype=np.float64),
            np.array([side_sign(cell.side) for cell in rows], dtype=np.int8),
            np.array([cell.active_volume for cell in rows], dtype=np.float64),
            np.array([cell.consumed_volume for cell in rows], dtype=np.float64),
            positions_created,
            positions_consumed,
        )

    def __len__(self) -> int:
        return len(self.price_buckets)

    @property
    def time(self) -> datetime:
        """Start of the candle, UTC."""
        return _time(self.timestamp)

    @property
    def cells(self) -> tuple[HeatmapCell, ...]:
        """The cells as objects, in the order of the arrays."""
        columns = (self.price_buckets, self.sides, self.active_volumes, self.consumed_volumes)
        return tuple(
            HeatmapCell(bucket, "long" if SIDE_NAMES[side] == "long" else "short", active, consumed)
            for bucket, side, active, consumed in zip(*(column.tolist() for column in columns), strict=True)
        )

    @property
    def total_long_volume(self) -> float:
        """Active volume of all longs, USDT."""
        return float(self.active_volumes[self.sides == LONG].sum())

    @property
    def total_short_volume(self) -> float:
        """Active volume of all shorts, USDT."""
        return float(self.active_volumes[self.sides == SHORT].sum())

    @property
    def consumed_long(self) -> float:
        """Volume of the longs liquidated in the candle, USDT."""
        return float(self.consumed_volumes[self.sides == LONG].sum())

    @property
    def consumed_short(self) -> float:
        """Volume of the shorts liquidated in the candle, USDT."""
        return float(self.consumed_volumes[self.sides == SHORT].sum())
