"""Workers killed anywhere: what is stored is a commit, and run again it ends as if nobody had been killed.

Eight random kills by default, half of them over each kind of store; `HEATMAP_TEST_FLEET_KILLS=100` for more.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from heatmap_pipeline.fleet.collect import collect, manifests
from heatmap_pipeline.fleet.worker import open_bucket, shard
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.manifest import manifest_path
from heatmap_pipeline_tests.fleet.conftest import both
from heatmap_pipeline_tests.fleet.stores import parts_named, parts_there
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, assert_same, day, real, tables
from heatmap_pipeline_tests.orchestration.killed import Death, Ended, Forks

pytestmark = [pytest.mark.slow, pytest.mark.fleet]

KILLS = int(os.environ.get("HEATMAP_TEST_FLEET_KILLS", "8"))
KINDS = ("store", "store", "store", "warehouse", "publication", "home", "book_ledger", "")
"""Of what the step is at which a worker dies; most at the store, before or after something is asked of it."""


@pytest.fixture
def fleet(
    forks: Forks, archive: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int, Death | None], Ended]:
    """Runs `heatmap fleet run` of days 1 to a number in a process of its own, which may die.

    Its stages are not Dagster's, which has no part in what is stored.
    """
    monkeypatch.setenv("HEATMAP_MODELS", "delta")

    def run(last: int, death: Death | None = None) -> Ended:
        days = ("--start", day(1), "--end", day(last))
        places = ("--home", tmp_path / "machine", "--archive", archive)
        return forks.heatmap("fleet", "run", BTC, *days, *places, death=death, light=True, HEATMAP_STORE=store)

    return run


def days_stored(settings: Settings, whole: Path | None = None) -> int:
    """Return how many days are stored, after seeing that all of it can be read; two are to be those of a whole home."""
    with shard(settings) as own:
        assert own.commit(BTC).parts == 0
        if not manifests(own.bucket):
            return 0
        ((count,),) = ask(own.settings, "SELECT count(*) FROM heatmap_days")
        if whole is not None:
            assert count == 2, "all of a run or nothing of it"
            for name in ("warehouse", "heatmap.duckdb"):
                assert_same(tables(own.settings.home / name), tables(whole / name))
    return int(count)


@both
def test_killed_workers_leave_commits_and_nothing_else_in_the_end(
    fleet: Callable[..., Ended], forks: Forks, archive: Path, store: str, tmp_path: Path
) -> None:
    settings = real(tmp_path / "reader", archive, BTC, store=store, models=("delta",))
    embedded = tmp_path / "embedded"
    run = ("run", BTC, "--start", day(1), "--end", day(2), "--home", embedded, "--archive", archive)
    forks.heatmap(*run, light=True).ok()
    steps = fleet(2).ok().steps
    assert steps["store"] > 20
    chance, killed = random.Random(12), 0
    for number in range(KILLS // 2):
        open_bucket(settings).remove([manifest_path(BTC)])  # so that it has everything to do, beside what is there
        kind = KINDS[number % len(KINDS)]
        ended = fleet(2, Death(kind, chance.randint(1, steps[kind]), delay=chance.choice((None, None, 0.02))))
        killed += ended.killed
        assert ended.killed or ended.code == 0, ended.stderr
        days_stored(settings, embedded)
    assert killed >= KILLS // 4
    fleet(2).ok()
    assert parts_there(settings) > parts_named(settings)
    collect(settings, timedelta(0))
    assert parts_there(settings) == parts_named(settings)
    assert days_stored(settings, embedded) == 2
    assert not list((tmp_path / "machine" / "scratch").glob("*/")), "what killed workers left in the home is gone"


def test_killed_right_before_and_right_after_its_commit(
    fleet: Callable[..., Ended], archive: Path, store: str, tmp_path: Path
) -> None:
    settings = real(tmp_path / "reader", archive, BTC, store=store, models=("delta",))
    assert fleet(1).ok().steps["swap"] == 2
    for step, days in ((1, 1), (2, 2)):
        assert fleet(2, Death("swap", step)).killed
        assert days_stored(settings) == days
    named = parts_named(settings)
    fleet(2).ok()
    assert parts_named(settings) == named
