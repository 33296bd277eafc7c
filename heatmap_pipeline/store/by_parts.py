"""Publication of a large home by parts: files of what changed, links to all else, and views over them.

    HOME/parts/NAME/manifests/BTCUSDT.json                              which parts hold the rows of a symbol
    HOME/parts/NAME/raw_candles/symbol=BTCUSDT/2024-01-<hash>.parquet   a part, the same file in each folder that has it
    HOME/heatmap.duckdb                                                 views over one of these folders

What belongs here: what is in such a folder, and making the next one out of it. What does not: whether a home is
published so (`publish.py`). Which folder counts is said by heatmap.duckdb alone, so a kill leaves what was published.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from heatmap_pipeline import __version__
from heatmap_pipeline.commands import at, command
from heatmap_pipeline.files import state_of, sync
from heatmap_pipeline.store.catalogue import build, views_over
from heatmap_pipeline.store.generations import (
    PARTS_FOLDER,
    built_note,
    generations,
    link,
    mark_built,
    new_generation,
    remove_all_but,
    remove_half_made,
)
from heatmap_pipeline.store.leftovers import temporary
from heatmap_pipeline.store.manifest import PARTS, Days, Manifest, ManifestError, Part, manifest_path, now, understood
from heatmap_pipeline.store.migrate import SCHEMA_VERSION
from heatmap_pipeline.store.months import folder_of
from heatmap_pipeline.store.parts import cut, days_of, load, sha256_of
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.sql import Connection, quoted, transaction
from heatmap_pipeline.store.warehouse import StoreError, Warehouse


class LostPartsError(StoreError):
    """Parts that are published are not there any more.

    Attributes:
        symbols: that lack some.
    """

    def __init__(self, warehouse: Warehouse, symbols: Sequence[str]) -> None:
        self.symbols = tuple(symbols)
        again = command(at(warehouse.home), "run", *symbols, days=("DAY", "DAY"))
        out = ", ".join(f"`{command(at(warehouse.home), 'forget', symbol)}`" for symbol in symbols)
        others = command(at(warehouse.home), "refresh")
        super().__init__(
            f"the parts of {', '.join(symbols)} in {parts_folder(warehouse)} are gone or damaged, and so are their "
            f"private files; compute these again with `{again}`, take them out with {out}, or move "
            f"{warehouse.published} away and `{others}`, which publishes all others"
        )


def parts_folder(warehouse: Warehouse) -> Path:
    """Return the folder of a home that holds its parts."""
    return warehouse.home.resolve() / PARTS_FOLDER


@dataclass(frozen=True)
class Held:
    """What is published of a symbol: which parts, and where each is."""

    manifest: Manifest
    files: Mapping[Part, Path]


@dataclass(frozen=True)
class Generation:
    """The parts that a published file is made of.

    Attributes:
        warehouse: of the home.
        named: the folder that its views name; the home may have been somewhere else then.
    """

    warehouse: Warehouse
    named: Path
    _known: dict[str, Held | None] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the folder is now."""
        return parts_folder(self.warehouse) / self.named.name

    @property
    def moved(self) -> bool:
        """Whether views name a place that is not that of the folder."""
        return self.named != self.folder

    def size(self, symbols: Iterable[str]) -> int:
        """Return the bytes of the parts of symbols."""
        return sum(held.manifest.size for held in map(self._look, symbols) if held is not None)

    def lacks(self, symbol: str) -> bool:
        """Return whether any part of a symbol is not there, or has another size."""
        return self._look(symbol) is None

    def held(self, symbol: str) -> Held:
        """Return the parts of a symbol.

        Raises:
            LostPartsError: if any is not there.
        """
        held = self._look(symbol)
        if held is None:
            raise LostPartsError(self.warehouse, [symbol])
        return held

    def damaged(self, symbol: str) -> list[Path]:
        """Return the files of a symbol that are not as they were written, though as large; reads all of them."""
        held = self._look(symbol)
        files = {} if held is None else held.files
        return [file for part, file in files.items() if sha256_of(file) != part.hash]

    def _look(self, symbol: str) -> Held | None:
        """Look at the files of a symbol, once: in a hundred symbols of three years there are 30,000."""
        if symbol not in self._known:
            path = self.folder / manifest_path(symbol)
            self._known[symbol] = None
            with suppress(OSError, ManifestError):
                manifest = understood(path.read_bytes(), str(path))
                files = {part: _place(self.folder, symbol, part) for part in manifest.parts}
                if all(file.stat().st_size == part.bytes for part, file in files.items()):
                    self._known[symbol] = Held(manifest, files)
        return self._known[symbol]


