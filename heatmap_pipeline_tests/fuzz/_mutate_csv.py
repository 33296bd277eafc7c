"""Damage to a CSV: to its fields, its times, its rows, its columns, its line ends and its bytes.

An operation takes the table and a source of small numbers that say where; what it does is never random by itself, so
that a failing case can be made smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

Step = tuple[str, tuple[int, ...]]
"""An operation by name, and the numbers it draws from."""


@dataclass
class Table:
    """A CSV taken apart. `tail` follows the last line; `head` comes before the first."""

    lines: list[list[str]]
    end: str = "\n"
    head: bytes = b""
    tail: bytes = b""

    def encode(self) -> bytes:
        text = "".join(",".join(fields) + self.end for fields in self.lines)
        return self.head + text.encode("utf-8", "surrogatepass") + self.tail


class Where:
    """Numbers drawn beforehand, one after the other; 0 when they are used up."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = iter(numbers)

    def below(self, limit: int) -> int:
        return next(self._numbers, 0) % limit if limit > 0 else 0

    def row(self, table: Table) -> list[str]:
        """Return a line of data (not the header, if that is possible)."""
        lines = [line for line in table.lines if line and not line[0][:1].isalpha()] or table.lines or [[""]]
        return lines[self.below(len(lines))]


def _hexadecimal(text: str) -> str:
    return hex(int(text)) if text.isdecimal() and text.isascii() and len(text) < 30 else "0x1F"


def _digits(zero: str) -> Callable[[str], str]:
    return lambda text: "".join(chr(ord(zero) + int(c)) if c in "0123456789" else c for c in text)


FIELDS: tuple[Callable[[str], str], ...] = (
    *((lambda text, new=new: new) for new in (
        "", " ", "0", "-0", "-1", "1", "nan", "NaN", "-nan", "nan(1)", "inf", "-Infinity", "1e400", "-1e400", "1e-400",
        "1e308", "1e19", "1e12", "9" * 400, "0." + "0" * 400 + "1", ".", "-", "+", "e", "1e", "1e+", "0x1p3", "1d5",
        "1f", "true", "null", "None", "N/A", "1_000", "1 000", "1'000", "1.000,5", "1,000.5", "٣", "½", "²", "\x00",
        "\x1b[2J", "😀", "=1+1", "../../etc/passwd", "'; DROP TABLE raw_candles; --", "A" * 5000, "\ufeff1", "1\u200b",
    )),
    lambda text: "-" + text,
    lambda text: "+" + text,
    lambda text: " " + text + " ",
    lambda text: "\t" + text,
    lambda text: "\x0b" + text,
    lambda text: "\xa0" + text,
    lambda text: text + "\x00",
    lambda text: '"' + text + '"',
    lambda text: "'" + text,
    lambda text: "000" + text,
    lambda text: text + "0" * 30,
    lambda text: text[:-1],
    lambda text: text[1:],
    lambda text: text[::-1],
    lambda text: text.replace(".", ""),
    lambda text: text.replace(".", ","),
    lambda text: text.replace(".", ";"),
    lambda text: text[:1] + "_" + text[1:],
    lambda text: text + "e1",
    lambda text: text + "e-7",
    lambda text: text + "E+00",
    lambda text: text + text,
    _hexadecimal,
    _digits("٠"),
    _digits("０"),
)  # fmt: skip
"""What a field may become."""


