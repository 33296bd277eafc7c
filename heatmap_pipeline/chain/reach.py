"""What a source can give now of what is due: how far its days go, why no further, and which were corrected meanwhile.

`due.py` says from what is stored which days are wanted; here the source is asked. `heatmap refresh` and the schedules
run what comes of both.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from heatmap_pipeline.chain import calendar
from heatmap_pipeline.chain.due import clock_is_behind, due_days
from heatmap_pipeline.chain.ends import published_ends, retire, retired, words_for_end
from heatmap_pipeline.errors import listed
from heatmap_pipeline.files import replace_file
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.market.archive import ARCHIVE_LATE
from heatmap_pipeline.market.sources import Market, open_market
from heatmap_pipeline.market.tables import ClosedError, Ending, MarketError
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.ended import Ended
from heatmap_pipeline.store.warehouse import FileError, Warehouse
from heatmap_pipeline.symbols import HOME_EXCHANGE, own_exchange

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Plan:
    """What to run now.

    Attributes:
        days: first and last day by symbol, of those that have any.
        until: the newest day that is asked for.
        reach: the newest day that each symbol can have now that has not ended; `until` of any other.
        closed: why nothing newer can be had, by symbol, of those whose exchange is closed to this place.
        refused: what the source could not be asked, each once; the run comes upon what it needs of that.
        missing: symbols of which a later day can be had than the last complete one that is stored.
        ended: symbols that have ended, whenever that was found.
        news: what is to be said of symbols that were found to have ended, or to go on again, just now; an end is said
            until it is published.
    """

    days: dict[str, tuple[date, date]]
    until: date
    reach: Mapping[str, date] = field(default_factory=dict)
    closed: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    ended: Mapping[str, Ended] = field(default_factory=dict)
    news: tuple[str, ...] = ()

    def reaches(self, symbol: str) -> date:
        """Return the newest day that a symbol can have now."""
        return self.reach.get(symbol, self.until)

    def words_for_closed(self) -> list[str]:
        """Return what is said of the exchanges that are closed to this place; of whose symbols, where others go on."""
        lines = []
        for why in dict.fromkeys(self.closed.values()):
            symbols = [symbol for symbol, reason in self.closed.items() if reason == why]
            going = [symbol for symbol in symbols if symbol in self.reach] or symbols
            whose = "" if set(self.reach) <= set(going) else f"of {listed(going)} "
            lines.append(f"nothing {whose}after {min(map(self.reaches, going))} yet: {why}")
        return lines


def plan_due(settings: Settings, symbols: Sequence[str], until: date) -> Plan:
    """Return what is due of the symbols and can be had.

    What the archive corrected or added within the last `check_days` days is due as well, with all that follows it.
    Whether an exchange's REST is closed to this place is remembered in the home, for `heatmap status`, and so is which
    symbols have ended (`ends.py`); the newest day of one that has is due until it is drawn and published with that.

    Raises:
        StoreError: if the home cannot be read or written.
    """
    if settings.kind.simulated:
        return Plan(due_days(settings, symbols, until), until)
    return _Planning(settings, until).plan(symbols)


class _Planning:
    """A plan in the making."""

    def __init__(self, settings: Settings, until: date) -> None:
        self.settings, self.until = settings, until
        self.known = retired(settings)
        self.shown = published_ends(settings)
        self.days: dict[str, tuple[date, date]] = {}
        self.refused: list[tuple[str, str]] = []  # words, and the exchange
        self.news: list[str] = []
        self.missing: list[str] = []
        self.ended: dict[str, Ended] = {}

    def plan(self, symbols: Sequence[str]) -> Plan:
        """Return what is due of the symbols."""
        try:
            market = open_market(self.settings)
        except MarketError:  # the run says so
            return Plan(due_days(self.settings, symbols, self.until), self.until, ended=self.known)
        known = {symbol: _stored(self.settings, symbol) for symbol in symbols}
        # Where this machine's clock is behind, nothing is due, and what it asked would be of another day.
        symbols = [symbol for symbol, stored in known.items() if not (stored and clock_is_behind(stored.days[-1]))]
        reaches, closed = dict[str, date](), dict[str, str]()
        for symbol in symbols:
            reached, why = self._asked(symbol, partial(market.reach, symbol, self.until)) or (self.until, "")
            reaches[symbol] = reached
            if why:
                closed[symbol] = why
        for symbol, reached in reaches.items():
            stored = known[symbol]
            ending = self._ending(market, symbol, stored) if stored is not None else None
            self._due(symbol, reached if ending is None else min(ending.last, self.until), stored, again=ending is None)
            if stored is not None:
                self._corrected(market, symbol, stored)
                self._remember_end(symbol, stored, ending)
        self._remember_closed(closed, reaches)
        refused = tuple(dict.fromkeys(words for words, _ in self.refused))
        reach = {symbol: reached for symbol, reached in reaches.items() if symbol not in self.ended}
        return Plan(self.days, self.until, reach, closed, refused, tuple(self.missing), self.ended, tuple(self.news))

    def _asked(self, symbol: str, ask: Callable[[], Answer]) -> Answer | None:
        """Return an answer of a symbol's exchange; None where it cannot be asked, which is noted."""
        try:
            return ask()
        except MarketError as error:
            self._refuse(symbol, error)
            return None

    def _refuse(self, symbol: str, error: MarketError) -> None:
        self.refused.append((str(error), own_exchange(symbol)))

    def _remember_closed(self, closed: Mapping[str, str], symbols: Iterable[str]) -> None:
        """Remember of every exchange that was asked whether it is closed; what was known of one that did not answer."""
        if not self.settings.kind.over_network:
            return
        words = {own_exchange(symbol): why for symbol, why in closed.items()}
        silent = {exchange for _, exchange in self.refused}
        for exchange in dict.fromkeys(map(own_exchange, symbols)):
            if exchange in words or exchange not in silent:
                _remember(self.settings, exchange, words.get(exchange, ""))

    def _ending(self, market: Market, symbol: str, stored: _Stored) -> Ending | None:
        """Return how a symbol ended; what was known before, where the source cannot tell now."""
        before = self.known.get(symbol)
        recorded = None if before is None else Ending(before.day, before.reason)
        try:
            return market.ended(symbol, stored.complete, self.until, stored.interval)
        except ClosedError:
            return recorded
        except MarketError as error:
            self._refuse(symbol, error)
            return recorded

    def _due(self, symbol: str, reached: date, stored: _Stored | None, *, again: bool) -> None:
        due = due_days(self.settings, [symbol], reached, again=again)
        if symbol in due:
            self.days[symbol] = due[symbol]
            if stored is None or stored.complete < reached:
                self.missing.append(symbol)

    def _corrected(self, market: Market, symbol: str, stored: _Stored) -> None:
        changed = self._asked(symbol, lambda: _changed(market, self.settings, symbol, stored, asked_today=False))
        if changed:
            first, end = self.days.get(symbol, (changed[0], stored.days[-1]))
            self.days[symbol] = min(first, changed[0]), max(end, stored.days[-1])

    def _remember_end(self, symbol: str, stored: _Stored, ending: Ending | None) -> None:
        before = ended = self.known.get(symbol)
        if ending is None and before is not None:
            ended = retire(self.settings, symbol, None)
            self.news.append(f"{symbol}: goes on again, after it had ended on {before.day}")
        elif ending is not None and (before is None or (before.reason, before.day) != (ending.reason, ending.last)):
            ended = retire(self.settings, symbol, ending)
        shown = None if self.shown is None else self.shown.get(symbol)
        if ended is not None:
            self.ended[symbol] = ended
            # Until readers know: who recorded it may have been killed before it was said.
            if before is None or before.day != ended.day or (self.shown is not None and shown is None):
                self.news.append(words_for_end(self.settings, symbol, ended))
        # Also where that was recorded before, and the run that was to publish it did not.
        if ended != before or (self.shown is not None and shown != ended):
            self.days.setdefault(symbol, (stored.days[-1], stored.days[-1]))


