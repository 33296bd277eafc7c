"""Forgetting a symbol everywhere: the page, Dagster's assets, the databases, and the archive below the home."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import dagster as dg

from heatmap_pipeline.chain.forget import forget_data
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.orchestration.runs import opened_history, prepare_home, wait_for_runs_of_the_ui
from heatmap_pipeline.orchestration.turns import drawing
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.symbols import contract_of, safe_name


class ForgetError(HeatmapError):
    """A symbol that could not be forgotten everywhere; what was removed until then stays so."""


def forget(settings: Settings, symbol: str, tell: Callable[[str], None], answers: Callable[[Path], bool]) -> None:
    """Remove a symbol from a home; under `turns.one_run_at_a_time`. Killed at any point, it can be done again.

    Args:
        settings: of the home.
        symbol: to remove.
        tell: is told once of a run of the UI that is waited for.
        answers: whether a process listens on a socket of the file system.

    Raises:
        HeatmapError: if a run of the UI goes on with the symbol for too long, when nothing was removed; if something
            cannot be removed, when what was removed until then stays so.
    """
    with opened_history(prepare_home(settings)) as instance:
        wait_for_runs_of_the_ui(settings, instance, symbol, tell, answers)
        _forget_pictures(settings, symbol)
        _forget_assets(instance, symbol)
    forget_data(settings, symbol)
    # Until then a run of another market of its base may have drawn the sum of both.
    _forget_pictures(settings, symbol)


def _forget_pictures(settings: Settings, symbol: str) -> None:
    """Take a symbol out of the page, and the map of its base, while no run draws that."""
    from heatmap_pipeline.render.page import remove_symbol  # noqa: PLC0415  # plotting libraries load slowly

    base = contract_of(symbol).base
    with _explaining(settings.home), drawing(settings, base) if base != symbol and base else nullcontext():
        remove_symbol(settings.home / "renders", symbol)


def _forget_assets(instance: dg.DagsterInstance, symbol: str) -> None:
    """Wipe the materialisations of a symbol's assets; the runs they were made by stay in the history."""
    keys = [key for key in instance.all_asset_keys() if key.path[0] == safe_name(symbol)]
    if keys:
        instance.wipe_assets(keys)


@contextmanager
def _explaining(home: Path) -> Iterator[None]:
    """Say in words that the page cannot be changed."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ForgetError(f"the disk that holds {home} is full; make room and run again") from None
        raise ForgetError(
            f"{error.filename or home / 'renders'} cannot be written or removed ({error.strerror or error}); mend its "
            "permissions and run again"
        ) from None
