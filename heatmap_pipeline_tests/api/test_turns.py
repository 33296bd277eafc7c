"""Clients take turns, and a full queue makes room for who has least in it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.api.errors import ApiError
from heatmap_pipeline.api.turns import COMPANY_SECONDS, Ticket, Turns


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        await test()

    asyncio.run(inside())


def may_work(ticket: Ticket) -> bool:
    return ticket.turn.done() and ticket.turn.exception() is None


@given(st.lists(st.sampled_from("abcd"), max_size=40), st.integers(1, 3))
def test_nobody_comes_twice_while_another_waits(askers: list[str], places: int) -> None:
    async def test() -> None:
        ages = count(step=2 * COMPANY_SECONDS)
        turns = Turns(places, 40, clock=lambda: next(ages))  # nobody has company, so nothing is left free for it
        waiting = [(client, turns.line_up(client)) for client in askers]
        order: list[str] = []
        working = [ticket for _, ticket in waiting[:places]]
        assert all(may_work(ticket) for ticket in working)
        waiting = waiting[places:]
        while waiting:
            turns.done(working.pop(0))
            (begun,) = [entry for entry in waiting if may_work(entry[1])]
            waiting.remove(begun)
            working.append(begun[1])
            order.append(begun[0])
            left = {client for client, _ in waiting}
            if len(order) > 1 and order[-1] == order[-2]:
                assert left <= {order[-1]}, "the same client twice, and another was waiting"
        assert sorted(order) == sorted(askers[places:])
        # Between two turns of a client every other that waited all the time had one.
        for client in set(order):
            turns_of = [number for number, name in enumerate(order) if name == client]
            for first, second in pairwise(turns_of):
                between = order[first + 1 : second]
                assert len(between) == len(set(between))

    run(test)


def test_room_is_made_by_who_has_most() -> None:
    async def test() -> None:
        turns = Turns(1, 4)
        first, *waiting = [turns.line_up("greedy") for _ in range(5)]
        assert may_work(first)
        with pytest.raises(ApiError, match="5 answers are being made"):
            turns.line_up("greedy")
        modest = [turns.line_up("modest"), turns.line_up("modest")]
        for ticket in waiting[2:]:
            with pytest.raises(ApiError):
                await ticket.turn
        with pytest.raises(ApiError):
            turns.line_up("modest")  # as many as the other has
        assert len(turns) == 4
        for ticket in (waiting[0], modest[0], waiting[1], modest[1]):
            turns.done(first)
            assert may_work(ticket)
            first = ticket
        assert len(turns) == 0

    run(test)


@pytest.mark.parametrize(
    ("waiting", "asker", "pushed"),
    [
        ("aaaz", "m", "a"),
        ("azzz", "m", "z"),
        ("aaa", "m", "a"),
        ("aa", "m", "a"),
        ("aam", "m", ""),  # with this one it would have as many
        ("aaam", "m", "a"),
        ("abm", "m", ""),
        ("ab", "m", ""),
        ("", "m", ""),  # a server where nothing may wait
    ],
)
def test_the_newest_question_of_who_has_most_makes_room_for_who_has_fewer(
    waiting: str, asker: str, pushed: str
) -> None:
    async def test() -> None:
        turns = Turns(1, len(waiting))
        turns.line_up("first")
        tickets = [(client, turns.line_up(client)) for client in waiting]
        if pushed:
            assert not turns.line_up(asker).turn.done()
        else:
            with pytest.raises(ApiError) as full:
                turns.line_up(asker)
            assert full.value.status == 503
        refused = [number for number, (_, ticket) in enumerate(tickets) if ticket.turn.done()]
        assert refused == ([waiting.rindex(pushed)] if pushed else [])
        for number in refused:
            with pytest.raises(ApiError):
                await tickets[number][1].turn

    run(test)


def test_what_several_wait_for_makes_room_for_nobody() -> None:
    async def test() -> None:
        turns = Turns(1, 2)
        turns.line_up("first")
        for ticket in [turns.line_up("one"), turns.line_up("one")]:
            turns.join(ticket, "other")
        with pytest.raises(ApiError, match="3 answers are being made"):
            turns.line_up("new")
        assert len(turns) == 2

    run(test)


def test_who_asks_the_same_twice_waits_once() -> None:
    async def test() -> None:
        turns = Turns(1, 8)
        first, ticket = turns.line_up("one"), turns.line_up("one")
        turns.join(ticket, "one")
        turns.done(first)
        assert may_work(ticket)
        turns.done(ticket)
        assert (turns.taken, len(turns)) == (0, 0)

    run(test)


def test_who_asked_again_was_there_just_now() -> None:
    async def test() -> None:
        now = 0.0
        turns = Turns(2, 8, clock=lambda: now)
        for client, when in (("a", 0.0), ("b", 0.0), ("a", COMPANY_SECONDS - 1)):
            now = when
            turns.done(turns.line_up(client))
        now = COMPANY_SECONDS + 1
        assert [may_work(turns.line_up("c")) for _ in range(2)] == [True, False], "a, not b"

    run(test)


def test_who_joins_does_not_wait_behind_the_others_questions() -> None:
    async def test() -> None:
        turns = Turns(1, 8)
        first, *waiting = [turns.line_up("greedy") for _ in range(6)]
        turns.join(waiting[-1], "modest")
        turns.done(first)
        turns.done(waiting[0])
        assert [may_work(ticket) for ticket in waiting] == [True, False, False, False, True]
        turns.join(waiting[-1], "late")  # it is worked on already
        assert len(turns) == 3
        for done in (waiting[-1], *waiting[1:4]):
            turns.done(done)
        assert (turns.taken, len(turns)) == (0, 0), "and is not begun again"

    run(test)


def test_one_place_is_left_for_the_others_while_there_are_some() -> None:
    async def test() -> None:
        now = 0.0
        turns = Turns(3, 8, clock=lambda: now)
        alone = [turns.line_up("greedy") for _ in range(4)]
        assert [may_work(ticket) for ticket in alone] == [True, True, True, False]
        late = turns.line_up("modest")
        turns.done(alone[0])
        assert [may_work(late), may_work(alone[3])] == [True, False]
        turns.done(late)
        assert not may_work(alone[3]), "the free place is for who comes next"
        soon = turns.line_up("modest")
        assert may_work(soon)
        turns.done(soon)
        now += COMPANY_SECONDS + 1
        turns.advance()
        assert may_work(alone[3])

    run(test)


@pytest.mark.parametrize("places", [2, 3])
def test_nobody_has_the_last_place_while_another_was_there_just_now(places: int) -> None:
    """Neither who came first nor who came last, whichever of the two it is that has more to ask."""

    async def test() -> None:
        for many, few in (("first", "last"), ("last", "first")):
            now = 0.0
            turns = Turns(places, 8, clock=lambda: now)  # noqa: B023  # used up within the round
            asked = [turns.line_up("first"), turns.line_up("last")]
            for ticket in asked:
                turns.done(ticket)
            tickets = [turns.line_up(many) for _ in range(places)]
            assert [may_work(ticket) for ticket in tickets] == [True] * (places - 1) + [False]
            assert may_work(turns.line_up(few))

    run(test)


def test_who_asks_later_does_not_begin_before_what_waits() -> None:
    async def test() -> None:
        now = 0.0
        turns = Turns(2, 8, clock=lambda: now)
        turns.done(turns.line_up("modest"))
        first, waiting = turns.line_up("greedy"), turns.line_up("greedy")
        assert [may_work(first), may_work(waiting)] == [True, False]
        now += COMPANY_SECONDS + 1  # nobody has said so to whoever waits
        later = turns.line_up("greedy")
        assert [may_work(waiting), may_work(later)] == [True, False]

    run(test)


def test_a_question_begins_as_soon_as_somebody_joins_who_may() -> None:
    async def test() -> None:
        turns = Turns(2, 8, lambda client: client != "slow")
        ticket = turns.line_up("slow")
        assert not may_work(ticket)
        turns.join(ticket, "quick")
        assert may_work(ticket)
        assert (ticket.whose, len(turns)) == ("quick", 0)

    run(test)


def test_who_may_not_begin_waits_and_keeps_nobody_else() -> None:
    async def test() -> None:
        barred = {"slow"}
        turns = Turns(2, 8, lambda client: client not in barred)
        slow = turns.line_up("slow")
        assert may_work(turns.line_up("quick"))
        assert not may_work(slow)
        barred.clear()
        turns.advance()
        assert may_work(slow)
        barred.add("slow")
        waiting = turns.line_up("slow")
        turns.close()
        with pytest.raises(ApiError, match="being stopped"):
            await waiting.turn
        assert len(turns) == 0

    run(test)


def test_what_nobody_waits_for_is_not_begun() -> None:
    async def test() -> None:
        turns = Turns(1, 8)
        first, second, third = [turns.line_up("one") for _ in range(3)]
        assert not turns.withdraw(first), "it has begun"
        assert turns.withdraw(second)
        assert not turns.withdraw(second)
        with pytest.raises(ApiError):
            await second.turn
        turns.done(first)
        assert may_work(third)
        assert len(turns) == 0

    run(test)
