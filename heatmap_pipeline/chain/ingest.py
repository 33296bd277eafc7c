"""From the source to the raw tables: which days are read, what is kept, what is refused. No Dagster in this file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any

from heatmap_pipeline.chain.commands import run_command
from heatmap_pipeline.chain.history import Connect, day_bucket
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.market.sources import Market
from heatmap_pipeline.market.tables import CleanDay, NotTradedError
from heatmap_pipeline.settings import Settings, interval_name
from heatmap_pipeline.store import raw as stored
from heatmap_pipeline.store.origin import remember_archive
from heatmap_pipeline.store.raw import SymbolRecord
from heatmap_pipeline.store.read import published_histories
from heatmap_pipeline.store.warehouse import Warehouse

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
    connect: Connect, market: Market, settings: Settings, symbol: str, days: Sequence[date]
) -> Iterator[RawReport]:
    """Read, clean and store the candles of days in order.

    The first call for a symbol fixes its candle interval. A stored day whose file is gone is kept.

    Raises:
        IngestError: if the symbol's stored history is of another kind (simulated or real) or interval.
        MarketError: for a day the source does not have, or a file that cannot be used.
    """
    with connect() as con:
        record = stored.get_symbol(con, symbol)
        known = set(stored.raw_days(con, symbol)["candles"]) if record is not None else set()
    # A lost warehouse is made again as it was: by the choices that the published history was made with.
    published = (published_histories(Warehouse(settings.home), any_version=True) or {}).get(symbol)
    chosen = record or (published.record if published is not None else None)
    _same_kind(chosen, settings, symbol)
    market.prepare(symbol, days)
    held = published.raw_days - known if published is not None else frozenset()
    span = known | held
    inside = [day for day in days if span and min(span) <= day <= max(span) and day not in held]
    available = market.available(symbol, inside)
    # Neither a stored day whose file is gone nor a day of a gap between two histories is asked for.
    wanted = [day for day in days if day not in inside or day in available]
    interval = chosen.candle_interval_seconds if chosen else market.interval(settings, symbol, wanted)
    for chunk in _chunks(_kept_if_gone(market.candles(symbol, wanted, interval), set(wanted) - known)):
        with connect() as con:
            if record is None:
                bucket = day_bucket(settings, symbol, None, float(chunk[0].table["close"].iloc[0]))
                record = SymbolRecord(symbol, interval, bucket, settings.source, settings.simulated)
                stored.put_symbol(con, record)
            changed = set(stored.save_raw(con, "candles", chunk, settings.source))
            remember_archive(settings, symbol)
        yield from _reports(chunk, changed)


def ingest_open_interest(
    connect: Connect, market: Market, settings: Settings, symbol: str, days: Sequence[date]
) -> Iterator[RawReport]:
    """Read, clean and store the open interest of days in order; the clock is measured against the stored candles.

    Raises:
        IngestError: if a day's candles are not stored, after the days before it.
        MarketError: for a day that cannot be had or a file that cannot be used, after the days before it were stored.
    """
    with connect() as con:
        known = stored.raw_days(con, symbol)
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
        for read in _chunks(market.open_interest(symbol, frames, interval)):
            chunk = [one for one in read if not (one.table.empty and _has_rows(known["open_interest"].get(one.day)))]
            with connect() as con:
                changed = set(stored.save_raw(con, "open_interest", chunk, settings.source))
            yield from _reports(chunk, changed)
    if unread is not None:
        day = days[unread]
        raise IngestError(
            f"{symbol}: the candles of {day} are not stored, and the clock of its open interest is measured against "
            f"them; ingest both with `{run_command(settings, symbol, day, day)}`"
        )


def _kept_if_gone(days: Iterable[CleanDay], needed: set[date]) -> Iterator[CleanDay]:
    """Yield days; those of a symbol that is not traded any more may be missing where none that is needed is left."""
    try:
        for day in days:
            needed.discard(day.day)
            yield day
    except NotTradedError:
        if needed:
            raise


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
    for one in chunk:
        yield RawReport(one.day, len(one.table), one.day in changed, one.repairs, one.facts)


def _same_kind(record: SymbolRecord | None, settings: Settings, symbol: str) -> None:
    if record is None:
        return
    if record.simulated != settings.simulated:
        stored_kind, asked = ("simulated", "real") if record.simulated else ("real", "simulated")
        other = f", or --source {record.source}" if record.source != settings.source else ""
        raise IngestError(
            f"{symbol}: this home holds {stored_kind} history (source {record.source}) and {settings.archive_root} is "
            f"{asked} data (source {settings.source}); they are never mixed: use another --home{other}"
        )
    own = settings.of(symbol).candle_interval
    if own is not None and SECONDS[own] != record.candle_interval_seconds:
        raise IngestError(
            f"{symbol}: HEATMAP_CANDLE_INTERVAL_{symbol} = {own}, and its history is stored in candles of "
            f"{interval_name(record.candle_interval_seconds)}; an interval is fixed once chosen: use another --home"
        )
