"""Bybit's linear perpetuals over its public REST: what it is asked, and what its answers mean.

Endpoints, limits and codes as published at bybit-exchange.github.io/docs/v5: `/v5/market/kline` (1,000 a page) and
`/v5/market/open-interest` (200 a page, with a cursor) reach back to a contract's first day; `/v5/market/risk-limit`
tells today's tiers. How days are kept is in `rest_market.py`.

`openInterest` adds both sides of each contract; since 2026-06-11 there is `singleOpenInterest` beside it, which counts
one and is taken where it is. Which of the two a day has is measured all the same (`sides.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from heatmap_pipeline.errors import printable
from heatmap_pipeline.market.brackets import Tier
from heatmap_pipeline.market.exchange_json import ExchangeError, as_number, as_rows, refuse_answer
from heatmap_pipeline.market.public_rest import Refusal, as_refusal
from heatmap_pipeline.market.rest_market import (
    LATE_SAMPLES,
    SAMPLE_STEP,
    Instrument,
    RestMarket,
    as_datetime,
    as_milliseconds,
    sample_table,
)
from heatmap_pipeline.market.strict_json import shown
from heatmap_pipeline.market.tables import MarketError, NotTradedError
from heatmap_pipeline.market.web import TryAgainError
from heatmap_pipeline.symbols import Contract, exchange_and_name, typed_name

URL = "https://api.bybit.com"
"""The exchange's public REST; HEATMAP_BYBIT_URL names another address."""

GAP = 0.05
"""Seconds between two requests: a sixth of the 600 in five seconds that the exchange grants an address."""

CANDLES_PER_PAGE = 1000
SAMPLES_PER_PAGE = 200

_PAGE_MS = SAMPLES_PER_PAGE * SAMPLE_STEP * 1000

_CLOSED_CODES = {"10009", "10024"}  # a banned address; a place that regulation shuts out
_BUSY_CODES = {"10000", "10006", "10016", "10018"}  # timeouts, too many visits, errors of the server
_NO_SYMBOL = "10001"  # a parameter that is wrong, of which only the symbol is not ours
_GONE = frozenset({"Closed", "Delivering", "Settling"})
_MOST_PAGES = 20


