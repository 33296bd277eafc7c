"""Whether a run over stored days would do anything, and from which day on: asked before there is a run.

The rules are those by which the stages of a run leave a day alone: what it was read from, the chain of days, the
snapshots, the scores, what was drawn, what is published. Whatever cannot be told here is work for a run. No Dagster in
this file, and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from heatmap_pipeline.chain.due import clock_is_behind
from heatmap_pipeline.chain.exporting import words_for_old_export
from heatmap_pipeline.chain.history import History, outdated_days, read_history
from heatmap_pipeline.chain.ingest import check_kind
from heatmap_pipeline.chain.liquidations import liquidations_to_read
from heatmap_pipeline.chain.reading import program, read_since
from heatmap_pipeline.chain.recovery import loss
from heatmap_pipeline.chain.scoring import scores_are_current
from heatmap_pipeline.chain.settings import alert_rules
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.instants import SECONDS
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.same_files import SameFiles, pages_folder, same_page
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.settings import Settings, interval_name
from heatmap_pipeline.store.last_run import read_last_run
from heatmap_pipeline.store.origin import archive_folders
from heatmap_pipeline.store.publish import fingerprints, is_published, published_prints
from heatmap_pipeline.store.read import failed_days
from heatmap_pipeline.store.warehouse import Warehouse

NOTE = "command-"
"""How the notes of commands that go on are called, beside Dagster's history; a killed one leaves its own."""

_PATIENCE = 10.0
"""Seconds to wait for the warehouse; whoever runs then waits longer, and says for whom."""

Drawn = Callable[[str, str], bool]
"""Whether the page shows a symbol as drawn from inputs of a digest (`drawing_inputs`)."""


@dataclass(frozen=True)
class Change:
    """Why a run has something to do.

    Attributes:
        day: the first day that it is about, UTC; None where that is not known, and all of it has to be looked at.
        reason: in words.
    """

    day: date | None
    reason: str


def notes_of_commands(home: Path) -> list[Path]:
    """Return the notes of commands that go on just now, or were killed."""
    return sorted((home / "dagster").glob(f"{NOTE}*.json"))


