"""The job without Dagster, which is half of the time of a small run: the same assets and checks, called in order.

For tests that are about what the stages do, in a run or in a command, and not about how Dagster runs them.
`test_light.py` holds such a run against one of Dagster's: its events, its failures, what it stores. It has no history
and no retries, and cannot be stopped.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info
from pydantic import PrivateAttr

from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.market.sources import open_market
from heatmap_pipeline.orchestration import runs
from heatmap_pipeline.orchestration.assets import (
    aggregated_map,
    build_assets,
    parquet_export,
    position_events,
    published_database,
)
from heatmap_pipeline.orchestration.checks import build_checks
from heatmap_pipeline.orchestration.partitions import PARTITION_TAG, daily, days_of_run
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline_tests.orchestration.computed import OpenedOnce, days_between


@contextmanager
def light_runs() -> Iterator[None]:
    """Let the runs of commands be light ones, with a history in memory that knows nothing of them."""
    with pytest.MonkeyPatch.context() as patch:
        run_lightly(patch)
        yield


def run_lightly(patch: pytest.MonkeyPatch, events: list[Any] | None = None) -> None:
    """Let the runs of commands be light ones, until the patch is taken back; what they tell is added to `events`."""

    def defs(settings: Settings, **_: object) -> Any:
        return SimpleNamespace(resolve_job_def=lambda _: Job(settings, [] if events is None else events))

    patch.setattr(runs, "build_defs", defs)
    patch.setattr(dg.DagsterInstance, "from_config", lambda _: nullcontext(_history()))


@dataclass(frozen=True)
class _Stage:
    """What the decorator of an asset is given, as far as a run needs it."""

    key: dg.AssetKey
    step: str
    make: Callable[..., Any]
    of_days: bool


@dataclass(frozen=True)
class _Checks:
    """What the decorator of an asset's checks is given, as far as a run needs it."""

    key: dg.AssetKey
    step: str
    look: Callable[..., Any]
    specs: Sequence[dg.AssetCheckSpec]


@contextmanager
def _plainly() -> Iterator[None]:
    """Let Dagster's decorators make stages and checks of these two kinds, in a tenth of the time."""

    def asset(*, name: str, key_prefix: str, partitions_def: object = None, **_: object) -> Callable[..., _Stage]:
        key = dg.AssetKey([key_prefix, name])
        return lambda make: _Stage(key, f"{key_prefix}__{name}", make, partitions_def is not None)

    def checks(*, name: str, specs: Sequence[dg.AssetCheckSpec], **_: object) -> Callable[..., _Checks]:
        return lambda look: _Checks(specs[0].asset_key, name, look, specs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dg, "asset", asset)
        patch.setattr(dg, "multi_asset_check", checks)
        yield


_AFTER_ALL = (published_database.NAME, parquet_export.NAME, aggregated_map.NAME)
"""What a run comes to when it has done with every symbol."""


@cache
def _history() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


