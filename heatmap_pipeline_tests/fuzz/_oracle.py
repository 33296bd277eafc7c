"""What a damaged input says, read again in the plainest way, and what has to come of it.

Nothing of the product's readers is used here: text is split by hand, numbers are told by one strict pattern and taken
through `Decimal`, rows are put in order by loops. A problem is a reason for which the reader must refuse; a doubt is
one for which it may.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from heatmap_pipeline.market.tables import CleanDay

SECOND = 1_000_000
DAY = 86_400 * SECOND
CANDLE_NAMES = ["open_time", "open", "high", "low", "close", "volume"]
SAMPLE_NAMES = ["create_time", "symbol", "sum_open_interest", "sum_open_interest_value"]
MOST = 1e18
"""Contracts that no market has ever seen; USDT likewise, at the highest price."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_JSON_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)
_NONE = re.compile(r"[+-]?nan(\(\w*\))?", re.ASCII | re.IGNORECASE)
_INFINITE = re.compile(r"([+-]?)inf(inity)?", re.ASCII | re.IGNORECASE)
_LABEL = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1)

Candle = tuple[int, tuple[float, ...]]
"""Microseconds, and the nine numbers of `CANDLE_COLUMNS`, NaN for blank."""

Sample = tuple[int, float, float]
"""Microseconds of the label, contracts, value; NaN for blank."""


@dataclass
class Said:
    """What an input says.

    Attributes:
        rows: that could be read, in the order of the input.
        problems: for which it must be refused.
        doubts: for which it may be.
    """

    rows: list[Any] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)


def midnight(day: date) -> int:
    """Return the microseconds since 1970 at which a day begins."""
    return (datetime(day.year, day.month, day.day) - _EPOCH) // timedelta(microseconds=1)


def number(text: str) -> float:
    """Return what a field says, NaN for nothing; raises ValueError for what is no number."""
    text = text.strip(" \t")
    if not text or _NONE.fullmatch(text):
        return math.nan
    if match := _INFINITE.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    if not _NUMBER.fullmatch(text):
        raise ValueError(text[:40])
    return _nearest(Decimal(text))


