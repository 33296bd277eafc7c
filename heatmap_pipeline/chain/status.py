"""What `heatmap status` says: one line per symbol and model, then what is wrong and the command that repairs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, TypeAlias

from rich.cells import cell_len

from heatmap_pipeline.chain.calendar import yesterday
from heatmap_pipeline.chain.commands import rebuild_commands, run_command
from heatmap_pipeline.chain.due import clock_is_behind, unpublished, words_for_clock
from heatmap_pipeline.chain.earlier import ComputedEarlier, computed_earlier, words_for_earlier_version
from heatmap_pipeline.chain.exporting import words_for_old_export
from heatmap_pipeline.chain.fit import fit_lines
from heatmap_pipeline.chain.history import Stale, outdated_days, read_history
from heatmap_pipeline.chain.liquidations import feed_lines, recorded_lines
from heatmap_pipeline.chain.reach import closed_words, last_expected
from heatmap_pipeline.chain.recovery import loss, naming_the_rebuild
from heatmap_pipeline.commands import command, environment, first_commands
from heatmap_pipeline.errors import counted
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store import read
from heatmap_pipeline.store.catalogue import is_catalogue
from heatmap_pipeline.store.ended import Ended, ended_symbols
from heatmap_pipeline.store.odd import odd_days
from heatmap_pipeline.store.origin import as_stored
from heatmap_pipeline.store.publish import BACK_BELOW, publication
from heatmap_pipeline.store.read import PublishedHistory, SymbolStatus, published_histories
from heatmap_pipeline.store.warehouse import OpenElsewhereError, StoreError, UnusableError, Warehouse
from heatmap_pipeline.store.whole import days_not_whole
from heatmap_pipeline.symbols import contract_of, own_exchange

_HEADER = (
    "symbol",
    "model",
    "days",
    "first",
    "last",
    "gaps",
    "stale",
    "failed",
    "held",
    "located",
    "newest data (UTC)",
)
_WIDTHS = (12, 9, 5, 10, 10, 5, 6, 6, 5, 8, 17)


def status_lines(settings: Settings) -> Iterator[str]:
    """Yield the lines of the report for everything stored in the home.

    Raises:
        StoreError: if the home cannot be read; after the lines of all others, where the files of symbols cannot be.
    """
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    with naming_the_rebuild(settings):
        stored_symbols = warehouse.symbols()
    if not stored_symbols:
        yield from _without_private(settings, warehouse)
        return
    published = published_histories(warehouse)
    of_home = _read_home(settings, warehouse, stored_symbols, published)
    entries, lost, stale, held = of_home.entries, of_home.lost, of_home.stale, of_home.held
    if not entries and not lost and not of_home.unusable:
        yield from _nothing_stored(settings)
        return
    again, ends = of_home.again, of_home.ends
    earlier = words_for_earlier_version(settings, of_home.earlier)
    yield f"home {settings.home}"
    keys = [(entry.symbol, entry.model) for entry in entries]
    yield from _table([(entry, len(stale[key]), held[key]) for entry, key in zip(entries, keys, strict=True)])
    yield from (*_titles(entries), *of_home.recorded)
    closed = [closed_words(stored_as, name) for name, stored_as in again.items()]
    yield from (f"closed  {words}" for words in dict.fromkeys(closed) if words)
    yield from (f"ended   {name} {end.day}: {end.reason}" for name, end in ends.items())
    yield from dict.fromkeys(of_home.fits)
    yield from (*of_home.cut, *of_home.odd, *of_home.not_kept)
    shown, damaged_parts = _parts(settings, warehouse)
    yield from shown
    problems: set[str] = set()
    if published is None and (line := _unusable(warehouse)):
        problems.add(line)
        yield line
    for name, text in lost.items():
        problems.add(name)
        yield f"lost    {text}"
    for text in dict.fromkeys(text for name, text in earlier.items() if name not in lost):
        problems.add(text)
        yield f"stale   {text}"
    for entry in entries:
        key = entry.symbol, entry.model
        # The command that brings lost days back, or rebuilds stale ones, makes and publishes the rest too.
        made_again = entry.symbol in lost or entry.symbol in earlier
        rebuilt = [] if made_again else stale[key]
        rest = [] if made_again or rebuilt else of_home.waiting[key]
        for line in [*_problems(again[entry.symbol], entry, rebuilt, ends.get(entry.symbol)), *rest]:
            if line not in problems:
                problems.add(line)
                yield line
    begun = {entry.symbol for entry in entries} | lost.keys() | of_home.unusable.keys()
    for line in dict.fromkeys([*_not_begun(settings, begun), *damaged_parts, *of_home.silent]):
        problems.add(line)
        yield line
    if behind := words_for_old_export(settings):
        problems.add(behind)
        yield f"export  {behind}"
    if of_home.unusable:
        raise StoreError("; ".join(dict.fromkeys(of_home.unusable.values())))
    yield "nothing is failed, stale or missing" if not problems else f"{len(problems)} to look at"


_Key: TypeAlias = tuple[str, str | None]
"""Symbol and model; the model is None where only raw data are stored."""


@dataclass
class _OfHome:
    """What was read of the symbols of a home, one private database after the other.

    Attributes:
        entries: of `read.status`.
        unusable: what is wrong with the files that cannot be read now, by symbol.
        stale: days to be computed again.
        held: how many days have no sample.
        waiting: what is read and not computed, or computed and not published.
        lost: published days that are not stored, in words, by symbol.
        again: settings that a symbol is computed again with.
        earlier: histories that an earlier version computed.
        ends: of symbols that have ended.
        recorded: lines about recorded liquidations.
        cut: about days that are not whole.
        odd: about days that held what cannot be true.
        not_kept: about cells that are not kept.
        fits: about buckets.
        silent: about streams of liquidations.
    """

    entries: list[SymbolStatus] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    stale: dict[_Key, list[Stale]] = field(default_factory=dict)
    held: dict[_Key, int] = field(default_factory=dict)
    waiting: dict[_Key, list[str]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    again: dict[str, Settings] = field(default_factory=dict)
    earlier: dict[str, ComputedEarlier] = field(default_factory=dict)
    ends: dict[str, Ended] = field(default_factory=dict)
    recorded: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    not_kept: list[str] = field(default_factory=list)
    fits: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    def add(self, con: Any, settings: Settings, symbol: str, published: Mapping[str, PublishedHistory] | None) -> None:
        """Read a symbol from its open private database."""
        entries = [entry for entry in read.status(con) if entry.symbol == symbol]  # somebody may have copied a file
        if text := loss(con, settings, symbol):
            self.lost[symbol] = text
        if not entries:
            return
        self.again[symbol] = _as_stored(settings, symbol, entries)
        self.entries += entries
        self.earlier |= computed_earlier(con)
        self.ends |= ended_symbols(con)
        self.recorded += recorded_lines(con)
        self.cut += _days("cut", symbol, days_not_whole(con, symbol))
        self.odd += _days("odd", symbol, odd_days(con, symbol))
        for entry in entries:
            key = entry.symbol, entry.model
            self.stale[key] = _stale(con, settings, entry)
            self.held[key] = _held(con, entry)
            self.waiting[key] = _waiting(con, self.again, entry, published)
            self.not_kept += _not_kept(con, entry)
            self.silent += _silent(con, settings, entry)
            if entry.model:
                self.fits += fit_lines(con, settings, entry.symbol, entry.model)


def _read_home(
    settings: Settings,
    warehouse: Warehouse,
    symbols: Sequence[str],
    published: Mapping[str, PublishedHistory] | None,
) -> _OfHome:
    of_home = _OfHome()
    for name in sorted({*symbols, *(published or {})}):
        try:
            with naming_the_rebuild(settings), warehouse.look(name) as con:
                of_home.add(con, settings, name, published)
        except StoreError as error:  # it says nothing of the others
            of_home.unusable[name] = str(error)
    return of_home


def _without_private(settings: Settings, warehouse: Warehouse) -> Iterator[str]:
    if is_catalogue(warehouse):
        yield f"home {settings.home}"
        yield (
            f"fleet   {warehouse.published.name} is made of what is in a store by `{command(settings, 'catalogue')}`; "
            f"set HEATMAP_STORE, and `{command(settings, 'status')}` says what that holds"
        )
    elif commands := rebuild_commands(settings):
        yield (
            f"lost    {warehouse.folder} has no file; heatmap.duckdb serves what was published: compute it again from "
            f"the archive files with `{' && '.join(commands)}`"
        )
    elif line := _unusable(warehouse):
        yield line
    else:
        yield from _nothing_stored(settings)


def _nothing_stored(settings: Settings) -> Iterator[str]:
    yield f"nothing is stored in {settings.home} yet; begin with {first_commands(settings.home)}"
    if behind := words_for_old_export(settings):  # which holds what was forgotten here
        yield f"export  {behind}"


def _not_begun(settings: Settings, begun: Set[str]) -> Iterator[str]:
    """Yield a line for each symbol that somebody wants by name and of which nothing is stored."""
    wanted = settings.symbols if "symbols" in environment().model_fields_set else ()
    for name in [name for name in wanted if name not in begun]:
        days = None if settings.start else ("DAY", "DAY")
        line = command(settings, "run" if days else "refresh", name, days=days)
        yield f"missing {name}: nothing of it is stored; begin with `{line}`, or take it out of HEATMAP_SYMBOLS"


def _unusable(warehouse: Warehouse) -> str | None:
    """Say what is wrong with a published database that cannot be read; nothing if someone just has it open."""
    if not warehouse.published.exists():
        return None
    try:
        with warehouse.read():
            return None
    except UnusableError as error:
        return f"damaged {error}"
    except OpenElsewhereError:
        return None
    except StoreError as error:
        return f"failed  {error}"


def _as_stored(settings: Settings, symbol: str, entries: Sequence[SymbolStatus]) -> Settings:
    """Return the settings that a symbol's history is computed again with: its source, its folder and its models."""
    (source,) = {entry.source for entry in entries if entry.symbol == symbol}
    models = tuple(entry.model for entry in entries if entry.symbol == symbol and entry.model is not None)
    return as_stored(settings, symbol, source).model_copy(update={"models": models or settings.models})


