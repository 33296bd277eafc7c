"""What a database holds, in memory: of every symbol what is said of it, of those asked for all there is, as arrays.

What belongs here: what is read of all symbols together, what is read of one when it is asked for, and the books that
days started from, read when needed. What does not: when a published file is read (`api/publications.py`), what stays in
memory (`loaded.py`), and what is computed from it (`replay.py`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any, TypeVar

import numpy as np

from heatmap_pipeline.bins import Candles
from heatmap_pipeline.errors import listed
from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.market.flows import level_changes
from heatmap_pipeline.model.book import DayCandles, Floats, Ints, ModelState
from heatmap_pipeline.model.parameters import ModelError, ModelParameters
from heatmap_pipeline.store import columns as serve
from heatmap_pipeline.store import summary as stored
from heatmap_pipeline.store.alerts import StoredAlert, last_alerts
from heatmap_pipeline.store.days import load_state
from heatmap_pipeline.store.ended import Ended, ended_symbols
from heatmap_pipeline.store.odd import days_to_mention
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.publish import fingerprints
from heatmap_pipeline.store.raw import SymbolRecord
from heatmap_pipeline.store.scores import Agreement, agreements
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError, Warehouse, schema_version
from heatmap_pipeline.symbols import contract_of, own_exchange, title_of
from heatmap_pipeline.views.loaded import Loaded
from heatmap_pipeline.views.score import score_record

LOADED_BYTES = 512 << 20
"""Bytes of symbols that are kept in memory where nobody says how many."""


@dataclass(frozen=True, eq=False)
class ModelSummary:
    """What is said of the computed days of a symbol and model without reading them.

    Attributes:
        name: of the model.
        first_day: first computed day.
        last_day: the newest one.
        newest_complete: the newest day that is over; None where none is.
        newest_parameters: what the newest day was computed with.
        provisional: days that were not over when they were computed.
        missing: days between the first and the last that are not computed.
        broken: days whose predecessor is not stored, or is not the one they were computed from.
        begin: start of the first model candle, microseconds.
        end: end of the newest one.
        price: its close, quote asset.
        located_share: share of the open interest that the newest books put at a liquidation price.
        snapshot_seconds: distance of the newest day's stored snapshots; None where it has none.
        cells_from: first day whose cells are stored; None where none are. What is shown of days before it is replayed.
    """

    name: str
    first_day: date
    last_day: date
    newest_complete: date | None
    newest_parameters: ModelParameters
    provisional: frozenset[date]
    missing: tuple[date, ...]
    broken: tuple[date, ...]
    begin: int
    end: int
    price: float
    located_share: float
    snapshot_seconds: int | None
    cells_from: date | None


@dataclass(frozen=True, eq=False)
class ModelData(ModelSummary):
    """The computed days of a symbol and model.

    Attributes:
        days: computed days, rising.
        parameters: what each day was computed with.
        fresh: open interest (contracts) that each history starts from, by its first day.
        times: start of each model candle, rising.
        rows: its number among the symbol's candles.
        open_interest: contracts at the end of each model candle.
        factor: what all that is open is multiplied by before each model candle, 1 but where the level shifts.
        bounds: of each day its first model candle and the one after its last.
    """

    days: tuple[date, ...]
    parameters: Mapping[date, ModelParameters]
    fresh: Mapping[date, float]
    times: Ints
    rows: Ints
    open_interest: Floats
    factor: Floats
    bounds: Mapping[date, tuple[int, int]]

    def bucket(self, first: int, last: int) -> float:
        """Return the largest bucket of the computed days between two instants; the newest if there are none.

        Cells of all these days fit into it, as each bucket is a divisor of every larger one.
        """
        days = [day for day in self.days if day_start(day) < last and day_start(day) + DAY > first]
        return max(self.parameters[day].bucket for day in days or self.days[-1:])


@dataclass(frozen=True, eq=False)
class SymbolSummary:
    """What is said of a symbol without its candles; `fingerprint` is equal as long as none of its rows changed.

    Prices, volumes and buckets are in `quote`, its quote asset; `bucket` is the newest day's, and `base` the asset one
    contract is, '' = nobody says. `not_whole` says in words what is held, cut, unchecked or cannot be true, by day;
    `ended` is set where there will be no more days.
    """

    name: str
    fingerprint: str
    bucket: float
    simulated: bool
    source: str
    candle_seconds: int
    models: Mapping[str, ModelSummary]
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


@dataclass(frozen=True, eq=False)
class SymbolData(SymbolSummary):
    """A symbol with its candles and all that its days are replayed from."""

    models: Mapping[str, ModelData]
    candles: Candles = field(kw_only=True)

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        models = self.models.values()
        arrays = [each for each in vars(self.candles).values() if isinstance(each, np.ndarray)]
        arrays += [each for model in models for each in (model.times, model.rows, model.open_interest, model.factor)]
        return 10_000 + sum(each.nbytes for each in arrays) + 400 * sum(len(model.days) for model in models)

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


_held: ContextVar[Mapping[str, SymbolData] | None] = ContextVar("held", default=None)
"""Symbols that who asks holds already, where it must not wait for others; None where it may."""


class NotAtHandError(Exception):
    """Symbols that would have to be read, for who must not wait for that; no failure: it asks for them elsewhere."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


