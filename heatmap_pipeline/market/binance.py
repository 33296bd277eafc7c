"""Real days of one exchange: from its archive where it has published them, else from its REST.

Both give the same clean tables. A day says in its facts which way it came (`via`: archive or rest) and, while it is not
complete, that it is provisional; read again after the archive has published it, it comes from the archive.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import get_args

import pandas as pd

from heatmap_pipeline.instants import SECONDS, Interval
from heatmap_pipeline.market.archive import ArchiveReader, read_many
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.download import ArchiveDownloader, Outcome, Progress
from heatmap_pipeline.market.exchange import ExchangeReader
from heatmap_pipeline.market.tables import CleanDay, MarketError, NoDataError
from heatmap_pipeline.settings import ARCHIVE_URL, REST_URL, SIMULATED_MARKER, Settings, check_symbol, interval_name

_HERE = (Outcome.CACHED, Outcome.FETCHED)
_log = logging.getLogger(__name__)


class BinanceSource:
    """Candles and open interest of the exchange, fetched as they are asked for; files are kept below `root`.

    One object serves one run: what was not published when it first asked is not asked for again, except by `prepare`.

    Args:
        root: folder of the downloaded archive files.
        archive_url: of the archive or a mirror.
        rest_url: of the exchange's REST.
        interval: candle interval that `prepare` fetches ahead; others are fetched when they are asked for.
        progress: told of each file.
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
        downloader: ArchiveDownloader | None = None,
        exchange: ExchangeReader | None = None,
    ) -> None:
        if (root / SIMULATED_MARKER).exists():
            raise MarketError(
                f"{root} holds files of the demo market; name another folder for real ones, so that they never mix"
            )
        self._reader = ArchiveReader(root)
        self._downloader = downloader or ArchiveDownloader(archive_url, root)
        self._exchange = exchange or ExchangeReader(rest_url)
        self._interval = interval
        self._progress = progress
        self._known: dict[ArchiveFile, Outcome] = {}

    def __enter__(self) -> BinanceSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the source may be used again afterwards."""
        self._downloader.close()
        self._exchange.close()

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Fetch the archive files of these days, as far as they are published, several at once.

        Raises:
            MarketError: for a file that cannot be had whole; files fetched before it stay.
        """
        self._known.clear()
        self._fetch(ArchiveFile(symbol, day, kind) for day in days for kind in (self._interval, ""))

    def available(self, symbol: str, days: Sequence[date]) -> set[date]:
        """Return those of the days whose candles can be had: from files at any interval, else over REST.

        Raises:
            MarketError: if the exchange has to be asked and cannot be.
        """
        check_symbol(symbol)
        held = {day for interval in get_args(Interval) for day in self._reader.days(symbol, interval)} & set(days)
        seconds = SECONDS[self._interval]
        try:
            return held | {day for day in set(days) - held if self._exchange.reaches_candles(symbol, day, seconds)}
        except NoDataError:  # not traded any more: the files are all there is
            return held

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
            MarketError: for candles that cannot be used, or a server that cannot be asked.
        """
        name = interval_name(interval)
        published = self._published(symbol, days, name)

        def read(day: date) -> CleanDay:
            if day in published:
                return _via_archive(self._reader.read_candles(symbol, day, interval))
            try:
                return self._exchange.read_candles(symbol, day, interval)
            except NoDataError as error:
                raise _in_neither(ArchiveFile(symbol, day, name), error) from None

        return read_many(read, days)

    def open_interest(self, symbol: str, candles: dict[date, pd.DataFrame], interval: int) -> Iterator[CleanDay]:
        """Yield the clean samples of each day of `candles`, in order; raises as `candles`."""
        published = self._published(symbol, sorted(candles), "")

        def read(day: date) -> CleanDay:
            if day in published:
                return _via_archive(self._reader.read_open_interest(symbol, day, candles[day], interval))
            try:
                return self._exchange.read_open_interest(symbol, day, candles[day], interval)
            except NoDataError as error:
                raise _in_neither(ArchiveFile(symbol, day), error) from None

        return read_many(read, sorted(candles))

    def _published(self, symbol: str, days: Sequence[date], kind: str) -> set[date]:
        """Return the days whose file of that kind (an interval, or '' for metrics) is here, after fetching it."""
        files = {day: ArchiveFile(symbol, day, kind) for day in days}
        self._fetch(file for file in files.values() if file not in self._known)
        return {day for day, file in files.items() if self._known.get(file, Outcome.NOT_PUBLISHED) in _HERE}

    def _fetch(self, files: Iterable[ArchiveFile]) -> None:
        # Whether a day is over decides only what is worth asking for: an unpublished day is asked of the exchange,
        # whose own clock counts.
        today = datetime.now(UTC).date()
        asked = [file for file in files if file.day < today]
        if asked:
            outcomes = self._downloader.fetch(asked, self._progress)
            self._known |= outcomes
            fetched = sum(outcome is Outcome.FETCHED for outcome in outcomes.values())
            _log.info("archive: %d files asked for, %d fetched", len(outcomes), fetched)


def _via_archive(day: CleanDay) -> CleanDay:
    return replace(day, facts={"via": "archive", **day.facts})


def _in_neither(file: ArchiveFile, error: NoDataError) -> NoDataError:
    name = Path(file.path).name
    return NoDataError(f"{error} (and the archive has no {name}: {Outcome.NOT_PUBLISHED.value})")
