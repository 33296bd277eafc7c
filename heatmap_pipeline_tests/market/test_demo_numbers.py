"""The demo market beside the real one: open interest against volume, and what the default model makes of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from heatmap_pipeline.instants import day_start
from heatmap_pipeline.market.demo import DEMO_EPOCH, DEMO_SYMBOLS, simulate_day, simulate_plan
from heatmap_pipeline.market.flows import Carried, DayFlow, compute_flow
from heatmap_pipeline.model.book import LONG, SHORT, DayCandles, Lots, ModelState
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import MODELS, ModelParameters, choose_bucket

from ._real import binance_days

Array = npt.NDArray[np.float64]

_DAY = timedelta(days=1)
_STEP = 300
_WARM_UP = 5  # days until the map has filled
_MOST_EVER = 0.861  # change of open interest as a share of the volume traded: the largest of 8,185 real intervals
_PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Market:
    """A day of candles of 5 minutes, and samples of open interest by the instant they were taken (microseconds)."""

    day: date
    open_time: npt.NDArray[np.int64]
    candles: dict[str, Array]
    sample_time: npt.NDArray[np.int64]
    contracts: Array
    sample_step: int


@dataclass(frozen=True)
class Modelled:
    """What the default model makes of a day.

    Attributes:
        day: UTC.
        liquidated: what both books lost to price, as a share of the day's first open interest.
        near: share of the active volume within 5 % of the last close, at the end of the day.
        before: lots when the day began.
        low: of the day, units of 1e-8 USDT.
        high: of the day, likewise.
        first_price: USDT.
    """

    day: date
    liquidated: float
    near: float
    before: Lots
    low: int
    high: int
    first_price: float


def demo_days(symbol: str, first: int, count: int, seed: int = 7) -> Iterator[Market]:
    """Give days of the demo market, from `first` days after its epoch on."""
    plan = simulate_plan(symbol, first + count, seed=seed)
    for number in range(first, first + count):
        day = DEMO_EPOCH + number * _DAY
        made = simulate_day(symbol, plan, day, seed=seed)
        open_time = day_start(day) + _STEP * 1_000_000 * np.arange(288)
        candles = dict(zip((*_PRICES, "volume"), made.candles, strict=False))
        yield Market(day, open_time, candles, open_time + _STEP * 1_000_000, made.contracts, _STEP)


def real_days(market_dir: Path, symbol: str, first: date, count: int, sample_step: int) -> Iterator[Market]:
    """Give real days whose samples are labelled when taken."""
    for day, candles, samples in binance_days(market_dir, symbol, first, count, _STEP):
        columns = {name: candles[name].to_numpy(np.float64) for name in (*_PRICES, "volume")}
        taken = samples["contracts"].to_numpy(np.float64)
        yield Market(
            day, _microseconds(candles["open_time"]), columns, _microseconds(samples["label"]), taken, sample_step
        )


def _microseconds(instants: pd.Series) -> npt.NDArray[np.int64]:
    return instants.to_numpy().astype("datetime64[us]").astype(np.int64)


def flows(days: Iterable[Market], symbol: str) -> Iterator[tuple[Market, DayFlow]]:
    """Give each day with its flow, one day handing on to the next."""
    carried: Carried | None = None
    for market in days:
        flow = compute_flow(
            market.open_time,
            market.candles["volume"],
            _STEP,
            market.sample_time,
            market.contracts,
            market.sample_step,
            carried,
            market.day,
            symbol,
        )
        carried = flow.carried
        yield market, flow


def modelled(days: Iterable[Market], symbol: str) -> Iterator[Modelled]:
    """Give what the default model makes of each day."""
    state: ModelState | None = None
    parameters: ModelParameters | None = None
    for market, flow in flows(days, symbol):
        columns = {name: column[flow.first :] for name, column in market.candles.items()}
        candles = DayCandles(
            open_time=market.open_time[flow.first :],
            **columns,
            flow=flow.flow,
            open_interest=flow.open_interest,
            factor=flow.factor,
        )
        if parameters is None or state is None:
            assert flow.start_open_interest is not None
            parameters = ModelParameters(MODELS["turnover"], choose_bucket(float(columns["close"][0])), _STEP)
            state = start_state(parameters, flow.start_open_interest)
        result = run_day(parameters, state, candles)
        lots = result.state.lots
        near = abs(lots.liq_price / 1e8 / columns["close"][-1] - 1) < 0.05
        yield Modelled(
            market.day,
            float(result.ledger["liquidated"].sum() / flow.open_interest[0]),
            float(lots.volume[near].sum() / lots.volume.sum()),
            state.lots,
            round(columns["low"].min() * 1e8),
            round(columns["high"].max() * 1e8),
            float(columns["open"][0]),
        )
        state = result.state


@cache
def demo_modelled(symbol: str, seed: int) -> list[Modelled]:
    """Return 54 days of the demo market, with four violent ones, after the map has filled."""
    return list(modelled(demo_days(symbol, 300, 54 + _WARM_UP, seed), symbol))[_WARM_UP:]


def shares(days: Iterable[Market], step: int) -> tuple[Array, Array]:
    """Return |change of open interest| / volume and volume between each two samples `step` seconds apart."""
    markets = list(days)
    width = step * 1_000_000
    volume = pd.Series(
        np.concatenate([market.candles["volume"] for market in markets]),
        np.concatenate([market.open_time for market in markets]) // width,
    )
    samples = pd.Series(
        np.concatenate([market.contracts for market in markets]),
        np.concatenate([market.sample_time for market in markets]),
    )
    samples = samples[~samples.index.duplicated()]
    samples = samples[samples.index % width == 0]
    samples.index //= width
    traded = volume.groupby(level=0).sum()[volume.groupby(level=0).size() == step // _STEP]
    change = (samples.shift(-1) - samples).abs()[np.append(np.diff(samples.index) == 1, False)]
    both = pd.concat({"change": change, "traded": traded}, axis=1).dropna()
    return (both["change"] / both["traded"]).to_numpy(), both["traded"].to_numpy()


@pytest.mark.parametrize("seed", [7, 1, 2])
@pytest.mark.parametrize("symbol", list(DEMO_SYMBOLS))
def test_no_sample_is_impossible_and_no_level_moves(symbol: str, seed: int) -> None:
    days = list(demo_days(symbol, 400, 28, seed))
    for market, flow in flows(days, symbol):
        assert flow.repairs == {}, market.day
    # Not the tolerance of the repair but the largest share that was ever seen, across midnight too.
    share, _ = shares(days, _STEP)
    assert len(share) == 28 * 288 - 1
    assert share.max() < _MOST_EVER


@pytest.mark.parametrize("symbol", [symbol for symbol, spec in DEMO_SYMBOLS.items() if not spec.follows])
def test_no_fast_move_of_years_closes_more_than_was_traded(symbol: str) -> None:
    moves = 0
    for seed in range(5):
        plan = simulate_plan(symbol, 3 * 365, seed=seed)
        for i in np.flatnonzero(plan.move)[::2]:
            made = simulate_day(symbol, plan, DEMO_EPOCH + int(i) * _DAY, seed=seed)
            change = np.diff(made.contracts, prepend=np.exp(plan.open_interest[i]))
            assert (abs(change) < _MOST_EVER * made.candles[4]).all(), (seed, i)
            moves += 1
    assert moves > 700


@pytest.mark.parametrize("symbol", list(DEMO_SYMBOLS))
def test_open_interest_changes_by_believable_shares_of_volume(symbol: str) -> None:
    days = list(demo_days(symbol, 500, 42))
    share, volume = shares(days, _STEP)
    assert 0.06 < np.median(share) < 0.11
    assert 0.02 < np.median(shares(days, 3600)[0]) < 0.055
    change = pd.Series(share * volume)
    assert 0.4 < change.corr(pd.Series(volume), method="spearman") < 0.7


@pytest.mark.parametrize(
    ("symbol", "first", "count", "step", "least"),
    [
        ("BTCUSDT", date(2024, 9, 13), 6, _STEP, 1400),
        ("DOGEUSDT", date(2024, 9, 13), 6, _STEP, 1400),
        ("BTCUSDT", date(2024, 6, 19), 40, 3600, 900),
    ],
)
def test_shares_of_volume_are_those_of_real_days(
    symbol: str, first: date, count: int, step: int, least: int, market_dir: Path
) -> None:
    seen, _ = shares(real_days(market_dir, symbol, first, count, step), step)
    made, _ = shares(demo_days(symbol, 500, 42), step)
    assert len(seen) > least
    ratio = np.quantile(made, [0.25, 0.5, 0.75, 0.9]) / np.quantile(seen, [0.25, 0.5, 0.75, 0.9])
    assert (ratio > 0.75).all()
    assert (ratio < 1.35).all()


@pytest.mark.parametrize("symbol", list(DEMO_SYMBOLS))
def test_a_day_trades_about_twice_what_is_open(symbol: str) -> None:
    turned = [market.candles["volume"].sum() / market.contracts.mean() for market in demo_days(symbol, 500, 42)]
    assert 1.6 < np.median(turned) < 3
    assert min(turned) > 0.7


@pytest.mark.parametrize("seed", [7, 1])
@pytest.mark.parametrize("symbol", list(DEMO_SYMBOLS))
def test_a_violent_day_liquidates_a_believable_share_and_clears_bands(symbol: str, seed: int) -> None:
    """Real set A: 0.5 % of open interest on a median day, 1.7 % on its most violent one, which was milder than ours."""
    plan = simulate_plan(symbol, 400, seed=seed)
    quiet, violent = list[float](), list[float]()
    for seen in demo_modelled(symbol, seed):
        number = (seen.day - DEMO_EPOCH).days
        (violent if plan.violent[number] else quiet).append(seen.liquidated)
        if plan.violent[number]:
            assert cleared(seen, LONG if plan.move[number] < 0 else SHORT) > 0.4, seen.day
    assert len(violent) >= 3
    assert 0.003 < np.median(quiet) < 0.009
    assert min(violent) > 0.008
    assert max(violent) < 0.04
    assert np.median(violent) > 2 * np.median(quiet)


def cleared(seen: Modelled, side: int) -> float:
    """Return which share of the side's contracts within 12 % of the price the day's range has reached."""
    lots = seen.before
    close_by = (lots.side == side) & (abs(lots.liq_price / 1e8 / seen.first_price - 1) < 0.12)
    reached = lots.liq_price >= seen.low if side == LONG else lots.liq_price <= seen.high
    return float(lots.quantity[close_by & reached].sum() / lots.quantity[close_by].sum())


@pytest.mark.parametrize("seed", [7, 1])
@pytest.mark.parametrize("symbol", list(DEMO_SYMBOLS))
def test_levels_near_the_price_are_there_to_be_seen(symbol: str, seed: int) -> None:
    near = [seen.near for seen in demo_modelled(symbol, seed)]
    assert np.median(near) > 0.12
    assert min(near) > 0.05


def test_the_model_makes_of_it_what_it_makes_of_real_days(market_dir: Path) -> None:
    real = list(modelled(real_days(market_dir, "BTCUSDT", date(2024, 6, 19), 40, 3600), "BTCUSDT"))[_WARM_UP:]
    demo = demo_modelled("BTCUSDT", 7)
    for name in ("liquidated", "near"):
        seen, made = (np.array([getattr(day, name) for day in days]) for days in (real, demo))
        assert 0.7 < np.median(made) / np.median(seen) < 1.4, name
        assert 0.7 < made.mean() / seen.mean() < 1.4, name
