"""The archive's tree and files: what is there, how it is read, and that every damage is an error with a name."""

from __future__ import annotations

import hashlib
import io
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.instants import SECONDS, Interval
from heatmap_pipeline.market import archive_file
from heatmap_pipeline.market.archive import ArchiveReader, read_many
from heatmap_pipeline.market.archive_file import CANDLE_HEADER, METRICS_HEADER
from heatmap_pipeline.market.tables import CANDLE_COLUMNS, OPEN_INTEREST_COLUMNS, CleanDay, MarketError, NoDataError
from heatmap_pipeline_tests.market._files import (
    DAY,
    at,
    candle_rows,
    candles_path,
    csv_text,
    metrics_path,
    sample_rows,
    write,
    write_bytes,
    write_candles,
    write_metrics,
    zipped,
)

NEXT = DAY + timedelta(days=1)


def read(root: Path) -> CleanDay:
    return ArchiveReader(root).read_candles("BTCUSDT", DAY, 300)


def read_samples(root: Path) -> CleanDay:
    """Read the metrics of the day beside a whole day of candles."""
    write_candles(root)
    return ArchiveReader(root).read_open_interest("BTCUSDT", DAY, read(root).table, 300)


def refused(root: Path, match: str) -> None:
    with pytest.raises(MarketError, match=match) as caught:
        read(root)
    assert not isinstance(caught.value, NoDataError)
    assert "\n" not in str(caught.value)
    assert str(candles_path(root)) in str(caught.value)


# --- candles ---------------------------------------------------------------------------------------------------------


def test_candles_become_a_clean_day(tmp_path: Path) -> None:
    path = write_candles(tmp_path)
    clean = read(tmp_path)
    assert (clean.symbol, clean.day, clean.step, clean.repairs) == ("BTCUSDT", DAY, 300, {})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert clean.facts == {"file": path.name, "sha256": digest, "header": True, "time_unit": "ms"}
    assert tuple(clean.table.columns) == CANDLE_COLUMNS
    row = clean.table.iloc[1]
    assert row["open_time"] == np.datetime64(at(300), "us")
    assert row.tolist()[1:] == [112.0, 127.0, 107.0, 124.0, 2.5, 275.0, 4, 0.5, 55.0]


@pytest.mark.parametrize("unit", ["ms", "us"])
@pytest.mark.parametrize("header", [CANDLE_HEADER, None])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_header_unit_and_line_ends_make_no_difference(
    tmp_path: Path, unit: str, header: tuple[str, ...] | None, end: bytes
) -> None:
    write_candles(tmp_path / "plain")
    data = csv_text(candle_rows(unit=unit), header).replace(b"\n", end)
    write(candles_path(tmp_path), b"\xef\xbb\xbf" + data.rstrip())
    clean = read(tmp_path)
    assert clean.content_hash() == read(tmp_path / "plain").content_hash()
    assert (clean.facts["time_unit"], clean.facts["header"]) == (unit, header is not None)


def test_blank_optional_columns_are_unknown(tmp_path: Path) -> None:
    rows = candle_rows()
    rows[3][7:11] = [""] * 4
    write_candles(tmp_path, rows)
    assert read(tmp_path).table.iloc[3, 6:].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("column", "text", "match"),
    [
        (0, "", "row 6: open_time is blank"),
        (0, "x", "row 6: open_time: .*'x'"),
        (0, "1726272000", "row 6: open_time 1726272000 is neither milliseconds nor microseconds"),
        (0, str(at(1200)), "row 6: open_time changes between"),
        (1, "1,000", "row 6: Expected 12 columns, got 13"),
        (2, '"130"', "row 6: high: "),
        (4, "1O5", "row 6: close: .*'1O5'"),
        (5, "", "row 6: volume is blank"),
        (3, "", "row 6: low is blank"),
        (3, "900", "row 6: high is below low"),
        (8, "x\x1b[2J", r"row 6: count: .*x\?\[2J"),
    ],
)
def test_a_bad_field_is_named_by_row(tmp_path: Path, column: int, text: str, match: str) -> None:
    rows = candle_rows()
    rows[4][column] = text
    write_candles(tmp_path, rows)
    refused(tmp_path, match)


