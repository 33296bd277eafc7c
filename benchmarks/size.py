"""How much room a year of one symbol takes in a database, and which tables take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from benchmarks import market
from benchmarks.measure import Measured, Setting
from benchmarks.storage import cells_of, each_day
from heatmap_pipeline.market.archive import ArchiveReader
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.store.commit import commit_cells, commit_days
from heatmap_pipeline.store.raw import save_raw
from heatmap_pipeline.store.sql import Connection, rows
from heatmap_pipeline.store.warehouse import Warehouse

_KEPT = 90
"""Days of cells of the second row."""

_BLOCKS = """
SELECT count(DISTINCT block)
FROM (SELECT unnest(list_prepend(block_id, additional_block_ids)) AS block FROM pragma_storage_info(?))
WHERE block >= 0
"""

_TOGETHER = 30
"""Days that are committed in one transaction."""


def symbol_year(setting: Setting) -> Sequence[Measured]:
    """Measure the file of one symbol and year, both models: with the cells of all days, and of the newest."""
    count = setting.pick(365, 5)
    kept = setting.pick(_KEPT, 2)
    whole, short = (Warehouse(setting.home(name)) for name in ("year", "kept"))
    days = market.days(count)
    for warehouse in (whole, short):
        _store_raw(setting, warehouse, count)
    for model in MODELS:
        computed = each_day(model, count)
        while batch := list(islice(computed, _TOGETHER)):
            for warehouse, first in ((whole, days[0]), (short, days[-kept])):
                with warehouse.connect(market.SYMBOL) as con:
                    commit_days(con, [(record, result) for record, result, _ in batch])
                    commit_cells(con, [cells_of(one) for one in batch if one[0].day >= first])
    return [
        _row(setting, whole, f"{count} days, all cells", 270.0),
        _row(setting, short, f"{count} days, cells of {kept}", 100.0),
    ]


def _store_raw(setting: Setting, warehouse: Warehouse, count: int) -> None:
    reader = ArchiveReader(market.archive(setting.folder, count))
    candles = [reader.read_candles(market.SYMBOL, day, 300) for day in market.days(count)]
    samples = [reader.read_open_interest(market.SYMBOL, one.day, one.table, 300) for one in candles]
    with warehouse.connect(market.SYMBOL) as con:
        save_raw(con, "candles", candles, "demo")
        save_raw(con, "open_interest", samples, "demo")


def _row(setting: Setting, warehouse: Warehouse, name: str, expected: float) -> Measured:
    with warehouse.connect(market.SYMBOL) as con:
        con.execute("CHECKPOINT")
        tables = dict(_tables(con))
    size = warehouse.path(market.SYMBOL).stat().st_size / 1e6
    shares = ", ".join(f"{table} {share:.0f}" for table, share in sorted(tables.items(), key=lambda one: -one[1]))
    return Measured(
        name=f"a symbol, {name}",
        what=f"MB of the database once, both models; of which {shares}",
        unit="MB",
        values=(size,),
        limit="numbers whose bits are chance: 7 bytes for each volume of a cell, and for each amount of an event",
        expected=setting.target(expected),
    )


def _tables(con: Connection) -> Iterator[tuple[str, float]]:
    """Yield the tables of more than half a MB with what the blocks take that hold them; small ones share theirs."""
    ((block,),) = rows(con, "SELECT block_size FROM pragma_database_size() LIMIT 1")
    for (name,) in rows(con, "SELECT table_name FROM duckdb_tables() WHERE NOT internal"):
        ((blocks,),) = rows(con, _BLOCKS, [name])
        if blocks * block > 500_000:
            yield name, blocks * block / 1e6
