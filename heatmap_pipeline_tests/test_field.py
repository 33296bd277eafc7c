"""What people reported of tools like this one, each through the command line: `CASES` says where each is held to.

Here are those of the way the market's files come: trees as they were left, a checksum that is wrong for months, a day
that was never published, a proxy.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest

from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.settings import SIMULATED_MARKER, load_settings
from heatmap_pipeline_tests._homes import (
    as_if_yesterday_were,
    clean_environment,
    done,
    heatmap,
    last_line,
    published,
    work_little,
)
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.market._hostile_server import HostileServer
from heatmap_pipeline_tests.market._socks import go_through, relay_to
from heatmap_pipeline_tests.market._trees import (
    METRICS,
    by_month,
    by_range,
    deeper,
    unzipped,
    unzipped_into_folders,
    zipped_on_a_mac,
)
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import BTC, assert_same, real, tables

CASES = {
    "trees as downloaders and people leave them": "test_field.py::test_a_tree_as_it_was_left_gives_the_same_map",
    "a checksum that is wrong for months, REST open": "test_field.py::test_a_day_with_a_wrong_checksum_comes_from_rest",
    "the same, and REST does not serve the day": "test_field.py::test_a_wrong_checksum_names_its_day_and_two_ways_out",
    "a day of metrics that was never published": "test_field.py::test_a_day_never_published_is_held_by_both_sources",
    "a SOCKS proxy": "test_field.py::test_a_socks_proxy_is_all_that_is_needed",
    "REST closed to this place, run": (
        "orchestration/test_closed.py::test_a_run_that_asks_for_more_publishes_the_finished_days_and_fails"
    ),
    "REST closed to this place, refresh and status": (
        "orchestration/test_closed.py::test_refresh_publishes_what_the_archive_has_and_says_why_nothing_newer"
    ),
    "a contract ten thousand times smaller": (
        "orchestration/test_other_markets.py::test_the_same_market_of_another_size_has_the_same_map"
    ),
    "its levels at midnight": (
        "orchestration/test_other_markets.py::"
        "test_no_column_differs_from_the_one_before_by_more_than_the_ledger_explains"
    ),
    "a price that collapses": "orchestration/test_other_markets.py::test_the_bucket_follows_a_price_that_collapses",
    "a price that rises 400-fold": (
        "orchestration/test_other_markets.py::test_a_price_that_rises_four_hundredfold_has_a_bounded_number_of_cells"
    ),
    "an impossible sample of open interest": (
        "orchestration/test_other_markets.py::test_a_sample_that_cannot_be_true_is_as_if_it_were_missing"
    ),
    "a published database too new for a client": (
        "store/test_export.py::test_what_the_documentation_says_of_the_file_is_true"
    ),
    "what that client reads instead": "orchestration/test_parquet_export.py::test_the_command_says_what_it_did",
    "a place where compiled code cannot be kept": (
        "orchestration/test_nobody.py::test_what_libraries_keep_goes_to_the_home"
    ),
    "amounts in USDC": "test_contracts.py::test_every_answer_of_the_endpoint_is_in_the_quote_asset",
    "a symbol in Chinese": (
        "test_contracts.py::test_a_symbol_in_another_alphabet_comes_from_archive_and_rest_and_is_what_the_exchange_says"
    ),
    "contracts that are not computed": (
        "test_contracts.py::test_a_contract_that_is_not_computed_is_refused_for_what_it_is"
    ),
}
"""What was reported -> the test that holds it."""

DAYS = [date(2024, 8, 30), date(2024, 8, 31), date(2024, 9, 1)]
"""Two months, for the files of a month."""
BAD = DAYS[1]
BAD_FILE = f"{BTC}-metrics-{BAD}"
SOON, LATE = datetime(2024, 9, 2, 12), datetime(2024, 11, 15)
"""What the exchange's clock says: while its REST still serves the open interest of these days, and long after."""
SPAN = ("--start", DAYS[0], "--end", DAYS[-1])
MAPS = ("book_ledger", "liquidation_snapshots", "open_positions")


