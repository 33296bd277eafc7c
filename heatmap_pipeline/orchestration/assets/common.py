"""What every asset shares: labels, table schemas, the handling of errors meant for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import dagster as dg

from heatmap_pipeline.chain.calendar import today, yesterday
from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.chain.recovery import naming_the_rebuild
from heatmap_pipeline.commands import at
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.instants import ONE_DAY
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import days as stored
from heatmap_pipeline.store import schema
from heatmap_pipeline.store.warehouse import StoreError, UnusableError
from heatmap_pipeline.symbols import contract_of, exchange_and_name, of_safe_name, safe_name

OWNERS = ["team:heatmap"]

HAD_UNTIL = "had_until"
"""Metadata of a failure: the last day before the failed one, where its run has one; a run until there can succeed."""

Decorator: TypeAlias = Callable[[Callable[..., Any]], dg.AssetsDefinition]


def asset_key(symbol: str, name: str) -> dg.AssetKey:
    """Return the key of an asset of a symbol."""
    return dg.AssetKey([safe_name(symbol), name])


def prefixes_of(symbol: str) -> tuple[str, str]:
    """Return what the keys of a symbol's assets begin with: its own, and that of the map that it is added up in."""
    return safe_name(symbol), safe_name(contract_of(symbol).base or symbol)


def step_of(symbol: str, name: str) -> str:
    """Return the name of the step that makes an asset of a symbol, as Dagster derives it from the asset's key."""
    return f"{safe_name(symbol)}__{name}"


def symbol_and_stage(step: str | None) -> tuple[str, str]:
    """Return the symbol and the stage of a step, both '' for what is no step of ours.

    Example:
        >>> symbol_and_stage("u5E01u5B89USDT__raw_candles")
        ('币安USDT', 'raw_candles')
    """
    name, _, stage = (step or "").partition("__")
    return of_safe_name(name), stage


def symbol_asset(symbol: str, name: str, kinds: Sequence[str], **more: Any) -> Decorator:
    """Return `dg.asset` for one market: its `safe_name` is key prefix, that of its base asset the group.

    So Dagster shows the markets of an asset together. Tags say exchange and base; owners and kinds are set.
    """
    base = contract_of(symbol).base or symbol
    tags = {"exchange": exchange_and_name(symbol)[0]}
    return base_asset(base, name, kinds, key_prefix=safe_name(symbol), tags=tags, **more)


def base_asset(
    base: str,
    name: str,
    kinds: Sequence[str],
    *,
    key_prefix: str = "",
    tags: Mapping[str, str] | None = None,
    **more: Any,
) -> Decorator:
    """Return `dg.asset` in the group of a base asset, whose `safe_name` is the key prefix if there is no other."""
    group = safe_name(base)
    decorate: Decorator = dg.asset(
        name=name,
        key_prefix=key_prefix or group,
        group_name=group,
        tags={**(tags or {}), "base": group},
        owners=OWNERS,
        kinds={"python", *kinds},
        **more,
    )
    return decorate


def daily_asset(symbol: str, name: str, days: dg.DailyPartitionsDefinition, **more: Any) -> Decorator:
    """Return `symbol_asset` for day partitions that fill the table `name`; a run takes its days in order, in one go."""
    return symbol_asset(
        symbol,
        name,
        ["duckdb"],
        partitions_def=days,
        backfill_policy=dg.BackfillPolicy.single_run(),
        metadata=table_metadata(name),
        **more,
    )


def table_metadata(table: str) -> dict[str, Any]:
    """Return what the Dagster UI shows of the table that an asset fills."""
    filled = schema.table(table)
    columns = [dg.TableColumn(name, kind, filled.notes[name]) for name, kind in filled.types.items()]
    return {"dagster/column_schema": dg.TableSchema(columns=columns), "dagster/table_name": f"heatmap.{table}"}


def begins_anew(context: dg.AssetExecutionContext, symbol: str) -> bool:
    """Whether a run begins a new history of a symbol (`position_events.HistoryConfig`), for the stages before that."""
    ops: Any = context.run.run_config.get("ops", {})
    return bool(ops.get(step_of(symbol, "position_events"), {}).get("config", {}).get("restart", False))


