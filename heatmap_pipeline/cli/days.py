"""The days that a command means: which they are, how they are run, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import click

from heatmap_pipeline import surroundings
from heatmap_pipeline.cli.options import fail, tell
from heatmap_pipeline.cli.showing import progress
from heatmap_pipeline.errors import HeatmapError

if TYPE_CHECKING:
    from heatmap_pipeline.orchestration.runs import Outcome, Span
    from heatmap_pipeline.settings import Settings

Requests: TypeAlias = dict[str, tuple[date, date]]
"""First and last day to run, by symbol."""


Refusals: TypeAlias = dict[str, str]
"""Why a symbol is not run, by symbol."""


Running: TypeAlias = "Callable[[Callable[..., Outcome]], Callable[..., Outcome]]"
"""What makes of a run of days another one, that does something besides."""


def run_span(
    settings: Settings,
    first: date,
    last: date,
    *,
    check_files: bool = False,
    restart: bool = False,
    running: Running | None = None,
) -> None:
    """Run days of the symbols of the settings, or look for corrected files of them; `running` that of `execute`."""
    from heatmap_pipeline.commands import command  # noqa: PLC0415

    again = command(settings, "run", *settings.symbols, days=(first, last), check_files=check_files, restart=restart)
    if check_files:
        execute(settings, lambda spans: _corrected(settings, spans, first, last), again, running=running)
        return
    settings, starts = (settings, {}) if restart else changed(settings, first, last)
    if settings.symbols:
        execute(
            settings,
            lambda spans: days_of(settings, spans, lambda _: first, last, starts, restart=restart),
            again,
            restart=restart,
            since=dict.fromkeys(starts, first),
            running=running,
        )


def run_due(settings: Settings, symbols: tuple[str, ...], running: Running | None = None) -> None:
    """Run what is due of the symbols of the settings; `symbols` were typed, `running` is that of `execute`."""
    from heatmap_pipeline.chain.due import last_due, of_earlier_version  # noqa: PLC0415
    from heatmap_pipeline.chain.reach import plan_due  # noqa: PLC0415
    from heatmap_pipeline.commands import command  # noqa: PLC0415

    def plan(spans: dict[str, Span]) -> tuple[Requests, Refusals]:
        refused = of_earlier_version(settings)
        current = tuple(symbol for symbol in settings.symbols if symbol not in refused)
        due = plan_due(settings, current, last_due(settings))
        requests = due.days
        for words in due.news:
            click.echo(words)
        for words in due.words_for_closed():
            click.echo(words)
        for words in due.refused:
            click.echo(f"not asked about new and corrected files: {words}")
        for symbol in current:
            if symbol in due.ended and symbol not in requests:
                click.echo(f"{symbol}: ended on {due.ended[symbol].day}, nothing is asked for")
            elif symbol in spans and symbol not in requests:
                click.echo(f"{symbol}: up to date, the last stored day is {spans[symbol].last}")
            elif symbol not in requests:
                refused[symbol] = (
                    f"{symbol}: nothing is stored yet and HEATMAP_START is {settings.start or 'not set'}; "
                    f"begin with `{command(settings, 'run', symbol, days=('DAY', 'DAY'))}`"
                )
        return requests, refused

    execute(settings, plan, command(settings, "refresh", *symbols), daily=True, running=running)


def days_asked(
    symbols: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    check_files: tuple[datetime, datetime] | None,
    *,
    restart: bool,
) -> tuple[date, date]:
    """Return the first and the last day that the options of `run` mean."""
    if check_files is not None:
        if start is not None or end is not None:
            raise click.UsageError("--check-files names its own days; give them there, without --start and --end")
        if restart:
            raise click.UsageError(
                "--check-files rebuilds days that are stored, --restart begins others; give one of them"
            )
        return check_files[0].date(), check_files[1].date()
    if not symbols:
        raise click.UsageError("Missing argument 'SYMBOL...'.")
    if start is None or end is None:
        raise click.UsageError(f"Missing option '{'--start' if start is None else '--end'}'.")
    return start.date(), end.date()


def _corrected(settings: Settings, spans: dict[str, Span], first: date, last: date) -> tuple[Requests, Refusals]:
    """Find out which stored days have other files by now: of each symbol from the first of them to its last day."""
    from heatmap_pipeline.chain.reach import check_files  # noqa: PLC0415

    requests: Requests = {}
    refused: Refusals = {}
    for symbol in settings.symbols:
        try:
            changed = check_files(settings, symbol, first, last)
        except HeatmapError as error:
            refused[symbol] = str(error)
            continue
        if changed:
            requests[symbol] = changed[0], max(changed[-1], spans[symbol].last if symbol in spans else changed[-1])
        else:
            click.echo(f"{symbol}: no file of {first} .. {last} was corrected")
    return requests, refused


def check_days(settings: Settings, start: date, end: date, option: str) -> None:
    """Refuse days that no run can mean; `option` is '' where each day has an option of its own."""
    from heatmap_pipeline.chain.calendar import EARLIEST  # noqa: PLC0415
    from heatmap_pipeline.chain.due import last_due  # noqa: PLC0415

    first, last = (f"{option}START {start}", f"{option}END {end}") if option else (f"--start {start}", f"--end {end}")
    if start > end:
        raise click.UsageError(f"{first} is after {last}")
    if end > last_due(settings):
        newest = "the day going on" if settings.kind.has_today else "the last complete day"
        raise click.UsageError(f"{last} is not complete yet; {newest} is {last_due(settings)} (UTC)")
    if start < EARLIEST:
        raise click.UsageError(f"{first} is before {EARLIEST}, when there were no such perpetuals")


def changed(settings: Settings, first: date, last: date) -> tuple[Settings, dict[str, date]]:
    """Say of which symbols nothing of these days has changed since they were computed, drawn and published.

    Dagster is not loaded for that: it alone takes longer.

    Returns:
        The settings with the other symbols only, and the first day of each of them that is not as it is stored, where
        days before it are.
    """
    from heatmap_pipeline.store.warehouse import Warehouse  # noqa: PLC0415

    try:
        begun = Warehouse(settings.home).symbols()
    except OSError:  # a home that cannot be entered, which the run says
        begun = []
    if not begun:
        return settings, {}
    from heatmap_pipeline.chain.unchanged import find_changes  # noqa: PLC0415
    from heatmap_pipeline.render.page import is_drawn  # noqa: PLC0415

    pages = settings.home / "renders"
    changes = find_changes(settings, first, last, lambda symbol, inputs: is_drawn(pages, symbol, inputs))
    starts: dict[str, date] = {}
    left: list[str] = []
    for symbol, change in changes.items():
        if change is None:
            click.echo(f"{symbol}: {first} .. {last} stored, unchanged and published: nothing to do")
            continue
        left.append(symbol)
        if change.day is not None and change.day > first:
            starts[symbol] = change.day
            until = change.day - timedelta(days=1)
            click.echo(f"{symbol}: {first} .. {until} stored and unchanged; then {change.reason}", err=True)
    if not left:
        say_where(settings)
    return settings.model_copy(update={"symbols": tuple(left)}), starts


def days_of(
    settings: Settings,
    spans: dict[str, Span],
    begin: Callable[[Span | None], date],
    end: date,
    starts: Mapping[str, date],
    *,
    restart: bool = False,
) -> tuple[Requests, Refusals]:
    """Find out which days a request means for each symbol.

    Args:
        settings: of the command.
        spans: the days stored of each symbol.
        begin: says the first day in view of those stored.
        end: the last day.
        starts: first days of symbols of which the days before are stored and unchanged.
        restart: whether a new history begins after a gap.
    """
    from heatmap_pipeline.orchestration.runs import days_to_run  # noqa: PLC0415
    from heatmap_pipeline.orchestration.turns import RunError  # noqa: PLC0415

    requests: Requests = {}
    refused: Refusals = {}
    for symbol in settings.symbols:
        try:
            span = spans.get(symbol)
            day = begin(span)
            if span is not None and symbol in starts:
                day = max(day, min(starts[symbol], span.last + timedelta(days=1)))
            requests[symbol] = days_to_run(settings, symbol, day, end, span, restart)
        except RunError as error:
            refused[symbol] = str(error)
    return requests, refused


def execute(
    settings: Settings,
    plan: Callable[[dict[str, Span]], tuple[Requests, Refusals]],
    again: str,
    *,
    restart: bool = False,
    daily: bool = False,
    since: Mapping[str, date] | None = None,
    running: Running | None = None,
) -> None:
    """Run what `plan` asks for in view of the days stored, which no other run can change meanwhile, and report.

    Args:
        settings: of the command.
        plan: says which days to run, and which symbols are refused why.
        again: the command line that is going on, for whoever is told that it failed.
        restart: whether a new history begins after a gap.
        daily: whether a day on which nothing ran is worth telling.
        since: first day asked for of symbols of which days before those that are run are stored and unchanged.
        running: given how days are run, says how they are run here; None: as they are.
    """
    from heatmap_pipeline.notices import Failure  # noqa: PLC0415
    from heatmap_pipeline.orchestration.processes import started  # noqa: PLC0415
    from heatmap_pipeline.orchestration.retention import tidy_up  # noqa: PLC0415
    from heatmap_pipeline.orchestration.runs import (  # noqa: PLC0415
        Outcome,
        look_back,
        prepare_home,
        run_days,
        stored_spans,
    )
    from heatmap_pipeline.orchestration.told import noted, notes_left, tell_of_command  # noqa: PLC0415
    from heatmap_pipeline.orchestration.turns import one_run_at_a_time  # noqa: PLC0415
    from heatmap_pipeline.store.last_run import write_last_run  # noqa: PLC0415

    outcome = Outcome({}, {})
    began = datetime.now(UTC)
    with ExitStack() as stack:  # also while it is told what failed, so that somebody tells it where this is killed
        try:
            surroundings.check_home(settings.home)
            prepare_home(settings)
            stack.enter_context(one_run_at_a_time(settings, lambda text: click.echo(text, err=True)))
            notes = notes_left(settings)
            stack.enter_context(noted(settings, again))
            look_back(settings, notes, daily=daily)
            requests, refused = plan(stored_spans(settings, settings.symbols))
            if requests:
                if running is not None:
                    with progress():
                        outcome = running(run_days)(settings, requests, restart=restart)
                else:
                    with started(settings, requests, again, restart=restart) as finish, progress():
                        outcome = finish()
            with progress():
                anew = _brought_back(settings, outcome if requests else None)
            if anew:
                click.echo("what is published was made anew, as its parts were not where it names them")
            tidy_up(settings)
        except (Exception, KeyboardInterrupt) as error:
            write_last_run(settings.home, settings.symbols, settings.symbols, began=began, failed=True, count=False)
            cause = str(error) if isinstance(error, HeatmapError) else f"{type(error).__name__}: {error} (unexpected)"
            if isinstance(error, KeyboardInterrupt):  # within a run it is Dagster's, and told as that run's failure
                cause = "the command was stopped"
            tell_of_command(settings, [Failure(symbol, cause) for symbol in settings.symbols], [], again)
            raise
        failed = {*refused, *outcome.failures}
        write_last_run(settings.home, settings.symbols, failed, began=began, failed=bool(failed))
        failures = {symbol: Failure(symbol, text) for symbol, text in {**refused, **outcome.failures}.items()}
        if failures:
            tell_of_command(settings, list({**failures, **outcome.details}.values()), outcome.run_ids, again)
    _report(settings, outcome, refused, since or {})


def _brought_back(settings: Settings, outcome: Outcome | None) -> bool:
    """Make the parts anew of what is published where a publication did not: without a run, or where one failed."""
    from heatmap_pipeline.chain.publication import bring_parts_back  # noqa: PLC0415

    if outcome is None:
        return bring_parts_back(settings)
    if not outcome.failures:
        return False
    try:
        return bring_parts_back(settings)
    except HeatmapError:  # the run has failed, and what it says comes first; `status` says this
        return False


def say_where(settings: Settings) -> None:
    """Say where what is published can be looked at: of a scratch home, in the store."""
    if settings.home != settings.named_home:
        click.echo(f"store     {settings.store}")
        return
    click.echo(f"page      {(settings.home / 'renders' / 'index.html').as_uri()}")
    click.echo(f"database  {settings.home / 'heatmap.duckdb'}")


def _report(settings: Settings, outcome: Outcome, refused: Refusals, since: Mapping[str, date]) -> None:
    """Say what was published; where something failed, end the command with it."""
    failures = {**refused, **outcome.failures}
    for symbol, (first, last) in outcome.published.items():
        kind = "simulated" if settings.simulated else "real"
        begin = min(first, since.get(symbol, first))
        click.echo(f"{symbol}: {begin} .. {last} computed and published ({kind} data)")
    if outcome.published:
        say_where(settings)
    # Symbols that share a reason share its sentence.
    reasons = {text: name for name, text in reversed(failures.items())}
    messages = [text if text.startswith(name) else f"{name} failed: {text}" for text, name in reversed(reasons.items())]
    for message in messages[:-1]:
        tell(message)
    if messages:
        fail(messages[-1])