def _nearest(value: Decimal) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _lines(data: bytes, names: Sequence[str], width: int, said: Said) -> list[list[str]]:
    """Return the fields of the data rows of a CSV."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        said.problems.append("not UTF-8")
        return []
    text = text.removeprefix("\ufeff").rstrip("\r\n")
    if text.startswith("\ufeff"):
        said.doubts.append("a second mark of the byte order")
        text = text.removeprefix("\ufeff")
    if "\r" in text.replace("\r\n", ""):
        said.doubts.append("a carriage return alone")
    lines = re.split(r"\r\n|\n|\r", text) if text else []
    if lines and lines[0].strip()[:1].isalpha():
        found = [name.strip().lower() for name in lines.pop(0).split(",")]
        if found[: len(names)] != list(names) or len(found) != width:
            said.problems.append("header")
    rows = [line.split(",") for line in lines]
    said.problems += [f"row {at}: {len(row)} fields" for at, row in enumerate(rows) if len(row) != width]
    if any(field.isspace() for row in rows for field in row):
        said.doubts.append("a field of blanks")
    return [row for row in rows if len(row) == width]


def _whole(text: str, said: Said) -> int:
    """Return a count written in digits, 0 for what is none."""
    plain = text.strip(" \t")
    if plain != text:
        said.doubts.append("blanks around a time")
    if not re.fullmatch(r"\d{1,18}", plain, re.ASCII):
        raise ValueError(text[:40])
    return int(plain)


def candles_said(data: bytes) -> Said:
    """Return the candles that a CSV holds."""
    said = Said()
    units, closing_units = set(), set()
    for fields in _lines(data, CANDLE_NAMES, 12, said):
        try:
            opened = _whole(fields[0], said)
            if not 10**11 <= opened < 10**17:
                raise ValueError(fields[0])
            scale = 1000 if opened < 10**14 else 1
            units.add(scale)
            values = tuple(number(fields[at]) for at in (1, 2, 3, 4, 5, 7, 8, 9, 10))
            closed = 0 if fields[6].strip(" \t") in ("", "0") else _whole(fields[6], said)
            if closed:
                if not 10**11 <= closed < 10**17:
                    raise ValueError(fields[6])
                closing_units.add(1000 if closed < 10**14 else 1)
                closed *= 1000 if closed < 10**14 else 1
            said.rows.append((opened * scale, values, closed))
        except ValueError as error:
            said.problems.append(f"no number: {error}")
    if len(units) > 1 or len(closing_units) > 1:
        said.problems.append("mixed units")
    return said


def samples_said(data: bytes, symbol: str) -> Said:
    """Return the samples that a CSV holds."""
    said = Said()
    units = set()
    for fields in _lines(data, SAMPLE_NAMES, 8, said):
        try:
            label = fields[0].strip(" \t")
            if label != fields[0]:
                said.doubts.append("blanks around a time")
            if _LABEL.fullmatch(label):
                label_us = (datetime.fromisoformat(label) - _EPOCH) // timedelta(microseconds=1)
                units.add(0)
                if label_us < 0:
                    raise ValueError("before 1970")
            else:
                count = _whole(label, said)
                if not 10**11 <= count < 10**17:
                    raise ValueError(label)
                scale = 1000 if count < 10**14 else 1
                units.add(scale)
                label_us = count * scale
            said.rows.append((label_us, number(fields[2]), number(fields[3])))
        except ValueError as error:
            said.problems.append(f"no number: {error}")
        if fields[1] != symbol:
            said.problems.append(f"symbol {fields[1][:40]}")
    if len(units) > 1:
        said.problems.append("mixed units")
    return said


def candle_problems(rows: Sequence[tuple[int, tuple[float, ...], int]], day: date, seconds: int) -> list[str]:
    """Return why these candles cannot be a day."""
    problems = [] if rows else ["no candles"]
    known: dict[int, tuple[float, ...]] = {}
    for opened, values, closed in rows:
        first, high, low, last, volume, *optional = values
        since = opened - midnight(day)
        checks = {
            "outside the day": 0 <= since < DAY,
            "off the grid": since % (seconds * SECOND) == 0,
            "price": all(1e-8 <= price <= 1e7 for price in values[:4]),
            "shape": low <= min(first, last) and max(first, last) <= high,
            "volume": 0 <= volume <= MOST,
            "optional": all(math.isnan(value) or 0 <= value <= MOST * 1e7 for value in optional),
            "trades": math.isnan(optional[1]) or (optional[1] <= 2**53 and optional[1] % 1 == 0),
            "length": not closed or opened < closed <= opened + seconds * SECOND,
        }
        problems += [f"{opened}: {name}" for name, fine in checks.items() if not fine]
        mine = _filled(values)
        if known.setdefault(opened, mine) != mine:
            problems.append(f"{opened}: two candles")
    return problems


def check_candles(clean: CleanDay, said: Said, day: date, seconds: int, missing: int | None = None) -> None:
    """Require that a clean day is what an input says: every row, every repair, nothing else."""
    rows = said.rows
    times = [opened for opened, *_ in rows]
    expected = sorted({opened: _filled(values) for opened, values, *_ in rows}.items())
    found = list(zip(_times(clean), zip(*_columns(clean), strict=True), strict=True))
    assert found == expected, _difference(found, expected)
    repairs = {
        "sorted_rows": _late(times),
        "duplicate_candles": len(rows) - len(expected),
        "missing_candles": 86_400 // seconds - len(expected) if missing is None else missing,
    }
    assert {name: n for name, n in clean.repairs.items() if name != "unfinished_candles"} == _counted(repairs)
    assert (clean.day, clean.step) == (day, seconds)
    for opened, (first, high, low, last, volume, *_) in found:
        assert midnight(day) <= opened < midnight(day) + DAY
        assert 0 < low <= min(first, last) <= max(first, last) <= high < math.inf
        assert 0 <= volume < math.inf


def check_samples(clean: CleanDay, said: Said, day: date, seconds: int, after: int = -1) -> None:
    """Require that clean samples are what an input says; `after` leaves out samples up to that instant."""
    rows: list[Sample] = said.rows
    step = _step([label for label, *_ in rows], seconds)
    assert clean.step == step
    offset = clean.facts["clock"]["offset_seconds"]
    assert offset in (0, step), "the clock is the label's or a step later"
    snapped = []
    moved = 0
    for label, contracts, value in rows:
        since, grid = label - midnight(day), step * SECOND
        nearest = midnight(day) + (since + grid // 2) // grid * grid
        near = abs(nearest - label) <= 30 * SECOND
        moved += near and nearest != label
        snapped.append((nearest if near else label, contracts, value))
    ordered = sorted(snapped, key=lambda row: row[0])
    lasts = {tuple(map(str, row)): at for at, row in enumerate(ordered)}
    alone = [row for at, row in enumerate(ordered) if lasts[tuple(map(str, row))] == at]
    valid = [row for row in alone if 0 < row[1] <= MOST]
    kept = {label: (contracts, value) for label, contracts, value in valid}
    repairs = {
        "snapped_labels": moved,
        "sorted_rows": _late([label for label, *_ in snapped]),
        "duplicate_samples": len(ordered) - len(alone),
        "invalid_contracts": len(alone) - len(valid),
        "replaced_samples": len(valid) - len(kept),
        "unknown_values": sum(not 0 < value <= MOST * 1e7 for _, value in kept.values()),
        "outside_day": sum(not 0 <= label + offset * SECOND - midnight(day) <= DAY for label in kept),
    }
    assert clean.repairs == _counted(repairs)
    expected = [
        (label + offset * SECOND, contracts, value if 0 < value <= MOST * 1e7 else None)
        for label, (contracts, value) in sorted(kept.items())
        if 0 <= label + offset * SECOND - midnight(day) <= DAY and label + offset * SECOND > after
    ]
    amounts, values = _columns(clean)
    known = [None if math.isnan(number) else number for number in values]
    found = list(zip(_times(clean), amounts, known, strict=True))
    assert found == expected, _difference(found, expected)


def load_json(data: bytes) -> Any:
    """Return JSON whose keys are unique and whose numbers can be told; raises ValueError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def none(name: str) -> None:
        raise ValueError(name)

    def finite(text: str) -> Decimal:
        if not math.isfinite(float(text)):
            raise ValueError(text)
        return Decimal(text)

    return json.loads(data, parse_float=finite, parse_constant=none, object_pairs_hook=unique)


