"""Holding a stored map against real liquidations: which record, which hours, the volume-only map beside it, the score.

What belongs here: what a score is computed from, and whether it has to be computed again. What does not: the measures
(`model/score/`), the tables (`store/scores.py`), and words for people (`views/score.py`). No Dagster.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from heatmap_pipeline import __version__
from heatmap_pipeline.chain.again import cells_again
from heatmap_pipeline.chain.history import Connect, restarted
from heatmap_pipeline.instants import DAY, ONE_DAY, day_of, day_start, iso
from heatmap_pipeline.market.liquidations.sources import Places, open_liquidations
from heatmap_pipeline.market.liquidations.tables import (
    LEAST_RECORDED,
    merge_ranges,
    microseconds,
    recorded_share,
)
from heatmap_pipeline.market.tables import MarketError
from heatmap_pipeline.model.book import LONG, SHORT, DayCandles, Floats, Ints, Sides
from heatmap_pipeline.model.engine import run_day, start_state
from heatmap_pipeline.model.parameters import MODELS, VOLUME_ONLY, ModelParameters
from heatmap_pipeline.model.score.hours import (
    HOUR,
    HourlyMarket,
    ScoreHours,
    hourly_market,
    hourly_predicted,
    hourly_reported,
)
from heatmap_pipeline.model.score.lift import MapCells
from heatmap_pipeline.model.score.table import (
    RESAMPLES,
    SEED,
    TRAILING_DAYS,
    WARM_UP_DAYS,
    ScoreRow,
    score,
)
from heatmap_pipeline.settings import Settings
from heatmap_pipeline.store import scores
from heatmap_pipeline.store.columns import candle_columns, served_symbols
from heatmap_pipeline.store.days import DayRecord, day_records
from heatmap_pipeline.store.raw import SymbolRecord, get_symbol
from heatmap_pipeline.store.scores import Record
from heatmap_pipeline.store.warehouse import Warehouse
from heatmap_pipeline.symbols import own_exchange

Reason: TypeAlias = Literal["nothing stored", "simulated", "no record", "coarse record", "wrong record"]
"""Why there is no score. A coarse record is of sums that no hour can be told from, a wrong one cannot be read."""

_HOUR_SECONDS = 3600


@dataclass(frozen=True)
class NotScored:
    """That a symbol and model have no score, and the reason; `words` say what is wrong with a record."""

    symbol: str
    model: str
    reason: Reason
    words: str = ""


@dataclass(frozen=True)
class Scored:
    """A score and what it was computed from.

    Attributes:
        symbol: as the exchange writes it.
        model: its name.
        source: whose record it was held against.
        rows: the score.
        hours: what it was computed from; hours that were left out as warm-up included.
        parameters: how it was computed, JSON-able.
        unchanged: whether it was stored already, from the same inputs; `rows` are then empty and `hours` None.
    """

    symbol: str
    model: str
    source: str
    rows: Sequence[ScoreRow]
    hours: ScoreHours | None
    parameters: Mapping[str, Any]
    unchanged: bool = False


@dataclass(frozen=True)
class _Map:
    """What is stored of a model: its complete days, its candles, what it liquidated, its maps at the hours' starts."""

    days: Mapping[date, DayRecord]
    times: Ints
    columns: Mapping[str, Floats]
    market: HourlyMarket
    begin: int
    liquidated: tuple[Ints, Sides, Floats, Ints]
    cells: MapCells


def choose_record(symbol: str, records: Sequence[Record]) -> Record | None:
    """Return the record a market is scored against, None where none can be summed up to hours.

    Its own exchange's before any other, then one that prints every liquidation, then the one that recorded most; the
    rule of the view `liquidation_sources`, for records of a folder too.
    """

    def rank(record: Record) -> tuple[Any, ...]:
        length = int(np.diff(record.recorded).sum())
        return record.exchange != own_exchange(symbol), not record.complete, -length, record.source

    return min((record for record in records if _hourly(record)), key=rank, default=None)


def _hourly(record: Record) -> bool:
    return record.resolution == 0 or _HOUR_SECONDS % record.resolution == 0