def _waiting(
    con: Any, again: Mapping[str, Settings], entry: SymbolStatus, published: Mapping[str, PublishedHistory] | None
) -> list[str]:
    """Return what is read and not computed, or computed and not published; of that nothing where it cannot be known."""
    raw = [day for of_kind in stored_raw.raw_days(con, entry.symbol).values() for day in of_kind]
    unused = [day for day in raw if entry.last_day is None or day > entry.last_day]
    if unused:
        line = run_command(again[entry.symbol], entry.symbol, min(unused), max(unused))
        days = f"{min(unused)} .. {max(unused)}"
        return [f"waiting {entry.symbol} {days}: read and not computed yet; compute them with `{line}`"]
    if entry.last_day is None or entry.model is None or published is None:
        return []
    records = {entry.model: stored.day_records(con, entry.symbol, entry.model)}
    if not unpublished(records, published.get(entry.symbol)):
        return []
    line = run_command(again[entry.symbol], entry.symbol, entry.last_day, entry.last_day)
    return [f"waiting {entry.symbol}: computed and not published yet; publish it with `{line}`"]


def _silent(con: Any, settings: Settings, entry: SymbolStatus) -> Iterator[str]:
    """Yield what is wrong with the streams of real liquidations; they are looked at on the newest two days."""
    if entry.last_day is not None:
        yield from feed_lines(con, settings, entry.symbol, entry.last_day - timedelta(days=1), entry.last_day)


