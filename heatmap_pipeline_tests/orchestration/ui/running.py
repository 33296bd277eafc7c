"""`heatmap ui` for tests: started on a free port, asked over GraphQL, and ended with everything of its home."""

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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from heatmap_pipeline_tests.orchestration.homes import BTC, day
from heatmap_pipeline_tests.orchestration.ui.standins import Forked

DAILY = ("raw_candles", "raw_open_interest", "position_events", "liquidation_snapshots")
SETTINGS = {
    "HEATMAP_SYMBOLS": BTC,
    "HEATMAP_START": str(day(1)),
    "HEATMAP_MODELS": "turnover",
    "HEATMAP_SNAPSHOT_INTERVAL": "4h",
}
"""Of the small history: what is waited for is Dagster, not the market."""


class Ui:
    """A running UI, asked over GraphQL; `process` is the command, `log` what it says."""

    def __init__(self, process: subprocess.Popen[str] | Forked, port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log
        self.address = f"http://127.0.0.1:{port}/"
        self.url = f"{self.address}graphql"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  # of our own process
            found: dict[str, Any] = json.load(answer)
        assert "errors" not in found, found["errors"]
        return dict(found["data"])

    def wait(self, what: str, seconds: float, attempt: Callable[[], Any]) -> Any:
        """Try until the answer is not None; where it takes too long, show what the UI said."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                answer = attempt()
                if answer is not None:
                    return answer
            time.sleep(0.1)
        raise AssertionError(f"{what} took longer than {seconds:g} s: {self.log.read_text()[-5000:]}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def of_home(home: Path) -> dict[int, str]:
    """Return the living processes that work on a home, with their command lines, by their files in /proc."""
    mark = f"DAGSTER_HOME={home / 'dagster'}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def gone(home: Path) -> bool | None:
    return None if of_home(home) else True


def words(home: Path, port: int) -> list[str]:
    return ["ui", "--port", str(port), "--home", str(home), "--source", "demo"]


def environment(log: Path) -> dict[str, str]:
    """Return that of a UI of the small history, with its sockets beside its log."""
    return {**os.environ, **SETTINGS, "TMPDIR": str(log.parent)}


def start(home: Path, log: Path) -> Ui:
    """Start `heatmap ui` in a session of its own, with SIGINT ignored as a script starts its background commands."""
    port = free_port()
    program = [sys.executable, "-m", "heatmap_pipeline", *words(home, port)]
    with log.open("a") as out:
        process = subprocess.Popen(
            ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *program],
            stdout=out, stderr=out, text=True, env=environment(log), cwd=home.parent, start_new_session=True,
        )  # fmt: skip
    return Ui(process, port, log)


def end(running: Ui, home: Path) -> None:
    """End the command, and whatever works on the home."""
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired, TimeoutError):
            running.process.wait(timeout=30)
    for left in of_home(home):
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)
    running.process.kill()
    running.process.wait(timeout=20)


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
RUNS = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"


def loaded(running: Ui) -> bool | None:
    entries = running.ask(LOCATIONS)["locationStatusesOrError"]["entries"]
    return True if entries == [{"name": "heatmap_pipeline", "loadStatus": "LOADED"}] else None


def runs(running: Ui) -> list[tuple[str, set[str]]]:
    """Return of each run its status and the assets that it makes, the newest first."""
    found = running.ask(RUNS)["runsOrError"]["results"]
    return [(run["status"], {key["path"][1] for key in run["assetSelection"]}) for run in found]


def ended(running: Ui, backfill: str) -> Any:
    found = running.ask(PROGRESS, id=backfill)["partitionBackfillOrError"]
    return None if found["status"] in ("REQUESTED", "COMPLETING") else found


def asset_keys(*names: str) -> list[dict[str, list[str]]]:
    return [{"path": [BTC, name]} for name in names]
