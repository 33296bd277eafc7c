"""The books carried through each day: events, lots, ledger. Levels are consumed by price in this op."""

from functools import partial

import dagster as dg

from heatmap_pipeline.chain.compute import advance
from heatmap_pipeline.chain.history import check_gap
from heatmap_pipeline.market.sources import Market
from heatmap_pipeline.orchestration.assets import raw_candles, raw_open_interest
from heatmap_pipeline.orchestration.assets.common import asset_key, daily_asset, failing_clearly
from heatmap_pipeline.orchestration.assets.describe import describe_days
from heatmap_pipeline.orchestration.partitions import as_days
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings

NAME = "position_events"


class HistoryConfig(dg.Config):
    """How a run may treat a gap before its first day."""

    restart: bool = False
    """Begin a new history at the first day of the run, where the source has no data for the gap before it."""


def build(settings: Settings, symbol: str, days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol."""
    key = asset_key(symbol, NAME)
    yesterday = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)

    @daily_asset(
        symbol,
        NAME,
        days,
        deps=[
            asset_key(symbol, raw_candles.NAME),
            asset_key(symbol, raw_open_interest.NAME),
            dg.AssetDep(key, partition_mapping=yesterday),
        ],
        description=(
            f"Positions of {symbol} as they open, close and are liquidated, the lots at the end of each day and the "
            "ledger that accounts for every contract. A day starts from the state the day before left."
        ),
    )
    def position_events(
        context: dg.AssetExecutionContext,
        config: HistoryConfig,
        warehouse: WarehouseResource,
        market: dg.ResourceParam[Market],
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]
        wanted = as_days(context.partition_keys)
        with failing_clearly(warehouse, symbol, NAME, wanted) as track:
            connect = partial(warehouse.get_connection, symbol)
            if config.restart:
                check_gap(connect, settings, symbol, wanted[0], lambda days: market.available(symbol, days))
            return describe_days(context, track, advance(connect, settings, symbol, wanted, restart=config.restart))

    return position_events
