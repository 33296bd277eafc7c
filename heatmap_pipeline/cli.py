"""The `heatmap` command: thin, every verb one call into the package; whatever is heavy is imported when a verb runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import click

from heatmap_pipeline import __version__
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.source_kinds import SOURCES, folder_sources

if TYPE_CHECKING:
    from heatmap_pipeline.orchestration.runs import Span
    from heatmap_pipeline.settings import Settings

Requests: TypeAlias = dict[str, tuple[date, date]]
"""First and last day to run, by symbol."""

Refusals: TypeAlias = dict[str, str]
"""Why a symbol is not run, by symbol."""

_DAY = click.DateTime(["%Y-%m-%d"])
_FIRST_DAY = date(2019, 1, 1)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_home = click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="Folder of all data (HEATMAP_HOME; ~/heatmap)."
)
_market = _options(
    click.option("--source", type=click.Choice(list(SOURCES)), help="Where from (HEATMAP_SOURCE)."),
    click.option(
        "--archive",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the exchange's archive, futures/um/daily/... below it; "
        f"implies --source {folder_sources()[0]}.",
    ),
)
_models = click.option(
    "--model", "models", multiple=True, type=click.Choice(list(MODELS)), help="Only this model; repeatable."
)


class _Verbs(click.Group):
    """Errors meant for people end the command with exit code 1 and one clear last line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HeatmapError as error:
            _fail(str(error))


def _tell(message: str) -> None:
    """Write one line to stderr, however the message was wrapped."""
    click.echo(f"heatmap: {' '.join(message.split())}", err=True)


def _fail(message: str) -> NoReturn:
    _tell(message)
    raise SystemExit(1)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="heatmap")
def main() -> None:
    """The open time-evolving liquidation heatmap.

    \b
    heatmap demo                  30 days of a simulated market, from nothing to pictures
    heatmap run BTCUSDT --archive DIR --start 2024-07-01 --end 2024-07-28
    heatmap status                what is stored, and what is missing
    heatmap ui                    the Dagster UI on the same history
    heatmap serve                 the live page and the read endpoint over what is published
    """


@main.command()
@click.option("--days", type=click.IntRange(1, 1000), default=30, show_default=True, help="Days up to yesterday.")
@_models
@_home
def demo(days: int, models: tuple[str, ...], home: Path | None) -> None:
    """Run the main job on the built-in simulated market, from nothing to pictures.

    \b
    Examples:
      heatmap demo
      heatmap demo --days 90 --home /tmp/heatmap
    """
    settings = _settings(home=home, source="demo", models=models or None)
    from heatmap_pipeline.chain.calendar import yesterday  # noqa: PLC0415

    end = yesterday()
    start = end - timedelta(days=days - 1)

    def begin(span: Span | None) -> date:
        # A history that ended before the first of these days is continued where it ended.
        return start if span is None else min(start, span.last + timedelta(days=1))

    _execute(settings, lambda spans: _days_of(settings, spans, begin, end))


@main.command()
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--start", type=_DAY, required=True, help="First day, UTC.")
@click.option("--end", type=_DAY, required=True, help="Last day, UTC, included.")
@click.option("--restart", is_flag=True, help="Begin a new history after a gap that the source has no data for.")
@_market
@_models
@_home
def run(
    symbols: tuple[str, ...],
    start: datetime,
    end: datetime,
    restart: bool,
    source: str | None,
    archive: Path | None,
    models: tuple[str, ...],
    home: Path | None,
) -> None:
    """Compute, draw and publish days of symbols; days that are stored and unchanged are skipped.

    \b
    Examples:
      heatmap run BTCUSDT ETHUSDT --source binance --start 2026-11-01 --end 2026-11-21
      heatmap run BTCUSDT --archive DIR --start 2024-06-19 --end 2024-07-28
      heatmap run BTCUSDT ETHUSDT --source demo --start 2026-01-01 --end 2026-01-31
    """
    first, last = start.date(), end.date()
    settings = _settings(home=home, source=source, archive=archive, models=models or None, symbols=_symbols(symbols))
    _check_days(settings, first, last)
    _execute(settings, lambda spans: _days_of(settings, spans, lambda _: first, last, restart=restart), restart=restart)


@main.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL...]")
@_market
@_home
def refresh(symbols: tuple[str, ...], source: str | None, archive: Path | None, home: Path | None) -> None:
    """Compute from the last stored day of each symbol to now: what the schedule does.

    \b
    Examples:
      heatmap refresh
      heatmap refresh BTCUSDT
    """
    settings = _settings(home=home, source=source, archive=archive, symbols=_symbols(symbols) or None)
    from heatmap_pipeline.chain.due import due_days, last_due  # noqa: PLC0415
    from heatmap_pipeline.commands import command  # noqa: PLC0415

    def plan(spans: dict[str, Span]) -> tuple[Requests, Refusals]:
        requests = due_days(settings, settings.symbols, last_due(settings))
        refused: Refusals = {}
        for symbol in settings.symbols:
            if symbol in spans and symbol not in requests:
                click.echo(f"{symbol}: up to date, the last stored day is {spans[symbol].last}")
            elif symbol not in requests:
                refused[symbol] = (
                    f"{symbol}: nothing is stored yet and HEATMAP_START is {settings.start or 'not set'}; "
                    f"begin with `{command(settings, 'run', symbol, days=('DAY', 'DAY'))}`"
                )
        return requests, refused

    _execute(settings, plan)


@main.command()
@_home
def status(home: Path | None) -> None:
    """Show days, gaps, failed and stale days, coverage and newest data per symbol.

    \b
    Example:
      heatmap status
    """
    from heatmap_pipeline.chain.status import status_lines  # noqa: PLC0415

    for line in status_lines(_settings(home=home)):
        click.echo(line)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@_market
