"""Every source by its name: the days asked for, one shape, and what is said where there is nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.archive_file import LIQUIDATION_HEADER
from heatmap_pipeline.market.liquidations.recording import RecordingWriter
from heatmap_pipeline.market.liquidations.sources import SOURCES, Places, open_liquidations
from heatmap_pipeline.market.liquidations.streams import Event
from heatmap_pipeline.market.liquidations.tables import LIQUIDATION_COLUMNS, Liquidations, exchange_of, microseconds
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.symbols import EXCHANGES
from heatmap_pipeline_tests.market._files import csv_text, write
from heatmap_pipeline_tests.market.liquidations._rest_servers import (
    NOW,
    BitgetServer,
    GateServer,
    bitget_row,
    gate_order,
)

YESTERDAY = (datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)).date()
FIRST = YESTERDAY - timedelta(days=1)
START = day_start(FIRST)
MINUTE = 60 * 10**6


def places(root: Path) -> Places:
    return Places(folder=root / "files", archive=root / "archive", recordings=root / "recordings")


def fill(root: Path) -> Places:
    """Put one long of minute 10 of each of two days, and one of the day before and after, into every kind of file."""
    (root / "files").mkdir()
    times = [START + number * DAY + 10 * MINUTE for number in (-1, 0, 1, 2)]
    rows = "".join(f"{time},long,60000,2\n" for time in times)
    (root / "files" / "BTCUSDT.csv").write_text("time,side,price,quantity\n" + rows)
    for time in times:
        day = FIRST + timedelta(days=(time - START) // DAY)
        order = [str(time // 1000), "SELL", "LIMIT", "IOC", "2", "60000", "60000", "FILLED", "2", "2"]
        name = f"futures/um/daily/liquidationSnapshot/BTCUSDT/BTCUSDT-liquidationSnapshot-{day}.zip"
        write(root / "archive" / name, csv_text([order], LIQUIDATION_HEADER))
    for exchange, word in (("bybit", "Buy"), ("binance", "SELL")):
        writer = RecordingWriter(root / "recordings", exchange, "BTCUSDT", "a", times[0] // 1000)
        for number, time in enumerate(times):
            writer.open(time // 1000 - 500)
            writer.event(Event(time // 1000, word, "60000", "2"), number, time // 1000)
            writer.closed(time // 1000 + 500, "cut", time // 1000 + 500)
        writer.close()
    return places(root)


def check(made: Liquidations, source: str) -> None:
    assert made.source == source
    assert made.exchange == exchange_of(source)
    assert list(made.table.columns) == list(LIQUIDATION_COLUMNS)
    times = microseconds(made.table["timestamp"])
    assert set((times - START) // DAY) == {0, 1}
    assert made.table["side"].tolist() == ["long", "long"]
    assert ((made.recorded >= START) & (made.recorded <= START + 2 * DAY)).all()
    assert len(made.of_day(YESTERDAY).table) == 1


def test_files_archive_and_recordings(tmp_path: Path) -> None:
    where = fill(tmp_path)
    named = {"files": "binance_file"} | {name: name for name in ("binance_archive", "bybit_stream", "binance_stream")}
    sources = open_liquidations(list(named), where)
    assert list(sources) == list(named)
    complete = {}
    for name, source in named.items():
        [made] = sources[name].read("BTCUSDT", FIRST, YESTERDAY)
        check(made, source)
        complete[name] = bool(made.table["complete"].all())
        assert made.table["volume"].tolist() == [120000.0, 120000.0]
        with pytest.raises(NoDataError):
            sources[name].read("BTCUSDT", FIRST - timedelta(days=30), FIRST - timedelta(days=20))
        with pytest.raises(NoDataError):
            sources[name].read("ETHUSDT", FIRST, YESTERDAY)
        with pytest.raises(MarketError, match="is before the first"):
            sources[name].read("BTCUSDT", YESTERDAY, FIRST)
    assert complete == {"files": False, "binance_archive": False, "bybit_stream": True, "binance_stream": False}
    [archived] = sources["binance_archive"].read("BTCUSDT", FIRST, YESTERDAY)
    assert archived.recorded.tolist() == [[START, START + 2 * DAY]]
    assert archived.facts["parts"] == 2


def test_what_is_kept_of_an_exchange_belongs_to_each_market_of_the_pair(tmp_path: Path) -> None:
    """What was recorded under the bare name before there were ids is Bybit's own of its market."""
    names = ("files", "binance_archive", "bybit_stream", "binance_stream")
    sources = open_liquidations(names, fill(tmp_path))
    for name in names:
        [at_home] = sources[name].read("BTCUSDT", FIRST, YESTERDAY)
        [made] = sources[name].read("BYBIT_BTCUSDT", FIRST, YESTERDAY)
        assert (made.symbol, made.source, made.exchange) == ("BYBIT_BTCUSDT", at_home.source, at_home.exchange)
        assert made.table.equals(at_home.table)
    with pytest.raises(NoDataError, match="ETHUSDT: nothing was recorded"):
        sources["bybit_stream"].read("BYBIT_ETHUSDT", FIRST, YESTERDAY)