def records_of_folder(folder: Path, symbol: str, first: date, last: date) -> list[Record]:
    """Return what a folder of liquidation files says of a symbol, both days included.

    Raises:
        MarketError: if it has nothing of the symbol and the days, or holds what cannot be used.
    """
    source = open_liquidations(["files"], Places(folder=folder, archive=folder, recordings=folder))["files"]
    return [
        Record(
            part.source,
            len(part.table) > 0 and bool(part.table["complete"].all()),
            int(part.table["resolution_seconds"].max()) if len(part.table) else 0,
            microseconds(part.table["timestamp"]),
            np.where(part.table["side"].to_numpy() == "long", LONG, SHORT).astype(np.int8),
            part.table["quantity"].to_numpy(np.float64),
            part.recorded,
        )
        for part in source.read(symbol, first, last)
    ]


def score_symbol(
    connect: Connect,
    symbol: str,
    models: Sequence[str],
    *,
    trailing_days: int = TRAILING_DAYS,
    folder: Path | None = None,
    again: bool = True,
) -> list[Scored | NotScored]:
    """Score every model of a symbol over what is stored of it; nothing is written.

    Only days that are over count, so that a score does not change while a day grows. The same inputs give the same
    bits.

    Args:
        connect: opens a database, the private or the published one.
        symbol: as the exchange writes it.
        models: their names.
        trailing_days: length of the trailing window.
        folder: files to score against, in place of the stored records.
        again: compute also where a score from the same inputs is stored.

    Raises:
        MarketError: for a folder that has nothing of the symbol, or what cannot be used.
    """
    with connect() as con:
        stored = get_symbol(con, symbol)
        days = {model: _complete_days(con, symbol, model) for model in models}
        records = [] if folder is not None else scores.load_records(con, symbol)
    spans = [day for of_model in days.values() for day in of_model]
    if stored is None or not spans:
        return [NotScored(symbol, model, "nothing stored") for model in models]
    if stored.simulated:
        return [NotScored(symbol, model, "simulated") for model in models]
    if folder is not None:
        records = records_of_folder(folder, symbol, min(spans), max(spans))
    chosen = choose_record(symbol, records)
    if chosen is None:
        return [NotScored(symbol, model, "coarse record" if records else "no record") for model in models]
    outcome: list[Scored | NotScored] = []
    volume_only = _VolumeOnly()
    for model in models:
        if not days[model]:
            outcome.append(NotScored(symbol, model, "nothing stored"))
            continue
        inputs = _inputs(days[model], chosen, trailing_days)
        with connect() as con:
            if not again and scores.score_inputs_hash(con, symbol, model) == inputs:
                outcome.append(Scored(symbol, model, chosen.source, (), None, {}, unchanged=True))
                continue
            known = _load(con, stored, model, days[model])
        outcome.append(_score(symbol, model, known, chosen, volume_only, trailing_days, inputs))
    return outcome


def scores_are_current(con: Any, symbol: str, models: Sequence[str]) -> bool:
    """Whether what is stored of the scores is what `score_symbol` and `store_outcome` would leave there."""
    stored = get_symbol(con, symbol)
    days = {model: _complete_days(con, symbol, model) for model in models}
    chosen = None
    if stored is not None and not stored.simulated and any(days.values()):
        chosen = choose_record(symbol, scores.load_records(con, symbol))
    wanted = {
        model: _inputs(days[model], chosen, TRAILING_DAYS) if chosen is not None and days[model] else None
        for model in models
    }
    return all(scores.score_inputs_hash(con, symbol, model) == inputs for model, inputs in wanted.items())


def score_published(
    settings: Settings,
    symbols: Sequence[str],
    models: Sequence[str],
    *,
    trailing_days: int = TRAILING_DAYS,
    folder: Path | None = None,
) -> Iterator[Scored | NotScored]:
    """Score what is published, symbol by symbol; what is wrong with one symbol's files stops no other.

    Args:
        settings: the home.
        symbols: names; none means every symbol that is published.
        models: names; none means every model that is published of a symbol.
        trailing_days: length of the trailing window.
        folder: as `score_symbol`.

    Raises:
        StoreError: if nothing is published, or the file cannot be read.
    """
    warehouse = Warehouse(settings.home)
    with warehouse.read() as con:
        published = {record.symbol: names for record, names in served_symbols(con)}
    for symbol in symbols or published:
        names = sorted(published.get(symbol, ()), key=_place)
        wanted = tuple(models or names or settings.models)
        try:
            yield from score_symbol(warehouse.read, symbol, wanted, trailing_days=trailing_days, folder=folder)
        except MarketError as error:
            yield from (NotScored(symbol, model, "wrong record", str(error)) for model in wanted)


