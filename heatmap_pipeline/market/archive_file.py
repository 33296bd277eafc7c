"""One file of the public archive: a zip of one CSV (or the CSV, plain or gzipped) in, its raw rows out.

Files come from downloads that break: every kind of damage becomes an error that names the file, the row where there is
one, and what to do. What the rows mean is decided elsewhere (`repair.py`, `clock.py`).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import struct
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from heatmap_pipeline.errors import printable
from heatmap_pipeline.files import open_regular
from heatmap_pipeline.market.archive_names import checksum_beside, read_checksum
from heatmap_pipeline.market.tables import CANDLE_COLUMNS, MarketError

MAX_BYTES = 16 * 2**20
"""Largest file and largest CSV that is read; a day of 1m candles has 0.2 MB."""

MAX_ROWS = 20_000
"""Most lines of a CSV that is read; a day of 1m candles has 1,441."""

CANDLE_HEADER = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
"""Columns of a file of candles, in their order. Only the first six names of a header are compared: others vary."""

METRICS_HEADER = (
    "create_time",
    "symbol",
    "sum_open_interest",
    "sum_open_interest_value",
    "count_toptrader_long_short_ratio",
    "sum_toptrader_long_short_ratio",
    "count_long_short_ratio",
    "sum_taker_long_short_vol_ratio",
)
"""Columns of a file of metrics, in their order; the four ratios are not read. The first four names are compared."""

LIQUIDATION_HEADER = (
    "time",
    "side",
    "order_type",
    "time_in_force",
    "original_quantity",
    "price",
    "average_price",
    "order_status",
    "last_fill_quantity",
    "accumulated_fill_quantity",
)
"""Columns of a file of liquidation orders (`liquidationSnapshot`), in their order; all names are compared."""

MAX_LIQUIDATION_ROWS = 200_000
"""Most lines of a file of liquidation orders: one order a second, every row printed twice, and some."""

_ARCHIVE_NAME = re.compile(r"\w+-(\d+[a-zA-Z]+|metrics|liquidationSnapshot)-\d{4}-\d{2}-\d{2}\.csv", re.IGNORECASE)
_HIDDEN = re.compile(r"^__MACOSX/|(^|/)(\._[^/]*|\.DS_Store)$")  # what a Mac puts into a zip that it makes
_ARROW_MESSAGE = re.compile(
    r"(?:In CSV column #(?P<column>\d+): )?(?:CSV parse error: )?Row #(?P<row>\d+): (?P<what>.*)", re.S
)
_MANY = 100
_DIGITS = "^[0-9]{1,18}$"
_LABEL = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$"
# All that the decoder of a damaged zip is known to raise; RuntimeError is its word for encrypted, OverflowError for
# places beyond 64 bits.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, RuntimeError, ValueError
)  # fmt: skip
_AGAIN = "delete it and download it again"


@dataclass(frozen=True)
class ArchiveCsv:
    """The CSV inside one archive file.

    Attributes:
        path: the zip, or the CSV by itself, plain or gzipped.
        sha256: of that file, hexadecimal.
        data: the CSV, valid UTF-8, without a byte order mark and without line ends at its end.
        matches: whether the zip matches the CHECKSUM beside it, or has none.
    """

    path: Path
    sha256: str
    data: bytes
    matches: bool = True


def read_archive_csv(path: Path, max_rows: int = MAX_ROWS, *, accept_checksum: bool | None = None) -> ArchiveCsv:
    """Read the one CSV of an archive file, zipped or not, and check it against the CHECKSUM beside it if there is one.

    Args:
        path: the zip, or the CSV by itself, plain or gzipped (by its ending).
        max_rows: most lines that a right file of its kind has.
        accept_checksum: whether the zip is taken although it does not match its CHECKSUM; None if nobody can choose.

    Raises:
        FileNotFoundError: if there is no such file.
        MarketError: for anything wrong with the file, its checksum or the CSV's encoding.
    """
    packed = _read_bytes(path, MAX_BYTES)
    digest = hashlib.sha256(packed).hexdigest()
    matches = _matches_checksum(path, digest)
    if not matches and not accept_checksum:
        or_take = f", or take it as it is by HEATMAP_ACCEPT_CHECKSUM={path.stem}" if accept_checksum is False else ""
        raise MarketError(f"{path}: does not match its CHECKSUM (sha256 is {digest}); {_AGAIN}{or_take}")
    data = _csv_in(path, packed).removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
    if max(data.count(b"\n"), data.count(b"\r")) >= max_rows:
        refuse(path, f"has more than {max_rows} lines, which no file of one day has")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        refuse(path, f"is not UTF-8 text (byte 0x{data[error.start]:02x})", row)
    return ArchiveCsv(path, digest, data, matches)


def refuse(path: Path, what: str, row: int | None = None) -> NoReturn:
    """Raise a MarketError about a file that another copy may repair."""
    place = str(path) if row is None else f"{path}, row {row}"
    raise MarketError(f"{place}: {what}; {_AGAIN}")


def parse_candles(file: ArchiveCsv) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the rows of a file of candles, and facts about the file; nothing is judged or repaired.

    Columns: `CANDLE_COLUMNS`, `close_time`, `row` (line in the CSV). `open_time` and `close_time` are datetime64[us],
    the latter NaT for blank and 0, everything else is float64 with NaN for blank.

    Raises:
        MarketError: for a wrong header or number of columns, a field that is no number, or mixed units of time.
    """
    header = _has_header(file, CANDLE_HEADER, 6)
    types = {name: pa.float64() for name in CANDLE_HEADER if name != "ignore"}
    types |= {"open_time": pa.string(), "close_time": pa.string()}
    table = _read_csv(file, CANDLE_HEADER, types, header)
    row = np.arange(len(table)) + 1 + header
    opened, unit = _instants(file, table["open_time"], "open_time", row)
    columns: dict[str, NDArray[Any]] = {
        name: table["count" if name == "trades" else name].to_numpy() for name in CANDLE_COLUMNS[1:]
    }
    closed = pc.utf8_trim(table["close_time"], " \t")
    known = pc.invert(pc.is_in(closed, pa.array(["", "0"]))).to_numpy()
    columns["close_time"] = np.full(len(row), np.datetime64("NaT", "us"))
    columns["close_time"][known], _ = _instants(file, closed.filter(known), "close_time", row[known])
    return {"open_time": opened, **columns, "row": row}, _facts(file, header, unit)


