"""What a database holds, in memory: candles, open interest and the chain of days of every symbol, as arrays.

What belongs here: what is read at once, and the books that days started from, read when needed. What does not: when a
published file is read (`api/publications.py`), and what is computed from it (`replay.py`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

from heatmap_pipeline.bins import Candles
from heatmap_pipeline.errors import listed
from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.flows import level_changes
from heatmap_pipeline.model.book import DayCandles, Floats, Ints, ModelState
from heatmap_pipeline.model.parameters import ModelError, ModelParameters
from heatmap_pipeline.store import columns as serve
from heatmap_pipeline.store.alerts import StoredAlert, last_alerts
from heatmap_pipeline.store.days import DayRecord, day_records, load_state, snapshot_days
from heatmap_pipeline.store.ended import Ended, ended_symbols
from heatmap_pipeline.store.odd import days_to_mention
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.publish import fingerprints
from heatmap_pipeline.store.read import missing_days, newest_located_share
from heatmap_pipeline.store.scores import Agreement, agreements
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError, Warehouse, schema_version
from heatmap_pipeline.symbols import contract_of, own_exchange, title_of
from heatmap_pipeline.views.score import score_record


@dataclass(frozen=True, eq=False)
class ModelData:
    """The computed days of a symbol and model.

    Attributes:
        name: of the model.
        days: computed days, rising.
        parameters: what each day was computed with.
        fresh: open interest (contracts) that each history starts from, by its first day.
        provisional: days that were not over when they were computed.
        missing: days between the first and the last that are not computed.
        broken: days whose predecessor is not stored, or is not the one they were computed from.
        times: start of each model candle, rising.
        rows: its number among the symbol's candles.
        open_interest: contracts at the end of each model candle.
        factor: what all that is open is multiplied by before each model candle, 1 but where the level shifts.
        bounds: of each day its first model candle and the one after its last.
        begin: start of the first model candle, microseconds.
        end: end of the newest one.
        located_share: share of the open interest that the newest books put at a liquidation price.
        snapshot_seconds: distance of the newest day's stored snapshots; None where it has none.
        cells_from: first day whose cells are stored; None where none are. What is shown of days before it is replayed.
    """

    name: str
    days: tuple[date, ...]
    parameters: Mapping[date, ModelParameters]
    fresh: Mapping[date, float]
    provisional: frozenset[date]
    missing: tuple[date, ...]
    broken: tuple[date, ...]
    times: Ints
    rows: Ints
    open_interest: Floats
    factor: Floats
    bounds: Mapping[date, tuple[int, int]]
    begin: int
    end: int
    located_share: float
    snapshot_seconds: int | None
    cells_from: date | None

    @property
    def newest_complete(self) -> date | None:
        """The newest day that is over."""
        return next((day for day in reversed(self.days) if day not in self.provisional), None)

    def bucket(self, first: int, last: int) -> float:
        """Return the largest bucket of the computed days between two instants; the newest if there are none.

        Cells of all these days fit into it, as each bucket is a divisor of every larger one.
        """
        days = [day for day in self.days if day_start(day) < last and day_start(day) + DAY > first]
        return max(self.parameters[day].bucket for day in days or self.days[-1:])


@dataclass(frozen=True, eq=False)
class SymbolData:
    """A symbol: `fingerprint` is equal as long as none of its rows changed, `bucket` is the newest day's.

    Prices, volumes and buckets are in `quote`, its quote asset; `base` is the asset one contract is, '' = nobody says.
    `not_whole` says in words what is held, cut, unchecked or cannot be true, by day; `ended` is set where there will be
    no more days.
    """

    name: str
    fingerprint: str
    bucket: float
    simulated: bool
    source: str
    candles: Candles
    models: Mapping[str, ModelData]
    not_whole: Mapping[date, str] = field(default_factory=dict)
    quote: str = "USDT"
    ended: Ended | None = None
    base: str = ""

    @property
    def exchange(self) -> str | None:
        """Name of the exchange whose contract it is; None of a market that is made up."""
        return None if self.simulated else own_exchange(self.name)

    @property
    def title(self) -> str:
        """What it is: exchange and kind of contract."""
        return title_of(self.name, self.quote, simulated=self.simulated)

    def day_candles(self, model: ModelData, day: date, before: float) -> DayCandles:
        """Return the candles of a computed day as the model takes them; `before` is the open interest (contracts)."""
        low, high = model.bounds[day]
        rows = model.rows[low:high]
        level, factor = model.open_interest[low:high], model.factor[low:high]
        every = self.candles
        return DayCandles(
            every.open_time[rows],
            every.open[rows],
            every.high[rows],
            every.low[rows],
            every.close[rows],
            every.volume[rows],
            flow=level_changes(level, factor, before),
            open_interest=level,
            factor=factor,
        )


@dataclass(eq=False)
class Version:
    """What a database holds; one that was published is closed when it is retired and nobody uses it any more.

    Attributes:
        name: equal as long as nothing that is published changed.
        symbols: by name, in order.
        outdated: words about each symbol of which models are left out: an earlier version computed them.
    """

    name: str
    symbols: Mapping[str, SymbolData]
    outdated: Mapping[str, str]
    _con: Connection
    _close: ExitStack = field(default_factory=ExitStack)
    _users: int = 0
    _retired: bool = False
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def acquire(self) -> Version:
        """Keep it open until `release`."""
        with self._lock:
            self._users += 1
        return self

    def release(self) -> None:
        """Say that one user needs it no longer."""
        with self._lock:
            self._users -= 1
            done = self._retired and self._users == 0
        if done:
            self._shut()

    def retire(self) -> None:
        """Close it as soon as nobody uses it."""
        with self._lock:
            self._retired = True
            done = self._users == 0
        if done:
            self._shut()

    @property
    def closed(self) -> bool:
        """Whether its connection is closed."""
        return self._closed

    def _shut(self) -> None:
        self._closed = True
        self._close.close()

    def reports(self, symbol: str, first: int, last: int, step: int) -> list[serve.Reports]:
        """Return the real liquidations in [first, last), of each source, summed by `step`; all microseconds."""
        with self._reading:
            return serve.reported_liquidations(self._con, symbol, first, last, step)

    def state(self, symbol: str, model: str, day: date) -> ModelState | None:
        """Return the books at the end of a computed day, as stored; None where its lots are not kept."""
        with self._reading:  # one connection, one question at a time
            known = load_state(self._con, symbol, model, day)
        return None if known is None else known[0]

    def newest_books(self, wanted: Sequence[tuple[str, str, date, int]]) -> dict[str, serve.BookCells]:
        """Return stored books by symbol (`store.columns.newest_books`)."""
        with self._reading:
            return serve.newest_books(self._con, wanted)

    def agreements(self) -> dict[tuple[str, str], dict[str, Agreement]]:
        """Return the headline of each score by symbol and model, then window (`store.scores.agreements`)."""
        with self._reading:
            return agreements(self._con)

    def answers(self) -> bool:
        """Return whether the database answers a question."""
        with self._reading:
            return not self._closed and serve.any_row(self._con)

    @property
    def schema_version(self) -> int | None:
        """Version of the database's tables."""
        with self._reading:
            return schema_version(self._con)

    def score(self, symbol: str, model: str) -> dict[str, Any]:
        """Return what is stored of the score of a model (`views.score.score_record`)."""
        with self._reading:
            return score_record(self._con, symbol, model)

    def alerts(self, symbol: str | None, limit: int) -> list[StoredAlert]:
        """Return the newest alerts, of one symbol or of all, newest first."""
        with self._reading:
            return last_alerts(self._con, symbol, limit)


