"""When a rule fires: once for each thing that happens, and not again before it is well over. No files, no clock.

A rule is given one instant after the other and what it remembers of those before; it returns what it remembers then, so
whoever calls it may stop and go on at any instant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from heatmap_pipeline.alert_rules import CascadeRule, NearRule, Rule, ZoneRule
from heatmap_pipeline.instants import MICROSECONDS
from heatmap_pipeline.model.zones import Side, Zone

Kind: TypeAlias = Literal["near", "appears", "consumed", "cascade"]

LEAVES = 1.5
"""Times `within_percent`: price has left a zone that it was near to only when it is that far away."""

FADES = 0.8
"""Share of `volume`: a zone that had it is as large still while it holds that."""

FORGET = 6 * 3600 * MICROSECONDS
"""A zone that is not seen for so long is gone; for less, it may only stand out less than before."""

CALMS = 0.5
"""Share of `times`: a cascade is over with an hour below that."""


@dataclass(frozen=True)
class Hour:
    """What was liquidated of one side in an hour that has begun.

    Attributes:
        start: microseconds UTC.
        side: of the positions.
        over: whether the hour is over.
        modelled: by the model, quote asset.
        usual: its median in that hour of the day; None where too few days are known.
        reported: contracts really liquidated; None where the hour is not recorded.
        reported_usual: their median in that hour of the day; None where too little is recorded.
    """

    start: int
    side: Side
    over: bool
    modelled: float
    usual: float | None
    reported: float | None = None
    reported_usual: float | None = None


@dataclass(frozen=True)
class Instant:
    """What is known at an instant.

    Attributes:
        at: microseconds UTC, the end of a candle.
        price: its close.
        low: the lowest price since the instant before.
        high: the highest.
        zones: of the book then.
        hours: the hours that were going on since the instant before, rising.
    """

    at: int
    price: float
    low: float
    high: float
    zones: tuple[Zone, ...]
    hours: tuple[Hour, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A zone that a rule remembers, as it was when it was last seen."""

    zone: Zone
    at: int


@dataclass(frozen=True)
class Memory:
    """What a rule remembers: the zones it knows, and the sides on which a cascade is going on."""

    zones: tuple[Seen, ...] = ()
    sides: frozenset[Side] = frozenset()


@dataclass(frozen=True)
class Alert:
    """One thing that happened; prices and volumes in the quote asset.

    Attributes:
        at: microseconds UTC.
        rule: its name.
        kind: what happened.
        side: of the positions.
        price: at that instant.
        zone: of which it is told; None for a cascade.
        volume: of the zone, or liquidated in the hour as modelled.
        words: it in a sentence, without the symbol.
    """

    at: int
    rule: str
    kind: Kind
    side: Side
    price: float
    zone: Zone | None
    volume: float
    words: str


def watch(rule: Rule, memory: Memory | None, instant: Instant) -> tuple[Memory, list[Alert]]:
    """Show a rule the next instant.

    Args:
        rule: to follow.
        memory: what it returned for the instant before; None at its first, at which it only looks what is there.
        instant: later than the one before.

    Returns:
        What it remembers, and what it has to tell.
    """
    before = memory or Memory()
    if isinstance(rule, NearRule):
        return _near(rule, before, instant)
    if isinstance(rule, ZoneRule):
        return _zones(rule, before, instant, first=memory is None)
    return _cascade(rule, before, instant, first=memory is None)


def _near(rule: NearRule, before: Memory, instant: Instant) -> tuple[Memory, list[Alert]]:
    def within(zone: Zone, percent: float, volume: float) -> bool:
        return zone.volume >= volume and gap_percent(zone, instant.price) <= percent

    def stays(zone: Zone) -> bool:
        return within(zone, LEAVES * rule.within_percent, FADES * rule.volume)

    known = _remembered(before, instant, stays)
    alerts = []
    for zone in instant.zones:
        if within(zone, rule.within_percent, rule.volume) and not _among(zone, before):
            known.append(Seen(zone, instant.at))
            gap = gap_percent(zone, instant.price)
            where = f"{gap:.2f} % from" if gap else "in"
            words = f"price {_number(instant.price)} is {where} a zone of {_words(zone)}"
            alerts.append(Alert(instant.at, rule.name, "near", zone.side, instant.price, zone, zone.volume, words))
    return Memory(zones=tuple(known)), alerts


