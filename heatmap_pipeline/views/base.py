"""The markets of a base whose books are added up: which there are, what each has of a time, and what is said of it.

What belongs here: who is asked, who is there, late or missing, and whose candles are shown. What does not: the sums
(`summed.py`, `summed_map.py`). Instants are microseconds UTC. docs/api.md, "A base", has the rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.instants import DAY, MICROSECONDS, day_of, iso
from heatmap_pipeline.model.book import Floats, Ints
from heatmap_pipeline.store.warehouse import StoreError
from heatmap_pipeline.symbols import EXCHANGES, contract_of, own_exchange, typed_name
from heatmap_pipeline.views.data import SymbolData, Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.grid import DECIMALS
from heatmap_pipeline.views.replay import Books, Source, Tiers, Weights
from heatmap_pipeline.views.window import (
    TIER_WORDS,
    Window,
    check_interval,
    find_model,
    find_summary,
    intervals_with_candles,
    make_window,
    model_name,
    own_or_other,
)

MAX_MARKETS = 16
LATE = 900 * MICROSECONDS
"""How much earlier than the others a market may end and count as there; a candle of its own, if that is longer."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Base:
    """Markets of one base and one model, in the order in which their books are added: by id.

    Attributes:
        name: of the base.
        sources: of each market what is replayed, at least one.
        not_shown: in words why other markets of the base have nothing to add up, by id.
    """

    name: str
    sources: tuple[Source, ...]
    not_shown: Mapping[str, str]

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.sources[0].model.name

    @property
    def quote(self) -> str:
        """The asset that the sum is in: the markets' own, or USD where they differ."""
        quotes = {source.symbol.quote for source in self.sources}
        return quotes.pop() if len(quotes) == 1 else "USD"

    @property
    def title(self) -> str:
        """What it is: kind of contract and exchanges."""
        exchanges = dict.fromkeys(EXCHANGES[own_exchange(source.symbol.name)] for source in self.sources)
        return f"{self.name} perpetuals: {', '.join(exchanges)}" + (", simulated" if self.simulated else "")

    @property
    def simulated(self) -> bool:
        """Whether any of its markets is made up."""
        return any(source.symbol.simulated for source in self.sources)

    @property
    def begin(self) -> int:
        """Start of the first candle of any market."""
        return min(source.model.begin for source in self.sources)

    @property
    def end(self) -> int:
        """End of the newest candle of any market."""
        return max(source.model.end for source in self.sources)

    @property
    def all_tiers(self) -> Tiers:
        """The leverage tiers of all markets, rising."""
        return tuple(sorted({tier for source in self.sources for tier in source.all_tiers}))

    @property
    def shown_tiers(self) -> Tiers | None:
        """The leverage tiers that are shown; None where it is all of them."""
        if all(source.tiers is None for source in self.sources):
            return None
        shown = {tier for each in self.sources for tier in (each.all_tiers if each.tiers is None else each.tiers)}
        return tuple(sorted(shown))

    @property
    def weights(self) -> Weights | None:
        """Other weights than the models' own, where they were asked for."""
        return next((source.weights for source in self.sources if source.weights is not None), None)

    @property
    def key(self) -> tuple[object, ...]:
        """Everything that tells one base from another, but for the data."""
        parts = ((each.symbol.name, each.weights, each.tiers) for each in self.sources)
        return ("base", self.name, self.model, *parts, tuple(self.not_shown.items()))

    @property
    def fingerprint(self) -> str:
        """Equal as long as no row of any of its markets changed."""
        return "+".join(source.symbol.fingerprint for source in self.sources)

    def bucket(self, first: int, last: int) -> float:
        """Return the largest bucket of the markets that have candles between two instants, else of all.

        Raises:
            ViewError: invalid where another does not divide it, for then the maps do not add up.
        """
        there = [source for source in self.sources if ends_before(source, last, first) is not None]
        buckets = {source.symbol.name: source.model.bucket(first, last) for source in there or self.sources}
        largest = max(buckets, key=lambda name: buckets[name])
        units = {name: round(bucket * 1e8) for name, bucket in buckets.items()}
        misfit = next((name for name in units if units[largest] % units[name]), None)
        if misfit is not None:
            raise ViewError(
                "invalid",
                f"the bucket of {misfit}, {buckets[misfit]:g}, does not divide that of {largest}, "
                f"{buckets[largest]:g}, so their maps do not add up; ask for others with symbols, or compute both with "
                "one HEATMAP_BUCKET_...",
            )
        return buckets[largest]