def _later(milliseconds: int) -> Callable[[str], str]:
    def moved(text: str) -> str:
        if text.isdecimal() and text.isascii() and len(text) < 30:
            return str(int(text) + milliseconds * (1000 if len(text) > 14 else 1))
        digits = text[14:19]
        if len(text) >= 19 and digits.replace(":", "").isdigit() and digits[2:3] == ":":
            seconds = (int(digits[:2]) * 60 + int(digits[3:]) + milliseconds // 1000) % 3600
            return f"{text[:14]}{seconds // 60:02}:{seconds % 60:02}{text[19:]}"
        return text

    return moved


TIMES: tuple[Callable[[str], str], ...] = (
    *(_later(ms) for ms in (1, -1, 1000, 20_000, 30_000, 31_000, 60_000, 150_000, 300_000, -300_000, 900_000)),
    *(_later(ms) for ms in (86_400_000, -86_400_000, 31_536_000_000, 7 * 3_600_000)),
    lambda text: text + "000",
    lambda text: text[:-3],
    lambda text: text + ".0",
    lambda text: text + ".000",
    lambda text: text + ".5",
    lambda text: text + ".1234567",
    lambda text: text + "Z",
    lambda text: text + "+01:00",
    lambda text: text[:10],
    lambda text: text[:13],
    lambda text: text[:16],
    lambda text: text[:-1],
    lambda text: text.replace(" ", "T"),
    lambda text: text.replace(" ", "  "),
    lambda text: text.replace("-", "/"),
    lambda text: text[:11] + "24:00:00",
    lambda text: text[:17] + "60",
    lambda text: "2023" + text[4:],
    lambda text: "9999" + text[4:],
    lambda text: "0000" + text[4:],
    lambda text: text[:5] + "02-30" + text[10:],
    lambda text: text[8:10] + "." + text[5:7] + "." + text[:4] + text[10:],
    lambda text: "1726318800000",
    lambda text: "-" + text,
    lambda text: "1.7263188e12",
    _hexadecimal,
    _digits("٠"),
)
"""What a time may become."""

NOISE = (
    b"",
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b'"',
    b"-",
    b"e9",
    b"nan",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc3",
    b"9",
    b".",
    b"0x",
)


def _field(table: Table, where: Where) -> None:
    row = where.row(table)
    place = where.below(len(row))
    row[place] = FIELDS[where.below(len(FIELDS))](row[place])


def _number(table: Table, where: Where) -> None:
    """Write a number into one of the first columns that is one, but not a usual one."""
    row = where.row(table)
    place = 1 + where.below(10)
    if place < len(row):
        row[place] = ("0", "-0", "-1", "", "nan", "inf", "0.5", "1e-9", "1e8", "1e19")[where.below(10)]


def _time(table: Table, where: Where) -> None:
    row = where.row(table)
    row[0] = TIMES[where.below(len(TIMES))](row[0])


def _closing_time(table: Table, where: Where) -> None:
    row = where.row(table)
    if len(row) > 6:
        changes: list[Callable[[str], str]] = [*TIMES, lambda _: "0", lambda _: ""]
        row[6] = changes[where.below(len(changes))](row[6])


def _fields_swapped(table: Table, where: Where) -> None:
    row = where.row(table)
    if len(row) > 4:
        one, other = 1 + where.below(4), 1 + where.below(4)
        row[one], row[other] = row[other], row[one]


def _all_times(table: Table, where: Where) -> None:
    change = TIMES[where.below(len(TIMES))]
    both = where.below(2)
    for row in table.lines:
        if row and row[0][:1].isdigit():
            row[0] = change(row[0])
            if both and len(row) > 6 and row[6]:
                row[6] = change(row[6])


def _all_fields(table: Table, where: Where) -> None:
    place, change = where.below(12), FIELDS[where.below(len(FIELDS))]
    for row in table.lines:
        if place < len(row) and row[0][:1].isdigit():
            row[place] = change(row[place])


def _drop(table: Table, where: Where) -> None:
    if table.lines:
        del table.lines[where.below(len(table.lines))]


def _repeat(table: Table, where: Where) -> None:
    table.lines.insert(where.below(len(table.lines) + 1), list(where.row(table)))


def _repeat_changed(table: Table, where: Where) -> None:
    row = list(where.row(table))
    place = where.below(len(row))
    row[place] = FIELDS[where.below(len(FIELDS))](row[place])
    table.lines.insert(where.below(len(table.lines) + 1), row)


def _swap(table: Table, where: Where) -> None:
    if table.lines:
        one, other = where.below(len(table.lines)), where.below(len(table.lines))
        table.lines[one], table.lines[other] = table.lines[other], table.lines[one]


def _reverse(table: Table, where: Where) -> None:
    table.lines[1:] = table.lines[:0:-1]


def _blank_line(table: Table, where: Where) -> None:
    table.lines.insert(where.below(len(table.lines) + 1), [("", " ", "\t", "\x00")[where.below(4)]])


def _short(table: Table, where: Where) -> None:
    row = where.row(table)
    del row[where.below(len(row))]


def _long(table: Table, where: Where) -> None:
    row = where.row(table)
    row.insert(where.below(len(row) + 1), ("", "0", "x")[where.below(3)])


def _column_dropped(table: Table, where: Where) -> None:
    place = where.below(12)
    for row in table.lines:
        if place < len(row):
            del row[place]


def _columns_swapped(table: Table, where: Where) -> None:
    one, other, header_too = where.below(11), where.below(11), where.below(2)
    for row in table.lines[0 if header_too else 1 :]:
        if max(one, other) < len(row):
            row[one], row[other] = row[other], row[one]


def _header(table: Table, where: Where) -> None:
    if not table.lines:
        return
    names = table.lines[0]
    place = where.below(len(names))
    kind = where.below(7)
    if kind == 0:
        del table.lines[0]
    elif kind == 1:
        names[:] = [name.upper() for name in names]
    elif kind == 2:
        names[:] = [f' "{name}"' for name in names]
    elif kind == 3:
        table.lines.insert(where.below(len(table.lines) + 1), list(names))
    elif kind == 4 and names:
        names[place] = ("", "x", names[0], "Open", "\r")[where.below(5)]
    elif kind == 5:
        names[:] = [f" {name}\t" for name in names]
    else:
        names[:] = names[:place]


def _line_ends(table: Table, where: Where) -> None:
    table.end = ("\r\n", "\r", "\n\n", ";\n", ",\n", " \n", "\r\r\n", "\u2028", "\x0b\n")[where.below(9)]


def _mark(table: Table, where: Where) -> None:
    marks = (
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf" * 2,
        b"\xff\xfe",
        b"\n",
        b" ",
        b"\x00",
        b"# a remark\n",
        b"sep=,\n",
        b"<html>",
    )
    table.head = marks[where.below(len(marks))]


def _tail(table: Table, where: Where) -> None:
    tails = (b"\n\n\n", b"\r\n\r\n", b",,,,,,,,,,,\n", b"\x1a", b"\x00" * 50, b"total,1\n", b" ", b"# end", b'"')
    table.tail = tails[where.below(len(tails))]


def _twice(table: Table, where: Where) -> None:
    table.lines += [list(row) for row in table.lines[where.below(2) :]]


def _cut_lines(table: Table, where: Where) -> None:
    del table.lines[where.below(len(table.lines) + 1) :]


def _quoted(table: Table, where: Where) -> None:
    place = where.below(12)
    for row in table.lines:
        if place < len(row):
            row[place] = f'"{row[place]}"'


OPERATIONS: dict[str, Callable[[Table, Where], None]] = {
    function.__name__.strip("_"): function
    for function in (
        _swap, _repeat, _drop, _reverse, _fields_swapped, _number, _field, _time, _closing_time, _all_times,
        _all_fields, _repeat_changed, _blank_line, _short, _long, _column_dropped, _columns_swapped, _header,
        _line_ends, _mark, _tail, _twice, _cut_lines, _quoted,
    )
}  # fmt: skip
"""Everything that can happen to a table, by name."""

# Often enough what leaves a file readable, or all inputs would be refused.
_USUAL = (
    "swap",
    "repeat",
    "drop",
    "reverse",
    "field",
    "time",
    "field",
    "time",
    "fields_swapped",
    "line_ends",
    "twice",
    "cut_lines",
)
_NUMBERS = st.tuples(*[st.integers(0, 999)] * 4)


def table_steps() -> st.SearchStrategy[list[Step]]:
    """Return a strategy of operations on a table."""
    return st.lists(st.tuples(st.sampled_from([*_USUAL, *OPERATIONS]), _NUMBERS), min_size=1, max_size=3)


def byte_steps(most: int = 2) -> st.SearchStrategy[list[tuple[int, int, bytes]]]:
    """Return a strategy of cuts, often none: where (in parts of 10,000), how many bytes, and what comes instead."""
    noise = st.one_of(st.sampled_from(NOISE), st.binary(min_size=1, max_size=4))
    length = st.sampled_from([1, 0, 2, 1, 4, 1, 100_000])
    cuts = st.lists(st.tuples(st.integers(0, 9999), length, noise), min_size=1, max_size=most)
    return st.one_of(st.just([]), st.just([]), st.just([]), cuts)


def mutate_table(data: bytes, steps: Sequence[Step]) -> bytes:
    """Return a CSV after these operations."""
    table = Table([line.split(",") for line in data.decode().splitlines()])
    for name, numbers in steps:
        OPERATIONS[name](table, Where(numbers))
    return table.encode()


def mutate_bytes(data: bytes, steps: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Return bytes after these cuts."""
    for place, length, noise in steps:
        start = len(data) * place // 10_000
        data = data[:start] + noise + data[start + length :]
    return data
