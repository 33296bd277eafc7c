"""What is said of a bucket that does not fit the price, and of days with too many cells."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from heatmap_pipeline.chain.fit import fit_lines, misfit_words
from heatmap_pipeline.settings import Settings, SymbolSettings, load_settings
from heatmap_pipeline.store.commit import DayCells, commit_cells
from heatmap_pipeline.store.days import day_records
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.store.tiny import BUCKET, DAYS, fill

BTC, LAST = "BTCUSDT", DAYS[-1]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    with Warehouse(tmp_path).connect(BTC) as con:
        fill(con, BTC)
    return load_settings(home=tmp_path)


def closing_at(con: Connection, price: float) -> None:
    """Say of the newest day that its last close was so."""
    con.execute(
        "UPDATE heatmap_days SET state = json_merge_patch(state, ?) WHERE day = ?",
        [json.dumps({"carried": {"closes": [100.0, price]}}), LAST],
    )


@pytest.mark.parametrize(
    ("price", "words"),
    [
        (BUCKET / 0.02, ""),
        (BUCKET / 0.0002, ""),
        (1000.0, "a bucket of 100 is 10 % of the price 1000, where 0.02 to 2 % fits; the next day takes 1"),
        (1e6, "a bucket of 100 is 0.01 % of the price 1e+06, where 0.02 to 2 % fits; the next day takes 1000"),
    ],
)
def test_a_bucket_that_the_price_left_within_its_day(settings: Settings, price: float, words: str) -> None:
    with Warehouse(settings.home).connect(BTC) as con:
        closing_at(con, price)
        assert misfit_words(con, settings, BTC, "turnover") == (words and f"{BTC} {LAST}: {words}")
        assert misfit_words(con, settings, BTC, "unknown") == ""


def test_one_that_a_setting_fixes_names_the_setting(settings: Settings) -> None:
    fixed = settings.model_copy(update={"per_symbol": {BTC: SymbolSettings(bucket=BUCKET)}})
    with Warehouse(settings.home).connect(BTC) as con:
        closing_at(con, 0.25)
        (line,) = fit_lines(con, fixed, BTC, "turnover")
    assert line.startswith(f"bucket  {BTC} {LAST}: a bucket of 100 is 40,000 % of the price 0.25")
    assert f"unset HEATMAP_BUCKET_{BTC}, or set it to 0.0005" in line


def test_the_setting_of_a_symbol_of_another_alphabet_is_named_as_it_is_written(tmp_path: Path) -> None:
    symbol = "币安人生USDT"
    with Warehouse(tmp_path).connect(symbol) as con:
        fill(con, symbol)
        closing_at(con, 0.25)
        fixed = Settings(home=tmp_path, per_symbol={symbol: SymbolSettings(bucket=BUCKET)})
        assert "unset HEATMAP_BUCKET_u5E01u5B89u4EBAu751FUSDT, or" in misfit_words(con, fixed, symbol, "turnover")


def test_days_with_too_many_cells_are_named_until_they_are_made_again(settings: Settings) -> None:
    cell = {name: np.array([1]) for name in ("timestamp", "price_bucket", "side", "active_volume", "consumed_volume")}

    def commit(con: Connection, day: date, merged: tuple[int, int] | None) -> None:
        state = day_records(con, BTC, "delta")[day].state_hash
        commit_cells(con, [DayCells(BTC, "delta", day, state, 900, cell, BUCKET, merged)])

    with Warehouse(settings.home).connect(BTC) as con:
        for day in DAYS[:2]:
            commit(con, day, (500_000, 3))
        assert list(fit_lines(con, settings, BTC, "delta")) == [
            f"coarse  {BTC} delta {DAYS[1]}: of 500,000 cells those far from the price are put together (3 digits); "
            f"1 more day, the first {DAYS[0]}"
        ]
        for day in DAYS[:2]:
            commit(con, day, None)
        assert list(fit_lines(con, settings, BTC, "delta")) == []
