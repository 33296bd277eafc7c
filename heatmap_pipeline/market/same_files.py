"""Whether the file of a day is the one that the day was read from: its bytes are compared, nothing in it is parsed."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from heatmap_pipeline.files import open_regular
from heatmap_pipeline.market.archive_names import ArchiveFile, checksum_beside, read_checksum
from heatmap_pipeline.market.archive_tree import find_day, find_month
from heatmap_pipeline.symbols import exchange_and_name

_LARGEST_CHECKSUM = 4096


def pages_folder(home: Path, symbol: str) -> Path:
    """Return where the answers are kept of an exchange that has no archive, for a market by its id."""
    exchange, name = exchange_and_name(symbol)
    return home / "archive" / exchange / "linear" / name


def same_page(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether the kept answer of a day is the one that it was read from, and would be read again.

    Args:
        folder: `pages_folder`.
        facts: of the stored day: name of the page, and the sha256 of what is packed in it.
    """
    path = folder / f"{facts.get('file')}.json.gz"
    try:
        with open_regular(path) as packed, open_regular(path.with_name(f"{path.name}.sha256")) as beside:
            known = hashlib.sha256(gzip.decompress(packed.read())).hexdigest()
            said = beside.read(_LARGEST_CHECKSUM).split()
    except (OSError, EOFError, zlib.error):
        return False
    return known == facts.get("sha256") and said[:1] == [known.encode()]


class SameFiles:
    """The files of one archive folder; each is read once, also where it is about a month of days.

    Args:
        root: the folder.
        accepted: names of files that are read though they do not match their CHECKSUM.
        fetched: whether a file is used only as it was fetched, with its CHECKSUM beside it.
    """

    def __init__(self, root: Path, accepted: Collection[str] = (), *, fetched: bool = False) -> None:
        self._root, self._accepted, self._fetched = root, frozenset(accepted), fetched
        self._known: dict[Path, tuple[str, bool | None]] = {}

    def same(self, file: ArchiveFile, facts: Mapping[str, Any], repairs: Mapping[str, int]) -> bool | None:
        """Return whether a day's file is the one that it was read from; None where there is no file of it now.

        Args:
            file: the day's.
            facts: of the stored day: name and sha256 of its file.
            repairs: of the stored day, which say whether the file was accepted against its CHECKSUM.

        Raises:
            OSError: for a file that cannot be read.
            MarketError: for a folder that cannot be read.
        """
        path: Path | None = find_day(self._root, file)
        if path is None or not path.exists():
            path = find_month(self._root, file)
        if path is None or not path.exists():
            return None
        sha256, matches = self._read(path)
        if (path.name, sha256) != (facts.get("file"), facts.get("sha256")):
            return False
        if matches is None:
            return not self._fetched
        was_accepted = "accepted_checksum" in repairs
        return matches != was_accepted and (matches or path.name.partition(".")[0] in self._accepted)

    def _read(self, path: Path) -> tuple[str, bool | None]:
        """Return the sha256 of a file, and whether it matches its CHECKSUM; None where it has none."""
        if path not in self._known:
            with open_regular(path) as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
            try:
                with open_regular(checksum_beside(path)) as stream:
                    published = read_checksum(stream.read(_LARGEST_CHECKSUM))
            except FileNotFoundError:
                self._known[path] = sha256, None
            else:
                self._known[path] = sha256, published == (sha256, path.name.encode())
        return self._known[path]
