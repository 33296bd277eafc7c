"""How stored days were read: by which program, with which settings, and so whether reading them again may give others.

What a reader is changes with every file of this program and every version of what it computes with: nobody has to
remember to say that a rule of reading has changed.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Collection
from datetime import date
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import heatmap_pipeline
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.raw import raw_days
from heatmap_pipeline.store.reading import Reading, load_reading, rows_digest, save_reading

_COMPUTES_WITH = ("numpy", "pandas", "pyarrow", "duckdb", "numba", "matplotlib", "jinja2")
"""Packages whose version may change what is read, computed or drawn."""


@cache
def program() -> str:
    """Return a digest of this program: every file of it, and the versions of Python and of what it computes with."""
    digest = hashlib.blake2b(sys.version.encode(), digest_size=16)
    for name in _COMPUTES_WITH:
        try:
            known = version(name)
        except PackageNotFoundError:
            known = ""
        digest.update(f"{name}={known}\n".encode())
    package = Path(heatmap_pipeline.__file__).parent
    for path in sorted(path for path in package.rglob("*") if path.is_file() and path.parent.name != "__pycache__"):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(hashlib.blake2b(path.read_bytes(), digest_size=16).digest())
    return digest.hexdigest()


def reader(settings: Settings, symbol: str, *more: str) -> str:
    """Return a digest of all that decides, besides the files, what their rows become.

    Args:
        settings: of the run.
        symbol: as the exchange writes it; names of accepted files of other symbols do not count.
        more: what else it depends on.
    """
    of_symbol = sorted(name for name in settings.accept_implausible if name.startswith(f"{symbol}-"))
    seed = settings.demo_seed if settings.kind.simulated else None
    known = repr((program(), settings.source, of_symbol, seed, more))
    return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()


def read_since(con: Any, settings: Settings, symbol: str, kind: str, *more: str) -> date | None:
    """Return from which day on all stored days of a kind were read by the present reader; None where nobody knows."""
    known = load_reading(settings.home, symbol, kind)
    if known is None or known.reader != reader(settings, symbol, *more):
        return None
    since = date.fromisoformat(known.since)
    return since if rows_digest(con, symbol, kind, since) == known.rows else None


def remember_reading(
    con: Any,
    settings: Settings,
    symbol: str,
    kind: str,
    read: Collection[date],
    before: date | None,
    *more: str,
) -> None:
    """Note that days were read just now.

    Args:
        con: the warehouse, with these days in it.
        settings: of the run.
        symbol: as the exchange writes it.
        kind: candles, open_interest or liquidations.
        read: the days.
        before: what `read_since` said before the first of them was stored.
        more: as of `reader`.

    Raises:
        OSError: if the home cannot be written.
    """
    kinds = raw_days(con, symbol)
    stored = set(kinds["open_interest" if kind == "open_interest" else "candles"])
    others = {day for day in stored.difference(read) if before is None or day < before}
    since = max(others) + ONE_DAY if others else min(stored | set(read), default=None)
    if since is None or (stored and since > max(stored)):
        save_reading(settings.home, symbol, kind, None)
        return
    known = Reading(since.isoformat(), reader(settings, symbol, *more), rows_digest(con, symbol, kind, since))
    save_reading(settings.home, symbol, kind, known)
