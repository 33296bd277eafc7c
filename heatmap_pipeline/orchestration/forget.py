"""Forgetting a symbol everywhere: the page, Dagster's assets, the databases, and the archive below the home."""

from __future__ import annotations

import dagster as dg

from heatmap_pipeline.chain.forget import forget_data
from heatmap_pipeline.orchestration.instance import open_history
from heatmap_pipeline.orchestration.runs import prepare_home
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.symbols import safe_name


def forget(settings: Settings, symbol: str) -> None:
    """Remove a symbol from a home; under `runs.one_run_at_a_time`. Killed at any point, it can be done again.

    Raises:
        HeatmapError: if something cannot be removed; what was removed until then stays so.
    """
    from heatmap_pipeline.render.page import remove_symbol  # noqa: PLC0415  # plotting libraries load slowly

    remove_symbol(settings.home / "renders", symbol)
    with open_history(prepare_home(settings)) as instance:
        _forget_assets(instance, symbol)
    forget_data(settings, symbol)


def _forget_assets(instance: dg.DagsterInstance, symbol: str) -> None:
    """Wipe the materialisations of a symbol's assets; the runs they were made by stay in the history."""
    keys = [key for key in instance.all_asset_keys() if key.path[0] == safe_name(symbol)]
    if keys:
        instance.wipe_assets(keys)
