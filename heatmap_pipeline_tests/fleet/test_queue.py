"""Shards as processes of their own on one Postgres and one bucket, by Dagster's queue; and what crashes leave.

By default two shards of a symbol each, with a worker, a code server and the daemon killed and Postgres restarted.
HEATMAP_TEST_QUEUE_KILLS says how many workers to kill of two and of four shards with four symbols, half of each:

    HEATMAP_TEST_QUEUE_KILLS=100 pytest -o log_cli=true -o log_cli_level=INFO heatmap_pipeline_tests/fleet/test_queue.py
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest

from heatmap_pipeline.fleet.collect import collect
from heatmap_pipeline.fleet.worker import open_bucket
from heatmap_pipeline.market.demo import DEMO_SYMBOLS
from heatmap_pipeline.orchestration.shards import shard_of
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.manifest import manifest_path
from heatmap_pipeline_tests._postgres import postgres
from heatmap_pipeline_tests.fleet import _s3
from heatmap_pipeline_tests.fleet._processes import Disturbances, Fleet
from heatmap_pipeline_tests.fleet._programs import Programs
from heatmap_pipeline_tests.fleet.stores import assert_like, parts_named, parts_there
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, assert_same, day, real, tables, write_archive

pytestmark = [pytest.mark.slow, pytest.mark.fleet]

LOG = logging.getLogger(__name__)
KILLS = int(os.environ.get("HEATMAP_TEST_QUEUE_KILLS", "0"))
FOUR = (BTC, ETH, "LINKUSDT", "AVAXUSDT")
"""Symbols of which each of two shards has two, and each of four has one."""
OF_A_ROUND = 25
"""Workers that are killed at the most before everything is compared."""
MODELS = ("turnover",)
ASKED = ((1, 2), (1, 4))
"""First and last day of what each shard is asked for, one after the other."""
MANY_RETRIES = {"dagster/max_retries": "1000"}
"""Tag of runs that Dagster begins again however often they are killed; by itself three times."""
TIMED = {"raw_days", "heatmap_days"}
"""Tables that say when something was computed, so that their parts differ from run to run."""


class Faults:
    """Of each five requests one fails, in turn by 500, 503, waiting and an answer that is lost; `seen` counts them."""

    def __init__(self) -> None:
        self._number = count()
        self.seen: Counter[_s3.Fault] = Counter()

    def __call__(self, method: str, path: str) -> _s3.Fault:
        kinds: tuple[_s3.Fault, ...] = ("500", "503", "slow", "lost")
        number = next(self._number)
        if number % 5:
            return ""
        fault = kinds[number // 5 % len(kinds)]
        self.seen[fault] += 1
        return fault


@pytest.fixture
def faults(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """An S3 server that fails, which this process and those it starts ask."""
    proxy, plan = _s3.Proxy(s3), Faults()
    proxy.plan = plan
    _s3.use(monkeypatch, proxy.address)
    try:
        yield plan
    finally:
        proxy.close()


@pytest.fixture
def fleet_of(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Settings, int], Fleet]]:
    """Starts the code servers of a number of shards, which are to compute what these settings say."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="heatmap-fleet-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = stack.enter_context(postgres())

        def begin(settings: Settings, shards: int, *, forked: bool = False) -> Fleet:
            variables = {
                "HEATMAP_SOURCE": "archive",
                "HEATMAP_ARCHIVE": str(settings.archive),
                "HEATMAP_MODELS": ",".join(settings.models),
                "HEATMAP_SNAPSHOT_INTERVAL": "1h",
                "HEATMAP_SYMBOLS": ",".join(settings.symbols),
                "HEATMAP_STORE": settings.store,
            }
            programs = Programs() if forked else None
            if programs is not None:
                stack.callback(programs.close)
            fleet = Fleet(folder, server, variables, shards, programs)
            stack.callback(fleet.close)
            fleet.begin_shards()
            return fleet

        yield begin


def a_prefix() -> str:
    return f"s3://{_s3.BUCKET}/{uuid4().hex}"


