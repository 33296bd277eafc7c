"""Real liquidations in the columns of a window: sums that lose nothing, prices that are known, what is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.store.columns import Reports
from heatmap_pipeline.views.columns import Columns
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.render.sample import draw, reports, sample, source, walk

NAN = float("nan")
WHOLE = (("2024-07-01", "2024-07-04"),)


NO_CELLS: dict[str, Any] = {name: np.zeros(0) for name in ("buckets", "sides", "active", "consumed")}
NO_CELLS |= {"timestamps": np.zeros(0, "datetime64[us]")}
BARS = walk(3)


def of(*sources: Reports, candles: Any = BARS) -> Any:
    """What is shown of three days without a book."""
    return draw(source(candles), reports=sources, **NO_CELLS).reported


def values(sums: Any) -> list[tuple[float, ...]]:
    parts = (sums.column, sums.price, sums.place, sums.volume, sums.quantity)
    return [tuple(row) for row in np.stack(parts, axis=1).tolist()]


def test_nothing_recorded_is_nothing_and_not_zero() -> None:
    assert of() is None
    assert sample().record()["reported"] is None
    empty = of(reports([], WHOLE, complete=None))
    assert values(empty.sums["long"]) == values(empty.sums["short"]) == []
    assert (empty.complete, empty.factor) == (None, None)


def test_liquidations_are_summed_by_column_and_side() -> None:
    shown = of(
        reports(
            [
                ("2024-06-30T23:59", 1, 60_000, 9, NAN),
                ("2024-07-01T00:00", 1, 60_000, 1, NAN),
                ("2024-07-01T00:14:59.999", 1, 59_000, 3, 180_000),
                ("2024-07-01T00:15", 1, 58_000, 2, NAN),
                ("2024-07-01T00:16", -1, 61_000, 5, NAN),
                ("2024-07-04T00:00", -1, 61_000, 5, NAN),
            ],
            WHOLE,
        )
    )
    assert values(shown.sums["long"]) == [
        (0, 59_250, 59_250, 59_250 + 180_000, 4),
        (1, 58_000, 58_000, 116_000, 2),
    ], "what has no volume counts as quantity x place"
    assert values(shown.sums["short"]) == [(1, 61_000, 61_000, 305_000, 5)]
    assert (shown.source, shown.exchange, shown.own_exchange, shown.complete) == (
        "binance_stream",
        "binance",
        True,
        True,
    )


def test_without_a_price_a_circle_stands_where_price_went_against_its_side() -> None:
    rows = [("2024-07-01T06:00", side, NAN, 2, NAN) for side in (1, -1)]
    for seconds, last in ((0, 25), (3600, 28)):
        shown = of(reports(rows, WHOLE, resolution_seconds=seconds))
        low, high = BARS["low"].iloc[24:last].min(), BARS["high"].iloc[24:last].max()
        for side, reached in (("long", low), ("short", high)):
            ((column, price, place, volume, quantity),) = values(shown.sums[side])
            assert (column, quantity) == (24, 2)
            assert np.isnan(price)
            assert (place, volume) == pytest.approx((reached, 2 * reached))
    known = of(reports([*rows[:1], ("2024-07-01T06:01", 1, 59_999, 1, NAN)], WHOLE))
    assert values(known.sums["long"])[0][1:3] == (59_999, 59_999), "the known prices tell"


def test_an_hour_is_shown_in_the_columns_there_are_also_at_the_end_and_where_candles_miss() -> None:
    bars = walk(1).drop(index=range(40, 44))
    rows = [("2024-07-01T10:00", 1, NAN, 1, NAN), ("2024-07-01T23:45", 1, NAN, 1, NAN)]
    one = reports(rows, (("2024-07-01", "2024-07-02"),), resolution_seconds=3600)
    assert of(one, candles=bars).sums["long"].place == pytest.approx([bars["low"].loc[44], bars["low"].loc[95]])


@examples(40)
@given(st.lists(st.tuples(st.integers(0, 3 * 86_400 - 1), st.sampled_from([1, -1]), st.floats(0.01, 1e6)), max_size=40))
def test_sums_keep_the_total(events: list[tuple[int, int, float]]) -> None:
    rows = [
        (str(np.datetime64("2024-07-01") + np.timedelta64(at, "s")), s, 50.0, q, NAN) for at, s, q in sorted(events)
    ]
    shown = of(reports(rows, WHOLE))
    for name, sign in (("long", 1), ("short", -1)):
        total = sum(quantity for _, side, quantity in events if side == sign)
        assert shown.sums[name].quantity.sum() == pytest.approx(total)
        # Each column's volume is rounded to 0.0001, as the endpoint says it.
        rounding = 0.00005 * len(shown.sums[name].column)
        assert shown.sums[name].volume.sum() == pytest.approx(50 * total, rel=1e-9, abs=rounding * 1.001)
        assert (np.diff(shown.sums[name].column) > 0).all()


def modelled(data: Columns, columns: slice) -> float:
    numbers = np.arange(len(data.times))[columns]
    return sum(
        float(data.cells[f"consumed_{side}"].volume[np.isin(data.cells[f"consumed_{side}"].column, numbers)].sum())
        for side in ("long", "short")
    )


def test_the_factor_compares_only_what_was_recorded() -> None:
    rows = [("2024-07-02T01:00", 1, 100, 10_000, NAN), ("2024-07-02T12:00", -1, 100, 30_000, NAN)]
    stretches = (("2024-07-02T00:05", "2024-07-02T06:00"), ("2024-07-02T11:59", "2024-07-03T00:00"))
    data = sample(reports=[reports(rows, stretches)])
    whole = modelled(data, slice(97, 120)) + modelled(data, slice(144, 192))
    assert data.reported is not None
    assert data.reported.factor == pytest.approx(4e6 / whole)
    nothing = sample(reports=[reports([], stretches)]).reported
    assert nothing is not None
    assert nothing.factor == 0, "recorded, and nothing happened"
    assert data.reported.recorded.tolist() == reports([], stretches).recorded.tolist()


def test_one_source_is_shown_the_markets_own_first() -> None:
    rows = [("2024-07-02T01:00", 1, 100, 10, NAN)]
    bybit = reports(rows, WHOLE, "bybit_stream")
    partial = reports(rows, WHOLE, "binance_stream", complete=False)
    short = reports(rows, (("2024-07-01", "2024-07-02"),), "binance_archive", complete=False)
    shown = of(bybit, short, partial)
    assert (shown.source, shown.complete) == ("binance_stream", False)
    alone = of(bybit)
    assert (alone.exchange, alone.own_exchange, alone.factor) == ("bybit", False, None), "says nothing of the level"
