"""What the exchange's REST answers mean: bytes in, the raw rows out that `repair.py` takes.

Strict about form (a field that is no number, a candle of another length) and silent about content: order, duplicates
and values are judged where those of the archive are judged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from heatmap_pipeline.errors import printable
from heatmap_pipeline.market.strict_json import load_json, shown
from heatmap_pipeline.market.tables import CANDLE_COLUMNS, MarketError
from heatmap_pipeline.market.web import TryAgainError, web_page
from heatmap_pipeline.symbols import Contract, contract_of, is_dollar

_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)
_OLDEST, _NEWEST = 10**12, 10**14  # milliseconds: 2001 and 5138
_VALUES = (1, 2, 3, 4, 5, 7, 8, 9, 10)  # places of CANDLE_COLUMNS[1:] in a row; 6 is close_time, 11 unused
_LARGEST_WHOLE = 2**53
_ADVICE = "the exchange has changed its answers, or something in between did; leave the day out, or report it"


class ExchangeError(MarketError):
    """The exchange's own refusal, in its words.

    Attributes:
        code: the exchange's number of the error, for example -1121 for an unknown symbol.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class SymbolInfo:
    """What the exchange says of one contract.

    Attributes:
        symbol: as the exchange writes it.
        status: TRADING, or why not.
        contract: PERPETUAL, or another kind.
        listed: UTC day trading began.
        base: the asset that one contract is; '' where it does not say.
        quote: the asset of its prices; '' where it does not say.
        margin: the asset it is paid in; '' where it does not say.
    """

    symbol: str
    status: str
    contract: str
    listed: date
    base: str = ""
    quote: str = ""
    margin: str = ""

    @property
    def kind(self) -> Contract:
        """The contract as the exchange describes it; where it says nothing the name counts."""
        named = contract_of(self.symbol)
        quote = self.quote or named.quote
        kind = named.kind
        if self.margin and self.margin != quote and not is_dollar(self.margin):
            kind = "coin-margined"
        elif self.contract:  # also TRADIFI_PERPETUAL and PERPETUAL_DELIVERING have no end from the beginning
            kind = "perpetual" if "PERPETUAL" in self.contract else "delivery"
        return Contract(self.symbol, self.base or named.base, quote, kind)


def parse_json(data: bytes) -> Any:
    """Return the JSON of an answer.

    Raises:
        TryAgainError: if it is none, or has a key twice; servers under load and proxies answer with web pages, which
            pass.
    """
    if web_page(data[:1024]):
        raise TryAgainError("a web page instead of an answer (an overloaded server, or a proxy in between)")
    try:
        return load_json(data)
    except ValueError:
        raise TryAgainError("an answer that is not JSON") from None


def refusal(answer: Any) -> tuple[int, str] | None:
    """Return code and words of the exchange's own error, None for anything else."""
    if not isinstance(answer, dict):
        return None
    code, words = answer.get("code"), answer.get("msg")
    if type(code) is int and abs(code) < 10**9 and isinstance(words, str):
        return code, printable(words)
    return None


def parse_candles(answer: Any, interval: int, place: str) -> pd.DataFrame:
    """Return candles as `CANDLE_COLUMNS`, `close_time` (datetime64[us]) and `row` (place in the answer, from 1).

    Args:
        answer: of /fapi/v1/klines.
        interval: seconds asked for.
        place: named in errors.

    Raises:
        MarketError: for anything but rows of 12 fields, or candles of another length.
    """
    rows = as_rows(answer, place)
    opened, closed = [], []
    values: list[list[float]] = []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) < 11:
            refuse_answer(place, number, "is not a candle of 12 fields")
        start, end = (_instant(row[at], place, number, name) for at, name in ((0, "open time"), (6, "close time")))
        if end != start + interval * 1000 - 1:
            refuse_answer(place, number, f"is not a candle of {interval} s")
        opened.append(start)
        closed.append(end)
        values.append([as_number(row[at], place, number, name) for at, name in _fields()])
    table = pd.DataFrame(np.array(values, dtype=np.float64).reshape(len(rows), 9), columns=list(CANDLE_COLUMNS[1:]))
    table.insert(0, "open_time", _times(opened))
    return table.assign(close_time=_times(closed), row=np.arange(len(rows)) + 1)


