"""Real market files through `heatmap run`, and what was published of them worked out again by other means."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.instants import DAY, SECONDS
from heatmap_pipeline.model.book import LONG, SHORT
from heatmap_pipeline.orchestration.checks import RULES
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.book_map import map_record
from heatmap_pipeline.views.columns import as_columns, lots_of
from heatmap_pipeline.views.data import load_version
from heatmap_pipeline.views.heatmap import make_heatmap
from heatmap_pipeline.views.replay import Books, Source, replay
from heatmap_pipeline.views.window import make_window
from heatmap_pipeline.views.zones import zones_of_window
from heatmap_pipeline_tests._homes import done, heatmap, published, refused
from heatmap_pipeline_tests._real_sets import BTC, DOGE, ETH, SETS, Ran, RealRuns

pytestmark = pytest.mark.market

CASES = [(name, symbol) for name, one in SETS.items() for symbol in one.symbols]
CANDLES = {("A", BTC): 300, ("A", ETH): 900, ("B", BTC): 300, ("B", DOGE): 300, ("C", BTC): 900}
MODELS = ("delta", "turnover")
FIVE = pd.Timedelta(minutes=5)


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, run_of: RealRuns) -> tuple[Ran, str, str]:
    """Each set and symbol: the run, the name of the set, the symbol."""
    name, symbol = request.param
    return run_of(name), name, symbol


def samples_of(market_dir: Path, name: str, symbol: str) -> pd.Series[float]:
    """Read the samples of a set with nothing of ours: contracts by the instant they were taken."""
    one = SETS[name]
    folder = market_dir / "binance_vision/futures/um/daily/metrics" / symbol
    found: dict[pd.Timestamp, float] = {}
    for number in range((one.last - one.first).days + 1):
        day = one.first + timedelta(days=number)
        with zipfile.ZipFile(folder / f"{symbol}-metrics-{day}.zip") as archive:
            text = archive.read(archive.namelist()[0]).decode()
        for row in csv.DictReader(io.StringIO(text)):
            found[pd.Timestamp(row["create_time"])] = float(row["sum_open_interest"])
    return pd.Series(found).sort_index()


def test_the_run_is_published_and_its_facts_are_recorded(case: tuple[Ran, str, str]) -> None:
    ran, name, symbol = case
    one = SETS[name]
    assert f"{symbol}: {one.first} .. {one.last} computed and published (real data)" in ran.out
    (record,) = ran.ask("SELECT * FROM symbols WHERE symbol = ?", symbol).to_dict("records")
    bucket = {BTC: 100.0, ETH: 5.0, DOGE: 0.0005}[symbol]
    assert math.isnan(record.pop("lot")), "no file says it"
    assert record == {
        "symbol": symbol,
        "candle_interval_seconds": CANDLES[name, symbol],
        "bucket": bucket,
        "source": "archive",
        "simulated": False,
        "quote": "USDT",
        "exchange": "binance",
        "native_symbol": symbol,
        "base": symbol.removesuffix("USDT"),
        "margin": "linear",
        "contract_size": 1.0,
        "oi_sides": 1,
        "clock_rule": {"A": "price", "B": "price", "C": "convention"}[name],  # of the newest day
    }
    days = ran.ask("SELECT model, day, repairs, parameters FROM heatmap_days WHERE symbol = ? ORDER BY ALL", symbol)
    for model in MODELS:
        mine = days[days["model"] == model]
        assert list(mine["day"].dt.date) == [
            one.first + timedelta(days=number) for number in range((one.last - one.first).days + 1)
        ]
        for text in mine["parameters"]:
            parameters = json.loads(text)
            assert parameters["bucket"] == bucket
            assert parameters["candle_interval_seconds"] == CANDLES[name, symbol]
    for repairs in map(json.loads, days["repairs"]):
        assert repairs["held"] is False
        assert repairs["clock"]["offset_seconds"] == 0, "the labels of these sets are the instants of the samples"
    # The value of these files is contracts x open, so the clock can be measured, but for the few samples of a first
    # day, and for set C: a quarter of an hour and five minutes after it never both begin one of its candles.
    rules = [json.loads(text)["clock"]["rule"] for text in days["repairs"]]
    measured = {"A": len(rules) - 2, "B": len(rules), "C": 0}[name]
    assert (rules.count("price"), rules.count("convention")) == (measured, len(rules) - measured)
    if one.whole:
        assert symbol in (ran.home / "renders" / "index.html").read_text()
        assert (ran.home / "renders" / symbol / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    status = done("status", "--home", ran.home).stdout
    assert status.endswith("nothing is failed, stale or missing\n")
    assert "simulated" not in status
    assert f"market  Binance USDT-M perpetual: {', '.join(SETS[name].symbols)}\n" in status


def test_every_check_passed(case: tuple[Ran, str, str]) -> None:
    ran, name, symbol = case
    mine = {check: result for (of, check), result in ran.checks.items() if of == symbol}
    assert set(mine) == {rule.name for rule in RULES}
    failed = {check for check, (passed, _) in mine.items() if not passed}
    if name == "B":  # 36 candles of the first day and 253 of the last are all there are
        assert failed == {"candles_complete", "days_whole"}
        assert mine["candles_complete"][1]["missing_candles"] == 2 * 288 - 36 - 253
        assert mine["days_whole"][1]["days_not_whole"] == 1  # the last one ends at 21:05
    else:
        assert failed == set()


def test_the_books_of_turnover_hold_the_open_interest(case: tuple[Ran, str, str]) -> None:
    ran, _, symbol = case
    ledger = ran.ask("SELECT * FROM book_ledger WHERE symbol = ? AND model = 'turnover'", symbol)
    assert len(ledger) == 2 * ran.number(
        "SELECT count(*) FROM raw_candles WHERE symbol = ? AND open_time >= ?", symbol, ledger["timestamp"].min()
    )
    error = (ledger["located"] + ledger["unlocated"] - ledger["open_interest"]).abs()
    assert (error <= 1e-9 * ledger["open_interest"]).all(), error.max()
    assert (ledger[["located", "unlocated", "opened", "closed", "liquidated"]] >= 0).all(axis=None)


def test_open_interest_is_that_of_the_files(case: tuple[Ran, str, str], market_dir: Path) -> None:
    ran, name, symbol = case
    samples = samples_of(market_dir, name, symbol)
    query = (
        "SELECT timestamp, any_value(open_interest) AS level FROM book_ledger WHERE symbol = ? GROUP BY 1 ORDER BY 1"
    )
    ledger = ran.ask(query, symbol)
    assert ledger["timestamp"].iloc[0] == samples.index[0].ceil(f"{CANDLES[name, symbol]}s")
    ends = pd.DatetimeIndex(ledger["timestamp"] + pd.Timedelta(seconds=CANDLES[name, symbol]))
    level = pd.Series(ledger["level"].to_numpy(), index=ends)
    minute, hour = ends.minute, ends.hour
    if SETS[name].hourly:
        # Known at every full hour but midnight, whose sample stands in the file of the day that begins.
        hours = level[(minute == 0) & (hour > 0)]
        assert len(hours) >= 23 * 39
        assert (hours == samples.reindex(hours.index)).all()
        midnights = level[(minute == 0) & (hour == 0)]
        assert (
            midnights.to_numpy()
            == samples.reindex(ends[(minute == 0) & (hour == 0)] - pd.Timedelta(hours=1)).to_numpy()
        ).all()
        # Between two hours nothing leaves their range.
        low = pd.concat([samples, samples.shift(-1)], axis=1).min(axis=1).reindex(level.index, method="ffill")
        inside = level[hour > 0]
        assert (inside >= low.reindex(inside.index) * (1 - 1e-12)).all()
    else:
        # A sample taken at midnight belongs to the day in whose file it stands: in set B to the day that begins.
        known = ends.where((hour > 0) | (minute > 0) | (name == "C"), ends - FIVE)
        assert (level.to_numpy() == samples.reindex(known, method="ffill").to_numpy()).all()
    assert level.iloc[-1] == samples[samples.index <= level.index[-1]].iloc[-1]


def test_what_opened_closed_and_was_liquidated_is_the_ledger(case: tuple[Ran, str, str]) -> None:
    ran, _, symbol = case
    query = """
        WITH events AS (
            SELECT model, timestamp, CASE WHEN model = 'turnover' THEN side END AS side,
                coalesce(sum(quantity) FILTER (WHERE event_type = 'open'), 0) AS opened,
                coalesce(sum(quantity) FILTER (WHERE event_type = 'close'), 0) AS closed,
                coalesce(sum(quantity) FILTER (WHERE opened_at < timestamp), 0) AS liquidated,
                coalesce(sum(quantity) FILTER (WHERE event_type = 'liquidate' AND opened_at = timestamp), 0) AS at_once,
                coalesce(sum(volume) FILTER (WHERE event_type = 'liquidate'), 0) AS consumed
            FROM position_events WHERE symbol = $1 GROUP BY ALL
        )
        SELECT l.model,
            l.opened * CASE WHEN l.model = 'turnover' THEN 0.03 ELSE 1 END - coalesce(e.opened, 0) AS opened,
            l.closed - coalesce(e.closed, 0) AS closed,
            l.liquidated - coalesce(e.liquidated, 0) AS liquidated,
            l.liquidated_at_once - coalesce(e.at_once, 0) AS at_once,
            l.consumed_volume - coalesce(e.consumed, 0) AS consumed,
            l.open_interest AS scale, l.consumed_volume AS usdt
        FROM book_ledger AS l LEFT JOIN events AS e
        ON l.model = e.model AND l.timestamp = e.timestamp AND l.side IS NOT DISTINCT FROM e.side
        WHERE l.symbol = $1
    """
    found = ran.ask(query, symbol)
    assert set(found["model"]) == set(MODELS)
    for name in ("opened", "closed", "liquidated", "at_once"):
        assert (found[name].abs() <= 1e-9 * found["scale"]).all(), name
    assert (found["consumed"].abs() <= 1e-9 * found["usdt"] + 1e-4).all()


def test_flows_sum_to_the_change_of_open_interest(case: tuple[Ran, str, str]) -> None:
    ran, _, symbol = case
    query = """
        SELECT model, coalesce(CAST(side AS VARCHAR), 'both') AS book, sum(opened) AS opened, sum(closed) AS closed,
            sum(liquidated) AS liquidated, sum(dropped) AS dropped, arg_max(located + unlocated, timestamp) AS total,
            arg_max(open_interest, timestamp) AS last
        FROM book_ledger WHERE symbol = ? GROUP BY ALL
    """
    first = ran.number(
        "SELECT contracts FROM raw_open_interest WHERE symbol = ? ORDER BY snapshot_time LIMIT 1", symbol
    )
    row: Any  # pandas does not say what is in a row
    for row in ran.ask(query, symbol).itertuples():
        begun = first if row.model == "turnover" else 0.0
        end = begun + row.opened - row.closed - row.liquidated - row.dropped
        assert end == pytest.approx(row.total, rel=1e-9, abs=1e-6 * row.opened)
        if row.model == "turnover":
            assert row.dropped == 0
            assert row.total == pytest.approx(row.last, rel=1e-9)


def test_levels_are_liquidated_when_price_first_touches_them(case: tuple[Ran, str, str]) -> None:
    ran, _, symbol = case
    query = """
        WITH candles AS (
            SELECT open_time, low, high, close, lag(open_time) OVER w AS before, lag(low) OVER w AS low_before,
                lag(high) OVER w AS high_before
            FROM raw_candles WHERE symbol = $1 WINDOW w AS (ORDER BY open_time)
        )
        SELECT count(*) AS events,
            count(*) FILTER (WHERE c.open_time IS NULL) AS without_candle,
            count(*) FILTER (WHERE CASE e.side WHEN 'long' THEN liq_price < low ELSE liq_price > high END) AS untouched,
            count(*) FILTER (WHERE opened_at < before AND
                CASE e.side WHEN 'long' THEN liq_price >= low_before ELSE liq_price <= high_before END) AS late,
            count(*) FILTER (WHERE opened_at = timestamp AND
                CASE e.side WHEN 'long' THEN liq_price < close ELSE liq_price > close END) AS not_passed,
            count(*) FILTER (WHERE opened_at > timestamp) AS too_young,
            count(*) FILTER (WHERE (e.side = 'long') <> (liq_price < entry_price)) AS on_the_wrong_side
        FROM position_events AS e LEFT JOIN candles AS c ON c.open_time = e.timestamp
        WHERE e.symbol = $1 AND e.event_type = 'liquidate'
    """
    (found,) = ran.ask(query, symbol).to_dict("records")
    assert found.pop("events") > 100
    assert set(found.values()) == {0}, found
    # And what is still open at the end of a day was not touched by it, unless it opened in the day's last candle.
    query = """
        WITH last AS (SELECT day, max(open_time) AS open_time FROM raw_candles WHERE symbol = $1 GROUP BY 1)
        SELECT count(*) FROM open_positions AS p JOIN last AS l USING (day)
        JOIN raw_candles AS c ON c.symbol = p.symbol AND c.open_time = l.open_time
        WHERE p.symbol = $1 AND p.opened_at < c.open_time
            AND CASE p.side WHEN 'long' THEN liq_price >= low ELSE liq_price <= high END
    """
    assert ran.number(query, symbol) == 0


def test_snapshots_are_the_books_by_bucket(case: tuple[Ran, str, str]) -> None:
    ran, _, symbol = case
    # The last snapshot of each day whose lots are stored against them.
    query = """
        WITH lots AS (
            SELECT model, day, side, CAST(round(liq_price * 1e8) AS BIGINT) // CAST(round(bucket * 1e8) AS BIGINT) AS n,
                sum(volume) AS volume
            FROM open_positions JOIN symbols USING (symbol) WHERE symbol = $1 GROUP BY ALL
        ), ends AS (
            SELECT model, CAST(timestamp AS DATE) AS day, time_bucket(INTERVAL 15 MINUTE, max(timestamp)) AS timestamp
            FROM book_ledger WHERE symbol = $1 GROUP BY ALL
        ), cells AS (
            SELECT s.model, e.day, side, CAST(round(price_bucket / bucket) AS BIGINT) AS n, active_volume AS volume
            FROM liquidation_snapshots AS s JOIN ends AS e ON s.model = e.model AND s.timestamp = e.timestamp
            JOIN symbols USING (symbol) WHERE s.symbol = $1 AND active_volume > 0
        )
        SELECT l.volume AS lots, c.volume AS cells FROM lots AS l FULL JOIN cells AS c USING (model, day, side, n)
        SEMI JOIN (SELECT model, day FROM lot_days WHERE symbol = $1) USING (model, day)
    """
    found = ran.ask(query, symbol)
    assert len(found) > 100
    # A cell whose last lot is all but closed may stand on one side only; what is in it is a rounding.
    found = found.fillna(0.0)
    assert ((found["lots"] - found["cells"]).abs() <= 1e-9 * found["lots"] + 1e-4).all()
    # Every snapshot against the ledger: the state at its end, the sum of what was consumed within.
    query = """
        WITH ledger AS (
            SELECT model, time_bucket(INTERVAL 15 MINUTE, timestamp) AS timestamp, sum(consumed_volume) AS consumed,
                sum(active_volume) FILTER (WHERE timestamp = newest) AS active
            FROM (SELECT *, max(timestamp) OVER quarter AS newest FROM book_ledger WHERE symbol = $1
                  WINDOW quarter AS (PARTITION BY model, time_bucket(INTERVAL 15 MINUTE, timestamp)))
            GROUP BY ALL
        ), cells AS (
            SELECT model, timestamp, sum(active_volume) AS active, sum(consumed_volume) AS consumed
            FROM liquidation_snapshots WHERE symbol = $1 GROUP BY ALL
        )
        SELECT l.active - coalesce(c.active, 0) AS active, l.consumed - coalesce(c.consumed, 0) AS consumed,
            l.active AS total, l.consumed AS eaten, l.timestamp IS NULL AS unknown
        FROM ledger AS l FULL JOIN cells AS c USING (model, timestamp)
    """
    found = ran.ask(query, symbol)
    assert not found["unknown"].any()
    assert (found["active"].abs() <= 1e-9 * found["total"] + 1e-4).all()
    assert (found["consumed"].abs() <= 1e-9 * found["eaten"] + 1e-4).all()


def test_views_say_what_the_snapshots_say(case: tuple[Ran, str, str]) -> None:
    ran, name, symbol = case
    # Every cell of the last days is where the heatmap has it, and the heatmap has nothing else.
    query = """
        WITH cells AS (FROM liquidation_snapshots WHERE symbol = $1 AND timestamp >= $2),
        wide AS (FROM heatmap WHERE symbol = $1 AND timestamp >= $2)
        SELECT count(*) FILTER (WHERE h.symbol IS NULL OR (s.active_volume, s.consumed_volume) <> CASE s.side
                WHEN 'long' THEN (long_volume, long_consumed_volume) ELSE (short_volume, short_consumed_volume) END)
            + abs(count(*) - (SELECT sum((long_volume + long_consumed_volume > 0)::INT
                + (short_volume + short_consumed_volume > 0)::INT) FROM wide))
        FROM cells AS s LEFT JOIN wide AS h USING (symbol, model, timestamp, price_bucket)
    """
    assert ran.number(query, symbol, SETS[name].last - timedelta(days=4)) == 0
    bucket = ran.number("SELECT bucket FROM symbols WHERE symbol = ?", symbol)
    close = ran.number("SELECT arg_max(close, open_time) FROM raw_candles WHERE symbol = ?", symbol)
    query = """
        SELECT * FROM heatmap WHERE symbol = $1 AND model = $2 AND long_volume + short_volume > 0
        AND timestamp = (SELECT time_bucket(INTERVAL 15 MINUTE, max(timestamp)) FROM book_ledger WHERE symbol = $1)
        ORDER BY price_bucket
    """
    for model in MODELS:
        newest = ran.ask(query, symbol, model)
        chart = ran.ask("SELECT * FROM liquidation_map WHERE symbol = ? AND model = ?", symbol, model)
        if newest.empty:  # `delta` forgets everything where open interest ends below where it began
            assert model == "delta"
            assert chart.empty
        else:
            pd.testing.assert_frame_equal(chart[list(SHARED)], newest[list(SHARED)])
            _is_a_map(chart, close, bucket)


SHARED = ("symbol", "model", "timestamp", "price_bucket", "long_volume", "short_volume")


def _is_a_map(chart: pd.DataFrame, close: float, bucket: float) -> None:
    """Assert what the columns say of the price, and that longs lie below it and shorts above."""
    scale = float(chart[["long_volume", "short_volume"]].to_numpy().sum())
    assert (chart["close"] == close).all()
    distance = 100 * (chart["price_bucket"] / close - 1)
    assert chart["distance_percent"].to_numpy() == pytest.approx(distance.to_numpy(), abs=1e-9)
    below, above = chart[chart["price_bucket"] <= close], chart[chart["price_bucket"] > close]
    longs = below["long_volume"][::-1].cumsum()[::-1].to_numpy()
    shorts = above["short_volume"].cumsum().to_numpy() + below["short_volume"].sum()
    assert below["cumulative_volume"].to_numpy() == pytest.approx(longs, abs=1e-9 * scale)
    assert above["cumulative_volume"].to_numpy() == pytest.approx(shorts, abs=1e-9 * scale)
    # The bucket that holds the price may hold both.
    assert (chart.loc[chart["long_volume"] > 0, "price_bucket"] <= close).all()
    assert (chart.loc[chart["short_volume"] > 0, "price_bucket"] + bucket > close).all()


def test_the_violent_days_are_the_ones_that_consume_most(run_of: RealRuns) -> None:
    query = """
        SELECT CAST(timestamp AS DATE) AS day, sum(volume) AS volume FROM position_events
        WHERE symbol = ? AND model = 'turnover' AND event_type = 'liquidate' AND side = 'long'
        GROUP BY 1 ORDER BY 2 DESC
    """
    for symbol in (BTC, ETH):
        days = run_of("A").ask(query, symbol)["day"].dt.date.tolist()
        assert {date(2024, 7, 4), date(2024, 7, 5)} <= set(days[:5]), (symbol, days[:5])
    hours = run_of("A").ask(query.replace("CAST(timestamp AS DATE)", "date_trunc('hour', timestamp)"), BTC)["day"]
    worst = pd.Timestamp("2024-07-04 22:00"), pd.Timestamp("2024-07-05 06:00")
    assert hours.head(10).between(*worst).sum() >= 2, hours.head(10).tolist()


LIQUIDATED = """
    SELECT date_trunc('hour', timestamp) AS hour, sum(quantity) AS quantity FROM position_events
    WHERE symbol = ? AND model = ? AND side = ? AND event_type = 'liquidate' GROUP BY 1
