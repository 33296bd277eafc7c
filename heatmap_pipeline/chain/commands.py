"""What to type: the commands that bring a symbol to now or compute again what was published."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from heatmap_pipeline.settings import Settings, load_settings
from heatmap_pipeline.store.read import published_histories
from heatmap_pipeline.store.warehouse import Warehouse


def as_stored(settings: Settings, source: str) -> Settings:
    """Return the settings with the source that a symbol's history came from, for commands that continue it."""
    if not source or source == settings.source:
        return settings
    # The folder is not stored; where no setting says it, the user has to.
    archive = settings.archive or Path("DIR") if source == "archive" else settings.archive
    return settings.model_copy(update={"source": source, "archive": archive})


def refresh_command(settings: Settings, symbol: str) -> str:
    """Return the command that brings a symbol to now, with the options that the environment does not say."""
    common = settings.model_copy(update={"models": load_settings().models})  # `refresh` takes no other
    return shlex.join(
        ["heatmap", "refresh", symbol, *shlex.split(common.repair_command(symbol, date.min, date.min))[7:]]
    )


def rebuild_commands(settings: Settings) -> list[str]:
    """Return the commands that compute everything published again; symbols with the same days share one."""
    published = published_histories(Warehouse(settings.home), any_version=True) or {}
    groups: dict[tuple[Any, ...], list[str]] = {}
    for symbol, history in published.items():
        days = [day for of_model in history.days.values() for day in of_model]
        if days:
            models = tuple(sorted(history.days, reverse=True))
            groups.setdefault((history.record.source, min(days), max(days), models), []).append(symbol)
    return [_command(settings, symbols, *group) for group, symbols in groups.items()]


def _command(
    settings: Settings, symbols: Sequence[str], source: str, first: date, last: date, models: tuple[str, ...]
) -> str:
    again = as_stored(settings, source).model_copy(update={"models": models})
    words = shlex.split(again.repair_command(symbols[0], first, last))
    words[3:3] = symbols[1:]
    return shlex.join(words)
