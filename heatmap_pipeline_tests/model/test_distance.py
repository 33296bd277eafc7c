"""What usually stands at a distance from the price: on maps small enough to work out by hand, and on any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatmap_pipeline.model.distance import (
    EDGES_PERCENT,
    LEAST_COLUMNS,
    Side,
    Usual,
    band_rows,
    usual_volumes,
)

BANDS = len(EDGES_PERCENT) - 1
SIDES: tuple[Side, Side] = ("long", "short")
MANY = 30


def usual(
    price: list[float], cells: list[tuple[int, int, float]], side: Side, bin_size: float = 1.0
) -> tuple[list[float], int]:
    """Return the usual volume by band of cells (column, row, volume), and how many columns tell it."""
    table = np.array(cells, dtype=np.float64).reshape(-1, 3)
    column, row = table[:, 0].astype(np.int64), table[:, 1].astype(np.int64)
    found, told = usual_volumes(np.array(price), bin_size, column, row, table[:, 2], side)
    return found.tolist(), told


def band_at(percent: float) -> int:
    return next(band for band in range(BANDS) if EDGES_PERCENT[band] <= percent < EDGES_PERCENT[band + 1])


def test_the_bands_are_fine_near_the_price_and_wide_far_from_it() -> None:
    assert EDGES_PERCENT[:5] == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert EDGES_PERCENT[39:44] == (9.75, 10.0, 11.0, 12.0, 13.0)
    assert EDGES_PERCENT[-9:] == (20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0, 75.0, 100.0)
    assert list(EDGES_PERCENT) == sorted(set(EDGES_PERCENT))
    assert BANDS == 40 + 10 + 6 + 2


def test_a_row_belongs_to_the_band_of_its_middle() -> None:
    """Price 1000, rows of 1: the middle 1002.5 is at 0.25 %, which begins the second band; 997.5 too, downward."""
    up, down = (band_rows(np.array([1000.0]), 1.0, side)[0] for side in ("short", "long"))
    assert up[:4].tolist() == [1000, 1002, 1005, 1007]
    # 997.5, the middle of row 997, is the first of the second band downward.
    assert down[:4].tolist() == [1001, 998, 995, 993]
    assert (up[-1], down[-1]) == (2000, 0), "a price twice as high, and none at all"
    for wide in (37.0, 1000.0, 5000.0):
        up, down = (band_rows(np.array([1000.0]), wide, side)[0] for side in ("short", "long"))
        holding = 1000 // wide
        assert (up[0], up[1], down[0], down[1]) == (holding, holding + 1, holding + 1, holding)


def test_the_median_of_columns_of_the_mean_of_rows() -> None:
    """1.0 to 1.25 % above 1000 has the rows 1010 and 1011: in columns of 2, 4, 6, ... they hold 1, 2, 3, ... a row."""
    cells = [(column, 1010, 2.0 * (column + 1)) for column in range(25)]
    found, told = usual([1000.0] * 25, cells, "short")
    assert told == 25
    rows = band_rows(np.array([1000.0]), 1.0, "short")[0]
    band = band_at(1.05)
    assert (rows[band], rows[band + 1]) == (1010, 1012)
    assert found[band] == 13.0, "the middle one of 1 to 25"
    assert np.isnan(found[:band]).all(), "usually nothing: no multiple of that"
    assert np.isnan(found[band + 1 :]).all()
    # Of an even number the mean of the two in the middle; a column without a cell counts with 0.
    found, _ = usual([1000.0] * 26, cells, "short")
    assert found[band] == 12.5
    # Half of the columns hold nothing: the median is 0, or between 0 and the least.
    assert np.isnan(usual([1000.0] * 51, cells, "short")[0][band])


def test_the_price_of_each_column_is_its_own() -> None:
    """The same row is at 1 % in one column and at 2 % in another."""
    price = [1000.0, 990.0] * MANY
    cells = [(column, 1010, 8.0) for column in range(2 * MANY)]
    found, _ = usual(price, cells, "short")
    # In half of the columns the band holds nothing: the median is between 0 and what it holds in the others.
    for percent, at in ((1.05, 1000.0), (100 * (1010.5 / 990 - 1), 990.0)):
        band = band_at(percent)
        rows = band_rows(np.array([at]), 1.0, "short")[0]
        assert found[band] == 8.0 / (rows[band + 1] - rows[band]) / 2


def test_sides_are_apart_and_mirrored() -> None:
    price, volume = [1000.0] * MANY, 6.0
    above = [(column, 1010, volume) for column in range(MANY)]
    below = [(column, 989, volume) for column in range(MANY)]
    up, down = usual(price, above, "short")[0], usual(price, below, "long")[0]
    assert up[band_at(1.05)] == down[band_at(1.05)] == volume / 2
    # What lies on the other side of the price, as the row that holds it may, counts for the first band.
    across = usual(price, [(column, 980, 4.0) for column in range(MANY)], "short")[0]
    assert across[0] == 4.0 / 2  # of the rows 1000 and 1001
    assert np.isnan(across[1:]).all()


def test_few_columns_say_nothing() -> None:
    cells = [(column, 1010, 2.0) for column in range(LEAST_COLUMNS)]
    band = band_at(1.05)
    assert usual([1000.0] * LEAST_COLUMNS, cells, "short")[0][band] == 1.0
    fewer, told = usual([1000.0] * (LEAST_COLUMNS - 1), cells[:-1], "short")
    assert told == LEAST_COLUMNS - 1
    assert np.isnan(fewer).all()
    # A column without a candle has no price, and counts neither as full nor as empty.
    found, told = usual([1000.0] * LEAST_COLUMNS + [np.nan] * 100, [*cells, (LEAST_COLUMNS, 1010, 9.0)], "short")
    assert (found[band], told) == (1.0, LEAST_COLUMNS)


def test_rows_higher_than_a_band_leave_the_bands_without_a_row_unknown() -> None:
    """Rows of 20 at 1000: the middles 1010, 1030, 1050 are at 1, 3, 5 %; the row that holds the price is band 0."""
    cells = [(column, 51, 5.0) for column in range(MANY)]
    found, _ = usual([1000.0] * MANY, cells, "short", bin_size=20.0)
    assert found[band_at(3.0)] == 5.0
    assert sum(np.isfinite(found)) == 1


def test_beyond_all_bands_nothing_counts() -> None:
    cells = [(column, 2000, 5.0) for column in range(MANY)]
    assert np.isnan(usual([1000.0] * MANY, cells, "short")[0]).all()


def test_the_record_says_unknown_as_nothing() -> None:
    record = Usual(np.array([np.nan, 1.23456]), np.array([2.0, np.nan]), 7).record()
    assert (record["long"], record["short"], record["columns"]) == ([None, 1.2346], [2.0, None], 7)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.001, 1.0, 7.0, 100.0, 2500.0]), st.sampled_from(SIDES))
def test_any_map_equals_the_definition_row_by_row(seed: int, bin_size: float, side: Side) -> None:
    random = np.random.default_rng(seed)
    columns = int(random.integers(1, 60))
    price = bin_size * random.uniform(3, 900) * np.exp(np.cumsum(random.normal(0, 0.02, columns)))
    price[random.random(columns) < 0.1] = np.nan
    place = random.choice(columns * 2000, min(columns * 40, columns * 2000), replace=False)
    column, row, volume = place // 2000, place % 2000, random.lognormal(5, 2, len(place))
    found, told = usual_volumes(price, bin_size, column, row, volume, side)
    expected = slowly(price, bin_size, column, row, volume, side)
    assert told == np.isfinite(price).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def slowly(
    price: np.ndarray, bin_size: float, column: np.ndarray, row: np.ndarray, volume: np.ndarray, side: Side
) -> np.ndarray:
    """The definition, a row and a column at a time, with distances instead of rows."""
    means: list[list[float]] = [[] for _ in range(BANDS)]
    for number, at in enumerate(price.tolist()):
        if np.isnan(at):
            continue
        middles = (np.arange(int(2.1 * at / bin_size) + 2) + 0.5) * bin_size
        away = 100 * (middles / at - 1) * (1 if side == "short" else -1)
        band = np.searchsorted(EDGES_PERCENT, away, side="right") - 1
        holding = int(at // bin_size)
        band[holding] = 0
        mine = column == number
        for which in range(BANDS):
            rows = np.flatnonzero(band == which)
            inside = np.isin(row, rows) & mine
            if which == 0:  # and what lies on the other side
                inside |= mine & ((row < holding) if side == "short" else (row > holding))
            if len(rows):
                means[which].append(volume[inside].sum() / len(rows))
    told = [np.median(values) if len(values) >= LEAST_COLUMNS else np.nan for values in means]
    return np.array([value if value > 0 else np.nan for value in told])


def test_scale_and_place_do_not_matter() -> None:
    random = np.random.default_rng(3)
    price = 60_000 * np.exp(np.cumsum(random.normal(0, 0.003, 100)))
    column, row = random.integers(0, 100, 20_000), random.integers(540, 660, 20_000)
    volume = random.lognormal(14, 1, 20_000)
    one, _ = usual_volumes(price, 100.0, column, row, volume, "short")
    other, _ = usual_volumes(price * 1e-6, 100.0 * 1e-6, column, row, volume * 8, "short")
    assert np.isfinite(one).sum() > 10
    assert other == pytest.approx(one * 8, rel=1e-9, nan_ok=True)
