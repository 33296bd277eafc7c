"""A market that exists nowhere, so that the pipeline can be seen at work without a network: seeded and repeatable.

A script of 14-day acts (range or trend, one violent day, recovery) gives the daily levels of price, open interest and
volatility from the epoch on; within a day a path is bridged from level to level. Both depend on seed, symbol and date
only, never on which days are asked for.

One contract is traded on a second exchange too: its price follows that of the first, a few basis points beside it and
wider apart while price moves fast; its flows are its own, and its open interest is published with both sides added.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.market import demo_files as files
from heatmap_pipeline.market.tables import MarketError

DEMO_EPOCH = date(2024, 1, 1)
"""First day of the demo market."""

_VERSION = 2  # of the numbers: raise it when the same seed gives other ones, so that old files are written anew
_ACT = 14  # days; one violent day per act on its day 3 to 10, hence never more than 21 days apart
_CANDLES = 288
_SUBSTEPS = 10  # steps of the path inside a candle, for its wicks
_STEPS = _CANDLES * _SUBSTEPS
_HOUR = _STEPS / 24

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DemoSymbol:
    """What one simulated market is like.

    Attributes:
        price: USDT the market starts at and wanders around.
        price_decimals: the tick is 10 to the minus this.
        lot_decimals: the smallest quantity of contracts is 10 to the minus this.
        daily_volatility: standard deviation of a quiet day's log return.
        correlation: with the factor all symbols share, 0 to 1.
        volume: contracts of a typical candle.
        trade_size: contracts of a typical trade.
        open_interest: contracts, the level it wanders around.
        net_share: standard deviation of a candle's change of open interest, as a share of its volume.
        follows: the symbol whose price this one keeps to, as the same contract on another exchange does; '' for none.
        sides: how often each contract counts in the open interest that is published: 1, or 2 where both sides are.
    """

    price: float
    price_decimals: int
    lot_decimals: int
    daily_volatility: float
    correlation: float
    volume: float
    trade_size: float
    open_interest: float
    net_share: float
    follows: str = ""
    sides: int = 1


DEMO_SYMBOLS: dict[str, DemoSymbol] = {
    "BTCUSDT": DemoSymbol(76_000, 1, 3, 0.019, 0.97, 600, 0.2, 88_000, 0.112),
    "ETHUSDT": DemoSymbol(2_850, 2, 3, 0.0225, 0.86, 15_000, 2.4, 1_950_000, 0.112),
    "SOLUSDT": DemoSymbol(155, 2, 2, 0.027, 0.80, 66_000, 24, 8_600_000, 0.125),
    "DOGEUSDT": DemoSymbol(0.19, 5, 0, 0.029, 0.74, 9_900_000, 12_000, 1_400_000_000, 0.138),
    "BYBIT_BTCUSDT": DemoSymbol(76_000, 1, 3, 0.019, 0.97, 265, 0.1, 39_000, 0.112, follows="BTCUSDT", sides=2),
}
"""The symbols the demo market knows.

