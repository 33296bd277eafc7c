"""Whatever is wrong with the input: exit 1 or 2, one clear last line, and heatmap.duckdb as it was, byte for byte.

Of each kind of fault one goes through the command. The others of that kind are refused by the same lines of the same
stage, so they ask that stage alone (`refused_without_a_run`), which takes a twentieth of the time. Where a fault is one
of Dagster, or of what only Dagster does, the command runs its job (`dagster`), else the same stages without it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import dagster as dg
import duckdb
import pytest
from filelock import FileLock
from sqlalchemy.exc import OperationalError

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.orchestration import runs as command
from heatmap_pipeline.orchestration.turns import one_run_at_a_time
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline_tests._homes import (
    clean_environment,
    done,
    draw_nothing,
    heatmap,
    last_line,
    load_no_picture,
    published,
    refused,
)
from heatmap_pipeline_tests.market._files import zipped
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    assert_same,
    candles_file,
    checksum_of,
    day,
    metrics_file,
    real,
    rewrite,
    tables,
    write_archive,
)
from heatmap_pipeline_tests.orchestration.killed import Forks
from heatmap_pipeline_tests.orchestration.light import light_runs, run_lightly

Rows = list[list[str]]


# -- a home with one published day, and an archive with two more


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("files"), 3, BTC, ETH)


@pytest.fixture(scope="module")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        draw_nothing(patch)
        patch.setenv("HEATMAP_MODELS", "delta")
        patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
        home = tmp_path_factory.mktemp("made")
        done("run", BTC, "--archive", files, "--start", day(1), "--end", day(1), "--home", home)
    return home


@pytest.fixture
def whole() -> None:
    """Ask for this where pictures are to be drawn and Dagster's history is to be kept on the disk."""


@pytest.fixture
def dagster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for this where it is about Dagster's run; its history is in memory."""
    monkeypatch.setattr(dg.DagsterInstance, "from_config", lambda _: dg.DagsterInstance.ephemeral())


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Compute one model; unless asked for draw nothing, and run without Dagster, as both take their time."""
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    monkeypatch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
    if "whole" in request.fixturenames:
        return
    draw_nothing(monkeypatch)
    load_no_picture(monkeypatch)
    if "dagster" not in request.fixturenames:
        run_lightly(monkeypatch)


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the published home; at the end its published database is still the same file."""
    copy = tmp_path / "home"
    shutil.copytree(made, copy)
    before = _state(copy)
    yield copy
    assert _state(copy) == before, "heatmap.duckdb was touched"


def _state(home: Path) -> tuple[str, int, list[Path]]:
    content = published(home).read_bytes()
    left = sorted(home.glob(".heatmap.duckdb.*"))
    return hashlib.sha256(content).hexdigest(), published(home).stat().st_ino, left


@pytest.fixture
def archive(files: Path, tmp_path: Path) -> Path:
    """A copy of the archive, to be spoilt."""
    return Path(shutil.copytree(files, tmp_path / "archive"))


def run(home: Path, archive: Path, first: int = 2, last: int = 2, symbol: str = BTC) -> Any:
    return heatmap("run", symbol, "--archive", archive, "--start", day(first), "--end", day(last), "--home", home)


def refused_without_a_run(settings: Settings, *fragments: object) -> None:
    """Assert that day 2 is refused in one sentence for people that says all of `fragments`, by a stage of the chain."""
    with pytest.raises(HeatmapError) as refusal:
        compute_home(settings, day(2))
    message = str(refusal.value)
    assert "\n" not in message
    for fragment in fragments:
        assert str(fragment) in message, message


# -- files


def cut_zip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    checksum_of(path).unlink()


def wrong_checksum(path: Path) -> None:
    checksum_of(path).write_text(f"{'0' * 64}  {path.name}\n")


