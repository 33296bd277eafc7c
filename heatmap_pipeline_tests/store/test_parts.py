"""Parts: cut and put together again they are the same rows, and only what changed is cut anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from heatmap_pipeline.store.manifest import Part
from heatmap_pipeline.store.parts import Cut, by_month, cut, days_of, load
from heatmap_pipeline.store.schema import schema_text, symbol_tables
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline_tests._examples import examples
from heatmap_pipeline_tests.store.tiny import fill

SYMBOL = "BTCUSDT"


@contextmanager
def empty() -> Iterator[Connection]:
    with duckdb.connect(":memory:") as con:
        con.execute("SET threads = 1")
        con.execute(schema_text())
        yield con


@pytest.fixture(scope="module")
def months() -> Iterator[Connection]:
    """A database with three days of two symbols, each of them again a month later."""
    with empty() as con:
        for symbol, seed in ((SYMBOL, 1), ("ETHUSDT", 5)):
            fill(con, symbol, seed=seed)
        con.execute("INSERT INTO failed_days VALUES (?, 'raw_candles', '2024-01-07', 'why', '2024-01-08')", [SYMBOL])
        for words in ("second", "first"):  # in the order in which they were told, of one instant
            con.execute(
                "INSERT INTO alerts VALUES (?, 'delta', '2024-03-02', 'r', 'near', 'long', 1, 1, 1, 1, 1, ?)",
                [SYMBOL, words],
            )
        for window in ("24h", "1h"):  # in the order of `score`
            con.execute(
                'INSERT INTO map_scores (symbol, model, source, "window", side, horizon, measure, baseline, hours, '
                "parameters) VALUES (?, 'delta', 'source', ?, 'long', '1h', 'measure', '', 1, '{}')",
                [SYMBOL, window],
            )
        for table in symbol_tables(private=False):
            if time := table.time_column:
                later = f"CAST({time} + INTERVAL 1 MONTH AS {table.types[time]})"
                con.execute(f"INSERT INTO {table.name} SELECT * REPLACE ({later} AS {time}) FROM {table.name}")
        yield con


def rows(con: Connection, symbol: str = SYMBOL) -> dict[str, Any]:
    """Return the rows of every table as Arrow, large ones in the order in which they are stored within a model."""
    found = {}
    for table in symbol_tables():
        order = "ALL" if table.time_column else "rowid"
        if by_month(table):
            order = ", ".join([*(["model"] if "model" in table.types else []), str(table.time_column), "rowid"])
        query = f"SELECT * FROM {table.name} WHERE symbol = ? ORDER BY {order}"
        found[table.name] = con.sql(query, params=[symbol]).to_arrow_table()
    return found


def files_of(pieces: Cut, earlier: Mapping[Part, Path] | None = None) -> dict[Part, Path]:
    """Return where each part is: of the new ones the file that was cut, of the others that of before."""
    return {part: pieces.files.get(part.hash) or (earlier or {})[part] for part in pieces.parts}


def cut_into(con: Connection, folder: Path, earlier: Cut | None = None) -> Cut:
    folder.mkdir()
    return cut(con, SYMBOL, folder, earlier.parts if earlier else (), earlier.fingerprints if earlier else None)


@pytest.fixture(scope="module")
def whole(months: Connection, tmp_path_factory: pytest.TempPathFactory) -> Cut:
    """All of a symbol, cut at once. Nobody changes its files."""
    return cut_into(months, tmp_path_factory.mktemp("whole") / "new")


def test_every_table_has_rows(months: Connection) -> None:
    filled = {name for name, found in rows(months).items() if found.num_rows}
    assert filled >= {table.name for table in symbol_tables() if by_month(table)} - {"coarse_days", "score_hours"}


def test_what_is_put_together_is_what_was_cut(months: Connection, whole: Cut, tmp_path: Path) -> None:
    assert {part.month for part in whole.parts} == {"", "2024-03", "2024-04"}
    with empty() as con:
        load(con, SYMBOL, files_of(whole))
        assert rows(con) == rows(months)
        assert not any(found.num_rows for found in rows(con, "ETHUSDT").values())
        assert days_of(con, SYMBOL) == days_of(months, SYMBOL)
        again = cut_into(con, tmp_path / "again", whole)
    assert again.files == {}
    assert (again.parts, again.fingerprints) == (whole.parts, whole.fingerprints)


def test_numbers_of_chance_have_their_bytes_apart_where_that_is_less(whole: Cut) -> None:
    apart = {}
    for part, file in files_of(whole).items():
        query = "SELECT DISTINCT encodings FROM parquet_metadata(?) WHERE type = 'DOUBLE'"
        with duckdb.connect() as con:
            encodings = {one for (one,) in con.execute(query, [str(file)]).fetchall()}
        apart[part.table] = any("BYTE_STREAM_SPLIT" in one for one in encodings)
    assert {table for table, is_apart in apart.items() if is_apart} == {"liquidation_snapshots", "open_positions"}


@pytest.mark.parametrize("table", ["position_events", "open_positions"])
def test_what_follows_from_other_columns_is_left_out_of_a_part(whole: Cut, table: str, tmp_path: Path) -> None:
    with empty() as con:
        load(con, SYMBOL, files_of(whole))
        con.execute(f"UPDATE {table} SET volume = quantity * entry_price WHERE entry_price IS NOT NULL")
        con.execute(f"UPDATE {table} SET volume = nextafter(volume, 1e300) WHERE leverage = 10")
        pieces = cut_into(con, tmp_path / "new")
        files = [str(file) for part, file in files_of(pieces).items() if part.table == table]
        said = "SELECT leverage, count(volume), count(*) FROM read_parquet(?) GROUP BY ALL"
        left_out = 0
        for leverage, there, every in con.execute(said, [files]).fetchall():
            assert there == (every if leverage in {None, 10} else 0), f"leverage {leverage}"
            left_out += every - there
        assert left_out
        with empty() as again:
            load(again, SYMBOL, files_of(pieces))
            assert rows(again) == rows(con)


def test_a_part_of_before_that_leaves_nothing_out_is_read_as_it_is(
    months: Connection, whole: Cut, tmp_path: Path
) -> None:
    files = files_of(whole)
    for part, file in files.items():
        if part.table in {"position_events", "open_positions"}:
            files[part] = tmp_path / file.name
            product = "* REPLACE (coalesce(volume, quantity * entry_price) AS volume)"
            months.execute(f"COPY (SELECT {product} FROM read_parquet('{file}')) TO '{files[part]}'")
    with empty() as con:
        load(con, SYMBOL, files)
        assert rows(con) == rows(months)


def test_a_change_of_a_month_is_cut_anew_and_nothing_of_others(whole: Cut, tmp_path: Path) -> None:
    with empty() as con:
        load(con, SYMBOL, files_of(whole))
        con.execute("UPDATE raw_candles SET volume = volume + 1 WHERE day = DATE '2024-04-02'")
        assert cut_into(con, tmp_path / "unseen", whole).files == {}, "nothing vouches for it, so nothing is read"
        con.execute("UPDATE raw_days SET content_hash = 'x' WHERE kind = 'candles' AND day = DATE '2024-04-02'")
        changed = cut_into(con, tmp_path / "changed", whole)
        new = {(part.table, part.month) for part in changed.parts if part.hash in changed.files}
        assert {("raw_candles", "2024-04"), ("raw_days", "")} <= new
        assert {month for _, month in new} <= {"", "2024-04"}
        with empty() as other:
            load(other, SYMBOL, files_of(changed, files_of(whole)))
            assert rows(other) == rows(con)


def test_rows_that_nothing_vouches_for_are_a_defect_that_is_seen(whole: Cut, tmp_path: Path) -> None:
    with empty() as con:
        load(con, SYMBOL, files_of(whole))
        con.execute("INSERT INTO raw_candles SELECT * REPLACE (DATE '2025-01-01' AS day) FROM raw_candles LIMIT 1")
        with pytest.raises(RuntimeError, match="raw_candles of BTCUSDT has rows in 2025-01"):
            cut_into(con, tmp_path / "again")


def _symbols(con: Connection) -> list[tuple[Any, ...]]:
    return con.execute("FROM symbols WHERE symbol = ?", [SYMBOL]).fetchall()


counts = st.lists(st.integers(0, 4), min_size=1, max_size=2)


@pytest.mark.slow
@examples(10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts)
def test_cut_after_each_stretch_of_days_it_is_what_is_cut_of_all_at_once(
    months: Connection, whole: Cut, tmp_path_factory: pytest.TempPathFactory, stretches: list[int]
) -> None:
    """However the days came in, in how many commits: the rows are those of the whole."""
    folder = tmp_path_factory.mktemp("stretches")
    days = sorted(
        day for (day,) in months.execute("SELECT DISTINCT day FROM raw_days WHERE symbol = ?", [SYMBOL]).fetchall()
    )
    kept: dict[Part, Path] = {}
    pieces: Cut | None = None
    with empty() as con:
        _move(months, con, None, None)
        done = 0
        for number, count in enumerate([*stretches, len(days)]):
            for day in days[done : done + count]:
                _move(months, con, day, day)
            done = min(done + count, len(days))
            with empty() as other:  # as the next worker finds it
                load(other, SYMBOL, kept)
                assert not kept or _symbols(other) == _symbols(con)
            pieces = cut_into(con, folder / str(number), pieces)
            kept = files_of(pieces, kept)
        with empty() as other:
            load(other, SYMBOL, kept)
            assert rows(other) == rows(months)
    assert {(part.table, part.month, part.rows) for part in kept} == {
        (part.table, part.month, part.rows) for part in whole.parts
    }
    assert pieces is not None
    assert pieces.fingerprints == whole.fingerprints


def _move(source: Connection, target: Connection, first: date | None, last: date | None) -> None:
    """Copy the rows of some days; without them those of the tables that know no days."""
    for table in symbol_tables():
        if (table.time_column is None or table.private) != (first is None):
            continue
        where, values = ("true", []) if first is None or last is None else table.within(first, last)
        query = f"SELECT * FROM {table.name} WHERE symbol = ? AND {where} ORDER BY rowid"
        target.register("moved", source.sql(query, params=[SYMBOL, *values]).to_arrow_table())
        target.execute(f"INSERT INTO {table.name} SELECT * FROM moved")
        target.unregister("moved")
