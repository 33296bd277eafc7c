"""The sources by name: what ingestion asks of any of them, and which object answers for each.

Another exchange is another file beside `bybit.py` and `gate.py`, a line in `EXCHANGES`, and its name in `symbols.py`;
another source of files a line in `OPENERS` and a row in `source_kinds.py` that says what it can do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, get_args

import pandas as pd

from heatmap_pipeline.instants import Interval
from heatmap_pipeline.market.archive import ArchiveReader, read_many
from heatmap_pipeline.market.archive_tree import nothing_in, symbols_in
from heatmap_pipeline.market.tables import CleanDay, Ending, NoDataError, checked
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.symbols import Contract, contract_of, exchange_and_name

if TYPE_CHECKING:
    from heatmap_pipeline.market.archive_names import ArchiveFile
    from heatmap_pipeline.market.download import Outcome

Downloads: TypeAlias = Callable[[str, int, int], None]
"""Called with symbol, files done and files in all."""


class Market(Protocol):
    """What ingestion needs of a source."""

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Make the files of these days available, as far as the source has them."""

    def contract(self, symbol: str) -> Contract:
        """Return what kind of contract a symbol is; raises MarketError for one that is not computed."""

    def available(self, symbol: str, days: Sequence[date]) -> set[date]:
        """Return those of the days whose candles the source can give."""

    def reach(self, symbol: str, until: date) -> tuple[date, str]:
        """Return the last day up to `until` that can be had now, and why none later, '' where nothing is in the way."""

    def changed(
        self, symbol: str, read: Mapping[date, Collection[str]], interval: int, *, asked_today: bool = False
    ) -> list[date]:
        """Get what was corrected or added of these days, read from files of these sha256, and return the days of it."""

    def ended(self, symbol: str, last: date, until: date, interval: int) -> Ending | None:
        """Return how a symbol ended of which days until `last` are stored, None where it goes on."""

    def interval(self, settings: Settings, symbol: str, days: Sequence[date]) -> int:
        """Choose the candle step in seconds."""

    def candles(self, symbol: str, days: Sequence[date], interval: int) -> Iterator[CleanDay]:
        """Yield the clean candles of each day, in order."""

    def open_interest(self, symbol: str, candles: dict[date, pd.DataFrame], interval: int) -> Iterator[CleanDay]:
        """Yield the clean samples of each day of `candles`, in order."""


class ArchiveMarket:
    """A folder of archive files, as it is."""

    def __init__(self, root: Path, accept_checksum: Collection[str] = ()) -> None:
        self._reader = ArchiveReader(root, accept_checksum)

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Look that the folder is an archive that knows the symbol; its files are there or they are not.

        Raises:
            NoDataError: if it is not, as after a typing error: days stored before would hide that nothing is read.
        """
        self._reader.check(symbol)

    def contract(self, symbol: str) -> Contract:
        """Return what the name of a symbol says, for there is nothing else.

        Raises:
            MarketError: for a contract that is not computed, or a name that does not say what it is quoted in.
        """
        named = contract_of(symbol)
        if not named.quote:
            self.prepare(symbol, [])  # which says what there is, where there is nothing of the symbol
        return checked(named)

    def available(self, symbol: str, days: Sequence[date]) -> set[date]:
        """Return those of the days that have a file of candles, at any interval."""
        in_files = {day for interval in get_args(Interval) for day in self._reader.days(symbol, interval)}
        return in_files & set(days)

    def reach(self, symbol: str, until: date) -> tuple[date, str]:
        """Return `until`: a day is there or it is not, and the run that reads it says so."""
        del symbol
        return until, ""

    def changed(
        self, symbol: str, read: Mapping[date, Collection[str]], interval: int, *, asked_today: bool = False
    ) -> list[date]:
        """Return no day: nothing is asked for, and what somebody changes in the folder is read when its day is."""
        del symbol, read, interval, asked_today
        return []

    def ended(self, symbol: str, last: date, until: date, interval: int) -> Ending | None:
        """Return that a symbol ended: its files end more than `ARCHIVE_LATE` before those of another in the folder."""
        del until, interval
        here = self._reader.last_day(symbol)
        return None if here is None else self._reader.left_behind(symbol, max(here, last))

    def interval(self, settings: Settings, symbol: str, days: Sequence[date]) -> int:
        """Return the candle step in seconds: the symbol's setting, else the common one, else the finest there is."""
        of_symbol = settings.of(symbol).candle_interval
        wanted = of_symbol or settings.candle_interval
        return self._reader.choose_interval(symbol, days, wanted, strict=of_symbol is not None)

    def candles(self, symbol: str, days: Sequence[date], interval: int) -> Iterator[CleanDay]:
        """Yield the clean candles of each day, in order; files are read ahead in threads."""
        return read_many(lambda day: self._reader.read_candles(symbol, day, interval), days)

    def open_interest(self, symbol: str, candles: dict[date, pd.DataFrame], interval: int) -> Iterator[CleanDay]:
        """Yield the clean samples of each day of `candles`, in order."""

        def read(day: date) -> CleanDay:
            return self._reader.read_open_interest(symbol, day, candles[day], interval)

        return read_many(read, sorted(candles))


