"""The `heatmap` command: thin, every verb one call into the package; whatever is heavy is imported when a verb runs."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import click

from heatmap_pipeline import __version__, surroundings
from heatmap_pipeline.errors import HeatmapError, printable
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.source_kinds import RECORDED_EXCHANGES, SOURCES, folder_sources

if TYPE_CHECKING:
    from heatmap_pipeline.fleet.worker import Shard
    from heatmap_pipeline.orchestration.runs import Outcome, Span
    from heatmap_pipeline.settings import Settings

Requests: TypeAlias = dict[str, tuple[date, date]]
"""First and last day to run, by symbol."""

Refusals: TypeAlias = dict[str, str]
"""Why a symbol is not run, by symbol."""

Running: TypeAlias = "Callable[[Callable[..., Outcome]], Callable[..., Outcome]]"
"""What makes of a run of days another one, that does something besides."""

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
        help="Folder of Binance's public archive, futures/um/daily/... below it; "
        f"implies --source {folder_sources()[0]}.",
    ),
)
_liquidations = click.option(
    "--liquidations",
    "liquidations_folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of files of real liquidations by symbol (HEATMAP_LIQUIDATIONS_FOLDER).",
)
_models = click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Choice(list(MODELS)),
    help=f"Only this model; repeatable. {'; '.join(f'{spec.name}: {spec.role}' for spec in MODELS.values())}.",
)
_jobs = click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Processes that share the symbols out among them (HEATMAP_JOBS; 1).",
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
    heatmap forget LUNAUSDT       remove a symbol
    heatmap score BTCUSDT         how well the map agrees with liquidations that really happened
    heatmap record BTCUSDT        write down liquidations as the exchanges print them
    heatmap ui                    the Dagster UI on the same history
    heatmap serve                 the live page and the read endpoint over what is published
    heatmap mcp                   the same for an assistant, over the Model Context Protocol
    heatmap backup DIR            a copy of the home, also while runs go on; `heatmap restore DIR` puts it back
    heatmap export DIR            what is published as Parquet files, for older DuckDB clients and others
    heatmap fleet                 run, refresh and publish over a store of objects (HEATMAP_STORE)
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

    from heatmap_pipeline.commands import command  # noqa: PLC0415

    again = command(settings, "demo")
    settings, starts = _changed(settings, start, end)
    if settings.symbols:
        _execute(
            settings,
            lambda spans: _days_of(settings, spans, begin, end, starts),
            again,
            since=dict.fromkeys(starts, start),
        )


@main.command()
@click.argument("symbols", nargs=-1, metavar="SYMBOL...")
@click.option("--start", type=_DAY, help="First day, UTC.")
@click.option("--end", type=_DAY, help="Last day, UTC, included.")
@click.option(
    "--check-files",
    nargs=2,
    type=_DAY,
    metavar="START END",
    help="Instead of --start and --end: ask for corrected files of these stored days; rebuild from the first of them.",
)
@click.option("--restart", is_flag=True, help="Begin a new history after a gap that the source has no data for.")
@_jobs
@_market
@_liquidations
@_models
@_home
def run(
    symbols: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    check_files: tuple[datetime, datetime] | None,
    restart: bool,
    jobs: int | None,
    source: str | None,
    archive: Path | None,
    liquidations_folder: Path | None,
    models: tuple[str, ...],
    home: Path | None,
) -> None:
    """Compute, draw and publish days of symbols; days that are stored and unchanged are skipped.

    \b
    Examples:
      heatmap run BTCUSDT ETHUSDT --source binance --start 2026-11-01 --end 2026-11-21
      heatmap run BTCUSDT bybit:BTCUSDT --source exchange --start 2026-11-01 --end 2026-11-21
      heatmap run BTCUSDT --archive DIR --start 2024-06-19 --end 2024-07-28 --liquidations DIR
      heatmap run BTCUSDT ETHUSDT --source demo --start 2026-01-01 --end 2026-01-31 --jobs 2
      heatmap run --check-files 2026-01-01 2026-11-21
    """
    first, last = _run_days(symbols, start, end, check_files, restart=restart)
    settings = _settings(
        home=home,
        source=source,
        archive=archive,
        liquidations_folder=liquidations_folder,
        models=models or None,
        symbols=_symbols(symbols) or None,
        jobs=jobs,
    )
    _check_days(settings, first, last, "--check-files " if check_files else "")
    _refuse_store(settings, "run")
    _run(settings, first, last, check_files=check_files is not None, restart=restart)


def _run(
    settings: Settings,
    first: date,
    last: date,
    *,
    check_files: bool = False,
    restart: bool = False,
    running: Running | None = None,
) -> None:
    """Run days of the symbols of the settings, or look for corrected files of them; `running` as of `_execute`."""
    from heatmap_pipeline.commands import command  # noqa: PLC0415

    again = command(settings, "run", *settings.symbols, days=(first, last), check_files=check_files, restart=restart)
    if check_files:
        _execute(settings, lambda spans: _corrected(settings, spans, first, last), again, running=running)
        return
    settings, starts = (settings, {}) if restart else _changed(settings, first, last)
    if settings.symbols:
        _execute(
            settings,
            lambda spans: _days_of(settings, spans, lambda _: first, last, starts, restart=restart),
            again,
            restart=restart,
            since=dict.fromkeys(starts, first),
            running=running,
        )


@main.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL...]")
@_jobs
@_market
@_liquidations
@_home
def refresh(
    symbols: tuple[str, ...],
    jobs: int | None,
    source: str | None,
    archive: Path | None,
    liquidations_folder: Path | None,
    home: Path | None,
) -> None:
    """Compute from the last stored day of each symbol to now: what the schedule does.

    \b
    Examples:
      heatmap refresh
      heatmap refresh BTCUSDT
    """
    settings = _settings(
        home=home,
        source=source,
        archive=archive,
        liquidations_folder=liquidations_folder,
        symbols=_symbols(symbols) or None,
        jobs=jobs,
    )
    _refuse_store(settings, "refresh")
    _refresh(settings, symbols)


def _refresh(settings: Settings, symbols: tuple[str, ...], running: Running | None = None) -> None:
    """Run what is due of the symbols of the settings; `symbols` were typed, `running` is that of `_execute`."""
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

    _execute(settings, plan, command(settings, "refresh", *symbols), daily=True, running=running)


@main.command()
@click.argument("symbol", metavar="SYMBOL")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_home
def forget(symbol: str, yes: bool, home: Path | None) -> None:
    """Remove a symbol: from both databases, the page, the home's archive files and the UI's assets.

    Folders named by --archive, recordings, and every other symbol stay as they are. Killed in the middle, it can be
    run again.

    \b
    Examples:
      heatmap forget LUNAUSDT
      heatmap forget LUNAUSDT --yes --home /srv/heatmap
    """
    settings, (name,) = _settings(home=home), _symbols((symbol,), computed=False)
    from heatmap_pipeline.chain.forget import kept_of  # noqa: PLC0415
    from heatmap_pipeline.commands import command  # noqa: PLC0415
    from heatmap_pipeline.errors import listed  # noqa: PLC0415
    from heatmap_pipeline.orchestration.forget import forget as remove  # noqa: PLC0415
    from heatmap_pipeline.orchestration.turns import one_run_at_a_time  # noqa: PLC0415
    from heatmap_pipeline.orchestration.ui.keeper import answers  # noqa: PLC0415

    kept = kept_of(settings, name)
    if not kept.anything:
        click.echo(f"nothing of {name} is in {settings.home}; it holds {listed(kept.others or ['nothing'])}")
        return
    what = f"{kept.days} and all that was made of it" if kept.days else "what is left of it"
    try:
        sure = yes or click.confirm(f"Remove {name} ({what}) from {settings.home}?")
    except click.Abort:
        sure = False
    if not sure:
        _fail(f"{name} stays: nothing was removed; --yes removes it without asking")

    def waiting(text: str) -> None:
        click.echo(text, err=True)

    with one_run_at_a_time(settings.model_copy(update={"symbols": (name,)}), waiting):
        remove(settings, name, waiting, answers)
    click.echo(f"{name} is removed from {settings.home}")
    _say_old_export(settings)
    if name in settings.symbols:
        click.echo(f"take {name} out of HEATMAP_SYMBOLS too, or it is wanted by `{command(settings, 'refresh')}`")


@main.command()
@_home
def status(home: Path | None) -> None:
    """Show days, gaps, failed and stale days, located share and newest data per symbol; of HEATMAP_STORE what it holds.

    \b
    Example:
      heatmap status
    """
    settings = _home_settings(home=home)
    if settings.store:
        from heatmap_pipeline.fleet.status import store_lines  # noqa: PLC0415

        for line in store_lines(settings):
            click.echo(line)
        return
    from heatmap_pipeline.chain.status import status_lines  # noqa: PLC0415

    for line in status_lines(settings):
        click.echo(line)


@main.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL...]")
@click.option(
    "--days", default=28, show_default=True, type=click.IntRange(1, 3650), help="Length of the trailing window."
)
@click.option(
    "--liquidations",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of files of real liquidations by symbol, in place of those that are stored.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@_models
@_home
def score(
    symbols: tuple[str, ...],
    days: int,
    folder: Path | None,
    as_json: bool,
    models: tuple[str, ...],
    home: Path | None,
) -> None:
    """Hold the published map against liquidations that really happened; nothing is stored.

    Every simple rule the map is held against is printed with the difference and its 95 % interval, also where it beats
    the map. What the numbers are stands in docs/score.md.

    \b
    Examples:
      heatmap score
      heatmap score BTCUSDT --days 60
      heatmap score BTCUSDT ETHUSDT --liquidations DIR --model turnover
    """
    settings, names = _home_settings(home=home, models=models or None), _symbols(symbols)
    from heatmap_pipeline.chain.scoring import score_published  # noqa: PLC0415
    from heatmap_pipeline.render.score_table import any_scored, refusals, score_tables, scores_as_json  # noqa: PLC0415

    outcome = list(score_published(settings, names, models, trailing_days=days, folder=folder))
    refused = refusals(settings, outcome)
    if as_json:
        click.echo(scores_as_json(outcome))
    else:
        for text in score_tables(outcome):
            click.echo(text)
    for message in refused[:-1]:
        _tell(message)
    if refused and (names or not any_scored(outcome)):
        _fail(refused[-1])
    elif refused:
        _tell(refused[-1])


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
    settings = _home_settings(home=home, source=source, archive=archive)
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
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that answer; each has its own caches, shares of HEATMAP_API_CACHE_MB and _SYMBOLS_MB.",
)
@_home
def serve(host: str, port: int, workers: int, home: Path | None) -> None:
    """Serve the live page and the read endpoint over what is published in this home.

    \b
    Examples:
      heatmap serve
      heatmap serve --port 9000 --workers 4 --home /srv/heatmap
    """
    settings = _home_settings(home=home)
    from heatmap_pipeline.api import server  # noqa: PLC0415

    server.serve(settings, host, port, click.echo, workers)


@main.command()
@click.option("--url", help="Address of an endpoint, in place of a home; its token is HEATMAP_API_TOKEN.")
@_home
def mcp(url: str | None, home: Path | None) -> None:
    """Answer an assistant's questions over what is published: a read-only MCP server on standard input and output.

    \b
    Examples:
      heatmap mcp --home /srv/heatmap
      heatmap mcp --url https://heatmap.example.org
    """
    if url is not None and home is not None:
        raise click.UsageError("--url and --home exclude each other; give one of them")
    settings = _settings(home=home) if url is not None else _home_settings(home=home)
    from heatmap_pipeline.mcp_server import serve as answer  # noqa: PLC0415

    token = None if url is None or settings.api_token is None else settings.api_token.get_secret_value()
    answer(url or settings.home, token)


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep", type=click.IntRange(1), help="Remove older backups in DIR but for so many.")
@_home
def backup(folder: Path, keep: int | None, home: Path | None) -> None:
    """Copy this home to a new folder below DIR, also while runs go on; it appears when it is whole.

    \b
    Examples:
      heatmap backup /mnt/backups
      heatmap backup /mnt/backups --keep 7
    """
    settings = _settings(home=home)
    from heatmap_pipeline.settings import environment_shown  # noqa: PLC0415
    from heatmap_pipeline.store.backup import back_up  # noqa: PLC0415
    from heatmap_pipeline.store.warehouse import Warehouse  # noqa: PLC0415

    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    done = back_up(warehouse, folder.expanduser().resolve(), environment_shown(), keep=keep)
    click.echo(f"{done.files} files, {done.size / 1e6:.1f} MB, are in {done.folder}")
    if done.removed:
        click.echo(f"{done.removed} older ones were removed")


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Also into a home that is not empty; what is replaced is kept in it.")
@_home
def restore(folder: Path, yes: bool, home: Path | None) -> None:
    """Put a backup, or the newest of those in DIR, into this home; each file is verified first.

    \b
    Examples:
      heatmap restore /mnt/backups --home /srv/heatmap
      heatmap restore /mnt/backups/2026-11-26T040000Z --yes
    """
    settings = _settings(home=home)
    from heatmap_pipeline.orchestration.ui.front import nobody_else  # noqa: PLC0415
    from heatmap_pipeline.settings import environment_shown  # noqa: PLC0415
    from heatmap_pipeline.store.backup import chosen, restore  # noqa: PLC0415
    from heatmap_pipeline.store.warehouse import Warehouse  # noqa: PLC0415

    backup_folder, manifest = chosen(folder.expanduser().resolve())
    with nobody_else(settings, lambda text: click.echo(text, err=True)):
        warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
        done = restore(warehouse, backup_folder, manifest, replace=yes)
    click.echo(f"{done.files} files of {done.folder}, {done.size / 1e6:.1f} MB, are in {settings.home}")
    if done.replaced is not None:
        click.echo(f"what they replaced is in {done.replaced}; remove it when you do not need it")
    _say_old_export(settings)
    here = environment_shown()
    if other := [f"{name}={value}" for name, value in manifest.settings.items() if here.get(name) != value]:
        click.echo(f"settings that it was made with and that are not so here: {printable(shlex.join(other), 2000)}")


@main.command()
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
@click.option("--format", "_format", type=click.Choice(["parquet"]), default="parquet", show_default=True)
@_home
def export(folder: Path | None, _format: str, home: Path | None) -> None:
    """Write what is published as a tree of Parquet files into DIR (HEATMAP_EXPORT); again, only what changed.

    heatmap.duckdb opens from DuckDB 1.5 on; these files take older ones, pandas and all that reads Parquet. DIR gets a
    README.md, and an open.sql that names every table and view.

    \b
    Examples:
      heatmap export --format parquet /srv/share/heatmap
      HEATMAP_EXPORT=/srv/share/heatmap heatmap refresh
    """
    settings = _settings(home=home, export=folder)
    if settings.export is None:
        raise click.UsageError("Missing argument 'DIR'; give it, or set HEATMAP_EXPORT.")
    from heatmap_pipeline.chain.exporting import export_published  # noqa: PLC0415

    with _progress():
        report = export_published(settings, settings.export)
    click.echo(
        f"{report.folder}: {report.files} files, {report.size / 1e6:.1f} MB; {report.written} written, "
        f"{report.removed} removed"
    )
    click.echo(f"open it   cd {shlex.quote(str(report.folder))} && duckdb -init open.sql")


@main.command()
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option(
    "--exchange",
    "exchanges",
    multiple=True,
    type=click.Choice(RECORDED_EXCHANGES),
    help="Only this exchange; repeatable.",
)
@_home
def record(symbols: tuple[str, ...], exchanges: tuple[str, ...], home: Path | None) -> None:
    """Write down the liquidations of symbols as the exchanges print them, until it is stopped.

    They stand in the home's folder recordings; a run reads them where HEATMAP_LIQUIDATIONS names bybit_stream or
    binance_stream.

    \b
    Examples:
      heatmap record BTCUSDT ETHUSDT
      heatmap record bybit:BTCUSDT --home /srv/heatmap
    """
    settings, typed = _home_settings(home=home), _symbols(symbols)
    from heatmap_pipeline.market.liquidations import recorder  # noqa: PLC0415
    from heatmap_pipeline.symbols import exchange_and_name  # noqa: PLC0415

    names = [exchange_and_name(symbol)[1] for symbol in typed]
    wanted = _streams(typed, exchanges)
    urls = {"bybit": settings.bybit_stream_url, "binance": settings.binance_stream_url}
    click.echo(
        f"recording {', '.join(names)} of {' and '.join(wanted)} into {settings.recordings}; stop it with Ctrl-C"
    )
    with _recording() as (report, show):
        recorder.record(
            settings.recordings,
            names,
            wanted,
            urls={name: url for name, url in urls.items() if url and name in wanted},
            report=report,
            show=show,
        )
    click.echo("stopped")


@main.group()
def fleet() -> None:
    """Compute over a store of objects that many machines share, a bucket of S3 or a folder: HEATMAP_STORE.

    \b
    HEATMAP_STORE=s3://bucket/heatmap heatmap fleet run BTCUSDT --start 2026-11-01 --end 2026-11-21
    heatmap fleet refresh         from the last stored day of each symbol to now
    heatmap fleet catalogue       heatmap.duckdb of this home, from what is in the store
    heatmap fleet pull DIR        the same into another folder, for who only reads
    heatmap fleet collect         remove what no manifest names
    heatmap status                what is in the store
    """


@fleet.command("run")
@click.argument("symbols", nargs=-1, required=True, metavar="SYMBOL...")
@click.option("--start", type=_DAY, required=True, help="First day, UTC.")
@click.option("--end", type=_DAY, required=True, help="Last day, UTC, included.")
@click.option("--restart", is_flag=True, help="Begin a new history after a gap that the source has no data for.")
@_market
@_liquidations
@_models
@_home
def fleet_run(
    symbols: tuple[str, ...],
    start: datetime,
    end: datetime,
    restart: bool,
    source: str | None,
    archive: Path | None,
    liquidations_folder: Path | None,
    models: tuple[str, ...],
    home: Path | None,
) -> None:
    """Compute days of symbols and commit them to the store, as `heatmap run` does to a home.

    \b
    Example:
      heatmap fleet run BTCUSDT ETHUSDT --source binance --start 2026-11-01 --end 2026-11-21
    """
    settings = _settings(
        home=home,
        source=source,
        archive=archive,
        liquidations_folder=liquidations_folder,
        models=models or None,
        symbols=_symbols(symbols),
    )
    _check_days(settings, start.date(), end.date(), "")
    with _shard(settings) as shard:
        _run(shard.settings, start.date(), end.date(), restart=restart, running=shard.running)


@fleet.command("refresh")
@click.argument("symbols", nargs=-1, metavar="[SYMBOL...]")
@_market
@_liquidations
@_home
def fleet_refresh(
    symbols: tuple[str, ...],
    source: str | None,
    archive: Path | None,
    liquidations_folder: Path | None,
    home: Path | None,
) -> None:
    """Compute from the last stored day of each symbol to now and commit it to the store.

    \b
    Examples:
      heatmap fleet refresh
      heatmap fleet refresh BTCUSDT
    """
    settings = _settings(
        home=home,
        source=source,
        archive=archive,
        liquidations_folder=liquidations_folder,
        symbols=_symbols(symbols) or None,
    )
    with _shard(settings) as shard:
        _refresh(shard.settings, symbols, running=shard.running)


@fleet.command("catalogue")
@_home
def fleet_catalogue(home: Path | None) -> None:
    """Make heatmap.duckdb of this home of what is in the store; what did not change is not fetched again.

    \b
    Example:
      heatmap fleet catalogue && heatmap serve
    """
    settings = _settings(home=home)
    _pull(settings, settings.home)


@fleet.command("pull")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
def fleet_pull(folder: Path) -> None:
    """Make heatmap.duckdb in a folder of what is in the store; what did not change is not fetched again.

    \b
    Example:
      heatmap fleet pull /srv/heatmap && heatmap serve --home /srv/heatmap
    """
    _pull(_settings(), folder.expanduser().resolve())


@fleet.command("collect")
@click.option(
    "--grace",
    type=click.FloatRange(0, 720),
    default=24.0,
    show_default=True,
    help="Hours that what nobody names any more stays: longer than any run or reader takes.",
)
def fleet_collect(grace: float) -> None:
    """Remove parts that no manifest names: of workers that were killed, and of before.

    \b
    Example:
      heatmap fleet collect --grace 24
    """
    settings = _settings()
    from heatmap_pipeline.fleet.collect import collect  # noqa: PLC0415

    report = collect(settings, timedelta(hours=grace))
    click.echo(
        f"{settings.store}: {report.removed} parts removed, {report.bytes / 1e6:.1f} MB; {report.kept} parts stay"
    )


@contextmanager
def _shard(settings: Settings) -> Iterator[Shard]:
    """Give the symbols of the settings in a scratch home, while no other run goes on in the home."""
    from heatmap_pipeline.fleet.worker import open_bucket, shard  # noqa: PLC0415
    from heatmap_pipeline.orchestration.runs import prepare_home  # noqa: PLC0415
    from heatmap_pipeline.orchestration.turns import one_run_at_a_time  # noqa: PLC0415

    _need_store(settings)
    open_bucket(settings)
    surroundings.check_home(settings.home)
    prepare_home(settings)
    with one_run_at_a_time(settings, lambda text: click.echo(text, err=True)), shard(settings) as own:
        yield own


def _pull(settings: Settings, folder: Path) -> None:
    _need_store(settings)
    from heatmap_pipeline.fleet.pull import pull  # noqa: PLC0415

    report = pull(settings, folder)
    click.echo(
        f"{report.database}: {report.symbols} symbols, {report.parts} parts, {report.bytes / 1e6:.1f} MB; "
        f"{report.fetched} fetched, {report.removed} removed, {'replaced' if report.replaced else 'unchanged'}"
    )


def _need_store(settings: Settings) -> None:
    if not settings.store:
        raise click.UsageError("HEATMAP_STORE is not set; name s3://bucket/prefix or file:///folder")


def _refuse_store(settings: Settings, verb: str) -> None:
    """Refuse a verb that works on the home where the store is set: most likely the one over the store is meant."""
    if settings.store:
        from heatmap_pipeline.commands import command  # noqa: PLC0415

        raise click.UsageError(
            f"HEATMAP_STORE is set, and this verb computes into a home; type `{command(settings, verb)}`, or unset it"
        )


def _streams(symbols: Sequence[str], exchanges: Sequence[str]) -> list[str]:
    """Return the exchanges that are listened to for symbols; one that stands before a symbol is the only one for it."""
    from heatmap_pipeline.errors import listed  # noqa: PLC0415
    from heatmap_pipeline.symbols import HOME_EXCHANGE, own_exchange, typed_name  # noqa: PLC0415

    named = {own_exchange(symbol) for symbol in symbols} - {HOME_EXCHANGE}
    if not named:
        return list(exchanges) or list(RECORDED_EXCHANGES)
    (exchange, *others), shown = sorted(named), listed(map(typed_name, symbols))
    if others or any(own_exchange(symbol) != exchange for symbol in symbols) or {*exchanges} - {exchange}:
        raise click.UsageError(
            f"{shown}: a recorder listens to all of its exchanges for all of its symbols; "
            "start one for each exchange, or write the symbols without it"
        )
    if exchange not in RECORDED_EXCHANGES:
        raise click.UsageError(
            f"{shown}: no stream of {exchange} is recorded, only those of {listed(RECORDED_EXCHANGES)}; what was "
            f"liquidated there is read over REST (HEATMAP_LIQUIDATIONS={exchange}_stats)"
        )
    return [exchange]


def _symbols(symbols: tuple[str, ...], *, computed: bool = True) -> tuple[str, ...]:
    from heatmap_pipeline.settings import SettingsError, check_symbol, check_written  # noqa: PLC0415
    from heatmap_pipeline.symbols import market_id  # noqa: PLC0415

    check = check_symbol if computed else check_written
    try:
        return tuple(dict.fromkeys(check(market_id(symbol)) for symbol in symbols))
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
    surroundings.settle(settings.home)
    return settings


def _say_old_export(settings: Settings) -> None:
    """Say that the folder of HEATMAP_EXPORT holds something else than what is published by now, if it does."""
    from heatmap_pipeline.chain.exporting import words_for_old_export  # noqa: PLC0415

    if words := words_for_old_export(settings):
        click.echo(words)


def _home_settings(**options: Any) -> Settings:
    """Return the settings of a verb that runs nothing; one that does says of its home what it says of any failure."""
    settings = _settings(**options)
    surroundings.check_home(settings.home)
    return settings


def _run_days(
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


def _check_days(settings: Settings, start: date, end: date, option: str) -> None:
    """Refuse days that no run can mean; `option` is '' where each day has an option of its own."""
    from heatmap_pipeline.chain.due import last_due  # noqa: PLC0415

    first, last = (f"{option}START {start}", f"{option}END {end}") if option else (f"--start {start}", f"--end {end}")
    if start > end:
        raise click.UsageError(f"{first} is after {last}")
    if end > last_due(settings):
        newest = "the day going on" if settings.kind.has_today else "the last complete day"
        raise click.UsageError(f"{last} is not complete yet; {newest} is {last_due(settings)} (UTC)")
    if start < _FIRST_DAY:
        raise click.UsageError(f"{first} is before {_FIRST_DAY}, when there were no such perpetuals")


def _changed(settings: Settings, first: date, last: date) -> tuple[Settings, dict[str, date]]:
    """Say of which symbols nothing of these days has changed since they were computed, drawn and published.

    Dagster is not loaded for that: it alone takes longer.

    Returns:
        The settings with the other symbols only, and the first day of each of them that is not as it is stored, where
        days before it are.
    """
    from heatmap_pipeline.store.warehouse import Warehouse  # noqa: PLC0415

    if not Warehouse(settings.home).symbols():
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
        _say_where(settings)
    return settings.model_copy(update={"symbols": tuple(left)}), starts


def _days_of(
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


def _execute(
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
                    with _progress():
                        outcome = running(run_days)(settings, requests, restart=restart)
                else:
                    with started(settings, requests, again, restart=restart) as finish, _progress():
                        outcome = finish()
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


def _say_where(settings: Settings) -> None:
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
        _say_where(settings)
    # Symbols that share a reason share its sentence.
    reasons = {text: name for name, text in reversed(failures.items())}
    messages = [text if text.startswith(name) else f"{name} failed: {text}" for text, name in reversed(reasons.items())]
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


@contextmanager
def _recording() -> Iterator[tuple[Callable[[str], None], Callable[[Sequence[Any]], None]]]:
    """Show what a recorder says and how its streams are: a table on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        heard: dict[int, str] = {}

        def changed(states: Sequence[Any]) -> None:
            for state in states:
                if (words := state.state) != heard.get(id(state)):
                    heard[id(state)] = words
                    click.echo(f"{state.exchange} {state.symbol}: {words}", err=True)

        yield lambda line: click.echo(line, err=True), changed
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield (
            lambda line: live.console.print(line, markup=False),
            lambda states: live.update("\n".join(state.line for state in states), refresh=True),
        )


def _unit(stage: str) -> str:
    return {"download": "files", "export": "months"}.get(stage, "days")


def _plain(symbol: str, stage: str, done: int, total: int) -> None:
    """Print a line at every quarter of a stage."""
    if done == total or done * 4 // total > (done - 1) * 4 // total:
        click.echo(f"{symbol} {stage}: {done} of {total} {_unit(stage)}", err=True)
