"""What is read once and kept within a number of bytes, whoever asks at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.views.loaded import Loaded


def texts(max_bytes: int) -> Loaded[str]:
    return Loaded(max_bytes, len)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 12)), max_size=60), st.integers(1, 30))
def test_what_is_kept_is_what_was_used_last_and_fits(asked: list[tuple[int, int]], room: int) -> None:
    """Held against a list in which what is used moves to the end."""
    loaded, kept = texts(room), list[tuple[int, str]]()
    sizes: dict[int, int] = {}
    for key, length in asked:
        size = sizes.setdefault(key, length)
        before = loaded.reads
        value = loaded.get_or_read(key, lambda size=size: "x" * size)  # type: ignore[misc]
        assert value == "x" * size
        was_kept = key in dict(kept)
        assert loaded.reads - before == (not was_kept)
        kept = [each for each in kept if each[0] != key]
        if size <= room:
            kept.append((key, value))
        while sum(len(text) for _, text in kept) > room:
            kept.pop(0)
        assert loaded.size == sum(len(text) for _, text in kept) <= room
        assert len(loaded) == len(kept)
    assert {key for key in sizes if loaded.get(key) is not None} == {key for key, _ in kept}


@pytest.mark.parametrize("room", [100, 1])
def test_who_asks_at_once_waits_for_one_reading_and_holds_up_nobody_else(room: int) -> None:
    """Also where it is too large to be kept."""
    loaded, begun, go_on = texts(room), threading.Event(), threading.Event()

    def slowly() -> str:
        begun.set()
        assert go_on.wait(10)
        return "large"

    with ThreadPoolExecutor(8) as workers:
        asking = [workers.submit(loaded.get_or_read, "a", slowly) for _ in range(6)]
        assert begun.wait(10)
        assert workers.submit(loaded.get_or_read, "b", lambda: "b").result(10) == "b"
        until = threading.Event()
        while loaded._readings["a"].users < 6:
            until.wait(0.001)
        go_on.set()
        values = [each.result(10) for each in asking]
    assert all(value is values[0] for value in values)
    assert loaded.reads == 2
    assert (len(loaded), loaded.size) == ((2, 6) if room == 100 else (1, 1))
    assert not loaded._readings


def test_what_fails_is_kept_by_nobody_and_tried_again() -> None:
    loaded = texts(10)

    def failing() -> str:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        loaded.get_or_read("a", failing)
    assert (len(loaded), loaded.reads, loaded._readings) == (0, 0, {})
    assert loaded.get_or_read("a", lambda: "well") == "well"


def test_what_nobody_will_ask_for_is_forgotten() -> None:
    loaded = texts(10)
    values: dict[str, Callable[[], str]] = {"a": lambda: "aa", "b": lambda: "bbb"}
    for key, read in values.items():
        loaded.get_or_read(key, read)
    loaded.keep_only(lambda key: key == "b")
    assert (loaded.get("a"), loaded.get("b"), loaded.size) == (None, "bbb", 3)
