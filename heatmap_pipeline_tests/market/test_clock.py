"""The labels' clock is measured where the prices tell it, and follows the published convention elsewhere."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest

from heatmap_pipeline.market.clock import Clock, measure_clock
from heatmap_pipeline_tests.market._files import at

BEFORE, AFTER = date(2026, 6, 24), date(2026, 6, 25)
N = 288
OPEN = 100.0 + 10 * np.sin(np.arange(N + 1) / 3)
"""Prices at the grid; a candle closes where the next opens."""


def clock(
    seconds: list[int],
    price: list[float],
    *,
    day: date = BEFORE,
    step: int = 300,
    closes: float = 0.0,
    present: int = N,
) -> Clock:
    opened = np.array([at(300 * i, day) for i in range(present)], dtype=np.int64)
    label = np.array([at(second, day) for second in seconds], dtype=np.int64)
    return measure_clock(
        label,
        np.array(price),
        opened,
        OPEN[:present],
        OPEN[1 : present + 1] + closes,
        interval=300,
        step=step,
        day=day,
    )


@pytest.mark.parametrize("day", [BEFORE, AFTER])
@pytest.mark.parametrize("offset", [0, 1])
def test_prices_decide_against_any_convention(day: date, offset: int) -> None:
    measured = clock([300 * i for i in range(200)], [OPEN[i + offset] + 0.1 for i in range(200)], day=day)
    assert (measured.rule, measured.offset, measured.samples) == ("measured", 300 * offset, 200)
    differences: list[Any] = [measured.at_label, measured.step_later]
    assert differences[offset] == pytest.approx(0.1)
    assert differences[1 - offset] > 1


def test_hourly_labels_are_compared_an_hour_apart() -> None:
    hours = range(24)
    measured = clock([3600 * i for i in hours], [OPEN[12 * i + 12] for i in hours], step=3600)
    assert (measured.rule, measured.offset, measured.samples) == ("measured", 3600, 24)


@pytest.mark.parametrize(("day", "offset"), [(BEFORE, 0), (AFTER, 300)])
@pytest.mark.parametrize("known", [0, 11])
def test_too_few_samples_follow_the_convention(day: date, offset: int, known: int) -> None:
    price = [OPEN[i + 1] if i < known else np.nan for i in range(200)]
    convention = clock([300 * i for i in range(200)], price, day=day)
    assert (convention.rule, convention.offset, convention.samples) == ("convention", offset, known)
    assert (convention.at_label is None) == (known == 0)


def test_twelve_samples_are_enough() -> None:
    assert clock([300 * i for i in range(12)], [OPEN[i + 1] for i in range(12)]).rule == "measured"


@pytest.mark.parametrize(("ratio", "rule"), [(0.69, "measured"), (0.71, "convention")])
def test_the_smaller_difference_must_be_clearly_smaller(ratio: float, rule: str) -> None:
    rising = 100.0 + np.arange(N + 1, dtype=np.float64)
    opened = np.array([at(300 * i, AFTER) for i in range(N)], dtype=np.int64)
    price = rising[:100] + ratio / (1 + ratio)  # stands between its two instants
    found = measure_clock(opened[:100], price, opened, rising[:-1], rising[1:], interval=300, step=300, day=AFTER)
    assert (found.rule, found.offset) == (rule, 0 if rule == "measured" else 300)


def test_a_price_that_never_moves_decides_nothing() -> None:
    opened = np.array([at(300 * i, AFTER) for i in range(N)], dtype=np.int64)
    flat = np.full(N, 100.0)
    found = measure_clock(opened[:50], flat[:50], opened, flat, flat, interval=300, step=300, day=AFTER)
    assert (found.rule, found.offset) == ("convention", 300)
    assert found.at_label == found.step_later == 0


def test_the_path_prefers_the_open_of_the_candle_starting_there() -> None:
    found = clock([300 * i for i in range(200)], [OPEN[i] for i in range(200)], closes=50.0)
    assert (found.rule, found.offset, found.at_label) == ("measured", 0, 0.0)


def test_the_path_ends_with_the_close_of_the_last_candle() -> None:
    seconds, price = [300 * i for i in range(N)], [OPEN[i] for i in range(N)]
    assert clock(seconds, price).samples == N  # the last label's other instant is the day's end
    assert clock(seconds, price, present=100).samples == 100
    assert clock([86400], [OPEN[N]]).samples == 0
    assert clock([], []).samples == 0
    assert clock(seconds, price, present=0).rule == "convention"


def test_facts_are_plain_json() -> None:
    assert Clock("convention", 300, 3, 1.5, None).to_facts() == {
        "rule": "convention",
        "offset_seconds": 300,
        "samples": 3,
        "mean_difference_at_label": 1.5,
        "mean_difference_step_later": None,
    }
