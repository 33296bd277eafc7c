"""Running the job from the command line: which days a request means, the run itself, and what came of it.

The job runs in this process on the home's own Dagster instance, so its runs stand in the same history as those of the
schedule and the UI, and no daemon is needed.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

import heatmap_pipeline
from heatmap_pipeline.chain.calendar import today
from heatmap_pipeline.chain.commands import run_command
from heatmap_pipeline.chain.due import clock_is_behind, words_for_clock
from heatmap_pipeline.chain.recovery import ask_each
from heatmap_pipeline.commands import command
from heatmap_pipeline.errors import HeatmapError, reason
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.notices import Failure, announce, told_failed
from heatmap_pipeline.orchestration import jobs
from heatmap_pipeline.orchestration.assets import (
    STAGES,
    aggregated_map,
    heatmap_render,
    parquet_export,
    position_events,
    published_database,
)
from heatmap_pipeline.orchestration.assets.common import asset_key, failed_day, had_until, step_of, symbol_and_stage
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.instance_file import put_instance_file, shares_history
from heatmap_pipeline.orchestration.loading import loading
from heatmap_pipeline.orchestration.partitions import LAUNCHED_HERE, range_tags
from heatmap_pipeline.orchestration.told import (
    COMMAND_TAG,
    SYMBOLS_TAG,
    notes_left,
    notice_of_run,
    symbols_of_run,
    tell_of_idle_days,
    tell_of_killed_commands,
)
from heatmap_pipeline.orchestration.turns import RunError, goes_on, if_no_run_goes_on
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import Warehouse

Days: TypeAlias = tuple[date, date]
"""First and last day, both included."""

STOPPED = "the run was stopped; what it did is kept, and the same command goes on from there"
_NOT_AGAIN = {"dagster/max_retries": "0"}
"""Tag by which the UI's daemon does not repeat a run of the command line that was killed: its command does that."""
HOME_TAG, HOST_TAG, PROCESS_TAG = "heatmap/home", "heatmap/host", "heatmap/process"
"""Tags of the runs of the command line: the home, the host's name and the process that they are of."""
_CODE_SERVER = ".dagster/grpc_info"
"""Tag that names the socket of the code server that runs a run of the UI."""
_GOING_ON = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


_COMPUTING = tuple(stage.NAME for stage in STAGES if stage is not published_database)
_PUBLISHING = (published_database.NAME, parquet_export.NAME)


@dataclass(frozen=True)
class Span:
    """The stored days of a symbol, first and last; the models may differ, the widest counts."""

    first: date
    last: date


@dataclass(frozen=True)
class Outcome:
    """What became of a request: the days published of each symbol, first and last, and what went wrong of which.

    A symbol is in both where the days before a failed one were published, or where only the export failed. `details`
    are the failures with day and stage, as far as they are known, and `run_ids` the failed runs of Dagster's history.
    """

    published: dict[str, Days]
    failures: dict[str, str]
    details: dict[str, Failure] = field(default_factory=dict)
    run_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Failure:
    """What failed of a symbol, where, and the last day before it, where a run until there can succeed."""

    message: str
    had_until: date | None = None
    day: str = ""
    stage: str = ""
    published: bool = False


def packaged_file(name: str) -> Path:
    """Return workspace.yaml or dagster.yaml: beside the package in a checkout, inside it when installed.

    Raises:
        RunError: if the installation is incomplete.
    """
    package = Path(heatmap_pipeline.__file__).parent
    for folder in (package, package.parent):
        if (folder / name).is_file():
            return folder / name
    raise RunError(f"{name} is missing from the installation of heatmap-pipeline; install it again")