"""


def agreement(ran: Ran, market_dir: Path, symbol: str, model: str, side: str) -> float:
    """Return Spearman's rank correlation of modelled and real liquidated quantity per hour, 2024-06-24 .. 07-28."""
    (path,) = (market_dir / "liquidations").glob(f"{symbol}-liquidations-1h-*.csv.gz")
    real = pd.read_csv(path)
    real = real[real["side"] == side.upper()]
    hours = pd.DatetimeIndex(pd.to_datetime(real["time"], utc=True)).tz_localize(None)
    quantity = pd.Series(real["quantity"].to_numpy(), index=hours)["2024-06-24":"2024-07-28"]
    assert len(quantity) > 800
    modelled = ran.ask(LIQUIDATED, symbol, model, side).set_index("hour")["quantity"]
    return float(quantity.rank().corr(modelled.reindex(quantity.index).fillna(0.0).rank()))


def test_modelled_liquidations_come_when_real_ones_did(
    run_of: RealRuns, market_dir: Path, record_property: Callable[[str, object], None]
) -> None:
    found = {
        (symbol, model, side): agreement(run_of("A"), market_dir, symbol, model, side)
        for symbol in (BTC, ETH)
        for model in MODELS
        for side in ("long", "short")
    }
    for (symbol, model, side), value in found.items():
        print(f"Spearman {symbol} {model} {side}: {value:.3f}")  # noqa: T201  # shown by pytest -s and on failure
        record_property(f"spearman_{symbol}_{model}_{side}", round(value, 3))
    # Measured: turnover .876 / .856 and .853 / .829 (long / short of BTC and ETH), delta .68 / .64 and .62 / .54.
    least = {(BTC, "long"): 0.870, (BTC, "short"): 0.850, (ETH, "long"): 0.848, (ETH, "short"): 0.822}
    for symbol in (BTC, ETH):
        for side in ("long", "short"):
            assert found[symbol, "turnover", side] >= least[symbol, side]
            assert found[symbol, "delta", side] > 0.5
            assert found[symbol, "turnover", side] > found[symbol, "delta", side] + 0.1


