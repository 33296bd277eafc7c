"""Code servers of shards and Dagster's daemon as processes on one home, Postgres and store, and how they are killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import heatmap_pipeline
from heatmap_pipeline.orchestration.shard_job import NAME
from heatmap_pipeline_tests._postgres import Postgres
from heatmap_pipeline_tests.fleet._programs import PACKAGE, Programs
from heatmap_pipeline_tests.orchestration.homes import day
from heatmap_pipeline_tests.orchestration.ui.running import free_port

OURS = Path(heatmap_pipeline.__file__).parents[1] / "deploy" / "dagster.yaml"
GOING_ON = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}
DATABASE = "fleet"
NO_TAGS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Run:
    """A run in Dagster's history: `root` is what it repeats, begin and end are seconds since 1970, 0 without any."""

    root: str
    status: str
    shard: int
    began: float
    ended: float
    will_retry: bool


class Fleet:
    """Code servers of shards and a daemon, each a process group; they are on one home, Postgres and store.

    Args:
        folder: of the home, and of what the processes print.
        server: with no database of that name yet.
        variables: of their environment.
        shards: how many there are.
        programs: starts all of them but code servers after the first of a shard; without it each is a new process.
    """

    def __init__(
        self,
        folder: Path,
        server: Postgres,
        variables: Mapping[str, str],
        shards: int,
        programs: Programs | None = None,
    ) -> None:
        self.folder, self.server, self._programs = folder, server, programs
        self.home = folder / "home"
        (self.home / "dagster").mkdir(parents=True)
        shutil.copyfile(OURS, self.home / "dagster" / "dagster.yaml")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HEATMAP_")},
            **server.database(DATABASE),
            **variables,
            "HEATMAP_HOME": str(self.home),
            "HEATMAP_SHARDS": str(shards),
            "DAGSTER_HOME": str(self.home / "dagster"),
        }
        self.ports = {shard: free_port() for shard in range(1, shards + 1)}
        servers = [
            {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": f"heatmap_pipeline_shard_{shard}"}}
            for shard, port in self.ports.items()
        ]
        self.workspace = folder / "workspace.yaml"
        self.workspace.write_text(json.dumps({"load_from": servers}))
        self.processes: dict[str, subprocess.Popen[bytes] | int] = {}
        """The number of those that are forks, by name."""
        self.given_up: set[str] = set()
        """First runs of what nobody waits for any more."""

    def _begin(self, name: str, *arguments: str, **variables: str) -> None:
        """Start a module of ours in a process group of its own."""
        module, *words = arguments
        environment, log = {**self.environment, **variables}, self.folder / f"{name}.log"
        if self._programs is not None and not (name.startswith("shard") and log.exists()):
            self.processes[name] = self._programs.begin(module, words, environment, log)
            return
        with log.open("ab") as file:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"{PACKAGE}.{module}", *words],
                env=environment,
                cwd=self.folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    def begin_shards(self, *shards: int) -> None:
        """Start the code servers of some shards, all of them without any, and wait until they answer."""
        shards = shards or tuple(self.ports)
        for shard in shards:
            port = str(self.ports[shard])
            self._begin(
                f"shard{shard}", "shard_server", "--host", "127.0.0.1", "--port", port, HEATMAP_SHARD=str(shard)
            )
        self.wait("loading", 120, lambda: all(_answers(self.ports[shard]) for shard in shards))

    def begin_daemon(self) -> None:
        self._begin("daemon", "ui.daemon", "run", "--workspace", str(self.workspace))

    def kill(self, name: str) -> None:
        """Kill a process and all that it started, as the end of its container does."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process if isinstance(process, int) else process.pid, signal.SIGKILL)
        if not isinstance(process, int):
            process.wait(timeout=20)
        elif self._programs is not None:
            self._programs.wait(process)

    def close(self) -> None:
        for name in list(self.processes):
            self.kill(name)

    def workers(self) -> dict[int, int]:
        """Return the processes of runs that live, each with the shard that it is of; not those of forks."""
        return {
            worker: shard
            for shard in self.ports
            if isinstance(process := self.processes.get(f"shard{shard}"), subprocess.Popen)
            for worker in _children(process.pid)
        }

    def submit(
        self, patch: pytest.MonkeyPatch, shard: int, first: int, last: int, tags: Mapping[str, str] = NO_TAGS
    ) -> None:
        """Put a run of a shard into the queue, as `dagster job launch` does, without a process of its own."""
        days = {"start": str(day(first)), "end": str(day(last))}
        config = json.dumps({"ops": {"symbols": {"config": days}}})
        location = f"heatmap_pipeline_shard_{shard}"
        words = ["dagster", "job", "launch", "-w", str(self.workspace), "-l", location, "-j", NAME]
        with patch.context() as here:
            here.setattr(sys, "argv", [*words, "--config-json", config, "--tags", json.dumps(dict(tags))])
            for name, value in self.environment.items():
                here.setenv(name, value)
            (script,) = entry_points(group="console_scripts", name="dagster")
            with pytest.raises(SystemExit) as ended:
                script.load()()
            assert not ended.value.code

    def runs(self) -> list[Run]:
        """Return the runs of shards that were asked for here, the first one first; at 00:20 UTC there are others."""
        # The greatest value of a tag: after a crash of Dagster one has stood there twice.
        tag = "(SELECT max(value) FROM run_tags AS t WHERE t.run_id = runs.run_id AND t.key = '{}')".format
        lines = self.server.ask(
            DATABASE,
            f"SELECT coalesce({tag('dagster/root_run_id')}, runs.run_id), status, {tag('heatmap/shard')}, "
            f"coalesce(start_time, 0), coalesce(end_time, 0), coalesce({tag('dagster/will_retry')}, '') FROM runs "
            f"WHERE {tag('heatmap/shard')} IS NOT NULL AND {tag('dagster/schedule_name')} IS NULL ORDER BY id",
        )
        return [
            Run(root, status, int(shard), float(began), float(ended), again == "true")
            for root, status, shard, began, ended, again in (line.split("|") for line in lines)
        ]

    def unfinished(self) -> dict[str, Run]:
        """Return what was asked for and did not succeed yet, by its first run, with the last one of it."""
        last = {run.root: run for run in self.runs()}
        return {root: run for root, run in last.items() if run.status != "SUCCESS" and root not in self.given_up}

    def give_up(self) -> list[Run]:
        """Return what failed by itself, as by a restart of Postgres, which Dagster leaves at that; nobody waits for it.

        Whoever operates it asks for the same again, as the next day's run does.
        """
        seconds_ago = time.time() - 10  # until then it may be repeated
        left = {
            root: run
            for root, run in self.unfinished().items()
            if run.status == "FAILURE" and not run.will_retry and run.ended < seconds_ago
        }
        self.given_up |= left.keys()
        return list(left.values())

    def wait(self, what: str, seconds: float, there: Callable[[], Any]) -> None:
        end = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < end, f"{what} took longer than {seconds:g} s: {self.said()}"
            time.sleep(0.3)  # to ask Postgres takes a process

    def said(self) -> str:
        """Return how its runs stand, and what its processes said last."""
        logs = "".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))
        return f"{self.runs()}\n{logs}"

    def assert_one_at_a_time(self) -> None:
        """Assert that of no shard two runs went on at a time."""
        for shard in self.ports:
            spans = sorted((run.began, run.ended) for run in self.runs() if run.shard == shard and run.began)
            assert all(left[1] <= right[0] for left, right in pairwise(spans)), f"shard {shard}: {spans}"


@dataclass
class Disturbances:
    """Kills workers, each at a random moment of its life if at all; now and then with what is around them.

    Of each twelve kills one takes the code server of the worker along, one the daemon, and one restarts Postgres.

    Attributes:
        fleet: whose workers.
        chance: decides about moments.
        most: how many workers are killed at the most.
        lifetime: in seconds, of a worker that nobody kills; the others are to die before that.
        killed: how many were.
        restarts: of Postgres.
        lives: in seconds, of workers that nobody killed.
    """

    fleet: Fleet
    chance: random.Random
    most: int
    lifetime: float = 0.0
    killed: int = 0
    restarts: int = 0
    lives: Sequence[float] = ()

    def until_all_is_done(self, seconds: float) -> Iterator[None]:
        """Disturb until all that was asked for has succeeded; yield, twice a second, while some has not.

        Args:
            seconds: that this may take.
        """
        end, asked = time.monotonic() + seconds, 0.0
        seen: dict[int, tuple[float, float]] = {}
        while True:
            now, workers = time.monotonic(), self.fleet.workers()
            for worker in seen.keys() - workers:
                self.lives = [*self.lives, now - seen.pop(worker)[0]]
            for worker, shard in workers.items():
                _, due = seen.setdefault(worker, (now, now + self.chance.uniform(0, self.lifetime)))
                if now >= due and self.killed < self.most:
                    del seen[worker]
                    self._kill(worker, shard)
                    break  # the others may be gone
            if now - asked > 0.5:
                asked = now
                if not self.fleet.unfinished():
                    return
                yield
            assert now < end, f"it did not end within {seconds:g} s: {self.fleet.said()}"
            time.sleep(0.1)

    def _kill(self, worker: int, shard: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            self.killed += 1
        if self.killed % 12 == 4:
            self.fleet.kill(f"shard{shard}")
            self.fleet.begin_shards(shard)
        elif self.killed % 12 == 8:
            self.fleet.kill("daemon")
            self.fleet.begin_daemon()
        elif self.killed % 12 == 0:
            self.fleet.server.restart()
            self.restarts += 1


def _children(process: int) -> Iterator[int]:
    """Return the runs among the processes that a code server started: those that multiprocessing began."""
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text().split():
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    yield int(child)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0
