"""`heatmap ui` as processes: how it ends, and that nothing outlives it. `test_in_use` does it with all of Dagster."""

from __future__ import annotations

import os
import signal
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from heatmap_pipeline_tests.orchestration.ui.running import Ui, end, environment, free_port, gone, of_home, words
from heatmap_pipeline_tests.orchestration.ui.standins import Forked, write_programs

pytestmark = pytest.mark.slow


def named(home: Path, part: str) -> list[int]:
    """Return the processes of a home whose command line has that in it."""
    return [number for number, line in of_home(home).items() if part in line]


def begun(home: Path, log: Path, programs: Path, **variables: str) -> Ui:
    """Start the command on stand-ins for Dagster's programs, and wait until it serves."""
    path = os.pathsep.join([str(programs), *filter(None, sys.path)])
    port = free_port()
    running = Ui(Forked(words(home, port), environment(log) | {"PYTHONPATH": path, **variables}, log), port, log)

    def served() -> bytes:
        with urllib.request.urlopen(running.address, timeout=20) as answer:  # noqa: S310  # of our own process
            return bytes(answer.read())

    assert running.wait("starting the UI", 40, served) == b"here"
    return running


def test_nothing_outlives_it(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    home, log, programs = tmp_path / "home", tmp_path / "log", write_programs(tmp_path_factory.mktemp("programs"))
    home.mkdir()
    running = begun(home, log, programs)
    try:
        assert len(of_home(home)) >= 5  # keeper, code server and what it starts, daemon, webserver
        running.process.send_signal(signal.SIGINT)  # ignored when it began, as in the background of a script
        assert running.process.wait(timeout=20) == 0
        assert not of_home(home)
        said = log.read_text().splitlines()
        assert said == [f"Dagster UI on http://127.0.0.1:{running.port} for {home}; stop it with Ctrl-C"]

        running = begun(home, log, programs)
        running.process.kill()
        running.wait("the end of what a killed UI started", 20, lambda: gone(home))

        running = begun(home, log, programs)
        (keeper,) = named(home, "ui.keeper")
        os.kill(keeper, signal.SIGKILL)
        assert running.process.wait(timeout=20) == 1
        running.wait("the end of what a killed keeper started", 20, lambda: gone(home))
        assert log.read_text().splitlines()[-1].startswith("heatmap: the keeper of the UI's processes was killed")

        running = begun(home, log, programs)
        left = set(of_home(home)) - {running.process.pid, *named(home, "ui.keeper")}
        os.kill(running.process.pid, signal.SIGSTOP)  # so that it cannot answer the death of its keeper
        os.kill(named(home, "ui.keeper")[0], signal.SIGKILL)
        running.process.kill()
        running.process.wait(timeout=20)
        assert left & set(of_home(home)), "killed together, they leave something"
        running = begun(home, log, programs)
        assert not left & set(of_home(home)), "and the next start ends it"
        (webserver,) = named(home, "ui.webserver")
        os.kill(webserver, signal.SIGKILL)
        assert running.process.wait(timeout=20) == 1
        assert not of_home(home)
        assert "the webserver of the UI ended by itself (killed by signal 9)" in log.read_text().splitlines()[-1]

        running = begun(home, log, programs)
        os.killpg(running.process.pid, signal.SIGTERM)
        assert running.process.wait(timeout=20) == 0
        assert not of_home(home)
    finally:
        end(running, home)
    assert not list(tmp_path.glob("heatmap-ui-*")), "not even the folders of their sockets, wherever it was killed"


def test_each_shard_has_a_code_server_that_knows_which_it_is(tmp_path: Path) -> None:
    home, log, programs = tmp_path / "home", tmp_path / "log", write_programs(tmp_path)
    home.mkdir()
    running = begun(home, log, programs, HEATMAP_SHARDS="3")
    try:
        told = {}
        for number in named(home, "--location-name"):
            arguments = Path(f"/proc/{number}/cmdline").read_text().split("\0")
            variables = Path(f"/proc/{number}/environ").read_text().split("\0")
            told[arguments[arguments.index("--location-name") + 1]] = [
                line for line in variables if line.startswith("HEATMAP_SHARD=")
            ]
        assert told == {f"heatmap_pipeline_shard_{shard}": [f"HEATMAP_SHARD={shard}"] for shard in (1, 2, 3)}
        (workspace,) = tmp_path.glob("heatmap-ui-*/workspace.yaml")
        servers = [entry["grpc_server"] for entry in yaml.safe_load(workspace.read_text())["load_from"]]
        assert [server["location_name"] for server in servers] == sorted(told)
        assert len({server["socket"] for server in servers}) == 3
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=20) == 0
        assert not of_home(home)
    finally:
        end(running, home)
