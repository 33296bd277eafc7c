"""The `heatmap` command: thin, every verb one call into the package; whatever is heavy is imported when a verb runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from heatmap_pipeline import __version__
from heatmap_pipeline.errors import HeatmapError

if TYPE_CHECKING:
    from heatmap_pipeline.settings import Settings

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
    click.option("--source", type=click.Choice(["archive", "demo"]), help="Where data come from (HEATMAP_SOURCE)."),
    click.option(
        "--archive",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the exchange's archive, futures/um/daily/... below it; implies --source archive.",
    ),
)
_models = click.option(
    "--model", "models", multiple=True, type=click.Choice(["delta", "turnover"]), help="Only this model; repeatable."
)


class _Verbs(click.Group):
    """Errors meant for people end the command with exit code 1 and one clear last line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HeatmapError as error:
            _fail(str(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"heatmap: {' '.join(message.split())}", err=True)
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
    from heatmap_pipeline.orchestration.partitions import yesterday  # noqa: PLC0415
    from heatmap_pipeline.orchestration.runs import stored_spans  # noqa: PLC0415

    end = yesterday()
    start = end - timedelta(days=days - 1)
    for span in stored_spans(settings, settings.symbols).values():
        start = min(start, span.last + timedelta(days=1))
    _run(settings, start, end, restart=False)


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
      heatmap run BTCUSDT --archive DIR --start 2024-06-19 --end 2024-07-28
      heatmap run BTCUSDT ETHUSDT --source demo --start 2026-01-01 --end 2026-01-31
    """
    first, last = start.date(), end.date()
    _check_days(first, last)
    settings = _settings(home=home, source=source, archive=archive, models=models or None, symbols=_symbols(symbols))
    _run(settings, first, last, restart=restart)


@main.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL...]")
@_market
@_home
def refresh(symbols: tuple[str, ...], source: str | None, archive: Path | None, home: Path | None) -> None:
    """Compute from the last stored day of each symbol to yesterday: what the schedule does.

    \b
    Examples:
      heatmap refresh
      heatmap refresh BTCUSDT
    """
    settings = _settings(home=home, source=source, archive=archive, symbols=_symbols(symbols) or None)
    from heatmap_pipeline.orchestration.partitions import yesterday  # noqa: PLC0415
    from heatmap_pipeline.orchestration.runs import stored_spans  # noqa: PLC0415

    spans = stored_spans(settings, settings.symbols)
    requests: dict[str, tuple[date, date]] = {}
    for symbol in settings.symbols:
        first = spans[symbol].last + timedelta(days=1) if symbol in spans else settings.start
        if first is None:
            _fail(f"{symbol}: nothing is stored yet and HEATMAP_START is not set; begin with `heatmap run {symbol}`")
        if first <= yesterday():
            requests[symbol] = (first, yesterday())
        else:
            click.echo(f"{symbol}: up to date, the last stored day is {first - timedelta(days=1)}")
    if requests:
        _execute(settings, requests, {}, restart=False)


@main.command()
@_home
def status(home: Path | None) -> None:
    """Show days, gaps, failed and stale days, coverage and newest data per symbol.

    \b
    Example:
      heatmap status
    """
    from heatmap_pipeline.orchestration.report import status_lines  # noqa: PLC0415

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
    Example:
      heatmap ui --port 3000
    """
    settings = _settings(home=home, source=source, archive=archive)
    from heatmap_pipeline.orchestration.runs import packaged_file, prepare_home  # noqa: PLC0415

    prepare_home(settings)
    os.environ.update(HEATMAP_HOME=str(settings.home), HEATMAP_SOURCE=settings.source)
    if settings.archive is not None:
        os.environ["HEATMAP_ARCHIVE"] = str(settings.archive)
    click.echo(f"Dagster UI on http://{host}:{port} for {settings.home}; stop it with Ctrl-C")
    command = ["dagster", "dev", "-w", str(packaged_file("workspace.yaml")), "-h", host, "-p", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606  # becomes that program, without a shell


def _symbols(symbols: tuple[str, ...]) -> tuple[str, ...]:
    from heatmap_pipeline.settings import SettingsError, check_symbol  # noqa: PLC0415

    try:
        return tuple(dict.fromkeys(check_symbol(symbol) for symbol in symbols))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def _settings(**given: Any) -> Settings:
    from heatmap_pipeline.settings import SettingsError, load_settings  # noqa: PLC0415

    if given.get("archive") is not None and given.get("source") is None:
        given["source"] = "archive"
    try:
        settings = load_settings(**given)
        settings.archive_root  # noqa: B018  # an archive without a folder is wrong usage
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    return settings


def _check_days(start: date, end: date) -> None:
    from heatmap_pipeline.orchestration.partitions import yesterday  # noqa: PLC0415

    if start > end:
        raise click.UsageError(f"--start {start} is after --end {end}")
    if end > yesterday():
        raise click.UsageError(f"--end {end} is not complete yet; the last complete day is {yesterday()} (UTC)")
    if start < _FIRST_DAY:
        raise click.UsageError(f"--start {start} is before {_FIRST_DAY}, when there were no such perpetuals")


def _run(settings: Settings, start: date, end: date, *, restart: bool) -> None:
    """Find out which days the request means for each symbol, and run them."""
    from heatmap_pipeline.orchestration.runs import RunError, days_to_run, prepare_home, stored_spans  # noqa: PLC0415

    prepare_home(settings)
    spans = stored_spans(settings, settings.symbols)
    requests: dict[str, tuple[date, date]] = {}
    refused: dict[str, str] = {}
    for symbol in settings.symbols:
        try:
            requests[symbol] = days_to_run(settings, symbol, start, end, spans.get(symbol), restart)
        except RunError as error:
            refused[symbol] = str(error)
    _execute(settings, requests, refused, restart=restart)


def _execute(
    settings: Settings, requests: dict[str, tuple[date, date]], refused: dict[str, str], *, restart: bool
) -> None:
    from heatmap_pipeline.orchestration.runs import Outcome, one_run_at_a_time, prepare_home, run_days  # noqa: PLC0415

    prepare_home(settings)
    outcome = Outcome((), {})
    if requests:
        with one_run_at_a_time(settings, lambda text: click.echo(text, err=True)), _progress(list(requests)):
            outcome = run_days(settings, requests, restart=restart)
    failures = {**refused, **outcome.failures}
    for symbol in outcome.published:
        first, last = requests[symbol]
        kind = "simulated" if settings.simulated else "real"
        click.echo(f"{symbol}: {first} .. {last} computed and published ({kind} data)")
    if outcome.published:
        click.echo(f"page      {(settings.home / 'renders' / 'index.html').as_uri()}")
        click.echo(f"database  {settings.home / 'heatmap.duckdb'}")
    for symbol, reason in list(failures.items())[:-1]:
        click.echo(f"heatmap: {symbol} failed: {' '.join(reason.split())}", err=True)
    if failures:
        symbol, reason = list(failures.items())[-1]
        _fail(reason if reason.startswith(symbol) else f"{symbol} failed: {reason}")


@contextmanager
def _progress(symbols: list[str]) -> Iterator[None]:
    """Show progress: bars on a terminal, plain lines elsewhere."""
    from heatmap_pipeline.orchestration.progress import listening  # noqa: PLC0415

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
        TextColumn("days"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[tuple[str, str], Any] = {}

        def show(symbol: str, stage: str, done: int, total: int) -> None:
            key = (symbol, stage)
            if key not in tasks:
                tasks[key] = progress.add_task(f"{symbol} {stage}", total=total)
            progress.update(tasks[key], completed=done)

        with listening(show):
            yield


def _plain(symbol: str, stage: str, done: int, total: int) -> None:
    """Print a line at every quarter of a stage."""
    if done == total or done * 4 // total > (done - 1) * 4 // total:
        click.echo(f"{symbol} {stage}: {done} of {total} days", err=True)
