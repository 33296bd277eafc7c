"""What `heatmap status` and the endpoint ask of a database, published or private.

What belongs here: the located share, and a summary per symbol. Times come back as the tables hold them: UTC without
zone. What does not: anything that writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import duckdb
from cachetools import LRUCache

from heatmap_pipeline.files import state_of
from heatmap_pipeline.model.book import located_share
from heatmap_pipeline.store.migrate import READABLE
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.raw import SymbolRecord, get_symbol
from heatmap_pipeline.store.sql import Connection, rows, scalar
from heatmap_pipeline.store.warehouse import READER_PREFIX, StoreError, Warehouse, schema_version
from heatmap_pipeline.symbols import title_of


@dataclass(frozen=True)
class SymbolStatus:
    """What is stored of one symbol and model.

    Attributes:
        symbol: as the exchange writes it.
        model: None where only raw data are stored.
        source: where the data come from; '' where the symbol is not registered.
        simulated: whether the market is made up.
        title: what the symbol is: exchange and kind of contract; '' where it is not registered.
        first_day: first computed day.
        last_day: last computed day.
        days: number of computed days.
        gaps: days between the first and the last that are not computed.
        parameters: the JSON each day was computed with; the caller judges whether it still wants those.
        provisional_days: days that were not over when they were computed.
        failed: (stage, day, message) of failures not yet repaired, of the symbol.
        located_share: share of the exchange's open interest located in the newest books, 0..1.
        newest_candle: start of the newest raw candle.
    """

    symbol: str
    model: str | None
    source: str
    simulated: bool
    title: str
    first_day: date | None
    last_day: date | None
    days: int
    gaps: tuple[date, ...]
    parameters: dict[date, str]
    provisional_days: tuple[date, ...]
    failed: tuple[tuple[str, date, str], ...]
    located_share: float
    newest_candle: datetime | None


def newest_located_share(con: Connection, symbol: str, model: str) -> float:
    """Return the share of the open interest that the newest books put at a liquidation price, 0 if there are none."""
    books = rows(
        con,
        "SELECT located, open_interest FROM book_ledger WHERE symbol = ? AND model = ? AND timestamp = "
        "(SELECT max(timestamp) FROM book_ledger WHERE symbol = ? AND model = ?) ORDER BY side",
        [symbol, model, symbol, model],
    )
    return located_share([located for located, _ in books], books[0][1]) if books else 0.0


def status(con: Connection) -> list[SymbolStatus]:
    """Return one entry per symbol and model, and one per symbol of which only raw data are stored."""
    pairs = rows(
        con,
        "WITH models AS (SELECT DISTINCT symbol, model FROM heatmap_days), "
        "names AS (SELECT symbol FROM symbols UNION SELECT symbol FROM raw_days UNION SELECT symbol FROM models) "
        "SELECT n.symbol, m.model FROM names AS n LEFT JOIN models AS m ON n.symbol = m.symbol "
        "ORDER BY n.symbol, m.model DESC",
    )
    return [_status_of(con, symbol, model) for symbol, model in pairs]


def _status_of(con: Connection, symbol: str, model: str | None) -> SymbolStatus:
    record = get_symbol(con, symbol)
    stored_days = rows(
        con,
        "SELECT day, previous_hash, state_hash, parameters, provisional FROM heatmap_days "
        "WHERE symbol = ? AND model = ? ORDER BY day",
        [symbol, model],
    )
    days = [row[0] for row in stored_days]
    return SymbolStatus(
        symbol=symbol,
        model=model,
        source=record.source if record else "",
        simulated=bool(record and record.simulated),
        title=title_of(symbol, record.quote, simulated=record.simulated) if record else "",
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        days=len(days),
        gaps=missing_days(days),
        parameters={row[0]: row[3] for row in stored_days},
        provisional_days=tuple(row[0] for row in stored_days if row[4]),
        failed=tuple(failed_days(con, symbol)),
        located_share=newest_located_share(con, symbol, model) if model else 0.0,
        newest_candle=newest_candle(con, symbol),
    )


def newest_candle(con: Connection, symbol: str) -> datetime | None:
    """Return the start of the newest stored candle of a symbol, None where there is none."""
    start: datetime | None = scalar(con, "SELECT max(open_time) FROM raw_candles WHERE symbol = ?", [symbol])
    return start


def missing_days(days: Sequence[date]) -> tuple[date, ...]:
    """Return the days between the first and the last that are missing."""
    if not days:
        return ()
    have = set(days)
    span = range((days[-1] - days[0]).days)
    return tuple(day for day in (days[0] + timedelta(days=n) for n in span) if day not in have)


def first_published_day(warehouse: Warehouse) -> date | None:
    """Return the first day in the published database, None where there is none that can be read."""
    if not warehouse.published.exists():
        return None
    try:
        with warehouse.read() as con:
            day: date | None = scalar(con, "SELECT min(day) FROM raw_days")
    except StoreError:
        return None
    return day


@dataclass(frozen=True)
class PublishedHistory:
    """What heatmap.duckdb holds of one symbol.

    Attributes:
        record: what was chosen once for the symbol.
        raw_days: days whose candles it holds.
        days: per model, each computed day with the hash of its state; a day that was not over is left out.
    """

    record: SymbolRecord
    raw_days: frozenset[date]
    days: Mapping[str, Mapping[date, str]]


def published_histories(
    warehouse: Warehouse, symbols: Sequence[str] | None = None, *, any_version: bool = False
) -> dict[str, PublishedHistory] | None:
    """Return what is published, by symbol; None where that cannot be read, empty where nothing is published.

    Args:
        warehouse: of the home.
        symbols: those that are wanted, as far as they are published; None means all.
        any_version: read also tables of another version of this program, as far as they are alike.
    """
    if not warehouse.published.exists():
        return {}
    try:
        return _histories(warehouse, symbols, any_version)
    except (StoreError, duckdb.Error) as error:
        if "lock on file" not in str(error.__cause__):
            return None
    # Someone has opened it for writing, as the command-line client does unless told otherwise: read a copy.
    with (
        suppress(StoreError, duckdb.Error, OSError),
        TemporaryDirectory(prefix=READER_PREFIX, dir=warehouse.home) as at,
    ):
        copy = Warehouse(Path(at))
        shutil.copyfile(warehouse.published, copy.published)
        return _histories(copy, symbols, any_version)
    return None


_KEPT = 256
"""Histories of published symbols that a process keeps; a worker of a fleet has 25 symbols."""

_known: LRUCache[tuple[object, ...], PublishedHistory | None] = LRUCache(_KEPT)
"""What was read of symbols, by the file as it was then: each stage of a run asks again, and an answer takes 10 ms."""

_lock = Lock()


def _histories(warehouse: Warehouse, symbols: Sequence[str] | None, any_version: bool) -> dict[str, PublishedHistory]:
    if symbols is None:
        return _read_histories(warehouse, None, any_version)[0]
    file = _version(warehouse.published)
    with _lock:
        histories = {symbol: _known[file, symbol] for symbol in symbols if (file, symbol) in _known}
    if lacking := [symbol for symbol in symbols if symbol not in histories]:
        there, readable = _read_histories(warehouse, lacking, any_version)
        histories |= {symbol: there.get(symbol) for symbol in lacking}
        if readable and _version(warehouse.published) == file:  # else it is not known which of the two was read
            with _lock:
                _known.update({(file, symbol): histories[symbol] for symbol in lacking})
    return {symbol: history for symbol, history in sorted(histories.items()) if history is not None}


def _version(published: Path) -> tuple[object, ...]:
    """Return what differs whenever the file was replaced or written, also where a client's log waits beside it."""
    return published, state_of(published), state_of(published.with_name(f"{published.name}.wal"))


