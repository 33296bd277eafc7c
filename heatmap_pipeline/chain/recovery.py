"""After the loss of a database file: which days have to come back, and the command that brings them back.

A private database can always be computed again from the archive files; what is published says which days those are.
No Dagster in this file.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from heatmap_pipeline.chain.commands import rebuild_commands, run_command
from heatmap_pipeline.commands import command
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store.origin import as_stored
from heatmap_pipeline.store.read import PublishedHistory, published_histories
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError, UnusableError, Warehouse, free_name
from heatmap_pipeline.symbols import of_safe_name

_Answer = TypeVar("_Answer")

DAMAGED = "damaged"
"""Folder of the home that a damaged file is moved to by the command that rebuilds it; a second one gets a number."""


class RecoveryError(HeatmapError):
    """Publication would take away what is published; the message names the days and the command that keeps them."""


def lost_days(con: Any, published: PublishedHistory | None, symbol: str, models: Iterable[str]) -> list[date]:
    """Return the published days that are not stored any more, in order: a lost warehouse, or an old one put back."""
    lost: set[date] = set()
    for model in models:
        of_model = published.days.get(model, {}) if published is not None else {}
        lost |= set(of_model) - set(stored.day_records(con, symbol, model))
    return sorted(lost)


def loss(con: Any, settings: Settings, symbol: str) -> str | None:
    """Say which published days of a symbol, of any model, are not stored any more, and how they come back."""
    published = (published_histories(Warehouse(settings.home), [symbol]) or {}).get(symbol)
    if published is None or not (lost := lost_days(con, published, symbol, published.days)):
        return None
    days = [*lost, *(day for model in settings.models for day in stored.day_records(con, symbol, model))]
    models = tuple(dict.fromkeys((*settings.models, *published.days)))
    again = as_stored(settings, symbol, published.record.source).model_copy(update={"models": models})
    line = run_command(again, symbol, lost[0], max(days))
    return (
        f"{symbol} {lost[0]} .. {lost[-1]}: published and not stored any more (was its private file deleted or "
        f"replaced?); compute them again with `{line}`, or remove all of the symbol with "
        f"`{command(settings, 'forget', symbol)}`; to give up these days only, move heatmap.duckdb away, and "
        f"`{command(settings, 'status')}` names what publishes the rest"
    )


def refuse_loss(con: Any, settings: Settings, symbol: str) -> None:
    """Let nothing be published that would take published days away.

    Raises:
        RecoveryError: naming those days and the command that computes them again.
    """
    if text := loss(con, settings, symbol):
        raise RecoveryError(text)


class DamagedError(StoreError):
    """A private database that has to be computed again; the message names its file and the command that does so."""


@contextmanager
def naming_the_rebuild(settings: Settings) -> Iterator[None]:
    """Say of a private database that cannot be used which one line moves it away and computes its symbol again.

    Raises:
        DamagedError: in place of `UnusableError`; with that line where what is published says which days there were.
    """
    try:
        yield
    except UnusableError as error:
        commands = _commands_for(settings, error.path)
        if not commands:
            raise DamagedError(str(error)) from None
        folder = shlex.quote(str(free_name(settings.home / DAMAGED)))
        away = f"mkdir -p {folder} && mv {shlex.quote(str(error.path))}* {folder}"
        raise DamagedError(
            f"{error.reason}; move it away and compute it again from the archive files with "
            f"`{' && '.join([away, *commands])}`; until then heatmap.duckdb serves what was published"
        ) from None


def ask_each(
    settings: Settings, ask: Callable[[Connection, str], _Answer], symbols: Iterable[str] | None = None
) -> dict[str, _Answer]:
    """Ask the private databases of a home, one after the other; of one that is damaged the run of its symbol says so.

    Args:
        settings: of the home.
        ask: given an open private database and its symbol, the answer.
        symbols: whose databases are asked, where they have one; None: all that are stored.

    Returns:
        The answers by symbol, without those of damaged files.

    Raises:
        StoreError: as `Warehouse.connect` does, but for a damaged file.
    """
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    with naming_the_rebuild(settings):
        stored_symbols = warehouse.symbols()
    answers: dict[str, _Answer] = {}
    for symbol in stored_symbols if symbols is None else [name for name in symbols if name in stored_symbols]:
        with suppress(UnusableError), warehouse.connect(symbol) as con:
            answers[symbol] = ask(con, symbol)
    return answers


def _commands_for(settings: Settings, path: Path) -> list[str]:
    """Return the commands that compute what a private database held; none for any other file."""
    warehouse = Warehouse(settings.home)
    if path == warehouse.former:  # of all symbols
        return rebuild_commands(settings)
    symbol = of_safe_name(path.stem) if path.parent == warehouse.folder else ""
    return rebuild_commands(settings, [symbol]) if symbol else []