def _zones(rule: ZoneRule, before: Memory, instant: Instant, *, first: bool) -> tuple[Memory, list[Alert]]:
    alerts = []
    reached = [seen for seen in before.zones if _reached(seen.zone, instant)]
    for seen in reached:
        words = f"price reached {_number(seen.zone.peak)}, the peak of a zone of {_words(seen.zone)}"
        alerts.append(
            Alert(instant.at, rule.name, "consumed", seen.zone.side, instant.price, seen.zone, seen.zone.volume, words)
        )
    known = _remembered(before, instant, lambda zone: zone.volume >= FADES * rule.volume)
    # What price has gone through is gone, unless the rest of it is a zone that is still seen.
    known = [seen for seen in known if seen not in reached]
    for zone in instant.zones:
        if zone.volume >= rule.volume and not _among(zone, before):
            known.append(Seen(zone, instant.at))
            # One that is farther away is known from now on, so that it does not appear when price comes near it.
            if gap_percent(zone, instant.price) > rule.within_percent:
                continue
            words = f"a zone of {_words(zone)}, has appeared, {zone.distance_percent:+.2f} % from the price"
            alerts.append(Alert(instant.at, rule.name, "appears", zone.side, instant.price, zone, zone.volume, words))
    alerts_of_events = [] if first else [alert for alert in alerts if alert.kind in rule.events]
    return Memory(zones=tuple(known)), alerts_of_events


def _cascade(rule: CascadeRule, before: Memory, instant: Instant, *, first: bool) -> tuple[Memory, list[Alert]]:
    sides = set(before.sides)
    alerts = []
    for hour in instant.hours:
        if hour.side not in sides and _is_over(rule.times, hour.modelled, hour.usual):
            reported = hour.reported
            if reported is not None and not _is_over(rule.times, reported, hour.reported_usual):
                continue
            sides.add(hour.side)
            words = (
                f"a cascade of {hour.side}s: {_amount(hour.modelled)} modelled as liquidated within the hour, "
                f"{hour.modelled / (hour.usual or 1):.1f} times the usual"
            )
            if reported is not None and hour.reported_usual:
                words += f"; reported {reported / hour.reported_usual:.1f} times the usual"
            alerts.append(Alert(instant.at, rule.name, "cascade", hour.side, instant.price, None, hour.modelled, words))
        elif hour.over and not _is_over(CALMS * rule.times, hour.modelled, hour.usual):
            sides.discard(hour.side)
    return Memory(sides=frozenset(sides)), [] if first else alerts


def _is_over(times: float, volume: float, usual: float | None) -> bool:
    """Whether a volume is more than so many times the usual; where nothing is usual, nobody can say."""
    return usual is not None and usual > 0 and volume > times * usual


def gap_percent(zone: Zone, price: float) -> float:
    """Return how far a price is from the nearer edge of a zone, percent of the price; 0 inside."""
    return 100 * max(zone.low - price, price - zone.high, 0.0) / price


def _reached(zone: Zone, instant: Instant) -> bool:
    return instant.high >= zone.peak if zone.side == "short" else instant.low <= zone.peak


def _remembered(before: Memory, instant: Instant, stays: Callable[[Zone], bool]) -> list[Seen]:
    """Return what is known of before and still is so: as it is seen now, or as it was if it is not seen for a while."""
    seen = [Seen(zone, instant.at) for zone in instant.zones if _among(zone, before) and stays(zone)]
    missed = [
        old
        for old in before.zones
        if instant.at - old.at <= FORGET and stays(old.zone) and not _overlapped(old.zone, instant.zones)
    ]
    return [*seen, *missed]


def _among(zone: Zone, memory: Memory) -> bool:
    return any(zone.overlaps(seen.zone) for seen in memory.zones)


def _overlapped(zone: Zone, others: Sequence[Zone]) -> bool:
    return any(zone.overlaps(other) for other in others)


def _words(zone: Zone) -> str:
    return f"{_amount(zone.volume)} in {zone.side}s, {_number(zone.low)} to {_number(zone.high)}, modelled"


def _amount(value: float) -> str:
    """Return a volume as people read it.

    Example:
        >>> _amount(238_412_004.0), _amount(338_114.1), _amount(12.0)
        ('238.4 M', '338.1 k', '12')
    """
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value:.0f}"


def _number(value: float) -> str:
    """Return a price as people read it.

    Example:
        >>> _number(68215.5), _number(0.08123)
        ('68,215.5', '0.08123')
    """
    return f"{value:,.8g}" if value < 1000 else f"{value:,.2f}".rstrip("0").rstrip(".")
