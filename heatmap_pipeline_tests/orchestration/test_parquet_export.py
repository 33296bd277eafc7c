"""HEATMAP_EXPORT: written in the run that publishes; where it fails the publication stands, and everybody is told."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from heatmap_pipeline import notices
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.export import is_current
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import done, heatmap, last_line
from heatmap_pipeline_tests._webhook import Webhook, listening
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, day, real, run_job


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(notices, "BACKOFF", 0.01)
    with listening() as running:
        monkeypatch.setenv("HEATMAP_WEBHOOK", running.url)
        yield running


def stages(settings: Settings) -> set[str]:
    return {spec.key.path[1] for spec in build_defs(settings).resolve_all_asset_specs()}


def export_lines(settings: Settings) -> list[str]:
    return [line for line in status_lines(settings) if line.startswith("export ")]


def test_there_is_a_stage_where_a_folder_is_set(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert stages(load_settings(home=tmp_path, export=tmp_path / "tree")) - stages(settings) == {"parquet_export"}


def test_the_run_that_publishes_exports(home: Path, archive: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    settings = real(home, archive, export=tree)
    assert export_lines(settings), "nothing is exported yet"
    ran = run_job(settings, 5, stages=["published_database", "parquet_export"], dagster=True).ok()
    (metadata,) = ran.materialised[f"{BTC}/parquet_export"].values()
    assert metadata["written"] == metadata["files"] == len(list(tree.rglob("*.parquet"))) > 8
    assert is_current(Warehouse(home), tree)
    assert not export_lines(settings)
    ran = run_job(settings, 5, stages=["published_database", "parquet_export"]).ok()
    (metadata,) = ran.materialised[f"{BTC}/parquet_export"].values()
    assert metadata["written"] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("light_commands")
def test_a_failed_export_is_told_and_what_was_published_stands(
    hook: Webhook, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, tree = tmp_path / "home", tmp_path / "a tree"
    tree.write_text("mine")
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    monkeypatch.setenv("HEATMAP_EXPORT", str(tree))
    failed = heatmap("run", BTC, "--archive", archive, "--start", day(1), "--end", day(2), "--home", home)
    words = f"{BTC} is published, but not exported: {tree} is a file; an export needs a folder, choose another name"
    line = last_line(failed.stderr, 1, words)
    assert f"{BTC}: {day(1)} .. {day(2)} computed and published" in failed.stdout
    settings = real(home, archive)
    assert ask(settings, "SELECT max(day) FROM heatmap_days", published=True) == [(day(2),)]
    (body,) = hook.bodies
    assert (body["symbol"], body["stage"]) == (BTC, "parquet_export")
    assert f"`{body['command']}`" in line
    (told,) = export_lines(settings)
    assert told.endswith(f"is behind what is published; write it with `{body['command']}`")
    tree.unlink()
    done(*shlex.split(body["command"])[1:])
    assert not export_lines(settings)
    assert is_current(Warehouse(home), tree)


def test_the_command_says_what_it_did(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "a tree"
    said = done("export", "--format", "parquet", tree, "--home", home)
    files = len(list(tree.rglob("*.parquet")))
    assert f"{tree}: {files} files, " in said.stdout
    assert f"; {files} written, 0 removed" in said.stdout
    assert f"cd '{tree}' && duckdb -init open.sql" in said.stdout
    assert f"{BTC} export: 1 of 1 months" in said.stderr
    monkeypatch.setenv("HEATMAP_EXPORT", str(tree))
    assert "; 0 written, 0 removed" in done("export", "--home", home).stdout


def test_the_command_refuses_in_one_line(home: Path, tmp_path: Path) -> None:
    last_line(heatmap("export", "--home", home).stderr, 2, "Missing argument 'DIR'; give it, or set HEATMAP_EXPORT.")
    last_line(heatmap("export", tmp_path, "--format", "csv", "--home", home).stderr, 2, "'csv' is not 'parquet'")
    failed = heatmap("export", home, "--home", home)
    assert failed.exit_code == 1
    last_line(failed.stderr, 1, "choose a new or an empty folder")
    failed = heatmap("export", tmp_path / "tree", "--home", tmp_path / "nothing")
    last_line(failed.stderr, 1, "nothing is published in")
