"""The assets of a symbol, a file per stage, and that of a base: each reads, calls other layers, writes, describes."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from heatmap_pipeline.orchestration.assets import (
    aggregated_map,
    heatmap_render,
    liquidation_snapshots,
    map_scores,
    parquet_export,
    position_events,
    published_database,
    raw_candles,
    raw_liquidations,
    raw_open_interest,
)
from heatmap_pipeline.settings import Settings

STAGES = (
    raw_candles,
    raw_open_interest,
    position_events,
    liquidation_snapshots,
    raw_liquidations,
    map_scores,
    heatmap_render,
    published_database,
)


def build_assets(settings: Settings, days: dg.DailyPartitionsDefinition) -> Sequence[dg.AssetsDefinition]:
    """Return the chain of every symbol of the settings, and the map of every base that has several markets."""
    stages = STAGES if settings.export is None else (*STAGES, parquet_export)
    chains = [stage.build(settings, symbol, days) for symbol in settings.symbols for stage in stages]
    sums = aggregated_map.markets_by_base(settings).items()
    return [*chains, *(aggregated_map.build(settings, base, markets) for base, markets in sums)]
