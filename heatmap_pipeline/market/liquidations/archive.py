"""Liquidation orders in the tree of the exchange's public archive, as files that somebody kept.

    ROOT/futures/um/daily/liquidationSnapshot/SYMBOL/SYMBOL-liquidationSnapshot-YYYY-MM-DD.zip

Each with an optional `.CHECKSUM` beside it. A row is an ORDER of the exchange: SELL closes a long, BUY a short. The
exchange published at most one order per symbol and second, so it is never complete; its USDT-margined files end with
March 2024.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.archive_file import (
    MAX_LIQUIDATION_ROWS,
    parse_liquidation_orders,
    read_archive_csv,
)
from heatmap_pipeline.market.liquidations.sides import position_side
from heatmap_pipeline.market.liquidations.tables import (
    Liquidations,
    clean_liquidations,
    halve_doubled,
    microseconds,
    refuse_row,
)
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.settings import check_symbol
from heatmap_pipeline.symbols import contract_of

SOURCE = "binance_archive"

_FOLDER = Path("futures") / "um" / "daily" / "liquidationSnapshot"


class LiquidationArchive:
    """Reads one archive folder; keeps nothing open and nothing in memory, so threads may share it.

    Args:
        root: the folder that holds `futures/um/daily/liquidationSnapshot/`.

    Example:
        >>> archive = LiquidationArchive(Path("archive"))  # doctest: +SKIP
        >>> archive.read_day("BTCUSDT", date(2024, 3, 5)).repairs  # doctest: +SKIP
        {'doubled_rows': 2113}
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def days(self, symbol: str) -> list[date]:
        """Return the days that have a file, sorted."""
        folder = self.root / _FOLDER / _checked(symbol)
        pattern = re.compile(rf"{symbol}-liquidationSnapshot-(\d{{4}}-\d{{2}}-\d{{2}})\.zip")
        try:
            names = sorted(path.name for path in folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise MarketError(f"{folder}: cannot be read: {error.strerror}; check its permissions") from None
        matches = (pattern.fullmatch(name) for name in names)
        return [day for match in matches if match and (day := _day(match[1])) is not None]

    def read_day(self, symbol: str, day: date) -> Liquidations:
        """Return the liquidations of one day; the file records its whole day.

        Repairs: `doubled_rows` (every row stood there twice), `repeated_rows` (exact repeats in a file that is not
        doubled throughout: the exchange prints no two orders of a symbol in one second), `outside_day` (dropped),
        `unfilled_orders` (nothing was liquidated: dropped), and those of `clean_liquidations`.
        Facts: file, sha256, header, time_unit.

        Args:
            symbol: as the exchange writes it.
            day: UTC.

        Raises:
            NoDataError: if there is no such file.
            MarketError: for a coin-margined symbol, and a file or row that cannot be used.
        """
        name = f"{_checked(symbol)}-liquidationSnapshot-{day.isoformat()}.zip"
        path = self.root / _FOLDER / symbol / name
        try:
            file = read_archive_csv(path, MAX_LIQUIDATION_ROWS)
        except FileNotFoundError:
            raise NoDataError(
                f"archive {self.root} has no liquidations of {symbol} for {day} ({name} is missing); add the file or "
                "choose other days"
            ) from None
        orders, facts = parse_liquidation_orders(file)
        repairs: dict[str, int] = {}
        raw = _positions(orders, str(path))
        doubled = halve_doubled(raw, repairs)
        if not repairs:
            repeated = raw.duplicated(subset=["time", "side", "price", "quantity", "volume"]).to_numpy()
            repairs["repeated_rows"] = int(repeated.sum())
            doubled = raw.loc[~repeated]
        start = day_start(day)
        time = doubled["time"].to_numpy()
        inside = (time >= start) & (time < start + DAY)
        unfilled = doubled["quantity"].to_numpy() == 0
        repairs["outside_day"] = int((~inside).sum())
        repairs["unfilled_orders"] = int((inside & unfilled).sum())
        return clean_liquidations(
            doubled.loc[inside & ~unfilled],
            symbol=symbol,
            source=SOURCE,
            place=str(path),
            recorded=np.array([[start, start + DAY]], dtype=np.int64),
            repairs={name: count for name, count in repairs.items() if count},
            facts=facts,
        )


def _positions(orders: pd.DataFrame, place: str) -> pd.DataFrame:
    """Return orders as positions that they closed: what was filled, at the price it was filled at."""
    side = []
    for word, row in zip(orders["side"], orders["row"], strict=True):
        closed = position_side("binance", str(word))
        if closed is None:
            refuse_row(place, row, f"the side of the order is {str(word)[:20]!r}, neither BUY nor SELL")
        side.append(closed)
    average = orders["average_price"].to_numpy(np.float64)
    return pd.DataFrame(
        {
            "time": microseconds(orders["time"]),
            "side": pd.array(side, dtype="str"),
            "price": np.where(average > 0, average, orders["price"].to_numpy(np.float64)),
            "quantity": orders["filled"].to_numpy(np.float64),
            "volume": np.nan,
            "row": orders["row"].to_numpy(),
        }
    )


def _checked(symbol: str) -> str:
    if contract_of(symbol).kind == "coin-margined":
        raise MarketError(
            f"{symbol} is margined in coins: its quantities are contracts of 100 USD (BTC) or 10 USD, not units of the "
            "base; give the symbol that is margined in dollars"
        )
    return check_symbol(symbol)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
