"""A worker: takes symbols from the store into a scratch home, runs there what is run in any home, and commits them.

What belongs here: what is taken, what is committed, and what it means that somebody else committed first. What does
not: the run itself, which the caller hands over (`orchestration.runs.run_days`), so that there is one of it.

A commit writes the parts that changed, then replaces the symbol's manifest if it still is the one that was read. So of
two workers on a symbol exactly one commits, and one that is killed leaves parts that nobody names (`collect.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from heatmap_pipeline import __version__
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.fleet.scratch import explaining, scratch_home
from heatmap_pipeline.settings import Settings, SettingsError
from heatmap_pipeline.store.bucket import Bucket, BucketError, Seen
from heatmap_pipeline.store.manifest import PARTS, Days, Manifest, ManifestError, Part, manifest_path, now, understood
from heatmap_pipeline.store.months import folder_of
from heatmap_pipeline.store.parts import cut, days_of, load, sha256_of
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import get_symbol
from heatmap_pipeline.store.reading import put_readings, readings_of
from heatmap_pipeline.store.schema import symbol_tables
from heatmap_pipeline.store.sql import transaction
from heatmap_pipeline.store.warehouse import Warehouse

Requests: TypeAlias = dict[str, tuple[date, date]]
"""First and last day to run, by symbol."""

AT_ONCE = 8
"""Objects that are read or written at the same time."""

_KEPT = timedelta(days=30)
"""How long a manifest names what it no longer uses, so that it is not collected while somebody reads it."""

_TRIES = 3
"""How often a symbol is read anew whose parts went while it was read."""


class Outcome(Protocol):
    """What became of a run: the days published of each symbol, and why a symbol failed."""

    @property
    def published(self) -> dict[str, tuple[date, date]]:
        """First and last day."""
        ...

    @property
    def failures(self) -> dict[str, str]:
        """In words."""
        ...


Ended = TypeVar("Ended", bound=Outcome)


class PartError(BucketError):
    """A part that is missing, or not the file that was committed; names it and says what to do."""


class OvertakenError(HeatmapError):
    """A symbol that another worker committed meanwhile; nothing of this run is kept of it."""


@dataclass(frozen=True)
class Commit:
    """What a commit wrote: parts and their bytes; nothing where nothing differs."""

    parts: int
    bytes: int


@dataclass
class Shard:
    """Symbols of the store in a scratch home.

    Attributes:
        settings: with the scratch home.
        bucket: they are from.
        commits: what was written, by symbol.
        ran: symbols that a run was about.
        refused: why symbols that are damaged in the store are none of it.
    """

    settings: Settings
    bucket: Bucket
    commits: dict[str, Commit] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, tuple[Seen, Manifest] | None] = field(default_factory=dict)

    def running(self, run: Callable[..., Ended]) -> Callable[..., Ended]:
        """Return the same run, with a commit of each symbol that it published; who is overtaken has failed."""

        def run_and_commit(settings: Settings, requests: Requests, **options: Any) -> Ended:
            self.ran |= requests.keys()
            outcome = run(settings, requests, **options)
            for symbol in list(outcome.published):
                try:
                    self.commit(symbol)
                except HeatmapError as error:
                    del outcome.published[symbol]
                    outcome.failures[symbol] = str(error)
            return outcome

        return run_and_commit

    def commit(self, symbol: str) -> Commit:
        """Put into the store what changed of a symbol, and let it be what is stored, in one step.

        Raises:
            OvertakenError: if another worker has committed the symbol since this one read it.
            BucketError: if the store cannot be written; it is as it was.
            ScratchError: if the scratch home cannot.
        """
        seen = self._seen[symbol]
        before = seen[1] if seen is not None else None
        folder = self.settings.home / "parts.new"
        with explaining(self.settings.named_home):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            manifest, files = self._cut(symbol, before, folder)
        if manifest.says_the_same(before) or not manifest.parts:
            return self.commits.setdefault(symbol, Commit(0, 0))
        new = [part for part in manifest.parts if part.hash in files]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda part: self.bucket.write(part.path(symbol), files[part.hash]), new))
        content = manifest.written()
        committed = self.bucket.swap(manifest_path(symbol), content, seen and seen[0])
        if committed is None:
            raise OvertakenError(
                f"{symbol}: another worker committed it to {self.bucket.address} while this one ran; nothing of this "
                "run is kept of it, run it again to go on from there"
            )
        self._seen[symbol] = committed, manifest
        shutil.rmtree(folder, ignore_errors=True)
        self.commits[symbol] = Commit(len(new), sum(part.bytes for part in new))
        return self.commits[symbol]

    def _cut(self, symbol: str, before: Manifest | None, folder: Path) -> tuple[Manifest, Mapping[str, Path]]:
        warehouse = _warehouse(self.settings)
        with warehouse.connect(symbol) as con:
            pieces = cut(con, symbol, folder, before.parts if before else (), before.fingerprints if before else None)
            days, record = days_of(con, symbol), get_symbol(con, symbol)
        moment = now()
        manifest = Manifest(
            program=__version__,
            symbol=symbol,
            committed=moment,
            days={model: Days(first=first, last=last, count=count) for model, (first, last, count) in days.items()},
            simulated=record is not None and record.simulated,
            fingerprints=dict(pieces.fingerprints),
            parts=pieces.parts,
            readings=readings_of(self.settings.home, symbol),
        )
        if before is not None:
            former = {path: at for path, at in before.replaced.items() if moment - at < _KEPT}
            former |= dict.fromkeys(before.paths, moment)
            gone = {path: at for path, at in sorted(former.items()) if path not in manifest.paths}
            manifest = manifest.model_copy(update={"replaced": gone})
        return manifest, pieces.files

    def hydrate(self) -> None:
        """Put what is stored of the symbols into the scratch home, published as it was committed.

        One that is damaged in the store is refused and spoils no other.

        Raises:
            BucketError: if the store cannot be read.
            PartError, ManifestError: if all symbols are damaged.
            ScratchError: if the scratch home cannot be written.
        """
        for symbol in self.settings.symbols:
            try:
                with explaining(self.settings.named_home):
                    self._take(symbol)
            except (PartError, ManifestError) as error:
                self.refused[symbol] = str(error)
                if len(self.refused) == len(self.settings.symbols):
                    raise type(error)("; ".join(self.refused.values())) from None
        sound = tuple(symbol for symbol in self.settings.symbols if symbol not in self.refused)
        self.settings = self.settings.model_copy(update={"symbols": sound})
        if stored := [symbol for symbol in sound if self._seen[symbol] is not None]:
            limit = self.settings.most_of_tables
            publish(_warehouse(self.settings), stored, keep_former=False, tables_up_to=limit)

    def _take(self, symbol: str) -> None:
        folder = self.settings.home / "parts"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self._seen[symbol], files = read_symbol(self.bucket, symbol, folder)
        if (seen := self._seen[symbol]) is not None:
            with _warehouse(self.settings).connect(symbol) as con, transaction(con):
                load(con, symbol, files)
            put_readings(self.settings.home, symbol, seen[1].readings)
        shutil.rmtree(folder)


def read_symbol(
    bucket: Bucket, symbol: str, folder: Path, former: Sequence[Path] = ()
) -> tuple[tuple[Seen, Manifest] | None, dict[Part, Path]]:
    """Return what is committed of a symbol, with its parts as files of a folder.

    Args:
        bucket: the store.
        symbol: id of the market.
        folder: for the files, TABLE/symbol=SYMBOL/... below it.
        former: such folders of before, from which a file is taken rather than fetched.

    Raises:
        BucketError: if the store cannot be read.
        PartError: if a part is missing or not what the manifest says.
        ManifestError: if the manifest cannot be used.
        OSError: if the folder cannot be written.
    """
    path = manifest_path(symbol)
    for tried in range(_TRIES):
        seen = bucket.read(path)
        if seen is None:
            return None, {}
        manifest = understood(seen.content, f"{bucket.address}/{path}")
        files = {part: folder / part.path(symbol).removeprefix(PARTS) for part in manifest.parts}
        missing = _fetch_parts(bucket, symbol, files, folder, former)
        if not missing:
            return (seen, manifest), files
        again = bucket.read(path)
        if tried == _TRIES - 1 or (again is not None and again.content == seen.content):
            break
        # Views over the folder would show parts of both manifests.
        for table in symbol_tables():
            shutil.rmtree(folder / folder_of(table.name, symbol), ignore_errors=True)
    raise PartError(
        f"{bucket.address}/{missing[0]} is missing, though the manifest of {symbol} names it; put it back from a "
        f"backup, or remove {bucket.address}/{path} and compute {symbol} again"
    )


def _fetch_parts(
    bucket: Bucket, symbol: str, files: Mapping[Part, Path], folder: Path, former: Sequence[Path]
) -> list[str]:
    """Make the files of parts that are none yet; return the paths of those that are missing in the store.

    Raises:
        PartError: if one is not what the manifest says.
        BucketError: if the store cannot be read.
        OSError: if the folder cannot be written.
    """

    def make(part: Part, file: Path) -> str:
        if file.is_file():
            return ""
        file.parent.mkdir(parents=True, exist_ok=True)
        for other in former:
            with suppress(OSError):  # not there, or a file system without links
                file.hardlink_to(other / file.relative_to(folder))
                return ""
        path = part.path(symbol)
        if not bucket.fetch(path, file):
            return path
        if sha256_of(file) != part.hash:
            file.unlink()
            raise PartError(
                f"{bucket.address}/{path} is not the file that the manifest of {symbol} names (its sha256 differs); "
                f"put it back from a backup, or remove the manifest and compute {symbol} again"
            )
        return ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [path for path in pool.map(make, files.keys(), files.values()) if path]


@contextmanager
def shard(settings: Settings) -> Iterator[Shard]:
    """Give the symbols of the settings in a scratch home, which is removed at the end.

    Raises:
        SettingsError: if HEATMAP_STORE is not set.
        HeatmapError: if the store cannot be used, or the home cannot be written.
    """
    bucket = open_bucket(settings)
    bucket.check_swaps()
    with scratch_home(settings) as scratch:
        each = Shard(scratch, bucket)
        each.hydrate()
        yield each
        for symbol in each.settings.symbols:
            if symbol not in each.ran:  # what a plan has found out, as that it is not traded any more
                each.commit(symbol)


def open_bucket(settings: Settings) -> Bucket:
    """Open the store of HEATMAP_STORE.

    Raises:
        SettingsError: if it is not set.
        BucketError: if it cannot be opened.
    """
    if not settings.store:
        raise SettingsError("HEATMAP_STORE is not set; name s3://bucket/prefix or file:///folder")
    return Bucket(settings.store)


def run_symbols(
    settings: Settings,
    requests: Requests | Callable[[Settings], Requests],
    run: Callable[..., Ended],
    **options: Any,
) -> Ended:
    """Run days of symbols over the store: take them, run, commit; nothing of it stays on this machine.

    Args:
        settings: with HEATMAP_STORE; its symbols are the shard.
        requests: first and last day by symbol, or what says them in view of what is stored, in the scratch home.
        run: `orchestration.runs.run_days`, which knows Dagster as this room does not.
        options: of `run`.

    Returns:
        What `run` returned; a symbol that is damaged in the store, or that another worker has committed meanwhile, is
        among the failures.

    Example:
        >>> run_symbols(settings, {"BTCUSDT": (first, last)}, run_days)  # doctest: +SKIP
    """
    with shard(settings) as opened:
        asked = requests(opened.settings) if callable(requests) else requests
        days = {symbol: span for symbol, span in asked.items() if symbol not in opened.refused}
        outcome = opened.running(run)(opened.settings, days, **options)
        outcome.failures.update(opened.refused)
        return outcome


def _warehouse(settings: Settings) -> Warehouse:
    return Warehouse(settings.home, lock_timeout=settings.lock_timeout)
