"""What a run needs late is loaded beside its beginning; where that fails, whoever needs it says so, not this."""

from __future__ import annotations

import sys
import threading

import pytest

from heatmap_pipeline.orchestration import loading
from heatmap_pipeline.store import schema


def test_all_is_loaded_and_no_thread_is_left() -> None:
    schema.relations.cache_clear()
    with loading.loading():
        pass
    assert "loading" not in {thread.name for thread in threading.enumerate()}
    assert set(loading._DRAWING) <= set(sys.modules)
    assert schema.relations.cache_info().currsize == 1


def test_it_goes_on_beside_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    waited: list[bool] = []
    monkeypatch.setattr(loading, "relations", lambda: waited.append(done.wait(60)))
    with loading.loading():
        done.set()
    assert waited == [True]


def test_what_cannot_be_loaded_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(loading, "import_module", missing)
    went_on = False
    with loading.loading():
        went_on = True
    assert went_on
