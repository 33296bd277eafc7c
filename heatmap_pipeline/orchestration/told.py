"""What `HEATMAP_WEBHOOK` is told of runs: that one failed, was killed or did not start, or that nothing ran all day."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from uuid import uuid4

import dagster as dg

from heatmap_pipeline.chain.calendar import today, yesterday
from heatmap_pipeline.chain.due import wrong_clock
from heatmap_pipeline.chain.recovery import naming_the_rebuild
from heatmap_pipeline.chain.unchanged import NOTE, notes_of_commands, symbols_of_note
from heatmap_pipeline.commands import command
from heatmap_pipeline.errors import HeatmapError, listed
from heatmap_pipeline.files import remove_half_written, replace_file
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.notices import Failure, Kind, Notice, announce, deliver, repairing
from heatmap_pipeline.orchestration.assets.common import failed_day, symbol_and_stage
from heatmap_pipeline.orchestration.partitions import days_of_run
from heatmap_pipeline.orchestration.turns import goes_on
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store.ended import ended_symbols
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.symbols import of_safe_name

COMMAND_TAG = "heatmap/command"
"""Tag of a run of the command line: the line that does the same again."""

SYMBOLS_TAG = "heatmap/symbols"
"""Tag of a run of the command line: its symbols, separated by blanks."""

_WAITS_OR_RUNS = {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED}


def failures_of(run: dg.DagsterRun, events: Sequence[dg.DagsterEvent]) -> list[Failure]:
    """Return the first failed step of every symbol of a run."""
    failures: dict[str, Failure] = {}
    for event in events:
        symbol, stage = symbol_and_stage(event.step_key)
        if symbol in failures:
            continue
        data = event.step_failure_data
        written = data.user_failure_data
        cause = written.description if written is not None and written.description else data.error_display_string
        words = " ".join((cause or "unknown cause").split())
        failures[symbol] = Failure(symbol, words, failed_day(event) or _days(run), stage)
    return list(failures.values())


def symbols_of_run(settings: Settings, run: dg.DagsterRun) -> Sequence[str]:
    """Return the symbols that a run is about, as its tag, its steps or its assets say; else all of the settings."""
    if SYMBOLS_TAG in run.tags:
        return run.tags[SYMBOLS_TAG].split()
    chosen = {symbol_and_stage(step)[0] for step in run.step_keys_to_execute or ()}
    chosen = chosen or {of_safe_name(key.path[0]) for key in run.asset_selection or ()}
    return [symbol for symbol in settings.symbols if symbol in chosen] or settings.symbols


def notice_of_run(
    settings: Settings, instance: dg.DagsterInstance, run: dg.DagsterRun, events: Sequence[dg.DagsterEvent] = ()
) -> Notice:
    """Return what to tell of a run that is marked as failed, or is about to be.

    Args:
        settings: of the home.
        instance: the history that it stands in.
        run: it.
        events: of its failed steps; without any it was killed, or did not start.
    """
    days = days_of_run(run.tags)
    symbols = symbols_of_run(settings, run)
    if COMMAND_TAG in run.tags:
        again = run.tags[COMMAND_TAG]
    else:
        again = command(settings, "run", *symbols, days=days) if days else command(settings, "refresh", *symbols)
    if failures := failures_of(run, events):
        return Notice("failed", run.run_id, failures, repairing(failures, again))
    record = instance.get_run_record_by_id(run.run_id)
    kind: Kind = "not_started" if record is None or record.start_time is None else "killed"
    cause = "the run did not start" if kind == "not_started" else "the process of the run was killed"
    return Notice(kind, run.run_id, [Failure(listed(symbols), cause, _days(run))], again)


def tell_of_command(settings: Settings, failures: Sequence[Failure], run_ids: Sequence[str], again: str) -> None:
    """Tell that a command of the command line failed, in one notice.

    Args:
        settings: of the home.
        failures: by symbol; those that share everything else share an entry.
        run_ids: of its failed runs in Dagster's history; none where it did not come to that.
        again: the same command.
    """
    shared: dict[tuple[str, str, str], list[str]] = {}
    for failure in failures:
        shared.setdefault((failure.cause, failure.day, failure.stage), []).append(failure.symbol)
    joined = [Failure(listed(symbols), *rest) for rest, symbols in shared.items()]
    run_id = run_ids[0] if run_ids else uuid4().hex
    announce(settings, Notice("failed", run_id, joined, repairing(joined, again)))


@contextmanager
def noted(settings: Settings, again: str) -> Iterator[None]:
    """Leave a note of a command while it goes on, for who comes upon it; under `turns.one_run_at_a_time`.

    A command that is killed before its run stands in Dagster's history leaves nothing else to tell of it.

    Args:
        settings: of the command.
        again: the line that does the same again.
    """
    note = settings.home / "dagster" / f"{NOTE}{uuid4().hex}.json"
    with suppress(OSError):  # a full disk is said by the run itself
        replace_file(note, json.dumps({"command": again, "symbols": settings.symbols}).encode())
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink(missing_ok=True)


def notes_left(settings: Settings) -> list[Path]:
    """Return the notes of commands that were killed; to be asked under `turns.one_run_at_a_time`, before `noted`."""
    folder = settings.home / "dagster"
    remove_half_written(folder)
    return [note for note in notes_of_commands(settings.home) if not goes_on(settings, symbols_of_note(note) or ())]


def tell_of_killed_commands(settings: Settings, notes: Sequence[Path], told: Collection[str]) -> None:
    """Tell of commands that were killed, and remove their notes.

    Args:
        settings: of the home.
        notes: of them (`notes_left`).
        told: symbols of killed runs that were told already: no two commands work on a symbol.
    """
    for note in notes:
        with suppress(OSError, ValueError, KeyError, TypeError):  # half written: it had hardly begun
            left = json.loads(note.read_bytes())
            failure = Failure(listed(left["symbols"]), "the process of the command was killed outside of a run")
            if not {*left["symbols"]} & {*told}:
                announce(settings, Notice("killed", note.stem, [failure], str(left["command"])))
        with suppress(OSError):
            note.unlink(missing_ok=True)


def tell_of_idle_days(
    settings: Settings,
    instance: dg.DagsterInstance,
    last: date | None = None,
    warn: Callable[[str], object] | None = None,
) -> Notice | None:
    """Tell, once a day, that nothing at all ran on the day before, though days were due; and send what waits.

    That a run failed is told by itself. Nothing is due where nothing is stored, nor after `last`, the last day that a
    source has that does not grow. The newest run in the history and the newest complete day stored have to be that old.

    Returns:
        The notice, None where there is no reason for one.

    Raises:
        HeatmapError: if the warehouse cannot be read.
    """
    warning = {"warn": warn} if warn is not None else {}
    deliver(settings, **warning)
    notice = _of_idle_days(settings, instance, last)
    if notice is not None:
        announce(settings, notice, **warning)
    return notice


def _of_idle_days(settings: Settings, instance: dg.DagsterInstance, last: date | None) -> Notice | None:
    newest = next(iter(instance.get_run_records(limit=1)), None)
    ran = None if newest is None else newest.create_timestamp.date()
    if newest is not None and newest.dagster_run.status in _WAITS_OR_RUNS:
        return None
    again = command(settings, "refresh")
    if ran is not None and ran > today():
        words = wrong_clock(settings)
        return None if words is None else Notice("nothing_ran", str(yesterday()), [Failure("", words)], again)
    if ran is not None and ran >= yesterday():
        return None
    complete = _newest_complete(settings)
    due = min(yesterday() - ONE_DAY, last or date.max)
    if complete is None or complete >= due:
        return None
    first = max(complete + 2 * ONE_DAY, complete if ran is None else ran + ONE_DAY)
    idle = str(yesterday()) if first >= yesterday() else f"{first} .. {yesterday()}"
    words = f"nothing ran; the newest complete day stored is {complete}, and {due} was due"
    return Notice("nothing_ran", str(yesterday()), [Failure("", words, idle)], again)


def _newest_complete(settings: Settings) -> date | None:
    """Return the newest day, not provisional, that is stored of any symbol; one that has ended does not count."""
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    newest: list[date] = []
    for symbol in filter(warehouse.holds, settings.symbols):
        with naming_the_rebuild(settings), warehouse.look(symbol) as con:
            if symbol not in ended_symbols(con):
                for model in settings.models:
                    records = stored.day_records(con, symbol, model).items()
                    newest += [day for day, record in records if not record.provisional]
    return max(newest, default=None)


def tell_of_no_run(settings: Settings, error: HeatmapError) -> None:
    """Tell, once a day, that no run can be asked for: what is stored cannot be read."""
    failures = [Failure(listed(settings.symbols), str(error))]
    announce(settings, Notice("not_started", str(today()), failures, repairing(failures, command(settings, "refresh"))))


def _days(run: dg.DagsterRun) -> str:
    days = days_of_run(run.tags)
    if days is None:
        return ""
    return str(days[0]) if days[0] == days[1] else f"{days[0]} .. {days[1]}"
