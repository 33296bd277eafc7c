"""Homes as a run of the job leaves them, made without Dagster, which takes most of the time of a small run.

For tests that are about what is stored, not about a run. `test_chain.py` holds what is made here against a run's.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import date, timedelta
from functools import partial
from threading import Lock

from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.chain.ingest import ingest_candles, ingest_open_interest
from heatmap_pipeline.chain.liquidations import read_liquidations
from heatmap_pipeline.chain.scoring import score_symbol, store_outcome
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.orchestration.checks import RULES
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.sql import Connection, roll_back
from heatmap_pipeline.store.warehouse import Warehouse


class OpenedOnce:
    """A private database kept open between two borrowers of its connection: opening it is half of a small run.

    That of one symbol at a time, as the program has it.

    An error that leaves a `with` block closes it, as it closes a connection of the block's own.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._kept: tuple[AbstractContextManager[Connection], Connection] | None = None
        self._symbol = ""
        self._lent = Lock()

    @contextmanager
    def connect(self, symbol: str) -> Iterator[Connection]:
        """Lend the connection, as `Warehouse.connect` does: to one thread at a time."""
        with self._lent:
            if symbol != self._symbol:
                self.close()
            if self._kept is None:
                new = self._warehouse.connect(symbol)
                self._kept, self._symbol = (new, new.__enter__()), symbol
            opened, con = self._kept
            try:
                yield con
            except BaseException:
                self._kept = None
                if not opened.__exit__(*sys.exc_info()):  # it raises what it makes of the error, or leaves it as it is
                    raise
            else:
                roll_back(con)

    def close(self) -> None:
        """Close it; the next borrower opens it again."""
        if self._kept is not None:
            opened, _ = self._kept
            self._kept = None
            opened.__exit__(None, None, None)


def compute_home(
    settings: Settings, first: date, last: date | None = None, *, restart: bool = False, checked: bool = False
) -> Settings:
    """Ingest, compute and publish days of every symbol, `first` alone without a `last`; return the settings.

    Args:
        settings: of the home.
        first: day.
        last: day.
        restart: whether a new history begins.
        checked: whether to evaluate the checks that would stop a run, which takes a quarter of the time: where it is
            about what is computed of a market like no other.

    Raises:
        HeatmapError: where a run would fail.
        AssertionError: where a check would stop a run.
    """
    warehouse, days = Warehouse(settings.home), days_between(first, last or first)
    with closing(OpenedOnce(warehouse)) as once:
        for symbol in settings.symbols:
            ingest(settings, symbol, days, restart=restart, once=once)
            connect = partial(once.connect, symbol)
            if settings.liquidation_sources:
                read_liquidations(connect, settings, symbol, days)
            deque(advance(connect, settings, symbol, days, restart=restart), maxlen=0)
            deque(sample(connect, settings, symbol, days), maxlen=0)
            store_outcome(connect, score_symbol(connect, symbol, settings.models, again=False))
            if checked:
                with connect() as con:
                    assert blocked(con, settings, symbol, days) == []
    publish(warehouse, settings.symbols)
    return settings


def ingest(
    settings: Settings, symbol: str, days: list[date], *, restart: bool = False, once: OpenedOnce | None = None
) -> None:
    """Store the candles and the open interest of days."""
    connect, market = partial((once or Warehouse(settings.home)).connect, symbol), open_market(settings)
    for stage in (ingest_candles, ingest_open_interest):
        deque(stage(connect, market, settings, symbol, days, restart=restart), maxlen=0)


def blocked(con: Connection, settings: Settings, symbol: str, days: list[date]) -> list[str]:
    """Return what the checks say that would stop a run about these days."""
    reports = [
        rule.evaluate(con, settings, symbol, model, days[0], days[-1])
        for rule in RULES
        if rule.blocking
        for model in (settings.models if rule.per_model else ("",))
    ]
    return [report.description for report in reports if not report.passed]


def days_between(first: date, last: date) -> list[date]:
    """Return the days from the first to the last, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
