"""What `heatmap status` says of a store: per symbol and model its days, and how much is kept of it."""

from __future__ import annotations

from collections.abc import Iterator

from heatmap_pipeline.commands import command
from heatmap_pipeline.fleet.collect import sound_manifests
from heatmap_pipeline.fleet.worker import open_bucket
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.manifest import ManifestError


def store_lines(settings: Settings) -> Iterator[str]:
    """Yield the lines of the report for what is committed to the store.

    Raises:
        BucketError: if the store cannot be read.
        ManifestError: if a manifest cannot be used, after all that there is to say of the others.
    """
    bucket = open_bucket(settings)
    committed, damaged = sound_manifests(bucket)
    yield f"store {bucket.address}"
    if not committed and not damaged:
        yield f"nothing is stored in it yet; begin with `{command(settings, 'run', 'SYMBOL', days=('DAY', 'DAY'))}`"
        return
    layout = "{:<12} {:<9} {:>5} {:<10} {:<10} {:>6} {:>9}  {}"
    yield layout.format("symbol", "model", "days", "first", "last", "parts", "MB", "committed (UTC)")
    for symbol, manifest in committed.items():
        for model, days in manifest.days.items():
            size, moment = f"{manifest.size / 1e6:.1f}", f"{manifest.committed:%Y-%m-%d %H:%M}"
            yield layout.format(
                symbol,
                model,
                days.count,
                str(days.first),
                str(days.last),
                len(manifest.parts),
                size,
                moment + " simulated" * manifest.simulated,
            )
    if damaged:
        raise ManifestError("; ".join(map(str, damaged)))
