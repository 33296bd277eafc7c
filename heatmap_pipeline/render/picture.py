"""The density map as a PNG, drawn with matplotlib's objects and without its global state."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.bins import Candles, Floats, Ints, resample
from heatmap_pipeline.files import replace_file
from heatmap_pipeline.instants import MICROSECONDS, day_start
from heatmap_pipeline.symbols import EXCHANGES, is_dollar, safe_name, typed_name
from heatmap_pipeline.views.columns import Columns, Dense
from heatmap_pipeline.views.reported import Reported

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
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
WARN = "#ffd166"
MARKETS = ("#2dd4bf", "#b79cff", "#c5e063", "#ff86a8", "#c9d1e0", "#c9965f")
"""Colours of the markets of a base, those of the page (`bases.js`)."""

SMALL_LIMIT = 100_000
"""Bytes that a picture in the metadata of a run must stay below."""

RUN_IN = 0.14
"""Share of the colours between the background and the first of viridis."""

_DPI = 100
_PACKED = 4
"""How hard a PNG is packed, 0 to 9: in half the time of 6, which is usual, it is a twentieth larger."""
_CANDLES_SHOWN = 400
_BUBBLES_SHOWN = 160
_CELLS_LOOKED_AT = 200_000
_NOTE: dict[str, Any] = {"color": MUTED, "fontsize": 9.5}
_CANDLE_SECONDS = (300, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800)


def write_png(data: Columns, path: Path, *, size: tuple[int, int] = (1600, 900)) -> None:
    """Write the picture of `data` to `path`, replacing what is there in one step.

    Args:
        data: what to draw.
        path: the PNG; its folder must exist.
        size: width and height in pixels; labels are laid out for about 1600 x 900.
    """
    replace_file(path, _png(_Canvas(data, size).draw()))


def small_png(path: Path) -> bytes:
    """Return a small copy, below 100 kB, of a picture that `write_png` wrote, for the metadata of a run.

    Args:
        path: the PNG.
    """
    from PIL import Image  # noqa: PLC0415 - comes with matplotlib, slow to import

    width, height = 800, 450
    picture = Image.open(path).convert("RGB")
    while True:
        out = io.BytesIO()
        reduced = picture.resize((width, height), Image.Resampling.LANCZOS)
        few = reduced.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        few.save(out, "PNG", optimize=True)
        if out.tell() < SMALL_LIMIT:
            return out.getvalue()
        width, height = width * 4 // 5, height * 4 // 5


def format_volume(value: float, quote: str = "USDT") -> str:
    """Return a volume in a quote asset as people write it: 12300000 -> '$12.3M', without the sign if no dollars."""
    sign = "$" if is_dollar(quote) else ""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{sign}{_three_digits(value / limit)}{unit}"
    return f"{sign}{_three_digits(value)}"


def format_price(price: float) -> str:
    """Return a price with as many decimals as its size asks for: 64230 -> '64,230', 0.1034 -> '0.10340'."""
    if price <= 0:
        return "0"
    decimals = max(0, 4 - math.floor(math.log10(price)))
    return f"{price:,.{decimals}f}"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def drawable(symbol: str) -> tuple[str, list[str]]:
    """Return a symbol with the fonts to write it in; what stands for it (`safe_name`) where none here has its letters.

    Pictures are drawn with the fonts of this machine; no package of one brings every alphabet.
    """
    usual = ["DejaVu Sans"]
    if symbol.isascii():
        return symbol, usual
    family = _family_with(symbol)
    return (symbol, [*usual, family]) if family else (safe_name(symbol), usual)


@cache
def _family_with(text: str) -> str:
    """Return the family of the first font of this machine that has all letters of a text; '' where there is none."""
    from matplotlib.font_manager import fontManager, get_font  # noqa: PLC0415

    letters = {ord(letter) for letter in text}
    # The font of last resort, which matplotlib brings, has every letter, and draws each as a box.
    real = [font for font in fontManager.ttflist if not font.name.startswith("Last Resort")]
    fonts = sorted(real, key=lambda font: (font.name != "DejaVu Sans", font.name, font.fname))
    for font in fonts:
        try:
            if letters <= get_font(font.fname).get_charmap().keys():
                return font.name
        except (OSError, RuntimeError, TypeError):  # removed since, or none that can be read
            continue
    return ""


def _png(figure: Figure) -> bytes:
    """Draw it and return the bytes of the file: without opacity, as nothing shines through, and packed quickly."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    canvas: Any = FigureCanvasAgg(figure)  # whose buffer has no type
    canvas.draw()
    out = io.BytesIO()
    pixels = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    Image.fromarray(pixels).save(out, "PNG", compress_level=_PACKED)
    return out.getvalue()