def cut_csv(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        text = archive.read(archive.namelist()[0])
    path.write_bytes(zipped(f"{path.stem}.csv", text[: len(text) // 2 - 7]))
    checksum_of(path).unlink()


def no_zip(path: Path) -> None:
    path.write_text("<html>404</html>")
    checksum_of(path).unlink()


def field(column: int, value: str, row: int = 5) -> Callable[[Path], None]:
    def change(rows: Rows) -> Rows:
        rows[row][column] = value
        return rows

    return partial(rewrite, change=change)


def high_below_low(path: Path) -> None:
    def change(rows: Rows) -> Rows:
        rows[5][2], rows[5][3] = rows[5][3], rows[5][2]
        return rows

    rewrite(path, change)


def two_different(rows: Rows) -> Rows:
    other = list(rows[5])
    other[5] = "1.0"
    return [*rows, other]


CANDLE_FAULTS: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "cut zip": (cut_zip, ("download",)),
    "no zip at all": (no_zip, ("zip", "download")),
    "wrong checksum": (wrong_checksum, ("CHECKSUM", "download")),
    "cut CSV": (cut_csv, ("row", "download")),
    "empty CSV": (partial(rewrite, change=lambda _: []), ("no candles", str(day(2)))),
    "high below low": (high_below_low, ("row 7", "high is below low", "copy")),
    "negative price": (field(3, "-1.0"), ("row 7", "low is blank, zero, negative", "copy")),
    "negative volume": (field(5, "-0.001"), ("row 7", "volume is blank, negative", "copy")),
    "another day": (field(0, "1700000000000"), ("row 7", "does not open on", str(day(2)))),
    "two different candles": (partial(rewrite, change=two_different), ("another candle", "open_time")),
}


@pytest.mark.usefixtures("dagster")
@pytest.mark.parametrize("fault", CANDLE_FAULTS)
def test_a_bad_file_of_candles(home: Path, archive: Path, fault: str) -> None:
    spoil, said = CANDLE_FAULTS[fault]
    path = candles_file(archive, 2)
    spoil(path)
    if fault == "cut zip":
        refused(run(home, archive), 1, path.name, *said)
    else:
        refused_without_a_run(real(home, archive), path.name, *said)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_zip, "download"),
        (field(1, "ETHUSDT"), "ETHUSDT"),
    ],
    ids=["cut zip", "another symbol"],
)
def test_a_bad_file_of_open_interest(home: Path, archive: Path, spoil: Callable[[Path], Any], said: str) -> None:
    path = metrics_file(archive, 2)
    spoil(path)
    if spoil is cut_zip:
        refused(run(home, archive), 1, path.name, said)
    else:
        refused_without_a_run(real(home, archive), path.name, said)


def test_a_run_in_vain_leaves_nothing(home: Path, archive: Path) -> None:
    """A symbol that does not exist, and one whose days are not there."""
    before = sorted((home / "warehouse").glob("*.duckdb"))
    refused(run(home, archive, symbol="NOPEUSDT"), 1, "does not know the symbol NOPEUSDT")
    refused(run(home, archive, 8, 9, symbol=ETH), 1, f"no candles of {ETH}")
    assert sorted((home / "warehouse").glob("*.duckdb")) == before
    assert "nothing is failed, stale or missing" in done("status", "--home", home).stdout


def test_a_symbol_that_is_wanted_by_name_and_has_no_data_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEATMAP_SYMBOLS", f"{BTC},{ETH}")
    status = done("status", "--home", home).stdout.splitlines()
    begin = f"begin with `heatmap run {ETH} --start DAY --end DAY --home {home}`, or take it out of HEATMAP_SYMBOLS"
    assert status[-2:] == [f"missing {ETH}: nothing of it is stored; {begin}", "1 to look at"]
    monkeypatch.setenv("HEATMAP_START", str(day(1)))
    assert f"begin with `heatmap refresh {ETH} --home" in done("status", "--home", home).stdout


def test_a_day_asked_for_in_vain_is_forgotten_with_the_next_success(made: Path, archive: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(made, tmp_path / "home"))
    last_line(run(home, archive, 2, 7).stderr, 1, "add the file or choose other days")
    assert "failed  " in done("status", "--home", home).stdout
    assert run(home, archive, 1, 3).exit_code == 0
    assert "nothing is failed, stale or missing" in done("status", "--home", home).stdout


