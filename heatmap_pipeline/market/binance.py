"""Real days of one exchange: from its archive where it has published them, else from its REST.

Both give the same clean tables. A day says in its facts which way it came (`via`: archive or rest) and, while it is not
complete, that it is provisional; read again after the archive has published it, it comes from the archive.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeVar, get_args

import pandas as pd

from heatmap_pipeline.instants import SECONDS, Interval
from heatmap_pipeline.market.archive import ARCHIVE_LATE, ArchiveReader, read_many
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.download import ArchiveDownloader, DamagedError, Outcome, Progress
from heatmap_pipeline.market.exchange import ExchangeReader
from heatmap_pipeline.market.tables import (
    CleanDay,
    ClosedError,
    Ending,
    MarketError,
    NoDataError,
    NotTradedError,
    checked,
)
from heatmap_pipeline.market.web import CLOSED, WebError
from heatmap_pipeline.settings import ARCHIVE_URL, REST_URL, SIMULATED_MARKER, Settings, check_symbol, interval_name
from heatmap_pipeline.symbols import Contract, contract_of

BAN_FILE = "rest_banned.json"
"""File at the top of the archive's folder that says until when REST is not asked."""

_DAY_SECONDS = 86400.0
_HERE = (Outcome.CACHED, Outcome.FETCHED, Outcome.ACCEPTED, Outcome.PLACED)
_WAITING = 2
"""Threads that read days: where the archive lacks them, REST is waited for."""
_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class BinanceSource:
    """Candles and open interest of the exchange, fetched as they are asked for; files are kept below `root`.

    One object serves one run: what was not published when it first asked is not asked for again, except by `prepare`.

    A day that cannot be had is an error at its own turn, after the days before it: `ClosedError` where only REST has it
    and the exchange does not serve this place. A file of the archive that never matches its CHECKSUM is read from REST
    while that has the day. Open interest that neither has long after the day (`ARCHIVE_LATE`) is a day without samples,
    as it is where the archive's folder is read by itself.

    Args:
        root: folder of the downloaded archive files.
        archive_url: of the archive or a mirror.
        rest_url: of the exchange's REST.
        interval: candle interval that `prepare` fetches ahead; others are fetched when they are asked for.
        progress: told of each file.
        accept_checksum: names of archive files that are read though they do not match their CHECKSUM.
        downloader: in place of the usual one.
        exchange: in place of the usual one.

    Raises:
        MarketError: for an address that is none, or a root that holds simulated files.

    Example:
        >>> with BinanceSource(Path("archive")) as source:  # doctest: +SKIP
        ...     [day.facts["via"] for day in source.candles("BTCUSDT", [date(2026, 10, 1)], 300)]
        ['archive']
    """

    def __init__(
        self,
        root: Path,
        archive_url: str = ARCHIVE_URL,
        rest_url: str = REST_URL,
        *,
        interval: Interval = "5m",
        progress: Progress | None = None,
        accept_checksum: Collection[str] = (),
        downloader: ArchiveDownloader | None = None,
        exchange: ExchangeReader | None = None,
    ) -> None:
        if (root / SIMULATED_MARKER).exists():
            raise MarketError(
                f"{root} holds files of the demo market; name another folder for real ones, so that they never mix"
            )
        self._reader = ArchiveReader(root, accept_checksum)
        self._downloader = downloader or ArchiveDownloader(archive_url, root, accepted=accept_checksum)
        self._exchange = exchange or ExchangeReader(rest_url, ban_file=root / BAN_FILE)
        self._interval = interval
        self._progress = progress
        self._known: dict[ArchiveFile, Outcome] = {}
        self._failed: dict[ArchiveFile, MarketError] = {}
        self._closed: ClosedError | None = None

    def __enter__(self) -> BinanceSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the source may be used again afterwards."""
        self._downloader.close()
        self._exchange.close()

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Fetch the archive files of these days, as far as they can be had, several at once.

        A file that cannot be had is an error when its day is read.
        """
        self._known.clear()
        self._failed.clear()
        self._closed = None
        self._fetch(ArchiveFile(symbol, day, kind) for day in days for kind in (self._interval, ""))

    def contract(self, symbol: str) -> Contract:
        """Return what kind of contract a symbol is: as the exchange says, else as its name does.

        The exchange does not know contracts that ended, and may not serve this place; of those the name has to tell.

        Raises:
            MarketError: for a contract that is not computed; for a name that does not tell, where the exchange cannot
                be asked.
        """
        named = contract_of(check_symbol(symbol))
        try:
            contract = self._ask(lambda: self._exchange.known(symbol)).kind
        except MarketError:
            if not named.quote:
                raise
            contract = named
        return checked(contract)

    def available(self, symbol: str, days: Sequence[date]) -> set[date]:
        """Return those of the days whose candles can be had: from files at any interval, else over REST.

        While REST is closed to this place, only days that their files may still come for are counted besides those in
        files; reading such a day says why it cannot be had.

        Raises:
            MarketError: if the exchange has to be asked and cannot be.
        """
        check_symbol(symbol)
        in_files = {day for interval in get_args(Interval) for day in self._reader.days(symbol, interval)} & set(days)
        seconds = SECONDS[self._interval]
        try:
            return in_files | {
                day
                for day in set(days) - in_files
                if self._ask(lambda day=day: self._exchange.reaches_candles(symbol, day, seconds))  # type: ignore[misc]
            }
        except NoDataError:  # not traded any more: the files are all there is
            return in_files
        except ClosedError:
            return in_files | {day for day in days if not self._given_up(day)}

    def reach(self, symbol: str, until: date) -> tuple[date, str]:
        """Return the last day up to `until` that can be had now, and why none later, '' where nothing is in the way.

        Where REST is closed to this place the days end before the first that the archive has not published yet. One
        that it is not waited for any more (`ARCHIVE_LATE`) does not end them: reading it says what is wrong.

        Raises:
            MarketError: if the exchange cannot be asked.
        """
        check_symbol(symbol)
        try:
            self._ask(self._exchange.now)
        except ClosedError as error:
            days = [until - timedelta(days=ago) for ago in reversed(range(ARCHIVE_LATE.days + 2))]
            files = [ArchiveFile(symbol, day, kind) for day in days for kind in (self._interval, "")]
            self._fetch(files)
            late = [file.day for file in files if self._known.get(file) not in _HERE and file not in self._failed]
            awaited = [day for day in late if not self._given_up(day)]
            return (min(awaited) - timedelta(days=1) if awaited else until), str(error)
        return until, ""

    def changed(
        self, symbol: str, read: Mapping[date, Collection[str]], interval: int, *, asked_today: bool = False
    ) -> list[date]:
        """Fetch what the archive has corrected or added of these days since it was asked; return what to read anew.

        That are the days whose files here are others than those that were read: corrected ones, and those of days that
        came over REST or had no samples. So a process that is killed between fetching and reading forgets none of them.
        A file is asked about at most once a day, unless `asked_today`.

        Args:
            symbol: as the exchange writes it.
            read: sha256 of the files that each stored day (UTC) was read from; days not over are left out.
            interval: step of the stored candles, seconds.
            asked_today: whether to ask again about what was asked about today.

        Raises:
            MarketError: for an archive that cannot be asked, where nothing else has changed.
        """
        today = datetime.now(UTC).date()
        kinds = (interval_name(interval), "")
        files = [ArchiveFile(symbol, day, kind) for day in read if day < today for kind in kinds]
        failure: MarketError | None = None
        try:
            fetched = self._downloader.fetch_changed(
                files, again_after=0.0 if asked_today else _DAY_SECONDS, progress=self._progress
            )
        except MarketError as error:
            fetched, failure = [], error
        for file in fetched:
            self._known.pop(file, None)
            self._failed.pop(file, None)
        others = {file.day for file in files if not self._downloader.holds(file, read[file.day])}
        if failure is not None and not others:
            raise failure
        return sorted(others)

    def ended(self, symbol: str, last: date, until: date, interval: int) -> Ending | None:
        """Return how a symbol ended of which days until `last` are stored, None where it goes on.

        The exchange says so (`ExchangeReader.gone`); the last day is the newest up to `until` that the archive has.
        Where REST is closed to this place, files tell: a symbol of which the archive has none for longer than
        `ARCHIVE_LATE`, while those of another symbol here reach further than that.

        Args:
            symbol: as the exchange writes it.
            last: last complete day that is stored.
            until: last day of interest.
            interval: step of the stored candles, seconds.

        Raises:
            ClosedError: if REST is closed to this place, and files do not tell.
            MarketError: if the exchange or the archive cannot be asked.
        """
        try:
            reason, anew = self._ask(lambda: self._exchange.gone(symbol, last))
        except ClosedError:
            newest = self._newest_file(symbol, last, until, interval)
            if ending := self._reader.left_behind(symbol, newest):
                return ending
            if newest == last:
                raise
            return None
        if not reason:
            return None
        # What came with the new listing belongs to the new history.
        end = until if anew is None else min(until, anew - timedelta(days=1))
        return Ending(self._newest_file(symbol, last, end, interval), reason, anew)

    def _newest_file(self, symbol: str, last: date, until: date, interval: int) -> date:
        """Return the last day from `last` on that the archive has, one after the other but for short gaps."""
        name = interval_name(interval)
        while last < until:
            days = [last + timedelta(days=ago + 1) for ago in range(min(ARCHIVE_LATE.days + 1, (until - last).days))]
            self._fetch(ArchiveFile(symbol, day, kind) for day in days for kind in (name, ""))
            here = [
                day
                for day in days
                if self._known.get(ArchiveFile(symbol, day, name)) in _HERE
                and (self._known.get(ArchiveFile(symbol, day)) in _HERE or self._given_up(day))
            ]
            if not here:
                return last
            last = max(here)
        return last

    def interval(self, settings: Settings, symbol: str, days: Sequence[date]) -> int:
        """Return the candle step in seconds: the symbol's setting, else the common one, else 5 minutes.

        Archive and REST have every interval for every day, so the days decide nothing.
        """
        del days
        return SECONDS[settings.of(symbol).candle_interval or settings.candle_interval or self._interval]

    def candles(self, symbol: str, days: Sequence[date], interval: int) -> Iterator[CleanDay]:
        """Yield the clean candles of each day, in order.

        Raises:
            NoDataError: for a day that neither the archive nor the exchange has, after the days before it.
            ClosedError: for a day that the archive does not have, where the exchange does not serve this place.
            MarketError: for candles that cannot be used, or a server that cannot be asked.
        """
        name = interval_name(interval)
        files = [ArchiveFile(symbol, day, name) for day in days]
        self._fetch(files)

        def read(file: ArchiveFile) -> CleanDay:
            if self._known.get(file) in _HERE:
                return self._via_archive(file, self._reader.read_candles(symbol, file.day, interval))
            return self._via_rest(file, lambda: self._exchange.read_candles(symbol, file.day, interval))

        return read_many(read, files, workers=_WAITING)

    def open_interest(self, symbol: str, candles: dict[date, pd.DataFrame], interval: int) -> Iterator[CleanDay]:
        """Yield the clean samples of each day of `candles`, in order; raises as `candles`."""
        files = [ArchiveFile(symbol, day) for day in sorted(candles)]
        self._fetch(files)

        def from_archive(file: ArchiveFile) -> CleanDay:
            day = self._reader.read_open_interest(symbol, file.day, candles[file.day], interval)
            return self._via_archive(file, day)

        def read(file: ArchiveFile) -> CleanDay:
            if self._known.get(file) in _HERE:
                return from_archive(file)
            try:
                return self._via_rest(
                    file, lambda: self._exchange.read_open_interest(symbol, file.day, candles[file.day], interval)
                )
            except (NoDataError, ClosedError) as error:
                if not isinstance(error, NotTradedError) and not self._given_up(file.day):
                    raise
                return from_archive(file)  # a day without samples

        return read_many(read, files, workers=_WAITING)

    def _via_archive(self, file: ArchiveFile, day: CleanDay) -> CleanDay:
        by_hand = {"placed_by_hand": 1} if self._known.get(file) is Outcome.PLACED else {}
        return replace(day, repairs={**day.repairs, **by_hand}, facts={"via": "archive", **day.facts})

    def _via_rest(self, file: ArchiveFile, read: Callable[[], CleanDay]) -> CleanDay:
        """Read the day of a file that is not here over REST.

        Raises:
            NoDataError: if the exchange has nothing of that day.
            ClosedError: if it does not serve this place.
            MarketError: if the archive has the day, but its file cannot be had, and REST does not stand in for it.
        """
        failure = self._failed.get(file)
        if failure is not None and not _stands_in(failure):
            raise failure
        try:
            day = self._ask(read)
        except (NoDataError, ClosedError) as error:
            if failure is not None:
                raise failure from None
            if isinstance(error, ClosedError):
                raise ClosedError(
                    f"{file.symbol} {file.day}: the archive does not have {Path(file.path).name} yet, and {error}"
                ) from None
            raise _in_neither(file, error) from None
        damaged = {"damaged_file": Path(file.path).name} if isinstance(failure, DamagedError) else {}
        return replace(day, facts={**day.facts, **damaged})

    def _ask(self, read: Callable[[], Answer]) -> Answer:
        """Ask the exchange, unless it has said that it does not serve this place."""
        if self._closed is not None:
            raise ClosedError(str(self._closed))
        try:
            return read()
        except ClosedError as error:
            self._closed = error
            raise

    def _given_up(self, day: date) -> bool:
        """Whether the archive's file of a day is not waited for any more, by the exchange's clock if it tells."""
        try:
            now = self._ask(self._exchange.now)
        except ClosedError:
            now = datetime.now(UTC).replace(tzinfo=None)
        return now >= datetime(day.year, day.month, day.day) + timedelta(days=1) + ARCHIVE_LATE

    def _fetch(self, files: Iterable[ArchiveFile]) -> None:
        """Fetch what is not known yet; what cannot be had goes into `_failed`."""
        # Whether a day is over decides only what is worth asking for: an unpublished day is asked of the exchange,
        # whose own clock counts.
        today = datetime.now(UTC).date()
        damaged = {file for file, error in self._failed.items() if isinstance(error, DamagedError)}
        asked = [file for file in files if file.day < today and file not in self._known and file not in damaged]
        if asked:
            failures: dict[ArchiveFile, MarketError] = {}
            outcomes = self._downloader.fetch(asked, self._progress, failures)
            self._known |= outcomes
            self._failed |= failures
            # What was not begun any more stands behind the first failure, and its turn comes after that one's.
            stopped = next((error for error in failures.values() if not isinstance(error, DamagedError)), None)
            if stopped is not None:
                self._failed |= {file: stopped for file in asked if file not in outcomes and file not in failures}
            for file in outcomes:
                self._failed.pop(file, None)
            fetched = sum(outcome is Outcome.FETCHED for outcome in outcomes.values())
            _log.info("archive: %d files asked for, %d fetched", len(outcomes), fetched)


def _stands_in(failure: MarketError) -> bool:
    """Whether REST may serve the day of a file: it is damaged for good, or the archive refuses this place."""
    return isinstance(failure, DamagedError) or (isinstance(failure, WebError) and failure.status in CLOSED)


def _in_neither(file: ArchiveFile, error: NoDataError) -> NoDataError:
    name = Path(file.path).name
    return type(error)(f"{error} (and the archive has no {name}: {Outcome.NOT_PUBLISHED.value})")
