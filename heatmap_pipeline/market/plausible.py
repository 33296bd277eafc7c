"""Rows that are perfect in form and cannot be true: what is measured, and what follows from it.

`repair.py` judges the form of one row; here clean rows of a day are held against each other, candles against samples,
and both against the day before. No file, no store; each limit stands beside what real days measured (docs/model.md).

Candles that contradict themselves or the day before are refused: nothing can be computed from them. Samples are left
out, as if they were missing (`LEFT_OUT` names the reasons); what only looks odd (`NOTED`) is counted and stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from heatmap_pipeline.instants import DAY, MICROSECONDS, day_start
from heatmap_pipeline.market.bound import VOLUME_TOLERANCE, Traded
from heatmap_pipeline.market.clock import MIN_CORRELATION, MIN_PAIRS, price_path, rank_correlation
from heatmap_pipeline.market.sides import Counted, measure_sides
from heatmap_pipeline.market.tables import CleanDay, MarketError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ACCEPTED = "accepted_implausible"
"""Repair of a day whose file is taken as it is, by the setting `HEATMAP_ACCEPT_IMPLAUSIBLE`."""

LARGEST_JUMP = 2.0
"""Most that a candle's open may be times, or part of, the close of the candle an hour or less before it."""

LARGEST_TRADE_RATIO = 100.0
"""Most that the contracts of an average trade may be times, or part of, those of the day before."""

LARGEST_VOLUME_RATIO = 300.0
"""The same of the volume of an average candle, where nobody counted the trades."""

QUOTE_TOLERANCE = 0.01
"""Part by which quote volume / volume may lie outside a candle's low and high."""

OTHER_QUOTE = 5.0
"""Times, or part of, a candle's prices from which quote volume / volume says that one of the three is another's."""

PRICE_TOLERANCE = 1.25
"""Times the high, or part of the low, of the candles around it that a sample's value / contracts may be."""

SMALLEST_LAG = 1800
"""Seconds that labels have to be off before they are called so: a step sooner or later is the clock's business."""

LAG_RATIO = 0.25
"""Labels are off where a lag leaves at most this part of the spread of implied prices around the candles' path."""

MIN_LAGGED = 24
"""Samples whose price is known at both instants that this takes."""

LAG_CORRELATION = 0.4
"""Without prices: rank correlation of changes and volume from which a lag is believed, if the labels' own is below 0.3.

On 48 whole real days that is 0.335 and more, and no lag's is above it.
"""

LAG_LEAD = 0.2
"""And by how much it has to be above that of the labels."""

LARGEST_STEP = 8.0
"""Most that a sample may be times, or part of, the last one, beyond what was traded just before it."""

LARGEST_SHARE = 100.0
"""Most that the open interest a history begins with may be times what is traded in a day."""

SMALLEST_SHARE = 0.005
"""And the least."""

FROZEN_HOURS = 3.0
"""From this long on equal samples are called frozen, while contracts are traded."""

LEFT_OUT: Mapping[str, str] = {
    "swapped_samples": "contracts and value are swapped",
    "other_price_samples": "value / contracts is no price that the candles had",
    "mislabelled_samples": "labels are hours off",
    "other_unit_samples": "contracts are in another unit than before",
}
"""Why samples are left out: the repair that counts them, and its words."""

NOTED: Mapping[str, str] = {
    "frozen_samples": "stand still while contracts are traded",
    "both_sides_samples": "add both sides of a contract, halved",
    "repeated_samples": "are those of the day before",
    "repeated_candles": "are those of the day before",
    "odd_quote_volumes": "have a quote volume that is none of their price, unknown now",
    "odd_taker_volumes": "have a taker buy volume above their volume, unknown now",
    ACCEPTED: "are taken as they are, by HEATMAP_ACCEPT_IMPLAUSIBLE",
}
"""What else is counted, in words that follow a number of samples or candles."""

SIDES = "sides"
"""Fact of a day whose file adds both sides, so that the next day knows."""

_MIN_REPEATED = 12
_HOUR = 3600 * MICROSECONDS


