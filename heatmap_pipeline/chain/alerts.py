"""The rules for alerts shown what was computed since they last looked, before it is published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from heatmap_pipeline.alert_rules import CascadeRule, Rule
from heatmap_pipeline.chain.history import Connect
from heatmap_pipeline.instants import DAY, MICROSECONDS
from heatmap_pipeline.model.alerts import Alert, Hour, Instant, Memory, watch
from heatmap_pipeline.model.book import LONG, SHORT, SIDE_NAMES, Columns, Floats, Ints
from heatmap_pipeline.model.zones import find_zones
from heatmap_pipeline.store import alerts as stored
from heatmap_pipeline.store.alerts import StoredAlert, Watch, stored_alert
from heatmap_pipeline.store.sql import Connection

HOUR = 3600 * MICROSECONDS

LOOK_BACK = DAY
"""What is older than this when it is computed is nobody's alert any more."""

USUAL_DAYS = 28
"""Days before an hour of which the median says what is usual in that hour of the day."""

LEAST_DAYS = 7
"""With fewer of them nobody knows what is usual."""


def watch_symbol(connect: Connect, symbol: str, models: Sequence[str], rules: Sequence[Rule]) -> list[StoredAlert]:
    """Show the rules what was computed of a symbol since they last looked, and store what they tell and remember.

    A rule that has not looked yet, or has been changed, is shown the newest instant only. Where the cells or candles of
    the newest days are not stored, the rules wait for them and remember what they did.

    Args:
        connect: opens the private database of the symbol.
        symbol: as the exchange writes it.
        models: that are computed; the first is that of rules which name none.
        rules: of the file; those of other symbols are left out.

    Returns:
        What they told, oldest first, and what they told within the last day before, which may not be delivered yet.
    """
    mine = _rules_for(symbol, models, rules)
    with connect() as con:
        watches = stored.load_watches(con, symbol)
        alerts_told: list[StoredAlert] = []
        after: dict[str, Watch] = {}
        newest = 0
        for model in dict.fromkeys(str(rule.model) for rule in mine):
            end = stored.newest_end(con, symbol, model)
            if end is None:
                continue
            newest = max(newest, end)
            group = [rule for rule in mine if rule.model == model]
            known = {rule.name: _still_valid(rule, watches.get(rule.name)) for rule in group}
            begin = min((seen.evaluated for seen in known.values() if seen is not None), default=end)
            hours = any(isinstance(rule, CascadeRule) for rule in group)
            instants = list(_instants(con, symbol, model, max(begin, end - LOOK_BACK), end, hours=hours))
            for rule in group:
                before = known[rule.name]
                if instants:
                    after[rule.name], alerts = _shown(rule, before, instants)
                    alerts_told += [stored_alert(symbol, model, alert) for alert in alerts]
                elif before is not None:
                    after[rule.name] = before
        alerts_told.sort(key=lambda alert: alert.at)
        if mine or watches:
            stored.save_watches(con, symbol, after, alerts_told)
        return stored.last_alerts(con, symbol, stored.KEPT, newest - LOOK_BACK)[::-1]


def has_to_look(con: Connection, symbol: str, models: Sequence[str], rules: Sequence[Rule]) -> bool:
    """Whether `watch_symbol` would store anything else: a rule is new, changed or gone, or has not seen the newest."""
    watches = stored.load_watches(con, symbol)
    mine = _rules_for(symbol, models, rules)
    for rule in mine:
        end = stored.newest_end(con, symbol, str(rule.model))
        known = _still_valid(rule, watches.get(rule.name))
        if end is not None and (known is None or known.evaluated < end):
            return True
    return not watches.keys() <= {rule.name for rule in mine}


def _rules_for(symbol: str, models: Sequence[str], rules: Sequence[Rule]) -> list[Rule]:
    """Return the rules of a symbol, each with its model: the first one where it names none."""
    return [rule.model_copy(update={"model": rule.model or models[0]}) for rule in rules if rule.is_for(symbol)]


def _definition(rule: Rule) -> str:
    return rule.model_dump_json()


def _still_valid(rule: Rule, known: Watch | None) -> Watch | None:
    return known if known is not None and known.definition == _definition(rule) else None


def _shown(rule: Rule, known: Watch | None, instants: Sequence[Instant]) -> tuple[Watch, list[Alert]]:
    memory, alerts = (known.memory if known is not None else None), []
    evaluated = known.evaluated if known is not None else 0
    for instant in instants if known is not None else instants[-1:]:
        if instant.at > evaluated:
            memory, more = watch(rule, memory, instant)
            alerts += more
            evaluated = instant.at
    return Watch(_definition(rule), evaluated, memory or Memory()), alerts


