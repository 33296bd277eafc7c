"""Markets of two exchanges in one home: each is due by what its own exchange gives, and none waits for another's."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from heatmap_pipeline.chain import reach
from heatmap_pipeline.chain.due import due_days
from heatmap_pipeline.chain.reach import Plan, closed_words, last_expected, plan_due
from heatmap_pipeline.chain.status import status_lines
from heatmap_pipeline.market.archive import ARCHIVE_LATE
from heatmap_pipeline.market.tables import Ending, MarketError
from heatmap_pipeline.orchestration import schedules
from heatmap_pipeline.orchestration.assets.common import asset_key
from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.ended import Ended
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import SymbolRecord, put_symbol, save_raw
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import as_if_yesterday_were
from heatmap_pipeline_tests.store.tiny import DAYS, fill, forget_symbol, market

BTC, BYBIT = "BTCUSDT", "BYBIT_BTCUSDT"
LAST = DAYS[-1]
CLOSED = "the REST of one exchange is closed to the place this runs at"


def after(days: int) -> date:
    """Return a day after the last stored one."""
    return LAST + timedelta(days=days)


@dataclass
class Answers:
    """What the exchanges say of each market; one that is not named gives everything that is asked for."""

    reaches: Mapping[str, tuple[date, str]] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    ends: Mapping[str, Ending] = field(default_factory=dict)

    def reach(self, symbol: str, until: date) -> tuple[date, str]:
        if symbol in self.silent:
            raise MarketError(f"{symbol}: no answer")
        return self.reaches.get(symbol, (until, ""))

    def ended(self, symbol: str, *_: Any) -> Ending | None:
        if symbol in self.silent:
            raise MarketError(f"{symbol}: no answer")
        return self.ends.get(symbol)

    def changed(self, *_: Any, **__: Any) -> list[date]:
        return []


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three days of a market of each exchange, published. Nobody changes it."""
    home = tmp_path_factory.mktemp("stored")
    for symbol, source in ((BTC, "binance"), (BYBIT, "exchange")):
        with Warehouse(home).connect(symbol) as con:
            fill(con, symbol)
            known = "candle_interval_seconds = 300, simulated = false"
            con.execute(f"UPDATE symbols SET source = ?, {known} WHERE symbol = ?", [source, symbol])
    publish(Warehouse(home), [BTC, BYBIT])
    return home