def test_a_day_with_hourly_candles_only_is_refused(market_dir: Path, tmp_path: Path) -> None:
    days = ("--start", "2024-10-28", "--end", "2024-10-28")
    result = heatmap("run", BTC, "--archive", market_dir / "binance_vision", *days, "--home", tmp_path)
    refused(result, 1, BTC, "2024-10-28", "holds no candles", "5m: 2024-06-19 to 2024-07-28", "choose days it holds")
    assert not published(tmp_path).exists()


# -- liquidations that really happened


@pytest.mark.parametrize(("symbol", "listed", "long", "short"), [(BTC, 923, 5404, 3524), (ETH, 912, 76085, 42123)])
def test_the_real_sums_stand_beside_the_map_hour_by_hour(
    run_of: RealRuns, market_dir: Path, symbol: str, listed: int, long: float, short: float
) -> None:
    ran = run_of("A")
    hours = ran.ask(
        "SELECT hour, side, reported, recorded, source FROM liquidations_hourly "
        "WHERE symbol = ? AND model = 'turnover'",
        symbol,
    )
    assert len(hours) == 2 * 939, "the history begins with the first sample, in the hour in which the record does"
    assert set(hours["source"]) == {"binance_file"}
    total = hours.groupby("side", observed=True)["reported"].sum()
    assert (round(total["long"]), round(total["short"])) == (long, short)
    # Recorded is from the first hour of the file to its last; what it does not list between is 0.
    assert hours["recorded"].all()
    assert hours["hour"].min() == pd.Timestamp("2024-06-19 21:00")
    assert hours["reported"].notna().all()
    per_hour = hours.groupby("hour")["reported"].sum()
    assert int((per_hour == 0).sum()) == 939 - listed
    (path,) = (market_dir / "liquidations").glob(f"{symbol}-liquidations-1h-*.csv.gz")
    file = pd.read_csv(path, parse_dates=["time"])
    wanted = file.assign(side=file["side"].str.lower(), time=file["time"].dt.tz_localize(None))
    quantities = wanted.set_index(["time", "side"])["quantity"]
    found = hours.assign(side=hours["side"].astype(str)).set_index(["hour", "side"])["reported"]
    pd.testing.assert_series_equal(
        found.loc[quantities.index], quantities, check_names=False, check_index=False, rtol=1e-12, check_dtype=False
    )


