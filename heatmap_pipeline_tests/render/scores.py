"""Answers of /score for tests of the page, their rows computed by the score itself from made-up hours."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np

from heatmap_pipeline.instants import day_of, iso
from heatmap_pipeline.model.score.hours import HOUR, HourlyMarket, ScoreHours
from heatmap_pipeline.model.score.table import score

START = 1_717_200_000_000_000
"""2024-06-01 00:00."""


def hours(days: int, seed: int = 1) -> ScoreHours:
    """Hours of a market whose liquidations follow move and volume, and of a map that knows somewhat more."""
    random = np.random.default_rng(seed)
    count = 24 * days
    opened = np.full(count, 60_000.0)
    falls, rises = (opened * random.lognormal(-6, 1, count) for _ in range(2))
    volume = random.lognormal(7, 1, count)
    size = np.stack([falls, rises]) * volume / 1e6
    truth = size * random.lognormal(0, 0.8, (2, count))
    reported = np.where(random.random((2, count)) < 0.05, 0.0, truth)
    market = HourlyMarket(
        START + np.arange(count) * HOUR,
        opened,
        opened + rises,
        opened - falls,
        volume,
        np.stack([falls, rises]) / opened,
    )
    predicted = 2 * truth * random.lognormal(0, 0.4, (2, count))
    return ScoreHours(
        market,
        predicted,
        predicted * random.lognormal(-0.5, 0.9, (2, count)),
        reported,
        np.ones(count, dtype=np.bool_),
        volume_only=predicted * random.lognormal(0, 0.05, (2, count)),
    )


def _row(**values: Any) -> dict[str, Any]:
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


@cache
def rows(days: int, *, own: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Rows by window, with a lift, which needs a map, put beside what is computed."""
    windows: dict[str, list[dict[str, Any]]] = {"28d": [], "all": []}
    for one in score(hours(days), own_exchange=own, resamples=40):
        values = asdict(one)
        windows[values.pop("window")].append(_row(**values))
    for table in windows.values():
        spearman = next((row for row in table if row["measure"] == "spearman"), None)
        if spearman is None:
            continue
        for side in ("long", "short"):
            lift = {**spearman, "side": side, "horizon": "at_start", "measure": "lift", "baseline": ""}
            table.append({**lift, "value": 1.42, "low": 1.21, "high": 1.66})
            table.append({**lift, "baseline": "shuffled", "value": 0.98, "low": 0.9, "high": 1.04})
    return windows


def scored(
    symbol: str = "BTCUSDT",
    model: str = "turnover",
    days: int = 40,
    exchange: str = "binance",
    *,
    complete: bool = False,
) -> dict[str, Any]:
    """The answer for a symbol that is scored, or that lacks hours for it."""
    own = exchange == "binance"
    made = hours(days)
    windows = rows(days, own=own)
    enough = any(row["horizon"] for row in windows["all"])
    first, last = day_of(START).isoformat(), day_of(int(made.market.start[-1])).isoformat()
    trailing = slice(-28 * 24, None)
    return {
        "symbol": symbol,
        "model": model,
        "scored": enough,
        "words": f"held against the liquidations of {exchange}" if enough else "not enough yet: 57 of 200 hours",
        "source": {"name": f"{exchange}_stream", "exchange": exchange, "own_exchange": own, "complete": complete},
        "windows": windows,
        "days": {"28d": [first, last], "all": [first, last]},
        "hours": {
            "hour": [iso(int(start)) for start in np.repeat(made.market.start[trailing], 2)],
            "side": ["long", "short"] * len(made.market.start[trailing]),
            "predicted": made.predicted[:, trailing].T.ravel().tolist(),
            "reported": made.reported[:, trailing].T.ravel().tolist(),
        },
        "reference": reference(),
        "as_of": iso(int(made.market.start[-1]) + HOUR),
        "simulated": False,
    }


def not_scored(symbol: str, model: str, *, simulated: bool = False) -> dict[str, Any]:
    """The answer for a symbol without a record."""
    return {
        "symbol": symbol,
        "model": model,
        "scored": False,
        "words": f"{symbol} is {'simulated' if simulated else 'not scored'} here",
        "source": None,
        "windows": {"28d": [], "all": []},
        "days": {},
        "hours": {"hour": [], "side": [], "predicted": [], "reported": []},
        "reference": reference(),
        "as_of": "2024-07-11T00:00:00Z",
        "simulated": simulated,
    }


def reference() -> dict[str, Any]:
    """Stands for the published score, of two symbols."""
    days = ["2024-06-24", "2024-07-28"]
    scores = [
        {"symbol": name, "model": "turnover", "scored": True, "windows": rows(35), "days": {"all": days}}
        for name in ("BTCUSDT", "ETHUSDT")
    ]
    return {"symbols": ["BTCUSDT", "ETHUSDT"], "days": days, "scores": scores}