@contextmanager
def without_reading(held: Mapping[str, SymbolData]) -> Iterator[None]:
    """Have a version raise `NotAtHandError` inside, instead of reading what is neither in memory nor held."""
    token = _held.set(held)
    try:
        yield
    finally:
        _held.reset(token)


def _nothing_to_explain() -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(eq=False)
class Version:
    """What a database holds; one that was published is closed when it is retired and nobody uses it any more.

    Attributes:
        name: equal as long as nothing that is published changed.
        symbols: by name, in order.
        outdated: words about each symbol of which models are left out: an earlier version computed them.
        damaged: words about each symbol whose rows cannot be read, or contradict themselves, as far as is known.
        loaded: data of symbols by name and fingerprint, which versions share.
    """

    name: str
    symbols: Mapping[str, SymbolSummary]
    outdated: Mapping[str, str]
    _con: Connection
    loaded: Loaded[SymbolData] = field(default_factory=lambda: loaded_symbols(LOADED_BYTES))
    damaged: dict[str, str] = field(default_factory=dict)
    _explaining: Callable[[], AbstractContextManager[None]] = _nothing_to_explain
    _close: ExitStack = field(default_factory=ExitStack)
    _users: int = 0
    _retired: bool = False
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reading: threading.Lock = field(default_factory=threading.Lock)

    def data(self, name: str) -> SymbolData:
        """Return a symbol with its candles; as `several`."""
        return self.several([name])[0]

    def several(self, names: Sequence[str]) -> list[SymbolData]:
        """Return symbols with their candles: those in memory at once, others after they were read.

        Raises:
            NotAtHandError: `without_reading`, naming all that would have to be read.
            StoreError: if what is stored of one of them cannot be read, or contradicts itself.
            KeyError: for a name that is none of `symbols`.
        """
        held = _held.get()
        if held is None:
            return [self._data(self.symbols[name]) for name in names]
        found = {name: held.get(name) or self._at_hand(self.symbols[name]) for name in names}
        if missing := [name for name, data in found.items() if data is None]:
            raise NotAtHandError(missing)
        return [data for data in found.values() if data is not None]

    def _at_hand(self, symbol: SymbolSummary) -> SymbolData | None:
        return symbol if isinstance(symbol, SymbolData) else self.loaded.get((symbol.name, symbol.fingerprint))

    def _data(self, symbol: SymbolSummary) -> SymbolData:
        if isinstance(symbol, SymbolData):
            return symbol
        try:
            return self.loaded.get_or_read((symbol.name, symbol.fingerprint), partial(self._read, symbol))
        except StoreError as error:
            self.damaged[symbol.name] = _about(symbol.name, error)
            raise StoreError(self.damaged[symbol.name]) from error

    def _read(self, symbol: SymbolSummary) -> SymbolData:
        with self._asking():
            data = load_symbol(self._con, symbol)
        self.damaged.pop(symbol.name, None)
        return data

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """One connection, one question at a time; what is wrong with the file is said in words."""
        with self._reading, self._explaining():
            yield

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
        with self._asking():
            return serve.reported_liquidations(self._con, symbol, first, last, step)

    def state(self, symbol: str, model: str, day: date) -> ModelState | None:
        """Return the books at the end of a computed day, as stored; None where its lots are not kept."""
        with self._asking():
            known = load_state(self._con, symbol, model, day)
        return None if known is None else known[0]

    def newest_books(self, wanted: Sequence[tuple[str, str, date, int]]) -> dict[str, serve.BookCells]:
        """Return stored books by symbol (`store.columns.newest_books`)."""
        with self._asking():
            return serve.newest_books(self._con, wanted)

    def recent_closes(self, wanted: Sequence[tuple[str, int, int]], seconds: int) -> dict[str, list[tuple[int, float]]]:
        """Return closes by symbol (`store.summary.recent_closes`)."""
        with self._asking():
            return stored.recent_closes(self._con, wanted, seconds)

    def closes_at(self, wanted: Collection[tuple[str, int]]) -> dict[tuple[str, int], float]:
        """Return the close of single candles (`store.summary.closes_at`)."""
        with self._asking():
            return stored.closes_at(self._con, wanted)

    def agreements(self) -> dict[tuple[str, str], dict[str, Agreement]]:
        """Return the headline of each score by symbol and model, then window (`store.scores.agreements`)."""
        with self._asking():
            return agreements(self._con)

    def answers(self) -> bool:
        """Return whether the database answers a question."""
        with self._asking():
            return not self._closed and serve.any_row(self._con)

    @property
    def schema_version(self) -> int | None:
        """Version of the database's tables."""
        with self._asking():
            return schema_version(self._con)

    def score(self, symbol: str, model: str) -> dict[str, Any]:
        """Return what is stored of the score of a model (`views.score.score_record`)."""
        with self._asking():
            return score_record(self._con, symbol, model)

    def alerts(self, symbol: str | None, limit: int) -> list[StoredAlert]:
        """Return the newest alerts, of one symbol or of all, newest first."""
        with self._asking():
            return last_alerts(self._con, symbol, limit)


