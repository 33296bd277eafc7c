"""Days of a model: bit-exact, idempotent, tied to the day before."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heatmap_pipeline.model.book import LONG, Lots, ModelState
from heatmap_pipeline.store import commit as commits
from heatmap_pipeline.store import read
from heatmap_pipeline.store.commit import DayCells, commit_cells, commit_days, drop_cells
from heatmap_pipeline.store.days import (
    ChainError,
    clear_failures,
    clear_failures_to_read,
    day_records,
    failed_outside,
    load_state,
    record_failure,
    snapshot_days,
)
from heatmap_pipeline.store.sql import Connection, insert_parts
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests._forked import die, ended
from heatmap_pipeline_tests.store.tiny import (
    DAYS,
    INTERVAL,
    MODELS_USED,
    cells_of,
    commit,
    compute,
    digest_but_times,
    fill,
    make_record,
)

CHAIN = (
    "position_events",
    "open_positions",
    "lot_days",
    "book_ledger",
    "heatmap_days",
    "liquidation_snapshots",
    "snapshot_days",
)


def stored_state(con: Connection, model: str, day: date) -> tuple[ModelState, dict[str, Any]]:
    state = load_state(con, "BTCUSDT", model, day)
    assert state is not None
    return state


@pytest.mark.parametrize("model", MODELS_USED)
def test_states_and_records_come_back_bit_for_bit(con: Connection, model: str) -> None:
    records = day_records(con, "BTCUSDT", model)
    assert list(records) == list(DAYS)
    for record, result in compute("BTCUSDT", model):
        assert records[record.day] == record
        state, carried = stored_state(con, model, record.day)
        assert carried == record.state
        assert state.hash(carried) == record.state_hash == result.state.hash(record.state)
        for name in ("side", "leverage", "liq_price", "quantity", "volume", "opened_at"):
            assert getattr(state.lots, name).dtype == getattr(result.state.lots, name).dtype
    assert day_records(con, "BTCUSDT", "other") == {}
    with pytest.raises(ChainError, match=r"2023-01-01 is not computed; run `heatmap run BTCUSDT --start 2023-01-01"):
        load_state(con, "BTCUSDT", model, DAYS[0].replace(year=2023, month=1))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return Warehouse(tmp_path_factory.mktemp("state"))


@examples(20)
@given(st.data())
def test_any_state_comes_back(empty: Warehouse, data: st.DataObject) -> None:
    number = st.floats(1e-12, 1e12)
    keys = data.draw(
        st.lists(st.tuples(st.sampled_from([-1, 1]), st.floats(1.01, 1000), st.integers(1, 2 * 10**15)), unique=True)
    )
    keys.sort(key=lambda key: (-key[0], *key[1:]))
    values = [data.draw(st.tuples(number, number, st.integers(0, 2**52))) for _ in keys]
    lots = Lots(
        np.array([key[0] for key in keys], dtype=np.int8),
        np.array([key[1] for key in keys], dtype=np.float64),
        np.array([key[2] for key in keys], dtype=np.int64),
        np.array([value[0] for value in values], dtype=np.float64),
        np.array([value[1] for value in values], dtype=np.float64),
        np.array([value[2] for value in values], dtype=np.int64),
    )
    state = ModelState(lots, (data.draw(number), data.draw(number)), data.draw(number))
    _, result = compute("BTCUSDT", "turnover")[0]
    result = replace(result, state=state)
    record = make_record("turnover", DAYS[0], "", result)
    with empty.connect("BTCUSDT") as con:
        commit_days(con, [(record, result)])
        again, carried = stored_state(con, "turnover", DAYS[0])
        assert again.hash(carried) == record.state_hash


def test_committing_again_changes_nothing(con: Connection) -> None:
    before = digest_but_times(con)
    for model in MODELS_USED:
        for record, result in compute("BTCUSDT", model):
            commit(con, replace(record, created_at=record.created_at + timedelta(days=1)), result)
    assert digest_but_times(con) == before
    kept = con.execute("SELECT DISTINCT created_at FROM heatmap_days").fetchall()
    assert [str(value) for (value,) in kept] == ["2024-04-02 12:00:00"]


def test_a_day_replaces_only_itself(con: Connection) -> None:
    before = digest_but_times(con)
    record, result = compute("BTCUSDT", "turnover", seed=3)[1]
    previous = day_records(con, "BTCUSDT", "turnover")[DAYS[0]].state_hash
    commit(con, replace(record, previous_hash=previous), result)
    after = digest_but_times(con)
    assert {name for name in before if before[name] != after[name]} == set(CHAIN)
    con.execute("DELETE FROM heatmap_days WHERE day >= ?", [DAYS[1]])
    for model in MODELS_USED:
        for day, again in compute("BTCUSDT", model)[1:]:
            commit(con, day, again)
    assert digest_but_times(con) == before


def test_the_day_before_must_be_the_one_computed_from(con: Connection) -> None:
    record, result = compute("BTCUSDT", "delta")[2]
    before = digest_but_times(con)
    with pytest.raises(ChainError, match=rf"{DAYS[2]} was computed from another state than {DAYS[1]} has now"):
        commit_days(con, [(replace(record, previous_hash="other"), result)])
    with pytest.raises(ChainError, match="another state"):
        commit_days(con, [(replace(record, previous_hash=""), result)])
    gap = replace(record, day=DAYS[2] + timedelta(days=4))
    with pytest.raises(ChainError, match=r"run `heatmap run BTCUSDT --start 2024-03-04 --end 2024-03-07 --home [^`]+`"):
        commit_days(con, [(gap, result)])
    with pytest.raises(ChainError, match="needs 2023-12-31 before it"):
        commit_days(con, [(replace(record, day=DAYS[0].replace(month=1)), result)])
    assert digest_but_times(con) == before
    commit_days(con, [(replace(gap, previous_hash=""), result)])
    assert list(day_records(con, "BTCUSDT", "delta")) == [*DAYS, gap.day]


@pytest.mark.parametrize("together", [True, False])
def test_lots_are_kept_of_the_newest_days_only(
    tmp_path: Path, con: Connection, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    """What a day carries is kept of every day, and its hash, so that whoever computes its book again can prove it."""
    monkeypatch.setattr(commits, "LOT_DAYS", 2)
    every = compute("BTCUSDT", "turnover")
    with Warehouse(tmp_path).connect("BTCUSDT") as small:
        for batch in [every] if together else [[one] for one in every]:
            commit_days(small, batch)
        assert load_state(small, "BTCUSDT", "turnover", DAYS[0]) is None
        for day in DAYS[1:]:
            state, carried = stored_state(small, "turnover", day)
            assert state.hash(carried) == day_records(small, "BTCUSDT", "turnover")[day].state_hash
        assert day_records(small, "BTCUSDT", "turnover") == day_records(con, "BTCUSDT", "turnover")
        for table in ("open_positions", "lot_days"):
            assert small.execute(f"SELECT DISTINCT day FROM {table} ORDER BY 1").fetchall() == [(d,) for d in DAYS[1:]]
        commit_days(small, every[:1])  # an old day once more
        assert load_state(small, "BTCUSDT", "turnover", DAYS[0]) is None


def test_an_empty_book_is_kept_as_one(empty: Warehouse) -> None:
    result = compute("BTCUSDT", "turnover")[0][1]
    result = replace(result, state=ModelState(Lots.empty(), (1.0, 2.0), 3.0))
    with empty.connect("BTCUSDT") as con:
        commit_days(con, [(make_record("turnover", DAYS[0], "", result), result)])
        assert stored_state(con, "turnover", DAYS[0])[0].unlocated == (1.0, 2.0)
        con.execute("DELETE FROM lot_days")
        assert load_state(con, "BTCUSDT", "turnover", DAYS[0]) is None


def test_old_cells_go_with_all_that_is_said_of_them(con: Connection) -> None:
    before = digest_but_times(con)
    assert drop_cells(con, "BTCUSDT", ["turnover"], DAYS[0]) == 0
    assert digest_but_times(con) == before
    assert drop_cells(con, "BTCUSDT", ["turnover"], DAYS[2]) == 2
    after = digest_but_times(con)
    assert {name for name in before if before[name] != after[name]} == {"liquidation_snapshots", "snapshot_days"}
    assert list(snapshot_days(con, "BTCUSDT", "turnover")) == [DAYS[2]]
    assert list(snapshot_days(con, "BTCUSDT", "delta")) == list(DAYS)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1), (6,), (2, 4), (5, 1)])
def test_days_in_one_transaction_are_what_one_by_one_are(tmp_path: Path, con: Connection, sizes: Sequence[int]) -> None:
    """Both models, in the order of days; and once more over what is stored, which leaves the same."""
    computed = sorted((one for model in MODELS_USED for one in compute("BTCUSDT", model)), key=lambda one: one[0].day)
    with Warehouse(tmp_path / "other").connect("BTCUSDT") as other:
        fill(other)
        for name in CHAIN:
            other.execute(f"DELETE FROM {name}")
        for _ in range(2):
            rest = list(computed)
            for size in sizes:
                part, rest = rest[:size], rest[size:]
                commit_days(other, part)
                commit_cells(other, [cells_of(*one) for one in part])
            assert not rest
            assert digest_but_times(other) == digest_but_times(con)


def test_the_days_before_one_that_does_not_follow_are_stored(con: Connection) -> None:
    computed = compute("BTCUSDT", "delta", seed=3)
    wrong = replace(computed[2][0], previous_hash="other")
    with pytest.raises(ChainError, match=rf"{DAYS[2]} was computed from another state than {DAYS[1]} has now"):
        commit_days(con, [*computed[:2], (wrong, computed[2][1])])
    found = {day: record.state_hash for day, record in day_records(con, "BTCUSDT", "delta").items()}
    before = {record.day: record.state_hash for record, _ in compute("BTCUSDT", "delta")}
    assert found == {**before, **{record.day: record.state_hash for record, _ in computed[:2]}}


def test_days_that_are_no_neighbours_leave_those_between(con: Connection) -> None:
    before = digest_but_times(con)
    first, last = compute("BTCUSDT", "turnover")[0], compute("BTCUSDT", "turnover")[2]
    commit_days(con, [first, last])
    commit_cells(con, [cells_of(*first), cells_of(*last)])
    commit_days(con, [])
    commit_cells(con, [])
    assert digest_but_times(con) == before


def test_a_failed_commit_leaves_the_day_as_it_was(con: Connection) -> None:
    before = digest_but_times(con)
    record, result = compute("BTCUSDT", "delta", seed=3)[0]
    ledger = {**result.ledger, "located": result.ledger["located"].astype(object)}
    ledger["located"][3] = None
    with pytest.raises(Exception, match="NOT NULL"):
        commit_days(con, [(record, replace(result, ledger=ledger))])
    assert digest_but_times(con) == before


def test_a_killed_commit_leaves_the_day_as_it_was(warehouse: Warehouse) -> None:
    later = compute("BTCUSDT", "delta", seed=3)
    with warehouse.connect("BTCUSDT") as con:
        before = digest_but_times(con)

    def commit_and_die() -> None:
        def dying(con: Connection, table: str, columns: Any) -> None:
            insert_parts(con, table, columns)
            if table == "book_ledger":
                die()

        setattr(commits, "insert_parts", dying)  # noqa: B010
        with warehouse.connect("BTCUSDT") as con:
            commit_days(con, later)

    assert ended(commit_and_die) == -signal.SIGKILL
    with warehouse.connect("BTCUSDT") as con:
        assert digest_but_times(con) == before


def test_events_are_what_the_contract_says(con: Connection) -> None:
    record, result = compute("BTCUSDT", "turnover")[1]
    rows = con.execute(
        "SELECT timestamp, event_type, side, leverage, entry_price, liq_price, quantity, volume, opened_at "
        "FROM position_events WHERE model = 'turnover' AND CAST(timestamp AS DATE) = ? ORDER BY rowid",
        [record.day],
    ).fetchall()
    kinds = {"liquidate": 0, "close": 1, "open": 2}
    # What the close of its own candle has passed is liquidated after it has opened.
    step = [3 if row[1] == "liquidate" and row[8] == row[0] else kinds[row[1]] for row in rows]
    order = [
        (row[0], n, row[2] == "short", row[3] or 0, row[5] or 0, row[4] or 0) for n, row in zip(step, rows, strict=True)
    ]
    assert order == sorted(order)
    assert set(step) == {0, 1, 2, 3}
    opens = [row for row in rows if row[1] == "open"]
    assert len(opens) == len(result.opens["timestamp"])
    assert all(row[8] == row[0] and row[7] == pytest.approx(row[6] * row[4]) for row in opens)
    deaths = [row for row in rows if row[1] == "liquidate"]
    assert len(deaths) == len(result.liquidations["timestamp"])
    assert all(row[8] <= row[0] for row in deaths)
    at_once = [row for row in deaths if row[8] == row[0]]
    assert sum(row[6] for row in at_once) == pytest.approx(result.ledger["liquidated_at_once"].sum())
    assert {row[:1] + row[2:] for row in at_once} < {row[:1] + row[2:] for row in opens}
    closes = [row for row in rows if row[1] == "close"]
    assert all(row[2] in ("long", "short") and row[3:6] == (None,) * 3 and row[8] is None for row in closes)
    assert sum(row[6] for row in closes) == pytest.approx(result.ledger["closed"].sum())
    one_book = "SELECT DISTINCT side FROM position_events WHERE model = 'delta' AND event_type = 'close'"
    assert con.execute(one_book).fetchall() == [(None,)]
    sides = "SELECT model, list(DISTINCT side ORDER BY side) FROM book_ledger GROUP BY model ORDER BY model"
    assert con.execute("SELECT count(*) FROM book_ledger WHERE model = 'delta' AND side IS NOT NULL").fetchall() == [
        (0,)
    ]
    assert con.execute(sides).fetchall()[1] == ("turnover", ["long", "short"])


def test_cells_and_their_days(con: Connection) -> None:
    record, result = compute("BTCUSDT", "turnover")[0]
    assert snapshot_days(con, "BTCUSDT", "turnover")[DAYS[0]] == (record.state_hash, INTERVAL)
    cells = {name: values[:3] for name, values in result.cells.items()}
    cells["price_bucket"] = np.array([3, 7, 11])
    commit_cells(con, [DayCells("BTCUSDT", "turnover", DAYS[0], "new", 900, cells, 0.1)])
    found = con.execute(
        "SELECT price_bucket, side, active_volume FROM liquidation_snapshots "
        "WHERE model = 'turnover' AND CAST(timestamp AS DATE) = ? ORDER BY 1",
        [DAYS[0]],
    ).fetchall()
    assert [row[0] for row in found] == [0.3, 0.7, 1.1]  # and not 0.30000000000000004
    assert [row[1] == "long" for row in found] == [side == LONG for side in cells["side"]]
    assert [row[2] for row in found] == cells["active_volume"].tolist()
    assert snapshot_days(con, "BTCUSDT", "turnover")[DAYS[0]] == ("new", 900)
    assert snapshot_days(con, "BTCUSDT", "turnover")[DAYS[1]][1] == INTERVAL
    none = {name: values[:0] for name, values in result.cells.items()}
    commit_cells(con, [DayCells("BTCUSDT", "turnover", DAYS[0], "new", 900, none, 0.1)])
    empty = "SELECT count(*) FROM liquidation_snapshots WHERE model = 'turnover' AND CAST(timestamp AS DATE) = ?"
    assert con.execute(empty, [DAYS[0]]).fetchall() == [(0,)]


def test_failures_are_remembered_once(tmp_path: Path) -> None:
    query = "SELECT symbol, stage, day, message FROM failed_days"
    with Warehouse(tmp_path).connect("BTCUSDT") as con:
        record_failure(con, "BTCUSDT", "raw_candles", DAYS[0], "no file")
        record_failure(con, "BTCUSDT", "raw_candles", DAYS[0], "corrupt file")
        assert con.execute(query).fetchall() == [("BTCUSDT", "raw_candles", DAYS[0], "corrupt file")]
        clear_failures(con, "BTCUSDT", "position_events", DAYS[0], DAYS[-1])
        clear_failures(con, "BTCUSDT", "raw_candles", DAYS[1], DAYS[-1])
        assert len(con.execute(query).fetchall()) == 1
        clear_failures(con, "BTCUSDT", "raw_candles", DAYS[0], DAYS[0])
        assert con.execute(query).fetchall() == []


def test_days_that_could_not_be_read_beside_what_is_stored_can_be_forgotten(con: Connection) -> None:
    outside = [DAYS[0] - timedelta(days=1), DAYS[-1] + timedelta(days=1)]
    for day in (*outside, *DAYS):
        record_failure(con, "BTCUSDT", "raw_candles", day, "no file")
    record_failure(con, "BTCUSDT", "parquet_export", outside[1], "no room")
    assert failed_outside(con, "BTCUSDT") == outside
    clear_failures_to_read(con, "BTCUSDT", outside)
    left = [*(("raw_candles", day) for day in DAYS), ("parquet_export", outside[1])]
    assert [(stage, day) for stage, day, _ in read.failed_days(con, "BTCUSDT")] == left
