"""The labels' clock: the prices tell it, else the volume, else the published convention holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.market.clock import Clock, measure_clock
from heatmap_pipeline.market.repair import clean_samples
from heatmap_pipeline_tests.market._files import at
from heatmap_pipeline_tests.market._real import RealDay, binance_days, bybit_days

Floats: TypeAlias = NDArray[np.float64]

BEFORE, AFTER = date(2026, 6, 24), date(2026, 6, 25)
N = 288
OPEN = 100.0 + 10 * np.sin(np.arange(N + 1) / 3)
"""Prices at the grid; a candle closes where the next opens."""


def clock(
    seconds: list[int],
    price: list[float],
    *,
    day: date = BEFORE,
    step: int = 300,
    closes: float = 0.0,
    present: int = N,
    contracts: list[float] | None = None,
    volume: Floats | None = None,
) -> Clock:
    opened = np.array([at(300 * i, day) for i in range(present)], dtype=np.int64)
    label = np.array([at(second, day) for second in seconds], dtype=np.int64)
    return measure_clock(
        label,
        np.full(len(label), 1000.0) if contracts is None else np.array(contracts),
        np.array(price),
        opened,
        OPEN[:present],
        OPEN[1 : present + 1] + closes,
        np.ones(present) if volume is None else volume,
        interval=300,
        step=step,
        day=day,
    )


@pytest.mark.parametrize("day", [BEFORE, AFTER])
@pytest.mark.parametrize("offset", [0, 1])
def test_prices_decide_against_any_convention(day: date, offset: int) -> None:
    measured = clock([300 * i for i in range(200)], [OPEN[i + offset] + 0.1 for i in range(200)], day=day)
    assert (measured.rule, measured.offset, measured.samples) == ("price", 300 * offset, 200)
    differences: list[Any] = [measured.at_label, measured.step_later]
    assert differences[offset] == pytest.approx(0.1)
    assert differences[1 - offset] > 1


def test_hourly_labels_are_compared_an_hour_apart() -> None:
    hours = range(24)
    measured = clock([3600 * i for i in hours], [OPEN[12 * i + 12] for i in hours], step=3600)
    assert (measured.rule, measured.offset, measured.samples) == ("price", 3600, 24)


@pytest.mark.parametrize(("day", "offset"), [(BEFORE, 0), (AFTER, 300)])
@pytest.mark.parametrize("known", [0, 11])
def test_too_few_samples_follow_the_convention(day: date, offset: int, known: int) -> None:
    price = [OPEN[i + 1] if i < known else np.nan for i in range(200)]
    convention = clock([300 * i for i in range(200)], price, day=day)
    assert (convention.rule, convention.offset, convention.samples) == ("convention", offset, known)
    assert (convention.at_label is None) == (known == 0)


def test_twelve_samples_are_enough() -> None:
    assert clock([300 * i for i in range(12)], [OPEN[i + 1] for i in range(12)]).rule == "price"


@pytest.mark.parametrize(("ratio", "rule"), [(0.69, "price"), (0.71, "convention")])
def test_the_smaller_difference_must_be_clearly_smaller(ratio: float, rule: str) -> None:
    rising = 100.0 + np.arange(N + 1, dtype=np.float64)
    opened = np.array([at(300 * i, AFTER) for i in range(N)], dtype=np.int64)
    price = rising[:100] + ratio / (1 + ratio)  # stands between its two instants
    level = np.full(100, 1000.0)
    found = measure_clock(
        opened[:100], level, price, opened, rising[:-1], rising[1:], np.ones(N), interval=300, step=300, day=AFTER
    )
    assert (found.rule, found.offset) == (rule, 0 if rule == "price" else 300)


def test_a_price_that_never_moves_decides_nothing() -> None:
    opened = np.array([at(300 * i, AFTER) for i in range(N)], dtype=np.int64)
    flat = np.full(N, 100.0)
    found = measure_clock(
        opened[:50], flat[:50], flat[:50], opened, flat, flat, flat, interval=300, step=300, day=AFTER
    )
    assert (found.rule, found.offset) == ("convention", 300)
    assert found.at_label == found.step_later == 0


def test_the_path_prefers_the_open_of_the_candle_starting_there() -> None:
    found = clock([300 * i for i in range(200)], [OPEN[i] for i in range(200)], closes=50.0)
    assert (found.rule, found.offset, found.at_label) == ("price", 0, 0.0)


def test_the_path_ends_with_the_close_of_the_last_candle() -> None:
    seconds, price = [300 * i for i in range(N)], [OPEN[i] for i in range(N)]
    assert clock(seconds, price).samples == N  # the last label's other instant is the day's end
    assert clock(seconds, price, present=100).samples == 100
    assert clock([86400], [OPEN[N]]).samples == 0
    assert clock([], []).samples == 0
    assert clock(seconds, price, present=0).rule == "convention"


def test_a_few_absurd_values_do_not_blind_the_prices() -> None:
    price = [9e6 if i % 25 == 0 else OPEN[i + 1] + 0.1 for i in range(200)]
    found = clock([300 * i for i in range(200)], price, day=BEFORE)
    assert (found.rule, found.offset, found.at_label is not None and found.at_label < 10) == ("price", 300, True)


def traded_and_open(
    seed: int, *, offset: int, count: int = N, noise: float = 0.0, step: int = 1
) -> tuple[Floats, list[float]]:
    """Return volumes, and open interest at labels whose sample was taken `offset` steps later.

    Between two samples open interest changes by a tenth of the volume, give or take `noise` orders of magnitude.
    """
    random = np.random.default_rng(seed)
    volume = np.exp(random.normal(5, 1.2, N))
    between = np.array([volume[i * step : (i + 1) * step].sum() for i in range(N // step)])
    change = 0.1 * between * np.exp(noise * random.normal(size=len(between))) * random.choice([-1, 1], len(between))
    level = 1e6 + np.concatenate([[0.0], np.cumsum(change)])
    return volume, level[offset:][:count].tolist()


def unpriced(labels: list[int], level: list[float], volume: Floats, *, day: date, step: int = 300) -> Clock:
    return clock(labels, [np.nan] * len(labels), contracts=level, volume=volume, day=day, step=step)


@pytest.mark.parametrize("day", [BEFORE, AFTER])
@pytest.mark.parametrize("offset", [0, 1])
@given(seed=st.integers(0, 2**32 - 1))
def test_without_prices_the_volume_decides_against_any_convention(day: date, offset: int, seed: int) -> None:
    volume, level = traded_and_open(seed, offset=offset, noise=0.5)
    found = unpriced([300 * i for i in range(len(level))], level, volume, day=day)
    assert (found.rule, found.offset, found.samples) == ("volume", 300 * offset, 0)
    # From the first label to the last whose other instant is still inside the day's candles.
    assert found.pairs == N - 1
    told = [found.volume_at_label, found.volume_step_later]
    assert (told[offset] or 0) > 0.7
    assert abs(told[1 - offset] or 0) < 0.35


def test_the_volume_is_not_asked_where_the_prices_decide() -> None:
    volume, level = traded_and_open(1, offset=1, count=200)
    labels = [300 * i for i in range(200)]
    found = clock(labels, [OPEN[i] for i in range(200)], contracts=level, volume=volume)
    assert (found.rule, found.offset, found.pairs, found.volume_at_label) == ("price", 0, 0, None)


@pytest.mark.parametrize(("count", "rule"), [(101, "volume"), (100, "convention")])
def test_the_volume_needs_a_hundred_pairs(count: int, rule: str) -> None:
    volume, level = traded_and_open(2, offset=1, count=count)
    found = unpriced([300 * i for i in range(count)], level, volume, day=BEFORE)
    assert (found.pairs, found.rule, found.offset) == (count - 1, rule, 300 if rule == "volume" else 0)


def test_pairs_need_every_candle_at_both_offsets_and_instants_on_the_grid() -> None:
    volume, level = traded_and_open(3, offset=0)
    labels = [300 * i for i in range(N)]
    nothing = [np.nan] * N
    whole = clock(labels, nothing, contracts=level[:N], volume=volume)
    assert whole.pairs == N - 1
    # The candles of 100 intervals are there at the label, those of 99 a step later.
    assert clock(labels, nothing, contracts=level[:N], volume=volume[:100], present=100).pairs == 99
    off_grid = [label + (60 if i == 50 else 0) for i, label in enumerate(labels)]
    assert clock(off_grid, nothing, contracts=level[:N], volume=volume).pairs == N - 3
    # A hole of one sample joins two intervals: their volume and their change are known as one.
    assert clock(labels[:50] + labels[51:], nothing[1:], contracts=level[:50] + level[51:N], volume=volume).pairs == 286
    # No instant of these samples, a step later, is one at which a candle begins.
    assert clock(labels, nothing, contracts=level[:N], volume=volume, step=150).pairs == 0
    assert clock(labels[:1], nothing[:1], contracts=level[:1], volume=volume).pairs == 0


def test_a_volume_that_never_varies_decides_nothing() -> None:
    _, level = traded_and_open(4, offset=1)
    found = unpriced([300 * i for i in range(N)], level, np.ones(N), day=BEFORE)
    assert (found.rule, found.offset, found.pairs, found.volume_at_label) == ("convention", 0, N - 1, None)
    volume, _ = traded_and_open(4, offset=1)
    still = unpriced([300 * i for i in range(N)], [1e6] * N, volume, day=BEFORE)
    assert (still.rule, still.volume_step_later) == ("convention", None)


def test_a_volume_that_goes_with_neither_decides_nothing() -> None:
    volume, _ = traded_and_open(5, offset=1)
    _, level = traded_and_open(6, offset=1)
    found = unpriced([300 * i for i in range(N)], level, volume, day=AFTER)
    assert (found.rule, found.offset) == ("convention", 300)
    # Volumes that hardly change from candle to candle fit both: clear, but no lead.
    slow = 1.0 + np.arange(N + 1.0)
    rising = (1e6 + np.concatenate([[0.0], np.cumsum(slow)])).tolist()
    both = unpriced([300 * i for i in range(N)], rising[:N], slow[:N], day=AFTER)
    assert both.rule == "convention"
    assert both.volume_at_label == pytest.approx(1)
    assert both.volume_step_later == pytest.approx(1)


def test_equal_values_take_their_average_rank() -> None:
    change = [0, 1, 1, 3, 3, 3, 2, 5] * 20
    volume = np.array([2.0, 2, 4, 4, 1, 8, 8, 9] * 20)
    level = (100.0 + np.concatenate([[0], np.cumsum(change)])).tolist()
    found = clock([300 * i for i in range(161)], [np.nan] * 161, contracts=level, volume=volume, present=160)

    def ranks(values: list[float]) -> list[float]:
        """Return one more than how many are smaller, and half the others that are equal."""
        return [sum(b < a for b in values) + (sum(b == a for b in values) + 1) / 2 for a in values]

    def correlation(x: list[float], y: list[float]) -> float:
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        together = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
        spread = sum((a - mean_x) ** 2 for a in x) * sum((b - mean_y) ** 2 for b in y)
        return float(together / spread**0.5)

    assert found.pairs == 159
    changed = ranks([float(amount) for amount in change[:159]])
    assert found.volume_at_label == pytest.approx(correlation(changed, ranks(volume[:159].tolist())))
    assert found.volume_step_later == pytest.approx(correlation(changed, ranks(volume[1:].tolist())))


def with_spot_candles(market_dir: Path, days: Iterator[RealDay]) -> Iterator[RealDay]:
    """Give the same days with the finer candles of another market, of which only the volume is used."""
    folder = market_dir / "binance_vision/spot/daily/klines/BTCUSDT/5m"
    for day, _, samples in days:
        table = pd.read_csv(folder / f"BTCUSDT-5m-{day}.zip", header=None, usecols=range(6))
        table.columns = pd.Index(["open_time", "open", "high", "low", "close", "volume"])
        yield day, table.assign(open_time=pd.to_datetime(table["open_time"], unit="us")), samples


def told_by_volume(days: Iterator[RealDay]) -> int:
    """Return how many of the days, each with its labels as they are and a step earlier, the volume decides: rightly."""
    decided = 0
    for day, candles, samples in days:
        for shift in (0, 300):
            raw = samples[["label", "contracts"]].assign(value=np.nan, row=range(len(samples)))
            raw["label"] -= pd.Timedelta(seconds=shift)
            clean = clean_samples(raw, symbol="BTCUSDT", day=day, interval=300, candles=candles, file="real")
            facts = clean.facts["clock"]
            assert facts["rule"] in ("volume", "convention")
            if facts["rule"] == "volume":
                assert facts["offset_seconds"] == shift, f"{day} moved by {shift} s: {facts}"
                decided += 1
    return decided


@pytest.mark.market
def test_the_volume_of_real_days_tells_the_clock(market_dir: Path) -> None:
    assert told_by_volume(bybit_days(market_dir)) == 2 * 40
    for symbol in ("BTCUSDT", "DOGEUSDT"):
        assert told_by_volume(binance_days(market_dir, symbol, date(2024, 9, 14), 4, 300)) == 2 * 4
    # Spot candles are a ninth of the market: less clear, never wrong.
    assert (
        told_by_volume(with_spot_candles(market_dir, binance_days(market_dir, "BTCUSDT", date(2026, 3, 14), 19, 900)))
        >= 28
    )


@pytest.mark.market
@pytest.mark.parametrize(
    ("symbol", "first", "count", "interval", "rules"),
    [
        ("BTCUSDT", date(2024, 6, 19), 40, 300, {"price": 39, "convention": 1}),  # the first day has three samples
        ("ETHUSDT", date(2024, 6, 19), 40, 900, {"price": 39, "convention": 1}),
        ("BTCUSDT", date(2024, 9, 13), 6, 300, {"price": 6}),
        ("DOGEUSDT", date(2024, 9, 13), 6, 300, {"price": 6}),
        ("BTCUSDT", date(2026, 3, 14), 19, 900, {"convention": 19}),  # a step later no candle begins
    ],
)
def test_the_clock_of_real_files(
    market_dir: Path, symbol: str, first: date, count: int, interval: int, rules: dict[str, int]
) -> None:
    reader = ArchiveReader(market_dir / "binance_vision")
    counted: Counter[str] = Counter()
    for day, candles, _ in binance_days(market_dir, symbol, first, count, interval):
        facts = reader.read_open_interest(symbol, day, candles, interval).facts["clock"]
        assert facts["offset_seconds"] == 0
        counted[facts["rule"]] += 1
    assert counted == rules


def test_facts_are_plain_json() -> None:
    assert Clock("convention", 300, 3, 1.5, None, 120, 0.25, None).to_facts() == {
        "rule": "convention",
        "offset_seconds": 300,
        "samples": 3,
        "median_difference_at_label": 1.5,
        "median_difference_step_later": None,
        "pairs": 120,
        "volume_correlation_at_label": 0.25,
        "volume_correlation_step_later": None,
    }
