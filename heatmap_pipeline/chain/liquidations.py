"""Real liquidations beside the chain: which days are asked of which source, what is kept, and whether a feed is alive.

They are never an input of the map, so nothing here stops a run: a day that cannot be had is just not recorded. No
Dagster in this file.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from heatmap_pipeline.chain import calendar
from heatmap_pipeline.chain.history import Connect
from heatmap_pipeline.chain.reading import read_since, remember_reading
from heatmap_pipeline.commands import command
from heatmap_pipeline.files import open_regular
from heatmap_pipeline.instants import iso
from heatmap_pipeline.market.liquidations.sources import REACH, LiquidationSource, Places, open_liquidations
from heatmap_pipeline.market.liquidations.tables import HOUR, LEAST_RECORDED, Liquidations, superseded
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.settings import FILES, Settings
from heatmap_pipeline.store import liquidations as stored
from heatmap_pipeline.store.liquidations import WatchedHours
from heatmap_pipeline.store.raw import raw_days
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.symbols import name_at

STREAMS: Mapping[str, str] = {"binance_stream": "binance", "bybit_stream": "bybit"}
"""The sources that have to be listened to all the time, with the exchange that `heatmap record` is told."""

QUIET_HOURS = 6
"""A stream that prints nothing for so many hours in a row is taken for dead, if the market moved meanwhile."""

_USUAL = timedelta(days=28)
"""How far back the hours reach whose median says how much a market usually moves."""

_LATE = 2
"""Hours by which a record may not end before the candles."""

_CHUNK = 31
"""Days saved in one transaction."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceDay:
    """What is stored of a day and source after a run: rows, hours recorded, and whether any of it is new."""

    rows: int
    recorded_hours: float
    changed: bool


@dataclass
class LiquidationReport:
    """What became of the liquidations of some days.

    Attributes:
        days: per day, what is stored of each source that was read.
        repairs: per source, what was repaired in what was read.
        troubles: per name of a source, why it gave nothing.
    """

    days: dict[date, dict[str, SourceDay]] = field(default_factory=dict)
    repairs: dict[str, Mapping[str, int]] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)


def open_sources(settings: Settings) -> dict[str, LiquidationSource]:
    """Return the sources of liquidations that the settings name, none by default.

    Raises:
        MarketError: for a name that is none, or a source that lacks its folder or has an address that is none.
    """
    places = Places(
        folder=settings.liquidations_folder,
        archive=settings.archive_root,
        recordings=settings.recordings,
        gate_url=settings.gate_url,
        bitget_url=settings.bitget_url,
    )
    return open_liquidations(settings.liquidation_sources, places)


def read_liquidations(connect: Connect, settings: Settings, symbol: str, days: Sequence[date]) -> LiquidationReport:
    """Read and store what the sources of the settings say of days, and note of which files that was.

    Raises:
        MarketError: as `open_sources`.
    """
    files = files_digest(settings)
    with connect() as con:
        before = read_since(con, settings, symbol, "liquidations", files)
    report = ingest_liquidations(connect, open_sources(settings), symbol, days)
    with connect() as con:
        remember_reading(con, settings, symbol, "liquidations", days, before, files)
    return report


def liquidations_to_read(con: Connection, settings: Settings, symbol: str, days: Sequence[date]) -> str:
    """Say why the liquidations of stored days would be read again; '' where their files are those they were read from.

    Only a folder of files is known without asking: what is recorded or fetched may go on.
    """
    if not settings.liquidation_sources:
        return ""
    if settings.liquidation_sources != (FILES,):
        return "its real liquidations are asked for again"
    since = read_since(con, settings, symbol, "liquidations", files_digest(settings))
    if since is None or since > min(days):
        return "the files of real liquidations, or how they are read, changed"
    return ""


