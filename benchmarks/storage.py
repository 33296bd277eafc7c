"""Files in and tables out: reading the archive, committing days, publishing; in this process, without Dagster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

from benchmarks import market
from benchmarks.measure import Measured, Reading, Setting, repeat, row, timed
from heatmap_pipeline.market.archive import ArchiveReader, read_many
from heatmap_pipeline.model.book import DayResult
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.store.days import DayRecord, commit_day, commit_snapshots
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse


def read_files(setting: Setting) -> Sequence[Measured]:
    """Measure reading zips of candles and open interest into clean tables: checksums, clock and repairs included."""
    count = setting.pick(90, 5)
    reader = ArchiveReader(market.archive(setting.folder, count))

    def read() -> None:
        tables = {
            one.day: one.table
            for one in read_many(lambda day: reader.read_candles(market.SYMBOL, day, 300), market.days(count))
        }
        for one in read_many(
            lambda day: reader.read_open_interest(market.SYMBOL, day, tables[day], 300), market.days(count)
        ):
            assert len(one.table) == 288

    return [
        row(
            repeat(read, setting.pick(5, 2)),
            name=f"read {count} days",
            what=f"{2 * count} zips (candles and open interest of 5 min) to clean tables, files already in memory",
            limit="parsing the text (a third), then what pandas costs per small table",
        )
    ]


def write_tables(setting: Setting) -> Sequence[Measured]:
    """Measure the commits of computed days of both models, each in its own transaction, and the publication."""
    count, repetitions = setting.pick(90, 5), setting.pick(3, 1)
    computed = compute(count)
    days, cells, published = [], [], []
    for number in range(repetitions + 1):
        warehouse = Warehouse(setting.home("tables"))
        written = commit(warehouse, computed)
        if number:  # the first one is the warm-up
            days.append(next(written))
            cells.append(next(written))
            published.append(timed(lambda: publish(warehouse, [market.SYMBOL])))  # noqa: B023  # called at once
        else:
            list(written)
        size = warehouse.path.stat().st_size / 1e6
    events = sum(len(result.ledger["book"]) + len(result.opens["side"]) for _, result, _ in computed)
    rows = sum(len(result.cells["side"]) for _, result, _ in computed)
    return [
        row(
            days,
            name=f"commit {count} days",
            what=f"{len(computed)} transactions of events, lots and ledger, both models ({events:,} rows and more)",
            limit="DuckDB: some ms for each of a day's statements and for its commit",
        ),
        row(
            cells,
            name=f"commit {count} days, cells",
            what=f"{len(computed)} transactions of snapshots, both models ({rows:,} rows)",
            limit="DuckDB: compressing and writing the rows",
        ),
        row(
            published,
            name=f"publish {count} days",
            what=f"checkpoint, copy, fsync and replacement of {size:,.0f} MB",
            limit="the disk: the file is written once more",
        ),
    ]


def compute(count: int) -> list[tuple[DayRecord, DayResult, float]]:
    """Return the first days of the demo market of both models, with the bucket of each."""
    start, candles = market.candles(count)
    computed = []
    for model in MODELS:
        parameters = market.parameters(model)
        state, before = start_state(parameters, start), ""
        for day, part in zip(market.days(count), candles, strict=True):
            result = run_day(parameters, state, part, 900)
            record = _record(model, day, before, result)
            computed.append((record, result, parameters.bucket))
            state, before = result.state, record.state_hash
    return computed


def _record(model: str, day: date, before: str, result: DayResult) -> DayRecord:
    return DayRecord(
        symbol=market.SYMBOL,
        model=model,
        day=day,
        input_hash="",
        previous_hash=before,
        state_hash=result.state.hash(),
        parameters=market.parameters(model).to_json(),
        repairs={},
        provisional=False,
        state={},
        created_at=datetime.now(UTC),
    )


def commit(warehouse: Warehouse, computed: Sequence[tuple[DayRecord, DayResult, float]]) -> Iterator[Reading]:
    """Commit all days, then all cells, as the two assets of the pipeline do; yield the time of each."""

    def days() -> None:
        with warehouse.connect() as con:
            for record, result, _ in computed:
                commit_day(con, record, result)

    def cells() -> None:
        with warehouse.connect() as con:
            for record, result, bucket in computed:
                commit_snapshots(
                    con, record.symbol, record.model, record.day, record.state_hash, 900, result.cells, bucket
                )

    yield timed(days)
    yield timed(cells)
