"""docs/tables.md: every query of it gives on the real files what is printed below it."""

from __future__ import annotations

import duckdb
import pytest

from heatmap_pipeline_tests._homes import published
from heatmap_pipeline_tests._real_sets import BTC, ETH, RealRuns
from heatmap_pipeline_tests.tables_page import PAGE, output, queries


@pytest.mark.market
@pytest.mark.slow
def test_the_output_of_every_query_is_what_it_gives(run_of: RealRuns) -> None:
    """`python -m heatmap_pipeline_tests.tables_page HOME` writes them anew."""
    documented = queries(PAGE.read_text())
    assert len(documented) >= 7
    with duckdb.connect(str(published(run_of("A").home)), read_only=True) as con:
        for query, shown in documented:
            assert output(con, query) == shown, query


@pytest.mark.market
@pytest.mark.slow
@pytest.mark.parametrize("symbol", [BTC, ETH])
def test_candles_joined_by_the_name_of_an_interval_find_next_to_nothing(run_of: RealRuns, symbol: str) -> None:
    """What stood at the end of an interval is hit by the candles after it, as much as the model says was consumed."""
    query = """
        WITH candles AS (
            SELECT time_bucket(INTERVAL 15 MINUTE, open_time) AS begins, min(low) AS low, max(high) AS high
            FROM raw_candles WHERE symbol = $1 GROUP BY ALL
        ), cells AS (
            SELECT h.*, b.bucket, long_volume + short_volume AS volume FROM heatmap AS h
            JOIN buckets AS b ON b.symbol = h.symbol AND b.model = h.model AND b.day = CAST(h.timestamp AS DATE)
            WHERE h.symbol = $1 AND h.model = 'turnover'
        ), reached AS (
            SELECT c.*, timestamp = begins AS naive FROM cells AS c
            JOIN candles AS t ON t.begins IN (c.timestamp, c.state_at)
            WHERE (long_volume > 0 AND low <= price_bucket) OR (short_volume > 0 AND high >= price_bucket + bucket)
        )
        SELECT sum(r.volume) FILTER (WHERE naive) AS naive, sum(r.volume) FILTER (WHERE NOT naive) AS right_one,
            count(*) FILTER (WHERE NOT naive) AS cells,
            count(*) FILTER (WHERE NOT naive AND n.long_consumed_volume + n.short_consumed_volume > 0) AS consumed
        FROM reached AS r LEFT JOIN heatmap AS n ON n.symbol = r.symbol AND n.model = r.model
            AND n.timestamp = r.state_at AND n.price_bucket = r.price_bucket
    """
    found = run_of("A").ask(query, symbol).iloc[0]
    assert found["naive"] < 0.15 * found["right_one"]
    assert found["consumed"] == found["cells"] > 2000
