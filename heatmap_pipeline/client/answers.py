"""What the client hands out: answers as arrays, as frames of pandas or xarray, each saying where it comes from.

Instants of dataclasses are aware datetimes in UTC; those of arrays and frames are UTC without zone, as in the tables of
`heatmap.duckdb`, so that both join. Prices and volumes are in the quote asset that `Provenance.units` names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from heatmap_pipeline.client.errors import ClientError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    import xarray as xr

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Times: TypeAlias = npt.NDArray[np.datetime64]

VOLUMES = ("long", "short", "consumed_long", "consumed_short")
"""The four volumes of a cell: open at the end of the interval, and liquidated within it."""

_OF_A_ZONE = ["side", "price", "volume", "distance_percent", "low", "high", "peak", "share", "since"]
"""Columns of a frame of zones, also of one without any."""


@dataclass(frozen=True)
class Part:
    """A market of a base, and what it has of an answer that is the sum of several.

    Attributes:
        symbol: id of the market.
        market: how it is typed: the bare name on Binance, else exchange:SYMBOL.
        exchange: whose contract it is by its id, also where the market is made up.
        quote: its own quote asset; volumes of the part are in it.
        as_of: end of its newest candle in the answer, UTC; None without any.
        late: whether that is later than it should be; a market that ended is not late.
        missing: whether nothing of it stands at the end of the answer: missing, not 0.
        share: of the open volume at the end, what is its own, 0 to 1; None where it is missing.
    """

    symbol: str
    market: str
    exchange: str
    quote: str
    as_of: datetime | None
    late: bool
    missing: bool
    share: float | None

    def record(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        return {**asdict(self), "as_of": None if self.as_of is None else text_of(self.as_of)}


@dataclass(frozen=True)
class Provenance:
    """Where the numbers of an answer come from.

    Attributes:
        symbol: the market, as the exchange writes it, or the base whose markets are added up.
        model: name of the model.
        kind: `modelled`: estimated by a model from real candles and open interest; `simulated`: these are made up too.
        exchange: whose contract the symbol is; None of a market that is made up.
        title: what the symbol is: exchange and kind of contract.
        source: where candles and open interest come from, as `HEATMAP_SOURCE` says it; `exchange` is the market's own.
        as_of: end of the newest candle in the answer, UTC.
        parameters: what the newest day of symbol and model was computed with, as recorded (docs/model.md); bucket and
            leverage bracket may have been others on earlier days.
        leverage_weights: other (leverage, weight) rows than the model's, where they were asked for.
        leverage_tiers: leverages whose lots alone are in the numbers, rising; None means all.
        units: unit by quantity: time, price, volume.
        schema_version: of the tables of the database.
        publication: changes with every publication that changes anything.
        where: the file or the address that answered.
        parts: of a base, the markets that are added up; none of one market.
        candles_of: of a base, the market whose candles and price these are.
        not_shown: of a base, why other markets of it are not in the sum, by id.
    """

    symbol: str
    model: str
    kind: Literal["modelled", "simulated"]
    exchange: str | None
    title: str
    source: str
    as_of: datetime
    parameters: Mapping[str, Any]
    leverage_weights: tuple[tuple[float, float], ...] | None
    leverage_tiers: tuple[float, ...] | None
    units: Mapping[str, str]
    schema_version: int
    publication: str
    where: str
    parts: tuple[Part, ...] = ()
    candles_of: str | None = None
    not_shown: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """All of it that fits into a sentence."""
        made_up = "on simulated data" if self.kind == "simulated" else f"on data of {self.source}"
        tiers = self.leverage_tiers
        shown = "" if tiers is None else f" (leverage tiers {', '.join(f'{tier:g}' for tier in tiers)} only)"
        return (
            f"modelled liquidations of {self.symbol} ({self.title}) by {self.model}{shown}, {made_up}, as of "
            f"{self.as_of:%Y-%m-%d %H:%M} UTC, in {self.units['volume']}{self._parts_in_words()}; estimates, nobody's "
            "orders"
        )

    def _parts_in_words(self) -> str:
        """Return which markets are added up, and which of them are missing; empty of one market."""
        if not self.parts:
            return ""
        there = [part.market for part in self.parts if not part.missing]
        gone = [f"{part.market} is missing" for part in self.parts if part.missing] + list(self.not_shown.values())
        every = len(self.parts) + len(self.not_shown)
        return f", the sum of {len(there)} of {every} markets ({'; '.join([', '.join(there), *gone])})"

    def record(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        every = {**asdict(self), "as_of": text_of(self.as_of), "parts": [part.record() for part in self.parts]}
        of_a_base = ("parts", "candles_of", "not_shown")
        return every if self.parts else {name: value for name, value in every.items() if name not in of_a_base}


@dataclass(frozen=True)
class Market:
    """A symbol that is published.

    Attributes:
        symbol: as the exchange writes it.
        models: names; the first is the default.
        quote: asset that prices and volumes are in.
        bucket: height of a price bucket on the newest day, quote asset.
        first_day: first computed day, UTC.
        last_day: newest computed day.
        ended: last day of a symbol that is not traded any more, else None.
        as_of: end of the newest candle, UTC.
        price: its close, quote asset.
        simulated: whether the market is made up.
        exchange: whose contract it is; None of a market that is made up.
        title: what it is: exchange and kind of contract.
        source: where candles and open interest come from.
        provisional: whether the newest day was not over when it was computed.
        located_share: by model, share of the open interest that the newest map puts at a liquidation price, 0 to 1.
        candle_seconds: width of the stored candles.
        parameters: by model, what the newest day was computed with.
    """

    symbol: str
    models: tuple[str, ...]
    quote: str
    bucket: float
    first_day: date
    last_day: date
    ended: date | None
    as_of: datetime
    price: float
    simulated: bool
    exchange: str | None
    title: str
    source: str
    provisional: bool
    located_share: Mapping[str, float]
    candle_seconds: int
    parameters: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class BookMap:
    """The map at one moment: modelled volume that would be liquidated, by price.

    Bins without anything are left out. Arrays have shape (n,), rising by price.

    Attributes:
        provenance: where it comes from.
        time: end of the candle whose state this is, UTC.
        price: close of that candle, quote asset.
        price_bin_size: height of a bin, quote asset.
        prices: lower edge of each bin, quote asset.
        long: longs in the bin, quote asset.
        short: shorts in the bin, quote asset.
        cumulative_long: what a fall to the bin's lower edge would hit, quote asset: longs in it and above it.
        cumulative_short: what a rise to its upper edge would hit, quote asset: shorts in it and below it.
        distance_percent: of the lower edge from the price.
        total_long: of all bins, quote asset.
        total_short: the same of shorts.
        located_share: share of the open interest that the map puts at a liquidation price, 0 to 1.
        provisional: whether the day was not over when it was computed.
    """

    provenance: Provenance
    time: datetime
    price: float
    price_bin_size: float
    prices: Floats
    long: Floats
    short: Floats
    cumulative_long: Floats
    cumulative_short: Floats
    distance_percent: Floats
    total_long: float
    total_short: float
    located_share: float
    provisional: bool

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per bin, by `price` (lower edge); `attrs` say where it comes from and of which moment it is."""
        import pandas as pd  # noqa: PLC0415

        names = ("long", "short", "cumulative_long", "cumulative_short", "distance_percent")
        frame = pd.DataFrame({name: getattr(self, name) for name in names}, index=pd.Index(self.prices, name="price"))
        head = {"state_at": text_of(self.time), "price": self.price, "price_bin_size": self.price_bin_size}
        frame.attrs.update(head | self.provenance.record())
        return frame


