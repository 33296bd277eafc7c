"""What Dagster loads: the pipeline as the HEATMAP_* settings say. `orchestration/build.py` puts it together."""

from __future__ import annotations

import dagster as dg

from heatmap_pipeline import surroundings
from heatmap_pipeline.chain.settings import load_checked_settings


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads, made from the environment when it does."""
    settings = load_checked_settings()
    surroundings.settle(settings.home)
    from heatmap_pipeline.orchestration.build import build_defs  # noqa: PLC0415
    from heatmap_pipeline.orchestration.partitions import there  # noqa: PLC0415
    from heatmap_pipeline.orchestration.shards import of_shard  # noqa: PLC0415

    settings = of_shard(settings)
    if not settings.symbols:
        return dg.Definitions()
    if settings.store:
        from heatmap_pipeline.orchestration.shard_job import build_shard_defs  # noqa: PLC0415

        return build_shard_defs(settings)
    return build_defs(settings, there=there(settings))