Volume against open interest, ranges and net shares are those of real days: BTCUSDT and ETHUSDT of June and July 2024,
BTCUSDT and DOGEUSDT of September 2024, BTCUSDT of March 2026. SOLUSDT, of which there were none, lies between them."""


@dataclass(frozen=True)
class DemoPlan:
    """Daily levels and events of one symbol from the epoch on; day i is `DEMO_EPOCH` plus i days.

    Attributes:
        price: log price in USDT at the start of each day, one more than there are days.
        open_interest: log contracts at the same instants.
        volatility: standard deviation of a day's log return, at the same instants.
        move: log size of each day's fast move, with its sign; 0 where the day has none.
        rebound: part of the fast move that is taken back the same day.
        flush: log change of open interest during the fast move, 0 or negative.
        violent: days of mass liquidation.
    """

    price: Array
    open_interest: Array
    volatility: Array
    move: Array
    rebound: Array
    flush: Array
    violent: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class DemoDay:
    """One simulated day: 288 candles of 5 minutes, and the open interest at the end of each, every contract once.

    Attributes:
        candles: (9, 288): open, high, low, close (USDT), volume (contracts), quote volume (USDT), trades, taker buy
            volume (contracts), taker buy quote volume (USDT).
        contracts: open interest at the end of each candle.
        mark: mark price at the same instants, USDT.
    """

    candles: Array
    contracts: Array
    mark: Array


@dataclass(frozen=True)
class _Event:
    """A fast move inside a day.

    Attributes:
        path: its log price (2,881).
        heat: how excited each candle is, 1 in a move of 10 % (288).
        start: step it starts at.
        turn: step of its extreme.
    """

    path: Array
    heat: Array
    start: int
    turn: int

    @property
    def pins(self) -> list[int]:
        """Steps where the path is as planned; none on a day without a fast move."""
        third = (self.turn - self.start) // 3
        later = self.turn + (_STEPS - self.turn) // 6
        return [self.start, self.start + third, self.turn - third, self.turn, later] if self.turn else []


def write_demo_days(
    root: Path,
    symbol: str,
    days: Sequence[date],
    *,
    seed: int = 7,
    on_day: Callable[[date], None] | None = None,
) -> list[Path]:
    """Write archive files of simulated days: 5m candles and open interest, each with its checksum.

    The same seed, symbol and day give the same bytes on every machine, in any order, beside any other days. Files of
    this market that are there and whole are left alone. `root` gets a file that says that all in it is simulated.

    Args:
        root: folder of the archive's tree (`futures/um/daily/...`); made if missing.
        symbol: one of `DEMO_SYMBOLS`.
        days: UTC, not before `DEMO_EPOCH`.
        seed: which of the possible markets, 0 or more.
        on_day: called after each day, written or found complete.

    Returns:
        The zips written by this call.

    Raises:
        MarketError: unknown symbol, negative seed, a day before the epoch, a root that holds other market files, or a
            disk that refuses.
    """
    spec = _spec(symbol)
    if early := [day for day in days if day < DEMO_EPOCH]:
        raise MarketError(f"the demo market begins on {DEMO_EPOCH}; {min(early)} is before it, ask for later days")
    if not days:
        return []
    plan = simulate_plan(symbol, (max(days) - DEMO_EPOCH).days + 1, seed=seed)
    files.write_marker(root)
    comment = f"SIMULATED by the heatmap pipeline's demo market, version {_VERSION}, seed {seed}"
    written: list[Path] = []
    for day in dict.fromkeys(days):
        candles, metrics = files.candles_path(root, symbol, day), files.metrics_path(root, symbol, day)
        if not (files.is_complete(candles, comment) and files.is_complete(metrics, comment)):
            made = simulate_day(symbol, plan, day, seed=seed)
            csv = files.candles_csv(day, list(made.candles), spec.price_decimals, spec.lot_decimals)
            files.write_zip(candles, csv, comment)
            csv = files.metrics_csv(day, symbol, made.contracts * spec.sides, made.mark, spec.lot_decimals)
            files.write_zip(metrics, csv, comment)
            written += [candles, metrics]
        if on_day is not None:
            on_day(day)
    return written


def simulate_plan(symbol: str, days: int, *, seed: int = 7) -> DemoPlan:
    """Return the daily levels and events of the first `days` days; a longer plan begins with the shorter one.

    Raises:
        MarketError: unknown symbol or negative seed.
    """
    spec = _spec(symbol)
    acts = days // _ACT + 1
    scale = spec.daily_volatility / DEMO_SYMBOLS["BTCUSDT"].daily_volatility
    # All symbols share the script. Its draws, per act: 0 day, 1 direction, 2 size, 3 rebound and 4 flush of the violent
    # day; 5 whether a range or a trend goes before it; 6 period and 7 phase of the swings; 8 direction and 9 pace of a
    # trend.
    script = _generator(seed, "script").random((acts, 10))
    shared = _generator(seed, "market").standard_normal((acts, _ACT + 1, 3))
    own_noise = _generator(seed, spec.follows or symbol).standard_normal((acts, _ACT + 1, 3))
    noise = spec.correlation * shared + np.sqrt(1 - spec.correlation**2) * own_noise
    if spec.follows:
        # Measured on 22 exchanges: of two, open interest moves in the same direction six times in ten.
        flows = _generator(seed, symbol).standard_normal((acts, _ACT + 1))
        noise[:, :, 1] = 0.3 * shared[:, :, 1] + np.sqrt(1 - 0.3**2) * flows
    mood = _autoregressive(shared[:, _ACT, 0], 0.86)
    target = 0.16 * np.sqrt(scale) * np.clip(_autoregressive(noise[:, _ACT, 0], 0.86), -2.2, 2.2)
    level_target = 0.10 * np.clip(_autoregressive(noise[:, _ACT, 1], 0.7), -1.6, 1.6)

    price, level = [0.0], [-0.10]
    move, rebound, flush, violent = (np.zeros(acts * _ACT) for _ in range(4))
    busy = np.ones(acts * _ACT)
    for act in range(acts):
        u = script[act]
        day = 3 + int(u[0] * 8)
        first = act * _ACT
        up = u[1] < 0.5 - 0.28 * np.tanh(mood[act])
        depth = 0.084 + 0.022 * u[2] + 0.008 * abs(np.tanh(own_noise[act, _ACT, 2]))
        steps = slice(first, first + _ACT)
        _sweeps(move[steps], rebound[steps], flush[steps], _generator(seed, "sweeps", act), scale)
        violent[first + day] = 1
        move[first + day] = np.log1p(depth if up else -depth)
        rebound[first + day] = 0.3 + 0.25 * u[3]
        flush[first + day] = np.log1p(-(0.06 + 0.06 * u[4]))
        jump = move[first + day] * (1 - rebound[first + day])
        price += _act_levels(price[-1], target[act], day, jump, u, noise[act, :_ACT, 0], spec.daily_volatility)
        _act_open_interest(level, level_target[act], flush[steps], noise[act, :_ACT, 1])
        if u[5] < 0.62:
            busy[first : first + day] = 0.88  # a range: quiet, until it is not
        busy[first + day : first + _ACT] = 1 + 0.9 * np.exp(-np.arange(_ACT - day) / 1.6)
    calm = np.exp(0.16 * _autoregressive(noise[:, :_ACT, 2].ravel(), 0.75))
    weekday = np.where((np.arange(acts * _ACT) + DEMO_EPOCH.weekday()) % 7 >= 5, 0.74, 1.08)
    return DemoPlan(
        price=np.log(spec.price) + np.array(price[: days + 1]),
        open_interest=np.log(spec.open_interest) + np.array(level[: days + 1]),
        volatility=(spec.daily_volatility * calm * weekday * busy)[: days + 1],
        move=move[:days],
        rebound=rebound[:days],
        flush=flush[:days],
        violent=violent[:days] > 0,
    )


def simulate_day(symbol: str, plan: DemoPlan, day: date, *, seed: int = 7) -> DemoDay:
    """Return one day of a plan that covers it, with the plan's seed.

    Raises:
        MarketError: unknown symbol or negative seed.
    """
    spec = _spec(symbol)
    i = (day - DEMO_EPOCH).days
    market = _generator(seed, "market", day.toordinal())
    rng = _generator(seed, spec.follows or symbol, day.toordinal())
    event = _event(plan, i, market)
    volatility = _volatility(plan, i, event, market, rng)
    part = np.sqrt(1 - spec.correlation**2)
    steps = spec.correlation * market.standard_normal(_STEPS) + part * rng.standard_normal(_STEPS)
    spread = np.repeat(volatility / np.sqrt(_STEPS), _SUBSTEPS)
    path = _bridge(plan.price[i], plan.price[i + 1], event.path, steps * spread, spread**2, event.pins)
    if spec.follows:
        rng = _generator(seed, symbol, day.toordinal())
        path += _basis(symbol, day, event, seed)
    prices = _candle_prices(path, volatility, spec, rng)
    quantities = _quantities(prices, volatility, event, spec, rng)
    contracts = _open_interest(plan, i, event, quantities[0], spec, rng)
    # The mark price follows an index: near the last trade, about half a basis point away.
    mark = np.round(prices[3] * (1 + 0.5e-4 * rng.standard_normal(_CANDLES)), spec.price_decimals + 2)
    return DemoDay(np.vstack([prices, quantities]), contracts, mark)


def _spec(symbol: str) -> DemoSymbol:
    if symbol not in DEMO_SYMBOLS:
        raise MarketError(f"the demo market has no symbol {symbol!r}; it knows {', '.join(DEMO_SYMBOLS)}")
    return DEMO_SYMBOLS[symbol]


def _generator(seed: int, name: str, number: int = 0) -> np.random.Generator:
    if seed < 0:
        raise MarketError(f"demo seed {seed} is negative; give 0 or more (HEATMAP_DEMO_SEED)")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(name.encode()), number])))


def _autoregressive(noise: Iterable[float], memory: float) -> Array:
    """Return a series of unit variance that remembers `memory` of itself from step to step."""
    gain = float(np.sqrt(1 - memory**2))
    return np.array(list(accumulate(map(float, noise), lambda value, shock: memory * value + gain * shock)))


def _sweeps(move: Array, rebound: Array, flush: Array, rng: np.random.Generator, scale: float) -> None:
    """Fill in the stop runs of an act: fast moves of 2 to 4 % that are mostly taken back."""
    u = rng.random((4, _ACT))
    on = u[0] < 0.24
    size = (0.019 + 0.017 * u[1]) * np.sqrt(scale)
    move[on] = np.where(u[0] < 0.12, size, -size)[on]
    rebound[on] = (0.55 + 0.4 * u[2])[on]
    flush[on] = -(0.005 + 0.013 * u[3])[on]


def _act_levels(start: float, target: float, day: int, jump: float, u: Array, noise: Array, sd: float) -> list[float]:
    """Return the log price at the end of each day of an act: before, on and after its violent day."""
    before = np.arange(1, day + 1)
    period, phase = 2.4 + 2.2 * u[6], 2 * np.pi * u[7]
    swing = np.sin(2 * np.pi * np.arange(1, _ACT + 1) / period + phase) - np.sin(phase)
    level = start + 0.55 * sd * noise
    if u[5] < 0.62:
        level[:day] += 0.75 * sd * swing[:day]
    else:
        # A crowded trend runs against the move that ends it, more often than not.
        against = -np.sign(jump) if u[8] < 0.75 else np.sign(jump)
        level[:day] += against * min(0.5 * sd * (1 + u[9]), 0.085 / day) * before
    level[day] = level[day - 1] + jump
    rest = _ACT - 1 - day
    after = np.arange(1, rest + 1)
    reach = 0.62 * sd * rest
    way = np.clip(target - level[day], -reach, reach)
    wait = min(2, rest // 3)
    progress = np.clip((after - wait) / (rest - wait), 0, 1)
    level[day + 1 :] += level[day] - start + way * progress**1.3 + 0.5 * sd * swing[day + 1 :] * (1 - progress)
    return [float(value) for value in level]


def _act_open_interest(level: list[float], target: float, flush: Array, noise: Array) -> None:
    """Append the log open interest at the end of each day of an act: it builds up towards a target and is flushed."""
    for gone, shock in zip(flush, noise, strict=True):
        build_up = 0.095 * (target + 0.10 - level[-1]) + 0.022 * np.clip(shock, -2.5, 2.5)
        level.append(float(level[-1] + build_up + gone))


def _event(plan: DemoPlan, i: int, rng: np.random.Generator) -> _Event:
    """Lay the day's fast move into its hours: it accelerates in legs to a climax, then part of it is taken back."""
    u = rng.random(5)  # drawn on every day, so that what follows does not depend on there being an event
    path = np.zeros(_STEPS + 1)
    if plan.move[i] == 0:
        return _Event(path, np.zeros(_CANDLES), 0, 0)
    violent = bool(plan.violent[i])
    start = int(_HOUR * (2.5 + 13 * u[0] if violent else 1 + 19 * u[0]))
    length = int(_HOUR * (1.6 + 2 * u[1] if violent else 0.3 + 0.7 * u[1]))
    turn = start + length
    x = (np.arange(length) + 0.5) / length
    legs = 2 + int(2 * u[2])
    speed = (0.12 + np.sin(np.pi * legs * x) ** 2) * (0.35 + x**2.5) + 2.2 * np.exp(-(((x - 0.94) / 0.045) ** 2))
    hours = np.arange(_STEPS + 1 - turn) / _HOUR
    back = 1 - 0.3 * np.exp(-hours / 0.1) - 0.7 * np.exp(-hours / (0.5 + 1.2 * u[3]))  # a snap, then a slow recovery
    path[start + 1 : turn + 1] = plan.move[i] * (np.cumsum(speed) / np.sum(speed))
    path[turn:] = plan.move[i] * (1 - plan.rebound[i] * back / back[-1])
    step = (np.arange(_CANDLES) + 0.5) * _SUBSTEPS
    rising = np.interp(step, np.arange(start, turn), 0.4 + 0.6 * speed / speed.max(), left=0.0, right=1.0)
    heat = rising * np.exp(-np.maximum(step - turn, 0) / (2.2 * _HOUR)) * abs(plan.move[i]) / 0.1
    return _Event(path, heat, start, turn)


