"""A home with three days of a little market, built once and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._once import copied_once
from heatmap_pipeline_tests.store.tiny import fill


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied_once(tmp_path_factory, "built", _build)


def _build(home: Path) -> None:
    with Warehouse(home).connect("BTCUSDT") as con:
        fill(con)


@pytest.fixture
def warehouse(built: Path, tmp_path: Path) -> Warehouse:
    """A warehouse with BTCUSDT, both models, three days."""
    shutil.copytree(built, tmp_path / "home")
    return Warehouse(tmp_path / "home", lock_timeout=20)


@pytest.fixture(scope="session")
def built_three(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def build(home: Path) -> None:
        shutil.copytree(built, home, dirs_exist_ok=True)
        for symbol, seed in (("ETHUSDT", 5), ("SOLUSDT", 6)):
            with Warehouse(home).connect(symbol) as con:
                fill(con, symbol, seed=seed)

    return copied_once(tmp_path_factory, "built three", build)


@pytest.fixture
def three(built_three: Path, tmp_path: Path) -> Warehouse:
    """A warehouse with BTCUSDT, ETHUSDT, SOLUSDT, both models, three days."""
    shutil.copytree(built_three, tmp_path / "three")
    return Warehouse(tmp_path / "three", lock_timeout=20)


@pytest.fixture
def con(warehouse: Warehouse) -> Iterator[Connection]:
    with warehouse.connect("BTCUSDT") as con:
        yield con


@pytest.fixture(scope="module")
def opened(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    home = tmp_path_factory.mktemp("opened") / "home"
    shutil.copytree(built, home)
    with Warehouse(home).connect("BTCUSDT") as con:
        yield con


@pytest.fixture
def rolled_back(opened: Connection) -> Iterator[Connection]:
    """The same for all tests of a file: what one does to it is rolled back."""
    opened.begin()
    yield opened
    opened.rollback()
