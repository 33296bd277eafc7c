"""The lots of a moment and modelled liquidations as the endpoint says them, against SQL on what is published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline_tests.api.homes import BTC, ETH, MAP, TestClient, ask, day, refused, rows

LOTS = "/liquidations/lots"
CLOSE: dict[str, Any] = {"rel": 1e-9, "abs": 2e-4}

_LOTS_OF_A_DAY = """
SELECT side::TEXT, floor(liq_price / $1) * $1 AS price, leverage, sum(volume), epoch_ms(min(opened_at))
FROM open_positions WHERE symbol = $2 AND model = $3 AND day = $4 GROUP BY ALL ORDER BY ALL
"""
_DEATHS = """
WITH deaths AS (
    SELECT e.side::TEXT AS side, epoch_ms(time_bucket(to_seconds($1), e.timestamp)) AS time, e.*,
        greatest(least(e.liq_price, c.high), c.low) AS place
    FROM position_events AS e JOIN raw_candles AS c ON c.symbol = e.symbol AND c.open_time = e.timestamp
    WHERE e.symbol = $2 AND e.model = $3 AND e.event_type = 'liquidate'
)
SELECT side, time, sum(volume * place) / sum(volume), sum(volume), count(*), min(entry_price), max(entry_price)
FROM deaths GROUP BY side, time ORDER BY time
"""


def lot_rows(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return side, price, leverage, volume and oldest opening of every row."""
    return [
        (side, *row)
        for side in ("long", "short")
        for row in zip(*(body[side][name] for name in ("price", "leverage", "volume", "opened_at")), strict=True)
    ]


@pytest.mark.parametrize("model", ["turnover", "delta"])
def test_lots_at_the_end_of_a_day_are_the_open_positions(published: Settings, served: TestClient, model: str) -> None:
    body = ask(served, LOTS, model=model, time=day(4), price_bin_size=500)
    assert (body["time"], body["price_bin_size"]) == (f"{day(4)}T00:00:00Z", 500)
    stored = rows(published, _LOTS_OF_A_DAY, 500, BTC, model, day(3))
    found = sorted(lot_rows(body))
    assert len(stored) > 40
    assert [(*row[:3], row[4]) for row in found] == [(*row[:3], row[4]) for row in stored]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in stored], **CLOSE)


@pytest.mark.parametrize("time", [f"{day(3)}T10:20", f"{day(3)}T10:24:59", f"{day(1)}T08:05", None])
def test_lots_within_a_day_add_up_to_the_map(served: TestClient, time: str | None) -> None:
    query: dict[str, Any] = {"price_bin_size": 500, **({} if time is None else {"time": time})}
    body, whole = ask(served, LOTS, **query), ask(served, MAP, **query)
    same = ["time", "price", "clusters", "nearest", "as_of", "simulated", "provisional", "tiers", "units"]
    assert {name: body[name] for name in same} == {name: whole[name] for name in same}
    sums: dict[tuple[str, float], float] = {}
    for side, price, _, volume, _ in lot_rows(body):
        sums[side, price] = sums.get((side, price), 0.0) + volume
    expected = {
        (side, bucket["price"]): bucket[side]
        for bucket in whole["buckets"]
        for side in ("long", "short")
        if bucket[side]
    }
    assert len(expected) > 20
    assert sums == pytest.approx(expected, rel=1e-9, abs=1e-3)


def test_lots_of_some_tiers_are_those_of_all(served: TestClient) -> None:
    query: dict[str, Any] = {"time": f"{day(3)}T10:20", "price_bin_size": 500}
    whole, part = ask(served, LOTS, **query), ask(served, LOTS, leverage_tiers="25,100", **query)
    assert part["leverage_tiers"] == [25, 100]
    assert lot_rows(part) == [row for row in lot_rows(whole) if row[2] in (25, 100)]


def test_what_there_is_not_is_refused(served: TestClient) -> None:
    assert "earlier" in refused(served, 404, LOTS, symbol=BTC, time="2020-01-01")
    assert "bucket" in refused(served, 422, LOTS, symbol=BTC, price_bin_size=150)
    assert "within_percent" in refused(served, 422, LOTS, symbol=BTC, within_percent=5)


@pytest.mark.parametrize(
    ("symbol", "model", "interval"), [(BTC, "turnover", "15m"), (BTC, "delta", "4h"), (ETH, "turnover", "1d")]
)
def test_modelled_liquidations_are_the_events(
    published: Settings, served: TestClient, symbol: str, model: str, interval: str
) -> None:
    body = ask(served, symbol=symbol, model=model, interval=interval, format="columns", start_time=day(1))
    seconds = body["meta"]["interval_seconds"]
    stored = rows(published, _DEATHS, seconds, symbol, model)
    assert len(stored) > 5
    stamps = np.array(body["timestamps"])
    names = ["price", "volume", "lots", "entry_low", "entry_high"]
    for side in ("long", "short"):
        sums = body["modelled"][side]
        wanted = [row[1:] for row in stored if row[0] == side]
        assert stamps[sums["time"]].tolist() == [row[0] for row in wanted]
        for number, name in enumerate(names, start=1):
            assert sums[name] == pytest.approx([row[number] for row in wanted], **CLOSE), name
        assert sum(sums["volume"]) == pytest.approx(sum(body[f"consumed_{side}"]["volume"]), rel=1e-6)
    near = ask(
        served, symbol=symbol, model=model, interval=interval, format="columns", start_time=day(1), leverage_tiers="100"
    )
    assert 0 < sum(near["modelled"]["long"]["lots"]) < sum(body["modelled"]["long"]["lots"])
