"""How the newest run went, in a small file of the home: for who watches it without knowing Dagster.

Each run replaces it when it ends, however it ended; one that is killed leaves the file of the run before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.files import remove_half_written, replace_file
from heatmap_pipeline.store.sql import naive, parsed, rows
from heatmap_pipeline.store.warehouse import FileError, Warehouse

_NAME = "last_run.json"

_PATIENCE = 10.0
"""Seconds to wait for the warehouse; without it the repaired rows are not told."""


@dataclass(frozen=True)
class LastRun:
    """A run that has ended.

    Attributes:
        began: with the time it waited for another run.
        ended: both UTC.
        failed: whether the command ends with 1, or the run of the UI as failed.
        symbols: that it was about.
        failures: those of them that failed, as far as that is known.
        repaired: rows repaired in the files it read anew, by symbol.
    """

    began: datetime
    ended: datetime
    failed: bool
    symbols: Sequence[str]
    failures: Sequence[str] = ()
    repaired: Mapping[str, int] = field(default_factory=dict)


def write_last_run(
    home: Path,
    symbols: Collection[str],
    failures: Collection[str],
    *,
    began: datetime,
    failed: bool,
    ended: datetime | None = None,
    count: bool = True,
) -> None:
    """Remember a run that has ended; where that cannot be written or counted, the run is no worse for it.

    One that ended before the run that is remembered is not.

    Args:
        home: of the run.
        symbols: that it was about.
        failures: those of them that failed.
        began: with the time it waited for another run, UTC.
        failed: whether it failed.
        ended: UTC; now, if it is not given.
        count: whether to look into the warehouse for what was repaired.
    """
    ended = ended or datetime.now(UTC)
    newest = read_last_run(home)
    if newest is not None and newest.ended > ended:
        return
    repaired: dict[str, int] = {}
    with suppress(HeatmapError, OSError):
        warehouse = Warehouse(home, lock_timeout=_PATIENCE)
        if count and warehouse.symbols():
            repaired = _repaired(warehouse, symbols, began)
    content = {
        "began": began.isoformat(),
        "ended": ended.isoformat(),
        "failed": failed,
        "symbols": sorted(symbols),
        "failures": sorted(failures),
        "repaired": repaired,
    }
    with suppress(OSError):
        replace_file(home / _NAME, (json.dumps(content, indent=1) + "\n").encode())
        remove_half_written(home)


def read_last_run(home: Path) -> LastRun | None:
    """Return how the newest run went; None where there was none, or the file says nothing."""
    try:
        content = json.loads((home / _NAME).read_bytes())
        return LastRun(
            datetime.fromisoformat(content["began"]),
            datetime.fromisoformat(content["ended"]),
            bool(content["failed"]),
            [str(symbol) for symbol in content["symbols"]],
            [str(symbol) for symbol in content["failures"]],
            {str(symbol): int(count) for symbol, count in content["repaired"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _repaired(warehouse: Warehouse, symbols: Collection[str], since: datetime) -> dict[str, int]:
    """Return how many rows were repaired since then; nothing of a symbol whose file cannot be used."""
    counts: dict[str, int] = {}
    for symbol in sorted(symbols):
        with suppress(FileError), warehouse.look(symbol) as con:
            query = "SELECT repairs FROM raw_days WHERE symbol = ? AND created_at >= ?"
            repairs = [parsed(text) for (text,) in rows(con, query, [symbol, naive(since)])]
            counts[symbol] = sum(int(count) for of_day in repairs for count in of_day.values())
    return counts
