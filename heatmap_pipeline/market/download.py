"""Fetches the daily files of the exchange's public archive into the tree that `archive.py` reads.

A file appears under its name only when it is whole and its sha256 is the published one; a download that broke off goes
on where it stopped. A file that is there with its CHECKSUM is asked for again only to see whether
the archive has corrected it (`fetch_changed`).
"""

from __future__ import annotations

import hashlib
import math
import time
import zipfile
from collections.abc import Callable, Collection, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from enum import Enum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from heatmap_pipeline.files import open_regular, replace_file
from heatmap_pipeline.market.archive_file import MAX_BYTES
from heatmap_pipeline.market.archive_names import ArchiveFile, checksum_beside, checksum_text, read_checksum
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.market.web import Patience, Reply, TryAgainError, WebClient, web_page
from heatmap_pipeline.settings import check_symbol

_PREFIX = "data/"
_LARGEST_CHECKSUM = 4096


class Outcome(Enum):
    """What became of one file."""

    CACHED = "was there already"
    FETCHED = "fetched"
    ACCEPTED = "fetched, and kept although it does not match its published CHECKSUM"
    PLACED = "placed by hand"
    NOT_PUBLISHED = "not published yet or not listed"


class DamagedError(MarketError):
    """A file that the archive has, and that never matches its published CHECKSUM."""


Progress = Callable[[int, int, ArchiveFile, Outcome], None]
"""Called in the caller's thread after each file: how many are done, of how many, which one, what became of it."""


