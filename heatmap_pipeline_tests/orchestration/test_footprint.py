"""A refresh of one day is about that day: it writes no other, checks no other, and publishes no other anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from heatmap_pipeline.orchestration import checks
from heatmap_pipeline.store import commit, spare
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.homes import BTC, ask, compute, created, day, real, run_job

ABOUT_ALL_DAYS = {
    "bucket_fits",
    "chain_unbroken",
    "days_believable",
    "days_whole",
    "snapshots_current",
    "up_to_date",
}
"""Checks that compare what is known of each day, a row a day, and read none of its rows."""

TABLES = {
    "raw_candles": "day",
    "raw_open_interest": "day",
    "open_positions": "day",
    "raw_liquidations": "day",
    "recorded": "day",
    "raw_days": "day",
    "heatmap_days": "day",
    "snapshot_days": "day",
    "lot_days": "day",
    "position_events": "timestamp",
    "book_ledger": "timestamp",
    "liquidation_snapshots": "timestamp",
}


def test_a_refresh_of_one_day_touches_that_day_alone(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = compute(real(tmp_path, archive, models=("delta",)), 1, 3)
    before, made = rows_before(settings, 4), created(settings)
    looked_at: dict[str, set[date]] = {}
    deleted: set[date] = set()

    def result(*args: Any) -> Any:
        rule, first, last = args[4:]
        if rule.name not in ABOUT_ALL_DAYS:
            looked_at.setdefault(rule.name, set()).update((first, last))
        return whole_result(*args)

    def delete(con: Any, name: str, days: Sequence[Any]) -> None:
        deleted.update(one.day for one in days)
        delete_days(con, name, days)

    delete_days = commit._delete_days
    whole_result = checks._result
    monkeypatch.setattr(checks, "_result", result)
    monkeypatch.setattr(commit, "_delete_days", delete)
    run_job(settings, 4).ok()
    assert rows_before(settings, 4) == before, "to the last bit, and when they were made"
    assert {key: when for key, when in created(settings).items() if key[2] < day(4)} == made
    assert deleted == {day(4)}
    assert len(looked_at) == len(checks.RULES) - len(ABOUT_ALL_DAYS)
    assert set.union(*looked_at.values()) == {day(4)}
    assert not publish(Warehouse(settings.home), [BTC]).changed
    assert not spare.spare_path(Warehouse(settings.home)).exists(), "a small home holds each row twice, not three times"


def rows_before(settings: Any, number: int) -> dict[str, list[tuple[Any, ...]]]:
    """Return, per table, the number of rows of the days before one, and a sum over all their values."""
    return {
        table: ask(
            settings,
            f"SELECT count(*), sum(hash(t)::HUGEINT), sum(rowid) FROM {table} AS t "
            f"WHERE CAST({column} AS DATE) < '{day(number)}'",
        )
        for table, column in TABLES.items()
    }
