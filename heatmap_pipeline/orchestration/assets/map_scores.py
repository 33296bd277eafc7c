"""How well the map agrees with liquidations that really happened; needs a record of them, and does nothing without."""

from __future__ import annotations

from functools import partial
from typing import Any

import dagster as dg

from heatmap_pipeline.chain.scoring import NotScored, Scored, score_symbol, store_outcome
from heatmap_pipeline.commands import command
from heatmap_pipeline.model.score.table import TRAILING_DAYS, ScoreRow
from heatmap_pipeline.orchestration.assets import liquidation_snapshots, raw_liquidations
from heatmap_pipeline.orchestration.assets.common import asset_key, failing_clearly, symbol_asset, table_metadata
from heatmap_pipeline.orchestration.resources import WarehouseResource
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.views.score import words_if_short, words_of_record, words_why_not

NAME = "map_scores"

_HEADLINES = {
    ("nowcast", "spearman", ""): "agreement",
    ("nowcast", "spearman", "move x volume"): "move_x_volume",
    ("nowcast", "spearman", "volume-only map"): "volume_only_map",
    ("at_start", "spearman", ""): "at_start",
    ("nowcast", "level", ""): "level",
    ("at_start", "lift", ""): "brightest_tenth",
    ("", "hours_with_reports", ""): "hours_with_reports",
}
"""The numbers that the Dagster UI shows: horizon, measure and baseline of a row, and its name there."""


def build(settings: Settings, symbol: str, _days: dg.DailyPartitionsDefinition) -> dg.AssetsDefinition:
    """Return the asset of one symbol; it is not partitioned, a run scores all that is stored then."""

    @symbol_asset(
        symbol,
        NAME,
        ["duckdb"],
        deps=[asset_key(symbol, liquidation_snapshots.NAME), asset_key(symbol, raw_liquidations.NAME)],
        metadata=table_metadata(NAME),
        description=(
            f"How well predicted and really reported liquidations of {symbol} agree, beside the simple rules that a "
            "map has to beat (docs/score.md); over the trailing 28 days and all recorded time."
        ),
    )
    def map_scores(warehouse: WarehouseResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        connect = partial(warehouse.get_connection, symbol)
        with failing_clearly(warehouse, symbol, NAME) as track:
            outcome = score_symbol(connect, symbol, settings.models, again=False)
            store_outcome(connect, outcome)
            track.done(track.day)
        metadata: dict[str, Any] = {}
        for result in outcome:
            metadata |= _described(settings, result)
        return dg.MaterializeResult(metadata=metadata)

    return map_scores


def _described(settings: Settings, result: Scored | NotScored) -> dict[str, Any]:
    """Return metadata about one model: why it is not scored, or the headline numbers of the trailing window."""
    if isinstance(result, NotScored):
        lines = command(settings, "score", result.symbol), command(settings, "run", result.symbol, days=("DAY", "DAY"))
        return {f"{result.model}_not_scored": words_why_not(result.symbol, result.model, result.reason, *lines)}
    if result.unchanged:
        return {f"{result.model}_unchanged": True}
    trailing = [row for row in result.rows if row.window == f"{TRAILING_DAYS}d"]
    numbers = {f"{result.model}_{name}": value for row in trailing for name, value in _headline(row).items()}
    words = "; ".join(
        text for text in (words_of_record(result.symbol, result.parameters), words_if_short(trailing)) if text
    )
    return {**numbers, f"{result.model}_record": words, f"{result.model}_source": result.source}


def _headline(row: ScoreRow) -> dict[str, float]:
    name = _HEADLINES.get((row.horizon, row.measure, row.baseline))
    return {} if name is None else {f"{row.side}_{name}": row.value}
