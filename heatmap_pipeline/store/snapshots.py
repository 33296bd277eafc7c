"""Snapshots as objects in and out: for people who compute a heatmap themselves and want it in the same table.

What belongs here: the step-by-step model's snapshots. What does not: the pipeline's own cells, which come as arrays of
a whole day (`chain.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime

import numpy as np
import pyarrow as pa

from heatmap_pipeline.model.levels import HeatmapSnapshot
from heatmap_pipeline.store.sql import (
    Connection,
    arrow,
    column,
    constant,
    insert,
    naive,
    side_column,
    sides,
    timestamps,
    transaction,
)


def save_snapshots(con: Connection, symbol: str, model: str, snapshots: Iterable[HeatmapSnapshot]) -> int:
    """Store snapshots, each in place of what was stored for its timestamp; saving twice changes nothing.

    The pipeline no longer takes the days they fall into for its own, and its next run computes them again.

    Args:
        con: an open warehouse.
        symbol: as the exchange writes it.
        model: name to store them under; another than the pipeline's models keeps the two apart.
        snapshots: in any order; of two with the same timestamp the later one wins.

    Returns:
        the number of cells stored.
    """
    by_time = {snapshot.timestamp: snapshot for snapshot in snapshots}
    if not by_time:
        return 0
    ordered = [by_time[time] for time in sorted(by_time)]
    times = np.array([snapshot.timestamp for snapshot in ordered], dtype=np.int64)
    counts = [len(snapshot) for snapshot in ordered]
    count = sum(counts)
    key = [symbol, model]
    with transaction(con):
        con.register("saved", pa.table({"moment": timestamps(times)}))
        for table in ("liquidation_snapshots", "saved_snapshots"):
            con.execute(
                f"DELETE FROM {table} WHERE symbol = ? AND model = ? "  # noqa: S608 - a table name of ours
                "AND timestamp IN (SELECT moment FROM saved)",
                key,
            )
        con.execute(
            "DELETE FROM snapshot_days WHERE symbol = ? AND model = ? "
            "AND day IN (SELECT CAST(moment AS DATE) FROM saved)",
            key,
        )
        con.unregister("saved")
        insert(
            con,
            "liquidation_snapshots",
            {
                "symbol": constant(symbol, count),
                "model": constant(model, count),
                "timestamp": timestamps(np.repeat(times, counts)),
                "price_bucket": pa.array(np.concatenate([snapshot.price_buckets for snapshot in ordered])),
                "side": sides(np.concatenate([snapshot.sides for snapshot in ordered])),
                "active_volume": pa.array(np.concatenate([snapshot.active_volumes for snapshot in ordered])),
                "consumed_volume": pa.array(np.concatenate([snapshot.consumed_volumes for snapshot in ordered])),
            },
        )
        insert(
            con,
            "saved_snapshots",
            {
                "symbol": constant(symbol, len(ordered)),
                "model": constant(model, len(ordered)),
                "timestamp": timestamps(times),
                "positions_created": pa.array([snapshot.positions_created for snapshot in ordered], pa.int64()),
                "positions_consumed": pa.array([snapshot.positions_consumed for snapshot in ordered], pa.int64()),
                "content_hash": pa.array([_content_hash(snapshot) for snapshot in ordered], pa.string()),
            },
        )
    return count


def _content_hash(snapshot: HeatmapSnapshot) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in (snapshot.price_buckets, snapshot.sides, snapshot.active_volumes, snapshot.consumed_volumes):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def load_snapshots(
    con: Connection, symbol: str, start_time: datetime, end_time: datetime, model: str = "turnover"
) -> list[HeatmapSnapshot]:
    """Return the stored snapshots from start_time to end_time, both included, in time order.

    Cells are sorted by bucket, long before short. Of the pipeline's own snapshots the counts of lots are 0, and one
    without any cell is not returned: only saved ones are remembered when empty.

    Args:
        con: any open database, published or private.
        symbol: as the exchange writes it.
        start_time: UTC, with or without zone.
        end_time: UTC, with or without zone.
        model: name of the model.
    """
    key = [symbol, model, naive(start_time), naive(end_time)]
    where = "WHERE symbol = ? AND model = ? AND timestamp BETWEEN ? AND ?"
    cells = arrow(
        con,
        "SELECT timestamp, price_bucket, side, active_volume, consumed_volume FROM liquidation_snapshots "  # noqa: S608
        f"{where} ORDER BY timestamp, price_bucket, side",
        key,
    )
    saved = arrow(
        con,
        f"SELECT timestamp, positions_created, positions_consumed FROM saved_snapshots {where}",  # noqa: S608 - ours
        key,
    )
    stamps = column(cells, "timestamp", np.int64)
    prices, signs = column(cells, "price_bucket", np.float64), side_column(cells)
    active, consumed = column(cells, "active_volume", np.float64), column(cells, "consumed_volume", np.float64)
    counts = {
        time: (created, died)
        for time, created, died in zip(
            column(saved, "timestamp", np.int64).tolist(),
            saved.column("positions_created").to_pylist(),
            saved.column("positions_consumed").to_pylist(),
            strict=True,
        )
    }
    times = np.union1d(stamps, np.array(list(counts), dtype=np.int64))
    ends = np.searchsorted(stamps, times, side="right")
    starts = np.searchsorted(stamps, times, side="left")
    return [
        HeatmapSnapshot(time, prices[a:b], signs[a:b], active[a:b], consumed[a:b], *counts.get(time, (0, 0)))
        for time, a, b in zip(times.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]
