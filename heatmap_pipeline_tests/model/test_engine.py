"""The compiled engine against the step-by-step model, and the properties that must hold of it alone."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model import kernel
from heatmap_pipeline.model.book import BOOKS, SIDE_NAMES, DayCandles, DayResult, Lots, ModelState
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.levels import Candle
from heatmap_pipeline.model.liquidation import price_factor, round_liq_price
from heatmap_pipeline.model.parameters import (
    MODELS,
    VOLUME_ONLY,
    Bracket,
    ModelError,
    ModelParameters,
    ModelSpec,
)
from heatmap_pipeline.model.stepwise import StepwiseRun, run_stepwise
from heatmap_pipeline.prices import MAX_PRICE
from heatmap_pipeline_tests._examples import examples

DAY = 86_400_000_000
STEP = 300_000_000
FIRST = 19_900 * DAY

SPECS = {
    "delta": MODELS["delta"],
    "turnover": MODELS["turnover"],
    "volume only": VOLUME_ONLY,
    "delta with large dust": replace(MODELS["delta"], dust_share=0.0137),
    "delta, simple formula, part liquidable, entries at the wicks": replace(
        MODELS["delta"], formula="simple", liquidable=0.75, entry=(("high", 0.3), ("low", 0.7))
    ),
    "turnover, large dust, all liquidable": replace(MODELS["turnover"], dust_share=0.0023, liquidable=1.0),
    "turnover, no dust, few tiers": replace(
        MODELS["turnover"],
        dust_share=0.0,
        turnover=0.5,
        liquidable=1.0,
        leverage_weights=((10.0, 1.0), (50.0, 2.0), (100.0, 1.0)),
    ),
    "turnover, coarse grid": replace(MODELS["turnover"], price_tick=5.0, liquidable=0.9),
    "turnover, ticks above the price": replace(MODELS["turnover"], price_tick=150.0, liquidable=0.9),
    "delta, ticks above the price": replace(MODELS["delta"], price_tick=150.0),
}
TINY = 1e-6
"""Times the prices of `make_market`: 0.0001 USDT, which a bucket of 1e-7 is for."""


def make_market(
    random_: random.Random,
    parameters: ModelParameters,
    days: int,
    per_day: int,
    scale: float = 1.0,
    shifts: bool = True,
) -> DayCandles:
    """Return candles full of what breaks models.

    Exact touches, gaps, dojis, wicks, emptied books, missing candles, level shifts; prices around 100 times `scale`.
    """
    price, interest = 100.0 * scale, float(random_.choice([10.0, 1000.0, 80_000.0]))
    rows: list[tuple[float, ...]] = []
    born: list[float] = []
    digits = 2 if scale == 1.0 else 8
    for day in range(days):
        slots = sorted(random_.sample(range(288), min(per_day, 288)))
        for slot in slots:
            start = price if random_.random() < 0.8 else price * random_.choice([0.8, 0.97, 1.03, 1.25])
            close = start if random_.random() < 0.15 else start * (1 + random_.uniform(-0.02, 0.02))
            start, close = (round(min(max(one, 5.0 * scale), 2000.0 * scale), digits) for one in (start, close))
            high = max(start, close) * (1 + random_.choice([0, 0, 0.001, 0.02]))
            low = min(start, close) * (1 - random_.choice([0, 0, 0.001, 0.02]))
            if born and random_.random() < 0.4:
                touched = random_.choice(born[-60:])
                if touched <= min(start, close):
                    low = touched
                elif touched >= max(start, close):
                    high = touched
            factor = random_.choice([1e-3, 0.5, 2.0, 1e3]) if shifts and random_.random() < 0.02 else 1.0
            if not 1 <= interest * factor <= 1e7:
                factor = 1.0
            interest *= factor
            flow = interest * random_.choice(
                [0, 0, 0.01, 0.05, -0.01, -0.05, -0.3, -0.999999, 1.0, random_.uniform(-0.04, 0.04)]
            )
            if interest + flow < 1e-3:
                flow = 0.0
            volume = random_.choice([0.0, interest * 0.01, interest, interest * 1000])
            interest, price = interest + flow, close
            at = FIRST + day * DAY + slot * STEP
            rows.append((at, start, high, low, close, volume, flow, interest, factor))
            for entry, leverage, side in itertools.product(
                (close, high, low), [leverage for leverage, _ in parameters.tiers], ("long", "short")
            ):
                rate, formula = parameters.bracket.maintenance_margin_rate, parameters.spec.formula
                times = price_factor(leverage, side, rate, formula)
                touched = round_liq_price(entry, times, parameters.tick, parameters.tick_units) / 1e8
                born += [touched] * (0 < touched <= MAX_PRICE)
    columns = np.array(rows).T
    return DayCandles(columns[0].astype(np.int64), *columns[1:])


def starting(market: DayCandles) -> float:
    return float((market.open_interest[0] - market.flow[0]) / market.factor[0])


def scaled(market: DayCandles, by: float) -> DayCandles:
    """Return the same market in contracts of another size."""
    amounts = {name: getattr(market, name) * by for name in ("volume", "flow", "open_interest")}
    return replace(market, **amounts)


def part(market: DayCandles, rows: Any) -> DayCandles:
    return DayCandles(*(getattr(market, name)[rows] for name in market.__dataclass_fields__))


def run_days(parameters: ModelParameters, market: DayCandles, snapshots: bool = True) -> list[DayResult]:
    state, results = start_state(parameters, starting(market)), []
    for day in np.unique(market.open_time // DAY):
        rows = market.open_time // DAY == day
        results.append(run_day(parameters, state, part(market, rows), parameters.interval if snapshots else None))
        state = results[-1].state
    return results


def run_oracle(parameters: ModelParameters, market: DayCandles) -> StepwiseRun:
    columns = (market.open_time, market.open, market.high, market.low, market.close, market.volume)
    candles = [Candle(int(row[0]), *map(float, row[1:])) for row in zip(*columns, strict=True)]
    factors = market.factor.tolist()
    return run_stepwise(candles, market.flow.tolist(), parameters, starting(market), factors=factors)


def same(
    engine: dict[Any, float], oracle: dict[Any, float], what: str, slack: float | Callable[[Any], float] = 1e-4
) -> None:
    for key in engine.keys() | oracle.keys():
        a, b = engine.get(key, 0.0), oracle.get(key, 0.0)
        allowed = 1e-9 * abs(b) + (slack(key) if callable(slack) else slack)
        assert abs(a - b) <= allowed, f"{what} {key}: engine {a!r}, step by step {b!r}"


def rounding(oracle: StepwiseRun, market: DayCandles) -> dict[int, float]:
    """Return how many contracts rounding may have made of nothing until each candle.

    A small rest after a large closing is a difference of near-equal numbers, and as wrong as the numbers were large; a
    level shift then multiplies the error with the rest.
    """
    books = len(oracle.books)
    error, errors = 0.0, {}
    for candle, factor in enumerate(market.factor.tolist()):
        of_candle = oracle.outcomes[candle * books : (candle + 1) * books]
        moved = max(row.total + row.closed + row.opened + row.liquidated + abs(row.rescaled) for row in of_candle)
        error = error * factor + 1e-11 * moved
        errors[of_candle[0].timestamp] = error
    return errors


def events(table: dict[str, Any], value: str) -> dict[Any, float]:
    out: dict[Any, float] = defaultdict(float)
    keys = (table["timestamp"], table["side"], table["leverage"], table["liq_price"])
    for *key, amount in zip(*keys, table[value], strict=True):
        out[int(key[0]), SIDE_NAMES[int(key[1])], float(key[2]), int(key[3])] += float(amount)
    return out


def assert_as_many_opens(results: list[DayResult], oracle: StepwiseRun, rounding: dict[int, float]) -> None:
    """Assert that as many rows opened at each candle; what is within rounding may be nothing in one of the two."""
    rows = Counter(
        int(when)
        for result in results
        for when, volume in zip(result.opens["timestamp"], result.opens["volume"], strict=True)
        if volume > rounding[int(when)]
    )
    steps = Counter(
        outcome.timestamp
        for outcome in oracle.outcomes
        for lot in outcome.opens
        if lot.volume > rounding[outcome.timestamp]
    )
    assert rows == steps, "rows of opens"


def compare(parameters: ModelParameters, market: DayCandles) -> None:
    results, oracle = run_days(parameters, market), run_oracle(parameters, market)
    books = BOOKS[parameters.spec.books]
    errors, price = rounding(oracle, market), float(market.high.max())

    def usdt(key: Any) -> float:
        return errors[key[0]] * price

    engine: dict[str, dict[Any, float]] = {name: {} for name in ("open", "liquidate", "close", "active", "consumed")}
    ledger: dict[str, dict[Any, float]] = defaultdict(dict)
    for result in results:
        table = result.ledger
        for row, (when, book) in enumerate(zip(table["timestamp"], table["book"], strict=True)):
            for name in table.keys() - {"timestamp", "book"}:
                ledger[name][int(when), int(book)] = float(table[name][row])
        engine["open"] |= events(result.opens, "volume")
        engine["liquidate"] |= events(result.liquidations, "volume")
        closes = result.closes
        for when, book, volume in zip(closes["timestamp"], closes["book"], closes["volume"], strict=True):
            engine["close"][int(when), int(book)] = float(volume)
        cells = result.cells
        for row in range(len(cells["side"])):
            key = (int(cells["timestamp"][row]), int(cells["price_bucket"][row]), SIDE_NAMES[int(cells["side"][row])])
            assert key not in engine["active"]
            engine["active"][key] = float(cells["active_volume"][row])
            engine["consumed"][key] = float(cells["consumed_volume"][row])

    expected: dict[str, dict[Any, float]] = {name: defaultdict(float) for name in engine}
    for number, outcome in enumerate(oracle.outcomes):
        when, book = outcome.timestamp, number % len(books)
        assert ledger.keys() == {field.name for field in fields(outcome)} & ledger.keys()
        for name, values in ledger.items():
            slack = errors[when] * (price if name.endswith("volume") else 1.0)
            same({name: values[when, book]}, {name: getattr(outcome, name)}, f"ledger {when} {book}", slack)
        for name, lots in (("open", outcome.opens), ("liquidate", outcome.liquidations)):
            for lot in lots:
                expected[name][when, lot.side, lot.leverage, lot.liq_price] += lot.volume
        if outcome.closed > 0:
            expected["close"][when, book] = outcome.closed_volume
        for cell in outcome.cells:
            key = (when, round(cell.price_bucket * 1e8) // parameters.bucket_units, cell.side)
            expected["active"][key], expected["consumed"][key] = cell.active_volume, cell.consumed_volume
    for name, found in engine.items():
        same(found, expected[name], name, usdt)

    assert_as_many_opens(results, oracle, {when: error * price for when, error in errors.items()})

    left = results[-1].state.lots
    mine = {
        (SIDE_NAMES[int(side)], float(leverage), int(price)): (float(volume), int(opened_at))
        for side, leverage, price, volume, opened_at in zip(
            left.side, left.leverage, left.liq_price, left.volume, left.opened_at, strict=True
        )
    }
    theirs = {lot.key: lot for book in oracle.books for lot in book.lots.values()}
    same(
        {k: v[0] for k, v in mine.items()},
        {k: lot.volume for k, lot in theirs.items()},
        "lot",
        price * list(errors.values())[-1],
    )
    # A candle may close all there is. Then it is a matter of the last bit whether nothing is left of a lot or some
    # 1e-16 of it, and with that whether what opens at its price from then on joins it.
    emptied = {
        (outcome.timestamp, number % len(books))
        for number, outcome in enumerate(oracle.outcomes)
        if outcome.closed >= (1 - 1e-9) * (outcome.closed + outcome.located + outcome.unlocated - outcome.opened)
    }
    for lot_key in theirs.keys() & mine.keys():
        first, second = sorted((mine[lot_key][1], theirs[lot_key].opened_at))
        book = 0 if len(books) == 1 or lot_key[0] == "long" else 1
        assert first == second or any(first < when <= second and number == book for when, number in emptied), lot_key


@examples(60)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(SPECS)), st.sampled_from([0.5, 1.0, 7.0, 1e-7]))
def test_the_engine_equals_the_step_by_step_model(random_: random.Random, name: str, bucket: float) -> None:
    bracket = random_.choice([Bracket(), Bracket(0.005, 50.0), Bracket(0.004, 125.0)])
    parameters = ModelParameters(SPECS[name], bucket, 300, bracket)
    days, per_day, scale = random_.randint(1, 3), random_.randint(1, 25), TINY if bucket < 0.1 else 1.0
    compare(parameters, make_market(random_, parameters, days, per_day, scale))


def test_the_random_markets_contain_everything() -> None:
    """What the comparisons above and below are worth: each rule has its turn in a few of these markets."""
    seen: Counter[str] = Counter()
    for seed, name in enumerate(sorted(SPECS) * 2):
        parameters = ModelParameters(SPECS[name], 1.0)
        market = make_market(random.Random(seed), parameters, days=2, per_day=60)
        for result in run_days(parameters, market):
            for column in ("liquidated", "liquidated_at_once", "dropped"):
                seen[f"{name}: {column}"] += int((result.ledger[column] > 0).sum())
            if name == "delta, ticks above the price":
                levels = len(parameters.tiers) * int((result.ledger["opened"] > 0).sum())
                seen["without a price"] += levels - len(result.opens["timestamp"])
            seen["rescaled"] += int((result.ledger["rescaled"] != 0).sum())
            at_wick = ~np.isin(result.opens["entry_price"], market.close)
            seen["at a wick"] += int(at_wick.sum())
        seen["equal entry prices"] += int(((market.close == market.high) | (market.close == market.low)).sum())
        seen["missing candles"] += int((np.diff(market.open_time) > STEP).sum())
    for name in ("delta", "turnover", "volume only"):
        assert seen[f"{name}: liquidated"] > 20
    for what in ("turnover: liquidated_at_once", "delta, ticks above the price: liquidated_at_once", "rescaled"):
        assert seen[what] > 5, what
    for what in ("delta with large dust: dropped", "at a wick", "equal entry prices", "without a price"):
        assert seen[what] > 5, what
    assert seen["missing candles"] > 100


@pytest.mark.parametrize("name", ["delta", "turnover"])
def test_a_long_quiet_and_violent_market_equals_the_step_by_step_model(name: str) -> None:
    parameters = ModelParameters(SPECS[name], 1.0)
    compare(parameters, make_market(random.Random(5), parameters, days=2, per_day=200))


@examples(40)
@given(st.integers(0, 2**32).map(random.Random), st.sampled_from(sorted(SPECS)))
def test_books_conserve_contracts_and_price_leaves_nothing_behind(random_: random.Random, name: str) -> None:
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, days=3, per_day=60)
    before = dict(enumerate(start_state(parameters, starting(market)).unlocated))
    for result in run_days(parameters, market):
        table = result.ledger
        for name_, column in table.items():
            assert np.isfinite(column).all(), name_
            assert name_ == "rescaled" or (column >= 0).all(), name_
        for row, book in enumerate(table["book"]):
            total = table["located"][row] + table["unlocated"][row]
            moved = before[book] + table["rescaled"][row] - table["liquidated"][row] - table["closed"][row]
            moved += table["opened"][row] - table["dropped"][row]
            assert abs(total - moved) <= 1e-9 * max(before[book] + table["rescaled"][row], total)
            assert table["liquidated_at_once"][row] <= table["opened"][row] * (1 + 1e-12)
            before[book] = total
            if parameters.spec.rules.holds_open_interest:
                assert abs(total / table["open_interest"][row] - 1) <= 1e-9
        lots = result.state.lots
        assert (lots.quantity > 0).all()
        day = part(market, market.open_time // DAY == (result.ledger["timestamp"][-1] // DAY))
        low, high = np.rint(day.low * 1e8), np.rint(day.high * 1e8)
        for side, price, opened_at in zip(lots.side, lots.liq_price, lots.opened_at, strict=True):
            later = day.open_time > opened_at
            if later.any():
                assert price < low[later].min() if side > 0 else price > high[later].max()


@examples(40)
@given(
    st.integers(0, 2**32).map(random.Random),
    st.sampled_from(sorted(SPECS)),
    st.one_of(st.sampled_from([1e-3, 1e3]), st.floats(1e-6, 1e6)),
)
def test_contracts_of_another_size_give_the_same_map(random_: random.Random, name: str, by: float) -> None:
    """Nothing in a model is an absolute amount: volume and open interest times f give the map times f."""
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, days=2, per_day=60)
    for one, other in zip(run_days(parameters, market), run_days(parameters, scaled(market, by)), strict=True):
        contracts = 1e-9 * float((one.ledger["located"] + one.ledger["unlocated"]).max())
        usdt = contracts * float(market.high.max())
        for table in ("ledger", "opens", "liquidations", "closes", "cells"):
            for column in getattr(one, table).keys() - KEYS:
                slack = by * (usdt if column.endswith("volume") else contracts)
                is_times(by, getattr(one, table), getattr(other, table), column, slack)
        is_times(by, vars(one.state.lots), vars(other.state.lots), "quantity", by * contracts)


@examples(30)
@given(
    st.integers(0, 2**32).map(random.Random), st.sampled_from(sorted(SPECS)), st.sampled_from([1e-3, 0.37, 2.0, 1e3])
)
def test_a_level_shift_is_another_unit_and_nothing_else(random_: random.Random, name: str, factor: float) -> None:
    """From the shift on, in the middle of a day or at its start, all is `factor` times what it is without."""
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, days=2, per_day=40, shifts=False)
    shift = random_.choice([40, random_.randrange(1, 80)])
    after = np.arange(len(market)) >= shift
    unit = np.where(after, factor, 1.0)
    amounts = {column: getattr(market, column) * unit for column in ("volume", "flow", "open_interest")}
    shifted = replace(market, **amounts, factor=np.where(np.arange(len(market)) == shift, factor, 1.0))
    before = 0.0
    for one, other in zip(run_days(parameters, market), run_days(parameters, shifted), strict=True):
        contracts = 1e-9 * float((one.ledger["located"] + one.ledger["unlocated"]).max())
        usdt = contracts * float(market.high.max())
        for table in ("ledger", "opens", "liquidations", "closes", "cells"):
            mine, theirs = (
                {key: values[rows["timestamp"] >= market.open_time[shift]] for key, values in rows.items()}
                for rows in (getattr(one, table), getattr(other, table))
            )
            for column in mine.keys() - KEYS - {"rescaled"}:
                slack = factor * (usdt if column.endswith("volume") else contracts)
                is_times(factor, mine, theirs, column, slack)
        rescaled, rows = other.ledger["rescaled"], other.ledger["timestamp"] == market.open_time[shift]
        if rows.any():
            total = one.ledger["located"] + one.ledger["unlocated"]
            first = int(np.argmax(rows))
            old = total[first - len(one.state.unlocated) : first].sum() if first else before
            assert rescaled[rows].sum() == pytest.approx((factor - 1) * old, rel=1e-9, abs=contracts)
        assert not rescaled[~rows].any()
        before = float(one.state.lots.quantity.sum() + sum(one.state.unlocated))


def is_times(by: float, one: dict[str, Any], other: dict[str, Any], column: str, slack: float) -> None:
    """Check that a column of the one table is that of the other table times `by`, row by row."""
    if column != "entry_price":  # volume by quantity, which both are compared
        same(keyed(other, column), {key: value * by for key, value in keyed(one, column).items()}, column, slack)


KEYS = {"timestamp", "book", "side", "leverage", "liq_price", "price_bucket", "opened_at"}
"""Columns that say which row it is."""


def keyed(table: dict[str, Any], column: str) -> dict[Any, float]:
    """Return the sums of a column by what the rows are."""
    sums: dict[Any, float] = defaultdict(float)
    names = sorted(table.keys() & KEYS - {"opened_at"})
    for *key, value in zip(*(table[name].tolist() for name in names), table[column].tolist(), strict=True):
        sums[tuple(key)] += value
    return sums


@examples(20)
@given(st.integers(0, 2**32).map(random.Random), st.sampled_from(sorted(SPECS)))
def test_cells_add_up_to_the_ledger_whatever_the_bucket_and_the_interval(random_: random.Random, name: str) -> None:
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, days=1, per_day=120)
    state = start_state(parameters, starting(market))
    fine = run_day(parameters, state, market, 300)
    coarse = run_day(replace(parameters, spec=pinned(parameters), bucket=10.0), state, market, 300)
    hourly = run_day(parameters, state, market, 3600)
    assert fine.state.hash() == coarse.state.hash() == hourly.state.hash()
    for other, bucket in ((fine, 1), (coarse, 1)):
        cells, table = other.cells, other.ledger
        for when in np.unique(table["timestamp"]):
            at, of = cells["timestamp"] == when, table["timestamp"] == when
            same(
                {"active": cells["active_volume"][at].sum(), "consumed": cells["consumed_volume"][at].sum()},
                {"active": table["active_volume"][of].sum(), "consumed": table["consumed_volume"][of].sum()},
                f"cells at {when}, bucket {bucket}",
            )
    hour = 3600 * 1_000_000
    for when in np.unique(hourly.cells["timestamp"]):
        inside = fine.cells["timestamp"] // hour * hour == when
        last = (
            fine.cells["timestamp"] == fine.ledger["timestamp"][fine.ledger["timestamp"] // hour * hour == when].max()
        )
        at = hourly.cells["timestamp"] == when
        assert np.array_equal(
            np.sort(hourly.cells["active_volume"][at][hourly.cells["active_volume"][at] > 0]),
            np.sort(fine.cells["active_volume"][last][fine.cells["active_volume"][last] > 0]),
        )
        same(
            {"consumed": hourly.cells["consumed_volume"][at].sum()},
            {"consumed": fine.cells["consumed_volume"][inside].sum()},
            f"hour {when}",
        )


def pinned(parameters: ModelParameters) -> ModelSpec:
    """Return the spec with its tick written down, so that another bucket does not move the lots."""
    return replace(parameters.spec, price_tick=parameters.tick)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_running_again_gives_the_same_bits(name: str) -> None:
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random.Random(11), parameters, days=4, per_day=100)
    one, two = run_days(parameters, market), run_days(parameters, market, snapshots=False)
    assert [result.state.hash() for result in one] == [result.state.hash() for result in two]
    for a, b in zip(one, two, strict=True):
        for table in ("ledger", "opens", "liquidations", "closes"):
            for column in getattr(a, table):
                assert np.array_equal(getattr(a, table)[column], getattr(b, table)[column]), (table, column)


def test_lots_come_back_in_the_fixed_order_without_duplicates() -> None:
    parameters = ModelParameters(SPECS["turnover"], 1.0)
    seen = 0
    for result in run_days(parameters, make_market(random.Random(3), parameters, days=6, per_day=150)):
        lots = result.state.lots
        keys = list(zip(-lots.side, lots.leverage, lots.liq_price, strict=True))
        assert keys == sorted(set(keys))
        seen += len(keys)
    assert seen > 50


def test_a_day_without_candles_changes_nothing() -> None:
    parameters = ModelParameters(SPECS["turnover"], 1.0)
    result = run_days(parameters, make_market(random.Random(3), parameters, days=1, per_day=50))[-1]
    nothing = DayCandles(np.empty(0, np.int64), *(np.empty(0) for _ in range(8)))
    after = run_day(parameters, result.state, nothing, 300)
    assert after.state.hash() == result.state.hash()
    assert len(after.ledger["timestamp"]) == len(after.cells["side"]) == 0


def test_a_very_wide_range_of_buckets_needs_no_dense_array() -> None:
    parameters = ModelParameters(SPECS["delta"], 1e-6)
    market = make_market(random.Random(2), parameters, days=1, per_day=40)
    result = run_day(parameters, start_state(parameters, starting(market)), market, 300)
    assert np.ptp(result.cells["price_bucket"]) > 10**7
    last = result.ledger["timestamp"][-1]
    active = result.cells["active_volume"][result.cells["timestamp"] == last].sum()
    assert active == pytest.approx(result.ledger["active_volume"][-1], rel=1e-9, abs=1e-4)


def test_a_survival_factor_near_zero_is_folded_into_the_lots() -> None:
    """Closing 99.9 % of the book in each of 200 candles would take the factor to 1e-600, below any float."""
    parameters = ModelParameters(SPECS["turnover, no dust, few tiers"], 1.0)
    n = 200
    price = 100.0 + np.arange(n, dtype=np.float64) * 0.01
    level = np.full(n, 1000.0)
    volume = np.full(n, 0.999 * 1000.0 / parameters.spec.turnover)
    market = DayCandles(FIRST + np.arange(n) * STEP, price, price, price, price, volume, np.zeros(n), level)
    compare(parameters, market)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"close": np.array([np.nan])}, "close"),
        ({"volume": np.array([-1.0])}, "volume"),
        ({"low": np.array([0.0])}, "price"),
        ({"high": np.array([3e7])}, "price"),
        ({"flow": np.array([5.0])}, "flow"),
        ({"flow": np.array([0.0, 0.0])}, "shape"),
        ({"open_interest": np.array([-1.0])}, "open_interest"),
        ({"factor": np.array([0.0])}, "factor"),
        ({"factor": np.array([np.inf])}, "factor"),
        ({"factor": np.array([1.0, 1.0])}, "shape"),
        ({"factor": np.array([2.0])}, "beyond the factor"),
    ],
)
def test_numbers_that_cannot_be_computed_with_are_refused(change: dict[str, Any], said: str) -> None:
    parameters = ModelParameters(MODELS["delta"], 1.0)
    good = {name: np.array([100.0]) for name in ("open", "high", "low", "close", "volume", "open_interest")}
    good |= {"open_time": np.array([FIRST]), "flow": np.array([0.0])}
    assert len(run_day(parameters, start_state(parameters, 100.0), DayCandles(**good)).ledger["book"]) == 1
    with pytest.raises(ModelError, match=said):
        run_day(parameters, start_state(parameters, 100.0), DayCandles(**(good | change)))


def test_a_state_or_a_snapshot_interval_that_does_not_fit_is_refused() -> None:
    parameters = ModelParameters(MODELS["delta"], 1.0)
    market = make_market(random.Random(1), parameters, days=1, per_day=3)
    with pytest.raises(ModelError, match="books"):
        run_day(parameters, ModelState(Lots.empty(), (0.0, 0.0), starting(market)), market)
    with pytest.raises(ModelError, match="snapshot interval"):
        run_day(parameters, start_state(parameters, starting(market)), market, 400)
    with pytest.raises(ModelError, match="open_interest"):
        start_state(parameters, math.nan)
    backwards = part(market, slice(None, None, -1))
    with pytest.raises(ModelError, match="rising"):
        run_day(parameters, start_state(parameters, starting(market)), backwards)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_compiled_engine_does_what_its_source_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same day interpreted by Python, line by line, gives the same bits."""
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random.Random(17), parameters, days=2, per_day=60)
    compiled = run_days(parameters, market)
    for function, found in vars(kernel).copy().items():
        if hasattr(found, "py_func"):
            monkeypatch.setattr(kernel, function, found.py_func)
    with np.errstate(over="ignore"):  # the hash of a lot's key wraps around, as it does compiled
        interpreted = run_days(parameters, market)
    for a, b in zip(compiled, interpreted, strict=True):
        assert a.state.hash() == b.state.hash()
        for table in ("ledger", "opens", "liquidations", "closes", "cells"):
            for column in getattr(a, table):
                assert np.array_equal(getattr(a, table)[column], getattr(b, table)[column]), (table, column)