Opening = Callable[[str], AbstractContextManager[Connection]]
"""Opens a database that holds the rows of a symbol."""

Tell = Callable[[str, int, int], None]
"""Called while all of many symbols is written: as `parts` or `tables`, symbols done and symbols in all."""


def tell_nobody(_form: str, _done: int, _total: int) -> None:
    """Say nothing."""


def publish_by_parts(
    warehouse: Warehouse,
    sources: Mapping[str, Opening],
    kept: Sequence[str],
    former: Generation | None,
    tell: Tell = tell_nobody,
) -> Generation:
    """Put a published file in place whose large tables are views over a new folder of parts.

    The caller holds the locks of the publication and of what it opens.

    Args:
        warehouse: of the home.
        sources: what opens the database with the rows of each symbol that is cut.
        kept: symbols whose parts are those that they have in `former`.
        former: what is published by parts; None where nothing is.
        tell: of the symbols of which all is cut, as at the switch; of what changed that takes no time to speak of.

    Raises:
        LostPartsError: if a symbol that is kept lacks parts.
        StoreError: if the home cannot be written, its disk is full, or a database or part cannot be used; what is
            published is then as it was.
    """
    home = parts_folder(warehouse)
    place = home / f"{time.time_ns():x}"
    with warehouse.explaining():
        home.mkdir(exist_ok=True)
        home.chmod(0o755)
        with new_generation(home) as new:
            made = _Making(warehouse, new)
            if former is not None:
                for symbol in kept:
                    made.keep(symbol, former.held(symbol))
            whole = [symbol for symbol in sources if former is None or former.lacks(symbol)]
            for symbol, opening in sources.items():
                if symbol in whole:
                    tell(PARTS_FOLDER, whole.index(symbol), len(whole))
                with opening(symbol) as con:
                    made.cut(con, symbol, None if former is None or former.lacks(symbol) else former.held(symbol))
            if whole:
                tell(PARTS_FOLDER, len(whole), len(whole))
            for folder in [*(path for path in new.rglob("*") if path.is_dir()), new]:
                sync(folder)
            new.rename(place)
            sync(home)
        before = state_of(warehouse.published)
        try:
            build(warehouse, {each.symbol: _small_parts(place, each) for each in made.manifests}, views_over=place)
        finally:
            if state_of(warehouse.published) == before:
                shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):  # a full disk: it is published all the same, and what names it is heatmap.duckdb
            mark_built(place)
    return Generation(warehouse, place)


def _small_parts(folder: Path, manifest: Manifest) -> dict[Part, Path]:
    """Return where the parts are whose tables are no views."""
    return {part: _place(folder, manifest.symbol, part) for part in manifest.parts if not part.month}


