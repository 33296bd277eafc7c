"""What a database holds: of every symbol what is said of it, of those asked for all there is, as arrays in memory.

What belongs here: one database, what is asked of it, and until when it stays open. What does not: when a published file
is read (`api/publications.py`), what a symbol is (`symbol.py`), what stays in memory (`loaded.py`), and what is
computed from it (`replay.py`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

from heatmap_pipeline.model.book import ModelState
from heatmap_pipeline.store import columns as serve
from heatmap_pipeline.store import summary as stored
from heatmap_pipeline.store.alerts import StoredAlert, last_alerts
from heatmap_pipeline.store.days import load_state
from heatmap_pipeline.store.publish import fingerprints
from heatmap_pipeline.store.scores import Agreement, agreements
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError, Warehouse, schema_version
from heatmap_pipeline.views.loaded import Loaded
from heatmap_pipeline.views.score import score_record
from heatmap_pipeline.views.summaries import Explaining, about, summarise
from heatmap_pipeline.views.symbol import ModelData, ModelSummary, SymbolData, SymbolSummary, load_symbol

__all__ = [
    "ModelData",
    "ModelSummary",
    "NotAtHandError",
    "SymbolData",
    "SymbolSummary",
    "Version",
    "load_version",
    "loaded_symbols",
    "published_version",
    "without_reading",
]

LOADED_BYTES = 512 << 20
"""Bytes of symbols that are kept in memory where nobody says how many."""


_held: ContextVar[Mapping[str, SymbolData] | None] = ContextVar("held", default=None)
"""Symbols that who asks holds already, where it must not wait for others; None where it may."""


class NotAtHandError(Exception):
    """Symbols that would have to be read, for who must not wait for that; no failure: it asks for them elsewhere."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


@contextmanager
def without_reading(at_hand: Mapping[str, SymbolData]) -> Iterator[None]:
    """Have a version raise `NotAtHandError` inside, instead of reading what is neither in memory nor at hand."""
    token = _held.set(at_hand)
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
    _explaining: Explaining = _nothing_to_explain
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
        at_hand = _held.get()
        if at_hand is None:
            return [self._data(self.symbols[name]) for name in names]
        data_of = {name: at_hand.get(name) or self._at_hand(self.symbols[name]) for name in names}
        if missing := [name for name, data in data_of.items() if data is None]:
            raise NotAtHandError(missing)
        return [data for data in data_of.values() if data is not None]

    def _at_hand(self, symbol: SymbolSummary) -> SymbolData | None:
        return symbol if isinstance(symbol, SymbolData) else self.loaded.get((symbol.name, symbol.fingerprint))

    def _data(self, symbol: SymbolSummary) -> SymbolData:
        if isinstance(symbol, SymbolData):
            return symbol
        try:
            return self.loaded.get_or_read((symbol.name, symbol.fingerprint), partial(self._read, symbol))
        except StoreError as error:
            self.damaged[symbol.name] = about(symbol.name, error)
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
    explaining: Explaining = _nothing_to_explain,
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
    records = [record for record, _ in serve.served_symbols(con) if only is None or record.symbol in only]
    known = {} if before is None else before.symbols
    same = {name: symbol for name, symbol in known.items() if symbol.fingerprint == prints.get(name)}
    said = summarise(con, [record for record in records if record.symbol not in same], prints, models, explaining)
    if before is not None:
        said.symbols |= same
        said.outdated |= {name: words for name, words in before.outdated.items() if name in same}
        said.damaged |= {name: words for name, words in before.damaged.items() if name in same}
    if said.damaged and not said.symbols:
        raise StoreError(next(iter(said.damaged.values())))
    digest = hashlib.blake2b(repr(sorted(prints.items())).encode(), digest_size=8).hexdigest()
    symbols = {record.symbol: said.symbols[record.symbol] for record in records if record.symbol in said.symbols}
    loaded = before.loaded if before is not None else loaded_symbols(LOADED_BYTES)
    outdated, damaged = (dict(sorted(words.items())) for words in (said.outdated, said.damaged))
    return Version(digest, symbols, outdated, con, loaded, damaged, explaining)
