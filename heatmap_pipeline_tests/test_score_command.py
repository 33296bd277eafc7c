"""`heatmap score` as people use it: the table, files in place of what is stored, what is missing, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._homes import done, heatmap, refused
from heatmap_pipeline_tests.chain.scored import LAST, few_resamples, write_reports  # noqa: F401  # a fixture
from heatmap_pipeline_tests.orchestration.homes import BTC, untouched

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_resamples")]


@pytest.fixture
def home(scorable: Settings) -> Path:
    """A published home without any record."""
    publish(Warehouse(scorable.home), [BTC])
    return scorable.home


def test_a_folder_is_scored_against_and_stored_nowhere(home: Path, reports: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_reports(tmp_path / "files", reports, 1, LAST)
    with untouched(home / "heatmap.duckdb"), untouched(home / "warehouse" / "BTCUSDT.duckdb"):
        out = done("score", BTC, "--liquidations", folder, "--home", home).stdout
    assert "on its own exchange, binance; not every one is printed, so reported is a floor; binance_file" in out
    assert "trailing 28 days, 2024-03-09 .. 2024-03-23: 360 recorded hours" in out
    assert "all recorded time, 2024-03-09 .. 2024-03-23" in out
    for rule in ("move x volume", "new extreme x volume", "reported the hour before", "volume-only map"):
        (line, *_) = [line for line in out.splitlines() if line.strip().startswith(rule)]
        assert any(words in line for words in ("we beat it", "beats us", "tie")), line
    assert "within 0.5 to 5" in out
    assert max(map(len, out.splitlines()[1:])) <= 120


def test_the_rows_as_json_are_those_of_the_table(home: Path, reports: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_reports(tmp_path / "files", reports, 1, LAST)
    words = ("score", BTC, "--liquidations", folder, "--home", home, "--days", 20)
    (score,) = json.loads(done(*words, "--json").stdout)["scores"]
    assert list(score["windows"]) == ["20d", "all"]
    (row,) = [
        row
        for row in score["windows"]["20d"]
        if (row["side"], row["horizon"], row["measure"], row["baseline"]) == ("long", "nowcast", "spearman", "")
    ]
    assert f"{row['value']:.3f} [{row['low']:.3f} .. {row['high']:.3f}]" in done(*words).stdout


def test_a_short_record_says_how_much_there_is(home: Path, reports: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_reports(tmp_path / "files", reports, 10, 13)
    out = done("score", BTC, "--liquidations", folder, "--home", home).stdout
    assert "not enough yet: " in out
    assert " of 200 hours" in out
    assert "Spearman" not in out


def test_another_exchange_s_record_gives_no_level(home: Path, reports: pd.DataFrame, tmp_path: Path) -> None:
    folder = write_reports(tmp_path / "files", reports, 1, LAST, exchange="bybit")
    out = done("score", BTC, "--liquidations", folder, "--home", home).stdout
    assert "held against the liquidations of bybit, another exchange than that of BTCUSDT: ranks only, no level" in out
    assert "level: predicted / reported" not in out


def test_what_cannot_be_scored_ends_with_what_to_do(home: Path, tmp_path: Path) -> None:
    refused(heatmap("score", BTC, "--home", home), 1, "no record of real liquidations", "HEATMAP_LIQUIDATIONS")
    refused(heatmap("score", "--home", home), 1, f"heatmap score {BTC} --home {home} --liquidations DIR")
    (tmp_path / "none").mkdir()
    refused(heatmap("score", BTC, "--liquidations", tmp_path / "none", "--home", home), 1, "no file of BTCUSDT")
    refused(heatmap("score", "XRPUSDT", "--model", "delta", "--home", home), 1, "nothing is stored of XRPUSDT delta")
    refused(heatmap("score", "--home", tmp_path / "empty"), 1, "nothing is published")
    refused(heatmap("score", "btc", "--home", home), 2, "is not a symbol")
    refused(heatmap("score", BTC, "--liquidations", tmp_path / "gone", "--home", home), 2, "does not exist")
    refused(heatmap("score", BTC, "--days", 0, "--home", home), 2, "--days")


def test_simulated_data_are_never_scored(scorable: Settings, reports: pd.DataFrame, tmp_path: Path) -> None:
    with Warehouse(scorable.home).connect(BTC) as con:
        con.execute("UPDATE symbols SET simulated = true")
    publish(Warehouse(scorable.home), [BTC])
    folder = write_reports(tmp_path / "files", reports, 1, LAST)
    refused(heatmap("score", BTC, "--liquidations", folder, "--home", scorable.home), 1, "simulated", "never scored")
