"""Bybit's linear perpetuals: clean days from its public REST, whose finished days are kept as they were answered.

Endpoints, limits and codes as published at bybit-exchange.github.io/docs/v5: `/v5/market/kline` (1,000 a page) and
`/v5/market/open-interest` (200 a page, with a cursor) reach back to a contract's first day. A day that is over is asked
for once; its rows stand in a file below the home with a checksum beside it, so that a rebuild needs no network.

`openInterest` adds both sides of each contract; since 2026-06-11 there is `singleOpenInterest` beside it, which counts
one and is taken where it is. Which of the two a day has is measured all the same (`sides.py`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heatmap_pipeline.errors import printable
from heatmap_pipeline.files import replace_file
from heatmap_pipeline.instants import DAY, SECONDS, day_start
from heatmap_pipeline.market.archive import read_many
from heatmap_pipeline.market.exchange_json import ExchangeError, as_number, as_rows, refuse_answer
from heatmap_pipeline.market.liquidations.rest import PublicRest, Refusal, as_refusal
from heatmap_pipeline.market.plausible.names import DECLARED
from heatmap_pipeline.market.repair import clean_candles, clean_samples
from heatmap_pipeline.market.strict_json import load_json, shown
from heatmap_pipeline.market.tables import (
    CANDLE_COLUMNS,
    OPEN_INTEREST_COLUMNS,
    CleanDay,
    ClosedError,
    Ending,
    MarketError,
    NoDataError,
    NotTradedError,
    checked,
)
from heatmap_pipeline.market.web import CLOSED, TryAgainError, WebError
from heatmap_pipeline.settings import Settings, check_symbol
from heatmap_pipeline.symbols import Contract, contract_of, exchange_and_name, typed_name

URL = "https://api.bybit.com"
"""The exchange's public REST; HEATMAP_BYBIT_URL names another address."""

GAP = 0.05
"""Seconds between two requests: a sixth of the 600 in five seconds that the exchange grants an address."""

CANDLES_PER_PAGE = 1000
SAMPLES_PER_PAGE = 200
SAMPLE_STEP = 300
"""Seconds between samples: the finest step the exchange serves."""

LATE_SAMPLES = timedelta(hours=1)
"""A day whose last sample is missing may still get it so long after its end."""

_CLOSED_CODES = {"10009", "10024"}  # a banned address; a place that regulation shuts out
_BUSY_CODES = {"10000", "10006", "10016", "10018"}  # timeouts, too many visits, errors of the server
_NO_SYMBOL = "10001"  # a parameter that is wrong, of which only the symbol is not ours
_GONE = frozenset({"Closed", "Delivering", "Settling"})
_MOST_PAGES = 100
_OLDEST, _NEWEST = 10**12, 10**14
_DAY_MS = DAY // 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instrument:
    """What `/v5/market/instruments-info` says of a contract.

    Attributes:
        contract: base, quote, kind and lot.
        status: Trading, or why not.
        listed: UTC day of its launch.
    """

    contract: Contract
    status: str
    listed: date


