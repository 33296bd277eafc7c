"""What is said of every symbol of a database, asked of all at once; what is damaged is left out, and said.

What belongs here: from what the database says to `SymbolSummary`. What does not: the questions (`store/summary.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias, TypeVar

from heatmap_pipeline.errors import listed
from heatmap_pipeline.instants import MICROSECONDS
from heatmap_pipeline.model.parameters import ModelError, ModelParameters
from heatmap_pipeline.store import summary as stored
from heatmap_pipeline.store.ended import Ended, ended_symbols
from heatmap_pipeline.store.odd import days_to_mention
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.raw import SymbolRecord
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError
from heatmap_pipeline.symbols import contract_of
from heatmap_pipeline.views.symbol import ModelSummary, SymbolSummary, words_for_missing_candles

Explaining: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Raises failures of a file as `StoreError`."""

_Fact = TypeVar("_Fact")


@dataclass
class Summaries:
    """What is said of symbols, by name.

    Attributes:
        symbols: those that are served.
        outdated: words about each symbol of which models are left out: an earlier version computed them.
        damaged: words about each symbol whose rows cannot be read, or contradict themselves.
    """

    symbols: dict[str, SymbolSummary] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


def about(symbol: str, error: Exception) -> str:
    """Return the words of an error, with the symbol that it is about."""
    return str(error) if symbol in str(error) else f"{symbol}: {error}"


def summarise(
    con: Connection,
    records: Sequence[SymbolRecord],
    prints: Mapping[str, str],
    models: Sequence[str],
    explaining: Explaining,
) -> Summaries:
    """Return what is said of symbols.

    Args:
        con: the database.
        records: the symbols.
        prints: the fingerprint of each.
        models: names in the order in which a symbol's models are listed; others follow by name.
        explaining: raises failures of the file as `StoreError`.
    """
    said = Summaries()
    facts = _facts(con, [record.symbol for record in records], explaining, said.damaged)
    for record in records:
        name = record.symbol
        if name not in facts:
            continue
        try:
            kept, left_out = _models(con, record, facts[name], models)
        except StoreError as error:
            said.damaged[name] = about(name, error)
            continue
        if left_out:
            said.outdated[name] = _words_for_earlier_version(con, name, left_out, facts[name].chains)
        if kept:
            said.symbols[name] = SymbolSummary(
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
    return said


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
    explaining: Explaining,
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
            damaged[names[0]] = about(names[0], error)
            return {}
        half = len(names) // 2
        return _facts(con, names[:half], explaining, damaged) | _facts(con, names[half:], explaining, damaged)
    of_chains, of_books, of_cells = _by_symbol(chains), _by_symbol(books), _by_symbol(cells)
    return {
        name: _Facts(
            of_chains.get(name, {}),
            of_books.get(name, {}),
            of_cells.get(name, {}),
            words.get(name, {}),
            ends.get(name),
        )
        for name in names
    }


def _by_symbol(facts: Mapping[stored.Pair, _Fact]) -> dict[str, dict[str, _Fact]]:
    facts_of: dict[str, dict[str, _Fact]] = {}
    for (symbol, model), fact in facts.items():
        facts_of.setdefault(symbol, {})[model] = fact
    return facts_of


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
            raise StoreError(words_for_missing_candles(con, record.symbol, name))
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
