"""Where the exchange's public archive keeps a file and its checksum: said once for who reads, fetches or writes one.

    ROOT/futures/um/daily/klines/SYMBOL/INTERVAL/SYMBOL-INTERVAL-YYYY-MM-DD.zip
    ROOT/futures/um/daily/metrics/SYMBOL/SYMBOL-metrics-YYYY-MM-DD.zip

Each with a `.CHECKSUM` beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Self

CANDLES_FOLDER = "futures/um/daily/klines"
_METRICS_FOLDER = "futures/um/daily/metrics"
_NAME = re.compile(r"([^-/]+)-(?:metrics|(\d+[mhdwM]))-(\d{4}-\d{2}-\d{2})\.(?:zip|csv|csv\.gz|ZIP|CSV)")
_CHECKSUM = re.compile(rb"([0-9a-fA-F]{64})[ \t]+\*?(\S+)\s*")


@dataclass(frozen=True, order=True)
class ArchiveFile:
    """One daily file: candles of an interval (as the exchange writes it), or metrics where the interval is ''.

    Example:
        >>> ArchiveFile("BTCUSDT", date(2024, 9, 14), "5m").path
        'futures/um/daily/klines/BTCUSDT/5m/BTCUSDT-5m-2024-09-14.zip'
    """

    symbol: str
    day: date
    interval: str = ""

    @classmethod
    def named(cls, name: str) -> Self | None:
        """Return the file that a zip or CSV, packed or not, of this name is, wherever it lies; None if it is none.

        Example:
            >>> ArchiveFile.named("BTCUSDT-metrics-2024-09-14.zip").path
            'futures/um/daily/metrics/BTCUSDT/BTCUSDT-metrics-2024-09-14.zip'
        """
        match = _NAME.fullmatch(name)
        try:
            return cls(match[1], date.fromisoformat(match[3]), match[2] or "") if match else None
        except ValueError:
            return None

    @property
    def name(self) -> str:
        """What it is called, without its ending."""
        return f"{self.symbol}-{self.interval or 'metrics'}-{self.day.isoformat()}"

    @property
    def path(self) -> str:
        """Where it lies below the root, and below `data/` of the archive."""
        folder = (
            f"{CANDLES_FOLDER}/{self.symbol}/{self.interval}" if self.interval else f"{_METRICS_FOLDER}/{self.symbol}"
        )
        return f"{folder}/{self.name}.zip"


def checksum_beside(path: Path) -> Path:
    """Return where the checksum of a zip stands."""
    return path.with_name(f"{path.name}.CHECKSUM")


def checksum_text(sha256: str, name: str) -> str:
    """Return what stands in a checksum file: the sha256 of a zip (hexadecimal) and the zip's name."""
    return f"{sha256}  {name}\n"


def read_checksum(text: bytes) -> tuple[str, bytes] | None:
    """Return sha256 (lower case) and name of the zip that a checksum file is about; None if it is no such file."""
    match = _CHECKSUM.fullmatch(text)
    return (match[1].decode().lower(), match[2]) if match else None