class Track:
    """Which day of a run is being worked on, so that a failure is recorded for that day."""

    def __init__(self, symbol: str, stage: str, days: Sequence[date]) -> None:
        self._symbol, self._stage, self._days = symbol, stage, list(days)
        self._done = 0

    @property
    def day(self) -> date:
        """The first day that is not done."""
        return self._days[min(self._done, len(self._days) - 1)]

    def done(self, day: date) -> None:
        """Say that a day and all before it are done."""
        done = self._days.index(day) + 1
        if done > self._done:  # a day comes once per model
            self._done = done
            tell(self._symbol, self._stage, done, len(self._days))


def network_retries(settings: Settings) -> dg.RetryPolicy | None:
    """Return how ingestion is retried: only where it comes over the network, after the client itself gave up."""
    if not settings.kind.over_network:
        return None
    return dg.RetryPolicy(max_retries=2, delay=20, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


@contextmanager
def failing_clearly(
    warehouse: WarehouseResource, symbol: str, stage: str, days: Sequence[date] | None = None
) -> Iterator[Track]:
    """Turn an error meant for people into a failure of the run without traceback, and keep it for `heatmap status`.

    A retry mends none of them but a server that does not answer, so no other is allowed one. The failure of a stage
    that is about no days in particular (None) is kept under the newest complete day, until its next success.
    """
    track = Track(symbol, stage, days or [yesterday()])
    span = (days[0], days[-1]) if days else (date.min, date.max)
    try:
        yield track
        with warehouse.get_connection(symbol) as con:
            stored.clear_failures(con, symbol, stage, *span)
            # Days that have not begun failed because this machine's clock was ahead; nobody will ask for them soon.
            stored.clear_failures(con, symbol, stage, today() + ONE_DAY, date.max)
    except (HeatmapError, OSError) as error:
        message = in_words(warehouse, symbol, stage, error)
        if not isinstance(error, UnusableError):  # a damaged file is left as it is
            _note(warehouse, symbol, stage, track.day, message)
        again = isinstance(error, HeatmapError) and error.temporary
        metadata = {"day": str(track.day)}
        # A full disk or a lock is no fault of that day, and stands in the way of the days before it as well.
        if isinstance(error, HeatmapError) and not isinstance(error, StoreError) and days and days[0] < track.day:
            metadata[HAD_UNTIL] = str(track.day - ONE_DAY)
        raise dg.Failure(description=message, metadata=metadata, allow_retries=again) from None


def had_until(event: dg.DagsterEvent) -> date | None:
    """Return the last day before the one that a failed step stopped at, None where its run has none."""
    failure = event.step_failure_data.user_failure_data
    day = failure.metadata.get(HAD_UNTIL) if failure is not None else None
    return None if day is None else date.fromisoformat(str(day.value))


def failed_day(event: dg.DagsterEvent) -> str:
    """Return the day that a failed step stopped at, empty where it names none."""
    failure = event.step_failure_data.user_failure_data
    day = failure.metadata.get("day") if failure is not None else None
    return "" if day is None else str(day.value)


def in_words(warehouse: WarehouseResource, symbol: str, stage: str, error: HeatmapError | OSError) -> str:
    """Return what to tell of an error; of a warehouse that cannot be used, with the line that rebuilds it."""
    if not isinstance(error, HeatmapError):
        return _of_disk(warehouse, symbol, stage, error)
    try:
        with naming_the_rebuild(at(Path(warehouse.database).parent)):
            raise error
    except HeatmapError as named:
        return str(named)


def _of_disk(warehouse: WarehouseResource, symbol: str, stage: str, error: OSError) -> str:
    """Say what a disk refused; an error while writing an open file does not name it, then the home has to do."""
    place = error.filename or Path(warehouse.database).parent
    return (
        f"{symbol}: {stage} could not use {place} ({error.strerror or error}); make room or mend its permissions, and "
        "run again"
    )


def _note(warehouse: WarehouseResource, symbol: str, stage: str, day: date, message: str) -> None:
    """Record a failure of a symbol that has anything; a warehouse that cannot be written must not hide it itself.

    Of one that never began there is nothing to keep: it was mistyped, or asked for where the source has nothing.
    """
    try:
        if warehouse.drop_if_nothing(symbol):
            return
        with warehouse.get_connection(symbol) as con:
            stored.record_failure(con, symbol, stage, day, message)
    except HeatmapError as error:
        dg.get_dagster_logger().warning("the failure could not be recorded: %s", error)
