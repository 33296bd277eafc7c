"""A home that the version before has computed: what is said of it, and that the one command named rebuilds it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.data import published_version
from heatmap_pipeline_tests._homes import as_if_yesterday_were, heatmap, refused
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    assert_same,
    command_in,
    compute,
    day,
    obey,
    real,
    run_job,
    tables,
    untouched,
)
from heatmap_pipeline_tests.store.earlier import become_version_1

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("light_commands")]


@pytest.fixture
def old(home: Path) -> Path:
    """A home of five days that is as version 1 would have left it."""
    for path in (Warehouse(home).path(BTC), home / "heatmap.duckdb"):
        become_version_1(path)
    return home


def test_status_and_runs_name_one_command_and_it_rebuilds_everything(
    finished: Settings, archive: Path, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = real(old, archive)
    as_if_yesterday_were(monkeypatch, day(5))
    with published_version_of(settings) as outdated:
        assert command_in(outdated[BTC])[1:] == command_of(settings)
    with untouched(old / "heatmap.duckdb"):
        (line,) = [line for line in status_lines(settings) if line.startswith("stale ")]
        assert "computed by an earlier version" in line
        assert command_in(line)[1:] == command_of(settings)
        message = refused(heatmap("refresh", BTC, "--home", old, "--archive", archive), 1, "earlier version")
        assert command_in(message) == command_in(line)
        run = run_job(settings, 5)
        assert not run.success
        assert command_in(run.failures[f"{BTC}__position_events"]) == command_in(line)
        words = ["run", BTC, "--start", day(3), "--end", day(5), "--home", old, "--archive", archive]
        message = refused(heatmap(*words), 1, "earlier version")
        assert command_in(message) == command_in(line)
    obey(line)
    assert not [line for line in status_lines(settings) if line.startswith("stale ")]
    for name in ("warehouse", "heatmap.duckdb"):
        assert_same(tables(old / name), tables(finished.home / name))
    assert sorted(path.name for path in old.glob("heatmap*.duckdb")) == ["heatmap.duckdb"]
    with published_version_of(settings) as outdated:
        assert outdated == {}


def test_one_model_that_was_rebuilt_is_served_without_the_other(archive: Path, old: Path) -> None:
    compute(real(old, archive, models=("turnover",)), 1, 5)
    settings = real(old, archive)
    version = published_version(Warehouse(old), None, ("turnover", "delta"))
    try:
        assert list(version.symbols[BTC].models) == ["turnover"]
        assert "delta: computed by an earlier version" in version.outdated[BTC]
    finally:
        version.retire()
    assert [line for line in status_lines(settings) if line.startswith("stale ")]


def command_of(settings: Settings) -> list[str]:
    words = ["run", BTC, "--start", str(day(1)), "--end", str(day(1) + timedelta(days=4))]
    return [*words, "--archive", str(settings.archive), "--home", str(settings.home)]


class published_version_of:  # noqa: N801 - read as a phrase
    """The words about what is left out of what is published."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __enter__(self) -> dict[str, str]:
        self.version = published_version(Warehouse(self.settings.home), None, self.settings.models)
        return dict(self.version.outdated)

    def __exit__(self, *_: object) -> None:
        self.version.retire()
