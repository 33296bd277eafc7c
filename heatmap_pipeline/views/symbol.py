"""A symbol as it is in memory: what is said of it without its candles, and all that its days are replayed from.

What belongs here: what both hold, and the reading of one symbol. What does not: what is asked of all symbols at once
(`summaries.py`), and of which database (`data.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from heatmap_pipeline.bins import Candles
from heatmap_pipeline.instants import DAY, day_start
from heatmap_pipeline.market.flows import level_changes
from heatmap_pipeline.model.book import DayCandles, Floats, Ints
from heatmap_pipeline.model.parameters import ModelParameters
from heatmap_pipeline.store import columns as serve
from heatmap_pipeline.store.ended import Ended
from heatmap_pipeline.store.origin import stored_command
from heatmap_pipeline.store.sql import Connection
from heatmap_pipeline.store.warehouse import StoreError
from heatmap_pipeline.symbols import own_exchange, title_of


@dataclass(frozen=True, eq=False)
class ModelSummary:
    """What is said of the computed days of a symbol and model without reading them.

    Attributes:
        name: of the model.
        first_day: first computed day.
        last_day: the newest one.
        newest_complete: the newest day that is over; None where none is.
        newest_parameters: what the newest day was computed with.
        provisional: days that were not over when they were computed.
        missing: days between the first and the last that are not computed.
        broken: days whose predecessor is not stored, or is not the one they were computed from.
        begin: start of the first model candle, microseconds.
        end: end of the newest one.
        price: its close, quote asset.
        located_share: share of the open interest that the newest books put at a liquidation price.
        snapshot_seconds: distance of the newest day's stored snapshots; None where it has none.
        cells_from: first day whose cells are stored; None where none are. What is shown of days before it is replayed.
    """

    name: str
    first_day: date
    last_day: date
    newest_complete: date | None
    newest_parameters: ModelParameters
    provisional: frozenset[date]
    missing: tuple[date, ...]
    broken: tuple[date, ...]
    begin: int
    end: int
    price: float
    located_share: float
    snapshot_seconds: int | None
    cells_from: date | None


@dataclass(frozen=True, eq=False)
class ModelData(ModelSummary):
    """The computed days of a symbol and model.

    Attributes:
        days: computed days, rising.
        parameters: what each day was computed with.
        fresh: open interest (contracts) that each history starts from, by its first day.
        times: start of each model candle, rising.
        rows: its number among the symbol's candles.
        open_interest: contracts at the end of each model candle.
        factor: what all that is open is multiplied by before each model candle, 1 but where the level shifts.
        bounds: of each day its first model candle and the one after its last.
    """

    days: tuple[date, ...]
    parameters: Mapping[date, ModelParameters]
    fresh: Mapping[date, float]
    times: Ints
    rows: Ints
    open_interest: Floats
    factor: Floats
    bounds: Mapping[date, tuple[int, int]]

    def bucket(self, first: int, last: int) -> float:
        """Return the largest bucket of the computed days between two instants; the newest if there are none.

        Cells of all these days fit into it, as each bucket is a divisor of every larger one.
        """
        days = [day for day in self.days if day_start(day) < last and day_start(day) + DAY > first]
        return max(self.parameters[day].bucket for day in days or self.days[-1:])


@dataclass(frozen=True, eq=False)
class SymbolSummary:
    """What is said of a symbol without its candles; `fingerprint` is equal as long as none of its rows changed.

    Prices, volumes and buckets are in `quote`, its quote asset; `bucket` is the newest day's, and `base` the asset one
    contract is, '' = nobody says. `not_whole` says in words what is held, cut, unchecked or cannot be true, by day;
    `ended` is set where there will be no more days.
    """

    name: str
    fingerprint: str
    bucket: float
    simulated: bool
    source: str
    candle_seconds: int
    models: Mapping[str, ModelSummary]
    not_whole: Mapping[date, str] = field(default_factory=dict)
    quote: str = "USDT"
    ended: Ended | None = None
    base: str = ""

    @property
    def exchange(self) -> str | None:
        """Name of the exchange whose contract it is; None of a market that is made up."""
        return None if self.simulated else own_exchange(self.name)

    @property
    def title(self) -> str:
        """What it is: exchange and kind of contract."""
        return title_of(self.name, self.quote, simulated=self.simulated)


@dataclass(frozen=True, eq=False)
class SymbolData(SymbolSummary):
    """A symbol with its candles and all that its days are replayed from."""

    models: Mapping[str, ModelData]
    candles: Candles = field(kw_only=True)

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        models = self.models.values()
        arrays = [each for each in vars(self.candles).values() if isinstance(each, np.ndarray)]
        arrays += [each for model in models for each in (model.times, model.rows, model.open_interest, model.factor)]
        return 10_000 + sum(each.nbytes for each in arrays) + 400 * sum(len(model.days) for model in models)

    def day_candles(self, model: ModelData, day: date, before: float) -> DayCandles:
        """Return the candles of a computed day as the model takes them; `before` is the open interest (contracts)."""
        low, high = model.bounds[day]
        rows = model.rows[low:high]
        level, factor = model.open_interest[low:high], model.factor[low:high]
        every = self.candles
        return DayCandles(
            every.open_time[rows],
            every.open[rows],
            every.high[rows],
            every.low[rows],
            every.close[rows],
            every.volume[rows],
            flow=level_changes(level, factor, before),
            open_interest=level,
            factor=factor,
        )


def load_symbol(con: Connection, symbol: SymbolSummary) -> SymbolData:
    """Read the candles of a symbol and all that its days are replayed from.

    Args:
        con: the database that the summary is of.
        symbol: what is known of it.

    Raises:
        StoreError: if the database contradicts itself.
    """
    times, columns = serve.candle_columns(con, symbol.name)
    candles = Candles(symbol.candle_seconds, times, **columns)
    days = serve.served_days(con, symbol.name)
    models = {name: _model(con, symbol.name, model, days[name], candles) for name, model in symbol.models.items()}
    return SymbolData(**{**vars(symbol), "models": models}, candles=candles)


def _model(
    con: Connection, symbol: str, model: ModelSummary, every: Mapping[date, serve.ServedDay], candles: Candles
) -> ModelData:
    times, level = serve.model_candles(con, symbol, model.name)
    rows = np.searchsorted(candles.open_time, times)
    if rows[-1] >= len(candles.open_time) or not np.array_equal(candles.open_time[rows], times):
        raise StoreError(words_for_missing_candles(con, symbol, model.name))
    days = tuple(every)
    starts = np.array([day_start(day) for day in days], dtype=np.int64)
    low, high = np.searchsorted(times, starts), np.searchsorted(times, starts + DAY)
    by_text = {text: ModelParameters.from_json(text) for text in {day.parameters for day in every.values()}}
    return ModelData(
        **vars(model),
        days=days,
        parameters={day: by_text[served.parameters] for day, served in every.items()},
        fresh=serve.first_samples(con, symbol, [day for day, served in every.items() if served.is_first]),
        times=times,
        rows=rows.astype(np.int64),
        open_interest=level,
        factor=_factors(every, times),
        bounds={day: (int(a), int(b)) for day, a, b in zip(days, low, high, strict=True)},
    )


def _factors(days: Mapping[date, serve.ServedDay], times: Ints) -> Floats:
    """Return the factor of each model candle, of which the days name those that are not 1."""
    factor = np.ones(len(times))
    for day in days.values():
        for time, value in day.factors:
            factor[np.searchsorted(times, time)] = value
    return factor


def words_for_missing_candles(con: Connection, symbol: str, model: str) -> str:
    """Say what is wrong where a ledger has what the candles have not."""
    return (
        f"{symbol} {model}: the published ledger names candles that are not published; "
        f"run `{stored_command(con, 'refresh', symbol)}` to publish again"
    )
