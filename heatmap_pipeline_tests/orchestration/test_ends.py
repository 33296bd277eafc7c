"""A symbol that ends, through the command, the schedule, the page and the endpoint; and one that is forgotten."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import dagster as dg
import pytest

import heatmap_pipeline.orchestration.forget as forgetting
from heatmap_pipeline.api.health import health
from heatmap_pipeline.chain import forget as data_forgetting
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.schedules import AGAIN_AT, DAILY
from heatmap_pipeline.orchestration.turns import drawing
from heatmap_pipeline.render import page
from heatmap_pipeline.settings import SIMULATED_MARKER, Settings, load_settings
from heatmap_pipeline.store import forget as store_forgetting
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.data import published_version
from heatmap_pipeline_tests._forked import Fork, Say
from heatmap_pipeline_tests._homes import (
    as_if_yesterday_were,
    clean_environment,
    done,
    draw_nothing,
    draw_only_the_page,
    heatmap,
    refused,
)
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.homes import BTC, ETH, ask, assert_same, tables
from heatmap_pipeline_tests.orchestration.killed import Death, Forks
from heatmap_pipeline_tests.orchestration.light import light_runs
from heatmap_pipeline_tests.orchestration.readers import look

DAYS = [date(2024, 9, 12) + timedelta(days=number) for number in range(4)]
ENDS, YESTERDAY = DAYS[1], DAYS[-1]
TODAY = YESTERDAY + timedelta(days=1)
"""ETHUSDT ends on the second day."""
DATABASES = ("warehouse", "heatmap.duckdb")

Tick = Callable[[int], Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("market")
    write_demo_days(root, BTC, [*DAYS, TODAY])
    write_demo_days(root, ETH, DAYS[:2])
    return root


@pytest.fixture(scope="module")
def _server(files: Path) -> Iterator[ExchangeServer]:
    with ExchangeServer(files, datetime.combine(TODAY, time(1, 2, 30))) as running:
        running.hide(str(TODAY))
        yield running


@pytest.fixture
def server(_server: ExchangeServer, monkeypatch: pytest.MonkeyPatch) -> ExchangeServer:
    set_environment(monkeypatch, _server)
    return _server


def set_environment(patch: pytest.MonkeyPatch, server: ExchangeServer) -> None:
    as_if_yesterday_were(patch, YESTERDAY)
    named = {"SOURCE": "binance", "ARCHIVE_URL": server.url, "REST_URL": server.url, "MODELS": "delta"}
    for name, value in {**named, "SYMBOLS": f"{BTC},{ETH}", "SNAPSHOT_INTERVAL": "4h"}.items():
        patch.setenv(f"HEATMAP_{name}", value)


@pytest.fixture(scope="module")
def ended(_server: ExchangeServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A home in which ETHUSDT has ended, with its pictures, and what two times `refresh` said."""
    home = tmp_path_factory.mktemp("ended") / "home"
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        set_environment(patch, _server)
        with patch.context() as undrawn:
            draw_nothing(undrawn)
            done("run", BTC, ETH, "--start", DAYS[0], "--end", ENDS, "--home", home)
        _server.statuses[ETH] = "SETTLING"
        with light_runs():
            draw_only_the_page(patch)
            patch.setattr("heatmap_pipeline.render.page.write_png", lambda _, path: path.write_bytes(b"a picture"))
            said = [done("refresh", "--home", home).stdout]
            draw_nothing(patch)
            said.append(done("refresh", "--home", home).stdout)
    return home, said


@pytest.fixture(scope="module")
def others(ended: tuple[Path, list[str]]) -> list[dict[str, Any]]:
    """The rows of the other symbol in both databases of that home."""
    return [tables(ended[0] / name, BTC) for name in DATABASES]