def _season() -> Array:
    """Return the volatility of each candle of a day relative to the mean: Asia's morning, Europe's, and New York's."""
    hour = (np.arange(_CANDLES) + 0.5) / 12
    bumps = ((0.4, 0.8, 0.35), (8.2, 1.6, 0.35), (14.2, 1.5, 1.05), (19.5, 2.5, 0.35))
    season = 0.68 + sum(height * np.exp(-(((hour - at) / width) ** 2)) for at, width, height in bumps)
    return np.asarray(season / np.sqrt(np.mean(season**2)))


def _volatility(plan: DemoPlan, i: int, event: _Event, market: np.random.Generator, rng: np.random.Generator) -> Array:
    """Return the volatility of each candle, as a day's: clusters of an hour or so on top of the hours and the days."""
    between = (np.arange(_CANDLES) + 0.5) / _CANDLES
    daily = np.exp((1 - between) * np.log(plan.volatility[i]) + between * np.log(plan.volatility[i + 1]))
    cluster = _autoregressive(0.8 * market.standard_normal(_CANDLES) + 0.6 * rng.standard_normal(_CANDLES), 0.94)
    burst = 0.30 * np.clip(rng.standard_normal(_CANDLES), -2, 2)
    return np.asarray(daily * _season() * np.exp(0.28 * cluster + burst) * (1 + 0.9 * event.heat))