def test_a_day_that_is_damaged_is_said_until_it_is_mended(made: Path, archive: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(made, tmp_path / "home"))
    path = candles_file(archive, 3)
    good = path.read_bytes(), checksum_of(path).read_bytes()
    cut_zip(path)
    last_line(run(home, archive, 2, 3).stderr, 1, path.name)
    assert run(home, archive, 1, 2).exit_code == 0
    assert f"failed  {BTC} {day(3)} raw_candles: " in done("status", "--home", home).stdout
    path.write_bytes(good[0])
    checksum_of(path).write_bytes(good[1])
    assert run(home, archive, 3, 3).exit_code == 0
    assert "nothing is failed, stale or missing" in done("status", "--home", home).stdout


def test_what_lies_in_the_place_of_a_symbol_is_left_by_a_run_in_vain(made: Path, archive: Path, tmp_path: Path) -> None:
    """A database of another program, and a copy of another symbol's."""
    folder = tmp_path / "home" / "warehouse"
    folder.mkdir(parents=True)
    with duckdb.connect(str(folder / "NOPEUSDT.duckdb")) as con:
        con.execute("CREATE TABLE of_somebody AS SELECT 1 AS number")
    shutil.copyfile(made / "warehouse" / f"{BTC}.duckdb", folder / f"{ETH}.duckdb")
    refused(run(folder.parent, archive, symbol="NOPEUSDT"), 1, "holds no tables of this program; move it away")
    refused(run(folder.parent, archive, 8, 9, symbol=ETH), 1, f"no candles of {ETH}")
    with duckdb.connect(str(folder / "NOPEUSDT.duckdb")) as con:
        assert con.execute("FROM of_somebody").fetchall() == [(1,)]
    with duckdb.connect(str(folder / f"{ETH}.duckdb")) as con:
        assert con.execute("SELECT DISTINCT symbol FROM raw_days").fetchall() == [(BTC,)]


def test_a_published_database_that_nobody_can_read_is_said(made: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(made, tmp_path / "home"))
    published(home).unlink()
    published(home).mkdir()
    status = done("status", "--home", home).stdout.splitlines()
    assert status[-2].startswith(f"failed  a database in {home} failed: ")
    assert "Is a directory" in status[-2]
    assert status[-1] == "1 to look at"


def test_good_days_before_a_bad_one_are_published_and_the_rest_follows(
    made: Path, archive: Path, tmp_path: Path
) -> None:
    mended, clean = (Path(shutil.copytree(made, tmp_path / name)) for name in ("mended", "clean"))
    path = candles_file(archive, 3)
    good = path.read_bytes(), checksum_of(path).read_bytes()
    cut_zip(path)
    failed = run(mended, archive, 2, 3)
    last_line(failed.stderr, 1, path.name)
    assert f"{BTC}: {day(2)} .. {day(2)} computed and published" in failed.stdout
    status = done("status", "--home", mended).stdout
    assert f"failed  {BTC} {day(3)} raw_candles: {path}" in status
    assert "1 to look at" in status
    path.write_bytes(good[0])
    checksum_of(path).write_bytes(good[1])
    assert run(mended, archive, 2, 3).exit_code == 0
    assert "nothing is failed, stale or missing" in done("status", "--home", mended).stdout
    compute_home(real(clean, archive), day(1), day(3))
    assert_same(_without_sources(published(mended)), _without_sources(published(clean)))


def _without_sources(path: Path) -> dict[str, Any]:
    """Return the tables of a database but for raw_days, which names the files that were read."""
    return {name: table for name, table in tables(path).items() if name != "raw_days"}


# -- days and symbols that are not there


