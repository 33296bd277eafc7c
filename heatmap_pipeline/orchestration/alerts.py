"""The rules for alerts as they are now, and what they told, sent to `HEATMAP_WEBHOOK` once it is published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from heatmap_pipeline.alert_rules import Rule
from heatmap_pipeline.chain.settings import alert_rules
from heatmap_pipeline.instants import iso
from heatmap_pipeline.notices import AlertNotice, announce
from heatmap_pipeline.settings import Settings, SettingsError
from heatmap_pipeline.store.alerts import StoredAlert


def rules_now(settings: Settings, warn: Callable[[str], object]) -> tuple[Rule, ...] | None:
    """Return the rules of the file as it is now: it may have been changed since the process began.

    A file that was broken meanwhile holds up no publication: `warn` is told, and it is None, as without any file.
    """
    try:
        return alert_rules(settings) if settings.alerts is not None else None
    except SettingsError as error:
        warn(f"no rule for alerts was looked at: {error}")
        return None


def tell_of_alerts(settings: Settings, alerts: Sequence[StoredAlert], warn: Callable[[str], object]) -> None:
    """Send alerts to the webhook, each once: what it was told already is left out.

    Args:
        settings: of the home.
        alerts: in their order.
        warn: is told in a line what the webhook did not take.
    """
    for alert in alerts:
        announce(settings, notice_of(alert), warn)


def notice_of(alert: StoredAlert) -> AlertNotice:
    """Return what a webhook is told of an alert."""
    fields = {"event" if name == "kind" else name: value for name, value in asdict(alert).items()}
    return AlertNotice(alert.symbol, alert.rule, alert.words, iso(alert.at), fields | {"at": iso(alert.at)})
