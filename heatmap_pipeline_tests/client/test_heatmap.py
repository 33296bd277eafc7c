"""One class for file and endpoint: the same answers, cell by cell, the same words of refusal, and what they mean."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.client import ClientError, Heatmap
from heatmap_pipeline.client.answers import VOLUMES, flat
from heatmap_pipeline.mcp_server import brief
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.migrate import SCHEMA_VERSION
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.api._load import HOST
from heatmap_pipeline_tests.api._threaded import serving_here
from heatmap_pipeline_tests.api.homes import BTC, ETH, day, rows
from heatmap_pipeline_tests.chain.scored import LAST, keep, score_home, write_reports

NOON = datetime(2024, 1, 5, 12, tzinfo=UTC)
WEIGHTS = {5.0: 1.0, 25: 2.5, 50: 0.125}

QUESTIONS: dict[str, Callable[[Heatmap], Any]] = {
    "markets": lambda one: one.markets(),
    "newest map": lambda one: one.map(BTC),
    "map of a moment": lambda one: one.map(BTC, NOON, model="delta"),
    "map in wide bins": lambda one: one.map(ETH, "2024-01-04T10:00", price_bin_size=np.float64(25)),
    "map of other weights": lambda one: one.map(BTC, NOON, leverage_weights=WEIGHTS),
    "zones": lambda one: one.zones(BTC),
    "zones of a moment": lambda one: one.zones(BTC, NOON, within_percent=20),
    "newest series": lambda one: one.series(BTC),
    "series across a gap": lambda one: one.series(ETH, day(1), interval="1h"),
    "a short fine series": lambda one: one.series(BTC, NOON, NOON + timedelta(hours=1), interval="5m", model="delta"),
    "few rows": lambda one: one.series(BTC, interval="4h", max_rows=40, leverage_weights=WEIGHTS),
    "map of tiers": lambda one: one.map(BTC, NOON, leverage_tiers=np.array([100, 25.0, 50])),
    "tiers of other weights": lambda one: one.map(BTC, leverage_weights=WEIGHTS, leverage_tiers="near"),
    "zones of tiers": lambda one: one.zones(BTC, leverage_tiers="near"),
    "series of tiers": lambda one: one.series(ETH, day(1), interval="1h", leverage_tiers=(tier for tier in (50, 100))),
    "all tiers": lambda one: one.series(BTC, interval="4h", leverage_tiers="all"),
    "score": lambda one: one.score(BTC, model="delta"),
}

REFUSALS: dict[str, tuple[Callable[[Heatmap], Any], int, tuple[str, ...]]] = {
    "symbol": (lambda one: one.map("XRPUSDT"), 404, (BTC, ETH)),
    "no symbol": (lambda one: one.map("btc/usdt"), 422, ("symbol",)),
    "model": (lambda one: one.zones(BTC, model="gamma"), 404, ("turnover", "delta")),
    "too early": (lambda one: one.map(BTC, "2019-01-01"), 404, ("2024-01-03", "2024-01-08")),
    "too late": (lambda one: one.map(BTC, date(2030, 1, 1)), 404, ("2030-01-01", "2024-01-03", "2024-01-08")),
    "in a gap": (lambda one: one.zones(ETH, "2024-01-05T12:00"), 404, ("2024-01-05T00:00:00Z", "2024-01-08")),
    "a range outside": (lambda one: one.series(BTC, "2023-01-01", "2023-02-01"), 404, ("2024-01-03", "2024-01-08")),
    "a range in a gap": (lambda one: one.series(ETH, "2024-01-05T01", "2024-01-05T02"), 404, ("gap",)),
    "the wrong way": (lambda one: one.series(BTC, NOON, NOON - timedelta(days=1)), 422, ("start_time", "end_time")),
    "no moment": (lambda one: one.map(BTC, "yesterday"), 422, ("at = 'yesterday'", "2024-07-01T12:00Z")),
    "no time at all": (lambda one: one.series(BTC, np.datetime64("NaT")), 422, ("start = 'NaT'",)),
    "an interval": (lambda one: one.series(BTC, interval="3m"), 422, ("3m", "5m, 15m, 1h, 4h, 1d")),  # type: ignore[arg-type]
    "a bin": (lambda one: one.map(BTC, price_bin_size=150.0), 422, ("150", "100 or 200")),
    "rows": (lambda one: one.series(BTC, max_rows=5), 422, ("max_rows", "10")),
    "within": (lambda one: one.zones(BTC, within_percent=0), 422, ("within_percent",)),
    "weights": (lambda one: one.map(BTC, leverage_weights={0.5: 1.0}), 422, ("leverage_weights", "0.5")),
    "no weights": (lambda one: one.map(BTC, leverage_weights={}), 422, ("leverage_weights",)),
    "a tier": (lambda one: one.map(BTC, leverage_tiers=[25, 7]), 422, ("no tier 7", "3, 5, 10, 20, 25")),
    "no tiers": (lambda one: one.series(BTC, leverage_tiers=[]), 422, ("leverage_tiers", "25,50,100", "near")),
    "a word for tiers": (lambda one: one.zones(BTC, leverage_tiers="far"), 422, ("leverage_tiers", "'far'")),
    "score of a stranger": (lambda one: one.score("XRPUSDT"), 404, (BTC, ETH)),
}


def bare(answer: Any) -> Any:
    """Return an answer as nested plain values, without the place it comes from."""
    if isinstance(answer, np.ndarray):
        return answer.dtype.str, answer.shape, answer.tolist()
    if is_dataclass(answer) and not isinstance(answer, type):
        return {field.name: bare(getattr(answer, field.name)) for field in fields(answer) if field.name != "where"}
    if isinstance(answer, dict):
        return {name: bare(value) for name, value in answer.items()}
    return [bare(value) for value in answer] if isinstance(answer, list | tuple) else answer


@pytest.mark.parametrize("name", QUESTIONS)
def test_file_and_endpoint_answer_alike_cell_by_cell(file: Heatmap, url: Heatmap, name: str) -> None:
    assert bare(QUESTIONS[name](file)) == bare(QUESTIONS[name](url))


@pytest.mark.parametrize("name", REFUSALS)
def test_file_and_endpoint_refuse_in_the_same_words(file: Heatmap, url: Heatmap, name: str) -> None:
    question, status, fragments = REFUSALS[name]
    words = []
    for one in (file, url):
        with pytest.raises(ClientError) as refusal:
            question(one)
        assert refusal.value.status == status, str(refusal.value)
        words.append(str(refusal.value))
    assert words[0] == words[1]
    for fragment in fragments:
        assert fragment in words[0]


def test_a_map_is_what_the_tables_hold(published: Settings, file: Heatmap) -> None:
    """At the end of a day the snapshot of SQL, named by the start of its interval, is the state the map shows."""
    found = file.map(BTC, datetime(2024, 1, 6, tzinfo=UTC))
    stored = rows(
        published,
        "SELECT price_bucket, side, active_volume FROM liquidation_snapshots WHERE symbol = ? AND model = 'turnover' "
        "AND timestamp = TIMESTAMP '2024-01-05 23:55:00' AND active_volume > 0",
        BTC,
    )
    columns = {"long": found.long, "short": found.short}
    shown = {
        (price, side): volume
        for side, column in columns.items()
        for price, volume in zip(found.prices.tolist(), column.tolist(), strict=True)
        if volume > 0
    }
    assert shown.keys() == {(price, side) for price, side, _ in stored}
    for price, side, volume in stored:
        assert shown[price, side] == pytest.approx(volume, abs=1e-4)
    assert found.time == datetime(2024, 1, 6, tzinfo=UTC)
    assert found.total_long == pytest.approx(found.long.sum())
    frame = found.to_pandas()
    assert frame.index.name == "price"
    np.testing.assert_allclose(frame["cumulative_long"], frame["long"][::-1].cumsum()[::-1], atol=1e-3)


def test_a_series_is_the_maps_of_its_moments(file: Heatmap) -> None:
    """The state of an interval is that of `state_at`, its end; never that of its start."""
    series = file.series(BTC, NOON, NOON + timedelta(hours=4), interval="1h", price_bin_size=100)
    long = series.dense("long")
    for number, moment in enumerate(series.state_at):
        book = file.map(BTC, moment, price_bin_size=100)
        there = np.searchsorted(series.prices, book.prices[book.long > 0])
        np.testing.assert_array_equal(long[number, there], book.long[book.long > 0])
        assert np.count_nonzero(long[number]) == len(there)
        assert series.times[number] == moment - np.timedelta64(1, "h")
    assert not np.array_equal(long[0], long[1])


def test_the_last_interval_ends_with_the_data(published: Settings, file: Heatmap) -> None:
    series = file.series(BTC, "2024-01-07T20:00", interval="4h")
    assert series.state_at[-1] == np.datetime64("2024-01-08T00:00")
    assert series.provenance.as_of == datetime(2024, 1, 8, tzinfo=UTC)
    (close,) = rows(published, "SELECT close FROM raw_candles WHERE symbol = ? ORDER BY open_time DESC LIMIT 1", BTC)[0]
    assert file.map(BTC).price == close == series.candles["close"][-1]


def test_what_is_not_known_is_missing_and_not_0(file: Heatmap) -> None:
    """Day 3 of ETHUSDT was never computed."""
    series = file.series(ETH, day(1), interval="1h")
    gap = (series.times >= np.datetime64(day(3))) & (series.times < np.datetime64(day(4)))
    np.testing.assert_array_equal(series.missing, gap)
    data = series.to_xarray()
    for name in VOLUMES:
        assert np.isnan(data[name].to_numpy()[gap]).all()
        assert not np.isnan(data[name].to_numpy()[~gap]).any()
    frame = series.to_pandas()
    assert not frame["time"].isin(series.times[gap]).any()
    assert len(series.candles["open_time"]) == np.count_nonzero(~gap) * 12


def test_pandas_and_xarray_hold_the_same_cells(file: Heatmap) -> None:
    series = file.series(BTC, NOON, interval="15m")
    data, frame = series.to_xarray(), series.to_pandas()
    assert frame[["time", "price"]].equals(frame[["time", "price"]].sort_values(["time", "price"]))
    assert not frame.duplicated(["time", "price"]).any()
    assert (frame[list(VOLUMES)] > 0).any(axis=1).all()
    for name in VOLUMES:
        assert float(data[name].sum()) == pytest.approx(frame[name].sum())
        cells = data[name].to_numpy()[
            np.searchsorted(series.times, frame["time"]), np.searchsorted(series.prices, frame["price"])
        ]
        np.testing.assert_array_equal(cells, frame[name])
    assert frame["consumed_long"].sum() + frame["consumed_short"].sum() > 0
    assert data["long"].attrs["units"] == "USDT"
    at = data.swap_dims(time="state_at")
    assert float(at["long"].sel(state_at="2024-01-05T12:15").sum()) > 0
    candles = series.candles_to_pandas()
    assert candles["high"].ge(candles["low"]).all()
    assert candles.index[0] == pd.Timestamp(NOON.replace(tzinfo=None))


def test_a_figure_shows_the_cells_and_the_candles_in_their_units(file: Heatmap, tmp_path: Path) -> None:
    series = file.series(ETH, day(1), interval="1h")  # across a gap
    figure = series.to_plotly()
    cells, candles = figure.data
    volume = (series.dense("long") + series.dense("short")).T
    shown = np.asarray(cells.z, dtype=np.float64)
    np.testing.assert_array_equal(np.isfinite(shown), np.nan_to_num(volume) > 0)
    np.testing.assert_allclose(np.nansum(shown), np.nansum(volume), rtol=1e-6)
    assert pd.Timestamp(cells.x[0]) == pd.Timestamp(series.times[0]) + pd.Timedelta(minutes=30)
    assert cells.y[0] == series.prices[0] + series.price_bin_size / 2
    positive = volume[np.nan_to_num(volume) > 0]
    assert (cells.zmin, cells.zmax) == (0, np.percentile(positive, 99)), "colours end where 1 % of these is larger"
    assert list(candles.close) == list(series.candles["close"])
    assert (figure.layout.xaxis.title.text, figure.layout.yaxis.title.text) == ("UTC", "price, USDT")
    assert figure.layout.title.text == series.provenance.words
    assert cells.colorbar.title.text == f"modelled USDT<br>per {series.price_bin_size:g} of price"
    figure.write_html(tmp_path / "map.html")
    assert (tmp_path / "map.html").stat().st_size > 1e6, "it opens without a network"


def test_every_answer_says_where_it_comes_from(published: Settings, file: Heatmap, url: Heatmap, address: str) -> None:
    (recorded,) = rows(published, "SELECT max(version) FROM schema_version")[0]
    for one, where in ((file, str(published.home / "heatmap.duckdb")), (url, address)):
        for answer in (one.map(BTC), one.zones(BTC), one.series(BTC, interval="1d"), one.score(BTC)):
            about = answer.provenance
            assert (about.symbol, about.model, about.kind, about.source) == (BTC, "turnover", "simulated", "demo")
            assert about.schema_version == recorded == SCHEMA_VERSION
            assert about.as_of == datetime(2024, 1, 8, tzinfo=UTC)
            assert about.units["volume"] == "USDT"
            assert about.parameters["liquidable"] == 0.03
            assert (about.where, about.leverage_weights) == (where, None)
            assert (about.exchange, about.title) == (None, "Simulated USDT-M perpetual")
            assert about.words.startswith(f"modelled liquidations of {BTC} ({about.title}) by turnover, on simulated")
            attrs = {str(name): value for name, value in answer.to_pandas().attrs.items()}
            assert (attrs["kind"], attrs["as_of"]) == ("simulated", "2024-01-08T00:00:00Z")
            assert all(isinstance(value, str | int | float) for value in flat(attrs).values())
    other = file.map(BTC, leverage_weights={10: 3, 5: 1}).provenance
    assert other.leverage_weights == ((5.0, 0.25), (10.0, 0.75))
    near = (25.0, 50.0, 75.0, 100.0, 125.0)
    shown = file.map(BTC, leverage_tiers="near")
    assert shown.provenance.leverage_tiers == near == tuple(shown.to_pandas().attrs["leverage_tiers"])
    said = "by turnover (leverage tiers 25, 50, 75, 100, 125 only), on simulated data"
    assert shown.provenance.words.startswith(f"modelled liquidations of {BTC} (Simulated USDT-M perpetual) {said}")
    assert replace(about, kind="modelled").words == about.words.replace("on simulated data", "on data of demo")


def test_maps_of_parts_of_the_tiers_add_up_to_the_map(file: Heatmap) -> None:
    """What is asked for by tier is the lots of these tiers, of map and series alike."""
    parts: tuple[Any, ...] = ((3, 5, 10, 20), "near")
    whole = file.map(BTC, NOON, price_bin_size=100)
    maps = [file.map(BTC, NOON, price_bin_size=100, leverage_tiers=part) for part in parts]
    window: dict[str, Any] = {"interval": "4h", "price_bin_size": 100.0}
    cells = [file.series(BTC, NOON, leverage_tiers=part, **window).to_pandas() for part in (None, *parts)]
    for side in ("long", "short"):
        sums = pd.concat([part.to_pandas()[side] for part in maps]).groupby(level=0).sum()
        np.testing.assert_allclose(sums.reindex(whole.prices, fill_value=0), getattr(whole, side), atol=1e-3)
        of_whole, *of_parts = (frame.groupby("state_at")[[side, f"consumed_{side}"]].sum() for frame in cells)
        np.testing.assert_allclose(sum(of_parts), of_whole, rtol=1e-9, atol=1e-1)
        assert all(part[side].gt(0).all() for part in of_parts)
    assert whole.located_share == maps[1].located_share, "that of the whole book"
    assert whole.provenance.leverage_tiers is None


@pytest.mark.slow
def test_a_market_that_is_not_made_up_is_modelled_scored_and_held_against_reports(
    scorable: Settings, reports: pd.DataFrame, tmp_path: Path
) -> None:
    """On twenty days that pass for real ones, with a record of real liquidations, from file and address."""
    keep(scorable, write_reports(tmp_path / "files", reports, 1, LAST))
    score_home(scorable)
    assert publish(Warehouse(scorable.home), [BTC]).changed
    with (
        Heatmap(scorable.home) as file,
        serving_here(scorable) as running,
        Heatmap(f"http://{HOST}:{running.port}") as url,
    ):
        of_file, of_url = ((one.score(BTC), one.series(BTC, interval="1h")) for one in (file, url))
    assert bare(list(of_file)) == bare(list(of_url))
    score, series = of_file
    for answer in of_file:
        assert (answer.provenance.kind, answer.provenance.source) == ("modelled", "archive")
        assert (answer.provenance.exchange, answer.provenance.title) == ("binance", "Binance USDT-M perpetual")
        assert "(Binance USDT-M perpetual) by turnover, on data of archive" in answer.provenance.words
    assert score.scored
    frame = score.to_pandas()
    assert {"nowcast", "at_start"} <= set(frame["horizon"])
    assert brief.score(score)["rows"][0]["window"] == frame["window"][0]
    assert series.reported is not None
    reported = brief.summary(series)["reported_liquidations"]
    assert reported["long"] == pytest.approx(sum(series.reported["long"]["volume"]), abs=0.01)
    assert reported["long"] > 0


def test_markets_say_what_there_is(file: Heatmap) -> None:
    btc, eth = file.markets()
    assert (btc.symbol, btc.models, btc.quote, btc.bucket) == (BTC, ("turnover", "delta"), "USDT", 100.0)
    assert (eth.first_day, eth.last_day, eth.ended) == (day(1), day(5), None)
    assert btc.simulated
    assert 0 < btc.located_share["turnover"] < 1
    assert asdict(btc)["as_of"].tzinfo is UTC


def test_zones_are_those_of_the_endpoint_with_all_it_says_of_them(file: Heatmap) -> None:
    found = file.zones(BTC)
    assert found.nearest_below is not None
    assert found.nearest_below.side == "long"
    assert all(zone.price > found.price for zone in found.above)
    assert all(zone.price < found.price for zone in found.below)
    frame = found.to_pandas()
    assert list(frame["side"]) == ["short"] * len(found.above) + ["long"] * len(found.below)
    assert frame["volume"].gt(0).all()
    without_any = file.zones(BTC, within_percent=0.1).to_pandas()
    assert not len(without_any)
    assert without_any.columns.tolist() == found.to_pandas().columns.tolist()


def test_moments_are_utc_however_they_are_written(file: Heatmap) -> None:
    wanted = bare(file.map(BTC, NOON))
    for written in (
        "2024-01-05T12:00",
        "2024-01-05 14:00+02:00",
        "2024-01-05t12:04:59z",
        NOON.replace(tzinfo=None),
        NOON.astimezone(),
        np.datetime64("2024-01-05T12:00:00.000000000"),
        pd.Timestamp(NOON),
    ):
        assert bare(file.map(BTC, written)) == wanted
    assert file.map(BTC, day(2)).time == datetime(2024, 1, 4, tzinfo=UTC)


def test_the_import_is_light() -> None:
    """Neither Dagster nor what only some answers need; a program that asks an endpoint never loads the engine."""
    code = (
        "import sys; from heatmap_pipeline.client import Heatmap; Heatmap('http://127.0.0.1:1')\n"
        "print([name for name in ('dagster', 'duckdb', 'numba', 'pandas', 'xarray', 'fastapi', 'matplotlib', 'plotly',"
        " 'scipy', 'mcp', 'click') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_without_xarray_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch, file: Heatmap) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    series = file.series(BTC, interval="1d")
    with pytest.raises(ClientError, match=r"^xarray is not installed; `pip install xarray` installs it, and to_pandas"):
        series.to_xarray()
    assert len(series.to_pandas())
