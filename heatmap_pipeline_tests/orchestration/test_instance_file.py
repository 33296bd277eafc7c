"""Whose dagster.yaml is in a home: ours follows the program, the user's stays, and what it lacks is said."""

from __future__ import annotations

import logging
from pathlib import Path

import dagster as dg
import pytest

from heatmap_pipeline import files
from heatmap_pipeline.commands import at
from heatmap_pipeline.orchestration import instance_file
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.instance_file import InstanceFileError, is_the_users, put_instance_file
from heatmap_pipeline.orchestration.partitions import LAUNCHED_HERE
from heatmap_pipeline.orchestration.runs import (
    close_killed_runs,
    close_killed_runs_of_a_shard,
    close_killed_runs_of_the_ui,
    launched_here,
    packaged_file,
    prepare_home,
)
from heatmap_pipeline.orchestration.shards import SHARD_TAG

OURS = b"telemetry:\n  enabled: false\n"
NEWER = OURS + b"nux:\n  enabled: false\n"
COMPLETE = packaged_file("dagster.yaml").read_bytes() + b"\n# mine\n"


def dagster_yaml(folder: Path) -> Path:
    return folder / "dagster.yaml"


def test_ours_is_written_and_follows_the_program(tmp_path: Path) -> None:
    for content in (OURS, OURS, NEWER, OURS):
        put_instance_file(tmp_path, content)
        assert dagster_yaml(tmp_path).read_bytes() == content
        assert not is_the_users(tmp_path)
    dagster_yaml(tmp_path).unlink()
    put_instance_file(tmp_path, OURS)
    assert dagster_yaml(tmp_path).read_bytes() == OURS


def test_one_of_before_it_was_noted_is_ours(tmp_path: Path) -> None:
    dagster_yaml(tmp_path).write_bytes(packaged_file("dagster.yaml").read_bytes())
    assert not is_the_users(tmp_path), "the file of this version is among those that were written without a note"
    put_instance_file(tmp_path, NEWER)
    assert dagster_yaml(tmp_path).read_bytes() == NEWER


@pytest.mark.parametrize("stops", ["note", "file"])
def test_killed_between_note_and_file_it_is_still_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: str
) -> None:
    put_instance_file(tmp_path, OURS)
    write = files.replace_file

    def killed(path: Path, content: bytes) -> None:
        if stops == "note" or path.name == "dagster.yaml":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(instance_file, "replace_file", killed)
    with pytest.raises(KeyboardInterrupt):
        put_instance_file(tmp_path, NEWER)
    monkeypatch.setattr(instance_file, "replace_file", write)
    assert not is_the_users(tmp_path)
    put_instance_file(tmp_path, NEWER)
    assert dagster_yaml(tmp_path).read_bytes() == NEWER


def test_the_users_is_kept_and_what_it_lacks_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_instance_file(tmp_path, OURS)
    mine = b"run_retries:\n  enabled: true\nconcurrency:\n  runs:\n    max_concurrent_runs: 4\n"
    dagster_yaml(tmp_path).write_bytes(mine)
    with caplog.at_level(logging.WARNING):
        put_instance_file(tmp_path, NEWER)
        put_instance_file(tmp_path, NEWER)
    assert dagster_yaml(tmp_path).read_bytes() == mine
    said = [record.getMessage() for record in caplog.records]
    assert [words.split(" does not set ")[1].split(":")[0] for words in said] == [
        "concurrency.runs.max_concurrent_runs",
        "run_retries.retry_on_asset_or_op_failure",
        "backfills.use_threads",
        "run_monitoring.enabled",
    ]
    assert all(str(dagster_yaml(tmp_path)) in words for words in said)


