"""Liquidations in plain files: CSV, gzipped CSV or Parquet, single events or sums per interval.

A folder holds files by symbol, `SYMBOL.csv`, `SYMBOL-anything.csv.gz`, `SYMBOL-anything.parquet`, or any such file in a
folder `SYMBOL` of it; SYMBOL is the id of a market (BTCUSDT is Binance's, BYBIT_BTCUSDT Bybit's). A market of another
exchange than Binance is told of by files of its pair too. Columns, in any order, times in UTC:

    time                of the liquidation, or the start of the interval: ISO 8601 (without a zone: UTC), or seconds,
                        milliseconds or microseconds since 1970; may be called timestamp
    side                of the POSITION: long or short; or the exchange's own word, where `exchange` is given
    raw_side            the exchange's own word, instead of `side` or beside it: then the two have to agree
    quantity            units of the base; 0 is allowed for sums
    price               may be blank or left out
    volume              quote asset; may be blank or left out: then quantity x price
    symbol              may be left out; every row has to be of the file's symbol
    exchange            may be left out: then it is that of the market that the file is called after; or `source`, of
                        which the exchange is taken
    resolution_seconds  0 = single liquidations, 3600 = sums per hour
    complete            whether the exchange prints every liquidation there; may be left out: then it does not

Without `resolution_seconds` the file's name tells (`BTCUSDT-liquidations-1h-2024.csv`); else a file in which every row
has a price holds single events, and one in which none has holds sums of the step that its times keep most often.

A file of sums records from its first interval to the end of its last, one of events from its first event to its last.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from heatmap_pipeline.errors import printable
from heatmap_pipeline.files import open_regular
from heatmap_pipeline.market.liquidations.sides import position_side
from heatmap_pipeline.market.liquidations.tables import (
    SIDES,
    Liquidations,
    clean_liquidations,
    drop_redelivered,
    exchange_of,
    halve_doubled,
    joined,
    merge_ranges,
    refuse_row,
)
from heatmap_pipeline.market.repair import step_of_labels
from heatmap_pipeline.market.tables import MarketError, NoDataError
from heatmap_pipeline.settings import check_symbol
from heatmap_pipeline.symbols import exchange_and_name, own_exchange, pair_of, typed_name

MAX_BYTES = 512 * 2**20
"""Largest file that is read, unpacked; a year of single liquidations of one symbol has some 50 MB."""

COLUMNS = (
    "time", "symbol", "side", "raw_side", "price", "quantity", "volume", "exchange", "resolution_seconds", "complete"
)  # fmt: skip
"""Names a header may have; `timestamp` for time and `source` for exchange are understood, `day` is passed over."""

_ALIASES = {"timestamp": "time", "source": "exchange"}
_ENDINGS = (".csv", ".csv.gz", ".parquet")
_STEP = re.compile(r"-(\d{1,4})(s|m|h|d)(?=[-.])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EXCHANGE = re.compile(r"[a-z][a-z0-9]{1,19}")
_NEWEST = 2**32 * 10**6  # the year 2106, microseconds
_TRUTH = {"true": True, "1": True, "false": False, "0": False, "": False}


class PlainFolder:
    """Reads the files of a folder, each of one symbol.

    Args:
        root: the folder.

    Example:
        >>> [made] = PlainFolder(Path("liquidations")).read("BTCUSDT")  # doctest: +SKIP
        >>> made.source, made.table.shape  # doctest: +SKIP
        ('binance_file', (1846, 7))
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def files(self, symbol: str) -> list[Path]:
        """Return the files called after a symbol, sorted by name; raises MarketError if there is no such folder."""
        check_symbol(symbol)
        try:
            paths = [path for path in self.root.iterdir() if re.fullmatch(rf"{symbol}([-.].*)?", path.name)]
            inside = self.root / symbol
            paths = [path for path in paths if path != inside] + (list(inside.iterdir()) if inside.is_dir() else [])
        except OSError as error:
            raise MarketError(f"liquidations {self.root}: {error.strerror}; give a folder of files by symbol") from None
        return sorted(path for path in paths if path.name.endswith(_ENDINGS) and not path.is_dir())

    def read(self, symbol: str) -> list[Liquidations]:
        """Return what all files of a market say, also those of its pair, one `Liquidations` per exchange.

        Repairs: `doubled_rows` (an exchange's every row stood twice in a file), `redelivered_rows` (the same event in
        another file), and those of `clean_liquidations`. Facts: the names of the files.

        Raises:
            NoDataError: if the folder has no file of the symbol.
            MarketError: for a file, a header or a row that cannot be used, and for sums and single events (or sums of
                two steps) of one exchange and time; names the file.
        """
        names = dict.fromkeys((symbol, pair_of(symbol)))
        paths = {path: name for name in names for path in self.files(name)}
        if not paths:
            raise NoDataError(
                f"liquidations {self.root}: no file of {symbol}; name it {symbol}-anything with one of the endings "
                f"{', '.join(_ENDINGS)}"
            )
        return read_files(paths, symbol)


