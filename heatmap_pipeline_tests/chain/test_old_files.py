"""Which files of the archive are removed: those of a day that is computed, old enough, and to be had again."""

from __future__ import annotations

import os
import shutil
import time
from datetime import date, timedelta
from pathlib import Path

import pytest

from heatmap_pipeline.chain import old_files
from heatmap_pipeline.chain.old_files import remove_old_files
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.homes import BTC, candles_file, checksum_of, day, metrics_file, write_archive


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home whose archive holds days 1 to 5, of which 1 to 4 are computed, a hundred days later."""
    settings = load_settings(home=tmp_path, source="binance", keep_archive_days=90, check_days=45)
    write_archive(settings.archive_root, 5, BTC)
    monkeypatch.setattr(old_files, "today", lambda: day(1) + timedelta(days=100))
    monkeypatch.setattr(old_files, "_YOUNGEST", -1.0)  # as if all of it had been fetched long ago
    monkeypatch.setattr(old_files, "_computed", lambda *_: {day(number) for number in range(1, 5)})
    return settings


def left(settings: Settings) -> list[int]:
    """Return the days that still have both files."""
    root = settings.archive_root
    return [
        number for number in range(1, 6) if candles_file(root, number).exists() and metrics_file(root, number).exists()
    ]


def test_computed_days_that_are_old_go_with_their_checksums(home: Settings) -> None:
    assert remove_old_files(home.model_copy(update={"keep_archive_days": 98})) == 4
    assert left(home) == [3, 4, 5]
    assert not checksum_of(candles_file(home.archive_root, 1)).exists()
    assert remove_old_files(home) == 4
    assert left(home) == [5], "what is not computed stays, however old it is"
    assert remove_old_files(home) == 0


def test_by_default_and_for_other_sources_everything_stays(home: Settings, tmp_path: Path) -> None:
    assert remove_old_files(home.model_copy(update={"keep_archive_days": 0})) == 0
    shutil.copytree(home.archive_root, tmp_path / "mine")
    own = load_settings(home=tmp_path, source="archive", archive=tmp_path / "mine", keep_archive_days=1)
    assert remove_old_files(own) == 0
    assert remove_old_files(load_settings(home=tmp_path, source="demo", keep_archive_days=1)) == 0
    assert left(home) == [1, 2, 3, 4, 5]


def test_days_that_are_asked_about_for_corrections_stay(home: Settings) -> None:
    assert remove_old_files(home.model_copy(update={"keep_archive_days": 1, "check_days": 99})) == 2
    assert left(home) == [2, 3, 4, 5]


def test_what_the_archive_cannot_give_again_stays(home: Settings) -> None:
    root = home.archive_root
    checksum_of(candles_file(root, 1)).unlink()  # placed by hand
    metrics_file(root, 2).write_bytes(b"accepted as it is")
    checksum_of(metrics_file(root, 3)).write_text("no checksum")
    remove_old_files(home)
    kept = [candles_file(root, 1), metrics_file(root, 2), metrics_file(root, 3)]
    assert all(path.exists() for path in kept)
    assert not candles_file(root, 3).exists()


def test_what_a_rebuild_has_just_fetched_again_stays(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(old_files, "_YOUNGEST", 86400.0)
    for path, hours in ((candles_file(home.archive_root, 1), 23), (metrics_file(home.archive_root, 1), 25)):
        os.utime(path, (time.time() - hours * 3600,) * 2)
    assert remove_old_files(home) == 1
    assert candles_file(home.archive_root, 1).exists()
    assert not metrics_file(home.archive_root, 1).exists()


def test_a_file_of_no_day_of_the_calendar_is_left_alone(home: Settings) -> None:
    strange = candles_file(home.archive_root, 1).with_name(f"{BTC}-5m-2024-02-30.zip")
    strange.write_bytes(b"of somebody")
    assert remove_old_files(home) == 8
    assert strange.exists()


def test_a_day_counts_as_computed_when_every_model_has_it_finished(unscored: Settings) -> None:
    both = unscored.model_copy(update={"models": ("turnover", "delta")})
    assert date(2024, 3, 4) in old_files._computed(unscored, BTC)
    assert old_files._computed(both, BTC) == set()
    assert old_files._computed(unscored.model_copy(update={"home": unscored.home / "none"}), BTC) == set()


def test_of_a_symbol_whose_file_is_damaged_no_day_counts_as_computed(tmp_path: Path) -> None:
    """And the files of the others are looked at all the same."""
    warehouse = Warehouse(tmp_path)
    warehouse.folder.mkdir()
    warehouse.path(BTC).write_bytes(b"not a database" * 1000)
    assert old_files._computed(load_settings(home=tmp_path, source="binance"), BTC) == set()
