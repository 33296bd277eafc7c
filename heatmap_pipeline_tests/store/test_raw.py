"""Clean rows come back bit for bit, and a day is written only when it changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heatmap_pipeline.market.tables import CANDLE_COLUMNS, OPEN_INTEREST_COLUMNS
from heatmap_pipeline.store.raw import (
    SymbolRecord,
    get_symbol,
    load_candles,
    load_open_interest,
    put_symbol,
    raw_days,
    save_raw,
)
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.store.tiny import DAYS, STEP, digest_but_times, fill, forget_symbol, market


def test_rows_come_back_bit_for_bit(con: Connection) -> None:
    candles, samples = market("BTCUSDT")
    found = load_candles(con, "BTCUSDT", DAYS[0], DAYS[-1])
    assert list(found.columns) == [*CANDLE_COLUMNS, "day"]
    for day in candles:
        again = found[found["day"] == day.day].drop(columns="day").reset_index(drop=True)
        pd.testing.assert_frame_equal(again, day.table, check_exact=True)
        assert replace(day, table=again).content_hash() == day.content_hash()
    found = load_open_interest(con, "BTCUSDT", DAYS[0], DAYS[-1])
    assert list(found.columns) == [*OPEN_INTEREST_COLUMNS, "day"]
    for day in samples:
        again = found[found["day"] == day.day].drop(columns="day").reset_index(drop=True)
        pd.testing.assert_frame_equal(again, day.table, check_exact=True)
        assert replace(day, table=again).content_hash() == day.content_hash()
    assert len(load_candles(con, "BTCUSDT", DAYS[1], DAYS[1])) == 86_400 // STEP
    assert load_candles(con, "NOSUCH", DAYS[0], DAYS[-1]).empty


def test_unknown_numbers_are_null_for_people(con: Connection) -> None:
    assert con.execute("SELECT count(*) FROM raw_candles WHERE taker_buy_volume IS NULL").fetchall()[0][0] == 21
    assert con.execute("SELECT count(*) FROM raw_candles WHERE isnan(taker_buy_volume)").fetchall() == [(0,)]


def test_times_are_utc_whatever_the_session_zone(con: Connection) -> None:
    con.execute("SET TimeZone = 'Asia/Tokyo'")
    candles, _ = market("ETHUSDT")
    save_raw(con, "candles", candles[:1], "demo")
    found = con.execute("SELECT min(open_time) FROM raw_candles WHERE symbol = 'ETHUSDT'").fetchall()
    assert str(found[0][0]) == "2024-03-01 00:00:00"


def test_only_changed_days_are_written(con: Connection) -> None:
    candles, samples = market("BTCUSDT")
    before = digest_but_times(con)
    made = con.execute("SELECT * FROM raw_days ORDER BY ALL").fetchall()
    assert save_raw(con, "candles", candles, "demo") == []
    assert save_raw(con, "open_interest", samples, "demo") == []
    assert con.execute("SELECT * FROM raw_days ORDER BY ALL").fetchall() == made
    table = candles[1].table.copy()
    table.loc[table.index == 5, "volume"] += 1
    changed = replace(candles[1], table=table, repairs={"dropped": 3})
    assert save_raw(con, "candles", [candles[0], changed, candles[2]], "archive") == [DAYS[1]]
    after = digest_but_times(con)
    assert {name for name in before if before[name] != after[name]} == {"raw_candles", "raw_days"}
    stored = raw_days(con, "BTCUSDT")["candles"][DAYS[1]]
    assert (stored.content_hash, stored.source, stored.repairs) == (changed.content_hash(), "archive", {"dropped": 3})
    assert save_raw(con, "candles", candles, "demo") == [DAYS[1]]
    assert digest_but_times(con) == before


def test_another_step_is_another_day(con: Connection) -> None:
    _, samples = market("BTCUSDT")
    assert save_raw(con, "open_interest", [replace(samples[0], step=3600)], "demo") == [DAYS[0]]
    assert raw_days(con, "BTCUSDT")["open_interest"][DAYS[0]].step == 3600


def test_a_day_without_samples_is_stored(con: Connection) -> None:
    _, samples = market("BTCUSDT")
    empty = replace(samples[1], table=samples[1].table.iloc[:0])
    assert save_raw(con, "open_interest", [empty], "demo") == [DAYS[1]]
    assert raw_days(con, "BTCUSDT")["open_interest"][DAYS[1]].rows == 0
    assert len(load_open_interest(con, "BTCUSDT", DAYS[1], DAYS[1])) == 0
    assert save_raw(con, "open_interest", [empty], "demo") == []


def test_a_failed_save_leaves_everything(warehouse: Warehouse) -> None:
    candles, _ = market("BTCUSDT", seed=2)
    broken = replace(candles[2], table=candles[2].table.assign(close=np.nan))
    with warehouse.connect("BTCUSDT") as con:
        before = digest_but_times(con)
        with pytest.raises(Exception, match="NOT NULL"):
            save_raw(con, "candles", [*candles[:2], broken], "demo")
        assert digest_but_times(con) == before


def test_symbols_are_kept_apart(con: Connection) -> None:
    before = digest_but_times(con, "BTCUSDT")
    fill(con, "ETHUSDT", seed=5)
    assert digest_but_times(con, "BTCUSDT") == before
    assert {name for name, (count, _) in digest_but_times(con, "ETHUSDT").items() if count} == {
        name for name, (count, _) in before.items() if count
    }
    forget_symbol(con, "ETHUSDT")
    assert digest_but_times(con) == before


def test_the_registry(tmp_path: Path) -> None:
    record = SymbolRecord("DOGEUSDT", 300, 0.0005, "archive", False)
    with Warehouse(tmp_path).connect("BTCUSDT") as con:
        assert get_symbol(con, "DOGEUSDT") is None
        put_symbol(con, record)
        assert get_symbol(con, "DOGEUSDT") == record
        put_symbol(con, replace(record, simulated=True))
        assert get_symbol(con, "DOGEUSDT") == replace(record, simulated=True)
