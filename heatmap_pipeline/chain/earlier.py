"""Days that an earlier version of this program computed, by rules that are gone: which, and what rebuilds them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Any, TypeAlias

from heatmap_pipeline.chain.commands import grouped_runs
from heatmap_pipeline.errors import listed
from heatmap_pipeline.model.parameters import ModelError, ModelParameters
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.days import computed_days
from heatmap_pipeline.store.raw import get_symbol


@lru_cache(maxsize=1024)
def is_of_earlier_version(parameters: str) -> bool:
    """Return whether a day's recorded parameters are of rules that are gone."""
    try:
        ModelParameters.from_json(parameters)
    except ModelError:
        return True
    return False


ComputedEarlier: TypeAlias = tuple[str, tuple[str, ...], date, date]
"""Source, models, first and last day of a symbol that an earlier version computed days of."""


def computed_earlier(con: Any) -> dict[str, ComputedEarlier]:
    """Return what an earlier version computed days of, by symbol of an open database."""
    histories: dict[str, ComputedEarlier] = {}
    for symbol, of_model in computed_days(con).items():
        if any(is_of_earlier_version(text) for days in of_model.values() for text in set(days.values())):
            record = get_symbol(con, symbol)
            every = [day for days in of_model.values() for day in days]
            models = tuple(sorted(of_model, reverse=True))
            histories[symbol] = (record.source if record else "", models, min(every), max(every))
    return histories


def words_for_earlier_version(settings: Settings, histories: Mapping[str, ComputedEarlier]) -> dict[str, str]:
    """Return what to tell of each symbol of `computed_earlier`.

    Symbols with the same days, models and source share one sentence, and so one command.
    """
    return {
        symbol: f"{listed(symbols)}: computed by an earlier version of this program, whose rules are gone; "
        f"rebuild with `{line}`"
        for symbols, line in grouped_runs(settings, histories)
        for symbol in symbols
    }
