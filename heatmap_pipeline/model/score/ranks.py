"""Agreement of two series by rank, and how sure it is: Spearman, partial Spearman, resamples of whole days.

The values come from scipy; the resamples from ranks by weight, where an hour drawn twice counts as two hours with equal
values. That is exactly what repeating its rows would give (the tests do that), without sorting a thousand times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heatmap_pipeline.compiled import compiled
from heatmap_pipeline.instants import DAY
from heatmap_pipeline.model.book import Floats, Ints

ELEMENTS = 1 << 16
"""Resamples are computed in parts of about this many numbers per array: that fits the processor's cache, and years of
hours fit in memory."""
_FLAT = 1e-12
"""A variance left by the controls below this share of what it was is rounding: nothing is left to correlate."""


def spearman(x: Floats, y: Floats) -> float:
    """Return Spearman's rank correlation: Pearson's of the average ranks.

    Undefined, hence nan, for fewer than three pairs or where either series is constant.

    Args:
        x: shape (n,), finite.
        y: shape (n,), finite.

    Example:
        >>> round(spearman(np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 30.0, 20.0, 40.0])), 9)
        0.8
    """
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    from scipy.stats import spearmanr  # noqa: PLC0415  # loads slowly, and few runs have anything to score

    return float(spearmanr(x, y).statistic)


def partial_spearman(x: Floats, y: Floats, controls: Sequence[Floats]) -> float:
    """Return the rank correlation of two series once the controls are known.

    All series are replaced by their average ranks; the ranks of x and of y are regressed, by least squares with a
    constant, on those of the controls; the result is Pearson's correlation of the two residuals.

    Undefined, hence nan, for fewer pairs than controls + 3, or where the controls leave nothing of x or of y.

    Args:
        x: shape (n,), finite.
        y: shape (n,), finite.
        controls: arrays of shape (n,), finite.
    """
    if len(x) < len(controls) + 3:
        return float("nan")
    from scipy.stats import rankdata  # noqa: PLC0415  # as above

    known = np.column_stack([np.ones(len(x)), *(rankdata(control) for control in controls)])
    ranks = np.column_stack([rankdata(x), rankdata(y)])
    left = ranks - known @ np.linalg.lstsq(known, ranks, rcond=None)[0]
    variance = (left**2).sum(axis=0)
    if (variance <= _FLAT * ((ranks - ranks.mean(axis=0)) ** 2).sum(axis=0)).any():
        return float("nan")
    return float(left[:, 0] @ left[:, 1] / np.sqrt(variance.prod()))


@dataclass(frozen=True)
class DayResamples:
    """Days drawn with replacement.

    Attributes:
        day: shape (n,), for each hour the number of its day, from 0.
        counts: shape (resamples, days), how often each day was drawn; each row adds up to the number of days.
    """

    day: Ints
    counts: Floats

    def each(self, statistic: Callable[[Floats], Floats]) -> Floats:
        """Return a statistic of every resample, shape (..., resamples).

        Args:
            statistic: takes weights of shape (r, n), how often each hour counts, and returns r values, last axis.
        """
        rows = max(1, ELEMENTS // max(1, len(self.day)))
        parts = [self.counts[first : first + rows] for first in range(0, len(self.counts), rows)]
        return np.concatenate([statistic(part[:, self.day]) for part in parts], axis=-1)


def resample_days(start: Ints, resamples: int, seed: int) -> DayResamples:
    """Draw whole UTC days with replacement, as many as there are.

    Whole days, because hours of a day are alike: drawn one by one they would look more certain than they are. The same
    hours and seed give the same draws, which pairs what is compared.

    Args:
        start: starts of the hours, microseconds since 1970 UTC, shape (n,), n > 0.
        resamples: how many draws.
        seed: of numpy's default generator.
    """
    days, day = np.unique(start // DAY, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(days), np.full(len(days), 1 / len(days)), size=resamples)
    return DayResamples(day.astype(np.int64), draws.astype(np.float64))


def resampled_spearman(series: Sequence[Floats], y: Floats, draws: DayResamples) -> Floats:
    """Return `spearman` of each series and y in every resample, shape (series, resamples); nan where undefined.

    Series given together see the same draws, so their rows can be subtracted.
    """
    count = len(series)
    with_itself, with_y = [(row, row) for row in range(count + 1)], [(row, count) for row in range(count)]
    products = _rank_products([*series, y], [*with_itself, *with_y], draws)
    spread, product = products[: count + 1], products[count + 1 :]
    variance = spread[:count] * spread[count]
    flat = variance <= 0
    return np.where(flat, np.nan, product / np.sqrt(np.where(flat, 1.0, variance)))


def resampled_partial(x: Floats, y: Floats, controls: Sequence[Floats], draws: DayResamples) -> Floats:
    """Return `partial_spearman` of every resample, shape (resamples,); nan where undefined.

    With C the covariance of the ranks, split into the two series (s) and the controls (c), the covariance of the
    residuals is C_ss - C_sc C_cc^+ C_cs.
    """
    series = [x, y, *controls]
    first, second = np.triu_indices(len(series))
    products = _rank_products(series, list(zip(first.tolist(), second.tolist(), strict=True)), draws)
    covariance = np.empty((products.shape[1], len(series), len(series)))
    covariance[:, first, second] = covariance[:, second, first] = products.T
    whole, across, among = covariance[:, :2, :2], covariance[:, :2, 2:], covariance[:, 2:, 2:]
    left = whole - across @ np.linalg.pinv(among, hermitian=True) @ across.transpose(0, 2, 1)
    variance = np.diagonal(left, axis1=1, axis2=2)
    flat = (variance <= _FLAT * np.diagonal(whole, axis1=1, axis2=2)).any(axis=1)
    product = np.where(flat, 1.0, variance.prod(axis=1))
    return np.where(flat, np.nan, left[:, 0, 1] / np.sqrt(product))


def interval(values: Floats) -> tuple[float, float]:
    """Return the middle 95 % of resampled values (percentiles 2.5 and 97.5).

    Resamples where the statistic is undefined are left out; if that is more than one in ten, the interval is nan.
    """
    known = values[np.isfinite(values)]
    if len(known) == 0 or len(known) < 0.9 * len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def _rank_products(series: Sequence[Floats], pairs: Sequence[tuple[int, int]], draws: DayResamples) -> Floats:
    """Return sums over the hours of products of centred ranks, by pair of series, in every resample.

    Args:
        series: arrays of shape (n,).
        pairs: numbers of the two series of each product.
        draws: of the days.

    Returns:
        shape (pairs, resamples).
    """
    order = np.stack([np.argsort(x, kind="stable") for x in series])
    ordered = np.take_along_axis(np.stack(series), order, axis=1)
    ends = np.append(ordered[:, 1:] != ordered[:, :-1], np.ones((len(series), 1), dtype=np.bool_), axis=1)
    products: Floats = _products(order, ends, draws.day, draws.counts, np.array(pairs, dtype=np.int64))
    return products


@compiled
def _products(order: Ints, ends: Any, day: Ints, counts: Floats, pairs: Ints) -> Floats:
    """Compute `_rank_products`: `order` sorts each series, `ends` tells the last of equal values in that order."""
    series, n = order.shape
    sums = np.zeros((len(pairs), len(counts)))
    weight, rank = np.empty(n), np.empty((series, n))
    for draw in range(len(counts)):
        for hour in range(n):
            weight[hour] = counts[draw, day[hour]]
        for row in range(series):
            below, begin = 0.0, 0
            for place in range(n):
                if ends[row, place]:  # equal values share their middle rank
                    equal = 0.0
                    for at in range(begin, place + 1):
                        equal += weight[order[row, at]]
                    for at in range(begin, place + 1):
                        rank[row, order[row, at]] = below + equal / 2
                    below, begin = below + equal, place + 1
            for hour in range(n):
                rank[row, hour] -= below / 2
        for pair in range(len(pairs)):
            left, right, total = pairs[pair, 0], pairs[pair, 1], 0.0
            for hour in range(n):
                total += weight[hour] * rank[left, hour] * rank[right, hour]
            sums[pair, draw] = total
    return sums
