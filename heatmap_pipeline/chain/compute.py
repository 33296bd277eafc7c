"""The chain of days: which day follows which, when a day is stale, and carrying a model from one day to the next.

Dagster enforces none of this on manual launches, schedules and re-runs, so the ops do, through here. No Dagster in this
file; the numbers come from `model`, the rows go to `store`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from heatmap_pipeline.bins import merge_cells
from heatmap_pipeline.chain.commands import run_command
from heatmap_pipeline.chain.history import (
    CLOSES,
    RESTARTED,
    ChainError,
    Connect,
    History,
    check_start,
    closes,
    day_bucket,
    present_days,
    read_history,
    resolve_parameters,
    restarted,
)
from heatmap_pipeline.commands import command
from heatmap_pipeline.instants import ONE_DAY, SECONDS
from heatmap_pipeline.market.archive_names import ArchiveFile
from heatmap_pipeline.market.flows import Carried, DayFlow, compute_flow
from heatmap_pipeline.market.plausible.names import LEFT_OUT
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.model.book import DayCandles, DayResult, Floats, Ints, ModelState, located_share
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import ModelParameters
from heatmap_pipeline.settings import Settings, setting_of
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import raw as stored_raw
from heatmap_pipeline.store.commit import DayCells, commit_cells, commit_days, drop_cells
from heatmap_pipeline.store.days import DayRecord

_log = logging.getLogger(__name__)

_OF_A_CANDLE = ("open", "high", "low", "close", "volume")

CELLS_PER_SNAPSHOT = 4096
"""Cells that are stored of a day, per snapshot on average. More, as after a collapse or of a bucket far too fine for
the price, are put together (`merge_cells`); what is computed and served (replayed) is in the bucket of the day."""

_CHUNK = 31
"""Days of raw rows held in memory at a time."""
_FLUSH_SECONDS = 1.0
"""Computed days wait at most this long for their commit, so that opening the warehouse is paid once for several."""


@dataclass(frozen=True)
class DayReport:
    """What became of one day of one model: `numbers` are for Dagster's metadata (contracts, quote asset, rows)."""

    day: date
    model: str
    skipped: bool
    numbers: Mapping[str, float | int]


@dataclass(frozen=True)
class _DayInput:
    """The clean rows of a day: open, high, low, close and volume of its candles as `prices`, and its samples."""

    open_time: Ints
    prices: Mapping[str, Floats]
    samples: pd.DataFrame
    sample_step: int
    repairs: dict[str, Any]

    @property
    def closes(self) -> list[float]:
        """First and last close, quote asset."""
        return [float(self.prices["close"][0]), float(self.prices["close"][-1])]


def _load_inputs(con: Any, settings: Settings, history: History, days: Sequence[date]) -> dict[date, _DayInput]:
    symbol = history.symbol.symbol
    for day in days:
        if history.input_hash(day) is None:
            raise ChainError(
                f"{symbol}: the candles and open interest of {day} are not stored; "
                f"ingest them with `{run_command(settings, symbol, day, day)}`"
            )
    candles = stored_raw.load_candles(con, symbol, days[0], days[-1])
    samples = stored_raw.load_open_interest(con, symbol, days[0], days[-1])
    by_day = dict(iter(candles.groupby("day", sort=False)))
    samples_by_day = dict(iter(samples.groupby("day", sort=False)))
    inputs = {}
    for day in days:
        step = history.raw["open_interest"][day].step
        inputs[day] = _DayInput(
            _microseconds(by_day[day]["open_time"]),
            {name: by_day[day][name].to_numpy(dtype=np.float64) for name in _OF_A_CANDLE},
            samples_by_day.get(day, samples.iloc[:0]),
            step,
            history.repairs(day),
        )
    return inputs


