"""When the job runs by itself: every day, for the day that ended, running by default."""

from __future__ import annotations

from typing import Any

import dagster as dg

NAME = "heatmap_daily_schedule"


def build_schedule(job: Any) -> Any:
    """Return the daily schedule, 00:20 UTC: the day's files are there by then, or the run says that they are not.

    Dagster's own types for a job and a schedule of partitioned assets are not public.
    """
    return dg.build_schedule_from_partitioned_job(
        job,
        name=NAME,
        description="Computes the day that ended at 00:00 UTC, draws and publishes it.",
        hour_of_day=0,
        minute_of_hour=20,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
