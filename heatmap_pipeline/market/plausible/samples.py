"""Whether samples of open interest can be true: held against the candles of their day and the samples before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatmap_pipeline.instants import DAY, MICROSECONDS
from heatmap_pipeline.market.bound import VOLUME_TOLERANCE
from heatmap_pipeline.market.clock import price_path
from heatmap_pipeline.market.plausible.arrays import (
    HOUR,
    Before,
    Floats,
    Mask,
    implied_prices,
    microseconds,
    path_of,
    repeats,
    traded_on,
    with_counts,
    within,
)
from heatmap_pipeline.market.plausible.labels import MIN_LAGGED, measure_lag, measure_lag_by_volume
from heatmap_pipeline.market.plausible.names import BOTH_SIDES, DECLARED, SIDES
from heatmap_pipeline.market.sides import Counted, measure_sides, odd_share_of_halves
from heatmap_pipeline.market.tables import CleanDay, MarketError

PRICE_TOLERANCE = 1.25
"""Times the high, or part of the low, of the candles around it that a sample's value / contracts may be."""

LARGEST_STEP = 8.0
"""Most that a sample may be times, or part of, the last one, beyond what was traded just before it."""

LARGEST_SHARE = 100.0
"""Most that the open interest a history begins with may be times what is traded in a day."""

SMALLEST_SHARE = 0.005
"""And the least."""

FROZEN_HOURS = 3.0
"""From this long on equal samples are called frozen, while contracts are traded."""


_HALF = 0.5


def judge_samples_of(
    day: CleanDay, candles: CleanDay, before: Before, *, said: bool, file: str, way_out: str
) -> CleanDay:
    """Return the samples of a day that can be true.

    Repairs: the names of `LEFT_OUT`, rows left out; and `frozen_samples`, `both_sides_samples`, `repeated_samples`.
    Facts: `odd`, what was measured, in words; `sides`, where the file adds both.

    Args:
        day: clean samples.
        candles: clean candles of the same day.
        before: of which only the samples are looked at.
        said: whether the source says that it counts one side of each contract, so that nothing is halved.
        file: named in errors.
        way_out: what to do, said at the end of errors.

    Raises:
        MarketError: for a history's first samples that are out of all proportion to what is traded, and for a file
            whose numbers do not say whether they add both sides, without a day before that does; for samples whose
            source declares them to be one side (fact `declared_sides`) and whose numbers say both.
    """
    if day.table.empty:
        return day
    day = _one_side(day, before, said=said, file=file, way_out=way_out)
    odd = [day.facts["odd"]] if "odd" in day.facts else []
    left_out = {
        "swapped_samples": implied_elsewhere(day, candles, inverse=True),
        "other_price_samples": implied_elsewhere(day, candles, inverse=False),
        "mislabelled_samples": np.zeros(len(day.table), dtype=np.bool_),
    }
    wrong = left_out["swapped_samples"] | left_out["other_price_samples"]
    by_price = int(np.isfinite(implied_prices(day.table)).sum()) >= MIN_LAGGED
    # A few wrong rows blind no median; of a file full of them the labels do not matter.
    lag = None if wrong.mean() > _HALF else (measure_lag if by_price else measure_lag_by_volume)(day, candles)
    if lag is not None:
        left_out["mislabelled_samples"] = ~wrong
        wrong = np.ones_like(wrong)
        what = "the implied prices are those" if by_price else "the changes go with the volumes"
        odd.append(f"{what} of {abs(lag) / 3600:g} hours {'later' if lag > 0 else 'earlier'}")
    else:
        times = (implied_prices(day.table) / price_path(*path_of(day, candles)))[wrong]
        if np.isfinite(times).any():
            odd.append(f"value / contracts is {np.nanmedian(times):.3g} times the price there (median)")
    left_out["other_unit_samples"] = other_unit(day, candles, before.samples, ~wrong)
    wrong = wrong | left_out["other_unit_samples"]
    kept = day.table[~wrong].reset_index(drop=True)
    counts = {name: int(rows.sum()) for name, rows in left_out.items()}
    counts["frozen_samples"] = frozen(kept, candles)
    if before.samples is None and len(kept):
        _refuse_other_proportion(kept, candles, file, way_out)
    if before.samples is not None and repeats(kept, before.samples, ("contracts",)):
        counts["repeated_samples"] = len(kept)
    facts = {**day.facts, "odd": "; ".join(odd)} if odd else day.facts
    return replace(day, table=kept, repairs=with_counts(day.repairs, counts), facts=facts)


