"""Folders of parts: which are whole, which is the newest, what is removed, and parts under a second name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from heatmap_pipeline.store.generations import (
    built_note,
    generations,
    link,
    mark_built,
    new_generation,
    newest_built,
    remove_all_but,
)


def made(parts: Path, name: str, built_at: int | None = None) -> Path:
    """Make a folder of parts, of which a database was made at a time, or none."""
    folder = parts / name
    folder.mkdir(parents=True)
    if built_at is not None:
        mark_built(folder, f"note of {name}")
        os.utime(folder / "built", (built_at, built_at))
    return folder


def test_only_folders_that_are_whole_count_and_the_one_built_last_is_the_newest(tmp_path: Path) -> None:
    old, new, unused = made(tmp_path, "b", 1000), made(tmp_path, "a", 2000), made(tmp_path, "c")
    made(tmp_path, ".7.new", 3000)
    (tmp_path / "file").touch()
    assert set(generations(tmp_path)) == {old, new, unused}
    assert newest_built(generations(tmp_path)) == new
    assert newest_built([unused]) is None
    assert (built_note(old), built_note(unused)) == ("note of b", None)


def test_what_was_not_made_to_the_end_is_removed(tmp_path: Path) -> None:
    killed, whole = made(tmp_path, ".7.new"), made(tmp_path, "whole", 1000)
    with new_generation(tmp_path) as new:
        assert not killed.exists()
        made(tmp_path, new.name)
    assert list(tmp_path.iterdir()) == [whole]
    with new_generation(tmp_path) as new:
        made(tmp_path, new.name).rename(tmp_path / "next")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["next", "whole"]
    with pytest.raises(FileExistsError), new_generation(tmp_path) as new:
        made(made(tmp_path, new.name), "again").mkdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["next", "whole"]


def test_all_folders_but_those_that_are_kept_are_removed_and_at_last_the_one_that_holds_them(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    first, second, third = (made(parts, name) for name in ("1", "2", "3"))
    remove_all_but(parts, {first, third})
    assert sorted(parts.iterdir()) == [first, third]
    assert not second.exists()
    remove_all_but(parts, set())
    remove_all_but(parts, set())
    assert not parts.exists()


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_a_part_is_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    (tmp_path / "part").write_bytes(b"rows")
    link(tmp_path / "part", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "part")

    def refused(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    link(tmp_path / "part", tmp_path / "copied")
    assert (tmp_path / "copied").read_bytes() == b"rows"
    assert not (tmp_path / "copied").samefile(tmp_path / "part")


@pytest.mark.parametrize("error", [errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_part_is_not_copied_where_there_is_none_or_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    (tmp_path / "part").write_bytes(b"rows")

    def refused(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    with pytest.raises(OSError, match=os.strerror(error)):
        link(tmp_path / "part", tmp_path / "other")
    assert not (tmp_path / "other").exists()
