"""The clean samples of open interest of each day, from the source's files to `raw_open_interest`."""

from functools import partial

import dagster as dg

from heatmap_pipeline.chain.ingest import ingest_open_interest
from heatmap_pipeline.market.sources import Market
from heatmap_pipeline.orchestration.assets import raw_candles
from heatmap_pipeline.orchestration.assets.common import (
    asset_key,
    begins_anew,
    daily_asset,
    failing_clearly,
    network_retries,
)
from heatmap_pipeline.orchestration.assets.describe import describe_raw
from heatmap_pipeline.orchestration.partitions import as_days
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings

NAME = "raw_open_interest"


def build(settings: Settings, symbol: str, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol."""

    @daily_asset(
        symbol,
        NAME,
        days,
        retry_policy=network_retries(settings),
        deps=[asset_key(symbol, raw_candles.NAME)],
        description=(
            f"Samples of the open interest of {symbol} in contracts, at the instants they were taken: the clock of "
            "each file is measured against the candles, what was repaired is counted."
        ),
    )
    def raw_open_interest(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource, market: dg.ResourceParam[Market]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        wanted = as_days(context.partition_keys)
        with failing_clearly(warehouse, symbol, NAME, wanted) as track:
            anew = begins_anew(context, symbol)
            reports = ingest_open_interest(
                partial(warehouse.get_connection, symbol), market, settings, symbol, wanted, restart=anew
            )
            return describe_raw(context, track, reports)

    return raw_open_interest
