"""In the background: what failed is told and written down, days before a failed one run, what is too old is removed."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from heatmap_pipeline.chain.recovery import ask_each
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.notices import announce
from heatmap_pipeline.orchestration.assets import published_database
from heatmap_pipeline.orchestration.assets.common import asset_key, had_until, prefixes_of, symbol_and_stage
from heatmap_pipeline.orchestration.checks import up_to_date
from heatmap_pipeline.orchestration.partitions import LAUNCHED_HERE, days_of_run, range_tags
from heatmap_pipeline.orchestration.retention import tidy_up
from heatmap_pipeline.orchestration.told import (
    notice_of_run,
    symbols_of_run,
    tell_of_idle_days,
    tell_of_no_run,
)
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.checks import CheckReport
from heatmap_pipeline.store.last_run import write_last_run
from heatmap_pipeline.store.read import newest_candle
from heatmap_pipeline.store.sql import Connection

FAILURES = "heatmap_failure_sensor"
SUCCESSES = "heatmap_success_sensor"
IDLE_DAYS = "heatmap_idle_sensor"
RETENTION = "heatmap_retention_sensor"
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
        # A notice names several symbols as a sentence does.
        named = {word for failure in notice.failures for word in failure.symbol.replace(",", " ").split()}
        _remember(settings, context, named)

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name=SUCCESSES,
        description="Writes down how the newest run went, for GET /metrics of the read endpoint.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=30,
    )
    def successes(context: dg.RunStatusSensorContext) -> None:
        _remember(settings, context, None)

    @dg.sensor(
        name=RETENTION,
        description="Removes, once a day, runs that are older than HEATMAP_KEEP_RUN_DAYS and HEATMAP_KEEP_RUNS say.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=600,
    )
    def retention(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        removed = tidy_up(settings, context.log.warning)
        if removed is None:
            return dg.SkipReason("done within the last day")
        return dg.SkipReason(f"{removed.runs} runs and {removed.files} files of the archive were too old")

    @dg.sensor(
        name=IDLE_DAYS,
        description="Keeps the check up_to_date true also while nothing runs; logs a day on which nothing did, and "
        "calls HEATMAP_WEBHOOK if it is set.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=600,
    )
    def idle_days(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        words: dict[str, str] = json.loads(context.cursor or "{}")
        fresh: Sequence[dg.AssetCheckEvaluation] = []
        try:
            words, fresh = freshness(settings, words)
            notice = tell_of_idle_days(settings, context.instance, last, context.log.warning)
            text = notice.text if notice is not None else "something ran, or nothing was due"
        except HeatmapError as error:  # where that is the file of one symbol, the checks of the others are told
            tell_of_no_run(settings, error)
            text = str(error)
        return dg.SensorResult(skip_reason=text, asset_events=fresh, cursor=json.dumps(words))

    return [failures, successes, idle_days, retention]


def _remember(settings: Settings, context: dg.RunStatusSensorContext, named: Collection[str] | None) -> None:
    """Write down how a run of the UI went.

    Args:
        settings: of the home.
        context: of the sensor.
        named: symbols of what failed, among other words; None: nothing failed.
    """
    run = context.dagster_run
    record = context.instance.get_run_record_by_id(run.run_id)
    now = datetime.now(UTC)
    began, ended = (
        datetime.fromtimestamp(moment, UTC) if moment else now
        for moment in (record and record.start_time, record and record.end_time)
    )
    symbols = symbols_of_run(settings, run)
    write_last_run(
        settings.home,
        symbols,
        [symbol for symbol in symbols if symbol in (named or ())],
        began=began,
        ended=ended,
        failed=named is not None,
    )


def freshness(
    settings: Settings, before: Mapping[str, str]
) -> tuple[dict[str, str], Sequence[dg.AssetCheckEvaluation]]:
    """Evaluate the check `up_to_date` of every symbol that is stored: it goes by the data, and those age by themselves.

    A run evaluates it too, but a run that never comes does not.

    Args:
        settings: of the home.
        before: what was said last, by symbol.

    Returns:
        What is to be said now, and the evaluations of those symbols of which it is something else than before.

    Raises:
        HeatmapError: if the warehouse cannot be read.
    """

    def report_of(con: Connection, name: str) -> CheckReport | None:
        return up_to_date(con, settings, name) if newest_candle(con, name) else None

    answers = ask_each(settings, report_of, settings.symbols)
    reports = {name: report for name, report in answers.items() if report is not None}
    words = {name: report.description for name, report in reports.items()}
    return words, [
        dg.AssetCheckEvaluation(
            check_name="up_to_date",
            asset_key=asset_key(name, published_database.NAME),
            passed=report.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{name}: {report.description}",
            metadata=report.numbers,
        )
        for name, report in reports.items()
        if words[name] != before.get(name)
    ]


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
            if key.path[0] in prefixes_of(symbol) and (not run.asset_selection or key in run.asset_selection)
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
