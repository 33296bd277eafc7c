"""Removing the parts of a store that nobody names: what killed and overtaken workers left, and what was replaced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from heatmap_pipeline.fleet.worker import open_bucket
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.bucket import Bucket
from heatmap_pipeline.store.manifest import MANIFESTS, PARTS, Manifest, ManifestError, is_part, understood


@dataclass(frozen=True)
class Collection:
    """What was removed, in parts and bytes, and how many parts stay."""

    removed: int
    bytes: int
    kept: int


def collect(settings: Settings, grace: timedelta) -> Collection:
    """Remove the parts that no manifest names and that are older than a grace time.

    A worker that is still running has written parts that its manifest does not name yet, and a reader of the manifest
    before reads what it named: the grace time is to be longer than either takes, up to 30 days.

    Args:
        settings: with HEATMAP_STORE.
        grace: counted from when a part was written, by the clock of the store, and from when it was replaced.

    Raises:
        SettingsError: if HEATMAP_STORE is not set.
        BucketError: if the store cannot be read or written; what was removed was garbage.
        ManifestError: if a manifest cannot be used; nothing is removed then.
    """
    bucket = open_bucket(settings)
    if not bucket.is_there():
        return Collection(0, 0, 0)
    since = bucket.clock() - grace
    # Listed before the manifests are read: what is committed meanwhile is named by them.
    there = [entry for entry in bucket.entries(PARTS) if is_part(entry.path)]
    named: set[str] = set()
    for manifest in manifests(bucket).values():
        named |= manifest.paths
        named |= {path for path, replaced in manifest.replaced.items() if replaced > since}
    garbage = {entry.path: entry.bytes for entry in there if entry.path not in named and entry.modified <= since}
    # A worker that computes again what a killed one did writes the same parts again, and names them, perhaps just now.
    removed = bucket.remove_older([*garbage], since)
    bucket.remove_unfinished(PARTS, since)
    return Collection(len(removed), sum(garbage[path] for path in removed), len(there) - len(removed))


def manifests(bucket: Bucket) -> dict[str, Manifest]:
    """Return what is committed, by symbol.

    Raises:
        BucketError: if the store cannot be read.
        ManifestError: if a manifest cannot be used.
    """
    read, damaged = sound_manifests(bucket)
    for error in damaged:
        raise error
    return read


def sound_manifests(bucket: Bucket) -> tuple[dict[str, Manifest], list[ManifestError]]:
    """Return what is committed, by symbol, and what is wrong with the manifests that cannot be used.

    Raises:
        BucketError: if the store cannot be read.
    """
    read: dict[str, Manifest] = {}
    damaged: list[ManifestError] = []
    for entry in sorted(bucket.entries(MANIFESTS), key=lambda entry: entry.path):
        seen = bucket.read(entry.path) if entry.path.endswith(".json") else None
        if seen is not None:
            try:
                manifest = understood(seen.content, f"{bucket.address}/{entry.path}")
                read[manifest.symbol] = manifest
            except ManifestError as error:
                damaged.append(error)
    return read, damaged