def parse_samples(file: ArchiveCsv, symbol: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the rows of a file of metrics as `label` (datetime64[us]), `contracts`, `value` and `row`, and facts.

    Labels may be text (YYYY-MM-DD HH:MM:SS, also with T and a fraction) or milliseconds or microseconds since 1970.

    Raises:
        MarketError: as `parse_candles`, and for a row of another symbol.
    """
    header = _has_header(file, METRICS_HEADER, 4)
    types = {
        "create_time": pa.string(),
        "symbol": pa.string(),
        "sum_open_interest": pa.float64(),
        "sum_open_interest_value": pa.float64(),
    }
    table = _read_csv(file, METRICS_HEADER, types, header)
    row = np.arange(len(table)) + 1 + header
    label, unit = _instants(file, table["create_time"], "create_time", row, text=True)
    other = ~pc.equal(table["symbol"], symbol).to_numpy()
    if other.any():
        first = int(np.argmax(other))
        refuse(file.path, f"is about {table['symbol'][first].as_py()[:40]!r}, not {symbol}", int(row[first]))
    contracts, value = (table[name].to_numpy() for name in ("sum_open_interest", "sum_open_interest_value"))
    return {"label": label, "contracts": contracts, "value": value, "row": row}, _facts(file, header, unit)


def parse_liquidation_orders(file: ArchiveCsv) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the rows of a file of liquidation orders, and facts about the file; nothing is judged or repaired.

    Columns: `time` (datetime64[us]), `side` (of the ORDER, as written), `price` (the order's), `average_price` (of what
    was filled), `filled` (contracts in all), and `row`; float64 with NaN for blank.

    Raises:
        MarketError: as `parse_candles`.
    """
    header = _has_header(file, LIQUIDATION_HEADER, len(LIQUIDATION_HEADER))
    types = {name: pa.float64() for name in ("price", "average_price", "accumulated_fill_quantity")}
    types |= {"time": pa.string(), "side": pa.string()}
    table = _read_csv(file, LIQUIDATION_HEADER, types, header)
    row = np.arange(len(table)) + 1 + header
    time, unit = _instants(file, table["time"], "time", row)
    columns: dict[str, Any] = {"time": time, "side": pd.array(table["side"].to_pylist(), dtype="str")}
    columns |= {name: table[name].to_numpy() for name in ("price", "average_price")}
    columns |= {"filled": table["accumulated_fill_quantity"].to_numpy(), "row": row}
    return pd.DataFrame(columns), _facts(file, header, unit)


def _facts(file: ArchiveCsv, header: bool, unit: str) -> dict[str, Any]:
    return {"file": file.path.name, "sha256": file.sha256, "header": header, "time_unit": unit}


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        with open_regular(path) as stream:
            data = stream.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise MarketError(f"{path}: cannot be read: {error.strerror}; check that it is a readable file") from None
    if len(data) > limit:
        refuse(path, f"is larger than {limit} bytes, which no file of one day is")
    return data


def _matches_checksum(path: Path, digest: str) -> bool:
    beside = checksum_beside(path)
    try:
        text = _read_bytes(beside, 4096)
    except FileNotFoundError:
        return True
    published = read_checksum(text)
    if published is None:
        refuse(beside, "is not a checksum file (one line: sha256, two blanks, file name)")
    sha256, name = published
    if name != path.name.encode():
        refuse(beside, f"is the checksum of {printable(name.decode('utf-8', 'replace'))}, not of {path.name}")
    return sha256 == digest


def _csv_in(path: Path, packed: bytes) -> bytes:
    """Return the CSV that a file is or holds, by its ending."""
    name = path.name.lower()
    if name.endswith(".csv"):
        return packed
    if not packed:
        refuse(path, "is empty")
    data = _gunzip(path, packed) if name.endswith(".gz") else _unpack(path, packed)
    if len(data) > MAX_BYTES:
        refuse(path, f"unpacks to more than {MAX_BYTES} bytes, which no file of one day does")
    return data


def _gunzip(path: Path, packed: bytes) -> bytes:
    """Return what a gzip file holds; never more than a byte over `MAX_BYTES` of it are unpacked."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            return stream.read(MAX_BYTES + 1)
    except _DAMAGE as error:
        refuse(path, f"is not a whole gzip file ({printable(str(error))})")


def _unpack(path: Path, packed: bytes) -> bytes:
    """Return the one CSV of a zip; never more than a byte over `MAX_BYTES` of it are unpacked."""
    if packed[:1024].lstrip()[:1] == b"<":
        refuse(path, "is a web page, not a zip file: the download failed")
    if packed.count(b"PK\x01\x02") > _MANY:  # before each of them becomes an object
        refuse(path, f"holds more than {_MANY} files, not the one CSV of an archive file")
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            around = f"{path.stem}/"  # a folder that was compressed stands in the zip as well
            members = [
                member
                for member in archive.infolist()
                if _name_of(member) != around and not _HIDDEN.search(member.filename)
            ]
            if len(members) != 1:
                refuse(path, f"holds {len(members)} files, not the one CSV of an archive file")
            member = members[0]
            _check_member(path, member)
            with archive.open(member) as stream:
                return stream.read(MAX_BYTES + 1)
    except _DAMAGE as error:
        refuse(path, f"is not a whole zip file ({printable(str(error))})")


def _check_member(path: Path, member: zipfile.ZipInfo) -> None:
    name = _name_of(member).removeprefix(f"{path.stem}/")
    if "/" in name or "\\" in name or not name.lower().endswith(".csv"):
        refuse(path, f"holds {name[:80]!r}, which is not the plain name of a CSV file")
    if _ARCHIVE_NAME.fullmatch(name) and name.lower() != path.stem.lower() + ".csv":
        refuse(path, f"holds {name[:80]}, another file of the archive under a wrong name")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse(path, f"is compressed in a way (method {member.compress_type}) that the archive does not use")


def _name_of(member: zipfile.ZipInfo) -> str:
    """Return the name of a file in a zip, which some programs write in UTF-8 without saying so."""
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            return member.filename.encode("cp437").decode("utf-8")
    return member.filename


def _has_header(file: ArchiveCsv, names: tuple[str, ...], compared: int) -> bool:
    """Return whether the first line is a header, which then has to begin with the expected names."""
    line = file.data[:4096].split(b"\n", 1)[0].decode("utf-8", "replace").strip()
    if not line[:1].isalpha():
        return False
    header = [name.strip().lower() for name in line.split(",")]
    if header[:compared] != list(names[:compared]) or len(header) != len(names):
        wanted = ",".join(names[:compared])
        refuse(file.path, f"the header is {line[:200]!r}, not {len(names)} columns beginning {wanted}", 1)
    return True


def _read_csv(file: ArchiveCsv, names: tuple[str, ...], types: dict[str, Any], header: bool) -> pa.Table:
    """Read the columns named in `types`; every line has to have all of `names`."""
    if not file.data or (header and b"\n" not in file.data):
        return pa.table({name: pa.array([], kind) for name, kind in types.items()})
    try:
        return csv.read_csv(
            pa.BufferReader(file.data),
            # One thread and one block: rows keep their numbers, so that errors can name them.
            read_options=csv.ReadOptions(
                use_threads=False,
                column_names=list(names),
                skip_rows=int(header),
                block_size=len(file.data) + 1,
            ),
            parse_options=csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[""]),
        )
    except pa.ArrowInvalid as error:
        match = _ARROW_MESSAGE.fullmatch(str(error))
        if not match:
            refuse(file.path, f"is not a CSV file of {len(names)} columns ({printable(str(error))})")
        column = f"{names[int(match['column'])]}: " if match["column"] else ""
        refuse(file.path, column + printable(match["what"]), int(match["row"]))


def _instants(
    file: ArchiveCsv, column: Any, name: str, row: NDArray[np.int64], *, text: bool = False
) -> tuple[NDArray[np.datetime64], str]:
    """Return a column of times as datetime64[us] and the unit it is written in: text, ms or us, told by magnitude.

    Only whole times are taken: the CSV reader by itself also takes hexadecimal counts, and a date for its midnight.
    """
    column = pc.utf8_trim(column, " \t")

    def check(wrong: NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            first = int(np.argmax(wrong))
            written = column[first].as_py()[:40]
            refuse(file.path, what.format(written if written.isdigit() else repr(written)), int(row[first]))

    check(pc.equal(column, "").to_numpy(), f"{name} is blank")
    text = text and len(column) > 0 and not column[0].as_py().isdigit()
    matching = pc.match_substring_regex(column, _LABEL if text else _DIGITS).to_numpy()
    check(~matching, f"{name}: {{}} is not a time" + (" (YYYY-MM-DD HH:MM:SS)" if text else " (a whole number)"))
    if text:
        try:
            label = pc.cast(column, pa.timestamp("us")).to_numpy()
        except pa.ArrowInvalid:  # which of them is none, the slower reader says
            read = pd.to_datetime(column.to_numpy(), format="ISO8601", errors="coerce")
            label = read.to_numpy().astype("datetime64[us]")
        check(~(label >= np.datetime64("1970")), f"{name} {{}} is not in the calendar since 1970")
        return label, "text"
    value = pc.cast(column, pa.int64()).to_numpy()
    # 1e11 ms is 1973 and 1e14 ms is 5138; a microsecond count of any year in between is a thousand times that.
    milliseconds = (value >= 10**11) & (value < 10**14)
    microseconds = (value >= 10**14) & (value < 10**17)
    check(~(milliseconds | microseconds), f"{name} {{}} is neither milliseconds nor microseconds since 1970")
    if milliseconds.any() and microseconds.any():
        check(milliseconds != milliseconds[0], f"{name} changes between milliseconds and microseconds")
    if microseconds.any():
        return value.astype("datetime64[us]"), "us"
    return (value * 1000).astype("datetime64[us]"), "ms"
