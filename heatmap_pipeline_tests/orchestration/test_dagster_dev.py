"""The whole of Dagster for real: `heatmap ui` on a free port, its schedule, and a backfill launched over GraphQL."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.settings import load_settings
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, day, problems

pytestmark = pytest.mark.slow

DAILY = ("raw_candles", "raw_open_interest", "position_events", "liquidation_snapshots")
WHOLE = ("heatmap_render", "published_database")


class Ui:
    """A running UI, asked over GraphQL."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # of our own process
            found: dict[str, Any] = json.load(answer)
        assert "errors" not in found, found["errors"]
        return dict(found["data"])


def wait_for(what: str, seconds: float, attempt: Callable[[], Any]) -> Any:
    """Try until the answer is not None."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            answer = attempt()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            answer = None
        if answer is not None:
            return answer
        time.sleep(0.5)
    raise AssertionError(f"{what} took longer than {seconds:g} s")


def in_session(session: int) -> list[int]:
    """Return the living processes of a session, by their files in /proc."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


@contextmanager
def ui(home: Path, log: Path) -> Iterator[Ui]:
    """Run `heatmap ui` in a session of its own, and end it with everything that it started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "heatmap_pipeline", "ui", "--port", str(port), "--home", str(home)]
    environment = {**os.environ, "HEATMAP_SYMBOLS": BTC, "HEATMAP_START": str(day(1))}
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--source", "demo"],
            stdout=out, stderr=out, env=environment, cwd=home.parent, start_new_session=True,
        )  # fmt: skip
        try:
            yield Ui(port)
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            for left in in_session(process.pid):
                os.kill(left, signal.SIGKILL)
            process.wait(timeout=20)


LOCATIONS = "{ locationStatusesOrError { ... on WorkspaceLocationStatusEntries { entries { name loadStatus } } } }"
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "heatmap_pipeline"}
SCHEDULES = """query($of: RepositorySelector!) { schedulesOrError(repositorySelector: $of) {
    ... on Schedules { results { name scheduleState { status } } } } }"""
BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
PROGRESS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } } } }"""
RUN = """mutation($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
RUNS = "{ runsOrError { ... on Runs { results { runId status } } } }"


def loaded(running: Ui) -> bool | None:
    entries = running.ask(LOCATIONS)["locationStatusesOrError"]["entries"]
    return True if entries == [{"name": "heatmap_pipeline", "loadStatus": "LOADED"}] else None


def succeeded(running: Ui, count: int) -> bool | None:
    """Return whether so many runs succeeded; a failed one ends the waiting."""
    found = [run["status"] for run in running.ask(RUNS)["runsOrError"]["results"]]
    assert "FAILURE" not in found
    return True if found.count("SUCCESS") >= count else None


def ended(running: Ui, backfill: str) -> Any:
    found = running.ask(PROGRESS, id=backfill)["partitionBackfillOrError"]
    return None if found["status"] in ("REQUESTED", "COMPLETING") else found


def asset_keys(*names: str) -> list[dict[str, list[str]]]:
    return [{"path": [BTC, name]} for name in names]


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
    try:
        with ui(home, log) as running:
            use(running)
    except BaseException:
        sys.stderr.write(log.read_text()[-5000:])
        raise
    settings = load_settings(home=home)
    found = ask(settings, "SELECT DISTINCT day FROM heatmap_days ORDER BY 1", published=True)
    assert found == [(day(1),), (day(2),), (day(3),)]
    assert (home / "renders" / "index.html").exists()
    assert not problems(settings)
