"""The lift of bright cells: worked by hand, present where skill is planted, absent where only distance speaks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heatmap_pipeline.model.book import LONG, SHORT, Floats
from heatmap_pipeline.model.parameters import ModelError
from heatmap_pipeline.model.score import lift
from heatmap_pipeline.model.score.hours import HOUR, SIDES, HourlyMarket, ScoreHours
from heatmap_pipeline.model.score.lift import MapCells, ReachedCells, brightest_lift, reached_cells
from heatmap_pipeline_tests.model.score._worlds import make_market

BUCKET = 0.1


def _recorded(market: HourlyMarket, reported: Floats) -> ScoreHours:
    nothing = np.zeros_like(reported)
    return ScoreHours(market, nothing, nothing, reported, np.ones(len(market.start), dtype=np.bool_))


def _hand() -> tuple[ScoreHours, MapCells]:
    market = HourlyMarket(
        start=np.array([0, 1, 2]) * HOUR,
        open=np.array([100.2, 100.0, 100.0]),
        high=np.array([101.5, 100.0, 100.0]),
        low=np.array([97.5, 99.9, 90.0]),
        volume=np.ones(3),
        extreme=np.zeros((2, 3)),
    )
    cells = MapCells(
        hour=np.array([0, 0, 0, 1]) * HOUR,
        side=np.array([LONG, LONG, SHORT, LONG], dtype=np.int8),
        price_bucket=np.array([98.0, 95.0, 101.0, 99.0]),
        volume=np.array([7.0, 9.0, 5.0, 3.0]),
        bucket=1.0,
    )
    return _recorded(market, np.array([[6.0, 2.0, 8.0], [4.0, 0.0, 0.0]])), cells


def test_reached_cells_by_hand() -> None:
    hours, cells = _hand()
    everything = np.ones(3, dtype=np.bool_)
    longs = reached_cells(hours, cells, LONG, everything)
    # Hour 0: middles 97.5, 98.5, 99.5 lie in [97.5, 100.2); hour 1 stops above 99.5; hour 2 has no map.
    assert longs.hour.tolist() == [0, 0, 0]
    assert longs.brightness.tolist() == [0.0, 7.0, 0.0]
    assert longs.seen.tolist() == [2.0, 2.0, 2.0]
    distance = (100.2 - np.array([97.5, 98.5, 99.5])) / 100.2
    assert longs.band.tolist() == [np.searchsorted(lift.BANDS, each, side="right") - 1 for each in distance]
    shorts = reached_cells(hours, cells, SHORT, everything)  # 100.5 and 101.5
    assert shorts.brightness.tolist() == [0.0, 5.0]
    assert shorts.seen.tolist() == [2.0, 2.0]
    assert len(reached_cells(hours, cells, LONG, ~everything).hour) == 0


def test_only_one_side_in_the_map() -> None:
    hours, cells = _hand()
    keep = cells.side == SHORT
    alone = MapCells(cells.hour[keep], cells.side[keep], cells.price_bucket[keep], cells.volume[keep], 1.0)
    assert reached_cells(hours, alone, LONG, np.ones(3, dtype=np.bool_)).brightness.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("bucket", [0.0, -1.0, float("nan")])
def test_a_bucket_that_is_none_is_refused(bucket: float) -> None:
    hours, cells = _hand()
    with pytest.raises(ModelError, match=f"bucket = {bucket}"):
        reached_cells(hours, replace(cells, bucket=bucket), LONG, np.ones(3, dtype=np.bool_))


def test_lift_by_hand() -> None:
    # Band 0: 30 cells that saw 1, the three brightest 4, so the average is 1.3. Band 1: 40 cells that saw 2, equally
    # bright, so a tenth of each is bright and all saw the average. Band 2 has too few cells and counts for nothing.
    band = np.repeat([0, 1, 2], [30, 40, 29])
    seen = np.concatenate([[4.0] * 3, [1.0] * 27, [2.0] * 40, [1000.0] * 29])
    brightness = np.concatenate([np.arange(30.0)[::-1], np.zeros(40), np.arange(29.0)])
    reached = ReachedCells(np.arange(99), band, brightness, seen)
    found = brightest_lift(reached, np.arange(99) * HOUR, resamples=200, seed=1)
    assert found.value == pytest.approx((3 * 4 + 4 * 2) / (3 * 1.3 + 4 * 2))
    assert (found.cells, found.hours) == (70, 70)
    assert found.null == pytest.approx(1, abs=0.03)
    nothing = brightest_lift(replace(reached, seen=np.zeros(99)), np.arange(99) * HOUR, resamples=5, seed=1)
    assert np.isnan(nothing.value)
    assert np.isnan(nothing.null_high)


def test_ties_at_the_edge_share_the_room_left() -> None:
    reached = ReachedCells(
        np.arange(40), np.zeros(40, dtype=np.int64), np.array([9.0, 5.0, 5.0, 5.0] + [0.0] * 36), np.ones(40)
    )
    seen = np.array([0.0, 3.0, 0.0, 0.0] + [1.0] * 36)  # room for 4: the four bright ones, wholly
    found = brightest_lift(replace(reached, seen=seen), np.arange(40) * HOUR, resamples=2, seed=1)
    assert found.value == pytest.approx(3 / (4 * seen.mean()))
    three = replace(reached, brightness=np.array([9.0, 8.0, 8.0, 5.0, 5.0, 5.0, 5.0] + [0.0] * 33), seen=seen)
    three.seen[3:7] = [4.0, 0.0, 0.0, 0.0]  # room for 4 after 3: a quarter of each of the next four
    found = brightest_lift(three, np.arange(40) * HOUR, resamples=2, seed=1)
    assert found.value == pytest.approx((3 + 4 / 4) / (4 * seen.mean()))


def _world(planted: float, *, shuffled: bool = False) -> tuple[ScoreHours, MapCells]:
    """Return hours and maps where near cells are both brighter and hit more, and bright ones only as `planted` says."""
    market = make_market(60, seed=5)
    generator = np.random.default_rng(6)
    n = len(market.start)
    offset = np.arange(-60, 60)
    bucket = np.floor(market.open / BUCKET)[:, None].astype(np.int64) + offset
    distance = np.abs((bucket + 0.5) * BUCKET - market.open[:, None]) / market.open[:, None]
    luck = generator.lognormal(0, 1, bucket.shape)
    held = np.exp(-distance / 0.005) * luck**planted
    price = (bucket + 0.5) * BUCKET
    reported = np.zeros((2, n))
    for row, side in enumerate(SIDES):
        hit = (price < market.open[:, None]) & (price >= market.low[:, None])
        if side == SHORT:
            hit = (price > market.open[:, None]) & (price <= market.high[:, None])
        reported[row] = (held * hit).sum(axis=1)
    shown = np.exp(-distance / 0.005) * (generator.permuted(luck, axis=0) if shuffled else luck)
    sides = np.where(price < market.open[:, None], LONG, SHORT).astype(np.int8)
    cells = MapCells(
        np.repeat(market.start, len(offset)),
        sides.ravel(),
        (bucket.ravel() * BUCKET).astype(np.float64),
        shown.ravel(),
        BUCKET,
    )
    return _recorded(market, reported), cells


@pytest.mark.parametrize("side", SIDES)
def test_planted_skill_is_found_and_not_in_its_null(side: int) -> None:
    hours, cells = _world(1.0)
    reached = reached_cells(hours, cells, side, hours.scored)
    found = brightest_lift(reached, hours.market.start, resamples=300, seed=3)
    assert found.low > 1.2
    assert found.value > found.null_high
    assert found.null == pytest.approx(1, abs=0.05)
    assert found.null_low < 1 < found.null_high


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("shuffled", [False, True])
def test_distance_alone_is_no_skill(side: int, shuffled: bool) -> None:
    # Near cells are brighter and hit more; a measure that does not compare like with like would call that skill.
    hours, cells = _world(1.0 if shuffled else 0.0, shuffled=shuffled)
    reached = reached_cells(hours, cells, side, hours.scored)
    found = brightest_lift(reached, hours.market.start, resamples=300, seed=3)
    assert found.low < 1 < found.high
    assert found.value == pytest.approx(1, abs=0.15)
    one_band = replace(reached, band=np.zeros_like(reached.band))
    assert brightest_lift(one_band, hours.market.start, resamples=2, seed=3).value > max(1.05, found.value + 0.05)


def test_what_cells_see_is_what_was_reported() -> None:
    hours, cells = _world(1.0)
    for row, side in enumerate(SIDES):
        reached = reached_cells(hours, cells, side, hours.scored)
        total = np.bincount(reached.hour, weights=reached.seen, minlength=len(hours.market.start))
        there = np.unique(reached.hour)
        np.testing.assert_allclose(total[there], hours.reported[row, there])
        assert len(there) > 0.8 * len(total)


def test_order_and_units_do_not_matter() -> None:
    hours, cells = _world(1.0)
    order = np.random.default_rng(1).permutation(len(cells.hour))
    other = MapCells(
        cells.hour[order], cells.side[order], cells.price_bucket[order], 1000 * cells.volume[order], cells.bucket
    )
    scaled = replace(hours, reported=0.001 * hours.reported)
    found, again = (
        brightest_lift(reached_cells(h, c, LONG, h.scored), h.market.start, resamples=50, seed=2)
        for h, c in ((hours, cells), (scaled, other))
    )
    assert again.value == pytest.approx(found.value)
    assert (again.low, again.null) == pytest.approx((found.low, found.null))
