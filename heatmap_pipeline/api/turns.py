"""Whose question is worked on next: clients take turns, however many questions one of them has.

What belongs here: order and room. What does not: what is worked on (`service.py`). All of it belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque

from heatmap_pipeline.api.errors import ApiError

RETRY_SECONDS = 1


class Ticket:
    """A question that waits for its turn; several clients may wait for the same one."""

    def __init__(self) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.clients: set[str] = set()


class Turns:
    """Places to work at, and the questions that wait for one.

    A free place goes to the client whose turn it is, one after the other. Where no more may wait, a newcomer takes the
    room of the newest question of the client that has most of them waiting, if that is more than the newcomer has.

    Args:
        places: questions that are worked on at once.
        room: questions that may wait.
    """

    def __init__(self, places: int, room: int) -> None:
        self.places, self.room = places, room
        self.taken = 0
        self._waiting: dict[str, deque[Ticket]] = {}  # the client whose turn is next first
        self._tickets: set[Ticket] = set()

    def __len__(self) -> int:
        return len(self._tickets)

    def line_up(self, client: str) -> Ticket:
        """Return the ticket of a new question; its `turn` is done as soon as it may be worked on.

        Raises:
            ApiError: 503 if too many wait. It is also what `turn` raises for a question that made room for another.
        """
        ticket = Ticket()
        if self.taken < self.places and not self._tickets:
            self.taken += 1
            ticket.turn.set_result(None)
            return ticket
        if len(self._tickets) >= self.room:
            self._make_room(client)
        self._tickets.add(ticket)
        self.join(ticket, client)
        return ticket

    def join(self, ticket: Ticket, client: str) -> None:
        """Have another client wait for the same question: it comes when it is the turn of either."""
        if ticket in self._tickets and client not in ticket.clients:
            ticket.clients.add(client)
            self._waiting.setdefault(client, deque()).append(ticket)

    def done(self) -> None:
        """Give a place back, and to the next."""
        self.taken -= 1
        while self._tickets and self.taken < self.places:
            client = next(iter(self._waiting))
            ticket = self._waiting[client][0]
            self._forget(ticket)
            if client in self._waiting:  # the others come first now
                self._waiting[client] = self._waiting.pop(client)
            self.taken += 1
            ticket.turn.set_result(None)

    def _make_room(self, client: str) -> None:
        most = max(self._waiting, key=lambda name: len(self._waiting[name]), default=client)
        theirs = self._waiting.get(most, ())
        ticket = next((ticket for ticket in reversed(theirs) if len(ticket.clients) == 1), None)
        # The question that is asked now counts as well: who has as many is not pushed out for it.
        if ticket is None or len(theirs) <= len(self._waiting.get(client, ())) + 1:
            raise self._full()
        self._forget(ticket)
        ticket.turn.set_exception(self._full())

    def _forget(self, ticket: Ticket) -> None:
        self._tickets.discard(ticket)
        for client in ticket.clients:
            self._waiting[client].remove(ticket)
            if not self._waiting[client]:
                del self._waiting[client]

    def _full(self) -> ApiError:
        return ApiError(
            503,
            f"{self.taken + len(self._tickets)} answers are being made, as many as this server allows at a time; "
            "try again soon",
            {"Retry-After": str(RETRY_SECONDS)},
        )