def _bridge(first: float, last: float, shape: Array, steps: Array, weight: Array, pins: Sequence[int]) -> Array:
    """Return a path from `first` to `last` that follows `shape` and wanders by `steps`, but not at the `pins`.

    Pinned there, noise cannot make a violent move larger or smaller than it was meant to be.
    """
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    clock = np.concatenate([[0.0], np.cumsum(weight)])
    knots = sorted({0, *pins, len(steps)})
    rest = last - first - shape[-1]
    path = first + shape + walk - np.interp(clock, clock[knots], walk[knots]) + rest * clock / clock[-1]
    path[0], path[-1] = first, last
    return np.asarray(path)


def _basis(symbol: str, day: date, event: _Event, seed: int) -> Array:
    """Return how far the log price is from that of the market it follows (2,881): the same at midnight for both days.

    Two basis points as a rule; some tens while price moves fast, when wicks of one exchange are not those of the other.
    """
    number = day.toordinal()
    ends = [_generator(seed, f"{symbol} midnight", at).standard_normal() for at in (number, number + 1)]
    drift = _autoregressive(_generator(seed, f"{symbol} basis", number).standard_normal(_STEPS + 1), 0.97)
    drift *= 1 + 8 * np.append(0, np.repeat(event.heat, _SUBSTEPS))
    clock = np.linspace(0, 1, _STEPS + 1)
    return np.asarray(2e-4 * (drift - np.interp(clock, [0, 1], drift[[0, -1]]) + np.interp(clock, [0, 1], ends)))


