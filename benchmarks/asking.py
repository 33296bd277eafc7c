"""The questions that analysts ask in SQL, over 90 days of one symbol and both models, as one asks them from Python."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from duckdb import DuckDBPyRelation

from benchmarks import market
from benchmarks.measure import Measured, Setting, repeat, row
from benchmarks.storage import commit, compute
from heatmap_pipeline.market.archive import ArchiveReader, read_many
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import SymbolRecord, put_symbol, save_raw
from heatmap_pipeline.store.warehouse import Warehouse

QUESTIONS = {
    "liquidations per hour": "FROM liquidations_hourly {of}",
    "largest bucket per day": "SELECT CAST(timestamp AS DATE) AS day, "
    "arg_max(price_bucket, long_volume + short_volume), max(long_volume + short_volume) FROM heatmap {of} GROUP BY day",
    "lives of bands": "FROM band_lives {of}",
    "zones per day": "FROM daily_zones {of}",
    "hits of zones": "FROM zone_hits {of}",
    "located share per day": "FROM located_shares {of}",
    "leverage mix per day": "FROM leverage_mix {of}",
    "parameters": "FROM model_parameters {of}",
    "newest map": "FROM liquidation_map {of}",
    "heatmap, numbers": "SELECT state_at, price_bucket, long_volume, short_volume, long_consumed_volume, "
    "short_consumed_volume FROM heatmap {of}",
    "heatmap, all columns": "FROM heatmap {of}",
    "heatmap, all columns, without Arrow": "FROM heatmap {of}",
}
"""Each of one model, to a data frame in less than a second; but for the last, for comparison."""


def ask(setting: Setting) -> Sequence[Measured]:
    """Measure each question, from the query to the data frame."""
    count = setting.pick(90, 5)
    warehouse = Warehouse(setting.home("asked"))
    list(commit(warehouse, compute(count)))
    reader = ArchiveReader(market.archive(setting.folder, count))
    candles = list(read_many(lambda day: reader.read_candles(market.SYMBOL, day, 300), market.days(count)))
    with warehouse.connect(market.SYMBOL) as con:
        put_symbol(con, SymbolRecord(market.SYMBOL, 300, 100.0, "demo", True, "USDT"))
        save_raw(con, "candles", candles, "demo")
    publish(warehouse, [market.SYMBOL])
    measured = []
    with warehouse.read() as con:
        for name, question in QUESTIONS.items():
            query = question.format(of=f"WHERE symbol = '{market.SYMBOL}' AND model = 'turnover'")
            to_frame = _by_arrow if name == "heatmap, all columns" else DuckDBPyRelation.df
            rows = len(to_frame(con.sql(query)))
            measured.append(
                row(
                    repeat(lambda: to_frame(con.sql(query)), setting.pick(5, 2), warm_ups=0),  # noqa: B023 - called at once
                    name=f"ask {name}",
                    what=f"{count} days of one symbol and model into a data frame ({rows:,} rows)",
                    limit=_LIMITS.get(name, "reading and grouping the stored rows"),
                    expected=setting.target(1.0) if not name.endswith("without Arrow") else None,
                )
            )
    return measured


def _by_arrow(asked: DuckDBPyRelation) -> pd.DataFrame:
    """Return the frame of `df()`, sooner where it holds millions of texts, as docs/tables.md has it."""
    frame: pd.DataFrame = asked.to_arrow_table().to_pandas()
    return frame


_LIMITS = {
    "lives of bands": "grouping five million cells by bucket and day",
    "zones per day": "joining every peak of a book with its side of the book",
    "heatmap, numbers": "finding the buckets that can hold both sides, then copying five million rows",
    "heatmap, all columns": "finding the buckets that can hold both sides, then copying five million rows",
    "heatmap, all columns, without Arrow": "a Python object for each symbol and each model",
}
