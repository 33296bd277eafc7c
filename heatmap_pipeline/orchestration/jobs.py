"""The one job: everything, for every symbol, for the days asked; the schedule and the command line both run it."""

from __future__ import annotations

from typing import Any

import dagster as dg

NAME = "heatmap_daily"


def build_job() -> Any:
    """Return the job."""
    return dg.define_asset_job(
        NAME,
        selection=dg.AssetSelection.all(),
        description="Candles and open interest in, position events and snapshots by day, pictures and publication out.",
    )
