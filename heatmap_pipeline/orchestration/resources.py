"""What the ops are given: the warehouse and the market source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import pandas as pd
from dagster_duckdb import DuckDBResource

from heatmap_pipeline.market.archive import ArchiveReader, read_many
from heatmap_pipeline.market.tables import CleanDay
from heatmap_pipeline.settings import Interval, Settings
from heatmap_pipeline.store.warehouse import Warehouse


class WarehouseResource(DuckDBResource):
    """The private warehouse under its lock.

    The stock resource leaves its connection open after an exception and fights over the file without a lock; this one
    opens it through `store.warehouse.Warehouse`, which does neither.
    """

    lock_timeout: float = 600.0

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse itself, for what is more than one connection: publication."""
        return Warehouse(Path(self.database).parent, lock_timeout=self.lock_timeout)

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        """Open the warehouse; it is closed again whatever happens."""
        with self.warehouse.connect() as con:
            yield con


class MarketResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where candles and open interest come from: a tree of archive files, which the demo market writes first."""

    source: str
    root: str
    demo_seed: int = 7

    @property
    def _reader(self) -> ArchiveReader:
        return ArchiveReader(Path(self.root))

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Make sure that the files of these days are there, as far as the source has them."""
        if self.source == "demo":
            from heatmap_pipeline.market.demo import write_demo_days  # noqa: PLC0415  # only the demo pays for it

            write_demo_days(Path(self.root), symbol, days, seed=self.demo_seed)

    def available(self, symbol: str, days: Sequence[date]) -> set[date]:
        """Return those of the days whose candles the source can give, at any interval."""
        if self.source == "demo":
            return set(days)
        held = {day for interval in get_args(Interval) for day in self._reader.days(symbol, interval)}
        return held & set(days)

    def interval(self, settings: Settings, symbol: str, days: Sequence[date]) -> int:
        """Return the candle step in seconds: the symbol's setting, else the common one, else the finest there is."""
        own = settings.of(symbol).candle_interval
        return self._reader.choose_interval(symbol, days, own or settings.candle_interval, strict=own is not None)

    def candles(self, symbol: str, days: Sequence[date], interval: int) -> Iterator[CleanDay]:
        """Yield the clean candles of each day, in order; files are read ahead in threads."""
        reader = self._reader
        return read_many(lambda day: reader.read_candles(symbol, day, interval), days)

    def open_interest(self, symbol: str, candles: dict[date, pd.DataFrame], interval: int) -> Iterator[CleanDay]:
        """Yield the clean samples of each day of `candles`, in order."""
        reader = self._reader
        return read_many(lambda day: reader.read_open_interest(symbol, day, candles[day], interval), sorted(candles))
