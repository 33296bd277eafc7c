"""The one job: everything, for every symbol, for the days asked; the schedule and the command line both run it."""

from __future__ import annotations

from typing import Any

import dagster as dg

from heatmap_pipeline.orchestration.shards import tags_of
from heatmap_pipeline.settings import Settings

NAME = "heatmap_daily"


def build_job(settings: Settings) -> Any:
    """Return the job; its runs carry the tag of their shard, if there are several."""
    return dg.define_asset_job(
        NAME,
        selection=dg.AssetSelection.all(),
        tags=tags_of(settings),
        description="Candles and open interest in, position events and snapshots by day, pictures and publication out.",
    )
