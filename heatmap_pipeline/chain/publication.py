"""Publishing several symbols at once, so that a run writes the published file once however many symbols it is about.

What belongs here: which of them may be published. What does not: how a file is published (`store/publish.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from heatmap_pipeline.alert_rules import Rule
from heatmap_pipeline.chain.alerts import watch_symbol
from heatmap_pipeline.chain.progress import tell
from heatmap_pipeline.chain.recovery import naming_the_rebuild, refuse_loss
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.alerts import StoredAlert
from heatmap_pipeline.store.publish import PublishReport, publication, publish
from heatmap_pipeline.store.warehouse import UnusableError, Warehouse


@dataclass(frozen=True)
class Publication:
    """What a publication did, and what the rules for alerts tell of a symbol now that it is published."""

    report: PublishReport
    alerts: Sequence[StoredAlert] = ()


def publish_symbols(
    settings: Settings,
    warehouse: Warehouse,
    symbols: Sequence[str],
    rules: Sequence[Rule] | None = None,
) -> dict[str, Publication | HeatmapError]:
    """Publish the newest rows of these symbols in one step, but of those that would lose days that are published.

    One whose private database is damaged is left out, too, and holds up no other.

    Args:
        settings: of the home, for the commands that are named.
        warehouse: of the home.
        symbols: those that may be published.
        rules: for alerts; they look before the publication, so that whoever is told of an alert finds it published.

    Returns:
        By symbol, what the publication did, or why this symbol was left out of it.

    Raises:
        StoreError: as `publish` does; nothing is changed then.
    """
    results: dict[str, Publication | HeatmapError] = {}
    alerts: dict[str, Sequence[StoredAlert]] = {}
    for symbol in symbols:
        try:
            with naming_the_rebuild(settings), warehouse.look(symbol) as con:
                refuse_loss(con, settings, symbol)
            if rules is not None:
                alerts[symbol] = watch_symbol(partial(warehouse.connect, symbol), symbol, settings.models, rules)
        except HeatmapError as error:
            results[symbol] = error
    kept = [symbol for symbol in symbols if symbol not in results]
    while kept:
        try:
            told = partial(tell, warehouse.published.name)
            report = publish(warehouse, kept, tables_up_to=settings.most_of_tables, tell=told)
        except UnusableError as error:
            damaged = [symbol for symbol in kept if warehouse.path(symbol) == error.path]
            if not damaged:
                raise
            results |= dict.fromkeys(damaged, error)
            kept = [symbol for symbol in kept if symbol not in damaged]
        else:
            results |= {symbol: Publication(report, alerts.get(symbol, ())) for symbol in kept}
            break
    return results


def bring_parts_back(settings: Settings) -> bool:
    """Make the parts anew that what is published shows, where they are not there; return whether there was need to.

    Backups have none of them, and a home may have been moved.

    Raises:
        StoreError: as `publish` does.
    """
    warehouse = Warehouse(settings.home, lock_timeout=settings.lock_timeout)
    there = publication(warehouse)  # None also while somebody has it open for writing: the next time
    if there is None or there.parts is None or not (there.lost() or there.parts.moved):
        return False
    told = partial(tell, warehouse.published.name)
    return publish(warehouse, [], tables_up_to=settings.most_of_tables, tell=told).changed
