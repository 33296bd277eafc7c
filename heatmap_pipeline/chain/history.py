"""What is stored of a symbol and what follows from it: what follows what, what is stale, with which parameters.

Dagster enforces none of this on manual launches, schedules and re-runs, so everything that computes asks here first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any

from heatmap_pipeline.chain.commands import run_command
from heatmap_pipeline.commands import command
from heatmap_pipeline.errors import HeatmapError, listed
from heatmap_pipeline.instants import ONE_DAY, SECONDS
from heatmap_pipeline.market.brackets import kept_tiers, load_bracket
from heatmap_pipeline.model.parameters import (
    MODELS,
    Bracket,
    ModelError,
    ModelParameters,
    choose_bucket,
    follow_bucket,
)
from heatmap_pipeline.settings import Settings, setting_of
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.days import DayRecord
from heatmap_pipeline.store.raw import RawDay, SymbolRecord

CLOSES = "closes"
"""Where the state of a day says its first and its last close, which the buckets of days follow from."""

RESTARTED = "restarted"
"""Where the state of a day says that a history begins with it although the day before is stored: see `restarted`."""

_NAMED = 3
"""How many changed parameters a reason names."""

Connect = Callable[[], AbstractContextManager[Any]]
"""Opens the private database of a symbol under its lock; see `store.warehouse.Warehouse.connect`."""


class ChainError(HeatmapError):
    """A day that cannot be computed because of its neighbours; names the day and the command that repairs it."""


@dataclass(frozen=True)
class Stale:
    """A stored day whose numbers no longer follow from what is before it; `first` is where a rebuild has to begin."""

    day: date
    reason: str
    first: date


@dataclass(frozen=True)
class History:
    """What is stored of one symbol: its raw days and, per model, the days of the chain and of the snapshots.

    `snapshots` says per day which state they were made from, and their distance in seconds.
    """

    symbol: SymbolRecord
    raw: Mapping[str, Mapping[date, RawDay]]
    days: Mapping[str, Mapping[date, DayRecord]]
    snapshots: Mapping[str, Mapping[date, tuple[str, int]]]

    def input_hash(self, day: date) -> str | None:
        """Return the hash of the clean rows a day is computed from, of what was repaired, and of whether it was over.

        None where candles or samples are not stored.
        """
        candles, samples = self.raw["candles"].get(day), self.raw["open_interest"].get(day)
        if candles is None or samples is None:
            return None
        known = [candles.content_hash, samples.content_hash, self.repairs(day), self.provisional(day)]
        text = json.dumps(known, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def repairs(self, day: date) -> dict[str, Any]:
        """Return what was repaired in the rows of a stored day, and how the clock of its samples was told."""
        candles, samples = self.raw["candles"][day], self.raw["open_interest"][day]
        repairs: dict[str, Any] = {"candles": candles.repairs, "open_interest": samples.repairs}
        if "clock" in samples.facts:
            repairs["clock"] = samples.facts["clock"]
        return repairs

    def provisional(self, day: date) -> bool:
        """Return whether a day's rows are those of a day that was not over when they were read."""
        kinds = ("candles", "open_interest")
        return any(bool(self.raw[kind][day].facts.get("provisional")) for kind in kinds if day in self.raw[kind])

    @property
    def tip(self) -> date | None:
        """The newest day of any model."""
        return max((day for days in self.days.values() for day in days), default=None)

    def cells_from(self, settings: Settings, model: str) -> date:
        """Return the first day of a model whose cells are kept: its newest ones by HEATMAP_KEEP_CELLS, or all."""
        newest = max(self.days[model], default=date.min)
        kept = settings.keep_cells or newest.toordinal()
        return date.fromordinal(max(newest.toordinal() - kept + 1, 1))


