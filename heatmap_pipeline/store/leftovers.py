"""Temporary files of publications: how they are called, and that those of killed ones go."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from heatmap_pipeline.store.warehouse import READER_PREFIX, Warehouse

_READER_SECONDS = 600
"""A reader's own name for the file is older than this only if the reader was killed."""


def temporary(warehouse: Warehouse, use: str) -> Path:
    """Return a path beside the published file for this process alone, which `remove_leftovers` removes."""
    return warehouse.home / f".heatmap.duckdb.{os.getpid()}.{use}"


def remove_leftovers(warehouse: Warehouse) -> None:
    """Remove the temporary files of this and of killed publications; only who publishes makes any."""
    for path in warehouse.home.glob(".heatmap.duckdb.*"):
        if path.is_dir():  # what DuckDB put there when its memory was full
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in warehouse.home.glob(f"{READER_PREFIX}*"):  # of readers that were killed
        with suppress(FileNotFoundError):
            if time.time() - path.lstat().st_ctime > _READER_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
