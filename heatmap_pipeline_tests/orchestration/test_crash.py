"""Runs from the exchange that die anywhere, again and again, while others read what is published.

After each row of deaths the same command runs once more, and everything has to be as if nothing had happened: the rows
of both databases to the last bit, and the files of the home. More deaths, chosen by more seeds, are run by

    HEATMAP_TEST_SEEDS=48 pytest heatmap_pipeline_tests/orchestration/test_crash.py
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.orchestration.runs import close_killed_runs
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline_tests._homes import last_line
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ask,
    assert_same,
    candles_file,
    day,
    metrics_file,
    problems,
    rewrite,
    tables,
    untouched,
    wilder,
)
from heatmap_pipeline_tests.orchestration.killed import Death, Ended, Forks
from heatmap_pipeline_tests.orchestration.readers import Readers, look

SEEDS = int(os.environ.get("HEATMAP_TEST_SEEDS", "3"))
"""How many rows of deaths a stored history goes through; where they are many, a third as many first runs go through
others, and a sixth while the page is drawn."""

OFTEN = SEEDS >= 6

_log = logging.getLogger(__name__)

PLACES = {
    "ingestion": ("download", "body", "raw_candles", "raw_open_interest"),
    "commit": ("position_events", "open_positions", "book_ledger", "liquidation_snapshots", "warehouse"),
    "publication": ("publication",),
}

pytestmark = pytest.mark.slow


@dataclass
class Undisturbed:
    """What one run leaves that nothing disturbed, and what it took."""

    published: dict[str, Any]
    private: dict[str, Any]
    fingerprint: str
    files: set[str]
    steps: dict[str, int]
    seconds: float


class Exchange:
    """The exchange at noon of day 3, whose archive ends at day 2; its data are of one of two versions."""

    def __init__(self, server: ExchangeServer, forks: Forks, roots: dict[str, Path], folder: Path) -> None:
        self.server = server
        self.version = "calm"
        self._forks = forks
        self._roots = roots
        self._folder = folder
        self._undisturbed: dict[tuple[str, bool], Undisturbed] = {}

    def serve(self, version: str) -> None:
        self.version = version
        self.server.root = self._roots[version]

    def run(
        self,
        home: Path,
        death: Death | None = None,
        *,
        draw: bool = False,
        in_place: bool = False,
        light: bool = not OFTEN,
        **variables: object,
    ) -> Ended:
        """Run days 1 to 3 in this home; log how that ended, for those who want to see what many seeds came to.

        With few seeds most runs are `light`: what Dagster makes of a death, the first runs show, and of an error.
        """
        days = ("--start", day(1), "--end", day(3))
        address: dict[str, Any] = {"HEATMAP_ARCHIVE_URL": self.server.url, "HEATMAP_REST_URL": self.server.url}
        command = ("run", BTC, "--source", "binance", *days, "--home", home)
        ended = self._forks.heatmap(
            *command,
            death=death,
            draw=draw,
            in_place=in_place,
            light=light,
            **address,
            HEATMAP_SNAPSHOT_INTERVAL="4h",
        )
        left = sorted(name for name in files(home) if not name.endswith((".lock", ".zip", ".CHECKSUM")))
        _log.info("%s ended with %d after %s and left %s", death, ended.code, ended.steps, left)
        return ended

    def copied(self, home: Path) -> Path:
        """Return `home` as a copy of the one that an undisturbed run made."""
        self.undisturbed()
        return Path(shutil.copytree(self._folder / self.version, home))

    def undisturbed(self, *, draw: bool = False) -> Undisturbed:
        """Return what a run of the version now served leaves in a new home."""
        key = (self.version, draw)
        if key not in self._undisturbed:
            home = self._folder / f"{self.version}{'-drawn' * draw}"
            began = time.monotonic()
            steps = dict(self.run(home, draw=draw).ok().steps)
            seconds = time.monotonic() - began
            databases = tables(home / "heatmap.duckdb"), tables(home / "warehouse")
            fingerprint = look("plain", home / "heatmap.duckdb")
            self._undisturbed[key] = Undisturbed(*databases, fingerprint, files(home), steps, seconds)
        return self._undisturbed[key]


def files(home: Path) -> set[str]:
    """Return every file of a home but Dagster's history, a spare publication and names that readers use just now."""
    found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(("dagster/", ".heatmap.reader.", ".heatmap.spare."))}


