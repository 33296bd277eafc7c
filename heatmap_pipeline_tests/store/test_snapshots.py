"""Snapshots as objects: out as they went in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from heatmap_pipeline.model.levels import HeatmapCell, HeatmapSnapshot
from heatmap_pipeline.store.checks import snapshots_current
from heatmap_pipeline.store.snapshots import load_snapshots, save_snapshots
from heatmap_pipeline.store.sql import Connection, micros
from heatmap_pipeline_tests.store.tiny import DAYS, INTERVAL, digest_but_times

_START = datetime(2024, 3, 1, tzinfo=UTC)
_FIELDS = ("price_buckets", "sides", "active_volumes", "consumed_volumes")


def _snapshots(count: int, seed: int = 1) -> list[HeatmapSnapshot]:
    rng = np.random.default_rng(seed)
    made = []
    for n in range(count):
        cells = [
            HeatmapCell(float(bucket), side, float(rng.random() + 1e-3), float(rng.random()))
            for bucket in range(0, 100 * (n % 4), 100)
            for side in ("long", "short")
        ]
        time = micros(_START + timedelta(minutes=5 * n))
        made.append(HeatmapSnapshot.from_cells(time, cells, positions_created=n, positions_consumed=n % 3))
    return made


def _same(one: HeatmapSnapshot, other: HeatmapSnapshot) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in _FIELDS)
    dtypes = all(getattr(one, name).dtype == getattr(other, name).dtype for name in _FIELDS)
    counts = ("timestamp", "positions_created", "positions_consumed")
    return arrays and dtypes and all(getattr(one, name) == getattr(other, name) for name in counts)


def test_out_as_they_went_in(con: Connection) -> None:
    made = _snapshots(50)
    assert save_snapshots(con, "BTCUSDT", "mine", reversed(made)) == sum(map(len, made))
    loaded = load_snapshots(con, "BTCUSDT", _START, made[-1].time, model="mine")
    assert len(loaded) == 50
    assert all(map(_same, made, loaded))
    part = load_snapshots(con, "BTCUSDT", made[3].time, made[7].time.replace(tzinfo=None), model="mine")
    assert [one.timestamp for one in part] == [one.timestamp for one in made[3:8]]
    assert load_snapshots(con, "BTCUSDT", _START, made[-1].time, model="other") == []
    assert save_snapshots(con, "BTCUSDT", "mine", []) == 0


def test_saving_again_changes_nothing_and_saving_others_replaces(con: Connection) -> None:
    made = _snapshots(20)
    save_snapshots(con, "BTCUSDT", "mine", made)
    before = digest_but_times(con)
    save_snapshots(con, "BTCUSDT", "mine", made)
    assert digest_but_times(con) == before
    other = _snapshots(20, seed=2)
    save_snapshots(con, "BTCUSDT", "mine", [other[5], other[11]])
    loaded = load_snapshots(con, "BTCUSDT", _START, made[-1].time, model="mine")
    assert all(_same(loaded[n], (other if n in (5, 11) else made)[n]) for n in range(20))
    assert digest_but_times(con, "BTCUSDT")["saved_snapshots"] != before["saved_snapshots"]


def test_the_pipelines_own_snapshots_load_too(con: Connection) -> None:
    loaded = load_snapshots(con, "BTCUSDT", _START, _START + timedelta(days=1) - timedelta(seconds=1))
    assert len(loaded) == 86400 // INTERVAL
    total = con.execute(
        "SELECT sum(active_volume) FROM liquidation_snapshots WHERE model = 'turnover' AND timestamp < '2024-03-02'"
    ).fetchall()[0][0]
    assert np.isclose(sum(one.total_long_volume + one.total_short_volume for one in loaded), total)


def test_a_day_written_over_is_no_longer_the_pipelines(con: Connection) -> None:
    save_snapshots(con, "BTCUSDT", "turnover", _snapshots(3))
    assert not snapshots_current(con, "BTCUSDT", "turnover", DAYS[0], DAYS[0]).passed
    assert snapshots_current(con, "BTCUSDT", "turnover", DAYS[1], DAYS[2]).passed
    assert snapshots_current(con, "BTCUSDT", "delta", DAYS[0], DAYS[2]).passed
