"""The chain of days: which day follows which, when a day is stale, and carrying a model from one day to the next.

Dagster enforces none of this on manual launches, schedules and re-runs, so the ops do, through here. No Dagster in this
file; the numbers come from `model`, the rows go to `store`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.market.brackets import load_bracket
from heatmap_pipeline.market.flows import Carried, DayFlow, compute_flow
from heatmap_pipeline.model.book import DayCandles, DayResult, ModelState
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import MODELS, Bracket, ModelError, ModelParameters
from heatmap_pipeline.settings import SECONDS, Settings
from heatmap_pipeline.store import chain as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.chain import DayRecord
from heatmap_pipeline.store.raw import RawDay, SymbolRecord

_ONE_DAY = timedelta(days=1)
_CHUNK = 31
"""Days of raw rows held in memory at a time."""
_FLUSH_SECONDS = 1.0
"""Computed days wait at most this long for their commit, so that opening the warehouse is paid once for several."""

Connect = Callable[[], AbstractContextManager[Any]]
"""Opens the warehouse under its lock; see `store.warehouse.Warehouse.connect`."""


class ChainError(HeatmapError):
    """A day that cannot be computed because of its neighbours; names the day and the command that repairs it."""


@dataclass(frozen=True)
class DayReport:
    """What became of one day of one model: `numbers` are for Dagster's metadata (contracts, USDT, rows)."""

    day: date
    model: str
    skipped: bool
    numbers: Mapping[str, float | int]


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
        given = json.dumps(known, sort_keys=True)
        return hashlib.blake2b(given.encode(), digest_size=16).hexdigest()

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


def read_history(con: Any, settings: Settings, symbol: str) -> History:
    """Read what is stored of a symbol, for the models of the settings.

    Raises:
        ChainError: if the symbol was never ingested.
    """
    record = stored_raw.get_symbol(con, symbol)
    if record is None:
        raise ChainError(f"{symbol}: nothing is stored yet; ingest it with `heatmap run {symbol}`")
    days = {model: stored.day_records(con, symbol, model) for model in settings.models}
    snapshots = {model: stored.snapshot_days(con, symbol, model) for model in settings.models}
    return History(record, stored_raw.raw_days(con, symbol), days, snapshots)


def resolve_parameters(settings: Settings, record: SymbolRecord, model: str, day: date) -> ModelParameters:
    """Return the parameters of a model for one symbol and day: settings win, then the bracket file, then the defaults.

    Raises:
        ChainError: if a bracket file is set and does not hold the symbol, or no model can be had of such settings.
    """
    own = settings.of(record.symbol)
    bracket = Bracket()
    if settings.leverage_brackets is not None and (own.maintenance_margin_rate is None or own.max_leverage is None):
        found = load_bracket(settings.leverage_brackets, record.symbol, day)
        if found is None:
            raise ChainError(
                f"{record.symbol} is not in HEATMAP_LEVERAGE_BRACKETS = {settings.leverage_brackets}; set "
                f"HEATMAP_MAINTENANCE_MARGIN_RATE_{record.symbol} and HEATMAP_MAX_LEVERAGE_{record.symbol}, or add it"
            )
        bracket = Bracket(*found)
    bracket = Bracket(
        own.maintenance_margin_rate or bracket.maintenance_margin_rate, own.max_leverage or bracket.max_leverage
    )
    bucket = own.bucket or record.bucket
    try:
        return ModelParameters(MODELS[model], bucket, record.candle_interval_seconds, bracket)
    except ModelError as error:
        raise ChainError(
            f"{record.symbol} {model}: {error}; change HEATMAP_MAX_LEVERAGE_{record.symbol}, "
            f"HEATMAP_MAINTENANCE_MARGIN_RATE_{record.symbol} or HEATMAP_BUCKET_{record.symbol}"
        ) from None


def _wanted_parameters(settings: Settings, record: SymbolRecord, model: str) -> Callable[[date], str]:
    """Return a function that says a day's parameters as JSON, made once where no bracket file tells days apart."""

    def of_day(day: date) -> str:
        return resolve_parameters(settings, record, model, day).to_json()

    if settings.leverage_brackets is not None:
        return of_day
    once = cache(lambda: of_day(date.max))
    return lambda _: once()


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
    for day in sorted(records):
        record = records[day]
        reason, first = None, day
        if record.previous_hash == "":
            broken = None
            if before is not None and before.day == day - _ONE_DAY:
                reason = f"it began a history, and now {before.day} is before it"
        elif before is None or before.day != day - _ONE_DAY:
            reason = f"its predecessor {day - _ONE_DAY} is missing"
            first = day if before is None else before.day + _ONE_DAY
        elif record.previous_hash != before.state_hash:
            reason = f"its predecessor {before.day} was computed again with another result"
        if record.input_hash != history.input_hash(day):
            reason = "its candles or open interest changed"
        elif record.parameters != wanted(day):
            reason = "it was computed with other parameters"
        if reason is None and broken is not None:
            reason = f"it follows {broken}"
        if reason is not None:
            stale.append(Stale(day, reason, first))
            broken = broken or day
        before = record
    return stale


