"""Answers of /score for tests of the page, their rows computed by the score itself from made-up hours."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from heatmap_pipeline.instants import day_of, iso
from heatmap_pipeline.model.score.hours import HOUR, HourlyMarket, ScoreHours
from heatmap_pipeline.model.score.table import ScoreRow, score
from heatmap_pipeline.views.score import reference_score, score_body, words_why_not

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


@cache
def rows(days: int, *, own: bool = True) -> list[ScoreRow]:
    """Rows of a score, with a lift, which needs a map, put beside what is computed."""
    made = score(hours(days), own_exchange=own, resamples=40)
    lifts = []
    for row in made:
        if (row.measure, row.horizon, row.baseline) == ("spearman", "at_start", ""):
            lift = replace(row, measure="lift", value=1.42, low=1.21, high=1.66)
            lifts += [lift, replace(lift, baseline="shuffled", value=0.98, low=0.9, high=1.04)]
    return made + lifts


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
    start = made.market.start
    span = [day_of(START).isoformat(), day_of(int(start[-1])).isoformat()]
    parameters = {
        "exchange": exchange,
        "own_exchange": own,
        "complete": complete,
        "windows": {"28d": span, "all": span},
        "as_of": iso(int(start[-1]) + HOUR),
    }
    trailing = slice(-28 * 24, None)
    return {
        **score_body(symbol, model, f"{exchange}_stream", rows(days, own=own), parameters),
        "hours": {
            "hour": [iso(int(hour)) for hour in np.repeat(start[trailing], 2)],
            "side": ["long", "short"] * len(start[trailing]),
            "predicted": made.predicted[:, trailing].T.ravel().tolist(),
            "reported": made.reported[:, trailing].T.ravel().tolist(),
        },
        "reference": reference_score(),
    }


def not_scored(symbol: str, model: str, *, simulated: bool = False) -> dict[str, Any]:
    """The answer for a symbol without a record."""
    return {
        "symbol": symbol,
        "model": model,
        "scored": False,
        "words": words_why_not(
            symbol, model, "simulated" if simulated else "no record", "heatmap score", "heatmap run"
        ),
        "source": None,
        "windows": {"28d": [], "all": []},
        "days": {},
        "hours": {"hour": [], "side": [], "predicted": [], "reported": []},
        "reference": reference_score(),
        "as_of": "2024-07-11T00:00:00Z",
        "simulated": simulated,
    }