class _KeptOpen(WarehouseResource):
    """The warehouse, a symbol's file opened once for all its stages up to the publication, which opens it itself."""

    _once: OpenedOnce | None = PrivateAttr(default=None)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep it open in this block."""
        self._once = OpenedOnce(self.warehouse)
        try:
            yield
        finally:
            self._once.close()
            self._once = None

    @contextmanager
    def get_connection(self, symbol: str | None = None) -> Iterator[Connection]:
        if self._once is None or symbol is None:
            with super().get_connection(symbol) as con:
                yield con
        else:
            with self._once.connect(symbol) as con:
                yield con

    def drop_if_nothing(self, symbol: str) -> bool:
        if self._once is not None:
            self._once.close()  # it holds the lock
        return super().drop_if_nothing(symbol)


@dataclass(frozen=True)
class Job:
    """The daily job of some settings, with the one method by which it is run.

    Attributes:
        settings: of the home.
        events: of all its runs.
    """

    settings: Settings
    events: list[Any] = field(default_factory=list)

    def execute_in_process(
        self,
        *,
        run_config: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        partition_key: str | None = None,
        asset_selection: Collection[dg.AssetKey] | None = None,
        **_: Any,
    ) -> Any:
        """Run, and return `success` and `all_events`, as far as anybody here reads them."""
        days = {PARTITION_TAG: partition_key} if partition_key else {}
        run = _Run(self.settings, dict(run_config), {**(tags or {}), **days}, asset_selection)
        success = run.success()
        self.events.extend(run.events)
        return SimpleNamespace(success=success, all_events=run.events)


@dataclass
class _Run:
    settings: Settings
    config: dict[str, Any]
    tags: dict[str, str]
    asset_selection: Collection[dg.AssetKey] | None
    events: list[Any] = field(default_factory=list)

    def success(self) -> bool:
        """Run the stages of each symbol up to the first that fails, and publish when all of them are there."""
        settings = self.settings
        span = days_of_run(self.tags)
        assert span is not None
        self._keys = [day.isoformat() for day in days_between(*span)]
        warehouse = _KeptOpen(database=str(Warehouse(settings.home).published), lock_timeout=settings.lock_timeout)
        self._given = {
            "warehouse": warehouse,
            "market": open_market(settings, lambda symbol, done, total: tell(symbol, "download", done, total)),
        }
        with _plainly():
            checks = {found.key: found for found in cast("Sequence[_Checks]", build_checks(settings))}
            built = cast("Sequence[_Stage]", build_assets(settings, daily(span[0])))
        stages = [stage for stage in built if self._is_chosen(stage.key)]
        first = [stage for stage in stages if stage.key.path[-1] not in _AFTER_ALL]
        failed: set[str] = set()

        def make(stages: Collection[_Stage]) -> None:
            for stage in stages:
                symbol = stage.key.path[0]
                if symbol not in failed and not (self._made(stage) and self._passed(checks.get(stage.key))):
                    failed.add(symbol)

        with warehouse.kept():
            make(first)
        make([stage for stage in stages if stage not in first])
        return not failed

    def _is_chosen(self, key: dg.AssetKey) -> bool:
        return self.asset_selection is None or key in self.asset_selection

    def _made(self, stage: _Stage) -> bool:
        """Make an asset; return whether it is there."""
        per_day: dict[str, dict[str, Any]] = {}

        def add(numbers: Mapping[str, Any], *, partition_key: str) -> None:
            per_day.setdefault(partition_key, {}).update(numbers)

        context = self._context(partition_keys=self._keys, add_asset_metadata=add)
        options = self.config.get("ops", {}).get(stage.step, {}).get("config", {})
        given = {**self._given, "context": context, "config": position_events.HistoryConfig(**options)}
        with self._told(stage.step) as done:
            wanted = inspect.signature(stage.make).parameters
            result = stage.make(**{name: given[name] for name in wanted})
            for key in self._keys if stage.of_days else (None,):
                metadata = {**result.metadata, **per_day.get(key or "", {})}
                made = dg.AssetMaterialization(stage.key, metadata=metadata, partition=key)
                self._tell(
                    "ASSET_MATERIALIZATION", stage.step, step_materialization_data=SimpleNamespace(materialization=made)
                )
        return bool(done)

    def _passed(self, checks: _Checks | None) -> bool:
        """Look at an asset; return whether what follows it may begin."""
        if checks is None:
            return True
        specs = {spec.name: spec for spec in checks.specs}
        passed = True
        with self._told(checks.step) as done:
            context = self._context(selected_asset_check_keys={spec.key for spec in checks.specs})
            for result in checks.look(context, self._given["warehouse"]):
                blocking = specs[result.check_name].blocking
                said = SimpleNamespace(
                    asset_key=result.asset_key,
                    check_name=result.check_name,
                    passed=result.passed,
                    description=result.description,
                    blocking=blocking,
                    metadata=result.metadata,
                )
                self._tell("ASSET_CHECK_EVALUATION", checks.step, asset_check_evaluation_data=said)
                passed &= result.passed or not blocking
            if not passed:
                raise dg.DagsterAssetCheckFailedError("a blocking check failed")
        return bool(done)

    def _context(self, **more: Any) -> Any:
        run = SimpleNamespace(run_config=self.config, tags=self.tags, asset_selection=self.asset_selection)
        return SimpleNamespace(run=run, log=dg.get_dagster_logger(), **more)

    @contextmanager
    def _told(self, step: str) -> Iterator[list[bool]]:
        """Tell whether a step succeeded; the list that is given is not empty then."""
        done: list[bool] = []
        try:
            yield done
        except Exception as error:
            foreseen = error if isinstance(error, dg.Failure) else None
            info = None if foreseen else serializable_error_info_from_exc_info(sys.exc_info())
            self._tell("STEP_FAILURE", step, step_failure_data=SimpleNamespace(user_failure_data=foreseen, error=info))
        else:
            done.append(True)
            self._tell("STEP_SUCCESS", step)

    def _tell(self, kind: str, step: str, **more: Any) -> None:
        self.events.append(SimpleNamespace(event_type_value=kind, step_key=step, **more))
