"""The bodies of answers as schemas: for /openapi.json and /docs only, no body is ever checked against them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from heatmap_pipeline.model.alerts import Kind

LOCATED_SHARE = "Share of the open interest that the map puts at a liquidation price, 0 to 1."
COVERAGE = "The name that `located_share` had before; the same number."
TIERS = "The leverage tiers there are."
EXCHANGE = "Whose contract it is; null where the market is made up."
TITLE = "What it is, in words: exchange, asset that it is paid in, kind of contract."
SHOWN = "The leverage tiers that are shown; null where it is all of them."

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
    exchange: str | None = Field(description=EXCHANGE)
    title: str = Field(description=TITLE)
    units: dict[str, str]
    leverage_weights: list[tuple[float, float]] | None = Field(description="As asked; null for the model's own.")
    tiers: list[float] = Field(description=TIERS)
    leverage_tiers: list[float] | None = Field(description=SHOWN)


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
    without_candles: list[tuple[int, int]] = Field(
        description="Stretches of intervals without candles, whose state is missing, not 0: index into timestamps of "
        "the first, and of the one after the last."
    )


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


class ModelledSide(BaseModel):
    """What the model liquidated of one side, each column once."""

    time: list[int] = Field(description="Index into timestamps.")
    price: list[float] = Field(
        description="Mean of where the lots died, weighted by volume, within the range of their candles, quote asset."
    )
    volume: list[float] = Field(description="Quote asset.")
    lots: list[int] = Field(description="How many lots died.")
    entry_low: list[float] = Field(description="Lowest mean entry price of a lot, quote asset.")
    entry_high: list[float] = Field(description="The highest.")


class Modelled(BaseModel):
    """Modelled liquidations of both sides."""

    long: ModelledSide
    short: ModelledSide


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
        description="Volume reported / modelled in columns recorded whole; null for another exchange's record, and "
        "where only some leverage tiers are shown."
    )
    recorded: Recorded
    long: ReportedSide
    short: ReportedSide


class Usual(BaseModel):
    """What usually stands at a distance from the price, in this answer, per price row."""

    edges_percent: list[float] = Field(description="Between the bands, percent of the price.")
    long: list[float | None] = Field(
        description="By band, quote asset per row, downward; null where nobody knows, or 0."
    )
    short: list[float | None] = Field(description="The same upward.")
    columns: int = Field(description="How many columns with candles they are the median of.")


class ZoneColumns(BaseModel):
    """Zones of one side in every interval, as columns: those within 10 % of its price, and the nearest one."""

    time: list[int] = Field(description="Index into timestamps.")
    low: list[float] = Field(description="Quote asset, as the other prices.")
    high: list[float]
    peak: list[float]
    price: list[float]
    volume: list[float] = Field(description="Quote asset.")
    distance_percent: list[float] = Field(description="From the close of the interval.")
    share: list[float]
    since: list[float | None] = Field(
        description="Milliseconds since 1970-01-01 UTC; null in all but the newest interval."
    )


class ZonesBySide(BaseModel):
    """Zones of both sides."""

    long: ZoneColumns
    short: ZoneColumns


class Columns(BaseModel):
    """format=columns."""

    format: Literal[2]
    timestamps: list[int] = Field(
        description="Start of every interval, milliseconds since 1970-01-01 UTC; volumes are those at its end."
    )
    prices: list[float] = Field(description="Lower edge of every bin, quote asset.")
    located_shares: list[float] = Field(description="Share located at the end of every interval.")
    long: Cells
    short: Cells
    consumed_long: Cells
    consumed_short: Cells
    candles: CandleColumns
    modelled: Modelled
    reported: Reported | None = Field(description="Real liquidations; null where none of the window was recorded.")
    usual: Usual
    zones: ZonesBySide
    meta: ColumnsMeta


class Bucket(BaseModel):
    """A price bin of the map."""

    price: float = Field(description="Lower edge, quote asset.")
    long: float
    short: float
    cumulative_long: float = Field(description="Longs in this bin and above it, quote asset.")
    cumulative_short: float = Field(description="Shorts in this bin and below it, quote asset.")
    distance_percent: float = Field(description="Of the lower edge from the price.")


class ZoneBody(BaseModel):
    """A stretch of price where the book of one side is thick."""

    side: Literal["long", "short"]
    low: float = Field(description="Lower edge of its lowest bucket that holds anything, quote asset.")
    high: float = Field(description="Upper edge of the highest.")
    peak: float = Field(description="Middle of the bucket at which it is thickest, smoothed.")
    price: float = Field(description="Mean of its buckets, weighted by volume.")
    volume: float = Field(description="Sum of its buckets, quote asset.")
    distance_percent: float = Field(description="Of `price` from the current price; below 0 for a zone under it.")
    share: float = Field(description="Of its side's volume within 10 % of the price, what is in it.")


class MoveBody(BaseModel):
    """The straight move that hits most volume per percent."""

    price: float
    volume: float
    volume_per_percent: float
    distance_percent: float


class StandingZone(ZoneBody):
    """A zone, and since when it stands."""

    since: str | None = Field(description="Since when it stands: half of its volume had opened by then.")


class ClusterLists(BaseModel):
    """The largest zones within `within_percent` of the price, largest first, at most five each."""

    above: list[StandingZone]
    below: list[StandingZone]


class Nearest(BaseModel):
    """The nearest zone of each side, whatever its distance."""

    above: StandingZone | None
    below: StandingZone | None


class NearestZones(BaseModel):
    """The nearest zone of each side, whatever its distance."""

    above: ZoneBody | None
    below: ZoneBody | None


class MaxPain(BaseModel):
    """One move per direction."""

    above: MoveBody | None
    below: MoveBody | None


class OfOneMoment(BaseModel):
    """What an answer about one candle says of itself."""

    as_of: str
    simulated: bool
    exchange: str | None = Field(description=EXCHANGE)
    title: str = Field(description=TITLE)
    provisional: bool
    leverage_weights: list[tuple[float, float]] | None
    tiers: list[float] = Field(description=TIERS)
    leverage_tiers: list[float] | None = Field(description=SHOWN)
    units: dict[str, str]


class LiquidationMap(OfOneMoment):
    """The book after one candle."""

    symbol: str
    model: str
    time: str = Field(description="End of that candle.")
    price: float = Field(description="Its close, quote asset.")
    price_bin_size: float
    within_percent: float = Field(description="How far from the price zones are listed as clusters.")
    buckets: list[Bucket]
    clusters: ClusterLists
    nearest: Nearest
    max_pain: MaxPain = Field(
        description="Deprecated: it moves with within_percent, mostly to its edge; clusters say what stands where.",
        deprecated=True,
    )
    total_long_volume: float
    total_short_volume: float
    located_share: float = Field(description=LOCATED_SHARE)
    coverage: float = Field(description=COVERAGE, deprecated=True)


class LotColumns(BaseModel):
    """The lots of one side by price bin, then leverage: one row of each that holds any."""

    price: list[float] = Field(description="Lower edge of the bin, quote asset.")
    leverage: list[float]
    volume: list[float] = Field(description="Quote asset.")
    opened_at: list[int] = Field(
        description="When the oldest part opened: start of the candle, milliseconds since 1970-01-01 UTC."
    )


class LotsAtMoment(OfOneMoment):
    """The lots after one candle."""

    symbol: str
    model: str
    time: str = Field(description="End of that candle.")
    price: float = Field(description="Its close, quote asset.")
    price_bin_size: float
    long: LotColumns
    short: LotColumns
    clusters: ClusterLists = Field(description="As in /liquidations/map, within 10 % of the price.")
    nearest: Nearest


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


class PartOfCandles(BaseModel):
    """A market of a base."""

    symbol: str = Field(description="Id of the market.")
    market: str = Field(description="How it is typed.")
    exchange: str = Field(description="The one that its id names, also of a market that is made up.")
    title: str = Field(description=TITLE)
    quote: str = Field(description="Its own quote asset.")
    simulated: bool
    ended: str | None = Field(description=ENDED)
    newest: str = Field(description="End of the newest candle there is.")
    as_of: str | None = Field(description="End of its newest candle in the answer; null without any.")
    late_seconds: int | None = Field(description="How much earlier that is than the newest of the markets.")
    late: bool = Field(description="Whether that is more than 15 minutes, or a candle of its own if that is longer.")
    missing: bool = Field(description="Whether nothing of it stands at the end of the answer.")
    open_interest: float | None = Field(description="Contracts, at its as_of.")


class Part(PartOfCandles):
    """A market of a base, and what it has of the sum."""

    bucket: float = Field(description="Its own, quote asset.")
    provisional: bool
    located_share: float | None = Field(description=LOCATED_SHARE)
    long_volume: float | None = Field(description="At the end of the answer, its own quote asset; null = missing.")
    short_volume: float | None = Field(description="The same of shorts.")
    share: float | None = Field(description="Of the sum's long and short volume, what is its own; null = missing.")


class PartOfWindow(Part):
    """A market of a base in a window."""

    intervals: int = Field(description="How many intervals it has candles in.")
    without_candles: list[tuple[int, int]] = Field(
        description="Stretches of intervals in which it is missing, by number from the start of the window."
    )


class OfBase(BaseModel):
    """What an answer about a base says besides."""

    candles_of: str = Field(description="Id of the market whose candles and price these are.")
    markets: int = Field(description="How many were asked for.")
    markets_present: int = Field(description="How many stand at the end of the answer.")
    not_shown: dict[str, str] = Field(description="Why other markets of the base have nothing to add up, by id.")


class BaseSnapshot(Snapshot):
    """The sum of the books at the end of an interval."""

    missing: list[str] = Field(description="Ids of the markets that have no candle in it.")


class BaseMeta(Meta, OfBase):
    """What the numbers of a sum are of."""

    parts: list[PartOfWindow]


class BaseColumnsMeta(ColumnsMeta, OfBase):
    """What the page needs besides."""

    parts: list[PartOfWindow]


class BaseNested(BaseModel):
    """format=nested of a base."""

    data: list[BaseSnapshot]
    meta: BaseMeta


class ZoneVolumes(BaseModel):
    """What a market has in each zone of the sum; null = missing."""

    long: list[float | None]
    short: list[float | None]


class MarketColumns(BaseModel):
    """What one market has of each cell of the sum: quote asset, 0 = nothing, null = missing."""

    symbol: str
    long: list[float | None] = Field(description="Of the cells of the sum's `long`, in their order.")
    short: list[float | None]
    consumed_long: list[float | None]
    consumed_short: list[float | None]
    located_shares: list[float | None] = Field(description="At the end of every interval.")
    zones: ZoneVolumes
    modelled: Modelled
    reported: Reported | None


class BaseColumns(Columns):
    """format=columns of a base."""

    by_market: list[MarketColumns] = Field(description="In the order of `parts`.")
    meta: BaseColumnsMeta


class PartVolumes(BaseModel):
    """What a market has in a bin, quote asset."""

    long: float
    short: float


class BaseBucket(Bucket):
    """A price bin of the map of a base."""

    parts: dict[str, PartVolumes] = Field(description="Of the markets that hold something in it, by id.")


class BaseZone(StandingZone):
    """A zone of the summed book."""

    parts: dict[str, float] = Field(description="Volume of the markets that are there, by id, quote asset.")


class BaseClusterLists(BaseModel):
    """The largest zones of the summed book."""

    above: list[BaseZone]
    below: list[BaseZone]


class BaseNearest(BaseModel):
    """The nearest zones of the summed book."""

    above: BaseZone | None
    below: BaseZone | None


class BaseLiquidationMap(LiquidationMap, OfBase):
    """The sum of the books at one moment."""

    buckets: list[BaseBucket]  # type: ignore[assignment]
    clusters: BaseClusterLists  # type: ignore[assignment]
    nearest: BaseNearest  # type: ignore[assignment]
    parts: list[Part]


class BaseLotsAtMoment(LotsAtMoment, OfBase):
    """The lots of all markets at one moment."""

    clusters: BaseClusterLists  # type: ignore[assignment]
    nearest: BaseNearest  # type: ignore[assignment]
    parts: list[Part]


class BaseKlinesMeta(KlinesMeta, OfBase):
    """Whose candles these are."""

    parts: list[PartOfCandles]


class BaseKlines(BaseModel):
    """Candles of the market of a base with the largest open interest."""

    data: list[Kline]
    meta: BaseKlinesMeta


class AlertBody(BaseModel):
    """One thing that a rule told."""

    symbol: str
    model: str
    at: str = Field(description="When it was known: the end of a candle.")
    rule: str = Field(description="Name of the rule.")
    kind: Kind
    side: Literal["long", "short"]
    price: float = Field(description="Then, quote asset.")
    low: float | None = Field(description="Edges and peak of the zone, quote asset; null for a cascade.")
    high: float | None
    peak: float | None
    volume: float = Field(description="Of the zone, or liquidated within the hour, as modelled, quote asset.")
    words: str


class Alerts(BaseModel):
    """The last alerts, newest first."""

    alerts: list[AlertBody]


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
    exchange: str | None = Field(description=EXCHANGE)
    title: str = Field(description=TITLE)
    source: str = Field(description="Where candles and open interest come from.")
    provisional: bool
    located_share: dict[str, float] = Field(description=LOCATED_SHARE)
    coverage: dict[str, float] = Field(description=COVERAGE, deprecated=True)
    snapshot_interval_seconds: int | None
    candle_interval_seconds: int
    parameters: dict[str, dict[str, Any]] = Field(description="By model, what its newest day was computed with.")


class BaseEntry(BaseModel):
    """A base, whose markets' books can be asked for as a sum."""

    base: str
    markets: list[str] = Field(description="Their ids, in the order in which they are added.")
    exchanges: list[str]