class BybitMarket:
    """Candles and open interest of Bybit, as `market.sources.Market` asks for them; threads may share it.

    Args:
        root: folder of the days that are kept.
        base_url: of the exchange, or of what stands in for it.
        setting: where the user sets it, for messages.
        gap: seconds between two requests.
        elapsed: seconds since some moment, whatever the clock of this machine is set to; for tests.
        options: of `PublicRest`.

    Raises:
        MarketError: for an address that is none.

    Example:
        >>> market = BybitMarket(Path("archive/bybit"))
        >>> [day.table.shape for day in market.candles("BYBIT_BTCUSDT", [date(2021, 1, 1)], 300)]  # doctest: +SKIP
        [(288, 10)]
    """

    def __init__(
        self,
        root: Path,
        base_url: str = URL,
        *,
        setting: str = "HEATMAP_BYBIT_URL",
        gap: float = GAP,
        elapsed: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        self._root, self._setting, self._elapsed = root, setting, elapsed
        self._rest = PublicRest(base_url, setting=setting, gap=gap, refusal=_refusal, **options)
        self._clock: tuple[int, float] | None = None
        self._instruments: dict[str, Instrument] = {}
        self._closed: ClosedError | None = None

    def close(self) -> None:
        """Close the connections; the market may be used again afterwards."""
        self._rest.close()

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Ask anew what was refused before; days are fetched as they are read."""
        del symbol, days
        self._closed = None

    def contract(self, symbol: str) -> Contract:
        """Return what a contract is: as the exchange says, else as its name does where the exchange cannot be asked.

        Raises:
            MarketError: for a contract that is not computed.
        """
        named = contract_of(check_symbol(symbol))
        try:
            return checked(self._instrument(symbol).contract)
        except (WebError, ClosedError):
            if not named.quote:
                raise
        return checked(named)

    def available(self, symbol: str, days: Sequence[date]) -> set[date]:
        """Return those of the days that are kept, or that the exchange has finished candles of.

        Raises:
            MarketError: if the exchange has to be asked and cannot be.
        """
        kept = {day for day in days if self._kept_days(symbol) >= {day}}
        others = set(days) - kept
        if others:
            listed, now = self._instrument(symbol).listed, self.now()
            kept |= {day for day in others if listed <= day and _datetime(_ms(day) + SAMPLE_STEP * 1000) <= now}
        return kept

    def reach(self, symbol: str, until: date) -> tuple[date, str]:
        """Return `until`: nobody else has a day that the exchange does not give, so the run that reads it says so."""
        del symbol
        return until, ""

    def changed(
        self, symbol: str, read: Mapping[date, Collection[str]], interval: int, *, asked_today: bool = False
    ) -> list[date]:
        """Return no day: the exchange corrects nothing that it has answered."""
        del symbol, read, interval, asked_today
        return []

    def ended(self, symbol: str, last: date, until: date, interval: int) -> Ending | None:
        """Return that a contract ended, where the exchange says so; raises as `contract`."""
        del until, interval
        instrument = self._instrument(symbol)
        if instrument.status in _GONE:
            return Ending(last, f"its status at the exchange is {instrument.status}")
        return None

    def interval(self, settings: Settings, symbol: str, days: Sequence[date]) -> int:
        """Return the candle step in seconds: the symbol's setting, else the common one, else five minutes."""
        del days
        return SECONDS[settings.of(symbol).candle_interval or settings.candle_interval or "5m"]

    def candles(self, symbol: str, days: Sequence[date], interval: int) -> Iterator[CleanDay]:
        """Yield the clean candles of each day, in order, of today those that are finished.

        Repairs: those of `clean_candles`, and `unfinished_candles` (not closed by the exchange's clock: dropped).

        Raises:
            NoDataError: for a day before the contract's first or after now.
            ClosedError: for a day that is not kept, if the exchange does not serve this place.
            MarketError: for candles that cannot be used, or an exchange that cannot be asked.
        """
        return read_many(lambda day: self._candles(symbol, day, interval), days)

    def open_interest(self, symbol: str, candles: dict[date, pd.DataFrame], interval: int) -> Iterator[CleanDay]:
        """Yield the clean samples of each day of `candles`, taken after its first midnight and not after its last.

        Contracts are `singleOpenInterest` where every row has it, which the fact `declared` says, else `openInterest`
        as it is: both sides, or whatever the numbers say. Raises as `candles`.
        """
        return read_many(lambda day: self._samples(symbol, day, candles[day], interval), sorted(candles))

    def now(self) -> datetime:
        """Return the exchange's time, UTC without zone; asked once, then counted on.

        Raises:
            MarketError: if the exchange cannot be asked.
        """
        if self._clock is None:
            path = "/v5/market/time"

            def parse(result: Any, place: str) -> int:
                seconds = result.get("timeSecond") if isinstance(result, dict) else None
                return _instant(seconds, place, 1, "timeSecond", unit=1000)

            server = self._ask(path, {}, parse)
            self._clock = server, self._elapsed()
        server, then = self._clock
        return _datetime(server + int((self._elapsed() - then) * 1000))

    def _instrument(self, symbol: str) -> Instrument:
        """Return what the exchange says of a contract; what it said last, where it cannot be asked."""
        check_symbol(symbol)
        if symbol not in self._instruments:
            kept = self._folder(symbol) / "instrument.json.gz"
            place = f"{self._rest.name('/v5/market/instruments-info')} ({typed_name(symbol)})"
            try:
                rows = self._ask("/v5/market/instruments-info", self._query(symbol), _list)
                if not rows:  # contracts that ended are listed apart
                    rows = self._ask("/v5/market/instruments-info", self._query(symbol, status="Closed"), _list)
                _keep(kept, rows)
            except (WebError, ClosedError):
                known = _read_kept(kept)
                if known is None:
                    raise
                rows = known
            self._instruments[symbol] = _parse_instrument(rows, symbol, place)
        return self._instruments[symbol]

    def _candles(self, symbol: str, day: date, interval: int) -> CleanDay:
        minutes = interval // 60
        width = CANDLES_PER_PAGE * interval * 1000

        def fetch() -> list[Any]:
            rows: list[Any] = []
            for start in range(_ms(day), _ms(day) + _DAY_MS, width):
                end = min(start + width, _ms(day) + _DAY_MS) - 1
                query = self._query(symbol, interval=str(minutes), start=start, end=end, limit=CANDLES_PER_PAGE)
                rows += reversed(self._ask("/v5/market/kline", query, _list))
            return rows

        path = self._folder(symbol) / f"kline-{minutes}" / f"{exchange_and_name(symbol)[1]}-{day}.json.gz"
        rows, facts = self._rows(symbol, day, path, fetch, bool)
        place = self._place("/v5/market/kline", symbol, day, facts)
        raw = _parse_candles(rows, place)
        repairs: dict[str, int] = {}
        if facts.get("provisional"):
            now = self.now()
            closed_by = raw["open_time"].to_numpy() + np.timedelta64(interval, "s")
            finished = closed_by <= np.datetime64(now, "us")
            repairs["unfinished_candles"] = int((~finished).sum())
            raw = raw.loc[np.asarray(finished, dtype=np.bool_)]
        if raw.empty:
            raise NoDataError(
                f"{place}: no finished candle; the exchange has none of that day: choose another day or wait"
            )
        clean = clean_candles(raw, symbol=symbol, day=day, interval=interval, file=place)
        repairs = {**clean.repairs, **repairs}
        if facts.get("provisional"):  # what has not closed yet is not missing
            closed = min(int((now - _datetime(_ms(day))).total_seconds() // interval), 86400 // interval)
            repairs["missing_candles"] = closed - len(clean.table)
        return replace(clean, repairs={name: count for name, count in repairs.items() if count > 0}, facts=facts)

    def _samples(self, symbol: str, day: date, candles: pd.DataFrame, interval: int) -> CleanDay:
        start, end = _ms(day), _ms(day) + _DAY_MS
        path = self._folder(symbol) / "open-interest-5" / f"{exchange_and_name(symbol)[1]}-{day}.json.gz"

        def over(rows: list[Any]) -> bool:
            there = any(isinstance(row, dict) and row.get("timestamp") == str(end) for row in rows)
            return there or self.now() >= _datetime(end) + LATE_SAMPLES

        rows, facts = self._rows(symbol, day, path, lambda: self._pages_of_samples(symbol, start, end), over)
        place = self._place("/v5/market/open-interest", symbol, day, facts)
        raw, declared = _parse_samples(rows, place)
        if raw.empty:
            table = pd.DataFrame({name: raw[of] for name, of in zip(OPEN_INTEREST_COLUMNS, raw.columns, strict=False)})
            return CleanDay(symbol, day, table, SAMPLE_STEP, facts=facts)
        clean = clean_samples(raw, symbol=symbol, day=day, interval=interval, candles=candles, file=place, convention=0)
        taken = clean.table["snapshot_time"].to_numpy()
        table = clean.table.loc[taken > np.datetime64(_datetime(start), "us")].reset_index(drop=True)
        said = {DECLARED: 1} if declared else {}
        return replace(clean, table=table, facts={**facts, **said, **clean.facts})

    def _pages_of_samples(self, symbol: str, start: int, end: int) -> list[Any]:
        """Return the samples of [start, end], oldest first; the exchange begins with the newest."""
        path, cursor, seen = "/v5/market/open-interest", "", set[str]()
        rows: list[Any] = []
        while True:
            query = self._query(symbol, intervalTime="5min", startTime=start, endTime=end, limit=SAMPLES_PER_PAGE)
            page, cursor = self._ask(path, query | ({"cursor": cursor} if cursor else {}), _list_and_cursor)
            rows += page
            # A cursor also stands behind the last row; a full page is what announces another.
            if not cursor or len(page) < SAMPLES_PER_PAGE:
                return rows[::-1]
            if cursor in seen or len(seen) >= _MOST_PAGES:
                raise MarketError(
                    f"{self._rest.name(path)} ({typed_name(symbol)}): the exchange hands out the same page again and "
                    "again; run again later, or report it"
                )
            seen.add(cursor)

    def _rows(
        self, symbol: str, day: date, path: Path, fetch: Callable[[], list[Any]], over: Callable[[list[Any]], bool]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the rows of a day, kept or fetched, and facts; what is fetched of a day that is over is kept."""
        rows = _read_kept(path)
        if rows is None:
            listed, now = self._instrument(symbol).listed, self.now()
            if day < listed:
                raise NoDataError(
                    f"{typed_name(symbol)}: {day} is before the day it was listed, {listed}; begin there or later"
                )
            if _datetime(_ms(day)) > now:
                raise NoDataError(
                    f"{typed_name(symbol)}: {day} has not begun, by the exchange's clock it is {now:%Y-%m-%d %H:%M} UTC"
                )
            rows = fetch()
            if now < _datetime(_ms(day) + _DAY_MS) or not over(rows):
                return rows, {"via": "rest", "rows": len(rows), "provisional": True}
            _keep(path, rows)
        name = path.name.removesuffix(".json.gz")
        return rows, {"via": "pages", "file": f"{path.parent.name}/{name}", "sha256": _digest(rows), "rows": len(rows)}

    def _folder(self, symbol: str) -> Path:
        return self._root / "linear" / exchange_and_name(check_symbol(symbol))[1]

    def _kept_days(self, symbol: str) -> set[date]:
        """Return the days whose candles are kept, at any interval."""
        days = set()
        for path in self._folder(symbol).glob("kline-*/*.json.gz"):
            with suppress(ValueError):
                days.add(date.fromisoformat(path.name.removesuffix(".json.gz")[-10:]))
        return days

    def _query(self, symbol: str, **more: str | int) -> dict[str, str | int]:
        return {"category": "linear", "symbol": exchange_and_name(symbol)[1], **more}

    def _place(self, path: str, symbol: str, day: date, facts: Mapping[str, Any]) -> str:
        of = facts["file"] if "file" in facts else f"{typed_name(symbol)} {day}"
        return f"{self._rest.name(path)} ({of})"

    def _ask(self, path: str, query: Mapping[str, str | int], parse: Callable[[Any, str], Any]) -> Any:
        """Return what `parse` makes of the result of an answer, unless the exchange has said that it is closed."""
        if self._closed is not None:
            raise ClosedError(str(self._closed))
        place = self._rest.name(path)

        def parsed(answer: Any, answered: int) -> Any:
            del answered
            result = answer.get("result") if isinstance(answer, dict) else None
            if not isinstance(result, dict):
                refuse_answer(place, 1, "has no result")
            return parse(result, place)

        try:
            return self._rest.ask(path, query, parsed, self._in_words)
        except WebError as error:
            if error.status in CLOSED:
                self._closed = self._shut(str(error.status))
                raise ClosedError(str(self._closed)) from None
            raise
        except ClosedError as error:
            self._closed = error
            raise

    def _in_words(self, place: str, refused: Refusal) -> MarketError:
        code, words = refused
        if code in _CLOSED_CODES:
            return self._shut(f'{code}, "{words}"')
        if code == _NO_SYMBOL:
            return NotTradedError(
                f"{place}: the exchange does not know what it was asked for: {words} ({code}); write the contract as "
                "the exchange does, for example bybit:BTCUSDT"
            )
        return ExchangeError(f"{place}: the exchange refuses the request: {words} ({code})", int(code))

    def _shut(self, said: str) -> ClosedError:
        return ClosedError(
            f"Bybit's REST at {self._rest.name('').rstrip('/')} is closed to the place this runs at (it answered "
            f"{said}; 403 also comes for ten minutes where it was asked too often); days that are kept below the home "
            f"can still be computed; for others set {self._setting} to an address that serves this place, or see "
            "to a proxy or firewall in between"
        )


def _refusal(answer: Any) -> Refusal | None:
    """Return code and words of the exchange's own error; raises TryAgainError for one that passes."""
    code = answer.get("retCode") if isinstance(answer, dict) else None
    if type(code) is not int or code == 0:
        return None
    refused = as_refusal(code, answer.get("retMsg", ""))
    if refused[0] in _BUSY_CODES:
        raise TryAgainError(f"the exchange is busy: {refused[1]} ({refused[0]})")
    return refused


def _list(result: Any, place: str) -> list[Any]:
    return list(as_rows(result.get("list"), place))


def _list_and_cursor(result: Any, place: str) -> tuple[list[Any], str]:
    cursor = result.get("nextPageCursor", "")
    if not isinstance(cursor, str):
        refuse_answer(place, 1, f"nextPageCursor {shown(cursor)} is no text")
    return _list(result, place), cursor


def _parse_instrument(rows: Sequence[Any], symbol: str, place: str) -> Instrument:
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
        launched = _datetime(_instant(row.get("launchTime"), place, number, "launchTime")).date()
        contract = Contract(
            symbol,
            base,
            quote,
            "perpetual" if kind == "LinearPerpetual" else "delivery" if kind == "LinearFutures" else "coin-margined",
            lot if lot > 0 else None,
        )
        return Instrument(contract, status, launched)
    raise NotTradedError(
        f"{place}: the exchange does not know this contract; write it as the exchange does, for example bybit:BTCUSDT"
    )


def _parse_candles(rows: Sequence[Any], place: str) -> pd.DataFrame:
    """Return `CANDLE_COLUMNS` and `row`; the exchange gives neither counts of trades nor what takers bought."""
    opened: list[int] = []
    values: list[list[float]] = []
    names = ("open", "high", "low", "close", "volume", "turnover")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list) or len(row) < 7:
            refuse_answer(place, number, "is not a candle of 7 fields")
        opened.append(_instant(row[0], place, number, "startTime"))
        values.append([as_number(row[at], place, number, name) for at, name in enumerate(names, 1)])
    known = np.array(values, dtype=np.float64).reshape(len(rows), 6)
    table = pd.DataFrame(known, columns=[*CANDLE_COLUMNS[1:6], "quote_volume"])
    table = table.assign(open_time=_times(opened), trades=0.0, taker_buy_volume=np.nan, taker_buy_quote_volume=np.nan)
    return table[list(CANDLE_COLUMNS)].assign(row=np.arange(len(rows)) + 1)


def _parse_samples(rows: Sequence[Any], place: str) -> tuple[pd.DataFrame, bool]:
    """Return `label`, `contracts`, `value` (unknown), `row`, and whether the contracts are declared to be one side."""
    declared = bool(rows) and all(isinstance(row, dict) and row.get("singleOpenInterest") for row in rows)
    field = "singleOpenInterest" if declared else "openInterest"
    label, contracts = [], []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            refuse_answer(place, number, "is not an object")
        label.append(_instant(row.get("timestamp"), place, number, "timestamp"))
        contracts.append(as_number(row.get(field), place, number, field))
    count = len(rows)
    columns = {"label": _times(label), "contracts": np.array(contracts, float), "value": np.full(count, np.nan)}
    return pd.DataFrame(columns).assign(row=np.arange(count) + 1), declared


def _instant(value: Any, place: str, row: int, name: str, *, unit: int = 1) -> int:
    """Return a time that is written as text in milliseconds since 1970, or in other units of so many."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 15
    whole = int(value) * unit if digits else -1
    if not _OLDEST <= whole < _NEWEST:
        refuse_answer(place, row, f"{name} {shown(value)} is no time since 1970")
    return whole


def _times(milliseconds: Sequence[int]) -> np.ndarray[Any, Any]:
    return (np.array(milliseconds, dtype=np.int64) * 1000).astype("datetime64[us]")


def _text(rows: Sequence[Any]) -> bytes:
    return json.dumps(list(rows), separators=(",", ":")).encode()


def _digest(rows: Sequence[Any]) -> str:
    return hashlib.sha256(_text(rows)).hexdigest()


def _keep(path: Path, rows: Sequence[Any]) -> None:
    """Keep rows; the checksum, of the rows themselves, comes last: without it a file counts as never written.

    Raises:
        OSError: if the disk refuses it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, gzip.compress(_text(rows), mtime=0))
    replace_file(path.with_name(f"{path.name}.sha256"), f"{_digest(rows)}  {path.name}\n".encode())


def _read_kept(path: Path) -> list[Any] | None:
    """Return kept rows, None where there are none, or others than were kept: then they are asked for once more."""
    try:
        text = gzip.decompress(path.read_bytes())
        said = path.with_name(f"{path.name}.sha256").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError, zlib.error):
        text, said = b"", []
    if said[:1] != [hashlib.sha256(text).hexdigest()]:
        _log.warning("%s does not match its checksum; it is asked for once more", path)
        return None
    rows = load_json(text)
    return rows if isinstance(rows, list) else None


def _ms(day: date) -> int:
    return day_start(day) // 1000


def _datetime(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
