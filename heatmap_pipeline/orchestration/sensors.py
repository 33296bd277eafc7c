"""What is noticed in the background: a run that fails is logged and told, and so is a day on which nothing ran."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import dagster as dg

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.notices import announce
from heatmap_pipeline.orchestration.told import notice_of_run, tell_of_idle_days, tell_of_no_run
from heatmap_pipeline.settings import Settings

FAILURES = "heatmap_failure_sensor"
IDLE_DAYS = "heatmap_idle_sensor"


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
