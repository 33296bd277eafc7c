"""What a run needs late and what loads slowly: its machine code, the tables it fills, the libraries that draw."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import numpy as np

from heatmap_pipeline.model.book import DayCandles
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import MODELS, ModelParameters
from heatmap_pipeline.store.schema import relations

_DRAWING = (
    "heatmap_pipeline.render.page",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.dates",
    "matplotlib.figure",
    "matplotlib.font_manager",
)
"""What is imported when a picture is drawn, half a second's work."""

_log = logging.getLogger(__name__)


@contextmanager
def loading() -> Iterator[None]:
    """Load all of it beside what is done inside, which waits for files and databases much of the time.

    What is loaded already costs nothing. Afterwards no thread of it is left.
    """
    thread = threading.Thread(target=_load, name="loading", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _load() -> None:
    try:
        parameters = ModelParameters(next(iter(MODELS.values())), 1.0)
        nothing = DayCandles(np.empty(0, np.int64), *(np.empty(0) for _ in range(7)))
        run_day(parameters, start_state(parameters, 1.0), nothing, parameters.interval)
        relations()
        for name in _DRAWING:
            import_module(name)
    except Exception:
        _log.debug("not loaded beforehand", exc_info=True)  # who needs it meets the same error, and says so