def agitated(rows: list[list[str]]) -> list[list[str]]:
    """Return the metrics of a day on which more contracts were open, by a number that swings."""
    for number, row in enumerate(rows):
        row[2] = f"{float(row[2]) * (1.1 + number % 3 / 100):.3f}"
    return rows


@pytest.fixture(scope="module")
def exchange(archive: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    folder = tmp_path_factory.mktemp("crashes")
    wild = Path(shutil.copytree(archive, folder / "files"))
    for number in (2, 3):
        rewrite(candles_file(wild, number), wilder)
        rewrite(metrics_file(wild, number), agitated)
    with ExchangeServer(archive, datetime.combine(day(3), clock(12, 2, 30))) as server:
        server.hide(str(day(3)))
        yield Exchange(server, forks, {"calm": archive, "wild": wild}, folder)


@dataclass
class Published:
    """A home whose history is rebuilt over and over, and the processes that read it."""

    home: Path
    readers: Readers
    fingerprints: set[str]
    steps: dict[str, int]
    """Of an undisturbed rebuild."""


@pytest.fixture(scope="module")
def published(exchange: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    fingerprints = set()
    for version in ("wild", "calm"):
        exchange.serve(version)
        fingerprints.add(exchange.undisturbed().fingerprint)
    assert len(fingerprints) == 2
    home = exchange.copied(tmp_path_factory.mktemp("published") / "home")
    exchange.serve("wild")
    shutil.rmtree(home / "archive")
    steps = dict(exchange.run(home, in_place=True).ok().steps)
    assert_as_if_undisturbed(exchange, home)
    with Readers(home / "heatmap.duckdb", home.parent, pause=0.01 if OFTEN else 1.0) as readers:
        yield Published(home, readers, fingerprints, steps)


def exact_death(chance: random.Random, place: str, steps: dict[str, int]) -> Death:
    """Return a death right before one of the steps of a place."""
    kind = chance.choice([kind for kind in PLACES[place] if kind in steps])
    return Death(kind, chance.randint(1, steps[kind]))


def any_death(chance: random.Random, place: str, steps: dict[str, int], seconds: float, size: int) -> Death:
    """Return a death right before a step, soon after one, at any of so many seconds, or within a write."""
    exact = exact_death(chance, place, steps)
    return chance.choice(
        (
            exact,
            replace(exact, delay=chance.uniform(0, 0.03)),
            Death(delay=chance.uniform(0, seconds)),
            Death(longest=chance.randint(min(300_000, size), size)),
        )
    )


def assert_as_if_undisturbed(exchange: Exchange, home: Path, *, draw: bool = False) -> None:
    expected = exchange.undisturbed(draw=draw)
    assert_same(tables(home / "heatmap.duckdb"), expected.published)
    assert_same(tables(home / "warehouse"), expected.private)
    assert files(home) == expected.files
    assert not list((home / "dagster").rglob("*.tmp*"))
    assert not problems(_settings(home))


def _settings(home: Path) -> Settings:
    return load_settings(home=home, source="binance", symbols=(BTC,), snapshot_interval="4h")


def assert_resumed(exchange: Exchange, parts: dict[str, int], asked: int) -> None:
    """Assert that downloads which were cut off have gone on where they stopped."""
    requests = exchange.server.asked[asked:]
    for name, size in parts.items():
        (first,) = [one for one in requests if one.path.endswith(f"/{name}")][:1]
        assert first.headers.get("Range") == f"bytes={size}-", name


def parts_of(home: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_size for path in home.rglob("*.zip.part") if path.stat().st_size}


def test_the_two_versions_differ_in_every_table_of_days(exchange: Exchange) -> None:
    """Or a mixture of them could look like one of them."""
    found = {}
    for version in ("wild", "calm"):
        exchange.serve(version)
        found[version] = exchange.undisturbed().published
    same = {name for name, table in found["calm"].items() if table.equals(found["wild"][name])}
    without_a_record = {"raw_liquidations", "recorded", "map_scores", "score_hours", "score_days"}
    of_no_day_here = {"ended_symbols", "coarse_days", "alerts", "alert_watches"}
    assert same == {"schema_version", "saved_snapshots", "failed_days", *of_no_day_here, *without_a_record}


def test_a_first_run_that_dies_in_each_stage_is_repeated(exchange: Exchange, tmp_path: Path) -> None:
    home = tmp_path / "home"
    exchange.serve("calm")
    # Of each death: the days of events and of snapshots that are stored then, of both models together, whole.
    for death, events, snapshots in (
        (Death("body", 8), 0, 0),
        (Death("book_ledger", 4), 3, 0),
        (Death("liquidation_snapshots", 3), 6, 2),
        (Death("publication", 3), 6, 6),
    ):
        assert exchange.run(home, death, light=False).killed, death
        assert not (home / "heatmap.duckdb").exists()
        stored = "SELECT (SELECT count(*) FROM heatmap_days), (SELECT count(*) FROM snapshot_days)"
        assert ask(_settings(home), stored) == [(events, snapshots)], death
        assert runs_going_on(home) == 1, "each run closes the one before it"
        if events > snapshots:
            told = "\n".join(status_lines(_settings(home)))
            assert "stale" in told
            assert "`heatmap run" in told, "what a kill left is told, with the command that goes on"
    assert list(home.glob(".heatmap.duckdb.*")), "killed within the publication"
    close_killed_runs(_settings(home))
    assert runs_going_on(home) == 0, "or it would count against the runs allowed at a time, and the schedule would wait"
    exchange.run(home, light=False).ok()
    assert_as_if_undisturbed(exchange, home)


def runs_going_on(home: Path) -> int:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        return instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))


