"""docs/tables.md as it has to be: the dictionary of today, and under each query what it gives on real set A.

`python -m heatmap_pipeline_tests.tables_page HOME` writes it, from a home that `heatmap run` has made of that set.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import duckdb

from heatmap_pipeline.store.dictionary import dictionary, published_relations

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"

_QUERY = re.compile(r"```sql\n(?P<query>.*?)\n```\n\n```text\n(?P<output>.*?)\n```", re.DOTALL)
_DICTIONARY = re.compile(r"(?<=<!-- dictionary -->\n\n).*?(?=\n\n<!-- end of the dictionary -->)", re.DOTALL)


def queries(page: str) -> list[tuple[str, str]]:
    """Return each query that has an output below it, and that output."""
    return [(match["query"], match["output"]) for match in _QUERY.finditer(page)]


def output(con: duckdb.DuckDBPyConnection, query: str) -> str:
    """Return what a query prints in Python and on DuckDB's command line."""
    lines = str(con.sql(query)).rstrip().split("\n")
    return "\n".join(line.rstrip() for line in lines)


def with_dictionary(page: str) -> str:
    """Return the page with the dictionary of today."""
    return _DICTIONARY.sub(lambda _: dictionary(published_relations()), page)


def with_outputs(page: str, con: duckdb.DuckDBPyConnection) -> str:
    """Return the page with what its queries give now."""

    def written(match: re.Match[str]) -> str:
        return f"```sql\n{match['query']}\n```\n\n```text\n{output(con, match['query'])}\n```"

    return _QUERY.sub(written, page)


if __name__ == "__main__":
    with duckdb.connect(str(Path(sys.argv[1]) / "heatmap.duckdb"), read_only=True) as opened:
        PAGE.write_text(with_outputs(with_dictionary(PAGE.read_text()), opened))
