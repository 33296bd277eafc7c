"""Questions to a published file, answered by the planners of the endpoint, so in its numbers and its words.

What belongs here: finding the file, following its publications. What does not: any rule of an answer (`views/`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heatmap_pipeline import surroundings
from heatmap_pipeline.client.errors import ClientError
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.moving_in import FORMER, PRIVATE
from heatmap_pipeline.views.errors import ViewError

_BOOKS_BYTES = 64 << 20
_MAGIC = slice(8, 12), b"DUCK"
"""Where a database of DuckDB says that it is one."""


class Local:
    """A published file.

    Args:
        path: `heatmap.duckdb`, a copy of it, or the home that holds it; None means the home of HEATMAP_HOME.

    Attributes:
        where: the file.

    Raises:
        ClientError: if there is no such file, or it is not a published database.
        SettingsError: for a wrong HEATMAP_* variable.
    """

    def __init__(self, path: Path | None) -> None:
        # Not pathlib's, which raises where it may not look.
        home = path if path is not None and os.path.isdir(path) else None  # noqa: PTH112
        self._settings = load_settings(home=home)
        self._file = self._settings.home / "heatmap.duckdb" if path is None or home is not None else path.resolve()
        self.where = str(self._file)
        _check_file(self._file)
        surroundings.settle(self._file.parent)  # before numba is imported
        from heatmap_pipeline.views.replay import Books  # noqa: PLC0415

        self._books = Books(_BOOKS_BYTES)
        self._version: Any = None
        self._seen: tuple[int, int, int] | None = None
        self._lock = threading.Lock()

    def ask(self, path: str, query: Mapping[str, str]) -> bytes:
        """Return the body that the endpoint would answer.

        Raises:
            ClientError: in the words of the endpoint, or of the file.
        """
        from heatmap_pipeline.api import encode  # noqa: PLC0415
        from heatmap_pipeline.api.errors import STATUS  # noqa: PLC0415
        from heatmap_pipeline.api.parameters import sentence  # noqa: PLC0415

        version = self._current()
        try:
            return encode.compress(self._plan(version, path, query).make(), "identity")
        except ViewError as error:
            raise ClientError(str(error), STATUS[error.kind]) from None
        except ValidationError as error:
            wrong = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
            raise ClientError(sentence(wrong, []), 422) from None
        except HeatmapError as error:
            raise ClientError(f"the published data cannot answer this: {error}", 503) from error
        finally:
            version.release()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._version is not None:
                self._version.retire()
            self._version, self._seen = None, None

    def _plan(self, version: Any, path: str, query: Mapping[str, str]) -> Any:
        from heatmap_pipeline.api.heatmap import plan_heatmap  # noqa: PLC0415
        from heatmap_pipeline.api.liquidation_map import plan_map  # noqa: PLC0415
        from heatmap_pipeline.api.listing import plan_score, plan_symbols  # noqa: PLC0415
        from heatmap_pipeline.api.parameters import HeatmapQuery, MapQuery, ScoreQuery  # noqa: PLC0415

        match path:
            case "/liquidations/heatmap-timeseries":
                return plan_heatmap(version, self._books, HeatmapQuery.model_validate(query))
            case "/liquidations/map":
                return plan_map(version, self._books, MapQuery.model_validate(query))
            case "/score":
                return plan_score(version, ScoreQuery.model_validate(query))
            case _:
                return plan_symbols(version)

    def _current(self) -> Any:
        """Return the newest publication, kept open for the caller, who releases it."""
        from heatmap_pipeline.store.warehouse import ForeignError, StoreError, Warehouse  # noqa: PLC0415
        from heatmap_pipeline.views.data import published_version  # noqa: PLC0415

        with self._lock:
            seen = _check_file(self._file)
            if self._version is None or seen != self._seen:
                warehouse = Warehouse(self._file.parent, published=self._file)
                try:
                    new = published_version(warehouse, self._version, self._settings.models)
                except ForeignError:
                    raise ClientError(
                        f"{self._file} is a database of something else; give heatmap.duckdb, or the home that holds it"
                    ) from None
                except StoreError as error:
                    raise ClientError(str(error)) from error
                if self._version is not None:
                    self._version.retire()
                self._version, self._seen = new, seen
            return self._version.acquire()


def _check_file(path: Path) -> tuple[int, int, int]:
    """Return what tells one publication from the next.

    Raises:
        ClientError: if there is no such file, or it is not a published database.
    """
    what = "give heatmap.duckdb, the home that holds it, or the address of an endpoint"
    if path.name == FORMER or (path.parent.name == PRIVATE and (path.parent.parent / "heatmap.duckdb").exists()):
        home = path.parent if path.name == FORMER else path.parent.parent
        raise ClientError(f"{path} is private to the pipeline; give {home / 'heatmap.duckdb'}")
    try:
        status = path.stat()
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        if path.name == "heatmap.duckdb" and path.parent.is_dir():
            raise ClientError(f"nothing is published in {path.parent} yet; {what}") from None
        raise ClientError(f"{path} is not there; {what}") from None
    except OSError as error:
        raise ClientError(f"{path} cannot be read ({error.strerror}); {what}") from None
    where, magic = _MAGIC
    if start[where] != magic:
        raise ClientError(f"{path} is not a file of DuckDB; {what}")
    return status.st_ino, status.st_mtime_ns, status.st_size
