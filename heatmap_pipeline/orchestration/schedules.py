"""When the job runs by itself: every day for the days that ended, and, switched on, within the day for today so far."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, TypeAlias

import dagster as dg

from heatmap_pipeline.chain.calendar import begun
from heatmap_pipeline.chain.due import due_days, wrong_clock
from heatmap_pipeline.chain.reach import plan_due
from heatmap_pipeline.orchestration.partitions import range_tags
from heatmap_pipeline.settings import Settings

Asked: TypeAlias = dg.RunRequest | dg.SkipReason
"""What a tick comes to."""

DAILY = "heatmap_daily_schedule"
INTRADAY = "heatmap_intraday_schedule"


def build_schedules(settings: Settings, job: Any, last: date | None = None) -> Sequence[dg.ScheduleDefinition]:
    """Return the daily schedule, and the intraday one where the source has today's data.

    `last` is the last day that the source has, where it does not grow.
    """

    @dg.schedule(
        name=DAILY,
        job=job,
        cron_schedule="20 0 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Computes the day that ended at 00:00 UTC, and every day missing before it, draws and publishes.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> Asked:
        ended = context.scheduled_execution_time.date() - timedelta(days=1)
        if last is not None and last < ended and not due_days(settings, settings.symbols, last):
            return dg.SkipReason(f"{settings.archive_root} ends at {last}, and all of it is computed")
        return request(settings, min(ended, last or ended), "")

    if not settings.kind.has_today:
        return [daily]
    running = settings.intraday_minutes is not None

    @dg.schedule(
        name=INTRADAY,
        job=job,
        cron_schedule=f"*/{settings.intraday_minutes or 15} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED,
        description="Computes today so far, provisionally; switch it on here or with HEATMAP_INTRADAY_MINUTES.",
    )
    def intraday(context: dg.ScheduleEvaluationContext) -> Asked:
        now = context.scheduled_execution_time
        return request(settings, begun(now), f" at {now:%H:%M}")

    return [daily, intraday]


def request(settings: Settings, until: date, suffix: str) -> Asked:
    """Return the one run that brings every symbol to `until`: that day, or a range after downtime.

    Nothing where this machine's clock cannot be right, nor where the source has nothing new to give. What is stored and
    unchanged is skipped, so symbols that are further on cost nothing; the key keeps two schedulers from asking for the
    same run twice.
    """
    if words := wrong_clock(settings):
        return dg.SkipReason(words)
    plan = plan_due(settings, settings.symbols, until)
    until, due = plan.until, plan.days.values()
    if plan.closed and not due:
        return dg.SkipReason(plan.closed)
    first = min([until, *(first for first, _ in due)])
    last = max([until, *(last for _, last in due)])
    key = f"{first} .. {last}{suffix}"
    if first == last:
        return dg.RunRequest(run_key=key, partition_key=last.isoformat())
    return dg.RunRequest(run_key=key, tags=range_tags(first, last))
