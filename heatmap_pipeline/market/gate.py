"""Gate's perpetuals margined in USDT over its public REST: what it is asked, and what its answers mean.

Endpoints as published at gate.com/docs/developers/apiv4: `/futures/usdt/candlesticks` (2,000 a query, of the newest
10,000 only), `/futures/usdt/contract_stats` (open interest, its worth at the mark price and what was liquidated, every
five minutes of 180 days), `/futures/usdt/contracts` and `/futures/usdt/risk_limit_tiers`. How days are kept is in
`rest_market.py`; what was liquidated is read by `liquidations/gate.py`.

Volumes and open interest count contracts, each `quanto_multiplier` units of the base (BTC 0.0001): they are made units
of the base. A row of `contract_stats` is named by the start of its five minutes and rewritten until they are over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from heatmap_pipeline.errors import printable
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.market.brackets import Tier
from heatmap_pipeline.market.exchange_json import as_number, as_rows, refuse_answer
from heatmap_pipeline.market.liquidations.gate import URL as _URL
from heatmap_pipeline.market.public_rest import Refusal, as_instant, as_refusal
from heatmap_pipeline.market.rest_market import (
    SAMPLE_STEP,
    Instrument,
    RestMarket,
    as_datetime,
    sample_table,
)
from heatmap_pipeline.market.tables import MarketError, NoDataError, NotTradedError
from heatmap_pipeline.market.web import TryAgainError
from heatmap_pipeline.settings import interval_name, setting_of
from heatmap_pipeline.symbols import Contract, contract_of, exchange_and_name, typed_name

URL = _URL
"""The exchange's public REST; HEATMAP_GATE_URL names another address, for liquidations too."""

GAP = 0.1
"""Seconds between two requests: half of the 200 in ten seconds that the exchange grants an address."""

ROWS_PER_PAGE = 2000

REACH = 9970
"""Candles back from now that are asked for: the exchange refuses more than 10,000, and its clock runs on meanwhile."""

_BUSY_LABELS = frozenset({"TOO_MANY_REQUESTS", "SERVER_ERROR", "INTERNAL", "TOO_BUSY"})
_NOT_FOUND = frozenset({"CONTRACT_NOT_FOUND"})
_MOST_PAGES = 100


