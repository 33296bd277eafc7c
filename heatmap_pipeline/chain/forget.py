"""Forgetting a symbol: what of it is in a home, and removing it from the databases and the home's own archive files.

A folder that the user named (`--archive`, `--liquidations`) and what `heatmap record` wrote are never touched: nobody
could fetch that again. What is drawn and Dagster's history stand above this room (`orchestration/forget.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.chain.recovery import naming_the_rebuild
from heatmap_pipeline.market.archive_tree import folders_of
from heatmap_pipeline.market.same_files import pages_folder
from heatmap_pipeline.settings import Settings, check_written
from heatmap_pipeline.source_kinds import SOURCES
from heatmap_pipeline.store.forget import forget_symbol, holds_symbol
from heatmap_pipeline.store.raw import raw_days
from heatmap_pipeline.store.read import stored_days
from heatmap_pipeline.store.warehouse import StoreError, UnusableError, Warehouse


@dataclass(frozen=True)
class Kept:
    """What a home has of a symbol.

    Attributes:
        days: first and last stored day as text, '' where none is stored.
        private: whether it has a private database.
        published: whether heatmap.duckdb has.
        folders: what is below the home's archives and renders.
        others: the other symbols that have one.
    """

    days: str
    private: bool
    published: bool
    folders: tuple[Path, ...]
    others: tuple[str, ...]

    @property
    def anything(self) -> bool:
        """Whether there is anything to remove."""
        return self.private or self.published or bool(self.folders)


def kept_of(settings: Settings, symbol: str) -> Kept:
    """Return what a home has of a symbol; nothing is made where there is nothing.

    Raises:
        SettingsError: for a name that no symbol has; one that is not computed any more may be forgotten.
        StoreError: if a database cannot be read.
    """
    check_written(symbol)
    warehouse = _warehouse(settings)
    days, published = "", False
    with naming_the_rebuild(settings):
        others = tuple(name for name in warehouse.symbols() if name != symbol)
    if private := warehouse.holds(symbol):
        with suppress(UnusableError), warehouse.look(symbol) as con:  # a damaged one can be forgotten, too
            if any(raw_days(con, symbol).values()):
                days = " .. ".join(map(str, stored_days(con, symbol)))
    if warehouse.published.exists():
        with warehouse.read(any_version=True) as con:
            published = holds_symbol(con, symbol)
    return Kept(days, private, published, tuple(_folders(settings, symbol)), others)


def forget_data(settings: Settings, symbol: str) -> None:
    """Remove a symbol from the warehouse, from what is published, and from the archives below the home.

    Every step may be done again, so that one that is killed in between can be.

    Raises:
        StoreError: if a database cannot be used, or a file not be removed.
    """
    warehouse = _warehouse(settings)
    if warehouse.symbols() or warehouse.published.exists():
        with naming_the_rebuild(settings):
            told = partial(tell, warehouse.published.name)
            forget_symbol(warehouse, symbol, tables_up_to=settings.most_of_tables, tell=told)
    for folder in _archives(settings, symbol):
        try:
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{error.filename or folder} cannot be removed ({error.strerror}); mend its permissions and run again"
            ) from None


def _warehouse(settings: Settings) -> Warehouse:
    return Warehouse(settings.home, lock_timeout=settings.lock_timeout)


def _archives(settings: Settings, symbol: str) -> Iterator[Path]:
    """Yield what the sources that keep their files below the home have of a symbol."""
    for source in SOURCES.values():
        if not source.given_folder:
            yield from folders_of(settings.home / "archive" / source.name, symbol)
    pages = pages_folder(settings.home, symbol)
    if pages.is_dir():
        yield pages


def _folders(settings: Settings, symbol: str) -> Iterator[Path]:
    renders = settings.home / "renders" / symbol
    if renders.is_dir():
        yield renders
    yield from _archives(settings, symbol)
