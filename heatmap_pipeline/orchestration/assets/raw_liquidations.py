"""Liquidations that really happened, by day, from the sources of the settings; never an input of the map."""

from functools import partial

import dagster as dg

from heatmap_pipeline.chain.liquidations import read_liquidations
from heatmap_pipeline.orchestration.assets import liquidation_snapshots
from heatmap_pipeline.orchestration.assets.common import asset_key, daily_asset, failing_clearly
from heatmap_pipeline.orchestration.assets.describe import describe_liquidations
from heatmap_pipeline.orchestration.partitions import as_days
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings

NAME = "raw_liquidations"


def build(settings: Settings, symbol: str, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol; it follows the chain, so that a slow or wrong source holds nothing up in it."""

    @daily_asset(
        symbol,
        NAME,
        days,
        deps=[asset_key(symbol, liquidation_snapshots.NAME)],
        description=(
            f"Liquidations of {symbol} that really happened, by source, and what was recorded at all: without a record "
            "is missing, never 0. A source that gives nothing stops nothing."
        ),
    )
    def raw_liquidations(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        if not settings.liquidation_sources:
            return dg.MaterializeResult(
                metadata={"sources": "none: HEATMAP_LIQUIDATIONS is not set, so no real liquidations are read"}
            )
        wanted = as_days(context.partition_keys)
        with failing_clearly(warehouse, symbol, NAME, wanted) as track:
            report = read_liquidations(partial(warehouse.get_connection, symbol), settings, symbol, wanted)
            return describe_liquidations(context, track, report)

    return raw_liquidations