def files_digest(settings: Settings) -> str:
    """Return a digest of the files of real liquidations and of the names of all their sources.

    Raises:
        MarketError: for a file that cannot be read.
    """
    digest = hashlib.blake2b(repr(settings.liquidation_sources).encode(), digest_size=16)
    folder = settings.liquidations_folder or Path()
    for path in sorted(folder.rglob("*")) if settings.liquidations_folder is not None else ():
        try:
            if path.is_file():
                digest.update(os.fsencode(path.relative_to(folder)) + b"\n")  # a name may be any bytes
                with open_regular(path) as stream:
                    digest.update(hashlib.file_digest(stream, "blake2b").digest())
        except OSError as error:
            raise MarketError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None
    return digest.hexdigest()


def ingest_liquidations(
    connect: Connect, sources: Mapping[str, LiquidationSource], symbol: str, days: Sequence[date]
) -> LiquidationReport:
    """Read and store what the sources say of days; a source that cannot say anything is told of once and passed over.

    A day is stored in place of what was stored of it, with two exceptions. A source that has nothing of it leaves it as
    it is. And one that forgets is asked for what it still has and what is not recorded yet: outside of what it says
    now, what it said before stays.

    Args:
        connect: opens the private database of the symbol.
        sources: by name, as `open_sources` gives them.
        symbol: as the exchange writes it.
        days: rising; only those whose candles are stored are asked for.
    """
    report = LiquidationReport({day: {} for day in days})
    with connect() as con:
        known = raw_days(con, symbol)["candles"]
    wanted = [day for day in days if day in known]
    for name, source in sources.items():
        try:
            for made in _read(connect, name, source, symbol, wanted):
                _save(connect, made, wanted, report)
                report.repairs[made.source] = made.repairs
        except NoDataError as error:
            report.troubles[name] = str(error)
        except MarketError as error:
            report.troubles[name] = str(error)
            _log.warning("liquidations of %s from %s are not recorded: %s", symbol, name, error)
    return report


def _read(
    connect: Connect, name: str, source: LiquidationSource, symbol: str, days: Sequence[date]
) -> list[Liquidations]:
    if name in REACH:
        oldest = calendar.today() - timedelta(days=REACH[name])
        within = [day for day in days if day >= oldest]
        with connect() as con:
            whole = stored.days_recorded_whole(con, symbol, name, days[0], days[-1]) if days else set()
        days = [day for day in within if day not in whole]
        if not days and whole:
            return []
        if not days:
            raise NoDataError(f"{name}: none of these days is asked for, it goes back {REACH[name]} days")
    return source.read(symbol, days[0], days[-1]) if days else []


def _save(connect: Connect, made: Liquidations, days: Sequence[date], report: LiquidationReport) -> None:
    read = {day: part for day in days if _says_something(part := made.of_day(day))}
    for chunk in _chunks(read):
        with connect() as con:
            if made.source in REACH:
                for day in chunk:
                    before = stored.load_liquidations(con, made.symbol, made.source, day, day)
                    chunk[day] = superseded(before, chunk[day])
            changed = set(stored.save_liquidations(con, chunk))
        for day, part in chunk.items():
            hours = float((part.recorded[:, 1] - part.recorded[:, 0]).sum()) / HOUR
            report.days[day][made.source] = SourceDay(len(part.table), hours, day in changed)


def _says_something(part: Liquidations) -> bool:
    return bool(len(part.table) or len(part.recorded))


def _chunks(read: Mapping[date, Liquidations]) -> Iterator[dict[date, Liquidations]]:
    days = list(read)
    for start in range(0, len(days), _CHUNK):
        yield {day: read[day] for day in days[start : start + _CHUNK]}


# -- whether the streams live


@dataclass(frozen=True)
class Feed:
    """What is to be said of one stream: `words` of a dead one and `late` of a late one, '' where it is not."""

    source: str
    words: str
    late: str
    numbers: Mapping[str, Any]


