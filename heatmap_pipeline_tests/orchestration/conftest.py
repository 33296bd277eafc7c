"""Homes that are expensive to make are made once; a test that changes one copies it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._homes import draw_nothing, load_no_picture
from heatmap_pipeline_tests._once import copied_once, made_once
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, copy_home, real, run_job, write_archive
from heatmap_pipeline_tests.orchestration.light import light_runs

DAYS = 5


def _make_less(patch: pytest.MonkeyPatch) -> None:
    """Take snapshots every hour, a quarter of the usual rows."""
    patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")


@pytest.fixture
def pictures() -> None:
    """Ask for this where the pictures are to be drawn."""


@pytest.fixture
def light_commands() -> Iterator[None]:
    """Ask for this where commands need no Dagster; `run_job` needs none by itself."""
    with light_runs():
        yield


@pytest.fixture(autouse=True)
def _only_what_is_asked_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    _make_less(monkeypatch)
    if "pictures" not in request.fixturenames:
        draw_nothing(monkeypatch)
        load_no_picture(monkeypatch)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive files of BTCUSDT and ETHUSDT, days 1 to 5. Nobody changes them; copy the folder to do so."""
    return made_once(tmp_path_factory, "archive", lambda folder: write_archive(folder, DAYS, BTC, ETH))


@pytest.fixture(scope="session")
def finished(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with days 1 to 5 of BTCUSDT, made by one run. Nobody changes it; `home` is a copy."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HEATMAP_")]:
            patch.delenv(name)
        _make_less(patch)
        draw_nothing(patch)
        load_no_picture(patch)
        home = copied_once(
            tmp_path_factory, "finished", lambda folder: run_job(real(folder, archive), 1, DAYS, dagster=True).ok()
        )
        return real(home, archive)


@pytest.fixture
def home(finished: Settings, tmp_path: Path) -> Path:
    """A copy of the finished home."""
    return copy_home(finished.home, tmp_path / "home")
