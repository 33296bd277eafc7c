"""The number of a bucket is that of the division, whatever was guessed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model.buckets import bucket_number


@given(
    st.one_of(st.integers(0, 10**15), st.integers(0, 30)),
    st.one_of(st.integers(1, 10**11), st.integers(1, 5)),
    st.integers(-3, 3),
    st.integers(-(10**4), 10**4),
)
def test_any_guess_gives_the_number_that_dividing_does(price: int, units: int, near: int, far: int) -> None:
    exact = price // units
    assert [bucket_number(price, units, guess) for guess in (exact + near, far)] == [exact, exact]
