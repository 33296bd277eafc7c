"""Symbols shared out among processes (`heatmap run --jobs`), against the same command in one process."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import market
from benchmarks.measure import Measured, Setting, run_heatmap

SYMBOLS = tuple(f"COPY{number:02}USDT" for number in range(16))
FEW = 4


def jobs(setting: Setting) -> Sequence[Measured]:
    """Measure first runs of few and of many symbols in one process and in two, by turns; of the second as ratios."""
    counts = (2,) if setting.quick else (FEW, len(SYMBOLS))
    return [row for count in counts for row in _of_symbols(setting, SYMBOLS[:count])]


def _of_symbols(setting: Setting, symbols: Sequence[str]) -> Sequence[Measured]:
    days = market.days(setting.pick(10, 1))
    archive = market.copies(setting.folder, SYMBOLS, len(days))
    span = ["--start", str(days[0]), "--end", str(days[-1]), "--archive", str(archive)]

    def measure(processes: int) -> tuple[float, float]:
        home = setting.home("home")
        words = ["run", *symbols, *span, "--home", str(home), "--jobs", str(processes)]
        reading = run_heatmap(words, setting.folder).reading
        return reading.wall, reading.cpu

    measure(1)
    pairs = [(measure(1), measure(2)) for _ in range(setting.pick(3, 1))]
    what = f"--jobs 2 against one process, {len(symbols)} symbols of {len(days)} days, a first run"
    cores = Measured(
        name=f"jobs of {len(symbols)} symbols: cores",
        what="processor time of one process over its wall time; half of it is the least wall time of two on two cores",
        unit="",
        values=tuple(cpu / wall for (wall, cpu), _ in pairs),
        limit="threads of Arrow and DuckDB, and one that commits",
    )
    return [
        cores,
        *(
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
        ),
    ]
