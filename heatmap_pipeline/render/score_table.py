"""Scores on a terminal: what beats the map as plainly as what it beats. Plain text, so that it can be piped."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from heatmap_pipeline.chain.scoring import NotScored, Scored
from heatmap_pipeline.commands import command
from heatmap_pipeline.model.score.table import ScoreRow
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.symbols import typed_name
from heatmap_pipeline.views.score import score_body, verdict, words_if_short, words_of_record, words_why_not

_WIDTH = 120
_DIGITS = 6
"""Decimals of the JSON: more than any interval is sure of, and the same on every machine."""

_HORIZONS = {"nowcast": "nowcast", "at_start": "at the hour's start"}
_LEGEND = (
    "nowcast: all that the map liquidated in an hour; at the hour's start: of that what stood open before.\n"
    "docs/score.md says what the numbers are.\n"
)
_MEASURES = {
    "spearman": "agreement (Spearman)",
    "partial": "given move, range, volume",
    "level": "level: predicted / reported",
    "log_error": "median |log10| error",
    "lift": "brightest tenth (lift)",
    "hours_with_reports": "hours with reports",
    "days": "days",
}


def score_tables(outcome: Iterable[Scored | NotScored]) -> Iterator[str]:
    """Yield the tables of each score, one per window."""
    for result in outcome:
        if isinstance(result, NotScored):
            continue
        words = words_of_record(result.symbol, result.parameters)
        yield f"{typed_name(result.symbol)} {result.model}: {words}; {result.source}"
        windows = dict.fromkeys(row.window for row in result.rows)
        for window in windows:
            rows = [row for row in result.rows if row.window == window]
            yield _title(result, window, rows)
            if any(row.horizon for row in rows):
                yield _table(rows)
        yield _LEGEND


def _title(result: Scored, window: str, rows: Sequence[ScoreRow]) -> str:
    first, last = result.parameters["windows"].get(window, ("-", "-"))
    name = "all recorded time" if window == "all" else f"trailing {window.removesuffix('d')} days"
    short = words_if_short(rows)
    counts = {row.side: int(row.value) for row in rows if row.measure == "hours_with_reports"}
    hours = max((row.hours for row in rows), default=0)
    with_reports = " / ".join(f"{counts[side]}" for side in counts)
    text = f"{name}, {first} .. {last}: {hours} recorded hours, {with_reports} of them with reports (long / short)"
    return f"{text}; {short}" if short else text


def _table(rows: Sequence[ScoreRow]) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("", "[95 %]", "map minus it [95 %]", "", "hours"):
        table.add_column(name, justify="right" if name == "hours" else "left", no_wrap=True)
    for side in dict.fromkeys(row.side for row in rows):
        for horizon, words in _HORIZONS.items():
            table.add_row(f"{side}s, {words}")
            for row in rows:
                if (row.side, row.horizon) == (side, horizon):
                    table.add_row(*_cells(row))
            table.add_section()
    buffer = io.StringIO()
    Console(file=buffer, width=_WIDTH, color_system=None, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _cells(row: ScoreRow) -> tuple[str, ...]:
    return (
        f"    {row.baseline}" if row.baseline else f"  {_MEASURES[row.measure]}",
        _with_interval(row.value, row.low, row.high),
        _with_interval(row.difference, row.difference_low, row.difference_high, sign=True),
        verdict(row),
        str(row.hours),
    )


def _with_interval(value: float, low: float, high: float, *, sign: bool = False) -> str:
    texts = [_number(each, sign=sign) for each in (value, low, high)]
    return f"{texts[0]} [{texts[1]} .. {texts[2]}]" if texts[1] else texts[0]


def _number(value: float, *, sign: bool = False) -> str:
    return "" if math.isnan(value) else f"{value:+.3f}" if sign else f"{value:.3f}"


def any_scored(outcome: Iterable[Scored | NotScored]) -> bool:
    """Return whether there is a score at all, be it one that says "not enough yet"."""
    return any(isinstance(result, Scored) for result in outcome)


def refusals(settings: Settings, outcome: Iterable[Scored | NotScored]) -> list[str]:
    """Return a sentence for each symbol and model without a score; models that share a sentence share it."""
    sentences = [
        result.words
        or words_why_not(
            result.symbol,
            result.model,
            result.reason,
            command(settings, "score", result.symbol),
            command(settings, "run", result.symbol, days=("DAY", "DAY")),
        )
        for result in outcome
        if isinstance(result, NotScored)
    ]
    return list(dict.fromkeys(sentences))


def scores_as_json(outcome: Iterable[Scored | NotScored]) -> str:
    """Return the scores as JSON, shaped as `views.score.score_body`, without those that cannot be scored."""
    bodies = [
        score_body(result.symbol, result.model, result.source, result.rows, result.parameters)
        for result in outcome
        if isinstance(result, Scored)
    ]
    for body in bodies:
        for rows in body["windows"].values():
            for row in rows:
                row.update({name: round(value, _DIGITS) for name, value in row.items() if isinstance(value, float)})
    return json.dumps({"scores": bodies}, indent=1)
