"""What pictures and `heatmap status` ask of a database, published or private.

What belongs here: windows of candles and cells, and a summary per symbol. Times come back as the tables
hold them: UTC without zone. What does not: anything that writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pandas as pd

from heatmap_pipeline.market.tables import CANDLE_COLUMNS
from heatmap_pipeline.model.book import Floats, Ints, Sides
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.raw import SymbolRecord, clean_frame, get_symbol
from heatmap_pipeline.store.sql import Connection, arrow, column, naive, rows, scalar, side_column
from heatmap_pipeline.store.warehouse import READER_PREFIX, StoreError, Warehouse


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of a window, all arrays of shape (n,), sorted by time, bucket, long before short.

    Attributes:
        timestamps: start of each cell's step, microseconds since 1970-01-01 UTC.
        price_buckets: lower edges, USDT.
        sides: +1 long, -1 short.
        active: USDT open at the end of the last snapshot of the step.
        consumed: USDT liquidated within the step.
    """

    timestamps: Ints
    price_buckets: Floats
    sides: Sides
    active: Floats
    consumed: Floats

    def __len__(self) -> int:
        return len(self.timestamps)

    def indices(self, bucket: float) -> Ints:
        """Return each cell's bucket as an integer: lower edge / bucket."""
        return np.rint(self.price_buckets / bucket).astype(np.int64)


@dataclass(frozen=True)
class SymbolStatus:
    """What is stored of one symbol and model.

    Attributes:
        symbol: as the exchange writes it.
        model: None where only raw data are stored.
        source: where the data come from; '' where the symbol is not registered.
        simulated: whether the market is made up.
        first_day: first computed day.
        last_day: last computed day.
        days: number of computed days.
        gaps: days between the first and the last that are not computed.
        parameters: the JSON each day was computed with; the caller judges whether it still wants those.
        provisional_days: days that were not over when they were computed.
        failed: (stage, day, message) of failures not yet repaired, of the symbol.
        coverage: share of the open interest located in the newest book, 0..1.
        newest_candle: start of the newest raw candle.
    """

    symbol: str
    model: str | None
    source: str
    simulated: bool
    first_day: date | None
    last_day: date | None
    days: int
    gaps: tuple[date, ...]
    parameters: dict[date, str]
    provisional_days: tuple[date, ...]
    failed: tuple[tuple[str, date, str], ...]
    coverage: float
    newest_candle: datetime | None


def load_candles_window(con: Connection, symbol: str, start: datetime, end: datetime) -> pd.DataFrame:
    """Return the clean candles that open in [start, end): `CANDLE_COLUMNS`, `open_time` UTC without zone."""
    found = arrow(
        con,
        f"SELECT {', '.join(CANDLE_COLUMNS)} FROM raw_candles "  # noqa: S608 - names of ours
        "WHERE symbol = ? AND open_time >= ? AND open_time < ? ORDER BY open_time",
        [symbol, naive(start), naive(end)],
    )
    return clean_frame(found, CANDLE_COLUMNS)


def load_cells(con: Connection, symbol: str, model: str, start: datetime, end: datetime, step_seconds: int) -> Cells:
    """Return the cells of the snapshots in [start, end), sampled: last existing state of each step, sum of consumed.

    An interval whose book is empty exists too, where its candles do.

    Raises:
        StoreError: if a stored snapshot interval does not divide the step.
    """
    window = [symbol, model, naive(start), naive(end)]
    intervals = [
        value
        for (value,) in rows(
            con,
            "SELECT DISTINCT interval_seconds FROM snapshot_days WHERE symbol = ? AND model = ? "
            "AND day >= CAST(? AS DATE) AND CAST(day AS TIMESTAMP) < ? ORDER BY 1",
            window,
        )
    ]
    for interval in intervals:
        if step_seconds % interval:
            raise StoreError(
                f"{symbol} {model}: step {step_seconds} s is not a multiple of the stored snapshots' {interval} s; "
                "choose a longer one, or set HEATMAP_SNAPSHOT_INTERVAL and run again"
            )
    where = "WHERE symbol = ? AND model = ? AND timestamp >= ? AND timestamp < ?"
    if intervals == [step_seconds]:
        query = (
            "SELECT timestamp, price_bucket, side, active_volume AS active, consumed_volume AS consumed "  # noqa: S608
            f"FROM liquidation_snapshots {where} ORDER BY timestamp, price_bucket, side"
        )
        found = arrow(con, query, window)
    else:
        found = arrow(con, _SAMPLED.format(where=where), [step_seconds * 1_000_000, *window, *window, *window])
    return Cells(
        timestamps=column(found, "timestamp", np.int64),
        price_buckets=column(found, "price_bucket", np.float64),
        sides=side_column(found),
        active=column(found, "active", np.float64),
        consumed=column(found, "consumed", np.float64),
    )


