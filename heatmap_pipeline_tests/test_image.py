"""The image, built in a clean root and started with a read-only one, without Docker (`_image.py` says how).

It takes root, the network, some two minutes of processor time, and a folder that the clean root of Debian is kept in:

    HEATMAP_TEST_IMAGE=/var/tmp/debian pytest heatmap_pipeline_tests/test_image.py
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

import heatmap_pipeline
from heatmap_pipeline_tests import _image

CHECKOUT = Path(heatmap_pipeline.__file__).parents[1]
FOLDER = os.environ.get("HEATMAP_TEST_IMAGE", "")
SERVICES = yaml.safe_load((CHECKOUT / "deploy/compose.yaml").read_text())["services"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="builds the image, as root; HEATMAP_TEST_IMAGE names a folder for a Debian"),
]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_image.Stage]:
    """The image as deploy/Dockerfile says."""
    missing = [name for name in _image.PROGRAMS if shutil.which(name) is None]
    if missing or os.getuid():
        pytest.skip(f"takes root and Debian's programs; missing: {missing}")
    folder = tmp_path_factory.mktemp("image")
    clean = _image.clean_root(Path(FOLDER))
    yield _image.build(CHECKOUT / "deploy/Dockerfile", CHECKOUT, clean, folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def container(image: _image.Stage, tmp_path: Path) -> Iterator[_image.Container]:
    with _image.started(image, tmp_path, ["shard-1"]) as container:
        yield container


def wait(what: str, container: _image.Container, log: Path, words: list[str], seconds: float = 300) -> None:
    """Wait until a command in the container succeeds, as a health check does."""
    end = time.monotonic() + seconds
    while (done := container.run(*words)).returncode:
        assert time.monotonic() < end, f"{what}: {done.stdout} {done.stderr} {log.read_text()[-3000:]}"
        time.sleep(0.5)


def test_what_is_left_out_of_the_image_is_not_in_it(image: _image.Stage) -> None:
    inside = image.root / "opt/heatmap"
    assert (inside / "heatmap_pipeline/cli.py").exists()
    for name in (".git", "heatmap_pipeline_tests", "benchmarks", "docs", "node_modules"):
        assert not (inside / name).exists(), name
    assert (inside / ".venv/bin/heatmap").exists(), "which setup.sh has made, not that of the checkout"
    assert (inside / ".venv/bin/python").resolve().is_relative_to("/usr/bin")


def test_it_computes_and_serves_without_privilege_on_a_read_only_root(
    container: _image.Container, tmp_path: Path
) -> None:
    able = container.run("grep", "-E", "^(Uid|Gid|CapEff|CapBnd)", "/proc/self/status").stdout.split()
    assert able == ["Uid:", *["10001"] * 4, "Gid:", *["10001"] * 4, "CapEff:", "0" * 16, "CapBnd:", "0" * 16]
    refused = container.run("touch", "/opt/heatmap/x", "/etc/x", root=True)
    assert refused.stderr.count("Read-only file system") == 2

    entry = container.image.entrypoint
    run = container.run(*entry, "heatmap", "demo", "--days", "2")
    assert run.returncode == 0, run.stdout + run.stderr
    log = tmp_path / "serve.log"
    with container.running(log, *container.image.command):
        wait("serving", container, log, container.image.health)
        ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8888/ready').read().decode())"
        assert json.loads(container.run("python", "-c", ask).stdout)["status"] == "ready"
    places = ("/opt/heatmap/cache/numba", container.image.variables["NUMBA_CACHE_DIR"])
    found = [container.run("find", place, "-name", "*.nb[ic]", "-printf", "%f\n").stdout.split() for place in places]
    assert len(found[0]) > 50, "compiled code is in the image"
    assert set(found[1]) - set(found[0]) == set(), "and nothing else had to be compiled"


def test_every_service_of_compose_becomes_healthy_in_it(container: _image.Container, tmp_path: Path) -> None:
    """One shard, with Dagster's history in files instead of Postgres."""
    settings = {"HEATMAP_STORE": "file:///store", "HEATMAP_SYMBOLS": "BTCUSDT", "HEATMAP_SOURCE": "binance"}
    settings |= {"HEATMAP_START": "2026-11-01", "HEATMAP_UI_HOSTS": ""}
    with ExitStack() as stack:
        for name in ("shard-1", "daemon", "webserver"):
            log = tmp_path / f"{name}.log"
            command = [word.replace("$$", "$") for word in SERVICES[name]["command"]]
            stack.enter_context(container.running(log, *command, settings=settings))
            wait(name, container, log, SERVICES[name]["healthcheck"]["test"][1:])
