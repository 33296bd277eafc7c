"""The score in long form: what is in it, what is left out, and what may not change it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heatmap_pipeline.model.parameters import ModelError
from heatmap_pipeline.model.score.baselines import RULES, VOLUME_ONLY
from heatmap_pipeline.model.score.hours import HOUR, HourlyMarket, ScoreHours
from heatmap_pipeline.model.score.lift import MapCells
from heatmap_pipeline.model.score.ranks import spearman
from heatmap_pipeline.model.score.table import ScoreRow, level_in_bracket, score
from heatmap_pipeline_tests.model.score._worlds import day, make_hours

KEY = tuple[str, str, str, str, str]


def _table(rows: list[ScoreRow]) -> dict[KEY, ScoreRow]:
    table = {(row.window, row.side, row.horizon, row.measure, row.baseline): row for row in rows}
    assert len(table) == len(rows)
    return table


def _score(hours: ScoreHours, **arguments: object) -> dict[KEY, ScoreRow]:
    return _table(score(hours, **{"own_exchange": True, "resamples": 60, **arguments}))  # type: ignore[arg-type]


def test_every_measure_stands_once_per_window_side_and_horizon() -> None:
    hours = make_hours()
    hours = replace(hours, volume_only=hours.predicted, volume_only_at_start=0.5 * hours.predicted)
    cells = MapCells(hours.market.start, np.ones(720, np.int8), np.full(720, 90.0), np.ones(720), 0.1)
    table = _score(hours, cells=cells)
    ranks = {("spearman", name) for name in ("", *RULES, VOLUME_ONLY)} | {("partial", "")}
    expected = {("", "hours_with_reports", ""), ("", "days", "")}
    expected |= {(horizon, *rank) for horizon in ("nowcast", "at_start") for rank in ranks}
    expected |= {("nowcast", "level", ""), ("nowcast", "log_error", "")}
    expected |= {("at_start", "lift", ""), ("at_start", "lift", "shuffled")}
    assert set(table) == {
        (window, side, *key) for window in ("28d", "all") for side in ("long", "short") for key in expected
    }
    lift, null = (table["all", "long", "at_start", "lift", baseline] for baseline in ("", "shuffled"))
    assert null.difference == lift.value - null.value
    assert np.isnan(lift.difference)


def test_values_are_those_of_their_hours() -> None:
    hours = make_hours(40)
    table = _score(hours)
    last = hours.market.start >= day(12)
    for row, side in enumerate(("long", "short")):
        reported = hours.reported[row]
        for window, part in (("28d", last), ("all", np.ones(960, dtype=np.bool_))):
            for horizon, series in (("nowcast", hours.predicted[row]), ("at_start", hours.predicted_at_start[row])):
                ours = table[window, side, horizon, "spearman", ""]
                assert ours.value == pytest.approx(spearman(series[part], reported[part]))
                assert ours.low < ours.value < ours.high
                assert ours.hours == part.sum()
                assert np.isnan(ours.difference)
                move = table[window, side, horizon, "spearman", "move"]
                assert move.value == pytest.approx(spearman(hours.market.move[row][part], reported[part]))
                assert move.difference == pytest.approx(ours.value - move.value)
                assert move.difference_low < move.difference < move.difference_high
            level = table[window, side, "nowcast", "level", ""]
            assert level.value == pytest.approx(hours.predicted[row][part].sum() / reported[part].sum())
            assert level.low < level.value < level.high
            error = table[window, side, "nowcast", "log_error", ""]
            both = part & (reported > 0)
            ratio = hours.predicted[row][both] / reported[both]
            assert error.value == pytest.approx(np.median(np.abs(np.log10(ratio))))
            assert error.hours == both.sum() < part.sum()
            assert table[window, side, "", "hours_with_reports", ""].value == both.sum()
            assert table[window, side, "", "days", ""].value == (28 if window == "28d" else 40)


def test_a_difference_is_taken_on_the_hours_that_know_both() -> None:
    hours = make_hours(30)
    recorded = np.random.default_rng(4).random(720) < 0.8
    hours = replace(hours, recorded=recorded)
    row = _score(hours)["all", "long", "nowcast", "spearman", "reported the hour before"]
    both = np.flatnonzero(recorded[1:] & recorded[:-1]) + 1
    reported, predicted = hours.reported[0], hours.predicted[0]
    assert row.hours == len(both) < recorded.sum()
    assert row.value == pytest.approx(spearman(reported[both - 1], reported[both]))
    assert row.difference == pytest.approx(spearman(predicted[both], reported[both]) - row.value)


def test_skill_shows_and_its_absence_too() -> None:
    skilled, unskilled = _score(make_hours(40, skill=1.0)), _score(make_hours(40, skill=0.0))
    for side in ("long", "short"):
        good, bad = (table["all", side, "nowcast", "spearman", "move x volume"] for table in (skilled, unskilled))
        assert good.difference_low > 0
        assert bad.difference_low < 0.02
        good, bad = (table["all", side, "nowcast", "partial", ""] for table in (skilled, unskilled))
        assert good.low > 0.3
        assert bad.value < 0.1


def test_the_same_series_is_no_better_than_itself() -> None:
    hours = make_hours()
    same = replace(hours, volume_only=hours.predicted, volume_only_at_start=hours.predicted_at_start)
    for horizon in ("nowcast", "at_start"):
        row = _score(same)["all", "long", horizon, "spearman", VOLUME_ONLY]
        assert (row.difference, row.difference_low, row.difference_high) == (0.0, 0.0, 0.0)


def test_hours_without_a_record_are_missing_and_never_zero() -> None:
    hours = make_hours(30)
    recorded = hours.market.start < day(24)
    for nothing in (np.nan, 0.0):  # whatever stands there, it is not read
        gap = replace(hours, recorded=recorded, reported=np.where(recorded, hours.reported, nothing))
        cut = _score(gap, end=day(30), first=day(2))
        row = cut["all", "long", "nowcast", "spearman", ""]
        assert row.hours == 22 * 24
        part = slice(48, 24 * 24)
        assert row.value == pytest.approx(spearman(hours.predicted[0, part], hours.reported[0, part]))
        assert cut["28d", "long", "", "days", ""].value == 22
    counted = replace(hours, reported=np.where(recorded, hours.reported, 0.0))
    wrong = _score(counted, end=day(30), first=day(2))["all", "long", "nowcast", "spearman", ""]
    assert wrong.value < row.value - 0.1


def test_recorded_hours_without_a_report_count_as_zero() -> None:
    hours = make_hours(30)
    assert (hours.reported[0] == 0).sum() > 50
    assert _score(hours)["all", "long", "nowcast", "spearman", ""].hours == 720


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_units_change_nothing_but_the_level(factor: float) -> None:
    hours = make_hours()
    cells = MapCells(hours.market.start, np.ones(720, np.int8), np.full(720, 99.0), np.arange(720.0), 0.1)
    market = replace(hours.market, volume=factor * hours.market.volume)
    bigger = replace(
        hours,
        market=market,
        predicted=factor * hours.predicted,
        predicted_at_start=factor * hours.predicted_at_start,
        reported=factor * hours.reported,
    )
    before = score(hours, own_exchange=True, cells=cells, resamples=30)
    after = score(bigger, own_exchange=True, cells=replace(cells, volume=factor * cells.volume), resamples=30)
    for row, other in zip(before, after, strict=True):
        assert other.value == pytest.approx(row.value, nan_ok=True)
        assert other.high == pytest.approx(row.high, nan_ok=True)
        assert other.difference_low == pytest.approx(row.difference_low, nan_ok=True, abs=1e-12)
    louder = _score(replace(hours, predicted=factor * hours.predicted))
    for key, row in _table(before).items():
        if key[3] == "level":
            assert louder[key].value == pytest.approx(factor * row.value)
        elif key[3] == "spearman":
            assert louder[key].value == pytest.approx(row.value)


def test_another_exchanges_record_gives_ranks_but_no_level() -> None:
    hours = make_hours()
    own, other = _score(hours), _score(hours, own_exchange=False)
    assert set(own) - set(other) == {key for key in own if key[3] in ("level", "log_error")}
    assert all(own[key].value == other[key].value for key in other if own[key].value == own[key].value)


def test_too_little_is_said_and_not_scored() -> None:
    hours = make_hours(30)
    few = replace(hours, recorded=hours.market.start < day(9))
    table = _score(few)
    assert {key[3] for key in table} == {"hours_with_reports", "days"}
    assert table["all", "long", "", "days", ""].value == 9
    quiet = hours.reported.copy()
    quiet[0, np.flatnonzero(quiet[0])[199:]] = 0
    table = _score(replace(hours, reported=quiet))
    assert {key[3] for key in table if key[1] == "long"} == {"hours_with_reports", "days"}
    assert table["all", "long", "", "hours_with_reports", ""].value == 199
    assert ("all", "short", "nowcast", "spearman", "") in table
    quiet[0, np.flatnonzero(hours.reported[0])[199]] = 1.0
    assert ("all", "long", "nowcast", "spearman", "") in _score(replace(hours, reported=quiet))


def test_nothing_at_all_is_a_score_of_zero_hours() -> None:
    none = np.empty(0)
    market = HourlyMarket(np.empty(0, np.int64), none, none, none, none, np.empty((2, 0)))
    empty = np.empty((2, 0))
    table = _score(ScoreHours(market, empty, empty, empty, np.empty(0, dtype=np.bool_)))
    assert [row.value for row in table.values()] == [0.0] * 8


def test_windows_end_where_they_are_told() -> None:
    hours = make_hours(40)
    table = _score(hours, end=day(30), first=day(5), trailing_days=20)
    assert table["20d", "long", "", "days", ""].value == 20
    assert table["all", "long", "", "days", ""].value == 25
    part = slice(day(10) // HOUR, day(30) // HOUR)
    assert table["20d", "long", "nowcast", "spearman", ""].value == pytest.approx(
        spearman(hours.predicted[0, part], hours.reported[0, part])
    )


def test_simulated_hours_are_never_scored() -> None:
    with pytest.raises(ModelError, match="simulated"):
        score(replace(make_hours(2), simulated=True), own_exchange=True)


@pytest.mark.parametrize("wrong", [{"trailing_days": 0}, {"resamples": 0}])
def test_windows_and_draws_of_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="must be at least 1"):
        _score(make_hours(2), **wrong)


def test_the_same_seed_gives_the_same_score() -> None:
    hours = make_hours()
    np.testing.assert_equal(_score(hours), _score(hours))
    assert _score(hours) != _score(hours, seed=5)


def test_bracket_of_the_level() -> None:
    assert [level_in_bracket(level) for level in (0.49, 0.5, 1.9, 5.0, 5.1, float("nan"))] == [
        False, True, True, True, False, False,
    ]  # fmt: skip
