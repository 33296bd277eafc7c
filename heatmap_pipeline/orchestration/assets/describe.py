"""The numbers that the Dagster UI shows for a materialisation: one row of metadata per day, and totals for the run."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from heatmap_pipeline.chain.compute import DayReport
from heatmap_pipeline.chain.ingest import RawReport
from heatmap_pipeline.chain.liquidations import LiquidationReport
from heatmap_pipeline.orchestration.assets.common import Track


def describe_raw(context: dg.AssetExecutionContext, track: Track, reports: Iterable[RawReport]) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Run an ingestion to its end and describe it."""
    rows = changed = days = 0
    repairs: dict[str, int] = {}
    for report in reports:
        numbers: dict[str, object] = {"dagster/partition_row_count": report.rows, "changed": report.changed}
        numbers.update({f"repaired_{name}": count for name, count in report.repairs.items()})
        clock = report.facts.get("clock")
        if clock:
            numbers["clock"] = f"{clock['rule']}, offset {clock['offset_seconds']} s"
        context.add_asset_metadata(numbers, partition_key=report.day.isoformat())
        for name, count in report.repairs.items():
            repairs[name] = repairs.get(name, 0) + count
        rows, changed, days = rows + report.rows, changed + report.changed, days + 1
        track.done(report.day)
    return dg.MaterializeResult(
        metadata={"rows": rows, "days_read": days, "days_changed": changed, "repairs": repairs or "none"}
    )


def describe_liquidations(
    context: dg.AssetExecutionContext, track: Track, report: LiquidationReport
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Describe what was read of real liquidations: per source rows and recorded hours, and why one gave nothing."""
    totals: dict[str, float | int] = {}
    changed = 0
    for day, sources in report.days.items():
        numbers: dict[str, float | int] = {"dagster/partition_row_count": sum(each.rows for each in sources.values())}
        for name, each in sources.items():
            numbers |= {f"{name}_rows": each.rows, f"{name}_recorded_hours": round(each.recorded_hours, 3)}
        context.add_asset_metadata(numbers, partition_key=day.isoformat())
        for name, value in numbers.items():
            if name.endswith(("_rows", "_hours")):
                totals[name] = round(totals.get(name, 0) + value, 3)
        changed += any(each.changed for each in sources.values())
        track.done(day)
    repairs = {f"{source}_{name}": count for source, made in report.repairs.items() for name, count in made.items()}
    return dg.MaterializeResult(
        metadata={
            **totals,
            "days_changed": changed,
            "repairs": repairs or "none",
            **{f"{name}_not_recorded": words for name, words in report.troubles.items()},
        }
    )


def describe_days(
    context: dg.AssetExecutionContext, track: Track, reports: Iterable[DayReport]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Run a stage of the chain to its end and describe it: numbers per day, one set per model."""
    totals: dict[str, float] = {}
    skipped = computed = 0
    per_day: dict[str, dict[str, float | int]] = {}
    for report in reports:
        day = per_day.setdefault(report.day.isoformat(), {})
        day.update({f"{report.model}_{name}": value for name, value in report.numbers.items()})
        for name, value in report.numbers.items():
            if name in ("events", "rows") or name.startswith("consumed_volume_"):
                totals[f"{report.model}_{name}"] = totals.get(f"{report.model}_{name}", 0) + value
        skipped, computed = skipped + report.skipped, computed + (not report.skipped)
        track.done(report.day)
    for key, numbers in per_day.items():
        context.add_asset_metadata(numbers or {"unchanged": True}, partition_key=key)
    return dg.MaterializeResult(metadata={**totals, "model_days_computed": computed, "model_days_unchanged": skipped})
