"""Several symbols published at once: one writing of the file, and who would lose days is left out of it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.chain import publication
from heatmap_pipeline.chain.due import due_days, of_earlier_version
from heatmap_pipeline.chain.ends import retired
from heatmap_pipeline.chain.publication import Publication, bring_parts_back, publish_symbols
from heatmap_pipeline.chain.recovery import RecoveryError
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.cli.days import execute
from heatmap_pipeline.orchestration.runs import Outcome, stored_spans
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.backup import back_up
from heatmap_pipeline.store.publish import PublishReport, fingerprints, publish
from heatmap_pipeline.store.read import published_histories
from heatmap_pipeline.store.sql import rows
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._forked import Fork, Say
from heatmap_pipeline_tests._homes import done, heatmap, refused
from heatmap_pipeline_tests.orchestration.homes import copy_home
from heatmap_pipeline_tests.store.tiny import DAYS, fill

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with some days of three symbols. Nobody changes it; `settings` are those of a copy."""
    home = tmp_path_factory.mktemp("filled")
    for number, symbol in enumerate(SYMBOLS):
        with Warehouse(home).connect(symbol) as con:
            fill(con, symbol, seed=number)
    return home


@pytest.fixture
def settings(filled: Path, tmp_path: Path) -> Settings:
    return load_settings(home=copy_home(filled, tmp_path), source="demo", symbols=SYMBOLS)


def published_symbols(settings: Settings) -> list[str]:
    with Warehouse(settings.home).read() as con:
        return [name for (name,) in rows(con, "SELECT symbol FROM symbols ORDER BY symbol")]