def _instants(con: Connection, symbol: str, model: str, begin: int, end: int, *, hours: bool) -> Iterator[Instant]:
    """Yield what was known at the end of each stored interval after an instant; always the newest one that is there."""
    books = stored.load_books(con, symbol, model, min(begin, end - 1), end)
    starts, first = np.unique(books["start"], return_index=True)
    if not len(starts):
        return
    until = np.minimum(starts + books["interval"][first], end)
    prices = stored.load_prices(con, symbol, int(starts[0]))
    if not len(prices["start"]):
        return
    last = np.searchsorted(prices["start"], until) - 1
    number = np.searchsorted(starts, books["start"])
    zones = find_zones(
        number, books["bucket"], books["side"], books["volume"], prices["close"][last], books["bucket_units"][first]
    )
    known = _Hours(con, symbol, model, int(until[0])) if hours else None
    before = min(begin, int(until[-1]) - 1)
    for book, at in enumerate(until.tolist()):
        if last[book] < 0:  # before the first candle that is there
            continue
        since = prices["start"][: last[book] + 1] >= before
        lows, highs = prices["low"][: last[book] + 1][since], prices["high"][: last[book] + 1][since]
        close = float(prices["close"][last[book]])
        yield Instant(
            at,
            close,
            float(lows.min(initial=close)),
            float(highs.max(initial=close)),
            zones.of(book),
            () if known is None else tuple(known.between(before, at)),
        )
        before = at


class _Hours:
    """What was liquidated hour by hour, and what of that is usual."""

    def __init__(self, con: Connection, symbol: str, model: str, first: int) -> None:
        """Read the hours that what is usual at an instant, or after it, is told from."""
        self._begin = max(stored.first_hour(con, symbol, model), first // HOUR * HOUR - USUAL_DAYS * DAY)
        self._candles = stored.load_liquidated(con, symbol, model, self._begin)
        self._modelled = self._by_hour(self._candles, self._candles["volume"], otherwise=0.0)
        reported = stored.load_reported_hours(con, symbol, model, self._begin)
        self._reported = self._by_hour(reported, reported["reported"], otherwise=np.nan)

    def _by_hour(self, table: Columns, amounts: Floats, *, otherwise: float) -> Floats:
        """Return sums by hour from the beginning on, and side (long, short); hours without a row are `otherwise`."""
        hour: Ints = (table["start"] - self._begin) // HOUR
        sums = np.full((int(hour.max(initial=-1)) + 1, 2), otherwise)
        side = (table["side"] < 0).astype(np.int64)
        sums[hour, side] = 0.0
        np.add.at(sums, (hour, side), amounts)
        return sums

    def between(self, before: int, at: int) -> Iterator[Hour]:
        """Yield the hours that were going on after an instant and until another, as known at that one."""
        for start in range(max(before // HOUR * HOUR, self._begin), at, HOUR):
            number = (start - self._begin) // HOUR
            candles = slice(*np.searchsorted(self._candles["start"], (start, min(at, start + HOUR))))
            for column, side in enumerate((LONG, SHORT)):
                volume = self._candles["volume"][candles][self._candles["side"][candles] == side]
                over = at >= start + HOUR
                # Only an hour that is over is recorded whole, or not.
                reported = self._value(self._reported, number, column) if over else np.nan
                yield Hour(
                    start,
                    SIDE_NAMES[side],  # type: ignore[arg-type]  # a mapping to one of two texts
                    over=over,
                    modelled=float(volume.sum()),
                    usual=self._usual(self._modelled, number, column, 0.0),
                    reported=None if np.isnan(reported) else reported,
                    reported_usual=self._usual(self._reported, number, column, np.nan),
                )

    @staticmethod
    def _value(sums: Floats, number: int, column: int) -> float:
        return float(sums[number, column]) if 0 <= number < len(sums) else np.nan

    @staticmethod
    def _usual(sums: Floats, number: int, column: int, otherwise: float) -> float | None:
        """Return the median in that hour of the day, at least that of all hours: at night nothing is usual."""
        before = np.full(number, otherwise)
        known = min(number, len(sums))
        before[:known] = sums[:known, column]
        before = before[max(0, number - 24 * USUAL_DAYS) :]
        same = before[::-1][23::24]
        same, every = same[~np.isnan(same)], before[~np.isnan(before)]
        return float(max(np.median(same), np.median(every))) if len(same) >= LEAST_DAYS else None