def test_rows_are_counted_from_one_without_a_header(tmp_path: Path) -> None:
    rows = candle_rows()
    rows[4][3] = "900"
    write(candles_path(tmp_path), csv_text(rows))
    refused(tmp_path, "row 5: high is below low")
    write(candles_path(tmp_path), csv_text(candle_rows()).replace(b"\n", b"\n\n", 1))
    refused(tmp_path, "row 2: open_time is blank")


def test_a_cut_off_last_line_is_refused(tmp_path: Path) -> None:
    write(candles_path(tmp_path), csv_text(candle_rows(), CANDLE_HEADER)[:-20])
    refused(tmp_path, r"row 289: Expected 12 columns, got \d+")


@pytest.mark.parametrize("names", [[*CANDLE_HEADER[:4], "volume", "close", *CANDLE_HEADER[6:]], CANDLE_HEADER[:11]])
def test_another_header_is_refused(tmp_path: Path, names: list[str]) -> None:
    write(candles_path(tmp_path), csv_text(candle_rows(), names))
    refused(tmp_path, "row 1: the header is")


@pytest.mark.parametrize("data", [b"", b"\n", csv_text([], CANDLE_HEADER)])
def test_a_file_without_candles_is_refused(tmp_path: Path, data: bytes) -> None:
    write(candles_path(tmp_path), data)
    refused(tmp_path, "holds no candles of 2024-09-14")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    rows = candle_rows()
    data = csv_text(rows).splitlines(keepends=True)
    data[2] = data[2].replace(b",0\n", b",\xff\n")
    write(candles_path(tmp_path), b"".join(data))
    refused(tmp_path, "row 3: is not UTF-8 text")


# --- zip and checksum ------------------------------------------------------------------------------------------------


def many_files(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, csv_text(candle_rows()))
    return stream.getvalue()


GOOD = zipped("BTCUSDT-5m-2024-09-14.csv", csv_text(candle_rows()))