class ArchiveDownloader:
    """Fetches archive files; one object may be used over and over, and several processes may share a root.

    Args:
        base_url: of the archive or of a mirror; its files and their CHECKSUMs lie below `data/`.
        root: the folder that holds `futures/um/daily/`; made when something is stored.
        timeout: seconds of silence that are borne.
        total_time: seconds one `fetch` may take; what it fetched until then stays.
        accepted: names of files (`ArchiveFile.name`) that are kept though they do not match their CHECKSUM.
        workers: files fetched at once.
        retries: tries after the first one, of each request.
        backoff: seconds of the first pause between two tries.
        setting: where the user sets `base_url`, for messages.

    Example:
        >>> from datetime import date
        >>> loader = ArchiveDownloader("https://data.binance.vision", Path("archive"))
        >>> loader.fetch([ArchiveFile("BTCUSDT", date(2024, 9, 14), "5m")])  # doctest: +SKIP
        {ArchiveFile(...): <Outcome.FETCHED: 'fetched'>}
    """

    def __init__(
        self,
        base_url: str,
        root: Path,
        *,
        timeout: float = 30.0,
        total_time: float = 3600.0,
        accepted: Collection[str] = (),
        workers: int = 4,
        retries: int = 5,
        backoff: float = 0.5,
        setting: str = "HEATMAP_ARCHIVE_URL",
    ) -> None:
        self.root = root
        self._total_time = total_time
        self._accepted = frozenset(accepted)
        self._workers = workers
        self._web = WebClient(
            base_url, setting=setting, timeout=timeout, retries=retries, backoff=backoff, connections=workers
        )

    def close(self) -> None:
        """Close the connections; the downloader may be used again afterwards."""
        self._web.close()

    def fetch(
        self,
        files: Iterable[ArchiveFile],
        progress: Progress | None = None,
        failures: dict[ArchiveFile, MarketError] | None = None,
    ) -> dict[ArchiveFile, Outcome]:
        """Make sure that the files are there as far as they are published, and say of each what became of it.

        A file that lies in its place without a CHECKSUM, put there by hand, is used where the archive has no good one.

        Args:
            files: in any order; fetched in theirs.
            progress: told of each file.
            failures: where to put the error of each file that cannot be had, instead of raising the first. A damaged
                file does not keep the others from being fetched; after any other error no further file is begun, so
                that all files before the first that failed are done.

        Raises:
            SettingsError: for a symbol that is none.
            MarketError: for the first file that cannot be had, without `failures`; files fetched before it stay.
        """
        wanted = sorted(set(files))
        outcomes: dict[ArchiveFile, Outcome] = {}
        missing = []
        for file in wanted:
            check_symbol(file.symbol)
            if self._is_whole(file):
                outcomes[file] = Outcome.CACHED
                _tell(progress, outcomes, wanted, file)
            else:
                missing.append(file)
        patience = Patience(self._total_time)
        for symbol in dict.fromkeys(file.symbol for file in missing):
            of_symbol = [file for file in missing if file.symbol == symbol]
            with self._alone(symbol, patience), closing(self._fetch_all(of_symbol, patience, failures)) as done:
                for file, outcome in done:
                    outcomes[file] = outcome
                    _tell(progress, outcomes, wanted, file)
        return {file: outcomes[file] for file in wanted if file in outcomes}

    def fetch_changed(
        self, files: Iterable[ArchiveFile], *, again_after: float = 86400.0, progress: Progress | None = None
    ) -> list[ArchiveFile]:
        """Fetch what the archive has corrected or added since it was last asked, and return those files.

        Only the CHECKSUM of a file is asked for; a file is replaced at once and as a whole, or left as it is. When it
        was asked last stands beside it: the time of its CHECKSUM, or of an empty `.NAME.asked` while there is no file.

        Args:
            files: in any order. Those placed by hand are left alone.
            again_after: seconds since a file was last asked about, before which it is not asked about again; 0: asked.
            progress: told of each file that is asked about.

        Raises:
            SettingsError: for a symbol that is none.
            MarketError: for a server that cannot be asked. A corrected file that is damaged is no error: the good one
                that is here stays.

        Example:
            >>> from datetime import date
            >>> loader = ArchiveDownloader("https://data.binance.vision", Path("archive"))
            >>> loader.fetch_changed([ArchiveFile("BTCUSDT", date(2024, 9, 14), "5m")])  # doctest: +SKIP
            []
        """
        due: list[ArchiveFile] = []
        for file in sorted(set(files)):
            check_symbol(file.symbol)
            if _in_place(self.root / file.path) is None and self._asked_before(file) >= again_after:
                due.append(file)
        before = {file: _sha256(self.root / file.path) for file in due}
        patience = Patience(self._total_time)
        failures: dict[ArchiveFile, MarketError] = {}
        outcomes: dict[ArchiveFile, Outcome] = {}
        for symbol in dict.fromkeys(file.symbol for file in due):
            of_symbol = [file for file in due if file.symbol == symbol]
            with self._alone(symbol, patience), closing(self._fetch_all(of_symbol, patience, failures)) as done:
                for file, outcome in done:
                    outcomes[file] = outcome
                    _tell(progress, outcomes, due, file)
        for file in due:
            if file in outcomes or isinstance(failures.get(file), DamagedError):
                self._asked_now(file)
        changed = [file for file in due if file in outcomes and _sha256(self.root / file.path) != before[file]]
        for error in failures.values():
            # Changed files are known by their content when their day is read; what was fetched until now stays.
            if not isinstance(error, DamagedError) and not changed:
                raise error
        return changed

    def holds(self, file: ArchiveFile, read: Collection[str]) -> bool:
        """Whether what is here of a file, if anything, is of one of these sha256; those placed by hand always are."""
        target = self.root / file.path
        try:
            with open_regular(checksum_beside(target)) as stream:
                published = read_checksum(stream.read(_LARGEST_CHECKSUM))
        except OSError:
            return True
        # One that was accepted against its CHECKSUM is of another sha256 than that says.
        return (published is not None and published[0] in read) or (_sha256(target) or "") in {"", *read}

    def _asked_before(self, file: ArchiveFile) -> float:
        """Return how many seconds ago the archive was asked about a file; infinity for never, or in the future."""
        with suppress(OSError):
            ago = time.time() - self._marker(file).stat().st_mtime
            return ago if ago >= 0 else math.inf
        return math.inf

    def _asked_now(self, file: ArchiveFile) -> None:
        marker = self._marker(file)
        try:
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
            if marker != self._absent(file):
                self._absent(file).unlink(missing_ok=True)
        except OSError as error:
            raise _cannot_write(marker, error) from None

    def _marker(self, file: ArchiveFile) -> Path:
        beside = checksum_beside(self.root / file.path)
        return beside if beside.is_file() else self._absent(file)

    def _absent(self, file: ArchiveFile) -> Path:
        return (self.root / file.path).with_name(f".{file.name}.asked")

    def _alone(self, symbol: str, patience: Patience) -> Any:
        """Return a lock: two processes would write into the same partial file."""
        path = self.root / f".{symbol}.lock"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return FileLock(path).acquire(timeout=patience.left)
        except Timeout:
            raise MarketError(
                f"another process has been fetching {symbol} into {self.root} for {patience.seconds:g} s; "
                "run again when it is done"
            ) from None
        except OSError as error:
            raise _cannot_write(path, error) from None

    def _fetch_all(
        self, files: list[ArchiveFile], patience: Patience, failures: dict[ArchiveFile, MarketError] | None
    ) -> Generator[tuple[ArchiveFile, Outcome]]:
        """Yield files as they are done; the first error ends the others, or goes into `failures`."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="download")
        try:
            tasks = {pool.submit(self._fetch_one, file, patience): file for file in files}
            for task in as_completed(tasks):
                if task.cancelled():
                    continue
                try:
                    outcome = task.result()
                except MarketError as error:
                    if failures is None:
                        raise
                    failures[tasks[task]] = error
                    if not isinstance(error, DamagedError):
                        for other in tasks:
                            other.cancel()
                    continue
                yield tasks[task], outcome
        except BaseException:
            patience.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _fetch_one(self, file: ArchiveFile, patience: Patience) -> Outcome:
        target = self.root / file.path
        problem = ""
        try:
            # Twice: a partial file may go on from another version, and both files may just have been published anew.
            for _ in range(2):
                sha256 = self._published_sha256(file, patience)
                if sha256 is None:
                    return _in_place(target) or Outcome.NOT_PUBLISHED
                if _sha256(target) == sha256:
                    replace_file(checksum_beside(target), checksum_text(sha256, target.name).encode())
                    return Outcome.CACHED
                part = target.with_name(target.name + ".part")
                if not self._fetch_part(file, part, patience):
                    return _in_place(target) or Outcome.NOT_PUBLISHED
                problem = _problem(part, sha256)
                accepted = bool(problem) and file.name in self._accepted and zipfile.is_zipfile(part)
                if accepted or not problem:
                    # The checksum first: whoever is killed in between leaves one that says that the file is another,
                    # which is fetched. A file without one would count as placed by hand, and be left alone.
                    replace_file(checksum_beside(target), checksum_text(sha256, target.name).encode())
                    part.replace(target)
                    return Outcome.ACCEPTED if accepted else Outcome.FETCHED
                part.unlink(missing_ok=True)
            placed = _in_place(target)
        except OSError as error:
            raise _cannot_write(target, error) from None
        if placed is not None:
            return placed
        raise DamagedError(
            f"{self._web.name(_PREFIX + file.path)}: {problem}, twice; nothing of it was kept: run again later, see "
            f"what stands between here and the archive (a proxy, a mirror), put a good copy at {target} (without a "
            f".CHECKSUM beside it), or take it as it is by HEATMAP_ACCEPT_CHECKSUM={file.name}"
        )

    def _published_sha256(self, file: ArchiveFile, patience: Patience) -> str | None:
        """Return the published sha256; None if the file is not published."""
        path = f"{_PREFIX}{file.path}.CHECKSUM"

        def take(reply: Reply) -> bytes | None:
            return None if reply.status == 404 else reply.body(_LARGEST_CHECKSUM)

        text = self._web.get(path, take, patience=patience, accept=frozenset({200, 404}))
        if text is None:
            return None
        published = read_checksum(text)
        if published is None or published[1] != Path(file.path).name.encode():
            what = "a web page" if web_page(text) else "something else"
            raise MarketError(
                f"{self._web.name(path)}: {what} instead of the sha256 of {Path(file.path).name}; see what stands "
                "between here and the archive (a login page, a proxy, a mirror)"
            )
        return published[0]

    def _fetch_part(self, file: ArchiveFile, part: Path, patience: Patience) -> bool:
        """Complete the partial file, from where it stops if the server can do that; False if there is no file."""
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.exists() and not part.is_file():  # a pipe would be waited for
            part.unlink()

        def headers() -> dict[str, str]:
            have = _size(part)
            if have >= MAX_BYTES:
                part.unlink()
                have = 0
            return {"Range": f"bytes={have}-"} if have else {}

        def take(reply: Reply) -> bool:
            if reply.status == 404:
                return False
            have = _size(part) if reply.status == 206 else 0
            if reply.status == 206 and not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink(missing_ok=True)
                raise TryAgainError("the server sent another part of the file than the one asked for")
            if reply.status == 416:
                return True  # nothing follows what is there: the sha256 decides whether it is the whole file
            with part.open("ab" if have else "wb") as stream:
                for block in reply.blocks(MAX_BYTES - have):
                    stream.write(block)
            return True

        accept = frozenset({200, 206, 404, 416})
        return self._web.get(_PREFIX + file.path, take, patience=patience, headers=headers, accept=accept)

    def _is_whole(self, file: ArchiveFile) -> bool:
        """Whether the zip is there and is what the CHECKSUM beside it says, or accepted as it is."""
        try:
            with open_regular(checksum_beside(self.root / file.path)) as stream:
                published = read_checksum(stream.read(_LARGEST_CHECKSUM))
            sha256 = _sha256(self.root / file.path)
            return (
                published is not None and sha256 is not None and (sha256 == published[0] or file.name in self._accepted)
            )
        except OSError:
            return False


def _tell(
    progress: Progress | None, outcomes: dict[ArchiveFile, Outcome], wanted: list[ArchiveFile], file: ArchiveFile
) -> None:
    if progress is not None:
        progress(len(outcomes), len(wanted), file, outcomes[file])


def _in_place(target: Path) -> Outcome | None:
    """Return that a file was placed by hand, if one stands there without a checksum."""
    return Outcome.PLACED if target.is_file() and not checksum_beside(target).exists() else None


def _problem(part: Path, sha256: str) -> str:
    """Return what is wrong with a download, '' if nothing is."""
    with part.open("rb") as stream:
        beginning = stream.read(1024)
    if web_page(beginning):
        return "a web page instead of a zip file"
    return "" if _sha256(part) == sha256 else "does not match its published CHECKSUM"


def _sha256(path: Path) -> str | None:
    """Return the sha256 of a file, None if there is no such file."""
    with suppress(FileNotFoundError), open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
    return None


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _cannot_write(path: Path, error: OSError) -> MarketError:
    return MarketError(
        f"cannot write {path}: {error.strerror or error}; the archive's folder has to be writable, with space left"
    )