class _Flows:
    """The flows of the day that is computed: they depend on no model, so models that stand alike share them."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._known: tuple[date, Carried | None, DayFlow] | None = None

    def of(self, day: date, day_input: _DayInput, carried: Carried | None) -> DayFlow:
        """Return the flows of a day."""
        if self._known is None or self._known[:2] != (day, carried):
            if carried is None and day_input.samples.empty:
                self._refuse_beginning(day, day_input)
            flow = compute_flow(
                day_input.open_time,
                day_input.prices["volume"],
                self.history.symbol.candle_interval_seconds,
                _microseconds(day_input.samples["snapshot_time"]),
                day_input.samples["contracts"].to_numpy(),
                day_input.sample_step,
                carried,
                day,
                self.history.symbol.symbol,
            )
            self._known = day, carried, flow
        return self._known[2]

    def _refuse_beginning(self, day: date, day_input: _DayInput) -> None:
        """Say why a first day has no sample to start from, where all that it had were left out."""
        symbol = self.history.symbol.symbol
        counts = day_input.repairs["open_interest"]
        reasons = [f"{counts[name]}: {words}" for name, words in LEFT_OUT.items() if name in counts]
        if reasons:
            file = ArchiveFile(symbol, day).name
            measured = self.history.raw["open_interest"][day].facts.get("odd", "")
            why = "; ".join([*reasons, *([measured] if measured else [])])
            raise MarketError(
                f"{symbol} {day}: a history cannot begin with {file}, whose samples cannot be true ({why}); begin on "
                "another day, put a good copy of it or of the candles in place, or take it as it is by "
                f"HEATMAP_ACCEPT_IMPLAUSIBLE={file}"
            )


def _microseconds(column: pd.Series[Any]) -> Ints:
    return column.to_numpy().astype("datetime64[us]").astype(np.int64)


def _day_candles(day_input: _DayInput, flow: DayFlow) -> DayCandles:
    return DayCandles(
        day_input.open_time[flow.first :],
        **{name: column[flow.first :] for name, column in day_input.prices.items()},
        flow=flow.flow,
        open_interest=flow.open_interest,
        factor=flow.factor,
    )


def _kept(state: ModelState, flow: DayFlow, day_input: _DayInput, candles: DayCandles) -> dict[str, Any]:
    """Return what a day says of itself besides its lots, exact and JSON-able; what follows it starts from that."""
    kept = {
        "open_interest": state.open_interest,
        "unlocated": list(state.unlocated),
        **flow.carried.to_json(),
        CLOSES: day_input.closes,
    }
    shifted = np.flatnonzero(candles.factor != 1)
    if len(shifted):
        kept["factors"] = [[int(candles.open_time[at]), float(candles.factor[at])] for at in shifted]
    return kept


class _Walk:
    """One model on its way through the days: the state where it stands, read only when it is needed."""

    def __init__(
        self,
        settings: Settings,
        history: History,
        flows: _Flows,
        model: str,
        before: DayRecord | None,
        restart: date | None = None,
    ) -> None:
        self.settings, self.history, self.flows, self.model, self.before = settings, history, flows, model, before
        self._restart = restart
        self._here: tuple[ModelState, Carried] | None = None

    def skip(self, record: DayRecord) -> None:
        """Go past a day that is stored already."""
        self.before, self._here = record, None

    def enter(self, day: date) -> None:
        """Come to a day; after a gap a new history begins, and where one was begun anew."""
        if self.before is not None and (self.before.day < day - ONE_DAY or self._begins_anew(day)):
            self.before = self._here = None

    def _begins_anew(self, day: date) -> bool:
        """Whether a day that follows a stored one begins a history: now, or when it was computed before."""
        records = self.history.days[self.model]
        return restarted(records.get(day)) or (day == self._restart and day - ONE_DAY in records)

    def parameters(self, day: date, day_input: _DayInput) -> ModelParameters:
        """Return the parameters of a day that the walk has come to."""
        symbol, before = self.history.symbol, None
        if self.before is not None and (day_closes := closes(self.before)) is not None:
            before = ModelParameters.from_json(self.before.parameters).bucket, day_closes[1]
        bucket = day_bucket(self.settings, symbol.symbol, before, day_input.closes[0])
        return resolve_parameters(self.settings, symbol, self.model, day, bucket)

    def compute(
        self,
        connect: Connect,
        day: date,
        day_input: _DayInput,
        parameters: ModelParameters,
        snapshot_seconds: int | None,
    ) -> tuple[DayRecord, DayResult]:
        """Compute a day from the state before it and go past it."""
        if self.before is not None and self._here is None:
            self._arrive(connect)
        carried = self._here[1] if self._here is not None else None
        flow = self._flow(day, day_input, carried)
        state = self._start(parameters, flow)
        candles = _day_candles(day_input, flow)
        result = run_day(parameters, state, candles, snapshot_seconds)
        kept = _kept(result.state, flow, day_input, candles)
        if self.before is None and self._begins_anew(day):
            kept[RESTARTED] = True
        day_record = DayRecord(
            symbol=self.history.symbol.symbol,
            model=self.model,
            day=day,
            input_hash=self.history.input_hash(day) or "",
            previous_hash=self.before.state_hash if self.before is not None else "",
            state_hash=result.state.hash(kept),
            parameters=parameters.to_json(),
            repairs={**day_input.repairs, **flow.repairs, "held": flow.held},
            provisional=self.history.provisional(day),
            state=kept,
            created_at=datetime.now(UTC).replace(tzinfo=None),
        )
        self.before, self._here = day_record, (result.state, flow.carried)
        return day_record, result

    def _flow(self, day: date, day_input: _DayInput, carried: Carried | None) -> DayFlow:
        try:
            return self.flows.of(day, day_input, carried)
        except MarketError as error:
            missing = self.history.raw["open_interest"][day].facts.get("missing_file")
            if missing is None:
                raise
            by_day = "the exchange publishes metrics by day, never by month"
            raise MarketError(f"{error}, or add {missing}, which is missing: {by_day}") from None

    def _arrive(self, connect: Connect) -> None:
        """Have the books at the end of the day before: as stored, or carried there from the nearest day that has them.

        Raises:
            ChainError: if a day that has to be gone through again does not leave the state that is recorded of it.
        """
        records, again = self.history.days[self.model], []
        here = self.before
        assert here is not None  # noqa: S101  # who calls has a day before
        with connect() as con:
            while (known := stored.load_state(con, self.history.symbol.symbol, self.model, here.day)) is None:
                again.append(here)
                if here.previous_hash == "":
                    break
                here = records.get(here.day - ONE_DAY)
                if here is None:
                    raise self._not_as_recorded(again[-1])
            days = [record.day for record in reversed(again)]
            inputs = _load_inputs(con, self.settings, self.history, days) if days else {}
        if known is not None:
            self._here = known[0], Carried.from_json(known[0].open_interest, known[1])
        for record in reversed(again):
            self._go_again(record, inputs[record.day])

    def _go_again(self, record: DayRecord, day_input: _DayInput) -> None:
        """Go through a stored day whose lots are not kept; the hash of its state proves that it is the same."""
        flow = self._flow(record.day, day_input, self._here[1] if self._here is not None else None)
        parameters = ModelParameters.from_json(record.parameters)
        candles = _day_candles(day_input, flow)
        state = run_day(parameters, self._start(parameters, flow), candles).state
        kept = _kept(state, flow, day_input, candles)
        if restarted(record):
            kept[RESTARTED] = True
        if state.hash(kept) != record.state_hash:
            raise self._not_as_recorded(record)
        self._here = state, flow.carried

    def _start(self, parameters: ModelParameters, flow: DayFlow) -> ModelState:
        """Return the books where the walk stands, those of an empty history at its start."""
        if self._here is not None:
            return self._here[0]
        assert flow.start_open_interest is not None  # noqa: S101  # compute_flow refuses a first day without it
        return start_state(parameters, flow.start_open_interest)

    def _not_as_recorded(self, record: DayRecord) -> ChainError:
        symbol, tip = record.symbol, self.history.tip or record.day
        forgotten = command(self.settings, "forget", symbol)
        anew = run_command(self.settings, symbol, min(self.history.raw["candles"]), tip)
        return ChainError(
            f"{symbol} {self.model}: the book of {record.day}, whose lots are not kept, does not come out as it is "
            f"recorded, so what is stored of it was changed; compute the history anew with `{forgotten}` and `{anew}`"
        )


_T = TypeVar("_T")


class _Commits(Generic[_T]):
    """What was computed and waits for its commit, in order; all that waits is one transaction.

    It is committed beside the computing of what follows, for DuckDB needs no Python. What was begun is ended in any
    case; after one that fails none is begun any more.

    Example:
        >>> from contextlib import nullcontext
        >>> with _Commits(nullcontext, lambda con, numbers: print(*numbers)) as commits:
        ...     commits.add(1)
        ...     commits.add(2)
        1 2
    """

    def __init__(self, connect: Connect, commit: Callable[[Any, Sequence[_T]], None]) -> None:
        self._connect, self._commit = connect, commit
        self._waiting: list[_T] = []
        self._since = time.monotonic()
        self._worker = ThreadPoolExecutor(1, "commit")
        self._begun: Future[None] | None = None

    def __enter__(self) -> _Commits[_T]:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._begin()
            self._end()
        finally:
            self._worker.shutdown()

    def add(self, computed: _T) -> None:
        """Have something committed; raises what became of an earlier one."""
        self._waiting.append(computed)
        if time.monotonic() - self._since > _FLUSH_SECONDS:
            self._begin()

    def _begin(self) -> None:
        self._end()
        if self._waiting:
            self._begun = self._worker.submit(self._store, self._waiting)
        self._waiting, self._since = [], time.monotonic()

    def _end(self) -> None:
        """Wait for the one that is going on."""
        begun, self._begun = self._begun, None
        if begun is not None:
            try:
                begun.result()
            except BaseException:
                self._waiting.clear()  # it follows from what is not stored
                raise

    def _store(self, waiting: Sequence[_T]) -> None:
        with self._connect() as con:
            self._commit(con, waiting)


def advance(
    connect: Connect, settings: Settings, symbol: str, days: Sequence[date], *, restart: bool = False
) -> Iterator[DayReport]:
    """Compute and commit `position_events`, lots and ledger of days in order, for every model of the settings.

    A day already stored from the same rows, parameters and predecessor is skipped. A day of a model is stored whole or
    not at all; days before a failing one stay committed.

    Raises:
        ChainError: for a gap or a stale predecessor, before anything is computed.
        MarketError: for a first day without open interest.
    """
    with connect() as con:
        history = read_history(con, settings, symbol)
    days = present_days(history, days)
    flows = _Flows(history)
    walks = [
        _Walk(
            settings,
            history,
            flows,
            model,
            check_start(settings, history, model, days[0], restart),
            days[0] if restart else None,
        )
        for model in settings.models
    ]
    with _Commits(connect, commit_days) as commits:
        for day, day_input in _each_day(connect, settings, history, days):
            for walk in walks:
                yield _advance_day(connect, commits, walk, day, day_input)


def _advance_day(
    connect: Connect, commits: _Commits[tuple[DayRecord, DayResult]], walk: _Walk, day: date, day_input: _DayInput
) -> DayReport:
    walk.enter(day)
    history, model = walk.history, walk.model
    known = history.days[model].get(day)
    previous = walk.before.state_hash if walk.before is not None else ""
    parameters = walk.parameters(day, day_input)
    if known is not None and (known.input_hash, known.previous_hash, known.parameters) == (
        history.input_hash(day),
        previous,
        parameters.to_json(),
    ):
        walk.skip(known)
        return DayReport(day, model, True, {})
    record, result = walk.compute(connect, day, day_input, parameters, None)
    commits.add((record, result))
    return DayReport(day, model, False, _numbers(result, history.symbol.unit.lower()))


def _each_day(
    connect: Connect, settings: Settings, history: History, days: Sequence[date]
) -> Iterator[tuple[date, _DayInput]]:
    for start in range(0, len(days), _CHUNK):
        chunk = days[start : start + _CHUNK]
        with connect() as con:
            inputs = _load_inputs(con, settings, history, chunk)
        yield from inputs.items()


def _numbers(result: DayResult, unit: str) -> dict[str, float | int]:
    ledger = result.ledger
    last = ledger["timestamp"] == ledger["timestamp"][-1] if len(ledger["timestamp"]) else np.zeros(0, dtype=bool)
    return {
        "events": len(result.opens["side"]) + len(result.liquidations["side"]) + len(result.closes["book"]),
        "lots": len(result.state.lots),
        "located_share": located_share(ledger["located"][last].tolist(), result.state.open_interest)
        if last.any()
        else 0.0,
        f"active_volume_{unit}": float(ledger["active_volume"][last].sum()),
        f"consumed_volume_{unit}": float(ledger["consumed_volume"].sum()),
        "liquidated_contracts": float(ledger["liquidated"].sum()),
        "liquidated_at_once_contracts": float(ledger["liquidated_at_once"].sum()),
    }


def sample(connect: Connect, settings: Settings, symbol: str, days: Sequence[date]) -> Iterator[DayReport]:
    """Compute and commit `liquidation_snapshots` of days in order, from the states that `advance` stored.

    Of days older than HEATMAP_KEEP_CELLS says none are computed, and those that are stored are taken away at the end.

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
            f"set {setting_of('snapshot_interval', symbol)} to a multiple"
        )
    flows, walks, oldest = _Flows(history), {}, {}
    for model in settings.models:
        oldest[model] = history.cells_from(settings, model)
        missing = [day for day in days if day not in history.days[model]]
        if missing:
            raise ChainError(
                f"{symbol} {model}: {missing[0]} has no position events; "
                f"compute them with `{run_command(settings, symbol, missing[0], missing[-1])}`"
            )
        start = next((day for day in days if day >= oldest[model]), days[-1])
        walks[model] = _Walk(settings, history, flows, model, _stored_before(history, model, start))
    with _Commits(connect, commit_cells) as commits:
        for day in days:
            yield from (DayReport(day, model, True, {}) for model in walks if day < oldest[model])
        wanted = [day for day in days if day >= min(oldest.values())]
        for day, day_input in _each_day(connect, settings, history, wanted):
            for model, walk in walks.items():
                if day < oldest[model]:
                    walk.skip(history.days[model][day])
                else:
                    yield _sample_day(
                        connect, commits, walk, day, day_input, seconds, history.snapshots[model].get(day)
                    )
    _drop_old_cells(connect, history, oldest)


