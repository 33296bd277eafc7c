"""Fixtures of the fuzz targets, and the summary of what became of the inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from heatmap_pipeline_tests.fuzz._harness import tally
from heatmap_pipeline_tests.fuzz._seeds import Seed, demo_seeds, real_seeds

__all__ = ["tally"]


@pytest.fixture(scope="session", params=["demo", pytest.param("real", marks=pytest.mark.market)])
def seeds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Seed]:
    """Slices of days to mutate: simulated ones, which are always there, and real ones."""
    if request.param == "real":
        market: Path = request.getfixturevalue("market_dir")
        return real_seeds(market)
    return demo_seeds(tmp_path_factory.mktemp("demo"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what became of the inputs."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    lines = [text for report in reports for name, text in report.user_properties if name == "fuzz"]
    if lines:
        terminalreporter.section("fuzzing")
    for line in sorted(lines):
        terminalreporter.line(line)
