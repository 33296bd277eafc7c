"""The score of one symbol, model and source in long form: every measure, its interval, and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heatmap_pipeline.instants import DAY
from heatmap_pipeline.model.book import SIDE_NAMES, Floats
from heatmap_pipeline.model.parameters import ModelError
from heatmap_pipeline.model.score.baselines import HORIZONS, Horizon, baseline_series, predicted
from heatmap_pipeline.model.score.hours import SIDES, Flags, ScoreHours
from heatmap_pipeline.model.score.lift import MapCells, brightest_lift, reached_cells
from heatmap_pipeline.model.score.ranks import (
    DayResamples,
    interval,
    partial_spearman,
    resample_days,
    resampled_partial,
    resampled_spearman,
    spearman,
)

TRAILING_DAYS = 28
ENOUGH_DAYS = 14
ENOUGH_HOURS = 200
RESAMPLES = 1000
SEED = 20260101
WARM_UP_DAYS = 5
"""A history's first days are not scored: a map begins empty. The shared sets begin on 06-19 and count from 06-24."""

LEVEL_BRACKET = (0.5, 5.0)
"""Within these, predicted / reported is of a believable size (docs/score.md, "Level")."""

NAN = float("nan")


@dataclass(frozen=True)
class ScoreRow:
    """One number of a score; docs/score.md names the measures.

    Attributes:
        window: `28d` (trailing days) or `all`.
        side: long or short.
        horizon: `nowcast`, `at_start`, or empty for counts.
        measure: `spearman`, `partial`, `level`, `log_error`, `lift`, or a count: `hours_with_reports`, `days`.
        baseline: the rule whose value this is; empty for the model's own.
        value: of the model, or of the baseline; nan where undefined.
        low: of the 95 % interval, nan where there is none.
        high: of the 95 % interval.
        difference: model minus baseline on the hours that know both; nan in rows of the model's own.
        difference_low: of its 95 % interval, the same days drawn for both.
        difference_high: of its 95 % interval.
        hours: how many hours the value was computed from.
    """

    window: str
    side: str
    horizon: str
    measure: str
    baseline: str
    value: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    hours: int