def colour_map() -> LinearSegmentedColormap:
    """The page's colours: viridis after a short run-in from the background, so empty is dark and little nearly so."""
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.colors import LinearSegmentedColormap, to_rgba  # noqa: PLC0415

    stops = [(0.0, to_rgba(BACKGROUND))]
    stops += [(RUN_IN + (1 - RUN_IN) * share, colormaps["viridis"](share)) for share in np.linspace(0, 1, 16)]
    return LinearSegmentedColormap.from_list("viridis_from_dark", stops)


@dataclass(frozen=True, eq=False)
class Shown:
    """The rows of a heatmap that a picture shows, those around its candles, by the rule of the page (`viewOf`).

    Attributes:
        low: lower end of the picture, quote asset.
        high: upper end.
        edges: prices between the rows, shape (P + 1,).
        long: open long volume of every cell, quote asset, shape (P, T).
        short: the same for shorts.
    """

    low: float
    high: float
    edges: Floats
    long: Dense
    short: Dense


def shown(data: Columns) -> Shown:
    """Return what a picture shows: its candles and, where levels are, 80 % of their range or 4 % of the price more."""
    lowest, highest = float(data.candles.low.min()), float(data.candles.high.max())
    margin = max(0.8 * (highest - lowest), 0.04 * data.meta["price"])
    low = min(lowest, max(float(data.edges[0]), lowest - margin))
    high = max(highest, min(float(data.edges[-1]), highest + margin))
    first, size = data.edges[0], data.bin_size
    bottom = min(max(0, math.floor((low - first) / size)), len(data.prices) - 1)
    top = max(bottom + 1, min(len(data.prices), math.ceil((high - first) / size)))
    return Shown(low, high, data.edges[bottom : top + 1], data.long[bottom:top], data.short[bottom:top])


