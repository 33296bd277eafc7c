"""Where the files of an archive stand in trees as people have them, found by their names.

As the exchange's archive has them (`archive_names.py`), and besides: below `data/`, as its addresses are; in a folder
named after a range of days (`2020-01-01_2024-09-15`), as its own downloader makes; unzipped, also into a folder named
as the file; packed anew as `.csv.gz`; with its ending in capitals; and candles by month (`futures/um/monthly/...`). Of
several files of a day, that of the day itself is read, and of those a zip. Nothing is opened here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from heatmap_pipeline.errors import printable
from heatmap_pipeline.market.archive_names import CANDLES_FOLDER, ArchiveFile
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.symbols import why_not_written

_PREFIXES = ("", "data")
_RANGE = re.compile(r"\d{4}-\d{2}-\d{2}_\d{4}-\d{2}-\d{2}")
_SHOWN = 20
_ENDINGS = (".zip", ".ZIP", ".csv", ".CSV", ".csv.gz")
"""Of files that are read, the first where there are several of a day."""
_ENDING = rf"(?:{'|'.join(map(re.escape, _ENDINGS))})"


def find_day(root: Path, file: ArchiveFile) -> Path:
    """Return where the file of a day is, zipped or not; where it belongs, if it is nowhere."""
    usual = root / file.path
    return usual if os.path.lexists(usual) else _find(root, Path(file.path).parent, file.name) or usual


def find_month(root: Path, file: ArchiveFile) -> Path | None:
    """Return where the file of candles of the day's month is, zipped or not; None if it is nowhere."""
    if not file.interval:
        return None  # the archive has no such files of metrics
    return _find(root, _monthly(Path(file.path).parent), file.name.removesuffix(f"-{file.day:%d}"))


def days_in(root: Path, symbol: str, interval: str) -> set[date]:
    """Return the days that have a file of candles of their own."""
    pattern = re.compile(rf"{symbol}-{re.escape(interval)}-(\d{{4}}-\d{{2}}-\d{{2}}){_ENDING}")
    folder = Path(ArchiveFile(symbol, date.min, interval).path).parent
    names = (path.name for inside in _folders(root, folder) for path in _files_in(inside))
    return {day for name in names if (match := pattern.fullmatch(name)) and (day := _day(match[1]))}


def months_in(root: Path, symbol: str, interval: str) -> list[Path]:
    """Return the files of candles by month."""
    pattern = re.compile(rf"{symbol}-{re.escape(interval)}-\d{{4}}-\d{{2}}{_ENDING}")
    folder = _monthly(Path(ArchiveFile(symbol, date.min, interval).path).parent)
    return [path for inside in _folders(root, folder) for path in _files_in(inside) if pattern.fullmatch(path.name)]


def symbols_in(root: Path) -> list[str]:
    """Return the symbols that have a folder of candles, sorted."""
    folders = (root / prefix / of for prefix in _PREFIXES for of in (CANDLES_FOLDER, _monthly(Path(CANDLES_FOLDER))))
    return sorted({name for folder in folders for name in names_in(folder) if not why_not_written(name)})


def folders_of(root: Path, symbol: str) -> list[Path]:
    """Return the folders, and what else there is, of nothing but one symbol below an archive; for who removes it."""
    prefixes = [root / prefix for prefix in _PREFIXES]
    kinds = [path.parent for name in ("1m", "") for path in [Path(ArchiveFile(symbol, date.min, name).path)]]
    folders = [kinds[0].parent, _monthly(kinds[0].parent), kinds[1]]
    paths = [*(prefix / folder for prefix in prefixes for folder in folders), root / f".{symbol}.lock"]
    return [path for path in paths if os.path.lexists(path)]


def nothing_in(root: Path, symbol: str = "") -> str:
    """Say why there are no candles (of a symbol) that could be read, and what there is instead."""
    symbols = symbols_in(root)
    if not symbols:
        return _no_archive(root)
    if symbol not in symbols:
        return f"archive {root} does not know the symbol {symbol}; it holds {_shown(symbols)}"
    folder = Path(CANDLES_FOLDER) / symbol
    intervals = [path for of in (folder, _monthly(folder)) for path in _folders(root, of, ranges=False)]
    names = sorted({name for path in intervals for name in names_in(path)})
    inside = [
        f"{name} holds {_shown(files, 3)}"
        for path in intervals
        for name in ("1m", "5m", "15m")
        if (files := names_in(path / name))
    ]
    what = f"; {'; '.join(inside)}; they are named {symbol}-5m-YYYY-MM-DD.zip" if inside else ""
    inside_folder = f"its folder holds {_shown(names)}{what}"
    return f"archive {root} has no 1m, 5m or 15m candles of {symbol} ({inside_folder}); add such files"


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise MarketError(f"archive folder {folder}: cannot be read: {error.strerror}; check its permissions") from None


def _no_archive(root: Path) -> str:
    needed = "give the folder that holds futures/um/daily"
    names = names_in(root)
    if not names:
        if not root.is_dir():
            return f"archive {root} {'is no folder' if root.exists() else 'is not there'}; {needed}"
        return f"archive {root} is empty: no {CANDLES_FOLDER}/SYMBOL/ in it; {needed}"
    loose = next((file for name in names if (file := ArchiveFile.named(name))), None)
    put = (
        f", or put {Path(loose.path).name} into {Path(loose.path).parent} below one, the others alike" if loose else ""
    )
    below = [f"data/{name}" for name in names_in(root / "data")]
    shown = _shown([name for name in names if name != "data" or not below] + below)
    return f"archive {root} holds {shown}, but no {CANDLES_FOLDER}/SYMBOL/; {needed}{put}"


def _shown(names: list[str], limit: int = _SHOWN) -> str:
    shown = ", ".join(name[:40] if name.isprintable() else repr(name[:40]) for name in names[:limit])
    return printable(shown + (", ..." if len(names) > limit else ""), 1000) or "nothing"


def _monthly(folder: Path) -> Path:
    return Path(str(folder).replace("/daily/", "/monthly/", 1))


def _folders(root: Path, folder: Path, *, ranges: bool = True) -> Iterator[Path]:
    """Yield the folders that may hold the files of `folder`: itself, then those of ranges of days, the newest first."""
    for prefix in _PREFIXES:
        inside = root / prefix / folder
        if inside.is_dir():
            yield inside
            if ranges:
                yield from (inside / name for name in reversed(names_in(inside)) if _RANGE.fullmatch(name))


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder; a folder without an ending may hold the one CSV that is named as it is."""
    for name in names_in(folder):
        inside = folder / name / f"{name}.csv"
        yield inside if "." not in name and os.path.lexists(inside) else folder / name


def _find(root: Path, folder: Path, name: str) -> Path | None:
    folders = list(_folders(root, folder))
    places = (*(f"{name}{ending}" for ending in _ENDINGS), f"{name}/{name}.csv")
    paths = (inside / place for place in places for inside in folders)
    return next((path for path in paths if os.path.lexists(path)), None)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