def read_history(con: Any, settings: Settings, symbol: str) -> History:
    """Read what is stored of a symbol, for the models of the settings.

    Raises:
        ChainError: if the symbol was never ingested.
    """
    record = stored_raw.get_symbol(con, symbol)
    if record is None:
        begin = command(settings, "run", symbol, days=("DAY", "DAY"))
        raise ChainError(f"{symbol}: nothing is stored yet; ingest it with `{begin}`")
    days = {model: stored.day_records(con, symbol, model) for model in settings.models}
    snapshots = {model: stored.snapshot_days(con, symbol, model) for model in settings.models}
    return History(record, stored_raw.raw_days(con, symbol), days, snapshots)


def day_bucket(settings: Settings, symbol: str, before: tuple[float, float] | None, first_close: float) -> float:
    """Return the bucket of a day, USDT: the setting of the symbol, else one that follows the price.

    Args:
        settings: which may fix it.
        symbol: as the exchange writes it.
        before: bucket and last close (USDT) of the day before; None on the first day of a history.
        first_close: close of the day's first candle, USDT: what a history begins with.
    """
    fixed = settings.of(symbol).bucket
    if fixed is not None:
        return fixed
    return choose_bucket(first_close) if before is None else follow_bucket(*before)


def resolve_parameters(
    settings: Settings, record: SymbolRecord, model: str, day: date, bucket: float
) -> ModelParameters:
    """Return the parameters of a model for one symbol and day.

    Maintenance margin rate and largest leverage: settings win, then the bracket file, then the tiers that the exchange
    told of this market, then the defaults.

    Raises:
        ChainError: if a bracket file is set and holds the symbol as little as what the exchange told, or no model can
            be had of such settings, or there is no such model.
    """
    if model not in MODELS:
        raise ChainError(f"{record.symbol} {model}: this program has no such model; it has {listed(MODELS)}")
    symbol_settings = settings.of(record.symbol)
    bracket = Bracket()
    if symbol_settings.maintenance_margin_rate is None or symbol_settings.max_leverage is None:
        bracket = _first_bracket(settings, record.symbol, day)
    bracket = Bracket(
        symbol_settings.maintenance_margin_rate or bracket.maintenance_margin_rate,
        symbol_settings.max_leverage or bracket.max_leverage,
    )
    try:
        return ModelParameters(MODELS[model], bucket, record.candle_interval_seconds, bracket)
    except ModelError as error:
        raise ChainError(
            f"{record.symbol} {model}: {error}; change {setting_of('max_leverage', record.symbol)}, "
            f"{setting_of('maintenance_margin_rate', record.symbol)} or {setting_of('bucket', record.symbol)}"
        ) from None


def _first_bracket(settings: Settings, symbol: str, day: date) -> Bracket:
    """Return the first bracket of a market on a day, by a file or by what its exchange told, else the default."""
    for place in (settings.leverage_brackets, kept_tiers(settings.archives, symbol)):
        bracket_values = None if place is None else load_bracket(place, symbol, day)
        if bracket_values is not None:
            return Bracket(*bracket_values)
    if settings.leverage_brackets is not None:
        raise ChainError(
            f"{symbol} is not in HEATMAP_LEVERAGE_BRACKETS = {settings.leverage_brackets}; set "
            f"{setting_of('maintenance_margin_rate', symbol)} and {setting_of('max_leverage', symbol)}, or add it"
        )
    return Bracket()


def _wanted_parameters(settings: Settings, record: SymbolRecord, model: str) -> Callable[[date, float], str]:
    """Return a function that says the parameters of a day and bucket as JSON; days are told apart by dated brackets."""
    dated = settings.leverage_brackets is not None or kept_tiers(settings.archives, record.symbol) is not None

    @cache
    def known(day: date, bucket: float) -> str:
        return resolve_parameters(settings, record, model, day, bucket).to_json()

    return lambda day, bucket: known(day if dated else date.max, bucket)


