"""What every small home begins with is made once in a worker and copied: Dagster's empty history.

Making the first takes 0.4 s of processor time, that of one more run 0.1 s, hundreds of times. Processes that tests
start (but not their forks) make their own, as the program does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.store import warehouse


@contextmanager
def prepared(folder: Path) -> Iterator[None]:
    """Let homes begin with copies, for as long as this lasts.

    Args:
        folder: where what is copied is made, when it is first needed.
    """
    with pytest.MonkeyPatch.context() as patch:
        _prepare_history(patch, folder / "dagster")
        yield


def set_threads(count: int | None) -> None:
    """Let DuckDB have so many threads, None for as many as it likes: in tables of some rows a second one only waits."""
    warehouse._SETTINGS.pop("threads", None)
    if count is not None:
        warehouse._SETTINGS["threads"] = str(count)


def _prepare_history(patch: pytest.MonkeyPatch, folder: Path) -> None:
    import dagster as dg
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

    from heatmap_pipeline.orchestration import instance
    from heatmap_pipeline.orchestration.instance_file import is_the_users

    opened, make, from_config = instance._opened, SqliteEventLogStorage._initdb, dg.DagsterInstance.from_config
    run = folder / "run.db"

    @cache
    def history() -> Path:
        folder.mkdir(parents=True)
        with from_config(str(folder)) as empty:
            storage: Any = empty.event_log_storage
            with storage.run_connection("one"):
                pass
        (folder / "history" / "runs" / "one.db").rename(run)
        return folder

    def open_copy(home: Path) -> Any:
        if not any((home / name).exists() for name in ("history", "schedules")) and not is_the_users(home):
            for name in ("history", "schedules"):
                _put(history() / name, home / name)
        return opened(home)

    def copy_database(storage: Any, engine: Any, for_index_shard: bool = False) -> None:
        path = Path(engine.url.database)
        if not for_index_shard and not path.exists() and not path.is_relative_to(folder):
            history()
            _put(run, path)
            if path.exists():
                return
        make(storage, engine, for_index_shard)

    patch.setattr(instance, "_opened", open_copy)
    patch.setattr(SqliteEventLogStorage, "_initdb", copy_database)


def _put(made: Path, place: Path) -> None:
    """Copy a file or a folder whole or not at all: on a full disk, or in a folder only read, the program is to say so.

    Nothing happens where something is there already, perhaps of another process since a moment ago.
    """
    new = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        shutil.copytree(made, new) if made.is_dir() else shutil.copyfile(made, new)
        new.rename(place) if made.is_dir() else place.hardlink_to(new)
    except (OSError, shutil.Error):
        pass
    finally:
        shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)