def outdated_days(settings: Settings, history: History, model: str) -> list[Stale]:
    """Return the stored days of a model to be made again, in order: `stale_days`, and those whose snapshots are old.

    A run that was stopped between the two stages leaves days whose events are newer than their snapshots.
    """
    snapshots = history.snapshots[model]
    seconds = SECONDS[settings.snapshot_interval_of(history.symbol.symbol)]
    found = {
        day: Stale(day, "its snapshots are not made from its present events, or at another interval", day)
        for day, record in history.days[model].items()
        if snapshots.get(day) != (record.state_hash, seconds)
    }
    found |= {stale.day: stale for stale in stale_days(settings, history, model)}
    return [found[day] for day in sorted(found)]


def rebuilding(settings: Settings, history: History, *, through: date | None = None) -> str:
    """Return the command that makes every outdated day of a symbol again, to its newest day or to `through`."""
    outdated = [one.first for model in history.days for one in outdated_days(settings, history, model)]
    ends = [day for day in (history.tip, through) if day is not None]
    return settings.repair_command(history.symbol.symbol, min(outdated, default=max(ends)), max(ends))


def check_start(settings: Settings, history: History, model: str, day: date, restart: bool) -> DayRecord | None:
    """Return the record a day has to start from, None for the start of a history.

    Raises:
        ChainError: for a gap, and for a predecessor that is stale; with the command that repairs it.
    """
    records = history.days[model]
    earlier = [one for one in records if one < day]
    name = history.symbol.symbol
    if not earlier:
        others = min((one for days in history.days.values() for one in days), default=day)
        if others < day and not restart:
            first = settings.repair_command(name, others, max(history.tip or day, day))
            raise ChainError(
                f"{name} {model}: it has no day before {day}, and other models begin at {others}; "
                f"begin it there too, with `{first}`"
            )
        return None
    last = max(earlier)
    if last < day - _ONE_DAY:
        known_start = day in records and records[day].previous_hash == ""
        if restart or known_start:
            return None
        fill = settings.repair_command(name, last + _ONE_DAY, day - _ONE_DAY)
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


@dataclass(frozen=True)
class _DayInput:
    candles: pd.DataFrame
    samples: pd.DataFrame
    sample_step: int
    repairs: dict[str, Any]


def _load_inputs(con: Any, settings: Settings, history: History, days: Sequence[date]) -> dict[date, _DayInput]:
    symbol = history.symbol.symbol
    for day in days:
        if history.input_hash(day) is None:
            raise ChainError(
                f"{symbol}: the candles and open interest of {day} are not stored; "
                f"ingest them with `{settings.repair_command(symbol, day, day)}`"
            )
    candles = stored_raw.load_candles(con, symbol, days[0], days[-1])
    samples = stored_raw.load_open_interest(con, symbol, days[0], days[-1])
    by_day = dict(iter(candles.groupby("day", sort=False)))
    samples_by_day = dict(iter(samples.groupby("day", sort=False)))
    inputs = {}
    for day in days:
        step = history.raw["open_interest"][day].step
        inputs[day] = _DayInput(by_day[day], samples_by_day.get(day, samples.iloc[:0]), step, history.repairs(day))
    return inputs


def _flow(history: History, day: date, given: _DayInput, carried: Carried | None) -> DayFlow:
    return compute_flow(
        _microseconds(given.candles["open_time"]),
        given.candles["volume"].to_numpy(),
        history.symbol.candle_interval_seconds,
        _microseconds(given.samples["snapshot_time"]),
        given.samples["contracts"].to_numpy(),
        given.sample_step,
        carried,
        day,
        history.symbol.symbol,
    )