def prepare_home(settings: Settings) -> Path:
    """Make the home and Dagster's own folder in it, with a dagster.yaml unless the user wrote one; return that folder.

    Raises:
        RunError: if the home cannot be written.
        InstanceFileError: if the user's dagster.yaml is not one of settings.
    """
    folder = settings.home / "dagster"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        put_instance_file(folder, packaged_file("dagster.yaml").read_bytes())
    except OSError as error:
        raise RunError(
            f"home {settings.home} cannot be written ({error.strerror}); choose another with --home or HEATMAP_HOME"
        ) from None
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def stored_spans(settings: Settings, symbols: Sequence[str]) -> dict[str, Span]:
    """Return the stored days of those symbols that have any; of one whose file is damaged the run says so."""

    def days_of(con: Connection, symbol: str) -> list[date]:
        return [day for model in settings.models for day in stored.day_records(con, symbol, model)]

    stored_days = ask_each(settings, days_of, symbols)
    return {symbol: Span(min(days), max(days)) for symbol, days in stored_days.items() if days}


def days_to_run(
    settings: Settings, symbol: str, start: date, end: date, span: Span | None, restart: bool
) -> tuple[date, date]:
    """Return the first and last day that a request for start..end has to run.

    What follows a rebuilt day is rebuilt too, so a request within the stored days reaches to the last of them.

    Raises:
        RunError: for a gap, with the command that fills it.
    """
    if span is None:
        return start, end
    if clock_is_behind(span.last):
        raise RunError(words_for_clock(symbol, span.last))
    if start > span.last + ONE_DAY and not restart:
        fill = run_command(settings, symbol, span.last + ONE_DAY, start - ONE_DAY)
        raise RunError(
            f"{symbol}: {start} does not follow the last stored day {span.last}; fill the gap first with "
            f"`{fill}`, or begin a new history at {start} "
            f"with --restart where the source has no data for the gap"
        )
    if start < span.first and end < span.first - ONE_DAY:
        raise RunError(
            f"{symbol}: the stored history begins at {span.first}, and {start} .. {end} would leave a gap before it; "
            f"compute all of it with `{run_command(settings, symbol, start, span.last)}`"
        )
    return start, max(end, span.last)


def close_killed_runs(settings: Settings) -> None:
    """Mark the runs of this file that were killed as failed, unless one is going on just now."""
    with if_no_run_goes_on(settings) as alone:
        if alone:
            with opened_history(prepare_home(settings)) as instance:
                _tell_of_killed(settings, instance, notes_left(settings))


def look_back(settings: Settings, notes: Sequence[Path], *, daily: bool) -> None:
    """Mark killed runs as failed, and tell the webhook, if one is set, of what went wrong unnoticed.

    Under `turns.one_run_at_a_time`. A command that is killed leaves a note: without one, and nobody to tell, there is
    nothing to look for, and Dagster's history is not opened. Where history or warehouse cannot be read nothing is told:
    the command that goes on says so, if it needs them.

    Args:
        settings: of the home.
        notes: that killed commands left (`told.notes_left`).
        daily: whether this home is to be kept current, so that a day without any run is worth telling.
    """
    if not settings.webhook and not notes:
        return
    with suppress(HeatmapError), opened_history(prepare_home(settings)) as instance:
        _tell_of_killed(settings, instance, notes)
        if daily and settings.webhook:
            tell_of_idle_days(settings, instance)


def _tell_of_killed(settings: Settings, instance: dg.DagsterInstance, notes: Sequence[Path]) -> None:
    """Tell of killed runs, else of the commands that left a note; who is killed in a run leaves both."""
    tell_of_killed_commands(settings, notes, _close_killed(settings, instance))