def _candle_prices(path: Array, volatility: Array, spec: DemoSymbol, rng: np.random.Generator) -> Array:
    """Return open, high, low and close (4, 288) on the tick; a candle opens where the one before closed."""
    inside = np.column_stack([path[:-1].reshape(_CANDLES, _SUBSTEPS), path[_SUBSTEPS::_SUBSTEPS]])
    # Ten points see less than the extremes of a path, and a few candles have a long wick.
    wick = (volatility / np.sqrt(_CANDLES))[:, None] * 0.10 * np.exp(0.8 * rng.standard_normal((_CANDLES, 2)))
    extremes = [inside[:, 0], inside.max(axis=1) + wick[:, 0], inside.min(axis=1) - wick[:, 1], inside[:, -1]]
    ticks = np.rint(np.exp(np.stack(extremes)) * 10**spec.price_decimals)
    return np.asarray(ticks / 10**spec.price_decimals)


def _quantities(prices: Array, volatility: Array, event: _Event, spec: DemoSymbol, rng: np.random.Generator) -> Array:
    """Return volume, quote volume, trades, taker buy volume and taker buy quote volume (5, 288)."""
    opened, high, low, closed = prices
    usual = 1.75 * spec.daily_volatility / np.sqrt(_CANDLES)
    active = 0.75 * np.log((high - low) / opened / usual + 0.05) + 0.15 * np.log(volatility / spec.daily_volatility)
    lot = 10**spec.lot_decimals
    drawn = rng.standard_normal((3, _CANDLES))
    volume = spec.volume * np.exp(active + 0.30 * drawn[0]) * (1 + 1.6 * event.heat)
    volume = np.maximum(np.rint(volume * lot), 1) / lot
    strength = (closed / opened - 1) * np.sqrt(_CANDLES) / volatility
    share = np.clip(0.495 + 0.085 * np.tanh(0.9 * strength) + 0.075 * drawn[1], 0.04, 0.96)
    bought = np.rint(volume * share * lot) / lot
    mean = np.round((opened + high + low + closed) / 4, spec.price_decimals + 1)
    trades = np.maximum(np.rint(volume / spec.trade_size * np.exp(0.12 * drawn[2])), 1)
    return np.stack([volume, volume * mean, trades, bought, bought * mean])