def test_other_sets_have_no_record_and_no_hour_of_theirs_is_zero(run_of: RealRuns) -> None:
    ran = run_of("B")
    assert ran.number("SELECT count(*) FROM raw_liquidations") == ran.number("SELECT count(*) FROM recorded") == 0
    assert ran.number("SELECT count(reported) FROM liquidations_hourly") == 0
    assert ran.number("SELECT count(*) FROM liquidations_hourly WHERE NOT recorded") > 400


# -- zones


@pytest.fixture(scope="module")
def past(run_of: RealRuns) -> Iterator[dict[str, Source]]:
    """The `turnover` history of both symbols of set A, as views read it."""
    with Warehouse(run_of("A").home).read() as con:
        version = load_version(con, MODELS)
        yield {
            symbol.name: Source(version, symbol, symbol.models["turnover"], None, Books(64 << 20))
            for symbol in version.several(list(version.symbols))
        }


@pytest.mark.parametrize("symbol", [BTC, ETH])
def test_the_nearest_zone_is_the_same_however_far_one_looks(past: dict[str, Source], symbol: str) -> None:
    """Of 40 days, every 20th hour: `nearest` for 5, 10 and 20 %, and the nearest of those that are listed then."""
    source = past[symbol]
    step = 20 * 3600 // source.symbol.candles.seconds
    same = listed_same = 0
    instants = range(step, len(source.model.times), step)
    for at in instants:
        records = [map_record(source, at, None, within) for within in (5.0, 10.0, 20.0)]
        above = [record["nearest"]["above"] for record in records]
        assert above[0] is not None
        same += above[0] == above[1] == above[2]
        # Where something is listed within 5 %, more of a look finds nothing nearer.
        closest: list[Any] = [
            min(record["clusters"]["above"], key=lambda zone: zone["distance_percent"], default=None)
            for record in records[:2]
        ]
        listed_same += closest[0] is None or closest[0]["low"] == closest[1]["low"]
    assert len(instants) > 40
    assert same == len(instants)
    assert listed_same >= 0.95 * len(instants)


