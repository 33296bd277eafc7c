"""HOME/dagster/dagster.yaml, the settings of Dagster itself: one that the user wrote is kept, ours is kept current.

What belongs here: whose the file is, and what of it this program relies on. What does not: opening the history that it
describes (`instance.py`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.files import replace_file
from heatmap_pipeline.orchestration.shards import SHARD_TAG

NAME = "dagster.yaml"

_WRITTEN = "dagster.yaml.written"
"""Beside it: the SHA-256 of what this program wrote there. A file with another one is the user's."""

_EARLIER = frozenset(
    {
        "623ec46aa4a33ab1f3d8e598ae338091f3606a8ba7f5d0e72a31e2ffd3a7e290",
        "da7507900f67bd1b97d4e6ce10cc4cb36df344e8113bed6f11f82caaee33ac09",
        "d3507662c0ff84ce8176c01fb2d8766bc2b461c8c19497976ed442ce246a2d2c",
        "f8805dc9e6f614c7063da7dcf3562d13a17819c1c5a14d3156d9974de6353777",
        "da9d6a487b53395c7c087070741a1035541ca9bc00eb1c6e317e85a81ab0360e",
        "5c70b1ec40ba803daa8e9ea18c310f35840f50d3b761394f91d225b6e852602c",
        "ff745798636e63d607898245606ade81de25b3083c8a9046010117b6e980e4c4",
    }
)
"""SHA-256 of the files that were written before that was noted beside them."""

_STORAGES = ("storage", "run_storage", "event_log_storage", "schedule_storage")

_RUNS_AT_A_TIME = ("concurrency", "runs", "max_concurrent_runs")

_RELIED_ON: Mapping[tuple[str, ...], tuple[Any, str]] = {
    _RUNS_AT_A_TIME: (
        1,
        "runs of the same symbol wait for each other, and a check may meet the days of another run half done",
    ),
    ("run_retries", "enabled"): (True, "a backfill whose process is killed stays failed"),
    ("run_retries", "retry_on_asset_or_op_failure"): (False, "a day that cannot be had is tried again and again"),
    ("backfills", "use_threads"): (False, "a backfill that goes on while the UI is stopped may be marked failed"),
    ("run_monitoring", "enabled"): (True, "a run that does not start hangs in the list for ever"),
}
"""What our own file sets, by place in it: its value, and what happens where it is another."""

_log = logging.getLogger(__name__)


class InstanceFileError(HeatmapError):
    """A dagster.yaml of the user's that Dagster cannot use; the message says which, and how to have ours again."""


def put_instance_file(folder: Path, ours: bytes) -> None:
    """Write our dagster.yaml into a folder, unless there is one that the user wrote.

    Of a file of the user's is said, once a process, what this program relies on and does not find in it.

    Args:
        folder: DAGSTER_HOME.
        ours: the file that comes with this program.

    Raises:
        OSError: if the folder cannot be written.
        InstanceFileError: if the user's file is not one of settings.
    """
    path, note = folder / NAME, folder / _WRITTEN
    if is_the_users(folder):
        _say_what_is_missing(path, path.read_bytes())
        return
    # The note first: a kill between the two leaves an earlier file of ours that is taken for the user's, so the file of
    # before is noted until the new one stands.
    digest = hashlib.sha256(ours).hexdigest()
    before = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else digest
    wanted = f"{before}\n{digest}\n" if before != digest else f"{digest}\n"
    if not note.exists() or note.read_text() != wanted:
        replace_file(note, wanted.encode())
    if before != digest or not path.exists():
        replace_file(path, ours)


def is_the_users(folder: Path) -> bool:
    """Return whether the dagster.yaml in a folder was written by somebody else than this program."""
    path, note = folder / NAME, folder / _WRITTEN
    if not path.exists():
        return False
    noted = set(note.read_text().split()) if note.exists() else set()
    return hashlib.sha256(path.read_bytes()).hexdigest() not in noted | _EARLIER


def shares_history(folder: Path) -> bool:
    """Return whether Dagster's history is kept elsewhere than in the folder, where other homes may keep theirs too.

    Raises:
        InstanceFileError: if the file is not one of settings.
    """
    path = folder / NAME
    return is_the_users(folder) and any(name in _settings(path, path.read_bytes()) for name in _STORAGES)


def unusable(folder: Path, error: Exception) -> InstanceFileError:
    """Return what to tell where Dagster refuses the user's file, or what it names cannot be reached."""
    reason = getattr(error.__cause__, "orig", error.__cause__)  # "too many retries" says little without
    words = " ".join(f"{error}{'' if reason is None else f': {reason}'}".split())[:500]
    return InstanceFileError(
        f"{folder / NAME}, which you wrote, cannot be used ({words}); mend it, or move it away to have the program's "
        "own again"
    )


@cache
def _say_what_is_missing(path: Path, content: bytes) -> None:
    settings = _settings(path, content)
    for place, (wanted, otherwise) in _RELIED_ON.items():
        if place == _RUNS_AT_A_TIME and _limits_each_shard(settings):
            continue
        if _at(settings, place) != wanted:
            _log.warning(
                "%s is your own and does not set %s: %s; without that, %s",
                path,
                ".".join(place),
                str(wanted).lower(),
                otherwise,
            )


def _limits_each_shard(settings: Mapping[str, Any]) -> bool:
    """Whether one run of a shard goes on at a time, which is as good: no other works on its symbols."""
    limits = _at(settings, ("concurrency", "runs", "tag_concurrency_limits"))
    one_each = {"key": SHARD_TAG, "value": {"applyLimitPerUniqueValue": True}, "limit": 1}
    return isinstance(limits, list) and one_each in limits


def _at(settings: Mapping[str, Any], place: Sequence[str]) -> Any:
    """Return what stands at a place of a file that may hold anything; None where nothing does."""
    value: Any = settings
    for name in place:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _settings(path: Path, content: bytes) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:  # the latter for no UTF-8, or no day of the calendar
        raise unusable(path.parent, error) from None
    if not isinstance(settings, dict):
        raise unusable(path.parent, ValueError("it holds no settings"))
    return settings
