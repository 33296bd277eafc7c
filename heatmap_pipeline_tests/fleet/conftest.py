"""A store of each kind, and an embedded home to hold it against."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._homes import clean_environment, draw_nothing
from heatmap_pipeline_tests._once import made_once
from heatmap_pipeline_tests.fleet import _s3
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, day, real, write_archive
from heatmap_pipeline_tests.orchestration.light import light_runs


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
    draw_nothing(monkeypatch)


@pytest.fixture
def light_commands() -> Iterator[None]:
    """Ask for this where commands need no Dagster."""
    with light_runs():
        yield


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive files of BTCUSDT and ETHUSDT, days 1 to 5. Nobody changes them."""
    return made_once(tmp_path_factory, "archive", lambda folder: write_archive(folder, 5, BTC, ETH))


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server with an empty bucket."""
    with _s3.s3_server() as address:
        yield address


@pytest.fixture
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Address of an empty store; of each kind where a test says `both`."""
    if getattr(request, "param", "file") == "file":
        return f"file://{tmp_path}/store"
    _s3.use(monkeypatch, request.getfixturevalue("s3"))
    return f"s3://{_s3.BUCKET}/{uuid4().hex}"


both = pytest.mark.parametrize("store", ["file", "s3"], indirect=True)
"""Run a test over a folder and over an S3 server."""


@pytest.fixture
def settings_of(archive: Path, store: str, tmp_path: Path) -> Callable[..., Settings]:
    """Returns settings of a machine of the fleet, each with a home of its own."""

    def make(*symbols: str, home: str = "machine", **more: object) -> Settings:
        return real(tmp_path / home, archive, *symbols, store=store, **more)

    return make


@pytest.fixture(scope="module")
def embedded(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with days 1 to 3 of both symbols and models, computed in two runs. Nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
        settings = real(tmp_path_factory.mktemp("embedded") / "home", archive, BTC, ETH)
        compute_home(settings, day(1), day(2))
        compute_home(settings, day(3))
    return settings.home