def implied_elsewhere(day: CleanDay, candles: CleanDay, *, inverse: bool) -> Mask:
    """Return which samples imply a price, value / contracts, that the candles around them did not have.

    Around: every candle that overlaps a step of the file, and of the candles, before and after the sample. Where there
    is none, or the value is unknown, nothing is judged.

    Args:
        day: clean samples.
        candles: clean candles of the same day.
        inverse: return those whose contracts / value is such a price (the two are swapped), else those where it is not.
    """
    taken = microseconds(day.table["snapshot_time"])
    opened = microseconds(candles.table["open_time"])
    reach = max(day.step, candles.step) * MICROSECONDS
    first = np.searchsorted(opened, taken - reach - candles.step * MICROSECONDS, side="right")
    last = np.searchsorted(opened, taken + reach, side="left")
    low = _extreme(candles.table["low"].to_numpy(np.float64), first, last, np.minimum, np.inf) / PRICE_TOLERANCE
    high = _extreme(candles.table["high"].to_numpy(np.float64), first, last, np.maximum, -np.inf) * PRICE_TOLERANCE
    implied = implied_prices(day.table)
    known = np.isfinite(implied) & (first < last)
    with np.errstate(invalid="ignore", divide="ignore"):
        elsewhere = known & ~((implied >= low) & (implied <= high))
        swapped = elsewhere & (1 / implied >= low) & (1 / implied <= high)
    return swapped if inverse else elsewhere & ~swapped


def other_unit(day: CleanDay, candles: CleanDay, before: pd.DataFrame | None, usable: Mask) -> Mask:
    """Return which samples are so far from the last one that they count in another unit.

    Far: more than `LARGEST_STEP` times it, or less than that part, and by more than was traded just before. Over a
    missing candle, or a day and more without samples, the square of that is allowed. On the first day of a history each
    is held against the median of all, and what was traded on the whole day.

    Args:
        day: clean samples.
        candles: clean candles of the same day.
        before: clean samples of the newest earlier day that has some; None on the first day of a history.
        usable: bool[m], samples that are not left out for another reason.
    """
    far = np.zeros(len(day.table), dtype=np.bool_)
    taken, contracts = microseconds(day.table["snapshot_time"]), day.table["contracts"].to_numpy(np.float64)
    traded = traded_on(candles)
    positions = np.flatnonzero(usable)
    if before is None:
        middle = np.median(contracts[usable]) if usable.any() else 1.0
        explained = np.abs(contracts - middle) <= (1 + VOLUME_TOLERANCE) * traded.volume.sum()
        return np.asarray(usable & ~within(contracts / middle, LARGEST_STEP) & ~explained, dtype=np.bool_)
    last_time, last = int(microseconds(before["snapshot_time"])[-1]), float(before["contracts"].iloc[-1])
    chain = np.concatenate([[last], contracts[positions]])
    if within(chain[1:] / chain[:-1], LARGEST_STEP).all():
        return far
    for at in positions:
        # Of what was traded over hours anything could be explained.
        since = np.array([max(last_time, int(taken[at]) - 2 * max(day.step, candles.step) * MICROSECONDS)])
        volume, missing = (part[0] for part in traded.between(since, taken[at : at + 1]))
        blind = missing or taken[at] - last_time > DAY
        limit = LARGEST_STEP**2 if blind else LARGEST_STEP
        if (
            not limit >= contracts[at] / last >= 1 / limit
            and abs(contracts[at] - last) > (1 + VOLUME_TOLERANCE) * volume
        ):
            far[at] = True
        else:
            last_time, last = int(taken[at]), float(contracts[at])
    return far