def _drop_old_cells(connect: Connect, history: History, oldest: Mapping[str, date]) -> None:
    """Take away the cells that are kept no longer; where there are none the warehouse is not opened."""
    symbol = history.symbol.symbol
    old = {model: first for model, first in oldest.items() if min(history.snapshots[model], default=first) < first}
    if old:
        with connect() as con:
            for model, first in old.items():
                count = drop_cells(con, symbol, [model], first)
                _log.info("%s %s: the cells of %d days before %s are kept no longer", symbol, model, count, first)


def most_cells(seconds: int) -> int:
    """Return how many cells are stored of a day at most, with snapshots so many seconds apart."""
    return CELLS_PER_SNAPSHOT * (86400 // seconds)


def _stored_before(history: History, model: str, day: date) -> DayRecord | None:
    record = history.days[model][day]
    return None if record.previous_hash == "" else history.days[model].get(day - ONE_DAY)


def _sample_day(
    connect: Connect,
    commits: _Commits[DayCells],
    walk: _Walk,
    day: date,
    day_input: _DayInput,
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
    parameters = walk.parameters(day, day_input)
    record, result = walk.compute(connect, day, day_input, parameters, seconds)
    if record.state_hash != known.state_hash:
        raise ChainError(
            f"{symbol} {model}: {day} is stale, its snapshots would not match its events; "
            f"rebuild with `{run_command(walk.settings, symbol, day, max(history.days[model]))}`"
        )
    most = most_cells(seconds)
    cells, digits = merge_cells(result.cells, most)
    computed = len(result.cells["side"])
    if digits:
        _log.warning(
            "%s %s %s: %d cells are more than %d: they are stored with %d leading digits of their bucket's number",
            *(symbol, model, day, computed, most, digits),
        )
    merged = (computed, digits) if digits else None
    commits.add(DayCells(symbol, model, day, known.state_hash, seconds, cells, parameters.bucket, merged))
    numbers: dict[str, float | int] = {
        "rows": len(cells["side"]),
        "cells_computed": computed,
        "snapshots": len(np.unique(result.cells["timestamp"])),
        f"consumed_volume_{history.symbol.unit.lower()}": float(result.cells["consumed_volume"].sum()),
    }
    return DayReport(day, model, False, numbers)
