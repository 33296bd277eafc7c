"""The pictures and the page of one symbol, drawn from the newest stored days."""

import base64
from pathlib import Path
from typing import Any

import dagster as dg

from heatmap_pipeline.chain.unchanged import drawing_inputs
from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.orchestration.assets import map_scores
from heatmap_pipeline.orchestration.assets.common import asset_key, failing_clearly, symbol_asset
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.views.newest import newest_days
from heatmap_pipeline.views.score import score_record

NAME = "heatmap_render"


def build(settings: Settings, symbol: str, _days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol; it is not partitioned, a run draws what is newest then."""

    @symbol_asset(
        symbol,
        NAME,
        ["plotly", "matplotlib"],
        deps=[asset_key(symbol, map_scores.NAME)],
        description=f"The liquidation heatmap of {symbol} as pictures and as the page renders/index.html.",
    )
    def heatmap_render(warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from heatmap_pipeline.render.page import is_drawn, write_page  # noqa: PLC0415  # plotting libraries load slowly
        from heatmap_pipeline.render.picture import small_png  # noqa: PLC0415

        with failing_clearly(warehouse, symbol, NAME) as track:
            folder = settings.home / "renders"
            with warehouse.get_connection(symbol) as con:
                made_from = drawing_inputs(con, settings, symbol)
                if is_drawn(folder, symbol, made_from):
                    track.done(track.day)
                    warehouse.drawn.append(symbol)
                    return dg.MaterializeResult(metadata={"unchanged": True, **_places(folder, symbol)})
                drawn = newest_days(con, symbol, settings.models, SECONDS[settings.snapshot_interval_of(symbol)])
                scores = [score_record(con, symbol, model) for model in drawn]
            write_page(folder, symbol, drawn, scores, made_from)
            first = drawn[settings.models[0]]
            picture = base64.b64encode(small_png(_picture(folder, symbol))).decode()
            track.done(track.day)
        warehouse.drawn.append(symbol)
        return dg.MaterializeResult(
            metadata={
                **_places(folder, symbol),
                "preview": dg.MetadataValue.md(f"![heatmap of {symbol}](data:image/png;base64,{picture})"),
                "newest_day": first.meta["last_day"],
                f"price_{first.meta['units']['price'].lower()}": first.meta["price"],
                **{f"located_share_{model}": data.meta["located_share"] for model, data in drawn.items()},
                "simulated": first.meta["simulated"],
            }
        )

    return heatmap_render


def _places(folder: Path, symbol: str) -> dict[str, Any]:
    return {
        "page": dg.MetadataValue.path(str(folder / "index.html")),
        "picture": dg.MetadataValue.path(str(_picture(folder, symbol))),
    }


def _picture(folder: Path, symbol: str) -> Path:
    return folder / symbol / "heatmap.png"
