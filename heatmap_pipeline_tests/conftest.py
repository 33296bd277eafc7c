"""Fixtures that every part of the suite shares."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import heatmap_pipeline_tests._bytecode  # first, so that what follows is kept, too
import heatmap_pipeline_tests._examples  # sets the profile of every property test
from heatmap_pipeline_tests._once import copied_once, made_once
from heatmap_pipeline_tests._prepared import prepared, set_threads
from heatmap_pipeline_tests._workers import ByFile, place_of

if TYPE_CHECKING:
    import pandas as pd

    from heatmap_pipeline.settings import Settings
    from heatmap_pipeline_tests._real_sets import RealRuns
    from heatmap_pipeline_tests.orchestration.killed import Forks

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "market"


@pytest.fixture(scope="session")
def market_dir() -> Path:
    """The folder of real market data; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("HEATMAP_TEST_MARKET", _BESIDE))
    if not (folder / "binance_vision").is_dir():
        pytest.skip(f"no real market data at {folder}; set HEATMAP_TEST_MARKET to the folder that holds binance_vision")
    return folder


@pytest.fixture(scope="session")
def run_of(market_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RealRuns:
    """Runs each real set when it is first asked for; its users are one group of `_workers`."""
    from heatmap_pipeline_tests._real_sets import RealRuns  # what most tests never need

    return RealRuns(market_dir, tmp_path_factory)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Runs the command in processes of their own, for all tests of this worker that need one."""
    from heatmap_pipeline_tests.orchestration.killed import Forks  # what most tests never need

    with Forks(tmp_path_factory.mktemp("forks")) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _beginnings_are_copied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with prepared(tmp_path_factory.mktemp("prepared")):
        yield


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test sees no HEATMAP_* or DAGSTER_HOME variable that it did not set itself."""
    for name in list(os.environ):
        if (name.startswith("HEATMAP_") and name != "HEATMAP_TEST_MARKET") or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def long_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive files of twenty days that pass for real ones, long enough to be scored. Nobody changes them."""
    from heatmap_pipeline_tests.chain.scored import LAST  # what most tests never need
    from heatmap_pipeline_tests.orchestration.homes import write_archive

    return made_once(tmp_path_factory, "long", lambda folder: write_archive(folder, LAST, "BTCUSDT"))


@pytest.fixture(scope="session")
def unscored(long_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with these days of `turnover` computed, without any record. Nobody changes it; `scorable` is a copy."""
    from heatmap_pipeline_tests.chain.scored import LAST, compute
    from heatmap_pipeline_tests.orchestration.homes import real

    def settings_of(home: Path) -> Settings:
        return real(home, long_archive, models=("turnover",), snapshot_interval="15m")

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("HEATMAP_")]:
            patch.delenv(name)
        return settings_of(
            copied_once(tmp_path_factory, "unscored", lambda home: compute(settings_of(home), range(1, LAST + 1)))
        )


@pytest.fixture(scope="session")
def reports(unscored: Settings) -> pd.DataFrame:
    """Planted reports of all twenty days."""
    from heatmap_pipeline_tests.chain.scored import planted

    return planted(unscored)


@pytest.fixture
def scorable(unscored: Settings, tmp_path: Path) -> Settings:
    """Settings of a copy of the home."""
    from heatmap_pipeline_tests.orchestration.homes import copy_home

    return unscored.model_copy(update={"home": copy_home(unscored.home, tmp_path / "home")})


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    gc.disable()  # what is imported stays; looking through it again and again takes a second in every process
    heatmap_pipeline_tests._bytecode.import_all(session.config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files where several workers share the suite; one process takes the fast tests first."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: place_of(item.nodeid))
    else:
        items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what is there by now, and stays, out of every later search for garbage; that is rarer, too.

    It is not looked through for garbage even once, which takes a second. As often as Python searches by itself takes a
    fiftieth of the time of a run.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()
    os.register_at_fork(after_in_child=gc.unfreeze)  # DuckDB's types say at the end that they leak, if they stay frozen


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Only days of the size of real ones occupy more than one thread of DuckDB."""
    set_threads(None if item.get_closest_marker("market") else 1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out the tests by file, see `_workers`, unless the command line names another way."""
    return ByFile(config, log) if config.getoption("dist") in {"load", "loadfile", "loadgroup"} else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Measure no coverage in tests that take long: the others see nearly every line, and measuring costs half again."""
    coverage = sys.modules.get("coverage")
    measured = coverage.Coverage.current() if coverage else None
    if measured is None or is_measured(item):
        return (yield)
    measured.stop()
    try:
        return (yield)
    finally:
        measured.start()


def is_measured(item: pytest.Item) -> bool:
    """Whether coverage is measured in a test: not in slow ones, on real data, in properties, and in whole runs."""
    if any(item.get_closest_marker(name) for name in ("slow", "market", "hypothesis")):
        return False
    return not item.nodeid.startswith(
        ("heatmap_pipeline_tests/orchestration/", "heatmap_pipeline_tests/test_bad_input")
    )


def pytest_configure(config: pytest.Config) -> None:
    """Compile the engine once, before several workers would each do it at the same time."""
    if getattr(config.option, "numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        import pandas as pd

        from heatmap_pipeline.model.heatmap import calculate_time_evolving_heatmap

        candle = pd.DataFrame({"open_time": pd.to_datetime(["2024-01-01"])})
        candle[["open", "high", "low", "close", "volume"]] = 100.0
        calculate_time_evolving_heatmap(candle, [1.0])