def _place(model: str) -> tuple[bool, int, str]:
    """Return where a model stands among others: in the order of the table of models, the default one first."""
    names = [*MODELS][::-1]
    return model not in MODELS, names.index(model) if model in MODELS else 0, model


def store_outcome(connect: Connect, outcome: Sequence[Scored | NotScored]) -> None:
    """Store what was scored anew, in place of the scores of before; what cannot be scored any more goes."""
    for result in outcome:
        with connect() as con:
            if isinstance(result, NotScored):
                scores.delete_scores(con, result.symbol, result.model)
            elif result.hours is not None:
                scores.replace_scores(
                    con,
                    result.symbol,
                    result.model,
                    result.source,
                    result.rows,
                    result.hours,
                    result.parameters,
                )


def _complete_days(con: Any, symbol: str, model: str) -> dict[date, DayRecord]:
    """Return the days that are over; of a symbol that was begun anew (`--restart`) without a gap, those since then."""
    complete = {day: record for day, record in day_records(con, symbol, model).items() if not record.provisional}
    begin = max((day for day, record in complete.items() if restarted(record)), default=date.min)
    return {day: record for day, record in complete.items() if day >= begin}


def _inputs(days: Mapping[date, DayRecord], record: Record, trailing_days: int) -> str:
    """Return a hash of all that a score depends on."""
    chain = [(str(day), day_record.input_hash, day_record.state_hash) for day, day_record in days.items()]
    known = [__version__, trailing_days, RESAMPLES, SEED, WARM_UP_DAYS, record.content_hash(), chain]
    known += sorted({day_record.parameters for day_record in days.values()})
    return hashlib.blake2b(json.dumps(known).encode(), digest_size=16).hexdigest()


