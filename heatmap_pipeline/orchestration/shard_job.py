"""What a code location is where HEATMAP_STORE is set: a job that brings its symbols up to date over the store.

A run of it is one process and, in Dagster's history, one run of three steps: the symbols are taken from the store, run
as a command runs them, and committed (`fleet/worker.py`); heatmap.duckdb of the home follows; what failed is said. The
stages of each symbol are no assets here: a worker has them in its scratch home only, and their events, thousands, would
be most of what Dagster's database is asked. Each symbol that was committed is one, with its days.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
from pydantic import Field

from heatmap_pipeline.chain import calendar
from heatmap_pipeline.chain.due import last_due, of_earlier_version, wrong_clock
from heatmap_pipeline.chain.reach import plan_due
from heatmap_pipeline.errors import HeatmapError, counted
from heatmap_pipeline.fleet.pull import pull
from heatmap_pipeline.fleet.worker import Requests, open_bucket, run_symbols
from heatmap_pipeline.orchestration.assets.common import OWNERS, asset_key
from heatmap_pipeline.orchestration.runs import days_to_run, run_days, stored_spans
from heatmap_pipeline.orchestration.schedules import AGAIN_AT, DAILY, daily_cron
from heatmap_pipeline.orchestration.sensors import build_sensors
from heatmap_pipeline.orchestration.shards import tags_of
from heatmap_pipeline.orchestration.turns import RunError
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.manifest import ManifestError, manifest_path, understood
from heatmap_pipeline.symbols import contract_of, safe_name

NAME = "heatmap_shard"

COMMITTED = "committed"
"""Second part of the key of the asset of a symbol: what the store has of it."""


_ALL_STEPS = {"dagster/retry_strategy": "ALL_STEPS"}
"""Tag of a run that Dagster begins again from its beginning. By itself it goes on after the last step that ended, whose
outcome went with the process: a run that was killed after its symbols were committed could never be begun again."""


class ShardConfig(dg.Config):
    """Which days a run is about; without them what is due, of each symbol from its last stored day on."""

    start: str = Field(default="", description="First day, UTC, such as 2026-11-01. Empty: what is due.")
    end: str = Field(default="", description="Last day, UTC, included; with `start`.")
    only_missing: bool = Field(
        default=False,
        description="Leave out symbols of which the store has yesterday: taking one costs more than that.",
    )


def build_shard_defs(settings: Settings) -> dg.Definitions:
    """Return the job of the symbols of these settings, its schedule, and the sensors that tell what failed."""
    job = build_shard_job(settings)
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                asset_key(symbol, COMMITTED),
                description=f"Days of {symbol} that are committed to {settings.store}; an event for each run.",
                group_name=safe_name(contract_of(symbol).base or symbol),
                owners=OWNERS,
                kinds={"python", "parquet"},
            )
            for symbol in settings.symbols
        ],
        jobs=[job],
        schedules=[_daily(settings, job)],
        sensors=build_sensors(settings),
        executor=dg.in_process_executor,
    )


def build_shard_job(settings: Settings) -> dg.JobDefinition:
    """Return the job."""

    @dg.op(
        description="Takes the symbols from the store, runs their days and commits them; gives what failed, by symbol."
    )
    def symbols(context: dg.OpExecutionContext, config: ShardConfig) -> dict[str, str]:
        refused: dict[str, str] = {}
        asked = _days_of(config, last_due(settings))

        def requests(scratch: Settings) -> Requests:
            if words := wrong_clock(scratch):
                raise dg.Failure(words, allow_retries=False)
            if asked is not None:
                return _asked(scratch, refused, *asked)
            return _due(scratch, refused, context.log.info)

        chosen = _lacking(settings) if config.only_missing else settings.symbols
        if not chosen:
            context.log.info("the store has yesterday of every symbol")
            return {}
        run_settings = settings.model_copy(update={"symbols": chosen})
        outcome = run_symbols(run_settings, requests, partial(run_days, history=_in_memory))
        for symbol, (first, last) in outcome.published.items():
            context.log_event(
                dg.AssetMaterialization(
                    asset_key(symbol, COMMITTED), metadata={"first_day": str(first), "last_day": str(last)}
                )
            )
        failed = {**refused, **outcome.failures}
        context.log.info(f"{len(outcome.published)} of {len(chosen)} symbols committed, {len(failed)} failed")
        return failed

    @dg.op(description="Makes heatmap.duckdb of the home of what is in the store now (HEATMAP_CATALOGUE).")
    def catalogue(context: dg.OpExecutionContext, failed: dict[str, str]) -> dict[str, str]:
        if settings.catalogue and len(failed) < len(settings.symbols):
            return {**failed, **_pulled(settings, context.log.info)}
        return failed

    @dg.op(description="Fails where a symbol did, after the others are committed and published.")
    def failures(failed: dict[str, str]) -> None:
        if failed:
            raise dg.Failure("; ".join(failed.values()), metadata=dict(failed), allow_retries=False)

    @dg.job(
        name=NAME,
        description=f"Brings {len(settings.symbols)} symbols up to date over {settings.store}.",
        tags={**tags_of(settings), **_ALL_STEPS},
        resource_defs={"io_manager": dg.mem_io_manager},
        executor_def=dg.in_process_executor,
    )
    def shard() -> None:
        failures(catalogue(symbols()))

    return shard


def _pulled(settings: Settings, say: Callable[[str], object]) -> dict[str, str]:
    """Make heatmap.duckdb of the home; return why it could not be, which is said together with what failed before."""
    try:
        made = pull(settings, settings.home)
    except HeatmapError as error:
        return {"heatmap.duckdb": str(error)}
    say(f"{counted(made.symbols, 'symbol')}, {counted(made.fetched, 'part')} fetched")
    return {}


def _due(settings: Settings, refused: dict[str, str], say: Callable[[str], object]) -> Requests:
    """Return what is due and can be had; put into `refused` why nothing is asked for a symbol."""
    refused |= of_earlier_version(settings)
    current = [symbol for symbol in settings.symbols if symbol not in refused]
    plan = plan_due(settings, current, calendar.yesterday())
    spans = stored_spans(settings, current)
    begin = f"nothing is stored yet and HEATMAP_START is {settings.start or 'not set'}; set it to a day that is over"
    for symbol in current:
        if symbol not in plan.days and symbol not in spans and symbol not in plan.ended:
            refused[symbol] = f"{symbol}: {begin}"
    for words in (*plan.news, *plan.words_for_closed(), *plan.refused):
        say(words)
    return plan.days


def _lacking(settings: Settings) -> tuple[str, ...]:
    """Return the symbols of which the store lacks yesterday, of any model; only their manifests are read."""
    bucket, until = open_bucket(settings), calendar.yesterday()

    def has(symbol: str) -> bool:
        path = manifest_path(symbol)
        seen = bucket.read(path)
        try:
            days = understood(seen.content, f"{bucket.address}/{path}").days if seen is not None else {}
        except ManifestError:  # the run says so
            return False
        return all(model in days and days[model].last >= until for model in settings.models)

    return tuple(symbol for symbol in settings.symbols if not has(symbol))


def _days_of(config: ShardConfig, newest: date) -> tuple[date, date] | None:
    """Return the days that a run is asked for, None for what is due.

    Raises:
        Failure: for days that no run can mean.
    """
    if not config.start and not config.end:
        return None
    try:
        first, last = date.fromisoformat(config.start), date.fromisoformat(config.end or config.start)
    except ValueError:
        words = f"start {config.start!r} and end {config.end!r} are not days such as 2026-11-01; correct them"
        raise dg.Failure(words, allow_retries=False) from None
    if not first <= last <= newest:
        raise dg.Failure(
            f"start {first} has to be no later than end {last}, and that no later than {newest}, the last day there is",
            allow_retries=False,
        )
    return first, last


def _asked(settings: Settings, refused: dict[str, str], first: date, last: date) -> Requests:
    """Return what is asked for; put into `refused` why that cannot be run of a symbol."""
    spans = stored_spans(settings, settings.symbols)
    requests: Requests = {}
    for symbol in settings.symbols:
        try:
            requests[symbol] = days_to_run(settings, symbol, first, last, spans.get(symbol), restart=False)
        except RunError as error:
            refused[symbol] = str(error)
    return requests


def _in_memory(_: Path) -> AbstractContextManager[dg.DagsterInstance]:
    """Return a history of the stages of each symbol that nobody keeps."""
    return dg.DagsterInstance.ephemeral()


def _daily(settings: Settings, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=DAILY,
        job=job,
        cron_schedule=daily_cron(settings),
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Has every day computed that ended; later in the day only of symbols that lack it.",
    )
    def daily(context: dg.ScheduleEvaluationContext) -> Sequence[dg.RunRequest]:
        now = context.scheduled_execution_time
        again = {"ops": {"symbols": {"config": {"only_missing": True}}}} if now.hour in AGAIN_AT else {}
        return [dg.RunRequest(run_key=f"{now - timedelta(days=1):%Y-%m-%d} at {now:%H:%M}", run_config=again)]

    return daily