class BybitMarket(RestMarket):
    """Candles and open interest of Bybit; arguments as of `RestMarket`.

    Example:
        >>> market = BybitMarket(Path("archive/bybit"))
        >>> [day.table.shape for day in market.candles("BYBIT_BTCUSDT", [date(2021, 1, 1)], 300)]  # doctest: +SKIP
        [(288, 10)]
    """

    title = "Bybit"
    candles_path = "/v5/market/kline"
    samples_path = "/v5/market/open-interest"
    instruments_path = "/v5/market/instruments-info"

    def __init__(
        self, root: Path, base_url: str = URL, *, setting: str = "HEATMAP_BYBIT_URL", gap: float = GAP, **options: Any
    ) -> None:
        super().__init__(root, base_url, setting=setting, gap=gap, **options)
        self._last_page: tuple[tuple[str, int], Sequence[Any]] = ("", 0), ()

    def refusal(self, answer: Any) -> Refusal | None:
        """Return `retCode` and `retMsg` of an answer that is refused."""
        code = answer.get("retCode") if isinstance(answer, dict) else None
        if type(code) is not int or code == 0:
            return None
        refused = as_refusal(code, answer.get("retMsg", ""))
        if refused[0] in _BUSY_CODES:
            raise TryAgainError(f"the exchange is busy: {refused[1]} ({refused[0]})")
        return refused

    def in_words(self, place: str, refused: Refusal) -> MarketError:
        """Return the error that a `retCode` is."""
        code, words = refused
        if code in _CLOSED_CODES:
            return self.shut(f'{code}, "{words}"')
        if code == _NO_SYMBOL:
            return NotTradedError(
                f"{place}: the exchange does not know what it was asked for: {words} ({code}); write the contract as "
                "the exchange does, for example bybit:BTCUSDT"
            )
        return ExchangeError(f"{place}: the exchange refuses the request: {words} ({code})", int(code))

    def result(self, answer: Any, place: str) -> Any:
        """Return the object `result`."""
        result = answer.get("result") if isinstance(answer, dict) else None
        if not isinstance(result, dict):
            refuse_answer(place, 1, "has no result")
        return result

    def ask_now(self) -> int:
        """Return `timeSecond`, in milliseconds."""
        return self.ask(
            "/v5/market/time",
            {},
            lambda result, place: as_milliseconds(result.get("timeSecond"), place, 1, "timeSecond", unit=1000),
        )

    def ask_contract(self, symbol: str) -> Sequence[Any]:
        """Return the contract's row; those that ended are listed apart."""
        rows = self.ask(self.instruments_path, _query(symbol), _list)
        return rows or self.ask(self.instruments_path, _query(symbol, status="Closed"), _list)

    def read_contract(self, rows: Sequence[Any], symbol: str, place: str) -> Instrument:
        """Return what such a row says."""
        native = exchange_and_name(symbol)[1]
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or row.get("symbol") != native:
                continue
            texts = [row.get(name) for name in ("contractType", "status", "baseCoin", "quoteCoin")]
            if not all(isinstance(text, str) for text in texts):
                refuse_answer(place, number, "lacks contractType, status, baseCoin or quoteCoin")
            kind, status, base, quote = (printable(str(text), 40) for text in texts)
            lots = row.get("lotSizeFilter")
            lot = as_number(lots.get("qtyStep") if isinstance(lots, dict) else None, place, number, "qtyStep")
            contract = Contract(
                symbol,
                base,
                quote,
                "perpetual"
                if kind == "LinearPerpetual"
                else "delivery"
                if kind == "LinearFutures"
                else "coin-margined",
                lot if lot > 0 else None,
            )
            launched = as_datetime(as_milliseconds(row.get("launchTime"), place, number, "launchTime")).date()
            return Instrument(contract, launched, f"its status at the exchange is {status}" if status in _GONE else "")
        raise NotTradedError(
            f"{place}: the exchange does not know this contract; write it as the exchange does, for example "
            "bybit:BTCUSDT"
        )

    def ask_tiers(self, symbol: str) -> Sequence[Tier]:
        """Return the tiers of `/v5/market/risk-limit`."""
        native = exchange_and_name(symbol)[1]

        def parse(result: Any, place: str) -> list[Tier]:
            rows = _list(result, place)
            tiers = [_tier(row, place, number) for number, row in enumerate(rows, 1) if _is_of(row, native)]
            return sorted(tiers, key=lambda tier: tier.cap)

        return self.ask("/v5/market/risk-limit", _query(symbol), parse)

    def ask_candles(self, symbol: str, start: int, end: int, interval: int) -> Sequence[Any]:
        """Return the rows of the window, page by page; the exchange begins with the newest."""
        rows: list[Any] = []
        width = CANDLES_PER_PAGE * interval * 1000
        for first in range(start, end, width):
            last = min(first + width, end) - 1
            query = _query(symbol, interval=str(interval // 60), start=first, end=last, limit=CANDLES_PER_PAGE)
            rows += reversed(self.ask(self.candles_path, query, _list))
        return rows

    def read_candles(self, rows: Sequence[Any], place: str) -> tuple[list[int], list[list[float]]]:
        """Return times and values of rows of seven fields."""
        opened: list[int] = []
        values: list[list[float]] = []
        names = ("open", "high", "low", "close", "volume", "turnover")
        for number, row in enumerate(rows, 1):
            if not isinstance(row, list) or len(row) < 7:
                refuse_answer(place, number, "is not a candle of 7 fields")
            opened.append(as_milliseconds(row[0], place, number, "startTime"))
            values.append([as_number(row[at], place, number, name) for at, name in enumerate(names, 1)])
        return opened, values

    def ask_samples(self, symbol: str, start: int, end: int) -> Sequence[Any]:
        """Return the samples of the window, out of pages that begin at whole multiples of a page's length.

        A day ends within a page, of which the day after has the rest: days in a row ask for 526 pages a year.
        """
        rows: list[Any] = []
        place = self.place(self.samples_path, typed_name(symbol))
        for first in range(start - start % _PAGE_MS, end + 1, _PAGE_MS):
            known, page = self._last_page
            if known != (symbol, first):
                page = self._page(symbol, first)
            if as_datetime(first + _PAGE_MS) + LATE_SAMPLES <= self.now():
                self._last_page = (symbol, first), page
            rows += [row for number, row in enumerate(page, 1) if start <= _label(row, place, number) <= end]
        return rows

    def _page(self, symbol: str, first: int) -> Sequence[Any]:
        """Return the samples of a page's length; the exchange begins with the newest, and may give them in parts."""
        cursor, seen = "", set[str]()
        rows: list[Any] = []
        while True:
            query = _query(symbol, intervalTime="5min", startTime=first, endTime=first + _PAGE_MS - 1)
            query |= {"limit": SAMPLES_PER_PAGE} | ({"cursor": cursor} if cursor else {})
            page, cursor = self.ask(self.samples_path, query, _list_and_cursor)
            rows += page
            # A cursor also stands behind the last row.
            if not cursor or not page or len(rows) >= SAMPLES_PER_PAGE:
                return rows[::-1]
            if cursor in seen or len(seen) >= _MOST_PAGES:
                raise MarketError(
                    f"{self.place(self.samples_path, typed_name(symbol))}: the exchange hands out the same page again "
                    "and again; run again later, or report it"
                )
            seen.add(cursor)

    def read_samples(self, rows: Sequence[Any], place: str) -> tuple[pd.DataFrame, bool]:
        """Return the samples: `singleOpenInterest` where every row has it, else `openInterest` as it is."""
        declared = bool(rows) and all(isinstance(row, dict) and row.get("singleOpenInterest") for row in rows)
        field = "singleOpenInterest" if declared else "openInterest"
        label, contracts = [], []
        for number, row in enumerate(rows, 1):
            label.append(_label(row, place, number))
            contracts.append(as_number(row.get(field), place, number, field))
        return sample_table(label, contracts), declared


def _query(symbol: str, **more: str | int) -> dict[str, str | int]:
    return {"category": "linear", "symbol": exchange_and_name(symbol)[1], **more}


def _list(result: Any, place: str) -> list[Any]:
    return list(as_rows(result.get("list"), place))


def _list_and_cursor(result: Any, place: str) -> tuple[list[Any], str]:
    cursor = result.get("nextPageCursor", "")
    if not isinstance(cursor, str):
        refuse_answer(place, 1, f"nextPageCursor {shown(cursor)} is no text")
    return _list(result, place), cursor


def _label(row: Any, place: str, number: int) -> int:
    if not isinstance(row, dict):
        refuse_answer(place, number, "is not an object")
    return as_milliseconds(row.get("timestamp"), place, number, "timestamp")


def _is_of(row: Any, native: str) -> bool:
    return not isinstance(row, dict) or row.get("symbol") == native  # what is no object is refused, not skipped


def _tier(row: Any, place: str, number: int) -> Tier:
    """Return a tier, whose rates are fractions or percent: the initial margin rate is 1 / the largest leverage."""
    if not isinstance(row, dict):
        refuse_answer(place, number, "is not an object")
    names = ("riskLimitValue", "maintenanceMargin", "initialMargin", "maxLeverage")
    cap, rate, initial, leverage = (as_number(row.get(name), place, number, name) for name in names)
    unit = next((unit for unit in (1.0, 100.0) if unit / 2 < initial * leverage < unit * 2), None)
    if unit is None or not (cap > 0 and leverage >= 1 and 0 < rate < initial):
        refuse_answer(place, number, "its riskLimitValue, margins and maxLeverage are no tier")
    return Tier(cap, rate / unit, leverage)
