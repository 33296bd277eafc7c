"""The questions that analysts ask in SQL, over 90 days of one symbol and both models, as one asks them from Python."""

from __future__ import annotations

from collections.abc import Sequence

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
}
"""Each of one model; all but the last, which makes millions of texts, are to take less than a second."""


def ask(setting: Setting) -> Sequence[Measured]:
    """Measure each question, from the query to the data frame."""
    count = setting.pick(90, 5)
    warehouse = Warehouse(setting.home("asked"))
    list(commit(warehouse, compute(count)))
    reader = ArchiveReader(market.archive(setting.folder, count))
    candles = list(read_many(lambda day: reader.read_candles(market.SYMBOL, day, 300), market.days(count)))
    with warehouse.connect() as con:
        put_symbol(con, SymbolRecord(market.SYMBOL, 300, 100.0, "demo", True, "USDT"))
        save_raw(con, "candles", candles, "demo")
    publish(warehouse, [market.SYMBOL])
    measured = []
    with warehouse.read() as con:
        for name, question in QUESTIONS.items():
            query = question.format(of=f"WHERE symbol = '{market.SYMBOL}' AND model = 'turnover'")
            rows = len(con.sql(query).df())
            measured.append(
                row(
                    repeat(lambda: con.sql(query).df(), setting.pick(5, 2), warm_ups=0),  # noqa: B023 - called at once
                    name=f"ask {name}",
                    what=f"{count} days of one symbol and model into a data frame ({rows:,} rows)",
                    limit=_LIMITS.get(name, "reading and grouping the stored rows"),
                    expected=setting.target(1.0) if name != "heatmap, all columns" else None,
                )
            )
    return measured


_LIMITS = {
    "lives of bands": "grouping five million cells by bucket and day",
    "zones per day": "joining every peak of a book with its side of the book",
    "heatmap, numbers": "finding the buckets that can hold both sides, then copying five million rows",
    "heatmap, all columns": "pandas: a Python object for each symbol and model; by way of Arrow a third of it",
}
