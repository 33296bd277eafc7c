"""Events of Dagster's runs as rows of its SQLite tables, many in one statement.

What belongs here: which rows an event makes, as Dagster's own storage makes them one event at a time. What does not: in
which transaction (`instance.py`). `test_instance.py` holds every table against what Dagster writes itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import dagster as dg
from sqlalchemy.engine import Connection

CALLED = {
    "_event_to_row": 1,
    "_get_asset_entry_values": 3,
    "_has_asset_key_col_on_connection": 2,
    "_store_asset_event_tags": 3,
    "prepare_insert_event": 1,
    "store_asset_check_event": 2,
}
"""The storage's methods that are called, and with how many arguments."""

NAMED = ("ASSET_CHECK_EVENTS", "ASSET_EVENTS", "EVENT_TYPE_TO_PIPELINE_RUN_STATUS", "INDEX_SHARD_NAME")
"""What its module has: the kinds of events that are asked for across runs, and where those are kept."""

Row: TypeAlias = dict[str, Any]
Numbered: TypeAlias = tuple[dg.EventLogEntry, Row, int]
"""An event, its row and the number of that."""


def names_of(storage: Any) -> dict[str, Any]:
    """Return the names of `NAMED` that the storage's module has."""
    there = vars(sys.modules[type(storage).__module__])
    return {name: there[name] for name in NAMED if name in there}


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
    log, names = storage.prepare_insert_event(events[0]).table, names_of(storage)
    for run_id in dict.fromkeys(row["run_id"] for row in rows):
        with connect(run_id) as con:
            con.execute(log.insert(), [row for row in rows if row["run_id"] == run_id])
    of_checks, of_assets, of_runs, index = (names[name] for name in NAMED)
    pairs = zip(events, rows, strict=True)
    shared = [(event, row) for event, row in pairs if _kind(event) in {*of_assets, *of_checks, *of_runs}]
    if not shared:
        return
    with connect(index) as con:
        (first,) = con.execute(log.insert(), shared[0][1]).inserted_primary_key or (0,)
        # From its first row on nobody else writes to the file, so the numbers that follow are free.
        numbered = [(event, row, first + place) for place, (event, row) in enumerate(shared)]
        if rest := [{**row, "id": number} for _, row, number in numbered[1:]]:
            con.execute(log.insert(), rest)
        tables = log.metadata.tables
        _store_assets(storage, con, tables["asset_keys"], [each for each in numbered if _kind(each[0]) in of_assets])
        _store_checks(
            storage, con, tables["asset_check_executions"], [each for each in numbered if _kind(each[0]) in of_checks]
        )


def _kind(event: dg.EventLogEntry) -> Any:
    return event.dagster_event_type if event.is_dagster_event else None


def _store_assets(storage: Any, con: Connection, assets: Any, events: Sequence[Numbered]) -> None:
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
        if values and not con.execute(assets.update().where(assets.c.asset_key == key).values(**values)).rowcount:
            con.execute(assets.insert(), {"asset_key": key, **values})


def _store_checks(storage: Any, con: Connection, checks: Any, events: Sequence[Numbered]) -> None:
    """Store what is known of checks: that they are planned, for each day, or how they ended."""
    planned = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
    for event, row, number in events:
        if _kind(event) == planned and storage.supports_asset_checks:
            con.execute(checks.insert(), list(_planned(event, row, number)))
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
            "execution_status": "PLANNED",
            "evaluation_event": row["event"],
            "evaluation_event_timestamp": row["timestamp"],
            "evaluation_event_storage_id": number,
        }
