"""A figure of a series, by Plotly: to zoom in a notebook, or to write into one file that any browser opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from heatmap_pipeline.client.answers import Series

_NANOSECONDS = 1_000_000_000


def figure_of(series: Series) -> go.Figure:
    """Return the map over time below its candles, x in UTC, y and colours in the quote asset.

    A column spans its interval and shows the state at its end; an empty bin is blank, and so is an interval of which
    nothing is known. Colours end where 1 % of the cells that hold anything are larger.
    """
    import plotly.graph_objects as go  # noqa: PLC0415

    units = series.provenance.units
    volume = (series.dense("long") + series.dense("short")).T
    volume[volume == 0] = np.nan
    known = volume[np.isfinite(volume)]
    cells = go.Heatmap(
        x=series.times + np.timedelta64(series.interval_seconds * _NANOSECONDS // 2, "ns"),
        y=series.prices + series.price_bin_size / 2,
        z=volume.astype(np.float32),
        zmin=0,
        zmax=float(np.percentile(known, 99)) if len(known) else 1.0,
        colorscale="Viridis",
        colorbar={"title": f"modelled {units['volume']}<br>per {series.price_bin_size:g} of price"},
        hovertemplate=f"%{{x}} UTC<br>%{{y}} {units['price']}<br>%{{z:,.0f}} {units['volume']}<extra></extra>",
        name="open positions by liquidation price",
    )
    prices = {name: series.candles[name] for name in ("open", "high", "low", "close")}
    candles = go.Candlestick(x=series.candles["open_time"], **prices, name="price")
    return go.Figure(
        [cells, candles],
        layout={
            "title": {"text": series.provenance.words, "font": {"size": 13}},
            "xaxis": {"title": "UTC", "rangeslider": {"visible": False}},
            "yaxis": {"title": f"price, {units['price']}"},
            "showlegend": False,
        },
    )
