"""The density map as a PNG, drawn with matplotlib's objects and without its global state."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heatmap_pipeline.files import replace_file
from heatmap_pipeline.render.data import HeatmapData, colour_limit, profile, resample_candles

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure

BACKGROUND = "#0b0e14"
TEXT = "#d7dde8"
MUTED = "#8a93a5"
GRID = "#232a38"
LONG = "#4ea8ff"
SHORT = "#ff9a3c"
CANDLE_UP = "#f4f7fb"
CANDLE_DOWN = "#f06ccf"
PRICE = "#ffffff"

SMALL_LIMIT = 100_000
"""Bytes that a picture in the metadata of a run must stay below."""

_DPI = 100
_CANDLES_SHOWN = 400
_BUBBLES_SHOWN = 160
_NOTE: dict[str, Any] = {"color": MUTED, "fontsize": 9.5}
_PLATE = {"boxstyle": "round,pad=0.2", "facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.75}
_CANDLE_SECONDS = (300, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)


def write_png(data: HeatmapData, path: Path, *, size: tuple[int, int] = (1600, 900)) -> None:
    """Write the picture of `data` to `path`, replacing what is there in one step.

    Args:
        data: what to draw.
        path: the PNG; its folder must exist.
        size: width and height in pixels; labels are laid out for about 1600 x 900.
    """
    replace_file(path, _png(_Canvas(data, size).draw()))


def small_png(data: HeatmapData) -> bytes:
    """Return a small picture, below 100 kB, for the metadata of a run."""
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib, slow to import

    width, height = 800, 450
    picture = Image.open(io.BytesIO(_png(_Canvas(data, (1600, 900)).draw()))).convert("RGB")
    while True:
        out = io.BytesIO()
        reduced = picture.resize((width, height), Image.Resampling.LANCZOS)
        few = reduced.quantize(128, method=Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
        few.save(out, "PNG", optimize=True)
        if out.tell() < SMALL_LIMIT:
            return out.getvalue()
        width, height = width * 4 // 5, height * 4 // 5


def format_usdt(value: float) -> str:
    """Return a volume as people write it: 12300000 -> '$12.3M'."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"${_three_digits(value / limit)}{unit}"
    return f"${_three_digits(value)}"


def format_price(price: float) -> str:
    """Return a price with as many decimals as its size asks for: 64230 -> '64,230', 0.1034 -> '0.10340'."""
    if price <= 0:
        return "0"
    decimals = max(0, 4 - math.floor(math.log10(price)))
    return f"{price:,.{decimals}f}"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _colour_map() -> LinearSegmentedColormap:
    """Viridis with a short run-in from the background, so that empty is dark and little is nearly so."""
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.colors import LinearSegmentedColormap, to_rgba  # noqa: PLC0415

    stops = [(0.0, to_rgba(BACKGROUND))]
    stops += [(0.16 + 0.84 * share, colormaps["viridis"](share)) for share in np.linspace(0, 1, 32)]
    return LinearSegmentedColormap.from_list("viridis_from_dark", stops)