def feeds(con: Connection, settings: Settings, symbol: str, first: date, last: date) -> list[Feed]:
    """Return whether each stream that is configured lived through the days first..last; none where none is.

    A stream is dead where for `QUIET_HOURS` in a row it printed nothing, while range x volume of these hours was on
    average above the median of the 28 days before. Hours before its first record do not count; hours that it did not
    record after that do, as nothing was printed in them either.
    """
    made = []
    for source in settings.liquidation_sources:
        if source in STREAMS:
            hours = stored.watched_hours(con, symbol, source, last - _USUAL, last)
            words, numbers = _pulse(hours, first)
            exchange = STREAMS[source]
            line = command(settings, "record", name_at(exchange, symbol), exchange=exchange)
            told = [
                f"{symbol} {source}: {text}; look at the recorder, or start it with `{line}`" if text else ""
                for text in (words, _late(hours))
            ]
            made.append(Feed(source, told[0], told[1], numbers))
    return made


def _late(hours: WatchedHours) -> str:
    """Return how far the record of a stream ends before the candles do, '' for less than two hours."""
    heard = np.flatnonzero(hours.recorded > 0)
    behind = len(hours.hour) - 1 - int(heard[-1]) if len(heard) else 0
    return f"the record ends {behind} hours before the candles" if behind >= _LATE else ""


def _pulse(hours: WatchedHours, first: date) -> tuple[str, dict[str, Any]]:
    """Return what is wrong with a stream, '' if nothing, and the numbers behind it."""
    numbers: dict[str, Any] = {
        "recorded_hours": round(float(hours.recorded.sum()), 2),
        "events": int(hours.events.sum()),
    }
    started = np.flatnonzero(hours.recorded > 0)
    if not len(started):
        return "nothing was recorded yet", numbers
    quiet = quiet_stretch(hours)
    if quiet is None or hours.hour[quiet] < np.datetime64(first, "us").astype(np.int64):
        return "", numbers
    begin = int(hours.hour[quiet - QUIET_HOURS + 1])
    numbers |= {"quiet_from": iso(begin), "quiet_until": iso(int(hours.hour[quiet]) + HOUR)}
    unrecorded = hours.recorded[quiet - QUIET_HOURS + 1 : quiet + 1] < LEAST_RECORDED
    what = "was not recorded" if unrecorded.all() else "printed nothing"
    return f"{what} from {iso(begin)} for {QUIET_HOURS} hours in which the market moved more than usual", numbers


def quiet_stretch(hours: WatchedHours) -> int | None:
    """Return the last hour of the newest `QUIET_HOURS` without an event while the market moved, None if there is none.

    Args:
        hours: from 28 days before on; hours before the first recorded one do not count.
    """
    started = np.flatnonzero(hours.recorded > 0)
    count = len(hours.hour)
    if not len(started) or count - started[0] < QUIET_HOURS:
        return None
    usual = float(np.median(hours.activity))
    for last in range(count - 1, int(started[0]) + QUIET_HOURS - 2, -1):
        window = slice(last - QUIET_HOURS + 1, last + 1)
        together = hours.hour[last] - hours.hour[window.start] == (QUIET_HOURS - 1) * HOUR
        if together and not hours.events[window].any() and hours.activity[window].mean() > usual:
            return last
    return None


# -- what status says


def recorded_lines(con: Connection) -> Iterator[str]:
    """Yield a line per symbol and source that is stored: what was recorded, and how much there is."""
    for each in stored.liquidation_sources(con):
        whose = "" if each.own_exchange else "; not of the market's own exchange"
        kind = "complete" if each.complete else "not complete"
        yield (
            f"liquidations of {each.symbol} by {each.source}: {each.first:%Y-%m-%d %H:%M} .. "
            f"{each.last:%Y-%m-%d %H:%M}, {each.recorded_hours:,.1f} h recorded, {each.rows:,} rows, {kind}{whose}"
        )


def feed_lines(con: Connection, settings: Settings, symbol: str, first: date, last: date) -> Iterator[str]:
    """Yield a line per configured stream that is silent, or whose record ends before the candles do."""
    for feed in feeds(con, settings, symbol, first, last):
        if words := feed.words or feed.late:
            yield f"feed    {words}"