def score(
    hours: ScoreHours,
    *,
    own_exchange: bool,
    cells: MapCells | None = None,
    first: int | None = None,
    end: int | None = None,
    trailing_days: int = TRAILING_DAYS,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[ScoreRow]:
    """Score a map, over the trailing days and over all recorded time.

    Hours without a record, or without all of their candles, are left out. Of each window and side come first the
    counts; where `not_enough` of them has words, they are all there is.

    Args:
        hours: what was predicted and reported.
        own_exchange: whether the record is that of the market's own exchange. If not, ranks and lift only: another
            exchange's quantities say nothing about the level.
        cells: the maps at the hours' starts, for the lift; None leaves it out.
        first: no hour that starts before this instant is scored, for the warm-up (`WARM_UP_DAYS`).
        end: exclusive end of both windows, microseconds since 1970 UTC; None: the midnight after the last scored hour.
        trailing_days: length of the trailing window in days before `end`.
        resamples: draws of days per interval.
        seed: of the draws; the same seed gives the same numbers.

    Raises:
        ModelError: for simulated hours, which are never scored, and arguments that are not positive.
    """
    if hours.simulated:
        raise ModelError("hours are simulated; a score holds a map against real liquidations, give recorded ones")
    if trailing_days < 1 or resamples < 1:
        raise ModelError(f"trailing_days = {trailing_days} and resamples = {resamples} must be at least 1")
    start, usable = hours.market.start, hours.scored
    if first is not None:
        usable = usable & (start >= first)
    if end is None:
        end = int(start[usable].max()) // DAY * DAY + DAY if usable.any() else 0
    usable = usable & (start < end)
    rows: list[ScoreRow] = []
    for window, chosen in ((f"{trailing_days}d", usable & (start >= end - trailing_days * DAY)), ("all", usable)):
        for row, side in enumerate(SIDES):
            part = _Part(hours, window, row, SIDE_NAMES[side], chosen, resamples, seed)
            reports, days = part.counts()
            rows += [reports, days]
            if not_enough(int(days.value), int(reports.value)) is not None:
                continue
            for horizon in HORIZONS:
                rows += part.ranks(horizon)
            if own_exchange:
                rows += part.level()
            if cells is not None:
                rows += part.lift(cells, side)
    return rows


def not_enough(days: int, hours_with_reports: int) -> str | None:
    """Return the words for a window too short to score, None for one that is long enough.

    Args:
        days: UTC days with a scored hour; at least `ENOUGH_DAYS` are needed.
        hours_with_reports: scored hours in which liquidations of the side were reported; at least `ENOUGH_HOURS`.

    Example:
        >>> not_enough(20, 57), not_enough(9, 210), not_enough(14, 200)
        ('not enough yet: 57 of 200 hours', 'not enough yet: 9 of 14 days', None)
    """
    if hours_with_reports < ENOUGH_HOURS:
        return f"not enough yet: {hours_with_reports} of {ENOUGH_HOURS} hours"
    if days < ENOUGH_DAYS:
        return f"not enough yet: {days} of {ENOUGH_DAYS} days"
    return None


def level_in_bracket(level: float) -> bool:
    """Return whether predicted / reported lies in `LEVEL_BRACKET`, both ends included; False for nan."""
    return LEVEL_BRACKET[0] <= level <= LEVEL_BRACKET[1]


@dataclass(frozen=True)
class _Part:
    """One side in one window."""

    hours: ScoreHours
    window: str
    row: int
    side: str
    chosen: Flags
    resamples: int
    seed: int

    def counts(self) -> tuple[ScoreRow, ScoreRow]:
        start = self.hours.market.start[self.chosen]
        reports = self._of(self.hours.reported)[self.chosen] > 0
        return (
            self._row("", "hours_with_reports", float(reports.sum()), n=len(start)),
            self._row("", "days", float(len(np.unique(start // DAY))), n=len(start)),
        )

    def ranks(self, horizon: Horizon) -> list[ScoreRow]:
        model, reported = self._of(predicted(self.hours, horizon)), self._of(self.hours.reported)
        series = {"": model, **{name: self._of(x) for name, x in baseline_series(self.hours, horizon).items()}}
        known = {name: self.chosen & np.isfinite(x) for name, x in series.items()}
        rows: dict[str, ScoreRow] = {}
        sets = {mask.tobytes(): mask for mask in known.values()}  # each set of hours once, the model's own first
        for at in sets.values():
            columns = {name: x[at] for name, x in series.items() if not name or np.array_equal(known[name], at)}
            rows = {**self._spearman(horizon, columns, reported[at], at), **rows}
        market, at = self.hours.market, self.chosen
        controls = [self._of(market.move)[at], market.range[at], market.volume[at]]
        sure = interval(resampled_partial(model[at], reported[at], controls, self._draws(at)))
        partial = partial_spearman(model[at], reported[at], controls)
        return [
            *(rows[name] for name in series),
            self._row(horizon, "partial", partial, sure, n=int(at.sum())),
        ]

    def level(self) -> list[ScoreRow]:
        at = self.chosen
        x, y = self._of(self.hours.predicted)[at], self._of(self.hours.reported)[at]
        draws = self._draws(at)
        by_day = np.stack([np.bincount(draws.day, weights=column) for column in (x, y)])
        sums = draws.counts @ by_day.T
        ratios = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)
        both = (x > 0) & (y > 0)
        error, sure = NAN, (NAN, NAN)
        if both.any():
            errors = np.abs(np.log10(x[both] / y[both]))
            error = float(np.median(errors))
            sure = interval(_medians(errors, DayResamples(draws.day[both], draws.counts)))
        return [
            self._row("nowcast", "level", float(x.sum() / y.sum()), interval(ratios), n=len(x)),
            self._row("nowcast", "log_error", error, sure, n=int(both.sum())),
        ]

    def lift(self, cells: MapCells, side: int) -> list[ScoreRow]:
        lift_of_map = brightest_lift(
            reached_cells(self.hours, cells, side, self.chosen),
            self.hours.market.start,
            resamples=self.resamples,
            seed=self.seed,
        )
        null, above = (lift_of_map.null_low, lift_of_map.null_high), (lift_of_map.value - lift_of_map.null, NAN, NAN)
        return [
            self._row("at_start", "lift", lift_of_map.value, (lift_of_map.low, lift_of_map.high), n=lift_of_map.hours),
            self._row("at_start", "lift", lift_of_map.null, null, "shuffled", above, lift_of_map.hours),
        ]

    def _spearman(
        self, horizon: Horizon, columns: dict[str, Floats], reported: Floats, at: Flags
    ) -> dict[str, ScoreRow]:
        """Return the row of the model, which is the column without a name, and of what is held against it."""
        hours = len(reported)
        if not hours:
            return {name: self._row(horizon, "spearman", NAN, baseline=name) for name in columns}
        values = {name: spearman(column, reported) for name, column in columns.items()}
        drawn = resampled_spearman(list(columns.values()), reported, self._draws(at))
        resampled = dict(zip(columns, drawn, strict=True))
        rows = {"": self._row(horizon, "spearman", values[""], interval(resampled[""]), n=hours)}
        for name in columns.keys() - {""}:
            above = (values[""] - values[name], *interval(resampled[""] - resampled[name]))
            rows[name] = self._row(horizon, "spearman", values[name], interval(resampled[name]), name, above, hours)
        return rows

    def _of(self, column: Floats) -> Floats:
        return np.asarray(column[self.row])

    def _draws(self, at: Flags) -> DayResamples:
        return resample_days(self.hours.market.start[at], self.resamples, self.seed)

    def _row(
        self,
        horizon: str,
        measure: str,
        value: float,
        sure: tuple[float, float] = (NAN, NAN),
        baseline: str = "",
        difference: tuple[float, float, float] = (NAN, NAN, NAN),
        n: int = 0,
    ) -> ScoreRow:
        return ScoreRow(self.window, self.side, horizon, measure, baseline, value, *sure, *difference, n)


def _medians(values: Floats, draws: DayResamples) -> Floats:
    """Return the median of every draw of days; nan for a draw without any value."""

    def medians(weights: Floats) -> Floats:
        times = weights.astype(np.int64)
        return np.array([np.median(np.repeat(values, each)) if each.any() else NAN for each in times])

    return draws.each(medians)
