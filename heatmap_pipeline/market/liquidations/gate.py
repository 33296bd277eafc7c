"""Liquidations of Gate's USDT-margined contracts over its public REST, without a key.

- `contract_stats`: what was liquidated in every five minutes, longs and shorts, for the last 180 days. A row is named
  by the start of its interval; the newest is a first reading that is rewritten when the next appears: it is not used.
- `liq_orders`: single liquidations, an hour at a time; positive sizes are longs.

Sizes are contracts; `quanto_multiplier` of the contract makes units of the base of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heatmap_pipeline.market.exchange_json import as_number, as_rows, refuse_answer
from heatmap_pipeline.market.liquidations.tables import HOUR, Liquidations, clean_liquidations, clip_ranges, raw_rows
from heatmap_pipeline.market.public_rest import PublicRest, Refusal, as_instant, as_refusal
from heatmap_pipeline.market.strict_json import shown
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.settings import check_symbol
from heatmap_pipeline.symbols import contract_of

URL = "https://api.gateio.ws/api/v4"

REACH_DAYS = 179
"""How many whole days `contract_stats` goes back."""

STEP = 300
"""Seconds of the sums: the step that goes back all of that time."""

ROWS_PER_PAGE = 2000
ORDERS_PER_PAGE = 1000

_STEP = STEP * 10**6
_DELAY = 60 * 10**6  # of single orders: what is younger may still be added to
_LOOK_BACK = 24  # hours before a window in which an order proves that they are kept so long
_SECOND = 10**6


class GateReader:
    """Reads liquidations of Gate; threads may share it.

    Args:
        base_url: of the exchange, or of what stands in for it.
        setting: where the user sets it, for messages.
        gap: seconds between two requests; the exchange allows 20 a second.
        options: of `PublicRest`.

    Example:
        >>> GateReader().read_sums("BTCUSDT", start, end).table.shape  # doctest: +SKIP
        (212, 7)
    """

    def __init__(
        self, base_url: str = URL, *, setting: str = "HEATMAP_GATE_URL", gap: float = 0.1, **options: Any
    ) -> None:
        self._rest = PublicRest(base_url, setting=setting, gap=gap, refusal=_refusal, **options)
        self._multipliers: dict[str, float] = {}

    def close(self) -> None:
        """Close the connections; the reader may be used again afterwards."""
        self._rest.close()

    def multiplier(self, symbol: str) -> float:
        """Return the units of the base in one contract; asked once per symbol.

        Raises:
            NoDataError: if Gate has no such contract.
        """
        if symbol not in self._multipliers:
            path = f"/futures/usdt/contracts/{_contract(symbol)}"
            place = self._rest.name(path)

            def parse(answer: Any, answered: int) -> float:
                del answered
                value = answer.get("quanto_multiplier") if isinstance(answer, Mapping) else None
                size = as_number(value, place, 1, "quanto_multiplier")
                if not 0 < size < 1e12:
                    refuse_answer(place, 1, f"quanto_multiplier {shown(value)} is no size of a contract")
                return size

            self._multipliers[symbol] = self._rest.ask(path, {}, parse, _words(symbol))
        return self._multipliers[symbol]

    def read_sums(self, symbol: str, start: int, end: int) -> Liquidations:
        """Return what was liquidated per five minutes in [start, end), as far as the exchange has it in its final form.

        Recorded is every interval that the exchange lists; source `gate_stats`, complete.

        Args:
            symbol: as our candles call the market, for example BTCUSDT.
            start: microseconds since 1970.
            end: microseconds since 1970.

        Raises:
            NoDataError: if Gate has no such contract, or `start` is more than 180 days ago.
            MarketError: for answers that cannot be used, or an exchange that cannot be asked.
        """
        multiplier = self.multiplier(symbol)
        path = "/futures/usdt/contract_stats"
        place = f"{self._rest.name(path)} ({symbol})"
        sums: dict[int, tuple[float, ...]] = {}
        start, at = start // _STEP * _STEP, start // _STEP * _STEP
        while True:
            limit = min(ROWS_PER_PAGE, (end - at) // _STEP + 2)
            query: dict[str, str | int] = {"contract": _contract(symbol), "interval": "5m"}
            query |= {"from": at // _SECOND, "limit": limit}
            page = self._rest.ask(path, query, lambda answer, _: _parse_sums(answer, place), _words(symbol))
            sums |= page
            newest = max(page, default=at - _STEP)
            if newest >= end or len(page) < limit or newest < at:
                break
            at = newest + _STEP
        unfinished = max(sums, default=0)
        final = sorted(time for time in sums if start <= time < min(end, unfinished))
        values = np.array([sums[time] for time in final], dtype=np.float64).reshape(-1, 4)
        raw = raw_rows(
            np.tile(final, 2).tolist(),
            ["long"] * len(final) + ["short"] * len(final),
            [np.nan] * (2 * len(final)),
            (values[:, :2].T.ravel() * multiplier).tolist(),
            values[:, 2:].T.ravel().tolist(),
        ).sort_values("time", kind="stable")
        times = np.array(final, dtype=np.int64)
        return clean_liquidations(
            raw,
            symbol=symbol,
            source="gate_stats",
            place=place,
            resolution_seconds=STEP,
            complete=True,
            recorded=clip_ranges(np.column_stack([times, times + _STEP]), start, end),
            facts={"via": "rest", "multiplier": multiplier},
        )

    def read_orders(self, symbol: str, start: int, end: int) -> Liquidations:
        """Return the single liquidations in [start, end); source `gate_orders`, complete.

        Nothing says how far back they are kept, and what is not kept looks like what did not happen. So the window is
        recorded from its start only if an order of the 24 hours before is served too, else from its first order's hour.

        Args:
            symbol: as our candles call the market.
            start: microseconds since 1970.
            end: microseconds since 1970.

        Raises:
            NoDataError: if Gate has no such contract.
            MarketError: for answers that cannot be used, or an exchange that cannot be asked.
        """
        multiplier = self.multiplier(symbol)
        orders: list[_Order] = []
        until = start
        for hour in range(start, end, HOUR):
            page, answered = self._orders(symbol, hour, min(hour + HOUR, end))
            orders += page
            until = max(until, min(end, answered - _DELAY))
            if answered - _DELAY < hour + HOUR:
                break
        begin = until
        if until > start and self._served_before(symbol, start):
            begin = start
        elif orders:
            begin = min(order[0] for order in orders) // HOUR * HOUR
        orders = [order for order in orders if start <= order[0] < until]
        raw = raw_rows(
            [order[0] for order in orders],
            ["long" if order[1] > 0 else "short" for order in orders],
            [order[2] for order in orders],
            [abs(order[1]) * multiplier for order in orders],
            [np.nan] * len(orders),
        )
        return clean_liquidations(
            raw,
            symbol=symbol,
            source="gate_orders",
            place=f"{self._rest.name('/futures/usdt/liq_orders')} ({symbol})",
            complete=True,
            recorded=clip_ranges(np.array([[begin, until]], dtype=np.int64), start, end),
            facts={"via": "rest", "multiplier": multiplier},
        )

    def _served_before(self, symbol: str, start: int) -> bool:
        """Return whether an order of the hours before is still served."""
        hours = (start - back * HOUR for back in range(1, _LOOK_BACK + 1))
        return any(self._orders(symbol, hour, hour + HOUR)[0] for hour in hours)

    def _orders(self, symbol: str, start: int, end: int) -> tuple[list[_Order], int]:
        """Return the orders in [start, end) and when that was answered; a window that is full is asked in halves."""
        path = "/futures/usdt/liq_orders"
        place = f"{self._rest.name(path)} ({symbol})"
        # Both ends are asked for in whole seconds, and belong to the window.
        first, last = start // _SECOND, (end - 1) // _SECOND
        query: dict[str, str | int] = {"contract": _contract(symbol), "from": first, "to": last}
        query["limit"] = ORDERS_PER_PAGE
        orders, answered = self._rest.ask(
            path, query, lambda answer, at: (_parse_orders(answer, place), at), _words(symbol)
        )
        if len(orders) < ORDERS_PER_PAGE:
            return [order for order in orders if start <= order[0] < end], answered
        if first == last:
            raise MarketError(f"{place}: lists {len(orders)} liquidations of one second, its limit; some are missing")
        middle = (first + last + 1) // 2 * _SECOND
        early, answered = self._orders(symbol, start, middle)
        late, _ = self._orders(symbol, middle, end)
        return early + late, answered


_Order = tuple[int, float, float]  # microseconds since 1970, contracts that were filled (longs above 0), price


def _parse_sums(answer: Any, place: str) -> dict[int, tuple[float, ...]]:
    """Return longs and shorts per interval: contracts, contracts, USD, USD."""
    names = ("long_liq_size", "short_liq_size", "long_liq_usd", "short_liq_usd")
    sums = {}
    for number, row in enumerate(as_rows(answer, place), 1):
        if not isinstance(row, Mapping):
            refuse_answer(place, number, "is not an object")
        time = as_instant(row.get("time"), place, number, "time")
        if time % _STEP:
            refuse_answer(place, number, f"time {shown(row.get('time'))} is no start of five minutes")
        values = tuple(as_number(row.get(name), place, number, name) for name in names)
        if not all(0 <= value < np.inf for value in values):
            refuse_answer(place, number, f"{', '.join(names)} are not all numbers of 0 or more")
        sums[time] = values
    return sums


def _parse_orders(answer: Any, place: str) -> list[_Order]:
    orders = []
    for number, row in enumerate(as_rows(answer, place), 1):
        if not isinstance(row, Mapping):
            refuse_answer(place, number, "is not an object")
        time = as_instant(row.get("time"), place, number, "time")
        size, ordered, left, fill, price = (
            as_number(row.get(name), place, number, name)
            for name in ("size", "order_size", "left", "fill_price", "order_price")
        )
        if not abs(size) > 0:
            refuse_answer(place, number, "size is blank or zero")
        # The order may be smaller than the position, and some of it may not have been filled.
        contracts = abs(ordered if np.isfinite(ordered) and ordered else size)
        filled = contracts - (abs(left) if np.isfinite(left) else 0.0)
        if filled > 0:
            orders.append((time, float(np.copysign(filled, size)), fill if fill > 0 else price))
    return orders


def _contract(symbol: str) -> str:
    contract = contract_of(check_symbol(symbol))
    if contract.quote != "USDT":
        raise NoDataError(f"Gate: {symbol} is not margined in USDT; its liquidations are read of such contracts only")
    return f"{contract.base}_{contract.quote}"


def _refusal(answer: Any) -> Refusal | None:
    if isinstance(answer, Mapping) and isinstance(answer.get("label"), str):
        return as_refusal(answer["label"], answer.get("message", answer.get("detail", "no reason given")))
    return None


def _words(symbol: str) -> Any:
    def in_words(place: str, refused: Refusal) -> MarketError:
        label, message = refused
        if "180-day" in message:
            return NoDataError(f"{place}: the exchange serves the last 180 days only; begin {REACH_DAYS} days ago")
        if label == "CONTRACT_NOT_FOUND" or "not found" in message:
            return NoDataError(f"{place}: Gate has no contract {_contract(symbol)}; leave the source out for {symbol}")
        return MarketError(f"{place}: the exchange refuses the request: {message} ({label})")

    return in_words
