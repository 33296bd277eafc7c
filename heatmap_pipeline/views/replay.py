"""Numbers by the engine: the stored history replayed over a window, at any interval and with any leverage weights.

A day starts from the book that the day before left: as stored, carried there from the nearest day whose lots are kept,
or with other weights from the first day of its history.
What belongs here: which days to run, from which state, and the sparse cells that come out. What does not: price bins
and bytes (`grid.py`, `api/encode.py`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from cachetools import LRUCache

from heatmap_pipeline.instants import DAY, MICROSECONDS, ONE_DAY, day_of, day_start
from heatmap_pipeline.model.book import Columns, DayResult, Floats, Ints, ModelState, Sides
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import ModelParameters
from heatmap_pipeline.views.data import ModelData, SymbolData, Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.modelled import Modelled, joined, later, modelled_of_day

Weights: TypeAlias = tuple[tuple[float, float], ...]
"""(leverage, weight) by rising leverage; weights sum to 1."""

Tiers: TypeAlias = tuple[float, ...]
"""Leverages, rising."""

_EVERY = 16
"""Days from one kept book to the next on a long way."""
_STRETCH = 30
"""Days from which on a window has another stretch that is run at the same time."""


class Books:
    """Books that days started from, the most recently used ones, up to a number of bytes. Safe between threads."""

    def __init__(self, max_bytes: int) -> None:
        self._kept: LRUCache[tuple[object, ...], ModelState] = LRUCache(max_bytes, _size)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes that the kept books take."""
        return int(self._kept.currsize)

    def get(self, key: tuple[object, ...]) -> ModelState | None:
        """Return a kept book."""
        with self._lock:
            return self._kept.get(key)

    def put(self, key: tuple[object, ...], state: ModelState) -> None:
        """Keep a book, and forget the ones not used for longest where there is no room."""
        with self._lock:
            if key not in self._kept and _size(state) <= self._kept.maxsize:
                self._kept[key] = state


def _size(state: ModelState) -> int:
    """Return about how many bytes a book takes."""
    return 1000 + 41 * len(state.lots)


@dataclass(frozen=True, eq=False)
class Source:
    """What is replayed: a symbol and model of one version, with the model's own weights (None) or others.

    Of the lots only those of some leverage `tiers` are shown; None means all. The books hold every lot all the same, so
    they are kept once for all that is shown of them.
    """

    version: Version
    symbol: SymbolData
    model: ModelData
    weights: Weights | None
    books: Books
    tiers: Tiers | None = None

    @cached_property
    def all_tiers(self) -> Tiers:
        """The leverages of all days of the history."""
        days = set(self.model.parameters.values())
        changed = days if self.weights is None else {of_day.with_weights(self.weights) for of_day in days}
        return tuple(sorted({leverage for parameters in changed for leverage, _ in parameters.tiers}))

    def parameters(self, day: date) -> ModelParameters:
        """Return the parameters of a day.

        Raises:
            ModelError: if the weights cannot be had under the day's leverage bracket.
        """
        parameters = self.model.parameters[day]
        return parameters if self.weights is None else parameters.with_weights(self.weights)

    def run(self, day: date, state: ModelState, step: int | None, until: int | None = None) -> DayResult:
        """Run a day; `step` is the distance of its snapshots in seconds, `until` the number of candles, None = all.

        The state after some of its candles is the one that the day itself goes through: dust that leaves at the end of
        a day stays.
        """
        parameters = self.parameters(day)
        candles = self.symbol.day_candles(self.model, day, state.open_interest)
        if until is not None and until < len(candles):
            candles = replace(candles, **{name: column[:until] for name, column in vars(candles).items()})
            if parameters.spec.dust_rule == "unlocate":
                parameters = replace(parameters, spec=replace(parameters.spec, dust_share=0.0))
        return run_day(parameters, state, candles, step, self.tiers)

    def before(self, day: date) -> ModelState:
        """Return the books that a day starts from."""
        if day in self.model.fresh:
            return start_state(self.parameters(day), self.model.fresh[day])
        key = (self.symbol.name, self.symbol.fingerprint, self.model.name, self.weights)
        yesterday = day - ONE_DAY
        known = self.books.get((*key, yesterday))
        if known is not None:
            return known
        state = self._stored(yesterday) or self._carried(key, yesterday)
        self.books.put((*key, yesterday), state)
        return state

    def _stored(self, day: date) -> ModelState | None:
        """Return the books at the end of a day as they are stored, which they are with the model's own weights only."""
        return self.version.state(self.symbol.name, self.model.name, day) if self.weights is None else None

    def _carried(self, key: tuple[object, ...], day: date) -> ModelState:
        """Return the books at the end of a day, carried there from the nearest kept ones or the history's beginning.

        Raises:
            ViewError: not found where days before it are missing that the history does not begin after.
        """
        first, state = day, None
        while first not in self.model.fresh and state is None:
            first -= ONE_DAY
            if first not in self.model.bounds:
                of_what = "it" if self.weights is None else "other leverage_weights"
                raise ViewError(
                    "not_found",
                    f"the stored history of {self.symbol.name} {self.model.name} has no beginning before {day}, from "
                    f"which {of_what} could be computed; GET /health says what is broken",
                )
            state = self.books.get((*key, first)) or self._stored(first)
        if state is None:
            state = start_state(self.parameters(first), self.model.fresh[first])
        else:
            first += ONE_DAY
        for number in range((day - first).days + 1):
            today = first + timedelta(days=number)
            state = self.run(today, state, None).state
            if today.toordinal() % _EVERY == 0:
                self.books.put((*key, today), state)
        return state


