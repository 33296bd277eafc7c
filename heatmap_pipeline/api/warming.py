"""What is done before the first request, so that it need not wait: a small market that nobody asks for is answered.

It is made up here, so that no market of the publication has to be read for it, and is never served.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from heatmap_pipeline.api import encode
from heatmap_pipeline.api.heatmap import MAX_LEVELS, plan_heatmap
from heatmap_pipeline.api.parameters import HeatmapQuery
from heatmap_pipeline.bins import Candles
from heatmap_pipeline.errors import HeatmapError
from heatmap_pipeline.instants import DAY, MICROSECONDS, day_of
from heatmap_pipeline.model.parameters import ModelParameters
from heatmap_pipeline.settings import load_settings
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.views.base import bases
from heatmap_pipeline.views.data import ModelData, SymbolData, Version, published_version
from heatmap_pipeline.views.replay import Books

_NAMES = ("WARMINGUPUSDT", "WARMINGUPUSDC")
_BASE = "WARMINGUP"


def warm_up(version: Version) -> None:
    """Have everything compiled that answers need: each format takes functions of its own, and so does a base.

    Args:
        version: what will be served. Nothing of it is read but what is known of its first symbol.
    """
    first = next(iter(version.symbols.values()), None)
    if first is None:
        return
    parameters = next(iter(first.models.values())).newest_parameters
    made_up = replace(version, symbols={name: _market(name, parameters) for name in _NAMES})
    several = any(len(markets) > 1 for markets in bases(version).values())
    for asked in (_NAMES[0], *([_BASE] if several else [])):
        for form in MAX_LEVELS:
            with suppress(HeatmapError):  # what is wrong is said to who asks for something
                plan = plan_heatmap(made_up, Books(1 << 20), HeatmapQuery(symbol=asked, interval="1d", format=form))
                encode.compress(plan.make(), "zstd")


def main(home: str) -> None:
    """Compile for later processes, by what a home has published, as when the image is built (deploy/Dockerfile)."""
    settings = load_settings(home=Path(home))
    warm_up(published_version(Warehouse(settings.home), None, settings.models))


def _market(name: str, parameters: ModelParameters) -> SymbolData:
    """Return a day of a price that goes up and down by a twentieth while the open interest grows."""
    step = parameters.interval * MICROSECONDS
    times = np.arange(0, DAY, step)
    middle = 1000 * parameters.bucket * (1 + np.sin(times / DAY * 6 * np.pi) / 20)
    edge = 2 * parameters.bucket
    volume = np.full(len(times), 100.0)
    candles = Candles(parameters.interval, times, middle, middle + edge, middle - edge, middle, volume, volume * middle)
    day = day_of(0)
    model = ModelData(
        name=parameters.spec.name,
        first_day=day,
        last_day=day,
        newest_complete=day,
        newest_parameters=parameters,
        provisional=frozenset(),
        missing=(),
        broken=(),
        begin=0,
        end=DAY,
        price=float(middle[-1]),
        located_share=0.0,
        snapshot_seconds=None,
        cells_from=None,
        days=(day,),
        parameters={day: parameters},
        fresh={day: 1000.0},
        times=times,
        rows=np.arange(len(times)),
        open_interest=1000.0 + 10 * np.arange(1.0, len(times) + 1),
        factor=np.ones(len(times)),
        bounds={day: (0, len(times))},
    )
    return SymbolData(
        name=name,
        fingerprint="",
        bucket=parameters.bucket,
        simulated=True,
        source="",
        candle_seconds=parameters.interval,
        models={model.name: model},
        base=_BASE,
        candles=candles,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
