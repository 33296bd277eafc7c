"""Files in and tables out: reading the archive, committing days, publishing; in this process, without Dagster."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
from pyarrow import csv

from benchmarks import market
from benchmarks.measure import Measured, Reading, Setting, repeat, row, timed, times
from heatmap_pipeline.chain.due import first_due
from heatmap_pipeline.chain.publication import publish_symbols
from heatmap_pipeline.chain.recovery import loss
from heatmap_pipeline.market.archive import ArchiveReader, read_many
from heatmap_pipeline.model.book import DayResult
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.commit import DayCells, commit_cells, commit_days
from heatmap_pipeline.store.days import DayRecord
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import SymbolRecord, put_symbol
from heatmap_pipeline.store.read import published_histories
from heatmap_pipeline.store.sql import arrow, insert, transaction
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.symbols import contract_of


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

    floor_name, floor = _least_reading(market.archive(setting.folder, count))
    taken, least = (repeat(what, setting.pick(5, 2)) for what in (read, floor))
    return [
        row(
            taken,
            name=f"read {count} days",
            what=f"{2 * count} zips (candles and open interest of 5 min) to clean tables, files already in memory",
            limit="what pandas costs per small table (a third), then parsing the text",
        ),
        times(
            taken,
            least,
            name="read, times the least",
            what=f"processor time against {floor_name}",
            limit="checks, repairs and hashes, and a table of pandas for each file",
            expected=setting.target(6.0),
        ),
    ]


def _least_reading(root: Path) -> tuple[str, Callable[[], object]]:
    """Return the least that reading the files takes, and what it is: inflating and parsing, nothing looked at.

    Polars parses the files of a kind as one text; where it is not installed, Arrow parses a file at a time.
    """
    files = sorted(root.rglob("*.zip"))

    def inflated() -> Iterator[bytes]:
        for path in files:
            with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
                yield archive.read(archive.namelist()[0])

    try:
        polars = import_module("polars")  # none of the product's packages
    except ImportError:
        options = csv.ReadOptions(use_threads=False)
        return "inflate + pyarrow, a file at a time", lambda: [
            csv.read_csv(pa.BufferReader(data), read_options=options) for data in inflated()
        ]

    def parsed() -> None:
        texts: dict[bytes, list[bytes]] = {}
        for data in inflated():
            header, _, lines = data.partition(b"\n")
            texts.setdefault(header, []).append(lines)
        for parts in texts.values():
            polars.read_csv(io.BytesIO(b"".join(parts)), has_header=False, infer_schema_length=None)

    return "inflate + polars, all files at once", parsed


def write_tables(setting: Setting) -> Sequence[Measured]:
    """Measure the commits of computed days of both models, all in one transaction, and the publication."""
    count, repetitions = setting.pick(90, 5), setting.pick(3, 1)
    computed = compute(count)
    days, cells, published = [], [], []
    days_in_bulk, cells_in_bulk = [], []
    for number in range(repetitions + 1):
        warehouse = Warehouse(setting.home("tables"))
        written = commit(warehouse, computed)
        if number:  # the first one is the warm-up
            days.append(next(written))
            cells.append(next(written))
            published.append(timed(lambda: publish(warehouse, [market.SYMBOL])))  # noqa: B023  # called at once
            bulk = _in_bulk(warehouse, Warehouse(setting.home("bulk")))
            days_in_bulk.append(next(bulk))
            cells_in_bulk.append(next(bulk))
        else:
            list(written)
        size = warehouse.path(market.SYMBOL).stat().st_size / 1e6
    events = sum(len(result.ledger["book"]) + len(result.opens["side"]) for _, result, _ in computed)
    rows = sum(len(result.cells["side"]) for _, result, _ in computed)
    return [
        row(
            days,
            name=f"commit {count} days",
            what=f"events, lots and ledger of {len(computed)} days, one transaction ({events:,} rows and more)",
            limit="DuckDB: compressing and writing the rows",
        ),
        row(
            cells,
            name=f"commit {count} days, cells",
            what=f"snapshots of {len(computed)} days of models in one transaction ({rows:,} rows)",
            limit="DuckDB: compressing and writing the rows",
        ),
        *(
            times(
                taken,
                least,
                name=f"commit {what}, times a bulk insert",
                what="processor time against the same rows from Arrow in one transaction",
                limit="making rows of arrays, then what is looked up and deleted",
                expected=setting.target(2.5),
            )
            for what, taken, least in (("days", days, days_in_bulk), ("cells", cells, cells_in_bulk))
        ),
        row(
            published,
            name=f"publish {count} days",
            what=f"checkpoint, copy, fsync and replacement of {size:,.0f} MB",
            limit="the disk: the file is written once more",
        ),
    ]


def _in_bulk(source: Warehouse, target: Warehouse) -> Iterator[Reading]:
    """Insert what a database holds of days, then of cells, into a new one from Arrow; yield the time of each."""
    for names in (("position_events", "open_positions", "book_ledger", "heatmap_days"), ("liquidation_snapshots",)):
        with source.connect(market.SYMBOL) as con:
            tables = {name: arrow(con, f"FROM {name}") for name in names}
        with target.connect(market.SYMBOL):
            pass

        def write() -> None:
            with target.connect(market.SYMBOL) as con, transaction(con):
                for name, table in tables.items():  # noqa: B023  # called at once
                    insert(con, name, dict(zip(table.column_names, table.columns, strict=True)))

        yield timed(write)


def keep_books(setting: Setting) -> Sequence[Measured]:
    """Measure what a refresh of one day asks and publishes, of each of many symbols and of a single one."""
    days = setting.pick(1095, 30)
    crowd = setting.pick(20, 3)
    alone, among = (_books_of(setting, symbols, days, setting.pick(5, 1)) for symbols in (1, crowd))
    what = f"histories of {days:,} days, both models: what is due, lost and published, and the publication of a new day"
    single, many = (row(readings, name="", what="", limit="") for readings in (alone, among))
    return [
        row(
            alone,
            name="bookkeeping of a symbol alone",
            what=what,
            unit="ms",
            per=1e3,
            limit="DuckDB: some ms for each opening of a file",
        ),
        row(
            among,
            name=f"bookkeeping of a symbol among {crowd}",
            what=f"the same, per symbol; processor time {many.cpu_value / single.cpu_value:.2f} times that alone",
            unit="ms",
            per=1e3,
            limit="the same, and the small tables of all symbols read once a run",
        ),
    ]


_CHAIN = """
INSERT INTO heatmap_days BY NAME
SELECT $name AS symbol, model, CAST(day AS DATE) AS day, '' AS input_hash, '' AS previous_hash,
    md5($name || model || day) AS state_hash, '{}' AS parameters, '{}' AS repairs, false AS provisional,
    '{"carried": {}}' AS state, now()::TIMESTAMP AS created_at
