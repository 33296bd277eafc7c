"""A database file that is damaged or gone: what is said, what still serves, and that the line we name repairs it."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from functools import partial
from pathlib import Path

import duckdb
import pytest

from heatmap_pipeline.chain.compute import advance
from heatmap_pipeline.chain.due import due_days
from heatmap_pipeline.chain.history import ChainError
from heatmap_pipeline.chain.recovery import RecoveryError, loss, refuse_loss
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.model.parameters import MODELS, choose_bucket
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._homes import as_if_yesterday_were, done, heatmap, refused
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ETH,
    ask,
    assert_same,
    candles_file,
    checksum_of,
    copy_home,
    created,
    day,
    real,
    run_job,
    tables,
    untouched,
)

pytestmark = pytest.mark.usefixtures("light_commands")

OTHER_PARAMETERS = """UPDATE heatmap_days SET parameters = replace(parameters, '"max_leverage": 1', '"max_leverage": 2')
    WHERE day = '{}'"""
"""What a day looks like that was computed under another leverage bracket."""


@pytest.fixture(scope="module")
def both(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with days 1 to 3 of two symbols in one model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEATMAP_SNAPSHOT_INTERVAL", "1h")
        settings = real(tmp_path_factory.mktemp("both"), archive, BTC, ETH, models=("delta",))
        return compute_home(settings, day(1), day(3)).home


@pytest.fixture
def pair(both: Path, tmp_path: Path) -> Path:
    return copy_home(both, tmp_path / "a home")


def obey_line(text: str) -> None:
    """Type what a message says between backquotes into a shell, as it stands."""
    (line,) = dict.fromkeys(re.findall(r"`((?:mkdir|heatmap run|heatmap refresh)[^`]*)`", text))
    for part in line.split(" && "):
        if part.startswith("heatmap "):
            done(*shlex.split(part)[1:])
        else:
            subprocess.run(["sh", "-ec", part], check=True)


def flipped(*where: slice) -> Callable[[bytes], bytes]:
    def flip(content: bytes) -> bytes:
        spoilt = bytearray(content)
        for part in where:
            spoilt[part] = random.Random(1).randbytes(len(spoilt[part]))
        return bytes(spoilt)

    return flip


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "first header": flipped(slice(0, 64)),
    "both other headers": flipped(slice(4096, 12288)),
    "the rows": flipped(slice(12288, None)),
    "cut in the middle": lambda content: content[: len(content) // 2],
    "cut within the headers": lambda content: content[:5000],
    "empty": lambda _: b"",
    "junk": lambda content: random.Random(2).randbytes(len(content)),
    "a web page": lambda _: b"<html>" * 10_000,
}


# -- a damaged warehouse


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_warehouse_is_said_and_what_is_published_serves(pair: Path, archive: Path, damage: str) -> None:
    """By every command in the same way: `status` sees every damage, those that run see two of them."""
    warehouse = pair / "warehouse" / "BTCUSDT.duckdb"
    warehouse.write_bytes(DAMAGES[damage](warehouse.read_bytes()))
    spoilt = warehouse.read_bytes()
    runs = (("refresh", BTC), ("run", BTC, "--start", day(1), "--end", day(3)))
    with untouched(pair / "heatmap.duckdb"):
        for words in (("status",), *(runs if damage in ("the rows", "cut in the middle") else ())):
            source = () if words == ("status",) else ("--archive", archive)
            line = refused(
                heatmap(*words, *source, "--home", pair), 1, warehouse, "is damaged", "heatmap.duckdb serves"
            )
            assert f"heatmap run {BTC} --start {day(1)} --end {day(3)}" in line, "the other is whole"
        with Warehouse(pair).read() as con:
            assert con.execute("SELECT count(*) FROM heatmap_days").fetchall() == [(6,)]
    assert warehouse.read_bytes() == spoilt, "it is for the user to move away"


def test_the_line_that_is_named_rebuilds_a_damaged_warehouse(pair: Path, both: Path, archive: Path) -> None:
    warehouse = pair / "warehouse" / "BTCUSDT.duckdb"
    spoilt = DAMAGES["the rows"](warehouse.read_bytes())
    warehouse.write_bytes(spoilt)
    line = refused(heatmap("refresh", BTC, "--archive", archive, "--home", pair), 1, warehouse)
    obey_line(line)
    assert_same(tables(pair / "heatmap.duckdb"), tables(both / "heatmap.duckdb"))
    assert_same(tables(pair / "warehouse"), tables(both / "warehouse"))
    assert (pair / "damaged" / "BTCUSDT.duckdb").read_bytes() == spoilt
    anew, before = created(real(pair, archive)), created(real(both, archive))
    assert {key[0] for key in anew if anew[key] != before[key]} == {BTC}, "computed, not copied"


# -- a warehouse that is gone


def test_a_lost_warehouse_is_said_and_nothing_less_than_before_is_published(
    pair: Path, both: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for symbol in (BTC, ETH):
        Warehouse(pair).path(symbol).unlink()
    told = done("status", "--home", pair).stdout
    assert f"lost    {pair / 'warehouse'} has no file; heatmap.duckdb serves" in told
    assert f"heatmap run {BTC} {ETH} --start {day(1)} --end {day(3)} --archive {archive} --home" in told, "as before"
    (pair / "archives.json").unlink()
    assert "--archive DIR --home" in done("status", "--home", pair).stdout, "nobody has said where"
    assert not (pair / "warehouse" / "BTCUSDT.duckdb").exists(), "looking makes nothing"
    monkeypatch.setenv("HEATMAP_ARCHIVE", str(archive))
    monkeypatch.setenv("HEATMAP_SOURCE", "archive")
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    with untouched(pair / "heatmap.duckdb"):
        one_day = ("run", BTC, "--start", day(3), "--end", day(3), "--home", pair)
        line = refused(heatmap(*one_day), 1, f"{BTC} {day(1)} .. {day(2)}: published and not stored any more")
        status = done("status", "--home", pair).stdout
        assert f"lost    {BTC} {day(1)} .. {day(2)}" in status
    obey_line(line)
    assert_same(tables(pair / "heatmap.duckdb"), tables(both / "heatmap.duckdb"))
    # The other symbol kept what was published of it, and comes back by what everybody does every day.
    assert due_days(load_settings(home=pair), [ETH], day(3)) == {ETH: (day(1), day(3))}
    as_if_yesterday_were(monkeypatch, day(3))
    done("refresh", "--home", pair)
    assert_same(tables(pair / "heatmap.duckdb"), tables(both / "heatmap.duckdb"))
    assert_same(tables(pair / "warehouse"), tables(both / "warehouse"))
    assert "nothing is failed, stale or missing" in done("status", "--home", pair).stdout


def test_status_names_lines_that_work_as_they_stand(
    pair: Path, both: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the first run and the models come from what is remembered: nobody has set anything."""
    as_if_yesterday_were(monkeypatch, day(3))
    shutil.rmtree(pair / "warehouse")
    status = done("status", "--home", pair).stdout
    assert f"--archive {archive} --home '{pair}' --model delta" in status
    obey_line(status)
    assert_same(tables(pair / "heatmap.duckdb"), tables(both / "heatmap.duckdb"))
    ask(load_settings(home=pair), OTHER_PARAMETERS.format(day(2)))
    status = done("status", "--home", pair).stdout
    assert status.count("it was computed with other parameters") == 2
    for line in status.splitlines():
        if line.startswith("stale"):
            obey_line(line)
    assert_same(tables(pair / "heatmap.duckdb"), tables(both / "heatmap.duckdb"))
    assert done("status", "--home", pair).stdout.endswith("nothing is failed, stale or missing\n")
    # The files of one symbol move: its line names the new place, the other's the old one.
    moved = Path(shutil.copytree(archive, pair / "moved"))
    done("run", ETH, "--archive", moved, "--start", day(3), "--end", day(3), "--model", "delta", "--home", pair)
    (pair / "heatmap.duckdb").unlink()
    for line in done("status", "--home", pair).stdout.splitlines():
        if line.startswith("waiting"):
            assert f"--archive {archive if BTC in line else shlex.quote(str(moved))} --home" in line
            obey_line(line)
    assert_same(tables(pair / "heatmap.duckdb"), tables(both / "heatmap.duckdb"))


