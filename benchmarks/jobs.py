"""Symbols shared out among processes (`heatmap run --jobs`), against the same command in one process."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from benchmarks import market
from benchmarks.measure import Measured, Setting, run_heatmap

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT", *(f"S{number:02}USDT" for number in range(12)))
FEW = 4


def jobs(setting: Setting) -> Sequence[Measured]:
    """Measure first runs of few and of many symbols in one process and in two, by turns; of the second as ratios."""
    counts = (2,) if setting.quick else (FEW, len(SYMBOLS))
    return [row for count in counts for row in _of_symbols(setting, SYMBOLS[:count])]


def _of_symbols(setting: Setting, symbols: Sequence[str]) -> Sequence[Measured]:
    count = setting.pick(10, 1)
    days = ["--start", str(market.FIRST), "--end", str(market.FIRST + timedelta(days=count - 1))]

    def measure(processes: int) -> tuple[float, float]:
        home = setting.home("home")
        words = ["run", *symbols, *days, "--source", "demo", "--home", str(home), "--jobs", str(processes)]
        reading = run_heatmap(words, setting.folder).reading
        return reading.wall, reading.cpu

    measure(1)
    pairs = [(measure(1), measure(2)) for _ in range(setting.pick(3, 1))]
    what = f"--jobs 2 against one process, {len(symbols)} symbols of {count} days of the demo market, a first run"
    return [
        Measured(
            name=f"jobs of {len(symbols)} symbols: {name}",
            what=what,
            unit="of one process",
            values=tuple(two[number] / one[number] for one, two in pairs),
            expected=setting.target(expected),
            limit=limit,
        )
        for number, (name, expected, limit) in enumerate(
            (
                ("wall time", 0.6, "cores that are idle; starting, and the one publication"),
                ("processor time", 1.1, "a Dagster run more for each process, and one that publishes"),
            )
        )
    ]
