"""Liquidations of Bitget's USDT-margined contracts over its public REST, without a key.

`/api/v3/market/liquidations` lists single liquidations of the last three days, newest first, in pages joined by a
cursor. `side` is the side of the position (buy = a long), `amount` is in units of the base, `price` near the bankruptcy
price. The exchange says that they may come late and not that they are all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heatmap_pipeline.market.exchange_json import as_number, as_rows, refuse_answer
from heatmap_pipeline.market.liquidations.sides import position_side
from heatmap_pipeline.market.liquidations.tables import (
    Liquidations,
    clean_liquidations,
    clip_ranges,
    drop_redelivered,
    raw_rows,
)
from heatmap_pipeline.market.public_rest import PublicRest, Refusal, as_instant, as_refusal
from heatmap_pipeline.market.strict_json import shown
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.settings import check_symbol
from heatmap_pipeline.symbols import contract_of

URL = "https://api.bitget.com"

REACH_DAYS = 3
"""How far back it goes."""

ROWS_PER_PAGE = 100
MOST_PAGES = 2000

_DELAY = 600 * 10**6  # what is younger may still come
_REACH = REACH_DAYS * 86400 * 10**6
_PATH = "/api/v3/market/liquidations"


class BitgetReader:
    """Reads liquidations of Bitget; threads may share it.

    Args:
        base_url: of the exchange, or of what stands in for it.
        setting: where the user sets it, for messages.
        gap: seconds between two requests; the exchange allows 5 a second.
        options: of `PublicRest`.
    """

    def __init__(
        self, base_url: str = URL, *, setting: str = "HEATMAP_BITGET_URL", gap: float = 0.25, **options: Any
    ) -> None:
        self._rest = PublicRest(base_url, setting=setting, gap=gap, refusal=_refusal, **options)

    def close(self) -> None:
        """Close the connections; the reader may be used again afterwards."""
        self._rest.close()

    def read(self, symbol: str, start: int, end: int) -> Liquidations:
        """Return the single liquidations in [start, end); source `bitget_rest`, not complete.

        Recorded is what lies within the three days before the answer and is ten minutes old. Repairs:
        `redelivered_rows` (on two pages) and those of `clean_liquidations`.

        Args:
            symbol: as our candles call the market.
            start: microseconds since 1970.
            end: microseconds since 1970.

        Raises:
            NoDataError: for a contract that is not margined in USDT.
            MarketError: for answers that cannot be used, or an exchange that cannot be asked or refuses.
        """
        if contract_of(check_symbol(symbol)).quote != "USDT":
            raise NoDataError(
                f"Bitget: {symbol} is not margined in USDT; its liquidations are read of such contracts only"
            )
        place = f"{self._rest.name(_PATH)} ({symbol})"
        rows: list[tuple[int, str, float, float]] = []
        pages: list[int] = []
        cursors: set[str] = set()
        cursor, first_answer = "", 0
        for number in range(MOST_PAGES + 1):
            if number == MOST_PAGES:
                raise MarketError(f"{place}: more than {MOST_PAGES} pages of three days; something in between repeats")
            query: dict[str, str | int] = {"category": "USDT-FUTURES", "symbol": symbol, "limit": ROWS_PER_PAGE}
            if cursor:
                query["cursor"] = cursor
            page, cursor, answered = self._rest.ask(
                _PATH, query, lambda answer, at: (*_parse(answer, symbol, place), at), _in_words
            )
            first_answer = first_answer or answered
            rows += page
            pages += [number] * len(page)
            if not page or not cursor or cursor in cursors or min(row[0] for row in page) < start:
                break
            cursors.add(cursor)
        raw = raw_rows(
            [row[0] for row in rows],
            [row[1] for row in rows],
            [row[2] for row in rows],
            [row[3] for row in rows],
            [np.nan] * len(rows),
        )
        begin, until = max(start, first_answer - _REACH), min(end, first_answer - _DELAY)
        repairs: dict[str, int] = {}
        raw = drop_redelivered(raw, np.array(pages, dtype=np.int64), repairs).sort_values("time", kind="stable")
        time = raw["time"].to_numpy()
        return clean_liquidations(
            raw.loc[(time >= begin) & (time < until)],
            symbol=symbol,
            source="bitget_rest",
            place=place,
            complete=False,
            recorded=clip_ranges(np.array([[begin, until]], dtype=np.int64), start, end),
            repairs=repairs,
            facts={"via": "rest", "pages": len(cursors) + 1},
        )


def _parse(answer: Any, symbol: str, place: str) -> tuple[list[tuple[int, str, float, float]], str]:
    """Return the rows of a page and the cursor of the next, "" if there is none."""
    data = answer.get("data") if isinstance(answer, Mapping) else None
    listed, cursor = (data.get("list"), data.get("cursor")) if isinstance(data, Mapping) else (None, None)
    rows = []
    for number, row in enumerate(as_rows(listed, place), 1):
        if not isinstance(row, Mapping):
            refuse_answer(place, number, "is not an object")
        if row.get("symbol") != symbol:
            refuse_answer(place, number, f"is about {shown(row.get('symbol'))}, not {symbol}")
        side = position_side("bitget", str(row.get("side")))
        if side is None:
            refuse_answer(place, number, f"side {shown(row.get('side'))} is neither buy nor sell")
        price, amount = (as_number(row.get(name), place, number, name) for name in ("price", "amount"))
        rows.append((as_instant(row.get("ts"), place, number, "ts"), side, price, amount))
    return rows, cursor if isinstance(cursor, str) else str(cursor) if isinstance(cursor, int) else ""


def _refusal(answer: Any) -> Refusal | None:
    if isinstance(answer, Mapping) and "code" in answer and answer["code"] != "00000":
        return as_refusal(answer["code"], answer.get("msg", "no reason given"))
    return None


def _in_words(place: str, refused: Refusal) -> MarketError:
    return MarketError(f"{place}: the exchange refuses the request: {refused[1]} ({refused[0]})")
