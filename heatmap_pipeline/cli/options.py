"""What verbs have in common: their options, the settings and symbols those mean, and how an error is said."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from heatmap_pipeline import surroundings
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.source_kinds import SOURCES, folder_sources

if TYPE_CHECKING:
    from heatmap_pipeline.settings import Settings


class _Day(click.ParamType):  # type: ignore[type-arg]  # generic in the newest click only
    """A day as YYYY-MM-DD."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the start of the day; fails for what is none."""
        try:
            return datetime.strptime(value, "%Y-%m-%d")
        except ValueError:
            self.fail(f"{value!r} is no day that there is; write one such as 2026-11-21", param, ctx)


DAY = _Day()


class Whole(click.IntRange):
    """A whole number from one to another, or of one and more."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; fails for what is none of them."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is not allowed; write a whole number {_between(self.min, self.max)}", param, ctx)


class Number(click.FloatRange):
    """A number from one to another."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number; fails for what is none of them, as `nan` is none."""
        try:
            number = super().convert(value, param, ctx)
        except click.BadParameter:
            number = math.nan
        if math.isnan(number):
            self.fail(f"{value!r} is not allowed; write a number {_between(self.min, self.max)}", param, ctx)
        return number


class Place(click.Path):
    """A path, ~ in it written out; an empty one is refused, as a shell gives it for a variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; fails for what cannot be one."""
        if not str(value):
            self.fail("nothing is given; write a path, as . for the folder you are in", param, ctx)
        if str(value).startswith("~"):  # as a shell hands it on that knows no such user
            try:
                value = str(Path(value).expanduser())
            except RuntimeError:
                self.fail(f"{str(value)!r}: no such home folder is known here; write a whole path", param, ctx)
        return super().convert(value, param, ctx)


def _between(least: float | None, most: float | None) -> str:
    return f"from {least} on" if most is None else f"from {least} to {most}"


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


home_option = click.option(
    "--home", type=Place(file_okay=False, path_type=Path), help="Folder of all data (HEATMAP_HOME; ~/heatmap)."
)


market_options = _options(
    click.option("--source", type=click.Choice(list(SOURCES)), help="Where from (HEATMAP_SOURCE)."),
    click.option(
        "--archive",
        type=Place(file_okay=False, path_type=Path),
        help="Folder of Binance's public archive, futures/um/daily/... below it; "
        f"implies --source {folder_sources()[0]}.",
    ),
)


liquidations_option = click.option(
    "--liquidations",
    "liquidations_folder",
    type=Place(exists=True, file_okay=False, path_type=Path),
    help="Folder of files of real liquidations by symbol (HEATMAP_LIQUIDATIONS_FOLDER).",
)


models_option = click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Choice(list(MODELS)),
    help=f"Only this model; repeatable. {'; '.join(f'{spec.name}: {spec.role}' for spec in MODELS.values())}.",
)


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Have Python look seldom for garbage that refers to itself: a run makes little, and looking took a tenth of it."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


computing_options = _options(market_options, liquidations_option, home_option, collecting_seldom())
"""Those of a verb that computes: where from, and into which home."""

jobs_option = click.option(
    "--jobs",
    type=Whole(1, 64),
    metavar="N",
    help="Processes that share the symbols out among them (HEATMAP_JOBS; 1).",
)


class Verbs(click.Group):
    """Errors meant for people end the command with exit code 1 and one clear last line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; see the class for what becomes of an error."""
        try:
            return super().invoke(ctx)
        except HeatmapError as error:
            fail(str(error))


def tell(message: str) -> None:
    """Write one line to stderr, however the message was wrapped."""
    click.echo(f"heatmap: {' '.join(message.split())}", err=True)


def fail(message: str) -> NoReturn:
    """Write one line to stderr and end with exit code 1."""
    tell(message)
    raise SystemExit(1)


def symbols_of(symbols: tuple[str, ...], *, computed: bool = True) -> tuple[str, ...]:
    """Return the ids of typed symbols, each once; `computed`: those of which days can be computed here.

    Raises:
        click.UsageError: for what is no symbol.
    """
    from heatmap_pipeline.settings import SettingsError, check_symbol, check_written  # noqa: PLC0415
    from heatmap_pipeline.symbols import market_id  # noqa: PLC0415

    check = check_symbol if computed else check_written
    try:
        return tuple(dict.fromkeys(check(market_id(symbol)) for symbol in symbols))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


def settings_of(
    *,
    source: str | None = None,
    archive: Path | None = None,
    models: Sequence[str] = (),
    symbols: Sequence[str] = (),
    **options: Any,
) -> Settings:
    """Return the settings that the options of a verb mean; what was not given is as it is set elsewhere.

    Raises:
        click.UsageError: where they contradict one another, or a setting has a value it cannot have.
    """
    from heatmap_pipeline.chain.settings import load_checked_settings  # noqa: PLC0415
    from heatmap_pipeline.settings import SettingsError  # noqa: PLC0415

    if archive is not None:
        if source is not None and source not in folder_sources():
            raise click.UsageError(f"--archive and --source {source} exclude each other; give one of them")
        source = source or folder_sources()[0]
    try:
        settings = load_checked_settings(
            source=source, archive=archive, models=models or None, symbols=symbols or None, **options
        )
        settings.archive_root  # noqa: B018  # an archive without a folder is wrong usage
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    surroundings.settle(settings.home)
    return settings


def home_settings(**options: Any) -> Settings:
    """Return the settings of a verb that runs nothing; one that does says of its home what it says of any failure."""
    settings = settings_of(**options)
    surroundings.check_home(settings.home)
    return settings
