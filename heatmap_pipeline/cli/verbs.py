"""The verbs of the command that work on a home."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heatmap_pipeline import __version__
from heatmap_pipeline.cli.days import changed, check_days, days_asked, days_of, execute, run_due, run_span
from heatmap_pipeline.cli.options import (
    DAY,
    Place,
    Verbs,
    Whole,
    collecting_seldom,
    computing_options,
    fail,
    home_option,
    home_settings,
    jobs_option,
    market_options,
    models_option,
    settings_of,
    symbols_of,
    tell,
)
from heatmap_pipeline.cli.showing import progress, recording
from heatmap_pipeline.errors import counted, printable
from heatmap_pipeline.source_kinds import RECORDED_EXCHANGES

if TYPE_CHECKING:
    from heatmap_pipeline.orchestration.runs import Span
    from heatmap_pipeline.settings import Settings


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
@click.option("--days", type=Whole(1, 1000), default=30, show_default=True, help="Days up to yesterday.")
@models_option
@home_option
@collecting_seldom()
def demo(days: int, models: tuple[str, ...], home: Path | None) -> None:
    """Run the main job on the built-in simulated market, from nothing to pictures.

    \b
    Examples:
      heatmap demo
      heatmap demo --days 90 --home /tmp/heatmap
    """
    settings = settings_of(home=home, source="demo", models=models)
    _refuse_catalogue(settings)
    from heatmap_pipeline.chain.calendar import yesterday  # noqa: PLC0415

    end = yesterday()
    start = end - timedelta(days=days - 1)

    def begin(span: Span | None) -> date:
        # A history that ended before the first of these days is continued where it ended.
        return start if span is None else min(start, span.last + timedelta(days=1))

    from heatmap_pipeline.commands import command  # noqa: PLC0415

    again = command(settings, "demo")
    settings, starts = changed(settings, start, end)
    if settings.symbols:
        execute(
            settings,
            lambda spans: days_of(settings, spans, begin, end, starts),
            again,
            since=dict.fromkeys(starts, start),
        )


@main.command()
@click.argument("symbols", nargs=-1, metavar="SYMBOL...")
@click.option("--start", type=DAY, help="First day, UTC.")
@click.option("--end", type=DAY, help="Last day, UTC, included.")
@click.option(
    "--check-files",
    nargs=2,
    type=DAY,
    metavar="START END",
    help="Instead of --start and --end: ask for corrected files of these stored days; rebuild from the first of them.",
)
@click.option("--restart", is_flag=True, help="Begin a new history after a gap that the source has no data for.")
@jobs_option
@models_option
@computing_options
def run(
    symbols: tuple[str, ...],
    start: datetime | None,
    end: datetime | None,
    check_files: tuple[datetime, datetime] | None,
    restart: bool,
    **options: Any,
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
    first, last = days_asked(symbols, start, end, check_files, restart=restart)
    settings = settings_of(symbols=symbols_of(symbols), **options)
    check_days(settings, first, last, "--check-files " if check_files else "")
    _refuse_store(settings, "run")
    _refuse_catalogue(settings)
    run_span(settings, first, last, check_files=check_files is not None, restart=restart)


@main.command()
@click.argument("symbols", nargs=-1, metavar="[SYMBOL...]")
@jobs_option
@computing_options
def refresh(symbols: tuple[str, ...], **options: Any) -> None:
    """Compute from the last stored day of each symbol to now: what the schedule does.

    \b
    Examples:
      heatmap refresh
      heatmap refresh BTCUSDT
    """
    settings = settings_of(symbols=symbols_of(symbols), **options)
    _refuse_store(settings, "refresh")
    _refuse_catalogue(settings)
    run_due(settings, symbols)


@main.command()
@click.argument("symbol", metavar="SYMBOL")
@click.option("--yes", is_flag=True, help="Do not ask.")
@home_option
def forget(symbol: str, yes: bool, home: Path | None) -> None:
    """Remove a symbol: its private file, its rows in heatmap.duckdb, its pictures, archive files and assets of the UI.

    Folders named by --archive, recordings, and every other symbol stay as they are, and so do HEATMAP_STORE and a
    catalogue of it. Killed in the middle, it can be run again.

    \b
    Examples:
      heatmap forget LUNAUSDT
      heatmap forget LUNAUSDT --yes --home /srv/heatmap
    """
    settings, (name,) = home_settings(home=home), symbols_of((symbol,), computed=False)
    from heatmap_pipeline.chain.forget import kept_of  # noqa: PLC0415
    from heatmap_pipeline.commands import command  # noqa: PLC0415
    from heatmap_pipeline.errors import listed  # noqa: PLC0415
    from heatmap_pipeline.orchestration.forget import forget as remove  # noqa: PLC0415
    from heatmap_pipeline.orchestration.turns import one_run_at_a_time  # noqa: PLC0415
    from heatmap_pipeline.orchestration.ui.keeper import answers  # noqa: PLC0415

    kept = kept_of(settings, name)
    if not kept.anything:
        click.echo(f"nothing of {name} is in {settings.home}; it holds {listed(kept.others or ['nothing'])}")
        _say_store_stays(settings, name)
        return
    what = f"{kept.days} and all that was made of it" if kept.days else "what is left of it"
    try:
        sure = yes or click.confirm(f"Remove {name} ({what}) from {settings.home}?")
    except click.Abort:
        sure = False
    if not sure:
        fail(f"{name} stays: nothing was removed; --yes removes it without asking")

    def waiting(text: str) -> None:
        click.echo(text, err=True)

    with one_run_at_a_time(settings.model_copy(update={"symbols": (name,)}), waiting), progress():
        remove(settings, name, waiting, answers)
    from heatmap_pipeline.store.catalogue import is_catalogue  # noqa: PLC0415
    from heatmap_pipeline.store.warehouse import Warehouse  # noqa: PLC0415

    but = ", but for its heatmap.duckdb, the catalogue of a store" if is_catalogue(Warehouse(settings.home)) else ""
    click.echo(f"{name} is removed from {settings.home}{but}")
    _say_old_export(settings)
    _say_store_stays(settings, name)
    if name in settings.symbols:
        click.echo(f"take {name} out of HEATMAP_SYMBOLS too, or it is wanted by `{command(settings, 'refresh')}`")


@main.command()
@home_option
def status(home: Path | None) -> None:
    """Show days, gaps, failed and stale days, located share and newest data per symbol; of HEATMAP_STORE what it holds.

    \b
    Example:
      heatmap status
    """
    settings = home_settings(home=home)
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
@click.option("--days", default=28, show_default=True, type=Whole(1, 3650), help="Length of the trailing window.")
@click.option(
    "--liquidations",
    "folder",
    type=Place(exists=True, file_okay=False, path_type=Path),
    help="Folder of files of real liquidations by symbol, in place of those that are stored.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@models_option
@home_option
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
    settings, names = home_settings(home=home, models=models), symbols_of(symbols)
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
        tell(message)
    if refused and (names or not any_scored(outcome)):
        fail(refused[-1])
    elif refused:
        tell(refused[-1])


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=3000, show_default=True, type=Whole(1, 65535), help="Port to listen on.")
@market_options
@home_option
def ui(host: str, port: int, source: str | None, archive: Path | None, home: Path | None) -> None:
    """Open the Dagster UI, with the daily schedule running, on the history of this home.

    \b
    Examples:
      heatmap ui --port 3000
      HEATMAP_UI_HOSTS=heatmap.example.org heatmap ui
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background commands begin with it ignored
    settings = home_settings(home=home, source=source, archive=archive)
    if not settings.store:
        _refuse_catalogue(settings)
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
    type=Whole(0, 65535),
    help="Port to listen on; 0 = any free one.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=Whole(1, 64),
    help="Processes that answer; each has its own caches, shares of HEATMAP_API_CACHE_MB and _SYMBOLS_MB.",
)
@home_option
def serve(host: str, port: int, workers: int, home: Path | None) -> None:
    """Serve the live page and the read endpoint over what is published in this home.

    \b
    Examples:
      heatmap serve
      heatmap serve --port 9000 --workers 4 --home /srv/heatmap
    """
    settings = home_settings(home=home)
    from heatmap_pipeline.api import server  # noqa: PLC0415

    server.serve(settings, host, port, click.echo, workers)