def test_a_gap_and_the_buckets_come_back_with_a_lost_warehouse(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source has nothing for a day in the middle; buckets follow from the candles, and need no remembering."""
    files = Path(shutil.copytree(archive, tmp_path / "files"))
    for path in (candles_file(files, 2), checksum_of(candles_file(files, 2))):
        path.unlink()
    home, former = tmp_path / "home", tmp_path / "former"
    settings = real(home, files, models=("delta",))
    compute_home(settings, day(1))
    compute_home(settings, day(3), restart=True)
    copy_home(home, former)
    (home / "warehouse" / "BTCUSDT.duckdb").unlink()
    monkeypatch.setenv("HEATMAP_ARCHIVE", str(files))
    obey_line(done("status", "--home", home).stdout)
    assert_same(tables(home / "heatmap.duckdb"), tables(former / "heatmap.duckdb"))
    ((newest,),) = ask(load_settings(home=home), "SELECT bucket FROM symbols", published=True)
    chosen = (
        "SELECT bucket, (SELECT arg_min(close, open_time) FROM raw_candles AS c WHERE c.day = b.day) FROM buckets AS b"
    )
    found = ask(load_settings(home=home), f"{chosen} ORDER BY b.day", published=True)
    assert [bucket for bucket, _ in found] == [choose_bucket(close) for _, close in found]
    assert newest == found[-1][0]


def test_an_old_backup_of_the_warehouse_lacks_days_that_are_published(home: Path, archive: Path) -> None:
    settings = real(home, archive)
    with duckdb.connect(str(home / "heatmap.duckdb")) as con:
        con.execute(f"UPDATE heatmap_days SET provisional = true WHERE day = '{day(5)}'")
    ask(settings, f"DELETE FROM heatmap_days WHERE day > '{day(2)}' AND model = 'turnover'")
    said = f"{BTC} {day(3)} .. {day(4)}: published and not stored any more"
    with Warehouse(home).connect(BTC) as con, pytest.raises(RecoveryError, match=said) as refusal:
        refuse_loss(con, settings, BTC)
    command = f"heatmap run {BTC} --start {day(3)} --end {day(5)} --archive {archive} --home {home}"
    assert f"`{command}`" in str(refusal.value), "a day that was not over is not missed, but what is stored is kept"
    assert f"lost    {said}" in "\n".join(status_lines(settings))
    assert due_days(settings, [BTC], day(5)) == {BTC: (day(3), day(5))}
    # One model alone would take the other away.
    narrow = real(home, archive, models=("delta",))
    assert due_days(narrow, [BTC], day(5)) == {BTC: (day(5), day(5))}
    with Warehouse(home).connect(BTC) as con:
        assert f"`{command}`" in str(loss(con, narrow, BTC))
    # Every symbol's publication goes with the file, so it is said who brings back what is left.
    gone = f"move heatmap.duckdb away, and `heatmap status --home {home}` names what publishes the rest"
    assert gone in str(refusal.value)
    (home / "heatmap.duckdb").unlink()
    assert f"waiting {BTC}: computed and not published yet" in "\n".join(status_lines(settings))


# -- days of the exchange


def test_days_of_the_exchange_come_back_from_the_cache_without_the_exchange(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = date(2024, 9, 14)
    days = [first + timedelta(days=number) for number in range(3)]
    write_demo_days(tmp_path / "market", BTC, days)
    as_if_yesterday_were(monkeypatch, days[1])
    home, former = tmp_path / "home", tmp_path / "former"
    for name, value in (("SOURCE", "binance"), ("MODELS", "delta"), ("HOME", str(home))):
        monkeypatch.setenv(f"HEATMAP_{name}", value)
    with ExchangeServer(tmp_path / "market", datetime.combine(days[2], time(12, 2, 30))) as server:
        server.hide(str(days[2]))
        monkeypatch.setenv("HEATMAP_ARCHIVE_URL", server.url)
        monkeypatch.setenv("HEATMAP_REST_URL", server.url)
        compute_home(load_settings(symbols=(BTC,)), first, days[1])
    copy_home(home, former)
    # The exchange cannot be reached from here on.
    (home / "warehouse" / "BTCUSDT.duckdb").unlink()
    obey_line(done("status").stdout)
    assert_same(tables(home / "heatmap.duckdb"), tables(former / "heatmap.duckdb"))


# -- what is published


def test_what_is_stored_and_not_published_is_said_and_refresh_publishes_it(
    pair: Path, both: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run was killed just before its end, or someone has deleted heatmap.duckdb."""
    as_if_yesterday_were(monkeypatch, day(3))
    (pair / "heatmap.duckdb").unlink()
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    status = done("status", "--home", pair).stdout
    for symbol in (BTC, ETH):
        assert f"waiting {symbol}: computed and not published yet; publish it with `heatmap run {symbol}" in status
    assert due_days(load_settings(home=pair), [BTC, ETH], day(3)) == {BTC: (day(3), day(3)), ETH: (day(3), day(3))}
    done("refresh", "--archive", archive, "--home", pair)
    assert_same(tables(pair / "heatmap.duckdb"), tables(both / "heatmap.duckdb"))
    assert "up to date" in done("refresh", "--archive", archive, "--home", pair).stdout
    (pair / "heatmap.duckdb").write_bytes(b"junk" * 5000)
    assert f"damaged {pair / 'heatmap.duckdb'} is damaged" in done("status", "--home", pair).stdout
    with pytest.raises(StoreError, match=r"heatmap\.duckdb is damaged .* move it away"):
        publish(Warehouse(pair), [BTC])


def test_a_log_that_belongs_to_another_warehouse_is_damage(pair: Path) -> None:
    """Someone puts a backup in the place of a warehouse whose process was killed, and leaves its log beside it."""
    other = pair / "other"
    with Warehouse(other).connect(BTC) as con:
        con.execute("CHECKPOINT")
    (other / "warehouse" / "BTCUSDT.duckdb").replace(pair / "warehouse" / "BTCUSDT.duckdb")
    code = (
        "import os, duckdb, sys\n"
        "con = duckdb.connect(sys.argv[1])\n"
        "con.execute('CREATE TABLE t (a INTEGER)')\n"
        "con.execute('CHECKPOINT')\n"
        "con.execute('INSERT INTO t VALUES (1)')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(pair / "x.duckdb")], check=True)
    (pair / "x.duckdb.wal").rename(pair / "warehouse" / "BTCUSDT.duckdb.wal")
    path = pair / "warehouse" / "BTCUSDT.duckdb"
    refused(heatmap("status", "--home", pair), 1, path, "is damaged", "BTCUSDT.duckdb'* ")


# -- a new version of the program


def test_parameters_that_changed_in_the_code_are_published_whole_or_not_at_all(
    home: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = real(home, archive, models=("delta",))
    used = "SELECT DISTINCT parameters FROM heatmap_days WHERE model = 'delta'"
    former = ask(settings, used, published=True)
    weights = ((5.0, 10.0), (10.0, 90.0))
    monkeypatch.setitem(MODELS, "delta", replace(MODELS["delta"], leverage_weights=weights))
    with pytest.raises(ChainError, match="it was computed with other parameters") as refusal:
        list(advance(partial(Warehouse(home).connect, BTC), settings, BTC, [day(5)]))
    message = str(refusal.value)
    with untouched(home / "heatmap.duckdb"):
        # Some days of the new ones beside the rest of the old ones, as after a kill in the middle of the rebuild.
        assert run_job(settings, 1, 3).failed_checks() == {f"{BTC}/position_events:chain_unbroken"}
        assert len(ask(settings, used)) == 2
    obey_line(message)
    (now,) = ask(settings, used, published=True)
    assert [now] != former
    assert json.loads(now[0])["leverage_weights"] != json.loads(former[0][0])["leverage_weights"]
    opened = "SELECT DISTINCT leverage FROM position_events WHERE model = 'delta' AND event_type = 'open' ORDER BY 1"
    assert ask(settings, opened, published=True) == [(5.0,), (10.0,)]


def test_what_failed_after_it_was_read_is_tried_again_by_refresh(
    pair: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_yesterday_were(monkeypatch, day(3))
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    published = pair / "heatmap.duckdb"
    kept = published.rename(pair / "kept")
    published.mkdir()
    days = ("--start", day(3), "--end", day(3))
    refused(heatmap("run", BTC, "--archive", archive, *days, "--home", pair), 1, BTC, published)
    published.rmdir()
    kept.rename(published)
    assert f"failed  {BTC}" in done("status", "--home", pair).stdout
    done("refresh", BTC, "--archive", archive, "--home", pair)
    assert f"failed  {BTC}" not in done("status", "--home", pair).stdout
    assert "up to date" in done("refresh", BTC, "--archive", archive, "--home", pair).stdout