def _microseconds(column: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return column.to_numpy().astype("datetime64[us]").astype(np.int64)


def _day_candles(given: _DayInput, flow: DayFlow) -> DayCandles:
    rows = given.candles.iloc[flow.first :]
    return DayCandles(
        _microseconds(rows["open_time"]),
        **{name: rows[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close", "volume")},
        flow=flow.flow,
        open_interest=flow.open_interest,
    )


def _carried_json(state: ModelState, carried: Carried) -> dict[str, Any]:
    return {
        "open_interest": state.open_interest,
        "unlocated": list(state.unlocated),
        "sample_time": int(carried.sample_time),
        "sample_contracts": float(carried.sample_contracts),
    }


def _carried(state: ModelState, record: Mapping[str, Any]) -> Carried:
    return Carried(state.open_interest, int(record["sample_time"]), float(record["sample_contracts"]))


def present_days(history: History, days: Sequence[date]) -> list[date]:
    """Return the days without those of a gap between two stored histories, which the source has no data for."""
    stored_raw_days = history.raw["candles"]
    if not stored_raw_days:
        return list(days)
    first, last = min(stored_raw_days), max(stored_raw_days)
    return [day for day in days if day in stored_raw_days or not first < day < last]


class _Walk:
    """One model on its way through the days: the state where it stands, read only when it is needed."""

    def __init__(self, settings: Settings, history: History, model: str, before: DayRecord | None) -> None:
        self.settings, self.history, self.model, self.before = settings, history, model, before
        self._here: tuple[ModelState, Carried] | None = None

    def skip(self, record: DayRecord) -> None:
        """Go past a day that is stored already."""
        self.before, self._here = record, None

    def enter(self, day: date) -> None:
        """Come to a day; after a gap a new history begins."""
        if self.before is not None and self.before.day < day - _ONE_DAY:
            self.before = self._here = None

    def compute(
        self, connect: Connect, day: date, given: _DayInput, snapshot_seconds: int | None
    ) -> tuple[DayRecord, DayResult]:
        """Compute a day from the state before it and go past it."""
        parameters = resolve_parameters(self.settings, self.history.symbol, self.model, day)
        if self.before is not None and self._here is None:
            with connect() as con:
                state, record = stored.load_state(con, self.history.symbol.symbol, self.model, self.before.day)
            self._here = state, _carried(state, record)
        carried = self._here[1] if self._here is not None else None
        flow = _flow(self.history, day, given, carried)
        if self._here is not None:
            state = self._here[0]
        else:
            assert flow.start_open_interest is not None  # noqa: S101  # compute_flow refuses a first day without it
            state = start_state(parameters, flow.start_open_interest)
        result = run_day(parameters, state, _day_candles(given, flow), snapshot_seconds)
        kept = _carried_json(result.state, flow.carried)
        day_record = DayRecord(
            symbol=self.history.symbol.symbol,
            model=self.model,
            day=day,
            input_hash=self.history.input_hash(day) or "",
            previous_hash=self.before.state_hash if self.before is not None else "",
            state_hash=result.state.hash(kept),
            parameters=parameters.to_json(),
            repairs={**given.repairs, "held": flow.held},
            provisional=self.history.provisional(day),
            state=kept,
            created_at=datetime.now(UTC).replace(tzinfo=None),
        )
        self.before, self._here = day_record, (result.state, flow.carried)
        return day_record, result


class _Commits:
    """Computed days waiting for their commit, each in its own transaction, in order."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._waiting: list[Callable[[Any], None]] = []
        self._since = time.monotonic()

    def add(self, commit: Callable[[Any], None]) -> None:
        self._waiting.append(commit)
        if time.monotonic() - self._since > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            with self._connect() as con:
                while self._waiting:
                    self._waiting[0](con)
                    del self._waiting[0]
        self._since = time.monotonic()


def advance(
    connect: Connect, settings: Settings, symbol: str, days: Sequence[date], *, restart: bool = False
) -> Iterator[DayReport]:
    """Compute and commit `position_events`, lots and ledger of days in order, for every model of the settings.

    A day already stored from the same rows, parameters and predecessor is skipped. Each day of a model is one
    transaction; days before a failing one stay committed.

    Raises:
        ChainError: for a gap or a stale predecessor, before anything is computed.
        MarketError: for a first day without open interest.
    """
    with connect() as con:
        history = read_history(con, settings, symbol)
    days = present_days(history, days)
    walks = [
        _Walk(settings, history, model, check_start(settings, history, model, days[0], restart))
        for model in settings.models
    ]
    commits = _Commits(connect)
    try:
        for day, given in _each_day(connect, settings, history, days):
            for walk in walks:
                yield _advance_day(connect, commits, walk, day, given)
    finally:
        commits.flush()


def _advance_day(connect: Connect, commits: _Commits, walk: _Walk, day: date, given: _DayInput) -> DayReport:
    walk.enter(day)
    history, model = walk.history, walk.model
    known = history.days[model].get(day)
    previous = walk.before.state_hash if walk.before is not None else ""
    parameters = resolve_parameters(walk.settings, history.symbol, model, day).to_json()
    if known is not None and (known.input_hash, known.previous_hash, known.parameters) == (
        history.input_hash(day),
        previous,
        parameters,
    ):
        walk.skip(known)
        return DayReport(day, model, True, {})
    record, result = walk.compute(connect, day, given, None)
    commits.add(lambda con: stored.commit_day(con, record, result))
    return DayReport(day, model, False, _numbers(result))


def _each_day(
    connect: Connect, settings: Settings, history: History, days: Sequence[date]
) -> Iterator[tuple[date, _DayInput]]:
    for start in range(0, len(days), _CHUNK):
        chunk = days[start : start + _CHUNK]
        with connect() as con:
            inputs = _load_inputs(con, settings, history, chunk)
        yield from inputs.items()


def _numbers(result: DayResult) -> dict[str, float | int]:
    ledger = result.ledger
    last = ledger["timestamp"] == ledger["timestamp"][-1] if len(ledger["timestamp"]) else np.zeros(0, dtype=bool)
    located, unlocated = float(ledger["located"][last].sum()), float(ledger["unlocated"][last].sum())
    return {
        "events": len(result.opens["side"]) + len(result.liquidations["side"]) + len(result.closes["book"]),
        "lots": len(result.state.lots),
        "coverage": located / (located + unlocated) if located + unlocated > 0 else 0.0,
        "active_volume_usdt": float(ledger["active_volume"][last].sum()),
        "consumed_volume_usdt": float(ledger["consumed_volume"].sum()),
        "liquidated_contracts": float(ledger["liquidated"].sum()),
    }


def sample(connect: Connect, settings: Settings, symbol: str, days: Sequence[date]) -> Iterator[DayReport]:
    """Compute and commit `liquidation_snapshots` of days in order, from the states that `advance` stored.

    Raises:
        ChainError: for a day that is not in the chain, or that this version of the code computes differently.
    """
    seconds = SECONDS[settings.snapshot_interval_of(symbol)]
    with connect() as con:
        history = read_history(con, settings, symbol)
    days = present_days(history, days)
    interval = history.symbol.candle_interval_seconds
    if seconds % interval:
        raise ChainError(
            f"{symbol}: snapshots every {seconds} s do not fit candles of {interval} s; "
            f"set HEATMAP_SNAPSHOT_INTERVAL_{symbol} to a multiple"
        )
    walks = {}
    for model in settings.models:
        missing = [day for day in days if day not in history.days[model]]
        if missing:
            raise ChainError(
                f"{symbol} {model}: {missing[0]} has no position events; "
                f"compute them with `{settings.repair_command(symbol, missing[0], missing[-1])}`"
            )
        walks[model] = _Walk(settings, history, model, _stored_before(history, model, days[0]))
    commits = _Commits(connect)
    try:
        for day, given in _each_day(connect, settings, history, days):
            for model, walk in walks.items():
                yield _sample_day(connect, commits, walk, day, given, seconds, history.snapshots[model].get(day))
    finally:
        commits.flush()


def _stored_before(history: History, model: str, day: date) -> DayRecord | None:
    record = history.days[model][day]
    return None if record.previous_hash == "" else history.days[model].get(day - _ONE_DAY)


def _sample_day(
    connect: Connect,
    commits: _Commits,
    walk: _Walk,
    day: date,
    given: _DayInput,
    seconds: int,
    done: tuple[str, int] | None,
) -> DayReport:
    history, model = walk.history, walk.model
    symbol, known = history.symbol.symbol, history.days[model][day]
    if known.previous_hash == "":
        walk.before = None
        walk._here = None
    if done == (known.state_hash, seconds):
        walk.skip(known)
        return DayReport(day, model, True, {})
    record, result = walk.compute(connect, day, given, seconds)
    if record.state_hash != known.state_hash:
        raise ChainError(
            f"{symbol} {model}: {day} is stale, its snapshots would not match its events; "
            f"rebuild with `{walk.settings.repair_command(symbol, day, max(history.days[model]))}`"
        )
    bucket = resolve_parameters(walk.settings, history.symbol, model, day).bucket
    commits.add(
        lambda con: stored.commit_snapshots(
            con, symbol, model, day, known.state_hash, seconds, result.cells, bucket=bucket
        )
    )
    numbers: dict[str, float | int] = {
        "rows": len(result.cells["side"]),
        "snapshots": len(np.unique(result.cells["timestamp"])),
        "consumed_volume_usdt": float(result.cells["consumed_volume"].sum()),
    }
    return DayReport(day, model, False, numbers)


def check_gap(
    connect: Connect, settings: Settings, symbol: str, day: date, available: Callable[[Sequence[date]], set[date]]
) -> None:
    """Allow a new history at `day` only where the source has no data for the gap before it.

    Raises:
        ChainError: naming the first day of the gap that the source does have.
    """
    with connect() as con:
        history = read_history(con, settings, symbol)
    last = max((one for days in history.days.values() for one in days if one < day), default=None)
    if last is None:
        return
    gap = [last + timedelta(days=step) for step in range(1, (day - last).days)]
    if found := available(gap):
        raise ChainError(
            f"{symbol}: --restart at {day} would leave out days the source has, the first is {min(found)}; fill the "
            f"gap with `{settings.repair_command(symbol, gap[0], gap[-1])}`"
        )
