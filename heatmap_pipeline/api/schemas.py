"""The bodies of answers as schemas: for /openapi.json and /docs only, no body is ever checked against them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

LOCATED_SHARE = "Share of the open interest that the map puts at a liquidation price, 0 to 1."
COVERAGE = "The name that `located_share` had before; the same number."

ENDED = "The last day of a symbol that is not traded any more; null for all others."
NOT_WHOLE = "What is held, cut or unchecked, in words, by day; no failure."


class Problem(BaseModel):
    """Why there is no other answer."""

    detail: str = Field(description="A sentence that names the parameter and what is allowed.")


class Level(BaseModel):
    """A price bin of one snapshot."""

    price: float = Field(description="Lower edge, quote asset.")
    long_density: float = Field(description="Longs that would be liquidated in this bin, quote asset.")
    short_density: float = Field(description="Shorts that would be liquidated in this bin, quote asset.")


class Snapshot(BaseModel):
    """The book at the end of an interval, and what happened within it."""

    timestamp: str = Field(
        description="Start of the interval, UTC; the levels are those at its end: join candles from there."
    )
    levels: list[Level]
    positions_created: int = Field(description="Openings: one per candle, side and leverage.")
    positions_consumed: int = Field(description="Lots that price reached.")
    consumed_long: float = Field(description="Their longs, quote asset.")
    consumed_short: float = Field(description="Their shorts, quote asset.")


class PriceRange(BaseModel):
    """From the lower edge of the lowest bin to the upper edge of the highest, quote asset."""

    min: float
    max: float


class Meta(BaseModel):
    """What the numbers are of."""

    symbol: str
    model: str
    start_time: str
    end_time: str = Field(description="End of the last interval.")
    clipped: list[str] = Field(description="Names of the parameters that reach beyond the data.")
    interval: str
    total_snapshots: int = Field(description="Intervals in which there are candles.")
    price_bin_size: float
    price_range: PriceRange
    total_long_volume: float = Field(description="Of the newest snapshot, quote asset.")
    total_short_volume: float = Field(description="Of the newest snapshot, quote asset.")
    total_consumed: float = Field(description="Of all snapshots, quote asset.")
    located_share: float = Field(description=LOCATED_SHARE)
    coverage: float = Field(description=COVERAGE, deprecated=True)
    as_of: str = Field(description="End of the newest candle in this answer.")
    simulated: bool = Field(description="Whether the market is made up.")
    units: dict[str, str]
    leverage_weights: list[tuple[float, float]] | None = Field(description="As asked; null for the model's own.")


class ColumnsMeta(Meta):
    """What the page needs besides."""

    bucket: float = Field(description="The symbol's own bucket, quote asset.")
    bucket_misfit: str | None = Field(description="How it does not fit the price, in words; null where it does.")
    interval_seconds: int
    price: float = Field(description="Last close, quote asset.")
    provisional: bool = Field(description="Whether a day in it was not over yet.")
    first_day: str
    last_day: str
    ended: str | None = Field(description=ENDED)
    not_whole: dict[str, str] = Field(description=NOT_WHOLE)


class Nested(BaseModel):
    """format=nested."""

    data: list[Snapshot]
    meta: Meta


class Cells(BaseModel):
    """Cells that hold something, sorted by time, then price."""

    time: list[int] = Field(description="Index into timestamps.")
    price: list[int] = Field(description="Index into prices.")
    volume: list[float] = Field(description="Quote asset.")


class CandleColumns(BaseModel):
    """Candles as columns."""

    interval_seconds: int
    open_time: list[int] = Field(description="Milliseconds since 1970-01-01 UTC.")
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float] = Field(description="Contracts.")


class ReportedSide(BaseModel):
    """Sums of one side, each column once."""

    time: list[int] = Field(description="Index into timestamps of the column in which they, or their interval, began.")
    price: list[float | None] = Field(description="Mean weighted by quantity, quote asset; null = unknown.")
    place: list[float] = Field(
        description="The price, else the low (longs) or high (shorts) of their time, quote asset."
    )
    volume: list[float] = Field(description="Quote asset; what is reported without counts as quantity x place.")
    quantity: list[float] = Field(description="Contracts.")


class Recorded(BaseModel):
    """What was recorded, half-open stretches; outside of them liquidations are missing, not 0."""

    from_: list[int] = Field(alias="from", description="Milliseconds since 1970-01-01 UTC.")
    to: list[int]


class Reported(BaseModel):
    """Real liquidations as one source reports them."""

    source: str
    exchange: str
    own_exchange: bool = Field(description="Whether that is the market's own exchange.")
    complete: bool | None = Field(description="Whether the source prints every liquidation; null = it printed none.")
    resolution_seconds: int = Field(description="Width of the sums it prints; 0 = single liquidations.")
    factor: float | None = Field(
        description="Volume reported / modelled in columns recorded whole; null for another exchange's record."
    )
    recorded: Recorded
    long: ReportedSide
    short: ReportedSide


class Columns(BaseModel):
    """format=columns."""

    format: Literal[2]
    timestamps: list[int] = Field(
        description="Start of every interval, milliseconds since 1970-01-01 UTC; volumes are those at its end."
    )
    prices: list[float] = Field(description="Lower edge of every bin, quote asset.")
    long: Cells
    short: Cells
    consumed_long: Cells
    consumed_short: Cells
    candles: CandleColumns
    reported: Reported | None = Field(description="Real liquidations; null where none of the window was recorded.")
    meta: ColumnsMeta


class Bucket(BaseModel):
    """A price bin of the map."""

    price: float = Field(description="Lower edge, quote asset.")
    long: float
    short: float
    cumulative_long: float = Field(description="Longs in this bin and above it, quote asset.")
    cumulative_short: float = Field(description="Shorts in this bin and below it, quote asset.")
    distance_percent: float = Field(description="Of the lower edge from the price.")


class ClusterBody(BaseModel):
    """Levels of one side that stand together."""

    price: float
    volume: float
    distance_percent: float
    side: Literal["long", "short"]


class MoveBody(BaseModel):
    """The straight move that hits most volume per percent."""

    price: float
    volume: float
    volume_per_percent: float
    distance_percent: float


class ClusterLists(BaseModel):
    """The largest clusters, largest first, at most five each."""

    above: list[ClusterBody]
    below: list[ClusterBody]


class Nearest(BaseModel):
    """The nearest cluster with at least a tenth of its side's largest one."""

    above: ClusterBody | None
    below: ClusterBody | None


