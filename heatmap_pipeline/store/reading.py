"""By which reader the stored days of a symbol were read: a note in the home, tied to the rows that it is about.

The note stands in `reading.json`, not in a database: it is about files of this machine and the program on it. A copy of
the warehouse that it does not fit is simply read again, for each entry names the rows that it holds for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from heatmap_pipeline.files import replace_file
from heatmap_pipeline.locks import notes_lock
from heatmap_pipeline.store.sql import Connection, rows

_NAME = "reading.json"


@dataclass(frozen=True)
class Reading:
    """That all stored days of one kind from a day on were read in one way.

    Attributes:
        since: the first of these days, UTC, as ISO text.
        reader: digest of the program and of the settings that reading depends on.
        rows: what `rows_digest` said of these days.
    """

    since: str
    reader: str
    rows: str


def load_reading(home: Path, symbol: str, kind: str) -> Reading | None:
    """Return what is noted of a kind of data of a symbol; None where nothing is, or it cannot be read."""
    with suppress(KeyError, TypeError):
        return Reading(**_load(home)[symbol][kind])
    return None


def save_reading(home: Path, symbol: str, kind: str, reading: Reading | None) -> None:
    """Note how a kind of data of a symbol was read, or with None that nobody knows.

    Raises:
        OSError: if the home cannot be written.
    """
    with notes_lock(home):
        notes = _load(home)
        of_symbol = notes.setdefault(symbol, {})
        of_symbol.pop(kind, None)
        if reading is not None:
            of_symbol[kind] = asdict(reading)
        _save(home, notes)


def readings_of(home: Path, symbol: str) -> dict[str, dict[str, str]]:
    """Return all that is noted of a symbol, by kind of data: to be taken to another home (`put_readings`)."""
    return _load(home).get(symbol, {})


def put_readings(home: Path, symbol: str, notes: Mapping[str, Mapping[str, str]]) -> None:
    """Note of a symbol what `readings_of` said in another home.

    Raises:
        OSError: if the home cannot be written.
    """
    with notes_lock(home):
        _save(home, {**_load(home), symbol: {kind: dict(note) for kind, note in notes.items()}})


def forget_readings(home: Path, symbol: str) -> None:
    """Forget all that is noted of a symbol.

    Raises:
        OSError: if the home cannot be written.
    """
    if symbol in _load(home):
        with notes_lock(home):
            notes = _load(home)
            notes.pop(symbol, None)
            _save(home, notes)


def rows_digest(con: Connection, symbol: str, kind: str, since: date) -> str:
    """Return what is known of the stored days of a kind from a day on, as a text that differs when any of it does."""
    query = "SELECT count(*), sum(hash(r)::HUGEINT) FROM raw_days AS r WHERE symbol = ? AND kind = ? AND day >= ?"
    ((count, total),) = rows(con, query, [symbol, kind, since])
    return f"{count} {int(total or 0)}"


def _load(home: Path) -> dict[str, dict[str, dict[str, str]]]:
    try:
        notes = json.loads((home / _NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) and all(isinstance(each, dict) for each in notes.values()) else {}


def _save(home: Path, notes: dict[str, dict[str, dict[str, str]]]) -> None:
    kept = {symbol: notes[symbol] for symbol in sorted(notes) if notes[symbol]}
    replace_file(home / _NAME, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())