def parameter_changes(recorded: str, wanted: str) -> list[str]:
    """Say how the parameters recorded of a day differ from those it would have now, both as JSON: one text for each.

    Numbers and words come first, as lists are named only. What one of the two does not have is `none`.

    Example:
        >>> parameter_changes('{"bucket": 100.0, "entry": [1]}', '{"bucket": 200.0, "entry": [2], "turnover": 0.2}')
        ['bucket 100 -> 200', 'turnover none -> 0.2', 'other entry']
    """
    before, after = json.loads(recorded), json.loads(wanted)
    plain, lists = [], []
    for name in sorted({*before, *after}):
        values = before.get(name), after.get(name)
        if any(isinstance(value, list) for value in values):
            lists += [f"other {name}"] if values[0] != values[1] else []
        elif values[0] != values[1]:
            plain.append(f"{name} {_written(values[0])} -> {_written(values[1])}")
    return plain + lists


def _written(value: float | str | None) -> str:
    """Return a recorded parameter as a person writes it."""
    if value is None:
        return "none"
    return f"{value:.10g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _other_parameters(recorded: str, wanted: str) -> str:
    """Say that a day was computed with other parameters, and which: three of them, and how many more."""
    changes = parameter_changes(recorded, wanted)
    more = [f"{len(changes) - _NAMED} more"] if len(changes) > _NAMED else []
    which = ", ".join([*changes[:_NAMED], *more])
    return f"it was computed with other parameters{': ' if which else ''}{which}"


def closes(record: DayRecord) -> tuple[float, float] | None:
    """Return the first and the last close of the candles a day was computed from, USDT; None from earlier versions."""
    ends = record.state.get(CLOSES)
    return None if ends is None else (ends[0], ends[1])


def restarted(record: DayRecord | None) -> bool:
    """Whether a day began a history anew (`--restart`) though the day before it is stored: nothing is carried on."""
    return record is not None and bool(record.state.get(RESTARTED))


def stale_days(settings: Settings, history: History, model: str) -> list[Stale]:
    """Return the stored days of a model that no longer follow, in order, each with the reason.

    A day is stale when its rows or its parameters changed, when the day before it has another state than the one it
    started from, or when it comes after such a day.
    """
    stale: list[Stale] = []
    records = history.days[model]
    wanted = _wanted_parameters(settings, history.symbol, model)
    before: DayRecord | None = None
    broken: date | None = None
    earlier: tuple[float, float] | None = None  # bucket and last close of the day before, as they ought to be
    for day in sorted(records):
        record = records[day]
        reason, first = None, day
        day_closes = closes(record)
        if record.previous_hash == "":
            broken = earlier = None
            if before is not None and before.day == day - ONE_DAY and not restarted(record):
                reason = f"it began a history, and now {before.day} is before it"
        elif before is None or before.day != day - ONE_DAY:
            reason = f"its predecessor {day - ONE_DAY} is missing"
            first = day if before is None else before.day + ONE_DAY
        elif record.previous_hash != before.state_hash:
            reason = f"its predecessor {before.day} was computed again with another result"
        if record.input_hash != history.input_hash(day):
            reason = "its candles or open interest changed"
        elif day_closes is None:
            reason = "it was computed by an earlier version, whose rules are gone"
        if day_closes is None:
            earlier = None
        else:
            bucket = day_bucket(settings, history.symbol.symbol, earlier, day_closes[0])
            earlier = bucket, day_closes[1]
            if reason is None and record.parameters != (parameters := wanted(day, bucket)):
                reason = _other_parameters(record.parameters, parameters)
        if reason is None and broken is not None:
            reason = f"it follows {broken}"
        if reason is not None:
            stale.append(Stale(day, reason, first))
            broken = broken or day
        before = record
    return stale


