"""The data that is measured on: days of the demo market, the same on every machine, as arrays and as archive files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np

from heatmap_pipeline.market.archive_names import checksum_beside
from heatmap_pipeline.market.demo import DEMO_EPOCH, DEMO_SYMBOLS, simulate_day, simulate_plan, write_demo_days
from heatmap_pipeline.market.demo_files import candles_path, metrics_path, write_marker, write_zip
from heatmap_pipeline.model.book import DayCandles
from heatmap_pipeline.model.parameters import MODELS, ModelParameters, choose_bucket

SYMBOL = "BTCUSDT"
FIRST = DEMO_EPOCH


def days(count: int) -> list[date]:
    """Return the first days of the demo market."""
    return [FIRST + timedelta(days=number) for number in range(count)]


def candles(count: int) -> tuple[float, list[DayCandles]]:
    """Return the open interest before the first candle (contracts) and some days of 288 candles of 5 minutes."""
    plan = simulate_plan(SYMBOL, count)
    simulated = [simulate_day(SYMBOL, plan, day) for day in days(count)]
    start = before = float(simulated[0].contracts[0])
    result = []
    for day, made in zip(days(count), simulated, strict=True):
        midnight = (datetime.combine(day, datetime.min.time()) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
        times = midnight + 300_000_000 * np.arange(288)
        flow = np.diff(made.contracts, prepend=before)
        prices_and_volume = dict(zip(("open", "high", "low", "close", "volume"), made.candles.copy(), strict=False))
        result.append(DayCandles(open_time=times, **prices_and_volume, flow=flow, open_interest=made.contracts))
        before = float(made.contracts[-1])
    return start, result


def joined(parts: Sequence[DayCandles], count: int) -> DayCandles:
    """Return the first candles of some days as if they were of one day."""
    return DayCandles(
        *(np.concatenate([getattr(part, column.name) for part in parts])[:count] for column in fields(DayCandles))
    )


def parameters(model: str) -> ModelParameters:
    """Return the parameters of a model as the pipeline has them for the symbol."""
    return ModelParameters(MODELS[model], choose_bucket(60_000.0))


def archive(folder: Path, count: int) -> Path:
    """Write archive files of some days and return their folder; does nothing where they are."""
    root = folder / "archive"
    write_demo_days(root, SYMBOL, days(count))
    return root


def copies(folder: Path, names: Sequence[str], count: int) -> Path:
    """Write archive files of the same days under many names, so that each symbol is as much work as any other."""
    source, root = archive(folder, count), folder / "copies"
    write_marker(root)
    for day in days(count):
        for path_of in (candles_path, metrics_path):
            path = path_of(source, SYMBOL, day)
            with zipfile.ZipFile(path) as packed:
                text = packed.read(f"{path.stem}.csv").decode()
            for name in names:
                write_zip(path_of(root, name, day), text.replace(SYMBOL, name), "copy")
    return root


@contextmanager
def of_three_exchanges() -> Iterator[Sequence[str]]:
    """Have the demo market know a third market of the base, and give the three."""
    more = {"GATE_BTC_USDT": replace(DEMO_SYMBOLS["BYBIT_BTCUSDT"], volume=150, open_interest=22_000, sides=1)}
    with patch.dict(DEMO_SYMBOLS, more):
        yield [SYMBOL, "BYBIT_BTCUSDT", *more]


@contextmanager
def corrected(root: Path, day: date) -> Iterator[None]:
    """Have another file of candles for a day: a hundredth more was traded in the last of them."""
    path = candles_path(root, SYMBOL, day)
    before = {file: file.read_bytes() for file in (path, checksum_beside(path))}
    with zipfile.ZipFile(path) as packed:
        *lines, last = packed.read(f"{path.stem}.csv").decode().splitlines()
    row = last.split(",")
    row[5], row[7] = (f"{float(row[column]) * 1.01:.3f}" for column in (5, 7))
    try:
        write_zip(path, "\n".join([*lines, ",".join(row)]) + "\n", "corrected")
        yield
    finally:
        for file, content in before.items():
            file.write_bytes(content)
