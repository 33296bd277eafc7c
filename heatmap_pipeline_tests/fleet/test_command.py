"""`heatmap fleet`: the verbs as a user types them, what they say, and that a run of them is one of any home."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.cli.days import say_where
from heatmap_pipeline.commands import command
from heatmap_pipeline.fleet.collect import manifests
from heatmap_pipeline.fleet.pull import pull
from heatmap_pipeline.fleet.worker import open_bucket
from heatmap_pipeline.orchestration import runs
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.catalogue import is_catalogue
from heatmap_pipeline.store.manifest import manifest_path
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import done, heatmap, last_line, refused
from heatmap_pipeline_tests._webhook import listening
from heatmap_pipeline_tests.fleet.stores import assert_like, parts_named, run
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, assert_same, day, tables

pytestmark = [pytest.mark.slow, pytest.mark.fleet]

Machine = Callable[..., Settings]
Begin = Callable[[Settings, str], None]


@pytest.fixture
def machine(archive: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose runs are over the store; the environment says so."""
    monkeypatch.setenv("HEATMAP_STORE", store)
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path / "machine"))
    monkeypatch.setenv("HEATMAP_SOURCE", "archive")
    monkeypatch.setenv("HEATMAP_ARCHIVE", str(archive))
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    return tmp_path / "machine"


