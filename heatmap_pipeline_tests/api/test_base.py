"""A base over HTTP: the sum of what its markets answer alone and of what SQL says, with who is missing named."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter

from heatmap_pipeline.api import schemas
from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api.homes import BTC, HEATMAP, MAP, TestClient, ask, client, refused, rows

USDC, BYBIT = "BTCUSDC", "BYBIT_BTCUSDT"
BASE = "BTC"
LOTS, KLINES = "/liquidations/lots", "/prices/klines"
PAGE = Path(__file__).parents[2] / "docs" / "api.md"
VOLUMES = ("long", "short", "consumed_long", "consumed_short")
ALL = {"start_time": "2024-01-03", "end_time": "2024-01-05"}
NIGHT = {"start_time": "2024-01-03T22:00Z", "end_time": "2024-01-04T02:00Z", "interval": "5m", "format": "columns"}
"""At midnight one market ends and another begins."""


@pytest.fixture(scope="module")
def served(several: Settings) -> Iterator[TestClient]:
    with client(several) as one:
        yield one


@pytest.fixture(scope="module")
def columns(served: TestClient) -> Any:
    return ask(served, HEATMAP, BASE, **NIGHT)


Cells = dict[tuple[int, float], Decimal]


def cells_of(body: Any, name: str, volumes: list[float | None] | None = None) -> Cells:
    """Return the volumes of an answer, or others in their places, by instant and price."""
    cells = body[name]
    return {
        (body["timestamps"][time], body["prices"][row]): Decimal(repr(volume))
        for time, row, volume in zip(cells["time"], cells["price"], volumes or cells["volume"], strict=True)
        if volume
    }


def test_every_cell_is_the_sum_of_what_the_markets_answer_alone(served: TestClient, columns: Any) -> None:
    size = columns["meta"]["price_bin_size"]
    for name in VOLUMES:
        whole: Cells = {}
        for market in columns["by_market"]:
            one = ask(served, HEATMAP, market["symbol"], price_bin_size=size, **NIGHT)
            own = cells_of(one, name)
            assert cells_of(columns, name, market[name]) == own
            for cell, volume in own.items():
                whole[cell] = whole.get(cell, Decimal(0)) + volume
        assert cells_of(columns, name) == whole
        assert len(whole) > 20


def test_every_cell_is_what_sql_says(several: Settings, columns: Any) -> None:
    """Unrounded there, and so within the rounding of three markets."""
    query = (
        "SELECT epoch_ms(timestamp), price_bucket, sum(active_volume) AS volume FROM heatmap_by_base "
        "WHERE base = 'BTC' AND side = ? AND timestamp >= '2024-01-03 22:00' AND timestamp < '2024-01-04 02:00' "
        "GROUP BY ALL HAVING volume > 0"
    )
    for side in ("long", "short"):
        stored = {(time, price): volume for time, price, volume in rows(several, query, side)}
        answered = {cell: float(volume) for cell, volume in cells_of(columns, side).items()}
        assert len(stored) > 1000
        for cell in stored.keys() | answered.keys():
            assert abs(stored.get(cell, 0.0) - answered.get(cell, 0.0)) <= 2e-4, cell
    exchanges = rows(several, "SELECT DISTINCT exchange, symbol FROM heatmap_by_base ORDER BY ALL")
    assert exchanges == [("binance", USDC), ("binance", BTC), ("bybit", BYBIT)]


def test_who_is_missing_is_null_and_named(served: TestClient) -> None:
    columns = ask(served, HEATMAP, BASE, format="columns", interval="1h", **ALL)
    meta = columns["meta"]
    usdc, usdt, bybit = meta["parts"]
    assert [part["symbol"] for part in meta["parts"]] == [USDC, BTC, BYBIT]
    assert [part["without_candles"] for part in meta["parts"]] == [[[0, 24]], [], [[24, 48]]]
    assert (bybit["missing"], bybit["late"], bybit["late_seconds"]) == (True, True, 86_400)
    assert (bybit["share"], bybit["long_volume"], bybit["as_of"]) == (None, None, "2024-01-04T00:00:00Z")
    assert (bybit["market"], bybit["exchange"], bybit["bucket"], meta["bucket"]) == ("bybit:BTCUSDT", "bybit", 50, 100)
    assert (usdc["missing"], usdt["missing"], meta["markets_present"], meta["markets"]) == (False, False, 2, 3)
    assert (meta["candles_of"], meta["units"]["volume"], usdc["quote"]) == (BTC, "USD", "USDC")
    assert usdc["share"] + usdt["share"] == pytest.approx(1)
    for name in VOLUMES:
        for time, *volumes in zip(
            columns[name]["time"], *(market[name] for market in columns["by_market"]), strict=True
        ):
            assert [volume is None for volume in volumes] == [time < 24, False, time >= 24]
    snapshots = ask(served, HEATMAP, BASE, interval="4h", **ALL)["data"]
    assert [snapshot["missing"] for snapshot in snapshots] == [[USDC]] * 6 + [[BYBIT]] * 6


def test_both_formats_and_the_map_say_the_same(served: TestClient) -> None:
    query = {"interval": "1h", "price_bin_size": 500, **ALL}
    flat, nested = (ask(served, HEATMAP, BASE, format=form, **query) for form in ("columns", "nested"))
    own = {name: value for name, value in flat["meta"].items() if name in nested["meta"]}
    assert own == nested["meta"]
    last = {level["price"]: level for level in nested["data"][-1]["levels"]}
    found = ask(served, MAP, BASE, price_bin_size=500)
    assert {bucket["price"] for bucket in found["buckets"]} == set(last)
    for bucket in found["buckets"]:
        for side in ("long", "short"):
            parts = [Decimal(repr(part[side])) for part in bucket["parts"].values()]
            assert Decimal(repr(bucket[side])) == sum(parts)
            assert abs(bucket[side] - last[bucket["price"]][f"{side}_density"]) <= 3e-4
    assert found["total_long_volume"] == nested["meta"]["total_long_volume"]
    assert found["located_share"] == pytest.approx(nested["meta"]["located_share"])
    assert set(found["buckets"][0]["parts"]) <= {USDC, BTC}
    for zone in (*found["clusters"]["above"], *found["clusters"]["below"]):
        assert sum(zone["parts"].values()) == pytest.approx(zone["volume"], abs=1e-3)
        assert set(zone["parts"]) == {USDC, BTC}


def test_one_alone_and_any_order_of_some(served: TestClient) -> None:
    some = served.get(MAP, params={"symbols": f"bybit:BTCUSDT, {BTC}", "time": "2024-01-03T12:00Z"})
    other = served.get(MAP, params={"symbols": f"{BTC},{BYBIT}", "time": "2024-01-03T12:00Z"})
    assert (some.content, some.headers["etag"]) == (other.content, other.headers["etag"])
    assert (some.json()["markets_present"], some.json()["units"]["volume"]) == (2, "USDT")
    one = ask(served, MAP, None, symbols=BTC)
    alone = ask(served, MAP, BTC)
    for name in ("price", "total_long_volume", "total_short_volume", "located_share", "as_of"):
        assert one[name] == alone[name], name
    cells = [
        [(bucket["price"], bucket["long"], bucket["short"]) for bucket in each["buckets"]] for each in (one, alone)
    ]
    assert cells[0] == cells[1]
    assert [{**zone, "parts": 0} for zone in one["clusters"]["above"]] == [
        {**zone, "parts": 0} for zone in alone["clusters"]["above"]
    ]


def test_candles_and_lots_of_a_base(served: TestClient) -> None:
    found, own = ask(served, KLINES, BASE, limit=20), ask(served, KLINES, BTC, limit=20)
    assert found["data"] == own["data"]
    assert (found["meta"]["symbol"], found["meta"]["candles_of"]) == (BASE, BTC)
    lots = ask(served, LOTS, BASE, price_bin_size=1000)
    whole = ask(served, MAP, BASE, price_bin_size=1000)
    for side in ("long", "short"):
        assert sum(lots[side]["volume"]) == pytest.approx(whole[f"total_{side}_volume"])
    assert lots["clusters"] == whole["clusters"]


def test_leverage_tiers_and_weights_go_to_every_market(served: TestClient) -> None:
    near, rest = (ask(served, MAP, BASE, price_bin_size=100, leverage_tiers=tiers) for tiers in ("near", "3,5,10,20"))
    whole = ask(served, MAP, BASE, price_bin_size=100)
    assert near["leverage_tiers"] == [25, 50, 75, 100, 125]
    assert near["total_long_volume"] + rest["total_long_volume"] == pytest.approx(whole["total_long_volume"])
    other = ask(served, HEATMAP, BASE, interval="1d", leverage_weights="10:1", price_bin_size=1000)
    assert (other["meta"]["leverage_weights"], other["meta"]["tiers"]) == ([[10, 1]], [10])


def test_what_there_is_lists_the_bases(served: TestClient) -> None:
    assert ask(served, "/symbols", None)["bases"] == [
        {"base": BASE, "markets": [USDC, BTC, BYBIT], "exchanges": ["binance", "bybit"]}
    ]


@pytest.mark.parametrize(
    ("status", "query", "words"),
    [
        (422, {}, "symbol is missing; allowed parameters are symbol, model, time"),
        (422, {"symbol": BASE, "symbols": BTC}, "symbol and symbols are both given; give one of them"),
        (422, {"symbols": f"{BTC},{BTC}"}, "BTCUSDT is named twice"),
        (422, {"symbols": ",".join(f"A{n}USDT" for n in range(17))}, "17 markets are more than 16"),
        (422, {"symbols": "btcusdt"}, "do you mean BTCUSDT?"),
        (422, {"symbol": BASE, "price_bin_size": 150}, "no multiple of the bucket, 100 USD; ask for 100 or 200"),
        (422, {"symbol": BASE, "leverage_tiers": "7"}, "no market of BTC has a tier 7; there are 3, 5,"),
        (404, {"symbols": f"{BTC},ETHUSDT"}, "symbol ETHUSDT is not published; there are BTCUSDC, BTCUSDT, BYBIT_"),
        (404, {"symbol": "S"}, "symbol S is not published; there are BTCUSDC"),
        (404, {"symbol": BASE, "model": "delta"}, "model delta of BTCUSDC is not published; there are turnover"),
        (
            404,
            {"symbol": BASE, "time": "2024-01-01"},
            "BTC turnover has states from 2024-01-03T00:10:00Z to 2024-01-05",
        ),
    ],
)
def test_what_cannot_be_added_up_is_refused_in_words(
    served: TestClient, status: int, query: dict[str, Any], words: str
) -> None:
    assert words in refused(served, status, MAP, **query)


def test_what_is_of_one_market_says_so(served: TestClient) -> None:
    assert refused(served, 404, "/score", symbol=BASE) == (
        "symbol BTC is a base, and this is of one market: BTCUSDC, BTCUSDT, BYBIT_BTCUSDT"
    )


def test_the_schema_describes_the_bodies(served: TestClient) -> None:
    bodies: dict[tuple[str, str], type[BaseModel]] = {
        (HEATMAP, f"symbol={BASE}&interval=4h"): schemas.BaseNested,
        (HEATMAP, f"symbol={BASE}&interval=4h&format=columns&start_time=2024-01-03"): schemas.BaseColumns,
        (MAP, f"symbol={BASE}"): schemas.BaseLiquidationMap,
        (LOTS, f"symbols={BTC},{BYBIT}"): schemas.BaseLotsAtMoment,
        (KLINES, f"symbol={BASE}"): schemas.BaseKlines,
    }
    for (path, query), shape in bodies.items():
        body = served.get(f"{path}?{query}").json()
        TypeAdapter(shape).validate_python(body, strict=False)
        assert set(body) - set(shape.model_fields) == set(), "a field that the schema does not name"
        says: Any = shape.model_fields["meta"].annotation if "meta" in body else shape
        said = body.get("meta", body)
        assert set(said) == set(says.model_fields)
        part: Any = says.model_fields["parts"].annotation
        assert all(set(each) == set(part.__args__[0].model_fields) for each in said["parts"])


def test_the_examples_of_the_page_have_the_shape_of_the_answers(served: TestClient) -> None:
    section = PAGE.read_text().partition("## A base")[2].partition("\n## ")[0]
    said, cells, listed = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.DOTALL))
    answer = ask(served, HEATMAP, None, symbols=f"{BTC},{BYBIT}", format="columns", interval="1h", **ALL)
    assert {**said, "parts": None} == {**{name: answer["meta"][name] for name in said}, "parts": None}
    for shown, part in zip(said["parts"], answer["meta"]["parts"], strict=True):
        assert shown.keys() == part.keys()
        same = ("symbol", "market", "exchange", "as_of", "late_seconds", "late", "missing", "without_candles", "bucket")
        assert {name: shown[name] for name in same} == {name: part[name] for name in same}
    assert cells.keys() <= answer.keys()
    assert [market.keys() <= answer["by_market"][0].keys() for market in cells["by_market"]] == [True, True]
    whole = [Decimal(repr(volume)) for volume in cells["long"]["volume"]]
    parts = zip(*(market["long"] for market in cells["by_market"]), strict=True)
    assert whole == [sum(Decimal(repr(volume)) for volume in row if volume is not None) for row in parts]
    assert listed.keys() <= ask(served, "/symbols", None).keys()