def json_number(value: Any, said: Said) -> float:
    """Return what a field of an answer says, NaN for nothing."""
    if value is None or value == "":
        return math.nan
    if isinstance(value, str) and _JSON_NUMBER.fullmatch(value):
        return _nearest(Decimal(value))
    if type(value) in (int, Decimal):
        if type(value) is int and abs(value) >= 2**53:
            said.doubts.append("a large whole number")
        return _nearest(Decimal(value))
    raise ValueError(repr(value)[:40])


def answer_said(data: bytes) -> tuple[Any, Said]:
    """Return the JSON of an answer, if it is any."""
    said = Said()
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        said.problems.append("a page")
        return None, said
    try:
        answer = load_json(data)
    except RecursionError:
        said.doubts.append("nested too deep")
        said.problems.append("nested too deep")
        return None, said
    except ValueError as error:
        said.problems.append(f"no JSON: {error}")
        return None, said
    if isinstance(answer, dict):
        said.problems.append("an object")
    return answer, said


def klines_said(data: bytes, seconds: int) -> Said:
    """Return the candles that an answer of /fapi/v1/klines holds."""
    answer, said = answer_said(data)
    if said.problems:
        return said
    if not isinstance(answer, list):
        said.problems.append("no list")
        return said
    for row in answer:
        try:
            if not isinstance(row, list) or len(row) < 11:
                raise ValueError("no candle")
            opened, closed = _json_time(row[0]), _json_time(row[6])
            if closed - opened != seconds * 1000 - 1:
                raise ValueError("another length")
            values = tuple(json_number(row[at], said) for at in (1, 2, 3, 4, 5, 7, 8, 9, 10))
            said.rows.append((opened * 1000, values, closed * 1000))
        except ValueError as error:
            said.problems.append(str(error))
    return said


