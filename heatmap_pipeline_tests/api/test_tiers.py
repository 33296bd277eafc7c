"""Some leverage tiers only: answers against SQL on the lots and events of these tiers, names for them, and refusals.

That the engine shows exactly these lots is held against the step-by-step model in model/test_shown_tiers.py.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api.homes import BTC, ETH, HEATMAP, MAP, TestClient, ask, day, refused, rows
from heatmap_pipeline_tests.api.test_numbers import CLOSE, column_cells

TIERS = {"turnover": [3, 5, 10, 20, 25, 50, 75, 100, 125], "delta": [5, 10, 25, 50, 100]}
NEAR = {name: [one for one in tiers if one >= 25] for name, tiers in TIERS.items()}
LEVELS = "/liquidations/levels"


@pytest.mark.parametrize("model", ["turnover", "delta"])
@pytest.mark.parametrize("tiers", [[25], [10, 100], "near"])
def test_the_newest_map_is_of_the_stored_lots_of_these_tiers(
    published: Settings, served: TestClient, model: str, tiers: Any
) -> None:
    wanted = NEAR[model] if tiers == "near" else tiers
    body = ask(served, MAP, model=model, leverage_tiers=tiers if tiers == "near" else ",".join(map(str, tiers)))
    stored = rows(
        published,
        "SELECT floor(liq_price / 100) * 100 AS price, coalesce(sum(volume) FILTER (side = 'long'), 0), "
        "coalesce(sum(volume) FILTER (side = 'short'), 0) FROM open_positions "
        "WHERE symbol = ? AND model = ? AND day = ? AND list_contains(?, leverage) GROUP BY price ORDER BY price",
        BTC, model, day(5), [float(one) for one in wanted],
    )  # fmt: skip
    answered = [(one["price"], one["long"], one["short"]) for one in body["buckets"]]
    assert len(answered) == len(stored) > 10
    for one, other in zip(answered, stored, strict=True):
        assert one == pytest.approx(other, **CLOSE)
    assert (body["tiers"], body["leverage_tiers"]) == (TIERS[model], wanted)
    volumes = {one["price"]: one["long"] + one["short"] for one in body["buckets"]}
    for where in ("above", "below"):
        for cluster in body["clusters"][where]:
            assert cluster["volume"] <= sum(volumes.values()) * (1 + 1e-9), "clusters are of what is shown"


@pytest.mark.parametrize("model", ["turnover", "delta"])
def test_the_heatmap_of_each_tier_adds_up_and_counts_its_own_events(
    published: Settings, served: TestClient, model: str
) -> None:
    query: dict[str, Any] = {
        "model": model,
        "interval": "1h",
        "start_time": day(3),
        "end_time": day(4),
        "price_bin_size": 100,
    }
    whole = ask(served, format="columns", **query)
    sums: dict[str, dict[Any, float]] = defaultdict(lambda: defaultdict(float))
    for tier in TIERS[model]:
        one = ask(served, format="columns", leverage_tiers=tier, **query)
        for name in ("long", "short", "consumed_long", "consumed_short"):
            for cell, volume in column_cells(one, name).items():
                sums[name][cell] += volume
        assert (one["meta"]["leverage_tiers"], one["meta"]["tiers"]) == ([tier], TIERS[model])
        assert one["meta"]["located_share"] == whole["meta"]["located_share"], "of the book, whatever is shown"
    slack = 1e-4 * len(TIERS[model])  # volumes are rounded to 0.0001
    for name, cells in sums.items():
        assert cells == pytest.approx(column_cells(whole, name), rel=1e-9, abs=slack)
    assert whole["meta"]["leverage_tiers"] is None

    counted = rows(
        published,
        "SELECT strftime(date_trunc('hour', timestamp), '%Y-%m-%dT%H:%M:%SZ') AS hour, "
        "count(*) FILTER (event_type = 'open'), count(*) FILTER (event_type = 'liquidate'), "
        "coalesce(sum(volume) FILTER (event_type = 'liquidate'), 0) FROM position_events "
        "WHERE symbol = ? AND model = ? AND leverage IN (50, 100) AND CAST(timestamp AS DATE) = ? "
        "GROUP BY hour ORDER BY hour",
        BTC, model, day(3),
    )  # fmt: skip
    nested = ask(served, leverage_tiers="50,100", **query)["data"]
    by_hour = {hour: (opened, died, volume) for hour, opened, died, volume in counted}
    assert sum(died for _, died, _ in by_hour.values()) > 10
    for one in nested:
        opened, died, volume = by_hour.get(one["timestamp"], (0, 0, 0.0))
        assert (one["positions_created"], one["positions_consumed"]) == (opened, died)
        assert one["consumed_long"] + one["consumed_short"] == pytest.approx(volume, **CLOSE)


def test_equal_choices_are_one_answer_and_others_are_others(served: TestClient) -> None:
    def tag(path: str, **query: Any) -> str:
        answer = served.get(path, params={"symbol": BTC, **query})
        assert answer.status_code == 200, answer.text
        return str(answer.headers["etag"])

    for path in (HEATMAP, MAP, LEVELS):
        plain, near = tag(path), tag(path, leverage_tiers="near")
        assert plain != near
        assert near == tag(path, leverage_tiers="125,100, 75,50,25")
        assert plain == tag(path, leverage_tiers="all") == tag(path, leverage_tiers="3,5,10,20,25,50,75,100,125.0")
        assert near != tag(path, leverage_tiers="25,50,75,100")
    assert (
        served.get(HEATMAP, params={"symbol": BTC}).content
        == served.get(HEATMAP, params={"symbol": BTC, "leverage_tiers": "all"}).content
    )


def test_tiers_of_other_weights_are_those_weights(served: TestClient) -> None:
    weights = "7:1,33:2"
    parts = [ask(served, MAP, leverage_weights=weights, leverage_tiers=tier) for tier in (7, 33)]
    whole = ask(served, MAP, leverage_weights=weights)
    assert whole["tiers"] == [7, 33]
    for total in ("total_long_volume", "total_short_volume"):
        assert sum(one[total] for one in parts) == pytest.approx(whole[total], **CLOSE)
        assert all(one[total] > 0 for one in parts)
    near = ask(served, MAP, leverage_weights=weights, leverage_tiers="near")
    assert near == parts[1]


def test_the_deprecated_levels_know_the_tiers_too(served: TestClient) -> None:
    query = {"symbol": BTC, "leverage_tiers": "near"}
    levels = served.get(LEVELS, params=query).json()["levels"]
    buckets = ask(served, MAP, leverage_tiers="near")["buckets"]
    assert {(one["price"], one["side"]): one["volume"] for one in levels} == {
        (one["price"], side): one[side] for one in buckets for side in ("long", "short") if one[side] > 0
    }


def test_a_history_that_begins_anew_knows_its_tiers(served: TestClient) -> None:
    near = ask(served, symbol=ETH, interval="4h", start_time=day(1), leverage_tiers="near")
    whole = ask(served, symbol=ETH, interval="4h", start_time=day(1))
    assert len(near["data"]) == len(whole["data"])
    assert 0 < near["meta"]["total_consumed"] < whole["meta"]["total_consumed"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (
            {"leverage_tiers": "7"},
            f"leverage_tiers: {BTC} turnover has no tier 7; there are 3, 5, 10, 20, 25, 50, 75, ",
        ),
        ({"leverage_tiers": "25,30,50", "model": "delta"}, "delta has no tier 30; there are 5, 10, 25, 50, 100"),
        ({"leverage_tiers": "near", "leverage_weights": "5:1"}, "no tier near (25 and up); there are 5"),
        (
            {"leverage_tiers": "far"},
            "leverage_tiers = 'far': 'far' is no leverage; write for example 25,50,100, or all",
        ),
        ({"leverage_tiers": ""}, "'' is no leverage"),
        ({"leverage_tiers": "25,25"}, "leverage 25 is named twice"),
        ({"leverage_tiers": "25:1"}, "'25:1' is no leverage"),
        ({"leverage_tiers": "1_0"}, "'1_0' is no leverage"),
        ({"leverage_tiers": "1"}, "leverage '1' is not above 1 and at most 1000"),
        ({"leverage_tiers": "nan"}, "leverage 'nan' is not above 1"),
        ({"leverage_tiers": ",".join(map(str, range(2, 40)))}, "38 leverages are more than 32"),
        ({"leverage_tiers": ["25", "50"]}, "parameter 'leverage_tiers' is given more than once"),
    ],
)
def test_what_cannot_be_asked_is_refused(served: TestClient, query: dict[str, Any], said: str) -> None:
    for path in (HEATMAP, MAP):
        assert said in refused(served, 422, path, symbol=BTC, **query)


def test_the_schema_says_what_is_allowed(served: TestClient) -> None:
    schema = served.get("/openapi.json").json()
    for path in (HEATMAP, MAP, LEVELS):
        (one,) = [one for one in schema["paths"][path]["get"]["parameters"] if one["name"] == "leverage_tiers"]
        assert "near" in one["description"]
        for text in ("near", "all", "25", "25,50,100", "12.5"):
            assert re.fullmatch(one["schema"]["pattern"], text)
        for text in ("", "far", "25,", "0", "25:1", "1e2"):
            assert not re.fullmatch(one["schema"]["pattern"], text)
