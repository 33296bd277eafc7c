"""What is computed is committed in order beside the computing; after a commit that fails, none is begun."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from heatmap_pipeline.chain import compute
from heatmap_pipeline.chain.compute import _Commits
from heatmap_pipeline.store.days import ChainError


@pytest.fixture(autouse=True)
def each_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "_FLUSH_SECONDS", -1.0)


def _add(commits: _Commits[int], count: int) -> None:
    for number in range(count):
        commits.add(number)


def test_all_that_is_added_is_stored_in_order() -> None:
    stored: list[int] = []
    with _Commits[int](nullcontext, lambda _, numbers: stored.extend(numbers)) as commits:
        for number in range(100):
            commits.add(number)
    assert stored == list(range(100))


def test_what_waits_is_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "_FLUSH_SECONDS", 600.0)
    stored: list[Sequence[int]] = []
    with _Commits[int](nullcontext, lambda _, numbers: stored.append(numbers)) as commits:
        for number in range(3):
            commits.add(number)
        assert stored == []
    assert stored == [[0, 1, 2]]


def test_the_next_is_computed_while_one_is_stored() -> None:
    computed = threading.Event()

    def commit(_: Any, numbers: Sequence[int]) -> None:
        assert numbers != [0] or computed.wait(60)

    with _Commits[int](nullcontext, commit) as commits:
        commits.add(0)
        computed.set()  # reached although the first is not stored
        commits.add(1)


def test_after_one_that_fails_no_other_is_begun() -> None:
    begun: list[int] = []

    def commit(_: Any, numbers: Sequence[int]) -> None:
        begun.extend(numbers)
        if numbers == [1]:
            raise ChainError("1 does not follow")

    with (
        pytest.raises(ChainError, match="1 does not follow"),
        _Commits[int](nullcontext, commit) as commits,
    ):
        _add(commits, 100)
    assert begun == [0, 1]


def test_the_last_failure_is_raised_at_the_end() -> None:
    def full(_: Any, __: Sequence[int]) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), _Commits[int](nullcontext, full) as commits:
        commits.add(1)


def test_where_the_computing_fails_what_was_computed_is_stored() -> None:
    stored: list[int] = []

    def compute_days(commits: _Commits[int]) -> None:
        commits.add(1)
        commits.add(2)
        raise ChainError("3 cannot be computed")

    with (
        pytest.raises(ChainError, match="3 cannot"),
        _Commits[int](nullcontext, lambda _, numbers: stored.extend(numbers)) as commits,
    ):
        compute_days(commits)
    assert stored == [1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("commit")]
