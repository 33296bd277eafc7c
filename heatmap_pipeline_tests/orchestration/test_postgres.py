"""Dagster's history in Postgres, by the dagster.yaml of deploy/ that a user puts into a home."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import heatmap_pipeline
from heatmap_pipeline.commands import at
from heatmap_pipeline.fleet.scratch import scratch_home
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.instance_file import InstanceFileError
from heatmap_pipeline.orchestration.runs import (
    close_killed_runs,
    launched_here,
    opened_history,
    prepare_home,
    run_days,
)
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests._postgres import Postgres, postgres
from heatmap_pipeline_tests.orchestration.homes import BTC, assert_same, compute, day, real, tables, write_archive
from heatmap_pipeline_tests.orchestration.test_instance_file import started

pytestmark = pytest.mark.slow

OURS = Path(heatmap_pipeline.__file__).parents[1] / "deploy" / "dagster.yaml"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"), 2, BTC)


@pytest.fixture(scope="module")
def shared(server: Postgres) -> dict[str, str]:
    """The variables of a database that homes share; making Dagster's tables in it takes seconds."""
    return server.database("two")


def status_of(server: Postgres, *runs: str) -> list[str]:
    """Return how runs in the shared database stand."""
    said = dict(line.split("|") for line in server.ask("two", "SELECT run_id, status FROM runs"))
    return [said[run] for run in runs]


def with_history(settings: Settings, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> Settings:
    """Put the file of deploy/ into a home, and the variables that it names into the environment."""
    folder = settings.home / "dagster"
    folder.mkdir(parents=True)
    shutil.copyfile(OURS, folder / "dagster.yaml")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return settings


def test_a_run_of_the_command_line_is_in_postgres_and_nothing_of_it_in_the_home(
    server: Postgres, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = with_history(real(tmp_path / "home", files, BTC, models=("delta",)), monkeypatch, server.database("one"))
    with caplog.at_level(logging.WARNING):
        outcome = run_days(settings, {BTC: (day(1), day(2))})
    assert (outcome.published, outcome.failures) == ({BTC: (day(1), day(2))}, {})
    assert not [record for record in caplog.records if "dagster.yaml" in record.getMessage()], "nothing lacks in it"
    assert server.ask("one", "SELECT status, count(*) FROM runs GROUP BY 1") == ["SUCCESS|1"]
    days = server.ask(
        "one",
        "SELECT partition FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' "
        f"""AND asset_key = '["{BTC}", "position_events"]' ORDER BY 1""",
    )
    assert days == [str(day(1)), str(day(2))]
    assert not list((settings.home / "dagster").rglob("*.db")), "no SQLite beside it"
    embedded = compute(real(tmp_path / "embedded", files, BTC, models=("delta",)), 1, 2)
    assert_same(tables(settings.home / "heatmap.duckdb"), tables(embedded.home / "heatmap.duckdb"))


def test_two_homes_on_one_postgres_do_not_touch_each_others_runs(
    server: Postgres, shared: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (with_history(at(tmp_path / name), monkeypatch, shared) for name in ("here", "there"))
    with open_history(prepare_home(here)) as instance:
        ours, theirs = (started(instance, **launched_here(home)) for home in (here, there))
    close_killed_runs(here)
    assert status_of(server, ours, theirs) == ["FAILURE", "STARTED"]
    close_killed_runs(there)
    assert status_of(server, ours, theirs) == ["FAILURE", "FAILURE"]


def test_a_run_over_a_store_that_was_killed_is_marked_as_failed_by_the_next_one_of_its_home(
    server: Postgres, shared: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = {"store": f"file://{tmp_path}/store"}
    homes = (with_history(at(tmp_path / name), monkeypatch, shared) for name in ("here", "there"))
    here, there = (home.model_copy(update=over) for home in homes)
    with scratch_home(here) as scratch, scratch_home(there) as other, open_history(prepare_home(scratch)) as instance:
        ours, theirs = (started(instance, **launched_here(settings)) for settings in (scratch, other))
    with scratch_home(here) as scratch:
        run_days(scratch, {})
    assert status_of(server, ours, theirs) == ["FAILURE", "STARTED"]


def test_a_table_that_another_process_makes_meanwhile_is_not_in_the_way(
    server: Postgres, shared: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_history(at(tmp_path / "home"), monkeypatch, shared)
    folder = prepare_home(settings)
    with opened_history(folder):
        pass
    with closing(server.connected("two")) as other, ThreadPoolExecutor(1) as threads:
        other.cursor().execute("DROP TABLE instance_info")
        other.commit()
        other.cursor().execute("CREATE TABLE instance_info (id BIGSERIAL PRIMARY KEY, run_storage_id TEXT)")

        def opened() -> int:
            with opened_history(folder) as instance:
                return instance.get_runs_count()

        opening = threads.submit(opened)
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%instance_info%'"
        while server.ask("two", waits) != ["1"]:  # until it has looked, and is about to make the table
            assert not opening.done()
        other.commit()
        assert opening.result() >= 0


def test_a_postgres_that_is_restarted_is_found_again_and_one_that_is_gone_is_said(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_history(at(tmp_path / "home"), monkeypatch, server.database("three"))
    with opened_history(prepare_home(settings)) as instance:
        first = started(instance)
        server.restart()
        second = started(instance)
        assert {run.run_id for run in instance.get_runs()} == {first, second}
    monkeypatch.setenv("POSTGRES_PASSWORD", "another")
    monkeypatch.setattr("dagster_postgres.utils.calculate_delay", lambda **_: 0.0)  # it tries six times
    with (
        pytest.raises(InstanceFileError, match="password authentication failed"),
        opened_history(prepare_home(settings)),
    ):
        pass
