"""Made-up hours for the tests of the score: a market, and liquidations that follow a rule that the test plants."""

from __future__ import annotations

import numpy as np

from heatmap_pipeline.model.book import Floats
from heatmap_pipeline.model.score.hours import HOUR, HourlyMarket, ScoreHours, hourly_market


def make_market(days: int, seed: int = 1, interval: int = 900) -> HourlyMarket:
    """Return hours of a random walk near 100 that is calm on some days and wild on others."""
    generator = np.random.default_rng(seed)
    each = 86_400 // interval
    mood = np.exp(generator.normal(0, 0.5, days)).repeat(each)
    step = generator.normal(0, 0.002, days * each) * mood
    close = 100 * np.exp(np.cumsum(step - step.mean()))
    opened = np.append(100.0, close[:-1])
    return hourly_market(
        np.arange(days * each) * interval * 1_000_000,
        open=opened,
        high=np.maximum(opened, close) * (1 + generator.random(len(close)) * 0.001 * mood),
        low=np.minimum(opened, close) * (1 - generator.random(len(close)) * 0.001 * mood),
        volume=generator.lognormal(3, 0.5, len(close)) * mood,
        interval=interval,
    )


def make_hours(days: int = 30, seed: int = 1, skill: float = 1.0) -> ScoreHours:
    """Return recorded hours where a hidden size, times move x volume, is liquidated; a map knows a share of it.

    With `skill` 0 the prediction is move x volume with noise, with 1 it is what is reported, with little noise.
    """
    market = make_market(days, seed)
    generator = np.random.default_rng(seed + 1)
    base: Floats = market.move * market.volume
    hidden, noise = generator.lognormal(0, 1, base.shape), generator.lognormal(0, 0.3, base.shape)
    reported = base * hidden * (generator.random(base.shape) < 0.9)
    predicted = 2 * base * hidden**skill * noise
    known = np.ones(len(market.start), dtype=np.bool_)
    return ScoreHours(market, predicted, predicted * generator.random(base.shape), reported, known)


def day(number: int) -> int:
    """Return the instant at which a day of the made-up market begins."""
    return number * 24 * HOUR
