"""The pictures and the page of a base: the books of its markets added up, drawn from what is published of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg

from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.chain.unchanged import drawing_inputs
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.orchestration.assets.common import base_asset, in_words
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.orchestration.turns import drawing
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.symbols import contract_of, why_not_written
from heatmap_pipeline.views.newest import newest_days_of_base

NAME = "aggregated_map"

_AFTER_PUBLICATION = {"dagster/priority": "-2"}
"""Tag by which the steps of a run come to this last. It depends on no market, so one that fails does not hold it up."""


def markets_by_base(settings: Settings) -> Mapping[str, Sequence[str]]:
    """Return the bases of the settings' symbols that have several markets, with those: chosen, or drawn before."""
    drawn = [path.parent.name for path in (settings.home / "renders").glob("*/meta.json")]
    known = sorted({*settings.symbols, *(name for name in drawn if not why_not_written(name))})
    bases = {contract_of(symbol).base for symbol in settings.symbols} - {"", *known}
    markets_of = {base: [symbol for symbol in known if contract_of(symbol).base == base] for base in sorted(bases)}
    return {base: markets for base, markets in markets_of.items() if len(markets) > 1 and not why_not_written(base)}


def build(settings: Settings, base: str, markets: Sequence[str]) -> dg.AssetsDefinition:
    """Return the asset of one base; it is not partitioned, a run draws what is published then."""

    @base_asset(
        base,
        NAME,
        ["plotly", "matplotlib"],
        op_tags=_AFTER_PUBLICATION,
        description=f"The books of {', '.join(markets)} added up, as pictures and on the page renders/index.html. What "
        "is not published of a market is missing in it.",
    )
    def aggregated_map(warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        from heatmap_pipeline.render.page import is_drawn, remove_symbol, write_page  # noqa: PLC0415

        folder = settings.home / "renders"
        seconds = max(SECONDS[settings.snapshot_interval_of(symbol)] for symbol in markets)
        try:
            with drawing(settings, base):  # runs of its markets do not wait for each other
                with warehouse.get_connection() as con:
                    made_from = drawing_inputs(con, settings, *markets)
                    if is_drawn(folder, base, made_from):
                        tell(base, NAME, 1, 1)
                        return dg.MaterializeResult(metadata={"unchanged": True})
                    drawn = newest_days_of_base(con, base, markets, settings.models, seconds)
                if not drawn:  # fewer than two of them are published
                    remove_symbol(folder, base)
                    return dg.MaterializeResult(metadata={"markets": "fewer than two are published"})
                write_page(folder, base, drawn, (), made_from)
        except (HeatmapError, OSError) as error:
            raise dg.Failure(description=in_words(warehouse, base, NAME, error), allow_retries=False) from None
        tell(base, NAME, 1, 1)
        meta = next(iter(drawn.values())).meta
        return dg.MaterializeResult(
            metadata={
                "picture": dg.MetadataValue.path(str(folder / base / "heatmap.png")),
                "markets": f"{meta['markets_present']} of {meta['markets']}",
                "title": meta["title"],
                "located_share": meta["located_share"],
                "simulated": meta["simulated"],
            }
        )

    return aggregated_map
