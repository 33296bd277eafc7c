"""Publishing several symbols at once, so that a run writes the published file once however many symbols it is about.

What belongs here: which of them may be published. What does not: how a file is published (`store/publish.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from heatmap_pipeline.chain.recovery import RecoveryError, refuse_loss
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.publish import PublishReport, publish
from heatmap_pipeline.store.warehouse import Warehouse


def publish_symbols(
    connect: Callable[[], AbstractContextManager[Any]], settings: Settings, warehouse: Warehouse, symbols: Sequence[str]
) -> dict[str, PublishReport | RecoveryError]:
    """Publish the newest rows of these symbols in one step, but of those that would lose days that are published.

    Args:
        connect: opens the private database.
        settings: of the home, for the commands that are named.
        warehouse: of the home.
        symbols: those that may be published.

    Returns:
        By symbol, what the publication did, or why this symbol was left out of it.

    Raises:
        StoreError: as `publish` does; nothing is changed then.
    """
    results: dict[str, PublishReport | RecoveryError] = {}
    if warehouse.path.exists():
        with connect() as con:
            for symbol in symbols:
                try:
                    refuse_loss(con, settings, symbol)
                except RecoveryError as error:
                    results[symbol] = error
    kept = [symbol for symbol in symbols if symbol not in results]
    if kept:
        results |= dict.fromkeys(kept, publish(warehouse, kept))
    return results
