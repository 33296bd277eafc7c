"""The score as a part of the run: what it needs, what it says, and checks that warn and stop nothing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.chain.scored import LAST, few_resamples, keep, write_reports  # noqa: F401  # a fixture
from heatmap_pipeline_tests.orchestration.homes import BTC, Ran, ask, run_job

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_resamples")]

ASSET = f"{BTC}/map_scores"


def score(settings: Settings) -> Ran:
    return run_job(settings, 1, LAST, stages=["map_scores"]).ok()


def test_without_a_record_nothing_is_done_and_the_run_says_what_it_needs(scorable: Settings) -> None:
    ran = score(scorable)
    (metadata,) = ran.materialised[ASSET].values()
    assert "set HEATMAP_LIQUIDATIONS" in metadata["turnover_not_scored"]
    assert f"heatmap score {BTC}" in metadata["turnover_not_scored"]
    assert ask(scorable, "SELECT count(*) FROM map_scores") == [(0,)]
    assert {name for name in ran.checks if name.startswith(ASSET)} == {
        f"{ASSET}:score_not_worse",
        f"{ASSET}:level_in_bracket",
    }
    assert not ran.failed_checks()


def test_a_record_is_scored_once_and_the_numbers_are_shown(
    scorable: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    keep(scorable, write_reports(tmp_path / "files", reports, 1, LAST))
    ran = score(scorable)
    (metadata,) = ran.materialised[ASSET].values()
    ((value,),) = ask(
        scorable,
        "SELECT value FROM map_scores WHERE \"window\" = '28d' AND side = 'long' AND horizon = 'nowcast' "
        "AND measure = 'spearman' AND baseline = ''",
    )
    assert metadata["turnover_long_agreement"] == value
    assert 1.0 < metadata["turnover_long_level"] < 3.0
    assert "own exchange, binance" in metadata["turnover_record"]
    assert not ran.failed_checks()
    (again,) = score(scorable).materialised[ASSET].values()
    assert again["turnover_unchanged"] is True


def test_a_map_that_agrees_less_than_the_published_one_is_warned_about(
    scorable: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    keep(scorable, write_reports(tmp_path / "files", reports, 1, LAST))
    score(scorable)
    publish(Warehouse(scorable.home), [BTC])
    # The same record, but of other liquidations: those of each hour are told of the hour before.
    late = reports.assign(time=reports["time"] - pd.Timedelta(hours=1))
    keep(scorable, write_reports(tmp_path / "files", late, 1, LAST))
    ran = score(scorable)
    passed, text = ran.checks[f"{ASSET}:score_not_worse"]
    assert not passed
    assert "agrees less than before: longs" in text
    publish(Warehouse(scorable.home), [BTC])
    assert not score(scorable).failed_checks()


def test_a_level_that_nobody_can_believe_is_warned_about(
    scorable: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    tiny = reports.assign(quantity=reports["quantity"] / 100)
    keep(scorable, write_reports(tmp_path / "files", tiny, 1, LAST))
    ran = score(scorable)
    passed, text = ran.checks[f"{ASSET}:level_in_bracket"]
    assert not passed
    assert "outside 0.5 to 5" in text
    assert ran.checks[f"{ASSET}:score_not_worse"][0]
