"""What stands beside the Parquet files of an export: views that give all names, and a page that says what it is.

What belongs here: `open.sql` and `README.md` of the tree, made from schema.sql and from what is published. What does
not: the files themselves (`export.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from heatmap_pipeline.errors import listed
from heatmap_pipeline.store.dictionary import dictionary, published_relations
from heatmap_pipeline.store.schema import Table, schema_text, tables
from heatmap_pipeline.store.sql import Connection, rows

OLDEST = "1.1"
"""The oldest DuckDB that `open.sql` was tried with."""


def opening(count: Mapping[str, int]) -> str:
    """Return the statements that give a DuckDB session every table and view by its published name.

    Args:
        count: rows by table; one without any has no file, and is a view without rows.
    """
    parts = [_OPENING.format(oldest=OLDEST)]
    parts += [_view(table, count.get(table.name, 0)) for table in tables() if not table.private]
    for view in re.findall(r"^CREATE VIEW .*?;$", schema_text(), re.MULTILINE | re.DOTALL):
        parts.append(_without_types(view).replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
    for name, comment in _described():
        text = comment.replace("'", "''")
        parts.append(f"COMMENT ON VIEW {name} IS '{text}';")
    return "\n\n".join(parts) + "\n"


_OPENING = """\
-- Views over the Parquet files beside this file, with the names and columns of heatmap.duckdb; from DuckDB {oldest} on.
-- The paths are those of this folder: start in it, or say before where it is: SET file_search_path = '/path/to/it';"""


def _view(table: Table, count: int) -> str:
    kinds = {name: "VARCHAR" if kind.startswith("ENUM") else kind for name, kind in table.types.items()}
    if not count:
        columns = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in kinds.items())
        return f"CREATE OR REPLACE VIEW {table.name} AS\nSELECT {columns} WHERE false;"
    columns = ", ".join(f'"{name}"' for name in kinds)
    keys = [*(["symbol=*"] if "symbol" in kinds else []), *(["month=*"] if table.time_column else [])]
    path = "/".join([table.name, *keys, "part.parquet"])
    hive = ", hive_partitioning = true, hive_types_autocast = false" if keys else ""
    return f"CREATE OR REPLACE VIEW {table.name} AS\nSELECT {columns} FROM read_parquet('{path}'{hive});"


def _without_types(view: str) -> str:
    """Return a view that needs no type of ours: the older DuckDBs cannot make one unless it is there."""
    for name, values in re.findall(r"^CREATE TYPE (\w+) AS ENUM \((.*?)\);$", schema_text(), re.MULTILINE):
        view = view.replace(f"enum_range(NULL::{name})", f"[{values}]").replace(f" AS {name})", " AS VARCHAR)")
    return view


def _described() -> Iterator[tuple[str, str]]:
    """Yield name and comment of everything that `open.sql` gives a name to."""
    for relation in published_relations():
        yield relation.name, relation.comment


def guide(con: Connection, count: Mapping[str, int]) -> str:
    """Return the page that says what is in the tree, in which units, as of when, and how it is opened.

    Args:
        con: the published database.
        count: rows by table.
    """
    stored = rows(con, _STORED)
    made_up = sorted({row[0] for row in stored if row[1]})
    simulated = f" The market of {listed(made_up)} is **simulated** as well: nobody traded there." if made_up else ""
    names = {table.name for table in tables()}
    return _GUIDE.format(
        oldest=OLDEST,
        simulated=simulated,
        stored="\n".join(
            f"| {symbol} | {model} | {days} | {first} | {last} | {newest:%Y-%m-%d %H:%M} | "
            f"{cells or 'none'} | {'simulated' if made_up else source} |"
            for symbol, made_up, source, model, days, first, last, newest, cells in stored
        ),
        tables="\n".join(f"| `{n}` | {count.get(n, 0)} | {text} |" for n, text in _described() if n in names),
        views="\n".join(f"| `{n}` | {text} |" for n, text in _described() if n not in names),
        columns=dictionary(published_relations()),
    )


_STORED = """
    WITH newest AS (SELECT symbol, max(open_time) AS open_time FROM raw_candles GROUP BY symbol)
    SELECT s.symbol, s.simulated, s.source, d.model, count(*), min(d.day), max(d.day), any_value(n.open_time),
        (SELECT min(c.day) FROM snapshot_days AS c WHERE c.symbol = s.symbol AND c.model = d.model)
    FROM symbols AS s JOIN heatmap_days AS d ON d.symbol = s.symbol JOIN newest AS n ON n.symbol = s.symbol
    GROUP BY ALL ORDER BY s.symbol, d.model DESC
"""

_GUIDE = """\
# A liquidation heatmap, as Parquet files

At which prices leveraged positions would be liquidated, and how much, at each moment: the tables of `heatmap.duckdb`,
row for row, for programs that cannot open that file, as it takes DuckDB 1.5. These files take any DuckDB from {oldest}
on, pandas, Polars, Arrow, or whatever else reads Parquet. The verb `export` of the command `heatmap` wrote them.

The tables `raw_...` and `recorded` are what exchanges published. Everything else is **modelled** from candles and open
interest, no observation of anybody's orders.{simulated}

## Open it

In this folder, with DuckDB's command line or with Python:

```sh
duckdb -init open.sql
```

```sh
python -c "import duckdb; duckdb.sql(open('open.sql').read()); duckdb.sql('FROM liquidation_map LIMIT 5').show()"
```

`open.sql` gives every table and view below its name. In a program that starts elsewhere (Metabase, DBeaver, Node) the
first statement is `SET file_search_path = '/path/to/this/folder';`, then come those of `open.sql`. Without DuckDB a
table is its folder:

```python
import pandas

pandas.read_parquet("book_ledger")
```

## What is in it

| symbol | model | days | first | last | newest candle (UTC) | cells since | market |
|---|---|---|---|---|---|---|---|
{stored}

Of days before the one that is named, cells (`liquidation_snapshots`) are not kept: that they are missing does not mean
that the map was empty.

| table | rows | a row is |
|---|---|---|
{tables}

| view of `open.sql` | a row is |
|---|---|
{views}

## Units and types

- Times are UTC, without a zone. A candle, interval or hour is named by its start, its state is the one at its end.
- Prices and volumes are in the quote asset of the contract (`symbols.quote`), quantities in contracts. A missing value
  is NULL, never 0.
- `side` and `event_type` are text here, ENUM in `heatmap.duckdb`; all other types are the same.
- `symbol` is in the path of a file and not in it; so is `month`, that of `day`, `timestamp` or `hour`.

## While it is written

A file is written elsewhere and renamed into its place, so it is always whole; only months in which something changed
are written. The tree is not replaced at one stroke: while an export is going on, one file may be of this publication
and another of the one before, and a query that is just reading a file as it is replaced may fail; ask again.
`heatmap-export.json` lists the files with rows and bytes. It is written last: as long as it says `"complete": true` and
stays the same while you read, what you read is one publication.

## Every column

{columns}
"""
