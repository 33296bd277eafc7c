"""The compiled writer writes what orjson would read back as the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heatmap_pipeline.api.encode import Dump, compress, decompress, dump, nested


def write(volumes: list[float], counts: list[int]) -> dict[str, Any]:
    """Write one snapshot whose levels hold these volumes as longs, and twice as shorts the other way round."""
    n = len(volumes)
    body = nested(
        stamps=["2024-01-01T00:00:00Z"],
        starts=np.array([0, n]),
        price_texts=["100.0", "0.0002"],
        bins=np.arange(n) % 2,
        long=np.array(volumes),
        short=np.array(volumes[::-1]),
        counts=np.array([counts]),
        consumed=np.array([[volumes[0] if n else 0.0, 0.0]]),
        meta=b'{"a":1}',
    )
    found: dict[str, Any] = orjson.loads(compress(body, "identity"))
    return found


@settings(deadline=None)  # the first one waits for the compiler
@given(
    st.lists(st.floats(min_value=0, max_value=1e17), max_size=20),
    st.lists(st.integers(0, 2**62), min_size=2, max_size=2),
)
def test_numbers_come_back_to_four_decimals(volumes: list[float], counts: list[int]) -> None:
    body = write(volumes, counts)
    (snapshot,) = body["data"]
    assert body["meta"] == {"a": 1}
    read = [level["long_density"] for level in snapshot["levels"]]
    assert read == pytest.approx(volumes, rel=1e-15, abs=5.0001e-5)
    assert [level["short_density"] for level in snapshot["levels"]] == read[::-1]
    assert [level["price"] for level in snapshot["levels"]] == [[100.0, 0.0002][n % 2] for n in range(len(volumes))]
    assert [snapshot["positions_created"], snapshot["positions_consumed"]] == counts
    assert snapshot["consumed_short"] == 0


@pytest.mark.parametrize(
    "number",
    [0.0, 0.0001, 0.00005001, 0.1, 0.9999, 0.99995, 1.0, 9.0, 10.0, 99.0, 99.99, 100.0, 101.5, 999999.9999, 1e9 + 0.5]
    + [10.0**power for power in range(2, 19)]
    + [8.999e14, 9e14, 9.2e18, 1e30],
)
def test_numbers_of_every_length(number: float) -> None:
    (snapshot,) = write([number], [0, 0])["data"]
    exact = round(number, 4) if number < 9e14 else min(number, 9e18)
    assert snapshot["levels"][0]["long_density"] == pytest.approx(exact, rel=1e-15)


def test_snapshots_without_levels() -> None:
    body = nested(
        ["a", "b", "c"],
        np.array([0, 0, 1, 1]),
        ["1.5"],
        np.array([0]),
        np.array([2.25]),
        np.array([0.0]),
        np.zeros((3, 2), dtype=np.int64),
        np.zeros((3, 2)),
        b"null",
    )
    data = orjson.loads(compress(body, "identity"))["data"]
    assert [one["timestamp"] for one in data] == ["a", "b", "c"]
    assert [len(one["levels"]) for one in data] == [0, 1, 0]
    assert data[1]["levels"] == [{"price": 1.5, "long_density": 2.25, "short_density": 0}]
    assert list(data[0]) == [
        "timestamp",
        "levels",
        "positions_created",
        "positions_consumed",
        "consumed_long",
        "consumed_short",
    ]


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity"])
def test_many_parts_are_one_body(encoding: str) -> None:
    levels = np.random.default_rng(1).integers(0, 900, 60)
    total = int(levels.sum())
    volumes = np.arange(total) / 7

    def parts() -> Iterator[bytes | memoryview]:
        return nested(
            [str(one) for one in range(60)],
            np.concatenate(([0], np.cumsum(levels))),
            ["1.5"],
            np.zeros(total, dtype=np.int64),
            volumes,
            volumes[::-1].copy(),
            np.zeros((60, 2), dtype=np.int64),
            np.zeros((60, 2)),
            b"null",
        )

    assert len(list(parts())) > 4
    data = orjson.loads(decompress(compress(parts(), encoding), encoding))["data"]
    assert [one["timestamp"] for one in data] == [str(one) for one in range(60)]
    assert [len(one["levels"]) for one in data] == levels.tolist()
    written = [level["long_density"] for one in data for level in one["levels"]]
    assert written == pytest.approx(volumes.tolist(), abs=5.0001e-5)


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity"])
def test_codings_are_undone_and_repeatable(encoding: str) -> None:
    body = b"heatmap " * 1000
    assert decompress(compress(body, encoding), encoding) == body
    assert compress(body, encoding) == compress(body, encoding)
    assert len(compress(body, encoding, thorough=True)) <= len(compress(body, encoding))


_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.lists(st.floats(), max_size=3).map(np.array),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=2),
)
_records = st.recursive(
    st.dictionaries(st.text(max_size=3), _leaves, max_size=4),
    lambda inner: st.dictionaries(
        st.text(max_size=3), st.one_of(_leaves, inner, st.lists(inner, max_size=3)), max_size=4
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(_records)
def test_the_parts_of_a_dump_are_what_is_dumped_at_once(record: dict[str, Any]) -> None:
    assert b"".join(Dump(record)) == dump(record)


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity"])
def test_a_dump_is_compressed_part_by_part_into_one_body(encoding: str) -> None:
    """Arrays of a few MB of JSON that hardly compress, so that the coder hands out what it has several times."""
    random = np.random.default_rng(7)
    big = [(random.random(size) * 1e9).round(4) for size in (300_000, 5, 60_000, 400_000)]
    record = {"format": 2, "first": big[0], "more": [{"id": "a", "part": big[1]}, {"part": big[2]}], "last": big[3]}
    parts = [len(part) for part in Dump(record)]
    assert sum(size > 1 << 16 for size in parts) == 3, "each large array is a part, and what lies between another"
    coded = compress(Dump(record), encoding)
    assert decompress(coded, encoding) == dump(record)
    assert compress(Dump(record), encoding) == coded
