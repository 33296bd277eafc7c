"""Command lines that messages name: the words to type, without what the environment says already.

Every message that tells someone to type `heatmap ...` builds the line here; what needs stored knowledge besides
(`store/origin.py`, `chain/commands.py`) makes the settings first and then asks here, too.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from functools import lru_cache
from pathlib import Path

from heatmap_pipeline.settings import Settings, SettingsError, load_settings
from heatmap_pipeline.source_kinds import SOURCES, folder_sources

TAKES: Mapping[str, frozenset[str]] = {
    "demo": frozenset({"home", "model"}),
    "run": frozenset({"start", "check-files", "restart", "jobs", "source", "liquidations", "home", "model"}),
    "refresh": frozenset({"jobs", "source", "liquidations", "home"}),
    "forget": frozenset({"home"}),
    "record": frozenset({"exchange", "home"}),
    "status": frozenset({"home"}),
    "score": frozenset({"liquidations", "home", "model"}),
    "ui": frozenset({"source", "home"}),
    "serve": frozenset({"home"}),
    "mcp": frozenset({"home"}),
    "backup": frozenset({"home"}),
    "restore": frozenset({"home"}),
    "export": frozenset({"home"}),
    "catalogue": frozenset({"home"}),
}
"""Which options each verb takes; those of `fleet` that messages name take what their namesakes do."""

OVER_STORE = frozenset({"run", "refresh"})
"""Verbs that stand behind `fleet` where the store is not the home."""

ONLY_OVER_STORE = frozenset({"catalogue"})
"""Verbs that stand behind `fleet` always."""

WHERE_NOBODY_SAID = Path("DIR")
"""Stands for the archive folder that the user has to fill in, as in the help."""


def environment() -> Settings:
    """Return what the environment says; where it says nonsense nothing is left out, for its own error has to tell."""
    said = {name: value for name, value in os.environ.items() if name.startswith("HEATMAP_") or name == "HOME"}
    folder = None  # where relative paths begin; it may be gone
    with suppress(OSError):
        folder = Path.cwd()
    return _said_by(folder, *sorted(said.items()))


@lru_cache(maxsize=4)
def _said_by(*_: object) -> Settings:
    """Read the environment, whose content is only what the answer is remembered by: a run asks a dozen times."""
    try:
        return load_settings()
    except SettingsError:
        return Settings.model_construct()


def command(
    settings: Settings,
    verb: str,
    *symbols: str,
    days: tuple[date | str, date | str] | None = None,
    check_files: bool = False,
    restart: bool = False,
    exchange: str | None = None,
) -> str:
    """Return a line to type that does with these settings what a message asks for.

    Args:
        settings: home, source, folders and models to work with; what the environment says alike is left out.
        verb: of the `heatmap` command.
        symbols: its arguments; of `export` the folder.
        days: first and last day.
        check_files: whether corrected files of these days are asked for, instead of the days.
        restart: whether a new history begins after a gap.
        exchange: the only one that is recorded.

    Example:
        >>> command(load_settings(source="binance"), "run", "BTCUSDT", days=(date(2024, 7, 1), date(2024, 7, 2)))
        'heatmap run BTCUSDT --start 2024-07-01 --end 2024-07-02 --source binance'
    """
    plain, takes = environment(), TAKES[verb]
    over_store = verb in ONLY_OVER_STORE or (settings.store and verb in OVER_STORE)
    words = ["heatmap", *(["fleet"] if over_store else []), verb, *symbols]
    if days is not None:
        first, last = str(days[0]), str(days[1])
        words += ["--check-files", first, last] if check_files else ["--start", first, "--end", last]
    if restart:
        words.append("--restart")
    if "source" in takes:
        words += _source_words(settings, plain)
    if "liquidations" in takes and settings.liquidations_folder not in (None, plain.liquidations_folder):
        words += ["--liquidations", str(settings.liquidations_folder)]
    if exchange is not None:
        words += ["--exchange", exchange]
    if settings.named_home != plain.home:
        words += ["--home", str(settings.named_home)]
    if "model" in takes and set(settings.models) != set(plain.models):
        words += [word for model in settings.models for word in ("--model", model)]
    return shlex.join(words)


def at(home: Path) -> Settings:
    """Return what the environment says, for a home: for messages of those who know nothing else."""
    return environment().model_copy(update={"home": home.expanduser().resolve()})


def first_commands(home: Path) -> str:
    """Return, in backquotes, what to begin with where a home has nothing."""
    settings = at(home)
    if settings.store:
        return f"`{command(settings, 'catalogue')}`"
    return f"`{command(settings, 'demo')}` or `{command(settings, 'run', 'SYMBOL', days=('DAY', 'DAY'))}`"


def _source_words(settings: Settings, plain: Settings) -> list[str]:
    if not SOURCES[settings.source].given_folder:
        return ["--source", settings.source] if settings.source != plain.source else []
    if (settings.source, settings.archive) == (plain.source, plain.archive):
        return []
    implied = settings.source == folder_sources()[0]
    named = [] if implied else ["--source", settings.source]
    return [*named, "--archive", str(settings.archive or WHERE_NOBODY_SAID)]
