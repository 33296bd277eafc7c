"""The tree of the exchange's public archive: which days it holds, and its files as clean days.

Where a file stands is the business of `archive_tree.py`, what stands inside one that of `archive_file.py`.
"""

from __future__ import annotations

from calendar import monthrange
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_args

import numpy as np
import pandas as pd

from heatmap_pipeline.instants import ONE_DAY, SECONDS, Interval
from heatmap_pipeline.market.archive_file import (
    MAX_ROWS,
    ArchiveCsv,
    parse_candles,
    parse_samples,
    read_archive_csv,
)
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.archive_tree import days_in, find_day, find_month, months_in, nothing_in, symbols_in
from heatmap_pipeline.market.repair import clean_candles, clean_samples
from heatmap_pipeline.market.tables import OPEN_INTEREST_COLUMNS, CleanDay, Ending, MarketError, NoDataError, RawRows
from heatmap_pipeline.settings import check_symbol, interval_name
from heatmap_pipeline.symbols import why_no_symbol

ARCHIVE_LATE = timedelta(days=3)
"""So long after a day's end its file is waited for: the archive has most after nine hours, some after two days."""

MAX_MONTH_ROWS = 45_000
"""Most lines of a file of a month that is read; one of 1m candles has 44,641."""

_INTERVALS: tuple[Interval, ...] = get_args(Interval)

Item = TypeVar("Item")
Result = TypeVar("Result")
Candles: TypeAlias = tuple[ArchiveCsv, RawRows, dict[str, Any]]
"""A file, its raw rows of one day, and facts."""


class ArchiveReader:
    """Reads one archive folder; keeps nothing open and nothing in memory, so threads may share it.

    Args:
        root: the folder that holds `futures/um/daily/`.
        accept_checksum: names of files (without their ending) that are read though they do not match their CHECKSUM;
            counted in the repairs of the day as `accepted_checksum`.

    Example:
        >>> reader = ArchiveReader(Path("archive"))  # doctest: +SKIP
        >>> reader.read_candles("BTCUSDT", date(2024, 9, 14), 300).table.shape  # doctest: +SKIP
        (288, 10)
    """

    def __init__(self, root: Path, accept_checksum: Collection[str] = ()) -> None:
        self.root = root
        self._accepted = frozenset(accept_checksum)

    def symbols(self) -> list[str]:
        """Return the symbols that have a folder of candles, sorted."""
        return symbols_in(self.root)

    def check(self, symbol: str) -> None:
        """Make sure that this is an archive that knows the symbol, not a mistyped folder.

        Raises:
            NoDataError: if there is no file of candles of it; says what there is.
        """
        if not any(self.days(symbol, interval) for interval in _INTERVALS):
            raise NoDataError(nothing_in(self.root, symbol))

    def days(self, symbol: str, interval: str) -> list[date]:
        """Return the days that files hold candles of, at that interval (as the exchange writes it), sorted."""
        check_symbol(symbol)
        days = days_in(self.root, symbol, interval)
        for path in months_in(self.root, symbol, interval):
            with suppress(OSError):
                state = path.stat()
                days |= _days_of_month(path, state.st_mtime_ns, state.st_size)
        return sorted(days)

    def last_day(self, symbol: str) -> date | None:
        """Return the last day that files hold candles of, at any interval; None where there is none."""
        return max((day for interval in _INTERVALS for day in self.days(symbol, interval)[-1:]), default=None)

    def left_behind(self, symbol: str, last: date) -> Ending | None:
        """Return that a symbol has ended: its files end at `last`, those of another more than `ARCHIVE_LATE` later."""
        computed = (other for other in self.symbols() if other != symbol and not why_no_symbol(other))
        others = ((self.last_day(other), other) for other in computed)
        day, other = max(((day, other) for day, other in others if day is not None), default=(last, ""))
        if day - last <= ARCHIVE_LATE:
            return None
        return Ending(last, f"its files end there, and those of {other} go on to {day}")

    def choose_interval(self, symbol: str, days: Sequence[date], wanted: Interval | None, strict: bool) -> int:
        """Return the step of the candle grid to use, in seconds.

        `wanted` where the archive has any of it for the symbol; otherwise the finest of 1m, 5m and 15m that covers all
        days, or that covers most of them (the days it misses are named when they are read).

        Args:
            symbol: as the exchange writes it.
            days: UTC days to be read.
            wanted: the interval that is set, or None to let the files decide.
            strict: whether nothing but `wanted` will do, for example because days with it are stored already.

        Raises:
            NoDataError: if there is nothing of the symbol for any of the days; says what there is.
            MarketError: if `strict` and the archive has nothing of `wanted`.
        """
        days_of = {name: self.days(symbol, name) for name in _INTERVALS}
        if not any(days_of.values()):
            raise NoDataError(nothing_in(self.root, symbol))
        if wanted is not None and days_of[wanted]:
            return SECONDS[wanted]
        there = "; ".join(f"{name}: {_ranges(of)}" for name, of in days_of.items() if of)
        if wanted is not None and strict:
            raise MarketError(
                f"archive {self.root} holds no {wanted} candles of {symbol}; it holds {there}; "
                f"add the {wanted} files or set another candle interval"
            )
        covered = {name: len(set(days).intersection(of)) for name, of in days_of.items()}
        best = max(_INTERVALS, key=lambda name: covered[name])  # of equals the first, which is the finest
        if not covered[best]:
            raise NoDataError(
                f"archive {self.root} holds no candles of {symbol} for {_ranges(days)}; it holds {there}; "
                "choose days it holds or add the files"
            )
        return SECONDS[best]

    def read_candles(self, symbol: str, day: date, interval_seconds: int) -> CleanDay:
        """Return the clean candles of one day. Facts: file, sha256 of the zip, header, time_unit.

        Raises:
            NoDataError: if the archive has no such file.
            MarketError: for a file that cannot be used.
        """
        check_symbol(symbol)
        interval = interval_name(interval_seconds)
        wanted = ArchiveFile(symbol, day, interval)
        candles = self._day_of_file(wanted) or self._day_of_month(wanted)
        if candles is None:
            days = self.days(symbol, interval)
            there = f"it holds {_ranges(days)}" if days else nothing_in(self.root, symbol)
            raise NoDataError(
                f"archive {self.root} has no {interval} candles of {symbol} for {day} ({wanted.name}.zip is missing); "
                f"{there}; add the file or choose other days"
            )
        file, raw, facts = candles
        clean = clean_candles(raw, symbol=symbol, day=day, interval=interval_seconds, file=str(file.path))
        return replace(clean, repairs=_repaired(clean, file), facts=facts)

    def read_open_interest(self, symbol: str, day: date, candles: pd.DataFrame, interval_seconds: int) -> CleanDay:
        """Return the clean samples of one day, none if the archive has no file of them.

        Facts: as of candles, and `clock` (`clock.Clock.to_facts`); or `missing_file` alone.

        Args:
            symbol: as the exchange writes it.
            day: UTC.
            candles: clean candles of that day, which tell the clock of the labels.
            interval_seconds: step of the candles.

        Raises:
            MarketError: for a file that cannot be used.
        """
        check_symbol(symbol)
        wanted = ArchiveFile(symbol, day)
        path = find_day(self.root, wanted)
        try:
            file = self._read(path)
        except FileNotFoundError:
            types = dict(zip(OPEN_INTEREST_COLUMNS, ("datetime64[us]", "float64", "float64"), strict=True))
            empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
            return CleanDay(symbol, day, empty, interval_seconds, facts={"missing_file": f"{wanted.name}.zip"})
        raw, facts = parse_samples(file, symbol)
        clean = clean_samples(raw, symbol=symbol, day=day, interval=interval_seconds, candles=candles, file=str(path))
        return replace(clean, repairs=_repaired(clean, file), facts={**facts, **clean.facts})

    def _day_of_file(self, wanted: ArchiveFile) -> Candles | None:
        try:
            file = self._read(find_day(self.root, wanted))
        except FileNotFoundError:
            return None
        return file, *parse_candles(file)

    def _day_of_month(self, wanted: ArchiveFile) -> Candles | None:
        path = find_month(self.root, wanted)
        if path is None or not path.exists():
            return None
        file = self._read(path, MAX_MONTH_ROWS)
        raw, facts = parse_candles(file)
        of_day = raw["open_time"].astype("datetime64[D]") == np.datetime64(wanted.day)
        return (file, {name: column[of_day] for name, column in raw.items()}, facts) if of_day.any() else None

    def _read(self, path: Path, max_rows: int = MAX_ROWS) -> ArchiveCsv:
        return read_archive_csv(path, max_rows, accept_checksum=_without_ending(path) in self._accepted)


