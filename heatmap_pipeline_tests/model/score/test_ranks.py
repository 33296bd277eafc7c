"""Ranks and their resamples, held against definitions written out another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatmap_pipeline.instants import DAY
from heatmap_pipeline.model.book import Floats, Ints
from heatmap_pipeline.model.score import ranks
from heatmap_pipeline.model.score.hours import HOUR
from heatmap_pipeline.model.score.ranks import (
    DayResamples,
    interval,
    partial_spearman,
    resample_days,
    resampled_partial,
    resampled_spearman,
    spearman,
)


def _hours(days: int, each: int = 24) -> Ints:
    day, hour = np.divmod(np.arange(days * each), each)
    return (day * 24 + hour) * HOUR


@st.composite
def _series(draw: st.DrawFn) -> tuple[Floats, Ints]:
    """Four series with many ties over days of uneven length, and the start of each hour."""
    start = _hours(6)[np.array(draw(st.lists(st.booleans(), min_size=144, max_size=144)))]
    few = draw(st.integers(1, 30))
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(0, few + 1, size=(5, len(start))).astype(float), start


def test_spearman_by_hand() -> None:
    # Ranks 1, 2.5, 2.5, 4 and 2, 1, 3, 4; deviations (-1.5, 0, 0, 1.5) and (-.5, -1.5, .5, 1.5): 3 / sqrt(4.5 * 5).
    value = spearman(np.array([0.0, 7.0, 7.0, 9.0]), np.array([20.0, 10.0, 30.0, 1e9]))
    assert value == pytest.approx(3 / np.sqrt(22.5), abs=1e-12)


def test_partial_with_one_control_is_the_known_formula() -> None:
    x, y, z = np.random.default_rng(3).normal(size=(3, 200)) + np.random.default_rng(4).normal(size=200)
    xy, xz, yz = spearman(x, y), spearman(x, z), spearman(y, z)
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert partial_spearman(x, y, [z]) == pytest.approx(expected, abs=1e-12)
    assert abs(expected) < 0.7 * xy  # z is behind much of it, or this would show nothing


def test_as_few_pairs_as_are_needed_are_enough() -> None:
    three = np.array([1.0, 2.0, 3.0])
    assert spearman(three, np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5, abs=1e-12)
    assert spearman(three / 1e9, three) == pytest.approx(1.0, abs=1e-12), "however little they vary"
    # Ranks 1, 2, 3, 4 and 1, 3, 2, 4 once 2, 1, 4, 3 is known: correlations 0.8, 0.6 and 0.
    x, y, control = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0]), np.array([2.0, 1.0, 4.0, 3.0])
    assert partial_spearman(x, y, [control]) == pytest.approx(0.8 / np.sqrt(1 - 0.6**2), abs=1e-12)
    assert np.isnan(partial_spearman(x[:3], y[:3], [control[:3]]))


def test_what_is_undefined_is_nan() -> None:
    rising, flat = np.arange(10.0), np.ones(10)
    assert np.isnan(spearman(rising[:2], rising[:2]))
    assert np.isnan(spearman(rising, flat))
    assert np.isnan(spearman(flat, rising))
    other = np.random.default_rng(1).random(10)
    assert np.isnan(partial_spearman(rising, other, [np.exp(rising)]))
    assert np.isnan(partial_spearman(rising[:4], other[:4], [other[:4], rising[:4]]))
    draws = resample_days(_hours(5, 2), 20, 1)
    assert np.isnan(resampled_spearman([flat], rising, draws)).all()
    assert np.isnan(resampled_partial(rising, other, [rising**3], draws)).all()


@settings(deadline=None)  # the first case compiles
@given(_series())
def test_resamples_are_what_repeated_rows_give(case: tuple[Floats, Ints]) -> None:
    (x, y, other, first, second), start = case
    if len(start) == 0:
        return
    draws = resample_days(start, 5, 7)
    assert (draws.counts.sum(axis=1) == draws.counts.shape[1]).all()
    agreement = resampled_spearman([x, other], y, draws)
    partial = resampled_partial(x, y, [first, second], draws)
    for row, counts in enumerate(draws.counts):
        times = counts[draws.day].astype(int)
        again = [np.repeat(column, times) for column in (x, y, other, first, second)]
        assert agreement[0, row] == pytest.approx(spearman(again[0], again[1]), abs=1e-9, nan_ok=True)
        assert agreement[1, row] == pytest.approx(spearman(again[2], again[1]), abs=1e-9, nan_ok=True)
        if len(again[0]) > 20:  # few rows can leave a residual that is all rounding; one says nan, the other may not
            expected = partial_spearman(again[0], again[1], again[3:])
            assert partial[row] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_parts_of_resamples_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    start = _hours(10)
    x, y, z = np.random.default_rng(5).random((3, len(start)))
    draws = resample_days(start, 30, 2)
    whole = resampled_spearman([x, z], y, draws), resampled_partial(x, y, [z], draws)
    monkeypatch.setattr(ranks, "ELEMENTS", 7 * len(start))
    parts = resampled_spearman([x, z], y, draws), resampled_partial(x, y, [z], draws)
    assert parts[0].shape == (2, 30)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_only_order_counts() -> None:
    start = _hours(20)
    x, y, z = np.random.default_rng(6).lognormal(size=(3, len(start)))
    y = y + x
    draws = resample_days(start, 50, 3)
    assert spearman(np.log(x), y**3) == pytest.approx(spearman(x, y), abs=1e-12)
    assert partial_spearman(np.log(x), y**3, [1e6 * z]) == pytest.approx(partial_spearman(x, y, [z]), abs=1e-12)
    np.testing.assert_allclose(resampled_spearman([x], y, draws), resampled_spearman([np.log(x)], y**3, draws))
    # Days in another order: the same values; the draws differ, the interval hardly.
    order = np.random.default_rng(7).permutation(20)
    moved = np.concatenate([np.flatnonzero(start // DAY == day) for day in order])
    assert spearman(x[moved], y[moved]) == pytest.approx(spearman(x, y), abs=1e-12)
    many = resample_days(start, 2000, 3)
    assert interval(resampled_spearman([x[moved]], y[moved], many)) == pytest.approx(
        interval(resampled_spearman([x], y, many)), abs=0.02
    )


def test_draws_are_whole_days_and_repeat_by_seed() -> None:
    start = np.delete(_hours(9), [0, 30, 31, 60])
    draws = resample_days(start, 40, 11)
    np.testing.assert_array_equal(draws.day, start // DAY)
    np.testing.assert_array_equal(draws.counts, resample_days(start, 40, 11).counts)
    assert (draws.counts != resample_days(start, 40, 12).counts).any()
    assert draws.counts.mean() == 1


def _coverage(day_of_hour: Ints, repeats: int) -> float:
    """Return how often the interval of a difference of two equally good series holds 0; days have moods."""
    generator = np.random.default_rng(2024)
    start, hits = _hours(30, 8), 0
    draws = resample_days(day_of_hour, 200, 5)
    for _ in range(repeats):
        moods = generator.normal(size=(3, 30)).repeat(8, axis=1)
        y, first, second = generator.normal(size=(3, len(start))) + 1.5 * moods
        resampled = resampled_spearman([first + y, second + y], y, draws)
        low, high = interval(resampled[0] - resampled[1])
        hits += low <= 0 <= high
    return hits / repeats


def test_interval_of_a_null_difference_holds_zero_about_95_times_in_100() -> None:
    assert 0.89 <= _coverage(_hours(30, 8), 250) <= 0.99


def test_drawing_hours_instead_of_days_would_look_too_sure() -> None:
    hour_by_hour = np.arange(240) * DAY
    assert _coverage(hour_by_hour, 250) < 0.85


def test_interval_leaves_out_a_tenth_at_most() -> None:
    values = np.arange(100.0)
    assert interval(values) == pytest.approx((2.475, 96.525))
    values[:10] = np.nan
    assert np.isfinite(interval(values)).all()
    values[10] = np.nan
    assert np.isnan(interval(values)).all()
    assert np.isnan(interval(np.empty(0))).all()


def test_each_gives_weights_by_hour() -> None:
    draws = DayResamples(np.array([0, 0, 1]), np.array([[2.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(draws.each(lambda weights: weights @ np.array([1.0, 10.0, 100.0])), [22.0, 111.0])
