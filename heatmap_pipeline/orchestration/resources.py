"""What the ops are given: the warehouse and the market source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_duckdb import DuckDBResource

from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.market.sources import Market, open_market
from heatmap_pipeline.settings import Settings
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


def market_resource(settings: Settings) -> dg.ResourceDefinition:
    """Return the market source, opened when a run first needs it."""

    @dg.resource(description=f"Candles and open interest from source {settings.source}.")
    def market(_: dg.InitResourceContext) -> Market:
        return open_market(settings, lambda symbol, done, total: tell(symbol, "download", done, total))

    return market