class DemoMarket(ArchiveMarket):
    """The demo market: it writes archive files when they are asked for; the rest is reading them."""

    def __init__(self, root: Path, seed: int) -> None:
        super().__init__(root)
        self._root, self._seed = root, seed

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Write the files of these days."""
        from heatmap_pipeline.market.demo import write_demo_days  # noqa: PLC0415  # only the demo pays for it

        write_demo_days(self._root, symbol, days, seed=self._seed)

    def ended(self, symbol: str, last: date, until: date, interval: int) -> Ending | None:
        """Return None: the demo market never ends."""
        del symbol, last, until, interval
        return None

    def available(self, symbol: str, days: Sequence[date]) -> set[date]:
        """Return all of them: any day can be made."""
        del symbol
        return set(days)


class Exchanges:
    """Each market where it is traded; an exchange is opened when one of its markets is first asked about.

    Args:
        settings: of the home.
        progress: told of files that come over the network.
    """

    def __init__(self, settings: Settings, progress: Downloads | None) -> None:
        self._settings, self._progress = settings, progress
        self._opened: dict[str, Market] = {}

    def _of(self, symbol: str) -> Market:
        exchange, _ = exchange_and_name(symbol)
        if exchange not in self._opened:
            self._opened[exchange] = EXCHANGES[exchange](self._settings, self._progress)
        return self._opened[exchange]

    def prepare(self, symbol: str, days: Sequence[date]) -> None:
        """Make the files of these days available, as far as the exchange has them."""
        self._of(symbol).prepare(symbol, days)

    def contract(self, symbol: str) -> Contract:
        """Return what kind of contract a market is; raises MarketError for one that is not computed."""
        return self._of(symbol).contract(symbol)

    def available(self, symbol: str, days: Sequence[date]) -> set[date]:
        """Return those of the days whose candles the exchange can give."""
        return self._of(symbol).available(symbol, days)

    def reach(self, symbol: str, until: date) -> tuple[date, str]:
        """Return the last day up to `until` that can be had now, and why none later."""
        return self._of(symbol).reach(symbol, until)

    def changed(
        self, symbol: str, read: Mapping[date, Collection[str]], interval: int, *, asked_today: bool = False
    ) -> list[date]:
        """Get what the exchange corrected or added of these days, and return the days of it."""
        return self._of(symbol).changed(symbol, read, interval, asked_today=asked_today)

    def ended(self, symbol: str, last: date, until: date, interval: int) -> Ending | None:
        """Return how a market ended, None where it goes on."""
        return self._of(symbol).ended(symbol, last, until, interval)

    def interval(self, settings: Settings, symbol: str, days: Sequence[date]) -> int:
        """Choose the candle step in seconds."""
        return self._of(symbol).interval(settings, symbol, days)

    def candles(self, symbol: str, days: Sequence[date], interval: int) -> Iterator[CleanDay]:
        """Yield the clean candles of each day, in order."""
        return self._of(symbol).candles(symbol, days, interval)

    def open_interest(self, symbol: str, candles: dict[date, pd.DataFrame], interval: int) -> Iterator[CleanDay]:
        """Yield the clean samples of each day of `candles`, in order."""
        return self._of(symbol).open_interest(symbol, candles, interval)


def _open_archive(settings: Settings, progress: Downloads | None) -> Market:
    del progress  # nothing comes over the network
    if not symbols_in(settings.archive_root):
        raise NoDataError(nothing_in(settings.archive_root))
    return ArchiveMarket(settings.archive_root, settings.accept_checksum)


def _open_demo(settings: Settings, progress: Downloads | None) -> Market:
    del progress
    return DemoMarket(settings.archive_root, settings.demo_seed)


def _open_binance(settings: Settings, progress: Downloads | None) -> Market:
    from heatmap_pipeline.market.binance import BinanceSource  # noqa: PLC0415  # HTTP is loaded where it is used

    def tell(done: int, total: int, file: ArchiveFile, outcome: Outcome) -> None:
        if progress is not None and outcome.name != "CACHED":  # those come first and are no news
            progress(file.symbol, done, total)

    return BinanceSource(
        settings.archive_root,
        settings.archive_url,
        settings.rest_url,
        interval=settings.candle_interval or "5m",
        progress=tell,
        accept_checksum=settings.accept_checksum,
    )


def _open_bybit(settings: Settings, progress: Downloads | None) -> Market:
    del progress  # a day is two or three requests, told as one
    from heatmap_pipeline.market.bybit import URL, BybitMarket  # noqa: PLC0415  # HTTP is loaded where it is used

    return BybitMarket(settings.archives / "bybit", settings.bybit_url or URL)


def _open_gate(settings: Settings, progress: Downloads | None) -> Market:
    del progress
    from heatmap_pipeline.market.gate import URL, GateMarket  # noqa: PLC0415  # HTTP is loaded where it is used

    return GateMarket(settings.archives / "gate", settings.gate_url or URL)


EXCHANGES: Mapping[str, Callable[[Settings, Downloads | None], Market]] = {
    "binance": _open_binance,
    "bybit": _open_bybit,
    "gate": _open_gate,
}
"""What opens the exchange of a market (`symbols.exchange_and_name`)."""


OPENERS: Mapping[str, Callable[[Settings, Downloads | None], Market]] = {
    "binance": _open_binance,
    "archive": _open_archive,
    "demo": _open_demo,
    "exchange": Exchanges,
}
"""What opens each source of `source_kinds.SOURCES`."""


def open_market(settings: Settings, progress: Downloads | None = None) -> Market:
    """Return the source that the settings name.

    Args:
        settings: of the home.
        progress: told symbol, files done and files in all, as files come over the network.

    Raises:
        SettingsError: for a source that reads a folder, without one.
        MarketError: for an address that is none, a folder of simulated files where real ones belong, or one that is no
            archive.
    """
    return OPENERS[settings.source](settings, progress)