def read_files(paths: Mapping[Path, str], symbol: str) -> list[Liquidations]:
    """Return what files say of a market, one `Liquidations` per exchange; as `PlainFolder.read`.

    Args:
        paths: the files, with the symbol that each is called after.
        symbol: id of the market.
    """
    parts = [part for path, name in paths.items() for part in _parts(path, name, own_exchange(name))]
    made = []
    for name in sorted({part.exchange for part in parts}):
        mine = [part for part in parts if part.exchange == name]
        _refuse_two_kinds_at_once(mine)
        kinds = dict.fromkeys(part.kind for part in mine)
        made.append(
            _in_time_order([_of_one_kind([part for part in mine if part.kind == kind], symbol) for kind in kinds])
        )
    return made


def _refuse_two_kinds_at_once(parts: Sequence[_Part]) -> None:
    """Raise where files of an exchange tell of one time in two ways: together they would count it twice."""
    for number, part in enumerate(parts):
        for other in parts[:number]:
            shared = part.recorded[0] < other.recorded[1] and other.recorded[0] < part.recorded[1]
            if shared and part.kind != other.kind:
                raise MarketError(
                    f"{part.path}: holds {_described(part)} of {part.exchange}, {other.path} {_described(other)} of "
                    "the same time; keep one kind of them in the folder, two would count what they share twice"
                )


def _in_time_order(kinds: Sequence[Liquidations]) -> Liquidations:
    """Return as one what files of several kinds say, each of its own time."""
    if len(kinds) == 1:
        return kinds[0]
    whole = joined(kinds)
    table = whole.table.sort_values("timestamp", kind="stable", ignore_index=True)
    return replace(whole, table=table, facts={"files": [name for part in kinds for name in part.facts["files"]]})


def _of_one_kind(parts: Sequence[_Part], symbol: str) -> Liquidations:
    repairs: dict[str, int] = {}
    for part in parts:
        for repair, count in part.repairs.items():
            repairs[repair] = repairs.get(repair, 0) + count
    raw = pd.concat([part.raw for part in parts], ignore_index=True)
    resolution, complete = parts[0].kind
    if not resolution:
        number = np.repeat(np.arange(len(parts)), [len(part.raw) for part in parts])
        raw = drop_redelivered(raw, number, repairs)
    return clean_liquidations(
        raw,
        symbol=symbol,
        source=f"{parts[0].exchange}_file",
        place=str(parts[0].path),
        resolution_seconds=resolution,
        complete=complete,
        recorded=merge_ranges([part.recorded for part in parts]),
        repairs=repairs,
        facts={"files": [part.path.name for part in parts]},
    )


class _Part:
    """The rows of one exchange in one file."""

    def __init__(self, path: Path, exchange: str, raw: pd.DataFrame, resolution: int, complete: bool) -> None:
        self.path, self.exchange, self.kind = path, exchange, (resolution, complete)
        self.repairs: dict[str, int] = {}
        self.raw = (raw if resolution else halve_doubled(raw, self.repairs)).assign(place=str(path))
        time = raw["time"].to_numpy()
        self.recorded = int(time.min()), int(time.max()) + max(resolution * 10**6, 1)


def _parts(path: Path, symbol: str, exchange: str) -> list[_Part]:
    """Return the rows of one file by exchange; an empty file is an empty list."""
    columns, first_row = _read(path)
    row = np.arange(len(columns["time"])) + first_row
    _check_symbol(path, columns, row, symbol)
    exchanges = _exchanges(path, columns, row, exchange)
    raw = pd.DataFrame(
        {
            "time": _times(path, columns["time"], row),
            "side": pd.array(_sides(path, columns, row, exchanges), dtype="str"),
            **{name: _numbers(path, columns, row, name) for name in ("price", "quantity", "volume")},
            "row": row,
        }
    )
    steps = _numbers(path, columns, row, "resolution_seconds")
    complete = _truth(path, columns, row)
    parts = []
    for name in sorted(set(exchanges.tolist())):
        mine = exchanges == name
        for what, values in (("resolution_seconds", steps[mine]), ("complete", complete[mine])):
            changed = (values != values[0]) & ~(np.isnan(values) & np.isnan(values[0]))
            if changed.any():
                refuse_row(str(path), int(row[mine][np.argmax(changed)]), f"{what} differs from the rows before")
        step = _resolution(path, raw.loc[mine], steps[mine][0])
        off = raw["time"].to_numpy()[mine] % (step * 10**6) if step else np.zeros(int(mine.sum()))
        if off.any():
            refuse_row(
                str(path), int(row[mine][np.argmax(off != 0)]), f"the time is no start of an interval of {step} s"
            )
        parts.append(_Part(path, name, raw.loc[mine], step, bool(complete[mine][0])))
    return parts


