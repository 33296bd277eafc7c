"""What is answered is what is stored: every interval, bin size, model and format against SQL.

Other leverage weights are held against the model over the raw rows.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.instants import DAY, MICROSECONDS, SECONDS, day_start, iso
from heatmap_pipeline.model.heatmap import calculate_time_evolving_heatmap
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.sql import day_bounds
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views import replay as replays
from heatmap_pipeline.views.data import published_version
from heatmap_pipeline_tests.api.homes import BTC, ETH, HEATMAP, MAP, TestClient, ask, day, rows

BUCKET = 100.0
WHOLE = {"start_time": "2024-01-01"}
CLOSE: dict[str, Any] = {"rel": 1e-9, "abs": 1e-4}
WEIGHTS = "5:2,20:1,75:0.5"
PARSED = {5.0: 2.0, 20.0: 1.0, 75.0: 0.5}


# Snapshots are as fine as candles here, so a bin's state is that of an interval's last candle in the ledger.
_IN_BINS = """
WITH candles AS (
    SELECT DISTINCT timestamp, time_bucket(to_seconds($1), timestamp) AS step FROM book_ledger
    WHERE symbol = $3 AND model = $4 AND timestamp >= $5 AND timestamp < $6
),
intervals AS (SELECT timestamp, step, timestamp = max(timestamp) OVER (PARTITION BY step) AS is_last FROM candles),
cells AS (
    SELECT i.step, i.is_last, c.* FROM intervals AS i JOIN liquidation_snapshots AS c USING (timestamp)
    WHERE c.symbol = $3 AND c.model = $4
)
SELECT strftime(step, '%Y-%m-%dT%H:%M:%SZ') AS time, floor(price_bucket / $2) * $2 AS price,
    coalesce(sum(active_volume) FILTER (is_last AND side = 'long'), 0) AS long,
    coalesce(sum(active_volume) FILTER (is_last AND side = 'short'), 0) AS short,
    coalesce(sum(consumed_volume) FILTER (side = 'long'), 0) AS consumed_long,
    coalesce(sum(consumed_volume) FILTER (side = 'short'), 0) AS consumed_short
