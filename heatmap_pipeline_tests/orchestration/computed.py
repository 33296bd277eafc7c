"""Homes as a run of the job leaves them, made without Dagster, which takes most of the time of a small run.

For tests that are about what is stored, not about a run. `test_chain.py` holds what is made here against a run's.
"""

from __future__ import annotations

from collections import deque
from datetime import date, timedelta

from heatmap_pipeline.chain.compute import advance, sample
from heatmap_pipeline.chain.ingest import ingest_candles, ingest_open_interest
from heatmap_pipeline.chain.liquidations import read_liquidations
from heatmap_pipeline.chain.scoring import score_symbol, store_outcome
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.orchestration.checks import RULES
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse


def compute_home(settings: Settings, first: date, last: date | None = None, *, restart: bool = False) -> Settings:
    """Ingest, compute, check and publish days of every symbol, `first` alone without a `last`; return the settings.

    Raises:
        HeatmapError: where a run would fail.
        AssertionError: where a check would stop a run.
    """
    warehouse, days = Warehouse(settings.home), days_between(first, last or first)
    for symbol in settings.symbols:
        ingest(settings, symbol, days, restart=restart)
        if settings.liquidation_sources:
            read_liquidations(warehouse.connect, settings, symbol, days)
        deque(advance(warehouse.connect, settings, symbol, days, restart=restart), maxlen=0)
        deque(sample(warehouse.connect, settings, symbol, days), maxlen=0)
        store_outcome(warehouse.connect, score_symbol(warehouse.connect, symbol, settings.models, again=False))
        assert blocked(settings, symbol, days) == []
        publish(warehouse, [symbol])
    return settings


def ingest(settings: Settings, symbol: str, days: list[date], *, restart: bool = False) -> None:
    """Store the candles and the open interest of days."""
    connect, market = Warehouse(settings.home).connect, open_market(settings)
    for stage in (ingest_candles, ingest_open_interest):
        deque(stage(connect, market, settings, symbol, days, restart=restart), maxlen=0)


def blocked(settings: Settings, symbol: str, days: list[date]) -> list[str]:
    """Return what the checks say that would stop a run about these days."""
    with Warehouse(settings.home).connect() as con:
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