def _read_histories(
    warehouse: Warehouse, symbols: Sequence[str] | None, any_version: bool
) -> tuple[dict[str, PublishedHistory], bool]:
    """Return the histories, and whether the file is of a version whose tables are read without `any_version`, too."""
    raw_days: dict[str, set[date]] = {}
    days: dict[str, dict[str, dict[date, str]]] = {}
    with warehouse.read(any_version=any_version) as con:
        readable = not any_version or schema_version(con) in READABLE
        names = [name for (name,) in rows(con, "SELECT symbol FROM symbols ORDER BY symbol")]
        names = [name for name in names if symbols is None or name in symbols]
        records = {name: get_symbol(con, name) for name in names}
        wanted = "symbol IN (SELECT unnest(?::VARCHAR[]))"
        query = f"SELECT DISTINCT symbol, day FROM raw_days WHERE kind = 'candles' AND {wanted}"  # noqa: S608 - ours
        for name, day in rows(con, query, [names]):
            raw_days.setdefault(name, set()).add(day)
        query = "SELECT symbol, model, day, state_hash FROM heatmap_days WHERE NOT provisional AND"
        for name, model, day, state_hash in rows(con, f"{query} {wanted} ORDER BY ALL", [names]):
            days.setdefault(name, {}).setdefault(model, {})[day] = state_hash
    histories = {
        name: PublishedHistory(record, frozenset(raw_days.get(name, ())), days.get(name, {}))
        for name, record in records.items()
        if record is not None
    }
    return histories, readable


def stored_days(con: Connection, symbol: str) -> tuple[date, date]:
    """Return the first and the last stored day of a symbol.

    Raises:
        StoreError: if nothing of it is stored.
    """
    ((first, last),) = rows(con, "SELECT min(day), max(day) FROM raw_days WHERE symbol = ?", [symbol])
    if first is None:
        line = stored_command(con, "run", symbol, days=("DAY", "DAY"))
        raise StoreError(f"{symbol}: nothing is stored yet; run `{line}` first")
    return first, last


def failed_days(con: Connection, symbol: str) -> list[tuple[str, date, str]]:
    """Return stage, day and message of every failure that was not repaired yet, oldest first."""
    failures = rows(con, "SELECT stage, day, message FROM failed_days WHERE symbol = ? ORDER BY day, stage", [symbol])
    return [(stage, day, message) for stage, day, message in failures]