def test_a_run_of_dagster_over_the_store_is_one_of_any_home(
    machine: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, with Dagster: two runs, status, catalogue; then nothing is left to do."""
    for first, last in ((1, 2), (3, 3)):
        ran = done("fleet", "run", BTC, "--start", day(first), "--end", day(last))
        assert (
            ran.stdout == f"{BTC}: {day(first)} .. {day(last)} computed and published (real data)\nstore     {store}\n"
        )
    said = done("status").stdout.splitlines()
    assert said[0] == f"store {store}"
    assert said[2].split()[:5] == [BTC, "delta", "3", str(day(1)), str(day(3))]
    catalogue = done("fleet", "catalogue").stdout
    assert catalogue.startswith(f"{machine / 'heatmap.duckdb'}: 1 symbol, ")
    assert catalogue.endswith(" 0 removed, written\n")
    monkeypatch.setattr("heatmap_pipeline.render.page.is_drawn", lambda *_: True)  # nothing is drawn in tests
    again = done("fleet", "run", BTC, "--start", day(1), "--end", day(3))
    assert again.stdout.startswith(f"{BTC}: {day(1)} .. {day(3)} stored, unchanged and published: nothing to do")
    history = (machine / "dagster" / "history" / "runs").glob("*.db")
    assert len([path for path in history if path.stem != "index"]) == 2, "its history is that of the home"
    monkeypatch.delenv("HEATMAP_STORE")
    embedded = tmp_path / "embedded"
    for first, last in ((1, 2), (3, 3)):
        compute_home(load_settings(home=embedded, symbols=(BTC,)), day(first), day(last))
    assert_like(load_settings(home=machine, store=store, symbols=(BTC,)), embedded)
    assert_same(tables(machine / "heatmap.duckdb"), tables(embedded / "heatmap.duckdb"))


def test_who_is_overtaken_says_so_and_ends_with_1(
    machine: Path, settings_of: Machine, light_commands: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_days = runs.run_days

    def while_another_commits(*arguments: Any, **options: Any) -> runs.Outcome:
        outcome = run_days(*arguments, **options)
        run(settings_of(BTC, home="another", models=("delta",)), 1)
        return outcome

    monkeypatch.setattr(runs, "run_days", while_another_commits)
    words = f"{BTC}: another worker committed it to"
    refused(heatmap("fleet", "run", BTC, "--start", day(1), "--end", day(2)), 1, words, "run it again to go on")


def test_what_goes_wrong_names_verbs_of_the_fleet_and_the_home_of_the_user(
    machine: Path, settings_of: Machine, begin: Begin, light_commands: None
) -> None:
    begin(settings_of(), "1")
    gap = refused(heatmap("fleet", "run", BTC, "--start", day(4), "--end", day(4)), 1, f"`heatmap fleet run {BTC}")
    assert "scratch" not in gap
    other = refused(
        heatmap("fleet", "refresh", ETH, "--home", machine / "b"), 1, f"`heatmap fleet run {ETH} --start DAY"
    )
    assert f"--home {machine / 'b'}`" in other
    assert "scratch" not in other


def test_what_is_damaged_in_the_store_is_said_and_told_and_the_others_are_run(
    machine: Path, settings_of: Machine, begin: Begin, light_commands: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(BTC)
    begin(settings, "1")
    lost = min(parts_named(settings))
    open_bucket(settings).remove([lost])
    with listening() as hook:
        monkeypatch.setenv("HEATMAP_WEBHOOK", hook.url)
        ran = heatmap("fleet", "run", BTC, ETH, "--start", day(1), "--end", day(1))
        assert ran.exit_code == 1
        last_line(ran.stderr, 1, f"{settings.store}/{lost} is missing", "put it back from a backup")
        assert f"{ETH}: {day(1)} .. {day(1)} computed and published" in ran.stdout
        assert manifests(open_bucket(settings)).keys() == {BTC, ETH}
        assert [(body["kind"], body["symbol"]) for body in hook.bodies] == [("failed", BTC)]
        refused(heatmap("fleet", "refresh", BTC), 1, f"{settings.store}/{lost} is missing")
        assert hook.kinds() == ["failed", "failed"], "also where nothing could be taken"
    both = [lost, min(name for name in parts_named(settings) if ETH in name)]
    open_bucket(settings).remove(both[1:])
    refused(heatmap("fleet", "refresh", BTC, ETH), 1, *(f"{settings.store}/{name} is missing" for name in both))


def test_status_says_what_there_is_beside_a_damaged_manifest(machine: Path, settings_of: Machine, begin: Begin) -> None:
    settings = settings_of(BTC)
    begin(settings, "1")
    assert open_bucket(settings).swap(manifest_path(ETH), b"{", None)
    said = heatmap("status")
    refused(said, 1, f"{settings.store}/manifests/{ETH}.json is not as it was written")
    assert said.stdout.splitlines()[2].split()[:3] == [BTC, "delta", "1"]


def test_a_store_that_cannot_be_made_is_refused_before_anything_is_computed(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEATMAP_STORE", "file:///proc/none/store")
    said = heatmap("fleet", "run", BTC, "--start", day(1), "--end", day(1))
    refused(said, 1, "store file:///proc/none/store cannot be read or written")
    assert "raw_candles" not in said.stderr


def test_a_command_that_reads_makes_no_store(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"file://{tmp_path}/mistyped"
    monkeypatch.setenv("HEATMAP_STORE", store)
    assert done("status").stdout.splitlines()[1].startswith("nothing is stored in it yet")
    assert done("fleet", "collect").stdout == f"{store}: 0 parts removed, 0.0 MB; 0 parts left\n"
    refused(heatmap("fleet", "catalogue"), 1, f"nothing is stored in {store} yet")
    refused(heatmap("fleet", "pull", tmp_path / "pulled"), 1, f"nothing is stored in {store} yet")
    assert not (tmp_path / "mistyped").exists()
    assert not (tmp_path / "pulled").exists()


def test_what_is_made_up_is_marked_in_the_store_too(machine: Path, light_commands: None) -> None:
    done("fleet", "run", BTC, "--start", day(1), "--end", day(1), "--source", "demo")
    assert done("status").stdout.splitlines()[2].endswith(" simulated")


def test_a_source_that_does_not_fit_is_told_of_the_store(
    machine: Path, settings_of: Machine, store: str, begin: Begin, light_commands: None
) -> None:
    begin(settings_of(), "1")
    words = (f"{BTC}: {store} holds real history", "use another HEATMAP_STORE, or --source archive (HEATMAP_SOURCE)")
    assert "scratch" not in refused(heatmap("fleet", "refresh", BTC, "--source", "demo"), 1, *words)


def test_what_a_home_lacks_is_made_from_the_store(machine: Path, tmp_path: Path) -> None:
    refused(heatmap("export", tmp_path / "export"), 1, "nothing is published in", "run `heatmap fleet catalogue` first")


def test_forgetting_says_that_the_store_is_left_as_it_is(
    machine: Path, settings_of: Machine, store: str, begin: Begin
) -> None:
    begin(settings_of(), "1-2")
    stays = f"what {store} has of {ETH} stays; removing manifests/{ETH}.json there takes it out"
    assert done("forget", ETH, "--yes").stdout.splitlines()[1] == stays, "of a home that has nothing of it"
    assert done("fleet", "catalogue").stdout.startswith(f"{machine / 'heatmap.duckdb'}: 2 symbols, ")
    catalogue = (machine / "heatmap.duckdb").read_bytes()
    removed, *rest = done("forget", ETH, "--yes").stdout.splitlines()
    assert removed == f"{ETH} is removed from {machine}, but for its heatmap.duckdb, the catalogue of a store"
    assert rest[0] == stays
    assert (machine / "heatmap.duckdb").read_bytes() == catalogue
    assert f"\n{ETH} " in done("status").stdout
    open_bucket(settings_of()).remove([f"manifests/{ETH}.json"])
    assert f"\n{ETH} " not in done("status").stdout
    assert done("fleet", "catalogue").stdout.startswith(f"{machine / 'heatmap.duckdb'}: 1 symbol, ")


def test_verbs_of_a_home_are_refused_where_the_store_is_set(machine: Path) -> None:
    days = ("--start", day(1), "--end", day(1))
    refused(heatmap("run", BTC, *days), 2, "HEATMAP_STORE is set", "type `heatmap fleet run`")
    refused(heatmap("refresh"), 2, "HEATMAP_STORE is set", "type `heatmap fleet refresh`")
    assert not machine.exists()


def test_into_a_catalogue_nothing_is_computed(
    machine: Path, settings_of: Machine, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(settings_of(), "1")
    done("fleet", "catalogue")
    before = (machine / "heatmap.duckdb").read_bytes()
    monkeypatch.delenv("HEATMAP_STORE")
    days = ("--start", day(1), "--end", day(1))
    for words in (("demo", "--days", 1), ("run", BTC, *days), ("refresh",), ("ui",)):
        refused(heatmap(*words), 1, f"home {machine} is the catalogue of a fleet", "choose another home")
    assert "made of what is in a store by `heatmap fleet catalogue`" in done("status").stdout
    assert (machine / "heatmap.duckdb").read_bytes() == before
    copy = shutil.copytree(machine, machine.with_name("copy"))
    refused(heatmap("run", BTC, *days, "--home", copy), 1, f"home {copy} is the catalogue of a fleet")


def test_a_catalogue_in_views_that_was_moved_is_one_still(settings_of: Machine, begin: Begin, tmp_path: Path) -> None:
    begin(settings_of(), "1")
    home = tmp_path / "pulled"
    pull(settings_of(), home, tables_up_to=0)
    assert is_catalogue(Warehouse(home))
    moved = home.rename(tmp_path / "moved")
    assert is_catalogue(Warehouse(moved))
    (moved / "heatmap.duckdb").touch()
    assert not is_catalogue(Warehouse(moved)), "as one that was put in its place"
    (moved / "heatmap.duckdb").unlink()
    assert not is_catalogue(Warehouse(moved))


@pytest.mark.parametrize(
    "words",
    [("run", BTC, "--start", day(1), "--end", day(1)), ("refresh",), ("catalogue",), ("pull", "DIR"), ("collect",)],
)
def test_without_a_store_each_verb_says_what_to_set(words: tuple[object, ...], tmp_path: Path) -> None:
    place = () if words[0] in ("pull", "collect") else ("--home", tmp_path)
    refused(heatmap("fleet", *words, *place), 2, "HEATMAP_STORE is not set")


def test_an_empty_store_says_how_to_begin(machine: Path, store: str) -> None:
    assert done("status").stdout.splitlines() == [
        f"store {store}",
        "nothing is stored in it yet; begin with `heatmap fleet run SYMBOL --start DAY --end DAY`",
    ]
    refused(heatmap("fleet", "catalogue"), 1, f"nothing is stored in {store} yet")
    none = machine.parent / ("too long" * 99)
    refused(heatmap("fleet", "pull", none), 1, f"{none} cannot be used (File name too long); choose another folder")
    assert done("fleet", "collect").stdout == f"{store}: 0 parts removed, 0.0 MB; 0 parts left\n"


def test_a_command_names_the_home_that_a_scratch_home_is_of(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "scratch" / "1-a", store="s3://bucket/a")
    assert command(settings, "run", BTC) == f"heatmap fleet run {BTC} --home {tmp_path}"
    assert command(settings, "status") == f"heatmap status --home {tmp_path}"
    embedded = settings.model_copy(update={"store": ""})
    assert command(embedded, "run", BTC) == f"heatmap run {BTC} --home {tmp_path / 'scratch' / '1-a'}"


def test_what_is_in_a_home_is_said_to_be_there_also_where_the_store_is_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of `heatmap demo`, which nobody runs over a store."""
    say_where(load_settings(home=tmp_path, store="s3://bucket/a"))
    assert capsys.readouterr().out.splitlines()[-1] == f"database  {tmp_path / 'heatmap.duckdb'}"
    say_where(load_settings(home=tmp_path / "scratch" / "1-a", store="s3://bucket/a"))
    assert capsys.readouterr().out == "store     s3://bucket/a\n"


def test_obstore_is_not_imported_without_a_store() -> None:
    """The embedded home needs no extra: asked of a process that does what a run does before it runs."""
    code = "import sys, heatmap_pipeline.cli, heatmap_pipeline.definitions, heatmap_pipeline.fleet.worker\n"
    code += "print('obstore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_missing_extra_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    refused(heatmap("status"), 1, "needs obstore; `sh setup.sh fleet` in the project's folder installs it")
