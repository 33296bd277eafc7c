"""From what is asked to what there is: symbol, model, the intervals of a window, the bins of a book.

The one place of the rules in docs/api.md, "Windows" and "Price bins". All instants are microseconds UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from heatmap_pipeline.bins import Candles, round_multiples
from heatmap_pipeline.instants import MICROSECONDS, iso
from heatmap_pipeline.model.book import Ints
from heatmap_pipeline.model.parameters import ModelError
from heatmap_pipeline.store.warehouse import StoreError
from heatmap_pipeline.views.data import ModelData, SymbolData, SymbolSummary, Version
from heatmap_pipeline.views.errors import ViewError
from heatmap_pipeline.views.replay import Source, Tiers, Weights

MAX_INTERVALS = 3000
MAX_ROWS = 2000
TIER_WORDS = {"all": 0.0, "near": 25.0}
"""Words for leverage tiers, and the lowest leverage that each means: from 25 up lots stand within 4 % of the price."""
_WEEK = 7 * 86_400 * MICROSECONDS
_UNITS = 100_000_000
"""Integer prices in one of the quote asset."""


@dataclass(frozen=True)
class Window:
    """Intervals of `seconds` from `first` to `last`, not included; `clipped` names what was asked beyond the data."""

    seconds: int
    first: int
    last: int
    clipped: tuple[str, ...]

    @property
    def step(self) -> int:
        """Width of an interval, microseconds."""
        return self.seconds * MICROSECONDS

    @property
    def count(self) -> int:
        """Number of intervals, with those that have no data."""
        return (self.last - self.first) // self.step


def find_symbol(version: Version, name: str) -> SymbolData:
    """Return a symbol.

    Raises:
        ViewError: not found, naming those there are.
        StoreError: if it cannot be read.
    """
    return version.data(find_summary(version, name).name)


def find_summary(version: Version, name: str) -> SymbolSummary:
    """Return what is said of a symbol, of which nothing is read for that.

    Raises:
        ViewError: not found, naming those there are.
        StoreError: if it cannot be read.
    """
    if name not in version.symbols:
        if name in version.damaged:
            raise StoreError(version.damaged[name])
        if name in version.outdated:
            raise ViewError("not_found", version.outdated[name])
        of_base = [symbol.name for symbol in version.symbols.values() if symbol.base and symbol.base == name]
        if of_base:
            raise ViewError("not_found", f"symbol {name} is a base, and this is of one market: {', '.join(of_base)}")
        raise ViewError(
            "not_found", f"symbol {name} is not published; there are {', '.join(version.symbols) or 'none yet'}"
        )
    return version.symbols[name]


def find_model(symbol: SymbolData, name: str | None) -> ModelData:
    """Return a model of a symbol, its first one by default.

    Raises:
        ViewError: not found, naming those there are.
    """
    return symbol.models[model_name(symbol, name)]


def model_name(symbol: SymbolSummary, name: str | None) -> str:
    """Return the name of a model of a symbol, its first one by default.

    Raises:
        ViewError: not found, naming those there are.
    """
    if name is None:
        return next(iter(symbol.models))
    if name not in symbol.models:
        raise ViewError(
            "not_found", f"model {name} of {symbol.name} is not published; there are {', '.join(symbol.models)}"
        )
    return name


def own_or_other(model: ModelData, weights: Weights | None) -> Weights | None:
    """Return the weights asked for, None where they are the model's own on every day.

    Raises:
        ViewError: invalid where a day's leverage bracket does not allow them.
    """
    if weights is None:
        return None
    all_same = True
    for parameters in set(model.parameters.values()):
        try:
            changed = parameters.with_weights(weights)
        except ModelError as error:
            raise ViewError("invalid", f"leverage_weights: {error}") from None
        all_same = all_same and _same(changed.tiers, parameters.tiers)
    return None if all_same else weights


def _same(some: Weights, others: Weights) -> bool:
    """Return whether weights differ in rounding at most."""
    return len(some) == len(others) and bool(np.allclose(some, others, rtol=1e-12, atol=0.0))


def only_tiers(source: Source, asked: Tiers | str) -> Source:
    """Return what shows only some leverage tiers of a source.

    Args:
        source: which shows all.
        asked: leverages, or one of the words of `TIER_WORDS`.

    Raises:
        ViewError: invalid where there is no such tier, naming those there are.
    """
    known = source.all_tiers
    least = TIER_WORDS.get(asked, 0.0) if isinstance(asked, str) else 0.0
    wanted = tuple(tier for tier in known if tier >= least) if isinstance(asked, str) else asked
    unknown = [tier for tier in wanted if tier not in known]
    if unknown or not wanted:
        there = ", ".join(f"{tier:g}" for tier in known)
        what = f"{unknown[0]:g}" if unknown else f"{asked} ({least:g} and up)"
        raise ViewError(
            "invalid",
            f"leverage_tiers: {source.symbol.name} {source.model.name} has no tier {what}; there are {there}",
        )
    return source if wanted == known else replace(source, tiers=wanted)


def check_interval(seconds: int, name: str, candles: Candles) -> None:
    """Accept an interval that the stored candles can be put together to.

    Raises:
        ViewError: invalid.
    """
    if seconds % candles.seconds:
        raise ViewError(
            "invalid",
            f"interval {name} is finer than the stored candles of {candles.seconds // 60}m; choose a longer one",
        )


def make_window(
    source: str, begin: int, end: int, seconds: int, start_time: int | None, end_time: int | None
) -> Window:
    """Return the intervals that start in [start_time rounded down, end_time), as far as there are data.

    Args:
        source: named in errors.
        begin: start of the first candle there is.
        end: end of the newest one.
        seconds: width of an interval.
        start_time: as asked; None means 7 days before the end, or before the end of the data if that is earlier.
        end_time: as asked; None means the end of the newest data.

    Raises:
        ViewError: invalid for a window that ends before it starts, not found for one outside of the data, too large for
            one of too many intervals.
    """
    step = seconds * MICROSECONDS
    stop = end if end_time is None else end_time
    start = min(stop, end) - _WEEK if start_time is None else start_time
    if start_time is not None and end_time is not None and start >= stop:
        raise ViewError("invalid", "start_time is not before end_time; give an earlier start_time or a later end_time")
    first, last = start // step * step, -(-stop // step) * step
    low, high = begin // step * step, -(-end // step) * step
    if last <= low or first >= high:
        raise ViewError(
            "not_found",
            f"{source} has data from {iso(begin)} to {iso(end)}; start_time and end_time ask for none of it",
        )
    clipped = [
        name
        for name, asked, beyond in (("start_time", start_time, first < low), ("end_time", end_time, last > high))
        if asked is not None and beyond
    ]
    window = Window(seconds, max(first, low), min(last, high), tuple(clipped))
    if window.count > MAX_INTERVALS:
        raise ViewError(
            "too_large",
            f"the window holds {window.count} intervals, more than {MAX_INTERVALS}; ask for a longer interval, or for "
            "less time between start_time and end_time",
        )
    return window


def model_window(source: Source, seconds: int, start_time: int | None, end_time: int | None) -> Window:
    """Return a window of a model.

    Raises:
        ViewError: as `make_window`, and not found where the window lies in a gap.
    """
    model = source.model
    name = f"{source.symbol.name} {model.name}"
    window = make_window(name, model.begin, model.end, seconds, start_time, end_time)
    low, high = np.searchsorted(model.times, (window.first, window.last))
    if low == high:
        raise ViewError(
            "not_found",
            f"{name} has a gap from {iso(window.first)} to {iso(window.last)}; ask for more with start_time, end_time",
        )
    return window


def intervals_with_candles(source: Source, window: Window) -> Ints:
    """Return the numbers of the intervals of a window in which there are candles."""
    times = source.model.times
    low, high = np.searchsorted(times, (window.first, window.last))
    return np.unique((times[low:high] - window.first) // window.step)


def bin_units(size: float | None, bucket: float, quote: str) -> int | None:
    """Return a bin size that was asked for in 1e-8 of the quote asset, which the error names.

    Raises:
        ViewError: invalid if it is no whole multiple of the bucket.
    """
    if size is None:
        return None
    bucket_units = round(bucket * _UNITS)
    units = size * _UNITS
    times = max(round(units / bucket_units), 1)
    if abs(units - times * bucket_units) > 1e-6 * bucket_units + 1e-12 * units:
        around = {max(int(units // bucket_units) + more, 1) for more in (0, 1)}
        near = " or ".join(f"{multiple * bucket_units / _UNITS:.12g}" for multiple in sorted(around))
        raise ViewError(
            "invalid",
            f"price_bin_size = {size:.12g} is no multiple of the bucket, {bucket:.12g} {quote}; ask for {near}",
        )
    return times * bucket_units


def choose_bins(low: int, high: int, bucket: float, asked: int | None, max_rows: int) -> int:
    """Return the height of a bin in 1e-8 of the quote asset.

    Args:
        low: lowest price there is, in 1e-8 of the quote asset.
        high: highest.
        bucket: the largest of the days, quote asset.
        asked: what was asked for; None means the smallest round multiple with at most `max_rows` rows.
        max_rows: see above.

    Raises:
        ViewError: invalid if what was asked for yields more than `MAX_ROWS` rows.
    """
    bucket_units = round(bucket * _UNITS)

    def rows(units: int) -> int:
        return high // units - low // units + 1

    if asked is None:
        return next(units for units in (times * bucket_units for times in round_multiples()) if rows(units) <= max_rows)
    if rows(asked) > MAX_ROWS:
        times = max((high - low) // (MAX_ROWS * bucket_units), 1)
        while rows(times * bucket_units) > MAX_ROWS:
            times += 1
        raise ViewError(
            "invalid",
            f"price_bin_size = {asked / _UNITS:.10g} yields {rows(asked)} rows, more than {MAX_ROWS}; the smallest "
            f"allowed here is {times * bucket_units / _UNITS:.10g}",
        )
    return asked
