"""Each rule of the model in a scene small enough to work out by hand, and what must hold in any scene."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model.book import located_share
from heatmap_pipeline.model.levels import Candle, HeatmapCell, LiquidationLevel
from heatmap_pipeline.model.liquidation import should_liquidate, to_units
from heatmap_pipeline.model.parameters import MODELS, VOLUME_ONLY, Bracket, ModelError, ModelParameters
from heatmap_pipeline.model.stepwise import (
    Book,
    CandleOutcome,
    StepwiseRun,
    create_positions,
    process_candle,
    remove_proportionally,
    run_stepwise,
    side_shares,
)
from heatmap_pipeline_tests._examples import examples

STEP = 300_000_000
DAY = 86_400_000_000
NO_MARGIN = Bracket(maintenance_margin_rate=0.0)


def delta(bucket: float = 1.0, bracket: Bracket = NO_MARGIN, **changes: Any) -> ModelParameters:
    """The classic rule, with one tier of 10x unless told otherwise: liquidated 10 % from the entry."""
    return ModelParameters(
        replace(MODELS["delta"], **({"leverage_weights": ((10.0, 1.0),)} | changes)), bucket=bucket, bracket=bracket
    )


def turnover(bucket: float = 1.0, bracket: Bracket = NO_MARGIN, **changes: Any) -> ModelParameters:
    """The default map with one tier of 10x, all of it liquidable and entered at the close, no turnover, no dust."""
    few: dict[str, Any] = {
        "leverage_weights": ((10.0, 1.0),),
        "liquidable": 1.0,
        "entry": (("close", 1.0),),
        "turnover": 0.0,
        "dust_share": 0.0,
    }
    return ModelParameters(replace(MODELS["turnover"], **(few | changes)), bucket=bucket, bracket=bracket)


def candle(
    close: float = 100.0,
    *,
    low: float | None = None,
    high: float | None = None,
    open_: float | None = None,
    volume: float = 0.0,
    at: int = 0,
) -> Candle:
    start = close if open_ is None else open_
    body = (start, close)
    return Candle(at, start, max(body) if high is None else high, min(body) if low is None else low, close, volume)


def lot(side: Any, price: float, quantity: float = 1.0, volume: float | None = None, at: int = 0) -> LiquidationLevel:
    return LiquidationLevel(side, 10.0, to_units(price), quantity, quantity * 100 if volume is None else volume, at)


def book(*lots: LiquidationLevel, unlocated: float = 0.0, side: Any = None) -> Book:
    return Book(side, {one.key: one for one in lots}, unlocated)


def prices(outcome_book: Book) -> list[float]:
    return sorted(one.price for one in outcome_book.lots.values())


# 1. Liquidate


@pytest.mark.parametrize(("side", "touch"), [("long", {"low": 90.0}), ("short", {"high": 90.0, "low": 70.0})])
def test_an_exact_touch_liquidates(side: str, touch: dict[str, Any]) -> None:
    held = book(lot(side, 90.0, 3.0), lot(side, 50.0 if side == "long" else 130.0))
    close = 95.0 if side == "long" else 80.0
    outcome = process_candle(held, candle(close, **touch), 0.0, delta())
    assert outcome.liquidated == 3.0
    assert outcome.consumed_volume == 300.0
    assert [one.price for one in outcome.liquidations] == [90.0]
    assert len(held.lots) == 1


def test_a_gap_liquidates_all_it_jumped_over() -> None:
    held = book(lot("long", 95.0), lot("long", 90.0), lot("long", 85.0, 2.0), lot("long", 70.0), lot("short", 110.0))
    outcome = process_candle(held, candle(80.0, low=78.0, high=82.0), 0.0, delta())
    assert outcome.liquidated == 4.0
    assert prices(held) == [70.0, 110.0]


def test_a_lot_is_not_liquidated_by_the_candle_that_opens_it() -> None:
    held = book()
    outcome = process_candle(held, candle(100.0, low=50.0, high=200.0), 5.0, delta())
    assert outcome.liquidated == 0
    assert prices(held) == [90.0]


def test_a_wick_liquidates_both_sides() -> None:
    held = book(lot("long", 90.0), lot("short", 110.0))
    assert process_candle(held, candle(100.0, low=89.0, high=111.0), 0.0, delta()).liquidated == 2.0
    assert not held.lots


def test_a_dying_lot_is_counted_whole_although_others_close_in_the_same_candle() -> None:
    held = book(lot("long", 90.0, 4.0), lot("long", 50.0, 4.0))
    outcome = process_candle(held, candle(95.0, low=90.0), -2.0, delta())
    assert outcome.consumed_volume == 400.0
    assert outcome.closed == 2.0
    assert held.located == 2.0


# 2. Net and turnover


def test_without_a_fall_of_open_interest_a_liquidation_was_reopened() -> None:
    held = book(lot("long", 90.0, 5.0), unlocated=5.0, side="long")
    outcome = process_candle(held, candle(100.0, low=90.0, at=STEP), 0.0, turnover())
    assert (outcome.liquidated, outcome.opened, outcome.closed) == (5.0, 5.0, 0.0)
    assert held.total == 10.0
    assert prices(held) == [90.0]  # the same key again, but another lot
    assert held.lots["long", 10.0, to_units(90.0)].opened_at == STEP


def test_a_liquidation_explains_the_fall_of_open_interest() -> None:
    held = book(lot("long", 90.0, 5.0), unlocated=5.0, side="long")
    outcome = process_candle(held, candle(100.0, low=90.0), -7.0, turnover())
    assert (outcome.liquidated, outcome.opened, outcome.closed) == (5.0, 0.0, 2.0)
    assert held.total == 3.0


def test_the_classic_rule_does_not_net() -> None:
    held = book(lot("long", 90.0, 5.0), lot("long", 50.0, 5.0))
    outcome = process_candle(held, candle(100.0, low=90.0), -3.0, delta())
    assert (outcome.liquidated, outcome.opened, outcome.closed) == (5.0, 0.0, 3.0)
    assert held.total == 2.0


@pytest.mark.parametrize(
    ("flow", "volume", "opened", "closed"),
    [
        (0.0, 40.0, 2.0, 2.0),  # 5 % of the volume
        (3.0, 40.0, 5.0, 2.0),
        (-3.0, 40.0, 2.0, 5.0),
        (0.0, 1000.0, 10.0, 10.0),  # at most what is there
        (-4.0, 1000.0, 6.0, 10.0),  # at most what the fall leaves
        (-10.0, 1000.0, 0.0, 10.0),
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_turnover_closes_and_opens_a_share_of_the_volume(
    flow: float, volume: float, opened: float, closed: float
) -> None:
    held = book(unlocated=10.0, side="short")
    outcome = process_candle(held, candle(volume=volume), flow, turnover(turnover=0.05))
    assert (outcome.opened, outcome.closed) == pytest.approx((opened, closed))
    assert held.total == pytest.approx(10.0 + flow)


# 3. Close


def test_closing_shrinks_everything_alike() -> None:
    held = book(lot("long", 90.0, 4.0), lot("short", 110.0, 2.0, 230.0), unlocated=2.0)
    closing = remove_proportionally(held, 2.0)
    assert closing == (0.25, 2.0, 0.25 * 630.0)
    assert [one.quantity for one in held.lots.values()] == [3.0, 1.5]
    assert [one.volume for one in held.lots.values()] == [300.0, 172.5]
    assert [one.entry_price for one in held.lots.values()] == [100.0, 115.0]
    assert held.unlocated == 1.5


@pytest.mark.parametrize("closed", [8.0, 9.0, 1e9])
def test_closing_all_empties_the_book(closed: float) -> None:
    held = book(lot("long", 90.0, 4.0), lot("short", 110.0, 2.0), unlocated=2.0)
    closing = remove_proportionally(held, closed)
    assert (closing.ratio, closing.quantity, closing.volume) == (1.0, 8.0, 600.0)
    assert (held.lots, held.unlocated, held.total) == ({}, 0.0, 0.0)


def test_closing_an_empty_book_does_nothing() -> None:
    assert remove_proportionally(book(), 5.0) == (0.0, 0.0, 0.0)


def test_a_book_that_was_emptied_opens_again() -> None:
    held = book(lot("long", 90.0, 4.0))
    outcome = process_candle(held, candle(volume=400.0), -9.0, delta())
    assert (outcome.closed, outcome.total, outcome.cells) == (4.0, 0.0, ())
    assert process_candle(held, candle(at=STEP), 2.0, delta()).located == 2.0


# 4. Open


@pytest.mark.parametrize(
    ("open_", "close", "side", "price"),
    [(99.0, 100.0, "long", 90.0), (101.0, 100.0, "short", 110.0), (100.0, 100.0, "long", 90.0)],
)
def test_the_classic_rule_opens_on_the_side_of_the_candle(open_: float, close: float, side: str, price: float) -> None:
    held = book()
    outcome = process_candle(held, candle(close, open_=open_), 3.0, delta())
    (opened,) = outcome.opens
    assert opened.side == side
    assert (opened.price, opened.quantity, opened.volume) == pytest.approx((price, 3.0, 300.0))


def test_two_books_open_their_own_side_whatever_the_candle() -> None:
    run = run_stepwise([candle(100.0, open_=120.0)], [4.0], turnover(), 6.0)
    assert [book.side for book in run.books] == ["long", "short"]
    assert [prices(book) for book in run.books] == [[90.0], [110.0]]
    assert [(book.located, book.unlocated) for book in run.books] == [(4.0, 6.0), (4.0, 6.0)]


def test_tiers_take_their_weights() -> None:
    parameters = delta(leverage_weights=MODELS["delta"].leverage_weights, bracket=Bracket())
    opening = create_positions(candle(60_000.0), 100.0, parameters, {"long": 1.0})
    assert [one.leverage for one in opening.levels] == [5, 10, 25, 50, 100]
    assert [one.quantity for one in opening.levels] == pytest.approx([15, 30, 25, 20, 10])
    assert opening.levels[-1].price == pytest.approx(59_638.55421687, abs=1e-8)
    assert opening.levels[-1].volume == pytest.approx(600_000.0)
    assert opening.unlocated == pytest.approx(0.0, abs=1e-12)


def test_equal_keys_join_and_keep_the_earliest_opening() -> None:
    held = book()
    run = [process_candle(held, candle(at=at), 2.0, delta()) for at in (STEP, 2 * STEP)]
    (joined,) = held.lots.values()
    assert (joined.quantity, joined.volume, joined.opened_at) == (4.0, 400.0, STEP)
    assert [outcome.opens[0].quantity for outcome in run] == [2.0, 2.0]


def test_a_coarse_tick_joins_different_entries_and_the_mean_entry_remains() -> None:
    parameters = turnover(bucket=100.0)  # ticks of 10
    held = book(side="long")
    process_candle(held, candle(1000.0), 1.0, parameters)
    process_candle(held, candle(1004.0, at=STEP), 3.0, parameters)
    (joined,) = held.lots.values()
    assert joined.price == 900.0
    assert joined.entry_price == pytest.approx((1000.0 + 3 * 1004.0) / 4)


def test_a_price_of_zero_is_no_liquidation_price() -> None:
    parameters = turnover(bucket=10_000.0, leverage_weights=((1.25, 1.0), (5.0, 3.0)))  # ticks of 1000
    opening = create_positions(candle(1900.0), 8.0, parameters, {"long": 1.0})  # 380 rounds to 0, 1520 to 2000
    assert (opening.levels, opening.unlocated) == ((), 2.0)
    assert [(one.leverage, one.price, one.quantity) for one in opening.at_once] == [(5.0, 2000.0, 6.0)]
    held = book(side="long")
    outcome = process_candle(held, candle(1900.0), 8.0, parameters)
    assert (outcome.total, outcome.unlocated, outcome.liquidated_at_once) == (8.0, 8.0, 6.0)


def test_what_is_not_liquidable_is_unlocated() -> None:
    held = book()
    outcome = process_candle(held, candle(), 8.0, delta(liquidable=0.75))
    assert (outcome.located, outcome.unlocated, outcome.total) == (6.0, 2.0, 8.0)
    assert create_positions(candle(), 8.0, delta(liquidable=0.0), {"long": 1.0}) == ((), (), 8.0)
    three_percent = create_positions(candle(), 1e9, turnover(liquidable=0.03), {"long": 1.0})
    assert three_percent.unlocated == 1e9 * (1 - 0.03), "computed as such, not as what the lots leave"


def test_what_the_shares_leave_is_unlocated() -> None:
    opening = create_positions(candle(), 8.0, delta(), {"long": 0.5, "short": 0.25})
    assert [(one.side, one.quantity) for one in opening.levels] == [("long", 4.0), ("short", 2.0)]
    assert opening.unlocated == 2.0


def test_entries_take_their_shares_at_close_high_and_low() -> None:
    parameters = turnover(entry=MODELS["turnover"].entry)
    wide = candle(100.0, low=96.0, high=104.0)
    opening = create_positions(wide, 8.0, parameters, {"long": 1.0})
    assert [(one.price, one.quantity, one.entry_price) for one in opening.levels] == [
        (90.0, 4.0, 100.0),
        (93.6, 2.0, 104.0),
        (86.4, 2.0, 96.0),
    ]
    assert (opening.at_once, opening.unlocated) == ((), 0.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (100.0, 100.0, [(100.0, 8.0)]),
        (96.0, 100.0, [(100.0, 6.0), (96.0, 2.0)]),
        (100.0, 104.0, [(100.0, 6.0), (104.0, 2.0)]),
    ],
)
def test_entries_with_equal_prices_are_one_entry(low: float, high: float, expected: list[tuple[float, float]]) -> None:
    run = run_stepwise([candle(100.0, low=low, high=high)], [8.0], turnover(entry=MODELS["turnover"].entry), 0.0)
    for outcome in run.outcomes:
        assert [(one.entry_price, one.quantity) for one in outcome.opens] == expected


@pytest.mark.parametrize(
    ("side", "wick", "at_once"),
    [
        ("long", {"high": 111.0}, True),  # entered at 111, liquidated at 99.9, closed at 99
        ("long", {"high": 110.0}, True),  # entered at 110, liquidated at 99, closed at 99: a touch
        ("long", {"high": 109.9}, False),
        ("short", {"low": 89.0}, True),
        ("short", {"low": 90.0}, True),  # entered at 90, liquidated at 99
        ("short", {"low": 90.1}, False),
    ],
)
def test_what_the_close_has_passed_dies_within_its_candle(side: Any, wick: dict[str, float], at_once: bool) -> None:
    entry = "high" if side == "long" else "low"
    parameters = turnover(entry=(("close", 0.5), (entry, 0.5)))
    held = book(side=side)
    outcome = process_candle(held, candle(99.0, open_=99.0, at=STEP, **wick), 8.0, parameters)
    assert len(outcome.opens) == 2, "it has an open event either way"
    assert (outcome.opened, outcome.liquidated, outcome.total) == (8.0, 0.0, 8.0)
    if not at_once:
        assert (outcome.liquidated_at_once, outcome.consumed_volume, outcome.liquidations) == (0.0, 0.0, ())
        assert (outcome.located, len(held.lots)) == (8.0, 2)
        return
    (died,) = outcome.liquidations
    assert (died.opened_at, died.quantity, died.entry_price) == (STEP, 4.0, wick[entry])
    assert died in outcome.opens
    assert (outcome.liquidated_at_once, outcome.located, outcome.unlocated) == (4.0, 4.0, 4.0)
    assert outcome.consumed_volume == died.volume == 4.0 * wick[entry]
    assert outcome.active_volume == 4.0 * 99.0, "it is never in a snapshot's active volume"
    assert math.fsum(cell.consumed_volume for cell in outcome.cells) == died.volume
    assert len(held.lots) == 1


def test_what_died_at_once_is_not_netted() -> None:
    """Open interest already holds the one who took it over: step 2 counts only lots of earlier candles."""
    held = book(lot("long", 90.0, 5.0), unlocated=5.0, side="long")
    parameters = turnover(entry=(("high", 1.0),))
    outcome = process_candle(held, candle(95.0, low=90.0, high=120.0), 0.0, parameters)
    assert (outcome.liquidated, outcome.opened, outcome.liquidated_at_once) == (5.0, 5.0, 5.0)
    assert (outcome.total, held.lots) == (10.0, {})


def test_a_map_from_volume_alone_only_opens() -> None:
    parameters = turnover(books="two growing", turnover=0.2)
    candles = [candle(100.0, volume=50.0), candle(100.0, low=90.0, volume=100.0, at=STEP)]
    run = run_stepwise(candles, [-7.0, 1e6], parameters, 1000.0)
    longs, shorts = run.outcomes[::2], run.outcomes[1::2]
    assert [(row.opened, row.liquidated, row.closed) for row in longs] == [(10.0, 0.0, 0.0), (20.0, 10.0, 0.0)]
    assert [(row.opened, row.liquidated, row.closed) for row in shorts] == [(10.0, 0.0, 0.0), (20.0, 0.0, 0.0)]
    assert [book.located for book in run.books] == [20.0, 30.0]


# Level shifts


def test_a_level_shift_rescales_what_is_open_before_the_candle() -> None:
    held = book(lot("long", 90.0, 4.0), lot("long", 80.0, 2.0, 210.0), unlocated=2.0, side="long")
    outcome = process_candle(held, candle(95.0, low=90.0), 0.0, turnover(), factor=0.5)
    assert (outcome.rescaled, outcome.liquidated, outcome.consumed_volume) == (-4.0, 2.0, 200.0)
    assert (outcome.opened, outcome.closed, outcome.total) == (2.0, 0.0, 4.0)
    (left,) = (one for one in held.lots.values() if one.price == 80.0)
    assert (left.quantity, left.volume, left.entry_price) == (1.0, 105.0, 105.0)


@pytest.mark.parametrize("parameters", [delta(), turnover()])
def test_a_shift_alone_opens_and_closes_nothing(parameters: ModelParameters) -> None:
    candles = [candle(at=0), candle(at=STEP), candle(at=2 * STEP)]
    run = run_stepwise(candles, [8.0, 0.0, 0.0], parameters, 100.0, factors=[1.0, 1000.0, 1.0])
    before, shifted, after = (outcome for outcome in run.outcomes if outcome.side != "short")
    assert (shifted.opened, shifted.closed, shifted.rescaled) == (0.0, 0.0, 999.0 * before.total)
    assert (shifted.open_interest, shifted.total) == (108_000.0, 1000.0 * before.total)
    assert (after.rescaled, after.total) == (0.0, shifted.total)
    assert before.cells[0].active_volume * 1000 == shifted.cells[0].active_volume


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_factor_is_positive(factor: float) -> None:
    with pytest.raises(ModelError, match="factor = "):
        process_candle(book(), candle(), 0.0, turnover(), factor=factor)
    with pytest.raises(ModelError, match="factors has 2 values"):
        run_stepwise([candle()], [0.0], turnover(), 0.0, factors=[1.0, 1.0])


def test_shares_of_every_kind_of_book() -> None:
    falling = candle(100.0, open_=101.0)
    assert side_shares(Book(), falling) == {"short": 1.0}
    assert side_shares(Book(), candle(100.0)) == {"long": 1.0}
    assert side_shares(Book("long"), falling) == {"long": 1.0}


# 5. Dust


def test_dropped_dust_is_strictly_below_the_share_and_only_after_a_closing() -> None:
    parameters = delta(dust_share=0.25)
    lots = [lot("long", 90.0, 2.0), lot("long", 89.0, 1.9), lot("long", 88.0, 4.1)]
    held = book(*lots)
    assert process_candle(held, candle(), 0.0, delta(dust_share=1.0)).dropped == 0
    outcome = process_candle(held, candle(open_=101.0), -4.0, parameters)  # halves: 1, 0.95, 2.05 of 4
    assert (outcome.closed, outcome.dropped, outcome.unlocated) == (4.0, 0.95, 0.0)
    assert prices(held) == [88.0, 90.0]


def test_the_total_that_dust_is_a_share_of_is_taken_once() -> None:
    """Taken anew after each lot, the limit would fall below the second one, and it would stay."""
    held = book(lot("long", 90.0, 1.8), lot("long", 89.0, 1.9), lot("long", 88.0, 4.3), unlocated=2.0)
    assert process_candle(held, candle(open_=101.0), -5.0, delta(dust_share=0.2)).dropped == pytest.approx(1.85)
    assert prices(held) == [88.0]
    held = book(lot("long", 80.0, 1.8), lot("long", 79.0, 1.9), lot("long", 78.0, 4.3), unlocated=2.0, side="long")
    outcome = process_candle(held, candle(), 0.0, turnover(dust_share=0.2), last_of_day=True)
    assert (outcome.located, outcome.unlocated) == pytest.approx((4.3, 5.7))


def test_what_opens_in_a_candle_is_not_dropped_as_dust_by_it() -> None:
    held = book(lot("short", 120.0, 10.0))
    outcome = process_candle(held, candle(volume=10.0), 0.0, delta(turnover=0.1, dust_share=0.15))
    assert outcome.dropped == 0
    assert outcome.opens[0].quantity == 1.0
    assert prices(held) == [90.0, 120.0]


def test_unlocated_dust_moves_once_a_day_and_the_total_stays() -> None:
    parameters = turnover(dust_share=0.375)
    held = book(lot("long", 80.0, 1.5), lot("long", 70.0, 1.0), unlocated=1.0, side="long")
    before = process_candle(held, candle(), 0.5, parameters)
    assert (before.located, before.unlocated) == (3.0, 1.0)
    after = process_candle(held, candle(at=STEP), 0.0, parameters, last_of_day=True)
    assert (after.located, after.unlocated, after.dropped) == (1.5, 2.5, 0.0)  # 1.5 of 4 is not below 0.375
    assert [cell.price_bucket for cell in after.cells] == [80.0]


def test_a_run_knows_the_last_existing_candle_of_each_day() -> None:
    candles = [candle(at=DAY - 2 * STEP), candle(at=DAY), candle(at=DAY + STEP), candle(at=DAY + 2 * STEP)]
    parameters = turnover(dust_share=1.0)
    run = run_stepwise(candles, [1.0, 1.0, 1.0, 1.0], parameters, 1.0)
    assert [outcome.located for outcome in run.outcomes[::2]] == [0.0, 1.0, 2.0, 0.0]
    assert [outcome.total for outcome in run.outcomes[::2]] == [2.0, 3.0, 4.0, 5.0]


# 6. Snapshot


def test_cells_are_floors_of_integer_prices() -> None:
    held = book(lot("long", 90.0), lot("long", 89.99999999), lot("short", 99.9, 2.0), lot("long", 100.0, 5.0))
    outcome = process_candle(held, candle(95.0, low=94.0, high=96.0), 0.0, delta(bucket=10.0))
    assert outcome.cells == (
        HeatmapCell(80.0, "long", 100.0, 0.0),
        HeatmapCell(90.0, "long", 100.0, 0.0),
        HeatmapCell(90.0, "short", 200.0, 0.0),
        HeatmapCell(100.0, "long", 0.0, 500.0),
    )
    assert outcome.active_volume == 400.0
    assert outcome.consumed_volume == 500.0


def test_snapshots_put_the_books_together() -> None:
    candles = [candle(100.0, at=0), candle(100.0, low=90.0, at=STEP)]
    run = run_stepwise(candles, [2.0, 0.0], turnover(), 0.0)
    first, second = run.snapshots
    assert first.price_buckets.tolist() == [90.0, 110.0]
    assert first.sides.tolist() == [1, -1]
    assert (first.positions_created, first.positions_consumed) == (2, 0)
    assert (second.positions_created, second.positions_consumed) == (1, 1)
    assert (second.consumed_long, second.consumed_short) == (200.0, 0.0)
    assert (second.total_long_volume, second.total_short_volume) == (200.0, 200.0)
    assert second.timestamp == STEP


# Runs


def test_the_models_start_with_different_books() -> None:
    assert run_stepwise([], [], delta(), 7.0).books == (Book(),)
    assert run_stepwise([], [], turnover(), 7.0).books == (Book("long", unlocated=7.0), Book("short", unlocated=7.0))


def test_a_candle_of_nothing_has_a_ledger_row_and_an_empty_snapshot() -> None:
    run = run_stepwise([candle()], [0.0], delta(), 0.0)
    (outcome,) = run.outcomes
    assert (outcome.opened, outcome.closed, outcome.total, outcome.opens) == (0.0, 0.0, 0.0, ())
    assert len(run.snapshots[0]) == 0


@pytest.mark.parametrize(
    ("candles", "flows", "start", "message"),
    [
        ([candle()], [], 0.0, "flows has 0 values for 1 candles"),
        ([candle(), candle()], [0.0, 0.0], 0.0, "does not start after"),
        ([candle(at=STEP), candle()], [0.0, 0.0], 0.0, "does not start after"),
        ([candle()], [math.nan], 0.0, "flow = nan of candle 0"),
        ([candle()], [0.0], -1.0, "start_open_interest = -1.0"),
        ([candle()], [0.0], math.nan, "start_open_interest = nan"),
    ],
)
def test_runs_refuse_what_is_not_a_market(
    candles: list[Candle], flows: list[float], start: float, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        run_stepwise(candles, flows, turnover(), start)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_quantities_must_be_quantities(value: float) -> None:
    with pytest.raises(ModelError, match="closed = "):
        remove_proportionally(book(), value)
    with pytest.raises(ModelError, match="opened = "):
        create_positions(candle(), value, delta(), {"long": 1.0})


# What must hold


def market(seed: int, size: int) -> tuple[list[Candle], list[float], float]:
    """A random walk with wicks, gaps, dojis, holes over midnight, and open interest that builds up and flushes."""
    random = np.random.default_rng(seed)
    close, open_interest, at = 100.0, float(random.uniform(0, 1000)), DAY - size // 2 * STEP
    start, candles, flows = open_interest, [], []
    for _ in range(size):
        open_ = close * float(random.choice([1.0, 1.0, math.exp(random.normal(0, 0.03))]))
        close = min(max(open_ * float(random.choice([1.0, math.exp(random.normal(0, 0.02))])), 10.0), 1000.0)
        low, high = min(open_, close), max(open_, close)
        low, high = low * (1 - abs(random.normal(0, 0.01))), high * (1 + abs(random.normal(0, 0.01)))
        candles.append(Candle(at, open_, high, low, close, float(random.choice([0.0, random.uniform(0, 2000)]))))
        after = float(random.choice([open_interest, open_interest * random.uniform(0.3, 1.5) + random.uniform(0, 50)]))
        flows.append(after - open_interest)
        open_interest, at = after, at + STEP * int(random.integers(1, 3))
    return candles, flows, start


def check_ledger(run: StepwiseRun, candles: list[Candle], start: float, parameters: ModelParameters) -> None:
    books = len(run.books)
    previous = [0.0 if not parameters.spec.rules.holds_open_interest else start] * books
    for index, outcome in enumerate(run.outcomes):
        number, at = index % books, index // books
        moved = outcome.rescaled - outcome.liquidated - outcome.closed + outcome.opened - outcome.dropped
        assert outcome.total == pytest.approx(previous[number] + moved, rel=1e-9, abs=1e-9)
        previous[number] = outcome.total
        check_volumes(outcome)
        fresh = [lot for lot in outcome.liquidations if lot.opened_at == candles[at].open_time]
        assert all(lot.opened_at <= candles[at].open_time for lot in outcome.liquidations)
        assert outcome.liquidated_at_once == pytest.approx(math.fsum(lot.quantity for lot in fresh))


def check_volumes(outcome: CandleOutcome) -> None:
    numbers = (
        outcome.opened,
        outcome.liquidated,
        outcome.liquidated_at_once,
        outcome.closed,
        outcome.dropped,
        outcome.located,
        outcome.unlocated,
    )
    assert all(math.isfinite(value) and value >= 0 for value in numbers)
    assert math.fsum(cell.active_volume for cell in outcome.cells) == pytest.approx(outcome.active_volume)
    assert math.fsum(cell.consumed_volume for cell in outcome.cells) == pytest.approx(outcome.consumed_volume)
    assert outcome.consumed_volume == pytest.approx(math.fsum(lot.volume for lot in outcome.liquidations))


SPECS = [
    ModelParameters(MODELS["delta"], bucket=1.0),
    ModelParameters(MODELS["turnover"], bucket=1.0),
    ModelParameters(VOLUME_ONLY, bucket=1.0),
    delta(turnover=0.1, liquidable=0.7, dust_share=0.05, entry=MODELS["turnover"].entry),
    turnover(turnover=0.1, dust_share=0.05, liquidable=0.9),
]


@examples(60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from(SPECS))
def test_nothing_is_lost_and_nothing_appears(seed: int, size: int, parameters: ModelParameters) -> None:
    candles, flows, start = market(seed, size)
    random = np.random.default_rng(seed)
    shift, factor = int(random.integers(size)), float(random.choice([0.001, 0.5, 1.0, 3.0, 1000.0]))
    flows = flows[:shift] + [flow * factor for flow in flows[shift:]]
    factors = [factor if index == shift else 1.0 for index in range(size)]
    run = run_stepwise(candles, flows, parameters, start, factors=factors)
    check_ledger(run, candles, start, parameters)
    if parameters.spec.rules.holds_open_interest:
        for outcome in run.outcomes:
            assert outcome.total == pytest.approx(outcome.open_interest, rel=1e-9)


@examples(30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from(SPECS))
def test_a_candle_leaves_no_older_lot_that_it_reached(seed: int, size: int, parameters: ModelParameters) -> None:
    candles, flows, start = market(seed, size)
    books = run_stepwise([], [], parameters, start).books
    for one, flow in zip(candles, flows, strict=True):
        before = [set(book.lots) for book in books]
        outcomes = [process_candle(book, one, flow, parameters) for book in books]
        for book_, keys, outcome in zip(books, before, outcomes, strict=True):
            fresh = {level.key for level in outcome.opens}
            older = [lot for key, lot in book_.lots.items() if key in keys and key not in fresh]
            assert not any(should_liquidate(lot, one) for lot in older)


@examples(20)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SPECS))
def test_a_run_over_two_days_is_the_two_days_one_after_the_other(seed: int, parameters: ModelParameters) -> None:
    candles, flows, start = market(seed, 30)
    whole = run_stepwise(candles, flows, parameters, start)
    cut = sum(one.open_time < DAY for one in candles)
    first = run_stepwise(candles[:cut], flows[:cut], parameters, start)
    second = run_stepwise(candles[cut:], flows[cut:], parameters, first.outcomes[-1].open_interest, first.books)
    assert first.outcomes + second.outcomes == whole.outcomes
    assert second.books == whole.books


# The example of docs/model.md, section 7


def test_the_worked_example_of_the_documentation() -> None:
    parameters = ModelParameters(
        replace(MODELS["turnover"], leverage_weights=((10.0, 1.0), (100.0, 1.0))), bucket=100.0
    )
    candles = [
        Candle(0 * STEP, 59_900, 60_400, 59_900, 60_000, 500),
        Candle(1 * STEP, 60_000, 60_000, 59_640, 59_800, 1_000),
        Candle(2 * STEP, 59_800, 59_900, 59_800, 59_900, 250),
    ]
    run = run_stepwise(candles, [100.0, -20.0, 0.0], parameters, start_open_interest=1_000)
    longs, shorts = run.outcomes[::2], run.outcomes[1::2]
    assert [row.liquidated for row in longs] == pytest.approx([0, 1.5, 0])
    assert [row.liquidated_at_once for row in longs] == pytest.approx([0.75, 0, 0])
    assert [row.closed for row in longs] == pytest.approx([100, 218.5, 50])
    assert [row.opened for row in longs] == pytest.approx([200, 200, 50])
    assert [sorted((level.price, round(level.quantity, 4)) for level in row.opens) for row in longs] == [
        [(54_130, 0.75), (54_220, 1.5), (54_580, 0.75), (59_540, 0.75), (59_640, 1.5), (60_040, 0.75)],
        [(53_890, 0.75), (54_040, 1.5), (54_220, 0.75), (59_280, 0.75), (59_440, 1.5), (59_640, 0.75)],
        [(54_040, 0.1875), (54_130, 0.5625), (59_440, 0.1875), (59_540, 0.5625)],
    ]
    assert [row.located for row in longs] == pytest.approx([5.25, 9.0041, 10.0872], abs=1e-4)
    assert [row.unlocated for row in longs] == pytest.approx([1094.75, 1070.9959, 1069.9128], abs=1e-4)
    assert [located_share([row.located], row.open_interest) for row in longs] == pytest.approx(
        [0.0048, 0.0083, 0.0093], abs=1e-4
    )
    assert [row.active_volume for row in longs] == pytest.approx([315_150, 539_225.95, 604_074.29])
    assert [row.consumed_volume for row in longs] == pytest.approx([45_300, 90_000, 0])
    assert [(cell.price_bucket, round(cell.active_volume, 2), cell.consumed_volume) for cell in longs[1].cells] == [
        (53_800, 44_730, 0),
        (54_000, 89_700, 0),
        (54_100, 35_989.08, 0),
        (54_200, 117_098.32, 0),
        (54_500, 36_289.49, 0),
        (59_200, 44_730, 0),
        (59_400, 89_700, 0),
        (59_500, 35_989.08, 0),
        (59_600, 45_000, 90_000),
    ]
    assert (shorts[1].liquidated, shorts[1].closed, shorts[1].opened) == pytest.approx((0, 220, 200))
    assert shorts[1].total == pytest.approx(1_080)


def test_the_located_share_is_of_the_open_interest_of_the_exchange() -> None:
    assert located_share([30.0], 1000.0) == 0.03  # the book of `delta` holds 30 of 1000 contracts, all located
    assert located_share([30.0, 50.0], 1000.0) == 0.04  # each book of `turnover` holds all 1000
    assert located_share([0.0, 0.0], 0.0) == 0.0
