"""The one job: everything, for every symbol, for the days asked; the schedule and the command line both run it."""

from __future__ import annotations

from typing import Any

import dagster as dg

NAME = "heatmap_daily"


def build_job() -> Any:
    """Return the job. Its steps run in one process: each takes less time than starting a process for it would."""
    return dg.define_asset_job(
        NAME,
        selection=dg.AssetSelection.all(),
        executor_def=dg.in_process_executor,
        description="Candles and open interest in, position events and snapshots by day, pictures and publication out.",
    )