@pytest.mark.parametrize(
    ("packed", "match"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"PK\x03\x04 not at all", "is not a whole zip file"),
        (GOOD[: len(GOOD) // 2], "is not a whole zip file"),
        (GOOD[:200] + bytes([GOOD[200] ^ 255]) + GOOD[201:], "is not a whole zip file"),
        (many_files(), "holds 0 files"),
        (many_files("a.csv", "b.csv"), "holds 2 files"),
        (many_files("a/b.csv"), "not the plain name"),
        (many_files("..\\b.csv"), "not the plain name"),
        (many_files("b.txt"), "not the plain name"),
        (many_files("ETHUSDT-5m-2024-09-14.csv"), "under a wrong name"),
        (many_files("BTCUSDT-metrics-2024-09-14.csv"), "under a wrong name"),
    ],
)
def test_a_damaged_zip_is_refused(tmp_path: Path, packed: bytes, match: str) -> None:
    write_bytes(candles_path(tmp_path), packed)
    refused(tmp_path, match)


def test_any_plain_name_inside_will_do(tmp_path: Path) -> None:
    write_bytes(candles_path(tmp_path), many_files("Candles.CSV"))
    assert len(read(tmp_path).table) == 288


def test_an_unusual_compression_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.csv", csv_text(candle_rows()))
    write_bytes(candles_path(tmp_path), stream.getvalue())
    refused(tmp_path, "method 14")


def test_size_is_bounded_packed_and_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(candles_path(tmp_path), b"0" * 50_000)
    monkeypatch.setattr(archive_file, "MAX_BYTES", 20_000)
    refused(tmp_path, "unpacks to more than 20000 bytes")
    monkeypatch.setattr(archive_file, "MAX_BYTES", 100)
    refused(tmp_path, "is larger than 100 bytes")


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(candles_path(tmp_path), b"0" * 50_000_000)
    monkeypatch.setattr(archive_file, "MAX_BYTES", 100_000)
    tracemalloc.start()
    try:
        refused(tmp_path, "unpacks to more than 100000 bytes")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    candles_path(tmp_path).mkdir(parents=True)
    refused(tmp_path, "cannot be read: Is a directory")


def test_a_right_checksum_is_accepted(tmp_path: Path) -> None:
    path = write(candles_path(tmp_path), csv_text(candle_rows()), checksum=True)
    assert len(read(tmp_path).table) == 288
    beside = path.with_name(path.name + ".CHECKSUM")
    beside.write_text(beside.read_text().strip().upper().replace(path.name.upper(), path.name))
    assert len(read(tmp_path).table) == 288


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = write(candles_path(tmp_path), csv_text(candle_rows()), checksum=True)
    write(path, csv_text(candle_rows(287)))
    refused(tmp_path, "does not match its CHECKSUM")


@pytest.mark.parametrize(
    "text",
    ["", "404", "0" * 64, "g" * 64 + "  BTCUSDT-5m-2024-09-14.zip", "0" * 64 + "  other.zip", "0" * 5000],
)
def test_a_malformed_checksum_is_refused(tmp_path: Path, text: str) -> None:
    path = write_candles(tmp_path)
    path.with_name(path.name + ".CHECKSUM").write_text(text)
    refused(tmp_path, r"zip\.CHECKSUM: is ")


# --- open interest ---------------------------------------------------------------------------------------------------


def test_samples_become_a_clean_day(tmp_path: Path) -> None:
    path = write_metrics(tmp_path)
    clean = read_samples(tmp_path)
    assert (clean.step, len(clean.table), clean.repairs) == (300, 288, {"unknown_values": 288})
    assert tuple(clean.table.columns) == OPEN_INTEREST_COLUMNS
    assert clean.table["snapshot_time"].iloc[1] == np.datetime64(at(300), "us")
    assert clean.table["contracts"].iloc[2] == 1004.25
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    clock = clean.facts.pop("clock")
    assert clean.facts == {"file": path.name, "sha256": digest, "header": True, "time_unit": "text"}
    assert (clock["rule"], clock["offset_seconds"], clock["samples"]) == ("convention", 0, 0)


@pytest.mark.parametrize(
    ("label", "unit"),
    [
        (lambda second: f"2024-09-14T{second // 3600:02}:{second // 60 % 60:02}:00.000", "text"),
        (lambda second: str(at(second) // 1000), "ms"),
        (lambda second: str(at(second)), "us"),
    ],
)
@pytest.mark.parametrize("header", [METRICS_HEADER, None])
def test_labels_may_be_written_otherwise(
    tmp_path: Path, label: Callable[[int], str], unit: str, header: tuple[str, ...] | None
) -> None:
    write_metrics(tmp_path / "plain")
    rows = [[label(300 * i), *row[1:]] for i, row in enumerate(sample_rows())]
    write(metrics_path(tmp_path), csv_text(rows, header))
    clean = read_samples(tmp_path)
    assert clean.facts["time_unit"] == unit
    assert clean.content_hash() == read_samples(tmp_path / "plain").content_hash()


def test_the_value_tells_the_clock(tmp_path: Path) -> None:
    write_candles(tmp_path)
    opened = read(tmp_path).table["open"].to_numpy()
    rows = sample_rows(200)
    for i, row in enumerate(rows):
        row[3] = f"{float(row[2]) * opened[i + 1]:.8f}"
    write_metrics(tmp_path, rows)
    clean = read_samples(tmp_path)
    assert clean.facts["clock"]["rule"] == "price"
    assert clean.table["snapshot_time"].iloc[0] == np.datetime64(at(300), "us")
    assert clean.repairs == {}


@pytest.mark.parametrize(
    ("column", "text", "match"),
    [
        (0, "", "row 4: create_time is blank"),
        (0, "yesterday", "row 4: create_time: "),
        (0, "1726272000000", "row 4: create_time: "),
        (1, "ETHUSDT", "row 4: is about 'ETHUSDT', not BTCUSDT"),
        (1, "", "row 4: is about '', not BTCUSDT"),
        (2, "many", "row 4: sum_open_interest: "),
        (7, "1,2", "row 4: Expected 8 columns, got 9"),
    ],
)
def test_a_bad_sample_is_named_by_row(tmp_path: Path, column: int, text: str, match: str) -> None:
    rows = sample_rows()
    rows[2][column] = text
    path = write_metrics(tmp_path, rows)
    with pytest.raises(MarketError, match=match) as caught:
        read_samples(tmp_path)
    assert str(path) in str(caught.value)


def test_blank_contracts_are_missing_not_refused(tmp_path: Path) -> None:
    rows = sample_rows()
    rows[2][2], rows[3][2] = "", "nan"
    write_metrics(tmp_path, rows)
    assert read_samples(tmp_path).repairs == {"invalid_contracts": 2, "unknown_values": 286}


def test_a_missing_file_of_samples_is_an_empty_day(tmp_path: Path) -> None:
    clean = read_samples(tmp_path)
    assert clean.facts == {"missing_file": "BTCUSDT-metrics-2024-09-14.zip"}
    assert (len(clean.table), clean.step, clean.repairs) == (0, 300, {})
    types = {name: str(kind) for name, kind in clean.table.dtypes.items()}
    assert types == {"snapshot_time": "datetime64[us]", "contracts": "float64", "value": "float64"}
    write(metrics_path(tmp_path), csv_text([], METRICS_HEADER))
    header_only = read_samples(tmp_path)
    assert header_only.content_hash() == clean.content_hash()


# --- the tree --------------------------------------------------------------------------------------------------------


def place(root: Path, symbol: str, interval: str, *days: date) -> None:
    """Place empty files: listing reads no file."""
    for day in days:
        write_bytes(candles_path(root, symbol, interval, day), b"")


def test_symbols_and_days_are_listed(tmp_path: Path) -> None:
    reader = ArchiveReader(tmp_path)
    assert reader.symbols() == []
    assert reader.days("BTCUSDT", "5m") == []
    place(tmp_path, "ETHUSDT", "5m", NEXT, DAY)
    place(tmp_path, "BTCUSDT", "1m", DAY)
    folder = candles_path(tmp_path, "ETHUSDT").parent
    for name in ("ETHUSDT-5m-2024-13-01.zip", "ETHUSDT-5m-2024-09-14.zip.CHECKSUM", "BTCUSDT-5m-2024-09-16.zip", "x"):
        (folder / name).touch()
    assert reader.symbols() == ["BTCUSDT", "ETHUSDT"]
    assert reader.days("ETHUSDT", "5m") == [DAY, NEXT]
    assert reader.days("ETHUSDT", "1m") == []


@pytest.mark.parametrize("symbol", ["../BTCUSDT", "btcusdt", ".*"])
def test_a_symbol_carries_no_path(tmp_path: Path, symbol: str) -> None:
    reader = ArchiveReader(tmp_path)
    for use in (
        lambda: reader.days(symbol, "5m"),
        lambda: reader.read_candles(symbol, DAY, 300),
        lambda: reader.read_open_interest(symbol, DAY, pd.DataFrame(), 300),
        lambda: reader.choose_interval(symbol, [DAY], None, False),
    ):
        with pytest.raises(HeatmapError, match="is not a symbol"):
            use()


@pytest.mark.parametrize(
    ("held", "wanted", "seconds"),
    [
        ({"5m": [DAY, NEXT], "15m": [DAY, NEXT]}, None, 300),
        ({"1m": [DAY, NEXT], "5m": [DAY, NEXT]}, None, 60),
        ({"1m": [DAY], "15m": [DAY, NEXT]}, None, 900),  # the finest that covers all
        ({"1m": [DAY], "5m": [DAY]}, None, 60),  # none covers all: the one that covers most
        ({"5m": [DAY], "15m": [NEXT]}, "15m", 900),
        ({"5m": [DAY, NEXT], "15m": [date(2020, 1, 1)]}, "15m", 900),  # some of the symbol is enough
        ({"5m": [DAY, NEXT], "15m": [DAY, NEXT]}, "1m", 300),  # none of it: the finest that covers
    ],
)
def test_choice_of_interval(tmp_path: Path, held: dict[str, list[date]], wanted: Interval | None, seconds: int) -> None:
    for interval, days in held.items():
        place(tmp_path, "BTCUSDT", interval, *days)
    assert ArchiveReader(tmp_path).choose_interval("BTCUSDT", [DAY, NEXT], wanted, False) == seconds


def test_a_strict_choice_takes_nothing_else(tmp_path: Path) -> None:
    reader = ArchiveReader(tmp_path)
    place(tmp_path, "BTCUSDT", "5m", DAY, NEXT, NEXT + timedelta(days=2))
    assert reader.choose_interval("BTCUSDT", [NEXT + timedelta(days=1)], "5m", True) == 300
    with pytest.raises(
        MarketError, match="no 15m candles of BTCUSDT; it holds 5m: 2024-09-14 to 2024-09-15, 2024-09-17"
    ):
        reader.choose_interval("BTCUSDT", [DAY], "15m", True)


@pytest.mark.parametrize("wanted", [None, "5m"])
def test_nothing_to_choose_from_says_what_there_is(tmp_path: Path, wanted: Interval | None) -> None:
    reader = ArchiveReader(tmp_path / "none")
    with pytest.raises(NoDataError, match="none is not there; give the folder that holds futures/um/daily"):
        reader.choose_interval("BTCUSDT", [DAY], wanted, False)
    reader = ArchiveReader(tmp_path)
    place(tmp_path, "ETHUSDT", "1h", DAY)
    with pytest.raises(NoDataError, match="does not know the symbol BTCUSDT; it holds ETHUSDT"):
        reader.choose_interval("BTCUSDT", [DAY], wanted, False)
    with pytest.raises(NoDataError, match=r"no 1m, 5m or 15m candles of ETHUSDT \(its folder holds 1h\)"):
        reader.choose_interval("ETHUSDT", [DAY], wanted, True)
    place(tmp_path, "ETHUSDT", "15m", DAY)
    with pytest.raises(NoDataError, match="no candles of ETHUSDT for 2024-09-15; it holds 15m: 2024-09-14"):
        reader.choose_interval("ETHUSDT", [NEXT], wanted, False)


def test_a_missing_day_is_named_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="is empty"):
        read(tmp_path)
    place(tmp_path, "BTCUSDT", "5m", *(NEXT + timedelta(days=2 * i) for i in range(7)))
    with pytest.raises(NoDataError) as caught:
        read(tmp_path)
    assert "no 5m candles of BTCUSDT for 2024-09-14 (BTCUSDT-5m-2024-09-14.zip is missing)" in str(caught.value)
    assert "it holds 2024-09-15, 2024-09-17, ..., 2024-09-25, 2024-09-27" in str(caught.value)


# --- many days -------------------------------------------------------------------------------------------------------


def test_many_days_come_in_order(tmp_path: Path) -> None:
    days = [DAY + timedelta(days=i) for i in range(12)]
    for day in days:
        write_candles(tmp_path, candle_rows(4, day=day), day=day)
    reader = ArchiveReader(tmp_path)
    assert [clean.day for clean in read_many(lambda day: reader.read_candles("BTCUSDT", day, 300), days)] == days


def test_the_first_error_comes_after_the_good_days() -> None:
    def number(day: date) -> int:
        if day.day in (17, 18):
            raise MarketError(str(day))
        return day.day

    stream = read_many(number, [DAY + timedelta(days=i) for i in range(9)])
    assert [next(stream) for _ in range(3)] == [14, 15, 16]
    with pytest.raises(MarketError, match="2024-09-17"):
        next(stream)


def test_only_so_many_days_wait() -> None:
    started = []
    lock = threading.Lock()

    def number(day: date) -> int:
        with lock:
            started.append(day)
        return day.day

    def days() -> Iterator[date]:
        for i in range(1000):
            yield DAY + timedelta(days=i)

    stream = read_many(number, days(), ahead=3)
    assert next(stream) == 14
    stream.close()  # type: ignore[attr-defined]
    assert len(started) <= 4


# --- real files ------------------------------------------------------------------------------------------------------


@pytest.mark.market
@pytest.mark.parametrize(
    ("symbol", "start", "count", "interval", "step"),
    [
        ("BTCUSDT", date(2024, 6, 19), 40, "5m", 3600),  # set A
        ("ETHUSDT", date(2024, 6, 19), 40, "15m", 3600),
        ("BTCUSDT", date(2024, 9, 13), 6, "5m", 300),  # set B
        ("DOGEUSDT", date(2024, 9, 13), 6, "5m", 300),
        ("BTCUSDT", date(2026, 3, 14), 19, "15m", 300),  # set C
    ],
)
def test_real_sets(market_dir: Path, symbol: str, start: date, count: int, interval: str, step: int) -> None:
    reader = ArchiveReader(market_dir / "binance_vision")
    days = [start + timedelta(days=i) for i in range(count)]
    assert reader.choose_interval(symbol, days, None, False) == SECONDS[interval]
    per_day = 86400 // SECONDS[interval]
    for day, candles in zip(
        days, read_many(lambda day: reader.read_candles(symbol, day, SECONDS[interval]), days), strict=True
    ):
        samples = reader.read_open_interest(symbol, day, candles.table, SECONDS[interval])
        partial = {date(2024, 9, 13): 36, date(2024, 9, 18): 253}.get(day)
        assert len(candles.table) == (partial or per_day)
        assert candles.repairs == ({"missing_candles": per_day - partial} if partial else {})
        first = {date(2024, 6, 19): 3, date(2026, 3, 14): 264}.get(day)
        assert len(samples.table) == (first or partial or 86400 // step)
        assert (samples.step, samples.repairs) == (step, {})
        measured = day != date(2024, 6, 19) and day.year != 2026  # three samples; no path every 5 minutes
        clock = samples.facts["clock"]
        assert (clock["rule"], clock["offset_seconds"]) == ("price" if measured else "convention", 0)
        assert candles.facts["time_unit"] == "ms"


@pytest.mark.market
def test_untouched_archive_files(market_dir: Path) -> None:
    reader = ArchiveReader(market_dir / "binance_vision")
    clean = reader.read_candles("BTCUSDT", date(2024, 10, 28), 3600)
    assert len(clean.table) == 24
    assert clean.table["trades"].iloc[0] == 85022
    assert clean.table["taker_buy_quote_volume"].iloc[0] == 164090858.68940
    spot = market_dir / "binance_vision/spot/daily/klines/BTCUSDT"
    hourly, _ = archive_file.parse_candles(archive_file.read_archive_csv(spot / "1h/BTCUSDT-1h-2024-10-28.zip"))
    assert len(hourly["open_time"]) == 24
    raw, facts = archive_file.parse_candles(archive_file.read_archive_csv(spot / "5m/BTCUSDT-5m-2026-03-15.zip"))
    assert (len(raw["row"]), facts["header"], facts["time_unit"]) == (288, False, "us")
    assert raw["open_time"][0] == np.datetime64("2026-03-15", "us")