@dataclass
class _Making:
    """A folder of parts that is being filled.

    Attributes:
        warehouse: of the home.
        new: the folder.
        manifests: of the symbols that are done.
    """

    warehouse: Warehouse
    new: Path
    manifests: list[Manifest] = field(default_factory=list)
    _folders: set[Path] = field(default_factory=set)

    def keep(self, symbol: str, held: Held) -> None:
        """Give a symbol the parts that it has."""
        if held.manifest.schema_version != SCHEMA_VERSION:
            self._bring_up_to_date(symbol, held)
            return
        for part, file in held.files.items():
            link(file, self._target(symbol, part))
        self._name(held.manifest)

    def cut(self, con: Connection, symbol: str, held: Held | None) -> None:
        """Give a symbol the parts that its rows are now; of those that are as they were no file is written."""
        there = held.files if held else {}
        prints = held.manifest.fingerprints if held else None
        scratch = self.new.with_name(f".{os.getpid()}.cut.new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            pieces = cut(con, symbol, scratch, tuple(there), prints, private=False)
            for part in pieces.parts:
                if file := pieces.files.get(part.hash):
                    file.chmod(0o644)  # as the published file, whatever the umask
                    sync(file)
                    file.replace(self._target(symbol, part))
                else:
                    link(there[part], self._target(symbol, part))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        days = {
            model: Days(first=first, last=last, count=n) for model, (first, last, n) in days_of(con, symbol).items()
        }
        manifest = Manifest(
            program=__version__,
            symbol=symbol,
            committed=now(),
            days=days,
            fingerprints=dict(pieces.fingerprints),
            parts=pieces.parts,
        )
        self._name(manifest)

    def _name(self, manifest: Manifest) -> None:
        path = self.new / manifest_path(manifest.symbol)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(manifest.written())
        path.parent.chmod(0o755)
        path.chmod(0o644)
        sync(path)
        self.manifests.append(manifest)

    def _target(self, symbol: str, part: Part) -> Path:
        target = _place(self.new, symbol, part)
        if target.parent not in self._folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            for folder in (target.parent, target.parent.parent, self.new):
                folder.chmod(0o755)
            self._folders.add(target.parent)
        return target

    def _bring_up_to_date(self, symbol: str, held: Held) -> None:
        """Cut the rows of parts of an earlier version of the tables anew."""
        path = temporary(self.warehouse, "earlier")
        try:
            with self.warehouse.opened(path) as con:
                with transaction(con):
                    load(con, symbol, held.files)
                self.cut(con, symbol, None)
        finally:
            path.unlink(missing_ok=True)


def remove_unfinished(warehouse: Warehouse, present: Generation | None) -> None:
    """Remove the folders of parts of killed publications, at the start of one."""
    home = parts_folder(warehouse)
    if home.is_dir():
        remove_half_made(home)
        built = {path for path in generations(home) if built_note(path) is not None}
        _remove_others(warehouse, built | ({present.folder} if present else set()))


def remove_older(
    warehouse: Warehouse, present: Generation | None, former: Generation | None, forgotten: Collection[str]
) -> None:
    """Remove the folders of parts that nobody needs, at the end of a publication.

    Args:
        warehouse: of the home.
        present: what is published.
        former: what was published before, which readers may still have open.
        forgotten: symbols of which nothing is to be left in it either.
    """
    _remove_others(warehouse, {one.folder for one in (present, former) if one is not None})
    remove_forgotten(warehouse, present, forgotten)


def remove_forgotten(warehouse: Warehouse, present: Generation | None, forgotten: Collection[str]) -> None:
    """Remove what is there of symbols that are published no more: what was published before may still have it."""
    home = parts_folder(warehouse)
    others = [path for path in generations(home) if not present or path != present.folder] if home.is_dir() else []
    for folder in others:
        for symbol in forgotten:
            for table in symbol_tables():
                shutil.rmtree(folder / folder_of(table.name, symbol), ignore_errors=True)
            (folder / manifest_path(symbol)).unlink(missing_ok=True)


def _remove_others(warehouse: Warehouse, used: Set[Path]) -> None:
    """Remove all folders but some, and those that files of earlier versions, which were set aside, are over.

    Nothing is removed while nobody can tell which these are.
    """
    home, kept = parts_folder(warehouse), set(used)
    for path in warehouse.home.glob("heatmap.schema-*.duckdb"):
        try:
            with warehouse.opened() as con:
                con.execute(f"ATTACH {quoted(path)} AS other (READ_ONLY)")
                named = views_over(con, "other")
        except StoreError:  # open elsewhere, or damaged
            return
        if named is not None:
            kept.add(home / named.name)  # the home may have been somewhere else then
    remove_all_but(home, kept)


def _place(folder: Path, symbol: str, part: Part) -> Path:
    return folder / part.path(symbol).removeprefix(PARTS)
