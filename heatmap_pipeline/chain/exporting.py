"""The export of a home as its owner asks for it: with progress, and said where it is behind what is published."""

from __future__ import annotations

from pathlib import Path

from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.commands import command
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.export import ExportReport, export, is_current
from heatmap_pipeline.store.warehouse import StoreError, Warehouse

STAGE = "export"
"""What progress calls it."""


def export_published(settings: Settings, folder: Path) -> ExportReport:
    """Make a folder hold what is published in the home; raises as `store.export.export` does."""
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    return export(warehouse, folder, lambda symbol, done, total: tell(symbol, STAGE, done, total))


def export_command(settings: Settings) -> str:
    """Return the line that writes the export of HEATMAP_EXPORT alone, without a run."""
    return command(settings, "export", str(settings.export))


def words_for_old_export(settings: Settings) -> str | None:
    """Say that the folder of HEATMAP_EXPORT is not what is published; None where it is, or nothing can be said."""
    if settings.export is None:
        return None
    try:
        current = is_current(Warehouse(settings.home), settings.export)
    except StoreError:  # nothing is published, or it cannot be read: that is said by itself
        return None
    return (
        None
        if current
        else f"{settings.export} is behind what is published; write it with `{export_command(settings)}`"
    )
