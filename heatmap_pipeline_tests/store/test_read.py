"""What status is told, and the views for people."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest

from heatmap_pipeline.store import read
from heatmap_pipeline.store.days import record_failure
from heatmap_pipeline.store.publish import publish
from heatmap_pipeline.store.raw import save_raw
from heatmap_pipeline.store.sql import Connection, day_bounds
from heatmap_pipeline.store.warehouse import StoreError, Warehouse
from heatmap_pipeline_tests.store.tiny import BUCKET, DAYS, INTERVAL, MODELS_USED, STEP, compute, market

_START, _END = day_bounds(DAYS[0], DAYS[-1])


def test_an_empty_book_is_not_shown_as_the_one_before(con: Connection) -> None:
    """The last interval exists, though it has no cell: what was active before it is not the map."""
    last = _END - timedelta(seconds=INTERVAL)
    con.execute("DELETE FROM liquidation_snapshots WHERE timestamp = ? AND model = 'delta'", [last])
    empty = "SELECT count(*) FROM liquidation_map WHERE model = ?"
    assert con.execute(empty, ["delta"]).fetchall() == [(0,)]
    assert con.execute(empty, ["turnover"]).fetchall()[0][0] > 0


def test_the_located_share_is_of_the_open_interest_of_the_exchange(con: Connection) -> None:
    """Also where one book holds a small part of it; where there are two, each stands against the whole."""
    two, one = (compute("BTCUSDT", model)[-1][1].ledger for model in ("turnover", "delta"))
    (open_interest,) = {two["open_interest"][-1], one["open_interest"][-1]}
    expected = two["located"][-2:].mean() / open_interest
    assert read.newest_located_share(con, "BTCUSDT", "turnover") == pytest.approx(expected)
    share = read.newest_located_share(con, "BTCUSDT", "delta")
    assert share == pytest.approx(one["located"][-1] / open_interest)
    assert 0 < share < 0.5, "not the share of its own book, all of which is located"
    assert read.newest_located_share(con, "NOSUCH", "delta") == 0.0


def test_status(con: Connection) -> None:
    candles, _ = market("RAWUSDT")
    save_raw(con, "candles", candles[:1], "archive")
    turnover, delta, raw = read.status(con)
    assert (turnover.symbol, turnover.model, turnover.source, turnover.simulated) == (
        "BTCUSDT",
        "turnover",
        "demo",
        True,
    )
    assert (delta.first_day, delta.last_day, delta.days) == (DAYS[0], DAYS[-1], 3)
    assert (delta.gaps, delta.failed, delta.provisional_days) == ((), (), ())
    assert delta.newest_candle == _END - timedelta(seconds=STEP)
    assert json.loads(delta.parameters[DAYS[0]])["model"] == "delta"
    assert (raw.symbol, raw.model, raw.days, raw.first_day, raw.source) == ("RAWUSDT", None, 0, None, "")
    con.execute("UPDATE heatmap_days SET state_hash = 'x' WHERE day = ? AND model = 'delta'", [DAYS[0]])
    con.execute("DELETE FROM heatmap_days WHERE day = ? AND model = 'turnover'", [DAYS[1]])
    con.execute("UPDATE heatmap_days SET provisional = true WHERE day = ?", [DAYS[2]])
    record_failure(con, "BTCUSDT", "raw_candles", DAYS[2] + timedelta(days=1), "corrupt file")
    turnover, delta, _ = read.status(con)
    assert turnover.gaps == (DAYS[1],)
    assert delta.provisional_days == (DAYS[2],)
    assert delta.failed == (("raw_candles", DAYS[2] + timedelta(days=1), "corrupt file"),)
    record_failure(con, "NOPEUSDT", "raw_candles", DAYS[2], "no such symbol")
    assert "NOPEUSDT" not in {one.symbol for one in read.status(con)}, "nothing of it is stored"


def test_missing_days_are_those_between_the_first_and_the_last() -> None:
    days = [date(2024, 1, n) for n in (1, 2, 3, 7, 8)]
    assert read.missing_days(days) == tuple(date(2024, 1, n) for n in (4, 5, 6))
    assert read.missing_days([]) == ()


def test_stored_days(warehouse: Warehouse) -> None:
    with warehouse.connect("BTCUSDT") as con:
        assert read.stored_days(con, "BTCUSDT") == (DAYS[0], DAYS[-1])
        with pytest.raises(StoreError, match="NOSUCH: nothing is stored yet"):
            read.stored_days(con, "NOSUCH")
    assert read.first_published_day(warehouse) is None
    publish(warehouse, ["BTCUSDT"])
    assert read.first_published_day(warehouse) == DAYS[0]
    warehouse.published.write_bytes(b"nonsense" * 2000)
    assert read.first_published_day(warehouse) is None


def test_what_is_published_is_read_once_for_a_symbol_and_anew_when_the_file_changed(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    ask = Warehouse.read

    def counted(self: Warehouse, **named: Any) -> Any:
        opened.append(named["any_version"])
        return ask(self, **named)

    def newest() -> str:
        histories = read.published_histories(warehouse, ["BTCUSDT"])
        assert histories
        return histories["BTCUSDT"].days["delta"][DAYS[2]]

    monkeypatch.setattr(Warehouse, "read", counted)
    publish(warehouse, ["BTCUSDT"])
    every = read.published_histories(warehouse)
    for any_version in (True, False, True):
        assert read.published_histories(warehouse, ["BTCUSDT"], any_version=any_version) == every
    assert opened == [False, True], "all are read whenever they are asked for, one is once"
    for _ in range(2):
        assert read.published_histories(warehouse, ["NOSUCH", "BTCUSDT"]) == every
    assert len(opened) == 3, "that there is none is known, too"

    for number, hashed in enumerate(("first", "second", "third")):
        with warehouse.connect("BTCUSDT") as con:
            con.execute("UPDATE heatmap_days SET state_hash = ? WHERE model = 'delta' AND day = ?", [hashed, DAYS[2]])
        publish(warehouse, ["BTCUSDT"])  # two files take turns
        assert [newest(), newest()] == [hashed, hashed]
        assert len(opened) == 4 + number
    with duckdb.connect(str(warehouse.published)) as client:
        client.execute("SET checkpoint_threshold = '1GB'")
        client.execute("UPDATE heatmap_days SET state_hash = 'by hand' WHERE day = ?", [DAYS[2]])
        assert warehouse.published.with_name("heatmap.duckdb.wal").exists(), "what it wrote is beside the file as yet"
    assert newest() == "by hand"
    warehouse.published.unlink()
    assert read.published_histories(warehouse, ["BTCUSDT"]) == {}


def test_a_version_that_is_not_readable_is_not_kept_as_one_that_is(warehouse: Warehouse) -> None:
    publish(warehouse, ["BTCUSDT"])
    with duckdb.connect(str(warehouse.published)) as client:
        client.execute("UPDATE schema_version SET version = 1000")
    for _ in range(2):
        assert read.published_histories(warehouse, ["BTCUSDT"], any_version=True)
        assert read.published_histories(warehouse, ["BTCUSDT"]) is None


@pytest.mark.parametrize("model", MODELS_USED)
def test_the_map_runs_from_the_price_outward(con: Connection, model: str) -> None:
    rows = con.execute(
        "SELECT price_bucket, long_volume, short_volume, distance_percent, cumulative_volume, close, timestamp "
        "FROM liquidation_map WHERE model = ?",
        [model],
    ).fetchall()
    close = market("BTCUSDT")[0][-1].table["close"].iloc[-1]
    lots = compute("BTCUSDT", model)[-1][1].state.lots
    assert {row[5] for row in rows} == {close}
    assert {row[6] for row in rows} == {_END - timedelta(seconds=INTERVAL)}
    assert sum(row[1] for row in rows) == pytest.approx(lots.volume[lots.side == 1].sum())
    assert sum(row[2] for row in rows) == pytest.approx(lots.volume[lots.side == -1].sum())
    for bucket, _, _, distance, cumulative, *_ in rows:
        price = lots.liq_price / 1e8
        if bucket <= close:
            outward = (lots.side == 1) & (price >= bucket)
        else:
            outward = (lots.side == -1) & (price < bucket + BUCKET)
        assert cumulative == pytest.approx(lots.volume[outward].sum())
        assert distance == pytest.approx(100 * (bucket / close - 1))


def test_the_view_sets_the_sides_beside_each_other(con: Connection) -> None:
    totals = "SELECT sum({}), sum({}), sum({}), sum({}) FROM {}"
    wide = ("long_volume", "short_volume", "long_consumed_volume", "short_consumed_volume")
    cells = tuple(
        f"CASE WHEN side = '{side}' THEN {name} END"
        for name in ("active_volume", "consumed_volume")
        for side in ("long", "short")
    )
    one = con.execute(totals.format(*wide, "heatmap")).fetchall()[0]
    assert one == pytest.approx(con.execute(totals.format(*cells, "liquidation_snapshots")).fetchall()[0])
    unique = "SELECT count(*), count(DISTINCT (symbol, model, timestamp, price_bucket)) FROM heatmap"
    count, distinct = con.execute(unique).fetchall()[0]
    assert count == distinct > 100