class MaxPain(BaseModel):
    """One move per direction."""

    above: MoveBody | None
    below: MoveBody | None


class LiquidationMap(BaseModel):
    """The book after one candle."""

    symbol: str
    model: str
    time: str = Field(description="End of that candle.")
    price: float = Field(description="Its close, quote asset.")
    price_bin_size: float
    within_percent: float = Field(description="How far from the price clusters and max pain were looked for.")
    buckets: list[Bucket]
    clusters: ClusterLists
    nearest: Nearest
    max_pain: MaxPain
    total_long_volume: float
    total_short_volume: float
    located_share: float = Field(description=LOCATED_SHARE)
    coverage: float = Field(description=COVERAGE, deprecated=True)
    as_of: str
    simulated: bool
    provisional: bool
    leverage_weights: list[tuple[float, float]] | None
    units: dict[str, str]


class OldLevel(BaseModel):
    """A bin and side."""

    price: float
    side: Literal["long", "short"]
    volume: float
    distance_percent: float


class OldLevels(BaseModel):
    """The deprecated list."""

    symbol: str
    model: str
    time: str
    price: float
    price_bin_size: float
    levels: list[OldLevel]
    located_share: float = Field(description=LOCATED_SHARE)
    coverage: float = Field(description=COVERAGE, deprecated=True)
    as_of: str
    simulated: bool
    units: dict[str, str]


class Kline(BaseModel):
    """A candle."""

    open_time: str
    open: float
    high: float
    low: float
    close: float
    volume: float = Field(description="Contracts.")
    quote_volume: float | None = Field(description="Quote asset; null = unknown.")


class KlinesMeta(BaseModel):
    """What the candles are of."""

    symbol: str
    interval: str
    start_time: str
    end_time: str
    total_candles: int
    as_of: str = Field(description="End of the newest stored candle in this answer.")
    simulated: bool
    units: dict[str, str]


class Klines(BaseModel):
    """Candles, rising."""

    data: list[Kline]
    meta: KlinesMeta


