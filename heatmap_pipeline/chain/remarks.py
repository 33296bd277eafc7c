"""What `heatmap status` tells of the newest day though nothing is wrong: its size, a bucket that does not suit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from heatmap_pipeline.chain.history import closes
from heatmap_pipeline.model.parameters import ModelParameters, bucket_suits, choose_bucket
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store.read import SymbolStatus, newest_size

_MANY_CELLS = 4000
"""A snapshot of BTCUSDT has about 1,000; far more come where the price went through several powers of ten."""


def remarks_on(con: Any, settings: Settings, entry: SymbolStatus) -> Iterator[str]:
    """Yield the lines of `heatmap status` about the newest day of a symbol and model."""
    if entry.model is None or entry.last_day is None:
        return
    cells, low, high = newest_size(con, entry.symbol, entry.model, entry.last_day)
    if cells > _MANY_CELLS:
        yield (
            f"large   {entry.symbol} {entry.model} {entry.last_day}: {cells:,} cells in a snapshot, about 1,000 are "
            f"usual: levels from {low:g} to {high:g} are open at once; HEATMAP_SNAPSHOT_INTERVAL_{entry.symbol}=1h "
            "keeps fewer snapshots"
        )
    record = stored.day_records(con, entry.symbol, entry.model)[entry.last_day]
    ends = closes(record)
    if ends is None:
        return  # of an earlier version, whose parameters need not be readable either
    bucket = ModelParameters.from_json(record.parameters).bucket
    if bucket_suits(bucket, ends[1]):
        return
    following = choose_bucket(ends[1])
    if settings.of(entry.symbol).bucket is not None:
        what = f"HEATMAP_BUCKET_{entry.symbol} fixes it; leave it out, and it follows the price"
    elif following == bucket:
        what = "there is no smaller one"
    else:
        what = f"the day after {entry.last_day} takes {following:g}"
    share = f"{bucket:g} is {100 * bucket / ends[1]:.2g} % of the last price, {ends[1]:g}"
    yield f"bucket  {entry.symbol}: {share}, and 0.02 % to 2 % show its levels well; {what}"