def test_an_empty_archive(home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(run(home, tmp_path / "empty"), 1, BTC, tmp_path / "empty", "futures/um/daily")
    refused(
        run(tmp_path / "new", tmp_path / "nowhere", 1, 1), 1, tmp_path / "nowhere", "is not there", "give the folder"
    )
    assert not published(tmp_path / "new").exists()


def test_a_missing_day_of_candles(home: Path, archive: Path) -> None:
    candles_file(archive, 2).unlink()
    refused(
        run(home, archive, 2, 3),
        1,
        candles_file(archive, 2).name,
        "is missing",
        f"it holds {day(1)}, {day(3)}",
        "add the file",
    )


def no_valid_contracts(rows: Rows) -> Rows:
    contracts = ("", "0", "-5", "nan", "inf")
    return [[*row[:2], contracts[number % len(contracts)], *row[3:]] for number, row in enumerate(rows)]


@pytest.mark.parametrize(
    "spoil", [Path.unlink, partial(rewrite, change=no_valid_contracts)], ids=["no file", "invalid"]
)
def test_a_first_day_without_open_interest(home: Path, archive: Path, spoil: Callable[[Path], Any]) -> None:
    file = metrics_file(archive, 1, ETH)
    spoil(file)
    said = (ETH, str(day(1)), "first day without any valid open interest", "start on a day that has")
    line = refused(run(home, archive, 1, 1, ETH), 1, *said)
    assert (f"or add {file.name}, which is missing" in line) == (not file.exists())


def test_a_later_day_without_open_interest_is_held_and_said(made: Path, archive: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(made, tmp_path / "home"))
    metrics_file(archive, 2).unlink()
    assert run(home, archive).exit_code == 0
    with duckdb.connect(str(published(home)), read_only=True) as con:
        query = "SELECT repairs FROM heatmap_days WHERE day = ?"
        ((repairs,),) = con.execute(query, [day(2)]).fetchall()
        assert json.loads(repairs)["held"] is True
        query = "SELECT count(DISTINCT open_interest) FROM book_ledger WHERE timestamp >= ?"
        assert con.execute(query, [day(2)]).fetchall() == [(1,)]


def test_an_unknown_symbol(home: Path, files: Path) -> None:
    refused(run(home, files, symbol="NOPEUSDT"), 1, files, "does not know the symbol NOPEUSDT", f"it holds {BTC}")
    days = ("--start", day(1), "--end", day(1))
    refused(heatmap("run", "NOPEUSDT", "--source", "demo", *days, "--home", home), 1, "NOPEUSDT", "BTCUSDT")


@pytest.mark.parametrize(
    "symbol",
    ["../../etc/passwd", "/BTCUSDT", "BTC'; DROP TABLE symbols;--", "BTC/USDT", "btcusdt", "", "BTC\nUSDT", "Ä"],
)
def test_a_symbol_with_a_path_or_sql_in_it(home: Path, files: Path, symbol: str) -> None:
    refused(run(home, files, symbol=symbol), 2, repr(symbol), "is not a symbol; write it as the exchange does")


TODAY = datetime.now(UTC).date()


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (day(2), day(1), (f"--start {day(2)}", f"after --end {day(1)}")),
        (day(2), TODAY, (f"--end {TODAY}", "not complete yet", "last complete day")),
        (day(2), TODAY + timedelta(days=400), ("--end", "not complete yet", "last complete day")),
        ("2024-02-30", day(1), ("--start", "'2024-02-30'", "is no day that there is")),
        ("yesterday", day(1), ("--start", "'yesterday'", "is no day that there is")),
        (day(2), "2024-3", ("--end", "'2024-3'", "is no day that there is")),
        (date(1999, 1, 1), day(1), ("--start 1999-01-01", "before 2019-01-01")),
    ],
)
def test_days_that_cannot_be(home: Path, files: Path, first: object, last: object, said: tuple[str, ...]) -> None:
    refused(heatmap("run", BTC, "--archive", files, "--start", first, "--end", last, "--home", home), 2, *said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", BTC, "--end", "2024-03-04"), "--start"),
        (("run", "--start", "2024-03-04", "--end", "2024-03-04"), "SYMBOL"),
        (("demo", "--days", "0"), "--days"),
        (("demo", "--model", "gamma"), "'delta', 'turnover'"),
        (("status", "now"), "now"),
        (("refresh", "--source", "archive"), "--archive DIR"),
        (("refresh", "--source", "demo", "--archive", "files"), "--archive and --source demo exclude each other"),
        (("ui", "--port", "0"), "--port"),
        (("paint",), "paint"),
    ],
)
def test_wrong_usage(home: Path, arguments: tuple[str, ...], said: str) -> None:
    refused(heatmap(*arguments, *([] if arguments == ("paint",) else ["--home", home])), 2, said)