def _close_killed(settings: Settings, instance: dg.DagsterInstance) -> set[str]:
    """Mark killed runs as failed, and tell so; return their symbols.

    The caller holds the run locks of the settings' symbols, so none of those that seem to go on with one is alive.

    Dagster watches only runs that it launched itself. Others would stand in its list as running for ever, and count
    against the number it allows at a time, until the schedule and every backfill wait for them.
    """
    ours = LAUNCHED_HERE
    # What another home or host runs may be going on, and stands in a history that they share.
    if shares_history(settings.home / "dagster"):
        ours = launched_here(settings)
    seeming = instance.get_runs(dg.RunsFilter(statuses=_GOING_ON, tags=ours))
    killed = [run for run in seeming if not goes_on(settings, run.tags.get(SYMBOLS_TAG, "").split())]
    for run in killed:
        # Where the history could not be written, its command has told that it failed, and the run looks as if killed.
        if not told_failed(settings, run.run_id):
            announce(settings, notice_of_run(settings, instance, run))
        instance.report_run_failed(run, "The process of this run was killed; its command can simply be run again.")
    return {symbol for run in killed for symbol in symbols_of_run(settings, run)}


def launched_here(settings: Settings) -> dict[str, str]:
    """Return the tags by which a run of the command line is told from those of other homes and hosts.

    Over a store the home is that of its user: the scratch home of a run that was killed is nobody's any more.
    """
    return {**LAUNCHED_HERE, HOME_TAG: str(settings.named_home.resolve()), HOST_TAG: socket.gethostname()}


def close_killed_runs_of_the_ui(settings: Settings, answers: Callable[[Path], bool]) -> None:
    """Mark the UI's runs as failed whose code server is gone; its daemon then runs them again (dagster.yaml).

    Dagster itself notices a killed run only while the code server that started it lives. Otherwise its backfill would
    wait for it for ever, and so would, after two of them, everything else. In a history that other homes share the
    socket may be of another host: there Dagster's own monitoring has to do.

    Args:
        settings: of the home.
        answers: whether a process listens on a socket of the file system.
    """
    statuses = [*_GOING_ON, dg.DagsterRunStatus.CANCELING]
    folder = prepare_home(settings)
    if shares_history(folder):
        return
    with opened_history(folder) as instance:
        for run in instance.get_runs(dg.RunsFilter(statuses=statuses)):
            if (door := _door(run)) is None or answers(door):
                continue
            _close(settings, instance, run, "The process of this run was killed; it is run again.")


def close_killed_runs_of_a_shard(settings: Settings, tags: Mapping[str, str]) -> None:
    """Mark the runs of a code location as failed that a killed code server of it ran; the daemon runs them again.

    The caller is about to be its code server, in which its runs go on, so none of those that seem to is alive. Where
    runs are processes of code servers Dagster's monitoring does not see that, and the next run of the shard would wait
    for ever for one that is gone.

    Args:
        settings: of the home.
        tags: of the runs of this code location (`shards.tags_of`).
    """
    statuses = [*_GOING_ON, dg.DagsterRunStatus.CANCELING]
    with opened_history(prepare_home(settings)) as instance:
        for run in instance.get_runs(dg.RunsFilter(statuses=statuses, tags=dict(tags))):
            # Not one that was never handed over, nor one of the command line.
            if _CODE_SERVER in run.tags:
                _close(settings, instance, run, "The code server of this run was killed; it is run again.")


def _close(settings: Settings, instance: dg.DagsterInstance, run: dg.DagsterRun, words: str) -> None:
    """Mark a run of a code server that is gone as failed, and tell so; one that was being cancelled as cancelled."""
    if run.status == dg.DagsterRunStatus.CANCELING:  # else it would be run again
        instance.report_run_canceled(run, "The process of this run was killed while it was being cancelled.")
    else:
        announce(settings, notice_of_run(settings, instance, run))
        instance.report_run_failed(run, words)


def _door(run: dg.DagsterRun) -> Path | None:
    """Return the socket of the code server that a run of the UI belongs to; None for any other run."""
    door = json.loads(run.tags.get(_CODE_SERVER, "{}")).get("socket")
    return None if door is None else Path(door)


