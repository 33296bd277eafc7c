"""Where parts and manifests are kept: a bucket of S3 or a folder, by HEATMAP_STORE, through obstore.

What belongs here: reading, writing, replacing only what is as it was seen, and what a failure means in words. What
does not: what the objects hold. obstore is in the extra `fleet`, imported when a store is
opened; the address, region and credentials of an S3 server are the AWS_* variables that it reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.files import sync

_RETRIES = 6
"""How often a request is made again that met a failure of the server or of the connection."""
_PATIENCE = timedelta(seconds=90)
"""How long a request may take with all of that."""
_TIMEOUT = timedelta(seconds=60)
"""How long one answer may take."""
_BACKOFF: Any = {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=10), "base": 2}
_LOCK_SECONDS = 60.0
_PROBE = "conditional-writes"
"""Object, without content, on which a server is seen to have these."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_ADDRESS = re.compile(r"https?://([A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_REGION = re.compile(r"[A-Za-z0-9_\-]+")
"""What obstore reads, and what of it can be used."""
_ROLE = "http://169.254."
"""Where a machine of Amazon's is asked for its role, which is what obstore does where no key is set."""
_SHOWN = 160
"""Letters of an S3 server's own words that a message shows."""


class BucketError(HeatmapError):
    """A store that cannot be read or written; names it and says what to do. What was committed stands."""


@dataclass(frozen=True)
class Seen:
    """An object as it was read.

    Attributes:
        content: of it.
        tag: by which the store tells this version of it from any other.
    """

    content: bytes
    tag: str


@dataclass(frozen=True)
class Entry:
    """An object of a listing: path below the address, bytes, and when it was written, UTC."""

    path: str
    bytes: int
    modified: datetime


