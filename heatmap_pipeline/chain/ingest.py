"""From the source to the raw tables: which days are read, what is kept, what is refused. No Dagster in this file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from typing import Any

from heatmap_pipeline.chain.commands import run_command
from heatmap_pipeline.chain.history import Connect, day_bucket
from heatmap_pipeline.chain.reading import read_since, remember_reading
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.instants import ONE_DAY, SECONDS
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.plausible.arrays import Before
from heatmap_pipeline.market.plausible.candles import judge_candles
from heatmap_pipeline.market.plausible.names import ACCEPTED, SIDES
from heatmap_pipeline.market.plausible.samples import judge_samples_of
from heatmap_pipeline.market.sources import Market
from heatmap_pipeline.market.tables import CleanDay, NotTradedError
from heatmap_pipeline.settings import Settings, interval_name, setting_of
from heatmap_pipeline.source_kinds import SOURCES
from heatmap_pipeline.store import raw as stored
from heatmap_pipeline.store.days import restarted_days
from heatmap_pipeline.store.origin import remember_archive
from heatmap_pipeline.store.raw import SymbolRecord
from heatmap_pipeline.store.read import published_histories
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.symbols import Contract, contract_of

_ANEW = "begin it anew with --restart where the contract goes on in another unit, "

_CHUNK = 31
"""Days saved in one transaction."""


class IngestError(HeatmapError):
    """Data that do not fit what is stored of the symbol."""


@dataclass(frozen=True)
class RawReport:
    """What became of one day: rows stored, whether they are new, repairs by name, and the facts decided on the way."""

    day: date
    rows: int
    changed: bool
    repairs: Mapping[str, int]
    facts: Mapping[str, Any]


def ingest_candles(
    connect: Connect, market: Market, settings: Settings, symbol: str, days: Sequence[date], *, restart: bool = False
) -> Iterator[RawReport]:
    """Read, clean and store the candles of days in order.

    The first call for a symbol fixes its candle interval. A stored day whose file is gone is kept. A day that begins a
    history anew, the first one with `restart` or one that did before, is not held against the day before it.

    Raises:
        IngestError: if the symbol's stored history is of another kind (simulated or real) or interval.
        MarketError: for a day the source does not have, or a file that cannot be used.
    """
    with connect() as con:
        record = stored.get_symbol(con, symbol)
        known = set(stored.raw_days(con, symbol)["candles"]) if record is not None else set()
        anew = _begun_anew(con, symbol, days, restart)
        before = read_since(con, settings, symbol, "candles")
    # A lost warehouse is made again as it was: by the choices that the published history was made with.
    published = (published_histories(Warehouse(settings.home), [symbol], any_version=True) or {}).get(symbol)
    chosen = record or (published.record if published is not None else None)
    check_kind(chosen, settings, symbol)
    contract = _contract(chosen, market, symbol)
    market.prepare(symbol, days)
    published_days = published.raw_days - known if published is not None else frozenset()
    span = known | published_days
    inside = [day for day in days if span and min(span) <= day <= max(span) and day not in published_days]
    available = market.available(symbol, inside)
    # Neither a stored day whose file is gone nor a day of a gap between two histories is asked for.
    wanted = [day for day in days if day not in inside or day in available]
    interval = chosen.candle_interval_seconds if chosen else market.interval(settings, symbol, wanted)
    candle_days = _kept_if_gone(market.candles(symbol, wanted, interval), set(wanted) - known)
    read: set[date] = set()
    for chunk in _chunks(_judged_candles(connect, settings, symbol, candle_days, interval, anew)):
        read |= {clean.day for clean in chunk}
        with connect() as con:
            if record is None:
                bucket = day_bucket(settings, symbol, None, float(chunk[0].table["close"].iloc[0]))
                simulated = settings.simulated
                record = SymbolRecord.of(contract, interval, bucket, settings.source_of(symbol), simulated=simulated)
                stored.put_symbol(con, record)
            elif record.quote != contract.quote:  # nobody had said so
                record = replace(record, quote=contract.quote, base=contract.base)
                stored.put_symbol(con, record)
            changed = set(stored.save_raw(con, "candles", chunk, settings.source_of(symbol)))
            remember_archive(settings, symbol)
            remember_reading(con, settings, symbol, "candles", read, before)
        yield from _reports(chunk, changed)


def ingest_open_interest(
    connect: Connect, market: Market, settings: Settings, symbol: str, days: Sequence[date], *, restart: bool = False
) -> Iterator[RawReport]:
    """Read, clean and store the open interest of days in order; the clock is measured against the stored candles.

    A stored day whose file is gone, or of which the source gives no sample any more, is kept. Days that begin a history
    anew: as of candles.

    Raises:
        IngestError: if a day's candles are not stored, after the days before it.
        MarketError: for a day that cannot be had or a file that cannot be used, after the days before it were stored.
    """
    with connect() as con:
        known = stored.raw_days(con, symbol)
        anew = _begun_anew(con, symbol, days, restart)
        before = read_since(con, settings, symbol, "open_interest")
    read: set[date] = set()
    newest = max(known["candles"], default=date.min)
    oldest = min(known["candles"], default=date.max)
    days = [day for day in days if day in known["candles"] or not oldest < day < newest]
    unread = next((at for at, day in enumerate(days) if day not in known["candles"]), None)
    for start in range(0, len(days[:unread]), _CHUNK):
        chunk_days = days[:unread][start : start + _CHUNK]
        with connect() as con:
            candles = stored.load_candles(con, symbol, chunk_days[0], chunk_days[-1])
        frames: dict[date, Any] = dict(list(candles.groupby("day", sort=False)))  # type: ignore[arg-type]
        interval = known["candles"][chunk_days[0]].step
        judged = _judged_samples(
            connect, settings, symbol, market.open_interest(symbol, frames, interval), frames, interval, anew
        )
        for days_read in _chunks(judged):
            chunk = [
                clean
                for clean in days_read
                if not (_nothing_read(clean) and _has_rows(known["open_interest"].get(clean.day)))
            ]
            read |= {clean.day for clean in chunk}
            with connect() as con:
                changed = set(stored.save_raw(con, "open_interest", chunk, settings.source_of(symbol)))
                _record_how_counted(con, symbol, chunk)
                remember_reading(con, settings, symbol, "open_interest", read, before)
            yield from _reports(chunk, changed)
    if unread is not None:
        day = days[unread]
        raise IngestError(
            f"{symbol}: the candles of {day} are not stored, and the clock of its open interest is measured against "
            f"them; ingest both with `{run_command(settings, symbol, day, day)}`"
        )


def _contract(chosen: SymbolRecord | None, market: Market, symbol: str) -> Contract:
    """Return what is recorded of a contract, else what the source says of it."""
    if chosen is None or not chosen.quote:
        return market.contract(symbol)
    named = contract_of(symbol)
    base = chosen.base or named.base
    return replace(named, quote=chosen.quote, base=base, lot=chosen.lot, contract_size=chosen.contract_size)


def _record_how_counted(con: Any, symbol: str, chunk: Sequence[CleanDay]) -> None:
    """Record of a market how its newest samples were understood: the sides they count, and what told their time."""
    newest = max((clean for clean in chunk if "clock" in clean.facts), key=lambda clean: clean.day, default=None)
    record = stored.get_symbol(con, symbol)
    if newest is None or record is None or newest.day < max(stored.raw_days(con, symbol)["open_interest"]):
        return
    sides, rule = (2 if SIDES in newest.facts else 1), str(newest.facts["clock"]["rule"])
    if (record.oi_sides, record.clock_rule) != (sides, rule):
        stored.put_symbol(con, replace(record, oi_sides=sides, clock_rule=rule))


def _begun_anew(con: Any, symbol: str, days: Sequence[date], restart: bool) -> frozenset[date]:
    """Return the days that begin a history though the day before them may be stored: it is of another unit."""
    return frozenset([*restarted_days(con, symbol), *(days[:1] if restart else ())])


def _judged_candles(
    connect: Connect,
    settings: Settings,
    symbol: str,
    days: Iterable[CleanDay],
    interval: int,
    anew: Collection[date],
) -> Iterator[CleanDay]:
    """Yield the days whose candles can be true; the first that cannot is an error."""
    last: CleanDay | None = None
    for day in days:
        file = ArchiveFile(symbol, day.day, interval_name(interval)).name
        if file in settings.accept_implausible:
            judged = _accepted(day)
        else:
            yesterday = day.day - ONE_DAY
            if day.day in anew:
                earlier = day.table.iloc[:0]
            elif last is not None and last.day == yesterday:
                earlier = last.table
            else:
                with connect() as con:
                    earlier = stored.load_candles(con, symbol, yesterday, yesterday)
            before = Before(candles=earlier if len(earlier) else None)
            judged = judge_candles(day, before, file=_name(day, file), way_out=_ANEW + _way_out(file))
        yield judged
        last = judged


def _judged_samples(
    connect: Connect,
    settings: Settings,
    symbol: str,
    days: Iterable[CleanDay],
    candles: Mapping[date, Any],
    interval: int,
    anew: Collection[date],
) -> Iterator[CleanDay]:
    """Yield the days with the samples that can be true; a day that cannot be begun with is an error."""
    before: Before | None = None
    for day in days:
        if before is None or day.day in anew:
            before = _samples_before(connect, symbol, day.day, anew)
        file = ArchiveFile(symbol, day.day).name
        if file in settings.accept_implausible:
            judged = _accepted(day)
        else:
            judged = judge_samples_of(
                day,
                CleanDay(symbol, day.day, candles[day.day], interval),
                before,
                said=settings.counts_one_side(symbol),
                file=_name(day, file),
                way_out=_way_out(file),
            )
        if len(judged.table):
            before = Before(samples=judged.table, both_sides=SIDES in judged.facts)
        yield judged


def _samples_before(connect: Connect, symbol: str, day: date, anew: Collection[date]) -> Before:
    """Return the samples of the newest day before one that has some, of the same history."""
    if day in anew:
        return Before()
    with connect() as con:
        known = stored.raw_days(con, symbol)
        newest = day - ONE_DAY
        while newest in known["candles"] and not _has_rows(known["open_interest"].get(newest)):
            if newest in anew:
                return Before()
            newest -= ONE_DAY
        if newest not in known["candles"]:
            return Before()
        samples = stored.load_open_interest(con, symbol, newest, newest)
    return Before(samples=samples, both_sides=SIDES in known["open_interest"][newest].facts)


def _accepted(day: CleanDay) -> CleanDay:
    return replace(day, repairs={**day.repairs, ACCEPTED: len(day.table)})


def _name(day: CleanDay, file: str) -> str:
    """Return how an error names where a day came from."""
    return str(day.facts["file"]) if "file" in day.facts else f"{file} (over REST)"


def _way_out(file: str) -> str:
    return f"put a good copy in its place, or take the day as it is by HEATMAP_ACCEPT_IMPLAUSIBLE={file}"


def _kept_if_gone(days: Iterable[CleanDay], needed: set[date]) -> Iterator[CleanDay]:
    """Yield days; those of a symbol that is not traded any more may be missing where none that is needed is left."""
    try:
        for day in days:
            needed.discard(day.day)
            yield day
    except NotTradedError:
        if needed:
            raise


def _nothing_read(day: CleanDay) -> bool:
    """Whether a day has no row because there was no file: of one that was read, all rows may have been left out."""
    return day.table.empty and "sha256" not in day.facts


def _has_rows(day: stored.RawDay | None) -> bool:
    return day is not None and day.rows > 0


def _chunks(days: Iterable[CleanDay]) -> Iterator[list[CleanDay]]:
    """Yield lists of days; when reading fails, the days read before the failure come first."""
    rest = iter(days)
    while True:
        chunk: list[CleanDay] = []
        try:
            chunk.extend(islice(rest, _CHUNK))
        except HeatmapError:
            if chunk:
                yield chunk
            raise
        if not chunk:
            return
        yield chunk


def _reports(chunk: Sequence[CleanDay], changed: set[date]) -> Iterator[RawReport]:
    for clean in chunk:
        yield RawReport(clean.day, len(clean.table), clean.day in changed, clean.repairs, clean.facts)


def check_kind(record: SymbolRecord | None, settings: Settings, symbol: str) -> None:
    """Let a history go on only with data of its own kind and interval.

    Raises:
        IngestError: where the settings name simulated data for a real history or the reverse, or another interval.
    """
    if record is None:
        return
    here, elsewhere = "this home", "another --home"
    if settings.home != settings.named_home:  # a scratch home, of which the user knows nothing
        here, elsewhere = settings.store, "another HEATMAP_STORE"
    if record.simulated != settings.simulated:
        stored_kind, asked = ("simulated", "real") if record.simulated else ("real", "simulated")
        folder = f"{settings.archive_root}, " if SOURCES[settings.source].given_folder else ""
        other = f", or --source {record.source} (HEATMAP_SOURCE)" if record.source != settings.source else ""
        raise IngestError(
            f"{symbol}: {here} holds {stored_kind} history (source {record.source}), and this would be {asked} data "
            f"({folder}source {settings.source}); they are never mixed: use {elsewhere}{other}"
        )
    interval = settings.of(symbol).candle_interval
    if interval is not None and SECONDS[interval] != record.candle_interval_seconds:
        raise IngestError(
            f"{symbol}: {setting_of('candle_interval', symbol)} = {interval}, and its history is stored in candles of "
            f"{interval_name(record.candle_interval_seconds)}; an interval is fixed once chosen: use {elsewhere}"
        )
