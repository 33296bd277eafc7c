"""The start of `heatmap ui` beside what an earlier one has left."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from heatmap_pipeline.orchestration.turns import RunError
from heatmap_pipeline.orchestration.ui import front


def test_what_does_not_end_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_ENDING", 0.1)
    with (tmp_path / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            pytest.raises(RunError, match=r"process group unknown\) does not end and holds .*services\.lock; end it"),
            front._no_leftovers(tmp_path),
        ):
            pytest.fail("the lock is held by another")
    with front._no_leftovers(tmp_path):
        pass


def test_a_lock_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    """As in a home that can only be read, in which somebody has worked before."""
    (tmp_path / "services.lock").mkdir()
    with (
        pytest.raises(RunError, match=r"services\.lock cannot be used \(Is a directory\); .* another home with --home"),
        front._no_leftovers(tmp_path),
    ):
        pass
