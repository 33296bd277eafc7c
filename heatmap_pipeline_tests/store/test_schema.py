"""What is read from schema.sql is what the tables are: nobody else says their columns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from heatmap_pipeline.market.liquidations.tables import LIQUIDATION_COLUMNS
from heatmap_pipeline.market.sources import EXCHANGES
from heatmap_pipeline.market.tables import CANDLE_COLUMNS, OPEN_INTEREST_COLUMNS
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.source_kinds import SOURCES
from heatmap_pipeline.store.dictionary import dictionary, published_relations
from heatmap_pipeline.store.raw import SYMBOL_COLUMNS
from heatmap_pipeline.store.schema import Relation, amounts, column_types, comments, relations, symbol_tables, tables
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline_tests.store.tiny import DAYS, compute

BY_DAY = {
    "raw_days", "raw_candles", "raw_open_interest", "raw_liquidations", "recorded", "open_positions", "heatmap_days",
    "snapshot_days", "lot_days", "coarse_days", "score_days"}  # fmt: skip
WHOLE = {"symbols", "ended_symbols", "map_scores", "alerts"}
PRIVATE = {"failed_days", "alert_watches"}
BY_TIME = {"position_events", "book_ledger", "liquidation_snapshots", "saved_snapshots"}


def test_every_table_is_stored_by_day_by_time_or_whole() -> None:
    """Publication copies a table by what this says: a new table has to be thought about here."""
    public = symbol_tables(private=False)
    assert {table.name for table in public if table.time_column == "day"} == BY_DAY
    assert {table.name for table in public if table.time_column == "timestamp"} == BY_TIME
    assert [table.name for table in public if table.time_column == "hour"] == ["score_hours"]
    assert {table.name for table in public if table.time_column is None} == WHOLE
    assert {table.name for table in symbol_tables()} == BY_DAY | BY_TIME | WHOLE | {"score_hours"} | PRIVATE
    assert {table.name for table in tables()} == {table.name for table in symbol_tables()} | {"schema_version"}


def test_what_went_wrong_and_what_rules_remember_is_private() -> None:
    assert {table.name for table in tables() if table.private} == PRIVATE


def test_a_column_that_lists_exchanges_lists_all_of_them() -> None:
    notes = [note for relation in relations() for note in relation.notes.values()]
    lists = [words for words in (set(re.findall("[a-z]+", note)) for note in notes) if {"binance", "bybit"} <= words]
    assert lists
    for words in lists:
        assert words >= set(EXCHANGES)


def test_no_column_lists_the_models_or_the_sources() -> None:
    """A third model is a new row of `MODELS`, another source one of `SOURCES`, and the dictionary stays true."""
    for relation in relations():
        for column, note in relation.notes.items():
            words = set(re.findall("[a-z]+", note))
            assert len(words & MODELS.keys()) < 2, f"{relation.name}.{column}: {note}"
            assert len(words & SOURCES.keys()) < 2, f"{relation.name}.{column}: {note}"


def test_small_tables_vouch_for_the_large_ones() -> None:
    names = [table.name for table in symbol_tables(private=False) if table.vouches]
    assert names == ["raw_days", "heatmap_days", "snapshot_days", "lot_days", "saved_snapshots", "score_days"]


def test_tables_are_told_as_they_are_made(con: Connection) -> None:
    for table in tables():
        described = con.execute(f"DESCRIBE {table.name}").fetchall()
        assert column_types(table.name) == tuple((name, kind) for name, kind, *_ in described)
    with pytest.raises(KeyError):
        column_types("no_table")


def test_the_market_and_the_model_deliver_the_columns_that_are_stored() -> None:
    def names(table: str) -> list[str]:
        return [name for name, _ in column_types(table)]

    assert names("raw_candles") == ["symbol", "day", *CANDLE_COLUMNS]
    assert names("raw_open_interest") == ["symbol", "day", *OPEN_INTEREST_COLUMNS]
    assert set(names("raw_liquidations")) == {"symbol", "day", "source", *LIQUIDATION_COLUMNS}
    assert names("symbols") == list(SYMBOL_COLUMNS)
    ledger = compute("BTCUSDT", "turnover")[0][1].ledger
    assert {"timestamp", "book", *amounts("book_ledger")} == set(ledger)
    assert names("book_ledger") == ["symbol", "model", "timestamp", "side", *amounts("book_ledger")]


@pytest.mark.parametrize(
    "table",
    [table.name for table in symbol_tables() if "model" in table.types and table.time_column and amounts(table.name)],
)
def test_every_amount_of_a_model_is_checked(con: Connection, table: str) -> None:
    from heatmap_pipeline.store.checks import quantities_valid

    if table == "score_hours":  # nothing is scored here
        con.execute(
            "INSERT INTO score_hours (symbol, model, source, hour, side, recorded) "
            "VALUES ('BTCUSDT', 'turnover', 'binance_file', ?, 'long', false)",
            [DAYS[0]],
        )
    for name in amounts(table):
        con.begin()
        con.execute(f"UPDATE {table} SET {name} = 'nan'::DOUBLE WHERE rowid = (SELECT min(rowid) FROM {table})")
        model = con.execute(f"SELECT model FROM {table} WHERE isnan({name})").fetchall()[0][0]
        report = quantities_valid(con, "BTCUSDT", model, DAYS[0], DAYS[-1])
        assert report.numbers[f"bad_rows_of_{table}"] == 1, name
        con.rollback()


UNITS = re.compile(
    r"contracts|quote asset|a share|share of|percent|times the margin|hours|a ratio|in (its|the) unit", re.IGNORECASE
)


@pytest.mark.parametrize("relation", relations(), ids=lambda relation: relation.name)
def test_every_column_says_what_it_holds_its_unit_and_its_time_zone(relation: Relation) -> None:
    assert relation.comment
    for name, kind in relation.types.items():
        note = relation.notes[name]
        assert len(note) > 10, name
        assert note == note.strip(" ."), name
        if kind.startswith(("TIMESTAMP", "DATE")):
            assert "UTC" in note, name
        elif kind.startswith("DOUBLE"):
            assert UNITS.search(note), name
        elif kind in ("BIGINT", "INTEGER"):
            assert re.search(r"seconds|[Nn]umber|digits", note), name
        elif kind == "BOOLEAN":
            assert note.startswith("Whether"), name
        else:
            assert kind in ("VARCHAR", "VARCHAR[]", "ENUM('long', 'short')", "ENUM('liquidate', 'close', 'open')"), name
    assert all(relation.notes[name].startswith("JSON") for name in ("parameters", "repairs") if name in relation.types)


def test_a_database_says_all_of_it(con: Connection) -> None:
    stored = con.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal UNION ALL "
        "SELECT table_name, '', comment FROM duckdb_tables() WHERE NOT internal UNION ALL "
        "SELECT view_name, '', comment FROM duckdb_views() WHERE NOT internal"
    ).fetchall()
    assert {(name, column): comment for name, column, comment in stored} == dict(comments())
    assert len(stored) > 250


def test_the_documentation_is_the_dictionary() -> None:
    """Written by `python -m heatmap_pipeline_tests.tables_page`."""
    page = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()
    assert dictionary(published_relations()) in page
    described = [relation.name for relation in published_relations()]
    assert re.findall(r"^### `(\w+)`", page, re.MULTILINE) == described
    assert {relation.name for relation in relations()} - {*described} == {"failed_days", "alert_watches"}
