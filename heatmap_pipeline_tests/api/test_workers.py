"""`heatmap serve --workers`: processes that answer alike, are replaced when they die, and end with their parent."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest

from heatmap_pipeline.api import server, workers
from heatmap_pipeline.api.server import ServeError
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._forked import Fork, Say
from heatmap_pipeline_tests._homes import heatmap, refused
from heatmap_pipeline_tests.api._load import HOST, serving
from heatmap_pipeline_tests.api.homes import BTC, HEATMAP

PATIENCE = 60.0


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes(address: str, *, least: int, without: int = 0) -> set[int]:
    """Return the processes that answer as soon as there are as many, and the one that is gone is not among them."""
    seen: set[int] = set()
    until = time.monotonic() + PATIENCE
    while len(seen) < least:
        assert time.monotonic() < until, f"only {seen} answer"
        with ThreadPoolExecutor(8) as threads:  # at once, or the same one took every connection
            answers = threads.map(lambda _: httpx.get(f"{address}/cache/stats", timeout=PATIENCE).json(), range(16))
        seen |= {answer["process"] for answer in answers} - {without}
    return seen


def test_where_a_process_cannot_be_begun_those_before_it_end(
    published: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Mock] = []

    def begin(*_: object) -> Mock:
        if begun:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        begun.append(Mock())
        return begun[0]

    monkeypatch.setattr(workers, "_begin", begin)
    words = r"3 processes cannot be begun \(Resource temporarily unavailable\); serve with fewer, by --workers"
    with pytest.raises(ServeError, match=words):
        server.serve(published, HOST, 0, lambda _: None, workers=3)
    begun[0].terminate.assert_called_once()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux says in files which processes run")
def test_workers_of_the_program_answer_alike_and_end_with_their_parent(published: Settings) -> None:
    with serving(published.home, "--workers", 2, HEATMAP_API_STALE_HOURS=1e7) as (port, parent):
        address = f"http://{HOST}:{port}"
        working = processes(address, least=2)
        assert len(working) == 2
        assert parent.pid not in working
        question = f"{address}{HEATMAP}?symbol={BTC}&interval=1h"
        answers = {httpx.get(question, timeout=PATIENCE).content for _ in range(12)}
        assert len(answers) == 1
        assert httpx.get(f"{address}/cache/stats", timeout=PATIENCE).json()["max_bytes"] == 128 << 20
    assert parent.returncode == 0
    assert not any(map(alive, working)), "a worker is left"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="only Linux says in files which processes run")
def test_a_worker_is_replaced_and_none_outlives_a_killed_parent(published: Settings) -> None:
    """Here the workers are forks, so that none imports everything anew; the other test has those of the program."""
    context = multiprocessing.get_context

    def serve(say: Say) -> None:
        multiprocessing.get_context = lambda _: context("fork")  # type: ignore[assignment]
        server.serve(published, HOST, 0, say, workers=2)

    with Fork(serve, printed=True) as parent:
        address = parent.said.readline().split(" ")[5]
        again = ("serve", "--port", address.rpartition(":")[2], "--workers", 2, "--home", published.home)
        refused(heatmap(*again), 1, "taken by another program")
        first = processes(address, least=2)
        assert len(first) == 2
        assert parent.pid not in first
        victim, question = min(first), f"{address}{HEATMAP}?symbol={BTC}&interval=1h"
        before = httpx.get(question, timeout=PATIENCE).content
        os.kill(victim, signal.SIGKILL)
        assert httpx.get(question, timeout=PATIENCE).content == before, "the other one answers"
        answering = processes(address, least=2, without=victim)
        assert len(answering) == 2
        assert max(first) in answering
        parent.kill()
        until = time.monotonic() + PATIENCE
        try:
            while any(map(alive, answering)):
                assert time.monotonic() < until, "workers go on without their parent"
                time.sleep(0.05)
        finally:
            for worker in filter(alive, answering):
                os.kill(worker, signal.SIGKILL)
