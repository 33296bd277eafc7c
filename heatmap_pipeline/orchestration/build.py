"""The pipeline put together: assets, checks, job, schedules, sensor and resources for one set of settings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

# BackfillPolicy is Beta and says so at every load; it is what makes a range of days one run.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from heatmap_pipeline.orchestration import partitions  # noqa: E402
from heatmap_pipeline.orchestration.assets import build_assets  # noqa: E402
from heatmap_pipeline.orchestration.checks import build_checks  # noqa: E402
from heatmap_pipeline.orchestration.jobs import build_job  # noqa: E402
from heatmap_pipeline.orchestration.resources import WarehouseResource, market_resource  # noqa: E402
from heatmap_pipeline.orchestration.schedules import build_schedules  # noqa: E402
from heatmap_pipeline.orchestration.sensors import build_days_before_sensor, build_sensors  # noqa: E402
from heatmap_pipeline.settings import Settings  # noqa: E402
from heatmap_pipeline.store.read import first_published_day  # noqa: E402
from heatmap_pipeline.store.warehouse import Warehouse  # noqa: E402


def build_defs(
    settings: Settings,
    *,
    start: date | None = None,
    there: tuple[date, date] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """Return the pipeline for these settings.

    Args:
        settings: what the user set.
        start: first day of the partitions, instead of HEATMAP_START. Published days before it are partitions too; where
            there is none of all that, they begin 30 days ago.
        there: first and last day that the source has, where that is known (`partitions.there`): none later is a
            partition, nor an earlier one unless it is published.
        resources: resources to use instead of the real ones.
    """
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    first, last = there or (None, None)
    wanted = start or settings.start
    if first is not None:
        wanted = max(wanted or first, first)
    starts = [day for day in (wanted, first_published_day(warehouse)) if day is not None]
    days = partitions.daily(min(starts, default=None), last, today=settings.kind.has_today)
    job, assets = build_job(settings), build_assets(settings, days)
    return dg.Definitions(
        assets=assets,
        asset_checks=build_checks(settings),
        jobs=[job],
        schedules=build_schedules(settings, job, assets, last),
        sensors=[build_days_before_sensor(job, assets), *build_sensors(settings, last)],
        # Steps run in one process, also those of backfills: each takes less time than starting a process for it would.
        executor=dg.in_process_executor,
        resources={
            "warehouse": WarehouseResource(database=str(warehouse.published), lock_timeout=settings.lock_timeout),
            "market": market_resource(settings),
            **(resources or {}),
        },
    )