PLAIN = "import duckdb; opened = duckdb.connect(sys.argv[1])"
OURS = (
    "from heatmap_pipeline.store.warehouse import Warehouse; path = Path(sys.argv[1]); "
    "opened = Warehouse(path.parent.parent).connect(path.stem)"
)


@contextmanager
def held(warehouse: Path, how: str, seconds: float) -> Iterator[int]:
    """Let another process hold the warehouse, so long after the block was entered; give its process id."""
    code = f"import sys, time; from pathlib import Path; {how}; opened.__enter__(); print('held', flush=True)"
    code += "; time.sleep(float(sys.argv[2])); opened.__exit__(None, None, None)"
    command = [sys.executable, "-c", code, str(warehouse), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.kill()


def test_a_warehouse_that_another_process_holds(exchange: Exchange, tmp_path: Path) -> None:
    """Refused at once where a stranger has opened it; waited for where another of our processes holds it."""
    exchange.serve("calm")
    home = exchange.copied(tmp_path / "home")
    exchange.serve("wild")
    shutil.rmtree(home / "archive")
    with untouched(home / "heatmap.duckdb"), held(home / "warehouse" / "BTCUSDT.duckdb", PLAIN, 60) as holder:
        ended = exchange.run(home, light=False, HEATMAP_LOCK_TIMEOUT=0.5)
        assert look("plain", home / "heatmap.duckdb")
    last_line(ended.stderr, ended.code, home, "open elsewhere", holder)
    assert ended.code == 1
    with held(home / "warehouse" / "BTCUSDT.duckdb", OURS, 2.0):
        exchange.run(home).ok()
    assert_as_if_undisturbed(exchange, home)


@pytest.mark.skipif(not OFTEN, reason="the deaths of one first run are above; HEATMAP_TEST_SEEDS=6 or more adds others")
@pytest.mark.parametrize("seed", range(SEEDS // 3))
def test_a_first_run_that_dies_anywhere_is_repeated(seed: int, exchange: Exchange, tmp_path: Path) -> None:
    chance = random.Random(1000 + seed)
    home = tmp_path / "home"
    expected = exchange.undisturbed()
    for place in PLACES:
        parts, asked = parts_of(home), len(exchange.server.asked)
        ended = exchange.run(home, any_death(chance, place, expected.steps, expected.seconds, 3_000_000))
        assert ended.code <= 0, ended.stderr
        if ended.code == 0:
            assert_resumed(exchange, parts, asked)
    parts, asked = parts_of(home), len(exchange.server.asked)
    exchange.run(home).ok()
    assert_resumed(exchange, parts, asked)
    assert_as_if_undisturbed(exchange, home)


@pytest.mark.skipif(not OFTEN, reason="pictures take seconds; HEATMAP_TEST_SEEDS=6 or more draws them")
@pytest.mark.parametrize("seed", range(SEEDS // 6))
def test_a_run_that_dies_while_it_draws_is_repeated(seed: int, exchange: Exchange, tmp_path: Path) -> None:
    """What it left of a file half written goes when the page is drawn later: at once it could be another run's."""
    chance = random.Random(2000 + seed)
    home = tmp_path / "home"
    expected = exchange.undisturbed(draw=True)
    for _ in range(2):
        death = Death("page", chance.randint(1, expected.steps["page"]), delay=chance.choice((None, 0.001, 0.1)))
        ended = exchange.run(home, death, draw=True)
        assert ended.code <= 0, (death, ended.stderr)
    exchange.run(home, draw=True).ok()
    left = files(home) - expected.files
    assert all(name.endswith(".tmp") for name in left)
    for name in left:
        os.utime(home / name, (0, 0))
    if left:
        exchange.run(home, draw=True).ok()
    assert_as_if_undisturbed(exchange, home, draw=True)


# -- under the eyes of readers, who take their share of the machine from here to the end


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_rebuild_that_dies_is_repeated_and_readers_see_nothing_of_it(
    seed: int, exchange: Exchange, published: Published
) -> None:
    chance = random.Random(seed)
    place = list(PLACES)[seed % len(PLACES)]
    home, database = published.home, published.home / "heatmap.duckdb"
    exchange.serve("wild" if exchange.version == "calm" else "calm")
    expected = exchange.undisturbed()
    shutil.rmtree(home / "archive")  # a file that is there with its checksum is never asked for again
    in_place = seed % 6 < 3
    deaths = [exact_death(chance, place, published.steps)]
    if place == "publication" and in_place and (home / ".heatmap.spare.duckdb").exists():
        deaths = [Death("in place", delay=chance.uniform(0, 0.1))]  # its steps are DuckDB's own
    while len(deaths) < 2 or (OFTEN and chance.random() < 0.4):
        deaths.append(any_death(chance, place, published.steps, expected.seconds, database.stat().st_size))
    for number, death in enumerate(deaths):
        ended = exchange.run(home, death, in_place=in_place)
        # Only what was already done, or how often a file is touched until it is published, may let it live.
        assert ended.killed or (ended.code == 0 and (number or place == "publication")), (death, ended.stderr)
        assert look("plain", database) in published.fingerprints, death
    exchange.run(home, in_place=in_place).ok()
    assert_as_if_undisturbed(exchange, home)
    for kind, seen in published.readers.seen().items():
        assert set(seen) <= published.fingerprints, (kind, seen)
        assert seen[expected.fingerprint], kind
        _log.info("reader %s: %s", kind, dict(seen))
