"""A score as people and the page get it: its rows by window, whose record it was held against, and the words for that.

What belongs here: the shape and the words. What does not: computing a score (`chain/scoring.py`), HTTP, a terminal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any

from heatmap_pipeline.instants import DAY, day_start, iso
from heatmap_pipeline.model.score.table import LEVEL_BRACKET, TRAILING_DAYS, ScoreRow, level_in_bracket, not_enough
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.raw import get_symbol
from heatmap_pipeline.store.scores import has_record, load_score, load_scored_hours, newest_day
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.symbols import typed_name
from heatmap_pipeline.views.errors import ViewError

_WHY_NOT: Mapping[str, str] = {
    "nothing stored": "nothing is stored of {symbol} {model}; compute its days first, with `{run}`",
    "simulated": (
        "{symbol} is simulated here; a score holds a map against liquidations that really happened, so simulated data "
        "are never scored"
    ),
    "no record": (
        "{symbol} is not scored here: no record of real liquidations is stored; set HEATMAP_LIQUIDATIONS to sources of "
        "them, or score against a folder of files with `{line} --liquidations DIR`"
    ),
    "coarse record": (
        "{symbol} is not scored here: its record holds sums over more than an hour, which no hour can be told from; "
        "add a source of single liquidations or of sums over an hour at most"
    ),
    "not yet": (
        "{symbol} is not scored yet: a record of real liquidations is stored, and the next run of the pipeline holds "
        "the map against it"
    ),
}

_NOT_ROWS = ("symbol", "model", "source", "window")


def words_why_not(symbol: str, model: str, reason: str, line: str, run: str) -> str:
    """Return the sentence for a score that there is none of.

    Args:
        symbol: as the exchange writes it.
        model: its name.
        reason: as `chain.scoring.NotScored` gives it, or `not yet`.
        line: to type for a score of the symbol.
        run: to type for days of the symbol.

    Example:
        >>> words_why_not("BTCUSDT", "delta", "nothing stored", "heatmap score BTCUSDT", "heatmap run BTCUSDT")
        'nothing is stored of BTCUSDT delta; compute its days first, with `heatmap run BTCUSDT`'
    """
    return _WHY_NOT[reason].format(symbol=typed_name(symbol), model=model, line=line, run=run)


def words_of_record(symbol: str, parameters: Mapping[str, Any]) -> str:
    """Return whose record a score was held against, and what that means for it.

    Example:
        >>> words_of_record("BTCUSDT", {"exchange": "bybit", "own_exchange": False, "complete": True})
        'held against the liquidations of bybit, another exchange than that of BTCUSDT: ranks only, no level'
    """
    exchange, name = parameters["exchange"], typed_name(symbol)
    if not parameters["own_exchange"]:
        return (
            f"held against the liquidations of {exchange}, another exchange than that of {name}: ranks only, no level"
        )
    complete = "a complete record" if parameters["complete"] else "not every one is printed, so reported is a floor"
    return f"held against the liquidations of {name} on its own exchange, {exchange}; {complete}"


def words_if_short(rows: Sequence[ScoreRow]) -> str:
    """Return what a window still lacks, by side; empty where both sides are scored."""
    count = {(row.side, row.measure): int(row.value) for row in rows if row.horizon == ""}
    texts = {
        side: not_enough(count[side, "days"], count[side, "hours_with_reports"])
        for side in dict.fromkeys(side for side, _ in count)
    }
    if len(set(texts.values())) == 1:
        return next(iter(texts.values())) or ""
    return "; ".join(f"{side}s {text}" for side, text in texts.items() if text)


def verdict(row: ScoreRow) -> str:
    """Return in words what a row says; empty where it says nothing that can be judged.

    A baseline is beaten where the whole interval of the difference is above 0, beats the map where it is below.

    Example:
        >>> rule = ("28d", "long", "nowcast", "spearman", "move x volume", 0.8, 0.7, 0.9)
        >>> [verdict(ScoreRow(*rule, *difference, 600)) for difference in [(0.1, 0.05, 0.2), (-0.1, -0.2, 0.1)]]
        ['we beat it', 'tie']
    """
    if row.measure == "level":
        low, high = LEVEL_BRACKET
        return f"{'within' if level_in_bracket(row.value) else 'outside'} {low:g} to {high:g}"
    if row.measure == "lift" and not row.baseline:
        return _told(row.low - 1, row.high - 1, "above chance", "below chance", "not told from chance")
    if row.measure == "partial":
        return _told(row.low, row.high, "knows more than the hour", "misleads", "knows no more than the hour")
    if row.measure == "spearman" and row.baseline:
        return _told(row.difference_low, row.difference_high, "we beat it", "beats us", "tie")
    return ""


def _told(low: float, high: float, above: str, below: str, neither: str) -> str:
    if math.isnan(low) or math.isnan(high):
        return ""
    return above if low > 0 else below if high < 0 else neither


def score_body(
    symbol: str, model: str, source: str, rows: Sequence[ScoreRow], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a score as JSON-able values: what is undefined is None."""
    windows: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kept = {name: value for name, value in asdict(row).items() if name not in _NOT_ROWS}
        windows.setdefault(row.window, []).append({name: _known(value) for name, value in kept.items()})
    short = {window: words_if_short([row for row in rows if row.window == window]) for window in windows}
    words = [words_of_record(symbol, parameters)]
    if trailing := next(iter(short.values()), ""):
        words.append(trailing)
    return {
        "symbol": symbol,
        "model": model,
        "scored": any(row.horizon for row in rows),
        "words": "; ".join(words),
        "source": {
            "name": source,
            "exchange": parameters["exchange"],
            "own_exchange": parameters["own_exchange"],
            "complete": parameters["complete"],
        },
        "windows": windows,
        "days": dict(parameters["windows"]),
        "as_of": parameters["as_of"],
        "simulated": False,
    }


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def score_record(con: Connection, symbol: str, model: str) -> dict[str, Any]:
    """Return the stored score of a symbol and model, or why there is none; with the reference score beside it.

    Keys: `symbol`, `model`, `scored`, `words` (why not, or whose record it is), `source` (`name`, `exchange`,
    `own_exchange`, `complete`; None where there is none), `windows` (rows of `map_scores` by window; what is undefined
    is None), `days` (first and last scored day of each window), `hours` (`hour`, `side`, `predicted`, `reported`: the
    recorded hours of the trailing window, contracts), `reference` (see `reference_score`), `as_of`, `simulated`.

    Args:
        con: an open database, private or published.
        symbol: as the exchange writes it.
        model: its name.

    Raises:
        ViewError: not found where nothing is stored of them.
    """
    stored, newest = get_symbol(con, symbol), newest_day(con, symbol, model)
    lines = stored_command(con, "score", symbol), stored_command(con, "run", symbol, days=("DAY", "DAY"))
    if stored is None or newest is None:
        raise ViewError("not_found", words_why_not(symbol, model, "nothing stored", *lines))
    stored_score = load_score(con, symbol, model)
    hours: dict[str, list[Any]] = {"hour": [], "side": [], "predicted": [], "reported": []}
    if stored_score is None:
        reason = "simulated" if stored.simulated else "not yet" if has_record(con, symbol) else "no record"
        body: dict[str, Any] = {
            "symbol": symbol,
            "model": model,
            "scored": False,
            "words": words_why_not(symbol, model, reason, *lines),
            "source": None,
            "windows": {f"{TRAILING_DAYS}d": [], "all": []},
            "days": {},
            "as_of": iso(day_start(newest) + DAY),
            "simulated": stored.simulated,
        }
    else:
        body = score_body(symbol, model, stored_score.source, stored_score.rows, stored_score.parameters)
        trailing = stored_score.parameters["windows"].get(f"{stored_score.parameters['trailing_days']}d")
        if trailing is not None:
            first, last = (date.fromisoformat(day) for day in trailing)
            hours = load_scored_hours(con, symbol, model, day_start(first), day_start(last) + DAY)
            hours["hour"] = [iso(hour) for hour in hours["hour"]]
    return {**body, "hours": hours, "reference": reference_score()}


@cache
def reference_score() -> dict[str, Any]:
    """Return the published score of docs/score.md, which is not to be changed: `symbols`, `days` and `scores`.

    `scores` are shaped as `score_body` returns them, one per symbol, of the window `all`. How to make the file is in
    docs/score.md.
    """
    scores: list[dict[str, Any]] = json.loads(
        files("heatmap_pipeline.views").joinpath("reference_score.json").read_bytes()
    )["scores"]
    of_all_days = [{**score, "windows": {"all": score["windows"]["all"]}} for score in scores]
    return {
        "symbols": [score["symbol"] for score in scores],
        "days": scores[0]["days"]["all"],
        "scores": of_all_days,
    }