def _stale(con: Any, settings: Settings, entry: SymbolStatus) -> list[Stale]:
    if entry.model is None or stored_raw.get_symbol(con, entry.symbol) is None:
        return []
    settings = settings.model_copy(update={"models": (entry.model,)})
    return outdated_days(settings, read_history(con, settings, entry.symbol), entry.model)


def _held(con: Any, entry: SymbolStatus) -> int:
    """Return how many computed days have no sample, so that their open interest stands still."""
    records = stored.day_records(con, entry.symbol, entry.model) if entry.model is not None else {}
    return sum(bool(record.repairs.get("held")) for record in records.values())


def _not_kept(con: Any, entry: SymbolStatus) -> Iterator[str]:
    """Yield a line where cells of the oldest days are not kept; no problem, for somebody wanted it so."""
    first = min(stored.snapshot_days(con, entry.symbol, entry.model), default=None) if entry.model else None
    if first is not None and entry.first_day is not None and entry.first_day < first:
        yield (
            f"cells   {entry.symbol} {entry.model}: cells of days before {first} are not kept (HEATMAP_KEEP_CELLS); "
            "the endpoint, the page and pictures compute them when they are asked for, liquidation_snapshots lacks them"
        )


def _days(what: str, symbol: str, days: Mapping[date, str]) -> Iterator[str]:
    """Yield a line that says which stored days are not whole or held nonsense, the newest in words.

    It is no problem, for that may be all there is.
    """
    if days:
        newest = max(days)
        more = (
            f"; {counted(len(days) - 1, 'more day')}, the first {min(days)} (GET /health lists them)"
            if len(days) > 1
            else ""
        )
        yield f"{what:<7} {symbol} {newest}: {days[newest]}{more}"


