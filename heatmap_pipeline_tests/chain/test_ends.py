"""When a symbol counts as ended, what is still due of it then, and when it goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.chain import reach
from heatmap_pipeline.chain.ends import retired
from heatmap_pipeline.chain.reach import Plan, plan_due
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.binance import BinanceSource
from heatmap_pipeline.market.demo import write_demo_days
from heatmap_pipeline.settings import SIMULATED_MARKER, Settings, load_settings
from heatmap_pipeline.store import ended as stored_ends
from heatmap_pipeline.store.ended import Ended, ended_symbols, record_end
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import save_raw
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests._disk import small_files
from heatmap_pipeline_tests.market._exchange_server import ExchangeServer, Fault
from heatmap_pipeline_tests.store.tiny import DAYS, fill, market

BTC, ETH = "BTCUSDT", "ETHUSDT"
LAST = DAYS[-1]


def after(days: int) -> date:
    """Return a day after the last stored one."""
    return LAST + timedelta(days=days)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive: of ETHUSDT up to the day after the last stored one, of BTCUSDT six days further."""
    root = tmp_path_factory.mktemp("market")
    write_demo_days(root, ETH, [after(1)])
    write_demo_days(root, BTC, [after(number) for number in range(1, 8)])
    (root / SIMULATED_MARKER).unlink()
    return root


