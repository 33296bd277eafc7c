"""What the exchanges' liquidation streams say: how to subscribe, and what each message means.

Another exchange is another entry of `STREAMS`. How a connection is kept is the business of `recorder.py`.

- Bybit `allLiquidation.SYMBOL` prints every liquidation since 2025-02-20; `S` is the side of the position, `v` the
  size, `p` the bankruptcy price. A ping every 20 s is answered, so that a quiet market is no silence.
- Binance `SYMBOL@forceOrder` prints at most one order per symbol and second; `S` is the side of the order, `z` what was
  filled, `ap` the price it was filled at. It is served below `/market/ws` only: the older `/ws` acknowledges a
  subscription and then stays silent. The mark price, every 3 s on the same connection, is what tells the two apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heatmap_pipeline.errors import printable
from heatmap_pipeline.market.strict_json import load_json

_NUMBER = re.compile(r"\d{1,30}(\.\d{1,30})?", re.ASCII)
_OLDEST, _NEWEST = 10**12, 10**14  # milliseconds: 2001 and 5138


@dataclass(frozen=True)
class Event:
    """One liquidation as a stream prints it.

    Attributes:
        time: milliseconds since 1970, when it happened.
        side: the exchange's word.
        price: as written, quote asset.
        quantity: as written, units of the base.
    """

    time: int
    side: str
    price: str
    quantity: str


@dataclass(frozen=True)
class Message:
    """What one message of a stream means.

    Attributes:
        events: liquidations of the symbol asked for.
        confirmed: whether it says that the subscription stands.
        refused: why the exchange does not want to serve it, in its words.
        sent: milliseconds since 1970 by the exchange's clock, 0 where it does not say.
    """

    events: tuple[Event, ...] = ()
    confirmed: bool = False
    refused: str = ""
    sent: int = 0


@dataclass(frozen=True)
class Stream:
    """How to listen to the liquidations of one exchange.

    Attributes:
        exchange: its name.
        url: where its stream is.
        complete: whether it prints every liquidation.
        subscribe: makes the request for a symbol.
        ping: what to send every 20 s, None where something comes by itself.
        read: the meaning of a message about a symbol; raises ValueError for one that has none.
    """

    exchange: str
    url: str
    complete: bool
    subscribe: Callable[[str], str]
    ping: str | None
    read: Callable[[bytes, str], Message]


def read_bybit(data: bytes, symbol: str) -> Message:
    """Return the meaning of a message of Bybit's public v5 stream.

    Raises:
        ValueError: if it has none.

    Example:
        >>> made = read_bybit(b'{"topic":"allLiquidation.BTCUSDT","ts":1739502303204,"data":[{"T":1739502302929,'
        ...                   b'"s":"BTCUSDT","S":"Buy","v":"0.015","p":"96250.5"}]}', "BTCUSDT")
        >>> made.events[0].side, made.events[0].price
        ('Buy', '96250.5')
    """
    message = _object(load_json(data))
    if "topic" in message:
        rows = message.get("data")
        if message["topic"] != f"allLiquidation.{symbol}" or not isinstance(rows, list):
            raise ValueError("it is about something else")
        mine = [row for row in map(_object, rows) if row.get("s") == symbol]
        return Message(tuple(_event(row, "T", "S", "p", "v") for row in mine), sent=_sent(message.get("ts")))
    words = message.get("ret_msg")
    if message.get("op") == "subscribe":
        refused = "" if message.get("success") is True else printable(str(words)) or "no reason given"
        return Message(confirmed=not refused, refused=refused)
    return Message()


def read_binance(data: bytes, symbol: str) -> Message:
    """Return the meaning of a message of Binance's USDT-margined stream.

    Raises:
        ValueError: if it has none.
    """
    message = _object(load_json(data))
    if "stream" in message:
        message = _object(message.get("data"))
    sent = _sent(message.get("E"))
    if message.get("e") == "forceOrder":
        order = _object(message.get("o"))
        if order.get("s") != symbol:
            return Message(sent=sent)
        average = order.get("ap")
        priced = isinstance(average, str) and _NUMBER.fullmatch(average) and float(average) > 0
        event = _event(order, "T", "S", "ap" if priced else "p", "z")
        return Message((event,) if float(event.quantity) > 0 else (), sent=sent)
    refused = message.get("error", message if "code" in message else None)
    if refused is not None:
        return Message(refused=printable(str(refused.get("msg", refused) if isinstance(refused, dict) else refused)))
    return Message(confirmed="result" in message and message["result"] is None, sent=sent)


def _subscribe_bybit(symbol: str) -> str:
    return json.dumps({"op": "subscribe", "args": [f"allLiquidation.{symbol}"]})


def _subscribe_binance(symbol: str) -> str:
    name = symbol.lower()
    return json.dumps({"method": "SUBSCRIBE", "params": [f"{name}@forceOrder", f"{name}@markPrice"], "id": 1})


STREAMS = {
    stream.exchange: stream
    for stream in (
        Stream("bybit", "wss://stream.bybit.com/v5/public/linear", True, _subscribe_bybit, '{"op":"ping"}', read_bybit),
        Stream("binance", "wss://fstream.binance.com/market/ws", False, _subscribe_binance, None, read_binance),
    )
}
"""The streams that can be recorded, by exchange."""


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it is not an object")
    return value


def _sent(value: Any) -> int:
    return value if type(value) is int and _OLDEST <= value < _NEWEST else 0


def _event(row: dict[str, Any], time: str, side: str, price: str, quantity: str) -> Event:
    at, word, amounts = row.get(time), row.get(side), (row.get(price), row.get(quantity))
    if type(at) is not int or not _OLDEST <= at < _NEWEST:
        raise ValueError(f"{time} is not in milliseconds since 1970")
    if not isinstance(word, str) or word.lower() not in ("buy", "sell"):
        raise ValueError(f"{side} is neither Buy nor Sell")
    if not all(isinstance(amount, str) and _NUMBER.fullmatch(amount) for amount in amounts):
        raise ValueError(f"{price} or {quantity} is not a number")
    return Event(at, word, str(amounts[0]), str(amounts[1]))