@pytest.fixture
def home(ended: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """A copy of that home."""
    shutil.copytree(ended[0], tmp_path / "home")
    return tmp_path / "home"


def test_refresh_says_it_once_and_goes_on_with_the_others(ended: tuple[Path, list[str]]) -> None:
    home, (first, second) = ended
    assert f"{ETH}: ended on {ENDS} (its status at the exchange is SETTLING)" in first
    assert f"{BTC}: {DAYS[2]} .. {TODAY} computed and published" in first
    assert "(its status" not in second
    assert f"{ETH}: ended on {ENDS}, nothing is asked for" in second
    newest = "SELECT symbol, max(day) FROM heatmap_days WHERE NOT provisional GROUP BY ALL ORDER BY ALL"
    assert ask(load_settings(home=home), newest, published=True) == [(BTC, YESTERDAY), (ETH, ENDS)]


def test_page_and_endpoint_say_that_it_ended_and_health_does_not_count_it(ended: tuple[Path, list[str]]) -> None:
    home, _ = ended
    script = (home / "renders" / ETH / "delta.js").read_text()
    assert json.loads(script.removeprefix("heatmapData(").removesuffix(");\n"))["meta"]["ended"] == str(ENDS)
    version = published_version(Warehouse(home), None, ("delta",))
    try:
        midnight = datetime.combine(TODAY, time(), UTC).timestamp()
        status, body = health(version, "", Settings(api_stale_hours=36), midnight + 3600)
        late, _ = health(version, "", Settings(api_stale_hours=36), midnight + 37 * 3600)
    finally:
        version.retire()
    assert (status, body["newest_day"], body["age_seconds"]) == (200, str(YESTERDAY), 3600)
    assert {one["symbol"]: one["ended"] for one in body["symbols"]} == {BTC: None, ETH: str(ENDS)}
    assert late == 503, "the symbols that go on count as ever"


def test_status_has_nothing_to_mend(server: ExchangeServer, ended: tuple[Path, list[str]]) -> None:
    lines = done("status", "--home", ended[0]).stdout.splitlines()
    assert f"ended   {ETH} {ENDS}: its status at the exchange is SETTLING" in lines
    assert lines[-1] == "nothing is failed, stale or missing"


@pytest.fixture
def tick(server: ExchangeServer, home: Path) -> Tick:
    """Let the daily schedule of that home look at an hour of the day after the last one."""

    def look(hour: int) -> Any:
        repository = build_defs(load_settings(home=home)).get_repository_def()
        moment = datetime.combine(TODAY, time(hour, 20), UTC)
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_schedule_context(
                instance=instance, scheduled_execution_time=moment, repository_def=repository
            )
            return repository.get_schedule_def(DAILY).evaluate_tick(context)

    return look


def test_the_schedule_leaves_it_alone(tick: Tick) -> None:
    (asked,) = tick(0).run_requests
    assert {key.path[0] for key in asked.asset_selection} == {BTC}


def test_later_in_the_day_the_schedule_asks_for_what_is_missing_only(
    tick: Tick, server: ExchangeServer, home: Path
) -> None:
    hour = AGAIN_AT[0]
    assert "nothing is missing" in tick(hour).skip_message
    with Warehouse(home).connect(BTC) as con:
        for name in ("raw_days", "heatmap_days"):
            con.execute(f"DELETE FROM {name} WHERE symbol = ? AND day = ?", [BTC, YESTERDAY])
    (asked,) = tick(hour).run_requests
    assert f" at {hour}:20" in asked.run_key, "not the key of midnight, which that run may have failed under"


# -- forgetting


def left_of(home: Path, symbol: str) -> list[str]:
    """Return where anything of a symbol still is in a home, but for the history of runs and what was recorded."""
    files = [str(path.relative_to(home)) for path in home.rglob("*") if symbol in path.name]
    index = home / "renders" / "index.html"
    files += ["index.html"] if index.exists() and symbol in index.read_text() else []
    files = [name for name in files if not name.endswith((".lock", ".lock.holder"))]  # who is killed leaves its name
    for name in DATABASES:
        files += [f"{name} {table}" for table, rows in tables(home / name, symbol).items() if rows.num_rows]
    return [name for name in files if not name.startswith("dagster/")]


def materialised(home: Path) -> set[str]:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        return {key.path[0] for key in instance.all_asset_keys()}


def test_forgetting_removes_a_symbol_from_everywhere_and_touches_no_other(
    server: ExchangeServer,
    home: Path,
    others: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEATMAP_SYMBOLS", BTC)
    monkeypatch.setenv("HEATMAP_EXPORT", str(tmp_path / "tree"))
    done("export", "--home", home)
    assert list((tmp_path / "tree").rglob(f"*{ETH}"))
    kept = {path: path.read_bytes() for path in (home / "archive").rglob(f"{BTC}*.zip*")}
    assert left_of(home, ETH)
    assert materialised(home) == {BTC, ETH}
    said = done("forget", ETH, "--yes", "--home", home).stdout
    assert f"{ETH} is removed" in said
    (line,) = re.findall(r"is behind what is published; write it with `heatmap (.*)`", said)
    done(*shlex.split(line))
    assert not list((tmp_path / "tree").rglob(f"*{ETH}"))
    assert left_of(home, ETH) == []
    assert materialised(home) == {BTC}
    for name, rows in zip(DATABASES, others, strict=True):
        assert_same(tables(home / name, BTC), rows)
    assert {path: path.read_bytes() for path in kept} == kept
    assert f"nothing of {ETH}" in done("forget", ETH, "--yes", "--home", home).stdout
    lines = done("status", "--home", home).stdout
    assert ETH not in lines
    assert "nothing is failed, stale or missing" in lines


def test_a_map_of_its_base_that_a_run_of_another_market_draws_meanwhile_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run reads what is published before the symbol is gone there, and writes the map after it is."""
    settings = load_settings(home=tmp_path, source="demo", symbols=(f"BYBIT_{BTC}",))
    base = tmp_path / "renders" / "BTC"
    base.mkdir(parents=True)

    def draw(say: Say) -> None:
        with drawing(settings, "BTC"):
            say("reads")
            sleep(0.3)
            markets = [{"symbol": symbol} for symbol in (BTC, f"BYBIT_{BTC}")]
            (base / "meta.json").write_text(json.dumps({"symbol": "BTC", "markets": markets, "models": []}))

    with ExitStack() as stack:

        def forget_data(*_: object) -> None:
            run = stack.enter_context(Fork(draw))
            assert run.said.readline() == "reads\n"

        monkeypatch.setattr(forgetting, "forget_data", forget_data)
        forgetting.forget(settings, BTC, print, lambda _: False)
    assert not base.exists()


def test_it_is_asked_first(ended: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    home, _ = ended
    before = left_of(home, ETH)
    refused(heatmap("forget", ETH, "--home", home), 1, f"{ETH} stays", "--yes")
    refused(heatmap("forget", "../x", "--yes", "--home", home), 2, "not a symbol")
    assert left_of(home, ETH) == before


STEPS: dict[str, tuple[Any, str]] = {
    "the page lists the others": (page, "_write_shared"),
    "its folder goes": (shutil, "rmtree"),
    "the assets go": (forgetting, "_forget_assets"),
    "its private file goes": (Warehouse, "locked"),
    "the folder of its archive is forgotten": (store_forgetting, "forget_archive"),
    "the rest is published": (store_forgetting, "publish"),
    "its files go": (data_forgetting, "_archives"),
}


class Killed(BaseException):
    """As if the process ended here."""


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle_it_is_run_again(
    server: ExchangeServer, home: Path, others: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    settings = load_settings(home=home)

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*STEPS[step], kill)
        with pytest.raises(Killed):
            forgetting.forget(settings, ETH, pytest.fail, lambda _: False)
    assert data_forgetting.kept_of(settings, ETH).anything, "so the command goes on"
    forgetting.forget(settings, ETH, pytest.fail, lambda _: False)
    assert left_of(home, ETH) == []
    for name, rows in zip(DATABASES, others, strict=True):
        assert_same(tables(home / name, BTC), rows)


@pytest.mark.slow
def test_killed_anywhere_it_ends_as_if_it_had_not_been(
    server: ExchangeServer, forks: Forks, ended: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """A process that is really killed: at the page, at the publication, after it; the step changes with the day."""
    chance = random.Random(datetime.now(UTC).date().toordinal())
    undisturbed, home = (Path(shutil.copytree(ended[0], tmp_path / name)) for name in ("undisturbed", "home"))
    published = home / "heatmap.duckdb"
    before = look("plain", published)
    steps = forks.heatmap("forget", ETH, "--yes", "--home", undisturbed).ok().steps
    after = look("plain", undisturbed / "heatmap.duckdb")
    assert before != after
    deaths = [Death(kind, chance.randint(1, steps[kind])) for kind in ("page", "publication")]
    deaths.append(Death("publication", 2, delay=chance.uniform(0.02, 0.1)))  # while its files go, or before
    for death in deaths:
        ended_by = forks.heatmap("forget", ETH, "--yes", "--home", home, death=death)
        # Only what was done before may let it live.
        assert ended_by.killed or death.kind == "publication", (death, ended_by)
        assert look("plain", published) in (before, after), death
    forks.heatmap("forget", ETH, "--yes", "--home", home).ok()
    assert left_of(home, ETH) == []
    assert materialised(home) == {BTC}
    for name in ("warehouse", "heatmap.duckdb"):
        assert_same(tables(home / name), tables(undisturbed / name))
    status = done("status", "--home", home).stdout.splitlines()
    assert status[-2].startswith(f"missing {ETH}: nothing of it is stored; "), "HEATMAP_SYMBOLS names it still"
    assert status[-1] == "1 to look at"


def test_a_run_of_the_ui_that_goes_on_is_waited_for_and_nothing_is_removed_beside_it(
    server: ExchangeServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEATMAP_LOCK_TIMEOUT", "0.2")
    before = left_of(home, ETH)
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{folder}/door")
        door.listen()
        tags = {".dagster/grpc_info": json.dumps({"socket": f"{folder}/door"})}
        with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
            run = instance.add_run(
                dg.DagsterRun(job_name="heatmap_daily", tags=tags, status=dg.DagsterRunStatus.STARTED)
            )
        said = heatmap("forget", ETH, "--yes", "--home", home)
        refused(said, 1, f"run {run.run_id} of the UI still works on {ETH}", "nothing was removed")
        assert f"waiting for run {run.run_id} of the UI" in said.stderr
        assert left_of(home, ETH) == before
    assert f"{ETH} is removed" in done("forget", ETH, "--yes", "--home", home).stdout, "its processes are gone"


def test_where_everything_is_forgotten_the_export_is_said_to_be_behind(
    server: ExchangeServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEATMAP_EXPORT", str(tmp_path / "tree"))
    done("export", "--home", home)
    for symbol in (BTC, ETH):
        done("forget", symbol, "--yes", "--home", home)
    lines = done("status", "--home", home).stdout.splitlines()
    assert lines[0].startswith("nothing is stored in")
    assert lines[1].startswith(f"export  {tmp_path / 'tree'} is behind what is published")


@pytest.mark.usefixtures("light_commands")
def test_a_folder_of_the_user_stays(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    shutil.copytree(files, own)
    (own / SIMULATED_MARKER).unlink()
    monkeypatch.setenv("HEATMAP_MODELS", "delta")
    done("run", ETH, "--archive", own, "--start", DAYS[0], "--end", DAYS[0], "--home", tmp_path / "home")
    before = sorted(own.rglob("*"))
    done("forget", ETH, "--yes", "--home", tmp_path / "home")
    assert sorted(own.rglob("*")) == before
    assert ETH not in (tmp_path / "home" / "archives.json").read_text()