def open_interest_said(data: bytes, symbol: str) -> Said:
    """Return the samples that an answer of /futures/data/openInterestHist holds."""
    answer, said = answer_said(data)
    if said.problems:
        return said
    if not isinstance(answer, list):
        said.problems.append("no list")
        return said
    for row in answer:
        try:
            if not isinstance(row, dict) or row.get("symbol") != symbol:
                raise ValueError("no sample of the symbol")
            contracts, value = (json_number(row.get(f"sumOpenInterest{name}"), said) for name in ("", "Value"))
            said.rows.append((_json_time(row.get("timestamp")) * 1000, contracts, value))
        except ValueError as error:
            said.problems.append(str(error))
    return said


def brackets_said(data: bytes) -> tuple[dict[str, tuple[float, float]], list[str]]:
    """Return rate and leverage of each symbol's first bracket, and why the file must be refused."""
    try:
        entries = load_json(data)
    except (ValueError, RecursionError) as error:
        return {}, [f"no JSON: {error}"]
    found: dict[str, tuple[float, float]] = {}
    problems = []
    if isinstance(entries, dict):
        entries = [entries]
    if not isinstance(entries, list):
        return {}, ["no list"]
    for entry in entries:
        try:
            symbol, tiers = entry["symbol"], entry["brackets"]
            if not isinstance(symbol, str) or not isinstance(tiers, list) or symbol in found:
                raise ValueError("symbol")
            floors = [_plain(tier["notionalFloor"]) for tier in tiers]
            first = tiers[floors.index(min(floors))]
            rate, leverage = _plain(first["maintMarginRatio"]), _plain(first["initialLeverage"])
            if not 0 <= rate < 1 <= leverage:
                raise ValueError("range")
            found[symbol] = rate, leverage
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"{type(error).__name__}: {error}")
    return found, problems


def _plain(value: Any) -> float:
    if type(value) not in (int, Decimal) or not math.isfinite(plain := _nearest(Decimal(value))):
        raise ValueError("no number")
    return plain


def _json_time(value: Any) -> int:
    if type(value) is not int or not 10**12 <= value < 10**14:
        raise ValueError("no time")
    return value


def _filled(values: tuple[float, ...]) -> tuple[float, ...]:
    return (*values[:5], *(0.0 if math.isnan(value) else value for value in values[5:]))


def _late(times: Sequence[int]) -> int:
    """Return how many stand after a later one."""
    late, latest = 0, -(10**30)
    for time in times:
        late += time < latest
        latest = max(latest, time)
    return late


def _step(labels: Sequence[int], seconds: int) -> int:
    ordered = sorted(set(labels))
    distances: Counter[int] = Counter()
    for one, other in pairwise(ordered):
        distance = other - one
        unit = 60 * SECOND if distance >= 60 * SECOND else SECOND
        distances[max((distance + unit // 2) // unit * unit, SECOND)] += 1
    if not distances:
        return seconds
    most = max(distances.values())
    return min(distance for distance, count in distances.items() if count == most) // SECOND


def _counted(repairs: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in repairs.items() if count}


def _times(clean: CleanDay) -> list[int]:
    """Return the instants of the rows, which have to rise."""
    times = clean.table.iloc[:, 0].to_numpy().astype("datetime64[us]").astype("int64").tolist()
    assert all(one < other for one, other in pairwise(times))
    return times


def _columns(clean: CleanDay) -> list[list[float]]:
    return [[float(value) for value in clean.table[name].tolist()] for name in clean.table.columns[1:]]


def _difference(found: list[Any], expected: list[Any]) -> str:
    at = next((at for at, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), -1)
    return f"{len(found)} rows for {len(expected)}; first different: {found[at : at + 1]} for {expected[at : at + 1]}"


def utc(milliseconds: int) -> datetime:
    """Return an instant as UTC without zone."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None)
