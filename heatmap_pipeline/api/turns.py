"""Whose question is worked on next: clients take turns, however many questions one of them has.

What belongs here: order and room. What does not: what is worked on (`service.py`). All of it belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable

from heatmap_pipeline.api.errors import ApiError

RETRY_SECONDS = 1

COMPANY_SECONDS = 60.0
"""So long after another client's question, one place is left free for it; a client without company has them all."""


class Ticket:
    """A question that waits for its turn; several clients may wait for the same one.

    Attributes:
        turn: done when it may be worked on.
        clients: who waits for it.
        whose: the client whose turn it was.
        askers: requests that wait for it.
    """

    def __init__(self) -> None:
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.clients: set[str] = set()
        self.whose = ""
        self.askers = 0


class Turns:
    """Places to work at, and the questions that wait for one.

    A free place goes to the client whose turn it is, one after the other; while there are others, none has the last
    one as well, so that theirs need not wait for a place. Where no more may wait, a newcomer takes the room of the
    newest question of the client that has most of them waiting, if that is more than the newcomer has.

    Args:
        places: questions that are worked on at once.
        room: questions that may wait.
        may: whether a client's question may be worked on now, asked again at every `advance`.
        clock: for tests.
    """

    def __init__(
        self,
        places: int,
        room: int,
        may: Callable[[str], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.places, self.room = places, room
        self.taken = 0
        self._may, self._clock = may, clock
        self._waiting: dict[str, deque[Ticket]] = {}  # the client whose turn is next first
        self._tickets: set[Ticket] = set()
        self._working: Counter[str] = Counter()
        self._asked: dict[str, float] = {}  # the last two clients that asked, and when; the latest last

    def __len__(self) -> int:
        return len(self._tickets)

    def line_up(self, client: str) -> Ticket:
        """Return the ticket of a new question; its `turn` is done as soon as it may be worked on.

        Raises:
            ApiError: 503 if too many wait. It is also what `turn` raises for a question that made room for another.
        """
        ticket = Ticket()
        self._asked.pop(client, None)
        self._asked[client] = self._clock()
        if len(self._asked) > 2:
            del self._asked[next(iter(self._asked))]
        self.advance()
        if self._may_begin(client):  # whoever still waits may not
            self._begin(ticket, client)
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
            self.advance()

    def done(self, ticket: Ticket) -> None:
        """Give the place of a question back, and to the next."""
        self.taken -= 1
        self._working[ticket.whose] -= 1
        if not self._working[ticket.whose]:
            del self._working[ticket.whose]
        self.advance()

    def advance(self) -> None:
        """Give free places to those who may have them; called whenever that may have changed."""
        while self.taken < self.places:
            client = next((client for client in self._waiting if self._may_begin(client)), None)
            if client is None:
                return
            ticket = self._waiting[client][0]
            self._forget(ticket)
            if client in self._waiting:  # the others come first now
                self._waiting[client] = self._waiting.pop(client)
            self._begin(ticket, client)

    def withdraw(self, ticket: Ticket) -> bool:
        """Forget a question that nobody waits for any more; return whether it had not begun."""
        waits = ticket in self._tickets
        if waits:
            self._forget(ticket)
            ticket.turn.set_exception(ApiError(503, "nobody waits for this answer any more"))
        return waits

    def close(self) -> None:
        """Refuse whoever waits: the server stops."""
        for ticket in list(self._tickets):
            self._forget(ticket)
            ticket.turn.set_exception(ApiError(503, "this server is being stopped; try again soon"))

    def _may_begin(self, client: str) -> bool:
        if self.taken >= self.places or not self._may(client):
            return False
        return self._working[client] < max(self.places - 1, 1) or not self._has_company(client)

    def _has_company(self, client: str) -> bool:
        recently = self._clock() - COMPANY_SECONDS
        return any(other != client and asked > recently for other, asked in self._asked.items())

    def _begin(self, ticket: Ticket, client: str) -> None:
        ticket.whose = client
        self.taken += 1
        self._working[client] += 1
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
