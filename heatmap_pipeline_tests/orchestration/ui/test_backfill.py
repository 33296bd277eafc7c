"""The whole of Dagster for real: `heatmap ui` on a free port, its schedule, and a backfill launched over GraphQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from heatmap_pipeline.settings import load_settings
from heatmap_pipeline_tests.orchestration.homes import ask, day, problems
from heatmap_pipeline_tests.orchestration.ui.running import (
    BACKFILL,
    DAILY,
    REPOSITORY,
    RUN,
    RUNS,
    SCHEDULES,
    Ui,
    asset_keys,
    ended,
    loaded,
    succeeded,
    ui,
    wait_for,
)

pytestmark = pytest.mark.slow

WHOLE = ("heatmap_render", "published_database")


def use(running: Ui) -> None:
    """Look at the schedule, backfill three days, then draw and publish them, as someone may in the UI."""
    wait_for("starting the UI", 60, lambda: loaded(running))
    schedules = {one["name"]: one for one in running.ask(SCHEDULES, of=REPOSITORY)["schedulesOrError"]["results"]}
    assert schedules["heatmap_daily_schedule"]["scheduleState"]["status"] == "RUNNING"
    days = {"assetSelection": asset_keys(*DAILY), "partitionNames": [str(day(number)) for number in (1, 2, 3)]}
    backfill = running.ask(BACKFILL, params=days)["launchPartitionBackfill"]
    assert backfill["__typename"] == "LaunchBackfillSuccess", backfill
    # Two runs over the whole range, not one per day: the raw data, then what depends on the day before.
    wait_for("the runs of the backfill", 110, lambda: succeeded(running, 2))
    job = {**REPOSITORY, "jobName": "heatmap_daily", "assetSelection": asset_keys(*WHOLE)}
    run = running.ask(RUN, params={"selector": job, "runConfigData": {}})["launchRun"]
    assert run["__typename"] == "LaunchRunSuccess", run
    wait_for("drawing and publishing", 60, lambda: succeeded(running, 3))
    result = wait_for("the end of the backfill", 60, lambda: ended(running, backfill["backfillId"]))
    assert result == {"status": "COMPLETED_SUCCESS", "error": None}
    assert len(running.ask(RUNS)["runsOrError"]["results"]) == 3


def test_a_backfill_from_the_ui(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    with ui(home, log) as running:
        use(running)
    settings = load_settings(home=home)
    found = ask(settings, "SELECT DISTINCT day FROM heatmap_days ORDER BY 1", published=True)
    assert found == [(day(1),), (day(2),), (day(3),)]
    assert (home / "renders" / "index.html").exists()
    assert not problems(settings)
