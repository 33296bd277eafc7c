"""Where a symbol's history came from: its source, the archive folder of earlier runs, and lines that go on from there.

The folders stand in `archives.json` of the home, not in a database: they are of this machine, so they never belong in
heatmap.duckdb, which is a copy of the other file, and they are needed most when that other file is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from heatmap_pipeline.commands import WHERE_NOBODY_SAID, at, command, environment
from heatmap_pipeline.locks import notes_lock
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.source_kinds import SOURCES
from heatmap_pipeline.store.raw import get_symbol
from heatmap_pipeline.store.sql import Connection, scalar
from heatmap_pipeline.store.warehouse import home_of

_NAME = "archives.json"


def archive_folders(home: Path) -> dict[str, Path]:
    """Return the folder each symbol was last read from, as far as that was one the user named.

    A file that cannot be read says nothing: the user then has to.
    """
    try:
        folders = json.loads((home / _NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(folders, dict):
        return {}
    return {symbol: Path(folder) for symbol, folder in folders.items() if isinstance(folder, str)}


def remember_archive(settings: Settings, symbol: str) -> None:
    """Remember the folder that a symbol was read from.

    Raises:
        OSError: if the home cannot be written.
    """
    if not settings.kind.given_folder:
        return
    if archive_folders(settings.home).get(symbol) == settings.archive_root:
        return
    _put(settings.home, {symbol: settings.archive_root})


def take_archives(source: Path, home: Path, symbols: Iterable[str]) -> None:
    """Remember in a home the folders that another home knows of symbols; those of others stay.

    Raises:
        OSError: if the home cannot be written.
    """
    folders = archive_folders(source)
    known = {symbol: folders[symbol] for symbol in symbols if symbol in folders}
    if not known.items() <= archive_folders(home).items():
        _put(home, known)


def _put(home: Path, folders: Mapping[str, Path]) -> None:
    with notes_lock(home):
        _write(home, {**archive_folders(home), **folders})


def _write(home: Path, folders: dict[str, Path]) -> None:
    path = home / _NAME
    new = path.with_name(f".{_NAME}.{os.getpid()}")
    try:
        new.write_text(json.dumps({name: str(folders[name]) for name in sorted(folders)}, indent=1) + "\n")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def forget_archive(home: Path, symbol: str) -> None:
    """Forget the folder that a symbol was read from.

    Raises:
        OSError: if the home cannot be written.
    """
    if symbol in archive_folders(home):
        with notes_lock(home):
            folders = archive_folders(home)
            folders.pop(symbol, None)
            _write(home, folders)


def as_stored(settings: Settings, symbol: str, source: str) -> Settings:
    """Return the settings with the source and the archive folder of a symbol's history, for commands that continue it.

    A source that means the recorded one for this symbol stays: `exchange` reads it of a market of Binance too. A folder
    that was named in this very command wins, then the one of the symbol's last run if it still is there, then the
    environment's; where nobody has said any, DIR stands for it.

    Args:
        settings: of the command that tells.
        symbol: as the exchange writes it.
        source: what is recorded of the symbol; '' or an unknown one changes nothing.
    """
    if source not in SOURCES or settings.source_of(symbol) == source != settings.source:
        return settings
    if not SOURCES[source].given_folder:
        return settings.model_copy(update={"source": source})
    if settings.source == source and settings.archive not in (None, environment().archive):
        return settings
    folder = archive_folders(settings.home).get(symbol)
    if folder is None or (settings.archive is not None and not folder.is_dir()):
        folder = settings.archive or WHERE_NOBODY_SAID
    return settings.model_copy(update={"source": source, "archive": folder})


def stored_command(
    con: Connection, verb: str, symbol: str, *, days: tuple[date | str, date | str] | None = None
) -> str:
    """Return the line that goes on with a symbol of an open database, private or published, as it is stored there."""
    path = scalar(con, "SELECT path FROM duckdb_databases() WHERE database_name = current_database()")
    settings = at(home_of(Path(path))) if path else environment()
    record = get_symbol(con, symbol)
    return command(as_stored(settings, symbol, record.source if record else ""), verb, symbol, days=days)
