"""How simulated rows become archive files: text, zip and checksum that are the same bytes on every machine.

The demo market writes what the exchange's public archive holds, so that one reader serves both.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.files import replace_file
from heatmap_pipeline.instants import day_start
from heatmap_pipeline.market.archive_file import CANDLE_HEADER, METRICS_HEADER
from heatmap_pipeline.market.archive_names import ArchiveFile, checksum_beside, checksum_text
from heatmap_pipeline.market.clock import LABEL_IS_START_FROM
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.settings import SIMULATED_MARKER

_MARKER = """SIMULATED DATA

Every file below this folder was made up by the demo market of the heatmap pipeline. No exchange published it and
nobody traded at these prices. The files have the form of a public archive so that the pipeline reads them the way it
reads real ones. The folder may be deleted at any time; the pipeline writes what it needs again.
"""
_STEP = timedelta(minutes=5)
_STEP_MS = 300_000


def candles_path(root: Path, symbol: str, day: date) -> Path:
    """Return where the archive keeps the 5m candles of a symbol and day."""
    return root / ArchiveFile(symbol, day, "5m").path


def metrics_path(root: Path, symbol: str, day: date) -> Path:
    """Return where the archive keeps the open interest of a symbol and day."""
    return root / ArchiveFile(symbol, day).path


def candles_csv(day: date, columns: Sequence[npt.NDArray[np.float64]], price_decimals: int, lot_decimals: int) -> str:
    """Return the CSV of a day of candles.

    Args:
        day: UTC.
        columns: open, high, low, close (USDT), volume (contracts), quote volume (USDT), trades, taker buy volume
            (contracts), taker buy quote volume (USDT); one row per 5 minutes each.
        price_decimals: decimals of prices.
        lot_decimals: decimals of contracts.
    """
    p, q = f".{price_decimals}f", f".{lot_decimals}f"
    start = day_start(day) // 1000
    lines = [",".join(CANDLE_HEADER)]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for time, (o, h, low, c, volume, quote, trades, buy, buy_quote) in zip(
        range(start, start + 86_400_000, _STEP_MS), rows, strict=True
    ):
        lines.append(
            f"{time},{o:{p}},{h:{p}},{low:{p}},{c:{p}},{volume:{q}},{time + _STEP_MS - 1},"
            f"{quote:.5f},{trades:.0f},{buy:{q}},{buy_quote:.5f},0"
        )
    return "\n".join(lines) + "\n"


def metrics_csv(
    day: date, symbol: str, contracts: npt.NDArray[np.float64], mark: npt.NDArray[np.float64], lot_decimals: int
) -> str:
    """Return the CSV of a day of open interest; its value columns are contracts times mark price.

    Args:
        day: UTC; decides what the labels mean (see `clock.LABEL_IS_START_FROM`).
        symbol: as the exchange writes it.
        contracts: open interest taken at 00:05, 00:10, ... 24:00 of the day.
        mark: mark price in USDT at the same instants.
        lot_decimals: decimals of contracts.
    """
    label = datetime(day.year, day.month, day.day) + (_STEP if day < LABEL_IS_START_FROM else timedelta(0))
    padding = "0" * (16 - lot_decimals)
    dot = "" if lot_decimals else "."
    lines = [",".join(METRICS_HEADER)]
    for quantity, price in zip(contracts.tolist(), mark.tolist(), strict=True):
        lines.append(
            f"{label},{symbol},{quantity:.{lot_decimals}f}{dot}{padding},{quantity * price:.4f}000000000000,,,,"
        )
        label += _STEP
    return "\n".join(lines) + "\n"


def write_marker(root: Path) -> None:
    """Mark `root` as a demo archive.

    Raises:
        MarketError: if the folder already holds an archive that is not marked as simulated, or cannot be written.
    """
    marker = root / SIMULATED_MARKER
    if marker.exists():
        return
    if (root / "futures").exists():
        raise MarketError(
            f"{root} holds market files that the demo market did not write ({SIMULATED_MARKER} is missing); "
            "name another folder for the demo market, so that simulated and real files never mix"
        )
    _replace(marker, _MARKER.encode())


def is_complete(path: Path, comment: str) -> bool:
    """Return whether `path` is a whole file of this demo market (`comment`) whose checksum stands beside it."""
    try:
        content = path.read_bytes()
        return content.endswith(comment.encode()) and checksum_beside(path).read_text() == _checksum(path, content)
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    except OSError as error:
        raise _cannot("read", path, error) from error


def write_zip(path: Path, csv: str, comment: str) -> None:
    """Write one CSV as an archive file, then its checksum; a reader sees a whole file or none.

    Args:
        path: of the zip; its CSV gets the same name.
        csv: the text.
        comment: comment of the zip: whose file it is.

    Raises:
        MarketError: if the disk refuses.
    """
    buffer = io.BytesIO()
    # Stored, not deflated: zlib's output differs from version to version, and these bytes must not.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        entry = zipfile.ZipInfo(f"{path.stem}.csv", date_time=(2024, 1, 1, 0, 0, 0))
        entry.create_system = 3  # the field would otherwise name this machine's system
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, csv)
        archive.comment = comment.encode()
    content = buffer.getvalue()
    checksum = checksum_beside(path)
    try:
        checksum.unlink(missing_ok=True)  # an older checksum must not stand beside the new zip
    except OSError as error:
        raise _cannot("replace", checksum, error) from error
    _replace(path, content)
    _replace(checksum, _checksum(path, content).encode())


def _checksum(path: Path, content: bytes) -> str:
    return checksum_text(hashlib.sha256(content).hexdigest(), path.name)


def _replace(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise _cannot("write", path, error) from error


def _cannot(verb: str, path: Path, error: OSError) -> MarketError:
    reason = error.strerror or error
    return MarketError(
        f"cannot {verb} {path}: {reason}; the demo market needs a folder it may write to, with space left"
    )
