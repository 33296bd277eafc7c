"""The publication of a run: its committed days become visible in heatmap.duckdb, in one atomic step for all symbols."""

import dagster as dg

from heatmap_pipeline.chain.publication import publish_symbols
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.orchestration.alerts import rules_now, tell_of_alerts
from heatmap_pipeline.orchestration.assets import heatmap_render
from heatmap_pipeline.orchestration.assets.common import asset_key, failing_clearly, symbol_asset
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings

NAME = "published_database"

_LAST = {"dagster/priority": "-1"}
"""Tag by which the steps of a run come to this only when no symbol has anything else to do."""


def build(settings: Settings, symbol: str, _days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol, so that one symbol's failure does not hold back another's publication.

    The first of a run publishes all symbols that were drawn in it, or are not to be: a publication each would write the
    file as often as there are symbols.
    """

    @symbol_asset(
        symbol,
        NAME,
        ["duckdb"],
        deps=[asset_key(symbol, heatmap_render.NAME)],
        op_tags=_LAST,
        description=f"The days of {symbol} in heatmap.duckdb, which everyone may open at any time.",
    )
    def published_database(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        rules = rules_now(settings, context.log.warning)
        with failing_clearly(warehouse, symbol, NAME):
            results = warehouse.published
            if symbol not in results:
                chosen = context.run.asset_selection  # nothing chosen: all

                def is_chosen(other: str, name: str) -> bool:
                    return not chosen or asset_key(other, name) in chosen

                not_to_draw = [other for other in settings.symbols if not is_chosen(other, heatmap_render.NAME)]
                ready = [*warehouse.drawn, *not_to_draw]
                others = [other for other in ready if other != symbol and is_chosen(other, NAME)]
                wanted = [symbol, *others]
                results |= publish_symbols(settings, warehouse.warehouse, wanted, rules)
                warehouse.drawn.clear()
            publication = results.pop(symbol)
            if isinstance(publication, HeatmapError):
                raise publication
        report, alerts = publication.report, publication.alerts
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