@dataclass
class _Canvas:
    """One figure in the making; positions are pixels from the upper left corner of a 1600 x 900 sheet."""

    data: HeatmapData
    size: tuple[int, int]

    def draw(self) -> Figure:
        from matplotlib.figure import Figure  # noqa: PLC0415

        self.figure: Figure = Figure(figsize=(self.size[0] / _DPI, self.size[1] / _DPI), dpi=_DPI, facecolor=BACKGROUND)
        edges = self.data.edges
        times = self._days(self.data.times)
        self.left, self.right = float(times[0]), float(times[-1]) + self.data.interval_seconds / 86400
        self.chart = self._axes(28, 92, 1218, 756)
        self.side = self._axes(1330, 92, 242, 756)
        for axes in (self.chart, self.side):
            axes.set_ylim(edges[0], edges[-1])
        self._map()
        self._candles()
        self._bubbles()
        self._profile()
        self._price()
        self._header()
        self._footer()
        return self.figure

    def _axes(self, x: float, y: float, width: float, height: float) -> Axes:
        axes = self.figure.add_axes((x / 1600, 1 - (y + height) / 900, width / 1600, height / 900))
        axes.set_facecolor(BACKGROUND)
        self._style(axes)
        return axes

    @staticmethod
    def _style(axes: Axes) -> None:
        axes.tick_params(colors=MUTED, labelsize=9.5, length=0, pad=5)
        for spine in axes.spines.values():
            spine.set_color(GRID)

    def _text(self, x: float, y: float, text: str, **style: Any) -> Any:
        style = {"color": TEXT, "fontsize": 11, "va": "center", **style}
        return self.figure.text(x / 1600, 1 - y / 900, text, **style)

    @staticmethod
    def _days(instants: Any) -> Any:
        """Matplotlib's dates: days since 1970 as floats."""
        return np.asarray(instants).astype("datetime64[us]").astype(np.int64) / 86_400e6

    @staticmethod
    def _date(days: float) -> str:
        instant = np.datetime64(round(days * 1440), "m").astype(object)
        return f"{instant:%H:%M}" if instant.hour or instant.minute else f"{instant.day} {instant:%b}"

    def _map(self) -> None:
        from matplotlib.colors import PowerNorm  # noqa: PLC0415
        from matplotlib.dates import AutoDateLocator  # noqa: PLC0415

        top = colour_limit(self.data)
        norm = PowerNorm(0.6, 0, top)
        total = self.data.long + self.data.short
        self.chart.imshow(
            total,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(self.left, self.right, self.data.edges[0], self.data.edges[-1]),
            cmap=_colour_map(),
            norm=norm,
            zorder=0,
        )
        self.chart.set_xlim(self.left, self.right)
        self.chart.xaxis_date(tz="UTC")
        locator = AutoDateLocator(tz="UTC", minticks=6, maxticks=12, interval_multiples=False)  # type: ignore[no-untyped-call]
        self.chart.xaxis.set_major_locator(locator)
        self.chart.xaxis.set_major_formatter(lambda days, _: self._date(days))
        self.chart.yaxis.tick_right()
        decimals = max(0, math.ceil(-math.log10(self.data.bucket)))
        self.chart.yaxis.set_major_formatter(lambda price, _: f"{price:,.{decimals}f}")
        self._colour_bar(norm, top)

    def _colour_bar(self, norm: Normalize, top: float) -> None:
        axes = self._axes(930, 52, 316, 10)
        ramp = np.linspace(0, 1, 256)[None, :]
        axes.imshow(ramp, aspect="auto", cmap=_colour_map(), extent=(0, 1, 0, 1), interpolation="bilinear")
        values = _spread_values(top, norm)
        axes.set_yticks([])
        axes.set_xticks([float(norm(value)) for value in values])
        axes.set_xticklabels([format_usdt(value) for value in values[:-1]] + [f"≥ {format_usdt(top)}"])
        axes.tick_params(labelsize=9, pad=3)
        axes.get_xticklabels()[-1].set_horizontalalignment("right")
        height = f"{self.data.bucket:.10f}".rstrip("0").rstrip(".")
        self._text(930, 36, f"Volume to be liquidated, per {height} USDT of price", **_NOTE)

    def _candles(self) -> None:
        from matplotlib.collections import LineCollection  # noqa: PLC0415

        bars, seconds = self._shown_candles()
        centre = self._days(bars["open_time"]) + seconds / 2 / 86400
        opens, highs, lows, closes = (bars[name].to_numpy() for name in ("open", "high", "low", "close"))
        colours = np.where(closes >= opens, CANDLE_UP, CANDLE_DOWN)
        pixel = 1218 * self.size[0] / 1600 / (self.right - self.left)  # per day
        body = max(0.62 * seconds / 86400 * pixel, 1.0) * 72 / _DPI
        smallest = (self.data.edges[-1] - self.data.edges[0]) / 756  # a doji is one pixel high
        bottom, top = np.minimum(opens, closes), np.maximum(opens, closes)
        top = np.maximum(top, bottom + smallest)
        dark = np.full(len(bars), BACKGROUND)  # a halo, so that candles stay readable where the map is bright
        for low, high, width, colour in (
            (lows, highs, 2.4, dark),
            (bottom, top, body + 1.4, dark),
            (lows, highs, 0.8, colours),
            (bottom, top, body, colours),
        ):
            lines = np.stack([np.column_stack([centre, low]), np.column_stack([centre, high])], axis=1)
            strokes = LineCollection(list(lines), colors=list(colour), linewidths=width, capstyle="butt", zorder=3)
            self.chart.add_collection(strokes, autolim=False)

    def _shown_candles(self) -> tuple[pd.DataFrame, int]:
        span = (self.right - self.left) * 86400
        for seconds in (self.data.candle_seconds, *_CANDLE_SECONDS):
            if seconds % self.data.candle_seconds == 0 and span / seconds <= _CANDLES_SHOWN:
                return resample_candles(self.data.candles, seconds), seconds
        return self.data.candles, self.data.candle_seconds

    def _bubbles(self) -> None:
        biggest = self.data.consumed.nlargest(_BUBBLES_SHOWN, "volume")
        if biggest.empty:
            return
        size = biggest["volume"] / biggest["volume"].max()
        self.chart.scatter(
            self._days(biggest["timestamp"]) + self.data.interval_seconds / 2 / 86400,
            biggest["price"],
            s=size * 420,
            c=np.where(biggest["side"] == "long", LONG, SHORT),
            alpha=0.45,
            edgecolors="white",
            linewidths=0.7,
            zorder=4,
        )

    def _profile(self) -> None:
        book = profile(self.data)
        middle = (book["price_low"] + book["price_high"]) / 2
        sums = self.side.twiny()
        sums.set_zorder(1)
        for side, colour in (("long", LONG), ("short", SHORT)):
            bars = book[side].to_numpy()
            self.side.stairs(
                bars, self.data.edges, orientation="horizontal", fill=True, color=colour, alpha=0.85, linewidth=0
            )
            curve = book[f"{side}_cumulative"]
            shown = curve > 0
            sums.plot(curve[shown], middle[shown], color=colour, linewidth=1.4, zorder=3)
            sums.fill_betweenx(middle[shown], 0, curve[shown], color=colour, alpha=0.10, linewidth=0, zorder=1)
        for axes, names in ((self.side, ("long", "short")), (sums, ("long_cumulative", "short_cumulative"))):
            peak = max(float(book[list(names)].to_numpy().max()), 1.0)
            axes.set_xlim(0, peak * 1.06)
            half = _round_down(peak / 2)
            axes.set_xticks([0, half] + ([2 * half] if 2 * half <= peak else []))
            axes.xaxis.set_major_formatter(lambda value, _: format_usdt(value) if value else "0")
            self._style(axes)
        self.side.set_yticks([])
        self._text(1330, 36, "Newest book", fontsize=11)
        self._text(1330, 56, "line: sum from price outward", **_NOTE)
        self._text(1330, 884, "bars: volume per bucket", **_NOTE)
        # Just beside the price the book is thin, so there is room for words.
        for offset, align, words, colour in (
            (5, "bottom", "shorts, if price rises", SHORT),
            (-6, "top", "longs, if price falls", LONG),
        ):
            sums.annotate(
                words,
                (0.97, self.data.price),
                xycoords=("axes fraction", "data"),
                xytext=(0, offset),
                textcoords="offset points",
                color=colour,
                fontsize=9,
                ha="right",
                va=align,
                bbox=_PLATE,
                zorder=6,
            )

    def _price(self) -> None:
        price = self.data.price
        for axes in (self.chart, self.side):
            axes.axhline(price, color=PRICE, linewidth=0.9, linestyle=(0, (5, 4)), alpha=0.9, zorder=5)
        self.chart.annotate(
            format_price(price),
            (1, price),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            color=BACKGROUND,
            fontsize=10.5,
            fontweight="bold",
            va="center",
            bbox={"boxstyle": "round,pad=0.25", "facecolor": PRICE, "edgecolor": "none"},
            annotation_clip=False,
            zorder=6,
        )

    def _header(self) -> None:
        data = self.data
        last = self._text(28, 34, data.symbol, fontsize=19, fontweight="bold", color="white")
        badges = [("SIMULATED DATA", "#ffd166")] * data.simulated + [("provisional", "#b7c0d1")] * data.provisional
        for words, colour in badges:
            last = self._badge(last, words, colour)
        as_of = str(data.as_of.astype("datetime64[m]")).replace("T", " ")
        facts = f"{data.model} model", f"as of {as_of} UTC", f"coverage {data.coverage:.1%} of open interest"
        self._text(28, 66, "   ·   ".join(("Liquidation heatmap", *facts)), color=MUTED)

    def _badge(self, after: Any, words: str, colour: str) -> Any:
        end = after.get_window_extent().x1 / self.size[0] * 1600
        plate = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "none"}
        return self._text(end + 26, 35, words, color=BACKGROUND, fontsize=10, fontweight="bold", bbox=plate)

    def _footer(self) -> None:
        for x, colour, words in ((28, LONG, "longs liquidated"), (158, SHORT, "shorts liquidated")):
            self._text(x, 884, "●", color=colour, fontsize=10)
            self._text(x + 15, 884, words, **_NOTE)
        self._text(300, 884, "larger = more volume", **_NOTE)
        self._text(1246, 884, "time in UTC", ha="right", **_NOTE)


def _spread_values(top: float, norm: Normalize) -> list[float]:
    """Return 0, round volumes (1, 2, 5 x 10^k) whose labels do not touch on a colour bar, and `top`."""
    power = math.floor(math.log10(top))
    chosen = [0.0]
    for value in (digit * 10.0**exponent for exponent in range(power - 3, power + 1) for digit in (1, 2, 5)):
        position = float(norm(value))
        if position - float(norm(chosen[-1])) >= 0.15 and position <= 0.80:
            chosen.append(value)
    return [*chosen, top]


def _round_down(value: float) -> float:
    """Return the largest 1, 2, 2.5 or 5 x 10^k that is not above `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(digit * power for digit in (5, 2.5, 2, 1) if digit * power <= value * (1 + 1e-12))