class Bucket:
    """The objects below an address of HEATMAP_STORE.

    Attributes:
        address: s3://bucket/prefix or file:///folder.

    Raises:
        BucketError: in every method, for a store that cannot be used.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        parts = urlsplit(address)
        self._folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        try:
            import obstore  # noqa: PLC0415  # an extra, which only stores need
            from obstore.store import LocalStore, S3Store  # noqa: PLC0415
        except ImportError:
            raise BucketError(
                f"HEATMAP_STORE = {address} needs obstore; `sh setup.sh fleet` in the project's folder installs it"
            ) from None
        self._obstore: Any = obstore
        self._store: Any = None
        self._endpoint = ""
        with self._explaining():
            if self._folder is not None:
                self._local_store = partial(LocalStore, self._folder, mkdir=True)
                if self.is_there():
                    self._writable()
            else:
                self._endpoint = _named(_ENDPOINTS, _ADDRESS, "an address of the kind https://host:9000")
                _named(_REGIONS, _REGION, "the name of a region")
                self._store = S3Store(
                    parts.netloc,
                    prefix=parts.path.strip("/") or None,
                    client_options={"timeout": _TIMEOUT, "allow_http": self._endpoint.startswith("http://")},
                    retry_config={"max_retries": _RETRIES, "retry_timeout": _PATIENCE, "backoff": _BACKOFF},
                )

    def is_there(self) -> bool:
        """Return whether the folder is there, which the first object that is written makes; a bucket has to be."""
        if self._store is not None or self._folder is None:
            return True
        with self._explaining():  # not `exists`, which takes a path that cannot be one for a folder not made yet
            try:
                self._folder.stat()
            except FileNotFoundError:
                return False
            return True

    def read(self, path: str) -> Seen | None:
        """Return an object; None where there is none."""
        try:
            with self._explaining():
                got = self._obstore.get(self._readable(), path)
                return Seen(bytes(got.bytes()), str(got.meta["e_tag"] or ""))
        except _MissingError:
            return None

    def fetch(self, path: str, target: Path) -> bool:
        """Copy an object to a file, which appears when it is whole; return whether there is one.

        Raises:
            OSError: if the file cannot be written, which is no fault of the store.
        """
        new = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with new.open("wb") as file:
                for block in self._blocks(path):
                    file.write(block)
            new.replace(target)
        except _MissingError:
            return False
        finally:
            new.unlink(missing_ok=True)
        return True

    def write(self, path: str, file: Path) -> None:
        """Store a file, whole or not at all; also over an equal one, so that it counts as written now."""
        with self._explaining():
            self._obstore.put(self._writable(), path, file)
            self._on_disk(path)

    def swap(self, path: str, content: bytes, seen: Seen | None) -> Seen | None:
        """Replace an object if it still is what was seen; return the new one, None where somebody else was first.

        Args:
            path: of the object.
            content: the new one.
            seen: the object as it was read; None where there was none.
        """
        if self._folder is not None:
            return self._swap_file(self._folder, path, content, seen)
        errors = self._obstore.exceptions
        mode = "create" if seen is None else {"e_tag": seen.tag}
        try:
            with self._explaining():
                put = self._obstore.put(self._writable(), path, content, mode=mode, use_multipart=False)
                return Seen(content, str(put["e_tag"]))
        except (errors.AlreadyExistsError, errors.PreconditionError):
            # A server may have taken it and failed to say so: the request that was made again then meets itself.
            there = self.read(path)
            return there if there is not None and there.content == content else None
        except _MissingError:  # it was seen, and somebody has removed it
            return None

    def check_swaps(self) -> None:
        """See that the server refuses to overwrite what is not as it was seen, on an object made for that.

        Of a folder, which is compared under a lock, that it is there or can be made: before days are computed for it.

        Raises:
            BucketError: if it overwrites it: two workers would overwrite each other's commits without a word; or if
                the folder cannot be made.
        """
        if self._folder is not None:
            with self._explaining():
                self._writable()
            return
        errors = self._obstore.exceptions
        refused = []
        for mode in ("create", "create", {"e_tag": '"0"'}):  # the first may make it, neither other may write it
            try:
                with self._explaining():
                    self._obstore.put(self._writable(), _PROBE, b"", mode=mode, use_multipart=False)
            except (errors.AlreadyExistsError, errors.PreconditionError):
                refused.append(mode)
        if len(refused) < 2 or refused[-1] == "create":
            raise BucketError(
                f"store {self.address} overwrites objects whatever If-Match and If-None-Match say, so two workers "
                "would undo each other's commits; use a server with conditional writes"
            )

    def entries(self, prefix: str) -> list[Entry]:
        """Return what is stored below a prefix, which ends with a slash."""
        if not self.is_there():
            return []
        with self._explaining():
            return [
                Entry(str(each["path"]), int(each["size"]), each["last_modified"])
                for page in self._obstore.list(self._readable(), prefix)
                for each in page
            ]

    def clock(self) -> datetime:
        """Return this moment, UTC, as the store says when something was written: its clock may not be ours."""
        with self._explaining():
            self._obstore.put(self._writable(), _PROBE, b"", use_multipart=False)
        return self._modified(_PROBE) or datetime.now(UTC)

    def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        for path in paths:
            try:
                with self._explaining():
                    self._obstore.delete(self._readable(), path)
            except _MissingError:
                continue

    def remove_older(self, paths: Sequence[str], since: datetime) -> list[str]:
        """Remove those of the objects that nobody has written since, each looked at just before; return which."""
        removed = []
        for path in paths:
            modified = self._modified(path)
            if modified is not None and modified <= since:
                self.remove([path])
                removed.append(path)
        return removed

    def remove_unfinished(self, prefix: str, since: datetime) -> None:
        """Remove what writers that were killed before `since` left below a prefix of a folder; a bucket shows none."""
        if self._folder is None:
            return
        for path in (self._folder / prefix).rglob("*.parquet#*"):  # so obstore calls a file until it is whole
            with self._explaining(), suppress(FileNotFoundError):
                if path.stat().st_mtime <= since.timestamp():
                    path.unlink()

    def _readable(self) -> Any:
        """Return what to read from; who only looks makes no folder.

        Raises:
            FileNotFoundError: if the folder is not there.
        """
        if not self.is_there():
            raise FileNotFoundError(self._folder)
        return self._writable()

    def _writable(self) -> Any:
        """Return what to write to; makes the folder."""
        if self._store is None:
            self._store = self._local_store()
        return self._store

    def _blocks(self, path: str) -> Iterator[bytes]:
        with self._explaining():
            for block in self._obstore.get(self._readable(), path).stream():
                yield bytes(block)

    def _modified(self, path: str) -> datetime | None:
        """Return when an object was written, UTC; None where there is none."""
        try:
            with self._explaining():
                modified: datetime = self._obstore.head(self._readable(), path)["last_modified"]
                return modified
        except _MissingError:
            return None

    def _swap_file(self, folder: Path, path: str, content: bytes, seen: Seen | None) -> Seen | None:
        """Compare and replace under a lock: a folder has no conditional writes."""
        lock = FileLock(folder / f"{path}.lock")
        with self._explaining():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            try:
                with lock.acquire(timeout=_LOCK_SECONDS):
                    there = self.read(path)
                    if (there and there.content) != (seen and seen.content):
                        return None
                    # On the disk before it counts: a power cut would else leave a name without content.
                    new = (folder / path).with_name(f".{Path(path).name}.new")  # of who holds the lock
                    new.write_bytes(content)
                    sync(new)
                    new.replace(folder / path)
                    sync((folder / path).parent)
            except Timeout:
                raise BucketError(f"store {self.address}: {lock.lock_file} is held by another process") from None
        return Seen(content, "")

    def _on_disk(self, path: str) -> None:
        if self._folder is not None:
            sync(self._folder / path)
            sync((self._folder / path).parent)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Say in words why a store failed.

        Raises:
            _MissingError: for an object that is not there.
        """
        errors = self._obstore.exceptions
        try:
            yield
        except (errors.AlreadyExistsError, errors.PreconditionError):
            raise
        except (errors.BaseError, OSError, ValueError) as error:
            text = str(error)
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text:
                raise _MissingError(text) from None
            raise BucketError(f"store {self.address} {self._why(error, text)}") from None

    def _why(self, error: Exception, text: str) -> str:
        errors = self._obstore.exceptions
        short = " ".join(text.partition("Debug source")[0].split())
        short = short if len(short) <= _SHOWN else f"{short[:_SHOWN]}…"
        if "NoSuchBucket" in text:
            return "is not there: make the bucket, or correct HEATMAP_STORE"
        if _ROLE in text:
            return (
                "has no credentials here, and this machine has no role at Amazon: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
        if isinstance(error, (errors.PermissionDeniedError, errors.UnauthenticatedError)) or "403 Forbidden" in text:
            return (
                "refuses these credentials: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what they may do "
                f"there ({short})"
            )
        if self._folder is not None:
            return f"cannot be read or written ({short}); make room, or correct HEATMAP_STORE"
        return f"does not answer as it should at {self._endpoint or 'AWS'}; run again when it does ({short})"


def _named(variables: Sequence[str], allowed: re.Pattern[str], kind: str) -> str:
    """Return what the first of the variables says that says something, '' where none does.

    Raises:
        BucketError: if it is not of that kind, at which obstore would abort; not shown, as it may hold a password.
    """
    name, value = next(((name, value) for name in variables if (value := os.environ.get(name))), ("", ""))
    if value and not allowed.fullmatch(value):
        raise BucketError(f"{name} is not {kind}; correct it")
    return value


class _MissingError(Exception):
    """An object that is not there."""
