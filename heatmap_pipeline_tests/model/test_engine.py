"""The compiled engine against the step-by-step model, and the properties that must hold of it alone."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatmap_pipeline.model import kernel
from heatmap_pipeline.model.book import BOOKS, SIDE_NAMES, DayCandles, DayResult, Lots, ModelState
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.levels import Candle
from heatmap_pipeline.model.liquidation import price_factor, round_liq_price
from heatmap_pipeline.model.parameters import MODELS, Bracket, ModelError, ModelParameters, ModelSpec
from heatmap_pipeline.model.stepwise import StepwiseRun, run_stepwise

DAY = 86_400_000_000
STEP = 300_000_000
FIRST = 19_900 * DAY

SPECS = {
    "delta": MODELS["delta"],
    "turnover": replace(MODELS["turnover"], dust=50.0),
    "delta with large dust": replace(MODELS["delta"], dust=300.0),
    "delta, simple formula, part unlevered": replace(MODELS["delta"], formula="simple", unlevered=0.25),
    "turnover, no dust, few tiers": replace(
        MODELS["turnover"], dust=0.0, turnover=0.5, leverage_weights=((10.0, 1.0), (50.0, 2.0), (100.0, 1.0))
    ),
    "turnover, coarse grid, part unlevered": replace(MODELS["turnover"], price_tick=5.0, unlevered=0.1),
}


def make_market(random_: random.Random, parameters: ModelParameters, days: int, per_day: int) -> DayCandles:
    """Return candles full of what breaks models: exact touches, gaps, dojis, wicks, emptied books, missing candles."""
    price, interest = 100.0, float(random_.choice([10.0, 1000.0, 80_000.0]))
    rows: list[tuple[float, ...]] = []
    born: list[float] = []
    for day in range(days):
        slots = sorted(random_.sample(range(288), min(per_day, 288)))
        for slot in slots:
            start = price if random_.random() < 0.8 else price * random_.choice([0.8, 0.97, 1.03, 1.25])
            close = start if random_.random() < 0.15 else start * (1 + random_.uniform(-0.02, 0.02))
            start, close = (round(min(max(one, 5.0), 2000.0), 2) for one in (start, close))
            high = max(start, close) * (1 + random_.choice([0, 0, 0.001, 0.02]))
            low = min(start, close) * (1 - random_.choice([0, 0, 0.001, 0.02]))
            if born and random_.random() < 0.4:
                touched = random_.choice(born[-60:])
                if touched <= min(start, close):
                    low = touched
                elif touched >= max(start, close):
                    high = touched
            flow = interest * random_.choice(
                [0, 0, 0.01, 0.05, -0.01, -0.05, -0.3, -0.999999, 1.0, random_.uniform(-0.04, 0.04)]
            )
            if interest + flow < 1e-3:
                flow = 0.0
            volume = random_.choice([0.0, interest * 0.01, interest, interest * 1000])
            rows.append((FIRST + day * DAY + slot * STEP, start, high, low, close, volume, flow, interest + flow))
            interest, price = interest + flow, close
            for leverage, _ in parameters.tiers:
                for side in ("long", "short"):
                    rate, formula = parameters.bracket.maintenance_margin_rate, parameters.spec.formula
                    factor = price_factor(leverage, side, rate, formula)
                    born.append(round_liq_price(close, factor, parameters.tick, parameters.tick_units) / 1e8)
    columns = np.array(rows).T
    return DayCandles(columns[0].astype(np.int64), *columns[1:])


def starting(market: DayCandles) -> float:
    return float(market.open_interest[0] - market.flow[0])


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
    return run_stepwise(candles, market.flow.tolist(), parameters, starting(market))


def same(engine: dict[Any, float], oracle: dict[Any, float], what: str, slack: float = 1e-4) -> None:
    for key in engine.keys() | oracle.keys():
        a, b = engine.get(key, 0.0), oracle.get(key, 0.0)
        assert abs(a - b) <= 1e-9 * abs(b) + slack, f"{what} {key}: engine {a!r}, step by step {b!r}"


def events(table: dict[str, Any], value: str) -> dict[Any, float]:
    out: dict[Any, float] = defaultdict(float)
    keys = (table["timestamp"], table["side"], table["leverage"], table["liq_price"])
    for *key, amount in zip(*keys, table[value], strict=True):
        out[int(key[0]), SIDE_NAMES[int(key[1])], float(key[2]), int(key[3])] += float(amount)
    return out


def compare(parameters: ModelParameters, market: DayCandles) -> None:
    results, oracle = run_days(parameters, market), run_oracle(parameters, market)
    books = BOOKS[parameters.spec.books]
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
        for name in ("opened", "liquidated", "closed", "dropped", "located", "unlocated"):
            same({name: ledger[name][when, book]}, {name: getattr(outcome, name)}, f"ledger {when} {book}", 1e-6)
        for name in ("active_volume", "consumed_volume"):
            same({name: ledger[name][when, book]}, {name: getattr(outcome, name)}, f"ledger {when} {book}")
        for name, lots in (("open", outcome.opens), ("liquidate", outcome.liquidations)):
            for lot in lots:
                expected[name][when, lot.side, lot.leverage, lot.liq_price] += lot.volume
        if outcome.closed > 0:
            expected["close"][when, book] = outcome.closed_volume
        for cell in outcome.cells:
            key = (when, round(cell.price_bucket * 1e8) // parameters.bucket_units, cell.side)
            expected["active"][key], expected["consumed"][key] = cell.active_volume, cell.consumed_volume
    for name, found in engine.items():
        same(found, expected[name], name)

    left = results[-1].state.lots
    mine = {
        (SIDE_NAMES[int(side)], float(leverage), int(price)): (float(volume), int(opened_at))
        for side, leverage, price, volume, opened_at in zip(
            left.side, left.leverage, left.liq_price, left.volume, left.opened_at, strict=True
        )
    }
    theirs = {lot.key: lot for book in oracle.books for lot in book.lots.values()}
    same({k: v[0] for k, v in mine.items()}, {k: lot.volume for k, lot in theirs.items()}, "lot")
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


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(sorted(SPECS)), st.sampled_from([0.5, 1.0, 7.0]))
def test_the_engine_equals_the_step_by_step_model(random_: random.Random, name: str, bucket: float) -> None:
    bracket = random_.choice([Bracket(), Bracket(0.005, 50.0), Bracket(0.004, 125.0)])
    parameters = ModelParameters(SPECS[name], bucket, 300, bracket)
    compare(parameters, make_market(random_, parameters, days=random_.randint(1, 3), per_day=random_.randint(1, 25)))


@pytest.mark.parametrize("name", ["delta", "turnover"])
def test_a_long_quiet_and_violent_market_equals_the_step_by_step_model(name: str) -> None:
    parameters = ModelParameters(SPECS[name], 1.0)
    compare(parameters, make_market(random.Random(5), parameters, days=2, per_day=200))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32).map(random.Random), st.sampled_from(sorted(SPECS)))
def test_books_conserve_contracts_and_price_leaves_nothing_behind(random_: random.Random, name: str) -> None:
    parameters = ModelParameters(SPECS[name], 1.0)
    market = make_market(random_, parameters, days=3, per_day=60)
    before = {
        book: start_state(parameters, starting(market)).unlocated[book] for book in range(2 if "turn" in name else 1)
    }
    for result in run_days(parameters, market):
        table = result.ledger
        for name_, column in table.items():
            assert np.isfinite(column).all(), name_
            assert (column >= 0).all(), name_
        for row, book in enumerate(table["book"]):
            total = table["located"][row] + table["unlocated"][row]
            moved = before[book] - table["liquidated"][row] - table["closed"][row]
            moved += table["opened"][row] - table["dropped"][row]
            assert abs(total - moved) <= 1e-9 * max(before[book], total) + 1e-9
            before[book] = total
            if parameters.spec.nets:
                assert abs(total / table["open_interest"][row] - 1) <= 1e-9
        lots = result.state.lots
        assert (lots.quantity > 0).all()
        day = part(market, market.open_time // DAY == (result.ledger["timestamp"][-1] // DAY))
        low, high = np.rint(day.low * 1e8), np.rint(day.high * 1e8)
        for side, price, opened_at in zip(lots.side, lots.liq_price, lots.opened_at, strict=True):
            later = day.open_time > opened_at
            if later.any():
                assert price < low[later].min() if side > 0 else price > high[later].max()


@settings(max_examples=20, deadline=None)
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
    nothing = DayCandles(np.empty(0, np.int64), *(np.empty(0) for _ in range(7)))
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