@pytest.mark.parametrize(("symbol", "end"), [(BTC, "2024-07-05T08:00"), (BTC, "2024-07-28T20:00"), (ETH, "2024-07-20")])
def test_the_zones_of_an_instant_are_the_same_in_every_range(past: dict[str, Source], symbol: str, end: str) -> None:
    source = past[symbol]
    last = int(np.datetime64(end, "us").astype(np.int64))
    found = []
    for interval, days, rows in (("15m", 0.5, 1000), ("15m", 7, 400), ("1h", 15, 400), ("4h", 30, 60)):
        seconds = SECONDS[interval]
        first = max(last - round(days * DAY), source.model.begin)
        window = make_window(symbol, source.model.begin, source.model.end, seconds, first, last)
        heatmap = make_heatmap(source, window, interval, None, rows)
        zones = as_columns(heatmap, (), lots_of(heatmap)).zones
        newest = zones.zones.book == window.count - 1
        found.append(
            [
                (zone.side, zone.low, zone.high, zone.peak, round(zone.volume, 2), since)
                for zone, since in zip(zones.zones.of(window.count - 1), zones.since[newest], strict=True)
            ]
        )
        assert np.isfinite(zones.since[newest]).all()
    assert len({side for side, *_ in found[0]}) == 2
    assert found[1:] == [found[0]] * 3


@pytest.mark.parametrize("symbol", [BTC, ETH])
def test_the_nearest_zone_stands_from_one_quarter_of_an_hour_to_the_next(past: dict[str, Source], symbol: str) -> None:
    source = past[symbol]
    model = source.model
    window = make_window(symbol, model.begin, model.end, 900, model.end - 30 * DAY, model.end)
    zones = zones_of_window(source, window, replay(source, window.first, window.last, 900)).zones
    for side in (LONG, SHORT):
        rows = np.flatnonzero(zones.side == side)
        rows = rows[np.lexsort((np.abs(zones.distance_percent[rows]), zones.book[rows]))]
        rows = rows[np.unique(zones.book[rows], return_index=True)[1]]
        low, high, book = zones.low[rows], zones.high[rows], zones.book[rows]
        stands = (low[1:] < high[:-1]) & (low[:-1] < high[1:])
        assert len(stands) > 2_800
        assert stands[np.diff(book) == 1].mean() >= 0.95
