"""The sum of a base's markets: exactly what they answer alone, added; who is missing is told, and never stands in."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from heatmap_pipeline.instants import MICROSECONDS, iso
from heatmap_pipeline.model.book import DayCandles
from heatmap_pipeline.model.parameters import MODELS, ModelParameters
from heatmap_pipeline.store.ended import Ended
from heatmap_pipeline.views.base import (
    Base,
    base_window,
    bases,
    find_base,
    is_base,
    leading,
    parts_of_moment,
    without_ended,
)
from heatmap_pipeline.views.columns import VOLUMES
from heatmap_pipeline.views.data import Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.grid import Grid
from heatmap_pipeline.views.heatmap import make_heatmap
from heatmap_pipeline.views.replay import Books, Source
from heatmap_pipeline.views.summed import Summed, make_summed, summed_columns, summed_in
from heatmap_pipeline.views.summed_map import summed_lots_record, summed_map_record
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.model.test_engine import FIRST, SPECS, STEP, make_market, starting
from heatmap_pipeline_tests.views.histories import WithoutReports, history_of

MARKETS = (("BTCUSDC", "USDC"), ("BTCUSDT", "USDT"), ("BYBIT_BTCUSDT", "USDT"))
ONE_TIER = replace(MODELS["delta"], leverage_weights=((10.0, 1.0),))
"""A long that opens at E is liquidated at E x 0.9 / 0.996."""


def exact(values: Any) -> list[Decimal]:
    return [Decimal(repr(float(value))) for value in values]


def cells_of(grid: Grid) -> dict[tuple[int, int, str], Decimal]:
    """Return every volume that is not 0 by interval, price (1e-8) and name."""
    return {
        (interval, (grid.first_bin + row) * grid.units, name): volume
        for name in VOLUMES
        for interval, row, volume in zip(
            grid.interval.tolist(), grid.bin.tolist(), exact(getattr(grid, name)), strict=True
        )
        if volume
    }


# -- a property of any markets


@examples(40)
@given(
    st.randoms(use_true_random=False),
    st.lists(st.sampled_from([1.0, 5.0, 10.0]), min_size=1, max_size=3),
    st.sampled_from(["delta", "turnover", "turnover, large dust, all liquidable"]),
    st.sampled_from([300, 3600, 86_400]),
)
def test_every_cell_is_the_sum_of_what_the_markets_answer_alone(
    random_: random.Random, buckets: list[float], name: str, seconds: int
) -> None:
    sources = []
    for (symbol, quote), bucket in zip(MARKETS, buckets, strict=False):
        parameters = ModelParameters(SPECS[name], bucket)
        market = make_market(random_, parameters, random_.choice([1, 2]), 12, shifts=False)
        later = random_.choice([0, 0, 86_400 * MICROSECONDS])
        market = replace(market, open_time=market.open_time + later)
        sources.append(history_of(parameters, market, starting(market), symbol, quote))
    base = Base("BTC", tuple(sources), {})
    asked = random_.choice([None, round(max(buckets) * 300 * 1e8)])
    begin = FIRST + random_.choice([0, 43_200 * MICROSECONDS])
    try:
        summed = make_summed(base, seconds, "", (begin, FIRST + 2 * 86_400 * MICROSECONDS), asked, 500)
    except ViewError as error:
        assume(error.kind != "not_found")
        raise
    window, units, alone = summed.window, summed.grid.units, {}
    for source, part in zip(summed.base.sources, summed.parts, strict=True):
        if part.at is not None:
            alone[source.symbol.name] = make_heatmap(source, window, "", units, 0)
            assert part.present.sum() == len(alone[source.symbol.name].present)
    whole: dict[tuple[int, int, str], Decimal] = {}
    for heatmap in alone.values():
        for cell, volume in cells_of(heatmap.grid).items():
            whole[cell] = whole.get(cell, Decimal(0)) + volume
    assert cells_of(summed.grid) == whole
    drawn = summed_columns(summed)
    for name_ in VOLUMES:
        for symbol, market in zip(alone, _of_markets(summed, drawn.by_market), strict=True):
            cells = drawn.cells[name_]
            told = {
                (column, round(drawn.prices[row] * 1e8), name_): volume
                for column, row, volume in zip(
                    cells.column.tolist(), cells.row.tolist(), exact(np.nan_to_num(market.volumes[name_])), strict=True
                )
                if volume
            }
            assert told == {cell: volume for cell, volume in cells_of(alone[symbol].grid).items() if cell[2] == name_}
    meta = summed.meta()
    newest = [part.present[summed.newest] for part in summed.parts if part.at is not None]
    assert meta["markets_present"] == sum(newest)
    shares = [part["share"] for part in meta["parts"] if part["share"] is not None]
    assert sum(shares) == pytest.approx(1.0) or meta["total_long_volume"] + meta["total_short_volume"] == 0
    for side in ("long", "short"):
        held = np.array([np.nan_to_num(market.zones[side]) for market in drawn.by_market]).sum(axis=0)
        zones = drawn.zones.record()[side]
        np.testing.assert_allclose(held, zones["volume"], rtol=1e-9, atol=1e-3)


def _of_markets(summed: Summed, markets: Any) -> list[Any]:
    return [market for market, part in zip(markets, summed.parts, strict=True) if part.at is not None]


# -- a market worked by hand


def candles(rows: list[tuple[int, float, float, float, float]]) -> DayCandles:
    """Return candles of (number of the slot, open, low, close, flow); the open interest starts from 100 contracts."""
    slot, opened, low, close, flow = (np.array(column) for column in zip(*rows, strict=True))
    high = np.maximum(opened, close)
    volume = np.ones(len(rows))
    return DayCandles(FIRST + slot * STEP, opened, high, low, close, volume, flow, 100.0 + np.cumsum(flow))


def two_markets() -> tuple[Source, Source]:
    """Return a market in USDC of bucket 50 with 100 contracts more, without a candle in slot 1, and one in USDT of 100.

    Liquidation prices: of 10,000 it is 9,036.14, of 10,050 it is 9,081.33.
    """
    dear = candles([(0, 9_990.0, 9_990.0, 10_050.0, 2.0), (2, 9_990.0, 9_990.0, 10_000.0, 1.0)])
    dear = replace(dear, open_interest=dear.open_interest + 100.0)
    cheap = candles([(0, 9_990.0, 9_990.0, 10_000.0, 1.0), (1, 9_990.0, 9_030.0, 9_980.0, 0.0)])
    return (
        history_of(ModelParameters(ONE_TIER, 50.0), dear, 200.0, "BTCUSDC", "USDC"),
        history_of(ModelParameters(ONE_TIER, 100.0), cheap, 100.0, "BTCUSDT", "USDT"),
    )


def five_minutes(base: Base) -> Any:
    columns = summed_columns(make_summed(base, 300, "5m", (None, None), None, 2000))
    cells = {
        name: list(zip(cells.column.tolist(), drawn_prices(columns, cells.row), cells.volume.tolist(), strict=True))
        for name, cells in columns.cells.items()
    }
    return columns, cells


def test_of_a_bucket_that_fits_the_price_nothing_is_said() -> None:
    columns, _ = five_minutes(Base("BTC", two_markets(), {}))
    assert (columns.meta["bucket"], columns.meta["bucket_misfit"]) == (100.0, None)
    low = columns.prices[0]
    assert columns.meta["price_range"] == {"min": low, "max": columns.prices[-1] + columns.meta["price_bin_size"]}


def drawn_prices(columns: Any, rows: Any) -> list[float]:
    return [float(columns.prices[row]) for row in rows]


def test_nested_buckets_and_two_quote_assets_worked_by_hand() -> None:
    columns, cells = five_minutes(Base("BTC", two_markets(), {}))
    # 2 x 10,050 USDC in the bucket 9,050 and 1 x 10,000 USDT in 9,000 make one cell of the bucket 9,000. In the second
    # interval the market in USDT falls to 9,030 and its long is liquidated; that in USDC has no candle there, so it is
    # missing, and its longs are not liquidated by the other's price. In the third it is the other that is missing.
    assert cells == {
        "long": [(0, 9000.0, 30_100.0), (2, 9000.0, 30_100.0)],
        "short": [],
        "consumed_long": [(1, 9000.0, 10_000.0)],
        "consumed_short": [],
    }
    usdc, usdt = columns.by_market
    np.testing.assert_array_equal(usdc.volumes["long"], [20_100.0, 30_100.0])
    np.testing.assert_array_equal(usdt.volumes["long"], [10_000.0, np.nan])
    np.testing.assert_array_equal(usdc.volumes["consumed_long"], [np.nan])
    np.testing.assert_array_equal(usdt.volumes["consumed_long"], [10_000.0])
    np.testing.assert_array_equal(np.isnan(usdc.located_shares), [False, True, False])
    assert columns.located_shares.tolist() == pytest.approx([3 / 303, 0.0, 3 / 203])
    meta = columns.meta
    assert (meta["symbol"], meta["price_bin_size"], meta["bucket"]) == ("BTC", 100.0, 100.0)
    assert meta["units"]["volume"] == "USD"
    assert [part["quote"] for part in meta["parts"]] == ["USDC", "USDT"]
    assert [part["without_candles"] for part in meta["parts"]] == [[(1, 2)], [(2, 3)]]
    assert (meta["markets"], meta["markets_present"]) == (2, 1)
    assert (meta["candles_of"], meta["price"]) == ("BTCUSDC", 10_000.0)
    assert meta["total_long_volume"] == 30_100.0
    assert [(part["missing"], part["late"], part["late_seconds"]) for part in meta["parts"]] == [
        (False, False, 0),
        (True, False, 300),
    ]


def test_the_zones_of_the_sum_tell_what_each_market_has_in_them() -> None:
    columns, _ = five_minutes(Base("BTC", two_markets(), {}))
    zones = columns.zones.record()["long"]
    assert zones["time"].tolist() == [0, 2]
    assert (zones["low"][0], zones["high"][0], zones["volume"][0]) == (9000.0, 9100.0, 30_100.0)
    usdc, usdt = (market.zones["long"] for market in columns.by_market)
    np.testing.assert_array_equal(usdc, [20_100.0, 30_100.0])
    np.testing.assert_array_equal(usdt, [10_000.0, np.nan])


def test_the_map_and_the_lots_of_a_moment_are_those_of_both_markets() -> None:
    base = Base("BTC", two_markets(), {})
    parts = parts_of_moment(base, FIRST + STEP)
    found = summed_map_record(base, parts, None, 10.0)
    assert found["buckets"] == [
        {
            "price": 9000.0,
            "long": 30_100.0,
            "short": 0.0,
            "cumulative_long": 30_100.0,
            "cumulative_short": 0.0,
            "distance_percent": -10.447761,
            "parts": {"BTCUSDC": {"long": 20_100.0, "short": 0.0}, "BTCUSDT": {"long": 10_000.0, "short": 0.0}},
        }
    ]
    assert found["nearest"]["below"]["parts"] == {"BTCUSDC": 20_100.0, "BTCUSDT": 10_000.0}
    assert found["units"] == {"time": "UTC", "price": "USD", "volume": "USD"}
    assert [part["share"] for part in found["parts"]] == pytest.approx([201 / 301, 100 / 301])
    assert found["located_share"] == pytest.approx(3 / 303)
    lots = summed_lots_record(base, parts, None)
    assert lots["long"]["volume"].tolist() == [30_100.0]
    assert lots["nearest"] == found["nearest"]


# -- which markets


def version_of(*sources: Source, outdated: Mapping[str, str] | None = None) -> Version:
    nothing: Any = None
    return WithoutReports("", {each.symbol.name: each.symbol for each in sources}, outdated or {}, nothing)


def test_a_market_wins_over_the_base_of_the_same_name() -> None:
    dear, cheap = two_markets()
    odd = replace(cheap, symbol=replace(cheap.symbol, name="BTC"))
    assert is_base(version_of(dear, cheap), "BTC")
    assert not is_base(version_of(dear, odd), "BTC")
    assert not is_base(version_of(dear, outdated={"BTC": "by an earlier version"}), "BTC")
    assert not is_base(version_of(dear), "ETH")
    assert bases(version_of(dear, cheap)) == {"BTC": ("BTCUSDC", "BTCUSDT")}


def test_markets_of_a_base_that_cannot_be_added_are_named_with_why() -> None:
    dear, cheap = two_markets()
    other = replace(cheap, symbol=replace(cheap.symbol, models={"turnover": cheap.model}))
    version = version_of(dear, other, outdated={"BYBIT_BTCUSDT": "an earlier version computed it", "ETHUSDT": "too"})
    base = find_base(version, Books(0), "BTC", "delta")
    assert [each.symbol.name for each in base.sources] == ["BTCUSDC"]
    assert base.not_shown == {
        "BTCUSDT": "nothing of delta is published of BTCUSDT",
        "BYBIT_BTCUSDT": "an earlier version computed it",
    }
    said = make_summed(base, 300, "5m", (None, None), None, 2000).meta()
    assert (said["markets"], said["markets_present"], said["not_shown"]) == (3, 1, dict(base.not_shown))
    with pytest.raises(ViewError, match="model delta of BTCUSDT is not published"):
        find_base(version, Books(0), ("BTCUSDC", "BTCUSDT"), "delta")


def test_markets_of_two_bases_are_not_added() -> None:
    dear, cheap = two_markets()
    other = replace(cheap, symbol=replace(cheap.symbol, name="ETHUSDT", base="ETH"))
    with pytest.raises(ViewError, match="BTCUSDC is a market of BTC, ETHUSDT of ETH; only markets of one base"):
        find_base(version_of(dear, other), Books(0), ("BTCUSDC", "ETHUSDT"), None)


# -- late, ended, and buckets that do not nest


def later_by(source: Source, seconds: int) -> Source:
    """Return a market whose candles all open later."""
    market = candles([(0, 9_990.0, 9_990.0, 10_000.0, 1.0), (1, 9_990.0, 9_990.0, 9_980.0, 0.0)])
    market = replace(market, open_time=market.open_time + seconds * MICROSECONDS)
    return history_of(ModelParameters(ONE_TIER, 100.0), market, 100.0, source.symbol.name, source.symbol.quote)


@pytest.mark.parametrize(("seconds", "missing"), [(0, False), (900, False), (1200, True)])
def test_a_market_that_is_late_is_missing_in_the_map_and_shows_no_candles(seconds: int, missing: bool) -> None:
    dear, cheap = two_markets()
    base = Base("BTC", (replace_end(dear), later_by(cheap, seconds)), {})
    found = summed_map_record(base, parts_of_moment(base, None), None, 10.0)
    late, other = found["parts"]
    assert (late["missing"], late["late"], late["late_seconds"]) == (missing, missing, seconds)
    assert (late["long_volume"] is None, late["share"] is None) == (missing, missing)
    assert late["as_of"] == iso(FIRST + 2 * STEP)
    assert found["as_of"] == other["as_of"]
    assert found["markets_present"] == 2 - missing
    # It has more open interest, and yet no price of its own is shown once it is late.
    assert found["candles_of"] == ("BTCUSDT" if missing else "BTCUSDC")


def replace_end(source: Source) -> Source:
    """Return the market in USDC with candles in slots 0 and 1."""
    dear = candles([(0, 9_990.0, 9_990.0, 10_050.0, 2.0), (1, 9_990.0, 9_990.0, 10_000.0, 1.0)])
    dear = replace(dear, open_interest=dear.open_interest + 100.0)
    return history_of(ModelParameters(ONE_TIER, 50.0), dear, 200.0, source.symbol.name, source.symbol.quote)


def test_a_market_that_ended_is_not_late_and_is_left_out_of_what_follows() -> None:
    dear, cheap = two_markets()
    ended = replace_end(dear)
    symbol = replace(ended.symbol, ended=Ended(date(2024, 6, 26), "said so"))
    base = Base("BTC", (replace(ended, symbol=symbol), later_by(cheap, 3600)), {})
    parts = parts_of_moment(base, None)
    assert [(part.behind, part.late, bool(part.present[0])) for part in parts] == [
        (True, False, False),
        (False, False, True),
    ]
    assert leading(parts)[0].source.symbol.name == "BTCUSDT"
    assert [each.symbol.name for each in without_ended(base, FIRST + STEP).sources] == ["BTCUSDC", "BTCUSDT"]
    assert [each.symbol.name for each in without_ended(base, FIRST + 3600 * MICROSECONDS).sources] == ["BTCUSDT"]


def test_buckets_that_do_not_divide_each_other_are_refused() -> None:
    dear, cheap = two_markets()
    odd = history_of(ModelParameters(ONE_TIER, 70.0), candles([(0, 9_990.0, 9_990.0, 10_000.0, 1.0)]), 100.0)
    base = Base("BTC", (dear, replace(odd, symbol=replace(odd.symbol, name=cheap.symbol.name))), {})
    with pytest.raises(ViewError, match="bucket of BTCUSDC, 50, does not divide that of BTCUSDT, 70"):
        make_summed(base, 300, "5m", (None, None), None, 2000)


def test_an_interval_that_the_candles_of_a_market_do_not_fit_into_names_it() -> None:
    base = Base("BTC", two_markets(), {})
    with pytest.raises(ViewError, match="BTCUSDC: interval 1m is finer than the stored candles of 5m"):
        base_window(base, 60, "1m", None, None)


def test_the_order_in_which_markets_are_named_changes_nothing() -> None:
    one, other = two_markets()
    window = base_window(Base("BTC", (one, other), {}), 300, "5m", None, None)
    grids = [
        summed_in(Base("BTC", sources, {}), window, "5m", None, 2000).grid for sources in ((one, other), (other, one))
    ]
    assert cells_of(grids[0]) == cells_of(grids[1])


def test_more_cells_than_an_answer_may_hold_are_refused() -> None:
    base = Base("BTC", two_markets(), {})
    window = base_window(base, 300, "5m", None, None)
    assert len(summed_in(base, window, "5m", None, 2000, 4).grid.interval) == 3, "of the markets there are 2 and 2"
    with pytest.raises(ViewError, match=r"would hold 4 levels, more than 3; ask for .* fewer symbols") as refusal:
        summed_in(base, window, "5m", None, 2000, 3)
    assert refusal.value.kind == "too_large"
