"""The simple rules that a map has to beat: a number per hour and side from what anybody knows without a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from heatmap_pipeline.model.book import Floats
from heatmap_pipeline.model.score.hours import HOUR, ScoreHours

Horizon = Literal["nowcast", "at_start"]
HORIZONS: tuple[Horizon, ...] = ("nowcast", "at_start")
"""Nowcast: all lots liquidated in the hour. At start: only those that stood in the map when the hour began."""

VOLUME_ONLY = "volume-only map"


def _reported_before(hours: ScoreHours) -> Floats:
    start = hours.market.start
    known = np.where(hours.recorded, hours.reported, np.nan)
    before = np.full_like(known, np.nan)
    follows = np.flatnonzero(np.diff(start) == HOUR) + 1
    before[:, follows] = known[:, follows - 1]
    return before


RULES: dict[str, Callable[[ScoreHours], Floats]] = {
    "move x volume": lambda hours: hours.market.move * hours.market.volume,
    "move": lambda hours: hours.market.move,
    "new extreme x volume": lambda hours: hours.market.extreme * hours.market.volume,
    "new extreme": lambda hours: hours.market.extreme,
    "reported the hour before": _reported_before,
}
"""Each gives shape (2, n), nan where the hour lacks what the rule needs. Move: `HourlyMarket.move`, the way from the
hour's open to its low for longs, to its high for shorts; extreme: `HourlyMarket.extreme`. Rules without volume know the
path of price only, as a map at the hour's start does; the others are nowcasts."""


def predicted(hours: ScoreHours, horizon: Horizon) -> Floats:
    """Return the model's series of a horizon, shape (2, n), contracts."""
    return hours.predicted if horizon == "nowcast" else hours.predicted_at_start


def baseline_series(hours: ScoreHours, horizon: Horizon) -> dict[str, Floats]:
    """Return every baseline by name, shape (2, n) each; the volume-only map, if there is one, at that horizon."""
    series = {name: rule(hours) for name, rule in RULES.items()}
    volume_only = hours.volume_only if horizon == "nowcast" else hours.volume_only_at_start
    return series if volume_only is None else {**series, VOLUME_ONLY: volume_only}
