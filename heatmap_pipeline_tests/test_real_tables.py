"""docs/tables.md: every query of it gives on the real files what is printed below it."""

from __future__ import annotations

import re
from typing import Any

import duckdb
import pytest

from heatmap_pipeline_tests._homes import published
from heatmap_pipeline_tests._real_sets import BTC, ETH, SETS, RealRuns, not_the_sum
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
def test_the_lines_of_python_run_as_printed(run_of: RealRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(published(run_of("A").home).parent)
    names: dict[str, Any] = {}
    exec(lines, names)  # noqa: S102 - of our own page
    names["con"].close()
    assert list(names["cells"].columns) == ["state_at", "price_bucket", "long_volume", "short_volume"]
    assert len(names["cells"]) > 100_000


@pytest.mark.market
@pytest.mark.slow
@pytest.mark.parametrize("symbol", [BTC, ETH])
def test_candles_joined_by_the_name_of_an_interval_find_next_to_nothing(run_of: RealRuns, symbol: str) -> None:
    """What stood at the end of an interval is hit by the candles after it, as much as the model says was consumed."""
    query = """
        WITH candles AS (
            SELECT time_bucket(INTERVAL 15 MINUTE, open_time) AS begins, min(low) AS low, max(high) AS high
            FROM raw_candles WHERE symbol = $1 GROUP BY ALL
        )
        SELECT sum(h.long_volume + h.short_volume) AS volume, count(*) AS cells,
            count(*) FILTER (WHERE n.long_consumed_volume + n.short_consumed_volume > 0) AS consumed
        FROM mine AS h JOIN candles AS c ON c.begins = h.{joined}
        LEFT JOIN mine AS n ON n.timestamp = h.state_at AND n.price_bucket = h.price_bucket
        WHERE (h.long_volume > 0 AND c.low <= h.price_bucket)
            OR (h.short_volume > 0 AND c.high >= h.price_bucket + (SELECT bucket FROM symbols WHERE symbol = $1))
    """
    recipe = "time_bucket(INTERVAL 15 MINUTE, c.open_time) = h.state_at"
    assert recipe in PAGE.read_text(), "the one for single candles, which below are summed first"
    cells = "SELECT count(*) FROM mine AS h{join} WHERE h.state_at < ?"
    joined = f" JOIN raw_candles AS c ON c.symbol = h.symbol AND {recipe}"
    with duckdb.connect(str(published(run_of("A").home)), read_only=True) as con:
        # Once for all: the view adds up every cell of the history.
        con.execute("CREATE TEMP TABLE mine AS FROM heatmap WHERE symbol = ? AND model = 'turnover'", [symbol])

        def asked(query: str, parameter: object) -> Any:
            return con.execute(query, [parameter]).df().iloc[0]

        naive, right = (asked(query.format(joined=name), symbol) for name in ("timestamp", "state_at"))
        met, alone = (asked(cells.format(join=join), SETS["A"].last).iloc[0] for join in (joined, ""))
    assert naive["volume"] < 0.15 * right["volume"]
    assert right["consumed"] == right["cells"] > 2000
    candles = 3 if symbol == BTC else 1
    assert met == candles * alone > 0, "each state meets the candles of the 15 minutes after it"


@pytest.mark.market
@pytest.mark.slow
def test_the_map_of_a_base_is_to_the_last_bit_the_sum_of_its_markets(run_of: RealRuns) -> None:
    with duckdb.connect(str(published(run_of("A").home)), read_only=True) as con:
        assert not_the_sum(con) == []
        found = con.execute(
            "SELECT base, exchange, symbol, count(*) > 100000 FROM heatmap_by_base GROUP BY ALL"
        ).fetchall()
    assert sorted(found) == [("BTC", "binance", BTC, True), ("ETH", "binance", ETH, True)]
