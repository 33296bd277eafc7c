"""The fuzzing itself: a hang is noticed, and so is an input that is never refused, never repaired or never accepted."""

from __future__ import annotations

import time
from typing import Any

import pytest

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline_tests.fuzz._harness import HangError, Tally, outcome, time_limit


def test_a_case_that_hangs_is_noticed() -> None:
    def work() -> None:
        while True:
            pass

    with pytest.raises(HangError), time_limit(seconds=0.1):
        work()
    with pytest.raises(HangError), time_limit(waiting=0.1):
        time.sleep(30)


def test_only_a_refusal_is_an_outcome() -> None:
    def broken() -> Any:
        raise KeyError("x")

    def refused() -> Any:
        raise HeatmapError("a.zip: is not what it should be")

    with pytest.raises(KeyError):
        outcome(broken)
    assert isinstance(outcome(refused), HeatmapError)


def test_a_count_that_lacks_an_outcome_is_noticed(tally: Tally) -> None:
    def ignore(*_: Any) -> None:
        pass

    for _ in range(20):
        tally.refused(HeatmapError("a.zip: is not what it should be"), "a.zip")
    tally.check(ignore, "refusals", refused=100)
    with pytest.raises(AssertionError, match="too few accepted"):
        tally.check(ignore, "refusals", accepted=5)
    with pytest.raises(AssertionError, match="names none of"):
        tally.refused(HeatmapError("it is not what it should be"), "a.zip")
    with pytest.raises(AssertionError):
        tally.refused(HeatmapError("a.zip: \x1b[2J is not what it should be"), "a.zip")