class GateMarket(RestMarket):
    """Candles and open interest of Gate; arguments as of `RestMarket`.

    Example:
        >>> market = GateMarket(Path("archive/gate"))
        >>> [day.table.shape for day in market.candles("GATE_BTC_USDT", [date(2026, 11, 20)], 300)]  # doctest: +SKIP
        [(288, 10)]
    """

    title = "Gate"
    candles_path = "/futures/usdt/candlesticks"
    samples_path = "/futures/usdt/contract_stats"
    instruments_path = "/futures/usdt/contracts"
    convention = SAMPLE_STEP
    settles = SAMPLE_STEP

    def __init__(
        self, root: Path, base_url: str = URL, *, setting: str = "HEATMAP_GATE_URL", gap: float = GAP, **options: Any
    ) -> None:
        super().__init__(root, base_url, setting=setting, gap=gap, **options)

    def refusal(self, answer: Any) -> Refusal | None:
        """Return `label` and `message` of an answer that is refused."""
        label = answer.get("label") if isinstance(answer, Mapping) else None
        if not isinstance(label, str):
            return None
        refused = as_refusal(label, answer.get("message", answer.get("detail", "no reason given")))
        if refused[0] in _BUSY_LABELS:
            raise TryAgainError(f"the exchange is busy: {refused[1]} ({refused[0]})")
        return refused

    def in_words(self, place: str, refused: Refusal) -> MarketError:
        """Return the error that a `label` is."""
        label, words = refused
        if label in _NOT_FOUND or "not found" in words.lower():
            return NotTradedError(
                f"{place}: the exchange does not know this contract; write it as the exchange does, for example "
                "gate:BTC_USDT"
            )
        if "too long ago" in words:
            return NoDataError(f"{place}: the exchange does not serve days so old any more: {words}; begin later")
        return MarketError(f"{place}: the exchange refuses the request: {words} ({label})")

    def result(self, answer: Any, place: str) -> Any:
        """Return the answer: nothing is put around it."""
        del place
        return answer

    def ask_now(self) -> int:
        """Return `server_time`."""

        def parse(answer: Any, place: str) -> int:
            value = answer.get("server_time") if isinstance(answer, Mapping) else None
            return as_instant(value, place, 1, "server_time") // 1000

        return self.ask("/spot/time", {}, parse)

    def ask_contract(self, symbol: str) -> Sequence[Any]:
        """Return the contract as the one row."""
        return self.ask(f"{self.instruments_path}/{_native(symbol)}", {}, lambda answer, _: [answer])

    def read_contract(self, rows: Sequence[Any], symbol: str, place: str) -> Instrument:
        """Return what such a row says; `quanto_multiplier` is the size of a contract, and the smallest order one."""
        row = rows[0] if rows else None
        if not isinstance(row, Mapping) or row.get("name") != _native(symbol):
            refuse_answer(place, 1, f"is not the contract {_native(symbol)}")
        size = as_number(row.get("quanto_multiplier"), place, 1, "quanto_multiplier")
        if not 0 < size < 1e12:
            refuse_answer(place, 1, "quanto_multiplier is no size of a contract")
        least = as_number(row.get("order_size_min"), place, 1, "order_size_min")
        named = contract_of(symbol)
        contract = Contract(symbol, named.base, named.quote, named.kind, size * least if least > 0 else size, size)
        launched = next((name for name in ("launch_time", "create_time") if row.get(name)), None)
        listed = date.min  # of contracts that are older than these fields
        if launched is not None:
            listed = as_datetime(as_instant(row[launched], place, 1, launched) // 1000).date()
        return Instrument(contract, listed, _why_ended(row, place))

    def ask_tiers(self, symbol: str) -> Sequence[Tier]:
        """Return the tiers of `/futures/usdt/risk_limit_tiers`."""
        native = _native(symbol)

        def parse(answer: Any, place: str) -> list[Tier]:
            rows = list(as_rows(answer, place))
            tiers = [_tier(row, place, number) for number, row in enumerate(rows, 1) if _is_of(row, native)]
            return sorted(tiers, key=lambda tier: tier.cap)

        return self.ask("/futures/usdt/risk_limit_tiers", {"contract": native}, parse)

    def ask_candles(self, symbol: str, start: int, end: int, interval: int) -> Sequence[Any]:
        """Return the rows of the window, page by page; both ends of a query belong to it."""
        rows: list[Any] = []
        width = ROWS_PER_PAGE * interval * 1000
        for first in range(start, end, width):
            last = min(first + width, end) - interval * 1000
            query: dict[str, str | int] = {"contract": _native(symbol), "interval": interval_name(interval)}
            query |= {"from": first // 1000, "to": last // 1000}
            rows += self.ask(self.candles_path, query, lambda answer, place: list(as_rows(answer, place)))
        return rows

    def read_candles(self, rows: Sequence[Any], place: str) -> tuple[list[int], list[list[float]]]:
        """Return times and values of rows of `t`, `o`, `h`, `l`, `c`, `v` and `sum`."""
        opened: list[int] = []
        values: list[list[float]] = []
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                refuse_answer(place, number, "is not an object")
            opened.append(as_instant(row.get("t"), place, number, "t") // 1000)
            values.append([as_number(row.get(name), place, number, name) for name in ("o", "h", "l", "c", "v", "sum")])
        return opened, values

    def ask_samples(self, symbol: str, start: int, end: int) -> Sequence[Any]:
        """Return the rows of the window, page by page, however few the exchange puts on one."""
        rows: list[Any] = []
        first, pages = start, 0
        while first <= end:
            limit = min(ROWS_PER_PAGE, (end - first) // (SAMPLE_STEP * 1000) + 1)
            query: dict[str, str | int] = {"contract": _native(symbol), "interval": "5m"}
            query |= {"from": first // 1000, "limit": limit}
            page = self.ask(self.samples_path, query, _page_of_stats)
            newest = max((time for time, _ in page), default=first - 1)
            rows += [row for time, row in page if first <= time <= end]
            pages += 1
            if newest < first or pages > _MOST_PAGES:
                break
            first = newest + SAMPLE_STEP * 1000
        return rows

    def read_samples(self, rows: Sequence[Any], place: str) -> tuple[pd.DataFrame, bool]:
        """Return the samples: `open_interest`, contracts, and `open_interest_usd`, their worth at the mark price."""
        label, contracts, value = [], [], []
        for number, row in enumerate(rows, 1):
            label.append(_time_of(row, place, number))
            contracts.append(as_number(row.get("open_interest"), place, number, "open_interest"))
            value.append(as_number(row.get("open_interest_usd"), place, number, "open_interest_usd"))
        return sample_table(label, contracts, value), False

    def reaches(self, symbol: str, day: date, interval: int | None = None) -> str:
        """Return '' for a day of the newest candles, else from when on there are some."""
        step = interval or self._kept_interval(symbol)
        oldest = self.now() - timedelta(seconds=REACH * step)
        first = oldest.date() + ONE_DAY
        if day >= first:
            return ""
        further = "" if step >= 900 else f", or take coarser candles ({setting_of('candle_interval', symbol)}=15m)"
        return (
            f"{typed_name(symbol)}: {day} is too long ago; the exchange serves its newest 10,000 candles only, of "
            f"{interval_name(step)} those since {first}: begin there or later{further}"
        )

    def _kept_interval(self, symbol: str) -> int:
        """Return the finest interval of the candles that are kept, seconds; 5 minutes without any."""
        minutes = []
        for folder in self._folder(symbol).glob("kline-*"):
            with suppress(ValueError):
                minutes.append(int(folder.name.removeprefix("kline-")))
        return min(minutes, default=5) * 60


def _native(symbol: str) -> str:
    return exchange_and_name(symbol)[1]


def _why_ended(row: Mapping[str, Any], place: str) -> str:
    """Return why a contract is not traded any more: while it is delisted, positions are still closed."""
    status = row.get("status", "")
    if status == "delisted":
        return "its status at the exchange is delisted"
    leaving = row.get("in_delisting") is True
    if leaving and as_number(row.get("position_size"), place, 1, "position_size") == 0:
        return f"the exchange delists it, and nothing of it is open (status {printable(str(status), 40) or 'none'})"
    return ""


def _time_of(row: Any, place: str, number: int) -> int:
    if not isinstance(row, Mapping):
        refuse_answer(place, number, "is not an object")
    return as_instant(row.get("time"), place, number, "time") // 1000


def _page_of_stats(answer: Any, place: str) -> list[tuple[int, Any]]:
    return [(_time_of(row, place, number), row) for number, row in enumerate(as_rows(answer, place), 1)]


def _is_of(row: Any, native: str) -> bool:
    return not isinstance(row, Mapping) or row.get("contract", native) == native


def _tier(row: Any, place: str, number: int) -> Tier:
    if not isinstance(row, Mapping):
        refuse_answer(place, number, "is not an object")
    names = ("risk_limit", "maintenance_rate", "initial_rate", "leverage_max")
    cap, rate, initial, leverage = (as_number(row.get(name), place, number, name) for name in names)
    if not (cap > 0 and leverage >= 1 and 0 < rate < initial < 1):
        refuse_answer(place, number, "its risk_limit, rates and leverage_max are no tier")
    return Tier(cap, rate, leverage)
