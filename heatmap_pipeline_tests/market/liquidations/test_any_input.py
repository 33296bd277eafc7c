"""Whatever comes, it is read or refused with a sentence: files, answers and messages that nobody planned."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from heatmap_pipeline.market.liquidations import bitget, gate
from heatmap_pipeline.market.liquidations.plain import COLUMNS, PlainFolder
from heatmap_pipeline.market.liquidations.streams import Message, read_binance, read_bybit
from heatmap_pipeline.market.liquidations.tables import Liquidations
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.market.liquidations._rest_servers import bitget_row, gate_order
from heatmap_pipeline_tests.market.liquidations._stream_server import bybit, force_order, row

NOW = 1_775_174_400_000

odd: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["Buy", "sell", "1e9", "-1", "NaN", "0", "60000.5", "2024-07-04T10:00:00Z", "1720087200000"])
    | st.just([])
    | st.just({})
)


@st.composite
def spoiled(draw: st.DrawFn, whole: Any) -> Any:
    """Return a JSON value with some of its parts replaced or left out."""
    if draw(st.integers(0, 9)) == 0:
        return draw(odd)
    if isinstance(whole, dict):
        return {name: draw(spoiled(part)) for name, part in whole.items() if draw(st.integers(0, 14))}
    if isinstance(whole, list):
        return [draw(spoiled(part)) for part in whole if draw(st.integers(0, 14))]
    return whole


@examples(150)
@given(st.data())
@pytest.mark.parametrize(
    ("read", "whole"),
    [
        (read_bybit, {**bybit(row(NOW), row(NOW, "Sell")), "ts": NOW}),
        (read_bybit, {"success": True, "ret_msg": "", "op": "subscribe"}),
        (read_binance, force_order(NOW)),
        (read_binance, {"error": {"code": 2, "msg": "no"}, "id": 1}),
        (read_binance, {"stream": "btcusdt@forceOrder", "data": force_order(NOW)}),
    ],
)
def test_any_message(read: Callable[[bytes, str], Message], whole: Any, data: st.DataObject) -> None:
    try:
        message = read(json.dumps(data.draw(spoiled(whole))).encode(), "BTCUSDT")
    except ValueError:
        return
    for event in message.events:
        assert float(event.price) >= 0
        assert float(event.quantity) >= 0
        assert event.side.lower() in ("buy", "sell")


@examples(100)
@given(st.binary(max_size=60))
def test_any_bytes_as_a_message(data: bytes) -> None:
    for read in (read_bybit, read_binance):
        try:
            assert not read(data, "BTCUSDT").events
        except ValueError:
            continue


GATE_SUMS = [
    {"time": NOW // 1000 + at, "long_liq_size": "1", "short_liq_size": 2, "long_liq_usd": 6, "short_liq_usd": "12"}
    for at in (0, 300)
]


@examples(150)
@given(st.data())
@pytest.mark.parametrize(
    ("parse", "whole"),
    [
        (lambda answer: gate._parse_sums(answer, "gate"), GATE_SUMS),
        (lambda answer: gate._parse_orders(answer, "gate"), [gate_order(NOW // 1000), gate_order(NOW // 1000, -5)]),
        (
            lambda answer: bitget._parse(answer, "BTCUSDT", "bitget"),
            {"code": "00000", "data": {"list": [bitget_row(NOW / 1000)] * 2, "cursor": "7"}},
        ),
    ],
)
def test_any_answer(parse: Callable[[Any], Any], whole: Any, data: st.DataObject) -> None:
    answer = data.draw(spoiled(whole))
    assert "\n" not in _refused(lambda: parse(answer))


fields = st.sampled_from(
    ["2024-07-04T10:00:00Z", "2024-07-04", "1720087200", "99999999999999999", "long", "SHORT", "Buy", "1.5", "-1", "",
     "nan", "inf", "1e400", "binance", "bybit", "3600", "0", "true", "BTCUSDT", "\N{SNOWMAN}", '"', "a\x00b"]
)  # fmt: skip


@examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.lists(st.sampled_from([*COLUMNS, "timestamp", "source", "day"]), min_size=3, max_size=8, unique=True),
    rows=st.lists(st.lists(fields, min_size=8, max_size=8), max_size=4),
    cut=st.integers(0, 400),
    packed=st.booleans(),
)
def test_any_plain_file(tmp_path: Path, header: list[str], rows: list[list[str]], cut: int, packed: bool) -> None:
    text = "\n".join(",".join(cells[: len(header)]) for cells in [header, *rows]).encode()[: cut or None]
    for path in tmp_path.iterdir():
        path.unlink()
    path = tmp_path / f"BTCUSDT.csv{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text)[: cut or None] if packed else text)
    made: list[Liquidations] = []
    words = _refused(lambda: made.extend(PlainFolder(tmp_path).read("BTCUSDT")))
    assert "\n" not in words
    assert not words or path.name in words
    for part in made:
        _is_clean(part)


@examples(100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    side=st.lists(st.sampled_from(["long", "short"]), min_size=1, max_size=5),
    step=st.sampled_from([0, 60, 3600]),
    data=st.data(),
)
def test_any_right_file_keeps_what_it_says(tmp_path: Path, side: list[str], step: int, data: st.DataObject) -> None:
    rows = [(data.draw(st.integers(0, 20)) * (step or 1), word, data.draw(st.integers(1, 3))) for word in side]
    rows = list({(at, word): (at, word, quantity) for at, word, quantity in rows}.values())
    lines = [f"{1_720_087_200 + at},{word},{'' if step else 60000},{quantity},{step}" for at, word, quantity in rows]
    (tmp_path / "BTCUSDT.csv").write_text("\n".join(["time,side,price,quantity,resolution_seconds", *lines]))
    [made] = PlainFolder(tmp_path).read("BTCUSDT")
    _is_clean(made)
    assert made.table["quantity"].sum() == sum(quantity for _, _, quantity in rows)
    assert (made.table.groupby("side")["quantity"].sum().to_dict()) == {
        word: sum(quantity for _, other, quantity in rows if other == word) for word in {word for _, word, _ in rows}
    }


def _refused(read: Callable[[], object]) -> str:
    """Return the sentence with which something is refused, "" if it is not; any other exception is a failure."""
    try:
        read()
    except MarketError as error:
        return str(error)
    return ""


def _is_clean(made: Liquidations) -> None:
    table = made.table
    assert table["timestamp"].is_monotonic_increasing
    assert table["side"].isin(["long", "short"]).all()
    assert (table["quantity"] > 0).all()
    assert (np.isnan(table["volume"]) | (table["volume"] >= 0)).all()
    assert (made.recorded[:, 1] > made.recorded[:, 0]).all()