def test_killed_worker_server_and_daemon_and_a_restart_of_postgres_end_right(
    fleet_of: Callable[..., Fleet], faults: Faults, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = real(tmp_path / "third", archive, BTC, ETH, models=MODELS, store=a_prefix())
    of_btc, of_eth = shard_of(BTC, 2), shard_of(ETH, 2)
    assert {of_btc, of_eth} == {1, 2}
    fleet = fleet_of(settings, 2, forked=True)
    fleet.submit(monkeypatch, of_btc, 1, 2)
    fleet.submit(monkeypatch, of_eth, 1, 2)
    fleet.submit(monkeypatch, of_btc, 1, 2)  # the same again, which has to wait and find nothing to do
    fleet.begin_daemon()
    started = {"STARTED", "SUCCESS"}
    fleet.wait("a start of both", 90, lambda: {run.shard for run in fleet.runs() if run.status in started} == {1, 2})

    fleet.kill("daemon")
    fleet.kill(f"shard{of_eth}")
    fleet.server.restart()
    fleet.begin_shards(of_eth)
    fleet.begin_daemon()
    fleet.wait("another start", 90, lambda: "STARTED" in {run.status for run in fleet.runs()})
    fleet.server.restart()
    again = 0

    def has_ended() -> bool:
        nonlocal again
        for run in fleet.give_up():
            again += 1
            fleet.submit(monkeypatch, run.shard, 1, 2)
        return not fleet.unfinished()

    fleet.wait("the end", 150, has_ended)
    assert again <= 4, "once for each of two shards and restarts"

    fleet.assert_one_at_a_time()
    assert set(faults.seen) == {"500", "503", "slow", "lost"}
    embedded = real(tmp_path / "embedded", archive, BTC, ETH, models=MODELS)
    compute_home(embedded, day(1), day(2))
    assert_like(settings, embedded.home)
    assert (fleet.home / "heatmap.duckdb").exists(), "the catalogue of the home that they share"


@pytest.fixture(scope="session")
def archive_of_four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archive files of the four symbols, two of which the demo market has to be told, days 1 to 4."""
    with pytest.MonkeyPatch.context() as patch:
        for symbol in FOUR[2:]:
            patch.setitem(DEMO_SYMBOLS, symbol, DEMO_SYMBOLS["SOLUSDT"])
        return write_archive(tmp_path_factory.mktemp("four"), ASKED[-1][1], *FOUR)


@pytest.mark.skipif(not KILLS, reason="takes minutes; HEATMAP_TEST_QUEUE_KILLS says how many workers to kill: 100")
@pytest.mark.parametrize("shards", [2, 4])
def test_workers_killed_at_random_moments_lose_nothing_and_compute_nothing_to_two_ends(
    fleet_of: Callable[..., Fleet],
    faults: Faults,
    archive_of_four: Path,
    shards: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "werkzeug")  # the S3 server's, which says every request
    embedded = real(tmp_path / "embedded", archive_of_four, *FOUR, models=MODELS)
    for first, last in ASKED:
        compute_home(embedded, day(first), day(last))
    settings = real(tmp_path / "reader", archive_of_four, *FOUR, models=MODELS, store=a_prefix())
    assert {shard_of(symbol, shards) for symbol in FOUR} == set(range(1, shards + 1))
    fleet = fleet_of(settings, shards)
    fleet.begin_daemon()
    harm = Disturbances(fleet, random.Random(shards), most=0)  # none in the first round, which says how long one lives
    wanted, again = KILLS // 2, 0
    for rounds in count(1):
        for shard in fleet.ports:
            for first, last in ASKED:
                fleet.submit(monkeypatch, shard, first, last, MANY_RETRIES)
        for _ in harm.until_all_is_done(seconds=1800):
            for run in fleet.give_up():
                again += 1
                fleet.submit(monkeypatch, run.shard, *ASKED[-1], MANY_RETRIES)
        figures = shards, rounds, harm.killed, harm.restarts, len(fleet.runs()), dict(faults.seen)
        LOG.info("%d shards, round %d: %d workers killed, %d restarts of Postgres, %d runs, faults %s", *figures)
        LOG.info("workers that nobody killed lived %s seconds", [round(life) for life in harm.lives])
        fleet.assert_one_at_a_time()
        assert_like(settings, embedded.home)
        assert_same(tables(fleet.home / "heatmap.duckdb"), tables(embedded.home / "heatmap.duckdb"))
        assert_of_one_end(settings)
        if harm.killed >= wanted:
            break
        harm.most = min(wanted, harm.killed + OF_A_ROUND)
        harm.lifetime = harm.lifetime or statistics.median(harm.lives)
        # Everything again, beside what is there.
        open_bucket(settings).remove([manifest_path(symbol) for symbol in FOUR])
    assert again <= shards * harm.restarts
    assert set(faults.seen) == {"500", "503", "slow", "lost"}
    assert parts_there(settings) > parts_named(settings), "what killed workers left"
    collect(settings, timedelta(0))
    assert parts_there(settings) == parts_named(settings)
    assert not list((fleet.home / "scratch").glob("*/")), "nor do killed workers leave anything in the home"


def assert_of_one_end(settings: Settings) -> None:
    """Assert that whoever wrote rows of a month has written the same ones, also who was killed before its commit."""
    ends: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
    for path in parts_there(settings):
        _, table, symbol, name = path.split("/")
        month, _, digest = name.rpartition("-")
        if table not in TIMED:
            ends[table, symbol, month].add(digest)
    assert ends
    assert {key: found for key, found in ends.items() if len(found) > len(ASKED)} == {}
