"""What is changed of Dagster's daemon: how long it waits between two looks at the backfills, and how it ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon import backfill, controller
from dagster._daemon.daemon import BackfillDaemon

from heatmap_pipeline.orchestration.runs import packaged_file
from heatmap_pipeline.orchestration.ui import daemon


class Waiting(threading.Event):
    """An event that notes how long it is waited for, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0.0)
        return True


def test_backfills_are_looked_at_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: Any, **__: Any) -> Iterator[None]:
        yield None

    monkeypatch.setattr(backfill, "execute_backfill_iteration", look)
    monkeypatch.setattr(controller, daemon._NUMBER, controller.DEFAULT_DAEMON_INTERVAL_SECONDS)  # put back at the end
    assert controller.DEFAULT_DAEMON_INTERVAL_SECONDS > 2 * daemon.SECONDS, "else there is nothing to change"
    daemon.hurry()
    waiting = Waiting()
    context: Any = None
    loop = backfill.execute_backfill_iteration_loop(context, logging.getLogger(), waiting)
    while len(waiting.seconds) < 2:
        next(loop)
    assert waiting.seconds == [pytest.approx(daemon.SECONDS, abs=0.5)] * 2


def test_a_look_at_a_backfill_ends_before_the_daemon_lets_go_of_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After that there are no assets any more, and Dagster marks a backfill of such as failed for good."""
    steps: list[str] = []
    begun = threading.Event()

    @contextmanager
    def pipeline(instance: dg.DagsterInstance, **_: Any) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(instance=instance)
        steps.append("let go of")

    def look(*_: Any, **__: Any) -> Iterator[None]:
        begun.set()
        time.sleep(0.5)
        steps.append("looked at")
        yield None

    monkeypatch.setattr(controller, "WorkspaceProcessContext", pipeline)
    monkeypatch.setattr(backfill, "execute_backfill_iteration_with_instigation_logger", look)
    (tmp_path / "dagster.yaml").write_bytes(packaged_file("dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.add_backfill(
            PartitionBackfill("id", BulkActionStatus.REQUESTED, from_failure=False, tags={}, backfill_timestamp=0.0)
        )
        of_backfills = BackfillDaemon(instance.get_backfill_settings())
        with controller.daemon_controller_from_instance(
            instance, EmptyWorkspaceTarget(), gen_daemons=lambda _: [of_backfills]
        ):
            assert begun.wait(20)
    assert steps == ["looked at", "let go of"]
