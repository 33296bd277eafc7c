"""Scores through the product: which hours count, which record, what is stored, and the same bits every time."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.chain import scoring
from heatmap_pipeline.chain.scoring import NotScored, Scored, choose_record, score_symbol, store_outcome
from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.model.book import LONG, SHORT
from heatmap_pipeline.model.score.hours import HOUR
from heatmap_pipeline.model.score.lift import MapCells, brightest_lift, reached_cells
from heatmap_pipeline.model.score.table import not_enough
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.commit import drop_cells
from heatmap_pipeline.store.liquidations import liquidation_sources
from heatmap_pipeline.store.raw import get_symbol
from heatmap_pipeline.store.scores import Record, load_hour_maps, load_records, load_score
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.chain.scored import (
    LAST,
    SCORED_FROM,
    compute,
    few_resamples,  # noqa: F401  # a fixture
    keep,
    score_home,
    values,
    write_reports,
)
from heatmap_pipeline_tests.orchestration.homes import BTC, assert_same, copy_home, day, real

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_resamples")]

NO_CELLS = {name: np.zeros(0, dtype=np.int64) for name in ("hour", "side", "price")} | {"volume": np.zeros(0)}
SCORE_TABLES = ("map_scores", "score_hours", "score_days")


def score_tables(settings: Settings) -> dict[str, object]:
    with Warehouse(settings.home).connect(BTC) as con:
        return {name: con.sql(f"FROM {name} ORDER BY ALL").to_arrow_table() for name in SCORE_TABLES}


def spearman(values: pd.Series[float], reported: pd.Series[float]) -> float:
    from scipy.stats import spearmanr  # a second, which every process would take that only collects this

    return float(spearmanr(values, reported).statistic)


def only(outcome: list[Scored | NotScored]) -> Scored:
    (result,) = outcome
    assert isinstance(result, Scored)
    return result


def hours_table(settings: Settings) -> pd.DataFrame:
    with Warehouse(settings.home).connect(BTC) as con:
        return con.execute("SELECT * FROM score_hours ORDER BY hour, side").df()


@pytest.fixture(scope="module")
def scored_once(unscored: Settings, reports: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home that was scored against a record of all days. Nobody changes it; `scored` is a copy."""
    folder = tmp_path_factory.mktemp("scored")
    settings = unscored.model_copy(update={"home": copy_home(unscored.home, folder / "home")})
    keep(settings, write_reports(folder / "files", reports, 1, LAST))
    score_home(settings)
    return settings


@pytest.fixture
def scored(scored_once: Settings, tmp_path: Path) -> Settings:
    return scored_once.model_copy(update={"home": copy_home(scored_once.home, tmp_path / "home")})


def test_anyone_can_compute_the_stored_score_from_the_stored_hours(scored: Settings) -> None:
    hours = hours_table(scored)
    hours = hours[hours["recorded"] & (hours["hour"] >= pd.Timestamp(day(SCORED_FROM)))]
    assert len(hours) == 2 * 24 * (LAST - SCORED_FROM + 1)
    with Warehouse(scored.home).connect(BTC) as con:
        for horizon, column, rule in (
            ("nowcast", "predicted", ""),
            ("at_start", "predicted_at_start", ""),
            ("nowcast", "volume_only", "volume-only map"),
            ("at_start", "volume_only_at_start", "volume-only map"),
        ):
            stored = values(con, horizon=horizon, baseline=rule)
            for side in ("long", "short"):
                mine = hours[hours["side"] == side]
                expected = spearman(mine[column], mine["reported"])
                assert stored[side] == pytest.approx(expected, abs=1e-12)
        simple = values(con, baseline="move x volume")
        for side in ("long", "short"):
            mine = hours[hours["side"] == side]
            assert simple[side] == pytest.approx(spearman(mine["move"] * mine["volume"], mine["reported"]))
        level = values(con, measure="level")
        sums = hours.groupby("side", observed=True)[["predicted", "reported"]].sum()
        assert level == pytest.approx((sums["predicted"] / sums["reported"]).to_dict())
    assert 0.5 < values_of_agreement(scored)["long"] < 0.99


def values_of_agreement(settings: Settings) -> dict[str, float]:
    with Warehouse(settings.home).connect(BTC) as con:
        return values(con)


