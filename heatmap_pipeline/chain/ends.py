"""Symbols that end: from when on one counts as retired, what is said of it, and when it goes on.

A symbol with stored days is retired when its source says that there will be no more (`Market.ended`): the exchange has
a final status for it, does not list it any more or calls it invalid, or the files of other symbols go on without it.
What can still be had is computed; the end is recorded and said once, and nothing after it is due, missing or old. A
symbol goes on by itself as soon as the source has it again, or a `heatmap run` has stored a later day.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from heatmap_pipeline.chain.recovery import ask_each
from heatmap_pipeline.commands import command
from heatmap_pipeline.market.tables import Ending
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.ended import Ended, ended_symbols, record_end
from heatmap_pipeline.store.origin import as_stored
from heatmap_pipeline.store.warehouse import StoreError, Warehouse


def retired(settings: Settings) -> dict[str, Ended]:
    """Return the end of every symbol of the settings that has ended; where its file cannot be used none is known."""
    ends: dict[str, Ended] = {}
    for of_symbol in ask_each(settings, lambda con, _: ended_symbols(con), settings.symbols).values():
        ends |= of_symbol
    return ends


def published_ends(settings: Settings) -> dict[str, Ended] | None:
    """Return the ends that readers know; None where nothing is published, or it cannot be read now."""
    warehouse = Warehouse(settings.home)
    if not warehouse.published.exists():
        return None
    with suppress(StoreError), warehouse.read(any_version=True) as con:
        return ended_symbols(con)
    return None


def retire(settings: Settings, symbol: str, ending: Ending | None) -> Ended | None:
    """Record how a symbol ended, or with None that it goes on; return what was recorded.

    The last day is the one that can still be had, or the last one that is stored, if that is later.
    """
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    with warehouse.connect(symbol) as con:
        ended = None
        if ending is not None:
            last = max([ending.last, *stored_raw.raw_days(con, symbol)["candles"]])
            ended = Ended(last, ending.reason + _new_history(con, settings, symbol, ending))
        record_end(con, symbol, ended)
    return ended


def words_for_end(settings: Settings, symbol: str, ended: Ended) -> str:
    """Return what is said once of a symbol that has ended."""
    return (
        f"{symbol}: ended on {ended.day} ({ended.reason}); it is retired, and asked for again when it is traded again; "
        f"`{command(settings, 'forget', symbol)}` removes what is stored of it"
    )


def _new_history(con: Any, settings: Settings, symbol: str, ending: Ending) -> str:
    if ending.anew is None:
        return ""
    record = stored_raw.get_symbol(con, symbol)
    again = as_stored(settings, symbol, record.source if record else "")
    line = command(again, "run", symbol, days=(ending.anew, "DAY"), restart=True)
    return f": another contract, whose history begins with `{line}`"
