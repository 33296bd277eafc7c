"""When the job runs by itself: every day for the days that ended, and, switched on, within the day for today so far."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, TypeAlias

import dagster as dg

from heatmap_pipeline.chain.calendar import begun
from heatmap_pipeline.chain.due import due_days, wrong_clock
from heatmap_pipeline.chain.reach import plan_due
from heatmap_pipeline.orchestration.assets.common import prefixes_of
from heatmap_pipeline.orchestration.partitions import range_tags
from heatmap_pipeline.settings import Settings

Asked: TypeAlias = Sequence[dg.RunRequest] | dg.SkipReason
"""What a tick comes to."""

DAILY = "heatmap_daily_schedule"
INTRADAY = "heatmap_intraday_schedule"

AGAIN_AT = (10, 14, 20)
"""Hours (UTC) at which a source over the network is asked again for a day that is missing: the archive has a day about
nine hours after midnight, and REST may be closed to this place."""


def daily_cron(settings: Settings) -> str:
    """Return when the day that ended is computed, as a cron line: after midnight UTC, and at `AGAIN_AT`."""
    hours = (0, *(AGAIN_AT if settings.kind.over_network else ()))
    return f"20 {','.join(map(str, hours))} * * *"


def build_schedules(
    settings: Settings, job: Any, assets: Sequence[dg.AssetsDefinition], last: date | None = None
) -> Sequence[dg.ScheduleDefinition]:
    """Return the daily schedule, and the intraday one where the source has today's data.

    Args:
        settings: of the home.
        job: what they run.
        assets: of the job.
        last: the last day that the source has, where it does not grow.
    """
    keys = [key for asset in assets for key in asset.keys]

    @dg.schedule(
        name=DAILY,
        job=job,
        cron_schedule=daily_cron(settings),
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Computes the day that ended at 00:00 UTC, and every day missing before it, draws and publishes; "
        "later in the day only what could not be had until then.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> Asked:
        now = context.scheduled_execution_time
        ended = now.date() - timedelta(days=1)
        if last is not None and last < ended and not due_days(settings, settings.symbols, last):
            return dg.SkipReason(f"{settings.archive_root} ends at {last}, and all of it is computed")
        if now.hour in AGAIN_AT:
            return request(settings, keys, ended, f" at {now:%H:%M}", only_missing=True)
        return request(settings, keys, min(ended, last or ended), "")

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
        return request(settings, keys, begun(now), f" at {now:%H:%M}")

    return [daily, intraday]


def request(
    settings: Settings, keys: Sequence[dg.AssetKey], until: date, suffix: str, *, only_missing: bool = False
) -> Asked:
    """Return the run that brings every symbol to `until`: that day, or a range after downtime.

    Nothing where this machine's clock cannot be right, nor where the source has nothing new to give. What is stored and
    unchanged is skipped, so symbols that are further on cost nothing; the key keeps two schedulers from asking for the
    same run twice. Symbols of an exchange that is closed to this place get a run of their own, as far as there is
    anything to be had; and so does a symbol that has ended while anything is due of it, then none.

    Args:
        settings: of the home.
        keys: of all assets.
        until: the newest day to ask for.
        suffix: of the keys of runs.
        only_missing: whether to ask only where a day is missing that can be had, and only for symbols of which one is.
    """
    if words := wrong_clock(settings):
        return dg.SkipReason(words)
    plan = plan_due(settings, settings.symbols, until)
    closed = "; ".join(dict.fromkeys(plan.closed.values()))
    if only_missing and not plan.missing:
        return dg.SkipReason(closed or f"nothing is missing until {min(plan.reach.values(), default=plan.until)}")
    groups: dict[date, list[str]] = {}
    for symbol in settings.symbols:
        wanted = symbol in plan.days or not (only_missing or symbol in plan.closed)
        if symbol not in plan.ended and wanted:
            groups.setdefault(plan.reaches(symbol), []).append(symbol)
    runs: list[dg.RunRequest] = []
    for reached, symbols in groups.items():
        due = [plan.days[symbol] for symbol in symbols if symbol in plan.days]
        first, last = min([reached, *(first for first, _ in due)]), max([reached, *(last for _, last in due)])
        chosen = None if len(symbols) == len(settings.symbols) else _of(keys, symbols)
        whose = f" {' '.join(symbols)}" if len(groups) > 1 else ""
        runs.append(_run(first, last, f"{whose}{suffix}", chosen))
    for symbol in plan.ended:
        if symbol in plan.days:
            # Its days stay the same, and one whose run failed is asked for again the next day.
            runs.append(_run(*plan.days[symbol], f" {symbol} as of {plan.until}{suffix}", _of(keys, [symbol])))
    if runs:
        return runs
    ends = [f"{symbol} ended on {end.day}" for symbol, end in plan.ended.items()]
    return dg.SkipReason(closed or "; ".join(ends))


def _of(keys: Sequence[dg.AssetKey], symbols: Sequence[str]) -> list[dg.AssetKey]:
    prefixes = {prefix for symbol in symbols for prefix in prefixes_of(symbol)}
    return [key for key in keys if key.path[0] in prefixes]


def _run(first: date, last: date, suffix: str, chosen: Sequence[dg.AssetKey] | None) -> dg.RunRequest:
    key = f"{first} .. {last}{suffix}"
    if first == last:
        return dg.RunRequest(run_key=key, partition_key=last.isoformat(), asset_selection=chosen)
    return dg.RunRequest(run_key=key, tags=range_tags(first, last), asset_selection=chosen)
