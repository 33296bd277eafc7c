"""What the ops are given: the warehouse and the market source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.chain.publication import Publication
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market.sources import Market, open_market
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.forget import drop_if_nothing
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError, Warehouse


class WarehouseResource(DuckDBResource):
    """dagster-duckdb's resource for the databases of a home: `database` is the published one, beside the private ones.

    How it is configured and shown is dagster-duckdb's; how a file is opened is not, for three reasons. The stock
    `get_connection` leaves the connection, and with it DuckDB's lock on the file, open after an exception. It knows no
    lock of ours, under which a file is made, written and published. And an opening that fails is tried again ten
    times in a hundred seconds, whatever the reason: a damaged file, a full disk. So files are opened through
    `store.warehouse.Warehouse`, which also says in words why it failed. `connection_config` are settings of the private
    ones.

    Attributes:
        lock_timeout: seconds to wait for another process before giving up.
    """

    lock_timeout: float = 600.0
    _drawn: list[str] = PrivateAttr(default_factory=list)
    _published: dict[str, Publication | HeatmapError] = PrivateAttr(default_factory=dict)

    @property
    def drawn(self) -> list[str]:
        """The symbols that this run has drawn, in order: nothing keeps them from being published any more."""
        return self._drawn

    @property
    def published(self) -> dict[str, Publication | HeatmapError]:
        """What became of the symbols that this run has published with another one, until their own step has said so."""
        return self._published

    @property
    def warehouse(self) -> Warehouse:
        """The warehouse itself, for what is more than one connection: publication.

        Raises:
            StoreError: if `database` is not the published database of a home.
        """
        database = Path(self.database)
        warehouse = Warehouse(database.parent, lock_timeout=self.lock_timeout)
        if database != warehouse.published:
            name = warehouse.published.name
            raise StoreError(f"{database} is not the published database of a home; give the path of its {name}")
        return warehouse

    @contextmanager
    def get_connection(self, symbol: str | None = None) -> Iterator[Connection]:
        """Open the private database of a symbol, or what is published, read-only; it is closed whatever happens.

        Args:
            symbol: id of the market; None: what is published.

        Raises:
            StoreError: as `Warehouse.connect` and `Warehouse.read` do.
        """
        warehouse = self.warehouse
        opened = warehouse.read() if symbol is None else warehouse.connect(symbol, config=self.connection_config)
        with opened as con:
            yield con

    def drop_if_nothing(self, symbol: str) -> bool:
        """Remove the private database of a symbol of which nothing is stored; raises as `store.forget` does.

        Returns:
            Whether there is none now.
        """
        return drop_if_nothing(self.warehouse, symbol)


def market_resource(settings: Settings) -> dg.ResourceDefinition:
    """Return the market source, opened when a run first needs it."""

    @dg.resource(description=f"Candles and open interest from source {settings.source}.")
    def market(_: dg.InitResourceContext) -> Market:
        return open_market(settings, lambda symbol, done, total: tell(symbol, "download", done, total))

    return market
