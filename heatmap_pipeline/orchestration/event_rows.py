"""Events of Dagster's runs as rows of its SQLite tables, many in one statement.

What belongs here: which rows an event makes, as Dagster's own storage makes them one event at a time. What does not: in
which transaction (`instance.py`). `test_instance.py` holds every table against what Dagster writes itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg
from dagster._core.events import ASSET_CHECK_EVENTS, ASSET_EVENTS, EVENT_TYPE_TO_PIPELINE_RUN_STATUS
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, AssetKeyTable, SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from sqlalchemy.engine import Connection

CALLED = {
    "_event_to_row": 1,
    "_get_asset_entry_values": 3,
    "_has_asset_key_col_on_connection": 2,
    "_store_asset_event_tags": 3,
    "store_asset_check_event": 2,
}
"""The storage's methods that are called, and with how many arguments."""

Row = dict[str, Any]
Numbered = tuple[dg.EventLogEntry, Row, int]
"""An event, its row and the number of that."""


def store(storage: Any, connect: Callable[[str], AbstractContextManager[Connection]], events: Sequence[Any]) -> None:
    """Store events in the files of their runs and, those that are asked for across runs, in the index.

    Args:
        storage: of Dagster; its methods say what stands in a row.
        connect: opens a file by its name: that of a run is its id.
        events: of any runs, in order.

    Raises:
        SQLAlchemyError: if a file cannot be written.
    """
    rows: list[Row] = [storage._event_to_row(event) for event in events]
    for run_id in dict.fromkeys(row["run_id"] for row in rows):
        with connect(run_id) as con:
            con.execute(SqlEventLogStorageTable.insert(), [row for row in rows if row["run_id"] == run_id])
    shared = [(event, row) for event, row in zip(events, rows, strict=True) if _is_asked_for_across_runs(event)]
    if not shared:
        return
    with connect(INDEX_SHARD_NAME) as con:
        (first,) = con.execute(SqlEventLogStorageTable.insert(), shared[0][1]).inserted_primary_key or (0,)
        # From its first row on nobody else writes to the file, so the numbers that follow are free.
        numbered = [(event, row, first + place) for place, (event, row) in enumerate(shared)]
        if rest := [{**row, "id": number} for _, row, number in numbered[1:]]:
            con.execute(SqlEventLogStorageTable.insert(), rest)
        _store_assets(storage, con, [one for one in numbered if _kind(one[0]) in ASSET_EVENTS])
        _store_checks(storage, con, [one for one in numbered if _kind(one[0]) in ASSET_CHECK_EVENTS])


def _kind(event: dg.EventLogEntry) -> Any:
    return event.dagster_event_type if event.is_dagster_event else None


def _is_asked_for_across_runs(event: dg.EventLogEntry) -> bool:
    kind = _kind(event)
    return kind in ASSET_EVENTS or kind in ASSET_CHECK_EVENTS or kind in EVENT_TYPE_TO_PIPELINE_RUN_STATUS


def _store_assets(storage: Any, con: Connection, events: Sequence[Numbered]) -> None:
    """Store the tags of events of assets, and what is the newest of each asset."""
    if not events:
        return
    storage._store_asset_event_tags(con, [event for event, _, _ in events], [number for _, _, number in events])
    has_times = storage._has_asset_key_col_on_connection(con, "last_materialization_timestamp")
    # An event of a kind replaces everything that the one before it of that kind has written.
    newest = {(row["asset_key"], _kind(event)): (event, number) for event, row, number in events}
    entries: dict[str, Row] = {}
    for (key, _), (event, number) in sorted(newest.items(), key=lambda item: item[1][1]):
        if key is not None:
            entries.setdefault(key, {}).update(storage._get_asset_entry_values(event, number, has_times))
    for key, values in entries.items():
        if not values:
            continue
        update = AssetKeyTable.update().where(AssetKeyTable.c.asset_key == key)
        if not con.execute(update.values(**values)).rowcount:
            con.execute(AssetKeyTable.insert(), {"asset_key": key, **values})


def _store_checks(storage: Any, con: Connection, events: Sequence[Numbered]) -> None:
    """Store what is known of checks: that they are planned, for each day, or how they ended."""
    planned = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    for event, row, number in events:
        if _kind(event) == planned and storage.supports_asset_checks:
            con.execute(AssetCheckExecutionsTable.insert(), list(_planned(event, row, number)))
        else:
            storage.store_asset_check_event(event, number)


def _planned(event: dg.EventLogEntry, row: Row, number: int) -> Iterator[Row]:
    check: Any = event.get_dagster_event().event_specific_data
    subset = check.partitions_subset
    for partition in subset.get_partition_keys() if subset else [None]:
        yield {
            "asset_key": check.asset_key.to_string(),
            "check_name": check.check_name,
            "partition": partition,
            "run_id": row["run_id"],
            "execution_status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "evaluation_event": row["event"],
            "evaluation_event_timestamp": row["timestamp"],
            "evaluation_event_storage_id": number,
        }