def loaded_symbols(max_bytes: int) -> Loaded[SymbolData]:
    """Return a place for so many bytes of symbols."""
    return Loaded(max_bytes, lambda data: data.size)


def _about(symbol: str, error: Exception) -> str:
    return str(error) if symbol in str(error) else f"{symbol}: {error}"


def published_version(
    warehouse: Warehouse,
    before: Version | None,
    models: Sequence[str],
    loaded: Loaded[SymbolData] | None = None,
) -> Version:
    """Look at what is published now, and keep the file open; a symbol's candles are read when it is asked for.

    Args:
        warehouse: whose published file.
        before: an earlier version; symbols that are still the same are taken over from it.
        models: as `load_version`.
        loaded: where symbols are kept; None means where the version before has them.

    Raises:
        StoreError: if nothing is published, or the file cannot be read or contradicts itself.
    """
    with ExitStack() as stack:
        con = stack.enter_context(warehouse.read(alone=True))
        serve.modest(con)
        explaining = partial(warehouse.explaining, warehouse.published)
        version = load_version(con, models, before=before, explaining=explaining)
        if loaded is not None:
            version.loaded = loaded
        version._close = stack.pop_all()
        return version


def load_version(
    con: Connection,
    models: Sequence[str],
    *,
    only: Collection[str] | None = None,
    before: Version | None = None,
    explaining: Callable[[], AbstractContextManager[None]] = _nothing_to_explain,
) -> Version:
    """Look at what a database holds, published or private; the connection is the caller's and stays in use.

    Args:
        con: the database.
        models: names in the order in which a symbol's models are listed; others follow by name.
        only: symbols, the only ones to look at; None means all.
        before: an earlier version; symbols that are still the same are taken over from it.
        explaining: raises failures of the file as `StoreError`.

    Raises:
        StoreError: if the database cannot be read, or contradicts itself in every symbol.
    """
    prints = fingerprints(con, symbols=None if only is None else sorted(only))
    symbols: dict[str, SymbolSummary] = {}
    outdated: dict[str, str] = {}
    damaged: dict[str, str] = {}
    changed = []
    every = [record for record, _ in serve.served_symbols(con) if only is None or record.symbol in only]
    for record in every:
        known = before.symbols.get(record.symbol) if before is not None else None
        if before is not None and known is not None and known.fingerprint == prints[record.symbol]:
            symbols[record.symbol] = known
            outdated |= {name: words for name, words in before.outdated.items() if name == record.symbol}
            damaged |= {name: words for name, words in before.damaged.items() if name == record.symbol}
        else:
            changed.append(record)
    facts = _facts(con, [record.symbol for record in changed], explaining, damaged)
    for record in changed:
        name = record.symbol
        if name not in facts:
            continue
        try:
            kept, left_out = _models(con, record, facts[name], models)
        except StoreError as error:
            damaged[name] = _about(name, error)
            continue
        if left_out:
            outdated[name] = _words_for_earlier_version(con, name, left_out, facts[name].chains)
        if kept:
            symbols[name] = SymbolSummary(
                name,
                prints[name],
                next(iter(kept.values())).newest_parameters.bucket,
                record.simulated,
                record.source,
                record.candle_interval_seconds,
                kept,
                facts[name].not_whole,
                record.unit,
                facts[name].ended,
                record.base or contract_of(name).base,
            )
    if damaged and not symbols:
        raise StoreError(next(iter(damaged.values())))
    digest = hashlib.blake2b(repr(sorted(prints.items())).encode(), digest_size=8).hexdigest()
    symbols = {record.symbol: symbols[record.symbol] for record in every if record.symbol in symbols}
    loaded = before.loaded if before is not None else loaded_symbols(LOADED_BYTES)
    return Version(digest, symbols, outdated, con, loaded, damaged, explaining)


