"""What is changed of Dagster's daemon: how long it waits between two looks at the backfills."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from dagster._daemon import backfill, controller

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
