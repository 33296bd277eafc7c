"""The data dictionary: every table and view with its columns, types and units, as Markdown made from schema.sql.

What belongs here: the one form in which docs/tables.md and the page beside an export say what is in the tables. What
does not: what they say, which is schema.sql's.
"""

from __future__ import annotations

from collections.abc import Iterable

from heatmap_pipeline.store.schema import Relation, Table, relations


def published_relations() -> tuple[Relation, ...]:
    """Return every table and view that readers of the published database find filled, tables first."""
    return tuple(each for each in relations() if not (isinstance(each, Table) and each.private))


def dictionary(described: Iterable[Relation]) -> str:
    """Return a section per table or view: what a row is, and a table of its columns.

    Example:
        >>> print(dictionary([relations()[0]]))
        ### `schema_version`
        <BLANKLINE>
        The version of these tables.
        <BLANKLINE>
        | column | type | what it holds |
        |---|---|---|
        | `version` | INTEGER | Number of the version; it goes up where a column, a table or a view comes |
    """
    return "\n\n".join(_section(relation) for relation in described)


def _section(relation: Relation) -> str:
    title = f"### `{relation.name}`" + ("" if isinstance(relation, Table) else " (view)")
    columns = [f"| `{name}` | {kind} | {relation.notes[name]} |" for name, kind in relation.types.items()]
    return "\n".join([title, "", f"{relation.comment}.", "", *_HEADING, *columns])


_HEADING = ("| column | type | what it holds |", "|---|---|---|")