_SAMPLED = """
WITH step AS (SELECT CAST(? AS BIGINT) AS us),
cells AS NOT MATERIALIZED (SELECT * FROM liquidation_snapshots {where}),
ledger AS (SELECT DISTINCT timestamp, CAST(timestamp AS DATE) AS day FROM book_ledger {where}),
days AS (
    SELECT l.timestamp, d.interval_seconds * 1000000 AS us FROM ledger AS l
    JOIN snapshot_days AS d ON d.day = l.day WHERE d.symbol = ? AND d.model = ?
    AND CAST(d.day AS TIMESTAMP) + INTERVAL 1 DAY > ? AND CAST(d.day AS TIMESTAMP) < ?
),
instants AS (
    SELECT make_timestamp(epoch_us(timestamp) // us * us) AS timestamp FROM days
    UNION SELECT DISTINCT timestamp FROM cells
),
last AS (
    SELECT epoch_us(i.timestamp) // s.us * s.us AS step_us, max(i.timestamp) AS timestamp
    FROM instants AS i, step AS s GROUP BY 1
),
alive AS (
    SELECT l.step_us, c.price_bucket, c.side, c.active_volume AS active
    FROM cells AS c JOIN last AS l ON c.timestamp = l.timestamp WHERE c.active_volume > 0
),
dead AS (
    SELECT epoch_us(c.timestamp) // s.us * s.us AS step_us, c.price_bucket, c.side,
        sum(c.consumed_volume ORDER BY c.timestamp) AS consumed
    FROM cells AS c, step AS s WHERE c.consumed_volume > 0 GROUP BY 1, 2, 3
)
SELECT make_timestamp(step_us) AS timestamp, price_bucket, side,
    coalesce(active, 0) AS active, coalesce(consumed, 0) AS consumed
FROM alive FULL JOIN dead USING (step_us, price_bucket, side)
ORDER BY step_us, price_bucket, side
"""


def coverage(con: Connection, symbol: str, model: str) -> float:
    """Return the share of the open interest located in the newest books (weighted by their totals), 0 if empty."""
    share = scalar(
        con,
        "SELECT sum(located) / nullif(sum(located + unlocated), 0) FROM book_ledger "
        "WHERE symbol = ? AND model = ? AND timestamp = "
        "(SELECT max(timestamp) FROM book_ledger WHERE symbol = ? AND model = ?)",
        [symbol, model, symbol, model],
    )
    return float(share or 0.0)


def status(con: Connection) -> list[SymbolStatus]:
    """Return one entry per symbol and model, and one per symbol of which only raw data or failures are stored."""
    pairs = rows(
        con,
        "WITH models AS (SELECT DISTINCT symbol, model FROM heatmap_days), "
        "names AS (SELECT symbol FROM symbols UNION SELECT symbol FROM raw_days UNION SELECT symbol FROM failed_days "
        "UNION SELECT symbol FROM models) "
        "SELECT n.symbol, m.model FROM names AS n LEFT JOIN models AS m ON n.symbol = m.symbol "
        "ORDER BY n.symbol, m.model DESC",
    )
    return [_status_of(con, symbol, model) for symbol, model in pairs]


def _status_of(con: Connection, symbol: str, model: str | None) -> SymbolStatus:
    record = get_symbol(con, symbol)
    found = rows(
        con,
        "SELECT day, previous_hash, state_hash, parameters, provisional FROM heatmap_days "
        "WHERE symbol = ? AND model = ? ORDER BY day",
        [symbol, model],
    )
    days = [row[0] for row in found]
    return SymbolStatus(
        symbol=symbol,
        model=model,
        source=record.source if record else "",
        simulated=bool(record and record.simulated),
        first_day=days[0] if days else None,
        last_day=days[-1] if days else None,
        days=len(days),
        gaps=missing_days(days),
        parameters={row[0]: row[3] for row in found},
        provisional_days=tuple(row[0] for row in found if row[4]),
        failed=tuple(failed_days(con, symbol)),
        coverage=coverage(con, symbol, model) if model else 0.0,
        newest_candle=scalar(con, "SELECT max(open_time) FROM raw_candles WHERE symbol = ?", [symbol]),
    )


