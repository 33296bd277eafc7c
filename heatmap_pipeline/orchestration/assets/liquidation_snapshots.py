"""The map itself: active and consumed volume per price bucket and side, at regular distances of time."""

from functools import partial

import dagster as dg

from heatmap_pipeline.chain.compute import sample
from heatmap_pipeline.orchestration.assets import position_events
from heatmap_pipeline.orchestration.assets.common import asset_key, daily_asset, failing_clearly
from heatmap_pipeline.orchestration.assets.describe import describe_days
from heatmap_pipeline.orchestration.partitions import as_days
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings

NAME = "liquidation_snapshots"


def build(settings: Settings, symbol: str, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol."""

    @daily_asset(
        symbol,
        NAME,
        days,
        deps=[asset_key(symbol, position_events.NAME)],
        description=(
            f"Snapshots of the liquidation map of {symbol} every {settings.snapshot_interval_of(symbol)}: per price "
            "bucket and side the volume (quote asset) that would be liquidated there, and what was consumed since."
        ),
    )
    def liquidation_snapshots(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        wanted = as_days(context.partition_keys)
        with failing_clearly(warehouse, symbol, NAME, wanted) as track:
            return describe_days(
                context, track, sample(partial(warehouse.get_connection, symbol), settings, symbol, wanted)
            )

    return liquidation_snapshots