def _without_ending(path: Path) -> str:
    return path.name.partition(".")[0]


def _repaired(clean: CleanDay, file: ArchiveCsv) -> dict[str, int]:
    return clean.repairs if file.matches else {**clean.repairs, "accepted_checksum": 1}


@lru_cache(maxsize=1024)
def _days_of_month(path: Path, changed: int, size: int) -> frozenset[date]:
    """Return the days whose candles a file of a month holds; all of the month, for one that cannot be read.

    Args:
        path: the file.
        changed: its time of change, which makes an edited file a different entry of the cache.
        size: its bytes, for the same.
    """
    del changed, size
    try:
        raw, _ = parse_candles(read_archive_csv(path, MAX_MONTH_ROWS, accept_checksum=True))
    except (MarketError, FileNotFoundError):
        year, month = map(int, _without_ending(path)[-7:].split("-"))
        return frozenset(date(year, month, day + 1) for day in range(monthrange(year, month)[1]))
    return frozenset(np.unique(raw["open_time"].astype("datetime64[D]")).tolist())


def read_many(
    read: Callable[[Item], Result], days: Iterable[Item], *, workers: int = 1, ahead: int = 8
) -> Iterator[Result]:
    """Read days ahead in threads and yield them in order; at most `ahead` days wait in memory.

    The first error is raised after the good days before it were yielded, and nothing further is started.

    Args:
        read: reads one day; called from several threads at once.
        days: in the order wanted; or the files of days.
        workers: number of threads. One reads ahead of whoever stores; a second one is of use only where they wait for
            a server, as reading a file from a disk is work for the interpreter, of which there is one.
        ahead: how many days may be read before they are asked for.

    Example:
        >>> [day.day for day in read_many(lambda day: day, [date(2024, 9, 14), date(2024, 9, 15)])]
        [14, 15]
    """
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="archive")
    try:
        for day in days:
            pending.append(pool.submit(read, day))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ranges(days: Iterable[date]) -> str:
    """Return days as text, runs of days as 'first to last', at most five runs."""
    runs: list[list[date]] = []
    for day in sorted(set(days)):
        if runs and day - runs[-1][1] == ONE_DAY:
            runs[-1][1] = day
        else:
            runs.append([day, day])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in runs]
    return ", ".join([*texts[:2], "...", *texts[-2:]] if len(texts) > 5 else texts) or "no days"