def missing_days(days: Sequence[date]) -> tuple[date, ...]:
    """Return the days between the first and the last that are missing."""
    if not days:
        return ()
    have = set(days)
    span = range((days[-1] - days[0]).days)
    return tuple(day for day in (days[0] + timedelta(days=n) for n in span) if day not in have)


def first_published_day(warehouse: Warehouse) -> date | None:
    """Return the first day in the published database, None where there is none that can be read."""
    if not warehouse.published.exists():
        return None
    try:
        with warehouse.read() as con:
            day: date | None = scalar(con, "SELECT min(day) FROM raw_days")
    except StoreError:
        return None
    return day


@dataclass(frozen=True)
class PublishedHistory:
    """What heatmap.duckdb holds of one symbol.

    Attributes:
        record: what was chosen once for the symbol.
        raw_days: days whose candles it holds.
        days: per model, each computed day with the hash of its state; a day that was not over is left out.
    """

    record: SymbolRecord
    raw_days: frozenset[date]
    days: Mapping[str, Mapping[date, str]]


def published_histories(warehouse: Warehouse, *, any_version: bool = False) -> dict[str, PublishedHistory] | None:
    """Return what is published, by symbol; None where that cannot be read, empty where nothing is published.

    Args:
        warehouse: of the home.
        any_version: read also tables of another version of this program, as far as they are alike.
    """
    if not warehouse.published.exists():
        return {}
    try:
        return _histories(warehouse, any_version)
    except (StoreError, duckdb.Error) as error:
        if "lock on file" not in str(error.__cause__):
            return None
    # Someone has opened it for writing, as the command-line client does unless told otherwise: read a copy.
    with (
        suppress(StoreError, duckdb.Error, OSError),
        TemporaryDirectory(prefix=READER_PREFIX, dir=warehouse.home) as at,
    ):
        copy = Warehouse(Path(at))
        shutil.copyfile(warehouse.published, copy.published)
        return _histories(copy, any_version)
    return None


def _histories(warehouse: Warehouse, any_version: bool) -> dict[str, PublishedHistory]:
    with warehouse.read(any_version=any_version) as con:
        names = [name for (name,) in rows(con, "SELECT symbol FROM symbols ORDER BY symbol")]
        records = {name: get_symbol(con, name) for name in names}
        raw = rows(con, "SELECT DISTINCT symbol, day FROM raw_days WHERE kind = 'candles'")
        days = rows(con, "SELECT symbol, model, day, state_hash FROM heatmap_days WHERE NOT provisional ORDER BY ALL")
    found: dict[str, PublishedHistory] = {}
    for name, record in records.items():
        of_models: dict[str, dict[date, str]] = {}
        for _, model, day, state_hash in (row for row in days if row[0] == name):
            of_models.setdefault(model, {})[day] = state_hash
        if record is not None:
            found[name] = PublishedHistory(record, frozenset(day for symbol, day in raw if symbol == name), of_models)
    return found


def stored_days(con: Connection, symbol: str) -> tuple[date, date]:
    """Return the first and the last stored day of a symbol.

    Raises:
        StoreError: if nothing of it is stored.
    """
    ((first, last),) = rows(con, "SELECT min(day), max(day) FROM raw_days WHERE symbol = ?", [symbol])
    if first is None:
        line = stored_command(con, "run", symbol, days=("DAY", "DAY"))
        raise StoreError(f"{symbol}: nothing is stored yet; run `{line}` first")
    return first, last


def failed_days(con: Connection, symbol: str) -> list[tuple[str, date, str]]:
    """Return stage, day and message of every failure that was not repaired yet, oldest first."""
    found = rows(con, "SELECT stage, day, message FROM failed_days WHERE symbol = ? ORDER BY day, stage", [symbol])
    return [(stage, day, message) for stage, day, message in found]
