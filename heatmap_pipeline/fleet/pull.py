"""The catalogue: heatmap.duckdb of a folder, made of what is committed to the store; only what changed is fetched.

    DIR/parts/NAME/raw_candles/symbol=BTCUSDT/2024-01-<hash>.parquet    what is committed, a folder of links per time
    DIR/heatmap.duckdb                                                  made of it, replaced in one step

Each symbol is as one commit left it. The folder of the time before stays for who has the former file open.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from heatmap_pipeline.commands import command
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.fleet.collect import manifests
from heatmap_pipeline.fleet.worker import open_bucket, read_symbol
from heatmap_pipeline.locks import LockHeldError, file_lock
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.bucket import Bucket
from heatmap_pipeline.store.catalogue import build, can_be_shown, made_of
from heatmap_pipeline.store.generations import (
    PARTS_FOLDER,
    built_note,
    generations,
    mark_built,
    new_generation,
    newest_built,
    remove_all_but,
)
from heatmap_pipeline.store.manifest import Part
from heatmap_pipeline.store.warehouse import StoreError, Warehouse

TABLES_UP_TO = 1 << 30
"""Bytes of parts up to which all tables are real ones; beyond, the large ones are views over the parts."""


class PullError(HeatmapError):
    """A folder that cannot be brought up to date; says why and what to do. heatmap.duckdb is as it was."""


@dataclass(frozen=True)
class Pulled:
    """What there is now, and what was done for it.

    Attributes:
        database: that was made.
        symbols: in it.
        parts: it is made of.
        bytes: of these.
        fetched: parts that came from the store.
        removed: parts that are not used any more.
        replaced: whether the database is a new one.
    """

    database: Path
    symbols: int
    parts: int
    bytes: int
    fetched: int
    removed: int
    replaced: bool


def pull(settings: Settings, folder: Path, *, tables_up_to: int = TABLES_UP_TO) -> Pulled:
    """Make the published database of a folder of what is committed to the store.

    Args:
        settings: with HEATMAP_STORE.
        folder: made if need be.
        tables_up_to: bytes of parts beyond which large tables are views.

    Raises:
        PullError: if nothing is committed yet, or the folder cannot be read or written.
        StoreError: if the folder is a home with a warehouse, or the database cannot be written.
        BucketError: if the store cannot be read, or a part is missing or not what its manifest says (`PartError`).
        ManifestError: if a manifest cannot be used.
    """
    bucket = open_bucket(settings)
    warehouse = Warehouse(folder, lock_timeout=settings.lock_timeout)
    with _explaining(folder):
        stored_symbols = warehouse.symbols()
    if stored_symbols:
        raise StoreError(f"{folder} has a warehouse of its own, whose publication would be lost; choose another")
    symbols = sorted(manifests(bucket))
    if not symbols:
        line = command(settings, "run", "SYMBOL", days=("DAY", "DAY"))
        raise PullError(f"nothing is stored in {bucket.address} yet; begin with `{line}`")
    home = folder.resolve() / PARTS_FOLDER
    with _alone(folder, settings.lock_timeout), new_generation(home) as new:
        before = generations(home)
        parts = _fetched(bucket, symbols, new, before)
        large = sum(part.bytes for files in parts.values() for part in files) > tables_up_to
        views = large and can_be_shown(home)
        place = home / _name_of(parts)
        fetched, removed = _difference(parts, new, before)
        moved = {
            symbol: {part: place / file.relative_to(new) for part, file in files.items()}
            for symbol, files in parts.items()
        }
        whole = all(file.is_file() for files in moved.values() for file in files.values())
        unchanged = whole and built_note(place) == made_of(warehouse, place if views else None)
        if not unchanged:
            if not whole:
                shutil.rmtree(place, ignore_errors=True)  # somebody has removed some of it
            if not place.exists():
                new.rename(place)
            with warehouse.publishing():
                build(warehouse, moved, views_over=place if views else None)
            mark_built(place, made_of(warehouse, place if views else None))
        # The folder of the former database stays, which readers of it may still use.
        former = newest_built([path for path in before if path != place])
        remove_all_but(home, {place, former or place})
    every = [part for files in parts.values() for part in files]
    size = sum(part.bytes for part in every)
    return Pulled(warehouse.published, len(parts), len(every), size, fetched, removed, not unchanged)


def _fetched(bucket: Bucket, symbols: list[str], new: Path, before: list[Path]) -> dict[str, Mapping[Part, Path]]:
    parts: dict[str, Mapping[Part, Path]] = {}
    for symbol in symbols:
        seen, files = read_symbol(bucket, symbol, new, before)
        if seen is not None:  # else it was removed this moment
            parts[symbol] = files
    return parts


def _name_of(parts: Mapping[str, Mapping[Part, Path]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for symbol, files in parts.items():
        digest.update(repr((symbol, [(part.table, part.month, part.hash) for part in files])).encode())
    return digest.hexdigest()


def _difference(parts: Mapping[str, Mapping[Part, Path]], new: Path, before: list[Path]) -> tuple[int, int]:
    """Return how many files are none of the folder before, and how many of that are no longer used."""
    newest = max(before, key=lambda path: path.stat().st_mtime_ns, default=None)
    now = {file.relative_to(new) for files in parts.values() for file in files.values()}
    then = {path.relative_to(newest) for path in newest.rglob("*.parquet")} if newest else set()
    return len(now - then), len(then - now)


@contextmanager
def _alone(folder: Path, timeout: float) -> Iterator[None]:
    """Hold the folder while it is brought up to date, and say in words why it cannot be."""
    try:
        with _explaining(folder):
            (folder / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
            with file_lock(folder / "pull.lock", timeout=timeout, patience=0.0, waiting=lambda _: None):
                yield
    except LockHeldError as error:
        raise PullError(f"{error.holder} brings {folder} up to date already; wait for it") from None


@contextmanager
def _explaining(folder: Path) -> Iterator[None]:
    """Say in words that the folder cannot be used."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PullError(f"the disk that holds {folder} is full; make room and run again") from None
        raise PullError(f"{folder} cannot be used ({error.strerror}); choose another folder") from None