@dataclass(frozen=True, eq=False)
class Replay:
    """A window of a history, sparse, in the order of time, price, long before short.

    Attributes:
        interval: of each cell its interval's number in the window, shape (n,).
        price: lower edge of each cell's bucket, in 1e-8 USDT.
        side: +1 long, -1 short.
        active: USDT open at the end of the interval.
        consumed: USDT liquidated within the interval.
        created: lots-to-be that opened per interval (rows of candle, side and leverage), shape (intervals,).
        liquidated: lots that were liquidated per interval.
        located_shares: share of the open interest located at the end of each interval, in all tiers, whatever is shown,
            shape (intervals,); of one without candles as it was before.
        modelled: what was liquidated in each interval, by side.
    """

    interval: Ints
    price: Ints
    side: Sides
    active: Floats
    consumed: Floats
    created: Ints
    liquidated: Ints
    located_shares: Floats
    modelled: Modelled

    @property
    def located_share(self) -> float:
        """Share of the open interest located at the end of the window."""
        return float(self.located_shares[-1]) if len(self.located_shares) else 0.0


def replay(source: Source, first: int, last: int, seconds: int) -> Replay:
    """Run the days that a window touches and keep its cells.

    A long window of the model's own weights is run in stretches at the same time: they begin with months, before which
    the book is stored, so a stretch needs nothing of the one before, and what comes out is the same to the last bit.

    Args:
        source: what to replay.
        first: start of the window, microseconds, a multiple of the interval.
        last: its end, not included, another multiple.
        seconds: the interval, a multiple of the candle step that divides a day.

    Raises:
        ModelError: if the weights cannot be had.
    """
    days = list(_computed(source.model, first, last))
    # With other weights each stretch would have to run the whole history before it.
    number = 1 if source.weights is not None else max(1, min(os.cpu_count() or 1, len(days) // _STRETCH))
    spans = list(pairwise([first, *map(day_start, begins(days, number)), last]))
    if len(spans) == 1:
        return _joined(_stretch(source, begin, end, seconds) for begin, end in spans)
    with ThreadPoolExecutor(len(spans)) as workers:  # the engine runs without Python's lock
        return _joined(workers.map(lambda span: _stretch(source, span[0], span[1], seconds), spans))


def begins(days: Sequence[date], number: int) -> list[date]:
    """Return the days at which a window is cut into at most so many stretches of about the same length, rising.

    Example:
        >>> [str(day) for day in begins([date(2024, 1, 5) + timedelta(days=n) for n in range(120)], 2)]
        ['2024-03-01']
    """
    months = [at for at, day in enumerate(days) if at and day.day == 1]
    about = [len(days) * part // number for part in range(1, number)]
    nearest = {int(months[np.argmin(np.abs(np.subtract(months, at)))]) for at in about} if months else set()
    return [days[at] for at in sorted(nearest)]


def _stretch(source: Source, first: int, last: int, seconds: int) -> Replay:
    """Run the days between two instants one after the other; a share before the first candle is NaN."""
    step = seconds * MICROSECONDS
    count = (last - first) // step
    created, liquidated = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    parts: list[tuple[Ints, Ints, Sides, Floats, Floats]] = []
    dead: list[Modelled] = []
    ends = first + step * np.arange(1, count + 1)
    shares = np.full(count, np.nan)
    for day, result in _days(source, first, last, seconds):
        cells = result.cells
        stamps = cells["timestamp"]
        low, high = np.searchsorted(stamps, (first, last))
        parts.append(
            (
                (stamps[low:high] - first) // step,
                cells["price_bucket"][low:high] * source.parameters(day).bucket_units,
                cells["side"][low:high],
                cells["active_volume"][low:high],
                cells["consumed_volume"][low:high],
            )
        )
        created += _counts(result.opens, source.tiers, first, step, count)
        liquidated += _counts(result.liquidations, source.tiers, first, step, count)
        shares = shares_located(result, ends, shares)
        candles = source.symbol.candles
        dead.append(modelled_of_day(result.liquidations, candles, source.tiers, first, step, count))
    interval, price, side, active, consumed = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Replay(interval, price, side, active, consumed, created, liquidated, shares, joined(dead))


def _joined(stretches: Iterable[Replay]) -> Replay:
    """Return stretches that follow each other as one; where no candle came yet, the share is that of before."""
    parts = list(stretches)
    starts = np.cumsum([0, *(len(part.created) for part in parts)])
    interval = np.concatenate([part.interval + start for part, start in zip(parts, starts, strict=False)])
    shares = np.concatenate([part.located_shares for part in parts])
    newest = np.maximum.accumulate(np.where(np.isnan(shares), -1, np.arange(len(shares))))
    return Replay(
        interval,
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("price", "side", "active", "consumed", "created", "liquidated")
        },
        located_shares=np.where(newest < 0, 0.0, shares[newest]),
        modelled=joined([later(part.modelled, int(start)) for part, start in zip(parts, starts, strict=False)]),
    )


def _counts(events: Columns, tiers: Tiers | None, first: int, step: int, count: int) -> Ints:
    """Return how many events of some tiers (None: of all) fall into each interval."""
    times = events["timestamp"] if tiers is None else events["timestamp"][np.isin(events["leverage"], tiers)]
    at = (times - first) // step
    counted: Ints = np.bincount(at[(at >= 0) & (at < count)], minlength=count)
    return counted


def shares_located(result: DayResult, ends: Ints, otherwise: Floats) -> Floats:
    """Return the share of the open interest located after a day's last candle that starts before each of `ends`.

    It is `located_share` of every candle at once.

    Args:
        result: of the day.
        ends: instants, microseconds.
        otherwise: the share where no candle of the day starts before, as long as `ends`.
    """
    times, rows, books = np.unique(result.ledger["timestamp"], return_index=True, return_counts=True)
    if not len(times):
        return otherwise
    located, whole = np.add.reduceat(result.ledger["located"], rows), books * result.ledger["open_interest"][rows]
    shares = np.divide(located, whole, out=np.zeros(len(times)), where=whole > 0)
    candle = np.searchsorted(times, ends) - 1
    return np.where(candle < 0, otherwise, shares[np.maximum(candle, 0)])


def _computed(model: ModelData, first: int, last: int) -> Iterator[date]:
    """Return the computed days between two instants in order."""
    here = day_of(max(first, day_start(model.days[0])))
    end = min(day_of(min(last, model.end + DAY) - 1), model.days[-1])
    while here <= end:
        if here in model.bounds:
            yield here
        here += ONE_DAY


def _days(source: Source, first: int, last: int, seconds: int) -> Iterator[tuple[date, DayResult]]:
    """Run the computed days between two instants in order."""
    state: ModelState | None = None
    before: date | None = None
    for day in _computed(source.model, first, last):
        if state is None or day in source.model.fresh or day - ONE_DAY != before:
            state = source.before(day)
        result = source.run(day, state, seconds)
        state, before = result.state, day
        yield day, result