def colour_limit(part: Shown) -> float:
    """Return the volume at which the colours end: 1 cell in 200 of those shown that hold something exceeds it.

    So one cell does not dim the rest. The rule of the page (`colourEnds`): every n-th cell is looked at where there are
    more than 400,000. The colours run evenly from 0 to there; without any volume they end at 1.
    """
    total = (part.long.astype(np.float64) + part.short).T.ravel()
    looked_at = total[:: max(1, total.size // _CELLS_LOOKED_AT)]
    filled = np.sort(looked_at[looked_at > 0])
    if not filled.size:
        return float(total.max(initial=0.0)) or 1.0
    return float(np.float32(filled[min(filled.size - 1, math.floor(0.995 * filled.size))]))


@dataclass(frozen=True, eq=False)
class Profile:
    """The newest book by price: what price would meet on its way, and how much of it in sum (quote asset), shape (P,).

    Attributes:
        long: in each row.
        short: the same.
        long_sum: from the price downwards.
        short_sum: from the price upwards.
    """

    long: Floats
    short: Floats
    long_sum: Floats
    short_sum: Floats


def market_names(parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how the markets of a base are called on page and picture: exchange, and quote asset where it has several.

    Example:
        >>> market_names([{"exchange": "binance", "quote": "USDT"}, {"exchange": "bybit", "quote": "USDT"}])
        ['Binance', 'Bybit']
    """
    names = [EXCHANGES[part["exchange"]] for part in parts]
    return [
        name if names.count(name) == 1 else f"{name} {part['quote']}" for name, part in zip(names, parts, strict=True)
    ]


def stacks(data: Columns, part: Shown) -> dict[str, list[Floats]]:
    """Return what each market of a base has of each row shown of the newest book, by side; one that is missing, 0."""
    rows = len(part.edges) - 1
    bottom = int(np.searchsorted(data.edges, part.edges[0] - data.bin_size / 2))
    held_by: dict[str, list[Floats]] = {}
    for side in ("long", "short"):
        cells = data.cells[side]
        newest = (cells.column == len(data.times) - 1) & (cells.row >= bottom) & (cells.row < bottom + rows)
        row = cells.row[newest] - bottom
        held_by[side] = []
        for market in data.by_market:
            volumes = np.zeros(rows)
            np.add.at(volumes, row, np.nan_to_num(market.volumes[side][newest]))
            held_by[side].append(volumes)
    return held_by


def profile(part: Shown) -> Profile:
    """Return the newest book of what is shown."""
    long, short = (side[:, -1].astype(np.float64) for side in (part.long, part.short))
    return Profile(long, short, np.cumsum(long[::-1])[::-1], np.cumsum(short))


@dataclass(frozen=True, eq=False)
class Bubbles:
    """What was liquidated in one column and side: its column, price and volume, shape (n,)."""

    column: npt.NDArray[np.int64]
    price: Floats
    volume: Floats
    is_long: npt.NDArray[np.bool_]


def bubbles(data: Columns, most: int = _BUBBLES_SHOWN) -> Bubbles:
    """Return the largest modelled liquidations by column and side, the largest first."""
    sides = [(name == "long", sums.column, sums.price, sums.volume) for name, sums in data.modelled.items()]
    return _largest(sides, most)


def rings(data: Columns, most: int = _BUBBLES_SHOWN) -> Bubbles:
    """Return the largest real liquidations by column and side, the largest first; none where nothing is recorded."""
    known = {} if data.reported is None else data.reported.sums
    return _largest([(name == "long", sums.column, sums.place, sums.volume) for name, sums in known.items()], most)


def _largest(sides: Sequence[tuple[bool, Ints, Floats, Floats]], most: int) -> Bubbles:
    """Return the largest of what is given by side: whether it is long, columns, prices and volumes."""
    are_long = np.repeat([is_long for is_long, *_ in sides], [len(columns) for _, columns, *_ in sides]).astype(
        np.bool_
    )
    columns, prices, volumes = (
        np.concatenate([part[number] for part in sides]) if sides else np.zeros(0) for number in (1, 2, 3)
    )
    largest = np.argsort(-volumes, kind="stable")[:most]
    return Bubbles(columns[largest].astype(np.int64), prices[largest], volumes[largest], are_long[largest])


@dataclass
class _Canvas:
    """One figure in the making; positions are pixels from the upper left corner of a 1600 x 900 sheet."""

    data: Columns
    size: tuple[int, int]

    def draw(self) -> Figure:
        from matplotlib.figure import Figure  # noqa: PLC0415

        self.figure: Figure = Figure(figsize=(self.size[0] / _DPI, self.size[1] / _DPI), dpi=_DPI, facecolor=BACKGROUND)
        self.shown = shown(self.data)
        times = self._days(self.data.times)
        self.left, self.right = float(times[0]), float(times[-1]) + self.data.seconds / 86400
        self.chart = self._axes(28, 92, 1218, 756)
        self.side = self._axes(1330, 92, 242, 756)
        for axes in (self.chart, self.side):
            axes.set_ylim(self.shown.low, self.shown.high)
        self._map()
        self._candles()
        self._bubbles()
        self._not_whole()
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

    @property
    def _quote(self) -> str:
        return str(self.data.meta["units"]["volume"])

    def _volume(self, value: float) -> str:
        return format_volume(value, self._quote)

    @staticmethod
    def _days(instants: Any) -> Any:
        """Matplotlib's dates, days since 1970 as floats, of microseconds."""
        return np.asarray(instants) / 86_400e6

    @staticmethod
    def _date(days: float) -> str:
        instant = np.datetime64(round(days * 1440), "m").astype(object)
        return f"{instant:%H:%M}" if instant.hour or instant.minute else f"{instant.day} {instant:%b}"

    def _map(self) -> None:
        from matplotlib.colors import Normalize  # noqa: PLC0415
        from matplotlib.dates import AutoDateLocator  # noqa: PLC0415

        part = self.shown
        top = colour_limit(part)
        self.chart.imshow(
            part.long + part.short,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(self.left, self.right, part.edges[0], part.edges[-1]),
            cmap=colour_map(),
            norm=Normalize(0, top),
            zorder=0,
        )
        self.chart.set_xlim(self.left, self.right)
        self.chart.xaxis_date(tz="UTC")
        locator = AutoDateLocator(tz="UTC", minticks=6, maxticks=12, interval_multiples=False)  # type: ignore[no-untyped-call]
        self.chart.xaxis.set_major_locator(locator)
        self.chart.xaxis.set_major_formatter(lambda days, _: self._date(days))
        self.chart.yaxis.tick_right()
        decimals = max(0, math.ceil(-math.log10(self.data.bin_size)))
        self.chart.yaxis.set_major_formatter(lambda price, _: f"{price:,.{decimals}f}")
        self._colour_bar(top)

    def _colour_bar(self, top: float) -> None:
        axes = self._axes(930, 52, 316, 10)
        ramp = np.linspace(0, 1, 256)[None, :]
        axes.imshow(ramp, aspect="auto", cmap=colour_map(), extent=(0, 1, 0, 1), interpolation="bilinear")
        values = _spread_values(top)
        axes.set_yticks([])
        axes.set_xticks([value / top for value in values])
        axes.set_xticklabels([self._volume(value) for value in values[:-1]] + [f"≥ {self._volume(top)}"])
        axes.tick_params(labelsize=9, pad=3)
        axes.get_xticklabels()[-1].set_horizontalalignment("right")
        height, unit = f"{self.data.bin_size:.10f}".rstrip("0").rstrip("."), self._quote
        self._text(930, 36, f"Modelled {unit} per {height} {unit} of price", **_NOTE)

    def _candles(self) -> None:
        from matplotlib.collections import LineCollection  # noqa: PLC0415

        bars = self._shown_candles()
        seconds = bars.seconds
        centre = self._days(bars.open_time) + seconds / 2 / 86400
        opens, highs, lows, closes = bars.open, bars.high, bars.low, bars.close
        colours = np.where(closes >= opens, CANDLE_UP, CANDLE_DOWN)
        pixel = 1218 * self.size[0] / 1600 / (self.right - self.left)  # per day
        body = max(0.62 * seconds / 86400 * pixel, 1.0) * 72 / _DPI
        smallest = (self.shown.high - self.shown.low) / 756  # a doji is one pixel high
        bottom, top = np.minimum(opens, closes), np.maximum(opens, closes)
        top = np.maximum(top, bottom + smallest)
        dark = np.full(len(centre), BACKGROUND)  # a halo, so that candles stay readable where the map is bright
        for low, high, width, colour in (
            (lows, highs, 2.4, dark),
            (bottom, top, body + 1.4, dark),
            (lows, highs, 0.8, colours),
            (bottom, top, body, colours),
        ):
            lines = np.stack([np.column_stack([centre, low]), np.column_stack([centre, high])], axis=1)
            strokes = LineCollection(list(lines), colors=list(colour), linewidths=width, capstyle="butt", zorder=3)
            self.chart.add_collection(strokes, autolim=False)

    def _shown_candles(self) -> Candles:
        span = (self.right - self.left) * 86400
        bars = self.data.candles
        for seconds in _CANDLE_SECONDS:
            if seconds % bars.seconds == 0 and span / seconds <= _CANDLES_SHOWN:
                end = int(self.data.times[-1]) + self.data.seconds * MICROSECONDS
                return resample(bars, int(self.data.times[0]), end, seconds)
        return bars

    def _bubbles(self) -> None:
        """Modelled liquidations as filled circles, reported ones as hollow ones of the same scale."""
        filled, hollow = bubbles(self.data), rings(self.data)
        most = max(filled.volume.max(initial=0.0), hollow.volume.max(initial=0.0))
        self._circles(filled, self.data.seconds, most, alpha=0.45, edgecolors="white", linewidths=0.7)
        reported = self.data.reported
        if reported is None:
            return
        self._circles(hollow, max(self.data.seconds, reported.resolution_seconds), most, hollow=True, linewidths=1.5)
        begins, ends = self._days(reported.recorded).T
        bottom = self.chart.get_xaxis_transform()
        self.chart.hlines([0.003] * len(begins), begins, ends, colors=TEXT, linewidth=2.5, transform=bottom, zorder=5)

    def _not_whole(self) -> None:
        """Draw a line along the time axis below the days that are held, cut or unchecked."""
        days = [day_start(date.fromisoformat(day)) for day in self.data.meta["not_whole"]]
        begins, ends = (np.clip(self._days(days) + later, self.left, self.right) for later in (0, 1))
        bottom = self.chart.get_xaxis_transform()
        self.chart.hlines([0.009] * len(days), begins, ends, colors=WARN, linewidth=2.5, transform=bottom, zorder=5)
        for part in self.data.meta.get("parts", ()):
            gone = np.array(part["without_candles"], dtype=float).reshape(-1, 2)
            begins, ends = (self.left + gone * self.data.seconds / 86400).T
            self.chart.hlines([0.009] * len(gone), begins, ends, colors=WARN, linewidth=2.5, transform=bottom, zorder=5)

    def _circles(self, which: Bubbles, seconds: int, most: float, *, hollow: bool = False, **style: Any) -> None:
        """Draw circles in the middle of the `seconds` that each is of; `most` is the volume of the largest."""
        if not which.volume.size:
            return
        colours = np.where(which.is_long, LONG, SHORT)
        style |= {"facecolors": "none", "edgecolors": colours} if hollow else {"c": colours}
        times = self._days(self.data.times[which.column]) + seconds / 2 / 86400
        self.chart.scatter(times, which.price, s=which.volume / most * 420, zorder=4, **style)

    def _profile(self) -> None:
        part = self.shown
        book = profile(part)
        middle = (part.edges[:-1] + part.edges[1:]) / 2
        sums = self.side.twiny()
        sums.set_zorder(1)
        bar: dict[str, Any] = {"orientation": "horizontal", "fill": True, "alpha": 0.85, "linewidth": 0}
        for volumes in stacks(self.data, part).values() if self.data.by_market else ():
            ends = np.cumsum(volumes, axis=0)
            for number, end in enumerate(ends):
                begin = ends[number - 1] if number else np.zeros_like(end)
                colour = MARKETS[number % len(MARKETS)]
                self.side.stairs(end, part.edges, baseline=begin, color=colour, **bar)
        for bars, curve, colour in ((book.long, book.long_sum, LONG), (book.short, book.short_sum, SHORT)):
            if not self.data.by_market:
                self.side.stairs(bars, part.edges, color=colour, **bar)
            some = curve > 0
            sums.plot(curve[some], middle[some], color=colour, linewidth=1.4, zorder=3)
            sums.fill_betweenx(middle[some], 0, curve[some], color=colour, alpha=0.10, linewidth=0, zorder=1)
        for axes, long, short in ((self.side, book.long, book.short), (sums, book.long_sum, book.short_sum)):
            peak = max(float(long.max()), float(short.max()), 1.0)
            axes.set_xlim(0, peak * 1.06)
            half = _round_down(peak / 2)
            axes.set_xticks([0, half] + ([2 * half] if 2 * half <= peak else []))
            axes.xaxis.set_major_formatter(lambda value, _: self._volume(value) if value else "0")
            self._style(axes)
        self.side.set_yticks([])
        self._text(1330, 36, "Newest book", fontsize=11)
        self._text(1330, 56, "line: sum from price outward", **_NOTE)
        self._text(1330, 884, "bars: per bucket", **_NOTE)
        self._text(1572, 36, "shorts, if price rises", ha="right", **{**_NOTE, "color": SHORT})
        self._text(1572, 884, "longs, if price falls", ha="right", **{**_NOTE, "color": LONG})

    def _price(self) -> None:
        price = self.data.meta["price"]
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
        meta = self.data.meta
        name, fonts = drawable(typed_name(meta["symbol"]))
        last = self._text(28, 34, name, fontsize=19, fontweight="bold", color="white", fontfamily=fonts)
        last = self._text(self._after(last) + 14, 36, "Liquidation heatmap", color=MUTED)
        for name, words, colour in (
            ("simulated", "SIMULATED DATA", WARN),
            ("provisional", "provisional", "#b7c0d1"),
            ("ended", f"ended on {meta['ended']}", "#b7c0d1"),
            ("bucket_misfit", "bucket does not fit", WARN),
        ):
            if meta[name]:
                last = self._badge(last, words, colour)
        self._markets(last)
        as_of = meta["as_of"][:16].replace("T", " ")
        facts = (
            f"{meta['title']}, {meta['model']}{self._candles_of}",
            f"as of {as_of} UTC",
            f"located share {meta['located_share']:.1%} of open interest",
        )
        line = self._text(28, 66, "   ·   ".join(facts), color=MUTED)
        line.set_fontsize(11 * min(1.0, (915 - 28) / (self._after(line) - 28)))  # before the colours begin

    @property
    def _candles_of(self) -> str:
        """Whose candles are drawn, of a base."""
        parts = self.data.meta.get("parts", ())
        named = zip(market_names(parts), parts, strict=True)
        drawn = [name for name, part in named if part["symbol"] == self.data.meta["candles_of"]]
        return f", candles: {drawn[0]}" if drawn else ""

    def _markets(self, last: Any) -> None:
        """Write what each market of a base has of the newest book, in the colours of the profile."""
        meta = self.data.meta
        if not self.data.by_market:
            return
        if meta["markets_present"] < meta["markets"]:
            last = self._badge(last, f"{meta['markets_present']} of {meta['markets']} markets", WARN)
        for number, (name, part) in enumerate(zip(market_names(meta["parts"]), meta["parts"], strict=True)):
            said = "missing" if part["missing"] else f"{part['share']:.0%}"
            mark = self._text(self._after(last) + 18, 36, "■", color=MARKETS[number % len(MARKETS)], fontsize=11)
            last = self._text(self._after(mark) + 5, 36, f"{name} {said}", color=WARN if part["missing"] else TEXT)

    def _badge(self, after: Any, words: str, colour: str) -> Any:
        plate = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "none"}
        style = {"color": BACKGROUND, "fontsize": 10, "fontweight": "bold", "bbox": plate}
        return self._text(self._after(after) + 26, 35, words, **style)

    def _footer(self) -> None:
        end = self._key(28, "modelled liquidations:", "●")
        if self.data.reported is not None:
            end = self._key(end + 24, "reported:", "○")
            words = f"({reported_words(self.data.reported)}; white line: recorded)"
            end = self._after(self._text(end + 8, 884, words, **_NOTE))
        end = self._after(self._text(end + 24, 884, "larger = more volume", **_NOTE))
        missing = any(part["without_candles"] for part in self.data.meta.get("parts", ()))
        if self.data.meta["not_whole"] or missing:
            words = " or ".join(["day not whole"] * bool(self.data.meta["not_whole"]) + ["a market missing"] * missing)
            self._text(end + 24, 884, f"yellow line: {words}", **{**_NOTE, "color": WARN})
        self._text(1246, 884, "time in UTC", ha="right", **_NOTE)

    def _key(self, x: float, words: str, mark: str) -> float:
        """Write what the circles of a kind are; return where that ends."""
        end = self._after(self._text(x, 884, words, **_NOTE))
        for colour, side in ((LONG, "longs"), (SHORT, "shorts")):
            end = self._after(self._text(end + 8, 884, mark, color=colour, fontsize=10))
            end = self._after(self._text(end + 4, 884, side, **_NOTE))
        return end

    def _after(self, text: Any) -> float:
        return float(text.get_window_extent().x1) / self.size[0] * 1600


def reported_words(reported: Reported) -> str:
    """Return whose record the real liquidations are, how complete, and how much they are of the modelled ones.

    The page says the same (`reportedWords`).
    """
    whole = {True: "complete", False: "incomplete", None: ""}[reported.complete]
    factor = "" if reported.factor is None else f"reported / modelled {reported.factor:.2f}"
    exchange = reported.exchange if reported.own_exchange else f"{reported.exchange}, another exchange"
    return ", ".join(part for part in (exchange, whole, factor) if part)


def _spread_values(top: float) -> list[float]:
    """Return 0, multiples of a round volume whose labels do not touch on a colour bar, and `top`."""
    power = 10.0 ** math.floor(math.log10(0.15 * top))
    step = next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= 0.15 * top)
    return [*np.arange(0, 0.7 * top, step).tolist(), top]


def _round_down(value: float) -> float:
    """Return the largest 1, 2, 2.5 or 5 x 10^k that is not above `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(digit * power for digit in (5, 2.5, 2, 1) if digit * power <= value * (1 + 1e-12))
