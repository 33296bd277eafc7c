"""The tree of the exchange's public archive: which days it holds, and its files as clean days.

What its files are called is the business of `archive_names.py`, what stands inside one that of `archive_file.py`.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TypeVar, get_args

import pandas as pd

from heatmap_pipeline.instants import ONE_DAY, SECONDS, Interval
from heatmap_pipeline.market.archive_file import parse_candles, parse_samples, read_archive_csv
from heatmap_pipeline.market.archive_names import CANDLES_FOLDER, ArchiveFile
from heatmap_pipeline.market.repair import clean_candles, clean_samples
from heatmap_pipeline.market.tables import OPEN_INTEREST_COLUMNS, CleanDay, MarketError, NoDataError
from heatmap_pipeline.settings import check_symbol, interval_name

_INTERVALS: tuple[Interval, ...] = get_args(Interval)

Result = TypeVar("Result")


class ArchiveReader:
    """Reads one archive folder; keeps nothing open and nothing in memory, so threads may share it.

    Args:
        root: the folder that holds `futures/um/daily/`.

    Example:
        >>> reader = ArchiveReader(Path("archive"))  # doctest: +SKIP
        >>> reader.read_candles("BTCUSDT", date(2024, 9, 14), 300).table.shape  # doctest: +SKIP
        (288, 10)
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def symbols(self) -> list[str]:
        """Return the symbols that have a folder of candles, sorted."""
        return [name for name in _names(self.root / CANDLES_FOLDER) if re.fullmatch(r"[A-Z0-9]{2,30}", name)]

    def days(self, symbol: str, interval: str) -> list[date]:
        """Return the days that have a file of candles of that interval (as the exchange writes it), sorted."""
        check_symbol(symbol)
        pattern = re.compile(rf"{symbol}-{re.escape(interval)}-(\d{{4}}-\d{{2}}-\d{{2}})\.zip")
        matches = (pattern.fullmatch(name) for name in _names(self.root / CANDLES_FOLDER / symbol / interval))
        return sorted(day for match in matches if match and (day := _day(match[1])))

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
        held = {name: self.days(symbol, name) for name in _INTERVALS}
        if not any(held.values()):
            raise NoDataError(self._nothing(symbol))
        if wanted is not None and held[wanted]:
            return SECONDS[wanted]
        there = "; ".join(f"{name}: {_ranges(of)}" for name, of in held.items() if of)
        if wanted is not None and strict:
            raise MarketError(
                f"archive {self.root} holds no {wanted} candles of {symbol}; it holds {there}; "
                f"add the {wanted} files or set another candle interval"
            )
        covered = {name: len(set(days).intersection(of)) for name, of in held.items()}
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
        path = self.root / ArchiveFile(symbol, day, interval).path
        try:
            file = read_archive_csv(path)
        except FileNotFoundError:
            days = self.days(symbol, interval)
            there = f"it holds {_ranges(days)}" if days else self._nothing(symbol)
            raise NoDataError(
                f"archive {self.root} has no {interval} candles of {symbol} for {day} ({path.name} is missing); "
                f"{there}; add the file or choose other days"
            ) from None
        raw, facts = parse_candles(file)
        clean = clean_candles(raw, symbol=symbol, day=day, interval=interval_seconds, file=str(path))
        return replace(clean, facts=facts)

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
        path = self.root / ArchiveFile(symbol, day).path
        try:
            file = read_archive_csv(path)
        except FileNotFoundError:
            types = dict(zip(OPEN_INTEREST_COLUMNS, ("datetime64[us]", "float64", "float64"), strict=True))
            empty = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
            return CleanDay(symbol, day, empty, interval_seconds, facts={"missing_file": path.name})
        raw, facts = parse_samples(file, symbol)
        clean = clean_samples(raw, symbol=symbol, day=day, interval=interval_seconds, candles=candles, file=str(path))
        return replace(clean, facts={**facts, **clean.facts})

    def _nothing(self, symbol: str) -> str:
        """Say why there are no candles of a symbol on any grid that can be used."""
        symbols = self.symbols()
        if not symbols:
            return (
                f"archive {self.root} is empty: no {CANDLES_FOLDER}/SYMBOL/ in it; "
                "give the folder that holds futures/um/daily"
            )
        if symbol not in symbols:
            shown = ", ".join(symbols[:20]) + (", ..." if len(symbols) > 20 else "")
            return f"archive {self.root} does not know the symbol {symbol}; it holds {shown}"
        names = _names(self.root / CANDLES_FOLDER / symbol)
        others = ", ".join(name[:40] if name.isprintable() else repr(name[:40]) for name in names[:20]) or "nothing"
        return (
            f"archive {self.root} has no 1m, 5m or 15m candles of {symbol} (its folder holds {others}); add such files"
        )


def read_many(
    read: Callable[[date], Result], days: Iterable[date], *, workers: int = 2, ahead: int = 8
) -> Iterator[Result]:
    """Read days in a pool of threads and yield them in order; at most `ahead` days wait in memory.

    The first error is raised after the good days before it were yielded, and nothing further is started.

    Args:
        read: reads one day; called from several threads at once.
        days: in the order wanted.
        workers: number of threads.
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


def _names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise MarketError(f"archive folder {folder}: cannot be read: {error.strerror}; check its permissions") from None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


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
