"""JSON in one meaning only, in a time that grows with its length and no faster."""

from __future__ import annotations

import time

import pytest

from heatmap_pipeline.market.strict_json import load_json


def seconds(data: bytes) -> float:
    started = time.process_time()
    with pytest.raises(ValueError, match="has the key 'k0' twice"):
        load_json(data)
    return time.process_time() - started


def object_of(keys: int) -> bytes:
    """Return an object whose last key is its first one again."""
    return b"{" + b",".join(b'"k%d":1' % number for number in range(keys)) + b',"k0":2}'


def test_a_key_that_comes_twice_is_found_in_linear_time() -> None:
    few, many = object_of(50_000), object_of(800_000)  # the latter has about 10 MB
    seconds(few)
    assert seconds(many) < 16 * 10 * max(seconds(few), 0.01)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'[{"b":{"a":1,"c":2,"a":1}}]',
        b"NaN",
        b"[-Infinity]",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"[1e400]",
        b"[-1e400]",
    ],
)
def test_what_could_mean_two_things_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"twice|not a number|nests too deep"):
        load_json(text)


@pytest.mark.parametrize("text", [b"9" * 100_000, b"[" + b"1," * 50_000 + b"9" * 100_000 + b"]", b"-" + b"9" * 5000])
def test_a_whole_number_without_an_end_is_refused_soon(text: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="digits"):
        load_json(text)
    assert time.process_time() - started < 1


def test_a_fraction_of_many_digits_is_a_number() -> None:
    assert load_json(b"0." + b"1" * 100_000) == pytest.approx(1 / 9)