@main.command()
@click.option("--url", help="Address of an endpoint, in place of a home; its token is HEATMAP_API_TOKEN.")
@home_option
def mcp(url: str | None, home: Path | None) -> None:
    """Answer an assistant's questions over what is published: a read-only MCP server on standard input and output.

    \b
    Examples:
      heatmap mcp --home /srv/heatmap
      heatmap mcp --url https://heatmap.example.org
    """
    if url is not None and home is not None:
        raise click.UsageError("--url and --home exclude each other; give one of them")
    settings = settings_of(home=home) if url is not None else home_settings(home=home)
    from heatmap_pipeline.mcp_server import serve as answer  # noqa: PLC0415

    token = None if url is None or settings.api_token is None else settings.api_token.get_secret_value()
    answer(url or settings.home, token)


@main.command()
@click.argument("folder", metavar="DIR", type=Place(file_okay=False, path_type=Path))
@click.option("--keep", type=Whole(1), help="Remove older backups in DIR but for so many.")
@home_option
def backup(folder: Path, keep: int | None, home: Path | None) -> None:
    """Copy this home to a new folder below DIR, also while runs go on; it appears when it is whole.

    \b
    Examples:
      heatmap backup /mnt/backups
      heatmap backup /mnt/backups --keep 7
    """
    settings = home_settings(home=home)
    from heatmap_pipeline.settings import environment_shown  # noqa: PLC0415
    from heatmap_pipeline.store.backup import back_up  # noqa: PLC0415
    from heatmap_pipeline.store.warehouse import Warehouse  # noqa: PLC0415

    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    done = back_up(warehouse, folder.resolve(), environment_shown(), keep=keep)
    click.echo(f"{done.files} files, {done.size / 1e6:.1f} MB, are in {done.folder}")
    if done.removed:
        click.echo(f"{counted(done.removed, 'older backup')} removed")


