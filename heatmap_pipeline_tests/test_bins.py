"""Narrow things put together to wide ones: nothing is lost, and there are not more than wanted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.bins import merge_cells

NAMES = ("timestamp", "price_bucket", "side", "active_volume", "consumed_volume")

cells = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5000), st.sampled_from([1, -1])), unique=True, min_size=1, max_size=60
)


def columns(keys: list[tuple[int, int, int]]) -> dict[str, Any]:
    """Return cells in the order in which a day has them: time, price, long before short."""
    ordered = np.array(sorted(keys, key=lambda key: (key[0], key[1], -key[2])), dtype=np.int64)
    numbers = np.arange(len(ordered)) + 1.0
    return dict(zip(NAMES, (*ordered.T, numbers, numbers[::-1]), strict=True))


@given(cells, st.integers(8, 60))
def test_sums_stay_and_digits_are_kept_as_many_as_can_be(keys: list[tuple[int, int, int]], most: int) -> None:
    before = columns(keys)
    after, digits = merge_cells(before, most)
    assert len(after["side"]) <= most or digits == 1
    assert (digits == 0) == (len(keys) <= most)
    for name in ("active_volume", "consumed_volume"):
        for time in range(4):
            for side in (1, -1):
                here, there = ((of["timestamp"] == time) & (of["side"] == side) for of in (before, after))
                assert after[name][there].sum() == before[name][here].sum()
    found = list(zip(*(after[name].tolist() for name in NAMES[:3]), strict=True))
    assert found == sorted(set(found), key=lambda key: (key[0], key[1], -key[2]))
    assert set(found) == {(time, kept(price, digits), side) for time, price, side in keys}
    finer = {(time, kept(price, digits + 1), side) for time, price, side in keys}
    assert digits in (0, 4) or len(finer) > most, "one digit more would have been too many"


def kept(number: int, digits: int) -> int:
    """Return a number with its leading digits only, all of them for 0."""
    text = str(number)
    return int(text[:digits].ljust(len(text), "0")) if digits else number


def test_cells_that_are_few_stay_the_same_object() -> None:
    before = columns([(0, 1, 1), (0, 2, -1)])
    after, digits = merge_cells(before, 2)
    assert after is before
    assert digits == 0


@pytest.mark.parametrize("most", [1, 2])
def test_what_cannot_be_put_together_any_more_stays(most: int) -> None:
    after, _ = merge_cells(
        columns([(time, price, side) for time in (0, 1) for price in (3, 7) for side in (1, -1)]), most
    )
    assert len(after["side"]) == 8