FROM cells GROUP BY ALL
"""


def nested_cells(body: dict[str, Any]) -> dict[tuple[str, float], tuple[float, float]]:
    """Return long and short of every level by timestamp and price."""
    found = {
        (one["timestamp"], level["price"]): (level["long_density"], level["short_density"])
        for one in body["data"]
        for level in one["levels"]
    }
    assert len(found) == sum(len(one["levels"]) for one in body["data"]), "a level stands twice"
    return found


def column_cells(body: dict[str, Any], name: str) -> dict[tuple[str, float], float]:
    """Return the volume of every cell of one column by timestamp and price."""
    part = body[name]
    assert len(part["time"]) == len(part["price"]) == len(part["volume"])
    order = list(zip(part["time"], part["price"], strict=True))
    assert order == sorted(set(order)), "sorted by time, then price, each cell once"
    stamps = [f"{stamp}Z" for stamp in np.array(body["timestamps"], dtype="datetime64[ms]").astype("datetime64[s]")]
    return {
        (stamps[time], body["prices"][price]): volume
        for time, price, volume in zip(part["time"], part["price"], part["volume"], strict=True)
    }


def stored_cells(settings: Settings, model: str, interval: str, bin_size: float, days: tuple[int, int]) -> pd.DataFrame:
    """Return what SQL says of some days, in bins: time, price, long, short, consumed_long, consumed_short."""
    start, end = day_bounds(day(days[0]), day(days[1]))
    with Warehouse(settings.home).read() as con:
        return con.execute(_IN_BINS, [SECONDS[interval], bin_size, BTC, model, start, end]).df()


@pytest.mark.parametrize("model", ["turnover", "delta"])
@pytest.mark.parametrize(
    ("interval", "bin_size", "days"),
    [
        ("5m", 500, (3, 3)),
        ("15m", 100, (3, 3)),
        ("1h", 300, (2, 4)),
        ("4h", 100, (1, 5)),
        ("4h", 1000, (1, 5)),
        ("1d", 200, (1, 5)),
    ],
)
def test_every_cell_equals_sql_in_both_formats(
    published: Settings, served: TestClient, model: str, interval: str, bin_size: float, days: tuple[int, int]
) -> None:
    window = {"start_time": day(days[0]), "end_time": day(days[1] + 1)}
    query: dict[str, Any] = {"model": model, "interval": interval, "price_bin_size": bin_size, **window}
    body = ask(served, **query)
    columns = ask(served, format="columns", **query)
    expected = stored_cells(published, model, interval, bin_size, days)
    keys = list(zip(expected["time"], expected["price"], strict=True))

    assert body["meta"]["price_bin_size"] == bin_size
    nested = nested_cells(body)
    for side, at in (("long", 0), ("short", 1)):
        wanted = {key: volume for key, volume in zip(keys, expected[side], strict=True) if volume > 5e-5}
        assert {key: pair[at] for key, pair in nested.items() if pair[at] > 0} == pytest.approx(wanted, **CLOSE)
        assert column_cells(columns, side) == {key: pair[at] for key, pair in nested.items() if pair[at] > 0}
        dead = f"consumed_{side}"
        wanted = {key: volume for key, volume in zip(keys, expected[dead], strict=True) if volume > 5e-5}
        assert wanted, "nothing was consumed: the test tests nothing"
        assert column_cells(columns, dead) == pytest.approx(wanted, **CLOSE)
        by_time = expected.groupby("time")[dead].sum()
        answered = {one["timestamp"]: one[dead] for one in body["data"] if one[dead] > 0}
        assert answered == pytest.approx(by_time[by_time > 0].to_dict(), **CLOSE)
    newest = expected[expected["time"] == expected["time"].max()]
    meta = body["meta"]
    assert meta["total_long_volume"] == pytest.approx(newest["long"].sum(), **CLOSE)
    assert meta["total_short_volume"] == pytest.approx(newest["short"].sum(), **CLOSE)
    dead_sum = expected[["consumed_long", "consumed_short"]].to_numpy().sum()
    assert meta["total_consumed"] == pytest.approx(dead_sum, **CLOSE)
    assert {name: columns["meta"][name] for name in meta} == meta


def test_plain_sums_of_the_table(published: Settings, served: TestClient) -> None:
    for model in ("turnover", "delta"):
        body = ask(served, model=model, interval="5m", start_time=day(2), end_time=day(3))
        ((active, consumed),) = rows(
            published,
            "SELECT sum(active_volume), sum(consumed_volume) FROM liquidation_snapshots WHERE symbol = ? AND model = ? "
            "AND timestamp >= ? AND timestamp < ?",
            BTC, model, datetime(2024, 1, 4), datetime(2024, 1, 5),
        )  # fmt: skip
        answered = [level for one in body["data"] for level in one["levels"]]
        assert sum(one["long_density"] + one["short_density"] for one in answered) == pytest.approx(active, rel=1e-9)
        assert body["meta"]["total_consumed"] == pytest.approx(consumed, rel=1e-9)
        assert sum(one["consumed_long"] + one["consumed_short"] for one in body["data"]) == pytest.approx(
            consumed, rel=1e-9
        )
        assert body["meta"]["total_snapshots"] == len(body["data"]) == 288


def test_counts_and_the_located_share_equal_the_tables(published: Settings, served: TestClient) -> None:
    body = ask(served, interval="4h", start_time=day(2), end_time=day(4))
    found = rows(
        published,
        "SELECT time_bucket(INTERVAL 4 HOUR, timestamp) AS t, count(*) FILTER (WHERE event_type = 'open'), "
        "count(*) FILTER (WHERE event_type = 'liquidate') FROM position_events WHERE symbol = ? AND model = 'turnover' "
        "AND timestamp >= ? AND timestamp < ? GROUP BY t ORDER BY t",
        BTC, *day_bounds(day(2), day(3)),
    )  # fmt: skip
    answered = [(one["timestamp"], one["positions_created"], one["positions_consumed"]) for one in body["data"]]
    assert answered == [(f"{time.isoformat()}Z", created, consumed) for time, created, consumed in found]
    assert sum(one[2] for one in answered) > 0
    ((share,),) = rows(
        published,
        "SELECT sum(located) / sum(open_interest) FROM book_ledger WHERE symbol = ? AND model = 'turnover' "
        "AND timestamp = ?",
        BTC, day_bounds(day(3))[1] - timedelta(minutes=5),
    )  # fmt: skip
    assert body["meta"]["located_share"] == pytest.approx(share, rel=1e-12)
    assert body["meta"]["coverage"] == body["meta"]["located_share"], "its deprecated name has the same value"


def raw_market(settings: Settings, symbol: str, *days: Any) -> tuple[pd.DataFrame, np.ndarray[Any, Any], float]:
    """Return the candles of days, the flow of each by the ledger, and the first sample: what a model starts from."""
    start, end = day_bounds(days[0], days[-1])
    with Warehouse(settings.home).read() as con:
        candles = con.execute(
            "SELECT open_time, open, high, low, close, volume FROM raw_candles JOIN "
            "(SELECT DISTINCT timestamp FROM book_ledger WHERE symbol = $1 AND model = 'turnover') "
            "ON open_time = timestamp WHERE symbol = $1 AND open_time >= $2 AND open_time < $3 ORDER BY open_time",
            [symbol, start, end],
        ).df()
        first = con.execute(
            "SELECT contracts FROM raw_open_interest WHERE symbol = ? AND day = ? ORDER BY snapshot_time LIMIT 1",
            [symbol, days[0]],
        ).fetchall()[0][0]
        level = con.execute(
            "SELECT open_interest FROM book_ledger WHERE symbol = ? AND model = 'turnover' AND side = 'long' "
            "AND timestamp >= ? AND timestamp < ? ORDER BY timestamp",
            [symbol, start, end],
        ).fetchnumpy()["open_interest"]
    return candles, np.diff(level, prepend=first), first


@pytest.mark.parametrize("model", ["turnover", "delta"])
@pytest.mark.parametrize(
    ("symbol", "days", "asked"),
    [
        (BTC, (1, 5), {"start_time": day(3)}),
        (BTC, (1, 5), {"start_time": day(5)}),
        (ETH, (4, 5), {"start_time": day(5)}),
    ],
)
def test_other_weights_equal_the_model_over_the_raw_rows(
    published: Settings, served: TestClient, model: str, symbol: str, days: tuple[int, int], asked: dict[str, Any]
) -> None:
    candles, flow, first = raw_market(published, symbol, day(days[0]), day(days[1]))
    bucket = ask(served, "/symbols", None)["symbols"][0 if symbol == BTC else 1]["bucket"]
    snapshots = calculate_time_evolving_heatmap(
        candles,
        flow,
        symbol=symbol,
        model=model,
        start_open_interest=first,
        leverage_weights=PARSED,
        bucket=bucket,
    )
    body = ask(served, symbol=symbol, model=model, interval="15m", leverage_weights=WEIGHTS, **asked)
    by_end = {one.timestamp + 300_000_000: one for one in snapshots}
    compared = 0
    for one in body["data"]:
        end = int(pd.Timestamp(one["timestamp"]).value // 1000) + 900_000_000
        expected = by_end[end]
        sums = [sum(level[f"{side}_density"] for level in one["levels"]) for side in ("long", "short")]
        assert sums[0] == pytest.approx(expected.total_long_volume, rel=1e-9, abs=1e-2)
        assert sums[1] == pytest.approx(expected.total_short_volume, rel=1e-9, abs=1e-2)
        before = [by_end[end - more * 300_000_000] for more in range(3)]
        assert one["consumed_long"] == pytest.approx(sum(part.consumed_long for part in before), **CLOSE)
        assert one["consumed_short"] == pytest.approx(sum(part.consumed_short for part in before), **CLOSE)
        assert one["positions_consumed"] == sum(part.positions_consumed for part in before)
        compared += len(one["levels"])
    assert compared > 1000
    last, cells = body["data"][-1], snapshots[-1]
    answered = {
        (level["price"], side): level[f"{side}_density"]
        for level in last["levels"]
        for side in ("long", "short")
        if level[f"{side}_density"] > 0
    }
    expected_cells = {
        (float(price), "long" if side > 0 else "short"): float(volume)
        for price, side, volume in zip(cells.price_buckets, cells.sides, cells.active_volumes, strict=True)
        if volume > 5e-5
    }
    assert answered == pytest.approx(expected_cells, **CLOSE)
    assert body["meta"]["leverage_weights"] == [[5.0, 2 / 3.5], [20.0, 1 / 3.5], [75.0, 0.5 / 3.5]]


def test_the_models_own_weights_said_aloud_are_its_own(served: TestClient) -> None:
    own = {
        "delta": ["5:15,10:30,25:25,50:20,100:10", "100:20, 50:40,25:50,10:60,5:30,20:0"],
        "turnover": [",".join(f"{leverage}:{leverage**-0.5!r}" for leverage in (3, 5, 10, 20, 25, 50, 75, 100, 125))],
    }
    for model, texts in own.items():
        plain = served.get(HEATMAP, params={"symbol": BTC, "model": model, "interval": "1h"})
        for text in texts:
            said = served.get(
                HEATMAP, params={"symbol": BTC, "model": model, "interval": "1h", "leverage_weights": text}
            )
            assert said.content == plain.content
        other = ask(served, model=model, interval="1h", leverage_weights="10:1")
        assert other["data"] != plain.json()["data"]


def test_other_weights_are_the_same_numbers_whatever_was_asked_before(published: Settings, served: TestClient) -> None:
    from heatmap_pipeline_tests.api.homes import client

    query = {"interval": "1h", "leverage_weights": "7:1,33:2", "start_time": str(day(4))}
    ask(served, interval="1h", leverage_weights="7:1,33:2", start_time=day(2))
    warm = served.get(HEATMAP, params={"symbol": BTC, **query})
    with client(published) as fresh:
        assert fresh.get(HEATMAP, params={"symbol": BTC, **query}).content == warm.content


def test_a_history_that_begins_anew_after_a_gap(published: Settings, served: TestClient) -> None:
    body = ask(served, symbol=ETH, interval="4h", **WHOLE)
    stamps = [one["timestamp"][:10] for one in body["data"]]
    assert sorted(set(stamps)) == [str(day(number)) for number in (1, 2, 4, 5)]
    columns = ask(served, symbol=ETH, interval="4h", format="columns", **WHOLE)
    assert np.unique(np.diff(columns["timestamps"])).tolist() == [4 * 3_600_000], "evenly spaced, none left out"
    assert len(columns["timestamps"]) == 30
    gap = set(range(12, 18))
    for name in ("long", "short", "consumed_long", "consumed_short"):
        assert not gap & set(columns[name]["time"])
    start, end = day_bounds(day(4), day(5))
    ((active,),) = rows(
        published,
        "SELECT sum(active_volume) FROM liquidation_snapshots WHERE symbol = ? AND model = 'turnover' "
        "AND timestamp IN (SELECT time_bucket(INTERVAL 4 HOUR, timestamp) + INTERVAL 235 MINUTE "
        "FROM liquidation_snapshots) AND timestamp >= ? AND timestamp < ?",
        ETH, start, end,
    )  # fmt: skip
    late = [level for one in body["data"][12:] for level in one["levels"]]
    assert sum(one["long_density"] + one["short_density"] for one in late) == pytest.approx(active, rel=1e-9)


def test_columns_candles_are_the_stored_ones(published: Settings, served: TestClient) -> None:
    body = ask(served, interval="1h", start_time=day(2), end_time=day(3), format="columns")
    bars = body["candles"]
    stored = rows(
        published,
        "SELECT epoch_ms(open_time), open, high, low, close, volume FROM raw_candles WHERE symbol = ? AND day = ? "
        "ORDER BY open_time",
        BTC, day(2),
    )  # fmt: skip
    names = ("open_time", "open", "high", "low", "close", "volume")
    assert bars["interval_seconds"] == 300, "finer than the interval while there are few"
    assert list(zip(*(bars[name] for name in names), strict=True)) == stored
    assert body["meta"]["price"] == stored[-1][4]
    assert body["prices"] == list(np.arange(body["prices"][0], body["prices"][-1] + 1, BUCKET))
    assert set(body["long"]["price"]) | set(body["short"]["price"]) >= {0, len(body["prices"]) - 1}


def test_the_map_is_the_view(published: Settings, served: TestClient) -> None:
    for model in ("turnover", "delta"):
        body = ask(served, MAP, model=model)
        view = rows(
            published,
            "SELECT price_bucket, long_volume, short_volume, distance_percent, cumulative_volume, close "
            "FROM liquidation_map WHERE symbol = ? AND model = ? ORDER BY price_bucket",
            BTC, model,
        )  # fmt: skip
        assert body["price"] == view[0][5]
        assert body["time"] == body["as_of"] == f"{day(6)}T00:00:00Z"
        assert len(body["buckets"]) == len(view) > 10
        for one, (price, long, short, distance, cumulative, _) in zip(body["buckets"], view, strict=True):
            side = "cumulative_long" if price <= body["price"] else "cumulative_short"
            answered = [one[name] for name in ("price", "long", "short", "distance_percent", side)]
            assert answered == pytest.approx([price, long, short, distance, cumulative], rel=1e-9, abs=1e-4)
        assert body["total_long_volume"] == pytest.approx(sum(one[1] for one in view), **CLOSE)


def test_the_map_at_a_time_is_the_newest_state_by_then(served: TestClient) -> None:
    body = ask(served, MAP, time=f"{day(3)}T12:07:30Z", price_bin_size=200)
    series = ask(served, interval="5m", start_time=f"{day(3)}T12:00", end_time=f"{day(3)}T12:05", price_bin_size=200)
    assert body["time"] == f"{day(3)}T12:05:00Z"
    levels = [(one["price"], one["long"], one["short"]) for one in body["buckets"]]
    (snapshot,) = series["data"]
    assert levels == [(one["price"], one["long_density"], one["short_density"]) for one in snapshot["levels"]]
    assert body["located_share"] == series["meta"]["located_share"] == body["coverage"]
    assert ask(served, MAP, time="9999-12-31T23:59:59+00:00")["time"] == f"{day(6)}T00:00:00Z"
    at_midnight = ask(served, MAP, time=day(4))
    assert at_midnight["time"] == f"{day(4)}T00:00:00Z", "the state that day 3 left"


def test_clusters_are_the_zones_near_the_price(served: TestClient) -> None:
    near, far = ask(served, MAP, within_percent=3), ask(served, MAP, within_percent=1000)
    assert near["buckets"] == far["buckets"], "the book itself is whole either way"
    assert near["nearest"] == far["nearest"], "it does not depend on where one looks"
    distances = [abs(one["distance_percent"]) for where in ("above", "below") for one in near["clusters"][where]]
    assert max(distances, default=0) <= 3
    assert max(abs(one["distance_percent"]) for one in far["clusters"]["below"]) > 3
    for where, side in (("above", "short"), ("below", "long")):
        listed = far["clusters"][where]
        assert [zone["volume"] for zone in listed] == sorted((zone["volume"] for zone in listed), reverse=True)
        for zone in [*listed, far["nearest"][where]]:
            inside = [one[side] for one in far["buckets"] if zone["low"] <= one["price"] < zone["high"]]
            assert zone["volume"] == pytest.approx(sum(inside), rel=1e-9, abs=1e-3)
            assert zone["low"] < zone["peak"] < zone["high"]
            assert zone["low"] < zone["price"] < zone["high"]
            assert zone["distance_percent"] == pytest.approx(100 * (zone["price"] / far["price"] - 1), abs=1e-5)
            assert 0 <= zone["share"] <= 1
            assert f"{day(1)}T00:00:00Z" <= zone["since"] < far["time"]
            assert zone["side"] == side
    assert ask(served, MAP)["within_percent"] == 10
    assert ask(served, MAP, within_percent=0.1)["clusters"] == {"above": [], "below": []}


def test_zones_do_not_depend_on_bins_windows_or_formats(served: TestClient) -> None:
    """The map in any price bin, and the columns of any window that ends then, tell the same zones."""
    end = f"{day(4)}T06:00"
    expected = ask(served, MAP, time=end)
    assert ask(served, MAP, time=end, price_bin_size=1000)["nearest"] == expected["nearest"]
    assert ask(served, MAP, time=end, within_percent=20)["nearest"] == expected["nearest"]
    fields = ("low", "high", "peak", "price", "volume", "distance_percent", "share")
    windows: tuple[tuple[str, str, dict[str, Any]], ...] = (
        (f"{day(4)}T00:00", "5m", {}),
        (f"{day(3)}T00:00", "1h", {"price_bin_size": 500}),
        (f"{day(2)}T00:00", "15m", {"max_rows": 50}),
    )
    for start, interval, more in windows:
        body = ask(served, start_time=start, end_time=end, interval=interval, format="columns", **more)
        newest = len(body["timestamps"]) - 1
        for where, side in (("above", "short"), ("below", "long")):
            columns = body["zones"][side]
            rows_of = [number for number, time in enumerate(columns["time"]) if time == newest]
            zones = [{name: columns[name][number] for name in fields} for number in rows_of]
            listed = {zone["low"]: zone for zone in [*expected["clusters"][where], expected["nearest"][where]]}
            assert [zone["low"] for zone in zones] == sorted(listed)
            for zone in zones:
                assert zone == pytest.approx({name: listed[zone["low"]][name] for name in fields}, rel=1e-6, abs=1e-3)
            assert [iso(int(columns["since"][number] * 1000)) for number in rows_of] == [
                listed[zone["low"]]["since"] for zone in zones
            ]
            assert {columns["since"][number] for number, time in enumerate(columns["time"]) if time < newest} == {None}
            assert set(columns["time"]) == set(range(len(body["timestamps"]))), "every column has its nearest zone"


def test_max_pain_is_still_answered_and_says_that_it_is_deprecated(served: TestClient) -> None:
    answer = served.get(MAP, params={"symbol": BTC})
    assert answer.headers["warning"].startswith('299 - "max_pain is deprecated')
    assert set(answer.json()["max_pain"]["above"]) == {"price", "volume", "volume_per_percent", "distance_percent"}
    assert ask(served, MAP, within_percent=0.1)["max_pain"] == {"above": None, "below": None}
    schema = served.get("/openapi.json").json()["components"]["schemas"]["LiquidationMap"]["properties"]
    assert schema["max_pain"]["deprecated"] is True


def test_levels_are_the_map(served: TestClient) -> None:
    old = served.get("/liquidations/levels", params={"symbol": BTC})
    assert old.headers["deprecation"].startswith("@")
    assert old.headers["link"] == '</liquidations/map>; rel="successor-version"'
    buckets = ask(served, MAP)["buckets"]
    levels = {(one["price"], one["side"]): one["volume"] for one in old.json()["levels"]}
    assert levels == {(one["price"], side): one[side] for one in buckets for side in ("long", "short") if one[side] > 0}


def test_klines_equal_the_raw_candles(published: Settings, served: TestClient) -> None:
    body = ask(served, "/prices/klines", interval="1h", limit=30)
    stored = rows(
        published,
        "SELECT time_bucket(INTERVAL 1 HOUR, open_time) AS t, arg_min(open, open_time), max(high), min(low), "
        "arg_max(close, open_time), sum(volume), sum(quote_volume) FROM raw_candles WHERE symbol = ? "
        "GROUP BY t ORDER BY t DESC LIMIT 30",
        BTC,
    )[::-1]  # fmt: skip
    for one, (time, *numbers) in zip(body["data"], stored, strict=True):
        assert one["open_time"] == f"{time.isoformat()}Z"
        assert [one[name] for name in ("open", "high", "low", "close", "volume", "quote_volume")] == pytest.approx(
            numbers, rel=1e-12
        )
    assert body["meta"]["total_candles"] == 30
    assert body["meta"]["as_of"] == f"{day(6)}T00:00:00Z"


@pytest.mark.parametrize("model", ["turnover", "delta"])
def test_the_located_share_of_a_column_is_the_one_of_the_map_at_its_end(served: TestClient, model: str) -> None:
    body = ask(served, model=model, interval="4h", format="columns", **WHOLE)
    assert len(body["located_shares"]) == len(body["timestamps"]) == 30
    assert body["located_shares"][-1] == pytest.approx(body["meta"]["located_share"], abs=1e-6)
    for column in (0, 5, 6, 17, 29):
        end = pd.Timestamp(body["timestamps"][column], unit="ms") + pd.Timedelta(hours=4)
        there = ask(served, MAP, model=model, time=f"{end.isoformat()}Z")
        assert body["located_shares"][column] == pytest.approx(there["located_share"], abs=1e-6)
    assert len(set(body["located_shares"])) > 20


@pytest.mark.parametrize("symbol", [BTC, ETH])
@pytest.mark.parametrize("tiers", [None, (25.0, 50.0)])
def test_stretches_run_at_the_same_time_are_one_run(
    published: Settings, monkeypatch: pytest.MonkeyPatch, symbol: str, tiers: tuple[float, ...] | None
) -> None:
    """To the last bit: cut at every day, over a gap, from the start of a day and from within one."""
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    version = published_version(Warehouse(published.home), None, published.models)
    data = version.data(symbol)
    for model in data.models.values():
        source = replays.Source(version, data, model, None, replays.Books(1 << 20), tiers)
        end = -(-model.end // DAY) * DAY
        for first in (day_start(model.days[0]), day_start(model.days[0]) + 7 * 3600 * MICROSECONDS):
            runs = []
            for is_cut in (False, True):
                monkeypatch.setattr(replays, "begins", lambda days, _, cut=is_cut: days[1:] if cut else [])
                runs.append(vars(replays.replay(source, first, end, 3600)))
            whole, cut = runs
            assert len(whole["interval"]) > 0
            for run in runs:
                run |= {
                    f"{side} {part}": numbers
                    for side, sums in run.pop("modelled").items()
                    for part, numbers in vars(sums).items()
                }
            for name, numbers in whole.items():
                assert np.array_equal(numbers, cut[name]), name
                assert numbers.dtype == cut[name].dtype, name
    version.retire()
