"""Small archive files for tests: rows, CSV, zip and CHECKSUM, each of which a test may spoil."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from heatmap_pipeline.instants import SECONDS, day_start
from heatmap_pipeline.market.archive_file import CANDLE_HEADER, METRICS_HEADER

DAY = date(2024, 9, 14)
SECOND = 1_000_000


def at(seconds: float, day: date = DAY) -> int:
    """Return the microseconds since 1970 of a second of a day."""
    return day_start(day) + round(seconds * SECOND)


def candle_rows(count: int = 288, interval: int = 300, *, day: date = DAY, unit: str = "ms") -> list[list[str]]:
    """Return the fields of the first `count` candles of a day; prices move, so that clocks can be told."""
    scale = 1000 if unit == "ms" else 1
    rows = []
    for i in range(count):
        opened = at(i * interval, day) // scale
        low, high = 100.0 + 7 * (i % 13), 120.0 + 7 * (i % 13)
        first, last = low + 5, high - 3
        taken = f"{opened + interval * SECOND // scale - 1}"
        optional = [f"{(i + 1.5) * 110}", str(i + 3), "0.5", "55", "0"]
        rows.append([str(opened), f"{first}", f"{high}", f"{low}", f"{last}", f"{i + 1}.5", taken, *optional])
    return rows


def sample_rows(
    count: int = 288, step: int = 300, *, day: date = DAY, symbol: str = "BTCUSDT", start: int = 0
) -> list[list[str]]:
    """Return the fields of samples every `step` seconds from `start`, with no value and no ratios."""
    rows = []
    for i in range(count):
        label = str(np.datetime64(at(start + i * step, day), "us")).replace("T", " ")[:19]
        rows.append([label, symbol, f"{1000 + (i * i) % 17}.25", "", "", "", "", ""])
    return rows


def csv_text(rows: Sequence[Sequence[str]], header: Sequence[str] | None = None) -> bytes:
    """Return rows as a CSV."""
    lines = [",".join(row) for row in ([header] if header else []) + list(rows)]
    return "".join(line + "\n" for line in lines).encode()


def zipped(name: str, data: bytes) -> bytes:
    """Return a zip of one file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def write(path: Path, data: bytes, *, member: str | None = None, checksum: bool = False) -> Path:
    """Write a CSV as an archive file."""
    return write_bytes(path, zipped(member or f"{path.stem}.csv", data), checksum=checksum)


def write_bytes(path: Path, packed: bytes, *, checksum: bool = False) -> Path:
    """Write the bytes of an archive file, and its CHECKSUM if asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed)
    if checksum:
        digest = hashlib.sha256(packed).hexdigest()
        path.with_name(path.name + ".CHECKSUM").write_text(f"{digest}  {path.name}\n")
    return path


def candles_path(root: Path, symbol: str = "BTCUSDT", interval: str = "5m", day: date = DAY) -> Path:
    """Return where the archive keeps candles."""
    return root / f"futures/um/daily/klines/{symbol}/{interval}/{symbol}-{interval}-{day}.zip"


def metrics_path(root: Path, symbol: str = "BTCUSDT", day: date = DAY) -> Path:
    """Return where the archive keeps open interest."""
    return root / f"futures/um/daily/metrics/{symbol}/{symbol}-metrics-{day}.zip"


def write_candles(
    root: Path,
    rows: Sequence[Sequence[str]] | None = None,
    *,
    symbol: str = "BTCUSDT",
    interval: str = "5m",
    day: date = DAY,
) -> Path:
    """Write a whole file of candles with a header."""
    if rows is None:
        rows = candle_rows(86400 // SECONDS[interval], SECONDS[interval], day=day)
    return write(candles_path(root, symbol, interval, day), csv_text(rows, CANDLE_HEADER))


def write_metrics(
    root: Path, rows: Sequence[Sequence[str]] | None = None, *, symbol: str = "BTCUSDT", day: date = DAY
) -> Path:
    """Write a whole file of metrics with a header."""
    if rows is None:
        rows = sample_rows(day=day, symbol=symbol)
    return write(metrics_path(root, symbol, day), csv_text(rows, METRICS_HEADER))


def raw_candles(count: int = 288, interval: int = 300) -> pd.DataFrame:
    """Return the raw table that a whole file of candles becomes."""
    numbers = np.array(candle_rows(count, interval, unit="us"), dtype=np.float64).reshape(count, 12)
    opened = np.array([at(i * interval) for i in range(count)]).astype("datetime64[us]")
    columns = {"open": 1, "high": 2, "low": 3, "close": 4, "volume": 5, "quote_volume": 7, "trades": 8}
    columns |= {"taker_buy_volume": 9, "taker_buy_quote_volume": 10}
    table = pd.DataFrame({"open_time": opened} | {name: numbers[:, place] for name, place in columns.items()})
    return table.assign(row=np.arange(count) + 2)


def raw_samples(
    seconds: Sequence[float], contracts: Sequence[float], value: Sequence[float] | None = None, *, day: date = DAY
) -> pd.DataFrame:
    """Return the raw table of samples labelled at these seconds of the day."""
    label = np.array([at(second, day) for second in seconds], dtype=np.int64).astype("datetime64[us]")
    known = np.full(len(label), np.nan) if value is None else np.array(value, dtype=np.float64)
    return pd.DataFrame({"label": label, "contracts": np.array(contracts, dtype=np.float64), "value": known}).assign(
        row=np.arange(len(label)) + 2
    )
