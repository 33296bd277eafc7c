"""The verbs of the command that work over a store of objects: HEATMAP_STORE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from heatmap_pipeline import surroundings
from heatmap_pipeline.cli.days import check_days, run_due, run_span
from heatmap_pipeline.cli.options import (
    DAY,
    Number,
    Place,
    computing_options,
    home_option,
    home_settings,
    models_option,
    settings_of,
    symbols_of,
    tell,
)
from heatmap_pipeline.errors import HeatmapError, counted

if TYPE_CHECKING:
    from heatmap_pipeline.fleet.worker import Shard
    from heatmap_pipeline.settings import Settings


@click.group()
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
@click.option("--start", type=DAY, required=True, help="First day, UTC.")
@click.option("--end", type=DAY, required=True, help="Last day, UTC, included.")
@click.option("--restart", is_flag=True, help="Begin a new history after a gap that the source has no data for.")
@models_option
@computing_options
def fleet_run(symbols: tuple[str, ...], start: datetime, end: datetime, restart: bool, **options: Any) -> None:
    """Compute days of symbols and commit them to the store, as `heatmap run` does to a home.

    \b
    Example:
      heatmap fleet run BTCUSDT ETHUSDT --source binance --start 2026-11-01 --end 2026-11-21
    """
    from heatmap_pipeline.commands import command  # noqa: PLC0415

    settings = settings_of(symbols=symbols_of(symbols), **options)
    check_days(settings, start.date(), end.date(), "")
    days = start.date(), end.date()
    with _shard(settings, command(settings, "run", *settings.symbols, days=days, restart=restart)) as shard:
        run_span(shard.settings, start.date(), end.date(), restart=restart, running=shard.running)


@fleet.command("refresh")
@click.argument("symbols", nargs=-1, metavar="[SYMBOL...]")
@computing_options
def fleet_refresh(symbols: tuple[str, ...], **options: Any) -> None:
    """Compute from the last stored day of each symbol to now and commit it to the store.

    \b
    Examples:
      heatmap fleet refresh
      heatmap fleet refresh BTCUSDT
    """
    from heatmap_pipeline.commands import command  # noqa: PLC0415

    settings = settings_of(symbols=symbols_of(symbols), **options)
    with _shard(settings, command(settings, "refresh", *symbols)) as shard:
        run_due(shard.settings, symbols, running=shard.running)


@fleet.command("catalogue")
@home_option
def fleet_catalogue(home: Path | None) -> None:
    """Make heatmap.duckdb of this home of what is in the store; what did not change is not fetched again.

    \b
    Example:
      heatmap fleet catalogue && heatmap serve
    """
    settings = home_settings(home=home)
    _pull(settings, settings.home)


@fleet.command("pull")
@click.argument("folder", type=Place(file_okay=False, path_type=Path), metavar="DIR")
def fleet_pull(folder: Path) -> None:
    """Make heatmap.duckdb in a folder of what is in the store; what did not change is not fetched again.

    \b
    Example:
      heatmap fleet pull /srv/heatmap && heatmap serve --home /srv/heatmap
    """
    _pull(settings_of(), folder.resolve())


@fleet.command("collect")
@click.option(
    "--grace",
    type=Number(0, 720),
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
    settings = settings_of()
    _open_store(settings)
    from heatmap_pipeline.fleet.collect import collect  # noqa: PLC0415

    report = collect(settings, timedelta(hours=grace))
    click.echo(
        f"{settings.store}: {counted(report.removed, 'part')} removed, {report.bytes / 1e6:.1f} MB; "
        f"{counted(report.kept, 'part')} left"
    )


@contextmanager
def _shard(settings: Settings, again: str) -> Iterator[Shard]:
    """Give the symbols of the settings in a scratch home, while no other command of the home works on one of them.

    What cannot be taken from the store is told, as is what fails of a run; `again` is the command line that goes on.
    """
    from heatmap_pipeline.fleet.worker import shard  # noqa: PLC0415
    from heatmap_pipeline.notices import Failure  # noqa: PLC0415
    from heatmap_pipeline.orchestration.runs import prepare_home  # noqa: PLC0415
    from heatmap_pipeline.orchestration.told import tell_of_command  # noqa: PLC0415
    from heatmap_pipeline.orchestration.turns import one_run_at_a_time  # noqa: PLC0415

    _open_store(settings)
    surroundings.check_home(settings.home)
    prepare_home(settings)
    with one_run_at_a_time(settings, lambda text: click.echo(text, err=True)), ExitStack() as stack:
        try:
            opened = stack.enter_context(shard(settings))
        except HeatmapError as error:
            tell_of_command(settings, [Failure(symbol, str(error)) for symbol in settings.symbols], [], again)
            raise
        if opened.refused:
            tell_of_command(settings, [Failure(*each) for each in opened.refused.items()], [], again)
        try:
            yield opened
        finally:  # also where what was run has failed
            for words in opened.refused.values():
                tell(words)
    if opened.refused:
        raise SystemExit(1)


def _pull(settings: Settings, folder: Path) -> None:
    _open_store(settings)
    from heatmap_pipeline.fleet.pull import pull  # noqa: PLC0415

    report = pull(settings, folder)
    click.echo(
        f"{report.database}: {counted(report.symbols, 'symbol')}, {counted(report.parts, 'part')}, "
        f"{report.bytes / 1e6:.1f} MB; {report.fetched} fetched, {report.removed} removed, "
        f"{'written' if report.replaced else 'unchanged'}"
    )


def _open_store(settings: Settings) -> None:
    """Look that the store can be opened, before anything is made or asked of it."""
    from heatmap_pipeline.fleet.worker import open_bucket  # noqa: PLC0415
    from heatmap_pipeline.settings import SettingsError  # noqa: PLC0415

    try:
        open_bucket(settings)
    except SettingsError as error:  # it is not set
        raise click.UsageError(str(error)) from None