@dataclass(frozen=True)
class Before:
    """What is known of the days before one: candles and samples as they were stored, None where nothing is.

    Attributes:
        candles: clean candles of the day before.
        samples: clean samples of the newest earlier day that has some.
        both_sides: whether the file of those samples added both sides.
    """

    candles: pd.DataFrame | None = None
    samples: pd.DataFrame | None = None
    both_sides: bool = False


# -- candles


def judge_candles(day: CleanDay, before: Before, *, file: str, way_out: str) -> CleanDay:
    """Return the candles of a day, if they can be of the market that they say they are of.

    Repairs: `odd_quote_volumes` and `odd_taker_volumes` (unknown, 0, in these candles), `repeated_candles`.

    Args:
        day: clean candles.
        before: of which only the candles are looked at.
        file: named in errors.
        way_out: what to do, said at the end of errors.

    Raises:
        MarketError: for a price that jumps as no price does, an average trade, or volume, that is another market's,
            and a quote volume that is not of these prices.
    """
    table = day.table
    _refuse_jumps(table, day.step, before.candles, file, way_out)
    if before.candles is not None and len(before.candles):
        _refuse_other_volume(table, before.candles, file, way_out)
    quote, taker = odd_quote_volumes(table), odd_taker_volumes(table)
    _refuse_other_quote(table, file, way_out)
    counts = {"odd_quote_volumes": int(quote.sum()), "odd_taker_volumes": int(taker.sum())}
    if quote.any() or taker.any():
        table = table.copy()
        table.loc[quote, ["quote_volume", "taker_buy_quote_volume"]] = 0.0
        table.loc[taker, ["taker_buy_volume", "taker_buy_quote_volume"]] = 0.0
    if before.candles is not None and _repeats(table, before.candles, ("open", "high", "low", "close", "volume")):
        counts["repeated_candles"] = len(table)
    return replace(day, table=table, repairs=_with(day.repairs, counts))


def _refuse_jumps(table: pd.DataFrame, step: int, before: pd.DataFrame | None, file: str, way_out: str) -> None:
    columns = [table] if before is None or not len(before) else [before.tail(1), table]
    opened = np.concatenate([_micros(part["open_time"]) for part in columns])
    first, last = (np.concatenate([part[name].to_numpy(np.float64) for part in columns]) for name in ("open", "close"))
    jump = first[1:] / last[:-1]
    near = np.diff(opened) <= step * MICROSECONDS + _HOUR
    wild = near & ~_within(jump, LARGEST_JUMP)
    if wild.any():
        at = int(np.argmax(wild))
        raise MarketError(
            f"{file}: the candle of {_clock(opened[at + 1])} UTC opens at {first[at + 1]:.10g} and the one before it "
            f"closed at {last[at]:.10g}, {jump[at]:.3g} times between two candles of one market is more than "
            f"{LARGEST_JUMP:g}: the one or the other is in another unit or another coin's; {way_out}"
        )


def _refuse_other_volume(table: pd.DataFrame, before: pd.DataFrame, file: str, way_out: str) -> None:
    volumes = [float(part["volume"].sum()) for part in (before, table)]
    trades = [float(part["trades"].sum()) for part in (before, table)]
    counted = min(trades) > 0
    per, limit = (trades, LARGEST_TRADE_RATIO) if counted else ([len(before), len(table)], LARGEST_VOLUME_RATIO)
    if min(volumes) <= 0:
        return
    ratio = volumes[1] / per[1] / (volumes[0] / per[0])
    if not limit >= ratio >= 1 / limit:
        what = "trade" if counted else "candle"
        raise MarketError(
            f"{file}: an average {what} has {volumes[1] / per[1]:.4g} contracts in these {len(table)} candles and "
            f"{volumes[0] / per[0]:.4g} on the day before, {ratio:.3g} times (a market stays within {limit:g}): the "
            f"volumes of the one or the other are in another unit or another coin's; {way_out}"
        )


def _refuse_other_quote(table: pd.DataFrame, file: str, way_out: str) -> None:
    volume, quote = (table[name].to_numpy(np.float64) for name in ("volume", "quote_volume"))
    known = (volume > 0) & (quote > 0)
    if not known.any():
        return
    middle = np.sqrt(table["low"].to_numpy(np.float64) * table["high"].to_numpy(np.float64))[known]
    ratio = quote[known] / volume[known] / middle
    off = ~_within(ratio, OTHER_QUOTE)
    if off.mean() > 0.5:
        raise MarketError(
            f"{file}: quote_volume / volume is {np.median(ratio[off]):.3g} times the price in {int(off.sum())} of "
            f"{int(known.sum())} candles, the first {_clock(_micros(table['open_time'])[known][int(np.argmax(off))])} "
            f"UTC: price, volume or quote volume is in another unit; {way_out}"
        )