def parse_open_interest(answer: Any, symbol: str, place: str) -> pd.DataFrame:
    """Return samples as `label` (datetime64[us]), `contracts`, `value` (quote asset) and `row` (place, from 1).

    Args:
        answer: of /futures/data/openInterestHist.
        symbol: asked for.
        place: named in errors.

    Raises:
        MarketError: for anything but objects of the known fields, or another symbol.
    """
    rows = as_rows(answer, place)
    label, contracts, value = [], [], []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            refuse_answer(place, number, "is not an object")
        if row.get("symbol") != symbol:
            refuse_answer(place, number, f"is about {shown(row.get('symbol'))}, not {symbol}")
        label.append(_instant(row.get("timestamp"), place, number, "timestamp"))
        contracts.append(as_number(row.get("sumOpenInterest"), place, number, "sumOpenInterest"))
        value.append(as_number(row.get("sumOpenInterestValue"), place, number, "sumOpenInterestValue"))
    columns = {"label": _times(label), "contracts": np.array(contracts, float), "value": np.array(value, float)}
    return pd.DataFrame(columns).assign(row=np.arange(len(rows)) + 1)


def parse_server_time(answer: Any, place: str) -> int:
    """Return the server's clock, milliseconds since 1970; raises MarketError for anything else."""
    value = answer.get("serverTime") if isinstance(answer, dict) else None
    return _instant(value, place, 1, "serverTime")


def parse_symbol(answer: Any, symbol: str, place: str) -> SymbolInfo | None:
    """Return what /fapi/v1/exchangeInfo says of one symbol, None if it does not know it.

    Raises:
        MarketError: for anything but the published form.
    """
    known = answer.get("symbols") if isinstance(answer, dict) else None
    for number, entry in enumerate(as_rows(known, place), 1):
        if not isinstance(entry, dict) or entry.get("symbol") != symbol:
            continue
        listed = datetime.fromtimestamp(_instant(entry.get("onboardDate"), place, number, "onboardDate") / 1000, UTC)
        status, contract = (entry.get(name) for name in ("status", "contractType"))
        if not isinstance(status, str) or not isinstance(contract, str):
            refuse_answer(place, number, "lacks status or contractType")
        assets = [entry.get(name, "") for name in ("baseAsset", "quoteAsset", "marginAsset")]
        if not all(isinstance(asset, str) for asset in assets):
            refuse_answer(place, number, "has a baseAsset, quoteAsset or marginAsset that is no text")
        words = [printable(text, 40) for text in (status, contract, *assets)]
        return SymbolInfo(symbol, words[0], words[1], listed.date(), *words[2:])
    return None


def parse_others(answer: Any, place: str) -> dict[str, SymbolInfo]:
    """Return what /fapi/v1/exchangeInfo says of every symbol, by name, but for entries that are not as published."""
    known: dict[str, SymbolInfo] = {}
    for entry in as_rows(answer.get("symbols"), place):
        name = entry.get("symbol") if isinstance(entry, dict) else None
        if isinstance(name, str):
            with suppress(MarketError):
                info = parse_symbol({"symbols": [entry]}, name, place)
                known |= {name: info} if info is not None else {}
    return known


def _fields() -> zip[tuple[int, str]]:
    return zip(_VALUES, CANDLE_COLUMNS[1:], strict=True)


def as_rows(answer: Any, place: str) -> Sequence[Any]:
    """Return an answer that has to be a list."""
    if not isinstance(answer, list):
        raise MarketError(f"{place}: the answer is not a list; {_ADVICE}")
    return answer


def _instant(value: Any, place: str, row: int, name: str) -> int:
    """Return a time in milliseconds since 1970 that is written as a whole number."""
    if type(value) is not int or not _OLDEST <= value < _NEWEST:
        refuse_answer(place, row, f"{name} {shown(value)} is not in milliseconds since 1970")
    return value


def as_number(value: Any, place: str, row: int, name: str) -> float:
    """Return a number that is written as one or as text; NaN for one left blank."""
    if value is None or value == "":
        return float("nan")
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if type(value) is not float and not (type(value) is int and abs(value) < _LARGEST_WHOLE):
        refuse_answer(place, row, f"{name} {shown(value)} is not a number")
    return float(value)


def _times(milliseconds: Sequence[int]) -> np.ndarray[Any, Any]:
    return (np.array(milliseconds, dtype=np.int64) * 1000).astype("datetime64[us]")


def refuse_answer(place: str, row: int, what: str) -> NoReturn:
    """Raise for a row of an answer that is not as published."""
    raise MarketError(f"{place}, row {row}: {what}; {_ADVICE}")