def wait_for_runs_of_the_ui(
    settings: Settings,
    instance: dg.DagsterInstance,
    symbol: str,
    tell: Callable[[str], None],
    answers: Callable[[Path], bool],
) -> None:
    """Wait until no run of the UI works on a symbol: such runs do not take the lock of `one_run_at_a_time`.

    Args:
        settings: of the home.
        instance: its history.
        symbol: that is about to be changed otherwise than by a run.
        tell: is told once what is waited for.
        answers: whether a process listens on a socket of the file system.

    Raises:
        RunError: if one still goes on after `lock_timeout` seconds.
    """
    statuses = [*_GOING_ON, dg.DagsterRunStatus.CANCELING]
    end, told = time.monotonic() + settings.lock_timeout, False
    while True:
        going_on = [
            run.run_id
            for run in instance.get_runs(dg.RunsFilter(statuses=statuses))
            if symbol in symbols_of_run(settings, run) and (door := _door(run)) is not None and answers(door)
        ]
        if not going_on:
            return
        if time.monotonic() > end:
            raise RunError(
                f"run {going_on[0]} of the UI still works on {symbol} after {settings.lock_timeout:g} s; nothing was "
                "removed: terminate it in the UI, or try again when it is done"
            )
        if not told:
            tell(f"waiting for run {going_on[0]} of the UI, which works on {symbol}")
        told = True
        time.sleep(min(0.5, settings.lock_timeout / 4))


def run_days(
    settings: Settings,
    requests: Mapping[str, Days],
    *,
    restart: bool = False,
    history: Callable[[Path], AbstractContextManager[dg.DagsterInstance]] | None = None,
) -> Outcome:
    """Run the job for each symbol's days, symbols with the same days in one Dagster run; under its run locks (`turns`).

    A day that cannot be had stops itself and what follows: a second run then computes and publishes the days before it.
    So Dagster's history says of each day what is true of it.

    Args:
        settings: of the home.
        requests: first and last day by symbol.
        restart: whether a new history begins after a gap.
        history: opens Dagster's history, given its folder; by default the one that is there.

    Returns:
        What was published and what failed; nothing is raised for a failed symbol.

    Raises:
        RunError: if Dagster's history cannot be opened.
    """
    folder = prepare_home(settings)
    with (history or opened_history)(folder) as instance, loading():
        _close_killed(settings, instance)
        return _run_groups(settings, instance, requests, restart=restart)


def begin_history(settings: Settings) -> None:
    """Make Dagster's history where there is none, and tell of runs that were killed; under `turns.one_run_at_a_time`.

    Raises:
        RunError: if it cannot be opened.
    """
    with opened_history(prepare_home(settings)) as instance:
        _close_killed(settings, instance)


def compute_days(settings: Settings, requests: Mapping[str, Days], *, restart: bool = False) -> Outcome:
    """Do all of `run_days` up to the pictures, beside others that do so for other symbols; after `begin_history`.

    Returns:
        What is ready to be published, in the place of what is published, and what failed.

    Raises:
        RunError: if Dagster's history cannot be opened.
    """
    with opened_history(settings.home / "dagster") as instance, loading():
        return _run_groups(settings, instance, requests, restart=restart, stages=_COMPUTING)


def publish_days(settings: Settings, computed: Mapping[str, Days], killed: Collection[int], again: str) -> Outcome:
    """Publish in one Dagster run what `compute_days` has made ready, and do what follows a publication.

    Args:
        settings: of the home.
        computed: first and last day by symbol.
        killed: ids of processes that were killed while they did `compute_days`: their runs are marked as failed, and
            are among the failed runs of the outcome.
        again: the command line that is going on.

    Raises:
        RunError: if Dagster's history cannot be opened.
    """
    outcome = Outcome({}, {})
    with opened_history(settings.home / "dagster") as instance:
        for process in sorted(killed):
            tags = {**launched_here(settings), PROCESS_TAG: str(process)}
            for run in instance.get_runs(dg.RunsFilter(statuses=_GOING_ON, tags=tags)):
                instance.report_run_failed(run, "The process of this run was killed; its command can be run again.")
                outcome.run_ids.append(run.run_id)
        if computed:
            days = min(first for first, _ in computed.values()), max(last for _, last in computed.values())
            requests = dict.fromkeys(computed, days)
            published = _run_groups(settings, instance, requests, stages=_PUBLISHING, again=again)
            outcome.published.update({symbol: computed[symbol] for symbol in published.published})
            outcome.failures.update(published.failures)
            outcome.details.update(published.details)
            outcome.run_ids.extend(published.run_ids)
    return outcome


