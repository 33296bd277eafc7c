"""Processes that read the published database all the time: `Readers` starts them, as a script this file is one of them.

Each look at the database opens it anew and takes the fingerprint of every table over one connection, so that rows of
two versions together have a fingerprint that neither version has.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb


def fingerprint(con: duckdb.DuckDBPyConnection) -> str:
    """Return a hash over all rows of all tables of the database in use, but for when they were made."""
    digest = hashlib.blake2b(digest_size=12)
    tables = con.execute(
        "SELECT table_name, string_agg('\"' || column_name || '\"', ', ' ORDER BY column_index) FROM duckdb_columns() "
        "WHERE database_name = current_database() AND column_name NOT IN ('created_at', 'failed_at') AND table_name IN "
        "(SELECT table_name FROM duckdb_tables() WHERE database_name = current_database()) GROUP BY 1 ORDER BY 1"
    ).fetchall()
    for table, columns in tables:
        found = con.execute(f"SELECT count(*), sum(hash({columns})::HUGEINT) FROM {table}").fetchall()
        digest.update(repr((table, found)).encode())
    return digest.hexdigest()


def look(kind: str, path: Path) -> str:
    """Open the database as `Warehouse.read` does ('ours') or as anybody would ('plain'), and take its fingerprint."""
    if kind == "ours":
        from heatmap_pipeline.store.warehouse import Warehouse

        with Warehouse(path.parent).read() as con:
            return fingerprint(con)
    try:
        con = duckdb.connect(str(path), read_only=True)
    except duckdb.Error:  # it was replaced while DuckDB opened it; the README says that opening it again is enough
        con = duckdb.connect(str(path), read_only=True)
    with con:
        return fingerprint(con)


class Readers:
    """Readers of both kinds, from here to the end of the `with` block.

    Args:
        path: of the published database, which has to be there.
        folder: for what they saw.
        pause: seconds between two looks.
    """

    def __init__(self, path: Path, folder: Path, pause: float) -> None:
        self._path = path
        self._pause = pause
        self._logs = {kind: folder / f"seen-{kind}" for kind in ("ours", "plain")}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Readers:
        for kind, log in self._logs.items():
            command = [sys.executable, "-m", __name__, kind, str(self._path), str(self._pause)]
            with log.open("wb") as stream:
                self._processes.append(subprocess.Popen(command, stdout=stream, stderr=stream))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def seen(self) -> dict[str, Counter[str]]:
        """Return how often each reader saw each fingerprint; an error that it met stands among them, as it is.

        Whoever asks waits until each has looked once more.
        """
        before = {kind: log.stat().st_size for kind, log in self._logs.items()}
        end = time.monotonic() + 60
        while any(log.stat().st_size == before[kind] for kind, log in self._logs.items()):
            assert time.monotonic() < end, "a reader does not read"
            assert all(process.poll() is None for process in self._processes), self._told()
            time.sleep(self._pause)
        return self._told()

    def _told(self) -> dict[str, Counter[str]]:
        return {kind: Counter(log.read_text().splitlines()) for kind, log in self._logs.items()}


def main(kind: str, path: str, pause: str) -> None:
    """Look at the database for ever; print a line for each look."""
    while True:
        try:
            line: Any = look(kind, Path(path))
        except Exception as error:
            line = f"{type(error).__name__}: {' '.join(str(error).split())}"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        time.sleep(float(pause))


if __name__ == "__main__":
    main(*sys.argv[1:])