def bases(version: Version) -> dict[str, tuple[str, ...]]:
    """Return the bases there are by name, and the ids of their markets; both in order."""
    names_of: dict[str, list[str]] = {}
    for symbol in version.symbols.values():
        if symbol.base:
            names_of.setdefault(symbol.base, []).append(symbol.name)
    return {base: tuple(names_of[base]) for base in sorted(names_of)}


def shown_first(version: Version) -> tuple[str, ...]:
    """Return the ids of the markets that the page shows where nothing is chosen: it orders them in bases.js.

    That is the first market, or all of its base where there are several; none where nothing is served.
    """
    first = next(iter(version.symbols.values()), None)
    if first is None:
        return ()
    return bases(version)[first.base] if first.base and is_base(version, first.base) else (first.name,)


def is_base(version: Version, name: str) -> bool:
    """Whether a name is that of a base and of no market."""
    known = name in version.symbols or name in version.outdated or name in version.damaged
    return not known and name in bases(version)


def find_base(
    version: Version,
    books: Books,
    asked: str | Sequence[str],
    model: str | None,
    weights: Weights | None = None,
    tiers: Tiers | str = "all",
) -> Base:
    """Return what is added up.

    Args:
        version: what is served.
        books: kept between answers.
        asked: name of a base, or ids of some of its markets.
        model: name; None means the first market's first one.
        weights: others than the model's.
        tiers: leverage tiers to show, as `only_tiers` takes them; a market shows those of them that it has.

    Raises:
        ViewError: not found where there is no such base, market or model, invalid for markets of several bases, for
            weights or tiers that there are not, too large for more than `MAX_MARKETS`.
        StoreError: if a market of it cannot be read.
    """
    words: dict[str, str] = {}
    if isinstance(asked, str):
        symbols = [version.symbols[name] for name in bases(version).get(asked, ())]
        unreadable = [why for name, why in version.damaged.items() if _is_left_out(version, name, asked)]
        if symbols and unreadable:
            raise StoreError(unreadable[0])
        words = {name: why for name, why in version.outdated.items() if contract_of(name).base == asked}
    else:
        symbols = sorted((find_summary(version, name) for name in asked), key=lambda symbol: symbol.name)
    if not symbols:
        raise ViewError("not_found", f"{asked} is no base; there are {', '.join(bases(version)) or 'none yet'}")
    name = symbols[0].base
    other = next((symbol for symbol in symbols if symbol.base != name), None)
    if other is not None:
        raise ViewError(
            "invalid",
            f"symbols: {symbols[0].name} is a market of {name or 'no known base'}, {other.name} of "
            f"{other.base or 'none'}; only markets of one base are added up",
        )
    if len(symbols) > MAX_MARKETS:
        raise ViewError(
            "too_large", f"{name} has {len(symbols)} markets, more than {MAX_MARKETS}; choose some with symbols"
        )
    chosen = model or next(iter(symbols[0].models))
    if isinstance(asked, str) and any(chosen in symbol.models for symbol in symbols):
        lacking = [symbol for symbol in symbols if chosen not in symbol.models]
        words |= {symbol.name: f"nothing of {chosen} is published of {symbol.name}" for symbol in lacking}
        symbols = [symbol for symbol in symbols if chosen in symbol.models]
    words = {each: why for each, why in words.items() if each not in {symbol.name for symbol in symbols}}
    for symbol in symbols:
        model_name(symbol, chosen)  # before anything is read
    data = version.several([symbol.name for symbol in symbols])
    return Base(name, _sources(version, books, data, chosen, weights, tiers), dict(sorted(words.items())))


def _is_left_out(version: Version, name: str, base: str) -> bool:
    """Whether a symbol of which nothing can be read is a market of a base, as far as its name says."""
    return name not in version.symbols and contract_of(name).base == base


def _sources(
    version: Version,
    books: Books,
    symbols: Sequence[SymbolData],
    model: str,
    weights: Weights | None,
    tiers: Tiers | str,
) -> tuple[Source, ...]:
    """Return what is replayed of each market: of the tiers asked for those that it has."""
    models = [find_model(symbol, model) for symbol in symbols]
    every = [
        Source(version, symbol, data, own_or_other(data, weights), books)
        for symbol, data in zip(symbols, models, strict=True)
    ]
    known = sorted({tier for source in every for tier in source.all_tiers})
    least = TIER_WORDS[tiers] if isinstance(tiers, str) else 0.0
    wanted = [tier for tier in known if tier >= least] if isinstance(tiers, str) else list(tiers)
    unknown = [tier for tier in wanted if tier not in known]
    if unknown or not wanted:
        what = f"{unknown[0]:g}" if unknown else f"{tiers} ({least:g} and up)"
        raise ViewError(
            "invalid",
            f"leverage_tiers: no market of {symbols[0].base} has a tier {what}; there are "
            f"{', '.join(f'{tier:g}' for tier in known)}",
        )
    shown = [tuple(tier for tier in source.all_tiers if tier in wanted) for source in every]
    return tuple(
        source if its_tiers == source.all_tiers else replace(source, tiers=its_tiers)
        for source, its_tiers in zip(every, shown, strict=True)
    )


