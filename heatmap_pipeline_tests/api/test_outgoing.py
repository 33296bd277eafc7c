"""What is on its way counts once, and is bounded."""

from __future__ import annotations

import pytest

from heatmap_pipeline.api.errors import ApiError
from heatmap_pipeline.api.outgoing import Outgoing


def test_a_body_counts_once_and_until_the_last_has_taken_it() -> None:
    outgoing, body = Outgoing(100), bytes(60)
    for taker in range(5):
        outgoing.admit(taker, body, lambda: False)
    assert outgoing.size == 60
    other = bytes(41)
    with pytest.raises(ApiError, match="on their way") as error:
        outgoing.admit("x", other, lambda: False)
    assert error.value.status == 503
    for taker in range(5):
        assert outgoing.size == 60
        outgoing.release(taker)
    assert outgoing.size == 0
    outgoing.admit("x", bytes(1000), lambda: False)  # alone it may be larger
    outgoing.release("x")
    outgoing.release("x")
    assert outgoing.size == 0


def test_who_takes_nothing_makes_room() -> None:
    outgoing = Outgoing(100)
    bodies = [bytes([number]) * 50 for number in range(3)]
    stalled = ["a", "b"]
    for taker, body in zip(stalled, bodies, strict=False):
        outgoing.admit(taker, body, lambda: False)

    def cut_one() -> bool:
        outgoing.release(stalled.pop(0))
        return True

    outgoing.admit("c", bodies[2], cut_one)
    assert (stalled, outgoing.size) == (["b"], 100)