def outdated_days(settings: Settings, history: History, model: str) -> list[Stale]:
    """Return the stored days of a model to be made again, in order: `stale_days`, and those whose snapshots are old.

    A run that was stopped between the two stages leaves days whose events are newer than their snapshots; a larger
    HEATMAP_KEEP_CELLS wants those of days that had theirs taken away.
    """
    snapshots, kept_from = history.snapshots[model], history.cells_from(settings, model)
    seconds = SECONDS[settings.snapshot_interval_of(history.symbol.symbol)]
    reason = "its snapshots are not made from its present events, were not kept, or are at another interval"
    outdated = {
        day: Stale(day, reason, day)
        for day, record in history.days[model].items()
        if day >= kept_from and snapshots.get(day) != (record.state_hash, seconds)
    }
    outdated |= {stale.day: stale for stale in stale_days(settings, history, model)}
    return [outdated[day] for day in sorted(outdated)]


def rebuilding(settings: Settings, history: History, *, through: date | None = None) -> str:
    """Return the command that makes every outdated day of a symbol again, to its newest day or to `through`."""
    outdated = [stale.first for model in history.days for stale in outdated_days(settings, history, model)]
    ends = [day for day in (history.tip, through) if day is not None]
    return run_command(settings, history.symbol.symbol, min(outdated, default=max(ends)), max(ends))


def check_start(settings: Settings, history: History, model: str, day: date, restart: bool) -> DayRecord | None:
    """Return the record a day has to start from, None for the start of a history.

    Raises:
        ChainError: for a gap, and for a predecessor that is stale; with the command that repairs it.
    """
    records = history.days[model]
    earlier = [known for known in records if known < day]
    name = history.symbol.symbol
    if not earlier:
        others = min((known for days in history.days.values() for known in days), default=day)
        if others < day and not restart:
            first = run_command(settings, name, others, max(history.tip or day, day))
            raise ChainError(
                f"{name} {model}: it has no day before {day}, and other models begin at {others}; "
                f"begin it there too, with `{first}`"
            )
        return None
    last = max(earlier)
    if last == day - ONE_DAY and (restart or restarted(records.get(day))):
        return None
    if last < day - ONE_DAY:
        known_start = day in records and records[day].previous_hash == ""
        if restart or known_start:
            return None
        fill = run_command(settings, name, last + ONE_DAY, day - ONE_DAY)
        raise ChainError(
            f"{name} {model}: {day} does not follow the last stored day {last}; fill the gap first with "
            f"`{fill}`, or begin a new history with --restart "
            f"if the source has no data for the gap"
        )
    for stale in stale_days(settings, history, model):
        if stale.day < day and not _fresh_start_between(records, stale.day, day):
            raise ChainError(
                f"{name} {model}: {day} cannot be computed, because {stale.day} before it is stale ({stale.reason}); "
                f"rebuild with `{rebuilding(settings, history, through=day)}`"
            )
    return records[last]


def _fresh_start_between(records: Mapping[date, DayRecord], first: date, last: date) -> bool:
    return any(first < day < last and record.previous_hash == "" for day, record in records.items())


def present_days(history: History, days: Sequence[date]) -> list[date]:
    """Return the days without those of a gap between two stored histories, which the source has no data for."""
    stored_raw_days = history.raw["candles"]
    if not stored_raw_days:
        return list(days)
    first, last = min(stored_raw_days), max(stored_raw_days)
    return [day for day in days if day in stored_raw_days or not first < day < last]


def check_gap(
    connect: Connect, settings: Settings, symbol: str, day: date, available: Callable[[Sequence[date]], set[date]]
) -> None:
    """Allow a new history at `day` only where the source has no data for the gap before it.

    Raises:
        ChainError: naming the first day of the gap that the source does have.
    """
    with connect() as con:
        history = read_history(con, settings, symbol)
    last = max((known for days in history.days.values() for known in days if known < day), default=None)
    if last is None:
        return
    gap = [last + timedelta(days=step) for step in range(1, (day - last).days)]
    if to_fill := available(gap):
        raise ChainError(
            f"{symbol}: --restart at {day} would leave out days the source has, the first is {min(to_fill)}; fill the "
            f"gap with `{run_command(settings, symbol, gap[0], gap[-1])}`"
        )
