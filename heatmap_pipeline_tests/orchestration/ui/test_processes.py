"""`heatmap ui` as processes: how it ends, that nothing outlives it, and that what was killed goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.settings import load_settings
from heatmap_pipeline_tests.orchestration.homes import ask, day, problems
from heatmap_pipeline_tests.orchestration.ui.running import (
    BACKFILL,
    DAILY,
    Ui,
    asset_keys,
    end,
    ended,
    gone,
    loaded,
    of_home,
    start,
    ui,
    wait_for,
)

pytestmark = pytest.mark.slow

STAGES = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"


def named(home: Path, part: str) -> list[int]:
    """Return the processes of a home whose command line has that in it."""
    return [number for number, words in of_home(home).items() if part in words]


def begun(home: Path, log: Path) -> Ui:
    running = start(home, log, TMPDIR=str(log.parent))
    wait_for("starting the UI", 90, lambda: loaded(running))
    return running


def test_nothing_outlives_it(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    home.mkdir()
    try:
        running = begun(home, log)
        assert len(of_home(home)) >= 5  # command, keeper, code server and what it starts, daemon, webserver
        running.process.send_signal(signal.SIGINT)  # ignored when it began, as in the background of a script
        assert running.process.wait(timeout=40) == 0
        assert not of_home(home)
        said = log.read_text().splitlines()
        assert said == [f"Dagster UI on http://127.0.0.1:{running.port} for {home}; stop it with Ctrl-C"]

        running = begun(home, log)
        running.process.kill()
        wait_for("the end of what a killed UI started", 40, lambda: gone(home))

        running = begun(home, log)
        (keeper,) = named(home, "ui.keeper")
        os.kill(keeper, signal.SIGKILL)
        assert running.process.wait(timeout=20) == 1
        wait_for("the end of what a killed keeper started", 20, lambda: gone(home))
        assert log.read_text().splitlines()[-1].startswith("heatmap: the keeper of the UI's processes was killed")

        running = begun(home, log)
        left = set(of_home(home)) - {running.process.pid, *named(home, "ui.keeper")}
        os.kill(running.process.pid, signal.SIGSTOP)  # so that it cannot answer the death of its keeper
        os.kill(named(home, "ui.keeper")[0], signal.SIGKILL)
        running.process.kill()
        running.process.wait(timeout=20)
        assert left & set(of_home(home)), "killed together, they leave something"
        running = begun(home, log)
        assert not left & set(of_home(home)), "and the next start ends it"
        (webserver,) = named(home, "ui.webserver")
        os.kill(webserver, signal.SIGKILL)
        assert running.process.wait(timeout=40) == 1
        assert not of_home(home)
        assert "the webserver of the UI ended by itself (killed by signal 9)" in log.read_text().splitlines()[-1]

        running = begun(home, log)
        os.killpg(running.process.pid, signal.SIGTERM)
        assert running.process.wait(timeout=40) == 0
        assert not of_home(home)
    finally:
        end(running, home)
    assert not list(tmp_path.glob("heatmap-ui-*")), "not even the folders of their sockets, wherever it was killed"


def test_a_backfill_that_was_killed_goes_on(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "log"
    wanted = [str(day(number)) for number in range(1, 41)]

    def computing(running: Ui) -> bool | None:
        runs: list[dict[str, Any]] = running.ask(STAGES)["runsOrError"]["results"]
        started = [run for run in runs if run["status"] == "STARTED"]
        return True if any(key["path"][1] == DAILY[2] for run in started for key in run["assetSelection"]) else None

    with ui(home, log) as running:
        wait_for("starting the UI", 90, lambda: loaded(running))
        params = {"assetSelection": asset_keys(*DAILY), "partitionNames": wanted}
        backfill = running.ask(BACKFILL, params=params)["launchPartitionBackfill"]["backfillId"]
        wait_for("the run that follows the raw data", 200, lambda: computing(running))
        running.process.kill()
        wait_for("the end of everything", 40, lambda: gone(home))
    with ui(home, log) as running:
        wait_for("starting the UI again", 90, lambda: loaded(running))
        result = wait_for("the rest of the backfill", 240, lambda: ended(running, backfill))
        assert result == {"status": "COMPLETED_SUCCESS", "error": None}
        statuses = sorted(run["status"] for run in running.ask(STAGES)["runsOrError"]["results"])
        assert statuses == ["FAILURE", "SUCCESS", "SUCCESS"]
    settings = load_settings(home=home)
    assert ask(settings, "SELECT count(DISTINCT day) FROM heatmap_days") == [(40,)]
    assert not problems(settings)
