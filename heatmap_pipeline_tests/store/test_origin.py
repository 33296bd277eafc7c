"""The archive folder of earlier runs: remembered per symbol, private, and worth nothing more than what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from heatmap_pipeline.commands import command
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.origin import archive_folders, as_stored, remember_archive, stored_command
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import Warehouse


def remember(home: Path, symbol: str, folder: Path) -> None:
    remember_archive(load_settings(home=home, source="archive", archive=folder), symbol)


def test_each_symbol_has_its_own_and_the_last_counts(tmp_path: Path) -> None:
    assert archive_folders(tmp_path) == {}
    for symbol, name in (("BTCUSDT", "a b"), ("ETHUSDT", "ö"), ("BTCUSDT", "c")):
        remember(tmp_path, symbol, tmp_path / name)
    assert archive_folders(tmp_path) == {"BTCUSDT": tmp_path / "c", "ETHUSDT": tmp_path / "ö"}
    assert {path.name for path in tmp_path.iterdir()} == {"archives.json", "notes.lock"}


def test_a_source_with_files_of_its_own_has_none(tmp_path: Path) -> None:
    for source in ("demo", "binance"):
        remember_archive(load_settings(home=tmp_path, source=source, archive=tmp_path), "BTCUSDT")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'{"BTCUSDT": 3}', b"\xff\xfe", b"{}"])
def test_a_spoilt_file_says_nothing_and_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "archives.json").write_bytes(content)
    assert archive_folders(tmp_path) == {}
    remember(tmp_path, "BTCUSDT", tmp_path)
    assert archive_folders(tmp_path) == {"BTCUSDT": tmp_path}


def test_which_folder_a_line_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, former, common = tmp_path / "home", tmp_path / "former", tmp_path / "common"
    for folder in (home, former):
        folder.mkdir()

    def named(symbol: str = "BTCUSDT", **options: Path | str) -> str:
        return command(as_stored(load_settings(home=home, **options), symbol, "archive"), "refresh", symbol)

    assert named() == f"heatmap refresh BTCUSDT --archive DIR --home {home}", "nobody has said where"
    remember(home, "BTCUSDT", former)
    assert named() == f"heatmap refresh BTCUSDT --archive {former} --home {home}"
    assert "--archive DIR" in named("ETHUSDT")
    assert f"--archive {common}" in named(source="archive", archive=common), "said in this very command"
    monkeypatch.setenv("HEATMAP_SOURCE", "archive")
    monkeypatch.setenv("HEATMAP_ARCHIVE", str(common))
    assert f"--archive {former}" in named(), "this symbol came from there"
    assert "--archive" not in named("ETHUSDT"), "the environment says it"
    former.rmdir()
    assert "--archive" not in named(), "it is gone; the environment's may be where it was moved"
    monkeypatch.delenv("HEATMAP_ARCHIVE")
    assert f"--archive {former}" in named(), "gone, and the best that is known"


def test_other_sources_need_no_folder_and_an_unknown_one_changes_nothing(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, source="archive", archive=tmp_path)
    assert as_stored(settings, "BTCUSDT", "binance").source == "binance"
    assert as_stored(settings, "BTCUSDT", "") is settings
    assert as_stored(settings, "BTCUSDT", "of a later version") is settings


def test_an_open_database_tells_home_source_and_folder(
    warehouse: Warehouse, con: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = warehouse.home
    monkeypatch.setenv("HEATMAP_SOURCE", "binance")
    con.execute("UPDATE symbols SET source = 'archive'")
    remember(home, "BTCUSDT", tmp_path)
    line = f"heatmap refresh BTCUSDT --archive {tmp_path} --home {home}"
    assert stored_command(con, "refresh", "BTCUSDT") == line
    con.execute("UPDATE symbols SET source = 'demo'")
    assert stored_command(con, "refresh", "BTCUSDT") == f"heatmap refresh BTCUSDT --source demo --home {home}"


def test_a_published_database_tells_the_same_and_holds_no_folder(warehouse: Warehouse, tmp_path: Path) -> None:
    with warehouse.connect("BTCUSDT") as con:
        con.execute("UPDATE symbols SET source = 'archive'")
    secret = tmp_path / "of this machine only"
    remember(warehouse.home, "BTCUSDT", secret)
    publish(warehouse, ["BTCUSDT"])
    with warehouse.read() as con:
        line = stored_command(con, "refresh", "BTCUSDT")
    assert line == f"heatmap refresh BTCUSDT --archive '{secret}' --home {warehouse.home}"
    assert b"of this machine only" not in warehouse.published.read_bytes()
