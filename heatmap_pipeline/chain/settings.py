"""The settings as a run may rely on them: also the models and the sources of liquidations they name exist.

Which markets the demo makes where nobody names any is decided here as well. `settings.py` lies below model and market
and takes any name; whoever starts something reads the settings through here.
"""

from __future__ import annotations

from typing import Any

from heatmap_pipeline.alert_rules import AlertRulesError, Rule, read_rules
from heatmap_pipeline.errors import listed
from heatmap_pipeline.market.archive_names import CANDLES_FOLDER
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.settings import Settings, SettingsError, load_settings

DEMO_MARKETS = ("BTCUSDT", "BYBIT_BTCUSDT", "ETHUSDT")
"""What the demo makes where nobody names a symbol: a base with a market on two exchanges, and one with a single one."""


def load_checked_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment, as `load_settings` does, and check what they name.

    Where nobody names symbols, those of the demo are `DEMO_MARKETS`; a home that the demo made when it had one exchange
    goes on without the other.

    Raises:
        SettingsError: as `load_settings` does; for a model that is no row of `MODELS`, or none at all; for a source of
            liquidations that there is not, or that lacks its folder or has an address that is none; as `alert_rules`.

    Example:
        >>> load_checked_settings(models=("delta",)).models
        ('delta',)
    """
    settings = load_settings(**overrides)
    if settings.kind.simulated and "symbols" not in settings.model_fields_set and not _of_one_exchange(settings):
        settings = settings.model_copy(update={"symbols": DEMO_MARKETS})
    unknown = [name for name in settings.models if name not in MODELS]
    if unknown or not settings.models:
        raise SettingsError(
            f"setting HEATMAP_MODELS = {','.join(settings.models)!r}: unknown model {', '.join(unknown) or '(none)'}; "
            f"allowed are {listed(MODELS)}"
        )
    if settings.liquidation_sources:
        _check_liquidations(settings)
    alert_rules(settings)
    return settings


def alert_rules(settings: Settings) -> tuple[Rule, ...]:
    """Return the rules for alerts of the file that HEATMAP_ALERTS names; none without one.

    Raises:
        SettingsError: for a file that cannot be read or used, naming it and the rule; for a model that is not computed.
    """
    if settings.alerts is None:
        return ()
    try:
        rules = read_rules(settings.alerts)
        for rule in rules:
            if rule.model not in (None, *settings.models):
                computed = listed(settings.models)
                raise AlertRulesError(f"rule {rule.name!r}: model = {rule.model!r}; computed here: {computed}")
    except AlertRulesError as error:
        words = str(error)
    else:
        return rules
    raise SettingsError(f"setting HEATMAP_ALERTS = {str(settings.alerts)!r}: {words}")


def _of_one_exchange(settings: Settings) -> bool:
    """Whether the demo wrote files into this home, and none of a second exchange."""
    folder = settings.archive_root / CANDLES_FOLDER
    try:
        return (folder / DEMO_MARKETS[-1]).is_dir() and not all((folder / symbol).is_dir() for symbol in DEMO_MARKETS)
    except OSError:  # a home that cannot be entered, which whoever uses it says
        return False


def _check_liquidations(settings: Settings) -> None:
    # The readers are imported only where they are wanted: they take longer than all other settings.
    from heatmap_pipeline.chain.liquidations import open_sources  # noqa: PLC0415
    from heatmap_pipeline.market.tables import MarketError  # noqa: PLC0415

    try:
        open_sources(settings)
    except MarketError as error:
        names = ",".join(settings.liquidations)
        raise SettingsError(f"setting HEATMAP_LIQUIDATIONS = {names!r}: {error}") from None
