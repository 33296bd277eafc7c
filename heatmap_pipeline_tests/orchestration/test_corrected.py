"""Files that the archive corrects are fetched by `refresh` and `run --check-files`, and what follows is rebuilt."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.files import replace_file
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline_tests._homes import as_if_yesterday_were, clean_environment, done, heatmap, refused
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, checksum_of, of_the_exchange
from heatmap_pipeline_tests.orchestration.light import light_runs

pytestmark = pytest.mark.usefixtures("light_commands")

DAYS = [date(2024, 9, day) for day in (13, 14, 15, 16)]
YESTERDAY, TODAY = DAYS[2:]


def metrics(root: Path, day: date) -> Path:
    return root / f"futures/um/daily/metrics/{BTC}/{BTC}-metrics-{day}.zip"


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("market")
    write_demo_days(root, BTC, DAYS)
    return root


@pytest.fixture(scope="module")
def _server(market: Path) -> Iterator[ExchangeServer]:
    with ExchangeServer(market, datetime.combine(TODAY, time(12, 2, 30))) as running:
        running.hide(str(TODAY))
        yield running


def set_environment(patch: pytest.MonkeyPatch, server: ExchangeServer) -> None:
    as_if_yesterday_were(patch, YESTERDAY)
    of_the_exchange(patch, server, SYMBOLS=BTC)


@pytest.fixture(scope="module")
def begun(_server: ExchangeServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the days until yesterday. Nobody changes it; `home` is a copy."""
    home = tmp_path_factory.mktemp("begun") / "home"
    with pytest.MonkeyPatch.context() as patch, light_runs():
        clean_environment(patch)
        set_environment(patch, _server)
        done("run", BTC, "--start", DAYS[0], "--end", YESTERDAY, "--home", home)
    return home


@pytest.fixture
def home(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "home"))


@pytest.fixture
def server(
    _server: ExchangeServer, market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ExchangeServer]:
    """The exchange with files that may be corrected."""
    _server.root = Path(shutil.copytree(market, tmp_path / "market"))
    set_environment(monkeypatch, _server)
    yield _server
    _server.root = market


def correct(root: Path, day: date) -> None:
    """Put another market's open interest of a day in the place of the archive's file."""
    other = root.parent / "other"
    write_demo_days(other, BTC, DAYS, seed=8)
    shutil.copy(metrics(other, day), metrics(root, day))
    shutil.copy(checksum_of(metrics(other, day)), checksum_of(metrics(root, day)))


def hashes(home: Path) -> dict[date, str]:
    query = "SELECT day, state_hash FROM heatmap_days WHERE NOT provisional ORDER BY day"
    return dict(ask(load_settings(home=home), query, published=True))


class Killed(BaseException):
    """As if the process ended here."""


def kill(*_: Any, **__: Any) -> None:
    raise Killed


def test_a_corrected_file_is_fetched_at_the_second_asking_and_rebuilds_from_its_day_whoever_is_killed(
    server: ExchangeServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashes(home)
    correct(server.root, DAYS[1])
    assert f"no file of {DAYS[0]} .. {DAYS[0]}" in done("run", "--check-files", DAYS[0], DAYS[0], "--home", home).stdout
    # It is here and not verified; it is verified; its CHECKSUM is in its place and it is not; nothing was computed.
    corrected = checksum_of(metrics(server.root, DAYS[1])).name

    def killed(*, after: bool) -> Callable[[Path, bytes], None]:
        def replace(path: Path, content: bytes) -> None:
            if after or path.name != corrected:
                replace_file(path, content)
            if path.name == corrected:
                raise Killed

        return replace

    for place, dies in (
        ("market.download._problem", kill),
        ("market.download.replace_file", killed(after=False)),
        ("market.download.replace_file", killed(after=True)),
        ("orchestration.runs.run_days", kill),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"heatmap_pipeline.{place}", dies)
            with pytest.raises(Killed):
                heatmap("run", "--check-files", DAYS[0], YESTERDAY, "--home", home)
        assert hashes(home) == before
    said = done("run", "--check-files", DAYS[0], YESTERDAY, "--home", home).stdout
    assert f"{BTC}: {DAYS[1]} .. {YESTERDAY} computed and published" in said
    after = hashes(home)
    assert [day for day in before if before[day] != after[day]] == DAYS[1:3]
    assert "no file" in done("run", "--check-files", DAYS[0], YESTERDAY, "--home", home).stdout


def test_check_files_names_its_own_days(tmp_path: Path) -> None:
    days = "--check-files", DAYS[0], DAYS[1]
    refused(heatmap("run", *days, "--start", DAYS[0], "--home", tmp_path), 2, "--check-files")
    refused(heatmap("run", BTC, *days, "--restart", "--home", tmp_path), 2, "--check-files", "--restart", "give one")
    refused(heatmap("run", "--home", tmp_path), 2, "SYMBOL")
    refused(heatmap("run", BTC, "--start", DAYS[0], "--home", tmp_path), 2, "--end")


DAY = str(DAYS[1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "'--home' is no day that there is"),
        ([DAY], "'--home' is no day that there is"),
        ([DAY, str(DAYS[0])], f"START {DAY} is after --check-files END {DAYS[0]}"),
        ([DAY, "9999-12-31"], "--check-files END 9999-12-31 is not complete yet"),
        (["2018-12-31", DAY], "--check-files START 2018-12-31 is before 2019-01-01"),
        (["0000-00-00", DAY], "'0000-00-00' is no day that there is"),
        (["2024-02-30", DAY], "'2024-02-30' is no day that there is"),
        (["2024-09-14T00:00", DAY], "is no day that there is"),
        (["20240914", DAY], "is no day that there is"),
        (["-1", DAY], "-1"),
        (["", DAY], "is no day that there is"),
        (["٢٠٢٤-٠٩-١٤", DAY], "is no day that there is"),
        (["x" * 5000, DAY], "is no day that there is"),
        ([DAY, DAY, "btcusdt!"], "btcusdt!"),
        ([DAY, DAY, "../BTCUSDT"], "not a symbol"),
    ],
    ids=lambda words: " ".join(words)[:30] if isinstance(words, list) else "",
)
def test_words_that_no_days_are_end_in_a_sentence(tmp_path: Path, words: list[str], said: str) -> None:
    line = refused(heatmap("run", "--check-files", *words, "--home", tmp_path / "home"), 2, said)
    assert len(line) < 6000
    assert not (tmp_path / "home").exists()


def test_refresh_asks_for_corrected_files_of_the_last_days(server: ExchangeServer, home: Path) -> None:
    before = hashes(home)
    correct(server.root, DAYS[1])
    # As if a day had gone by since the files were asked for.
    for path in (home / "archive").rglob("*.CHECKSUM"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 90_000))
    done("refresh", "--home", home)
    after = hashes(home)
    assert [day for day in before if before[day] != after[day]] == DAYS[1:3]
