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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from heatmap_pipeline_tests.orchestration.homes import BTC, day

DAILY = ("raw_candles", "raw_open_interest", "position_events", "liquidation_snapshots")


class Ui:
    """A running UI, asked over GraphQL; `process` is the command."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port
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


def command(home: Path, port: int) -> list[str]:
    words = ["ui", "--port", str(port), "--home", str(home), "--source", "demo"]
    return [sys.executable, "-m", "heatmap_pipeline", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "HEATMAP_SYMBOLS": BTC, "HEATMAP_START": str(day(1))}


def start(home: Path, log: Path, **options: Any) -> Ui:
    """Start `heatmap ui` in a session of its own, with SIGINT ignored as a script starts its background commands."""
    port = free_port()
    words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command(home, port)]
    with log.open("a") as out:
        process = subprocess.Popen(
            words, stdout=out, stderr=out, text=True, env=environment() | options, cwd=home.parent,
            start_new_session=True,
        )  # fmt: skip
    return Ui(process, port)


def end(running: Ui, home: Path) -> None:
    """End the command, and whatever works on the home."""
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            running.process.wait(timeout=30)
    for left in of_home(home):
        with suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)
    running.process.kill()
    running.process.wait(timeout=20)


@contextmanager
def ui(home: Path, log: Path) -> Iterator[Ui]:
    """Run `heatmap ui`, and end it with everything that it started; what it said is shown where something failed."""
    running = start(home, log)
    try:
        yield running
    except BaseException:
        sys.stderr.write(log.read_text()[-5000:])
        raise
    finally:
        end(running, home)


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