def published_version(warehouse: Warehouse, before: Version | None, models: Sequence[str]) -> Version:
    """Read what is published now, and keep the file open.

    Args:
        warehouse: whose published file.
        before: an earlier version; symbols that are still the same are taken over from it.
        models: as `load_version`.

    Raises:
        StoreError: if nothing is published, or the file cannot be read or contradicts itself.
    """
    with ExitStack() as stack:
        con = stack.enter_context(warehouse.read(alone=True))
        serve.modest(con)
        version = load_version(con, models, before=before)
        version._close = stack.pop_all()
        return version


def load_version(
    con: Connection, models: Sequence[str], *, only: str | None = None, before: Version | None = None
) -> Version:
    """Read what a database holds, published or private; the connection is the caller's and stays in use.

    Args:
        con: the database.
        models: names in the order in which a symbol's models are listed; others follow by name.
        only: a symbol, the only one to read; None means all.
        before: an earlier version; symbols that are still the same are taken over from it.

    Raises:
        StoreError: if the database contradicts itself.
    """
    prints = fingerprints(con)
    ends = ended_symbols(con)
    symbols: dict[str, SymbolData] = {}
    outdated: dict[str, str] = {}
    for record, names in serve.served_symbols(con):
        if only not in (None, record.symbol):
            continue
        known = before.symbols.get(record.symbol) if before is not None else None
        if before is not None and known is not None and known.fingerprint == prints[record.symbol]:
            symbols[record.symbol] = known
            outdated |= {name: words for name, words in before.outdated.items() if name == record.symbol}
            continue
        times, columns = serve.candle_columns(con, record.symbol)
        candles = Candles(record.candle_interval_seconds, times, **columns)
        ordered = sorted(names, key=lambda name: (models.index(name) if name in models else len(models), name))
        kept: dict[str, ModelData] = {}
        left_out: list[str] = []
        for name in ordered:
            try:
                data = _model(con, record.symbol, name, candles)
            except ModelError:
                left_out.append(name)
            else:
                kept |= {name: data} if data is not None else {}
        if left_out:
            outdated[record.symbol] = _words_for_earlier_version(con, record.symbol, left_out)
        if kept:
            newest = next(iter(kept.values()))
            bucket = newest.parameters[newest.days[-1]].bucket
            symbols[record.symbol] = SymbolData(
                record.symbol,
                prints[record.symbol],
                bucket,
                record.simulated,
                record.source,
                candles,
                kept,
                days_to_mention(con, record.symbol),
                record.unit,
                ends.get(record.symbol),
                record.base or contract_of(record.symbol).base,
            )
    digest = hashlib.blake2b(repr(sorted(prints.items())).encode(), digest_size=8)
    return Version(digest.hexdigest(), symbols, outdated, con)


