"""What Dagster loads: the pipeline as the HEATMAP_* settings say. `orchestration/build.py` puts it together."""

from __future__ import annotations

import dagster as dg

from heatmap_pipeline.chain.settings import load_checked_settings
from heatmap_pipeline.orchestration.build import build_defs


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads, made from the environment when it does."""
    return build_defs(load_checked_settings())
