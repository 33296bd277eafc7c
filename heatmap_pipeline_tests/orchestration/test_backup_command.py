"""`heatmap backup` and `heatmap restore` as a user runs them, and killed in the middle."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from heatmap_pipeline.store.backup import backups
from heatmap_pipeline.store.last_run import read_last_run
from heatmap_pipeline_tests._homes import as_if_yesterday_were, done, heatmap, refused
from heatmap_pipeline_tests.orchestration.homes import BTC, assert_same, compute, day, real, tables
from heatmap_pipeline_tests.orchestration.killed import Death, Forks
from heatmap_pipeline_tests.orchestration.light import light_runs

DATABASES = ("warehouse", "heatmap.duckdb")


@pytest.fixture(scope="module")
def later(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with days 1 to 3. Nobody changes it."""
    home = tmp_path_factory.mktemp("later")
    compute(real(home, archive, models=("delta",), snapshot_interval="1h"), 1, 3)
    return home


@pytest.fixture(scope="module")
def published(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with days 1 and 2, as `heatmap run` leaves it. Nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
        patch.setenv("HEATMAP_MODELS", "delta")
        patch.setattr("heatmap_pipeline.render.page.write_page", lambda *_: None)
        patch.setattr("heatmap_pipeline.render.picture.small_png", lambda *_: b"")
        home = tmp_path_factory.mktemp("published")
        done("run", BTC, "--archive", archive, "--start", day(1), "--end", day(2), "--home", home)
    return home


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_MODELS", "delta")


def all_tables(home: Path) -> dict[str, Any]:
    return {f"{name} {table}": rows for name in DATABASES for table, rows in tables(home / name).items()}


def status(home: Path) -> list[str]:
    return done("status", "--home", home).output.splitlines()[1:]  # the first names the home


def test_a_home_comes_back_and_goes_on(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: Path
) -> None:
    as_if_yesterday_were(monkeypatch, day(3))
    monkeypatch.setenv("HEATMAP_SOURCE", "archive")
    monkeypatch.setenv("HEATMAP_ARCHIVE", str(archive))
    monkeypatch.setenv("HEATMAP_SYMBOLS", BTC)
    monkeypatch.setenv("HEATMAP_API_TOKEN", "12345678")
    target, home = tmp_path / "backups", tmp_path / "restored"
    with FileLock(published / "run.lock"):  # a run is going on
        said = done("backup", target, "--home", published).output
    (folder,) = backups(target)
    assert said.startswith(f"{len(list(folder.rglob('*.*'))) - 1} files, ")
    assert said.endswith(f" MB, are in {folder}\n")
    assert "12345678" not in (folder / "manifest.json").read_text()
    monkeypatch.delenv("HEATMAP_SYMBOLS")
    said = done("restore", target, "--home", home).output
    assert f"HEATMAP_SYMBOLS={BTC}" in said.splitlines()[-1]
    assert "HEATMAP_SOURCE" not in said, "that is set as it was"
    assert_same(all_tables(home), all_tables(published))
    assert status(home) == status(published)
    for place in (home, shutil.copytree(published, tmp_path / "undisturbed")):
        with nullcontext() if place == home else light_runs():
            said = done("refresh", BTC, "--home", place).output
        assert f"{BTC}: {day(3)} .. {day(3)} computed and published" in said
    assert_same(all_tables(home), all_tables(tmp_path / "undisturbed"))
    run = read_last_run(home)
    assert run is not None
    assert (run.failed, list(run.symbols)) == (False, [BTC])


def test_refusals(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, home = tmp_path / "backups", Path(shutil.copytree(published, tmp_path / "home"))
    refused(heatmap("backup", target, "--home", tmp_path / "none"), 1, "nothing is stored", "heatmap demo")
    done("backup", target, "--home", home)
    refused(heatmap("restore", target, "--home", home), 1, f"{home} is not empty", "--yes")
    refused(heatmap("restore", tmp_path / "home", "--home", home), 1, "is no backup, and holds none")
    (tmp_path / "file").write_text("")
    refused(heatmap("restore", target, "--home", tmp_path / "file" / "home"), 1, "cannot be made")
    refused(heatmap("backup", tmp_path / "file" / "backups", "--home", home), 1, str(tmp_path / "file"))
    monkeypatch.setenv("HEATMAP_LOCK_TIMEOUT", "0.1")
    with FileLock(home / "run.lock"):
        refused(heatmap("restore", target, "--home", home, "--yes"), 1, "still holds", "run.lock")
    with (home / "dagster" / "ui.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = refused(heatmap("restore", target, "--home", home, "--yes"), 1, "runs the UI", str(home))
        assert "stop it" in said
    monkeypatch.setenv("HEATMAP_EXPORT", str(tmp_path / "tree"))
    said = done("restore", target, "--home", home, "--yes").output
    assert "what they replaced is in" in said.splitlines()[1]
    assert f"{tmp_path / 'tree'} is behind what is published" in said.splitlines()[2]


# -- killed


@pytest.mark.slow
def test_a_backup_that_is_killed_leaves_those_before(forks: Forks, published: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(published, tmp_path / "home"))
    target = home / "backups"  # within the home, where steps are counted
    steps = forks.heatmap("backup", target, "--home", home).ok().steps
    wanted = all_tables(home)
    for step in (steps["home"] // 3, 2 * steps["home"] // 3, steps["home"]):
        ended = forks.heatmap("backup", target, "--home", home, death=Death("home", step))
        assert ended.killed
        assert len(backups(target)) == 1
        back = tmp_path / f"back{step}"
        forks.heatmap("restore", target, "--home", back).ok()
        assert_same(all_tables(back), wanted)
    forks.heatmap("backup", target, "--home", home).ok()
    assert len(backups(target)) == 2
    assert not list(target.glob(".*.part"))


@pytest.mark.slow
def test_a_restore_that_is_killed_leaves_the_home_before_or_the_one_that_was_backed_up(
    forks: Forks, published: Path, later: Path, tmp_path: Path
) -> None:
    target = tmp_path / "backups"
    forks.heatmap("backup", target, "--home", published).ok()
    before, after = all_tables(later), all_tables(published)
    assert status(later) != status(published)
    copy = Path(shutil.copytree(later, tmp_path / "copy"))
    steps = forks.heatmap("restore", target, "--home", copy, "--yes").ok().steps
    seen = set()
    for step in sorted({1, steps["home"] // 2, steps["home"] - 6, steps["home"] - 3, steps["home"]}):
        home = Path(shutil.copytree(later, tmp_path / f"home{step}"))
        ended = forks.heatmap("restore", target, "--home", home, "--yes", death=Death("home", step))
        assert ended.killed
        lines = status(home)
        found = all_tables(home)
        one = (
            "after"
            if found["warehouse heatmap_days"].num_rows < before["warehouse heatmap_days"].num_rows
            else "before"
        )
        seen.add(one)
        assert_same(found, after if one == "after" else before)
        assert lines == status(published if one == "after" else later)
        forks.heatmap("restore", target, "--home", home, "--yes").ok()
        assert_same(all_tables(home), after)
    assert seen == {"before", "after"}
