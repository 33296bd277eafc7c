"""Gate over REST: contracts become units of the base, unfinished sums are left out, and faults are sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.market.liquidations.gate import REACH_DAYS, GateReader
from heatmap_pipeline.market.liquidations.tables import HOUR, hourly_sums, microseconds
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline_tests.market._exchange_server import Fault
from heatmap_pipeline_tests.market.liquidations._rest_servers import NOW, STEP, GateServer, gate_order

SECOND = 10**6
DAY = NOW // 86400 * 86400 - 2 * 86400  # of a day that is over


@pytest.fixture
def server() -> Iterator[GateServer]:
    with GateServer() as running:
        yield running


def reader(server: GateServer, **options: Any) -> GateReader:
    quick = {"timeout": 2.0, "total_time": 10.0, "backoff": 0.01, "retries": 2, "gap": 0.0}
    return GateReader(server.url, **{**quick, **options})


def sums_of(long: float = 0, short: float = 0) -> dict[str, Any]:
    """Return what a row says: contracts, and 6 USD for each."""
    return {
        "long_liq_size": str(long),
        "short_liq_size": short,
        "long_liq_usd": long * 6,
        "short_liq_usd": f"{short * 6}",
    }


def test_a_day_of_sums(server: GateServer) -> None:
    server.sums = {DAY: sums_of(7), DAY + 3 * STEP: sums_of(200, 40), DAY - STEP: sums_of(9), DAY + 86400: sums_of(9)}
    made = reader(server).read_sums("BTCUSDT", DAY * SECOND, (DAY + 86400) * SECOND)
    assert (made.source, made.exchange, made.facts["multiplier"]) == ("gate_stats", "gate", 0.0001)
    assert ((microseconds(made.table["timestamp"]) // SECOND - DAY) // STEP).tolist() == [0, 3, 3]
    assert made.table["side"].tolist() == ["long", "long", "short"]
    np.testing.assert_allclose(made.table["quantity"], [0.0007, 0.02, 0.004])
    np.testing.assert_allclose(made.table["volume"], [42, 1200, 240])
    assert made.table["price"].isna().all()
    assert made.table["complete"].all()
    assert set(made.table["resolution_seconds"]) == {300}
    assert made.recorded.tolist() == [[DAY * SECOND, (DAY + 86400) * SECOND]]
    assert made.repairs == {"empty_rows": 2 * 288 - 3}
    assert [asked.query["limit"] for asked in server.asked if "stats" in asked.path] == ["290"]
    hours = hourly_sums(made.table, made.recorded, start=DAY * SECOND, hours=24)
    np.testing.assert_allclose(hours.quantity[0], [0.0207, 0.004])
    assert not np.isnan(hours.quantity).any()


@pytest.mark.slow
def test_it_goes_back_as_far_as_the_exchange_does_page_by_page(server: GateServer) -> None:
    first = DAY - (REACH_DAYS - 3) * 86400
    server.sums = {first: sums_of(1), DAY - STEP: sums_of(0, 2)}
    made = reader(server).read_sums("ETHUSDT", first * SECOND, DAY * SECOND)
    assert made.recorded.tolist() == [[first * SECOND, DAY * SECOND]]
    assert made.table["quantity"].tolist() == [0.0001, 0.0002]
    pages = server.paths("contract_stats")
    assert len(pages) == -(-(REACH_DAYS - 3) * 288 // 2002)


@pytest.mark.parametrize("scale", [1, 1000])
def test_the_newest_interval_is_not_final_in_seconds_and_milliseconds(scale: int) -> None:
    newest = NOW // STEP * STEP
    with GateServer(scale=scale) as server:
        server.sums = {newest: sums_of(50), newest - STEP: sums_of(60)}
        made = reader(server).read_sums("BTCUSDT", (newest - 3600) * SECOND, (newest + 3600) * SECOND)
    assert made.table["quantity"].tolist() == [0.006]
    assert made.recorded.tolist() == [[(newest - 3600) * SECOND, newest * SECOND]]


def test_an_interval_that_is_not_listed_is_missing(server: GateServer) -> None:
    server.missing = {DAY + 3600, DAY + 3600 + STEP}
    made = reader(server).read_sums("BTCUSDT", DAY * SECOND, (DAY + 7200) * SECOND)
    assert (made.recorded // SECOND - DAY).tolist() == [[0, 3600], [3600 + 2 * STEP, 7200]]
    hours = hourly_sums(made.table, made.recorded, start=DAY * SECOND, hours=2)
    np.testing.assert_array_equal(np.isnan(hours.quantity[:, 0]), [False, True])


@pytest.mark.market
def test_the_published_row_is_read(market_dir: Path, server: GateServer) -> None:
    rows = json.loads((market_dir / "other_exchanges/format_samples/gate_contract_stats.json").read_text())
    at = rows[0]["time"]
    rows[0] |= {"long_liq_size": "3"}
    answer = [rows[0], {**rows[0], "time": at + STEP}]
    server.fault("contract_stats", Fault(status=200, edit=lambda _: answer))
    made = reader(server).read_sums("BTCUSDT", at * SECOND, (at + STEP) * SECOND)
    assert made.table["quantity"].tolist() == [3 * 0.0001]
    assert made.recorded.tolist() == [[at * SECOND, (at + STEP) * SECOND]]


def test_single_orders(server: GateServer) -> None:
    server.orders = [
        gate_order(DAY + 10),
        gate_order(DAY + 3599, size=-300, price="0"),
        gate_order(DAY + 3600, left=-40),
        gate_order(DAY + 3601, order_size=-60),
        gate_order(DAY + 3602, left=-100),
        gate_order(DAY - 7000),
        {**gate_order(DAY + 5), "contract": "ETH_USDT"},
    ]
    made = reader(server).read_orders("BTCUSDT", DAY * SECOND, (DAY + 86400) * SECOND)
    assert (made.source, made.exchange) == ("gate_orders", "gate")
    assert made.table["side"].tolist() == ["long", "short", "long", "long"]
    np.testing.assert_allclose(made.table["quantity"], [0.01, 0.03, 0.006, 0.006])
    # Where the price it was filled at is not given, that of the order.
    assert made.table["price"].tolist() == [60000, 59900, 60000, 60000]
    assert set(made.table["resolution_seconds"]) == {0}
    assert made.recorded.tolist() == [[DAY * SECOND, (DAY + 86400) * SECOND]]


def test_a_full_window_is_asked_in_halves(server: GateServer) -> None:
    server.orders = [gate_order(DAY + 600 + number // 3) for number in range(2500)] + [gate_order(DAY - 5)]
    made = reader(server).read_orders("BTCUSDT", DAY * SECOND, DAY * SECOND + HOUR)
    assert len(made.table) == 2500
    server.orders = [gate_order(DAY + 600) for _ in range(1000)]
    with pytest.raises(MarketError, match="lists 1000 liquidations of one second"):
        reader(server).read_orders("BTCUSDT", DAY * SECOND, DAY * SECOND + HOUR)


@pytest.mark.slow
def test_what_may_not_be_kept_any_more_is_missing_and_not_0(server: GateServer) -> None:
    # An order of the evening before proves that the quiet morning was quiet.
    server.orders = [gate_order(DAY - 20 * 3600), gate_order(DAY + 5 * 3600)]
    day = DAY * SECOND, (DAY + 86400) * SECOND
    assert reader(server).read_orders("BTCUSDT", *day).recorded.tolist() == [list(day)]
    server.orders = server.orders[1:]
    made = reader(server).read_orders("BTCUSDT", *day)
    assert made.recorded.tolist() == [[(DAY + 5 * 3600) * SECOND, day[1]]]
    server.orders = []
    assert len(reader(server).read_orders("BTCUSDT", *day).recorded) == 0


def test_the_last_minute_is_not_over(server: GateServer) -> None:
    start = NOW // 3600 * 3600 - 3600
    server.orders = [gate_order(start - 5), gate_order(start + 100), gate_order(NOW - 1)]
    made = reader(server).read_orders("BTCUSDT", start * SECOND, (start + 4 * 3600) * SECOND)
    assert len(made.table) == 1
    [(_, end)] = made.recorded.tolist()
    assert NOW - 61 <= end // SECOND <= NOW


def test_what_the_exchange_refuses_is_a_sentence(server: GateServer) -> None:
    with pytest.raises(NoDataError, match="serves the last 180 days only; begin 179 days ago"):
        reader(server).read_sums("BTCUSDT", (NOW - 190 * 86400) * SECOND, NOW * SECOND)
    with pytest.raises(NoDataError, match="Gate has no contract DOGE_USDT"):
        reader(server).read_sums("DOGEUSDT", DAY * SECOND, NOW * SECOND)
    with pytest.raises(NoDataError, match="BTCUSDC is not margined in USDT"):
        reader(server).read_sums("BTCUSDC", DAY * SECOND, NOW * SECOND)
    server.fault("contract_stats", Fault(status=400, body=b'{"label":"INVALID_PARAM_VALUE","message":"no"}'))
    with pytest.raises(MarketError, match=r"the exchange refuses the request: no \(INVALID_PARAM_VALUE\)"):
        reader(server).read_sums("BTCUSDT", DAY * SECOND, NOW * SECOND)


def test_faults_of_the_network_are_tried_again(server: GateServer) -> None:
    server.sums = {DAY: sums_of(7)}
    server.fault("contract_stats", Fault(status=429), Fault(status=502, body=b"<html>busy</html>"))
    made = reader(server).read_sums("BTCUSDT", DAY * SECOND, DAY * SECOND + HOUR)
    assert len(made.table) == 1
    server.fault("contract_stats", Fault(cut=40), Fault(body=b"<html>sorry</html>"))
    assert len(reader(server).read_sums("BTCUSDT", DAY * SECOND, DAY * SECOND + HOUR).table) == 1
    server.fault("contract_stats", Fault(status=503), always=True)
    with pytest.raises(MarketError, match="the server answered 503, 3 times"):
        reader(server).read_sums("BTCUSDT", DAY * SECOND, DAY * SECOND + HOUR)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda _: {"a": 1}, "the answer is not a list"),
        (lambda rows: [*rows[:1], 7], "row 2: is not an object"),
        (lambda rows: [{**rows[0], "time": "soon"}], "row 1: time 'soon' is not in seconds"),
        (lambda rows: [{**rows[0], "time": rows[0]["time"] + 7}], "row 1: time .* is no start of five minutes"),
        (lambda rows: [{**rows[0], "long_liq_size": None}], "row 1: long_liq_size, .* are not all numbers"),
        (lambda rows: [{**rows[0], "short_liq_usd": -1}], "row 1: .* are not all numbers of 0 or more"),
        (lambda rows: [{**rows[0], "long_liq_usd": "many"}], "row 1: long_liq_usd 'many' is not a number"),
    ],
)
def test_answers_of_another_shape_are_refused(server: GateServer, edit: Any, words: str) -> None:
    server.fault("contract_stats", Fault(edit=edit))
    with pytest.raises(MarketError, match=words):
        reader(server).read_sums("BTCUSDT", DAY * SECOND, DAY * SECOND + HOUR)


@pytest.mark.parametrize("size", ["0", "", "-1", None])
def test_a_contract_without_a_size_is_refused(server: GateServer, size: str | None) -> None:
    server.fault("/contracts/", Fault(edit=lambda answer: {**answer, "quanto_multiplier": size}))
    with pytest.raises(MarketError, match="is no size of a contract"):
        reader(server).read_sums("BTCUSDT", DAY * SECOND, DAY * SECOND + HOUR)


def test_requests_keep_their_distance(server: GateServer) -> None:
    paced = reader(server, gap=0.1)
    for _ in range(3):
        paced.read_sums("BTCUSDT", DAY * SECOND, DAY * SECOND + HOUR)
    times = [asked.at for asked in server.asked]
    assert len(times) == 4
    assert times[-1] - times[0] > 0.2  # three gaps, the first of which a slow connection may shorten
