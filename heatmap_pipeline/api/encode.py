"""Numbers to bytes: the nested format by a compiled writer, everything else by orjson; and their compression.

A nested answer of a week has some 300,000 levels. Building objects of them first takes a second; here every level is
written straight into a buffer, without Python's lock, so that other requests are answered meanwhile. Parts that fit the
processor's cache are written and compressed in turn.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson
import zstandard
from numba import njit

from heatmap_pipeline.compiled import compiled
from heatmap_pipeline.model.book import Floats, Ints

Texts = npt.NDArray[np.uint8]
Body: TypeAlias = bytes | Iterable[bytes | memoryview]
"""A body, or its parts in order; a part is good until the next one is asked for, except those of a `Dump`."""
_Coder: TypeAlias = tuple[Callable[[bytes | memoryview], bytes], Callable[[], bytes]]
"""What compresses a part, and what ends it; each returns what it has of the compressed body by then."""


def _constant(text: str) -> Texts:
    return np.frombuffer(text.encode(), dtype=np.uint8)


# Constants of the module are constants of the compiled code too: writing one of them is a store of eight bytes at once
# instead of a loop over bytes, which makes the writer six times as fast.
_PRICE = _constant('{"price":')
_LONG = _constant(',"long_density":')
_SHORT = _constant(',"short_density":')
_CREATED = _constant('],"positions_created":')
_CONSUMED = _constant(',"positions_consumed":')
_DEAD_LONG = _constant(',"consumed_long":')
_DEAD_SHORT = _constant(',"consumed_short":')
_PAIRS = _constant("".join(f"{number:02d}" for number in range(100)))
"""The two digits of every number below 100."""

_NUMBER_ROOM = 25
_LEVEL_ROOM = len(_PRICE) + len(_LONG) + len(_SHORT) + 2 + 2 * _NUMBER_ROOM
_INTERVAL_ROOM = len(_CREATED) + len(_CONSUMED) + len(_DEAD_LONG) + len(_DEAD_SHORT) + 2 + 4 * _NUMBER_ROOM
_PART_LEVELS = 4096
"""Levels of a part, about 0.3 MB."""
_SMALL_PART = 1 << 16
"""Smaller parts of a dump are put together, in bytes."""
_CODED_AT_ONCE = 4 << 20
"""Bytes that zstd writes before it asks for Python's lock again, which who writes the next part holds."""
_SCALE = 10_000
_EXACT = 9e14
"""Volumes from here on are written as whole numbers: times the scale they would not be exact any more."""


def dump(record: Any) -> bytes:
    """Return JSON; arrays are written as lists, NaN as null."""
    return orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATACLASS)


@dataclass(frozen=True, eq=False)
class Dump:
    """The JSON of a record in parts, which are compressed while the next ones are written: each array is one.

    Attributes:
        record: as `dump` takes it; together the parts are the bytes that `dump` returns.

    Example:
        >>> b"".join(Dump({"a": [{"b": np.arange(3)}, {}], "c": None}))
        b'{"a":[{"b":[0,1,2]},{}],"c":null}'
    """

    record: Any

    def __iter__(self) -> Iterator[bytes]:
        small: list[bytes] = []
        for part in _parts(self.record):
            if len(part) < _SMALL_PART:
                small.append(part)
                continue
            yield b"".join(small)
            yield part
            small = []
        yield b"".join(small)


def _parts(value: Any) -> Iterator[bytes]:
    """Yield the JSON of a value; of a record, and of a list of records, everything in it for itself."""
    if isinstance(value, Mapping):
        before = b"{"
        for name, content in value.items():
            yield before + dump(name) + b":"
            yield from _parts(content)
            before = b","
        yield b"}" if value else b"{}"
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        for number, content in enumerate(value):
            yield b"," if number else b"["
            yield from _parts(content)
        yield b"]"
    else:
        yield dump(value)


def digest(content: bytes) -> str:
    """Return a hash of bytes."""
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def texts(parts: Sequence[str]) -> tuple[Texts, Ints]:
    """Return texts as rows of bytes, filled up with blanks, and the length of each."""
    encoded = [part.encode() for part in parts]
    sizes = np.array([len(part) for part in encoded], dtype=np.int64)
    width = int(sizes.max(initial=1))
    table = np.frombuffer(b"".join(part.ljust(width) for part in encoded), dtype=np.uint8)
    return table.reshape(len(encoded), width), sizes


def nested(
    stamps: Sequence[str],
    starts: Ints,
    price_texts: Sequence[str],
    bins: Ints,
    long: Floats,
    short: Floats,
    counts: Ints,
    consumed: Floats,
    meta: bytes,
    more: Sequence[str] | None = None,
) -> Iterator[bytes | memoryview]:
    """Yield the JSON of a heatmap, `{"data": [...], "meta": ...}`, in parts.

    Args:
        stamps: time of each snapshot, ISO 8601, n of them.
        starts: the levels of snapshot i are those from `starts[i]` to `starts[i + 1]`, shape (n + 1,).
        price_texts: each bin's price as JSON.
        bins: each level's bin.
        long: each level's volume, quote asset, at least 0.
        short: the same.
        counts: lots created and consumed per snapshot, shape (n, 2).
        consumed: quote asset consumed per snapshot, long and short, shape (n, 2).
        meta: JSON.
        more: further fields of each snapshot, JSON with a comma behind each.
    """
    between = [""] * len(stamps) if more is None else more
    heads, head_sizes = texts(
        [f'{{"timestamp":"{stamp}",{rest}"levels":[' for stamp, rest in zip(stamps, between, strict=True)]
    )
    prices, price_sizes = texts(list(price_texts))
    # A part ends with the snapshot that reaches its number of levels.
    ends = np.searchsorted(starts[1:], np.arange(_PART_LEVELS, len(bins), _PART_LEVELS)) + 1
    cuts = np.unique(np.concatenate(([0], ends, [len(stamps)])))
    per_snapshot, per_level = heads.shape[1] + _INTERVAL_ROOM, _LEVEL_ROOM + prices.shape[1]
    out = np.empty((np.diff(cuts) * per_snapshot + np.diff(starts[cuts]) * per_level).max(initial=0), dtype=np.uint8)
    yield b'{"data":['
    for begin, end in pairwise(cuts.tolist()):
        size = _write(
            out, begin, end, heads, head_sizes, prices, price_sizes, starts, bins, long, short, counts, consumed
        )
        yield memoryview(out)[:size]
    yield b'],"meta":' + meta + b"}"


