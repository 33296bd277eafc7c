"""In the background: failures and idle days are told, and the days before a failed one are still run."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any

import dagster as dg

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.notices import announce
from heatmap_pipeline.orchestration.assets.common import had_until, symbol_and_stage
from heatmap_pipeline.orchestration.partitions import LAUNCHED_HERE, days_of_run, range_tags
from heatmap_pipeline.orchestration.told import notice_of_run, tell_of_idle_days, tell_of_no_run
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.symbols import safe_name

FAILURES = "heatmap_failure_sensor"
IDLE_DAYS = "heatmap_idle_sensor"
BEFORE = "heatmap_days_before_sensor"


def build_sensors(settings: Settings, last: date | None = None) -> Sequence[dg.SensorDefinition]:
    """Return the sensors; they run by default and watch the runs of this code location and home.

    `last` is the last day that the source has, where it does not grow.
    """

    @dg.run_failure_sensor(
        name=FAILURES,
        description="Logs symbol, day and cause of every failed run, and calls HEATMAP_WEBHOOK if it is set.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
    def failures(context: dg.RunFailureSensorContext) -> None:
        events = list(context.get_step_failure_events())
        notice = notice_of_run(settings, context.instance, context.dagster_run, events)
        context.log.error(notice.text)
        announce(settings, notice, context.log.warning)

    @dg.sensor(
        name=IDLE_DAYS,
        description="Logs that nothing at all ran on a day, and calls HEATMAP_WEBHOOK if it is set.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=600,
    )
    def idle_days(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        try:
            notice = tell_of_idle_days(settings, context.instance, last, context.log.warning)
        except HeatmapError as error:
            tell_of_no_run(settings, error)
            return dg.SkipReason(str(error))
        return dg.SkipReason(notice.text if notice is not None else "something ran, or nothing was due")

    return [failures, idle_days]


def days_before(
    run: dg.DagsterRun, events: list[dg.DagsterEvent], assets: Iterable[dg.AssetKey]
) -> Iterator[dg.RunRequest]:
    """Yield a request per symbol whose run stopped at a day that cannot be had: for the days before that one.

    Nothing for runs of the command line, which do so themselves (`runs.run_days`).

    Args:
        run: that failed.
        events: the failures of its steps.
        assets: of the pipeline; only those that the run was about are run again.
    """
    days = days_of_run(run.tags)
    if days is None or LAUNCHED_HERE.items() <= run.tags.items():
        return
    until = {symbol_and_stage(event.step_key)[0]: day for event in events if (day := had_until(event))}
    for symbol, last in until.items():
        chosen = [
            key
            for key in assets
            if key.path[0] == safe_name(symbol) and (not run.asset_selection or key in run.asset_selection)
        ]
        yield dg.RunRequest(
            run_key=f"{run.run_id} {symbol} {days[0]} .. {last}", asset_selection=chosen, tags=range_tags(days[0], last)
        )


def build_days_before_sensor(job: Any, assets: Sequence[dg.AssetsDefinition]) -> dg.SensorDefinition:
    """Return the sensor; it runs by default and watches the runs of this code location."""
    keys = [key for asset in assets for key in asset.keys]

    @dg.run_failure_sensor(
        name=BEFORE,
        description="Runs the days before one that cannot be had, so that it stops only itself and what follows.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
        request_job=job,
    )
    def heatmap_days_before_sensor(context: dg.RunFailureSensorContext) -> Iterator[dg.RunRequest]:
        yield from days_before(context.dagster_run, list(context.get_step_failure_events()), keys)

    return heatmap_days_before_sensor
