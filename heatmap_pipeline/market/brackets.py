"""The first leverage bracket of a symbol from files in the shape of Binance's answer.

Brackets change, so files carry a date in their name: `anything_YYYY-MM-DD.json`. The user's are files of Binance; those
of exchanges that tell everybody their tiers are written here, in the same shape, when they are first seen.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

from heatmap_pipeline.files import open_regular, replace_file
from heatmap_pipeline.market.strict_json import load_json, shown
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.symbols import own_exchange

MAX_BYTES = 4 * 2**20
"""Largest file that is read; that of all symbols has 0.7 MB."""


@dataclass(frozen=True)
class Tier:
    """A leverage tier.

    Attributes:
        cap: largest notional of a position in it, quote asset.
        rate: maintenance margin rate, a fraction of the notional.
        max_leverage: largest leverage.
    """

    cap: float
    rate: float
    max_leverage: float


_DATED = re.compile(r".*_(\d{4}-\d{2}-\d{2})\.json")


def load_bracket(path: Path, symbol: str, day: date) -> tuple[float, float] | None:
    """Return maintenance margin rate (a fraction) and largest leverage of a symbol's first bracket.

    Args:
        path: a file in the shape of the exchange's `leverageBracket` answer, used for every day, or a folder of dated
            ones: the newest not later than the day is used, else the oldest.
        symbol: as the exchange writes it.
        day: UTC.

    Returns:
        The bracket with the lowest notional floor, or None if the file does not know the symbol.

    Raises:
        MarketError: naming the file that is missing, is not JSON, or has another shape.
    """
    file = _newest(path, day) if path.is_dir() else path
    try:
        changed = file.stat().st_mtime_ns
    except OSError as error:
        raise MarketError(f"leverage brackets {file}: {error.strerror}; give a file or a folder of them") from None
    return _read(file, changed).get(symbol)


def kept_tiers(archive: Path, symbol: str) -> Path | None:
    """Return the folder of the tiers that an exchange told of a market, None where it has not.

    Args:
        archive: the home's folder of what exchanges answered.
        symbol: id of the market.
    """
    folder = _folder(archive, symbol)
    return folder if folder.is_dir() and any(folder.glob("*.json")) else None


def keep_tiers(archive: Path, symbol: str, tiers: Sequence[Tier], day: date) -> None:
    """Write down the tiers of a market, unless the newest that are kept are the same.

    Args:
        archive: as of `kept_tiers`.
        symbol: id of the market.
        tiers: the lowest first.
        day: UTC, on which the exchange told them.

    Raises:
        OSError: if the disk refuses it.
    """
    floors = [0.0, *(tier.cap for tier in tiers)]
    brackets = [
        {
            "bracket": number,
            "initialLeverage": tier.max_leverage,
            "notionalCap": tier.cap,
            "notionalFloor": floor,
            "maintMarginRatio": tier.rate,
        }
        for number, (tier, floor) in enumerate(zip(tiers, floors, strict=False), 1)
    ]
    content = json.dumps([{"symbol": symbol, "brackets": brackets}], indent=1).encode()
    folder = _folder(archive, symbol)
    folder.mkdir(parents=True, exist_ok=True)
    newest = max((file for file in folder.glob("*.json") if _DATED.fullmatch(file.name)), default=None)
    if newest is None or newest.read_bytes() != content:
        replace_file(folder / f"tiers_{day}.json", content)


def _folder(archive: Path, symbol: str) -> Path:
    return archive / own_exchange(symbol) / "tiers" / symbol


def _newest(folder: Path, day: date) -> Path:
    dated: list[tuple[date, Path]] = []
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise MarketError(
            f"leverage brackets {folder}: cannot be read: {error.strerror}; check its permissions"
        ) from None
    for file in files:
        match = _DATED.fullmatch(file.name)
        if match:
            try:
                dated.append((date.fromisoformat(match[1]), file))
            except ValueError:
                raise MarketError(f"leverage brackets {file}: {match[1]} is not a date; rename the file") from None
    if not dated:
        raise MarketError(f"leverage brackets {folder}: holds no file named ..._YYYY-MM-DD.json; give a file instead")
    return max((row for row in dated if row[0] <= day), default=min(dated))[1]


@lru_cache(maxsize=16)
def _read(file: Path, changed: int) -> dict[str, tuple[float, float]]:
    """Read one file; `changed`, its time of change, makes an edited file a different entry of the cache."""
    del changed
    try:
        with open_regular(file) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise MarketError(
            f"leverage brackets {file}: cannot be read: {error.strerror}; give a file of brackets or a folder of them"
        ) from None
    if len(data) > MAX_BYTES:
        raise MarketError(f"leverage brackets {file}: is larger than {MAX_BYTES} bytes, which no such file is")
    try:
        content = load_json(data)
    except ValueError as error:
        raise MarketError(f"leverage brackets {file}: is not JSON ({error}); fetch it again") from None
    entries = [content] if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise MarketError(f"leverage brackets {file}: is not a list of symbols with their brackets; fetch it again")
    brackets: dict[str, tuple[float, float]] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            symbol, first = _first(entry)
            if symbol in brackets:
                raise ValueError(f"{shown(symbol)} has an entry before it")
            brackets[symbol] = first
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MarketError(
                f"leverage brackets {file}: entry {number} is not in the exchange's shape "
                f"({type(error).__name__}: {error}); fetch it again"
            ) from None
    return brackets


def _first(entry: Any) -> tuple[str, tuple[float, float]]:
    """Return symbol, rate and leverage of the bracket with the lowest floor."""
    symbol, brackets = entry["symbol"], entry["brackets"]
    if not isinstance(symbol, str) or not isinstance(brackets, list):
        raise TypeError(f"symbol {shown(symbol)} with brackets {shown(brackets)}")
    first = min(brackets, key=lambda bracket: _number(bracket["notionalFloor"]))
    rate, leverage = _number(first["maintMarginRatio"]), _number(first["initialLeverage"])
    if not (0 <= rate < 1 <= leverage):
        raise ValueError(f"rate {rate:g} or leverage {leverage:g} is out of range")
    return symbol, (rate, leverage)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{shown(value)} is not a number")
    return float(value)