def _words_for_earlier_version(con: Connection, symbol: str, models: Sequence[str]) -> str:
    days = [day for model in models for day in day_records(con, symbol, model)]
    line = stored_command(con, "run", symbol, days=(min(days), max(days)))
    return (
        f"{symbol} {listed(models)}: computed by an earlier version of this program, whose rules are gone; rebuild "
        f"with `{line}`"
    )


def _model(con: Connection, symbol: str, model: str, candles: Candles) -> ModelData | None:
    """Return a model of a symbol, None where it has gone through no candle yet."""
    records = day_records(con, symbol, model)
    times, level = serve.model_candles(con, symbol, model)
    if not len(times):
        return None
    rows = np.searchsorted(candles.open_time, times)
    if rows[-1] >= len(candles.open_time) or not np.array_equal(candles.open_time[rows], times):
        raise StoreError(
            f"{symbol} {model}: the published ledger names candles that are not published; "
            f"run `{stored_command(con, 'refresh', symbol)}` to publish again"
        )
    days = tuple(records)
    starts = np.array([day_start(day) for day in days], dtype=np.int64)
    low, high = np.searchsorted(times, starts), np.searchsorted(times, starts + DAY)
    by_text = {text: ModelParameters.from_json(text) for text in {record.parameters for record in records.values()}}
    cells = snapshot_days(con, symbol, model)
    return ModelData(
        name=model,
        days=days,
        parameters={day: by_text[record.parameters] for day, record in records.items()},
        fresh=serve.first_samples(con, symbol, [day for day, record in records.items() if record.previous_hash == ""]),
        provisional=frozenset(day for day, record in records.items() if record.provisional),
        missing=missing_days(days),
        broken=_broken(records),
        times=times,
        rows=rows.astype(np.int64),
        open_interest=level,
        factor=_factors(records, times),
        bounds={day: (int(a), int(b)) for day, a, b in zip(days, low, high, strict=True)},
        begin=int(times[0]),
        end=int(times[-1]) + candles.step,
        located_share=newest_located_share(con, symbol, model),
        snapshot_seconds=cells[max(cells)][1] if cells else None,
        cells_from=min(cells, default=None),
    )


def _factors(records: Mapping[date, DayRecord], times: Ints) -> Floats:
    """Return the factor of each model candle, of which the days name those that are not 1."""
    factor = np.ones(len(times))
    for record in records.values():
        for time, value in record.state.get("factors", ()):
            factor[np.searchsorted(times, time)] = value
    return factor


def _broken(records: Mapping[date, DayRecord]) -> tuple[date, ...]:
    """Return the days that do not follow from the one before them; a history that begins anew does not have to."""
    broken = []
    for day, record in records.items():
        before = records.get(day - timedelta(days=1))
        if record.previous_hash and (before is None or before.state_hash != record.previous_hash):
            broken.append(day)
    return tuple(broken)