@pytest.fixture
def server(files: Path) -> Iterator[ExchangeServer]:
    with ExchangeServer(files, datetime.combine(after(8), time(12))) as running:
        yield running


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that holds three days of both symbols, as from the exchange. Nobody changes it."""
    home = tmp_path_factory.mktemp("stored")
    for symbol in (BTC, ETH):
        with Warehouse(home).connect(symbol) as con:
            fill(con, symbol)
            con.execute("UPDATE symbols SET source = 'binance', candle_interval_seconds = 300, simulated = false")
    publish(Warehouse(home), [BTC, ETH])
    return home


@pytest.fixture
def settings(server: ExchangeServer, stored: Path, tmp_path: Path) -> Settings:
    """Settings of a copy of that home."""
    home = Path(shutil.copytree(stored, tmp_path / "home"))
    return load_settings(
        home=home, source="binance", archive_url=server.url, rest_url=server.url, symbols=(BTC, ETH), check_days=0
    )


def plan(settings: Settings) -> Plan:
    return plan_due(settings, settings.symbols, after(7))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("SETTLING", "status at the exchange is SETTLING"),
        ("CLOSE", "status at the exchange is CLOSE"),
        ("", "does not list it any more"),
    ],
)
def test_what_the_exchange_does_not_trade_any_more_has_ended(
    server: ExchangeServer, settings: Settings, status: str, words: str
) -> None:
    server.statuses[ETH] = status
    first = plan(settings)
    assert first.days == {BTC: (after(1), after(7)), ETH: (after(1), after(1))}, "what the archive has is still due"
    assert first.until == after(7), "the others go on"
    assert first.refused == ()
    assert first.ended[ETH].day == after(1)
    assert words in first.ended[ETH].reason
    (said,) = first.news
    assert f"{ETH}: ended on {after(1)}" in said
    assert f"heatmap forget {ETH}" in said
    assert plan(settings).news == (said,), "also by the next plan, where the run of this one was killed"
    publish(Warehouse(settings.home), [BTC, ETH])
    again = plan(settings)
    assert again.news == (), "it is said once"
    assert (again.days, again.ended) == (first.days, first.ended)


def test_an_invalid_symbol_has_ended_where_days_are_stored(server: ExchangeServer, settings: Settings) -> None:
    server.invalid.add(ETH)
    assert "invalid symbol" in plan(settings).ended[ETH].reason
    assert plan_due(settings, ["SOLUSDT"], after(7)).ended == {}, "one that was never stored is a mistake, no end"


def test_the_newest_day_is_drawn_again_when_nothing_else_is_due(server: ExchangeServer, settings: Settings) -> None:
    server.statuses[ETH] = "CLOSE"
    server.hide(f"{ETH}-5m-{after(1)}")
    assert plan(settings).days[ETH] == (LAST, LAST)
    assert plan(settings).days[ETH] == (LAST, LAST), "also by the next plan, where the run of this one was killed"
    publish(Warehouse(settings.home), [BTC, ETH])
    assert ETH not in plan(settings).days


STEPS: dict[str, tuple[Any, str]] = {
    "the end is asked for": (BinanceSource, "ended"),
    "the transaction of that": (stored_ends, "transaction"),
    "it was recorded": (reach, "words_for_end"),
}


class Killed(BaseException):
    """As if the process ended here."""


@pytest.mark.parametrize("step", STEPS)
def test_a_plan_that_is_killed_is_followed_by_one_that_says_and_does_the_same(
    server: ExchangeServer, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    server.statuses[ETH] = "SETTLING"

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*STEPS[step], kill)
        with pytest.raises(Killed):
            plan(settings)
    other = settings.model_copy(update={"home": Path(shutil.copytree(settings.home, tmp_path / "other"))})
    with Warehouse(other.home).connect(ETH) as con:
        record_end(con, ETH, None)  # as if it had not been found
    undisturbed, found = plan(other), plan(settings)
    assert (found.days, found.ended, len(found.news)) == (undisturbed.days, undisturbed.ended, 1)
    assert found.news == tuple(news.replace(str(other.home), str(settings.home)) for news in undisturbed.news)


def test_a_disk_that_is_full_when_an_end_is_recorded(server: ExchangeServer, settings: Settings) -> None:
    server.statuses[ETH] = "SETTLING"
    with small_files(100), pytest.raises(StoreError, match=rf"^the disk that holds {settings.home} is full; make room"):
        plan(settings)
    assert retired(settings) == {}
    found = plan(settings)
    assert (set(found.ended), len(found.news)) == ({ETH}, 1)


@pytest.mark.parametrize("status", ["BREAK", "PENDING_TRADING", "TRADING"])
def test_what_is_halted_or_traded_has_not_ended(server: ExchangeServer, settings: Settings, status: str) -> None:
    server.statuses[ETH] = status
    found = plan(settings)
    assert (dict(found.ended), found.news) == ({}, ())
    assert found.days[ETH] == (after(1), after(7))


def test_a_listing_without_any_symbol_is_not_believed(server: ExchangeServer, settings: Settings) -> None:
    server.statuses |= {BTC: "", ETH: ""}
    assert plan(settings).ended == {}


def test_it_goes_on_when_it_is_traded_again(server: ExchangeServer, settings: Settings) -> None:
    server.statuses[ETH] = "SETTLING"
    plan(settings)
    server.statuses[ETH] = "TRADING"
    found = plan(settings)
    assert (dict(found.ended), retired(settings)) == ({}, {})
    assert found.days[ETH] == (after(1), after(7))
    (said,) = found.news
    assert f"{ETH}: goes on again" in said


def test_another_contract_of_the_same_name_is_a_history_of_its_own(server: ExchangeServer, settings: Settings) -> None:
    server.listed = after(4)
    found = plan_due(settings, [ETH], after(7))
    assert found.ended[ETH].day == after(1)
    assert f"heatmap run {ETH} --start {after(4)} --end DAY --restart" in found.ended[ETH].reason
    publish(Warehouse(settings.home), [BTC, ETH])
    assert plan_due(settings, [ETH], after(7)).news == ()


def test_closed_rest_files_tell(server: ExchangeServer, settings: Settings) -> None:
    """The archive has no more of one symbol and goes on with another one; without such a one nobody can tell."""
    for part in ("/fapi/", "/futures/data/"):
        server.fault(part, Fault(status=451, body=b'{"code":0,"msg":"restricted location"}'), always=True)
    assert plan_due(settings, [ETH], after(7)).ended == {}
    found = plan(settings)
    assert "closed to the place" in found.closed[BTC]
    assert found.ended[ETH].day == after(1)
    assert f"those of {BTC} go on to {after(7)}" in found.ended[ETH].reason
    assert set(plan(settings).ended) == {ETH}


def test_an_exchange_that_cannot_be_asked_changes_nothing(server: ExchangeServer, settings: Settings) -> None:
    server.statuses[ETH] = "CLOSE"
    before = plan(settings).ended
    publish(Warehouse(settings.home), [BTC, ETH])
    server.fault("/fapi/v1/exchangeInfo", Fault(body=b'{"symbols": 7}'), always=True)
    found = plan(settings)
    assert (found.ended, found.news) == (before, ())
    assert found.refused


def test_in_a_folder_the_files_of_others_tell(files: Path, settings: Settings) -> None:
    folder = settings.model_copy(update={"source": "archive", "archive": files})
    found = plan(folder)
    assert found.ended == {ETH: Ended(after(1), f"its files end there, and those of {BTC} go on to {after(7)}")}
    assert found.days == {BTC: (after(1), after(7)), ETH: (after(1), after(1))}
    publish(Warehouse(settings.home), [BTC, ETH])
    assert plan(folder).news == ()


def test_a_contract_of_the_folder_that_is_not_computed_is_no_obstacle(
    files: Path, settings: Settings, tmp_path: Path
) -> None:
    """A copy of the whole archive has ETHBTC too."""
    root = Path(shutil.copytree(files, tmp_path / "files"))
    other = root / ArchiveFile("ETHBTC", after(7), "5m").path
    other.parent.mkdir(parents=True)
    other.touch()
    found = plan(settings.model_copy(update={"source": "archive", "archive": root}))
    assert set(found.ended) == {ETH}


def test_a_later_day_makes_an_end_void(settings: Settings) -> None:
    warehouse = Warehouse(settings.home)
    with warehouse.connect(ETH) as con:
        record_end(con, ETH, Ended(LAST, "for the test"))
        assert set(ended_symbols(con)) == {ETH}
        save_raw(con, "candles", market(ETH, days=(*DAYS, after(1)))[0], "binance")
        assert ended_symbols(con) == {}


def test_status_says_that_it_ended_and_misses_nothing_after(settings: Settings) -> None:
    with Warehouse(settings.home).connect(ETH) as con:
        record_end(con, ETH, Ended(LAST, "for the test"))
    lines = list(status_lines(settings))
    assert f"ended   {ETH} {LAST}: for the test" in lines
    assert [line.split()[1] for line in lines if line.startswith("missing")] == [BTC]
