"""Rows of many days into a table: all of them, in order, in batches of the size that DuckDB compresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from heatmap_pipeline.store import sql
from heatmap_pipeline.store.sql import Connection, constant, insert_parts, rows, scalar, transaction


@pytest.fixture
def con() -> Iterator[Connection]:
    with duckdb.connect() as opened:
        opened.execute("CREATE TABLE numbers (name VARCHAR, number BIGINT)")
        yield opened


def part(name: str | None, first: int, count: int) -> Mapping[str, Any]:
    return {"number": pa.array(np.arange(first, first + count)), "name": constant(name, count)}


@pytest.mark.parametrize(
    "counts", [[0], [1], [0, 3, 0], [sql._ROW_GROUP], [sql._ROW_GROUP - 1, 2], [5, 3 * sql._ROW_GROUP + 7, 0, 11]]
)
def test_parts_are_appended_in_order_each_with_its_own_words(con: Connection, counts: list[int]) -> None:
    firsts = np.cumsum([0, *counts]).tolist()
    insert_parts(con, "numbers", (part(f"n{place}", firsts[place], count) for place, count in enumerate(counts)))
    assert [n for (n,) in rows(con, "SELECT number FROM numbers")] == list(range(firsts[-1]))
    found = rows(con, "SELECT name, min(number), count(*) FROM numbers GROUP BY 1 ORDER BY 2")
    assert found == [(f"n{place}", firsts[place], count) for place, count in enumerate(counts) if count]


def test_no_part_is_no_row_and_a_word_may_be_missing(con: Connection) -> None:
    insert_parts(con, "numbers", ())
    assert scalar(con, "SELECT count(*) FROM numbers") == 0
    insert_parts(con, "numbers", [part(None, 0, 2), part("one", 2, 1)])
    assert rows(con, "SELECT * FROM numbers") == [(None, 0), (None, 1), ("one", 2)]


def test_all_batches_but_the_last_fill_a_row_group() -> None:
    tables = [pa.table(dict(part(f"n{place}", 0, 50_000))) for place in range(7)]
    sizes = [batch.num_rows for batch in sql._row_groups(tables)]
    assert sizes == [122_880, 122_880, 7 * 50_000 - 2 * 122_880]


@pytest.mark.parametrize("error", [OSError("of a part"), MemoryError("of a part"), KeyboardInterrupt("of a part")])
def test_a_part_that_cannot_be_made_leaves_nothing_and_is_the_error(con: Connection, error: BaseException) -> None:
    def parts() -> Iterator[Mapping[str, Any]]:
        yield part("one", 0, 3)
        raise error

    with pytest.raises(type(error), match="of a part") as raised, transaction(con):
        insert_parts(con, "numbers", parts())
    assert raised.value is error
    assert scalar(con, "SELECT count(*) FROM numbers") == 0
