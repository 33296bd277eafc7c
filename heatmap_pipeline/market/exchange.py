"""The exchange's public REST as clean days: for days that its archive does not have yet, and for today so far.

The same repairs and refusals as for files apply. Whether a candle is finished, which day it is and how far the history
of the open interest reaches back is decided by the exchange's clock, never by this machine's.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market import exchange_json as answers
from heatmap_pipeline.market.ban import Ban
from heatmap_pipeline.market.exchange_json import ExchangeError, SymbolInfo
from heatmap_pipeline.market.repair import clean_candles, clean_samples
from heatmap_pipeline.market.tables import (
    CANDLE_COLUMNS,
    OPEN_INTEREST_COLUMNS,
    BannedError,
    CleanDay,
    ClosedError,
    MarketError,
    NoDataError,
    NotTradedError,
)
from heatmap_pipeline.market.web import CLOSED, Patience, Reply, TryAgainError, WebClient, WebError
from heatmap_pipeline.settings import REST_URL, check_symbol, interval_name
from heatmap_pipeline.symbols import why_not_computed

CANDLES_PER_PAGE = 1500
SAMPLES_PER_PAGE = 500
SAMPLE_STEP = 300
"""Seconds between samples: the finest step the exchange serves."""

SAMPLES_REACH = timedelta(days=30)
"""How far back the exchange serves open interest."""

WEIGHT_PER_MINUTE = 1200
"""Weight this program uses at most, half of what the exchange grants an address."""

LATE_SAMPLES = timedelta(hours=1)
"""A day whose last sample is missing may still get it so long after its end."""

GONE = frozenset({"DELIVERING", "DELIVERED", "SETTLING", "CLOSE"})
"""What the exchange says of the status of a contract whose trading has ended for good."""

_LISTING = "/fapi/v1/exchangeInfo"
_LARGEST_ANSWER = 8 * 2**20  # all symbols: some MB; a day of candles: 0.3 MB; parsed it may take 27 times as much
_SKEW_SECONDS = 30
_DAY_MS = DAY // 1000
_INVALID_SYMBOL = -1121
_TOO_OFTEN = frozenset({418, 429})

_log = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")


class ExchangeReader:
    """Reads days of one exchange over REST; threads may share it.

    Args:
        base_url: of the exchange, or of what stands in for it.
        timeout: seconds of silence that are borne.
        total_time: seconds one call may take, pauses that the exchange asks for included.
        retries: tries after the first one, of each request.
        backoff: seconds of the first pause between two tries.
        setting: where the user sets `base_url`, for messages.
        pause: what waits; for tests.
        elapsed: seconds that have passed since some moment, whatever the clock of this machine is set to; for tests.
        ban_file: where a ban that is too long to be waited for is kept, so that no later process asks during it.

    Example:
        >>> reader = ExchangeReader(REST_URL)
        >>> reader.read_candles("BTCUSDT", date(2026, 10, 1), 300).table.shape  # doctest: +SKIP
        (288, 10)
    """

    def __init__(
        self,
        base_url: str = REST_URL,
        *,
        timeout: float = 20.0,
        total_time: float = 300.0,
        retries: int = 5,
        backoff: float = 0.5,
        setting: str = "HEATMAP_REST_URL",
        pause: Callable[[float], object] | None = None,
        elapsed: Callable[[], float] = time.monotonic,
        ban_file: Path | None = None,
    ) -> None:
        self._setting = setting
        self._web = WebClient(base_url, setting=setting, timeout=timeout, retries=retries, backoff=backoff)
        self._total_time = total_time
        self._pause = pause
        self._elapsed = elapsed
        self._budget = _Budget()
        self._ban = Ban(ban_file, self._web.name("").rstrip("/"))
        self._lock = threading.Lock()
        self._clock: tuple[int, float] | None = None
        self._symbols: dict[str, SymbolInfo] = {}

    def close(self) -> None:
        """Close the connections; the reader may be used again afterwards."""
        self._web.close()

    def now(self) -> datetime:
        """Return the exchange's time, UTC without zone, never later than it is; asked once, then counted on.

        Raises:
            MarketError: if the exchange cannot be asked.
        """
        with self._lock:
            if self._clock is None:
                path = "/fapi/v1/time"
                before = time.time()
                server = self._ask(path, {}, 1, lambda answer: answers.parse_server_time(answer, self._web.name(path)))
                # The answer is older than its arrival, so that what is counted on from here is never in the future.
                self._clock = server, self._elapsed()
                ahead = before - server / 1000
                if abs(ahead) >= _SKEW_SECONDS:
                    _log.warning(
                        "the clock of this machine differs from Binance's by %.0f s; the exchange's counts, but "
                        "schedules run by this one: set it right",
                        ahead,
                    )
            server, then = self._clock
        return _datetime(server + int((self._elapsed() - then) * 1000))

    def symbol(self, symbol: str) -> SymbolInfo:
        """Return what the exchange says of a symbol that is traded now.

        Raises:
            NotTradedError: if the exchange does not list it, or it is not traded.
            MarketError: if it is a contract that is not computed (`symbols.why_not_computed`).
        """
        info = self.known(symbol)
        if words := why_not_computed(info.kind):
            raise MarketError(words)
        if info.status != "TRADING":
            raise NotTradedError(
                f"{self._web.name(_LISTING)}: {symbol} is not traded now (status {info.status}), so there is nothing "
                "newer than what the archive has; choose days of the archive or another symbol"
            )
        return info

    def known(self, symbol: str) -> SymbolInfo:
        """Return what the exchange says of a symbol, traded or not; asked once.

        Raises:
            NotTradedError: if the exchange does not list it.
        """
        info = self._info(symbol)
        if info is None:
            raise NotTradedError(_unknown(self._web.name(_LISTING), symbol))
        return info

    def _info(self, symbol: str) -> SymbolInfo | None:
        """Return what the exchange says of a symbol, None if it does not list it; all are asked about at once."""
        check_symbol(symbol)
        with self._lock:
            if symbol not in self._symbols:
                place = self._web.name(_LISTING)

                def take(answer: Any) -> SymbolInfo | None:
                    info = answers.parse_symbol(answer, symbol, place)
                    self._symbols |= answers.parse_others(answer, place)
                    return info

                info = self._ask(_LISTING, {}, 1, take)
                if info is None:
                    return None
                self._symbols[symbol] = info
            return self._symbols[symbol]

    def gone(self, symbol: str, since: date) -> tuple[str, date | None]:
        """Return how it is known that a symbol is not traded any more, '' where it is or may be.

        Gone is what the exchange has a status of `GONE` for; what it does not list while it trades others; what REST
        calls an invalid symbol; and a contract that it listed later than the day after `since`, which is another one
        of the same name: its first day comes second, else None.

        Raises:
            ClosedError: if the exchange does not serve this place.
            MarketError: if it cannot be asked.
        """
        info = self._info(symbol)
        if info is None:
            others = any(other.status == "TRADING" for other in self._symbols.values())
            return ("the exchange does not list it any more" if others else ""), None
        if info.status in GONE:
            return f"its status at the exchange is {info.status}", None
        if info.status != "TRADING":
            return "", None
        if info.listed > since + timedelta(days=1):
            return f"the exchange listed it anew on {info.listed}", info.listed
        now = self.now()
        query: dict[str, str | int] = {"symbol": symbol, "interval": "5m", "limit": 1}
        query |= {"startTime": _ms(now.date()), "endTime": _ms(now.date()) + _DAY_MS - 1}
        try:
            self._ask("/fapi/v1/klines", query, 1, lambda answer: answer, symbol)
        except NotTradedError:
            return "the exchange calls it an invalid symbol", None
        return "", None

    def reaches_candles(self, symbol: str, day: date, interval: int) -> bool:
        """Whether the exchange has a finished candle of that day to give; raises as `symbol`."""
        first_close = _datetime(_ms(day)) + timedelta(seconds=interval)
        return self.symbol(symbol).listed <= day and first_close <= self.now()

    def read_candles(self, symbol: str, day: date, interval: int) -> CleanDay:
        """Return the clean candles of one day, of today those that are finished.

        Repairs: those of `clean_candles`, and `unfinished_candles` (not closed by the exchange's clock: dropped).
        Facts: `via`, `rows` of the answer, `provisional` if the day is not over.

        Args:
            symbol: as the exchange writes it.
            day: UTC.
            interval: seconds.

        Raises:
            NoDataError: if the exchange has none of that day (not listed yet, not begun).
            ClosedError: if the exchange does not serve this place.
            MarketError: for candles that cannot be used, or an exchange that cannot be asked.
        """
        info, now = self.symbol(symbol), self.now()
        if day < info.listed:
            raise NoDataError(f"{symbol}: {day} is before the day it was listed, {info.listed}; begin there or later")
        if _datetime(_ms(day)) > now:
            raise NoDataError(f"{symbol}: {day} has not begun, by the exchange's clock it is {now:%Y-%m-%d %H:%M} UTC")
        path, start = "/fapi/v1/klines", _ms(day)
        place = f"{self._web.name(path)} ({symbol} {day})"
        # A day of the finest candles fits one page.
        query: dict[str, str | int] = {"symbol": symbol, "interval": interval_name(interval)}
        query |= {"startTime": start, "endTime": start + _DAY_MS - 1, "limit": CANDLES_PER_PAGE}
        raw = self._ask(path, query, 10, lambda answer: answers.parse_candles(answer, interval, place), symbol)
        finished = raw["close_time"].to_numpy() < np.datetime64(now, "us")
        rows, unfinished = len(raw), int((~finished).sum())
        raw = raw.loc[finished, [*CANDLE_COLUMNS, "row"]]
        if raw.empty:
            first = _datetime(start + interval * 1000)
            reason = (
                f"the first one closes at {first:%H:%M} UTC" if first > now else "the exchange has none of that day"
            )
            raise NoDataError(f"{place}: no finished candle; {reason}: choose another day or wait")
        clean = clean_candles(raw, symbol=symbol, day=day, interval=interval, file=place)
        repairs = dict(clean.repairs)
        # What has not closed yet is not missing.
        closed = min(int((now - _datetime(start)).total_seconds() // interval), 86400 // interval)
        counts = {"missing_candles": closed - len(clean.table), "unfinished_candles": unfinished}
        repairs = {name: count for name, count in (repairs | counts).items() if count > 0}
        return replace(clean, repairs=repairs, facts=self._facts(rows, now < _datetime(start + _DAY_MS)))

    def read_open_interest(self, symbol: str, day: date, candles: pd.DataFrame, interval: int) -> CleanDay:
        """Return the clean samples of one day, taken after its first midnight and not after its last.

        A label is the time a sample was taken, as the exchange says, unless the candles decide otherwise. Facts: as of
        candles, and `clock`. Today so far may have no sample yet.

        Args:
            symbol: as the exchange writes it.
            day: UTC.
            candles: clean candles of that day, which tell the clock of the labels.
            interval: step of the candles in seconds.

        Raises:
            NoDataError: if the day lies further back than the exchange serves, has not begun, or has no samples.
            ClosedError: if the exchange does not serve this place.
            MarketError: for samples that cannot be used, or an exchange that cannot be asked.
        """
        self.symbol(symbol)
        now, start = self.now(), _ms(day)
        if _datetime(start) > now:
            raise NoDataError(f"{symbol}: {day} has not begun, by the exchange's clock it is {now:%Y-%m-%d %H:%M} UTC")
        if not self.reaches_samples(day):
            raise NoDataError(
                f"{symbol}: {day} is more than {SAMPLES_REACH.days} days ago, which is as far back as the exchange "
                "serves open interest over REST; it can only come from the archive"
            )
        path = "/futures/data/openInterestHist"
        place = f"{self._web.name(path)} ({symbol} {day})"
        # Both midnights are asked for: which of them belongs to the day is known when the clock is.
        query: dict[str, str | int] = {"symbol": symbol, "period": interval_name(SAMPLE_STEP)}
        query |= {"startTime": start, "endTime": start + _DAY_MS, "limit": SAMPLES_PER_PAGE}
        raw = self._ask(
            path,
            query,
            6,  # these have a limit of their own, 1,000 requests in five minutes
            lambda answer: answers.parse_open_interest(answer, symbol, place),
            symbol,
        )
        over = now >= _datetime(start + _DAY_MS)
        if raw.empty:
            if over:
                raise NoDataError(
                    f"{place}: the exchange has no open interest of that day; wait for the archive's file"
                )
            table = pd.DataFrame(
                {name: raw[kind] for name, kind in zip(OPEN_INTEREST_COLUMNS, raw.columns, strict=False)}
            )
            return CleanDay(symbol, day, table, SAMPLE_STEP, facts=self._facts(0, provisional=True))
        clean = clean_samples(raw, symbol=symbol, day=day, interval=interval, candles=candles, file=place, convention=0)
        taken = clean.table["snapshot_time"].to_numpy()
        table = clean.table.loc[taken > np.datetime64(_datetime(start), "us")].reset_index(drop=True)
        last = np.datetime64(_datetime(start + _DAY_MS), "us")
        late = not (taken == last).any() and now < _datetime(start + _DAY_MS) + LATE_SAMPLES
        return replace(clean, table=table, facts={**self._facts(len(raw), late), **clean.facts})

    def reaches_samples(self, day: date) -> bool:
        """Whether the exchange still serves the open interest of a whole day; it may not have begun."""
        return _datetime(_ms(day)) >= self.now() - SAMPLES_REACH + timedelta(minutes=1)

    def _closed(self, status: int, words: str) -> ClosedError:
        said = f'{status}, "{words}"' if words else str(status)
        return ClosedError(
            f"Binance's REST at {self._web.name('').rstrip('/')} is closed to the place this runs at (it answered "
            f"{said}); finished days still come from the archive, which has them about nine hours after midnight UTC; "
            f"for newer ones set {self._setting} to an address that serves this place, or see to a proxy or firewall "
            "in between"
        )

    def _banned(self, until: datetime) -> BannedError:
        words = (
            f"Binance's REST at {self._web.name('').rstrip('/')} has banned this address for asking too often, "
            f"until {until:%Y-%m-%d %H:%M:%S} UTC; it is not asked before, for that makes a ban longer; "
            "finished days still come from the archive; run again then"
        )
        file = self._ban.file
        return BannedError(words if file is None else f"{words} (from another address at once: delete {file})")

    @staticmethod
    def _facts(rows: int, provisional: bool) -> dict[str, Any]:
        facts: dict[str, Any] = {"via": "rest", "rows": rows}
        if provisional:
            facts["provisional"] = True
        return facts

    def _ask(
        self,
        path: str,
        query: Mapping[str, str | int],
        weight: int,
        parse: Callable[[Any], Parsed],
        symbol: str = "",
    ) -> Parsed:
        """Ask within the budget and parse; the exchange's own refusals become sentences."""
        if until := self._ban.until():
            raise self._banned(until)
        patience = Patience(self._total_time, self._pause)
        place = self._web.name(path)

        def take(reply: Reply) -> Parsed:
            self._budget.seen(reply.headers.get("X-MBX-USED-WEIGHT-1M", ""))
            answer = answers.parse_json(reply.body(_LARGEST_ANSWER))
            refused = answers.refusal(answer)
            if refused is not None:
                raise _in_words(place, symbol, *refused)
            return parse(answer)

        def spend() -> dict[str, str]:
            while pause := self._budget.spend(weight):
                if pause > patience.left:
                    raise WebError(
                        f"{place}: the requests of this minute are used up, and the time limit of "
                        f"{patience.seconds:g} s ends before the next; run again later"
                    )
                patience.wait(pause)
            return {}

        try:
            return self._web.get(path, take, patience=patience, query=query, headers=spend)
        except WebError as error:
            raise self._understood(error, place, symbol) from None

    def _understood(self, error: WebError, place: str, symbol: str) -> MarketError:
        """Return what an answer that is refused for its status means, as far as the exchange says more than that."""
        if error.status in _TOO_OFTEN and error.wait is not None:
            return self._banned(self._ban.begin(error.wait))
        refused = None
        if error.body:
            with suppress(TryAgainError):
                refused = answers.refusal(answers.parse_json(error.body))
        if error.status in CLOSED:
            return self._closed(error.status, refused[1] if refused else "")
        return error if refused is None else _in_words(place, symbol, *refused)


class _Budget:
    """The weight spent in the running minute, the larger of what is counted here and by the exchange."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = -math.inf
        self._used = 0

    def spend(self, weight: int) -> float:
        """Take the weight and return 0, or take nothing and return the seconds until there is some again."""
        with self._lock:
            now = time.monotonic()
            if now - self._since >= 60:
                self._since, self._used = now, 0
            if self._used and self._used + weight > WEIGHT_PER_MINUTE:
                return self._since + 60 - now
            self._used += weight
            return 0.0

    def seen(self, used: str) -> None:
        """Take note of what the exchange has counted."""
        if used.isdigit() and len(used) < 10:
            with self._lock:
                self._used = max(self._used, int(used))


def _in_words(place: str, symbol: str, code: int, words: str) -> MarketError:
    if code == _INVALID_SYMBOL and symbol:
        return NotTradedError(_unknown(place, symbol))
    return ExchangeError(f"{place}: the exchange refuses the request: {words} ({code})", code)


def _unknown(place: str, symbol: str) -> str:
    return (
        f"{place}: the exchange does not know the symbol {symbol}; write it as the exchange does, for example BTCUSDT "
        "(perpetual contracts margined in dollars only)"
    )


def _ms(day: date) -> int:
    return day_start(day) // 1000


def _datetime(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
