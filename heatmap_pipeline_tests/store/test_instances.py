"""One DuckDB after the other by the same: nothing of one borrower is there for the next, and no file stays open."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.store import instances
from heatmap_pipeline.store.instances import alone, lent

SETTINGS = {"memory_limit": "1GB"}
START = duckdb.connect


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was started during the test, in which none is waiting at first."""
    began: list[Any] = []

    def start(*arguments: Any, **named: Any) -> Any:
        began.append(START(*arguments, **named))
        return began[-1]

    monkeypatch.setattr(instances, "_waiting", {})
    monkeypatch.setattr(duckdb, "connect", start)
    yield began
    for one in began:
        one.close()


def tables(con: duckdb.DuckDBPyConnection) -> set[str]:
    return {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def test_one_is_started_and_lent_again_and_every_file_holds_its_own(tmp_path: Path, started: list[Any]) -> None:
    for name in ("a", "b", "a"):
        with lent(SETTINGS, tmp_path / f"{name}.duckdb") as con:
            assert tables(con) <= {name}
            con.execute(f"CREATE TABLE IF NOT EXISTS {name} (number INTEGER)")
            con.execute(f"INSERT INTO {name} VALUES (1)")
    with lent(SETTINGS, tmp_path / "a.duckdb") as con:
        assert con.execute("SELECT count(*) FROM a").fetchall() == [(2,)]
    assert len(started) == 1


def test_no_file_stays_open_in_one_that_waits(tmp_path: Path) -> None:
    path, other = tmp_path / "home.duckdb", tmp_path / "other.duckdb"
    with lent(SETTINGS, path) as con:
        con.execute(f"ATTACH '{other}' AS other")
        con.execute("CREATE TABLE t AS SELECT 1 AS number")
    assert instances._waiting
    assert not [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link).startswith(str(tmp_path))]
    assert sorted(tmp_path.iterdir()) == [path, other], "nor is anything left in a log"


def test_the_next_one_finds_nothing_of_the_one_before(tmp_path: Path, started: list[Any]) -> None:
    path = tmp_path / "home.duckdb"
    with lent(SETTINGS, path) as con:
        con.execute("CREATE TABLE kept (number INTEGER)")
        con.execute("CREATE TEMP TABLE passing (number INTEGER)")
        con.begin()
        con.execute("INSERT INTO kept VALUES (1)")
    with lent(SETTINGS, path) as con:
        assert tables(con) == {"kept"}
        assert con.execute("SELECT count(*) FROM kept").fetchall() == [(0,)], "what was not committed"
    assert len(started) == 1


@pytest.mark.parametrize("kind", ["TABLE", "VIEW"])
def test_what_was_made_where_there_is_no_file_is_gone(kind: str, started: list[Any]) -> None:
    for _ in range(2):
        with lent(SETTINGS) as con:
            with pytest.raises(duckdb.CatalogException):
                con.execute("SELECT * FROM made")
            con.execute(f"CREATE {kind} made AS SELECT 1 AS number")
            assert con.execute("SELECT number FROM made").fetchall() == [(1,)]
    assert len(started) == 1


def test_after_an_error_and_where_memory_went_to_the_disk_none_waits(tmp_path: Path, started: list[Any]) -> None:
    path = tmp_path / "home.duckdb"
    with pytest.raises(KeyError), lent(SETTINGS, path) as con:
        raise KeyError
    with pytest.raises(duckdb.ConnectionException):
        con.execute("SELECT 1")
    with lent(SETTINGS, path):
        (tmp_path / "home.duckdb.tmp").mkdir()
    with lent(SETTINGS, path):
        pass
    assert len(started) == 3


def test_two_at_a_time_are_two_and_one_of_them_waits(tmp_path: Path, started: list[Any]) -> None:
    with lent(SETTINGS, tmp_path / "a.duckdb"), lent(SETTINGS, tmp_path / "b.duckdb"):
        assert len(started) == 2
    assert len(instances._waiting) == 1


def test_what_changes_settings_is_nobody_elses(tmp_path: Path) -> None:
    query = "SELECT current_setting('threads')"
    with alone(SETTINGS) as con:
        con.execute("SET threads = 7")
    with lent(SETTINGS) as con:
        assert con.execute(query).fetchall() != [(7,)]
    with lent({**SETTINGS, "threads": "3"}) as con:
        assert con.execute(query).fetchall() == [(3,)]
    with lent(SETTINGS) as con:
        assert con.execute(query).fetchall() != [(3,)]


_FORKED = """
import os, sys
from pathlib import Path
from heatmap_pipeline.store.instances import lent
def use():
    with lent({}, Path(sys.argv[1])) as con:
        con.execute("CREATE OR REPLACE TABLE t AS SELECT 1 AS number")
use()
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
use()
"""


_HELD = """
import ctypes
from heatmap_pipeline.store import instances
ctypes.pythonapi.Py_IncRef(ctypes.py_object(instances._waiting))  # as what the interpreter does not come to at its end
"""


def test_a_program_ends_in_silence(tmp_path: Path) -> None:
    program = _FORKED.partition("child =")[0] + _HELD
    command = [sys.executable, "-c", program, str(tmp_path / "home.duckdb")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_forked_process_starts_its_own(tmp_path: Path) -> None:
    """It has none of the threads of the one that waits; it would wait for them for ever."""
    command = [sys.executable, "-c", _FORKED, str(tmp_path / "home.duckdb")]
    subprocess.run(command, check=True, timeout=60)
