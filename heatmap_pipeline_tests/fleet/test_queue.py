"""Two shards as processes of their own on one Postgres and one store, by Dagster's queue; and what a crash leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import heatmap_pipeline
from heatmap_pipeline.orchestration.shard_job import NAME
from heatmap_pipeline.orchestration.shards import shard_of
from heatmap_pipeline_tests._postgres import Postgres, postgres
from heatmap_pipeline_tests.fleet.stores import assert_like
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, day, real
from heatmap_pipeline_tests.orchestration.ui.running import free_port

pytestmark = [pytest.mark.slow, pytest.mark.fleet]

OURS = Path(heatmap_pipeline.__file__).parents[1] / "deploy" / "dagster.yaml"
GOING_ON = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}
DATABASE = "fleet"
MODELS = ("turnover",)


class Fleet:
    """Code servers of two shards and a daemon, each a process group; they are on one home, Postgres and store."""

    def __init__(self, folder: Path, server: Postgres, variables: dict[str, str]) -> None:
        self.folder, self.server = folder, server
        self.home = folder / "home"
        self.store = f"file://{folder}/store"
        (self.home / "dagster").mkdir(parents=True)
        shutil.copyfile(OURS, self.home / "dagster" / "dagster.yaml")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEATMAP_")},
            **server.database(DATABASE),
            **variables,
            "HEATMAP_HOME": str(self.home),
            "HEATMAP_STORE": self.store,
            "HEATMAP_SYMBOLS": f"{BTC},{ETH}",
            "HEATMAP_SHARDS": "2",
            "DAGSTER_HOME": str(self.home / "dagster"),
        }
        self.ports = {shard: free_port() for shard in (1, 2)}
        servers = [
            {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": f"heatmap_pipeline_shard_{shard}"}}
            for shard, port in self.ports.items()
        ]
        self.workspace = folder / "workspace.yaml"
        self.workspace.write_text(json.dumps({"load_from": servers}))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, name: str, *arguments: str, **variables: str) -> None:
        """Start a module of ours in a process group of its own."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"heatmap_pipeline.orchestration.{arguments[0]}", *arguments[1:]],
                env={**self.environment, **variables},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def begin_shard(self, shard: int) -> None:
        port = str(self.ports[shard])
        self.begin(f"shard{shard}", "shard_server", "--host", "127.0.0.1", "--port", port, HEATMAP_SHARD=str(shard))

    def begin_daemon(self) -> None:
        self.begin("daemon", "ui.daemon", "run", "--workspace", str(self.workspace))

    def kill(self, name: str) -> None:
        """Kill a process and all that it started, as the end of its container does."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)

    def submit(self, patch: pytest.MonkeyPatch, shard: int, first: int, last: int) -> None:
        """Put a run of a shard into the queue, as `dagster job launch` does, without a process of its own."""
        days = {"start": str(day(first)), "end": str(day(last))}
        config = json.dumps({"ops": {"symbols": {"config": days}}})
        location = f"heatmap_pipeline_shard_{shard}"
        patch.setattr(sys, "argv", ["dagster", "job", "launch", "-w", str(self.workspace), "-l", location, "-j", NAME])
        sys.argv += ["--config-json", config]
        for name, value in self.environment.items():
            patch.setenv(name, value)
        (script,) = entry_points(group="console_scripts", name="dagster")
        with pytest.raises(SystemExit) as ended:
            script.load()()
        assert not ended.value.code

    def runs(self) -> list[dict[str, Any]]:
        """Return the runs by shard: status, begin and end, seconds since 1970."""
        lines = self.server.ask(
            DATABASE,
            "SELECT runs.status, tags.value, runs.start_time, runs.end_time FROM runs JOIN run_tags AS tags "
            "ON tags.run_id = runs.run_id AND tags.key = 'heatmap/shard' ORDER BY runs.id",
        )
        rows = [line.split("|") for line in lines]
        return [
            {"status": status, "shard": int(shard), "began": float(began or 0), "ended": float(ended or 0)}
            for status, shard, began, ended in rows
        ]

    def wait(self, what: str, seconds: float, there: Callable[[], Any]) -> None:
        end = time.monotonic() + seconds
        while not there():
            if time.monotonic() > end:
                logs = "".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))
                raise AssertionError(f"{what} took longer than {seconds:g} s: {self.runs()}\n{logs}")
            time.sleep(0.1)


@pytest.fixture
def fleet(archive: Path) -> Iterator[Fleet]:
    folder = Path(tempfile.mkdtemp(prefix="heatmap-fleet-"))
    variables = {
        "HEATMAP_SOURCE": "archive",
        "HEATMAP_ARCHIVE": str(archive),
        "HEATMAP_MODELS": MODELS[0],
        "HEATMAP_SNAPSHOT_INTERVAL": "1h",
    }
    try:
        with postgres() as server:
            fleet = Fleet(folder, server, variables)
            try:
                yield fleet
            finally:
                for name in list(fleet.processes):
                    fleet.kill(name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_killed_server_and_daemon_and_a_restart_of_postgres_end_right(
    fleet: Fleet, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_btc, of_eth = shard_of(BTC, 2), shard_of(ETH, 2)
    assert {of_btc, of_eth} == {1, 2}
    for shard in (1, 2):
        fleet.begin_shard(shard)
    fleet.wait("loading", 90, lambda: all(_answers(port) for port in fleet.ports.values()))
    with monkeypatch.context() as patch:
        fleet.submit(patch, of_btc, 1, 2)
        fleet.submit(patch, of_eth, 1, 2)
        fleet.submit(patch, of_btc, 1, 2)  # the same again, which has to wait and find nothing to do
    fleet.begin_daemon()
    started = {"STARTED", "SUCCESS"}
    fleet.wait(
        "a start of both", 90, lambda: {run["shard"] for run in fleet.runs() if run["status"] in started} == {1, 2}
    )

    fleet.kill("daemon")
    fleet.kill(f"shard{of_eth}")
    fleet.server.restart()
    fleet.begin_shard(of_eth)
    fleet.begin_daemon()
    fleet.wait("another start", 90, lambda: "STARTED" in {run["status"] for run in fleet.runs()})
    fleet.server.restart()
    fleet.wait("the end", 150, lambda: _ended(fleet.runs()))

    runs = fleet.runs()
    of_each = {shard: [run["status"] for run in runs if run["shard"] == shard] for shard in (1, 2)}
    assert of_each[of_eth][-1] == of_each[of_btc][-1] == "SUCCESS"
    for shard in (1, 2):
        spans = sorted((run["began"], run["ended"]) for run in runs if run["shard"] == shard and run["began"])
        assert all(left[1] <= right[0] for left, right in pairwise(spans)), "one at a time"
    embedded = real(tmp_path / "embedded", archive, BTC, ETH, models=MODELS)
    compute_home(embedded, day(1), day(2))
    assert_like(real(tmp_path / "third", archive, BTC, ETH, models=MODELS, store=fleet.store), embedded.home)
    assert (fleet.home / "heatmap.duckdb").exists(), "the catalogue of the home that they share"


def _ended(runs: list[dict[str, Any]]) -> bool:
    """Whether nothing goes on, and the last run of each shard succeeded."""
    last = {run["shard"]: run["status"] for run in runs}
    return not {run["status"] for run in runs} & GOING_ON and set(last.values()) == {"SUCCESS"}


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0