def _run_groups(
    settings: Settings,
    instance: dg.DagsterInstance,
    requests: Mapping[str, Days],
    *,
    restart: bool = False,
    stages: Sequence[str] = (),
    again: str = "",
) -> Outcome:
    """Run these stages (none: all) for each symbol's days, then those of the days before one that cannot be had."""
    outcome = Outcome({}, {})
    waiting = deque(_grouped(requests))
    while waiting:
        (first, last), symbols = waiting.popleft()
        if STOPPED in outcome.failures.values():
            outcome.failures.update({symbol: STOPPED for symbol in symbols if symbol not in outcome.failures})
            continue
        group_settings = settings.model_copy(update={"symbols": tuple(symbols)})
        run_id = str(uuid4())  # known also where the history has a run that could not be begun
        line = again or command(group_settings, "run", *symbols, days=(first, last), restart=restart)
        try:
            with _explaining(settings.home / "dagster"):
                failed = _run_group(group_settings, instance, run_id, first, last, restart, stages, line)
        except HeatmapError as error:
            failed = dict.fromkeys(symbols, _Failure(str(error)))
        if failed:
            outcome.run_ids.append(run_id)
        for symbol in symbols:
            if symbol not in failed or failed[symbol].published:
                outcome.published[symbol] = first, last
        before: dict[str, Days] = {}
        for symbol, failure in failed.items():
            if failure.had_until is not None:
                before[symbol] = first, failure.had_until
            # Of several days that cannot be had, the first is what the history ends at.
            if symbol not in outcome.failures or failure.had_until is not None:
                outcome.failures[symbol] = failure.message
                outcome.details[symbol] = Failure(symbol, failure.message, failure.day, failure.stage)
        waiting.extend(_grouped(before))
    if stages != _PUBLISHING:  # which knows nothing of the days that were to be computed
        _forget_what_was_asked_in_vain(settings, outcome)
    return outcome


def _forget_what_was_asked_in_vain(settings: Settings, outcome: Outcome) -> None:
    """Forget that days could not be read that the source has not, of symbols that got all they were asked for.

    Of a day that it has, as of one whose file is damaged, it is true still.
    """
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    for symbol in outcome.published.keys() - outcome.failures.keys():
        with suppress(HeatmapError):  # the run is no worse for it
            with warehouse.connect(symbol) as con:
                failed = set(stored.failed_outside(con, symbol))
            begun = [day for day in failed if day <= today()]
            had = open_market(settings).available(symbol, begun) if begun else set()
            if in_vain := failed - had:
                with warehouse.connect(symbol) as con:
                    stored.clear_failures_to_read(con, symbol, in_vain)


def _grouped(requests: Mapping[str, Days]) -> list[tuple[Days, list[str]]]:
    groups: dict[Days, list[str]] = {}
    for symbol, days in requests.items():
        groups.setdefault(days, []).append(symbol)
    return list(groups.items())


@contextmanager
def opened_history(folder: Path) -> Iterator[dg.DagsterInstance]:
    """Open Dagster's history in a folder of `prepare_home`; raise RunError where it cannot be used."""
    with _explaining(folder), open_history(folder) as instance:
        yield instance


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Say in words that Dagster's history cannot be read or written; it is SQLite, and fails as that does."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        why = reason(getattr(error, "orig", None) or error)
        raise RunError(
            f"Dagster's history in {folder} cannot be used ({why}); make room on its disk or choose another --home, "
            "and run again"
        ) from None