def _open_interest(
    plan: DemoPlan, i: int, event: _Event, volume: Array, spec: DemoSymbol, rng: np.random.Generator
) -> Array:
    """Return the contracts open at the end of each candle: the day's build-up, its noise and the flush.

    A trade opens or closes at most its own quantity, so every part of a change is a share of the candle's volume.
    """
    first, last = np.exp(plan.open_interest[i : i + 2])
    start, turn = event.start // _SUBSTEPS, -(-event.turn // _SUBSTEPS)
    flush = np.zeros(_CANDLES + 1)
    flush[start + 1 : turn + 1] = np.cumsum(volume[start:turn]) / np.sum(volume[start:turn])
    flush[turn:] = 1
    drawn = rng.standard_normal((2, _CANDLES))
    # On real days the share is as good as normal, and remembers a little: its deviation over an hour is 0.4 of that
    # over 5 minutes, where independent shares would make it 0.29.
    share = spec.net_share * np.clip(0.89 * drawn[0] + 0.46 * _autoregressive(drawn[1], 0.8), -4, 4)
    path = _bridge(first, last, flush * first * np.expm1(plan.flush[i]), share * volume, volume, [start, turn])
    return np.asarray(np.rint(path[1:] * 10**spec.lot_decimals) / 10**spec.lot_decimals)
