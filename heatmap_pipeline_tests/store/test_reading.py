"""The note of how days were read: what it is tied to, and that it is only a note."""

from __future__ import annotations

from pathlib import Path

import pytest

from heatmap_pipeline.store.reading import (
    Reading,
    forget_readings,
    load_reading,
    put_readings,
    readings_of,
    rows_digest,
    save_reading,
)
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline_tests.store.tiny import DAYS

BTC, ETH = "BTCUSDT", "ETHUSDT"
ONE, OTHER = Reading("2024-03-01", "a", "3 7"), Reading("2024-03-02", "b", "2 5")


def test_notes_are_of_a_symbol_and_a_kind_and_go_to_another_home(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for home in (here, there):
        home.mkdir()
    assert load_reading(here, BTC, "candles") is None
    save_reading(here, BTC, "candles", ONE)
    save_reading(here, BTC, "open_interest", OTHER)
    save_reading(here, ETH, "candles", OTHER)
    assert load_reading(here, BTC, "candles") == ONE
    save_reading(there, ETH, "candles", ONE)
    put_readings(there, BTC, readings_of(here, BTC))
    assert [load_reading(there, BTC, kind) for kind in ("candles", "open_interest")] == [ONE, OTHER]
    assert load_reading(there, ETH, "candles") == ONE
    save_reading(here, BTC, "candles", None)
    assert [load_reading(here, BTC, kind) for kind in ("candles", "open_interest")] == [None, OTHER]
    forget_readings(here, BTC)
    assert (readings_of(here, BTC), load_reading(here, ETH, "candles")) == ({}, OTHER)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"BTCUSDT": []}', '{"BTCUSDT": {"candles": {"since": "x"}}}'])
def test_a_note_that_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "reading.json").write_text(text)
    assert load_reading(tmp_path, BTC, "candles") is None
    save_reading(tmp_path, BTC, "candles", ONE)
    assert load_reading(tmp_path, BTC, "candles") == ONE


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE raw_days SET content_hash = 'x' WHERE kind = 'candles' AND day = '{day}'",
        "UPDATE raw_days SET facts = '{{}}' WHERE kind = 'candles' AND day = '{day}'",
        "DELETE FROM raw_days WHERE kind = 'candles' AND day = '{day}'",
    ],
)
def test_a_digest_of_days_is_another_if_any_of_them_is(con: Connection, change: str) -> None:
    kinds = [("candles", DAYS[1]), ("candles", DAYS[2]), ("open_interest", DAYS[0])]
    before = [rows_digest(con, BTC, kind, since) for kind, since in kinds]
    assert len(set(before)) == 3
    con.execute(change.format(day=DAYS[1]))
    after = [rows_digest(con, BTC, kind, since) for kind, since in kinds]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, True]
