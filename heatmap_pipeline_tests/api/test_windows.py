"""Which window a request means, and every refusal: its status, the parameter it names and what it allows."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from heatmap_pipeline.api.parameters import read_moment, read_weights
from heatmap_pipeline.bins import round_multiples
from heatmap_pipeline.views.window import bin_units, choose_bins, make_window
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.api.homes import BTC, ETH, HEATMAP, MAP, TestClient, ask, day, refused

KLINES = "/prices/klines"
BEGIN, END = f"{day(1)}T00:00:00Z", f"{day(6)}T00:00:00Z"


@pytest.mark.parametrize(
    ("query", "start", "end", "clipped"),
    [
        ({}, BEGIN, END, []),
        ({"start_time": day(2)}, f"{day(2)}T00:00:00Z", END, []),
        ({"end_time": day(2)}, BEGIN, f"{day(2)}T00:00:00Z", []),
        ({"end_time": "9999-12-31"}, BEGIN, END, ["end_time"]),
        ({"start_time": "0001-01-01", "end_time": "9999-12-31"}, BEGIN, END, ["start_time", "end_time"]),
        ({"start_time": f"{day(2)}T10:07:13.5Z", "end_time": f"{day(2)}T11:00:00.000001Z"},
         f"{day(2)}T10:00:00Z", f"{day(2)}T11:15:00Z", []),
        ({"start_time": f"{day(2)}T02:00:00+02:00", "end_time": f"{day(2)}T01:00:00-05:30"},
         f"{day(2)}T00:00:00Z", f"{day(2)}T06:30:00Z", []),
        ({"start_time": f"{day(2)} 12:00", "end_time": f"{day(2)}t13:00z"},
         f"{day(2)}T12:00:00Z", f"{day(2)}T13:00:00Z", []),
        ({"start_time": f"{day(5)}T23:59:59Z"}, f"{day(5)}T23:45:00Z", END, []),
        ({"start_time": day(2), "end_time": day(3), "interval": "4h"},
         f"{day(2)}T00:00:00Z", f"{day(3)}T00:00:00Z", []),
        ({"start_time": f"{day(2)}T13:00", "end_time": f"{day(2)}T13:01", "interval": "1d"},
         f"{day(2)}T00:00:00Z", f"{day(3)}T00:00:00Z", []),
    ],
)  # fmt: skip
def test_windows(served: TestClient, query: dict[str, Any], start: str, end: str, clipped: list[str]) -> None:
    body = ask(served, **{"format": "columns", **query})
    meta = body["meta"]
    # The first day's sample was taken after its first candles, and the model begins with it.
    assert meta["start_time"][:13] == start[:13]
    assert (meta["end_time"], meta["clipped"]) == (end, clipped)
    stamps = np.array(body["timestamps"])
    assert len(set(np.diff(stamps))) <= 1
    assert meta["as_of"] <= end


def test_a_plus_sign_that_arrived_as_a_blank_is_one(served: TestClient) -> None:
    plain = served.get(f"{HEATMAP}?symbol=BTCUSDT&start_time={day(2)}T02:00:00+02:00&end_time={day(3)}&interval=4h")
    escaped = served.get(f"{HEATMAP}?symbol=BTCUSDT&start_time={day(2)}T02:00:00%2B02:00&end_time={day(3)}&interval=4h")
    assert plain.content == escaped.content
    assert plain.json()["meta"]["start_time"] == f"{day(2)}T00:00:00Z"


@pytest.mark.parametrize(
    ("status", "path", "query", "said"),
    [
        (422, HEATMAP, {}, "symbol is missing; allowed parameters are symbol, start_time, end_time, interval"),
        (422, HEATMAP, {"symbol": "btcusdt"}, "symbol = 'btcusdt' is not a symbol"),
        (422, HEATMAP, {"symbol": "A" * 31}, "is not a symbol"),
        (404, HEATMAP, {"symbol": "XRPUSDT"}, "symbol XRPUSDT is not published; there are BTCUSDT, ETHUSDT"),
        (404, HEATMAP, {"symbol": BTC, "model": "gamma"}, "there are turnover, delta"),
        (422, HEATMAP, {"symbol": BTC, "model": "../x"}, "model = '../x' is no name of a model"),
        (422, HEATMAP, {"symbol": BTC, "foo": "1"}, "'foo' is no parameter here; allowed are symbol,"),
        (422, HEATMAP, {"symbol": [BTC, BTC]}, "parameter 'symbol' is given more than once"),
        (422, HEATMAP, {f"a{n}": "" for n in range(60)}, "60 parameters"),
        (422, HEATMAP, {"symbol": BTC, "interval": "3m"}, "'3m' is not allowed; allowed are 5m, 15m, 1h, 4h, 1d"),
        (422, HEATMAP, {"symbol": BTC, "format": "csv"}, "format = 'csv' is not allowed; allowed are nested, columns"),
        (422, HEATMAP, {"symbol": BTC, "start_time": "yesterday"}, "start_time = 'yesterday': not an ISO 8601 time"),
        (422, HEATMAP, {"symbol": BTC, "start_time": ""}, "start_time = ''"),
        (422, HEATMAP, {"symbol": BTC, "end_time": "0000-01-01"}, "end_time = '0000-01-01'"),
        (422, HEATMAP, {"symbol": BTC, "end_time": "1704240000000"}, "end_time = '1704240000000'"),
        (422, HEATMAP, {"symbol": BTC, "start_time": day(3), "end_time": day(2)}, "start_time is not before end_time"),
        (422, HEATMAP, {"symbol": BTC, "start_time": day(3), "end_time": day(3)}, "start_time is not before end_time"),
        (404, HEATMAP, {"symbol": BTC, "start_time": day(6)}, f"has data from {day(1)}T"),
        (404, HEATMAP, {"symbol": BTC, "end_time": day(1)}, f"to {END}; start_time and end_time ask for none of it"),
        (404, HEATMAP, {"symbol": BTC, "end_time": "0001-01-01T00:00:00+14:00"}, "ask for none of it"),
        (404, HEATMAP, {"symbol": BTC, "start_time": "9999-12-31T23:59:59.999999-14:00"}, "ask for none of it"),
        (404, HEATMAP, {"symbol": ETH, "start_time": day(3), "end_time": day(4)}, "has a gap from"),
        (422, HEATMAP, {"symbol": BTC, "price_bin_size": 150}, "no multiple of the bucket, 100 USDT; ask for 100 or"),
        (422, HEATMAP, {"symbol": BTC, "price_bin_size": 99.999}, "ask for 100"),
        (422, HEATMAP, {"symbol": BTC, "price_bin_size": 1e-300}, "ask for 100"),
        (422, HEATMAP, {"symbol": BTC, "price_bin_size": "nan"}, "price_bin_size = 'nan': allowed is a finite number"),
        (422, HEATMAP, {"symbol": BTC, "price_bin_size": "1e999"}, "price_bin_size = '1e999'"),
        (422, HEATMAP, {"symbol": BTC, "price_bin_size": -100}, "allowed is greater than 0"),
        (422, HEATMAP, {"symbol": BTC, "price_bin_size": 0}, "allowed is greater than 0"),
        (422, HEATMAP, {"symbol": BTC, "max_rows": 9}, "max_rows = '9': allowed is greater than or equal to 10"),
        (422, HEATMAP, {"symbol": BTC, "max_rows": 10**30}, "allowed is less than or equal to 2000"),
        (422, HEATMAP, {"symbol": BTC, "max_rows": 10.5}, "max_rows = '10.5'"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "5"}, "'5' is not leverage:weight; write for example 5:15,"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": ""}, "is not leverage:weight"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "5:1,5:2"}, "leverage 5 is named twice"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "1:1"}, "leverage '1' is not above 1 and at most 1000"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "nan:1"}, "leverage 'nan'"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "5:inf"}, "weight 'inf' is neither 0 nor between"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "5:-1"}, "weight '-1'"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "5:0"}, "the weights sum to 0"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "500:1"}, "leverage_weights: "),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": ",".join(f"{n}:1" for n in range(2, 40))}, "more than 32"),
        (422, MAP, {"symbol": BTC, "price_bin_size": 7}, "ask for 100"),
        (422, MAP, {"symbol": BTC, "price_bin_size": 10**7}, "is more than the price"),
        (422, MAP, {"symbol": BTC, "within_percent": 0}, "allowed is greater than or equal to 0.1"),
        (422, HEATMAP, {"symbol": BTC, "price_bin_size": "1_00"}, "price_bin_size = '1_00': not a number"),
        (422, HEATMAP, {"symbol": BTC, "leverage_weights": "1_0:5"}, "is not leverage:weight"),
        (422, KLINES, {"symbol": BTC, "limit": "1_0"}, "limit = '1_0': not a number"),
        (404, MAP, {"symbol": BTC, "time": day(1)}, f"has states from {day(1)}T"),
        (422, MAP, {"symbol": BTC, "start_time": day(1)}, "allowed are symbol, model, time"),
        (422, "/liquidations/levels", {"symbol": BTC, "time": day(1)}, "allowed are symbol, model"),
        (422, KLINES, {"symbol": BTC, "limit": 9}, "limit = '9'"),
        (422, KLINES, {"symbol": BTC, "limit": 1501}, "allowed is less than or equal to 1500"),
        (422, KLINES, {"symbol": BTC, "interval": "1m"}, "finer than the stored candles of 5m"),
        (422, KLINES, {"symbol": BTC, "start_time": day(3), "end_time": day(2)}, "start_time is not before end_time"),
        (404, KLINES, {"symbol": BTC, "start_time": day(6)}, "has candles from"),
        (404, KLINES, {"symbol": ETH, "start_time": day(3), "end_time": day(4)}, "no candle from"),
        (422, "/symbols", {"a": 1}, "'a' is no parameter here; there are none"),
        (422, "/markets", {"a": 1}, "there are none"),
        (422, "/health", {"a": 1}, "allowed are always_ok"),
        (422, "/cache/stats", {"a": 1}, "there are none"),
        (404, "/nothing", {}, "there is nothing at '/nothing'; /docs lists what there is"),
        (404, "/symbols/", {}, "there is nothing at"),
        (404, "/%00%ff", {}, "there is nothing at"),
        (414, "/symbols", {"a": "b" * 5000}, "longer than 4096 bytes"),
    ],
)  # fmt: skip
def test_refusals(served: TestClient, status: int, path: str, query: dict[str, Any], said: str) -> None:
    text = refused(served, status, path, **query)
    assert said in text
    assert text.isascii()
    assert len(text) < 400


def test_too_large_an_answer_is_refused_with_what_to_change(
    served: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heatmap_pipeline.views.window.MAX_INTERVALS", 100)
    text = refused(served, 413, symbol=BTC, interval="5m", start_time=day(3))
    assert "864 intervals, more than 100; ask for a longer interval" in text
    monkeypatch.setattr("heatmap_pipeline.api.heatmap.MAX_LEVELS", {"nested": 1000, "columns": 10})
    assert "levels, more than 1000; ask for" in refused(served, 413, symbol=BTC, interval="4h", start_time=day(2))
    assert "more than 10;" in refused(
        served, 413, symbol=BTC, interval="1d", start_time=day(4), format="columns", max_rows=1999
    )


def test_bins_are_the_smallest_round_ones_that_fit(served: TestClient) -> None:
    for most in (2000, 300, 60, 10):
        body = ask(served, format="columns", interval="4h", max_rows=most)
        size, times = body["meta"]["price_bin_size"], list(zip(range(30), round_multiples()))  # noqa: B905
        assert len(body["prices"]) <= most
        assert size / 100 in [multiple for _, multiple in times]
        smaller = [multiple * 100 for _, multiple in times if multiple * 100 < size]
        if smaller:
            span = body["meta"]["price_range"]["max"] - body["meta"]["price_range"]["min"]
            assert span / smaller[-1] > most - 2
    whole = ask(served, format="columns", interval="4h", max_rows=10)
    assert sum(whole["long"]["volume"]) == pytest.approx(
        sum(ask(served, format="columns", interval="4h")["long"]["volume"]), rel=1e-9
    )


def test_a_bin_size_that_yields_too_many_rows_names_the_smallest_allowed() -> None:
    from heatmap_pipeline.views.errors import ViewError

    assert choose_bins(0, 10**13, 100.0, None, 2000) == 10**10
    with pytest.raises(
        ViewError, match=r"yields 100001 rows, more than 2000; the smallest allowed here is 50\.01$"
    ) as error:
        choose_bins(0, 10**13, 0.01, 10**8, 2000)
    assert error.value.kind == "invalid"
    assert choose_bins(0, 10**9, 0.001, 600_000, 2000) == 600_000


@hypothesis_settings(deadline=None)
@given(st.floats(min_value=1e-8, max_value=1e7), st.sampled_from([1e-8, 0.0002, 0.05, 5.0, 100.0]))
def test_a_bin_size_is_a_multiple_or_the_refusal_names_one(size: float, bucket: float) -> None:
    from heatmap_pipeline.views.errors import ViewError

    try:
        units = bin_units(size, bucket, "USDC")
    except ViewError as error:
        nearest = str(error).rsplit("ask for ", 1)[1].split(" or ")
        units = bin_units(float(nearest[-1]), bucket, "USDC")
        assert units is not None
        return
    assert units is not None
    assert units % round(bucket * 1e8) == 0
    assert units == pytest.approx(size * 1e8, rel=1e-5)


@hypothesis_settings(deadline=None)
@given(st.integers(-(10**17), 10**17), st.integers(-(10**17), 10**17), st.sampled_from([300, 900, 3600, 14400, 86400]))
def test_any_window_is_inside_the_data_or_refused(start: int, end: int, seconds: int) -> None:
    from heatmap_pipeline.views.errors import ViewError

    begin, stop = 1_704_240_900_000_000, 1_704_672_000_000_000
    try:
        window = make_window("X", begin, stop, seconds, start, end)
    except ViewError as error:
        refusal: str = error.kind
    else:
        refusal = ""
    assert refusal in ("", "not_found", "too_large", "invalid")
    if refusal:
        return
    step = seconds * 1_000_000
    assert window.first % step == window.last % step == 0
    assert begin - step < window.first < window.last < stop + step
    assert window.first <= max(start, begin)
    assert window.last >= min(end, stop)


@examples(200)
@given(st.one_of(st.text(max_size=40), st.text(alphabet=string.digits + "-:TZ+. ", max_size=40)))
def test_any_text_is_a_moment_or_a_refusal(text: str) -> None:
    refusal = ""
    try:
        assert isinstance(read_moment(text), int)
    except ValueError as error:
        refusal = str(error)
    assert not refusal or "ISO 8601" in refusal


@examples(200)
@given(st.one_of(st.text(max_size=40), st.text(alphabet="0123456789.:,e-", max_size=40)))
def test_any_text_is_weights_or_a_refusal(text: str) -> None:
    try:
        found = read_weights(text)
    except ValueError:
        return
    assert found is not None
    assert sum(weight for _, weight in found) == pytest.approx(1.0)
    assert [leverage for leverage, _ in found] == sorted(leverage for leverage, _ in found)