def test_the_file_is_written_once_for_all(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []

    def counted(warehouse: Warehouse, symbols: list[str], **more: Any) -> PublishReport:
        calls.append(tuple(symbols))
        return publish(warehouse, symbols, **more)

    monkeypatch.setattr(publication, "publish", counted)
    warehouse = Warehouse(settings.home)
    results = publish_symbols(settings, warehouse, SYMBOLS)
    assert calls == [SYMBOLS]
    assert list(results) == list(SYMBOLS)
    assert all(isinstance(one, Publication) and one.report.changed and not one.alerts for one in results.values())
    assert published_symbols(settings) == list(SYMBOLS)


def test_who_would_lose_days_is_left_out_and_holds_back_nobody(settings: Settings) -> None:
    warehouse = Warehouse(settings.home)
    publish(warehouse, ["BTCUSDT"])
    with warehouse.connect("BTCUSDT") as con:
        con.execute("DELETE FROM heatmap_days WHERE symbol = 'BTCUSDT' AND day = ?", [DAYS[1]])
    results = publish_symbols(settings, warehouse, SYMBOLS)
    refusal = results["BTCUSDT"]
    assert isinstance(refusal, RecoveryError)
    assert f"BTCUSDT {DAYS[1]} .. {DAYS[1]}: published and not stored any more" in str(refusal)
    assert all(isinstance(results[name], Publication) for name in SYMBOLS[1:])
    histories = published_histories(warehouse)
    assert histories is not None
    assert list(histories) == list(SYMBOLS)
    assert set(histories["BTCUSDT"].days["delta"]) == set(DAYS), "what was published of it stays"


def test_without_a_warehouse_it_is_refused(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path, source="demo", symbols=SYMBOLS)
    warehouse = Warehouse(tmp_path)
    with pytest.raises(StoreError, match=r"nothing is in .* to publish"):
        publish_symbols(settings, warehouse, SYMBOLS)


def test_one_that_is_damaged_is_named_with_its_line_and_holds_back_nobody(settings: Settings) -> None:
    warehouse = Warehouse(settings.home)
    publish(warehouse, SYMBOLS)
    for symbol in SYMBOLS:
        with warehouse.connect(symbol) as con:
            con.execute("UPDATE symbols SET bucket = 50")
    warehouse.path("ETHUSDT").write_bytes(b"not a database" * 1000)
    results = publish_symbols(settings, warehouse, SYMBOLS)
    refusal = str(results["ETHUSDT"])
    assert f"{warehouse.path('ETHUSDT')} is damaged" in refusal
    assert f"mv {warehouse.path('ETHUSDT')}* {settings.home / 'damaged'} && heatmap run ETHUSDT --start" in refusal
    assert {name for name, result in results.items() if isinstance(result, Publication)} == {"BTCUSDT", "SOLUSDT"}
    with warehouse.read() as con:
        assert rows(con, "SELECT symbol, bucket FROM symbols ORDER BY symbol") == [
            ("BTCUSDT", 50.0), ("ETHUSDT", 100.0), ("SOLUSDT", 50.0)
        ]  # fmt: skip
    assert due_days(settings, ["ETHUSDT"], DAYS[2]) == {"ETHUSDT": (DAYS[2], DAYS[2])}, "the run of it says so"
    lines = status_lines(settings)
    said = [next(lines) for _ in range(6)]
    assert [line.split()[0] for line in said[2:]] == ["BTCUSDT", "BTCUSDT", "SOLUSDT", "SOLUSDT"]
    with pytest.raises(StoreError, match=r"ETHUSDT\.duckdb is damaged"):
        list(lines)


def test_status_says_where_parts_are_shown_and_where_they_are_gone(settings: Settings) -> None:
    def said() -> list[str]:
        return [line for line in status_lines(settings) if line.startswith(("size", "parts"))]

    publish_symbols(settings, Warehouse(settings.home), SYMBOLS)
    assert not said()
    before = sum(not line.startswith(("size", "parts")) for line in status_lines(settings))
    settings = settings.model_copy(update={"tables_up_to": 0.001})
    publish_symbols(settings, Warehouse(settings.home), SYMBOLS)
    (line,) = said()
    assert f"of files in {settings.home}/parts, as that of a home of more than 0.001 GB does until" in line
    assert line.endswith(" until it is below 0.0008 GB again (HEATMAP_TABLES_UP_TO)")
    assert "shows 0.0 " not in line
    assert sum(not line.startswith(("size", "parts")) for line in status_lines(settings)) == before
    shutil.rmtree(settings.home / "parts")
    lines = list(status_lines(settings))
    (line,) = [line for line in lines if line.startswith("parts")]
    assert f"files of {', '.join(SYMBOLS)} are gone; make them anew with `heatmap refresh" in line
    assert lines[-1].endswith("to look at")
    assert bring_parts_back(settings)
    assert not bring_parts_back(settings)
    assert len(said()) == 1


def test_over_a_store_a_scratch_home_has_no_parts(settings: Settings) -> None:
    settings = settings.model_copy(update={"tables_up_to": 0.0, "store": "file:///store"})
    publish_symbols(settings, Warehouse(settings.home), SYMBOLS)
    assert not (settings.home / "parts").exists()


def test_a_command_with_nothing_to_do_makes_parts_anew(settings: Settings) -> None:
    settings = settings.model_copy(update={"tables_up_to": 0.0})
    publish_symbols(settings, Warehouse(settings.home), SYMBOLS)
    shutil.rmtree(settings.home / "parts")
    execute(settings, lambda _: ({}, {}), "heatmap refresh")
    with Warehouse(settings.home).read() as con:
        assert rows(con, "SELECT count(DISTINCT symbol) FROM raw_candles") == [(len(SYMBOLS),)]


def test_a_command_whose_run_failed_makes_parts_anew_all_the_same(settings: Settings) -> None:
    """Else a home that was moved could not be read for as long as the source cannot be had."""
    settings = settings.model_copy(update={"tables_up_to": 0.0})
    publish_symbols(settings, Warehouse(settings.home), SYMBOLS)
    moved = settings.home.with_name(f"{settings.home.name} moved")
    settings.home.rename(moved)
    settings = settings.model_copy(update={"home": moved})
    failed = Outcome({}, {"BTCUSDT": "BTCUSDT: no file"})
    days = {"BTCUSDT": (DAYS[-1], DAYS[-1])}
    for lost in (False, True):
        with pytest.raises(SystemExit) as ended:
            execute(settings, lambda _: (days, {}), "heatmap refresh", running=lambda _: lambda *_, **__: failed)
        assert ended.value.code == 1
        if not lost:
            with Warehouse(settings.home).read() as con:
                assert rows(con, "SELECT count(DISTINCT symbol) FROM raw_candles") == [(len(SYMBOLS),)]
        shutil.rmtree(settings.home / "parts", ignore_errors=True)
        Warehouse(settings.home).path("ETHUSDT").unlink(missing_ok=True)


def test_a_restore_that_cannot_make_parts_anew_says_first_what_it_did(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_symbols(settings, Warehouse(settings.home), SYMBOLS)
    folder = back_up(Warehouse(settings.home), tmp_path / "backups", {}).folder

    def lost(_: Settings) -> bool:
        raise StoreError("the parts are gone")

    monkeypatch.setattr(publication, "bring_parts_back", lost)
    said = heatmap("restore", folder, "--home", settings.home, "--yes")
    refused(said, 1, "the parts are gone")
    assert f"are in {settings.home}" in said.stdout
    assert "what they replaced is in " in said.stdout


def test_a_restore_makes_parts_anew(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings.model_copy(update={"tables_up_to": 0.0})
    publish_symbols(settings, Warehouse(settings.home), SYMBOLS)
    folder = back_up(Warehouse(settings.home), tmp_path / "backups", {}).folder
    shutil.rmtree(settings.home / "parts")
    monkeypatch.setenv("HEATMAP_TABLES_UP_TO", "0")
    done("restore", folder, "--home", tmp_path / "restored")
    with Warehouse(tmp_path / "restored").read() as con:
        assert rows(con, "SELECT count(DISTINCT symbol) FROM raw_candles") == [(len(SYMBOLS),)]


def test_histories_are_those_asked_for(settings: Settings) -> None:
    warehouse = Warehouse(settings.home)
    publish(warehouse, SYMBOLS)
    every = published_histories(warehouse)
    assert every is not None
    assert list(every) == list(SYMBOLS)
    for wanted in ([], ["ETHUSDT"], ["SOLUSDT", "BTCUSDT", "NOSUCH"]):
        assert published_histories(warehouse, wanted) == {name: every[name] for name in sorted(wanted) if name in every}


CHANGES = (
    "UPDATE heatmap_days SET state_hash = 'x' WHERE symbol = ? AND day = '2024-03-02' AND model = 'delta'",
    "UPDATE raw_days SET repairs = repairs || ' ' WHERE symbol = ? AND day = '2024-03-03' AND kind = 'candles'",
    "DELETE FROM heatmap_days WHERE symbol = ? AND day = '2024-03-03'",
    "INSERT INTO heatmap_days FROM heatmap_days WHERE symbol = ? AND day = '2024-03-03'",
    "UPDATE symbols SET bucket = bucket * 2 WHERE symbol = ?",
    # Two rows that change places are other rows.
    "UPDATE heatmap_days SET state_hash = (SELECT h.state_hash FROM heatmap_days AS h WHERE h.symbol = "
    "heatmap_days.symbol AND h.model = heatmap_days.model AND h.day != heatmap_days.day AND h.day > '2024-03-01') "
    "WHERE symbol = ? AND day > '2024-03-01'",
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_fingerprint_changes_with_its_own_symbols_rows_only(settings: Settings, change: str) -> None:
    publish(Warehouse(settings.home), SYMBOLS)
    with duckdb.connect(str(Warehouse(settings.home).published)) as con:
        before = fingerprints(con)
        assert len(set(before.values())) == len(SYMBOLS)
        con.execute(change, ["ETHUSDT"])
        after = fingerprints(con)
    assert {name for name in SYMBOLS if before[name] != after[name]} == {"ETHUSDT"}


def test_the_order_of_rows_is_no_difference(settings: Settings) -> None:
    with Warehouse(settings.home).connect("BTCUSDT") as con:
        before = fingerprints(con)
        con.execute("CREATE TEMP TABLE other AS FROM heatmap_days ORDER BY day DESC, model")
        con.execute("DELETE FROM heatmap_days")
        con.execute("INSERT INTO heatmap_days FROM other")
        assert fingerprints(con) == before


def test_a_command_asks_no_file_of_a_symbol_that_it_is_not_about(settings: Settings) -> None:
    """Who publishes holds the locks of its symbols as long as that takes."""
    one = settings.model_copy(update={"symbols": ("BTCUSDT",), "lock_timeout": 0.1})

    def hold(say: Say) -> None:
        with Warehouse(settings.home).locked("ETHUSDT"):
            say("held")
            signal.pause()

    with Fork(hold) as process:
        assert process.said.readline() == "held\n"
        assert of_earlier_version(one) == {}
        assert retired(one) == {}


@pytest.fixture(params=["open elsewhere", "foreign"])
def unusable(request: pytest.FixtureRequest, settings: Settings) -> Iterator[str]:
    """What is said of ETHUSDT's file."""
    path = Warehouse(settings.home).path("ETHUSDT")
    if request.param == "foreign":
        path.unlink()
        with duckdb.connect(str(path)) as con:
            con.execute("CREATE TABLE mine (number INTEGER)")
        yield "holds no tables of this program"
        return

    def keep_open(say: Say) -> None:
        with duckdb.connect(str(path)):
            say("open")
            signal.pause()

    with Fork(keep_open) as process:
        assert process.said.readline() == "open\n"
        yield "is open elsewhere"


def test_a_file_that_cannot_be_used_now_stops_its_own_symbol_only(settings: Settings, unusable: str) -> None:
    assert set(stored_spans(settings, SYMBOLS)) == {"BTCUSDT", "SOLUSDT"}
    assert set(due_days(settings, SYMBOLS, DAYS[2])) >= {"ETHUSDT"}, "the run of it says so"
    lines: list[str] = []
    with pytest.raises(StoreError, match=unusable):
        lines += status_lines(settings)
    assert {line.split()[0] for line in lines} >= {"BTCUSDT", "SOLUSDT"}
    results = publish_symbols(settings, Warehouse(settings.home), SYMBOLS)
    assert unusable in str(results["ETHUSDT"])
    assert published_symbols(settings) == ["BTCUSDT", "SOLUSDT"]


def test_a_copy_under_the_name_of_another_symbol_is_none_of_it(settings: Settings) -> None:
    warehouse = Warehouse(settings.home)
    before = list(status_lines(settings))
    shutil.copyfile(warehouse.path("BTCUSDT"), warehouse.path("XRPUSDT"))
    assert list(status_lines(settings)) == before


def test_what_is_published_and_cannot_be_read_is_said_where_nothing_else_is_left(settings: Settings) -> None:
    warehouse = Warehouse(settings.home)
    publish(warehouse, SYMBOLS)
    shutil.rmtree(warehouse.folder)
    warehouse.published.write_bytes(b"not a database" * 1000)
    (line,) = status_lines(settings)
    assert line.startswith(f"damaged {warehouse.published} is damaged")