@pytest.mark.parametrize("place", CASES.values(), ids=CASES.keys())
def test_what_holds_a_case_is_there(place: str) -> None:
    file, name = place.split("::")
    tree = ast.parse((Path(__file__).parent / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    work_little(monkeypatch)
    as_if_yesterday_were(monkeypatch, DAYS[-1])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of three days as the exchange's archive has them, which pass for real ones. Nobody changes them."""
    root = tmp_path_factory.mktemp("files")
    write_demo_days(root, BTC, DAYS)
    (root / SIMULATED_MARKER).unlink()
    return root


@pytest.fixture(scope="module")
def made(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home made from these files. Nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        work_little(patch)
        home = tmp_path_factory.mktemp("right")
        compute_home(real(home, files), DAYS[0], DAYS[-1])
    return home


@pytest.fixture(scope="module")
def right(made: Path) -> dict[str, Any]:
    """What these files give."""
    return maps(made)


def maps(home: Path) -> dict[str, Any]:
    """Return what is published of the model's outcome."""
    found = tables(published(home))
    return {name: found[name] for name in MAPS}


def repairs(home: Path, day: date) -> dict[str, Any]:
    """Return what is published about the repairs of a day."""
    with duckdb.connect(str(published(home)), read_only=True) as con:
        ((text,),) = con.execute("SELECT repairs FROM heatmap_days WHERE day = ?", [day]).fetchall()
    counted: dict[str, Any] = json.loads(text)
    return counted


def days(home: Path) -> list[date]:
    with duckdb.connect(str(published(home)), read_only=True) as con:
        return [day for (day,) in con.execute("SELECT DISTINCT day FROM heatmap_days ORDER BY day").fetchall()]


@contextmanager
def exchange(files: Path, now: datetime, patch: pytest.MonkeyPatch) -> Iterator[ExchangeServer]:
    """Run the exchange, whose archive has these files, and make it the source."""
    with ExchangeServer(files, now) as server:
        for name, value in (("SOURCE", "binance"), ("ARCHIVE_URL", server.url), ("REST_URL", server.url)):
            patch.setenv(f"HEATMAP_{name}", value)
        yield server


# -- trees


@pytest.mark.parametrize("leave", [unzipped, unzipped_into_folders, deeper, zipped_on_a_mac, by_month])
@pytest.mark.slow
def test_a_tree_as_it_was_left_gives_the_same_map(
    leave: Callable[[Path], None], files: Path, right: dict[str, Any], tmp_path: Path
) -> None:
    tree = Path(shutil.copytree(files, tmp_path / "tree"))
    leave(tree)
    compute_home(real(tmp_path / "home", tree), DAYS[0], DAYS[-1])
    assert_same(maps(tmp_path / "home"), right)


@pytest.mark.slow
def test_a_folder_of_files_by_range_is_all_that_the_command_needs(
    files: Path, right: dict[str, Any], tmp_path: Path
) -> None:
    tree = Path(shutil.copytree(files, tmp_path / "tree"))
    by_range(tree)
    done("run", BTC, "--archive", tree, *SPAN, "--home", tmp_path / "home")
    assert_same(maps(tmp_path / "home"), right)


# -- a checksum that is wrong for months


def _spoil(server: ExchangeServer) -> None:
    text = f"{'8' * 64}  {BAD_FILE}.zip\n".encode()
    server.fault(f"{BAD_FILE}.zip.CHECKSUM", Fault(body=text), always=True)


@pytest.mark.slow
def test_a_day_with_a_wrong_checksum_comes_from_rest(
    files: Path, right: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    with exchange(files, SOON, monkeypatch) as server:
        _spoil(server)
        compute_home(load_settings(home=home, symbols=(BTC,)), DAYS[0], DAYS[-1])
    assert_same(maps(home), right)
    assert "nothing is failed, stale or missing" in done("status", "--home", home).stdout


@pytest.mark.slow
def test_a_wrong_checksum_names_its_day_and_two_ways_out(
    files: Path, right: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The days before are published, then either way leads to the map of the good file, and is counted."""
    home = tmp_path / "home"
    with exchange(files, LATE, monkeypatch) as server:
        _spoil(server)
        run = ("run", BTC, *SPAN, "--home")
        failed = heatmap(*run, home)
        place = home / "archive/binance" / METRICS / f"{BAD_FILE}.zip"
        ways = (f"put a good copy at {place}", f"HEATMAP_ACCEPT_CHECKSUM={BAD_FILE}")
        last_line(failed.stderr, 1, f"{BAD_FILE}.zip", "does not match its published CHECKSUM", *ways)
        assert days(home) == DAYS[:1]
        lines = done("status", "--home", home).stdout.splitlines()
        (said,) = [line for line in lines if line.startswith("failed")]
        assert said.startswith(f"failed  {BTC} {BAD} raw_open_interest: ")
        assert all(way in said for way in ways)
        accepted = Path(shutil.copytree(home, tmp_path / "accepted"))
        with monkeypatch.context() as patch:
            patch.setenv("HEATMAP_ACCEPT_CHECKSUM", BAD_FILE)
            done(*run, accepted)
        shutil.copyfile(files / METRICS / place.name, place)
        done(*run, home)
    for ended, repair in ((accepted, "accepted_checksum"), (home, "placed_by_hand")):
        assert_same(maps(ended), right)
        assert [repairs(ended, day)["open_interest"].get(repair) for day in DAYS] == [None, 1, None]
        assert "nothing is failed, stale or missing" in done("status", "--home", ended).stdout


# -- a day that was never published


@pytest.mark.slow
def test_a_day_never_published_is_held_by_both_sources(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    less = Path(shutil.copytree(files, tmp_path / "less"))
    for path in (less / METRICS).glob(f"{BAD_FILE}.zip*"):
        path.unlink()
    compute_home(real(tmp_path / "archive", less), DAYS[0], DAYS[-1])
    with exchange(less, LATE, monkeypatch):
        compute_home(load_settings(home=tmp_path / "binance", symbols=(BTC,)), DAYS[0], DAYS[-1])
    homes = tmp_path / "archive", tmp_path / "binance"
    assert_same(*(maps(home) for home in homes))
    for home in homes:
        assert [bool(repairs(home, day).get("held")) for day in DAYS] == [False, True, False]
        header, line = done("status", "--home", home).stdout.splitlines()[1:3]
        assert line[header.index("held") :].split()[0] == "1"


# -- a proxy


@pytest.mark.slow
def test_a_socks_proxy_is_all_that_is_needed(
    files: Path, right: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names are resolved by the proxy: here nobody knows them."""
    asked: list[str] = []
    with exchange(files, LATE, monkeypatch) as server:
        port = urlsplit(server.url).port
        assert port is not None
        for name in ("ARCHIVE_URL", "REST_URL"):
            monkeypatch.setenv(f"HEATMAP_{name}", f"http://{name[:4].lower()}.example")
        with HostileServer(relay_to(port, asked), head=False) as proxy:
            go_through(monkeypatch, proxy)
            done("run", BTC, *SPAN, "--home", tmp_path / "home")
    assert_same(maps(tmp_path / "home"), right)
    assert "arch.example" in asked
