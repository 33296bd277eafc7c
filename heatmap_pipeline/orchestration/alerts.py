"""What the rules for alerts told, sent to `HEATMAP_WEBHOOK` once it is published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from heatmap_pipeline.instants import iso
from heatmap_pipeline.notices import AlertNotice, announce
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store.alerts import StoredAlert


def tell_of_alerts(settings: Settings, alerts: Sequence[StoredAlert], warn: Callable[[str], object]) -> None:
    """Send alerts to the webhook, each once: what it was told already is left out.

    Args:
        settings: of the home.
        alerts: in their order.
        warn: is told in a line what the webhook did not take.
    """
    for alert in alerts:
        fields = {"event" if name == "kind" else name: value for name, value in asdict(alert).items()}
        notice = AlertNotice(alert.symbol, alert.rule, alert.words, iso(alert.at), fields | {"at": iso(alert.at)})
        announce(settings, notice, warn)
