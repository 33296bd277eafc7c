"""When rules fire: once for each thing that happens, not again before it is well over; on small books and on any."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.alert_rules import CascadeRule, NearRule, Rule, ZoneRule
from heatmap_pipeline.model.alerts import FORGET, Alert, Hour, Instant, Memory, gap_percent, watch
from heatmap_pipeline.model.zones import Side, Zone

QUARTER = 900_000_000
HOUR = 4 * QUARTER
NEAR = NearRule(name="near", when="near", within_percent=1.0, volume=100.0)
COMES_AND_GOES = ZoneRule(name="zone", when="zone", volume=100.0)
CASCADE = CascadeRule(name="cascade", when="cascade", times=10.0)


def zone(low: float, high: float, volume: float = 100.0, side: Side = "short") -> Zone:
    return Zone(side, low, high, (low + high) / 2, (low + high) / 2, volume, 1.0, 0.5)


def at(number: int, price: float, *zones: Zone, **more: Any) -> Instant:
    """An instant so many quarters of an hour after the first."""
    wick = {"low": price, "high": price, **more}
    return Instant(at=number * QUARTER, price=price, zones=zones, **wick)


def told(rule: Rule, *instants: Instant, memory: Memory | None = None) -> list[tuple[int, str, float]]:
    """Show instants to a rule; return number, kind and lower edge of what it told."""
    alerts: list[Alert] = []
    for instant in instants:
        memory, more = watch(rule, memory, instant)
        alerts += more
    assert all(alert.rule == rule.name for alert in alerts)
    return [(alert.at // QUARTER, alert.kind, alert.zone.low if alert.zone else 0.0) for alert in alerts]


def test_price_near_a_large_zone_is_told_once_until_it_has_left() -> None:
    large, small = zone(102, 103), zone(101, 101.5, 99)
    assert told(NEAR, at(0, 100, large, small)) == [], "2 % away, and a small one nearer"
    assert told(NEAR, at(0, 101, large, small)) == [(0, "near", 102)], "also at the first look"
    # 1.2 % away it is still near for who was; only beyond 1.5 % has it left.
    path = [100.0, 101, 101.2, 100.8, 101, 100, 101, 104, 102.5]
    assert told(NEAR, *(at(number, price, large) for number, price in enumerate(path))) == [
        (1, "near", 102),
        (6, "near", 102),
    ]
    assert gap_percent(large, 102.5) == 0
    assert gap_percent(large, 104) == 100 / 104


def test_a_zone_that_shrinks_a_little_or_moves_is_the_same_one() -> None:
    books = [zone(101, 103), zone(101.5, 103.5, 85), zone(102, 104, 120), zone(102, 104, 79), zone(102, 104, 100)]
    assert told(NEAR, *(at(number, 101.5, book) for number, book in enumerate(books))) == [
        (0, "near", 101),
        (4, "near", 102),
    ], "below 80 % it has faded, and is told again when it is as large as wanted"


def test_two_zones_are_two_alerts_and_sides_are_told_apart() -> None:
    below = zone(98.5, 99.5, side="long")
    assert told(NEAR, at(0, 100, below, zone(100.5, 101))) == [(0, "near", 98.5), (0, "near", 100.5)]
    memory, alerts = watch(NEAR, None, at(0, 100, below))
    assert (alerts[0].side, alerts[0].volume) == ("long", 100.0)
    assert alerts[0].words == "price 100 is 0.50 % from a zone of 100 in longs, 98.5 to 99.5, modelled"
    assert told(NEAR, at(1, 99.4, zone(98.5, 99.5)), memory=memory) == [(1, "near", 98.5)], "another side"


def test_a_zone_appears_and_is_consumed() -> None:
    standing, grown = zone(110, 112), zone(105, 107)
    assert told(COMES_AND_GOES, at(0, 100, standing)) == [], "what stands at the first look has not appeared"
    assert told(
        COMES_AND_GOES,
        at(0, 100, standing),
        at(1, 100, standing, zone(105, 107, 99)),
        at(2, 100, standing, grown),
        at(3, 100, standing, zone(105, 107, 85)),
        at(4, 100, standing, grown),
        at(5, 104, standing, zone(105, 107, 90), high=105.5),
        at(6, 107.5, standing, high=107.5),
        at(7, 104, standing),
    ) == [(2, "appears", 105), (6, "consumed", 105)]
    longs = zone(90, 92, side="long")
    assert told(COMES_AND_GOES, at(0, 100, longs), at(1, 95, low=91), at(2, 90.5)) == [(1, "consumed", 90)]
    assert told(COMES_AND_GOES, at(0, 100, longs), at(1, 100, longs, high=120)) == [], "longs lie below"


def test_only_the_events_that_are_wanted() -> None:
    path = at(0, 100), at(1, 100, zone(105, 107)), at(2, 106, high=107)
    assert [kind for _, kind, _ in told(COMES_AND_GOES, *path)] == ["appears", "consumed"]
    for event in ("appears", "consumed"):
        rule = ZoneRule(name="zone", when="zone", volume=100.0, events=(event,))
        assert [kind for _, kind, _ in told(rule, *path)] == [event]


def test_a_zone_that_price_comes_near_to_has_not_appeared() -> None:
    far = zone(115, 117)
    assert told(COMES_AND_GOES, at(0, 100), at(1, 100, far), at(2, 110, far), at(3, 118, high=118)) == [
        (3, "consumed", 115)
    ]


def test_the_rest_of_a_consumed_zone_is_no_new_one() -> None:
    before, rest = zone(105, 109, 300), zone(107.5, 109, 150)
    assert told(COMES_AND_GOES, at(0, 100, before), at(1, 106, rest, high=107.4), at(2, 106, rest)) == [
        (1, "consumed", 105)
    ]


def test_a_zone_that_is_not_seen_for_a_while_is_the_same_one_and_after_that_a_new_one() -> None:
    book = zone(105, 107)
    gone = FORGET // QUARTER
    assert told(COMES_AND_GOES, at(0, 100, book), at(1, 100), at(gone, 100), at(gone, 100, book)) == []
    assert told(COMES_AND_GOES, at(0, 100, book), at(1, 100), at(gone + 1, 100), at(gone + 2, 100, book)) == [
        (gone + 2, "appears", 105)
    ]
    assert told(COMES_AND_GOES, at(0, 100, book), at(1, 100), at(2, 107, high=107)) == [(2, "consumed", 105)]


def hour(start: int, modelled: float, *, over: bool = True, side: Side = "long", **more: Any) -> Hour:
    return Hour(start * HOUR, side, over=over, modelled=modelled, **{"usual": 10.0, **more})


def cascades(*shown: tuple[Hour, ...], rule: CascadeRule = CASCADE) -> list[int]:
    """Show hours to a rule, after a first look; return at which showings it told of a cascade."""
    instants = [at(number, 100, hours=hours) for number, hours in enumerate(((), *shown))]
    return [number for number, kind, _ in told(rule, *instants) if kind == "cascade"]


def test_a_cascade_is_told_when_it_is_seen_and_once_until_an_hour_is_calm() -> None:
    growing = [(hour(1, volume, over=False),) for volume in (20.0, 99.0, 100.0, 101.0, 300.0)]
    assert cascades(*growing) == [4], "more than ten times, and not again within the hour"
    # The next hour begins with nothing, and goes on: it is the same cascade; 50 is not yet calm, 49 is.
    later = [(hour(1, 300), hour(2, 0, over=False)), (hour(2, 200, over=False),), (hour(2, 200),), (hour(3, 51),)]
    assert cascades(*growing, *later, (hour(4, 200),)) == [4]
    assert cascades(*growing, *later, (hour(4, 49),), (hour(5, 200),)) == [4, 11]


def test_sides_are_cascades_of_their_own() -> None:
    both = (hour(1, 200), hour(1, 200, side="short"))
    assert cascades((hour(1, 200),), both, both) == [1, 2]


def test_where_liquidations_are_reported_they_must_be_as_many() -> None:
    assert cascades((hour(1, 200, reported=5.0, reported_usual=1.0),)) == []
    assert cascades((hour(1, 200, reported=11.0, reported_usual=1.0),)) == [1]
    assert cascades((hour(1, 200, reported=11.0, reported_usual=None),)) == [], "recorded, but what is usual is unknown"
    assert cascades((hour(1, 99, reported=11.0, reported_usual=1.0),)) == []


def test_where_nothing_is_usual_nobody_can_say() -> None:
    assert cascades((hour(1, 200, usual=0.0),), (hour(2, 200, usual=None),)) == []


def test_a_cascade_says_how_much() -> None:
    memory, _ = watch(CASCADE, None, at(0, 100))
    _, (alert,) = watch(
        CASCADE, memory, at(1, 100, hours=(hour(1, 2.5e6, usual=1e5, reported=4.4, reported_usual=0.2),))
    )
    assert (alert.zone, alert.volume, alert.side) == (None, 2.5e6, "long")
    assert alert.words == (
        "a cascade of longs: 2.5 M modelled as liquidated within the hour, 25.0 times the usual; reported 22.0 times "
        "the usual"
    )


def apart(zones: list[Zone]) -> list[Zone]:
    """Return the zones of a book: of one side no two overlap."""
    kept: list[Zone] = []
    for each in zones:
        if not any(each.overlaps(other) for other in kept):
            kept.append(each)
    return kept


some_zones = st.lists(
    st.builds(
        lambda start, width, volume, side: zone(start, start + width, volume, side),
        st.integers(50, 150),
        st.integers(1, 20),
        st.sampled_from([50.0, 79.0, 85.0, 100.0, 300.0]),
        st.sampled_from(["long", "short"]),
    ),
    max_size=4,
).map(apart)


@given(st.lists(st.tuples(some_zones, st.integers(60, 140)), max_size=12), st.sampled_from([NEAR, COMES_AND_GOES]))
def test_nothing_is_told_twice_without_anything_between_and_stopping_changes_nothing(
    books: list[tuple[list[Zone], int]], rule: Rule
) -> None:
    instants = [at(number, price, *zones) for number, (zones, price) in enumerate(books)]
    memory: Memory | None = None
    for instant in instants:
        memory, alerts = watch(rule, memory, instant)
        again = Instant(instant.at + 1, instant.price, instant.price, instant.price, instant.zones)
        after, repeated = watch(rule, memory, again)
        assert [alert for alert in repeated if alert.kind != "consumed"] == []
        if rule is NEAR:
            assert all(alert.zone is not None and gap_percent(alert.zone, instant.price) <= 1 for alert in alerts)
            assert {seen.zone for seen in after.zones} == {seen.zone for seen in memory.zones}