def symbols_of_note(note: Path) -> set[str] | None:
    """Return the symbols that a command works on which left a note; None where it says nothing, or is gone."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return {str(symbol) for symbol in json.loads(note.read_bytes())["symbols"]}
    return None


def find_changes(settings: Settings, first: date, last: date, drawn: Drawn) -> dict[str, Change | None]:
    """Return what a run over days would have to do, by symbol; None where every stage would leave all as it is.

    Args:
        settings: of the run: its symbols, models, source.
        first: first day of the request, UTC.
        last: its last day; the run goes on to the last stored day.
        drawn: whether the page shows a symbol as it is stored.
    """
    unknown = dict.fromkeys(settings.symbols, Change(None, "it is not known what is stored"))
    warehouse = Warehouse(settings.home, lock_timeout=min(_PATIENCE, settings.lock_timeout))
    if not warehouse.symbols() or not (settings.home / "dagster").is_dir():
        return dict(unknown)
    for note in notes_of_commands(settings.home):
        about = symbols_of_note(note)
        if about is None or about & set(settings.symbols):
            return dict.fromkeys(settings.symbols, Change(None, "another command goes on, or was killed"))
    changes: dict[str, Change | None] = dict(unknown)
    try:
        prints = published_prints(warehouse, settings.symbols)
    except HeatmapError as error:
        return dict.fromkeys(settings.symbols, Change(None, str(error)))
    for symbol in filter(warehouse.holds, settings.symbols):
        try:
            with warehouse.look(symbol) as con:
                changes[symbol] = _change(con, settings, symbol, first, last, drawn, prints)
        except (HeatmapError, OSError) as error:  # the run comes upon it, and says so
            changes[symbol] = Change(None, str(error))
    return changes


def drawing_inputs(con: Any, settings: Settings, *symbols: str) -> str:
    """Return a digest of all that the pictures and the page of a symbol, or of several as one, depend on."""
    seconds = max(SECONDS[settings.snapshot_interval_of(symbol)] for symbol in symbols)
    known = repr((fingerprints(con, symbols=symbols), settings.models, seconds, program()))
    return hashlib.blake2b(known.encode(), digest_size=16).hexdigest()


def _change(
    con: Any, settings: Settings, symbol: str, first: date, last: date, drawn: Drawn, prints: Mapping[str, str]
) -> Change | None:
    history = read_history(con, settings, symbol)
    check_kind(history.symbol, settings, symbol)
    stored = history.raw["candles"]
    tip = max([day for day in (history.tip, *stored) if day is not None], default=None)
    if tip is None or clock_is_behind(tip):
        return Change(None, "its days have to be looked at")
    if whole := _of_the_home(settings, history):
        return Change(None, whole)
    days = [first + timedelta(days=ago) for ago in range((max(last, tip) - first).days + 1)]
    changes = list(_changed_days(con, settings, history, days))
    if changes:
        return min(changes, key=lambda change: change.day or date.min)
    reason = next(filter(None, _left_to_do(con, settings, history, days, drawn, prints)), "")
    return Change(tip, reason) if reason else None


def _of_the_home(settings: Settings, history: History) -> str:
    """Say why nothing can be told day by day, '' where it can."""
    symbol = history.symbol.symbol
    run = read_last_run(settings.home)
    if run is not None and run.failed and (symbol in run.failures or not run.failures):
        return "the last run failed"
    if not history.symbol.quote:
        return "nobody has said what its prices are in"
    if settings.kind.given_folder and archive_folders(settings.home).get(symbol) != settings.archive_root:
        return f"it was not read from {settings.archive_root}"
    return ""


def _changed_days(con: Any, settings: Settings, history: History, days: Sequence[date]) -> Iterator[Change]:
    """Yield a change for each rule, of the first day that is not as it says."""
    symbol, stored = history.symbol.symbol, history.raw["candles"]
    within = set(days)
    if failed := [day for _, day, _ in failed_days(con, symbol)]:
        yield Change(min(failed) if min(failed) in within else days[-1], "it failed before")
    missing = [day for day in days if day not in stored]
    if missing and (there := _can_be_had(settings, symbol, history, missing)):
        yield Change(min(there), f"{min(there)} is not stored")
    present = [day for day in days if day in stored]
    for model, of_model in history.days.items():
        if uncomputed := next((day for day in present if day not in of_model), None):
            yield Change(uncomputed, f"{uncomputed} is not computed by {model}")
        if outdated := outdated_days(settings, history, model):
            yield Change(max(days[0], min(each.first for each in outdated)), f"{outdated[0].day}: {outdated[0].reason}")
    if read := _read_otherwise(con, settings, history, present):
        yield read


def _can_be_had(settings: Settings, symbol: str, history: History, missing: Sequence[date]) -> set[date]:
    """Return those of the days that are not stored which a run would ask for: none of a gap without any data."""
    stored = history.raw["candles"]
    outside = {day for day in missing if not min(stored) < day < max(stored)} if stored else set(missing)
    if outside or not settings.kind.given_folder:
        return outside or set(missing)
    return open_market(settings).available(symbol, missing)


def _read_otherwise(con: Any, settings: Settings, history: History, days: Sequence[date]) -> Change | None:
    """Return the first stored day that may be other rows if it is read now."""
    symbol, kind = history.symbol.symbol, settings.kind
    if kind.given_folder:
        open_market(settings).prepare(symbol, [])  # no archive, or none that knows the symbol: the run says so
    files = SameFiles(settings.archive_root, settings.accept_checksum, fetched=kind.over_network)
    intervals = {"candles": interval_name(history.symbol.candle_interval_seconds), "open_interest": ""}
    since = {name: read_since(con, settings, symbol, name) for name in intervals}
    for day in days:
        for name, interval in intervals.items():
            raw = history.raw[name].get(day)
            if raw is None:
                return Change(day, f"the {_WORDS[name]} of {day} is not stored")
            if raw.facts.get("provisional") or raw.facts.get("via") == "rest":
                return Change(day, f"the {_WORDS[name]} of {day} did not come from a file")
            if raw.facts.get("via") == "pages":
                same: bool | None = same_page(pages_folder(settings.home, symbol), raw.facts)
            else:
                same = files.same(ArchiveFile(symbol, day, interval), raw.facts, raw.repairs)
            if same is None and kind.given_folder:
                continue  # what is stored stays
            if not same:
                return Change(day, f"the file with the {_WORDS[name]} of {day} is another one")
            known = since[name]
            if known is None or day < known:
                return Change(day, f"{day} was read by another version of this program, or with other settings")
    return None


_WORDS = {"candles": "candles", "open_interest": "open interest"}


def _left_to_do(
    con: Any, settings: Settings, history: History, days: Sequence[date], drawn: Drawn, prints: Mapping[str, str]
) -> Iterator[str]:
    """Yield what of the stages after the days is to be done."""
    symbol = history.symbol.symbol
    for model in settings.models:
        kept_from = history.cells_from(settings, model)
        if any(day < kept_from for day in history.snapshots[model]):
            yield f"snapshots of {model} before {kept_from} are not to be kept"
    yield liquidations_to_read(con, settings, symbol, days)
    if not scores_are_current(con, symbol, settings.models):
        yield "its score is not that of what is stored"
    yield loss(con, settings, symbol) or ""
    if not is_published(con, symbol, prints):
        yield "it is not published as it is stored"
    if not drawn(symbol, drawing_inputs(con, settings, symbol)):
        yield "its pictures and its page do not show what is stored"
    if settings.alerts is not None:
        from heatmap_pipeline.chain.alerts import has_to_look  # noqa: PLC0415  # most have none, and it loads slowly

        if has_to_look(con, symbol, settings.models, alert_rules(settings)):
            yield "rules for alerts have not looked at it"
    yield words_for_old_export(settings) or ""
