"""The home of one run over a store: what it gives back to the home that it lies in, beside other runs there."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import pytest

from heatmap_pipeline.fleet import scratch
from heatmap_pipeline.fleet.scratch import scratch_home
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.origin import archive_folders, remember_archive

BTC, ETH = "BTCUSDT", "ETHUSDT"


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[[str], Settings]:
    """Returns settings of one home and of a symbol, whose archive folder is called like it."""

    def make(symbol: str) -> Settings:
        folder = tmp_path / symbol
        folder.mkdir(exist_ok=True)
        store = "s3://bucket/a"
        return load_settings(home=tmp_path / "home", source="archive", archive=folder, symbols=(symbol,), store=store)

    return make


def test_runs_side_by_side_remember_the_folders_of_each(settings_of: Callable[[str], Settings], tmp_path: Path) -> None:
    with ExitStack() as stack:
        for symbol in (BTC, ETH):
            own = stack.enter_context(scratch_home(settings_of(symbol)))
            remember_archive(own, symbol)
    assert archive_folders(tmp_path / "home") == {BTC: tmp_path / BTC, ETH: tmp_path / ETH}
    with scratch_home(settings_of(BTC)) as own:
        assert archive_folders(own.home) == {BTC: tmp_path / BTC}


def test_a_run_does_not_bring_back_the_folder_that_another_has_replaced(tmp_path: Path) -> None:
    def at(symbol: str, folder: str) -> Settings:
        (tmp_path / folder).mkdir(exist_ok=True)
        home, files = tmp_path / "home", tmp_path / folder
        return load_settings(home=home, source="archive", archive=files, symbols=(symbol,))

    for symbol in (BTC, ETH):
        with scratch_home(at(symbol, "old")) as scratch:
            remember_archive(scratch, symbol)
    with scratch_home(at(BTC, "new")) as btc:
        remember_archive(btc, BTC)
        with scratch_home(at(ETH, "newer")) as eth:
            remember_archive(eth, ETH)
    assert archive_folders(tmp_path / "home") == {BTC: tmp_path / "new", ETH: tmp_path / "newer"}


def test_a_note_goes_where_a_run_has_removed_it(settings_of: Callable[[str], Settings]) -> None:
    """As that REST is closed to this place, once it is open again."""
    settings = settings_of(BTC)
    with scratch_home(settings) as own:
        (own.home / "rest_closed.txt").write_text("closed")
    assert (settings.home / "rest_closed.txt").read_text() == "closed"
    with scratch_home(settings) as own:
        (own.home / "rest_closed.txt").unlink()
    assert not (settings.home / "rest_closed.txt").exists()


def test_a_note_that_a_run_did_not_change_is_that_of_the_newest(settings_of: Callable[[str], Settings]) -> None:
    with scratch_home(settings_of(BTC)) as first:
        (first.home / "last_run.json").write_text("1")
    with scratch_home(settings_of(BTC)), scratch_home(settings_of(ETH)) as second:
        (second.home / "last_run.json").write_text("2")
    assert (settings_of(BTC).home / "last_run.json").read_text() == "2"


def test_who_is_killed_before_the_home_is_locked_leaves_none(
    settings_of: Callable[[str], Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Path) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(scratch, "notes_lock", killed)
    with pytest.raises(KeyboardInterrupt), scratch_home(settings_of(BTC)):
        pass
    assert list((tmp_path / "home" / "scratch").iterdir()) == []


def test_a_home_that_is_being_made_is_not_taken_for_a_killed_runs(
    settings_of: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run begins between the making of a lock's file and the holding of it."""
    flock, others = fcntl.flock, list[threading.Thread]()

    def begin() -> None:
        with scratch_home(settings_of(ETH)):
            pass

    def late(handle: int, kind: int) -> Any:
        if not others and Path(f"/proc/self/fd/{handle}").readlink().parent.name == "scratch":
            others.append(threading.Thread(target=begin))
            others[0].start()
            others[0].join(2)
        return flock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    with scratch_home(settings_of(BTC)) as own:
        others[0].join(60)
        assert (own.home / "archive").is_symlink()