@pytest.fixture
def settings(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a copy of that home, three days after its last one."""
    as_if_yesterday_were(monkeypatch, after(3))
    home = Path(shutil.copytree(stored, tmp_path / "home"))
    return load_settings(home=home, source="exchange", symbols=(BTC, BYBIT))


Ask = Callable[..., Plan]


@pytest.fixture
def ask(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Plan until three days after the last one, with exchanges that say what is given."""

    def planned(**said: Any) -> Plan:
        monkeypatch.setattr(reach, "open_market", lambda _: Answers(**said))
        return plan_due(settings, settings.symbols, after(3))

    return planned


@pytest.mark.parametrize(("closed", "other"), [(BTC, BYBIT), (BYBIT, BTC)])
def test_a_closed_exchange_ends_only_the_days_of_its_own_markets(
    ask: Ask, settings: Settings, closed: str, other: str
) -> None:
    plan = ask(reaches={closed: (after(1), CLOSED)})
    assert plan.days == {closed: (after(1), after(1)), other: (after(1), after(3))}
    assert plan.words_for_closed() == [f"nothing of {closed} after {after(1)} yet: {CLOSED}"]
    assert [closed_words(settings, symbol) for symbol in (closed, other)] == [CLOSED, ""]
    assert last_expected(settings, closed) == after(3) - ARCHIVE_LATE
    assert last_expected(settings, other) == after(3)
    lines = list(status_lines(settings))
    assert f"closed  {CLOSED}" in lines
    assert sum(line.startswith(f"missing {other} {after(1)} .. {after(3)}") for line in lines) == 1
    ask()
    assert closed_words(settings, closed) == ""


def test_where_all_are_closed_nobody_is_named(ask: Ask) -> None:
    plan = ask(reaches=dict.fromkeys((BTC, BYBIT), (LAST, CLOSED)))
    assert plan.words_for_closed() == [f"nothing after {LAST} yet: {CLOSED}"]


@pytest.mark.parametrize(("silent", "other"), [(BTC, BYBIT), (BYBIT, BTC)])
def test_an_exchange_without_an_answer_leaves_what_is_known_of_it_and_of_the_other(
    ask: Ask, settings: Settings, silent: str, other: str
) -> None:
    ask(reaches={symbol: (LAST, f"{CLOSED}: {symbol}") for symbol in (BTC, BYBIT)})
    plan = ask(silent=frozenset({silent}))
    assert plan.refused == (f"{silent}: no answer",)
    assert plan.days == dict.fromkeys((BTC, BYBIT), (after(1), after(3))), "the run says what it comes upon"
    assert [closed_words(settings, symbol) for symbol in (silent, other)] == [f"{CLOSED}: {silent}", ""]


def test_a_market_that_was_delisted_ends_alone(ask: Ask) -> None:
    plan = ask(ends={BYBIT: Ending(LAST, "its status at the exchange is Closed")})
    assert plan.ended.keys() == {BYBIT}
    assert (plan.days[BTC], plan.missing, plan.reach) == ((after(1), after(3)), (BTC,), {BTC: after(3)})
    assert "BYBIT_BTCUSDT: ended on" in plan.news[0]


def test_only_a_day_that_an_archive_will_have_is_read_again(settings: Settings) -> None:
    """Of Binance what came over REST waits for its file; a day of Bybit that is over is as it stays."""
    for symbol, via in ((BTC, "rest"), (BYBIT, "pages")):
        with Warehouse(settings.home).connect(symbol) as con:
            days, _ = market(symbol)
            save_raw(con, "candles", [replace(day, facts={"via": via}) for day in days], "exchange")
    assert due_days(settings, settings.symbols, LAST) == {BTC: (DAYS[0], LAST)}


# -- the schedule


def requested(settings: Settings, plan: Plan, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    """Return what a tick asks for, as symbols and days; words where it asks for nothing."""
    monkeypatch.setattr(schedules, "plan_due", lambda *_: plan)
    keys = {asset_key(symbol, "raw_candles"): symbol for symbol in settings.symbols}
    asked = schedules.request(settings, list(keys), plan.until, "", **more)
    if isinstance(asked, dg.SkipReason):
        return asked.skip_message
    assert len({run.run_key for run in asked}) == len(asked)
    everything = list(keys)
    return [([keys[key] for key in run.asset_selection or everything], run.partition_key or run.tags) for run in asked]


def test_who_can_have_everything_is_asked_together_and_who_cannot_by_himself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, three = str(after(1)), str(after(3))
    days = {BTC: (after(1), after(1)), BYBIT: (after(3), after(3))}
    reaches = {BTC: after(1), BYBIT: after(3)}
    together = Plan(dict.fromkeys(days, (after(3), after(3))), after(3), dict.fromkeys(days, after(3)))
    assert requested(settings, together, monkeypatch) == [([BTC, BYBIT], three)]
    closed = Plan(days, after(3), reaches, {BTC: CLOSED}, missing=(BTC, BYBIT))
    for more in ({}, {"only_missing": True}):
        assert requested(settings, closed, monkeypatch, **more) == [([BTC], one), ([BYBIT], three)]
    nothing_of_btc = replace(closed, days={BYBIT: days[BYBIT]})
    assert requested(settings, nothing_of_btc, monkeypatch) == [([BYBIT], three)]
    assert requested(settings, replace(closed, days={}, missing=()), monkeypatch, only_missing=True) == CLOSED


def test_later_in_the_day_only_the_market_that_misses_a_day_is_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bybit has a day at midnight; what Binance's archive has nine hours later concerns its own markets."""
    plan = Plan({BTC: (after(3), after(3))}, after(3), dict.fromkeys((BTC, BYBIT), after(3)), missing=(BTC,))
    assert requested(settings, plan, monkeypatch, only_missing=True) == [([BTC], str(after(3)))]
    ended = replace(plan, ended={BYBIT: Ended(LAST, "for the test")}, reach={BTC: after(3)})
    assert requested(settings, ended, monkeypatch, only_missing=True) == [([BTC], str(after(3)))]
    nothing = replace(plan, days={}, missing=())
    assert requested(settings, nothing, monkeypatch, only_missing=True) == f"nothing is missing until {after(3)}"


# -- what status says


def test_status_puts_the_markets_of_a_base_together_where_there_are_several_exchanges(settings: Settings) -> None:
    with Warehouse(settings.home).connect("ETHUSDT") as con:
        put_symbol(con, SymbolRecord("ETHUSDT", 300, 5.0, "binance", simulated=False))
    lines = list(status_lines(settings))
    assert [line.split()[0] for line in lines[2:9]] == ["BTC", BTC, BTC, BYBIT, BYBIT, "ETH", "ETHUSDT"]
    rows = [line for line in lines[3:7] if line.startswith("  ")]
    assert {line.index(line.split()[1]) for line in rows} == {lines[1].index("model")}, "however long a name is"
    with Warehouse(settings.home).connect(BYBIT) as con:
        forget_symbol(con, BYBIT)
    assert [line.split()[0] for line in list(status_lines(settings))[2:5]] == [BTC, BTC, "ETHUSDT"]


def test_lines_to_type_name_the_source_only_where_it_is_another(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`exchange` means Binance for a market of Binance, and `binance` a stored source of `exchange` for none."""

    def lines(source: str) -> list[str]:
        monkeypatch.setenv("HEATMAP_SOURCE", source)
        monkeypatch.setenv("HEATMAP_HOME", str(settings.home))
        found = [line for line in status_lines(load_settings()) if line.startswith("missing ")]
        return [line.rpartition("`heatmap ")[2].rstrip("`") for line in found]

    assert lines("exchange") == [f"refresh {BTC}", f"refresh {BYBIT}"]
    assert lines("binance") == [f"refresh {BTC}", f"refresh {BYBIT} --source exchange"]
