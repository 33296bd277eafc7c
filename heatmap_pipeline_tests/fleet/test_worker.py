"""Workers over a store: what they leave is what an embedded home has, whoever else works on it and whatever fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.fleet.collect import collect, manifests, sound_manifests
from heatmap_pipeline.fleet.scratch import ScratchError
from heatmap_pipeline.fleet.worker import Requests, open_bucket, run_symbols, shard
from heatmap_pipeline.settings import Settings, SettingsError
from heatmap_pipeline.store.bucket import Bucket, BucketError
from heatmap_pipeline.store.ended import Ended, ended_symbols, record_end
from heatmap_pipeline.store.manifest import ManifestError, manifest_path
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.fleet.conftest import both
from heatmap_pipeline_tests.fleet.stores import Ran, assert_like, compute, parts_named, parts_there, run
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, ask, day

pytestmark = [pytest.mark.slow, pytest.mark.fleet]

Machine = Callable[..., Settings]
Begin = Callable[[Settings, str], None]


@both
def test_workers_of_two_symbols_leave_what_an_embedded_home_has(
    settings_of: Machine, begin: Begin, embedded: Path
) -> None:
    """Over the server they go on from days that are there already; their first commits are those of the tests below."""
    settings = settings_of(BTC, ETH)
    if settings.store.startswith("file:"):
        run(settings, 1, 2)
    else:
        begin(settings, "1-2")
    machines = [settings_of(symbol, home=symbol) for symbol in (BTC, ETH)]
    for machine in machines:
        run(machine, 3)
    assert_like(settings_of(BTC, ETH, home="third"), embedded)
    days = {symbol: manifest.days for symbol, manifest in manifests(open_bucket(settings)).items()}
    assert days.keys() == {BTC, ETH}
    assert {(d.first, d.last, d.count) for models in days.values() for d in models.values()} == {(day(1), day(3), 3)}
    assert [list((machine.home / "scratch").iterdir()) for machine in machines] == [[], []], "a worker keeps nothing"


@both
def test_run_again_it_writes_nothing(settings_of: Machine, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "2")
    written: list[str] = []
    monkeypatch.setattr(Bucket, "write", lambda _, path, __: written.append(path))
    monkeypatch.setattr(Bucket, "swap", lambda _, path, *__: written.append(path))
    run(settings, 1, 2)
    assert written == []


@both
@pytest.mark.parametrize("earlier", [0, 1])
def test_of_two_workers_on_a_symbol_exactly_one_commits(
    settings_of: Machine, begin: Begin, tmp_path: Path, earlier: int
) -> None:
    with Warehouse(tmp_path / "first").connect(BTC):  # what the suite makes once is not made by two threads
        pass
    first = settings_of(BTC, models=("delta",))
    if earlier:
        begin(first, "1")
    there = threading.Barrier(2)

    def work(number: int) -> Ran:
        def meet(settings: Settings, requests: Requests, **options: Any) -> Ran:
            there.wait(60)  # both have read the store
            return compute(settings, requests, **options)

        settings = settings_of(BTC, models=("delta",), home=f"machine{number}")
        return run_symbols(settings, {BTC: (day(earlier + 1), day(earlier + number))}, meet)

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(work, (1, 2)))
    winner = next(number for number, ran in enumerate(runs) if not ran.failures)
    assert runs[winner].published.keys() == {BTC}
    loser = runs[1 - winner]
    assert loser.published == {}
    assert loser.failures.keys() == {BTC}
    assert "another worker committed it" in loser.failures[BTC]
    (manifest,) = manifests(open_bucket(first)).values()
    assert {days.last for days in manifest.days.values()} == {day(earlier + 1 + winner)}
    assert parts_there(first) >= parts_named(first)
    with shard(settings_of(BTC, models=("delta",), home="third")) as own:  # nothing is torn
        assert own.commit(BTC).parts == 0


def test_what_fails_is_not_committed(settings_of: Machine) -> None:
    settings = settings_of(BTC, ETH, models=("delta",))

    def of_one(own: Settings, requests: Requests, **_: Any) -> Ran:
        compute(own, requests)
        return Ran({ETH: requests[ETH]}, {BTC: "a check failed"})

    ran = run_symbols(settings, dict.fromkeys((BTC, ETH), (day(1), day(1))), of_one)
    assert ran.failures == {BTC: "a check failed"}
    assert manifests(open_bucket(settings)).keys() == {ETH}


def test_a_run_that_raises_commits_nothing_and_leaves_no_scratch(settings_of: Machine) -> None:
    settings = settings_of(BTC, models=("delta",))

    def broken(own: Settings, requests: Requests, **_: Any) -> Ran:
        compute(own, requests)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_symbols(settings, {BTC: (day(1), day(1))}, broken)
    assert manifests(open_bucket(settings)) == {}
    assert list((settings.home / "scratch").iterdir()) == []


def test_what_a_killed_run_left_in_the_home_goes_with_the_next(settings_of: Machine) -> None:
    settings = settings_of(BTC, models=("delta",))
    left = settings.home / "scratch" / "1-abcdef"
    (left / "warehouse").mkdir(parents=True)
    (left / "warehouse" / "BTCUSDT.duckdb").write_bytes(b"half")
    (settings.home / "archive").mkdir()
    (settings.home / "archive" / "kept.zip").write_bytes(b"zip")
    (left / "archive").symlink_to(settings.home / "archive")
    left.with_name("1-abcdef.lock").touch()
    with shard(settings):
        assert not left.exists()
    assert (settings.home / "archive" / "kept.zip").exists(), "what its links lead to stays"


def test_what_a_plan_has_found_out_is_committed_though_nothing_is_run(settings_of: Machine, begin: Begin) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    with shard(settings) as own, Warehouse(own.settings.home).connect(BTC) as con:
        record_end(con, BTC, Ended(day(1), "it was delisted"))
    with shard(settings) as own, Warehouse(own.settings.home).connect(BTC) as con:
        assert ended_symbols(con)[BTC].reason == "it was delisted"


# -- what cannot be used


@both
def test_a_part_that_is_missing_or_another_is_named(settings_of: Machine, begin: Begin) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    bucket, path = open_bucket(settings), sorted(parts_named(settings))[0]
    whole = bucket.read(path)
    assert whole is not None
    settings.home.mkdir()
    spoiled = settings.home / "spoiled"
    spoiled.write_bytes(whole.content[:-1] + b"?")
    bucket.write(path, spoiled)
    with pytest.raises(BucketError, match="is not the file that the manifest of BTCUSDT names") as caught:
        run(settings, 2)
    assert f"{settings.store}/{path}" in str(caught.value)
    bucket.remove([path])
    with pytest.raises(BucketError, match=r"is missing, though the manifest of BTCUSDT names it") as caught:
        run(settings, 2)
    assert f"{settings.store}/{path}" in str(caught.value)


@pytest.mark.parametrize("what", ["part", "manifest"])
def test_a_symbol_that_is_damaged_spoils_no_other(settings_of: Machine, begin: Begin, what: str) -> None:
    settings = settings_of(BTC, ETH)
    begin(settings, "1-2")
    bucket = open_bucket(settings)
    if what == "part":
        bucket.remove([min(path for path in parts_named(settings) if BTC in path)])
    else:
        assert bucket.swap(manifest_path(BTC), b"{", bucket.read(manifest_path(BTC)))
    ran = run_symbols(settings, dict.fromkeys((BTC, ETH), (day(3), day(3))), compute)
    assert ran.published == {ETH: (day(3), day(3))}
    assert ran.failures.keys() == {BTC}
    assert bucket.address in ran.failures[BTC]
    days = sound_manifests(bucket)[0][ETH].days.values()
    assert {each.last for each in days} == {day(3)}


def test_a_full_disk_of_the_worker_is_not_blamed_on_the_store(
    settings_of: Machine, begin: Begin, full_disk: None
) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    with pytest.raises(ScratchError, match=f"home {settings.home} cannot be written .*; make room on its disk"):
        run(settings, 2)


def test_parts_that_go_while_they_are_read_are_those_of_before(
    settings_of: Machine, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit and a collection between the reading of a manifest and that of its parts."""
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "1")
    fetch, done = Bucket.fetch, threading.Event()

    def late(self: Bucket, path: str, target: Path) -> bool:
        if not done.is_set():
            done.set()
            begin(settings, "2")
            self.remove(sorted(parts_there(settings) - parts_named(settings)))
        return fetch(self, path, target)

    monkeypatch.setattr("heatmap_pipeline.fleet.worker.AT_ONCE", 1)
    monkeypatch.setattr(Bucket, "fetch", late)
    with shard(settings_of(BTC, home="third", models=("delta",))) as own:
        assert ask(own.settings, "SELECT max(day) FROM heatmap_days") == [(day(2),)]
        assert own.commit(BTC).parts == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"format": 1, "schema_version": 99, "program": "9.9", "parts": []}', "has schema version 99"),
        (b'{"format": 3, "schema_version": 6, "program": "9.9"}', "has format 3, .*use the program that wrote it"),
        (b'{"format": 1, "schema_version": 6, "prog', "is not as it was written"),
        (b"[]", "is not as it was written"),
        (b'{"format": 1, "schema_version": 6, "program": "0"}', "is not as it was written"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(settings_of: Machine, content: bytes, words: str) -> None:
    settings = settings_of(BTC)
    assert open_bucket(settings).swap(manifest_path(BTC), content, None)
    with pytest.raises(ManifestError, match=words) as caught:
        run(settings, 1)
    assert f"{settings.store}/manifests/BTCUSDT.json" in str(caught.value)


def test_a_manifest_of_another_symbol_is_none_of_this(settings_of: Machine, begin: Begin) -> None:
    settings = settings_of(BTC, models=("delta",))
    begin(settings, "2")
    bucket = open_bucket(settings)
    other = bucket.read(manifest_path(BTC))
    assert other is not None
    assert bucket.swap(manifest_path(ETH), other.content, None)
    with pytest.raises(ManifestError, match=r"manifests/ETHUSDT.json is not as it was written"):
        run(settings_of(ETH, models=("delta",)), 1)
    with pytest.raises(ManifestError, match=r"manifests/ETHUSDT.json is not as it was written"):
        collect(settings, timedelta(0))
    bucket.remove([manifest_path(ETH)])
    assert parts_there(settings) > parts_named(settings), "nothing is removed where a manifest cannot be read"


def test_without_a_store_it_is_said(settings_of: Machine) -> None:
    with pytest.raises(SettingsError, match="HEATMAP_STORE is not set"):
        run(settings_of(BTC).model_copy(update={"store": ""}), 1)


def test_every_error_is_one_for_people() -> None:
    assert all(issubclass(error, HeatmapError) for error in (BucketError, ManifestError))