def test_streams_are_those_of_the_pair_whatever_exchange_the_market_is_of(tmp_path: Path) -> None:
    sources = open_liquidations(["bybit_stream", "binance_stream"], fill(tmp_path))
    for name, source in sources.items():
        for market in ("BYBIT_BTCUSDT", "GATE_BTC_USDT"):
            [made] = source.read(market, FIRST, YESTERDAY)
            check(made, name)
            assert made.symbol == market


def test_a_folder_may_hold_the_archives_tree(tmp_path: Path) -> None:
    where = replace(fill(tmp_path), folder=tmp_path / "archive")
    [made] = open_liquidations(["files"], where)["files"].read("BTCUSDT", FIRST, YESTERDAY)
    check(made, "binance_archive")


@pytest.mark.slow
def test_exchanges_over_rest(tmp_path: Path) -> None:
    at = [START // 10**6 + 600, START // 10**6 + 86400 + 600]
    with GateServer() as gate, BitgetServer([bitget_row(time) for time in at]) as bitget:
        gate.sums = {time: {"long_liq_size": "20", "long_liq_usd": "120"} for time in at}
        gate.orders = [gate_order(at[0] - 7200)] + [gate_order(time) for time in at]
        where = replace(places(tmp_path), gate_url=gate.url, bitget_url=bitget.url)
        for name, source in open_liquidations(["gate_stats", "gate_orders", "bitget_rest"], where).items():
            [made] = source.read("BYBIT_BTCUSDT" if name == "gate_orders" else "BTCUSDT", FIRST, YESTERDAY)
            check(made, name)
            if name != "gate_orders":  # which asks hour by hour
                [same] = source.read("GATE_BTC_USDT", FIRST, YESTERDAY)
                check(same, name)
                assert same.symbol == "GATE_BTC_USDT"
            if name != "bitget_rest":  # it goes back three days, to the second
                assert made.recorded.tolist() == [[START, START + 2 * DAY]]
        ahead = date.fromtimestamp(NOW) + timedelta(days=20)
        for source in open_liquidations(["gate_stats", "gate_orders", "bitget_rest"], where).values():
            with pytest.raises(NoDataError, match="serves nothing of BTCUSDT"):
                source.read("BTCUSDT", ahead, ahead)


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        MarketError, match=r"'kraken' is no source of liquidations; .* a list of files, binance_archive"
    ):
        open_liquidations(["files", "kraken"], places(tmp_path))
    with pytest.raises(MarketError, match="--liquidations DIR"):
        open_liquidations(["files"], replace(places(tmp_path), folder=None))
    assert open_liquidations([], places(tmp_path)) == {}
    assert list(open_liquidations(["bybit_stream", "bybit_stream"], places(tmp_path))) == ["bybit_stream"]


def test_every_source_is_of_an_exchange_that_has_a_name() -> None:
    exchanges = {exchange_of(name) for name in SOURCES if name != "files"}
    assert exchanges == EXCHANGES.keys()
    assert np.all([name.count("_") == 1 for name in SOURCES if name != "files"])