@main.command()
@click.argument("folder", metavar="DIR", type=Place(exists=True, file_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Also into a home that is not empty; what is replaced is kept in it.")
@home_option
def restore(folder: Path, yes: bool, home: Path | None) -> None:
    """Put a backup, or the newest of those in DIR, into this home; each file is verified first.

    \b
    Examples:
      heatmap restore /mnt/backups --home /srv/heatmap
      heatmap restore /mnt/backups/2026-11-26T040000Z --yes
    """
    settings = home_settings(home=home)
    from heatmap_pipeline.chain.publication import bring_parts_back  # noqa: PLC0415
    from heatmap_pipeline.orchestration.ui.front import nobody_else  # noqa: PLC0415
    from heatmap_pipeline.settings import environment_shown  # noqa: PLC0415
    from heatmap_pipeline.store.backup import chosen, restore  # noqa: PLC0415
    from heatmap_pipeline.store.warehouse import Warehouse  # noqa: PLC0415

    backup_folder, manifest = chosen(folder.resolve())
    with nobody_else(settings, lambda text: click.echo(text, err=True)):
        warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
        done = restore(warehouse, backup_folder, manifest, replace=yes)
        click.echo(f"{done.files} files of {done.folder}, {done.size / 1e6:.1f} MB, are in {settings.home}")
        if done.replaced is not None:
            click.echo(f"what they replaced is in {done.replaced}; remove it when you do not need it")
        with progress():
            bring_parts_back(settings)
    _say_old_export(settings)
    here = environment_shown()
    if other := [f"{name}={value}" for name, value in manifest.settings.items() if here.get(name) != value]:
        click.echo(f"settings that it was made with and that are not so here: {printable(shlex.join(other), 2000)}")


@main.command()
@click.argument("folder", required=False, metavar="[DIR]", type=Place(path_type=Path))
@click.option("--format", "_format", type=click.Choice(["parquet"]), default="parquet", show_default=True)
@home_option
def export(folder: Path | None, _format: str, home: Path | None) -> None:
    """Write what is published as a tree of Parquet files into DIR (HEATMAP_EXPORT); again, only what changed.

    heatmap.duckdb opens from DuckDB 1.5 on; these files take older ones, pandas and all that reads Parquet. DIR gets a
    README.md, and an open.sql that names every table and view.

    \b
    Examples:
      heatmap export --format parquet /srv/share/heatmap
      HEATMAP_EXPORT=/srv/share/heatmap heatmap refresh
    """
    settings = home_settings(home=home, export=folder)
    if settings.export is None:
        raise click.UsageError("Missing argument 'DIR'; give it, or set HEATMAP_EXPORT.")
    from heatmap_pipeline.chain.exporting import export_published  # noqa: PLC0415

    with progress():
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
@home_option
def record(symbols: tuple[str, ...], exchanges: tuple[str, ...], home: Path | None) -> None:
    """Write down the liquidations of symbols as the exchanges print them, until it is stopped.

    They stand in the home's folder recordings; a run reads them where HEATMAP_LIQUIDATIONS names bybit_stream or
    binance_stream.

    \b
    Examples:
      heatmap record BTCUSDT ETHUSDT
      heatmap record bybit:BTCUSDT --home /srv/heatmap
    """
    settings, typed = home_settings(home=home), symbols_of(symbols)
    from heatmap_pipeline.market.liquidations import recorder  # noqa: PLC0415
    from heatmap_pipeline.symbols import exchange_and_name  # noqa: PLC0415

    names = [exchange_and_name(symbol)[1] for symbol in typed]
    wanted = _streams(typed, exchanges)
    urls = {"bybit": settings.bybit_stream_url, "binance": settings.binance_stream_url}
    click.echo(
        f"recording {', '.join(names)} of {' and '.join(wanted)} into {settings.recordings}; stop it with Ctrl-C"
    )
    with recording() as (report, show):
        recorder.record(
            settings.recordings,
            names,
            wanted,
            urls={name: url for name, url in urls.items() if url and name in wanted},
            report=report,
            show=show,
        )
    click.echo("stopped")


def _refuse_store(settings: Settings, verb: str) -> None:
    """Refuse a verb that works on the home where the store is set: most likely the one over the store is meant."""
    if settings.store:
        from heatmap_pipeline.commands import command  # noqa: PLC0415

        raise click.UsageError(
            f"HEATMAP_STORE is set, and this verb computes into a home; type `{command(settings, verb)}`, or unset it"
        )


def _refuse_catalogue(settings: Settings) -> None:
    """Refuse to compute into a home whose heatmap.duckdb is made of what is in a store."""
    from heatmap_pipeline.store.catalogue import refuse_catalogue  # noqa: PLC0415
    from heatmap_pipeline.store.warehouse import Warehouse  # noqa: PLC0415

    refuse_catalogue(Warehouse(settings.home))


def _say_store_stays(settings: Settings, symbol: str) -> None:
    """Say that the store of a fleet is not touched, and what takes a symbol out of it."""
    if settings.store:
        from heatmap_pipeline.store.manifest import manifest_path  # noqa: PLC0415

        click.echo(f"what {settings.store} has of {symbol} stays; removing {manifest_path(symbol)} there takes it out")


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


def _say_old_export(settings: Settings) -> None:
    """Say that the folder of HEATMAP_EXPORT holds something else than what is published by now, if it does."""
    from heatmap_pipeline.chain.exporting import words_for_old_export  # noqa: PLC0415

    if words := words_for_old_export(settings):
        click.echo(words)
