"""Homes that are none, users without a home folder, checkouts and folders that cannot be written."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from heatmap_pipeline import surroundings
from heatmap_pipeline.surroundings import HomeError, check_home, may_write, settle
from heatmap_pipeline_tests._homes import heatmap, last_line

CHANGED = ("HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
VERBS: Mapping[str, tuple[str, ...]] = {
    "demo": ("--days", "1"),
    "run": ("BTCUSDT", "--source", "demo", "--start", "2026-01-01", "--end", "2026-01-01"),
    "refresh": (),
    "status": (),
    "score": (),
    "ui": ("--port", "1"),
    "serve": ("--port", "0"),
    "mcp": (),
    "record": ("BTCUSDT",),
    "forget": ("BTCUSDT", "--yes"),
    "backup": ("DIR",),
    "restore": (".", "--yes"),
    "export": ("DIR",),
    "fleet": ("catalogue",),
}


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the surroundings back as they were, whatever a test or `settle` makes of them."""
    for name in CHANGED:
        value = os.environ.get(name)
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.tempdir)


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry among the users, as a container may have."""

    def unknown(uid: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


# -- a home that is none


def not_to_be_made(tmp_path: Path) -> list[Path]:
    file = tmp_path / "file"
    file.touch()
    none = [file, file / "below", tmp_path / ("too long" * 99), Path("/dev/null/home")]
    return [*none, *([Path("/proc/x")] if sys.platform == "linux" else [])]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_that_a_home_is_none_and_ends(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for home in not_to_be_made(tmp_path):
        monkeypatch.setenv("HEATMAP_HOME", str(home))
        result = heatmap(verb, *VERBS[verb])
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        last_line(result.stderr, 1, f"home {home} is not", "choose another with --home or HEATMAP_HOME")


def test_a_home_that_is_not_there_yet_is_left_so(tmp_path: Path) -> None:
    check_home(tmp_path / "deep" / "home")
    settle(tmp_path / "deep" / "home")
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: object) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(HomeError, match=r"cannot be read \(Permission denied\); choose another"):
        check_home(tmp_path)


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("verb", VERBS)
def test_without_a_home_folder_every_verb_asks_for_a_home(verb: str) -> None:
    result = heatmap(verb, *VERBS[verb])
    assert result.exit_code == 2, result.output
    last_line(result.stderr, 2, "HEATMAP_HOME = '~/heatmap': no home folder is known here; write a whole path")


# -- places where libraries write


def added() -> dict[str, str]:
    return {name: os.environ[name] for name in CHANGED if name in os.environ}


def test_where_everything_can_be_written_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    before = added()
    settle(tmp_path)
    assert added() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nobody")
def test_nobody_gets_the_home_as_home_folder(tmp_path: Path) -> None:
    settle(tmp_path)
    assert Path("~").expanduser() == tmp_path / "cache"
    assert "MPLCONFIGDIR" not in os.environ, "it is found below that folder"


def test_what_cannot_be_written_is_kept_in_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(surroundings, "_PACKAGE", Path("/dev/null/site-packages/heatmap_pipeline"))
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/dev/null/tmp"])
    settle(home)
    wanted = {"NUMBA_CACHE_DIR": "numba", "MPLCONFIGDIR": "matplotlib", "TMPDIR": "tmp"}
    assert added() == {"HOME": "/dev/null", **{name: str(home / "cache" / place) for name, place in wanted.items()}}
    with tempfile.TemporaryDirectory() as made:
        assert Path(made).parent == home / "cache" / "tmp"


def test_what_the_user_has_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_PACKAGE", Path("/dev/null"))
    monkeypatch.setenv("HOME", "/dev/null")
    for name in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    before = added()
    settle(tmp_path)
    assert added() == before


def test_whether_a_folder_can_be_written_is_asked_of_the_nearest_that_is_there(tmp_path: Path) -> None:
    assert may_write(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    assert not may_write(tmp_path / "file")
    assert not may_write(tmp_path / "file" / "b")
