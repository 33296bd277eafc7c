"""The models' numbers: validation, tiers, the bucket rule, the recorded JSON."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model.book import BOOKS
from heatmap_pipeline.model.parameters import (
    BOOK_RULES,
    MODELS,
    VOLUME_ONLY,
    Bracket,
    ModelError,
    ModelParameters,
    ModelSpec,
    choose_bucket,
    follow_bucket,
)


def test_delta_is_the_classic_rule() -> None:
    spec = MODELS["delta"]
    assert (spec.books, spec.rules.holds_open_interest, spec.rules.closes, spec.turnover) == ("one", False, True, 0.0)
    assert (spec.liquidable, spec.entry) == (1.0, (("close", 1.0),))
    assert (spec.price_tick, spec.dust_share, spec.dust_rule, spec.formula) == (1e-8, 1e-8, "drop", "exact")
    tiers = ModelParameters(spec, bucket=100.0).tiers
    assert [leverage for leverage, _ in tiers] == [5, 10, 25, 50, 100]
    assert [weight for _, weight in tiers] == pytest.approx([0.15, 0.30, 0.25, 0.20, 0.10])


def test_turnover_has_two_netted_books_and_weights_of_one_over_the_root_of_leverage() -> None:
    spec = MODELS["turnover"]
    assert (spec.books, spec.rules.holds_open_interest, spec.rules.closes, spec.turnover) == ("two", True, True, 0.2)
    assert (spec.liquidable, spec.entry) == (0.03, (("close", 0.5), ("high", 0.25), ("low", 0.25)))
    assert (spec.price_tick, spec.dust_share, spec.dust_rule, spec.formula) == (None, 1e-8, "unlocate", "exact")
    tiers = dict(ModelParameters(spec, bucket=100.0).tiers)
    assert list(tiers) == [3, 5, 10, 20, 25, 50, 75, 100, 125]
    assert math.fsum(tiers.values()) == pytest.approx(1.0)
    assert tiers[5] / tiers[125] == pytest.approx(5.0)


def test_the_map_from_volume_alone_is_the_turnover_model_that_nobody_closes_in() -> None:
    assert (VOLUME_ONLY.rules.holds_open_interest, VOLUME_ONLY.rules.closes) == (False, False)
    assert replace(VOLUME_ONLY, name="turnover", books="two", role="default") == MODELS["turnover"]
    assert VOLUME_ONLY.name not in MODELS


def test_each_kind_of_books_says_what_follows_from_it() -> None:
    assert BOOK_RULES.keys() == BOOKS.keys()


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
        ({"dust_share": -1.0}, "dust_share = -1.0"),
        ({"dust_share": 1.5}, "dust_share = 1.5"),
        ({"liquidable": -0.5}, "liquidable = -0.5"),
        ({"liquidable": 1.5}, "liquidable = 1.5"),
        ({"entry": ()}, "sum to 0"),
        ({"entry": (("close", 0.5),)}, "sum to 0.5"),
        ({"entry": (("close", 0.5), ("close", 0.5))}, "names a price twice"),
        ({"entry": (("mid", 1.0),)}, "'mid' is no price of a candle"),
        ({"entry": (("close", 1.5), ("low", -0.5))}, "share -0.5 of low"),
        ({"books": "three"}, "books = 'three'"),
        ({"dust_rule": "keep"}, "dust_rule = 'keep'"),
        ({"formula": "rough"}, "formula = 'rough'"),
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
    ("price", "bucket"),
    [
        (60_000.0, 100.0),
        (100_000.0, 100.0),
        (100_000.01, 500.0),
        (50_000.0, 50.0),  # exactly 0.1 %: not below it, so it is taken
        (50_000.000000001, 100.0),
        (49_999.99, 50.0),
        (3_500.0, 5.0),
        (1_000.0, 1.0),
        (999.99, 1.0),
        (1_000.01, 5.0),
        (0.1, 0.0001),
        (0.2, 0.0005),
        (0.0001, 1e-7),  # in floats a thousandth of it is above 1e-7
        (0.00010001, 5e-7),
        (0.000011, 5e-8),
        (0.000001, 1e-8),
        (0.00000045, 1e-8),  # never finer than an integer price
        (1e7, 10_000.0),
    ],
)
def test_the_bucket_for_a_price(price: float, bucket: float) -> None:
    assert choose_bucket(price) == bucket


@given(st.floats(min_value=1e-5, max_value=1e7))
def test_the_bucket_is_the_smallest_rung_not_below_a_thousandth(price: float) -> None:
    bucket = choose_bucket(price)
    assert f"{bucket:e}"[:8] in ("1.000000", "5.000000")
    finer = float(f"{bucket / (2 if f'{bucket:e}'[0] == '1' else 5):.0e}")
    assert Fraction(repr(bucket)) * 1000 >= Fraction(repr(price))
    assert finer < 1e-8 or Fraction(repr(finer)) * 1000 < Fraction(repr(price))


def test_each_rung_is_a_divisor_of_the_next_and_a_model_takes_it() -> None:
    rungs = sorted({choose_bucket(float(f"{digit}e{power}")) for power in range(-5, 8) for digit in (1, 3, 5, 9)})
    assert rungs[0] == 1e-8
    units = [ModelParameters(MODELS["turnover"], rung).bucket_units for rung in rungs]
    assert units[:6] == [1, 5, 10, 50, 100, 500]
    assert all(coarse % fine == 0 for fine, coarse in pairwise(units))
    assert all(
        ModelParameters(MODELS["turnover"], rung).tick_units == max(unit // 10, 1)
        for rung, unit in zip(rungs, units, strict=True)
    )


@pytest.mark.parametrize(
    ("bucket", "last_close", "expected"),
    [
        (100.0, 60_000.0, 100.0),
        (100.0, 45_000.0, 100.0),  # choosing would give 50
        (100.0, 500_000.0, 100.0),  # exactly 0.02 %
        (100.0, 500_000.01, 1000.0),
        (100.0, 5_000.0, 100.0),  # exactly 2 %
        (100.0, 4_999.99, 5.0),
        (5e-7, 0.0025, 5e-7),
        (5e-7, 0.0025001, 5e-6),
        (1e-7, 5e-6, 1e-7),
        (1e-7, 4e-6, 1e-8),
        (1e-8, 4e-7, 1e-8),  # above 2 %, and the ladder has no finer rung
        (30.0, 60_000.0, 30.0),
    ],
)
def test_the_bucket_follows_the_price_when_it_has_left_its_range(
    bucket: float, last_close: float, expected: float
) -> None:
    assert follow_bucket(bucket, last_close) == expected


@given(st.floats(min_value=1e-5, max_value=1e7))
def test_a_chosen_bucket_is_kept_at_the_price_it_was_chosen_for(price: float) -> None:
    assert follow_bucket(choose_bucket(price), price) == choose_bucket(price)


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_a_bucket_needs_a_price(price: float) -> None:
    with pytest.raises(ModelError, match="price"):
        choose_bucket(price)
    with pytest.raises(ModelError, match="last_close"):
        follow_bucket(1.0, price)
    with pytest.raises(ModelError, match="bucket"):
        follow_bucket(price, 1.0)


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
    assert record["entry"] == [["close", 0.5], ["high", 0.25], ["low", 0.25]]
    assert (record["liquidable"], record["dust_share"], record["books"]) == (0.03, 1e-8, "two")
    numbers = [field.name for field in fields(ModelSpec) if field.name != "role"]  # what it is shown as is no number
    assert len(record) == len(numbers) + len(fields(ModelParameters)) - 1 + len(fields(Bracket)) - 1


@pytest.mark.parametrize(
    "other",
    [
        ModelParameters(MODELS["turnover"], bucket=10.0),
        ModelParameters(MODELS["turnover"], bucket=5.0, interval=60),
        ModelParameters(MODELS["turnover"], bucket=5.0, bracket=Bracket(0.005)),
        ModelParameters(MODELS["turnover"], bucket=5.0, bracket=Bracket(max_leverage=100.0)),
        ModelParameters(replace(MODELS["turnover"], turnover=0.04), bucket=5.0),
        ModelParameters(replace(MODELS["turnover"], liquidable=0.04), bucket=5.0),
        ModelParameters(replace(MODELS["turnover"], dust_share=1e-7), bucket=5.0),
        ModelParameters(replace(MODELS["turnover"], dust_rule="drop"), bucket=5.0),
        ModelParameters(replace(MODELS["turnover"], books="two growing"), bucket=5.0),
        ModelParameters(replace(MODELS["turnover"], entry=(("close", 1.0),)), bucket=5.0),
        ModelParameters(replace(MODELS["turnover"], entry=(("close", 0.5), ("high", 0.3), ("low", 0.2))), bucket=5.0),
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
        MODELS["turnover"], name="older", turnover=0.04, liquidable=0.1, leverage_weights=((7.0, 2.0), (9.0, 1.0))
    )
    parameters = ModelParameters(spec, 5.0)
    read = ModelParameters.from_json(parameters.to_json())
    assert (read.spec.name, read.spec.turnover, read.spec.liquidable) == ("older", 0.04, 0.1)
    assert read.spec.entry == spec.entry
    assert (read.tick_units, read.bucket, read.interval) == (parameters.tick_units, 5.0, 300)
    for one, other in zip(read.tiers, parameters.tiers, strict=True):
        assert one == pytest.approx(other, rel=1e-15)
    same_name = replace(spec, name="turnover")
    assert ModelParameters.from_json(ModelParameters(same_name, 5.0).to_json()).spec.turnover == 0.04


def test_a_record_of_the_version_before_is_refused_by_name() -> None:
    """Its rules are gone: dust in USDT, all entries at the close, books described by four fields."""
    old = {
        "model": "turnover",
        "books": "two",
        "starts_with": "open_interest",
        "nets": True,
        "turnover": 0.05,
        "opens": "both",
        "leverage_weights": [[3.0, 0.5], [5.0, 0.5]],
        "unlevered": 0.0,
        "formula": "exact",
        "price_tick": 10.0,
        "dust": 1000.0,
        "dust_rule": "unlocate",
        "bucket": 100.0,
        "candle_interval_seconds": 300,
        "maintenance_margin_rate": 0.004,
        "max_leverage": 125.0,
    }
    with pytest.raises(ModelError, match="'turnover' were recorded by an earlier version"):
        ModelParameters.from_json(json.dumps(old, sort_keys=True))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"model": "turnover", "bucket": "x"}'])
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="not a record of a model's numbers"):
        ModelParameters.from_json(text)