def check_files(settings: Settings, symbol: str, first: date, last: date) -> list[date]:
    """Ask the archive about the files of stored days, also of those asked about today; return the days that changed.

    Raises:
        MarketError: for an archive that cannot be asked.
        StoreError: if the home cannot be read.
    """
    stored = _stored(settings, symbol)
    if stored is None:
        return []
    within = replace(stored, read={day: read for day, read in stored.read.items() if first <= day <= last})
    return _changed(open_market(settings), settings, symbol, within, asked_today=True)


def closed_words(settings: Settings, symbol: str) -> str:
    """Return what was said when a symbol's exchange was last found closed to this place, '' where it was open."""
    with suppress(OSError, ValueError):
        note = _note(settings, own_exchange(symbol))
        return note.read_text(encoding="utf-8").strip() if settings.kind.over_network else ""
    return ""


def last_expected(settings: Settings, symbol: str) -> date:
    """Return the newest day that should be there of a symbol: yesterday, or the last one waited for.

    An exchange says that it is closed (`Market.reach`) only where an archive goes on without it, later.
    """
    return calendar.yesterday() - (ARCHIVE_LATE if closed_words(settings, symbol) else timedelta(0))


@dataclass(frozen=True)
class _Stored:
    """What is stored of a symbol.

    Attributes:
        read: sha256 of the files that each day was read from, rising; none for what came over REST.
        complete: the newest day that is not provisional; the day before the first one, if all are.
        interval: step of the candles in seconds.
    """

    read: Mapping[date, Collection[str]]
    complete: date
    interval: int

    @property
    def days(self) -> list[date]:
        """The days, rising."""
        return list(self.read)


def _stored(settings: Settings, symbol: str) -> _Stored | None:
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    if not warehouse.holds(symbol):
        return None
    record, kinds = None, dict[str, Any]()
    with suppress(FileError), warehouse.look(symbol) as con:  # the run of this symbol says so
        record = stored_raw.get_symbol(con, symbol)
        kinds = stored_raw.raw_days(con, symbol)
    candles = kinds.get("candles")
    if record is None or not candles:
        return None
    of_day = {day: [of_kind[day].facts for of_kind in kinds.values() if day in of_kind] for day in sorted(candles)}
    read = {day: frozenset(str(each.get("sha256", "")) for each in facts) for day, facts in of_day.items()}
    complete = [day for day, facts in of_day.items() if not any(each.get("provisional") for each in facts)]
    return _Stored(read, max(complete, default=min(read) - ONE_DAY), record.candle_interval_seconds)


def _changed(market: Market, settings: Settings, symbol: str, stored: _Stored, *, asked_today: bool) -> list[date]:
    oldest = date.min if asked_today else calendar.today() - timedelta(days=settings.check_days)
    read = {day: files for day, files in stored.read.items() if day >= oldest}
    return market.changed(symbol, read, stored.interval, asked_today=asked_today) if read else []


def _note(settings: Settings, exchange: str) -> Path:
    """Return the file that says that an exchange is closed; that of Binance is called as when there was no other."""
    return settings.home / ("rest_closed.txt" if exchange == HOME_EXCHANGE else f"rest_closed_{exchange}.txt")


def _remember(settings: Settings, exchange: str, words: str) -> None:
    with suppress(OSError):  # it is only said again
        if words:
            replace_file(_note(settings, exchange), f"{words}\n".encode())
        else:
            _note(settings, exchange).unlink(missing_ok=True)
