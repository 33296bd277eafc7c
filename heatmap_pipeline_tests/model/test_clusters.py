"""Clusters, the nearest of them and max pain: on books small enough to work out by hand, and on any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatmap_pipeline.model.clusters import LARGEST, clusters, landmarks

Numbers = list[float]


def of(volumes: Numbers, first: float = 100.0, size: float = 10.0, price: float = 100.0) -> list[tuple[float, float]]:
    """Return price and volume of every cluster of shorts."""
    return [(one.price, one.volume) for one in clusters(first, size, np.array(volumes), price, "short")]


def test_a_lone_bin_is_a_cluster_at_its_middle() -> None:
    assert of([0, 0, 8, 0]) == [(125.0, 8.0)]
    assert of([8]) == [(105.0, 8.0)]


def test_adjacent_bins_above_three_quarters_of_the_largest_are_one() -> None:
    assert of([8, 7, 0, 0]) == [((8 * 105 + 7 * 115) / 15, 15.0)]
    assert of([7, 8, 6.5, 1]) == [((7 * 105 + 8 * 115 + 6.5 * 125) / 21.5, 21.5)]
    # Exactly three quarters do not exceed it: it stays apart, and beside a larger neighbour it is no maximum.
    assert of([8, 6, 0, 0]) == [(105.0, 8.0)]


def test_smaller_ones_are_clusters_where_they_are_local_maxima() -> None:
    assert of([100, 0, 1, 3, 2, 0, 9]) == [(105.0, 100.0), (135.0, 3.0), (165.0, 9.0)]
    assert of([100, 0, 3, 3, 0]) == [(105.0, 100.0), (125.0, 3.0)], "of equal neighbours the lower price"


def test_an_empty_book_has_nothing() -> None:
    for volumes in ([], [0.0, 0.0]):
        found = landmarks(100.0, 10.0, np.array(volumes), np.array(volumes), 105.0)
        assert (found.above, found.below, found.nearest_above, found.max_pain_below) == ((), (), None, None)


def test_largest_and_nearest() -> None:
    short = np.array([0, 0, 0, 9, 0, 100, 0, 50, 0, 20, 0, 30, 0, 40, 0, 10, 0])
    found = landmarks(100.0, 10.0, np.zeros(17), short, 120.0)
    assert [one.volume for one in found.above] == [100, 50, 40, 30, 20]
    assert len(found.above) == LARGEST
    assert found.nearest_above is not None
    assert found.nearest_above.volume == 100, "9 is nearer, but less than a tenth of the largest"
    assert found.nearest_above.distance_percent == pytest.approx((155 / 120 - 1) * 100)
    assert (found.below, found.nearest_below) == ((), None)
    long = short[::-1].copy()
    mirrored = landmarks(100.0, 10.0, long, np.zeros(17), 300.0)
    assert [one.side for one in mirrored.below] == ["long"] * 5
    assert mirrored.nearest_below is not None
    assert (mirrored.nearest_below.price, mirrored.nearest_below.volume) == (215.0, 100)
    exactly = short.copy()
    exactly[3] = 10
    at_a_tenth = landmarks(100.0, 10.0, np.zeros(17), exactly, 120.0).nearest_above
    assert at_a_tenth is not None
    assert at_a_tenth.volume == 10


def test_max_pain_is_the_move_that_hits_most_per_percent() -> None:
    # Price 100. Up: edges 110 (10 %): 5, 120: 5 + 20 = 25 (1.25 a percent), 130: 30 (1.0 a percent).
    long, short = np.array([6.0, 2.0, 0, 0, 0, 0]), np.array([0, 0, 0, 5.0, 20.0, 5.0])
    found = landmarks(70.0, 10.0, long, short, 100.0)
    assert found.max_pain_above is not None
    assert (found.max_pain_above.price, found.max_pain_above.volume) == (120.0, 25.0)
    assert found.max_pain_above.distance_percent == pytest.approx(20)
    assert found.max_pain_above.volume_per_percent == pytest.approx(1.25)
    # Down: 80 (20 %): 2, 70 (30 %): 8.
    assert found.max_pain_below is not None
    assert (found.max_pain_below.price, found.max_pain_below.volume) == (70.0, 8.0)
    assert found.max_pain_below.distance_percent == pytest.approx(-30)


def test_a_bin_next_to_the_price_does_not_win_by_nearness_alone() -> None:
    short = np.array([1.0, 0, 0, 0, 40.0])
    found = landmarks(99.0, 1.0, np.zeros(5), short, 99.999).max_pain_above
    assert found is not None
    assert (found.price, found.volume) == (104.0, 41.0), "1 USDT at a thousandth of a percent is not most"


volumes = st.lists(st.one_of(st.just(0.0), st.floats(min_value=1e-3, max_value=1e9)), min_size=1, max_size=60)


@settings(deadline=None)
@given(volumes, volumes, st.floats(min_value=50, max_value=700))
def test_landmarks_of_any_book(some: Numbers, others: Numbers, price: float) -> None:
    bins = min(len(some), len(others))
    long, short = np.array(some[:bins]), np.array(others[:bins])
    found = landmarks(50.0, 10.0, long, short, price)
    for listed, nearest, volume, side in (
        (found.above, found.nearest_above, short, "short"),
        (found.below, found.nearest_below, long, "long"),
    ):
        assert bool(listed) == bool(volume.max() > 0) == (nearest is not None)
        assert sum(one.volume for one in listed) <= volume.sum() * (1 + 1e-9)
        assert all(one.side == side and 50 <= one.price <= 50 + 10 * bins + 1e-9 for one in listed)
        if listed:
            assert nearest is not None
            assert listed[0].volume >= volume.max() * (1 - 1e-12)
            assert nearest.volume >= 0.1 * listed[0].volume
            assert all(abs(nearest.distance_percent) <= abs(one.distance_percent) for one in listed[:1])
    if found.max_pain_above is not None:
        assert found.max_pain_above.price > price
        assert found.max_pain_above.volume <= short.sum() * (1 + 1e-9)
    else:
        edges = 50.0 + 10.0 * np.arange(1, bins + 1)
        assert not (np.cumsum(short)[edges > price] > 0).any()
