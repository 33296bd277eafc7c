"""Plain files: real ones of both shapes, every way to write a column, and what is said of those that are wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.market.liquidations.plain import PlainFolder, read_files
from heatmap_pipeline.market.liquidations.sides import position_side
from heatmap_pipeline.market.liquidations.tables import HOUR, Liquidations, hourly_sums, microseconds
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.settings import SettingsError

EVENTS = "time,side,price,quantity"
T0 = int(np.datetime64("2024-07-04T10:00:00", "us").astype(np.int64))


def read(root: Path, text: str, name: str = "BTCUSDT.csv") -> list[Liquidations]:
    (root / name).write_text(text)
    return PlainFolder(root).read("BTCUSDT")


BYBIT = "BYBIT_BTCUSDT"


def one(root: Path, text: str, name: str = "BTCUSDT.csv") -> Liquidations:
    [made] = read(root, text, name)
    return made


@pytest.mark.market
@pytest.mark.parametrize(
    ("symbol", "hours", "quiet", "long", "short"),
    [("BTCUSDT", 923, 16, 5404, 3524), ("ETHUSDT", 912, 27, 76085, 42123)],
)
def test_the_real_sums_are_those_that_were_published(
    market_dir: Path, symbol: str, hours: int, quiet: int, long: float, short: float
) -> None:
    paths = sorted((market_dir / "liquidations").glob(f"{symbol}-liquidations-1h-*.csv.gz"))
    [made] = read_files(dict.fromkeys(paths, symbol), symbol)
    assert (made.source, made.exchange) == ("binance_file", "binance")
    assert set(made.table["resolution_seconds"]) == {3600}
    assert made.table["price"].isna().all()
    assert not made.table["complete"].any()
    total = made.table.groupby("side")["quantity"].sum()
    assert (round(total["long"]), round(total["short"])) == (long, short)
    [(start, end)] = made.recorded.tolist()
    assert pd.Timestamp(start, unit="us") == pd.Timestamp("2024-06-19 21:00")
    assert pd.Timestamp(end, unit="us") == pd.Timestamp("2024-07-29 00:00")
    assert (end - start) // HOUR == hours + quiet
    sums = hourly_sums(made.table, made.recorded, start=start - HOUR, hours=hours + quiet + 2)
    assert np.isnan(sums.quantity[[0, -1]]).all()
    assert not np.isnan(sums.quantity[1:-1]).any()
    # 16 and 27 hours list nothing, and are 0: nothing was reported.
    assert int((sums.quantity[1:-1].sum(axis=1) == 0).sum()) == quiet


@pytest.mark.market
def test_the_violent_hour_of_the_real_sums(market_dir: Path) -> None:
    made = next(iter(PlainFolder(market_dir / "liquidations").read("BTCUSDT")))
    sums = hourly_sums(made.table, made.recorded, start=T0 + 13 * HOUR, hours=1)
    assert round(float(sums.quantity[0, 0])) == 743


@pytest.mark.market
def test_the_side_words_of_three_exchanges(market_dir: Path, tmp_path: Path) -> None:
    path = market_dir / "liquidations" / "ETHUSDT-events-20260403.csv.gz"
    made = {part.exchange: part for part in read_files({path: "ETHUSDT"}, "ETHUSDT")}
    assert {name: len(part.table) for name, part in made.items()} == {"binance": 15, "bybit": 2, "okx": 1}
    assert made["bybit"].table["side"].tolist() == ["long", "short"]
    assert set(made["binance"].table["resolution_seconds"]) == {0}
    # The same file without the repository's own mapping: the exchanges' words alone tell the side.
    rows = pd.read_csv(path).drop(columns="side")
    rows.to_csv(tmp_path / "ETHUSDT-raw.csv", index=False)
    for part in PlainFolder(tmp_path).read("ETHUSDT"):
        pd.testing.assert_frame_equal(part.table, made[part.exchange].table)
    # And with them in place of it.
    rows.rename(columns={"raw_side": "side"}).to_csv(tmp_path / "ETHUSDT-raw.csv", index=False)
    for part in PlainFolder(tmp_path).read("ETHUSDT"):
        pd.testing.assert_frame_equal(part.table, made[part.exchange].table)


@pytest.mark.parametrize(
    ("exchange", "word", "side"),
    [
        ("binance", "SELL", "long"),
        ("binance", "BUY", "short"),
        ("bybit", "Buy", "long"),
        ("bybit", "Sell", "short"),
        ("bitget", "buy", "long"),
        ("okx", "long:sell", "long"),
        ("okx", "short:buy", "short"),
        ("okx", "net:buy", "short"),
        ("okx", "long:buy", None),
        ("okx", "sell", None),
        ("kraken", "buy", None),
    ],
)
def test_words_for_sides(exchange: str, word: str, side: str | None) -> None:
    assert position_side(exchange, word) == side


@pytest.mark.parametrize(
    "written",
    [
        "2024-07-04T10:00:00Z",
        "2024-07-04 10:00:00",
        "2024-07-04T12:00:00+02:00",
        str(T0 // 10**6),
        str(T0 // 1000),
        str(T0),
    ],
)
def test_times_in_every_writing(tmp_path: Path, written: str) -> None:
    made = one(tmp_path, f"{EVENTS}\n{written},long,60000,0.5\n")
    assert microseconds(made.table["timestamp"]).tolist() == [T0]
    assert made.table["volume"].tolist() == [30000.0]
    assert made.recorded.tolist() == [[T0, T0 + 1]]


def test_parquet_and_gzip_say_the_same_as_csv(tmp_path: Path) -> None:
    text = "timestamp,side,price,quantity,source,complete\n" + "".join(
        f"2024-07-04T10:00:{second:02d}.250Z,{'long' if second % 2 else 'SHORT'},{60000 + second},{second + 1},"
        "bybit_stream,true\n"
        for second in range(30)
    )
    (tmp_path / "a").mkdir()
    made = one(tmp_path / "a", text)
    assert made.table["complete"].all()
    assert made.source == "bybit_file"
    (tmp_path / "BTCUSDT").mkdir()
    (tmp_path / "BTCUSDT" / "x.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert one_folder(tmp_path).content_hash() == made.content_hash()
    (tmp_path / "BTCUSDT" / "x.csv.gz").unlink()
    table = made.table.rename(columns={"timestamp": "time"})
    table = table.assign(exchange="bybit", time=table["time"].dt.tz_localize("UTC"), day=table["time"].dt.date)
    table.to_parquet(tmp_path / "BTCUSDT-2024.parquet")
    assert one_folder(tmp_path).content_hash() == made.content_hash()


def one_folder(root: Path) -> Liquidations:
    [made] = PlainFolder(root).read("BTCUSDT")
    return made


def test_what_a_file_is_said_by_its_column_its_name_its_prices_or_its_steps(tmp_path: Path) -> None:
    sums = "time,side,quantity\n" + "".join(f"2024-07-04T{hour:02d}:00:00Z,long,1\n" for hour in (0, 1, 2, 5))
    assert set(one(tmp_path, sums).table["resolution_seconds"]) == {3600}
    stated = sums.replace("quantity\n", "quantity,resolution_seconds\n", 1).replace(",1\n", ",1,300\n")
    assert set(one(tmp_path, stated).table["resolution_seconds"]) == {300}
    (tmp_path / "BTCUSDT.csv").unlink()
    named = one(tmp_path, sums, "BTCUSDT-liquidations-5m-2024.csv")
    assert set(named.table["resolution_seconds"]) == {300}
    assert named.recorded.tolist() == [[T0 - 10 * HOUR, T0 - 5 * HOUR + 300 * 10**6]]


def test_two_files_that_overlap_count_once(tmp_path: Path) -> None:
    rows = [f"2024-07-04T10:00:0{second}Z,long,60000,1\n" for second in range(6)]
    (tmp_path / "BTCUSDT-a.csv").write_text(EVENTS + "\n" + "".join(rows[:4]) + rows[3])
    made = one(tmp_path, EVENTS + "\n" + "".join(rows[2:]), "BTCUSDT-b.csv")
    assert len(made.table) == 7
    assert made.repairs == {"redelivered_rows": 2}
    assert made.facts["files"] == ["BTCUSDT-a.csv", "BTCUSDT-b.csv"]


def test_doubled_rows_of_a_file_are_halved(tmp_path: Path) -> None:
    row = "2024-07-04T10:00:00Z,long,60000,1\n"
    made = one(tmp_path, f"{EVENTS}\n{row * 2}{row.replace('long', 'short') * 4}")
    assert made.table["side"].tolist() == ["long", "short", "short"]
    assert made.repairs == {"doubled_rows": 3}


def test_sums_of_two_files_that_differ_are_refused_with_both_named(tmp_path: Path) -> None:
    header = "time,side,quantity,resolution_seconds\n"
    (tmp_path / "BTCUSDT-a.csv").write_text(f"{header}2024-07-04T10:00:00Z,long,1,3600\n")
    with pytest.raises(MarketError, match=r"BTCUSDT-b\.csv, row 2: another sum .* row 2 of .*BTCUSDT-a\.csv"):
        read(tmp_path, f"{header}2024-07-04T10:00:00Z,long,2,3600\n", "BTCUSDT-b.csv")
    with pytest.raises(MarketError, match=r"BTCUSDT-b\.csv: holds single events .*BTCUSDT-a\.csv sums of 3600 s"):
        read(tmp_path, f"{EVENTS}\n2024-07-04T10:00:00Z,long,5,2\n", "BTCUSDT-b.csv")


def test_sums_and_single_events_of_different_times_stand_side_by_side(tmp_path: Path) -> None:
    sums = "time,side,quantity,resolution_seconds\n2024-07-04T11:00:00Z,long,1,3600\n"
    (tmp_path / "BTCUSDT-a.csv").write_text(sums)
    made = one(tmp_path, f"{EVENTS}\n2024-07-04T10:00:00Z,long,5,2\n2024-07-04T10:59:00Z,short,5,3\n", "BTCUSDT-b.csv")
    assert made.table["quantity"].tolist() == [2, 3, 1]
    assert made.table["resolution_seconds"].tolist() == [0, 0, 3600]
    start = pd.Timestamp("2024-07-04T10:00").value // 1000
    assert made.recorded.tolist() == [[start, start + 59 * HOUR // 60 + 1], [start + HOUR, start + 2 * HOUR]]
    assert made.facts == {"files": ["BTCUSDT-a.csv", "BTCUSDT-b.csv"]}
    with pytest.raises(MarketError, match=r"BTCUSDT-c\.csv: holds sums of 300 s .*BTCUSDT-a\.csv sums of 3600 s"):
        read(tmp_path, sums.replace("3600", "300"), "BTCUSDT-c.csv")


@pytest.mark.market
def test_the_whole_folder_of_real_files_can_be_given(market_dir: Path) -> None:
    """It holds sums of 2024 and single events of 2026 of one symbol and exchange."""
    made = {part.source: part for part in PlainFolder(market_dir / "liquidations").read("ETHUSDT")}
    assert list(made) == ["binance_file", "bybit_file", "okx_file"]
    table = made["binance_file"].table
    total = table[table["resolution_seconds"] == 3600].groupby("side")["quantity"].sum()
    assert (round(total["long"]), round(total["short"])) == (76085, 42123)
    assert (table["resolution_seconds"] == 0).any()
    assert table["timestamp"].is_monotonic_increasing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("time,side,price\n", "it lacks quantity"),
        ("date,side,price,quantity\n", "'date' is none of time, symbol, side"),
        ("time,side,pirce,quantity\n", "'pirce' is none of"),
        ("time,price,quantity\n", "it lacks side"),
        ("time,timestamp,side,quantity\n", "time stands there twice"),
        ("2024-07-04T10:00:00Z,long,60000,1\n", "is none of"),
        (f"{EVENTS}\n1,2\n", "not a CSV of the 4 columns"),
        (f"{EVENTS}\n2024-07-04T10:00:00Z,long,60000,1\nyesterday,long,60000,1\n", "row 3: time 'yesterday'"),
        (f"{EVENTS}\n2024-07-32T10:00:00Z,long,60000,1\n", "row 2: time '2024-07-32"),
        (f"{EVENTS}\n,long,60000,1\n", "row 2: time ''"),
        (f"{EVENTS}\n2024-07-04T10:00:00Z,long,60000,many\n", "row 2: quantity 'many' is not a number"),
        (f"{EVENTS}\n2024-07-04T10:00:00Z,long,60000,\n", "row 2: the quantity is blank"),
        (f"{EVENTS}\n2024-07-04T10:00:00Z,SELL,60000,1\n", "row 2: side 'SELL': which side .* depends on exchange"),
        (f"{EVENTS}\n2024-07-04T10:00:00Z,,60000,1\n", "row 2: side ''"),
        (f"{EVENTS},exchange\n2024-07-04T10:00:00Z,up,60000,1,binance\n", "row 2: side 'up': binance does not say so"),
        (f"{EVENTS},exchange\n2024-07-04T10:00:00Z,long,60000,1,../x\n", "row 2: exchange '../x' is no name"),
        (f"{EVENTS},symbol\n2024-07-04T10:00:00Z,long,60000,1,ETHUSDT\n", "row 2: is about 'ETHUSDT', not BTCUSDT"),
        (f"{EVENTS},complete\n2024-07-04T10:00:00Z,long,60000,1,maybe\n", "row 2: complete 'maybe'"),
        (
            f"{EVENTS},exchange,raw_side\n2024-07-04T10:00:00Z,long,60000,1,binance,BUY\n",
            "row 2: side is long, but BUY of binance is a short",
        ),
        (f"{EVENTS},resolution_seconds\n2024-07-04T10:00:01Z,long,,1,3600\n", "row 2: the time is no start"),
        (
            f"{EVENTS},resolution_seconds\n2024-07-04T10:00:00Z,long,,1,3600\n2024-07-04T11:00:00Z,long,,1,300\n",
            "row 3: resolution_seconds differs",
        ),
        (f"{EVENTS}\n2024-07-04T10:00:00Z,long,,1\n2024-07-04T10:00:00Z,long,5,1\n", "does not tell whether"),
        (f"{EVENTS}\n2024-07-04T10:00:00Z,long,,1\n", "does not tell whether"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(MarketError, match=words) as raised:
        read(tmp_path, text)
    assert "BTCUSDT.csv" in str(raised.value)


@pytest.mark.parametrize("name", ["BTCUSDT.csv.gz", "BTCUSDT.parquet"])
def test_a_file_that_is_not_what_its_ending_says(tmp_path: Path, name: str) -> None:
    with pytest.raises(MarketError, match=f"{name}: is not a"):
        read(tmp_path, f"{EVENTS}\n2024-07-04T10:00:00Z,long,60000,1\n", name)


def test_a_folder_without_the_symbol_or_no_folder(tmp_path: Path) -> None:
    (tmp_path / "BTCUSDT.txt").write_text("no")
    (tmp_path / "BTCUSDTX.csv").write_text("another symbol")
    (tmp_path / "BTCUSDT_PERP.csv").write_text("another contract")
    with pytest.raises(NoDataError, match="no file of BTCUSDT; name it BTCUSDT-anything"):
        PlainFolder(tmp_path).read("BTCUSDT")
    with pytest.raises(MarketError, match="give a folder of files by symbol"):
        PlainFolder(tmp_path / "none").read("BTCUSDT")
    with pytest.raises(SettingsError, match="is not a symbol"):
        PlainFolder(tmp_path).read("../BTCUSDT")


def test_a_header_alone_records_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, EVENTS + "\n") == []


def test_a_market_of_another_exchange_has_files_of_its_id_and_of_its_pair(tmp_path: Path) -> None:
    rows = "2024-03-05 10:00:00,long,60000,2\n"
    (tmp_path / "BTCUSDT.csv").write_text("time,side,price,quantity\n" + rows)
    (tmp_path / "BTCUSDT-others.csv").write_text(
        "time,symbol,side,price,quantity,exchange\n2024-03-05 11:00:00,BTCUSDT,short,60000,3,gate\n"
    )
    (tmp_path / "BYBIT_BTCUSDT-2024.csv").write_text(
        "time,symbol,side,price,quantity\n2024-03-05 12:00:00,BTCUSDT,short,60000,5\n"
    )
    made = {part.source: (part.symbol, part.table["quantity"].tolist()) for part in PlainFolder(tmp_path).read(BYBIT)}
    assert made == {"binance_file": (BYBIT, [2.0]), "gate_file": (BYBIT, [3.0]), "bybit_file": (BYBIT, [5.0])}
    at_home = {part.source: part.symbol for part in PlainFolder(tmp_path).read("BTCUSDT")}
    assert at_home == {"binance_file": "BTCUSDT", "gate_file": "BTCUSDT"}, "what is called after another id is not its"
    with pytest.raises(MarketError, match="is about 'BYBIT_BTCUSDT', not BTCUSDT"):
        one(tmp_path, "time,symbol,side,price,quantity\n2024-03-05 10:00:00,BYBIT_BTCUSDT,long,60000,2\n")