class Symbols(BaseModel):
    """All symbols; `version` changes whenever anything that is published does."""

    symbols: list[SymbolEntry]
    bases: list[BaseEntry]
    version: str
    schema_version: int = Field(description="Of the tables of the database.")


class Sparkline(BaseModel):
    """The last closes of evenly spaced intervals."""

    start: str
    interval_seconds: int
    closes: list[float | None] = Field(description="Quote asset; null where there is no candle.")


class Agreement(BaseModel):
    """The headline of a score: rank correlation of modelled and reported liquidations, hour by hour."""

    window: str = Field(description="28d, the trailing days, or all.")
    long: float | None
    short: float | None
    hours: int = Field(description="How many hours it is of.")
    source: str
    own_exchange: bool = Field(description="Whether the record is of the market's own exchange.")


class Market(BaseModel):
    """A symbol and its first model."""

    symbol: str
    market: str = Field(description="How it is typed.")
    model: str
    quote: str = Field(description="Quote asset, which its prices and volumes are in.")
    price: float
    as_of: str
    change_24h_percent: float | None = Field(description="null where there is no candle 24 hours before.")
    sparkline: Sparkline
    nearest: NearestZones = Field(description="As in the newest map, by default, but without `since`.")
    located_share: float = Field(description=LOCATED_SHARE)
    score: Agreement | None = Field(description="null where nothing was scored; GET /score says why.")
    simulated: bool
    exchange: str | None = Field(description=EXCHANGE)
    title: str = Field(description=TITLE)
    provisional: bool
    newest_day: str | None = Field(description="The newest complete day.")
    ended: str | None = Field(description=ENDED)
    stale: bool
    reason: str | None = Field(description="Why it is stale, and what to run; null where it is not.")


class Markets(BaseModel):
    """All markets at a glance."""

    markets: list[Market]
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
    cells_from: str | None = Field(
        description="First day whose cells are stored (HEATMAP_KEEP_CELLS); what is served of earlier ones is computed."
    )
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
    """Counts since the start, and what is held now, of the process that answers."""

    process: int = Field(description="Its number; with several workers each answers for itself.")
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
    symbols: int = Field(description="Symbols whose candles are in memory; others are read when asked for.")
    symbols_bytes: int
    symbols_max_bytes: int
    symbol_reads: int = Field(description="How often the candles of a symbol were read.")
    books: int
    books_bytes: int
    outgoing_bytes: int
    version: str | None
    loads: int