def test_nothing_is_said_of_a_file_that_has_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dagster_yaml(tmp_path).write_bytes(COMPLETE)
    with caplog.at_level(logging.WARNING):
        put_instance_file(tmp_path, OURS)
    assert not caplog.records
    assert dagster_yaml(tmp_path).read_bytes() == COMPLETE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"run_retries: [1", "flow sequence"),
        (b"- 1\n", "no settings"),
        (b"\xff\xfe", ""),
        (b"no_such_setting: 1\n", "no_such_setting"),
        (b"concurrency: 5\n", ""),
        (b"concurrency:\n  runs:\n    tag_concurrency_limits: 3\n", "concurrency"),
        (b"begun: 2024-13-45\n", "month must be in 1..12"),
        (b"run_storage:\n  module: no_such_module\n  class: Storage\n  config: {}\n", "no_such_module"),
    ],
)
def test_a_file_that_dagster_cannot_use_is_refused_in_one_sentence(tmp_path: Path, content: bytes, words: str) -> None:
    folder = tmp_path / "dagster"
    folder.mkdir()
    dagster_yaml(folder).write_bytes(content)
    with pytest.raises(InstanceFileError) as refused, open_history(prepare_home(at(tmp_path))):
        pass
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert f"{dagster_yaml(folder)}, which you wrote, cannot be used" in str(refused.value)
    assert dagster_yaml(folder).read_bytes() == content


def started(instance: dg.DagsterInstance, **tags: str) -> str:
    """Return the id of a run that seems to go on."""

    @dg.job
    def nothing() -> None: ...

    run = instance.create_run_for_job(nothing, tags={**tags})
    instance.handle_new_event(_start(run))
    return run.run_id


def _start(run: dg.DagsterRun) -> dg.EventLogEntry:
    event = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=run.job_name, message="")
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=1.0, dagster_event=event
    )


def test_in_a_history_that_is_shared_only_killed_runs_of_this_home_are_closed(tmp_path: Path) -> None:
    """Two homes with one history: the run of the other one goes on, and may not be marked as failed."""
    here, there = at(tmp_path / "here"), at(tmp_path / "there")
    shared = f"storage:\n  sqlite:\n    base_dir: {tmp_path / 'shared'}\n".encode()
    for home in (here, there):
        folder = home.home / "dagster"
        folder.mkdir(parents=True)
        dagster_yaml(folder).write_bytes(packaged_file("dagster.yaml").read_bytes() + shared)
    with open_history(prepare_home(here)) as instance:
        ours, theirs = (started(instance, **launched_here(home)) for home in (here, there))
        elsewhere = started(instance, **{**launched_here(here), "heatmap/host": "another"})
        in_the_ui = started(instance, **{".dagster/grpc_info": '{"socket": "/nowhere"}'})
    close_killed_runs(here)
    close_killed_runs_of_the_ui(here, lambda _: False)
    with open_history(prepare_home(there)) as instance:
        statuses = {name: instance.get_run_by_id(name).status.value for name in (ours, theirs, elsewhere, in_the_ui)}  # type: ignore[union-attr]
    assert statuses == {ours: "FAILURE", theirs: "STARTED", elsewhere: "STARTED", in_the_ui: "STARTED"}


def test_in_the_homes_own_history_every_killed_run_of_a_command_is_closed(tmp_path: Path) -> None:
    """Also one of a program before there were these tags, of a container that had another name, of a home moved."""
    home = at(tmp_path)
    with open_history(prepare_home(home)) as instance:
        runs = [started(instance, **LAUNCHED_HERE), started(instance, **{**launched_here(home), "heatmap/host": "x"})]
    close_killed_runs(home)
    with open_history(prepare_home(home)) as instance:
        assert [instance.get_run_by_id(name).status.value for name in runs] == ["FAILURE"] * 2  # type: ignore[union-attr]


def test_of_a_shard_only_what_a_killed_code_server_ran_is_closed_and_what_was_being_cancelled_is_cancelled(
    tmp_path: Path,
) -> None:
    home, server = at(tmp_path), {".dagster/grpc_info": '{"host": "shard-1"}'}
    with open_history(prepare_home(home)) as instance:
        killed, cancelled = (started(instance, **server, **{SHARD_TAG: "1"}) for _ in range(2))
        run = instance.get_run_by_id(cancelled)
        assert run is not None
        instance.report_run_canceling(run)
        of_another = started(instance, **server, **{SHARD_TAG: "2"})
        not_handed_over = started(instance, **{SHARD_TAG: "1"})
    close_killed_runs_of_a_shard(home, {SHARD_TAG: "1"})
    with open_history(prepare_home(home)) as instance:
        runs = [instance.get_run_by_id(name) for name in (killed, cancelled, of_another, not_handed_over)]
        assert [run.status.value for run in runs if run] == ["FAILURE", "CANCELED", "STARTED", "STARTED"]
