"""What `heatmap status` says: one line per symbol and model, then what is wrong and the command that repairs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from heatmap_pipeline.chain.calendar import yesterday
from heatmap_pipeline.chain.commands import as_stored, rebuild_commands, refresh_command
from heatmap_pipeline.chain.due import clock_is_behind, unpublished, words_for_clock
from heatmap_pipeline.chain.history import Stale, outdated_days, read_history
from heatmap_pipeline.chain.recovery import loss, naming_the_rebuild
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.source_kinds import SOURCES
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store import read
from heatmap_pipeline.store.read import PublishedHistory, SymbolStatus, published_histories
from heatmap_pipeline.store.warehouse import StoreError, UnusableError, Warehouse

_HEADER = ("symbol", "model", "days", "first", "last", "gaps", "stale", "failed", "coverage", "newest data (UTC)")
_WIDTHS = (12, 9, 5, 10, 10, 5, 6, 6, 8, 17)


def status_lines(settings: Settings) -> Iterator[str]:
    """Yield the lines of the report for everything stored in the home."""
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    if not warehouse.path.exists():
        yield _without_warehouse(settings, warehouse)
        return
    published = published_histories(warehouse)
    with naming_the_rebuild(settings), warehouse.connect() as con:
        found = read.status(con)
        stale = {(one.symbol, one.model): _stale(con, settings, one) for one in found}
        names = sorted({*(one.symbol for one in found), *(published or {})})
        lost = {name: text for name in names if (text := loss(con, settings, name))}
        waiting = {(one.symbol, one.model): _waiting(con, settings, one, published) for one in found}
    if not found and not lost:
        yield f"nothing is stored in {settings.home} yet; begin with `heatmap demo` or `heatmap run`"
        return
    yield f"home {settings.home}"
    yield _line(_HEADER)
    for one in found:
        yield _line(_row(one, len(stale[one.symbol, one.model])))
    told: set[str] = set()
    if published is None and (line := _unusable(warehouse)):
        told.add(line)
        yield line
    for name, text in lost.items():
        told.add(name)
        yield f"lost    {text}"
    for one in found:
        key = one.symbol, one.model
        # The command that brings lost days back, or rebuilds stale ones, makes and publishes the rest too.
        again = [] if one.symbol in lost else stale[key]
        for line in [*_problems(settings, one, again), *([] if one.symbol in lost or again else waiting[key])]:
            if line not in told:
                told.add(line)
                yield line
    yield "nothing is failed, stale or missing" if not told else f"{len(told)} to look at"


def _without_warehouse(settings: Settings, warehouse: Warehouse) -> str:
    commands = rebuild_commands(settings)
    if commands:
        return (
            f"lost    {warehouse.path} is missing; heatmap.duckdb serves what was published: compute it again from the "
            f"archive files with `{' && '.join(commands)}`"
        )
    return f"nothing is stored in {settings.home} yet; begin with `heatmap demo` or `heatmap run`"


def _unusable(warehouse: Warehouse) -> str | None:
    """Say what is wrong with a published database that cannot be read; nothing if someone just has it open."""
    try:
        with warehouse.read():
            return None
    except UnusableError as error:
        return f"damaged {error}"
    except StoreError:
        return None


def _waiting(
    con: Any, settings: Settings, one: SymbolStatus, published: Mapping[str, PublishedHistory] | None
) -> list[str]:
    """Return what is stored and not published; nothing where the published database cannot be read now."""
    if one.last_day is None or one.model is None or published is None:
        return []
    records = {one.model: stored.day_records(con, one.symbol, one.model)}
    if not unpublished(records, published.get(one.symbol)):
        return []
    command = as_stored(settings, one.source).repair_command(one.symbol, one.last_day, one.last_day)
    return [f"waiting {one.symbol}: computed and not published yet; publish it with `{command}`"]


def _stale(con: Any, settings: Settings, one: SymbolStatus) -> list[Stale]:
    if one.model is None or stored_raw.get_symbol(con, one.symbol) is None:
        return []
    settings = settings.model_copy(update={"models": (one.model,)})
    return outdated_days(settings, read_history(con, settings, one.symbol), one.model)


def _row(one: SymbolStatus, stale: int) -> tuple[str, ...]:
    return (
        one.symbol,
        one.model or "-",
        str(one.days),
        str(one.first_day or "-"),
        str(one.last_day or "-"),
        str(len(one.gaps)),
        str(stale),
        str(len({day for _, day, _ in one.failed})),
        f"{one.coverage:.1%}" if one.model else "-",
        (f"{one.newest_candle:%Y-%m-%d %H:%M}" if one.newest_candle else "-") + _marks(one),
    )


def _marks(one: SymbolStatus) -> str:
    """Return what has to be said of the newest data: made up, or of a day that was not over."""
    provisional = one.last_day is not None and one.last_day in one.provisional_days
    return (" simulated" if one.simulated else "") + (" provisional" if provisional else "")


def _line(cells: tuple[str, ...]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _problems(settings: Settings, one: SymbolStatus, stale: list[Stale]) -> Iterator[str]:
    settings = as_stored(settings, one.source)
    for stage, day, message in one.failed:
        yield f"failed  {one.symbol} {day} {stage}: {message}"
    if stale and one.last_day is not None:
        command = settings.repair_command(one.symbol, min(day.first for day in stale), one.last_day)
        yield f"stale   {one.symbol} {one.model} from {stale[0].day}: {stale[0].reason}; rebuild with `{command}`"
    if one.last_day is not None and clock_is_behind(one.last_day):
        yield f"clock   {words_for_clock(one.symbol, one.last_day)}"
    if (
        (one.source not in SOURCES or SOURCES[one.source].grows)
        and one.last_day is not None
        and one.last_day < yesterday()
    ):
        missing = f"{one.last_day + timedelta(days=1)} .. {yesterday()}"
        command = refresh_command(settings, one.symbol)
        yield f"missing {one.symbol} {missing}: not computed yet; catch up with `{command}`"
    if one.gaps:
        yield (
            f"gap     {one.symbol} {one.gaps[0]} .. {one.gaps[-1]}: {len(one.gaps)} days without data between "
            f"two histories"
        )
