"""The clock of the machine jumps; the exchange's does not. What is stored is what an undisturbed run stores."""

from __future__ import annotations

import re
import shutil
import time as real_time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

import heatmap_pipeline
from heatmap_pipeline import locks
from heatmap_pipeline.chain import calendar, due
from heatmap_pipeline.chain import compute as chain
from heatmap_pipeline.chain.due import due_days
from heatmap_pipeline.market import binance, download, exchange, web
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.orchestration import partitions
from heatmap_pipeline.orchestration.build import build_defs
from heatmap_pipeline.orchestration.schedules import DAILY, INTRADAY
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import liquidations, publish, raw, spare
from heatmap_pipeline_tests._homes import clean_environment, done, draw_nothing, heatmap, last_line, refused
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import (
    BTC,
    ask,
    assert_same,
    candles_file,
    copy_home,
    rewrite,
    tables,
    untouched,
    wilder,
)
from heatmap_pipeline_tests.orchestration.light import light_runs

pytestmark = pytest.mark.usefixtures("light_commands")

DAYS = [date(2024, 9, day) for day in range(14, 19)]
TODAY = DAYS[3]
NOON = datetime.combine(TODAY, time(12, 2, 30))

READERS = {
    "market/binance.py": binance,
    "market/download.py": download,
    "market/exchange.py": exchange,
    "market/web.py": web,
    "chain/compute.py": chain,
    "chain/due.py": due,
    "chain/calendar.py": calendar,
    "locks.py": locks,
    "store/days.py": stored,
    "store/liquidations.py": liquidations,
    "store/leftovers.py": publish,
    "store/raw.py": raw,
    "store/spare.py": spare,
}
"""Every module that looks at the clock of the machine."""

SetClock = Callable[[datetime], None]


def test_no_other_module_looks_at_the_clock() -> None:
    """A new one has to be thought about here, and to be set by the tests below."""
    package = Path(heatmap_pipeline.__file__).parent
    looking = re.compile(r"\.now\(UTC\)|\btime\.time\(|\butcnow\(|date\.today\(|datetime\.now\(\)")
    found = {str(path.relative_to(package)) for path in package.rglob("*.py") if looking.search(path.read_text())}
    # How old a left file or a part is, what a file or a line is to be called, how long an exchange has closed its door:
    # no day of the market follows from these.
    unrelated = {"files.py", "notices.py", "cli/days.py", "store/last_run.py", "store/backup.py", "chain/old_files.py"}
    unrelated |= {f"orchestration/{name}.py" for name in ("checks", "retention", "sensors")} | {"market/ban.py"}
    unrelated |= {"store/bucket.py", "store/manifest.py", "store/split.py"}
    assert {name for name in found if not name.startswith(("api/", "views/"))} - unrelated == set(READERS)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetClock]:
    """Set the clock of the machine, wherever the product or Dagster reads it."""
    from dagster._core.test_utils import freeze_time  # what most tests never need

    with ExitStack() as stack:

        def set_to(moment: datetime) -> None:
            moment = moment.replace(tzinfo=UTC)

            class Clock(datetime):
                @classmethod
                def now(cls, tz: Any = None) -> Any:
                    return moment.astimezone(tz) if tz else moment.replace(tzinfo=None)

            for module in READERS.values():
                if hasattr(module, "datetime"):
                    monkeypatch.setattr(module, "datetime", Clock)
            fake = SimpleNamespace(**{**vars(real_time), "time": moment.timestamp})
            for module in (download, exchange, publish, spare, web):
                monkeypatch.setattr(module, "time", fake)
            stack.enter_context(freeze_time(moment))

        yield set_to


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("market")
    write_demo_days(root, BTC, DAYS)
    return root


def _exchange(market: Path, patch: pytest.MonkeyPatch) -> ExchangeServer:
    """The exchange at noon of the 17th; its archive ends with the 15th."""
    server = ExchangeServer(market, NOON)
    server.hide(*map(str, DAYS[2:]))
    values = {"SOURCE": "binance", "ARCHIVE_URL": server.url, "REST_URL": server.url, "MODELS": "delta"}
    for name, value in {**values, "SYMBOLS": BTC, "SNAPSHOT_INTERVAL": "1h"}.items():
        patch.setenv(f"HEATMAP_{name}", value)
    draw_nothing(patch)
    return server


@pytest.fixture
def server(market: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExchangeServer]:
    with _exchange(market, monkeypatch) as running:
        yield running


