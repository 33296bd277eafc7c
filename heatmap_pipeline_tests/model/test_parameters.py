"""The models' numbers: validation, tiers, the bucket rule, the recorded JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model.parameters import (
    MODELS,
    Bracket,
    ModelError,
    ModelParameters,
    choose_bucket,
)


def test_delta_is_the_classic_rule() -> None:
    spec = MODELS["delta"]
    assert (spec.books, spec.starts_with, spec.nets, spec.turnover, spec.opens) == (
        "one",
        "nothing",
        False,
        0.0,
        "candle",
    )
    assert (spec.price_tick, spec.dust, spec.dust_rule, spec.formula) == (1e-8, 0.01, "drop", "exact")
    tiers = ModelParameters(spec, bucket=100.0).tiers
    assert [leverage for leverage, _ in tiers] == [5, 10, 25, 50, 100]
    assert [weight for _, weight in tiers] == pytest.approx([0.15, 0.30, 0.25, 0.20, 0.10])


def test_turnover_has_two_netted_books_and_weights_of_one_over_leverage() -> None:
    spec = MODELS["turnover"]
    assert (spec.books, spec.starts_with, spec.nets, spec.turnover, spec.opens) == (
        "two",
        "open_interest",
        True,
        0.05,
        "both",
    )
    assert (spec.price_tick, spec.dust, spec.dust_rule, spec.formula) == (None, 1000.0, "unlocate", "exact")
    tiers = dict(ModelParameters(spec, bucket=100.0).tiers)
    assert list(tiers) == [3, 5, 10, 20, 25, 50, 75, 100, 125]
    assert math.fsum(tiers.values()) == pytest.approx(1.0)
    assert tiers[5] / tiers[125] == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"leverage_weights": ()}, "empty"),
        ({"leverage_weights": ((1.0, 1.0),)}, "leverage 1 is not above 1"),
        ({"leverage_weights": ((math.nan, 1.0),)}, "leverage nan"),
        ({"leverage_weights": ((10.0, -1.0),)}, "weight -1 of leverage 10"),
        ({"leverage_weights": ((10.0, math.inf),)}, "weight inf of leverage 10"),
        ({"leverage_weights": ((10.0, 1.0), (10.0, 2.0))}, "twice"),
        ({"leverage_weights": ((10.0, 0.0),)}, "sum to 0"),
        ({"turnover": -0.1}, "turnover = -0.1"),
        ({"turnover": math.nan}, "turnover = nan"),
        ({"dust": -1.0}, "dust = -1.0"),
        ({"unlevered": -0.5}, "unlevered = -0.5"),
        ({"unlevered": 1.5}, "unlevered = 1.5"),
    ],
)
def test_a_spec_refuses_numbers_that_mean_nothing(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(MODELS["delta"], **change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bucket": 0.0}, "bucket = 0.0"),
        ({"bucket": math.nan}, "bucket = nan"),
        ({"bucket": 1e-10}, "bucket = 1e-10"),
        ({"interval": 0}, "interval = 0"),
        ({"interval": 7}, "interval = 7"),
        ({"bracket": Bracket(maintenance_margin_rate=-0.1)}, "maintenance_margin_rate = -0.1"),
        ({"bracket": Bracket(maintenance_margin_rate=1.0)}, "maintenance_margin_rate = 1.0"),
        ({"bracket": Bracket(maintenance_margin_rate=0.01)}, "leverage 100 with maintenance_margin_rate 0.01"),
        ({"bracket": Bracket(max_leverage=4.0)}, "max_leverage = 4 leaves no tier"),
    ],
)
def test_parameters_refuse_what_cannot_be_computed(arguments: dict[str, Any], message: str) -> None:
    valid: dict[str, Any] = {"spec": MODELS["delta"], "bucket": 100.0}
    with pytest.raises(ModelError, match=message):
        ModelParameters(**(valid | arguments))


def test_a_rate_too_high_for_a_tier_that_is_left_out_is_fine() -> None:
    bracket = Bracket(maintenance_margin_rate=0.01, max_leverage=50.0)
    assert ModelParameters(MODELS["delta"], bucket=100.0, bracket=bracket).tiers[-1][0] == 50


def test_tiers_above_the_maximum_leave_and_the_rest_is_renormalised() -> None:
    tiers = ModelParameters(MODELS["delta"], bucket=100.0, bracket=Bracket(max_leverage=25.0)).tiers
    assert tiers == ((5.0, 15 / 70), (10.0, 30 / 70), (25.0, 25 / 70))


@given(st.floats(min_value=3, max_value=200), st.sampled_from(sorted(MODELS)))
def test_weights_sum_to_one_under_any_maximum(max_leverage: float, model: str) -> None:
    max_leverage = max(max_leverage, 5.0)
    tiers = ModelParameters(MODELS[model], bucket=1.0, bracket=Bracket(max_leverage=max_leverage)).tiers
    assert math.fsum(weight for _, weight in tiers) == pytest.approx(1.0, rel=1e-12)
    assert all(leverage <= max_leverage for leverage, _ in tiers)


def test_a_tier_without_weight_is_no_tier() -> None:
    parameters = ModelParameters(MODELS["delta"], bucket=1.0).with_weights(((10.0, 0.0), (20.0, 4.0)))
    assert parameters.tiers == ((20.0, 1.0),)
    assert parameters.spec.name == "delta"


@pytest.mark.parametrize(
    ("symbol", "close", "bucket"),
    [
        ("BTCUSDT", 8_000.0, 100.0),
        ("BTCUSDT", 120_000.0, 100.0),
        ("ETHUSDT", 3_500.0, 5.0),
        ("ETHUSDT", 2_000.0, 2.0),  # exactly 0.1 %: not below it, so it is taken
        ("ETHUSDT", 2_000.01, 5.0),
        ("ETHUSDT", 5_000.0, 5.0),
        ("ETHUSDT", 5_000.5, 10.0),
        ("ETHUSDT", 1_000.0, 1.0),
        ("ETHUSDT", 999.99, 1.0),
        ("ETHUSDT", 1_000.01, 2.0),
        ("DOGEUSDT", 0.1, 0.0001),
        ("DOGEUSDT", 0.2, 0.0002),
        ("DOGEUSDT", 0.21, 0.0005),
        ("BTCUSDC", 60_000.0, 100.0),
        ("TINYUSDT", 1e-7, 1e-8),  # never finer than an integer price
    ],
)
def test_bucket_rule(symbol: str, close: float, bucket: float) -> None:
    assert choose_bucket(symbol, close) == bucket


@given(st.floats(min_value=1e-4, max_value=1e7))
def test_bucket_is_the_smallest_round_number_not_below_a_thousandth(close: float) -> None:
    bucket = choose_bucket("ANYUSDT", close)
    digit = float(f"{bucket:.0e}"[0])
    assert digit in (1, 2, 5)
    assert float(f"{bucket:.0e}") == bucket
    below = {1.0: bucket / 2, 2.0: bucket / 2, 5.0: bucket * 0.4}[digit]
    assert bucket * (1 + 1e-12) >= close / 1000 > below * (1 - 1e-12)


@pytest.mark.parametrize("power", range(-5, 9))
@pytest.mark.parametrize("digit", [1, 2, 5])
def test_a_close_that_is_a_rung_takes_that_rung(digit: int, power: int) -> None:
    """A thousandth of it may be a little more than the bucket, as 0.0001 / 1000 is more than 1e-7."""
    close = float(f"{digit}e{power}")
    assert choose_bucket("ANYUSDT", close) == float(f"{digit}e{power - 3}")


@pytest.mark.parametrize("close", [0.0, -1.0, math.nan, math.inf])
def test_bucket_needs_a_price(close: float) -> None:
    with pytest.raises(ModelError, match="first_close"):
        choose_bucket("ETHUSDT", close)


def test_ticks_and_buckets_as_integers() -> None:
    delta = ModelParameters(MODELS["delta"], bucket=0.0005)
    assert (delta.tick, delta.tick_units, delta.bucket_units) == (1e-8, 1, 50_000)
    turnover = ModelParameters(MODELS["turnover"], bucket=100.0)
    assert (turnover.tick, turnover.tick_units, turnover.bucket_units) == (10.0, 1_000_000_000, 10_000_000_000)
    assert ModelParameters(MODELS["turnover"], bucket=1e-8).tick_units == 1


def test_json_is_stable_and_names_every_number() -> None:
    parameters = ModelParameters(MODELS["turnover"], bucket=5.0)
    same = ModelParameters(replace(MODELS["turnover"]), bucket=5.0, interval=300, bracket=Bracket(0.004, 125.0))
    assert parameters.to_json() == same.to_json()
    record = json.loads(parameters.to_json())
    assert list(record) == sorted(record)
    assert record["bucket"] == 5.0
    assert record["price_tick"] == 0.5
    assert record["candle_interval_seconds"] == 300
    assert record["maintenance_margin_rate"] == 0.004


@pytest.mark.parametrize(
    "other",
    [
        ModelParameters(MODELS["turnover"], bucket=10.0),
        ModelParameters(MODELS["turnover"], bucket=5.0, interval=60),
        ModelParameters(MODELS["turnover"], bucket=5.0, bracket=Bracket(0.005)),
        ModelParameters(MODELS["turnover"], bucket=5.0, bracket=Bracket(max_leverage=100.0)),
        ModelParameters(replace(MODELS["turnover"], turnover=0.04), bucket=5.0),
        ModelParameters(replace(MODELS["turnover"], unlevered=0.1), bucket=5.0),
        ModelParameters(replace(MODELS["turnover"], formula="simple"), bucket=5.0),
        ModelParameters(MODELS["delta"], bucket=5.0),
    ],
)
def test_other_numbers_give_other_json(other: ModelParameters) -> None:
    assert other.to_json() != ModelParameters(MODELS["turnover"], bucket=5.0).to_json()


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("bucket", [100.0, 0.0002])
@pytest.mark.parametrize("bracket", [Bracket(), Bracket(0.005, 75.0)])
def test_what_was_recorded_is_read_again(model: str, bucket: float, bracket: Bracket) -> None:
    parameters = ModelParameters(MODELS[model], bucket, 900, bracket)
    assert ModelParameters.from_json(parameters.to_json()) == parameters


def test_a_record_of_other_numbers_than_the_models_of_today() -> None:
    spec = replace(
        MODELS["turnover"], name="older", turnover=0.04, unlevered=0.1, leverage_weights=((7.0, 2.0), (9.0, 1.0))
    )
    parameters = ModelParameters(spec, 5.0)
    read = ModelParameters.from_json(parameters.to_json())
    assert (read.spec.name, read.spec.turnover, read.spec.unlevered) == ("older", 0.04, 0.1)
    assert (read.tick_units, read.bucket, read.interval) == (parameters.tick_units, 5.0, 300)
    for one, other in zip(read.tiers, parameters.tiers, strict=True):
        assert one == pytest.approx(other, rel=1e-15)
    same_name = replace(spec, name="turnover")
    assert ModelParameters.from_json(ModelParameters(same_name, 5.0).to_json()).spec.turnover == 0.04


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"model": "turnover", "bucket": "x"}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="not a record of a model's numbers"):
        ModelParameters.from_json(text)
