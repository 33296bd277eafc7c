"""Homes that are scored, computed once and copied."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.chain.scored import LAST, compute, planted
from heatmap_pipeline_tests.orchestration.homes import copy_home, real, write_archive


@pytest.fixture(scope="session")
def long_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive files of twenty days that pass for real ones."""
    return write_archive(tmp_path_factory.mktemp("long"), LAST, "BTCUSDT")


@pytest.fixture(scope="session")
def unscored(long_archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with twenty computed days of `turnover`, without any record. Nobody changes it; `home` is a copy."""
    settings = real(tmp_path_factory.mktemp("unscored"), long_archive, models=("turnover",), snapshot_interval="15m")
    compute(settings, range(1, LAST + 1))
    return settings


@pytest.fixture(scope="session")
def reports(unscored: Settings) -> pd.DataFrame:
    """Planted reports of all twenty days."""
    return planted(unscored)


@pytest.fixture
def settings(unscored: Settings, tmp_path: Path) -> Settings:
    """Settings of a copy of the home."""
    return unscored.model_copy(update={"home": copy_home(unscored.home, tmp_path / "home")})