def _read(path: Path) -> tuple[dict[str, Any], int]:
    """Return the columns of a file by their names, each an Arrow array, and the number of the first row."""
    if path.name.endswith(".parquet"):
        try:
            with open_regular(path) as stream:
                table = pq.read_table(stream, partitioning=None)
        except (pa.ArrowException, OSError, ValueError) as error:
            _refuse(path, f"is not a Parquet file that can be read ({printable(str(error))})")
        first = 1
    else:
        data = _bytes(path).removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
        if not data:
            _refuse(path, "is empty; it needs a header at least")
        header = [name.strip() for name in data.split(b"\n", 1)[0].decode("utf-8", "replace").strip().split(",")]
        _check_header(path, header)
        table = _read_csv(path, data, header)
        first = 2
    names = [str(name).strip().lower() for name in table.column_names]
    if first == 1:
        _check_header(path, names)
    columns = {_ALIASES.get(name, name): table.column(at).combine_chunks() for at, name in enumerate(names)}
    return columns, first


def _read_csv(path: Path, data: bytes, header: list[str]) -> pa.Table:
    if b"\n" not in data:
        return pa.table({name: pa.array([], pa.string()) for name in header})
    try:
        return csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(use_threads=False, column_names=header, skip_rows=1, block_size=len(data) + 1),
            parse_options=csv.ParseOptions(ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as error:
        _refuse(path, f"is not a CSV of the {len(header)} columns of its header ({printable(str(error))})")


def _bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as packed:
            stream = gzip.GzipFile(fileobj=packed) if path.name.endswith(".gz") else packed
            data = stream.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        _refuse(path, f"is not a whole gzip file ({printable(str(error))})")
    except OSError as error:
        _refuse(path, f"cannot be read: {error.strerror}")
    if len(data) > MAX_BYTES:
        _refuse(path, f"holds more than {MAX_BYTES} bytes; split it by year")
    return data


def _check_header(path: Path, header: list[str]) -> None:
    """Raise for a header that lacks a column, has one twice, or one that nobody knows."""
    names = [_ALIASES.get(name.lower(), name.lower()) for name in header]
    shown = printable(",".join(header))
    if unknown := [name for name in names if name not in (*COLUMNS, "day")]:
        _refuse(path, f"the header is {shown!r}: {printable(unknown[0], 40)!r} is none of {', '.join(COLUMNS)}")
    if twice := [name for name in names if names.count(name) > 1]:
        _refuse(path, f"the header is {shown!r}: {twice[0]} stands there twice")
    for name in ("time", "quantity"):
        if name not in names:
            _refuse(path, f"the header is {shown!r}: it lacks {name}")
    if not {"side", "raw_side"} & set(names):
        _refuse(path, f"the header is {shown!r}: it lacks side (long or short), or raw_side with exchange")


def _text(columns: dict[str, Any], name: str, length: int) -> list[str]:
    """Return a column as text, blank where it is blank or missing."""
    if name not in columns:
        return [""] * length
    return ["" if value is None else str(value).strip() for value in columns[name].to_pylist()]


def _check_symbol(path: Path, columns: dict[str, Any], row: NDArray[np.int64], symbol: str) -> None:
    if "symbol" not in columns:
        return
    for word, number in zip(_text(columns, "symbol", len(row)), row, strict=True):
        if word not in (symbol, exchange_and_name(symbol)[1], typed_name(symbol)):
            refuse_row(str(path), int(number), f"is about {printable(word, 40)!r}, not {symbol}")


def _exchanges(path: Path, columns: dict[str, Any], row: NDArray[np.int64], exchange: str) -> NDArray[np.str_]:
    words = [exchange_of(word.lower()) or exchange for word in _text(columns, "exchange", len(row))]
    for name in sorted(set(words)):
        if not _EXCHANGE.fullmatch(name):
            at = words.index(name)
            refuse_row(str(path), int(row[at]), f"exchange {printable(name, 40)!r} is no name (lower-case letters)")
    return np.array(words, dtype=np.str_)


def _sides(path: Path, columns: dict[str, Any], row: NDArray[np.int64], exchanges: NDArray[np.str_]) -> list[str]:
    """Return the side of the position of each row."""
    named = "exchange" in columns
    sides = []
    words = zip(_text(columns, "side", len(row)), _text(columns, "raw_side", len(row)), exchanges, row, strict=True)
    for side, raw_side, exchange, number in words:
        if raw_side or side.lower() not in SIDES:
            word = raw_side or side
            meant = position_side(str(exchange), word)
            if not named or meant is None:
                why = f"{exchange} does not say so" if named else "which side of a position that is depends on exchange"
                refuse_row(str(path), int(number), f"side {printable(word, 20)!r}: {why}; write long or short")
            if raw_side and side and side.lower() != meant:
                refuse_row(
                    str(path), int(number), f"side is {printable(side, 20)}, but {raw_side} of {exchange} is a {meant}"
                )
            sides.append(meant)
        else:
            sides.append(side.lower())
    return sides


def _numbers(path: Path, columns: dict[str, Any], row: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """Return a column as float64, NaN where it is blank or missing."""
    if name not in columns:
        return np.full(len(row), np.nan)
    column = columns[name]
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        try:
            return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
        except (pa.ArrowException, ValueError):
            _refuse(path, f"column {name} holds no numbers but {column.type}")
    text = pd.Series(_text(columns, name, len(row)), dtype="str")
    value: NDArray[np.float64] = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    wrong = np.isnan(value) & (text != "").to_numpy()
    if wrong.any():
        at = int(np.argmax(wrong))
        refuse_row(str(path), int(row[at]), f"{name} {printable(str(text.iloc[at]), 40)!r} is not a number")
    return value


def _truth(path: Path, columns: dict[str, Any], row: NDArray[np.int64]) -> NDArray[np.float64]:
    words = [word.lower() for word in _text(columns, "complete", len(row))]
    for word, number in zip(words, row, strict=True):
        if word not in _TRUTH:
            refuse_row(str(path), int(number), f"complete {printable(word, 20)!r} is neither true nor false")
    return np.array([_TRUTH[word] for word in words], dtype=np.float64)


def _times(path: Path, column: Any, row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return times as microseconds since 1970, however they are written."""
    if pa.types.is_timestamp(column.type):
        time = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())
        value = np.asarray(time.fill_null(-1).to_numpy(), dtype=np.int64)
        text = [str(entry) for entry in column.to_pylist()]
    else:
        text = _text({"time": column}, "time", len(row))
        value = np.full(len(row), -1, dtype=np.int64)
        count = np.array([bool(re.fullmatch(r"\d{10,17}", word)) for word in text], dtype=bool)
        for place in np.flatnonzero(count):
            number = int(text[int(place)])
            value[place] = number * (1_000_000 if number < 10**11 else 1000 if number < 10**14 else 1)
        written = pd.Series([word for word, whole in zip(text, count, strict=True) if not whole], dtype="str")
        written = written.where(written.str.match(r"\d{4}-\d{2}-\d{2}"))
        instant = pd.to_datetime(written, format="ISO8601", utc=True, errors="coerce")
        known = instant.dt.tz_localize(None).to_numpy().astype("datetime64[us]")
        value[~count] = np.where(np.isnat(known), -1, known.astype(np.int64))
    wrong = (value < 0) | (value > _NEWEST)
    if wrong.any():
        at = int(np.argmax(wrong))
        refuse_row(
            str(path), int(row[at]), f"time {printable(text[at], 40)!r} is neither ISO 8601 nor a count since 1970"
        )
    return value


def _resolution(path: Path, raw: pd.DataFrame, written: float) -> int:
    """Return the seconds of the intervals that rows are sums of, 0 for single events."""
    if not np.isnan(written):
        if written < 0 or written != int(written) or written > 86400:
            _refuse(path, f"resolution_seconds {written:g} is not a whole number of seconds up to a day")
        return int(written)
    if match := _STEP.search(path.name):
        return int(match[1]) * _UNITS[match[2]]
    priced = ~np.isnan(raw["price"].to_numpy())
    if priced.all():
        return 0
    step = step_of_labels(raw["time"].to_numpy(), 0)
    if priced.any() or step < 1:
        _refuse(
            path,
            "does not tell whether its rows are single events (each with a price) or sums (none with a price); add a "
            "column resolution_seconds (0, or 3600 for hours), or the interval to its name (SYMBOL-1h.csv)",
        )
    return step


def _described(part: _Part) -> str:
    resolution, complete = part.kind
    return f"{'complete ' if complete else ''}{f'sums of {resolution} s' if resolution else 'single events'}"


def _refuse(path: Path, what: str) -> NoReturn:
    raise MarketError(f"{path}: {what}")
