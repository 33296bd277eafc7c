"""Runs over a store as tests make them: without Dagster, a symbol's home compared bit by bit with an embedded one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from heatmap_pipeline.fleet.collect import manifests
from heatmap_pipeline.fleet.worker import Requests, open_bucket, run_symbols, shard
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.manifest import PARTS, is_part
from heatmap_pipeline_tests.orchestration.computed import compute_home
from heatmap_pipeline_tests.orchestration.homes import assert_same, day, tables


@dataclass
class Ran:
    """What became of a run."""

    published: dict[str, tuple[date, date]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def compute(settings: Settings, requests: Requests, **_: Any) -> Ran:
    """Run days as `run_days` does, without Dagster."""
    for first, last in sorted(set(requests.values())):
        symbols = tuple(symbol for symbol, days in requests.items() if days == (first, last))
        compute_home(settings.model_copy(update={"symbols": symbols}), first, last)
    return Ran(dict(requests))


def run(settings: Settings, first: int, last: int | None = None) -> Ran:
    """Run days of all symbols over the store; they must be committed."""
    ran = run_symbols(settings, dict.fromkeys(settings.symbols, (day(first), day(last or first))), compute)
    assert ran.failures == {}
    return ran


def assert_like(settings: Settings, embedded: Path, symbols: Sequence[str] = ()) -> None:
    """Assert that the store holds what an embedded home does, private tables too, to the last bit."""
    with shard(settings) as own:
        for name in ("warehouse", "heatmap.duckdb"):
            assert_same(tables(own.settings.home / name, *symbols), tables(embedded / name, *symbols))


def parts_there(settings: Settings) -> set[str]:
    """Return the parts that are in the store, named or not, by path."""
    there = {entry.path for entry in open_bucket(settings).entries(PARTS)}
    assert all(map(is_part, there))
    return there


def parts_named(settings: Settings) -> set[str]:
    """Return the parts that manifests name as used."""
    return {path for manifest in manifests(open_bucket(settings)).values() for path in manifest.paths}
