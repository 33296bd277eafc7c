"""What is on its way counts once, and is bounded: who keeps the others waiting is cut, and nobody else."""

from __future__ import annotations

from dataclasses import dataclass, field

from heatmap_pipeline.api.outgoing import PATIENCE_SECONDS, Outgoing, Taker


@dataclass
class Connections:
    """What the connections of a test do."""

    outgoing: Outgoing
    stalled: set[str] = field(default_factory=set)
    cut: list[str] = field(default_factory=list)

    def take(self, client: str, body: bytes) -> Taker:
        taker = Taker(client, body, lambda: client in self.stalled, lambda: self.cut.append(client))
        self.outgoing.admit(taker)
        return taker


def bodies(*sizes: int) -> list[bytes]:
    return [bytes([number]) * size for number, size in enumerate(sizes)]


def test_a_body_counts_once_and_until_the_last_has_taken_it() -> None:
    outgoing, (body,) = Outgoing(100), bodies(60)
    takers = [Connections(outgoing).take(f"client {number}", body) for number in range(5)]
    for taker in takers:
        assert outgoing.size == 60
        outgoing.release(taker)
        outgoing.release(taker)
    assert (outgoing.size, outgoing.taken, len(outgoing)) == (0, 1, 0)


def test_who_has_much_on_its_way_takes_it_first() -> None:
    outgoing, (small, large, rest) = Outgoing(100), bodies(24, 1000, 1)
    connections = Connections(outgoing)
    taker = connections.take("greedy", small)
    assert outgoing.room_for("greedy")
    more = connections.take("greedy", rest)
    assert not outgoing.room_for("greedy")
    assert outgoing.room_for("modest")
    outgoing.release(more)
    outgoing.release(taker)
    assert outgoing.room_for("greedy")
    connections.take("modest", large)
    assert not outgoing.room_for("other")  # nothing further is made while so much is on its way


def test_who_takes_nothing_makes_room_and_after_it_who_takes_long() -> None:
    now = 0.0
    outgoing = Outgoing(100, lambda: now)
    connections = Connections(outgoing)
    for client, body in zip(("small", "large", "large", "still"), bodies(20, 50, 50, 30), strict=True):
        connections.take(client, body)
    connections.stalled.add("still")
    outgoing.make_room()
    assert connections.cut == ["still"]
    assert outgoing.size == 120
    now += PATIENCE_SECONDS
    connections.take("new", bytes(200))
    outgoing.make_room()
    assert connections.cut == ["still"], "everyone has so long"
    now += 0.1
    outgoing.make_room()
    assert connections.cut == ["still", "large", "large", "small"], "who has most comes first; the new one has its time"
    assert outgoing.size == 200


def test_nobody_is_cut_while_there_is_room() -> None:
    connections = Connections(Outgoing(100))
    connections.stalled.add("still")
    connections.take("still", bytes(99))
    connections.outgoing.make_room()
    assert connections.cut == []


def test_what_fills_the_room_to_the_last_byte_leaves_none() -> None:
    now = 0.0
    connections = Connections(Outgoing(100, lambda: now))
    connections.take("late", bytes(100))
    assert not connections.outgoing.room_for("other")
    now += PATIENCE_SECONDS + 0.1
    connections.outgoing.make_room()
    assert connections.cut == ["late"]
    connections.stalled.add("still")
    connections.take("still", bytes(100))
    connections.outgoing.make_room()
    assert connections.cut == ["late", "still"]


def test_room_that_is_made_is_said() -> None:
    outgoing, times = Outgoing(100), []
    outgoing.freed = lambda: times.append(outgoing.size)
    outgoing.release(Connections(outgoing).take("one", bytes(100)))
    assert times == [0]