_Fact = TypeVar("_Fact")


@dataclass(frozen=True)
class _Facts:
    """What the database says of a symbol, by model."""

    chains: Mapping[str, stored.ChainOfDays]
    books: Mapping[str, stored.NewestBook]
    cells: Mapping[str, tuple[date, int]]
    not_whole: Mapping[date, str]
    ended: Ended | None


def _facts(
    con: Connection,
    names: Sequence[str],
    explaining: Callable[[], AbstractContextManager[None]],
    damaged: dict[str, str],
) -> dict[str, _Facts]:
    """Return what the database says of symbols, all asked for at once; of which it cannot be read goes to `damaged`.

    Where that fails, half of them are asked for, then the other half: what is damaged is of few.
    """
    if not names:
        return {}
    try:
        with explaining():
            chains = stored.chains_of_days(con, names)
            books = stored.newest_books_of(con, chains)
            cells, words, ends = stored.cells_of(con, names), days_to_mention(con, names), ended_symbols(con)
    except StoreError as error:
        if len(names) == 1:
            damaged[names[0]] = _about(names[0], error)
            return {}
        half = len(names) // 2
        return _facts(con, names[:half], explaining, damaged) | _facts(con, names[half:], explaining, damaged)
    return {
        name: _Facts(
            _of_symbol(chains, name),
            _of_symbol(books, name),
            _of_symbol(cells, name),
            words.get(name, {}),
            ends.get(name),
        )
        for name in names
    }


def _of_symbol(facts: Mapping[stored.Pair, _Fact], name: str) -> dict[str, _Fact]:
    return {model: value for (symbol, model), value in facts.items() if symbol == name}


