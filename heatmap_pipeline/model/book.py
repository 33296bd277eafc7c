"""The arrays that go into a day of the model and come out of it.

Times are microseconds since 1970-01-01 UTC (int64), prices of lots integers in units of 1e-8 USDT, quantities are
contracts, volumes USDT. Only shapes and their hash live here; the rules are in `engine.py` and, to read, in
`stepwise.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Sides: TypeAlias = npt.NDArray[np.int8]

LONG, SHORT = 1, -1
SIDE_NAMES = {LONG: "long", SHORT: "short"}
BOOKS: Mapping[str, tuple[int | None, ...]] = {"one": (None,), "two": (LONG, SHORT), "two growing": (LONG, SHORT)}
"""The books of a model, in the order of `ModelState.unlocated`: None = both sides in one book."""


@dataclass(frozen=True)
class DayCandles:
    """The existing candles of one day, in time order, all arrays of shape (n,).

    `flow` is the change of open interest against the previous existing candle (contracts) and `open_interest` the
    open interest at each candle's end (contracts). `factor` is 1 except at a candle in which a level shift of the open
    interest takes effect: all that is open is multiplied by it before the candle, and
    `flow = open_interest - factor * open_interest of the previous candle`. Left out, there is no shift.
    """

    open_time: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    flow: Floats
    open_interest: Floats
    factor: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        if not len(self.factor):
            object.__setattr__(self, "factor", np.ones(len(self.open_time)))

    def __len__(self) -> int:
        return len(self.open_time)


@dataclass(frozen=True)
class Lots:
    """The lots of a model's books, shape (n,), sorted by side (long first), leverage, liquidation price.

    `side` is +1 long, -1 short; `liq_price` an integer in 1e-8 USDT; `quantity` is in contracts, `volume` in USDT at
    entry; `opened_at` the start of the earliest candle that opened into the lot.
    """

    side: Sides
    leverage: Floats
    liq_price: Ints
    quantity: Floats
    volume: Floats
    opened_at: Ints

    @classmethod
    def empty(cls) -> Lots:
        """Return no lots."""
        none = np.empty(0)
        return cls(none.astype(np.int8), none, none.astype(np.int64), none, none, none.astype(np.int64))

    def __len__(self) -> int:
        return len(self.side)

    @property
    def entry_price(self) -> Floats:
        """Mean entry price, USDT."""
        return self.volume / self.quantity


@dataclass(frozen=True)
class ModelState:
    """What one day hands to the next: lots, the unlocated quantity of each book, the last open interest (contracts)."""

    lots: Lots
    unlocated: tuple[float, ...]
    open_interest: float

    def hash(self, extra: dict[str, Any] | None = None) -> str:
        """Return a hash of the exact bits of the state (and of `extra`, JSON-able): equal if and only if equal."""
        digest = hashlib.blake2b(digest_size=16)
        for column in (
            self.lots.side,
            self.lots.leverage,
            self.lots.liq_price,
            self.lots.quantity,
            self.lots.volume,
            self.lots.opened_at,
        ):
            digest.update(np.ascontiguousarray(column).tobytes())
        rest = {"unlocated": self.unlocated, "open_interest": self.open_interest, "extra": extra}
        digest.update(json.dumps(rest, sort_keys=True).encode())
        return digest.hexdigest()


def located_share(located: Sequence[float], open_interest: float) -> float:
    """Return the share of the exchange's open interest that a map puts at a liquidation price; 0 without any interest.

    Args:
        located: contracts with a liquidation price in each book of the model. Where there is a book per side, each of
            them stands against the whole open interest, for every contract has a long and a short: theirs is the mean.
        open_interest: contracts at the same instant.

    Example:
        >>> located_share([30.0, 20.0], 1000.0)
        0.025
    """
    return sum(located) / (len(located) * open_interest) if open_interest > 0 else 0.0


Columns: TypeAlias = dict[str, npt.NDArray[Any]]
"""Equally long arrays by column name."""


@dataclass(frozen=True)
class DayResult:
    """One day of one model.

    Attributes:
        state: the books at the end of the day.
        ledger: a row per candle and book: `timestamp`, `book` (0.. in the order of `BOOKS`), `open_interest`,
            `rescaled` (what a level shift added; below 0 it took away), `opened`, `liquidated` (lots of earlier
            candles), `liquidated_at_once` (lots that their own candle passed; part of `opened`, and unlocated now),
            `closed`, `dropped`, `located`, `unlocated` (contracts), `active_volume`, `consumed_volume` (USDT).
        opens: a row per candle, side, leverage and entry price that opened: `timestamp`, `side`, `leverage`,
            `entry_price` (USDT), `liq_price` (1e-8 USDT), `quantity`, `volume`.
        liquidations: a row per lot, in the order of candles: the same columns and `opened_at`, which is `timestamp` for
            a lot that its own candle passed.
        closes: a row per candle and book with closed > 0: `timestamp`, `book`, `quantity` (with unlocated's part),
            `volume` (of located lots).
        cells: a row per snapshot, bucket and side: `timestamp` (start of the interval), `price_bucket` (units of one
            bucket), `side`, `active_volume`, `consumed_volume` (USDT); sorted by timestamp, bucket, long before short.
            Empty unless asked for.
    """

    state: ModelState
    ledger: Columns
    opens: Columns
    liquidations: Columns
    closes: Columns
    cells: Columns = field(default_factory=dict)