def _load(con: Any, stored: SymbolRecord, model: str, days: Mapping[date, DayRecord]) -> _Map:
    symbol, interval = stored.symbol, stored.candle_interval_seconds
    times, every = candle_columns(con, symbol)
    starts = np.array([day_start(day) for day in days], dtype=np.int64)
    inside = np.isin(times // DAY * DAY, starts)
    times, columns = times[inside], {name: values[inside] for name, values in every.items()}
    prices = {name: columns[name] for name in ("open", "high", "low", "volume")}
    market = hourly_market(times, **prices, interval=interval)
    market = _of_days(market, starts)
    bucket = max(json.loads(record.parameters)["bucket"] for record in days.values())
    more = cells_again(con, symbol, model, days, times, columns)
    return _Map(
        days,
        times,
        columns,
        market,
        scores.first_model_candle(con, symbol, model) or 0,
        scores.load_liquidated(con, symbol, model),
        scores.load_hour_maps(con, symbol, model, market, bucket, more),
    )


def _of_days(market: HourlyMarket, starts: Ints) -> HourlyMarket:
    """Return the hours of the given days only: the others are of no history."""
    inside = np.isin(market.start // DAY * DAY, starts)
    return HourlyMarket(
        market.start[inside],
        **{name: getattr(market, name)[..., inside] for name in ("open", "high", "low", "volume", "extreme")},
    )


def _score(
    symbol: str,
    model: str,
    known: _Map,
    record: Record,
    volume_only: _VolumeOnly,
    trailing_days: int,
    inputs: str,
) -> Scored:
    start = known.market.start
    predicted, at_start = hourly_predicted(start, *known.liquidated)
    for series in (predicted, at_start):
        series[:, start < known.begin] = np.nan
    watched = watched_hours(record.recorded, start)
    reported, recorded = hourly_reported(start, record.timestamp, record.side, record.quantity, watched, watched + HOUR)
    without, without_at_start = hourly_predicted(start, *volume_only.liquidated(known))
    hours = ScoreHours(known.market, predicted, at_start, reported, recorded, without, without_at_start)
    starts = history_starts(known.days)
    of_its_exchange = record.exchange == own_exchange(symbol)
    counted = without_warm_up(hours, starts)
    rows = score(counted, own_exchange=of_its_exchange, cells=known.cells, trailing_days=trailing_days, seed=SEED)
    last = max(known.days)
    parameters = {
        "exchange": record.exchange,
        "own_exchange": of_its_exchange,
        "complete": record.complete,
        "first_day": str(min(known.days)),
        "last_day": str(last),
        "as_of": iso(day_start(last) + DAY),
        "trailing_days": trailing_days,
        "warm_up_days": WARM_UP_DAYS,
        "history_starts": [str(day) for day in starts],
        "windows": _windows(counted, trailing_days),
        "resamples": RESAMPLES,
        "seed": SEED,
        "bucket": known.cells.bucket,
        "model": json.loads(known.days[last].parameters),
        "inputs": inputs,
    }
    return Scored(symbol, model, record.source, rows, hours, parameters)


def watched_hours(recorded: Ints, start: Ints) -> Ints:
    """Return the hours that count as recorded.

    Args:
        recorded: shape (k, 2), starts and ends of what was recorded, microseconds.
        start: of the hours, microseconds.
    """
    return start[recorded_share(merge_ranges(recorded), start) >= LEAST_RECORDED]


def _windows(hours: ScoreHours, trailing_days: int) -> dict[str, list[str]]:
    """Return the first and the last scored day of each window, both included; without any scored hour no window."""
    start = hours.market.start[hours.scored]
    if not len(start):
        return {}
    end = int(start[-1]) // DAY * DAY + DAY
    begins = {f"{trailing_days}d": int(start[start >= end - trailing_days * DAY][0]), "all": int(start[0])}
    return {window: [str(day_of(begin)), str(day_of(end - 1))] for window, begin in begins.items()}


def history_starts(days: Mapping[date, DayRecord]) -> list[date]:
    """Return the days on which a history begins: the first, and each that begins anew after a gap."""
    return [day for day, record in days.items() if record.previous_hash == ""]


def without_warm_up(hours: ScoreHours, starts: Sequence[date]) -> ScoreHours:
    """Return the hours with nothing predicted in the first days of each history: a map begins empty."""
    start, warm = hours.market.start, np.zeros(len(hours.market.start), dtype=np.bool_)
    for day in starts:
        begin = day_start(day)
        warm |= (start >= begin) & (start < begin + WARM_UP_DAYS * DAY)
    predicted = np.where(warm, np.nan, hours.predicted)
    return replace(hours, predicted=predicted, predicted_at_start=np.where(warm, np.nan, hours.predicted_at_start))


class _VolumeOnly:
    """The volume-only map of a symbol, run once for models whose days, candles and buckets are the same."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], tuple[Ints, Sides, Floats, Ints]] = {}

    def liquidated(self, known: _Map) -> tuple[Ints, Sides, Floats, Ints]:
        """Return start of the candle, side, contracts and `opened_at` of what it liquidates."""
        parameters = {text: _volume_only_parameters(text) for text in {day.parameters for day in known.days.values()}}
        key = tuple(
            (day, record.previous_hash == "", repr(parameters[record.parameters])) for day, record in known.days.items()
        )
        if key not in self._made:
            self._made[key] = _run_volume_only(known, parameters)
        return self._made[key]


def _volume_only_parameters(text: str) -> ModelParameters:
    return replace(ModelParameters.from_json(text), spec=VOLUME_ONLY)


def _run_volume_only(known: _Map, parameters: Mapping[str, ModelParameters]) -> tuple[Ints, Sides, Floats, Ints]:
    """Run the engine day by day with flow 0; the open interest that it hands through is 1 and decides nothing."""
    parts = []
    times, state, before = known.times, None, None
    for day, record in known.days.items():
        if state is None or record.previous_hash == "" or before != day - ONE_DAY:
            state = start_state(parameters[record.parameters], 1.0)
        low, high = np.searchsorted(times, (day_start(day), day_start(day) + DAY))
        columns = {name: known.columns[name][low:high] for name in ("open", "high", "low", "close", "volume")}
        candles = DayCandles(times[low:high], **columns, flow=np.zeros(high - low), open_interest=np.ones(high - low))
        result = run_day(parameters[record.parameters], state, candles)
        state, before = result.state, day
        parts.append(result.liquidations)
    timestamp, side, quantity, opened_at = (
        np.concatenate([part[name] for part in parts]) for name in ("timestamp", "side", "quantity", "opened_at")
    )
    return timestamp, side, quantity, opened_at