@dataclass(frozen=True)
class Zone:
    """A stretch of price where the book of one side is thick (docs/api.md, "Zones").

    Attributes:
        side: of the positions that would be liquidated.
        price: mean of its buckets, weighted by volume, quote asset.
        volume: modelled, quote asset.
        distance_percent: from the price of that moment; below 0 under it.
        more: whatever else the definition says of it, by its names there: low, high, peak, share, since.
    """

    side: Literal["long", "short"]
    price: float
    volume: float
    distance_percent: float
    more: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        known = {name: getattr(self, name) for name in ("side", "price", "volume", "distance_percent")}
        return {**known, **self.more}


@dataclass(frozen=True, eq=False)
class Zones:
    """What stands out of a map: zones of shorts above the price, of longs below it (docs/api.md, "Zones").

    Attributes:
        provenance: where they come from.
        time: end of the candle whose state this is, UTC.
        price: close of that candle, quote asset.
        within_percent: how far from the price zones were looked for.
        above: the largest ones, largest first.
        below: the same.
        nearest_above: the nearest that is large enough; None without any.
        nearest_below: the same.
    """

    provenance: Provenance
    time: datetime
    price: float
    within_percent: float
    above: tuple[Zone, ...]
    below: tuple[Zone, ...]
    nearest_above: Zone | None
    nearest_below: Zone | None

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per zone, those above the price first, largest first; `attrs` say where they come from."""
        import pandas as pd  # noqa: PLC0415

        rows = [zone.record() for zone in (*self.above, *self.below)]
        frame = pd.DataFrame(rows, columns=None if rows else _OF_A_ZONE)
        frame.attrs.update({"state_at": text_of(self.time), "price": self.price} | self.provenance.record())
        return frame


@dataclass(frozen=True, eq=False)
class Series:
    """A heatmap: maps of a range of moments, and what was liquidated between them. All of it is modelled.

    T intervals and P price bins, evenly spaced, none left out; cells are sparse, in the order of time, then price.

    Attributes:
        provenance: where it comes from.
        times: start of each interval, UTC, shape (T,).
        state_at: the moment whose state an interval shows: its end, or the end of the newest candle within the last
            one, UTC, shape (T,). Join candles and other data by this, not by `times`.
        prices: lower edge of each bin, quote asset, shape (P,).
        interval_seconds: width of an interval.
        price_bin_size: height of a bin, quote asset.
        missing: intervals without a candle, whose state is not known, shape (T,).
        cells: of each of `VOLUMES`: index of the interval, index of the bin, volume (quote asset), shape (n,) each.
        candles: `open_time` (UTC), `open`, `high`, `low`, `close` (quote asset), `volume` (contracts), shape (c,) each;
            as wide as the intervals or narrower.
        reported: real liquidations of the range as one source reports them (docs/api.md, "Real liquidations"); None
            where none of it was recorded, which is missing, not 0.
        located_share: share of the open interest located at the end, 0 to 1.
        clipped: which of `start_time` and `end_time` reaches beyond the data.
        meta: all that the answer says of itself.
        by_market: of a base, by market and `VOLUMES`, what it has of each of `cells`, its own quote asset, in their
            order; NaN where the market is missing. Nothing of one market.
    """

    provenance: Provenance
    times: Times
    state_at: Times
    prices: Floats
    interval_seconds: int
    price_bin_size: float
    missing: npt.NDArray[np.bool_]
    cells: Mapping[str, tuple[Ints, Ints, Floats]]
    candles: Mapping[str, npt.NDArray[Any]]
    reported: Mapping[str, Any] | None
    located_share: float
    clipped: tuple[str, ...]
    meta: Mapping[str, Any]
    by_market: Mapping[str, Mapping[str, Floats]] = field(default_factory=dict)

    def dense(self, name: str) -> Floats:
        """Return one of `VOLUMES` of every cell, quote asset, shape (T, P); NaN where nothing is known.

        Raises:
            KeyError: for another name.
        """
        time, price, volume = self.cells[name]
        dense = np.zeros((len(self.times), len(self.prices)))
        dense[time, price] = volume
        dense[self.missing] = np.nan
        return dense

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per cell that holds anything: `time`, `state_at`, `price` and `VOLUMES`, by time, then price.

        An interval without rows may be missing: see `missing`.
        """
        import pandas as pd  # noqa: PLC0415

        width = len(self.prices)
        places = {name: time * width + price for name, (time, price, _) in self.cells.items()}
        every = np.unique(np.concatenate(list(places.values())))
        columns: dict[str, Any] = {
            "time": self.times[every // width],
            "state_at": self.state_at[every // width],
            "price": self.prices[every % width],
        }
        for name, (_, _, volume) in self.cells.items():
            columns[name] = np.zeros(len(every))
            columns[name][np.searchsorted(every, places[name])] = volume
        frame = pd.DataFrame(columns)
        frame.attrs.update(self._attrs())
        return frame

    def candles_to_pandas(self) -> pd.DataFrame:
        """Return the candles by `open_time`, UTC; prices in the quote asset, `volume` in contracts."""
        import pandas as pd  # noqa: PLC0415

        columns = {name: values for name, values in self.candles.items() if name != "open_time"}
        return pd.DataFrame(columns, index=pd.Index(self.candles["open_time"], name="open_time"))

    def to_xarray(self) -> xr.Dataset:
        """Return `VOLUMES` over `time` and `price`, with `state_at` beside `time`; NaN where nothing is known.

        Raises:
            ClientError: if xarray is not installed.
        """
        try:
            import xarray as xr  # noqa: PLC0415
        except ModuleNotFoundError:
            raise ClientError(
                "xarray is not installed; `pip install xarray` installs it, and to_pandas() does without"
            ) from None
        unit = self.provenance.units["volume"]
        about = {
            "long": "modelled longs open at state_at that would be liquidated in the bin",
            "short": "modelled shorts open at state_at that would be liquidated in the bin",
            "consumed_long": "modelled longs liquidated within the interval",
            "consumed_short": "modelled shorts liquidated within the interval",
        }
        price = {"units": self.provenance.units["price"], "long_name": "lower edge of a price bin"}
        return xr.Dataset(
            {
                name: (("time", "price"), self.dense(name), {"units": unit, "long_name": about[name]})
                for name in self.cells
            },
            coords={
                "time": ("time", self.times, {"long_name": "start of the interval, UTC"}),
                "state_at": ("time", self.state_at, {"long_name": "moment of the state, UTC"}),
                "price": ("price", self.prices, price),
            },
            attrs=flat(self._attrs()),
        )

    def to_plotly(self) -> go.Figure:
        """Return an interactive figure of the map and its candles; `write_html("map.html")` makes one file of it."""
        from heatmap_pipeline.client.figure import figure_of  # noqa: PLC0415

        return figure_of(self)

    def _attrs(self) -> dict[str, Any]:
        head = {"price_bin_size": self.price_bin_size, "interval_seconds": self.interval_seconds}
        return {**head, "located_share": self.located_share, **self.provenance.record()}


@dataclass(frozen=True, eq=False)
class Score:
    """How well the map agrees with liquidations that really happened (docs/score.md).

    Attributes:
        provenance: of the map that was scored.
        scored: whether anything could be scored.
        words: whose record it was held against, or why there is no score.
        source: the record: name, exchange, own_exchange, complete; None without one.
        windows: rows by window (`28d`, `all`), as in the table `map_scores`.
        days: first and last scored day of each window.
        hours: `hour` (UTC), `side`, `predicted`, `reported` (contracts) of the trailing window, as columns.
        reference: the published score of two markets, of the same shape.
    """

    provenance: Provenance
    scored: bool
    words: str
    source: Mapping[str, Any] | None
    windows: Mapping[str, Sequence[Mapping[str, Any]]]
    days: Mapping[str, Sequence[str]]
    hours: Mapping[str, Sequence[Any]]
    reference: Mapping[str, Any]

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per window, side, horizon, measure and baseline; no row without a score."""
        import pandas as pd  # noqa: PLC0415

        rows = [{"window": window, **row} for window, rows in self.windows.items() for row in rows]
        frame = pd.DataFrame(rows)
        frame.attrs.update({"scored": self.scored, "words": self.words} | self.provenance.record())
        return frame


def flat(record: Mapping[str, Any]) -> dict[str, str | float]:
    """Return values as files of arrays can keep them: numbers and texts, others as JSON; None is left out.

    Example:
        >>> flat({"units": {"time": "UTC"}, "schema_version": 3, "leverage_weights": None})
        {'units': '{"time": "UTC"}', 'schema_version': 3}
    """
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(value)
        for name, value in record.items()
        if value is not None
    }


def instant_of(text: str) -> datetime:
    """Return an instant of an answer.

    Example:
        >>> instant_of("2024-07-01T00:00:00Z")
        datetime.datetime(2024, 7, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    return datetime.fromisoformat(text).astimezone(UTC)


def text_of(instant: datetime) -> str:
    """Return an instant as answers write it.

    Example:
        >>> text_of(datetime(2024, 7, 1, tzinfo=UTC))
        '2024-07-01T00:00:00Z'
    """
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
