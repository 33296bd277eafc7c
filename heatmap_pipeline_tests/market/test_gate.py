"""Gate over a local server in its shape: contracts made units, what is kept, measured, refused; faults of a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.market.brackets import kept_tiers, load_bracket
from heatmap_pipeline.market.gate import GateMarket
from heatmap_pipeline.market.plausible.arrays import Before
from heatmap_pipeline.market.plausible.names import SIDES
from heatmap_pipeline.market.plausible.samples import judge_samples_of
from heatmap_pipeline.market.tables import CleanDay, ClosedError, MarketError, NoDataError, NotTradedError
from heatmap_pipeline_tests.market._bybit_server import day
from heatmap_pipeline_tests.market._exchange_server import Fault
from heatmap_pipeline_tests.market._gate_server import SIZE, GateMarketServer, gate_rows

BTC = "GATE_BTC_USDT"
NOON = datetime(2024, 3, 4, 12)


@pytest.fixture
def server() -> Iterator[GateMarketServer]:
    """Three whole days and half a fourth."""
    with GateMarketServer(*gate_rows(4), NOON) as running:
        yield running


@pytest.fixture
def market(server: GateMarketServer, tmp_path: Path) -> GateMarket:
    return opened(server, tmp_path / "gate")


def opened(server: GateMarketServer, root: Path) -> GateMarket:
    return GateMarket(root, server.url, gap=0.0, retries=1, backoff=0.01, elapsed=lambda: 0.0)


def read(market: GateMarket, *days: date) -> tuple[list[CleanDay], list[CleanDay]]:
    candles = list(market.candles(BTC, days, 300))
    return candles, list(market.open_interest(BTC, {each.day: each.table for each in candles}, 300))


def test_contracts_are_made_units_of_the_base_by_hand(server: GateMarketServer, market: GateMarket) -> None:
    """0.0001 BTC a contract: 97,151 are 9.7151 BTC; 150,508,526 at 30,551.93 are 15,050.8526 BTC, 459,832,595 USD."""
    server.contract["quanto_multiplier"] = "0.0001"
    server.candles[288] |= {"v": 97151, "o": "60000", "h": "60100.5", "l": "59900", "c": "60050", "sum": "583391.755"}
    server.stats[288] |= {"open_interest": 150508526, "open_interest_usd": 459832595.07552, "mark_price": 30551.93}
    (candles,), (samples,) = read(market, day(2))
    row = candles.table.iloc[0]
    assert [row[name] for name in ("open", "high", "low", "close")] == [60000, 60100.5, 59900, 60050]
    assert row["volume"] == pytest.approx(9.7151, rel=1e-15)
    assert row["quote_volume"] == 583391.755, "is in USDT as it is"
    taken = samples.table.iloc[0]
    assert taken["snapshot_time"] == np.datetime64("2024-03-02T00:05")
    assert taken["contracts"] == pytest.approx(15050.8526, rel=1e-15)
    assert taken["value"] / taken["contracts"] == pytest.approx(30551.93, rel=1e-12)
    contract = market.contract(BTC)
    assert (contract.base, contract.quote, contract.kind) == ("BTC", "USDT", "perpetual")
    assert (contract.lot, contract.contract_size) == (0.0001, 0.0001)
    for least, lot in ((5, 0.0005), (0, 0.0001)):
        told = {**server.contract, "order_size_min": least}
        assert market.read_contract([told], BTC, "place").contract.lot == pytest.approx(lot, rel=1e-15)


@pytest.mark.market
def test_real_statistics_are_worth_their_mark_price(server: GateMarketServer, market_dir: Path, tmp_path: Path) -> None:
    """ADA_USDT, ten ADA a contract."""
    file = market_dir / "other_exchanges" / "format_samples" / "gate_contract_stats.json"
    if not file.is_file():
        pytest.skip(f"no real answer of Gate at {file}")
    rows = json.loads(file.read_bytes())
    table, declared = opened(server, tmp_path).read_samples(rows, "the sample")
    assert not declared
    assert table["label"].tolist() == [np.datetime64("2023-01-18T15:50").astype("datetime64[us]").item()]
    prices = table["value"] / (table["contracts"] * 10)
    assert prices.tolist() == pytest.approx([float(row["mark_price"]) for row in rows], rel=1e-9)


@pytest.mark.parametrize("starts", [True, False])
@pytest.mark.parametrize("sides", [1, 2])
def test_sides_and_clock_are_measured(tmp_path: Path, starts: bool, sides: int) -> None:
    """Whichever end of its five minutes names a row, and whether it counts a contract once or twice."""
    with GateMarketServer(*gate_rows(2, sides=sides, names_the_start=starts), NOON) as server:
        (candles,), (samples,) = read(opened(server, tmp_path), day(1))
    assert samples.facts["clock"]["rule"] == "price"
    assert samples.facts["clock"]["offset_seconds"] == 300 * starts
    assert samples.table["snapshot_time"].iloc[-1] == np.datetime64("2024-03-02T00:00")
    assert len(samples.table) == 288
    assert samples.repairs == {}
    clean = judge_samples_of(samples, candles, Before(), said=False, file="the day", way_out="leave it out")
    taken = [row["open_interest"] * SIZE / sides for row in server.stats[:288]]
    assert clean.table["contracts"].tolist() == pytest.approx(taken, rel=1e-12)
    assert (SIDES in clean.facts) == (sides == 2)


def test_what_is_over_needs_no_network_again_whatever_becomes_of_the_contract(
    server: GateMarketServer, tmp_path: Path
) -> None:
    """The size of a contract is kept with its rows, as the exchange may change it."""
    before = read(opened(server, tmp_path), day(1), day(2))
    assert len(server.paths("/candlesticks")) == 2
    assert len(server.paths("/contract_stats")) == 2
    server.contract["quanto_multiplier"] = "0.01"
    server.asked.clear()
    server.fault("/futures", Fault(status=451), always=True)
    again = opened(server, tmp_path)
    after = read(again, day(1), day(2))
    assert server.asked == []
    for old, new in zip((*before[0], *before[1]), (*after[0], *after[1]), strict=True):
        assert old.content_hash() == new.content_hash()
        assert old.facts == new.facts
        assert old.facts["via"] == "pages"
    with pytest.raises(ClosedError, match=r"Gate's REST at .* is closed .* \(it answered 451.* set HEATMAP_GATE_URL"):
        read(again, day(3))


def test_today_so_far_leaves_out_what_may_still_change(server: GateMarketServer, market: GateMarket) -> None:
    server.now = datetime(2024, 3, 4, 12, 2)
    (candles,), (samples,) = read(market, day(4))
    assert (len(candles.table), candles.repairs) == (144, {"unfinished_candles": 1})
    assert samples.table["snapshot_time"].iloc[-1] == np.datetime64("2024-03-04T12:00"), "that of 12:00 is not over"
    assert candles.facts["provisional"]
    assert samples.facts["provisional"]


@pytest.mark.parametrize(("now", "over"), [((0, 4, 59), False), ((0, 5, 0), True)])
def test_a_day_is_over_once_the_row_of_its_last_midnight_is(
    server: GateMarketServer, market: GateMarket, now: tuple[int, int, int], over: bool
) -> None:
    """That row is there from midnight on, and rewritten for five minutes: kept before that it would stay wrong."""
    server.now = datetime(2024, 3, 4, *now)
    _, (samples,) = read(market, day(3))
    assert samples.facts.get("provisional", False) is not over
    assert len(samples.table) == 288


def test_a_page_may_hold_fewer_rows_than_were_asked_for(server: GateMarketServer, market: GateMarket) -> None:
    server.rows_per_page = 100
    _, (samples,) = read(market, day(1))
    assert len(samples.table) == 288
    assert len(server.paths("/contract_stats")) == 3
    del server.stats[-400:]
    server.now += timedelta(days=1)
    _, (samples,) = read(market, day(3))
    assert len(samples.table) == 288 - (400 - 288), "what is missing ends the asking"


def test_minutes_and_quarters_of_an_hour(server: GateMarketServer, tmp_path: Path) -> None:
    start = server.candles[0]["t"]
    for seconds, count in ((60, 1440), (900, 96)):
        server.candles = [{**row, "t": start + at * seconds} for at, row in enumerate(server.candles * 2)]
        (clean,) = opened(server, tmp_path).candles(BTC, [day(1)], seconds)
        assert (len(clean.table), clean.repairs) == (count, {})
    assert len(server.paths("/candlesticks")) == 2


def test_days_that_the_exchange_does_not_serve_any_more(server: GateMarketServer, tmp_path: Path) -> None:
    """Its newest 10,000 candles: 34 days of five minutes, 104 of quarters of an hour."""
    market = opened(server, tmp_path)
    server.now = datetime(2024, 4, 10, 12)
    words = (
        r"gate:BTC_USDT: 2024-03-06 is too long ago; .* of 5m those since 2024-03-07: begin there or later, or take "
        r"coarser candles \(HEATMAP_CANDLE_INTERVAL_GATE_BTC_USDT=15m\)"
    )
    with pytest.raises(NoDataError, match=words):
        list(market.candles(BTC, [day(6)], 300))
    assert server.paths("/candlesticks") == []
    assert market.available(BTC, [day(6), day(7)]) == {day(7)}
    server.candles = [{**row, "t": row["t"] + 900 * at - 300 * at} for at, row in enumerate(server.candles)]
    (clean,) = market.candles(BTC, [day(6)], 900)
    assert len(clean.table) == 96
    server.fault("/candlesticks", Fault(status=400, body=TOO_OLD))
    with pytest.raises(NoDataError, match="does not serve days so old any more: Candlestick too long ago"):
        list(market.candles(BTC, [day(7)], 900))


TOO_OLD = b'{"label": "INVALID_PARAM_VALUE", "message": "Candlestick too long ago. Maximum 10000 points"}'


def test_what_the_exchange_says_of_a_contract(server: GateMarketServer, market: GateMarket, tmp_path: Path) -> None:
    assert market.ended(BTC, day(3), day(3), 300) is None
    changes: list[tuple[dict[str, Any], str]] = [
        ({"status": "delisted"}, "its status at the exchange is delisted"),
        ({"in_delisting": True, "status": "delisting", "position_size": 0}, "nothing of it is open"),
        ({"in_delisting": True, "position_size": 7}, ""),
    ]
    for number, (change, reason) in enumerate(changes):
        server.contract |= {"status": "trading", **change}
        ending = opened(server, tmp_path / str(number)).ended(BTC, day(2), day(3), 300)
        assert (reason == "") == (ending is None)
        assert ending is None or (ending.last == day(2) and reason in ending.reason)
    with pytest.raises(NotTradedError, match=r"does not know this contract; write it .* gate:BTC_USDT"):
        market.contract("GATE_NOSUCH_USDT")
    ending = market.ended("GATE_NOSUCH_USDT", day(2), day(3), 300)
    assert ending is not None
    assert ending.reason == "the exchange does not list it any more"


@pytest.mark.parametrize(
    ("label", "words", "kind"),
    [
        ("CONTRACT_NOT_FOUND", "no such thing", NotTradedError),
        ("INVALID_PARAM_VALUE", "contract XYZ Not Found", NotTradedError),
        ("INVALID_PARAM_VALUE", "Candlestick too long ago", NoDataError),
        ("INVALID_PARAM_VALUE", "limit", MarketError),
    ],
)
def test_refusals_are_told_apart_by_label_and_words(
    market: GateMarket, label: str, words: str, kind: type[MarketError]
) -> None:
    assert type(market.in_words("place", (label, words))) is kind


def test_days_that_nobody_can_have(server: GateMarketServer, market: GateMarket) -> None:
    with pytest.raises(NoDataError, match="before the day it was listed, 2020-03-25"):
        list(market.candles(BTC, [date(2020, 3, 24)], 300))
    with pytest.raises(NoDataError, match="has not begun, by the exchange's clock it is 2024-03-04 12:00 UTC"):
        list(market.candles(BTC, [day(5)], 300))


def test_the_tiers_are_those_of_the_exchange(server: GateMarketServer, tmp_path: Path) -> None:
    opened(server, tmp_path / "gate").prepare(BTC, [day(1)])
    folder = kept_tiers(tmp_path, BTC)
    assert folder is not None
    assert load_bracket(folder, BTC, day(1)) == (0.004, 125.0)
    server.tiers[0]["maintenance_rate"] = "0.4"
    with pytest.raises(MarketError, match="row 1: its risk_limit, rates and leverage_max are no tier"):
        opened(server, tmp_path / "other" / "gate").prepare(BTC, [day(1)])


@pytest.mark.parametrize(
    ("faults", "kind", "words"),
    [
        ([Fault(status=403)], ClosedError, "closed to the place this runs at .it answered 403"),
        ([Fault(status=429)] * 2, MarketError, r"asked too often .429., 2 times"),
        ([Fault(status=502)] * 2, MarketError, "the server answered 502, 2 times"),
        ([Fault(cut=100)] * 2, MarketError, "cut in the middle of its answer, 2 times"),
        ([Fault(body=b'{"label": "TOO_MANY_REQUESTS", "message": "slow"}')] * 2, MarketError, "busy: slow .TOO_MANY"),
        ([Fault(status=400, body=b'{"label": "INVALID_KEY", "message": "no"}')], MarketError, "request: no .INVALID_K"),
        ([Fault(body=b"<html>")] * 2, MarketError, "a web page instead of an answer"),
        ([Fault(body=b"{}")], MarketError, "the answer is not a list"),
        ([Fault(body=b'["x"]')], MarketError, "row 1: is not an object"),
        ([Fault(body=b'[{"t": "soon"}]')], MarketError, "row 1: t 'soon' is not in seconds or milliseconds since 1970"),
        ([Fault(body=b'[{"t": 1709251200, "o": [1]}]')], MarketError, "row 1: o a list is not a number"),
        ([Fault(body=b"[]")], NoDataError, "no finished candle"),
    ],
)
def test_refusals_are_sentences_and_nothing_of_them_is_kept(
    server: GateMarketServer, tmp_path: Path, faults: list[Fault], kind: type[MarketError], words: str
) -> None:
    server.fault("/candlesticks", *faults)
    with pytest.raises(kind, match=words) as error:
        list(opened(server, tmp_path).candles(BTC, [day(1)], 300))
    assert "\n" not in str(error.value)
    (clean,) = opened(server, tmp_path).candles(BTC, [day(1)], 300)
    assert len(clean.table) == 288


def test_a_busy_exchange_is_asked_once_more(server: GateMarketServer, market: GateMarket) -> None:
    server.fault("/contract_stats", Fault(status=429, headers={"Retry-After": "0"}))
    server.fault("/candlesticks", Fault(status=503))
    candles, samples = read(market, day(1))
    assert (len(candles[0].table), len(samples[0].table)) == (288, 288)
