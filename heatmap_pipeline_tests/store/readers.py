"""Processes that read what is published while it is published anew: none may meet an error, or two versions at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._forked import Fork, Say


def put_version(warehouse: Warehouse, number: int) -> None:
    """Have every day say that it is of a version; readers see no two of them in one file."""
    with warehouse.connect("BTCUSDT") as con:
        con.execute("UPDATE heatmap_days SET state_hash = ?, input_hash = ?", [f"v{number}", f"v{number}"])
        con.execute("UPDATE snapshot_days SET state_hash = ?", [f"v{number}"])


@contextmanager
def readers(warehouse: Warehouse, *, least: int) -> Iterator[Callable[[], None]]:
    """Have two processes open what is published, again and again, and see four versions or more in `least` readings.

    Gives what waits for two more readings of each: however much faster publishing is, they keep up.
    """
    enough = warehouse.home / "enough"

    def read(say: Say) -> None:
        seen: set[str] = set()
        queries = 0
        say("ready")
        while not enough.exists():
            with warehouse.read() as con:
                versions = {
                    con.execute("SELECT DISTINCT state_hash FROM heatmap_days").fetchall()[0][0],
                    con.execute("SELECT DISTINCT state_hash FROM snapshot_days").fetchall()[0][0],
                    con.execute("SELECT DISTINCT input_hash FROM heatmap_days").fetchall()[0][0],
                }
                assert len(versions) == 1, versions
            queries, seen = queries + 1, seen | versions
            say("read")
            time.sleep(0.03)  # who publishes needs the machine too
        say(f"{queries} {len(seen)}")

    with ExitStack() as stack:
        forks = [stack.enter_context(Fork(read)) for _ in range(2)]

        def wait_for_two() -> None:
            for fork in forks:
                for _ in range(2):
                    fork.said.readline()

        for fork in forks:
            assert fork.said.readline() == "ready\n"
        try:
            yield wait_for_two
        finally:
            enough.touch()
        for fork in forks:
            *_, last = fork.said
            assert fork.wait() == 0
            queries, seen = map(int, last.split())
            assert queries >= least
            assert seen > 3
