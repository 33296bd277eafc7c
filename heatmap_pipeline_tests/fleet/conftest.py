"""A store of each kind, and an embedded home to hold it against."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from heatmap_pipeline.fleet.worker import open_bucket
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._homes import clean_environment, draw_nothing
from heatmap_pipeline_tests._once import copied_once, made_once
from heatmap_pipeline_tests.fleet import _s3
from heatmap_pipeline_tests.fleet.stores import run
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


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room for what is fetched from a store."""
    opened = Path.open

    def open_(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "wb" and ".parquet." in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_)


both = pytest.mark.parametrize("store", ["file", "s3"], indirect=True)
"""Run a test over a folder and over an S3 server."""


@pytest.fixture
def settings_of(archive: Path, store: str, tmp_path: Path) -> Callable[..., Settings]:
    """Returns settings of a machine of the fleet, each with a home of its own."""

    def make(*symbols: str, home: str = "machine", **more: object) -> Settings:
        return real(tmp_path / home, archive, *symbols, store=store, **more)

    return make


@pytest.fixture(scope="session")
def embedded(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with days 1 to 3 of both symbols and models, computed in two runs. Nobody changes it."""

    def make(home: Path) -> None:
        settings = real(home, archive, BTC, ETH)
        compute_home(settings, day(1), day(2))
        compute_home(settings, day(3))

    with at_the_hour():
        return copied_once(tmp_path_factory, "embedded", make)


@pytest.fixture(scope="session")
def begun(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores as runs leave them, in folders: BTC of `delta` after day "1", "2" and "3"; all after "1-2" and "1-3"."""

    def make(folder: Path) -> None:
        def after(name: str, days: tuple[int, ...], *symbols: str, **more: object) -> None:
            run(real(folder / "machine", archive, *symbols, store=f"file://{folder}/now", **more), *days)
            shutil.copytree(folder / "now", folder / name)

        after("1", (1,), BTC, models=("delta",))
        after("2", (2,), BTC, models=("delta",))
        after("3", (3,), BTC, models=("delta",))
        shutil.rmtree(folder / "now")
        after("1-2", (1, 2), BTC, ETH)
        after("1-3", (3,), BTC, ETH)

    with at_the_hour():
        return made_once(tmp_path_factory, "begun", make)


@contextmanager
def at_the_hour() -> Iterator[None]:
    """Have no settings but a snapshot an hour, for fixtures that live longer than a test."""
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
        yield


@pytest.fixture
def begin(begun: Path) -> Callable[[Settings, str], None]:
    """Fills a store as a folder of `begun`: as the runs have that made it, in a tenth of the time."""

    def fill(settings: Settings, name: str) -> None:
        bucket, folder = open_bucket(settings), begun / name
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".lock":
                bucket.write(path.relative_to(folder).as_posix(), path)

    return fill