@pytest.fixture(scope="module")
def homes(market: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A home as of the 16th, and the same after an undisturbed refresh at noon of the 17th."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        with _exchange(market, patch):
            compute_home(load_settings(home=home, symbols=(BTC,)), DAYS[0], DAYS[2])
            before = copy_home(home, tmp_path_factory.mktemp("before"))
            patch.setattr(calendar, "yesterday", lambda: DAYS[2])
            with light_runs():
                done("refresh", "--home", home)
    shutil.copytree(home / "archive", before / "archive")
    return {"before": before, "after": home}


@pytest.fixture
def before(homes: dict[str, Path], tmp_path: Path) -> Path:
    return _copy(homes["before"], tmp_path / "home")


@pytest.fixture
def after(homes: dict[str, Path], tmp_path: Path) -> Path:
    return _copy(homes["after"], tmp_path / "home")


def _copy(finished: Path, home: Path) -> Path:
    """Copy a home with its files, so that none of them is new to it."""
    shutil.copytree(finished / "archive", home / "archive")
    return copy_home(finished, home)


def tick(home: Path, name: str, at: datetime) -> dg.RunRequest | str:
    """Return what a schedule asks for at an instant: a run, or the reason for none."""
    repository = build_defs(load_settings(home=home)).get_repository_def()
    moment = at.replace(tzinfo=UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=moment, repository_def=repository
        )
        result = repository.get_schedule_def(name).evaluate_tick(context)
    return result.run_requests[0] if result.run_requests else str(result.skip_message)


def days_of(request: dg.RunRequest | str) -> tuple[str, str]:
    assert isinstance(request, dg.RunRequest), request
    found = partitions.days_of_run({**request.tags, **({partitions.PARTITION_TAG: request.partition_key}
                                                       if request.partition_key else {})})  # fmt: skip
    assert found is not None
    return str(found[0]), str(found[1])


# -- ahead


def test_a_clock_that_was_ahead_leaves_no_trace(
    homes: dict[str, Path], before: Path, server: ExchangeServer, set_clock: SetClock
) -> None:
    """A month; years are the same and only take Dagster longer to write down."""
    set_clock(NOON + timedelta(days=30))
    result = heatmap("refresh", "--home", before)
    assert result.exit_code == 1
    assert f"{BTC}: {TODAY} .. {TODAY} computed and published" in result.stdout
    line = last_line(result.stderr, 1, f"{BTC}: {DAYS[4]} has not begun")
    assert f"by the exchange's clock it is {NOON:%Y-%m-%d %H:%M} UTC" in line
    assert f"the archive has no {BTC}-5m-{DAYS[4]}.zip: not published yet or not listed" in line
    settings = load_settings(home=before)
    assert ask(settings, "SELECT max(day), min(rows) > 0 FROM raw_days WHERE kind = 'candles'") == [(TODAY, True)]
    told = done("status", "--home", before).stdout
    assert f"failed  {BTC} {DAYS[4]} raw_candles: {BTC}: {DAYS[4]} has not begun" in told
    # The clock is set right.
    set_clock(NOON)
    done("refresh", "--home", before)
    assert_same(tables(before / "heatmap.duckdb"), tables(homes["after"] / "heatmap.duckdb"))
    assert_same(tables(before / "warehouse"), tables(homes["after"] / "warehouse"))
    assert "nothing is failed, stale or missing" in done("status", "--home", before).stdout


def test_corrected_files_are_found_whatever_the_clock_was_when_they_were_asked_for(
    after: Path, market: Path, server: ExchangeServer, set_clock: SetClock, tmp_path: Path
) -> None:
    """A file that was asked about in the future is asked about again; what is there already is not read again."""
    root = Path(shutil.copytree(market, tmp_path / "corrected"))
    rewrite(root / f"futures/um/daily/klines/{BTC}/5m/{BTC}-5m-{DAYS[1]}.zip", wilder)
    check = ("run", "--check-files", DAYS[0], DAYS[1], "--home", after)
    set_clock(NOON + timedelta(days=30))
    assert f"{BTC}: no file of {DAYS[0]} .. {DAYS[1]} was corrected" in done(*check).stdout
    server.root = root
    set_clock(NOON - timedelta(days=30))
    refused(heatmap(*check), 2, f"--check-files END {DAYS[1]} is not complete yet")
    set_clock(NOON)
    assert f"{BTC}: {DAYS[1]} .. {TODAY} computed and published" in done(*check).stdout
    assert f"{BTC}: no file of {DAYS[0]} .. {DAYS[1]} was corrected" in done(*check).stdout
    assert "nothing is failed, stale or missing" in done("status", "--home", after).stdout


# -- behind


@pytest.mark.parametrize("behind", [timedelta(days=3), timedelta(days=4000)])
def test_a_clock_that_is_behind_is_said_and_nothing_is_done(
    after: Path, set_clock: SetClock, server: ExchangeServer, behind: timedelta
) -> None:
    now = NOON - behind
    set_clock(now)
    words = f"{BTC} is stored until {TODAY}, and by this machine's clock it is {now.date()} (UTC): set the clock right"
    with untouched(after / "heatmap.duckdb"), untouched(after / "warehouse" / "BTCUSDT.duckdb"):
        assert f"clock   {words}" in done("status", "--home", after).stdout
        assert f"{BTC}: up to date, the last stored day is {TODAY}" in done("refresh", "--home", after).stdout
        for name in (DAILY, INTRADAY):
            assert str(tick(after, name, now)).startswith(words)
    if behind < timedelta(days=10):
        refused(heatmap("run", BTC, "--start", DAYS[0], "--end", DAYS[0], "--home", after), 1, words)
    else:
        refused(heatmap("run", BTC, "--start", DAYS[0], "--end", DAYS[0], "--home", after), 2, "not complete yet")
    assert not server.asked, "nothing of it was worth a question"


def test_the_window_of_replacement_does_not_depend_on_what_the_clock_was(after: Path, set_clock: SetClock) -> None:
    """The 16th came over REST: it is asked for again for a week, whatever the clock said in between."""
    settings = load_settings(home=after, symbols=(BTC,), source="binance", models=("delta",))
    for jump, first in ((0, DAYS[2]), (6, DAYS[2]), (7, TODAY), (30, TODAY), (0, DAYS[2])):
        set_clock(NOON + timedelta(days=jump))
        until = calendar.today()
        assert due_days(settings, [BTC], until) == {BTC: (first, until)}, jump
    # A daily run until yesterday reaches to today so far where that is stored: it follows what may be replaced.
    assert due_days(settings, [BTC], DAYS[2]) == {BTC: (DAYS[2], TODAY)}


# -- over midnight


def test_a_file_that_differs_replaces_a_day_together_with_today_so_far(
    after: Path, market: Path, server: ExchangeServer, set_clock: SetClock, tmp_path: Path
) -> None:
    """Today so far is stored when the daily run finds the archive's file of yesterday, which says something else."""
    set_clock(NOON)
    root = tmp_path / "published"
    write_demo_days(root, BTC, DAYS)
    path = root / f"futures/um/daily/klines/{BTC}/5m/{BTC}-5m-{DAYS[2]}.zip"
    assert path.name == candles_file(root, 1).name.replace("2024-03-04", str(DAYS[2]))
    rewrite(path, wilder)
    server.root = root
    server.hidden.clear()
    server.hide(str(TODAY), str(DAYS[4]))
    assert days_of(tick(after, DAILY, datetime.combine(TODAY, time(0, 20)))) == (str(DAYS[2]), str(TODAY))
    done("refresh", "--home", after)
    assert "nothing is failed, stale or missing" in done("status", "--home", after).stdout
    via = "SELECT day, json_extract_string(facts, '$.via') FROM raw_days WHERE kind = 'candles' ORDER BY day"
    assert ask(load_settings(home=after), via, published=True)[2:] == [(DAYS[2], "archive"), (TODAY, "rest")]


def test_midnight_finishes_a_day_once_and_the_next_begins_when_it_has_a_candle(
    after: Path, server: ExchangeServer, set_clock: SetClock
) -> None:
    midnight = datetime.combine(DAYS[4], time())
    days = "SELECT day, provisional FROM heatmap_days ORDER BY day"
    settings = load_settings(home=after)
    for minutes, expected in ((10, [(TODAY, False)]), (30, [(TODAY, False), (DAYS[4], True)])):
        server.now = midnight + timedelta(minutes=minutes, seconds=5)
        set_clock(server.now)
        asked = days_of(tick(after, INTRADAY, server.now.replace(second=0)))
        assert asked[1] == str(expected[-1][0]), "a day that has no finished candle yet is not asked for"
        done("refresh", "--home", after)
        assert ask(settings, days, published=True)[3:] == expected
    # The machine's clock is set back over midnight.
    set_clock(midnight - timedelta(minutes=20))
    with untouched(after / "heatmap.duckdb"):
        assert "up to date" in done("refresh", "--home", after).stdout
