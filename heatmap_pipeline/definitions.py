"""What Dagster loads: the pipeline as the HEATMAP_* settings say. `orchestration/build.py` puts it together."""

from __future__ import annotations

import dagster as dg

from heatmap_pipeline.chain.settings import load_checked_settings
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.partitions import there


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads, made from the environment when it does."""
    settings = load_checked_settings()
    return build_defs(settings, there=there(settings))
