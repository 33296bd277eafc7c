"""The clean tables of one day and what is known about how they became clean.

These are the shapes every source has to deliver; the archive, the demo market and the exchange differ only in how they
get there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.symbols import Contract, why_not_computed, words_for_unknown_quote

CANDLE_COLUMNS = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
"""Columns of clean candles: `open_time` datetime64[us] UTC, prices in the quote asset, `volume` in contracts, `trades`
int64."""

RawRows: TypeAlias = pd.DataFrame | Mapping[str, NDArray[Any]]
"""Rows as they were read, a column each: a table, or arrays alone, which of a small file cost a tenth of a table."""

OPEN_INTEREST_COLUMNS = ("snapshot_time", "contracts", "value")
"""Columns of clean samples: `snapshot_time` datetime64[us] UTC, when taken; contracts; value in the quote asset, NaN =
unknown."""


def frame(columns: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Return columns as a table of its own, a third faster than pandas makes one that copies them into blocks."""
    return pd.DataFrame({name: np.array(column) for name, column in columns.items()}, copy=False)


class MarketError(HeatmapError):
    """Market data that cannot be used, with the file and the row named."""


class NoDataError(MarketError):
    """The source has nothing for this symbol and day (not published yet, or not listed)."""


class NotTradedError(NoDataError):
    """The exchange does not trade the symbol (any more), or does not know it: nothing newer than its archive has."""


class ClosedError(MarketError):
    """The exchange does not serve the place this runs at, so what only it has cannot be had from here.

    What its archive has can. No try of the same changes that, so it is not temporary.
    """


class BannedError(ClosedError):
    """The exchange has banned this address for some time; asking before its end makes it longer."""


def checked(contract: Contract) -> Contract:
    """Return a contract that is computed.

    Raises:
        MarketError: for any other, and for one of which nobody said what it is quoted in.
    """
    if words := why_not_computed(contract) or ("" if contract.quote else words_for_unknown_quote(contract.symbol)):
        raise MarketError(words)
    return contract


@dataclass(frozen=True)
class Ending:
    """A symbol that is not traded any more: the last day (UTC) that can be had of it, and how that is known, in words.

    `anew` is the day from which the exchange trades another contract under the same name, where it does.
    """

    last: date
    reason: str
    anew: date | None = None


@dataclass(frozen=True)
class CleanDay:
    """One symbol's clean rows of one kind and day.

    Attributes:
        symbol: as the exchange writes it.
        day: UTC.
        table: clean rows in time order, with `CANDLE_COLUMNS` or `OPEN_INTEREST_COLUMNS`.
        step: seconds between rows: the candle interval, or the step of the file of samples.
        repairs: count of each repair that was made; only those above 0.
        facts: what else was decided, JSON-able: the file, its sha256, the rule that decided the clock of the samples.
    """

    symbol: str
    day: date
    table: pd.DataFrame
    step: int
    repairs: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def content_hash(self) -> str:
        """Return a hash of the clean rows and their step: equal rows, equal hash, wherever they came from."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(json.dumps([self.symbol, self.day.isoformat(), self.step, list(self.table.columns)]).encode())
        for name in self.table.columns:
            digest.update(np.ascontiguousarray(self.table[name].to_numpy()).tobytes())
        return digest.hexdigest()
