"""Liquidation prices by hand and against the equation that defines them; touches; impossible objects."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model.levels import Candle, HeatmapCell, HeatmapSnapshot, LiquidationLevel, side_sign
from heatmap_pipeline.model.liquidation import (
    calculate_liq_price,
    infer_side,
    price_factor,
    round_liq_price,
    should_liquidate,
    to_units,
)
from heatmap_pipeline.model.parameters import MODELS, Bracket, ModelError, ModelParameters

ENTRY = st.floats(min_value=1e-3, max_value=2e6)
LEVERAGE = st.floats(min_value=1.01, max_value=125)
RATE = st.floats(min_value=0, max_value=0.0079)
SIDE = st.sampled_from(["long", "short"])


@pytest.mark.parametrize(
    ("leverage", "side", "formula", "distance"),
    [
        # distance from the entry in percent at m = 0.4 %, worked out by hand
        (100, "long", "exact", 0.602410),  # 1 - 0.99 / 0.996
        (100, "short", "exact", 0.597610),  # 1.01 / 1.004 - 1
        (100, "long", "simple", 0.996),  # 1 % * (1 - 0.004)
        (100, "short", "simple", 0.996),
        (125, "long", "exact", 0.401606),
        (50, "long", "exact", 1.606426),
        (25, "short", "exact", 3.585657),
        (10, "long", "exact", 9.638554),
        (10, "short", "exact", 9.561753),
        (5, "long", "exact", 19.678715),
        (5, "long", "simple", 19.92),
        (3, "long", "exact", 33.065596),
    ],
)
def test_distance_from_entry(leverage: float, side: str, formula: str, distance: float) -> None:
    price = calculate_liq_price(60_000.0, leverage, side, formula=formula)
    assert abs(price / 60_000.0 - 1) * 100 == pytest.approx(distance, abs=1e-6)


def test_the_common_formula_is_65_percent_too_far_at_100x() -> None:
    exact, simple = (1 - price_factor(100, "long", 0.004, name) for name in ("exact", "simple"))
    assert simple / exact - 1 == pytest.approx(0.653, abs=1e-3)


def test_prices_by_hand() -> None:
    # 10x long from 50,000 without maintenance margin loses its margin of 5,000 at 45,000
    assert calculate_liq_price(50_000.0, 10, "long", 0.0) == pytest.approx(45_000.0)
    assert calculate_liq_price(50_000.0, 10, "short", 0.0) == pytest.approx(55_000.0)
    # 2 contracts, 20x, m = 1 %, cum = 50: (2*100,000/20 + 50 - 2*100,000) / (2*(0.01 - 1)) = 189,950 / 1.98
    assert calculate_liq_price(100_000.0, 20, "long", 0.01, 50.0, 2.0) == pytest.approx(189_950 / 1.98)
    assert calculate_liq_price(100_000.0, 20, "short", 0.01, 50.0, 2.0) == pytest.approx(210_050 / 2.02)


def test_sides_may_be_signs() -> None:
    assert calculate_liq_price(100.0, 10, 1) == calculate_liq_price(100.0, 10, "long")
    assert calculate_liq_price(100.0, 10, -1) == calculate_liq_price(100.0, 10, "short")
    assert side_sign(-1) == side_sign("short") == -1


@given(ENTRY, LEVERAGE, RATE, st.sampled_from(["exact", "simple"]))
def test_long_below_entry_below_short(entry: float, leverage: float, rate: float, formula: str) -> None:
    long, short = (calculate_liq_price(entry, leverage, side, rate, formula=formula) for side in ("long", "short"))
    assert 0 < long < entry < short


@given(ENTRY, LEVERAGE, LEVERAGE, RATE, SIDE, st.sampled_from(["exact", "simple"]))
def test_more_leverage_is_never_farther(
    entry: float, one: float, other: float, rate: float, side: str, formula: str
) -> None:
    low, high = sorted((one, other))
    far, near = (abs(calculate_liq_price(entry, value, side, rate, formula=formula) - entry) for value in (low, high))
    assert near <= far


@given(
    ENTRY,
    LEVERAGE,
    RATE,
    SIDE,
    st.floats(min_value=0, max_value=1e5),
    st.floats(min_value=1e-3, max_value=1e4),
)
def test_balance_meets_maintenance_margin(
    entry: float, leverage: float, rate: float, side: str, amount: float, quantity: float
) -> None:
    price = calculate_liq_price(entry, leverage, side, rate, amount, quantity)
    balance = quantity * entry / leverage + side_sign(side) * quantity * (price - entry)
    required = rate * quantity * price - amount
    scale = quantity * (entry + abs(price)) + amount
    assert balance == pytest.approx(required, abs=1e-12 * scale)


@given(ENTRY, LEVERAGE, RATE, SIDE)
def test_without_amount_the_quantity_does_not_matter(entry: float, leverage: float, rate: float, side: str) -> None:
    price = calculate_liq_price(entry, leverage, side, rate)
    assert price == calculate_liq_price(entry, leverage, side, rate, 0.0, 123.4)
    assert price == entry * price_factor(leverage, side, rate, "exact")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"leverage": 1}, "leverage = 1 is not above 1"),
        ({"leverage": 0.5}, "leverage = 0.5"),
        ({"leverage": math.nan}, "leverage = nan"),
        ({"leverage": math.inf}, "leverage = inf"),
        ({"leverage": 126}, "leverage = 126 is above the maximum 125"),
        ({"leverage": 21, "max_leverage": 20}, "leverage = 21 is above the maximum 20"),
        ({"max_leverage": math.nan}, "max_leverage = nan"),
        ({"maintenance_margin_rate": 0.1}, "maintenance_margin_rate = 0.1 is not below 1/leverage"),
        ({"maintenance_margin_rate": 0.2}, "maintenance_margin_rate = 0.2"),
        ({"maintenance_margin_rate": -0.01}, "maintenance_margin_rate = -0.01"),
        ({"maintenance_margin_rate": math.nan}, "maintenance_margin_rate = nan"),
        ({"entry_price": 0.0}, "entry_price = 0.0"),
        ({"entry_price": -5.0}, "entry_price = -5.0"),
        ({"entry_price": math.nan}, "entry_price = nan"),
        ({"entry_price": math.inf}, "entry_price = inf"),
        ({"quantity": 0.0}, "quantity = 0.0"),
        ({"quantity": math.inf}, "quantity = inf"),
        ({"maintenance_amount": -1.0}, "maintenance_amount = -1.0"),
        ({"maintenance_amount": math.nan}, "maintenance_amount = nan"),
        ({"maintenance_amount": 1.0, "formula": "simple"}, "maintenance_amount = 1.0"),
        ({"side": "LONG"}, "side = 'LONG'"),
        ({"side": 0}, "side = 0"),
        ({"formula": "rough"}, "formula = 'rough'"),
    ],
)
def test_errors_name_the_argument_and_its_value(arguments: dict[str, Any], message: str) -> None:
    valid: dict[str, Any] = {"entry_price": 100.0, "leverage": 10, "side": "long"}
    with pytest.raises(ModelError, match=message):
        calculate_liq_price(**(valid | arguments))


@pytest.mark.parametrize(
    ("price", "tick", "units", "rounded"),
    [
        (99.4, 1.0, 100_000_000, 9_900_000_000),
        (99.5, 1.0, 100_000_000, 10_000_000_000),  # half up
        (98.5, 1.0, 100_000_000, 9_900_000_000),  # up again, not to even
        (0.3, 1.0, 100_000_000, 0),
        (-0.6, 1.0, 100_000_000, -100_000_000),
        (59_638.554, 1e-8, 1, 5_963_855_400_000),
    ],
)
def test_rounding_to_ticks(price: float, tick: float, units: int, rounded: int) -> None:
    assert round_liq_price(price, 1.0, tick, units) == rounded


@given(st.integers(min_value=1, max_value=int(2e15)))
def test_a_price_in_units_comes_back(units: int) -> None:
    assert to_units(units / 1e8) == units


def candle(low: float, high: float, open_: float | None = None, close: float | None = None) -> Candle:
    middle = (low + high) / 2
    return Candle(0, middle if open_ is None else open_, high, low, middle if close is None else close, 1.0)


def level(side: Any, price: float) -> LiquidationLevel:
    return LiquidationLevel(side, 10.0, to_units(price), 1.0, 100.0, 0)


@pytest.mark.parametrize(
    ("side", "low", "high", "expected"),
    [
        ("long", 90.0, 100.0, True),  # exact touch
        ("long", 90.00000001, 100.0, False),
        ("long", 70.0, 80.0, True),  # gapped through
        ("long", 80.0, 100.0, True),
        ("short", 80.0, 90.0, True),
        ("short", 80.0, 89.99999999, False),
        ("short", 95.0, 100.0, True),
    ],
)
def test_touch_is_inclusive_and_exact(side: str, low: float, high: float, expected: bool) -> None:
    assert should_liquidate(level(side, 90.0), candle(low, high)) is expected


def test_inferred_side() -> None:
    assert infer_side(candle(1.0, 3.0, 1.5, 2.5)) == "long"
    assert infer_side(candle(1.0, 3.0, 2.5, 1.5)) == "short"
    assert infer_side(candle(1.0, 3.0, 2.0, 2.0)) == "long"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 10, 12, 10.5, 11, 1), "low = 10.5 is above open or close"),
        ((0, 10, 10.5, 9, 11, 1), "high = 10.5 is below open or close"),
        ((0, 10, 12, 0, 11, 1), "low = 0 is not a price"),
        ((0, 10, math.inf, 9, 11, 1), "high = inf"),
        ((0, 10, 2.1e7, 9, 11, 1), "high = 21000000.0"),
        ((0, math.nan, 12, 9, 11, 1), "open = nan"),
        ((0, 10, 12, 9, 11, -1), "volume = -1"),
        ((0, 10, 12, 9, 11, math.nan), "volume = nan"),
    ],
)
def test_impossible_candles(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Candle(*values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("up", 10.0, 1, 1.0, 1.0, 0), "side = 'up'"),
        (("long", 1.0, 1, 1.0, 1.0, 0), "leverage = 1.0"),
        (("long", math.nan, 1, 1.0, 1.0, 0), "leverage = nan"),
        (("long", 10.0, 0, 1.0, 1.0, 0), "liq_price = 0"),
        (("long", 10.0, 1, 0.0, 1.0, 0), "quantity = 0.0"),
        (("long", 10.0, 1, 1.0, 0.0, 0), "volume = 0.0"),
        (("long", 10.0, 1, 1.0, math.inf, 0), "volume = inf"),
    ],
)
def test_impossible_levels(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        LiquidationLevel(*values)


def test_a_level_must_have_a_leverage_of_the_parameters_in_use() -> None:
    parameters = ModelParameters(MODELS["delta"], bucket=1.0, bracket=Bracket(max_leverage=50.0))
    assert LiquidationLevel("long", 50.0, 1, 1.0, 1.0, 0, parameters).leverage == 50
    for leverage in (20.0, 100.0):
        with pytest.raises(ModelError, match=f"leverage = {leverage} is not allowed; .* 5, 10, 25, 50"):
            LiquidationLevel("long", leverage, 1, 1.0, 1.0, 0, parameters)


def test_a_level_knows_its_prices() -> None:
    lot = LiquidationLevel("short", 10.0, to_units(109.56), 4.0, 400.0, 0)
    assert (lot.price, lot.entry_price, lot.key) == (109.56, 100.0, ("short", 10.0, 10_956_000_000))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((100.0, "both", 1.0, 0.0), "side = 'both'"),
        ((-1.0, "long", 1.0, 0.0), "price_bucket = -1.0"),
        ((100.0, "long", -1.0, 2.0), "active_volume = -1.0"),
        ((100.0, "long", 1.0, math.nan), "consumed_volume = nan"),
        ((100.0, "long", 0.0, 0.0), "both 0"),
    ],
)
def test_impossible_cells(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        HeatmapCell(*values)


def test_snapshot_from_cells_and_back() -> None:
    cells = (
        HeatmapCell(100.0, "long", 5.0, 1.0),
        HeatmapCell(100.0, "short", 7.0, 0.0),
        HeatmapCell(200.0, "short", 0.0, 3.0),
    )
    snapshot = HeatmapSnapshot.from_cells(1_700_000_000_000_000, reversed(cells), 4, 2)
    assert snapshot.cells == cells
    assert len(snapshot) == 3
    assert snapshot.sides.dtype == np.int8
    assert (snapshot.total_long_volume, snapshot.total_short_volume) == (5.0, 7.0)
    assert (snapshot.consumed_long, snapshot.consumed_short) == (1.0, 3.0)
    assert (snapshot.positions_created, snapshot.positions_consumed) == (4, 2)
    assert snapshot.time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_empty_snapshot() -> None:
    snapshot = HeatmapSnapshot.from_cells(0, ())
    assert snapshot.cells == ()
    assert snapshot.total_long_volume == snapshot.consumed_short == 0.0


def test_impossible_snapshots() -> None:
    cell = HeatmapCell(100.0, "long", 5.0, 1.0)
    with pytest.raises(ModelError, match="occurs twice"):
        HeatmapSnapshot.from_cells(0, (cell, cell))
    with pytest.raises(ModelError, match="count is negative"):
        HeatmapSnapshot.from_cells(0, (cell,), positions_created=-1)
    one, two = np.zeros(1), np.zeros(2)
    with pytest.raises(ModelError, match="must have the shape"):
        HeatmapSnapshot(0, one, two.astype(np.int8), one, one)
    square = np.zeros((1, 1))
    with pytest.raises(ModelError, match="one dimension"):
        HeatmapSnapshot(0, square, square.astype(np.int8), square, square)


def test_candle_time() -> None:
    assert candle(1.0, 2.0).time == datetime(1970, 1, 1, tzinfo=UTC)