FROM (SELECT unnest(['turnover', 'delta']) AS model) AS models,
    (SELECT unnest(range(DATE '2021-01-01', DATE '2021-01-01' + $days::INTEGER, INTERVAL 1 DAY)) AS day) AS days
"""
_RAW = """
INSERT INTO raw_days
SELECT $name, kind, CAST(day AS DATE), md5($name || kind || day), 300, 288, '{}', '{}', 'demo', now()::TIMESTAMP
FROM (SELECT unnest(['candles', 'open_interest']) AS kind) AS kinds,
    (SELECT unnest(range(DATE '2021-01-01', DATE '2021-01-01' + $days::INTEGER, INTERVAL 1 DAY)) AS day) AS days
"""
_NEW_DAY = "UPDATE heatmap_days SET state_hash = ? WHERE day = (SELECT max(day) FROM heatmap_days)"


def _books_of(setting: Setting, count: int, days: int, repetitions: int) -> list[Reading]:
    """Return what one refresh of so many symbols takes, per symbol."""
    symbols = tuple(f"S{number}USDT" for number in range(count))
    settings = load_settings(home=setting.home(f"books{count}"), source="demo", symbols=symbols)
    warehouse = Warehouse(settings.home)
    for symbol in symbols:
        with warehouse.connect(symbol) as con:
            put_symbol(con, SymbolRecord.of(contract_of(symbol), 300, 10.0, "demo", simulated=True))
            for statement in (_CHAIN, _RAW):
                con.execute(statement, {"name": symbol, "days": days})
    publish(warehouse, symbols)

    def refresh() -> None:
        for symbol in symbols:
            published_histories(warehouse, [symbol], any_version=True)  # before its files are read
            with warehouse.connect(symbol) as con:
                loss(con, settings, symbol)  # by the check of the chain
        publish_symbols(settings, warehouse, symbols)
        for symbol in symbols:
            histories = published_histories(warehouse, [symbol])
            with warehouse.connect(symbol) as con:  # by the check of what is up to date
                first_due(con, settings, symbol, date(2021, 1, 1), histories)

    readings = []
    for number in range(repetitions + 1):
        for symbol in symbols:
            with warehouse.connect(symbol) as con:
                con.execute(_NEW_DAY, [str(number)])
        taken = timed(refresh)
        if number:  # the first one is the warm-up
            readings.append(Reading(taken.wall / count, taken.cpu / count))
    return readings


Computed: TypeAlias = tuple[DayRecord, DayResult, float]
"""A day of a model, and its bucket."""


def compute(count: int) -> list[Computed]:
    """Return the first days of the demo market of both models."""
    return [one for model in MODELS for one in each_day(model, count)]


def each_day(model: str, count: int) -> Iterator[Computed]:
    """Yield the first days of the demo market of a model."""
    start, candles = market.candles(count)
    parameters = market.parameters(model)
    state, before = start_state(parameters, start), ""
    for day, part in zip(market.days(count), candles, strict=True):
        result = run_day(parameters, state, part, 900)
        record = _record(model, day, before, result)
        yield record, result, parameters.bucket
        state, before = result.state, record.state_hash


def cells_of(computed: Computed) -> DayCells:
    """Return the cells of a computed day as they are committed."""
    record, result, bucket = computed
    return DayCells(record.symbol, record.model, record.day, record.state_hash, 900, result.cells, bucket)


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


def commit(warehouse: Warehouse, computed: Sequence[Computed]) -> Iterator[Reading]:
    """Commit all days, then all cells, as the two assets of the pipeline do; yield the time of each."""

    def days() -> None:
        with warehouse.connect(market.SYMBOL) as con:
            commit_days(con, [(record, result) for record, result, _ in computed])

    def cells() -> None:
        with warehouse.connect(market.SYMBOL) as con:
            commit_cells(con, [cells_of(one) for one in computed])

    yield timed(days)
    yield timed(cells)