def test_a_gap_is_refused_with_the_command_that_fills_it(home: Path, files: Path) -> None:
    line = refused(run(home, files, 3, 3), 1, f"{day(3)} does not follow the last stored day {day(1)}", "--restart")
    command = line.split("`")[1]
    assert command.startswith(f"heatmap run {BTC} --start {day(2)} --end {day(2)}")
    assert f"--archive {files}" in command
    assert f"--home {home}" in command
    result = heatmap("run", BTC, "--archive", files, "--start", day(3), "--end", day(3), "--restart", "--home", home)
    refused(result, 1, "--restart", f"the first is {day(2)}", f"--start {day(2)} --end {day(2)}")


def test_simulated_and_real_data_are_never_mixed(home: Path, archive: Path) -> None:
    (archive / "SIMULATED.txt").write_text("made up")
    refused(run(home, archive), 1, BTC, "real history", f"simulated data ({archive}, ", "another --home")
    result = heatmap("run", BTC, "--source", "demo", "--start", day(2), "--end", day(2), "--home", home)
    refused(result, 1, BTC, "real history", "be simulated data", "another --home", "--source archive")


# -- homes


def test_a_home_below_a_file(home: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("a file")
    refused(run(tmp_path / "file" / "home", files, 1, 1), 1, tmp_path / "file" / "home", "cannot be made", "--home")
    refused(heatmap("demo", "--home", tmp_path / "file"), 2, "--home", "is a file")
    monkeypatch.setenv("HEATMAP_HOME", str(tmp_path / "file"))
    refused(heatmap("demo"), 1, f"home {tmp_path / 'file'} is not a folder", "HEATMAP_HOME")
    for verb in ("refresh", "ui"):
        refused(heatmap(verb, "--home", tmp_path / "file" / "home"), 1, "cannot be made", "--home")


@pytest.mark.parametrize("place", ["dagster", "BTCUSDT.lock", "BTCUSDT.duckdb"])
def test_a_home_that_may_not_be_written(home: Path, files: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    denied = OSError(errno.EACCES, "Permission denied", str(home / place))

    def deny(*arguments: Any, **_: Any) -> None:
        raise denied

    if place == "dagster":
        shutil.rmtree(home / "dagster")
        monkeypatch.setattr("pathlib.Path.mkdir", deny)
    elif place == "BTCUSDT.duckdb":
        text = f'IO Error: Cannot open file "{home / place}": Permission denied'
        monkeypatch.setattr("heatmap_pipeline.store.instances.lent", partial(_raise, duckdb.IOException(text)))
    else:
        acquire = FileLock.acquire

        def deny_this(lock: FileLock, *arguments: Any, **options: Any) -> Any:
            return deny() if Path(lock.lock_file).name == place else acquire(lock, *arguments, **options)

        monkeypatch.setattr(FileLock, "acquire", deny_this)
    of_file = place == "BTCUSDT.duckdb"  # which says nothing of the home
    mend = ["BTCUSDT.duckdb cannot be used", "mend its permissions"] if of_file else ["choose another", "--home"]
    refused(run(home, files), 1, home, "ermission denied", *mend)


def _raise(error: Exception, *_: Any, **__: Any) -> Any:
    raise error


def test_a_warehouse_that_is_not_ours(home: Path, files: Path) -> None:
    warehouse = home / "warehouse" / "BTCUSDT.duckdb"
    warehouse.write_bytes(b"no database " * 1000)
    refused(run(home, files), 1, home, "damaged", "move it away")
    refused(heatmap("status", "--home", home), 1, home, "damaged", "move it away")
    warehouse.unlink()
    with duckdb.connect(str(warehouse)) as con:
        con.execute("CREATE TABLE mine (number INTEGER)")
    refused(run(home, files), 1, warehouse, "no tables of this program", "--home")


def test_a_damaged_published_database(made: Path, files: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(made, tmp_path / "home"))
    published(home).write_bytes(b"no database " * 1000)
    refused(run(home, files), 1, home, "damaged", "move it away")
    assert published(home).read_bytes() == b"no database " * 1000


# -- a full disk


def _full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def _full_below(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let no file below a folder be written through pathlib."""
    write = Path.write_bytes

    def write_bytes(path: Path, data: bytes) -> int:
        return _full() if folder in path.parents else write(path, data)

    patch.setattr(Path, "write_bytes", write_bytes)


def _full_table(inserting: str, table: str, patch: pytest.MonkeyPatch) -> None:
    """Let a function of the store insert no row into a table, as DuckDB says it."""
    place = f"heatmap_pipeline.store.{inserting}"
    insert: Callable[..., Any] = resolve_name(place)

    def refuse(con: Any, name: str, columns: Any) -> Any:
        if name == table:
            raise duckdb.IOException('IO Error: Could not write to file "BTCUSDT.duckdb": No space left on device')
        return insert(con, name, columns)

    patch.setattr(place, refuse)


def _full_history(patch: pytest.MonkeyPatch, place: str) -> None:
    full = OperationalError("INSERT", None, sqlite3.OperationalError("database or disk is full"))
    patch.setattr(dg.DagsterInstance, place, partial(_raise, full))


FULL: dict[str, tuple[Callable[[Path, pytest.MonkeyPatch], Any], str]] = {
    "dagster.yaml": (lambda home, patch: _full_below(home / "dagster", patch), "cannot be written"),
    "opening the history": (lambda _, patch: _full_history(patch, "from_config"), "disk is full"),
    "an event": (lambda _, patch: _full_history(patch, "handle_new_event"), "disk is full"),
    "raw candles": (lambda _, patch: _full_table("raw.insert", "raw_candles", patch), "disk that holds"),
    "raw open interest": (lambda _, patch: _full_table("raw.insert", "raw_open_interest", patch), "disk that holds"),
    "a day's events": (
        lambda _, patch: _full_table("commit.insert_parts", "position_events", patch),
        "disk that holds",
    ),
    "snapshots": (
        lambda _, patch: _full_table("commit.insert_parts", "liquidation_snapshots", patch),
        "disk that holds",
    ),
    "publication, copying": (
        lambda _, patch: patch.setattr("heatmap_pipeline.store.publish.shutil.copyfile", _full),
        "disk that holds",
    ),
    "publication, sync": (lambda _, patch: patch.setattr("heatmap_pipeline.store.publish._sync", _full), "disk that"),
}


OF_DAGSTER = ("dagster.yaml", "opening the history", "an event")


@pytest.mark.usefixtures("dagster")
@pytest.mark.parametrize("place", FULL)
def test_a_full_disk(home: Path, files: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    fill, said = FULL[place]
    (home / "dagster" / "dagster.yaml").unlink()
    fill(home, monkeypatch)
    if place in ("raw open interest", "a day's events", "snapshots", "publication, copying"):
        refused_without_a_run(real(home, files), home, said)
    else:
        with nullcontext() if place in OF_DAGSTER else light_runs():
            refused(run(home, files), 1, home, said)


@pytest.mark.usefixtures("whole")
def test_a_full_disk_while_drawing(home: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _full_below(home / "renders", monkeypatch)
    refused(run(home, files), 1, BTC, "heatmap_render", home, "No space left on device", "make room")


def test_a_full_disk_for_the_demo_market(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _full_below(home / "archive", monkeypatch)
    result = heatmap("run", ETH, "--source", "demo", "--start", day(1), "--end", day(1), "--home", home)
    refused(result, 1, home / "archive", "No space left on device", "with space left")


def test_files_that_cannot_grow_any_further(made: Path, files: Path, tmp_path: Path, forks: Forks) -> None:
    """For real: the kernel refuses to make any file of the home longer than the warehouse is."""
    home = Path(shutil.copytree(made, tmp_path / "home"))
    before = _state(home)
    arguments = ("run", BTC, "--archive", files, "--start", day(2), "--end", day(3), "--home", home)
    ended = forks.heatmap(*arguments, longest=(home / "warehouse" / "BTCUSDT.duckdb").stat().st_size)
    assert ended.code == 1, ended.stderr
    last_line(ended.stderr, 1, home, "make room")
    assert _state(home) == before
    # With room again, the same command ends what it began.
    assert run(home, files, 2, 3).exit_code == 0
    compute_home(real(tmp_path / "clean", files), day(1), day(3))
    assert_same(tables(published(home)), tables(published(tmp_path / "clean")))


# -- two at once


def test_a_second_run_says_who_holds_the_lock_and_gives_up(
    home: Path, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEATMAP_LOCK_TIMEOUT", "0.2")
    with one_run_at_a_time(load_settings(home=home), lambda _: None):
        result = run(home, files)
    refused(result, 1, f"process {os.getpid()}", home / "running" / "BTCUSDT.lock", "after 0.2 s", "try again")


def test_a_second_run_waits_for_the_first(made: Path, files: Path, tmp_path: Path, forks: Forks) -> None:
    home = Path(shutil.copytree(made, tmp_path / "home"))
    arguments = ("run", BTC, "--archive", files, "--start", day(2), "--end", day(2), "--home", home)
    with ThreadPoolExecutor() as threads:
        with one_run_at_a_time(load_settings(home=home), lambda _: None):
            forks.stderr.unlink(missing_ok=True)
            second = threads.submit(forks.heatmap, *arguments)
            deadline = time.monotonic() + 60
            while not (forks.stderr.exists() and "\n" in forks.stderr.read_text()):
                assert time.monotonic() < deadline, "it does not say that it waits"
                time.sleep(0.02)
            first_line = forks.stderr.read_text()
            assert first_line.startswith(f"waiting for process {os.getpid()} (since "), first_line
            assert str(home) in first_line
            # What the first run stores while the second waits, the second has to know.
            _while_holding_the_lock(home, files)
        assert f"{BTC}: {day(2)} .. {day(3)} computed and published" in second.result(timeout=120).ok().stdout


def _while_holding_the_lock(home: Path, files: Path) -> None:
    settings = load_settings(home=home, source="archive", archive=files, symbols=(BTC,))
    assert command.run_days(settings, {BTC: (day(2), day(3))}).published == {BTC: (day(2), day(3))}


def test_the_lock_is_free_again_after_a_failure(home: Path, archive: Path) -> None:
    cut_zip(candles_file(archive, 2))
    for _ in range(2):
        refused(run(home, archive), 1, candles_file(archive, 2).name)
    assert not (home / "run.lock.holder").exists()


STOPPED = "the run was stopped; what it did is kept, and the same command goes on from there"


def _stop_while_computing(patch: pytest.MonkeyPatch, by: signal.Signals) -> list[int]:
    """Send a signal to this process whenever a day is computed; return the list of how often it was."""
    from heatmap_pipeline.chain import compute as chain
    from heatmap_pipeline.model.engine import run_day

    calls: list[int] = []
    computed = run_day

    def stop(*arguments: Any) -> Any:
        calls.append(len(calls))
        os.kill(os.getpid(), by)
        return computed(*arguments)

    patch.setattr(chain, "run_day", stop)
    return calls


@pytest.mark.usefixtures("dagster")
def test_a_run_that_is_stopped_says_how_to_go_on(home: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stop_while_computing(monkeypatch, signal.SIGINT)
    refused(run(home, files), 1, f"{BTC} failed: {STOPPED}")
    assert not (home / "run.lock.holder").exists()


@pytest.mark.usefixtures("dagster")
def test_a_stopped_command_begins_nothing_more(home: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _stop_while_computing(monkeypatch, signal.SIGTERM)
    settings = load_settings(home=home, source="archive", archive=files, symbols=(BTC, ETH))
    outcome = command.run_days(settings, {BTC: (day(2), day(2)), ETH: (day(1), day(2))})
    assert outcome.published == {}
    assert outcome.failures == {BTC: STOPPED, ETH: STOPPED}
    assert calls == [0]


@pytest.fixture
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has opened the warehouse, as the command-line client does."""
    code = "import duckdb, sys, time; con = duckdb.connect(sys.argv[1]); print('open', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(home / "warehouse" / "BTCUSDT.duckdb")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.wait()


def test_a_warehouse_that_another_process_holds(
    home: Path, files: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEATMAP_LOCK_TIMEOUT", "0.5")
    refused(run(home, files), 1, home, "open elsewhere", "close it there", holder.pid)
    refused(heatmap("status", "--home", home), 1, home, "open elsewhere", holder.pid)


def test_the_lock_of_the_warehouse_names_its_holder(home: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heatmap_pipeline.store.warehouse import Warehouse

    monkeypatch.setenv("HEATMAP_LOCK_TIMEOUT", "0.3")
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with Warehouse(home).locked(BTC):
            taken.set()
            release.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert taken.wait(10)
        began = time.monotonic()
        refused(
            run(home, files),
            1,
            home / "warehouse" / "BTCUSDT.lock",
            f"process {os.getpid()}",
            "over 0.3 s",
            "run again",
        )
        assert time.monotonic() - began < 10
    finally:
        release.set()
        thread.join()


# -- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEATMAP_BUCKET_BTCUSDT", "abc"),
        ("HEATMAP_BUCKET_BTCUSDT", "-1"),
        ("HEATMAP_SOURCE", "somewhere"),
        ("HEATMAP_SYMBOLS", "btc/usdt"),
        ("HEATMAP_MODELS", "gamma"),
        ("HEATMAP_START", "soon"),
        ("HEATMAP_CANDLE_INTERVAL", "2m"),
        ("HEATMAP_SNAPSHOT_INTERVAL", "2m"),
        ("HEATMAP_LOCK_TIMEOUT", "-1"),
        ("HEATMAP_DEMO_SEED", "x"),
        ("HEATMAP_MAX_LEVERAGE_BTCUSDT", "0.5"),
    ],
)
@pytest.mark.parametrize("verb", ["refresh", "status", "ui"])
def test_a_setting_that_cannot_be(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, verb: str
) -> None:
    monkeypatch.setenv(name, value)
    refused(heatmap(verb, "--home", home), 2, name, repr(value))


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"HEATMAP_CANDLE_INTERVAL_BTCUSDT": "1m"}, ("HEATMAP_CANDLE_INTERVAL_BTCUSDT = 1m", "another --home")),
        ({"HEATMAP_SNAPSHOT_INTERVAL": "1m"}, ("candles of 300 s", "HEATMAP_SNAPSHOT_INTERVAL_BTCUSDT")),
        ({"HEATMAP_MAX_LEVERAGE_BTCUSDT": "2"}, ("HEATMAP_MAX_LEVERAGE",)),
        ({"HEATMAP_MAINTENANCE_MARGIN_RATE_BTCUSDT": "0.9"}, ("HEATMAP_MAINTENANCE_MARGIN_RATE",)),
        ({"HEATMAP_BUCKET_BTCUSDT": "50"}, (str(day(1)), "stale", "other parameters", f"--start {day(1)}")),
    ],
)
def test_a_setting_that_does_not_fit_what_is_stored(
    home: Path, files: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: tuple[str, ...]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if "HEATMAP_BUCKET_BTCUSDT" in variables:
        refused(run(home, files), 1, BTC, *said)
    else:
        refused_without_a_run(real(home, files), BTC, *said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "is not JSON"),
        ("[1]", "entry 1 is not in the exchange's shape"),
        ('[{"symbol": "BTCUSDT", "brackets": []}]', "entry 1"),
        ("[]", "HEATMAP_MAX_LEVERAGE_BTCUSDT"),
    ],
)
def test_a_bad_file_of_leverage_brackets(
    home: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    path = tmp_path / "brackets.json"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("HEATMAP_LEVERAGE_BRACKETS", str(path))
    if content == "{":
        refused(run(home, files), 1, path, said)
    else:
        refused_without_a_run(real(home, files), path, said)