def _models(
    con: Connection, record: SymbolRecord, facts: _Facts, order: Sequence[str]
) -> tuple[dict[str, ModelSummary], list[str]]:
    """Return the models of a symbol, and the names of those that an earlier version computed by rules that are gone.

    A model that has gone through no candle yet is neither.

    Raises:
        StoreError: if the candle of a newest state is not there.
    """
    kept: dict[str, ModelSummary] = {}
    left_out = []
    for name in sorted(facts.chains, key=lambda name: (order.index(name) if name in order else len(order), name)):
        chain, book = facts.chains[name], facts.books.get(name)
        try:
            by_text = {text: ModelParameters.from_json(text) for text in chain.parameters} if book is not None else {}
        except ModelError:
            left_out.append(name)
            continue
        if book is None:
            continue
        if book.close is None:
            raise StoreError(_words_for_missing_candles(con, record.symbol, name))
        cells = facts.cells.get(name)
        kept[name] = ModelSummary(
            name=name,
            first_day=chain.first,
            last_day=chain.last,
            newest_complete=chain.complete,
            newest_parameters=by_text[chain.newest_parameters],
            provisional=frozenset(chain.provisional),
            missing=chain.missing,
            broken=chain.broken,
            begin=book.first,
            end=book.last + record.candle_interval_seconds * MICROSECONDS,
            price=book.close,
            located_share=book.located_share,
            snapshot_seconds=cells[1] if cells is not None else None,
            cells_from=cells[0] if cells is not None else None,
        )
    return kept, left_out


def _words_for_earlier_version(
    con: Connection, symbol: str, models: Sequence[str], chains: Mapping[str, stored.ChainOfDays]
) -> str:
    first, last = min(chains[model].first for model in models), max(chains[model].last for model in models)
    line = stored_command(con, "run", symbol, days=(first, last))
    return (
        f"{symbol} {listed(models)}: computed by an earlier version of this program, whose rules are gone; rebuild "
        f"with `{line}`"
    )


def _words_for_missing_candles(con: Connection, symbol: str, model: str) -> str:
    return (
        f"{symbol} {model}: the published ledger names candles that are not published; "
        f"run `{stored_command(con, 'refresh', symbol)}` to publish again"
    )


def load_symbol(con: Connection, symbol: SymbolSummary) -> SymbolData:
    """Read the candles of a symbol and all that its days are replayed from.

    Args:
        con: the database that the summary is of.
        symbol: what is known of it.

    Raises:
        StoreError: if the database contradicts itself.
    """
    times, columns = serve.candle_columns(con, symbol.name)
    candles = Candles(symbol.candle_seconds, times, **columns)
    days = serve.served_days(con, symbol.name)
    models = {name: _model(con, symbol.name, model, days[name], candles) for name, model in symbol.models.items()}
    return SymbolData(**{**vars(symbol), "models": models}, candles=candles)


def _model(
    con: Connection, symbol: str, model: ModelSummary, every: Mapping[date, serve.ServedDay], candles: Candles
) -> ModelData:
    times, level = serve.model_candles(con, symbol, model.name)
    rows = np.searchsorted(candles.open_time, times)
    if rows[-1] >= len(candles.open_time) or not np.array_equal(candles.open_time[rows], times):
        raise StoreError(_words_for_missing_candles(con, symbol, model.name))
    days = tuple(every)
    starts = np.array([day_start(day) for day in days], dtype=np.int64)
    low, high = np.searchsorted(times, starts), np.searchsorted(times, starts + DAY)
    by_text = {text: ModelParameters.from_json(text) for text in {day.parameters for day in every.values()}}
    return ModelData(
        **vars(model),
        days=days,
        parameters={day: by_text[served.parameters] for day, served in every.items()},
        fresh=serve.first_samples(con, symbol, [day for day, served in every.items() if served.is_first]),
        times=times,
        rows=rows.astype(np.int64),
        open_interest=level,
        factor=_factors(every, times),
        bounds={day: (int(a), int(b)) for day, a, b in zip(days, low, high, strict=True)},
    )


def _factors(days: Mapping[date, serve.ServedDay], times: Ints) -> Floats:
    """Return the factor of each model candle, of which the days name those that are not 1."""
    factor = np.ones(len(times))
    for day in days.values():
        for time, value in day.factors:
            factor[np.searchsorted(times, time)] = value
    return factor
