"""The clean candles of each day, from the source's files to `raw_candles`."""

from functools import partial

import dagster as dg

from heatmap_pipeline.chain.ingest import ingest_candles
from heatmap_pipeline.market.sources import Market
from heatmap_pipeline.orchestration.assets.common import begins_anew, daily_asset, failing_clearly, network_retries
from heatmap_pipeline.orchestration.assets.describe import describe_raw
from heatmap_pipeline.orchestration.partitions import as_days
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings

NAME = "raw_candles"


def build(settings: Settings, symbol: str, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol."""

    @daily_asset(
        symbol,
        NAME,
        days,
        retry_policy=network_retries(settings),
        description=f"Candles of {symbol}, cleaned: sorted, without duplicates, checked; what was repaired is counted.",
    )
    def raw_candles(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource, market: dg.ResourceParam[Market]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        wanted = as_days(context.partition_keys)
        with failing_clearly(warehouse, symbol, NAME, wanted) as track:
            anew = begins_anew(context, symbol)
            reports = ingest_candles(
                partial(warehouse.get_connection, symbol), market, settings, symbol, wanted, restart=anew
            )
            return describe_raw(context, track, reports)

    return raw_candles
