"""Perpetuals that are read over their exchange's public REST alone; finished days are kept as they were answered.

What is the same of every such exchange: a day that is over is asked for once and stands in a file below the home from
then on, so that a rebuild needs no network; today so far is asked for each time; contracts become units of the base;
the leverage tiers are written down with the day they were first seen; an exchange that does not serve this place says
so once. Where an exchange is, what it is asked and what its answers mean is the business of its own file (`bybit.py`,
`gate.py`), as a class of its own that fills in what is abstract here.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatmap_pipeline.instants import DAY, SECONDS, day_start
from heatmap_pipeline.market.archive import read_many
from heatmap_pipeline.market.brackets import Tier, keep_tiers, kept_tiers
from heatmap_pipeline.market.exchange_json import refuse_answer
from heatmap_pipeline.market.kept_pages import ENDING, Page, keep, read_kept
from heatmap_pipeline.market.plausible.names import DECLARED
from heatmap_pipeline.market.public_rest import PublicRest, Refusal
from heatmap_pipeline.market.repair import clean_candles, clean_samples
from heatmap_pipeline.market.strict_json import shown
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
from heatmap_pipeline.market.web import CLOSED, WebError
from heatmap_pipeline.settings import Settings, check_symbol
from heatmap_pipeline.symbols import Contract, contract_of, exchange_and_name, typed_name

SAMPLE_STEP = 300
"""Seconds between samples of open interest that are asked for."""

LATE_SAMPLES = timedelta(hours=1)
"""A day whose last sample is missing may still get it so long after its end."""

_OLDEST, _NEWEST = 10**12, 10**14  # milliseconds: 2001 and 5138
_DAY_MS = DAY // 1000
_TRADED = ("open", "high", "low", "close", "volume", "quote_volume")

_log = logging.getLogger(__name__)

Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Instrument:
    """What an exchange says of a contract.

    Attributes:
        contract: base, quote, kind, lot and size.
        listed: UTC day of its launch.
        ended: why it is not traded any more, in words; '' while it is.
    """

    contract: Contract
    listed: date
    ended: str = ""


class RestMarket(ABC):
    """Candles and open interest of one exchange, as `market.sources.Market` asks for them; threads may share it.

    Args:
        root: folder of what is kept.
        base_url: of the exchange, or of what stands in for it.
        setting: where the user sets it, for messages.
        gap: seconds between two requests.
        elapsed: seconds since some moment, whatever the clock of this machine is set to; for tests.
        options: of `PublicRest`.

    Raises:
        MarketError: for an address that is none.
    """

    title: ClassVar[str]
    """How the exchange writes itself."""

    candles_path: ClassVar[str]
    samples_path: ClassVar[str]
    instruments_path: ClassVar[str]
    """What is asked for candles, samples and contracts, for messages."""

    convention: ClassVar[int] = 0
    """Seconds from the label of a sample to the instant it was taken, where neither prices nor volumes tell."""

    settles: ClassVar[int] = 0
    """Seconds after its label for which a sample may still be answered differently."""

    def __init__(
        self,
        root: Path,
        base_url: str,
        *,
        setting: str,
        gap: float,
        elapsed: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        self._root, self._setting, self._elapsed = root, setting, elapsed
        self._rest = PublicRest(base_url, setting=setting, gap=gap, refusal=self.refusal, **options)
        self._clock: tuple[int, float] | None = None
        self._instruments: dict[str, Instrument] = {}
        self._closed: ClosedError | None = None

    @abstractmethod
    def refusal(self, answer: Any) -> Refusal | None:
        """Return code and words of the exchange's own error; raises TryAgainError for one that passes."""

    @abstractmethod
    def in_words(self, place: str, refused: Refusal) -> MarketError:
        """Return the error that a refusal is."""

    @abstractmethod
    def result(self, answer: Any, place: str) -> Any:
        """Return what an answer holds, out of what the exchange puts around it."""

    @abstractmethod
    def ask_now(self) -> int:
        """Return the exchange's clock, milliseconds since 1970."""

    @abstractmethod
    def ask_contract(self, symbol: str) -> Sequence[Any]:
        """Return what the exchange says of a contract, as rows; none for one it does not know."""

    @abstractmethod
    def read_contract(self, rows: Sequence[Any], symbol: str, place: str) -> Instrument:
        """Return what such rows say; raises NotTradedError where they do not hold the contract."""

    @abstractmethod
    def ask_tiers(self, symbol: str) -> Sequence[Tier]:
        """Return the leverage tiers of a contract as they are now, the lowest first; none for one that ended."""

    @abstractmethod
    def ask_candles(self, symbol: str, start: int, end: int, interval: int) -> Sequence[Any]:
        """Return the rows of the candles that open in [start, end), milliseconds since 1970, oldest first."""

    @abstractmethod
    def read_candles(self, rows: Sequence[Any], place: str) -> tuple[list[int], list[list[float]]]:
        """Return when candles open, in milliseconds, and of each `open` to `volume` (contracts) and quote volume."""

    @abstractmethod
    def ask_samples(self, symbol: str, start: int, end: int) -> Sequence[Any]:
        """Return the rows of the samples with a label in [start, end], milliseconds since 1970, oldest first."""

    @abstractmethod
    def read_samples(self, rows: Sequence[Any], place: str) -> tuple[pd.DataFrame, bool]:
        """Return samples as `sample_table` does, and whether their rows declare that they count one side."""

    def reaches(self, symbol: str, day: date, interval: int | None = None) -> str:
        """Return '' for a day that the exchange still serves, else why not; None = the interval that is kept."""
        del symbol, day, interval
        return ""

    def close(self) -> None:
        """Close the connections; the market may be used again afterwards."""
        self._rest.close()

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Ask for the leverage tiers, unless every day and some tiers are kept; days are fetched as they are read.

        What was refused before is asked anew. Tiers that cannot be had stay what they were.

        Raises:
            MarketError: for an answer about tiers that cannot be understood, if none are kept.
        """
        self._closed = None
        known = kept_tiers(self._root.parent, symbol) is not None
        if known and set(days) <= self._kept_days(symbol):
            return
        try:
            tiers = self.ask_tiers(symbol)
            if tiers:
                keep_tiers(self._root.parent, symbol, tiers, self.now().date())
        except (WebError, ClosedError, NotTradedError) as error:
            _log.warning("the leverage tiers of %s stay what they were: %s", typed_name(symbol), error)
        except MarketError as error:
            if not known:
                raise
            _log.warning("the leverage tiers of %s stay what they were: %s", typed_name(symbol), error)

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
        kept = self._kept_days(symbol) & set(days)
        others = set(days) - kept
        if others:
            listed, now = self._instrument(symbol).listed, self.now()
            begun = {day for day in others if listed <= day and as_datetime(_ms(day) + SAMPLE_STEP * 1000) <= now}
            kept |= {day for day in begun if not self.reaches(symbol, day)}
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
        """Return that a contract ended, where the exchange says so or does not know it any more.

        Raises:
            MarketError: for an exchange that cannot be asked and has never told.
        """
        del until, interval
        try:
            instrument = self._instrument(symbol)
        except NotTradedError:
            return Ending(last, "the exchange does not list it any more")
        return Ending(last, instrument.ended) if instrument.ended else None

    def interval(self, settings: Settings, symbol: str, days: Sequence[date]) -> int:
        """Return the candle step in seconds: the symbol's setting, else the common one, else five minutes."""
        del days
        return SECONDS[settings.of(symbol).candle_interval or settings.candle_interval or "5m"]

    def candles(self, symbol: str, days: Sequence[date], interval: int) -> Iterator[CleanDay]:
        """Yield the clean candles of each day, in order, of today those that are finished.

        Repairs: those of `clean_candles`, and `unfinished_candles` (not closed by the exchange's clock: dropped).

        Raises:
            NoDataError: for a day before the contract's first, after now, or that the exchange does not serve any more.
            ClosedError: for a day that is not kept, if the exchange does not serve this place.
            MarketError: for candles that cannot be used, or an exchange that cannot be asked.
        """
        return read_many(lambda day: self._candles(symbol, day, interval), days)

    def open_interest(self, symbol: str, candles: dict[date, pd.DataFrame], interval: int) -> Iterator[CleanDay]:
        """Yield the clean samples of each day of `candles`, taken after its first midnight and not after its last.

        The fact `declared_sides` says that the exchange declares these very samples to count one side. Raises as
        `candles`.
        """
        return read_many(lambda day: self._samples(symbol, day, candles[day], interval), sorted(candles))

    def now(self) -> datetime:
        """Return the exchange's time, UTC without zone; asked once, then counted on.

        Raises:
            MarketError: if the exchange cannot be asked.
        """
        if self._clock is None:
            server = self.ask_now()
            self._clock = server, self._elapsed()
        server, then = self._clock
        return as_datetime(server + int((self._elapsed() - then) * 1000))

    def ask(self, path: str, query: Mapping[str, str | int], parse: Callable[[Any, str], Parsed]) -> Parsed:
        """Return what `parse` makes of the result of an answer and of its place, unless the exchange is closed.

        Raises:
            ClosedError: if it does not serve this place; from then on without asking.
            MarketError: as `PublicRest.ask`.
        """
        if self._closed is not None:
            raise ClosedError(str(self._closed))
        place = self._rest.name(path)
        try:
            return self._rest.ask(
                path, query, lambda answer, _: parse(self.result(answer, place), place), self.in_words
            )
        except WebError as error:
            if error.status in CLOSED:
                self._closed = self.shut(str(error.status))
                raise ClosedError(str(self._closed)) from None
            raise
        except ClosedError as error:
            self._closed = error
            raise

    def place(self, path: str, of: str) -> str:
        """Return how messages call what an answer says `of` something."""
        return f"{self._rest.name(path)} ({of})"

    def shut(self, said: str) -> ClosedError:
        """Return the error of an exchange that does not serve this place, which it `said`."""
        return ClosedError(
            f"{self.title}'s REST at {self._rest.name('').rstrip('/')} is closed to the place this runs at (it "
            f"answered {said}; 403 also comes for some minutes where it was asked too often); days that are kept below "
            f"the home can still be computed; for others set {self._setting} to an address that serves this place, or "
            "see to a proxy or firewall in between"
        )

    def _instrument(self, symbol: str) -> Instrument:
        """Return what the exchange says of a contract; what it said last, where it cannot be asked."""
        check_symbol(symbol)
        if symbol not in self._instruments:
            path = self._folder(symbol) / f"instrument{ENDING}"
            try:
                rows = self.ask_contract(symbol)
                keep(path, Page(rows))
            except (WebError, ClosedError):
                known = read_kept(path)
                if known is None:
                    raise
                rows = known.rows
            place = self.place(self.instruments_path, typed_name(symbol))
            self._instruments[symbol] = self.read_contract(rows, symbol, place)
        return self._instruments[symbol]

    def _candles(self, symbol: str, day: date, interval: int) -> CleanDay:
        start = _ms(day)

        def fetch() -> Sequence[Any]:
            if words := self.reaches(symbol, day, interval):
                raise NoDataError(words)
            return self.ask_candles(symbol, start, start + _DAY_MS, interval)

        def read(rows: Sequence[Any], place: str) -> pd.DataFrame:
            return _candle_table(*self.read_candles(rows, place))

        raw, place, facts, size = self._read(
            symbol, day, f"kline-{interval // 60}", self.candles_path, fetch, read, lambda table: len(table) > 0
        )
        raw = raw.assign(volume=raw["volume"] * size)
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
            closed = min(int((now - as_datetime(start)).total_seconds() // interval), 86400 // interval)
            repairs["missing_candles"] = closed - len(clean.table)
        return replace(clean, repairs={name: count for name, count in repairs.items() if count > 0}, facts=facts)

    def _samples(self, symbol: str, day: date, candles: pd.DataFrame, interval: int) -> CleanDay:
        start, end = _ms(day), _ms(day) + _DAY_MS

        def over(read: tuple[pd.DataFrame, bool]) -> bool:
            last_is_there = bool((read[0]["label"] == np.datetime64(as_datetime(end), "us")).any())
            now = self.now()
            return now >= as_datetime(end) + LATE_SAMPLES or (
                last_is_there and now >= as_datetime(end + self.settles * 1000)
            )

        (raw, declared), place, facts, size = self._read(
            symbol,
            day,
            "open-interest-5",
            self.samples_path,
            lambda: self.ask_samples(symbol, start, end),
            self.read_samples,
            over,
        )
        raw = raw.assign(contracts=raw["contracts"] * size)
        if facts.get("provisional"):
            settled = raw["label"] + np.timedelta64(self.settles, "s") <= np.datetime64(self.now(), "us")
            raw = raw.loc[np.asarray(settled, dtype=np.bool_)]
        if raw.empty:
            table = pd.DataFrame({name: raw[of] for name, of in zip(OPEN_INTEREST_COLUMNS, raw.columns, strict=False)})
            return CleanDay(symbol, day, table, SAMPLE_STEP, facts=facts)
        clean = clean_samples(
            raw, symbol=symbol, day=day, interval=interval, candles=candles, file=place, convention=self.convention
        )
        taken = clean.table["snapshot_time"].to_numpy()
        table = clean.table.loc[taken > np.datetime64(as_datetime(start), "us")].reset_index(drop=True)
        said = {DECLARED: 1} if declared else {}
        # Both midnights are asked for, as either may name the first sample: that one falls out is no repair.
        repairs = {name: count for name, count in clean.repairs.items() if name != "outside_day"}
        return replace(clean, table=table, repairs=repairs, facts={**facts, **said, **clean.facts})

    def _read(
        self,
        symbol: str,
        day: date,
        kind: str,
        asked: str,
        fetch: Callable[[], Sequence[Any]],
        read: Callable[[Sequence[Any], str], Parsed],
        over: Callable[[Parsed], bool],
    ) -> tuple[Parsed, str, dict[str, Any], float]:
        """Return what `read` makes of the rows of a day, kept or fetched, their place, facts, and the contract's size.

        What is fetched of a day that is over is kept, once it could be read.
        """
        path = self._folder(symbol) / kind / f"{exchange_and_name(symbol)[1]}-{day}{ENDING}"
        page = read_kept(path)
        if page is None:
            instrument, now = self._instrument(symbol), self.now()
            if day < instrument.listed:
                raise NoDataError(
                    f"{typed_name(symbol)}: {day} is before the day it was listed, {instrument.listed}; begin there or "
                    "later"
                )
            if as_datetime(_ms(day)) > now:
                raise NoDataError(
                    f"{typed_name(symbol)}: {day} has not begun, by the exchange's clock it is {now:%Y-%m-%d %H:%M} UTC"
                )
            page = Page(fetch(), instrument.contract.contract_size)
            place = self.place(asked, f"{typed_name(symbol)} {day}")
            table = read(page.rows, place)
            if now < as_datetime(_ms(day) + _DAY_MS) or not over(table):
                facts = {"via": "rest", "rows": len(page.rows), "provisional": True}
                return table, place, facts, page.contract_size
            keep(path, page)
        file = f"{kind}/{path.name.removesuffix(ENDING)}"
        place = self.place(asked, file)
        facts = {"via": "pages", "file": file, "sha256": page.sha256, "rows": len(page.rows)}
        return read(page.rows, place), place, facts, page.contract_size

    def _folder(self, symbol: str) -> Path:
        return self._root / "linear" / exchange_and_name(check_symbol(symbol))[1]

    def _kept_days(self, symbol: str) -> set[date]:
        """Return the days whose candles are kept, at any interval."""
        days = set()
        for path in self._folder(symbol).glob(f"kline-*/*{ENDING}"):
            with suppress(ValueError):
                days.add(date.fromisoformat(path.name.removesuffix(ENDING)[-10:]))
        return days


def _candle_table(opened: Sequence[int], values: Sequence[Sequence[float]]) -> pd.DataFrame:
    """Return `CANDLE_COLUMNS` and `row`; such exchanges give neither counts of trades nor what takers bought."""
    known = np.array(values, dtype=np.float64).reshape(len(values), len(_TRADED))
    table = pd.DataFrame(known, columns=list(_TRADED))
    table = table.assign(open_time=as_times(opened), trades=0.0, taker_buy_volume=np.nan, taker_buy_quote_volume=np.nan)
    return table[list(CANDLE_COLUMNS)].assign(row=np.arange(len(values)) + 1)


def sample_table(
    label: Sequence[int], contracts: Sequence[float], value: Sequence[float] | None = None
) -> pd.DataFrame:
    """Return samples as `label`, `contracts`, `value` and `row`.

    Args:
        label: milliseconds since 1970.
        contracts: as the exchange counts them.
        value: quote asset; None = not known.
    """
    worth = np.full(len(label), np.nan) if value is None else np.array(value, dtype=np.float64)
    columns = {"label": as_times(label), "contracts": np.array(contracts, dtype=np.float64), "value": worth}
    return pd.DataFrame(columns).assign(row=np.arange(len(label)) + 1)


def as_milliseconds(value: Any, place: str, row: int, name: str, *, unit: int = 1) -> int:
    """Return a time since 1970 that is written as a whole number or as its digits, in milliseconds.

    Args:
        value: of the answer.
        place: of the answer, named in errors.
        row: of the answer, from 1.
        name: of the field.
        unit: milliseconds that it counts in; 1000 for seconds.
    """
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 15
    whole = int(value) * unit if digits or (type(value) is int and abs(value) < _NEWEST) else -1
    if not _OLDEST <= whole < _NEWEST:
        refuse_answer(place, row, f"{name} {shown(value)} is no time since 1970")
    return whole


def as_times(milliseconds: Sequence[int]) -> NDArray[Any]:
    """Return milliseconds since 1970 as datetime64[us]."""
    return (np.array(milliseconds, dtype=np.int64) * 1000).astype("datetime64[us]")


def as_datetime(milliseconds: int) -> datetime:
    """Return milliseconds since 1970 as UTC without zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)


def _ms(day: date) -> int:
    return day_start(day) // 1000