def odd_quote_volumes(table: pd.DataFrame) -> Mask:
    """Return which candles have a quote volume that does not lie between low and high times volume; 0 is unknown."""
    low, high, volume, quote = (table[name].to_numpy(np.float64) for name in ("low", "high", "volume", "quote_volume"))
    outside = (quote < (1 - QUOTE_TOLERANCE) * low * volume) | (quote > (1 + QUOTE_TOLERANCE) * high * volume)
    odd: Mask = (quote > 0) & outside
    return odd


def odd_taker_volumes(table: pd.DataFrame) -> Mask:
    """Return which candles have more bought by takers than was traded."""
    volume, taker = (table[name].to_numpy(np.float64) for name in ("volume", "taker_buy_volume"))
    return np.asarray(taker > volume * (1 + 1e-9), dtype=np.bool_)


# -- samples


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
            whose numbers do not say whether they add both sides, without a day before that does.
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
    by_price = int(np.isfinite(_implied(day.table)).sum()) >= MIN_LAGGED
    lag = None if wrong.any() else (measure_lag if by_price else measure_lag_by_volume)(day, candles)
    if lag is not None:
        left_out["mislabelled_samples"][:] = wrong[:] = True
        what = "the implied prices are those" if by_price else "the changes go with the volumes"
        odd.append(f"{what} of {abs(lag) / 3600:g} hours {'later' if lag > 0 else 'earlier'}")
    if not left_out["mislabelled_samples"].any():
        times = (_implied(day.table) / price_path(*_path_of(day, candles)))[wrong]
        if np.isfinite(times).any():
            odd.append(f"value / contracts is {np.nanmedian(times):.3g} times the price there (median)")
    left_out["other_unit_samples"] = other_unit(day, candles, before.samples, ~wrong)
    wrong = wrong | left_out["other_unit_samples"]
    kept = day.table[~wrong].reset_index(drop=True)
    counts = {name: int(rows.sum()) for name, rows in left_out.items()}
    counts["frozen_samples"] = frozen(kept, candles)
    if before.samples is None and len(kept):
        _refuse_other_proportion(kept, candles, file, way_out)
    if before.samples is not None and _repeats(kept, before.samples, ("contracts",)):
        counts["repeated_samples"] = len(kept)
    facts = {**day.facts, "odd": "; ".join(odd)} if odd else day.facts
    return replace(day, table=kept, repairs=_with(day.repairs, counts), facts=facts)


def implied_elsewhere(day: CleanDay, candles: CleanDay, *, inverse: bool) -> Mask:
    """Return which samples imply a price, value / contracts, that the candles around them did not have.

    Around: every candle that overlaps a step of the file, and of the candles, before and after the sample. Where there
    is none, or the value is unknown, nothing is judged.

    Args:
        day: clean samples.
        candles: clean candles of the same day.
        inverse: return those whose contracts / value is such a price (the two are swapped), else those where it is not.
    """
    taken = _micros(day.table["snapshot_time"])
    opened = _micros(candles.table["open_time"])
    reach = max(day.step, candles.step) * MICROSECONDS
    first = np.searchsorted(opened, taken - reach - candles.step * MICROSECONDS, side="right")
    last = np.searchsorted(opened, taken + reach, side="left")
    low = _extreme(candles.table["low"].to_numpy(np.float64), first, last, np.minimum, np.inf) / PRICE_TOLERANCE
    high = _extreme(candles.table["high"].to_numpy(np.float64), first, last, np.maximum, -np.inf) * PRICE_TOLERANCE
    implied = _implied(day.table)
    known = np.isfinite(implied) & (first < last)
    with np.errstate(invalid="ignore", divide="ignore"):
        elsewhere = known & ~((implied >= low) & (implied <= high))
        swapped = elsewhere & (1 / implied >= low) & (1 / implied <= high)
    return swapped if inverse else elsewhere & ~swapped


