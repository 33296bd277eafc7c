"""The settings as a run may rely on them: also the models they name exist.

`settings.py` lies below the model and takes any name; whoever starts something reads the settings through here.
"""

from __future__ import annotations

from typing import Any

from heatmap_pipeline.errors import listed
from heatmap_pipeline.model.parameters import MODELS
from heatmap_pipeline.settings import Settings, SettingsError, load_settings


def load_checked_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment, as `load_settings` does, and check the models they name.

    Raises:
        SettingsError: as `load_settings` does, and for a model that is no row of `MODELS`, or none at all.

    Example:
        >>> load_checked_settings(models=("delta",)).models
        ('delta',)
    """
    settings = load_settings(**overrides)
    unknown = [name for name in settings.models if name not in MODELS]
    if unknown or not settings.models:
        raise SettingsError(
            f"setting HEATMAP_MODELS = {','.join(settings.models)!r}: unknown model {', '.join(unknown) or '(none)'}; "
            f"allowed are {listed(MODELS)}"
        )
    return settings
