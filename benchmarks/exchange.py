"""Fetching from an exchange: a year of one market of Bybit, from a local stand-in that is asked ten times a second."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from benchmarks.measure import Measured, Reading, Setting, row, timed
from heatmap_pipeline.market.bybit import BybitMarket
from heatmap_pipeline_tests.market._bybit_server import BybitServer, day, made_rows

SYMBOL = "BYBIT_BTCUSDT"
REQUESTS_PER_SECOND = 10


def fetch(setting: Setting) -> Sequence[Measured]:
    """Measure a year over REST, to clean days that are kept, and the same year again out of what is kept."""
    count = setting.pick(365, 2)
    days = [day(number) for number in range(1, count + 1)]
    now = datetime(days[-1].year, days[-1].month, days[-1].day) + timedelta(days=2)
    with BybitServer(*made_rows(count), now) as server:
        gap = 1 / REQUESTS_PER_SECOND if not setting.quick else 0.0
        market = BybitMarket(setting.home("fetched"), server.url, gap=gap)

        def read() -> None:
            tables = {each.day: each.table for each in market.candles(SYMBOL, days, 300)}
            assert sum(len(each.table) for each in market.open_interest(SYMBOL, tables, 300)) == 288 * count

        first: Reading = timed(read)
        pages = len(server.paths("/kline")), len(server.paths("/open-interest"))
        server.asked.clear()
        again = timed(read)
        assert server.asked == []
    return [
        row(
            [first],
            name=f"fetch {count} days",
            what=f"{pages[0]} pages of candles and {pages[1]} of samples, {REQUESTS_PER_SECOND} requests a second",
            limit="the pace that is asked for",
            expected=setting.target(120.0),
        ),
        row(
            [again],
            name=f"fetch {count} days again",
            what="out of what is kept, without a request",
            limit="parsing the JSON, then what pandas costs per small table",
        ),
    ]