def base_window(base: Base, seconds: int, name: str, start_time: int | None, end_time: int | None) -> Window:
    """Return a window of a base: as far as any of its markets has data.

    Raises:
        ViewError: as `make_window`; invalid for an interval that the candles of a market do not fit into; not found
            where no market has a candle in it.
    """
    for source in base.sources:
        if seconds % source.symbol.candles.seconds:
            try:
                check_interval(seconds, name, source.symbol.candles)
            except ViewError as error:
                raise ViewError(error.kind, f"{source.symbol.name}: {error}") from None
    what = f"{base.name} {base.model}"
    window = make_window(what, base.begin, base.end, seconds, start_time, end_time)
    if all(ends_before(source, window.last, window.first) is None for source in base.sources):
        raise ViewError(
            "not_found",
            f"{what} has a gap from {iso(window.first)} to {iso(window.last)}; ask for more with start_time, end_time",
        )
    return window


def without_ended(base: Base, first: int) -> Base:
    """Return a base without the markets that ended before an instant, if any of it is left."""
    left = tuple(each for each in base.sources if each.symbol.ended is None or each.model.end > first)
    return replace(base, sources=left or base.sources)


def ends_before(source: Source, last: int, first: int = -(1 << 62)) -> int | None:
    """Return the number of the newest model candle that starts in [first, last); None where there is none."""
    at = int(np.searchsorted(source.model.times, last)) - 1
    return at if at >= 0 and int(source.model.times[at]) >= first else None


@dataclass(frozen=True, eq=False)
class Part:
    """What a market has of a window or a moment.

    Attributes:
        source: the market.
        at: number of its newest model candle in it; None where it has none.
        present: whether it has a candle in each interval, shape (T,); of a moment one interval.
        newest: end of the newest candle that any of the markets has in it.
    """

    source: Source
    at: int | None
    present: Bools
    newest: int

    @property
    def as_of(self) -> int | None:
        """End of its newest candle."""
        return None if self.at is None else int(self.source.model.times[self.at]) + self.source.symbol.candles.step

    @property
    def open_interest(self) -> float | None:
        """Contracts, at its `as_of`."""
        return None if self.at is None else float(self.source.model.open_interest[self.at])

    @property
    def late(self) -> bool:
        """Whether it ends so much earlier than the others that this has to be said; one that ended is not late."""
        ended = self.source.symbol.ended is not None and (self.as_of is None or self.as_of >= self.source.model.end)
        return self.behind and not ended

    @property
    def behind(self) -> bool:
        """Whether it ends so much earlier than the others, late or because it is traded no more."""
        return self.as_of is None or is_late(self.source, self.as_of, self.newest)

    def record(self, missing: bool, long: float, short: float, whole: float, share: float | None) -> dict[str, Any]:
        """Return what an answer says of it.

        Args:
            missing: whether nothing of it stands at the end.
            long: its volume at the end, its own quote asset.
            short: the same.
            whole: that of all markets, long and short.
            share: its located share at its `as_of`.
        """
        symbol, model, as_of = self.source.symbol, self.source.model, self.as_of
        return {
            **market_record(symbol),
            "bucket": symbol.bucket if as_of is None else self.source.parameters(day_of(as_of - 1)).bucket,
            "provisional": as_of is not None and day_of(as_of - 1) in model.provisional,
            "newest": iso(model.end),
            "as_of": None if as_of is None else iso(as_of),
            "late_seconds": None if as_of is None else (self.newest - as_of) // MICROSECONDS,
            "late": self.late,
            "missing": missing,
            "open_interest": self.open_interest,
            "located_share": share,
            "long_volume": None if missing else long,
            "short_volume": None if missing else short,
            "share": None if missing else (long + short) / whole if whole > 0 else 0.0,
        }


def market_record(symbol: SymbolData) -> dict[str, Any]:
    """Return who a part of a base is."""
    return {
        "symbol": symbol.name,
        "market": typed_name(symbol.name),
        "exchange": own_exchange(symbol.name),
        "title": symbol.title,
        "quote": symbol.quote,
        "simulated": symbol.simulated,
        "ended": None if symbol.ended is None else symbol.ended.day.isoformat(),
    }