class ScoreRow(BaseModel):
    """One number of a score; null where it is undefined."""

    side: Literal["long", "short"] = Field(description="Of the position.")
    horizon: Literal["nowcast", "at_start", ""] = Field(description="Empty for counts.")
    measure: str = Field(description="spearman, partial, level, log_error, lift, hours_with_reports or days.")
    baseline: str = Field(description="The rule whose value this is; empty for the map itself.")
    value: float | None
    low: float | None = Field(description="Of the 95 % interval.")
    high: float | None
    difference: float | None = Field(description="Map minus baseline, over the hours that know both.")
    difference_low: float | None
    difference_high: float | None
    hours: int


class ScoreSource(BaseModel):
    """Whose record a score was held against."""

    name: str
    exchange: str
    own_exchange: bool = Field(description="False: ranks only, no level.")
    complete: bool = Field(description="Whether it holds every liquidation; false: reported is a floor.")


class PlainScore(BaseModel):
    """A score."""

    symbol: str
    model: str
    scored: bool = Field(description="Whether anything could be scored.")
    words: str = Field(description="Whose record it was held against, or why there is no score.")
    source: ScoreSource | None
    windows: dict[str, list[ScoreRow]] = Field(description="By window: 28d, the trailing days, and all.")
    days: dict[str, tuple[str, str]] = Field(description="First and last scored day of each window.")
    as_of: str = Field(description="End of the last complete day.")
    simulated: bool = Field(description="Simulated data are never scored.")


class ScoreHours(BaseModel):
    """The recorded hours of the trailing window, as columns."""

    hour: list[str]
    side: list[Literal["long", "short"]]
    predicted: list[float] = Field(description="Contracts.")
    reported: list[float] = Field(description="Contracts.")


class ReferenceScore(BaseModel):
    """The published score of docs/score.md."""

    symbols: list[str]
    days: tuple[str, str]
    scores: list[PlainScore]


class Score(PlainScore):
    """The score of a symbol and model, with the hours behind it and the reference score."""

    hours: ScoreHours
    reference: ReferenceScore


class SymbolEntry(BaseModel):
    """A symbol there is."""

    symbol: str
    models: list[str] = Field(description="The first is the default.")
    roles: dict[str, Literal["default", "comparison"]] = Field(description="What each model is for.")
    quote: str = Field(description="Quote asset, which its prices and volumes are in.")
    bucket: float
    first_day: str
    last_day: str
    ended: str | None = Field(description=ENDED)
    as_of: str
    price: float
    simulated: bool
    provisional: bool
    located_share: dict[str, float] = Field(description=LOCATED_SHARE)
    coverage: dict[str, float] = Field(description=COVERAGE, deprecated=True)
    snapshot_interval_seconds: int | None
    candle_interval_seconds: int


class Symbols(BaseModel):
    """All symbols; `version` changes whenever anything that is published does."""

    symbols: list[SymbolEntry]
    version: str


class SymbolHealth(BaseModel):
    """A symbol and model."""

    symbol: str
    model: str
    newest_day: str | None
    as_of: str
    age_seconds: int = Field(description="Since the end of the newest complete day.")
    stale: bool
    missing_days: list[str]
    broken_days: list[str]
    not_whole: dict[str, str] = Field(description=NOT_WHOLE)
    provisional: bool
    ended: str | None = Field(description=ENDED)
    reason: str | None = None


class Health(BaseModel):
    """Whether the data are what a reader may rely on."""

    status: Literal["ok", "stale", "empty"]
    version: str | None
    newest_day: str | None
    as_of: str | None
    age_seconds: int | None
    symbols: list[SymbolHealth]
    reason: str | None = None


class Ready(BaseModel):
    """Whether requests can be answered."""

    status: Literal["ready", "not ready"]
    version: str | None
    reason: str | None = None


class CacheStats(BaseModel):
    """Counts since the start, and what is held now."""

    hits: int
    misses: int
    coalesced: int = Field(description="Requests that waited for a body that was being made already.")
    evictions: int
    expired: int
    not_modified: int
    rejected: int
    hit_ratio: float
    entries: int
    bytes: int
    max_bytes: int
    max_age_seconds: float
    working: int
    max_working: int
    max_waiting: int
    books: int
    books_bytes: int
    outgoing_bytes: int
    version: str | None
    loads: int