# The functions below are compiled. They have no annotations: numba infers the types.


@compiled
def _write(  # type: ignore[no-untyped-def]
    out, begin, end, heads, head_sizes, prices, price_sizes, starts, bins, long, short, counts, consumed
):
    """Write snapshots, each but the first of all after a comma; return how many bytes that is."""
    at = 0
    for i in range(begin, end):
        if i > 0:
            out[at] = 44  # ,
            at += 1
        at = _copy(out, at, heads[i], head_sizes[i])
        for level in range(starts[i], starts[i + 1]):
            if level > starts[i]:
                out[at] = 44
                at += 1
            at = _put(out, at, _PRICE)
            at = _copy(out, at, prices[bins[level]], price_sizes[bins[level]])
            at = _put(out, at, _LONG)
            at = _volume(out, at, long[level])
            at = _put(out, at, _SHORT)
            at = _volume(out, at, short[level])
            out[at] = 125  # }
            at += 1
        at = _put(out, at, _CREATED)
        at = _integer(out, at, counts[i, 0])
        at = _put(out, at, _CONSUMED)
        at = _integer(out, at, counts[i, 1])
        at = _put(out, at, _DEAD_LONG)
        at = _volume(out, at, consumed[i, 0])
        at = _put(out, at, _DEAD_SHORT)
        at = _volume(out, at, consumed[i, 1])
        out[at] = 125
        at += 1
    return at


@njit(nogil=True, error_model="numpy", inline="always")  # a constant is one only where it is written
def _put(out, at, constant):  # type: ignore[no-untyped-def]
    for i in range(len(constant)):
        out[at + i] = constant[i]
    return at + len(constant)


@compiled
def _copy(out, at, text, size):  # type: ignore[no-untyped-def]
    for i in range(size):
        out[at + i] = text[i]
    return at + size


@compiled
def _integer(out, at, value):  # type: ignore[no-untyped-def]
    """Write a whole number of at least 0."""
    size, limit = 1, 10
    while value >= limit and size < 18:
        size += 1
        limit *= 10
    if value >= limit:
        size += 1
    i = at + size
    while value >= 100:
        rest = value // 100
        pair = 2 * (value - 100 * rest)
        i -= 2
        out[i], out[i + 1] = _PAIRS[pair], _PAIRS[pair + 1]
        value = rest
    if value >= 10:
        out[i - 2], out[i - 1] = _PAIRS[2 * value], _PAIRS[2 * value + 1]
    else:
        out[i - 1] = 48 + value
    return at + size


@compiled
def _volume(out, at, value):  # type: ignore[no-untyped-def]
    """Write a number of at least 0 with up to 4 decimals."""
    if value == 0.0:  # most levels hold one side only
        out[at] = 48
        return at + 1
    if value >= _EXACT:
        return _integer(out, at, np.int64(min(value, 9e18)))
    scaled = np.int64(np.rint(value * _SCALE))
    whole = scaled // _SCALE
    rest = scaled - whole * _SCALE
    at = _integer(out, at, whole)
    if rest == 0:
        return at
    high = 2 * (rest // 100)
    low = 2 * (rest % 100)
    out[at] = 46  # .
    out[at + 1], out[at + 2] = _PAIRS[high], _PAIRS[high + 1]
    out[at + 3], out[at + 4] = _PAIRS[low], _PAIRS[low + 1]
    at += 5
    while out[at - 1] == 48:
        at -= 1
    return at


def compress(body: Body, encoding: str, *, thorough: bool = False) -> bytes:
    """Return a body in a content coding: zstd, gzip or identity; `thorough` for what is compressed once only."""
    parts = [body] if isinstance(body, bytes) else body
    if encoding == "identity":
        return body if isinstance(body, bytes) else b"".join(bytes(part) for part in parts)
    code, end = (_zstd if encoding == "zstd" else _gzip)(thorough)
    if not isinstance(body, Dump):
        return b"".join([*map(code, parts), end()])
    with ThreadPoolExecutor(1) as beside:
        return b"".join([*beside.map(code, parts), end()])  # all are submitted as they are written, and none waited for


def _zstd(thorough: bool) -> _Coder:
    coder = zstandard.ZstdCompressor(level=12 if thorough else 1).chunker(chunk_size=_CODED_AT_ONCE)
    return lambda part: b"".join(coder.compress(part)), lambda: b"".join(coder.finish())  # type: ignore[no-untyped-call]


def _gzip(thorough: bool) -> _Coder:
    coder = zlib.compressobj(9 if thorough else 1, wbits=16 + zlib.MAX_WBITS)  # framed as gzip, without a time
    return coder.compress, coder.flush


def decompress(body: bytes, encoding: str) -> bytes:
    """Return the body of a content coding."""
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(body)
    return gzip.decompress(body) if encoding == "gzip" else body