def candles_record(part: Part) -> dict[str, Any]:
    """Return what an answer of candles says of a part, of whose book it says nothing."""
    record = part.record(not part.present[0], 0.0, 0.0, 0.0, None)
    left_out = {"bucket", "located_share", "long_volume", "short_volume", "share", "provisional"}
    return {name: value for name, value in record.items() if name not in left_out}


def is_late(source: Source, as_of: int, newest: int) -> bool:
    """Whether a market that ends at one instant is late at another."""
    return newest - as_of > max(LATE, source.symbol.candles.step)


def parts_of_window(base: Base, window: Window) -> tuple[Part, ...]:
    """Return what each market has of a window."""
    at = [ends_before(source, window.last, window.first) for source in base.sources]
    ends = (
        int(source.model.times[number]) + source.symbol.candles.step
        for source, number in zip(base.sources, at, strict=True)
        if number is not None
    )
    newest = max(ends)
    parts = []
    for source, number in zip(base.sources, at, strict=True):
        present = np.zeros(window.count, dtype=np.bool_)
        if number is not None:
            present[intervals_with_candles(source, window)] = True
        parts.append(Part(source, number, present, newest))
    return tuple(parts)


def parts_of_moment(base: Base, time: int | None) -> tuple[Part, ...]:
    """Return what each market has of a moment, None = the newest: the state after its last candle that ended by then.

    Raises:
        ViewError: not found where none has a state so early.
    """
    moment = base.end if time is None else time
    at = [ends_before(source, moment - source.symbol.candles.step + 1) for source in base.sources]
    ends = [
        None if number is None else int(source.model.times[number]) + source.symbol.candles.step
        for source, number in zip(base.sources, at, strict=True)
    ]
    if all(end is None for end in ends):
        begin = min(source.model.begin + source.symbol.candles.step for source in base.sources)
        raise ViewError(
            "not_found",
            f"{base.name} {base.model} has states from {iso(begin)} to {iso(base.end)}; time asks for an earlier one",
        )
    newest = max(end for end in ends if end is not None)
    return tuple(
        Part(source, number, np.array([end is not None and not is_late(source, end, newest)]), newest)
        for source, number, end in zip(base.sources, at, ends, strict=True)
    )


def leading(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that have anything, the one whose candles are shown first: most open interest, if not behind."""
    there = [part for part in parts if part.at is not None]
    return sorted(there, key=lambda part: (part.behind, -(part.open_interest or 0.0), part.source.symbol.name))


def added(volumes: Floats) -> Floats:
    """Return the sum of the rows of volumes that are rounded as they are answered: exactly that of the decimals.

    Example:
        >>> added(np.array([[0.1, 1.0], [0.2, 2.5]])).tolist()
        [0.3, 3.5]
    """
    total: Floats = np.add.reduce(volumes, axis=0)  # one row after the other
    return total.round(DECIMALS)


def stretches(there: Bools) -> list[tuple[int, int]]:
    """Return the stretches of intervals that are not there: number of the first, and of the one after the last.

    Example:
        >>> stretches(np.array([True, False, False, True, False]))
        [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([True], there, [True])).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def provenance(base: Base, parts: Sequence[Part], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what an answer of a base says of itself besides what that of one market does."""
    return {
        "candles_of": leading(parts)[0].source.symbol.name,
        "markets": len(parts) + len(base.not_shown),
        "markets_present": sum(not record["missing"] for record in records),
        "not_shown": dict(base.not_shown),
        "parts": list(records),
    }


def day_is_provisional(parts: Sequence[Part], first: int, last: int) -> bool:
    """Whether a day at either end of a stretch was not over yet when any of the markets was computed."""
    touched = {day_of(first), day_of(last - 1)}
    return any(touched & part.source.model.provisional for part in parts if part.at is not None)


def units_by_day(parts: Sequence[Part], begins: Ints) -> Ints:
    """Return the height of the largest bucket of the markets' day at each instant, 1e-8 of the quote asset."""
    days, number = np.unique(begins // DAY, return_inverse=True)
    largest = []
    for day in days:
        date = day_of(int(day) * DAY)
        known = [part.source.parameters(date).bucket_units for part in parts if date in part.source.model.parameters]
        largest.append(max(known, default=1))  # a day that is not computed has no cells: any height will do
    units: Ints = np.array(largest, dtype=np.int64)[number]
    return units
