"""How the newest run went: remembered whole, in order, and never a reason for a run to fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heatmap_pipeline.store.last_run import read_last_run, write_last_run
from heatmap_pipeline.store.warehouse import Warehouse

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def test_it_is_read_as_it_was_written_with_what_was_repaired(warehouse: Warehouse) -> None:
    assert read_last_run(warehouse.home) is None
    write_last_run(warehouse.home, ["ETHUSDT", "BTCUSDT"], ["ETHUSDT"], began=BEGAN, failed=True)
    run = read_last_run(warehouse.home)
    assert run is not None
    assert (run.began, run.failed, list(run.symbols), list(run.failures)) == (
        BEGAN,
        True,
        ["BTCUSDT", "ETHUSDT"],
        ["ETHUSDT"],
    )
    assert run.repaired == {"BTCUSDT": 6, "ETHUSDT": 0}, "two rows of each of three days"
    now = datetime.now(UTC) + timedelta(hours=1)
    write_last_run(warehouse.home, ["BTCUSDT"], [], began=now, ended=now, failed=False)
    later = read_last_run(warehouse.home)
    assert later is not None
    assert later.repaired == {"BTCUSDT": 0}, "it read nothing anew"


def test_a_damaged_file_of_one_symbol_hides_nothing_of_another(three: Warehouse) -> None:
    three.path("ETHUSDT").write_bytes(b"not a database" * 1000)
    write_last_run(three.home, ["BTCUSDT", "ETHUSDT"], ["ETHUSDT"], began=BEGAN, failed=True)
    run = read_last_run(three.home)
    assert run is not None
    assert run.repaired == {"BTCUSDT": 6}


def test_an_older_run_does_not_replace_it(tmp_path: Path) -> None:
    write_last_run(tmp_path, ["A1"], [], began=BEGAN, ended=BEGAN + timedelta(hours=2), failed=False)
    write_last_run(tmp_path, ["B1"], [], began=BEGAN, ended=BEGAN + timedelta(hours=1), failed=True)
    run = read_last_run(tmp_path)
    assert run is not None
    assert list(run.symbols) == ["A1"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"began": 1}', b'{"began": "2026-01-01", "ended": "x"}'])
def test_a_file_that_says_nothing_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last_run.json").write_bytes(content)
    assert read_last_run(tmp_path) is None
    write_last_run(tmp_path, [], [], began=BEGAN, failed=False)
    assert read_last_run(tmp_path) is not None


def test_what_cannot_be_written_or_read_harms_nothing(tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse" / "BTCUSDT.duckdb").write_bytes(b"no database" * 100)
    write_last_run(tmp_path, ["BTCUSDT"], [], began=BEGAN, failed=True)
    run = read_last_run(tmp_path)
    assert run is not None
    assert run.repaired == {}
    write_last_run(tmp_path / "nowhere", ["BTCUSDT"], [], began=BEGAN, failed=True)
    assert not (tmp_path / "nowhere").exists()
