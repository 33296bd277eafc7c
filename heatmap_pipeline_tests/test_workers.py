"""How the suite is shared among workers: files that share homes stay together, and every file that is named exists."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from heatmap_pipeline_tests._bytecode import in_turn
from heatmap_pipeline_tests._once import copied_once, made_once, only_here
from heatmap_pipeline_tests._workers import LONGEST, TOGETHER, ByFile, group_of, place_of

HERE = Path(__file__).parent


def test_every_file_that_is_named_is_there() -> None:
    assert [name for name in {*TOGETHER, *TOGETHER.values(), *LONGEST} if not (HERE / name).exists()] == []
    assert set(LONGEST).isdisjoint(TOGETHER), "a file goes by the name of its group"


def test_the_tests_of_a_group_go_to_one_worker() -> None:
    market, score = (f"heatmap_pipeline_tests/test_real_{name}.py::test_a[b::c]" for name in ("market", "score"))
    other = "heatmap_pipeline_tests/test_settings.py::TestA::test_b"
    assert group_of(market) == group_of(score) != group_of(other)
    assert place_of(market) == place_of(score) < place_of(other)
    assert ByFile._split_scope(ByFile.__new__(ByFile), score) == group_of(market)


def test_every_worker_imports_everything_and_begins_with_a_part_of_its_own() -> None:
    assert not sys.dont_write_bytecode
    names = list("abcdefg")
    orders = [in_turn(names, worker, 3) for worker in range(3)]
    assert [order[0] for order in orders] == ["a", "c", "e"]
    assert all(sorted(order) == names for order in orders)
    assert in_turn(names, 0, 1) == names


def test_what_is_made_once_is_made_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("a")

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        made_once(tmp_path_factory, "test of once", fail)
    first, second = (copied_once(tmp_path_factory, "test of once", make) for _ in range(2))
    assert len(made) == 1
    assert {path.name for path in first.iterdir()} == {"file"}, "nothing is left of the one that failed"
    (first / "file").write_text("b")
    assert (second / "file").read_text() == (made[0] / "file").read_text() == "a"


def test_a_second_worker_is_noticed(tmp_path_factory: pytest.TempPathFactory) -> None:
    only_here(tmp_path_factory, "test of here")
    with pytest.raises(pytest.fail.Exception, match="more than one worker"):
        only_here(tmp_path_factory, "test of here")