def _run_group(
    settings: Settings,
    instance: dg.DagsterInstance,
    run_id: str,
    first: date,
    last: date,
    restart: bool,
    stages: Sequence[str],
    again: str,
) -> dict[str, _Failure]:
    """Run these stages (none: all) of days of symbols in a run of that id; return what failed."""
    open_market(settings)  # one that cannot be opened would fail inside Dagster, without a step to say why
    job = build_defs(settings, start=first).resolve_job_def(jobs.NAME)
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if restart:
        config["ops"] = {
            step_of(symbol, position_events.NAME): {"config": {"restart": True}} for symbol in settings.symbols
        }
    result = job.execute_in_process(
        run_config=config,
        instance=instance,
        raise_on_error=False,
        run_id=run_id,
        asset_selection=_keys(settings, stages) if stages else None,
        tags={
            **range_tags(first, last),
            **launched_here(settings),
            PROCESS_TAG: str(os.getpid()),
            **_NOT_AGAIN,
            COMMAND_TAG: again,
            SYMBOLS_TAG: " ".join(settings.symbols),
        },
    )
    end = heatmap_render.NAME if stages == _COMPUTING else published_database.NAME
    return {} if result.success else _failures(settings, result.all_events, end)


def _keys(settings: Settings, stages: Sequence[str]) -> list[dg.AssetKey]:
    """Return the keys of these stages of all symbols; what follows a publication belongs to it."""
    exported = settings.export is not None
    names = [name for name in stages if exported or name != parquet_export.NAME]
    keys = [asset_key(symbol, name) for symbol in settings.symbols for name in names]
    if published_database.NAME not in stages:
        return keys
    return [*keys, *(asset_key(base, aggregated_map.NAME) for base in aggregated_map.markets_by_base(settings))]


def _failures(
    settings: Settings, events: Sequence[dg.DagsterEvent], end: str = published_database.NAME
) -> dict[str, _Failure]:
    """Return the first cause of failure of every symbol that a run did not bring to its end, and of every base.

    Args:
        settings: of the run.
        events: of it.
        end: the stage with which a symbol is done; what fails after it, as an export does, undoes nothing.
    """
    failures: dict[str, _Failure] = {}
    done = {event.step_key for event in events if event.event_type_value == "STEP_SUCCESS"}
    for event in events:
        symbol, stage = symbol_and_stage(event.step_key)
        if symbol in failures or (symbol not in settings.symbols and stage != aggregated_map.NAME):
            continue
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if not check.passed and check.blocking:
                failures[symbol] = _Failure(f"check {check.check_name} failed: {check.description}", stage=stage)
        elif event.event_type_value == "STEP_FAILURE":
            there = step_of(symbol, end) in done
            failures[symbol] = _Failure(_cause(settings, event), had_until(event), failed_day(event), stage, there)
    outside = f"the run failed outside of its steps; see `{command(settings, 'ui')}`"
    stopped = any(failure.message == STOPPED for failure in failures.values())
    for symbol in settings.symbols:
        if symbol not in failures and step_of(symbol, end) not in done:
            failures[symbol] = _Failure(STOPPED if stopped else outside)
    return failures


def _cause(settings: Settings, event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return str(data.user_failure_data.description)
    error = data.error
    if error is not None and error.cls_name == "DagsterExecutionInterruptedError":
        return STOPPED
    while error is not None and error.cause is not None:
        error = error.cause
    stage = symbol_and_stage(event.step_key)[1] or "the run"
    reason = error.message.strip().splitlines()[-1] if error is not None and error.message.strip() else "unknown error"
    return f"{stage}: {reason} (unexpected; the whole error is in the run's log, see `{command(settings, 'ui')}`)"
