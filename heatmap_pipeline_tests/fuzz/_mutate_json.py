"""Damage to JSON: other types, lost and repeated keys and rows, nesting, numbers no one writes, broken text."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from heatmap_pipeline_tests.fuzz._mutate_csv import FIELDS, Step, Where


class Raw(str):
    """Text that is written into the JSON as it is."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may repeat."""


def dumps(value: Any) -> str:
    """Return JSON, also of `Raw` and `Pairs`."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs | dict):
        pairs = value if isinstance(value, Pairs) else value.items()
        return "{" + ", ".join(f"{json.dumps(str(key))}: {dumps(one)}" for key, one in pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return json.dumps(value)


JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, 10**18, -(10**30), "", " ", "0", "-0.0", "x", [], {}, [[]], {"a": 1}, "NaN",
    "1e400", Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1e400"), Raw("-1e400"), Raw("1e-400"), Raw("9" * 400),
    Raw("9" * 5000), Raw("-0"), Raw("01"), Raw("+1"), Raw("0x1F"), Raw("1_000"), Raw("1."), Raw(".5"), Raw("'1'"),
    Raw(""), Raw("undefined"), Raw('"\\ud800"'), Raw('"\\u0000"'), Raw("1.0000000000000000000000000000000001"),
    Raw("[" * 400 + "]" * 400), Raw("[" * 980 + "]" * 980), Raw("[" * 100_000), Raw('{"a":' * 300 + "1" + "}" * 300),
    Raw("// remark\n1"), Raw("1726358400000.0"), Raw("17263584e5"), 1726358400, 1726358400000, 1726358400000000,
)  # fmt: skip
"""What a value may become."""


def _nodes(value: Any, depth: int = 0) -> list[tuple[Any, Any]]:
    """Return every place in a value as (container, key), containers first."""
    places: list[tuple[Any, Any]]
    if isinstance(value, dict):
        places = [(value, key) for key in value]
    elif isinstance(value, list) and not isinstance(value, Pairs):
        places = [(value, at) for at in range(len(value))]
    else:
        return []
    return places + [deep for box, key in places if depth < 8 for deep in _nodes(box[key], depth + 1)]


def _place(root: list[Any], where: Where) -> tuple[Any, Any]:
    nodes = _nodes(root)
    return nodes[where.below(len(nodes))]


def _rows(root: list[Any], where: Where) -> list[Any]:
    """Return one of the longer lists, usually the rows of the answer."""
    lists: list[list[Any]] = [
        box[key] for box, key in _nodes(root) if isinstance(box[key], list) and not isinstance(box[key], Pairs)
    ]
    lists = sorted(lists, key=len, reverse=True) or [root]
    return lists[where.below(2) % len(lists)]


def _junk(root: list[Any], where: Where) -> None:
    box, key = _place(root, where)
    box[key] = copy.deepcopy(JUNK[where.below(len(JUNK))])


def _text(root: list[Any], where: Where) -> None:
    nodes = [(box, key) for box, key in _nodes(root) if isinstance(box[key], str) and not isinstance(box[key], Raw)]
    if nodes:
        box, key = nodes[where.below(len(nodes))]
        box[key] = FIELDS[where.below(len(FIELDS))](box[key])


def _retype(root: list[Any], where: Where) -> None:
    """Write text as a number and a number as text."""
    nodes = [(box, key) for box, key in _nodes(root) if type(box[key]) in (str, int, float)]
    if nodes:
        box, key = nodes[where.below(len(nodes))]
        box[key] = Raw(box[key] or "0") if isinstance(box[key], str) else str(box[key])


def _shift(root: list[Any], where: Where) -> None:
    nodes = [(box, key) for box, key in _nodes(root) if type(box[key]) is int]
    if nodes:
        box, key = nodes[where.below(len(nodes))]
        box[key] += (1, -1, 1000, 30_000, 60_000, 300_000, -300_000, 86_400_000, 10**15, -(10**13))[where.below(10)]


def _shift_candle(root: list[Any], where: Where) -> None:
    rows = [row for row in _rows(root, where) if isinstance(row, list) and len(row) > 6]
    if rows:
        row = rows[where.below(len(rows))]
        by = (300_000, -300_000, 900_000, 86_400_000, 150_000, 1)[where.below(6)]
        for place in (0, 6):
            row[place] = row[place] + by if type(row[place]) is int else row[place]


def _fields_swapped(root: list[Any], where: Where) -> None:
    rows = [row for row in _rows(root, where) if isinstance(row, list) and len(row) > 4]
    if rows:
        row, one, other = rows[where.below(len(rows))], 1 + where.below(4), 1 + where.below(4)
        row[one], row[other] = row[other], row[one]


def _drop_key(root: list[Any], where: Where) -> None:
    box, key = _place(root, where)
    del box[key]


def _repeat_key(root: list[Any], where: Where) -> None:
    nodes = [(box, key) for box, key in _nodes(root) if isinstance(box[key], dict) and box[key]]
    if nodes:
        box, key = nodes[where.below(len(nodes))]
        pairs = Pairs(box[key].items())
        name, value = pairs[where.below(len(pairs))]
        pairs.insert(where.below(len(pairs) + 1), (name, (value, "1", 1)[where.below(3)]))
        box[key] = pairs


def _rename_key(root: list[Any], where: Where) -> None:
    nodes = [(box, key) for box, key in _nodes(root) if isinstance(box, dict)]
    if nodes:
        box, key = nodes[where.below(len(nodes))]
        box[(key.upper(), key + " ", "", "code", "msg", "symbols")[where.below(6)]] = box.pop(key)


def _drop_row(root: list[Any], where: Where) -> None:
    rows = _rows(root, where)
    if rows:
        del rows[where.below(len(rows))]


def _repeat_row(root: list[Any], where: Where) -> None:
    rows = _rows(root, where)
    if rows:
        rows.insert(where.below(len(rows) + 1), copy.deepcopy(rows[where.below(len(rows))]))


def _repeat_row_changed(root: list[Any], where: Where) -> None:
    rows = _rows(root, where)
    if rows:
        row = copy.deepcopy(rows[where.below(len(rows))])
        rows.insert(where.below(len(rows) + 1), row)
        places = _nodes([row])[1:]
        if places:
            box, key = places[where.below(len(places))]
            box[key] = copy.deepcopy(JUNK[where.below(len(JUNK))])


def _swap_rows(root: list[Any], where: Where) -> None:
    rows = _rows(root, where)
    if rows:
        one, other = where.below(len(rows)), where.below(len(rows))
        rows[one], rows[other] = rows[other], rows[one]


def _reverse(root: list[Any], where: Where) -> None:
    _rows(root, where).reverse()


def _cut_rows(root: list[Any], where: Where) -> None:
    rows = _rows(root, where)
    del rows[where.below(len(rows) + 1) :]


def _wrap(root: list[Any], where: Where) -> None:
    box, key = _place(root, where)
    box[key] = ([box[key]], {"data": box[key]}, [box[key], copy.deepcopy(box[key])], dumps(box[key]))[where.below(4)]


def _refusal(root: list[Any], where: Where) -> None:
    code = (-1121, -1003, 0, 10**30, "x")[where.below(5)]
    root[0] = {"code": code, "msg": ("Invalid symbol.", "\x1b[2J\n", "", None, "A" * 9999)[where.below(5)]}


OPERATIONS: dict[str, Callable[[list[Any], Where], None]] = {
    function.__name__.strip("_"): function
    for function in (
        _swap_rows, _repeat_row, _drop_row, _reverse, _cut_rows, _fields_swapped, _text, _retype, _shift,
        _shift_candle, _junk, _drop_key, _repeat_key, _rename_key, _repeat_row_changed, _wrap, _refusal,
    )
}  # fmt: skip
"""Everything that can happen to an answer, by name; the answer is the one item of a list."""

TEXTS: tuple[Callable[[bytes], bytes], ...] = (
    *[lambda data: data] * 60,  # most answers stay JSON
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data.decode().encode("utf-16"),
    lambda data: data.decode().encode("utf-16-le"),
    lambda data: data + data,
    lambda data: data + b",",
    lambda data: data[: len(data) // 2],
    lambda data: data[:-1],
    lambda data: data[:-1] + b",]",
    lambda data: b"<html>" + data,
    lambda data: b"callback(" + data + b")",
    lambda data: b"",
    lambda data: b"\x00" * 100,
    lambda data: b"\n\n " + data + b"\r\n",
    lambda data: data.replace(b'"', b"'"),
    lambda data: b"[" * 200 + data + b"]" * 200,
)
"""What may happen to the text of an answer."""

# Often enough what leaves an answer readable, or all inputs would be refused.
_ROWS = ("swap_rows", "repeat_row", "drop_row", "reverse", "cut_rows")
_USUAL = (*_ROWS, *_ROWS, *_ROWS, "text", "retype", "shift", "shift_candle", "fields_swapped")


def json_steps() -> st.SearchStrategy[tuple[list[Step], int]]:
    """Return a strategy of operations on an answer, and of one on its text."""
    numbers = st.tuples(*[st.integers(0, 999)] * 5)
    steps = st.lists(st.tuples(st.sampled_from([*_USUAL, *OPERATIONS]), numbers), min_size=1, max_size=3)
    return st.tuples(steps, st.integers(0, len(TEXTS) - 1))


def mutate_json(answer: Any, steps: tuple[Sequence[Step], int]) -> bytes:
    """Return the text of an answer after these operations."""
    root = [copy.deepcopy(answer)]
    for name, numbers in steps[0]:
        if root and _nodes(root):
            OPERATIONS[name](root, Where(numbers))
    text = dumps(root[0]) if root else ""
    return TEXTS[steps[1]](text.encode("utf-8", "surrogatepass"))