def measure_lag(day: CleanDay, candles: CleanDay) -> int | None:
    """Return by how many seconds the samples were taken later than their labels say; None if the labels are right.

    For each lag of whole steps the spread (median absolute deviation) of log(implied price / path) is held against that
    at the label, over the samples whose path is known at both. A constant difference, as of a spot price, is none.

    Args:
        day: clean samples.
        candles: clean candles of the same day.
    """
    instant, opened, first, last, interval = _path_of(day, candles)
    with np.errstate(invalid="ignore"):
        implied = np.log(_implied(day.table))

    def apart(lag: int) -> Floats:
        return implied - np.log(price_path(instant + lag * MICROSECONDS, opened, first, last, interval))

    here = apart(0)
    # Labels half an hour off do worse than right ones: most days end here.
    stride = -(-SMALLEST_LAG // day.step) * day.step
    near = [_spreads(here, apart(lag)) for lag in (-stride, stride)]
    if all(found is not None and found[0] <= 0.5 * found[1] for found in near):
        return None
    best, best_ratio = None, LAG_RATIO
    for number in range(1, (86400 - MIN_LAGGED * day.step) // stride + 1):
        for lag in (number * stride, -number * stride):
            found = _spreads(here, apart(lag))
            if found is not None and found[0] > 0 and found[1] / found[0] <= best_ratio:
                best, best_ratio = lag, found[1] / found[0]
    return best


def _spreads(here: Floats, there: Floats) -> tuple[float, float] | None:
    """Return the median absolute deviations of two differences, over the samples that have both; None for too few."""
    both = np.isfinite(here) & np.isfinite(there)
    if both.sum() < MIN_LAGGED:
        return None
    first, second = (float(np.median(np.abs(each - np.median(each)))) for each in (here[both], there[both]))
    return first, second


def measure_lag_by_volume(day: CleanDay, candles: CleanDay) -> int | None:
    """Return what `measure_lag` does, told by the volume: open interest changes most where most is traded.

    Args:
        day: clean samples.
        candles: clean candles of the same day.
    """
    taken, contracts = _micros(day.table["snapshot_time"]), day.table["contracts"].to_numpy(np.float64)
    traded, change = _traded(candles), np.abs(np.diff(contracts))

    def agreement(lag: int) -> float:
        start, end = taken[:-1] + lag * MICROSECONDS, taken[1:] + lag * MICROSECONDS
        volume, missing = traded.between(start, end)
        known = ~missing & (start >= traded.midnight) & (end <= traded.day_end) & (start % traded.interval == 0)
        found = rank_correlation(change[known], volume[known]) if known.sum() >= MIN_PAIRS else None
        return -1.0 if found is None else found

    here = agreement(0)
    if here >= MIN_CORRELATION:
        return None
    stride = -(-SMALLEST_LAG // day.step) * day.step
    lags = [sign * lag for lag in range(stride, 86400, stride) for sign in (1, -1)]
    found = {lag: agreement(lag) for lag in lags}
    best = max(found, key=lambda lag: found[lag])
    return best if found[best] >= LAG_CORRELATION and found[best] - here >= LAG_LEAD else None


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
    taken, contracts = _micros(day.table["snapshot_time"]), day.table["contracts"].to_numpy(np.float64)
    traded = _traded(candles)
    positions = np.flatnonzero(usable)
    if before is None:
        middle = np.median(contracts[usable]) if usable.any() else 1.0
        explained = np.abs(contracts - middle) <= (1 + VOLUME_TOLERANCE) * traded.volume.sum()
        return np.asarray(usable & ~_within(contracts / middle, LARGEST_STEP) & ~explained, dtype=np.bool_)
    last_time, last = int(_micros(before["snapshot_time"])[-1]), float(before["contracts"].iloc[-1])
    chain = np.concatenate([[last], contracts[positions]])
    if _within(chain[1:] / chain[:-1], LARGEST_STEP).all():
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
    contracts, taken = samples["contracts"].to_numpy(np.float64), _micros(samples["snapshot_time"])
    bounds = np.flatnonzero(np.concatenate([[True], np.diff(contracts) != 0, [True]]))
    first, last = bounds[:-1], bounds[1:] - 1
    long = taken[last] - taken[first] >= FROZEN_HOURS * _HOUR
    volume, _ = _traded(candles).between(taken[first], taken[last])
    return int((last - first + 1)[long & (volume > 0)].sum())


def _one_side(day: CleanDay, before: Before, *, said: bool, file: str, way_out: str) -> CleanDay:
    """Return the samples as contracts of one side, halved where the file adds both."""
    contracts = day.table["contracts"].to_numpy(np.float64)
    found = measure_sides(contracts)
    counted = found.counted
    if before.both_sides and counted is not Counted.BOTH and before.samples is not None and len(before.samples):
        # The level goes on as both sides or falls to the half; a crash makes a sum look like one side.
        ratio = float(np.median(contracts[:3])) / (2 * float(before.samples["contracts"].iloc[-1]))
        counted = Counted.BOTH if ratio > np.sqrt(0.5) else Counted.ONE
    if said:
        return replace(day, facts={**day.facts, "odd": found.in_words()}) if found.counted is Counted.BOTH else day
    if counted is Counted.BOTH:
        table = day.table.assign(contracts=contracts / 2, value=day.table["value"].to_numpy(np.float64) / 2)
        repairs = _with(day.repairs, {"both_sides_samples": len(table)})
        return replace(day, table=table, repairs=repairs, facts={**day.facts, SIDES: counted.value})
    # Too few values, or none with a step, measure nothing; then the layout of the file is word enough.
    if counted is Counted.UNDECIDED and found.measured and before.samples is None:
        raise MarketError(
            f"{file}: its samples do not say whether they count each contract once or add both of its sides "
            f"({found.in_words()}), and there is no day before that does; begin on another day, or {way_out}"
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


# -- what both need


def _repeats(table: pd.DataFrame, before: pd.DataFrame, names: tuple[str, ...]) -> bool:
    """Whether the rows are those of the day before under new labels; rows that are all equal say nothing."""
    if len(table) != len(before) or len(table) < _MIN_REPEATED:
        return False
    values, others = (part[list(names)].to_numpy(np.float64) for part in (table, before))
    return bool(np.array_equal(values, others) and (np.ptp(values, axis=0) > 0).any())


def _implied(samples: pd.DataFrame) -> Floats:
    """Return value / contracts of each sample, NaN where the value is unknown."""
    value, contracts = (samples[name].to_numpy(np.float64) for name in ("value", "contracts"))
    with np.errstate(over="ignore"):
        implied: Floats = np.where(value > 0, value, np.nan) / contracts
    return implied


def _path_of(day: CleanDay, candles: CleanDay) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats, Floats, int]:
    """Return the instants of samples and what `price_path` needs of the candles."""
    table = candles.table
    return (
        _micros(day.table["snapshot_time"]),
        _micros(table["open_time"]),
        table["open"].to_numpy(np.float64),
        table["close"].to_numpy(np.float64),
        candles.step * MICROSECONDS,
    )


def _traded(candles: CleanDay) -> Traded:
    opened, volume = _micros(candles.table["open_time"]), candles.table["volume"].to_numpy(np.float64)
    midnight = day_start(candles.day)
    return Traded(opened, volume, candles.step * MICROSECONDS, midnight, midnight + DAY)


def _extreme(values: Floats, first: NDArray[np.intp], last: NDArray[np.intp], of: np.ufunc, nothing: float) -> Floats:
    """Return the extreme of values[first:last] for each pair of bounds; `nothing` for an empty slice."""
    if not len(first):
        return np.empty(0)
    found: Floats = of.reduceat(np.append(values, nothing), np.column_stack((first, last)).ravel())[::2]
    return np.where(first < last, found, nothing)


def _within(ratio: Floats, limit: float) -> Mask:
    return (ratio <= limit) & (ratio >= 1 / limit)


def _micros(column: pd.Series[Any]) -> NDArray[np.int64]:
    return column.to_numpy().astype("datetime64[us]").astype(np.int64)


def _clock(instant: int) -> str:
    return str(np.datetime64(int(instant), "us")).replace("T", " ")[:16]


def _with(repairs: Mapping[str, int], counts: Mapping[str, int]) -> dict[str, int]:
    return {**repairs, **{name: count for name, count in counts.items() if count}}