def test_the_hours_hold_what_the_events_say(scored: Settings) -> None:
    hours = hours_table(scored)
    with Warehouse(scored.home).connect(BTC) as con:
        view = con.execute(
            "SELECT hour, side, predicted, predicted_at_start, reported, recorded FROM liquidations_hourly "
            "WHERE model = 'turnover' ORDER BY hour, side"
        ).df()
    both = hours.merge(view, on=["hour", "side"], suffixes=("", "_view"))
    assert len(both) == len(view) > 0
    whole = both["predicted"].notna()  # the history begins within its first hour, which is therefore not known whole
    assert (both[~whole]["hour"] == both["hour"].min()).all()
    for name in ("predicted", "predicted_at_start"):
        np.testing.assert_allclose(both[whole][name], both[whole][f"{name}_view"], rtol=1e-9)
    np.testing.assert_allclose(both["reported"], both["reported_view"], rtol=1e-9)
    assert (both["recorded"] == both["recorded_view"]).all()


def test_hours_without_a_record_are_missing_and_never_zero(
    scorable: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    folder = write_reports(tmp_path / "files", reports, 1, 11)
    keep(scorable, write_reports(folder, reports, 17, LAST, name="b"))
    result = only(score_home(scorable))
    hours = hours_table(scorable)
    silent = (hours["hour"] >= pd.Timestamp(day(12))) & (hours["hour"] < pd.Timestamp(day(17)))
    assert silent.sum() == 2 * 24 * 5
    assert hours[silent]["reported"].isna().all()
    assert not hours[silent]["recorded"].any()
    assert hours[silent]["predicted"].sum() > 0
    counted = [row for row in result.rows if row.window == "all" and row.measure == "days"]
    assert [row.value for row in counted] == [10.0, 10.0]
    assert [row.hours for row in counted] == [240, 240]


def test_counting_hours_without_a_record_as_zero_would_show(
    scorable: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    folder = write_reports(tmp_path / "files", reports, 1, 15)
    keep(scorable, write_reports(folder, reports, 17, LAST, name="b"))
    result = only(score_home(scorable))
    agreement = values_of_agreement(scorable)
    hours = hours_table(scorable)
    hours = hours[(hours["hour"] >= pd.Timestamp(day(SCORED_FROM))) & (hours["side"] == "long")]
    known = hours[hours["recorded"]]
    assert agreement["long"] == pytest.approx(spearman(known["predicted"], known["reported"]), abs=1e-12)
    wrong = spearman(hours["predicted"], hours["reported"].fillna(0.0))
    assert wrong < agreement["long"] - 0.01
    assert {row.hours for row in result.rows if row.measure == "spearman" and row.baseline == ""} == {24 * 14}


def test_a_recorded_hour_without_a_report_is_zero(scored: Settings) -> None:
    hours = hours_table(scored)
    quiet = hours[hours["recorded"] & (hours["reported"] == 0)]
    assert len(quiet) > 0


def test_too_short_a_record_says_how_much_is_missing(scorable: Settings, reports: pd.DataFrame, tmp_path: Path) -> None:
    keep(scorable, write_reports(tmp_path / "files", reports, 10, 13))
    result = only(score_home(scorable))
    assert {row.measure for row in result.rows} == {"hours_with_reports", "days"}
    found = {row.measure: int(row.value) for row in result.rows if (row.window, row.side) == ("all", "long")}
    assert not_enough(found["days"], found["hours_with_reports"]) == (
        f"not enough yet: {found['hours_with_reports']} of 200 hours"
    )
    with Warehouse(scorable.home).connect(BTC) as con:
        assert con.execute("SELECT count(*) FROM map_scores").fetchall() == [(8,)]
        assert con.execute("SELECT count(*) FROM score_hours WHERE recorded").fetchall() == [(2 * 4 * 24,)]


def test_another_exchange_gives_ranks_and_no_level(scorable: Settings, reports: pd.DataFrame, tmp_path: Path) -> None:
    keep(scorable, write_reports(tmp_path / "files", reports, 1, LAST, exchange="bybit"))
    result = only(score_home(scorable))
    assert result.source == "bybit_file"
    assert result.parameters["own_exchange"] is False
    measures = {row.measure for row in result.rows}
    assert {"spearman", "partial", "lift"} <= measures
    assert not {"level", "log_error"} & measures


def test_the_market_s_own_exchange_comes_first(scorable: Settings, reports: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_reports(tmp_path / "files", reports, 1, LAST, exchange="bybit")
    keep(scorable, write_reports(folder, reports, 8, LAST, name="own"))
    result = only(score_home(scorable))
    assert result.source == "binance_file"
    with Warehouse(scorable.home).connect(BTC) as con:
        (chosen,) = [each for each in liquidation_sources(con, BTC) if each.chosen]
        picked = choose_record(BTC, load_records(con, BTC))
    assert picked is not None
    assert picked.source == chosen.source == "binance_file"


def record(source: str, hours: int, *, complete: bool = False, resolution: int = 0) -> Record:
    none = np.empty(0)
    ranges = np.array([[0, hours * HOUR]], dtype=np.int64)
    return Record(source, complete, resolution, none.astype(np.int64), none.astype(np.int8), none, ranges)


def test_which_record_is_taken() -> None:
    def chosen(*records: Record) -> str | None:
        found = choose_record(BTC, records)
        return found.source if found else None

    assert chosen(record("bybit_stream", 900, complete=True), record("binance_file", 5)) == "binance_file"
    assert chosen(record("binance_stream", 900), record("binance_file", 5, complete=True)) == "binance_file"
    assert chosen(record("gate_stats", 10), record("bybit_stream", 20)) == "bybit_stream"
    assert chosen(record("binance_file", 900, resolution=86400), record("bybit_stream", 2)) == "bybit_stream"
    assert chosen(record("binance_file", 900, resolution=86400)) is None
    assert chosen() is None


def test_simulated_data_are_never_scored(scorable: Settings, reports: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_reports(tmp_path / "files", reports, 1, LAST)
    keep(scorable, folder)
    with Warehouse(scorable.home).connect(BTC) as con:
        con.execute("UPDATE symbols SET simulated = true")
    assert score_home(scorable) == [NotScored(BTC, "turnover", "simulated")]
    assert score_symbol(partial(Warehouse(scorable.home).connect, BTC), BTC, ["turnover"], folder=folder) == [
        NotScored(BTC, "turnover", "simulated")
    ]
    with Warehouse(scorable.home).connect(BTC) as con:
        assert load_score(con, BTC, "turnover") is None


def test_without_any_record_nothing_is_scored_and_what_was_goes(scored: Settings) -> None:
    with Warehouse(scored.home).connect(BTC) as con:
        assert load_score(con, BTC, "turnover") is not None
        con.execute("DELETE FROM recorded")
    assert score_home(scored) == [NotScored(BTC, "turnover", "no record")]
    assert all(table.num_rows == 0 for table in score_tables(scored).values())  # type: ignore[attr-defined]


def test_scoring_again_gives_the_same_bits_and_is_skipped_where_nothing_changed(scored: Settings) -> None:
    before = score_tables(scored)
    result = only(score_home(scored, again=False))
    assert result.unchanged
    assert_same(before, score_tables(scored))
    assert not only(score_home(scored)).unchanged
    assert_same(before, score_tables(scored))


def test_a_changed_report_is_scored_anew(scored: Settings) -> None:
    before = values_of_agreement(scored)
    with Warehouse(scored.home).connect(BTC) as con:
        con.execute("UPDATE raw_liquidations SET quantity = 1 + hash(timestamp, side) % 1000")
    assert not only(score_home(scored, again=False)).unchanged
    assert values_of_agreement(scored)["long"] < before["long"] - 0.2


def test_a_history_in_pieces_scores_as_one_in_one_go(
    scored: Settings, reports: pd.DataFrame, long_archive: Path, tmp_path: Path
) -> None:
    pieces = real(tmp_path / "pieces", long_archive, models=("turnover",), snapshot_interval="15m")
    for numbers in (range(1, 12), range(12, 13), range(12, LAST + 1)):
        compute(pieces, numbers)
        keep(pieces, write_reports(tmp_path / "files", reports, 1, LAST))
        score_home(pieces, again=False)
    assert_same(score_tables(scored), score_tables(pieces))


def test_a_score_does_not_depend_on_which_cells_are_kept(scored: Settings) -> None:
    """Those of days that are kept no longer are computed again, from the first day on, bit for bit."""
    before = score_tables(scored)
    with Warehouse(scored.home).connect(BTC) as con:
        assert drop_cells(con, BTC, scored.models, day(LAST - 2)) == (LAST - 3) * len(scored.models)
        assert con.execute("SELECT min(timestamp) FROM liquidation_snapshots").fetchall()[0][0].date() == day(LAST - 2)
    assert not only(score_home(scored)).unchanged
    assert_same(score_tables(scored), before)


def test_a_folder_scores_as_the_record_that_was_stored_of_it(
    scored: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    folder = write_reports(tmp_path / "files", reports, 1, LAST)
    result = only(score_symbol(partial(Warehouse(scored.home).connect, BTC), BTC, ["turnover"], folder=folder))
    with Warehouse(scored.home).connect(BTC) as con:
        stored = load_score(con, BTC, "turnover")
    assert stored is not None
    assert repr(tuple(result.rows)) == repr(stored.rows)


def test_the_maps_of_the_hours_are_the_snapshots_within_reach(scored: Settings) -> None:
    """The lift of all cells is that of the cells within reach, which are all that is read."""
    with Warehouse(scored.home).connect(BTC) as con:
        days = scoring._complete_days(con, BTC, "turnover")
        stored = get_symbol(con, BTC)
        assert stored is not None
        known = scoring._load(con, stored, "turnover", days)
        cells = con.execute(
            "SELECT epoch_us(timestamp) + 900000000 AS hour, CAST(side AS VARCHAR) AS side, price_bucket, "
            "active_volume FROM liquidation_snapshots WHERE minute(timestamp) = 45 AND active_volume > 0"
        ).df()
        bucket = known.cells.bucket
        coarse = load_hour_maps(con, BTC, "turnover", known.market, bucket * 10, NO_CELLS)
        result = only(score_symbol(lambda: nullcontext(con), BTC, ["turnover"]))
    every = MapCells(
        cells["hour"].to_numpy(),
        np.where(cells["side"] == "long", LONG, SHORT).astype(np.int8),
        cells["price_bucket"].to_numpy(),
        cells["active_volume"].to_numpy(),
        bucket,
    )
    hours = result.hours
    assert hours is not None
    chosen = hours.scored & (hours.market.start >= day_start(day(SCORED_FROM)))
    for side, name in ((LONG, "long"), (SHORT, "short")):
        lift = brightest_lift(reached_cells(hours, every, side, chosen), hours.market.start, resamples=50, seed=1)
        (row,) = [
            row for row in result.rows if (row.window, row.side, row.measure, row.baseline) == ("all", name, "lift", "")
        ]
        assert lift.value == pytest.approx(row.value, rel=1e-9)
        ten = reached_cells(hours, coarse, side, chosen)
        whole = MapCells(
            every.hour,
            every.side,
            np.floor(every.price_bucket / (bucket * 10)) * bucket * 10,
            every.volume,
            bucket * 10,
        )
        np.testing.assert_allclose(ten.brightness, reached_cells(hours, whole, side, chosen).brightness, rtol=1e-9)


def test_only_days_that_are_over_count(scored: Settings) -> None:
    with Warehouse(scored.home).connect(BTC) as con:
        con.execute("UPDATE heatmap_days SET provisional = true WHERE day = ?", [day(LAST)])
    result = only(score_home(scored))
    assert result.parameters["last_day"] == str(day(LAST - 1))
    assert result.hours is not None
    assert result.hours.market.start[-1] == day_start(day(LAST)) - HOUR


def test_the_first_days_of_every_history_are_left_out(scored: Settings) -> None:
    before = only(score_home(scored)).hours
    assert before is not None
    left = scoring.without_warm_up(before, [day(1), day(12)])
    gone = np.isnan(left.predicted).all(axis=0) & ~np.isnan(before.predicted).all(axis=0)
    starts = before.market.start[gone]
    warm = [(start - day_start(day(12))) // DAY for start in starts if start >= day_start(day(12))]
    assert sorted(set(warm)) == [0, 1, 2, 3, 4]
    assert not (starts >= day_start(day(17))).any()


def test_without_a_day_there_is_no_score(tmp_path: Path) -> None:
    connect = partial(Warehouse(tmp_path).connect, BTC)
    outcome = score_symbol(connect, BTC, ["turnover", "delta"])
    assert outcome == [NotScored(BTC, "turnover", "nothing stored"), NotScored(BTC, "delta", "nothing stored")]
    store_outcome(connect, outcome)
