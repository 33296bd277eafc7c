"""What to type: the commands that bring a symbol to now or compute again what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from heatmap_pipeline.commands import command
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.origin import as_stored
from heatmap_pipeline.store.read import published_histories
from heatmap_pipeline.store.warehouse import Warehouse


def run_command(settings: Settings, symbol: str, first: date, last: date) -> str:
    """Return the command that computes days of a symbol, both included."""
    return command(settings, "run", symbol, days=(first, last))


def grouped_runs(
    settings: Settings, histories: Mapping[str, tuple[str, tuple[str, ...], date, date]]
) -> list[tuple[list[str], str]]:
    """Return the commands that compute histories again, each with its symbols; those with the same days share one.

    Args:
        settings: of the command that tells.
        histories: source, models, first and last day by symbol.
    """
    groups: dict[tuple[Any, ...], tuple[Settings, list[str]]] = {}
    for symbol, (source, models, first, last) in histories.items():
        again = as_stored(settings, symbol, source).model_copy(update={"models": models})
        key = again.source, again.archive, models, first, last
        groups.setdefault(key, (again, []))[1].append(symbol)
    return [(symbols, command(again, "run", *symbols, days=key[-2:])) for key, (again, symbols) in groups.items()]


def rebuild_commands(settings: Settings, symbols: Sequence[str] | None = None) -> list[str]:
    """Return the commands that compute what is published of symbols again, None: of all.

    Symbols with the same days share one.
    """
    histories = {}
    for symbol, history in (published_histories(Warehouse(settings.home), symbols, any_version=True) or {}).items():
        days = [day for of_model in history.days.values() for day in of_model]
        if days:
            models = tuple(sorted(history.days, reverse=True))
            histories[symbol] = (history.record.source, models, min(days), max(days))
    return [line for _, line in grouped_runs(settings, histories)]