def frozen(samples: pd.DataFrame, candles: CleanDay) -> int:
    """Return how many samples stand in runs of equal ones of `FROZEN_HOURS` and more, during which volume was traded.

    Args:
        samples: clean samples of a day.
        candles: clean candles of the same day.
    """
    if len(samples) < 2:
        return 0
    contracts, taken = samples["contracts"].to_numpy(np.float64), microseconds(samples["snapshot_time"])
    bounds = np.flatnonzero(np.concatenate([[True], np.diff(contracts) != 0, [True]]))
    first, last = bounds[:-1], bounds[1:] - 1
    long = taken[last] - taken[first] >= FROZEN_HOURS * HOUR
    volume, _ = traded_on(candles).between(taken[first], taken[last])
    return int((last - first + 1)[long & (volume > 0)].sum())


def _one_side(day: CleanDay, before: Before, *, said: bool, file: str, way_out: str) -> CleanDay:
    """Return the samples as contracts of one side, halved where the file adds both."""
    contracts = day.table["contracts"].to_numpy(np.float64)
    sides = measure_sides(contracts)
    if DECLARED in day.facts:  # what the source says of these very samples counts, unless the numbers exclude it
        if sides.counted is Counted.BOTH and sides.step is not None:
            raise MarketError(
                f"{file}: its source declares that its samples count one side of each contract, and their numbers say "
                f"{sides.in_words()}; of their halves {odd_share_of_halves(contracts, sides.step):.3f} are odd, as of "
                f"one side: the source has changed what it counts, or the wrong field was read; {way_out}"
            )
        return day
    counted = sides.counted
    if before.both_sides and counted is not Counted.BOTH and before.samples is not None and len(before.samples):
        # The level goes on as both sides or falls to the half; a crash makes a sum look like one side.
        ratio = float(np.median(contracts[:3])) / (2 * float(before.samples["contracts"].iloc[-1]))
        counted = Counted.BOTH if ratio > np.sqrt(0.5) else Counted.ONE
    if said:
        return replace(day, facts={**day.facts, "odd": sides.in_words()}) if sides.counted is Counted.BOTH else day
    if counted is Counted.BOTH:
        table = day.table.assign(contracts=contracts / 2, value=day.table["value"].to_numpy(np.float64) / 2)
        repairs = with_counts(day.repairs, {BOTH_SIDES: len(table)})
        return replace(day, table=table, repairs=repairs, facts={**day.facts, SIDES: counted.value})
    # Too few values, or none with a step, measure nothing; then the layout of the file is word enough.
    if counted is Counted.UNDECIDED and sides.measured and before.samples is None:
        raise MarketError(
            f"{file}: its samples do not say whether they count each contract once or add both of its sides "
            f"({sides.in_words()}), and there is no day before that does; begin on another day, or {way_out}"
        )
    return day


def _refuse_other_proportion(samples: pd.DataFrame, candles: CleanDay, file: str, way_out: str) -> None:
    volume = float(candles.table["volume"].sum()) * 86400 / (candles.step * len(candles.table))
    least, most = (float(samples["contracts"].min()), float(samples["contracts"].max()))
    level = least if least > LARGEST_SHARE * volume else most
    if volume > 0 and not LARGEST_SHARE >= level / volume >= SMALLEST_SHARE:
        raise MarketError(
            f"{file}: a history cannot begin with these {len(samples)} samples, as their open interest "
            f"({level:.4g} contracts) is {level / volume:.3g} times what is traded in a day ({volume:.4g}; a market "
            f"has {SMALLEST_SHARE:g} to {LARGEST_SHARE:g}): samples or volumes are in another unit; {way_out}"
        )


def _extreme(values: Floats, first: NDArray[np.intp], last: NDArray[np.intp], of: np.ufunc, nothing: float) -> Floats:
    """Return the extreme of values[first:last] for each pair of bounds; `nothing` for an empty slice."""
    if not len(first):
        return np.empty(0)
    extremes: Floats = of.reduceat(np.append(values, nothing), np.column_stack((first, last)).ravel())[::2]
    return np.where(first < last, extremes, nothing)
