"""The lots of a moment against plain sums over the lots of the step-by-step model."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.instants import DAY
from heatmap_pipeline.market.flows import level_changes
from heatmap_pipeline.model.book import DayCandles
from heatmap_pipeline.model.levels import Candle, LiquidationLevel
from heatmap_pipeline.model.parameters import ModelParameters
from heatmap_pipeline.model.stepwise import CandleOutcome, StepwiseRun, new_books, process_candle
from heatmap_pipeline.views.book_map import lots_record, map_record
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.model.test_engine import SPECS, make_market, part, rounding, starting
from heatmap_pipeline_tests.views.histories import history_of

Key = tuple[str, int, float]
"""Side, number of the price bin, leverage."""


def stepped(
    parameters: ModelParameters, market: DayCandles, open_interest: float, wanted: int
) -> tuple[list[LiquidationLevel], list[CandleOutcome]]:
    """Return the lots after the candle number `wanted`, and all outcomes up to there, from an open interest on."""
    books = new_books(parameters, open_interest)
    outcomes: list[CandleOutcome] = []
    days = market.open_time // DAY
    for i in range(wanted + 1):
        prices = (float(getattr(market, name)[i]) for name in ("open", "high", "low", "close", "volume"))
        candle = Candle(int(market.open_time[i]), *prices)
        last = i + 1 == len(days) or bool(days[i + 1] > days[i])
        how: dict[str, Any] = {"factor": float(market.factor[i]), "last_of_day": last}
        outcomes += [process_candle(book, candle, float(market.flow[i]), parameters, **how) for book in books]
    return [lot for book in books for lot in book.lots.values()], outcomes


def emptied(outcomes: list[CandleOutcome]) -> set[tuple[int, str | None]]:
    """Return when which book was closed as a whole: whether a last bit of a lot is left then is rounding."""
    return {
        (one.timestamp, one.side)
        for one in outcomes
        if one.closed >= (1 - 1e-9) * (one.closed + one.located + one.unlocated - one.opened)
    }


def told(record: dict[str, Any]) -> dict[Key, tuple[float, int]]:
    """Return volume and oldest opening (microseconds) of each bin and leverage that a record tells."""
    found: dict[Key, tuple[float, int]] = {}
    for side in ("long", "short"):
        columns = record[side]
        rows = list(zip(*(columns[name] for name in ("price", "leverage", "volume", "opened_at")), strict=True))
        keys = [(round(price / record["price_bin_size"]), float(leverage)) for price, leverage, *_ in rows]
        assert keys == sorted(set(keys)), "by price, then leverage, none twice"
        for (number, leverage), (_, _, volume, opened_at) in zip(keys, rows, strict=True):
            found[side, number, leverage] = float(volume), int(opened_at) * 1000
    return found


@examples(60)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(SPECS)), st.sampled_from([0.5, 7.0]))
def test_lots_are_the_sums_of_the_step_by_step_model(random_: random.Random, name: str, bucket: float) -> None:
    parameters = ModelParameters(SPECS[name], bucket)
    market = make_market(random_, parameters, random_.randint(1, 3), random_.randint(1, 25))
    begin = starting(market)
    # As views see it, to the last bit: a flow that is 0 but for rounding opens lots in one of the two only.
    market = replace(market, flow=level_changes(market.open_interest, market.factor, begin))
    source = history_of(parameters, market, begin)
    at = random_.randrange(len(market.open_time))
    shown = tuple(sorted(random_.sample(source.all_tiers, 2))) if random_.random() < 0.3 else None
    record = lots_record(replace(source, tiers=shown), at, None)
    lots, outcomes = stepped(parameters, market, begin, at)

    sums: dict[Key, float] = defaultdict(float)
    oldest: dict[Key, int] = {}
    height = round(record["price_bin_size"] * 1e8)
    for lot in lots:
        if shown is None or lot.leverage in shown:
            cell: Key = (lot.side, lot.liq_price // height, lot.leverage)
            sums[cell] += lot.volume
            oldest[cell] = min(oldest.get(cell, lot.opened_at), lot.opened_at)

    found = told(record)
    error = rounding(StepwiseRun(tuple(outcomes), (), new_books(parameters, 1.0)), part(market, slice(at + 1)))
    slack = 1e-4 + list(error.values())[-1] * float(market.high.max())
    for key in sums.keys() | found.keys():
        assert abs(sums.get(key, 0.0) - found.get(key, (0.0, 0))[0]) <= 1e-9 * sums.get(key, 0.0) + slack, key
    whole = emptied(outcomes)
    for key in oldest.keys() & found.keys():
        first, second = sorted((oldest[key], found[key][1]))
        in_doubt = any(first < when <= second and side in (None, key[0]) for when, side in whole)
        assert first == second or in_doubt, key


@examples(20)
@given(
    st.randoms(use_true_random=False), st.sampled_from(["delta", "turnover", "turnover, large dust, all liquidable"])
)
def test_lots_add_up_to_the_map_of_the_same_moment(random_: random.Random, name: str) -> None:
    """Dust, too: within a day what the day's end sweeps is still there."""
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, 2, 25, shifts=False)
    source = history_of(parameters, market, starting(market))
    at = random_.randrange(len(market.open_time))
    units = 700_000_000
    record, whole = lots_record(source, at, units), map_record(source, at, units, 10.0)
    for name_ in ("time", "price", "price_bin_size", "clusters", "nearest", "as_of", "units"):
        assert record[name_] == whole[name_], name_
    sums: dict[tuple[str, int], float] = defaultdict(float)
    for (side, number, _), (volume, _) in told(record).items():
        sums[side, number] += volume
    assert whole["buckets"] or not sums
    for bucket in whole["buckets"]:
        for side in ("long", "short"):
            summed = sums.pop((side, round(bucket["price"] / 7.0)), 0.0)
            assert abs(summed - bucket[side]) <= 1e-9 * bucket[side] + 1e-3
    assert not any(sums.values())


def test_a_moment_without_lots_has_none() -> None:
    parameters = ModelParameters(SPECS["turnover"], 1.0)
    market = make_market(random.Random(1), parameters, 1, 2)
    quiet = replace(
        market, volume=market.volume * 0, flow=market.flow * 0, open_interest=market.open_interest * 0 + 5.0
    )
    quiet = replace(quiet, factor=market.factor * 0 + 1.0)
    record = lots_record(history_of(parameters, quiet, 5.0), 1, None)
    assert told(record) == {}
    assert record["nearest"] == {"above": None, "below": None}