@_home
def ui(host: str, port: int, source: str | None, archive: Path | None, home: Path | None) -> None:
    """Open the Dagster UI, with the daily schedule running, on the history of this home.

    \b
    Examples:
      heatmap ui --port 3000
      HEATMAP_UI_HOSTS=heatmap.example.org heatmap ui
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background commands begin with it ignored
    settings = _settings(home=home, source=source, archive=archive)
    from heatmap_pipeline.api import server  # noqa: PLC0415
    from heatmap_pipeline.orchestration.ui import front  # noqa: PLC0415

    with server.listen(host, port) as bound:
        raise SystemExit(front.run_ui(settings, host, bound, click.echo))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=8888,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 = any free one.",
)
@_home
def serve(host: str, port: int, home: Path | None) -> None:
    """Serve the live page and the read endpoint over what is published in this home.

    \b
    Examples:
      heatmap serve
      heatmap serve --port 9000 --home /srv/heatmap
    """
    settings = _settings(home=home)
    from heatmap_pipeline.api import server  # noqa: PLC0415

    server.serve(settings, host, port, click.echo)


def _symbols(symbols: tuple[str, ...]) -> tuple[str, ...]:
    from heatmap_pipeline.settings import SettingsError, check_symbol  # noqa: PLC0415

    try:
        return tuple(dict.fromkeys(check_symbol(symbol) for symbol in symbols))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _settings(*, source: str | None = None, archive: Path | None = None, **options: Any) -> Settings:
    from heatmap_pipeline.chain.settings import load_checked_settings  # noqa: PLC0415
    from heatmap_pipeline.settings import SettingsError  # noqa: PLC0415

    if archive is not None:
        if source is not None and source not in folder_sources():
            raise click.UsageError(f"--archive and --source {source} exclude each other; give one of them")
        source = source or folder_sources()[0]
    try:
        settings = load_checked_settings(source=source, archive=archive, **options)
        settings.archive_root  # noqa: B018  # an archive without a folder is wrong usage
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    return settings


def _check_days(settings: Settings, start: date, end: date) -> None:
    from heatmap_pipeline.chain.due import last_due  # noqa: PLC0415

    if start > end:
        raise click.UsageError(f"--start {start} is after --end {end}")
    if end > last_due(settings):
        last = "the day going on" if settings.kind.has_today else "the last complete day"
        raise click.UsageError(f"--end {end} is not complete yet; {last} is {last_due(settings)} (UTC)")
    if start < _FIRST_DAY:
        raise click.UsageError(f"--start {start} is before {_FIRST_DAY}, when there were no such perpetuals")


def _days_of(
    settings: Settings,
    spans: dict[str, Span],
    begin: Callable[[Span | None], date],
    end: date,
    *,
    restart: bool = False,
) -> tuple[Requests, Refusals]:
    """Find out which days a request means for each symbol; `begin` says its first day in view of those stored."""
    from heatmap_pipeline.orchestration.runs import RunError, days_to_run  # noqa: PLC0415

    requests: Requests = {}
    refused: Refusals = {}
    for symbol in settings.symbols:
        try:
            span = spans.get(symbol)
            requests[symbol] = days_to_run(settings, symbol, begin(span), end, span, restart)
        except RunError as error:
            refused[symbol] = str(error)
    return requests, refused


def _execute(
    settings: Settings, plan: Callable[[dict[str, Span]], tuple[Requests, Refusals]], *, restart: bool = False
) -> None:
    """Run what `plan` asks for in view of the days stored, which no other run can change meanwhile, and report."""
    from heatmap_pipeline.orchestration.runs import (  # noqa: PLC0415
        Outcome,
        one_run_at_a_time,
        prepare_home,
        run_days,
        stored_spans,
    )

    prepare_home(settings)
    outcome = Outcome((), {})
    with one_run_at_a_time(settings, lambda text: click.echo(text, err=True)):
        requests, refused = plan(stored_spans(settings, settings.symbols))
        if requests:
            with _progress():
                outcome = run_days(settings, requests, restart=restart)
    failures = {**refused, **outcome.failures}
    for symbol in outcome.published:
        first, last = requests[symbol]
        kind = "simulated" if settings.simulated else "real"
        click.echo(f"{symbol}: {first} .. {last} computed and published ({kind} data)")
    if outcome.published:
        click.echo(f"page      {(settings.home / 'renders' / 'index.html').as_uri()}")
        click.echo(f"database  {settings.home / 'heatmap.duckdb'}")
    messages = [text if text.startswith(name) else f"{name} failed: {text}" for name, text in failures.items()]
    for message in messages[:-1]:
        _tell(message)
    if messages:
        _fail(messages[-1])


@contextmanager
def _progress() -> Iterator[None]:
    """Show progress: bars on a terminal, plain lines elsewhere."""
    from heatmap_pipeline.chain.progress import listening  # noqa: PLC0415

    if not sys.stderr.isatty():
        with listening(_plain):
            yield
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[tuple[str, str], Any] = {}

        def show(symbol: str, stage: str, done: int, total: int) -> None:
            key = (symbol, stage)
            if key not in tasks:
                tasks[key] = progress.add_task(f"{symbol} {stage}", total=total, unit=_unit(stage))
            progress.update(tasks[key], completed=done)

        with listening(show):
            yield


def _unit(stage: str) -> str:
    return "files" if stage == "download" else "days"


def _plain(symbol: str, stage: str, done: int, total: int) -> None:
    """Print a line at every quarter of a stage."""
    if done == total or done * 4 // total > (done - 1) * 4 // total:
        click.echo(f"{symbol} {stage}: {done} of {total} {_unit(stage)}", err=True)
