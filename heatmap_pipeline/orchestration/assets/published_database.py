"""The publication of one symbol: its committed days become visible in heatmap.duckdb, in one atomic step."""

from collections.abc import Sequence

import dagster as dg

from heatmap_pipeline.chain.alerts import watch_symbol
from heatmap_pipeline.chain.recovery import refuse_loss
from heatmap_pipeline.orchestration.alerts import rules_now, tell_of_alerts
from heatmap_pipeline.orchestration.assets import heatmap_render
from heatmap_pipeline.orchestration.assets.common import asset_key, failing_clearly, symbol_asset
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.alerts import StoredAlert
from heatmap_pipeline.store.publish import publish

NAME = "published_database"


def build(settings: Settings, symbol: str, _days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol, so that one symbol's failure does not hold back another's publication."""

    @symbol_asset(
        symbol,
        NAME,
        ["duckdb"],
        deps=[asset_key(symbol, heatmap_render.NAME)],
        description=f"The days of {symbol} in heatmap.duckdb, which everyone may open at any time.",
    )
    def published_database(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        alerts: Sequence[StoredAlert] = ()
        rules = rules_now(settings, context.log.warning)
        with failing_clearly(warehouse, symbol, NAME):
            if warehouse.warehouse.path.exists():
                with warehouse.get_connection() as con:
                    refuse_loss(con, settings, symbol)
                if rules is not None:  # before publication, so that whoever is told of an alert finds it published
                    alerts = watch_symbol(warehouse.get_connection, symbol, settings.models, rules)
            report = publish(warehouse.warehouse, [symbol])
        tell_of_alerts(settings, alerts, context.log.warning)
        path = settings.home / "heatmap.duckdb"
        return dg.MaterializeResult(
            metadata={
                "database": dg.MetadataValue.path(str(path)),
                "megabytes": path.stat().st_size / 1e6,
                "replaced": report.changed,
                "copied_whole": report.whole,
                **({"alerts_of_the_last_day": len(alerts)} if rules is not None else {}),
            }
        )

    return published_database
