"""Zones, since when they stand, and the deprecated max pain: on books small enough to work out by hand, and on any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatmap_pipeline.model import zones as module
from heatmap_pipeline.model.book import LONG, SHORT, Lots
from heatmap_pipeline.model.zones import (
    FLOOR,
    LARGEST,
    LEAST_SHARE,
    SMOOTHED,
    Zone,
    Zones,
    find_zones,
    landmarks,
    max_pain,
    standing_since,
)

Numbers = list[float]


def zones_of(
    volumes: Numbers, *, first: float = 1000, size: float = 1, price: float = 1000, side: int = SHORT
) -> Zones:
    """Return the zones of one side of a book that begins at `first`; at a price of 1000, 2.5 are smoothed over."""
    filled = np.flatnonzero(np.array(volumes) > 0)
    return find_zones(
        np.zeros(len(filled), dtype=np.int64),
        (round(first * 1e8) + filled * round(size * 1e8)).astype(np.int64),
        np.full(len(filled), side, dtype=np.int8),
        np.array(volumes, dtype=np.float64)[filled],
        np.array([float(price)]),
        round(size * 1e8),
    )


def stretches(volumes: Numbers, **more: float) -> list[tuple[float, float, float, float]]:
    """Return low, high, peak and volume of each zone."""
    found = zones_of(volumes, **more)  # type: ignore[arg-type]
    return [(zone.low, zone.high, zone.peak, zone.volume) for zone in found.of(0)]


def test_a_lone_bucket_is_a_zone_of_its_own_height() -> None:
    # Smoothed it is 1.6, 4.8, 8, 4.8, 1.6 (weights 1, 0.6, 0.2): those of 4.8 belong to it, but hold nothing.
    assert stretches([0, 0, 8, 0]) == [(1002, 1003, 1002.5, 8)]
    assert stretches([8]) == [(1000, 1001, 1000.5, 8)]


def test_neighbours_that_stay_above_six_tenths_are_one_zone() -> None:
    # Smoothed: 5 + 0.6 x 4 + 0.2 x 5 = 8.4; 4 + 0.6 x 10 = 10; 8.4. Six tenths of 10 are 6.
    assert stretches([5, 4, 5]) == [(1000, 1003, 1001.5, 14)]
    # A gap of four: smoothed in its middle 0.2 x 5 + 0.2 x 5 = 2, less than six tenths of either.
    assert stretches([5, 0, 0, 0, 5]) == [(1000, 1001, 1000.5, 5), (1004, 1005, 1004.5, 5)]
    # A gap of one: 0.6 x 5 + 0.6 x 5 = 6 in it, more than 5 + 0.2 x 5 = 6 at its sides by nothing: the lower price.
    assert stretches([5, 0, 5]) == [(1000, 1003, 1000.5, 10)]


def test_a_lower_hill_on_the_slope_of_a_higher_one_is_no_zone_of_its_own() -> None:
    # Smoothed 13.8, 17.4, 15.4, 13.0, 9.0, 3.8, 1.0: it only falls from the peak; the zone ends above 10.44.
    assert stretches([9, 10, 6, 5, 4]) == [(1000, 1004, 1001.5, 30)]


def test_a_plateau_next_to_the_price_comes_before_spikes() -> None:
    """22 buckets of 100 next to a price of 62,000 hold 238 M together; none of them is the largest of its side."""
    plateau = [10.0, 11, 10.5, 12, 9.5, 11, 10, 12, 11.5, 10, 11, 10.5, 11, 12, 9, 10.5, 11, 12, 11, 10.5, 11, 11]
    assert sum(plateau) == pytest.approx(238)
    book = [*plateau, *[0.0] * 12, 60, *[0.0] * 9, 45, *[0.0] * 9, 30]
    found = zones_of(book, first=62100, size=100, price=62050).of(0)
    marks = landmarks(found, 10)
    assert [zone.volume for zone in marks.above] == pytest.approx([238, 60, 45, 30])
    assert (marks.above[0].low, marks.above[0].high) == (62100, 64300)
    assert marks.nearest_above == marks.above[0]
    assert marks.above[0].share == pytest.approx(238 / (238 + 60 + 45 + 30))
    assert landmarks(found, 5).nearest_above == landmarks(found, 20).nearest_above == marks.nearest_above
    assert landmarks(found, 1).above == (), "its mean is farther away than that, the nearest zone it is all the same"


def test_what_is_small_beside_its_side_is_no_zone() -> None:
    beside = [0.0] * 20
    assert [zone[3] for zone in stretches([3, *beside, 97])] == [3, 97], "three of a hundred count"
    assert [zone[3] for zone in stretches([2.9, *beside, 97.1])] == [97.1]
    # What is more than 10 % away is not what it is held against: at 1101 there is 1000, and 2.9 alone within.
    far = [2.9, *[0.0] * 100, 1000]
    (near, away) = zones_of(far).of(0)
    assert (near.volume, near.share) == (2.9, 1.0)
    assert (away.volume, away.share) == (1000, 0.0)


def test_a_zone_says_how_far_it_is_and_what_it_is_of() -> None:
    (zone,) = zones_of([1.0, 3.0], first=989, side=LONG).of(0)
    assert (zone.side, zone.low, zone.high, zone.peak) == ("long", 989, 991, 990.5)
    assert zone.price == pytest.approx((989.5 + 3 * 990.5) / 4)
    assert zone.distance_percent == pytest.approx((zone.price / 1000 - 1) * 100)


def test_a_bucket_wider_than_the_smoothing_stands_for_itself() -> None:
    assert stretches([9, 1, 8], size=10) == [(1000, 1010, 1005, 9), (1020, 1030, 1025, 8)]
    assert stretches([9, 8, 5], size=10) == [(1000, 1020, 1005, 17)], "8 is more than six tenths of 9, 5 is not"


def test_buckets_far_finer_than_the_smoothing_are_put_together() -> None:
    fine = zones_of([1.0] * 2500, size=0.001).of(0)
    assert len(fine) == 1
    assert fine[0].volume == pytest.approx(2500)
    assert (fine[0].low, fine[0].high) == pytest.approx((1000, 1002.5))


def test_many_books_at_once_are_each_by_itself() -> None:
    volumes = np.array([5.0, 4, 5, 8, 7, 2])
    found = find_zones(
        np.array([0, 0, 0, 2, 2, 2]),
        np.array([1000, 1001, 1002, 1990, 2010, 2010]) * 10**8,
        np.array([-1, -1, -1, 1, 1, -1], dtype=np.int8),
        volumes,
        np.array([1000.0, 1000.0, 2000.0]),
        np.array([10**8, 10**8, 10 * 10**8]),
    )
    assert [(zone.side, zone.low, zone.high, zone.volume) for zone in found.of(0)] == [("short", 1000, 1003, 14)]
    assert found.of(1) == ()
    assert [(zone.side, zone.low, zone.high, zone.volume) for zone in found.of(2)] == [
        ("long", 1990, 2000, 8),
        ("long", 2010, 2020, 7),
        ("short", 2010, 2020, 2),
    ]
    nothing = np.zeros(0, dtype=np.int64)
    assert len(find_zones(nothing, nothing, nothing.astype(np.int8), np.zeros(0), np.array([5.0]), 1)) == 0


def test_zones_of_many_books_are_those_of_each_however_much_room_they_need() -> None:
    """Later books have more zones than all before them, so that room is made again and again."""
    random = np.random.default_rng(3)
    books = [np.sort(random.choice(10**6, size, replace=False)) for size in (1, 0, 3, 40, 7, 900, 2)]
    book = np.repeat(np.arange(len(books)), [len(cells) for cells in books])
    bucket = np.concatenate(books) * 2000
    side = random.choice(np.array([LONG, SHORT], dtype=np.int8), len(book))
    volume, price = random.random(len(book)), np.full(len(books), 10.0)
    whole = find_zones(book, bucket, side, volume, price, 2000)
    assert len(whole) > 100
    for number in range(len(books)):
        rows = book == number
        alone = find_zones(book[rows] - number, bucket[rows], side[rows], volume[rows], price[:1], 2000)
        assert whole.of(number) == alone.of(0)


def test_the_largest_five_are_listed_and_the_nearest() -> None:
    gap = [0.0] * 5
    book = [9.0, *gap, 30, *gap, 50, *gap, 20, *gap, 40, *gap, 10, *gap, 60]
    marks = landmarks(zones_of(book).of(0), 10)
    assert [zone.volume for zone in marks.above] == [60, 50, 40, 30, 20]
    assert len(marks.above) == LARGEST
    assert marks.nearest_above is not None
    assert marks.nearest_above.volume == 9
    assert (marks.below, marks.nearest_below) == ((), None)


def test_a_zone_stands_since_half_of_it_had_opened() -> None:
    hour = 3_600_000_000
    lots = Lots(
        side=np.array([-1, -1, -1, -1, 1], dtype=np.int8),
        leverage=np.full(5, 10.0),
        liq_price=np.array([100, 101, 101, 103, 101], dtype=np.int64) * 10**8,
        quantity=np.ones(5),
        volume=np.array([30.0, 30, 50, 900, 900]),
        opened_at=np.array([3, 1, 2, 0, 0], dtype=np.int64) * hour,
    )
    zone = Zone("short", 100.0, 103.0, 101.5, 101.3, 110.0, 1.0, 0.1)
    # By 1 h 30 of 110 stood, by 2 h 80: half.
    assert standing_since(lots, [zone]) == [2 * hour]
    assert standing_since(lots, [Zone("short", 500.0, 503.0, 501.5, 501.3, 1.0, 1.0, 0.1)]) == [None]


volumes_of_any_book = st.lists(
    st.one_of(st.just(0.0), st.floats(min_value=1e-3, max_value=1e9)), min_size=1, max_size=80
)


@settings(deadline=None)
@given(volumes_of_any_book, st.sampled_from([0.05, 0.2, 0.5, 1.0, 4.0]))
def test_zones_of_any_book_are_what_their_definition_says(volumes: Numbers, size: float) -> None:
    """Against the rule written down once more, on the whole book at once, with numpy."""
    found = zones_of(volumes, size=size, price=1000.0)
    book, width = np.array(volumes), SMOOTHED * 1000 / size
    distance = np.abs(np.subtract.outer(np.arange(len(book)), np.arange(len(book))))
    smooth = (np.maximum(0, 1 - distance / width) * book).sum(axis=1)
    middles = 1000 + (np.arange(len(book)) + 0.5) * size
    near = book[np.abs(middles / 1000 - 1) <= 0.1].sum()
    assert len(found) or not near
    last = 0.0
    for zone in found.of(0):
        low, high, peak = (round((edge - 1000) / size) for edge in (zone.low, zone.high, zone.peak - size / 2))
        assert zone.low >= last, "they do not overlap"
        last = zone.high
        assert zone.volume == pytest.approx(book[low:high].sum())
        assert zone.volume >= LEAST_SHARE * near * (1 - 1e-9)
        assert book[low] > 0
        assert book[high - 1] > 0
        assert smooth[low:high].max() == pytest.approx(smooth[peak])
        assert smooth[low:high].min() >= FLOOR * smooth[peak] * (1 - 1e-9)
        # Beyond it the book falls below the floor before anything larger comes.
        for outward in (smooth[:low][::-1], smooth[high:]):
            below = np.flatnonzero(outward < FLOOR * smooth[peak] * (1 + 1e-9))
            reach = outward[: below[0]] if len(below) else outward
            assert reach.max(initial=0) <= smooth[peak] * (1 + 1e-9)
    top = int(np.argmax(smooth))
    below = np.flatnonzero(smooth < FLOOR * smooth[top])
    first, end = below[below < top].max(initial=-1) + 1, below[below > top].min(initial=len(book))
    if book[first:end].sum() > 1.01 * LEAST_SHARE * near:
        assert any(zone.low <= middles[top] <= zone.high for zone in found.of(0)), "the thickest place is in a zone"


def test_max_pain_is_the_move_that_hits_most_per_percent() -> None:
    # Price 100. Up: edges 110 (10 %): 5, 120: 5 + 20 = 25 (1.25 a percent), 130: 30 (1.0 a percent).
    long, short = np.array([6.0, 2.0, 0, 0, 0, 0]), np.array([0, 0, 0, 5.0, 20.0, 5.0])
    above, below = max_pain(70.0, 10.0, long, short, 100.0)
    assert above is not None
    assert (above.price, above.volume) == (120.0, 25.0)
    assert above.distance_percent == pytest.approx(20)
    assert above.volume_per_percent == pytest.approx(1.25)
    # Down: 80 (20 %): 2, 70 (30 %): 8.
    assert below is not None
    assert (below.price, below.volume) == (70.0, 8.0)
    assert below.distance_percent == pytest.approx(-30)
    assert max_pain(100.0, 10.0, np.zeros(0), np.zeros(0), 105.0) == (None, None)


def test_a_bin_next_to_the_price_does_not_win_by_nearness_alone() -> None:
    short = np.array([1.0, 0, 0, 0, 40.0])
    above, _ = max_pain(99.0, 1.0, np.zeros(5), short, 99.999)
    assert above is not None
    assert (above.price, above.volume) == (104.0, 41.0), "1 USDT at a thousandth of a percent is not most"


def test_the_compiled_search_and_its_python_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two books of both sides with gaps, plateaus and neighbours, interpreted line by line, give the same bits."""
    chance = np.random.default_rng(5)
    count = 400
    book = np.repeat(np.arange(2), count // 2)
    bucket = np.concatenate([np.sort(chance.choice(np.arange(800, 1200), count // 2)) for _ in range(2)])
    side = np.where(bucket > 1000, SHORT, LONG).astype(np.int8)
    volume = np.where(chance.random(count) < 0.1, 0.0, chance.lognormal(0, 2, count))
    asked = (book, bucket * 10**8, side, volume, np.array([1000.0, 1003.0]), 10**8)
    compiled = find_zones(*asked)
    for name in ("_find", "_of_side", "_smoothed", "_stretch"):
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    interpreted = find_zones(*asked)
    assert len(compiled) > 10
    for name, column in vars(compiled).items():
        assert column.tobytes() == getattr(interpreted, name).tobytes(), name
