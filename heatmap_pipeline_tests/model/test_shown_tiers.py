"""A map of some leverage tiers only: the engine against the step-by-step model, and the tiers against the whole map."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatmap_pipeline.model.book import SIDE_NAMES, DayCandles, DayResult
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.levels import Candle
from heatmap_pipeline.model.parameters import Bracket, ModelParameters
from heatmap_pipeline.model.stepwise import new_books, process_candle
from heatmap_pipeline_tests.model.test_engine import (
    DAY,
    SPECS,
    make_market,
    part,
    rounding,
    run_days,
    run_oracle,
    same,
    starting,
)

Cell = tuple[int, int, str]
"""Start of the candle, bucket, side."""


def shown_days(parameters: ModelParameters, market: DayCandles, tiers: tuple[float, ...]) -> list[DayResult]:
    """Return the days of a market of which the cells show some tiers."""
    state, results = start_state(parameters, starting(market)), []
    for day in np.unique(market.open_time // DAY):
        candles = part(market, market.open_time // DAY == day)
        results.append(run_day(parameters, state, candles, parameters.interval, tiers))
        state = results[-1].state
    return results


def cells_of(results: list[DayResult], column: str) -> dict[Cell, float]:
    """Return a column of the cells of some days; each cell stands once."""
    found: dict[Cell, float] = {}
    for result in results:
        cells = result.cells
        rows = zip(cells["timestamp"], cells["price_bucket"], cells["side"], cells[column], strict=True)
        for when, bucket, side, volume in rows:
            key = (int(when), int(bucket), SIDE_NAMES[int(side)])
            assert key not in found
            found[key] = float(volume)
    return found


def oracle_cells(
    parameters: ModelParameters, market: DayCandles, tiers: tuple[float, ...]
) -> dict[str, dict[Cell, float]]:
    """Return both columns as plain sums over the lots of the step-by-step books that have one of the leverages."""
    columns = (market.open_time, market.open, market.high, market.low, market.close, market.volume)
    candles = [Candle(int(row[0]), *map(float, row[1:])) for row in zip(*columns, strict=True)]
    books = new_books(parameters, starting(market))
    found: dict[str, dict[Cell, float]] = {"active_volume": defaultdict(float), "consumed_volume": defaultdict(float)}
    for number, candle in enumerate(candles):
        last = number + 1 == len(candles) or candles[number + 1].open_time // DAY > candle.open_time // DAY
        for book in books:
            flow, factor = float(market.flow[number]), float(market.factor[number])
            outcome = process_candle(book, candle, flow, parameters, factor=factor, last_of_day=last)
            for column, lots in (
                ("active_volume", book.lots.values()),
                ("consumed_volume", outcome.liquidations),
            ):
                for lot in lots:
                    if lot.leverage in tiers:
                        found[column][candle.open_time, lot.liq_price // parameters.bucket_units, lot.side] += (
                            lot.volume
                        )
    return found


def some_tiers(random_: random.Random, parameters: ModelParameters) -> tuple[float, ...]:
    every = [leverage for leverage, _ in parameters.tiers]
    return tuple(sorted(random_.sample(every, random_.randint(1, len(every)))))


MARKETS = (st.integers(0, 2**32).map(random.Random), st.sampled_from(sorted(SPECS)))


@settings(max_examples=40, deadline=None)
@given(*MARKETS)
def test_what_is_shown_equals_the_step_by_step_lots_of_these_tiers(random_: random.Random, name: str) -> None:
    parameters = ModelParameters(SPECS[name], 1.0, 300, random_.choice([Bracket(), Bracket(0.005, 50.0)]))
    market = make_market(random_, parameters, random_.randint(1, 2), random_.randint(1, 25))
    tiers = some_tiers(random_, parameters)
    results, expected = shown_days(parameters, market, tiers), oracle_cells(parameters, market, tiers)
    errors, price = rounding(run_oracle(parameters, market), market), float(market.high.max())
    for column, cells in expected.items():
        same(cells_of(results, column), cells, f"{column} of {tiers}", lambda key: 1e-4 + errors[key[0]] * price)


@settings(max_examples=40, deadline=None)
@given(*MARKETS)
def test_single_tiers_add_up_to_the_whole_map(random_: random.Random, name: str) -> None:
    """To the last bit where one tier alone ever opened in a cell; elsewhere as far as the order of adding allows.

    That is 1e-9 of the largest volume that passed through the cell: what was added and taken out again leaves its
    rounding behind.
    """
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, days=1, per_day=80)
    whole = run_days(parameters, market)
    single = {leverage: shown_days(parameters, market, (leverage,)) for leverage, _ in parameters.tiers}
    opened = float(np.concatenate([result.opens["volume"] for result in whole]).max(initial=0.0))
    tiers_of = defaultdict(set)  # by what opened: what was too small to stay leaves rounding, but no cell
    for result in whole:
        opens = result.opens
        buckets = opens["liq_price"] // parameters.bucket_units
        for bucket, side, leverage in zip(buckets, opens["side"], opens["leverage"], strict=True):
            tiers_of[int(bucket), SIDE_NAMES[int(side)]].add(float(leverage))
    for column in ("active_volume", "consumed_volume"):
        every = cells_of(whole, column)
        parts = {leverage: cells_of(results, column) for leverage, results in single.items()}
        sums = {key: math.fsum(cells.get(key, 0.0) for cells in parts.values()) for key in every}
        assert set().union(*parts.values()) <= set(every), "a cell of one tier is not in the whole map"
        same(sums, every, column, 1e-9 * opened)
        for when, bucket, side in every:
            if len(tiers_of[bucket, side]) == 1:
                (leverage,) = tiers_of[bucket, side]
                assert parts[leverage].get((when, bucket, side), 0.0) == every[when, bucket, side]


@settings(max_examples=20, deadline=None)
@given(*MARKETS)
def test_the_books_are_the_same_bits_whatever_is_shown(random_: random.Random, name: str) -> None:
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, days=2, per_day=40)
    tiers = some_tiers(random_, parameters)
    every = tuple(leverage for leverage, _ in parameters.tiers)
    whole = run_days(parameters, market)
    for other in (shown_days(parameters, market, tiers), shown_days(parameters, market, every)):
        for one, two in zip(whole, other, strict=True):
            assert one.state.hash() == two.state.hash()
            for table in ("ledger", "opens", "liquidations", "closes"):
                equal(getattr(one, table), getattr(two, table))
    for one, two in zip(whole, shown_days(parameters, market, every), strict=True):
        equal(one.cells, two.cells)
    for result in shown_days(parameters, market, ()):
        assert not len(result.cells["side"])


def equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for column, values in one.items():
        assert np.array_equal(values, other[column]), column


def test_tiers_are_hidden_also_where_a_dense_table_is_too_large() -> None:
    parameters = ModelParameters(SPECS["delta"], 1e-6)
    market = make_market(random.Random(2), parameters, days=1, per_day=40)
    (whole,), (near,) = run_days(parameters, market), shown_days(parameters, market, (50.0, 100.0))
    assert 0 < len(near.cells["side"]) < len(whole.cells["side"])
    assert np.ptp(near.cells["price_bucket"]) > 10**6
    lots, last = near.state.lots, near.cells["timestamp"] == near.ledger["timestamp"][-1]
    left = lots.volume[np.isin(lots.leverage, (50.0, 100.0))].sum()
    assert near.cells["active_volume"][last].sum() == pytest.approx(left, rel=1e-9, abs=1e-4)