def _parts(settings: Settings, warehouse: Warehouse) -> tuple[list[str], list[str]]:
    """Return a line where what is published shows parts, and one where these are not as they should be."""
    try:
        there = publication(warehouse)
    except StoreError:  # said by itself
        there = None
    if there is None or there.parts is None:
        return [], []
    parts, lost = there.parts, there.lost()
    bytes_shown = parts.size(there.symbols)
    size = f"{bytes_shown / 1e9:.1f} GB" if bytes_shown >= 1e8 else f"{bytes_shown / 1e6:.1f} MB"
    shown = (
        f"size    {warehouse.published.name} shows {size} of files in {parts.folder.parent}, as that of a home of "
        f"more than {settings.tables_up_to:g} GB does until it is below {settings.tables_up_to * BACK_BELOW:g} GB "
        "again (HEATMAP_TABLES_UP_TO)"
    )
    if not lost and not parts.moved:
        return [shown], []
    why = f"files of {', '.join(lost)} are gone" if lost else f"the home was moved from {parts.named.parents[1]}"
    return [shown], [f"parts   {parts.folder}: {why}; make them anew with `{command(settings, 'refresh')}`"]


def _row(entry: SymbolStatus, stale: int, held: int) -> tuple[str, ...]:
    return (
        entry.symbol,
        entry.model or "-",
        str(entry.days),
        str(entry.first_day or "-"),
        str(entry.last_day or "-"),
        str(len(entry.gaps)),
        str(stale),
        str(len({day for _, day, _ in entry.failed})),
        str(held),
        f"{entry.located_share:.1%}" if entry.model else "-",
        (f"{entry.newest_candle:%Y-%m-%d %H:%M}" if entry.newest_candle else "-") + _marks(entry),
    )


def _table(entries: Sequence[tuple[SymbolStatus, int, int]]) -> Iterator[str]:
    """Yield a line per symbol and model, with how many of its days are stale and held.

    Where several exchanges are, the markets of a base stand together below it.
    """
    bases: dict[str, list[tuple[str, ...]]] = {}
    grouped = len({own_exchange(entry.symbol) for entry, _, _ in entries}) > 1
    for entry, stale, held in entries:
        base = (contract_of(entry.symbol).base or entry.symbol) if grouped else ""
        name, *numbers = _row(entry, stale, held)
        bases.setdefault(base, []).append((f"{'  ' * grouped}{name}", *numbers))
    longest = max((cell_len(cells[0]) for rows in bases.values() for cells in rows), default=0)
    widths = (max(longest, _WIDTHS[0]), *_WIDTHS[1:])
    yield _line(_HEADER, widths)
    for base in sorted(bases):
        yield from [base] if base else []
        yield from (_line(cells, widths) for cells in bases[base])


def _titles(entries: Sequence[SymbolStatus]) -> Iterator[str]:
    """Yield what the symbols are: a line for each exchange and kind of contract."""
    for title in dict.fromkeys(entry.title for entry in entries if entry.title):
        names = dict.fromkeys(entry.symbol for entry in entries if entry.title == title)
        yield f"market  {title}: {', '.join(names)}"


def _marks(entry: SymbolStatus) -> str:
    """Return what has to be said of the newest data: made up, or of a day that was not over."""
    provisional = entry.last_day is not None and entry.last_day in entry.provisional_days
    return (" simulated" if entry.simulated else "") + (" provisional" if provisional else "")


def _line(cells: tuple[str, ...], widths: tuple[int, ...]) -> str:
    return "  ".join(cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _problems(settings: Settings, entry: SymbolStatus, stale: list[Stale], ended: Ended | None) -> Iterator[str]:
    for stage, day, message in entry.failed:
        yield f"failed  {entry.symbol} {day} {stage}: {message}"
    if stale and entry.last_day is not None:
        line = run_command(settings, entry.symbol, min(day.first for day in stale), entry.last_day)
        yield f"stale   {entry.symbol} {entry.model} from {stale[0].day}: {stale[0].reason}; rebuild with `{line}`"
    if entry.last_day is not None and clock_is_behind(entry.last_day):
        yield f"clock   {words_for_clock(entry.symbol, entry.last_day)}"
    expected = last_expected(settings, entry.symbol) if ended is None else ended.day
    if settings.kind.grows and entry.last_day is not None and entry.last_day < expected:
        missing = f"{entry.last_day + timedelta(days=1)} .. {yesterday() if ended is None else ended.day}"
        line = command(settings, "refresh", entry.symbol)
        yield f"missing {entry.symbol} {missing}: not computed yet; catch up with `{line}`"
    if entry.gaps:
        yield (
            f"gap     {entry.symbol} {entry.gaps[0]} .. {entry.gaps[-1]}: "
            f"{counted(len(entry.gaps), 'day')} without data between two histories"
        )
