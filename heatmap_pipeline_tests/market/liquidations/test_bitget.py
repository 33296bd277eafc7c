"""Bitget over REST: pages joined by cursors, three days, the side of the position, and faults as sentences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.market.liquidations.bitget import BitgetReader
from heatmap_pipeline.market.liquidations.tables import microseconds
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline_tests.market._exchange_server import Fault
from heatmap_pipeline_tests.market.liquidations._rest_servers import NOW, BitgetServer, bitget_row

SECOND = 10**6
START = NOW - 2 * 86400


def reader(server: BitgetServer, **options: Any) -> BitgetReader:
    quick = {"timeout": 2.0, "total_time": 10.0, "backoff": 0.01, "retries": 2, "gap": 0.0}
    return BitgetReader(server.url, **{**quick, **options})


def test_single_liquidations_of_a_stretch() -> None:
    rows = [bitget_row(START + 5.25), bitget_row(START + 900, "sell", "1.25", "61000"), bitget_row(START - 1)]
    with BitgetServer(rows) as server:
        made = reader(server).read("BTCUSDT", START * SECOND, (START + 3600) * SECOND)
    assert (made.source, made.exchange) == ("bitget_rest", "bitget")
    assert made.table["side"].tolist() == ["long", "short"]
    assert (microseconds(made.table["timestamp"]) - START * SECOND).tolist() == [5_250_000, 900_000_000]
    np.testing.assert_allclose(made.table["volume"], [30000, 1.25 * 61000])
    assert not made.table["complete"].any()
    assert made.recorded.tolist() == [[START * SECOND, (START + 3600) * SECOND]]
    assert made.repairs == {}


def test_pages_are_followed_until_the_stretch_begins() -> None:
    rows = [bitget_row(START + number * 60, amount=f"{number + 1}") for number in range(1000)]
    rows += [bitget_row(START - 60 * number - 1) for number in range(900)]
    with BitgetServer(rows) as server:
        made = reader(server).read("BTCUSDT", START * SECOND, (NOW - 3600) * SECOND)
        assert len(server.asked) == 11
    assert made.table["quantity"].tolist() == [number + 1.0 for number in range(1000)]


def test_equal_ones_of_one_page_are_two_and_of_two_pages_one() -> None:
    twin = bitget_row(START + 50)
    rows = [bitget_row(START + 100 + number) for number in range(100)] + [twin, twin]
    with BitgetServer(rows) as server:
        # The second page begins with the last row of the first.
        server.fault(
            "liquidations",
            Fault(),
            Fault(edit=lambda answer: {**answer, "data": {"list": [rows[0], *answer["data"]["list"]], "cursor": ""}}),
        )
        made = reader(server).read("BTCUSDT", START * SECOND, (NOW - 3600) * SECOND)
    assert len(made.table) == 102
    assert made.repairs == {"redelivered_rows": 1}


def test_three_days_back_and_ten_minutes_ago() -> None:
    rows = [bitget_row(NOW - 5), bitget_row(NOW - 4 * 86400), bitget_row(NOW - 3600)]
    with BitgetServer(rows) as server:
        made = reader(server).read("BTCUSDT", (NOW - 10 * 86400) * SECOND, (NOW + 86400) * SECOND)
    assert len(made.table) == 1
    [(start, end)] = made.recorded.tolist()
    assert abs(start // SECOND - (NOW - 3 * 86400)) < 120
    assert abs(end // SECOND - (NOW - 600)) < 120
    with BitgetServer(rows) as server:
        old = reader(server).read("BTCUSDT", (NOW - 10 * 86400) * SECOND, (NOW - 9 * 86400) * SECOND)
    assert (len(old.table), len(old.recorded)) == (0, 0)


def test_a_cursor_that_comes_again_ends_it() -> None:
    with BitgetServer([bitget_row(START + 50)]) as server:
        server.endless = True
        made = reader(server).read("BTCUSDT", START * SECOND, (NOW - 3600) * SECOND)
        assert len(server.asked) == 2
    assert len(made.table) == 1


def test_what_the_exchange_refuses_is_a_sentence() -> None:
    with BitgetServer([]) as server:
        with pytest.raises(MarketError, match=r"refuses the request: The symbol does not exist \(25100\)"):
            reader(server).read("NOPEUSDT", START * SECOND, NOW * SECOND)
        server.fault("liquidations", Fault(body=b'{"code":"429","msg":"Too many"}'))
        with pytest.raises(MarketError, match=r"Too many \(429\)"):
            reader(server).read("BTCUSDT", START * SECOND, NOW * SECOND)


def test_faults_of_the_network_are_tried_again() -> None:
    with BitgetServer([bitget_row(START + 50)]) as server:
        server.fault("liquidations", Fault(status=429, headers={"Retry-After": "0"}), Fault(cut=20))
        assert len(reader(server).read("BTCUSDT", START * SECOND, NOW * SECOND).table) == 1
        server.fault("liquidations", Fault(hang=1.0), always=True)
        with pytest.raises(MarketError, match="no answer within"):
            reader(server, timeout=0.2, retries=1).read("BTCUSDT", START * SECOND, NOW * SECOND)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "the answer is not a list"),
        ({"cursor": ""}, "the answer is not a list"),
        ({"list": [3]}, "row 1: is not an object"),
        ({"list": [{**bitget_row(START), "symbol": "ETHUSDT"}]}, "row 1: is about 'ETHUSDT', not BTCUSDT"),
        ({"list": [{**bitget_row(START), "side": "long?"}]}, "row 1: side 'long.' is neither buy nor sell"),
        ({"list": [{**bitget_row(START), "amount": "x"}]}, "row 1: amount 'x' is not a number"),
        ({"list": [{**bitget_row(START), "amount": None}]}, "row 1: the quantity is blank"),
        ({"list": [{**bitget_row(START), "ts": "yesterday"}]}, "row 1: ts 'yesterday' is not in seconds"),
    ],
)
def test_answers_of_another_shape_are_refused(data: Any, words: str) -> None:
    with BitgetServer([]) as server:
        server.fault("liquidations", Fault(edit=lambda answer: {**answer, "data": data}))
        with pytest.raises(MarketError, match=words):
            reader(server).read("BTCUSDT", START * SECOND, NOW * SECOND)


def test_a_contract_in_another_dollar_is_not_asked_for_under_the_wrong_category() -> None:
    with BitgetServer([]) as server:
        with pytest.raises(NoDataError, match="BTCUSDC is not margined in USDT"):
            reader(server).read("BTCUSDC", START * SECOND, NOW * SECOND)
        assert server.asked == []
