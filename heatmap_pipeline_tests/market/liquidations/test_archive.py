"""Files of liquidation orders: the order's side becomes the position's, doubled rows are halved, damage is refused."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from heatmap_pipeline.instants import DAY as MICROSECONDS_OF_DAY
from heatmap_pipeline.instants import day_start
from heatmap_pipeline.market.archive_file import LIQUIDATION_HEADER
from heatmap_pipeline.market.liquidations.archive import LiquidationArchive
from heatmap_pipeline.market.liquidations.tables import Liquidations
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline_tests.market._files import csv_text, write

DAY = date(2024, 10, 1)
START = day_start(DAY)


def order(seconds: float, side: str = "SELL", quantity: str = "2", price: str = "63661.4") -> list[str]:
    at = str(START // 1000 + round(seconds * 1000))
    return [at, side, "LIMIT", "IOC", quantity, price, "63425.5", "FILLED", quantity, quantity]


def path_of(root: Path, symbol: str = "BTCUSDT", day: date = DAY) -> Path:
    return root / f"futures/um/daily/liquidationSnapshot/{symbol}/{symbol}-liquidationSnapshot-{day}.zip"


def read(root: Path, rows: list[list[str]]) -> Liquidations:
    write(path_of(root), csv_text(rows, LIQUIDATION_HEADER), checksum=True)
    return LiquidationArchive(root).read_day("BTCUSDT", DAY)


@pytest.mark.market
def test_the_head_of_a_real_file_is_halved(tmp_path: Path, market_dir: Path) -> None:
    sample = market_dir / "format_samples" / "BTCUSD_PERP-liquidationSnapshot-2024-10-01.head.csv"
    write(path_of(tmp_path), sample.read_bytes(), checksum=True)
    made = LiquidationArchive(tmp_path).read_day("BTCUSDT", DAY)
    assert made.repairs == {"doubled_rows": 7}
    assert made.table["side"].tolist() == ["short", "long", "short", "long", "long", "long", "short"]
    assert made.table["quantity"].tolist() == [7, 1, 76, 1, 12, 6, 3]
    assert made.table["price"].iloc[0] == 63425.1
    assert made.table["volume"].iloc[0] == 7 * 63425.1
    assert made.recorded.tolist() == [[START, START + MICROSECONDS_OF_DAY]]
    assert not made.table["complete"].any()
    assert set(made.table["resolution_seconds"]) == {0}
    assert (made.source, made.exchange, made.facts["time_unit"]) == ("binance_archive", "binance", "ms")


def test_rows_that_stand_once_are_kept_and_a_lone_repeat_is_not(tmp_path: Path) -> None:
    made = read(tmp_path, [order(5), order(9, "BUY"), order(9, "BUY"), order(2)])
    assert made.table["side"].tolist() == ["long", "long", "short"]
    assert made.repairs == {"repeated_rows": 1, "sorted_rows": 1}


def test_what_was_not_filled_or_is_of_another_day_is_left_out(tmp_path: Path) -> None:
    made = read(tmp_path, [order(1), order(2, quantity="0"), order(-1), order(86400)])
    assert len(made.table) == 1
    assert made.repairs == {"outside_day": 2, "unfilled_orders": 1}


def test_a_file_without_orders_records_a_day_without_any(tmp_path: Path) -> None:
    made = read(tmp_path, [])
    assert len(made.table) == 0
    assert made.recorded.tolist() == [[START, START + MICROSECONDS_OF_DAY]]


def test_the_days_there_are(tmp_path: Path) -> None:
    for day in (date(2024, 3, 2), date(2024, 3, 1)):
        write(path_of(tmp_path, day=day), csv_text([], LIQUIDATION_HEADER))
    path_of(tmp_path, day=DAY).with_name("BTCUSDT-liquidationSnapshot-2024-13-77.zip").write_bytes(b"")
    archive = LiquidationArchive(tmp_path)
    assert archive.days("BTCUSDT") == [date(2024, 3, 1), date(2024, 3, 2)]
    assert archive.days("ETHUSDT") == []
    with pytest.raises(NoDataError, match=r"no liquidations of BTCUSDT for 2024-10-01"):
        archive.read_day("BTCUSDT", DAY)


@pytest.mark.parametrize("symbol", ["BTCUSD_PERP", "ETHUSD_240628"])
def test_coin_margined_contracts_are_not_taken_for_units_of_the_base(tmp_path: Path, symbol: str) -> None:
    with pytest.raises(MarketError, match="margined in coins"):
        LiquidationArchive(tmp_path).read_day(symbol, DAY)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (order(1, "HOLD"), r"row 3: the side of the order is 'HOLD'"),
        (order(1, quantity="-3"), r"row 3: the quantity is blank, negative"),
        (order(1, quantity="x"), r"row 3: accumulated_fill_quantity"),
        (["17277408", *order(1)[1:]], r"row 3: time 17277408 is neither milliseconds nor microseconds"),
    ],
)
def test_a_bad_row_is_refused_with_file_and_row(tmp_path: Path, row: list[str], words: str) -> None:
    with pytest.raises(MarketError, match=words) as raised:
        read(tmp_path, [order(0), row])
    assert "BTCUSDT-liquidationSnapshot-2024-10-01.zip" in str(raised.value)


def test_a_file_of_another_kind_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    header = (*LIQUIDATION_HEADER[:2], "symbol", *LIQUIDATION_HEADER[3:])
    write(path_of(tmp_path), csv_text([order(1)], header))
    with pytest.raises(MarketError, match="the header is"):
        LiquidationArchive(tmp_path).read_day("BTCUSDT", DAY)
    path = write(path_of(tmp_path), csv_text([order(1)], LIQUIDATION_HEADER), checksum=True)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(MarketError, match="does not match its CHECKSUM"):
        LiquidationArchive(tmp_path).read_day("BTCUSDT", DAY)
