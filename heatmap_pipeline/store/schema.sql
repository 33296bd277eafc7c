-- Every table and view, in one place. Timestamps are UTC; a candle or interval is named by its start, its state is the
-- one at its end. Prices and volumes are in the quote asset of the symbol (symbols.quote), quantities contracts. No
-- PRIMARY KEY and no UNIQUE: an index costs 11 times the disk and 25 times the time of a repeated day, and rows stored in
-- time order need none to be found.
-- The program reads from here which columns a table has (schema.py): a `symbol` makes a table one of each symbol; `day`,
-- `timestamp` or `hour` says which day a row belongs to; and one of the tables with a column `..._hash` differs in a day
-- if any other table does. A comment that ends in "private: always empty in heatmap.duckdb" keeps a table's rows out of it.

CREATE TYPE side_name AS ENUM ('long', 'short');
-- In the order in which they happen within a candle; what the close of its own candle passed is liquidated last.
CREATE TYPE event_name AS ENUM ('liquidate', 'close', 'open');

CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (6);
COMMENT ON TABLE schema_version IS 'The version of these tables';
COMMENT ON COLUMN schema_version.version IS 'Number of the version; it goes up where a column, a table or a view comes';

CREATE TABLE symbols (
    symbol VARCHAR NOT NULL,
    candle_interval_seconds BIGINT NOT NULL,
    bucket DOUBLE NOT NULL,
    source VARCHAR NOT NULL,
    simulated BOOLEAN NOT NULL,
    quote VARCHAR NOT NULL,
    exchange VARCHAR NOT NULL,
    native_symbol VARCHAR NOT NULL,
    base VARCHAR NOT NULL,
    margin VARCHAR NOT NULL,
    contract_size DOUBLE NOT NULL,
    lot DOUBLE,
    oi_sides BIGINT,
    clock_rule VARCHAR
);
COMMENT ON TABLE symbols IS 'One row per market, what was chosen once and what it is; simulated = made by the demo market';
COMMENT ON COLUMN symbols.symbol IS 'Id of the market, in every table: a contract of Binance as it is written there (BTCUSDT), of another exchange with that before it (BYBIT_BTCUSDT)';
COMMENT ON COLUMN symbols.candle_interval_seconds IS 'Width of the candles the model runs over, seconds';
COMMENT ON COLUMN symbols.bucket IS 'Height of a price bucket on the newest computed day, quote asset; the view buckets has that of every day';
COMMENT ON COLUMN symbols.source IS 'Where candles and open interest come from, as HEATMAP_SOURCE says it; exchange = of the one in symbols.exchange';
COMMENT ON COLUMN symbols.simulated IS 'Whether the demo market made its data up';
COMMENT ON COLUMN symbols.quote IS 'The asset (USDT, USDC, ...) that all prices, volumes and buckets of the symbol are in, in every table; empty = nobody said';
COMMENT ON COLUMN symbols.exchange IS 'Where it is traded: binance, bybit, gate';
COMMENT ON COLUMN symbols.native_symbol IS 'Contract, as its exchange writes it';
COMMENT ON COLUMN symbols.base IS 'The asset that one contract is; empty = nobody said';
COMMENT ON COLUMN symbols.margin IS 'What it is paid in: linear = the quote asset';
COMMENT ON COLUMN symbols.contract_size IS 'Units of the base that the exchange calls one; in these tables contracts are units of the base';
COMMENT ON COLUMN symbols.lot IS 'Smallest quantity that can be traded, contracts, when the market was first read; NULL = the source does not say';
COMMENT ON COLUMN symbols.oi_sides IS 'Number of sides of each contract that the source counted in its newest samples, as it says or as was measured; quantities here count one; NULL = none read since version 5 of the tables';
COMMENT ON COLUMN symbols.clock_rule IS 'What told when its newest samples were taken: price, volume, convention; NULL = none read since version 5 of the tables';

CREATE TABLE ended_symbols (
    symbol VARCHAR NOT NULL,
    ended DATE NOT NULL,
    reason VARCHAR NOT NULL
);
COMMENT ON TABLE ended_symbols IS 'Symbols that are not traded any more: the last day there is of each, and how that was known; void where a later day is stored';
COMMENT ON COLUMN ended_symbols.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN ended_symbols.ended IS 'Last day there is of it, UTC';
COMMENT ON COLUMN ended_symbols.reason IS 'How that is known, in words';

CREATE TABLE raw_days (
    symbol VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    day DATE NOT NULL,
    content_hash VARCHAR NOT NULL,
    step_seconds BIGINT NOT NULL,
    rows BIGINT NOT NULL,
    repairs VARCHAR NOT NULL,
    facts VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    created_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE raw_days IS 'One row per symbol, kind (candles, open_interest, liquidations), day and source that was read: hash, repairs and facts (JSON)';
COMMENT ON COLUMN raw_days.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN raw_days.kind IS 'What was read: candles, open_interest, liquidations';
COMMENT ON COLUMN raw_days.day IS 'The day whose data it is, UTC';
COMMENT ON COLUMN raw_days.content_hash IS 'Hash of the clean rows';
COMMENT ON COLUMN raw_days.step_seconds IS 'Distance of the rows, seconds';
COMMENT ON COLUMN raw_days.rows IS 'Number of clean rows';
COMMENT ON COLUMN raw_days.repairs IS 'JSON: how often each repair was made';
COMMENT ON COLUMN raw_days.facts IS 'JSON: what else is known of the files: names, the clock of the samples, what was missing';
COMMENT ON COLUMN raw_days.source IS 'Where it came from, as in symbols; of liquidations exchange_kind';
COMMENT ON COLUMN raw_days.created_at IS 'When it was stored, UTC';

CREATE TABLE raw_candles (
    symbol VARCHAR NOT NULL,
    day DATE NOT NULL,
    open_time TIMESTAMP NOT NULL,
    open DOUBLE NOT NULL,
    high DOUBLE NOT NULL,
    low DOUBLE NOT NULL,
    close DOUBLE NOT NULL,
    volume DOUBLE NOT NULL,
    quote_volume DOUBLE,
    trades BIGINT,
    taker_buy_volume DOUBLE,
    taker_buy_quote_volume DOUBLE
);
COMMENT ON TABLE raw_candles IS 'Clean candles; prices and quote volumes in the quote asset, volume contracts, NULL = unknown';
COMMENT ON COLUMN raw_candles.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN raw_candles.day IS 'The day the candle opens in, UTC';
COMMENT ON COLUMN raw_candles.open_time IS 'Start of the candle, UTC';
COMMENT ON COLUMN raw_candles.open IS 'First price, quote asset';
COMMENT ON COLUMN raw_candles.high IS 'Highest price, quote asset';
COMMENT ON COLUMN raw_candles.low IS 'Lowest price, quote asset';
COMMENT ON COLUMN raw_candles.close IS 'Last price, quote asset';
COMMENT ON COLUMN raw_candles.volume IS 'What was traded, contracts';
COMMENT ON COLUMN raw_candles.quote_volume IS 'What was paid for it, quote asset; NULL = unknown';
COMMENT ON COLUMN raw_candles.trades IS 'Number of trades; NULL = unknown';
COMMENT ON COLUMN raw_candles.taker_buy_volume IS 'Of volume what buyers took, contracts; NULL = unknown';
COMMENT ON COLUMN raw_candles.taker_buy_quote_volume IS 'Of quote_volume what buyers took, quote asset; NULL = unknown';

CREATE TABLE raw_open_interest (
    symbol VARCHAR NOT NULL,
    day DATE NOT NULL,
    snapshot_time TIMESTAMP NOT NULL,
    contracts DOUBLE NOT NULL,
    value DOUBLE
);
COMMENT ON TABLE raw_open_interest IS 'Clean samples; day: whose data it is, a sample of the next midnight may belong to either day';
COMMENT ON COLUMN raw_open_interest.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN raw_open_interest.day IS 'The day whose data it is, UTC; a sample of the next midnight may belong to either day';
COMMENT ON COLUMN raw_open_interest.snapshot_time IS 'When the sample was taken, UTC';
COMMENT ON COLUMN raw_open_interest.contracts IS 'Open interest, contracts';
COMMENT ON COLUMN raw_open_interest.value IS 'Open interest, quote asset; NULL = unknown';

CREATE TABLE raw_liquidations (
    symbol VARCHAR NOT NULL,
    day DATE NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    source VARCHAR NOT NULL,
    side side_name NOT NULL,
    price DOUBLE,
    quantity DOUBLE NOT NULL,
    volume DOUBLE,
    resolution_seconds BIGINT NOT NULL,
    complete BOOLEAN NOT NULL
);
COMMENT ON TABLE raw_liquidations IS 'Liquidations that really happened, single ones or sums of an interval; never an input of the map';
COMMENT ON COLUMN raw_liquidations.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN raw_liquidations.day IS 'The day of timestamp, UTC';
COMMENT ON COLUMN raw_liquidations.timestamp IS 'When it happened, UTC; of a sum the start of its interval';
COMMENT ON COLUMN raw_liquidations.source IS 'exchange_kind: whose liquidations, and how they came here';
COMMENT ON COLUMN raw_liquidations.side IS 'Of the position that was closed';
COMMENT ON COLUMN raw_liquidations.price IS 'Quote asset; NULL = unknown, as of most sums';
COMMENT ON COLUMN raw_liquidations.quantity IS 'Contracts (units of the base)';
COMMENT ON COLUMN raw_liquidations.volume IS 'Quote asset; NULL = unknown';
COMMENT ON COLUMN raw_liquidations.resolution_seconds IS '0 = a single liquidation, else the seconds of the interval that the row is the sum of';
COMMENT ON COLUMN raw_liquidations.complete IS 'Whether the source prints every liquidation';

CREATE TABLE recorded (
    symbol VARCHAR NOT NULL,
    day DATE NOT NULL,
    source VARCHAR NOT NULL,
    "from" TIMESTAMP NOT NULL,
    "to" TIMESTAMP NOT NULL
);
COMMENT ON TABLE recorded IS 'Stretches [from, to) in which a source was recorded, cut at midnights; outside of them nothing is known, which is not 0';
COMMENT ON COLUMN recorded.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN recorded.day IS 'The day the stretch lies in, UTC';
COMMENT ON COLUMN recorded.source IS 'exchange_kind: whose liquidations, and how they came here';
COMMENT ON COLUMN recorded."from" IS 'Start of the stretch, UTC';
COMMENT ON COLUMN recorded."to" IS 'End of the stretch, UTC; it is no part of it';

CREATE TABLE position_events (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    event_type event_name NOT NULL,
    side side_name,
    leverage DOUBLE,
    entry_price DOUBLE,
    liq_price DOUBLE,
    quantity DOUBLE NOT NULL,
    volume DOUBLE NOT NULL,
    opened_at TIMESTAMP
);
COMMENT ON TABLE position_events IS 'What opened (per candle, side, leverage and entry price), closed (per candle and book) and was liquidated (per lot); modelled';
COMMENT ON COLUMN position_events.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN position_events.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN position_events.timestamp IS 'Start of the candle in which it happened, UTC';
COMMENT ON COLUMN position_events.event_type IS 'liquidate, close or open, in the order in which they happen within a candle';
COMMENT ON COLUMN position_events.side IS 'Of the positions; NULL where a closing took from a book that holds both sides';
COMMENT ON COLUMN position_events.leverage IS 'How many times the margin the position is; NULL of a close';
COMMENT ON COLUMN position_events.entry_price IS 'Price at which it opened, of a lot the mean, quote asset; NULL of a close';
COMMENT ON COLUMN position_events.liq_price IS 'Price that liquidates it, quote asset; NULL of a close';
COMMENT ON COLUMN position_events.quantity IS 'Contracts; of a close with the unlocated part';
COMMENT ON COLUMN position_events.volume IS 'Quote asset at entry; of a close that of located lots';
COMMENT ON COLUMN position_events.opened_at IS 'Start of the candle that opened first into the lot, UTC; of a liquidation equal to timestamp where the close of its own candle had passed its price; NULL of a close';

CREATE TABLE open_positions (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    side side_name NOT NULL,
    leverage DOUBLE NOT NULL,
    entry_price DOUBLE NOT NULL,
    liq_price DOUBLE NOT NULL,
    quantity DOUBLE NOT NULL,
    volume DOUBLE NOT NULL,
    opened_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE open_positions IS 'The lots at the end of the days of lot_days: the newest 31 and each last of a month; quantity contracts, volume quote asset at entry, opened_at the earliest opening; modelled';
COMMENT ON COLUMN open_positions.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN open_positions.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN open_positions.day IS 'The day at whose end (the next midnight, UTC) the lot was open';
COMMENT ON COLUMN open_positions.side IS 'Of the positions';
COMMENT ON COLUMN open_positions.leverage IS 'How many times the margin the position is';
COMMENT ON COLUMN open_positions.entry_price IS 'Mean price at which the lot opened, quote asset';
COMMENT ON COLUMN open_positions.liq_price IS 'Price that liquidates it, quote asset';
COMMENT ON COLUMN open_positions.quantity IS 'What is left of the lot, contracts';
COMMENT ON COLUMN open_positions.volume IS 'The same at its entry price, quote asset';
COMMENT ON COLUMN open_positions.opened_at IS 'Start of the candle that opened first into the lot, UTC';

CREATE TABLE book_ledger (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    side side_name,
    open_interest DOUBLE NOT NULL,
    opened DOUBLE NOT NULL,
    liquidated DOUBLE NOT NULL,
    liquidated_at_once DOUBLE NOT NULL,
    closed DOUBLE NOT NULL,
    dropped DOUBLE NOT NULL,
    rescaled DOUBLE NOT NULL,
    located DOUBLE NOT NULL,
    unlocated DOUBLE NOT NULL,
    active_volume DOUBLE NOT NULL,
    consumed_volume DOUBLE NOT NULL
);
COMMENT ON TABLE book_ledger IS 'One row per model candle and book; contracts, active_volume and consumed_volume in the quote asset; modelled but for open_interest';
COMMENT ON COLUMN book_ledger.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN book_ledger.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN book_ledger.timestamp IS 'Start of the candle, UTC; the state is the one at its end';
COMMENT ON COLUMN book_ledger.side IS 'Of the book; NULL where one book holds both sides';
COMMENT ON COLUMN book_ledger.open_interest IS 'Open interest of the exchange at the end of the candle, contracts';
COMMENT ON COLUMN book_ledger.opened IS 'What opened in the candle, contracts; with what was liquidated at once';
COMMENT ON COLUMN book_ledger.liquidated IS 'Contracts of lots of earlier candles that price reached';
COMMENT ON COLUMN book_ledger.liquidated_at_once IS 'Contracts of lots that the close of their own candle had passed; part of opened, and unlocated since';
COMMENT ON COLUMN book_ledger.closed IS 'What was closed in the candle, contracts; with the unlocated part';
COMMENT ON COLUMN book_ledger.dropped IS 'What the book lost as dust, contracts';
COMMENT ON COLUMN book_ledger.rescaled IS 'Contracts that a shift of the level of the open interest added; below 0 it took away';
COMMENT ON COLUMN book_ledger.located IS 'What has a liquidation price at the end of the candle, contracts';
COMMENT ON COLUMN book_ledger.unlocated IS 'What is open without one, contracts';
COMMENT ON COLUMN book_ledger.active_volume IS 'Volume at entry of what is located, quote asset';
COMMENT ON COLUMN book_ledger.consumed_volume IS 'Volume at entry of what was liquidated in the candle, quote asset';

CREATE TABLE liquidation_snapshots (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    price_bucket DOUBLE NOT NULL,
    side side_name NOT NULL,
    active_volume DOUBLE NOT NULL,
    consumed_volume DOUBLE NOT NULL
);
COMMENT ON TABLE liquidation_snapshots IS 'Cells of the heatmap: volume in the quote asset per interval (by its start), price bucket (lower edge, quote asset) and side; of the days of snapshot_days only (HEATMAP_KEEP_CELLS); modelled';
COMMENT ON COLUMN liquidation_snapshots.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN liquidation_snapshots.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN liquidation_snapshots.timestamp IS 'Start of the interval, UTC; active_volume is known at its end only: join candles by state_at of the view heatmap';
COMMENT ON COLUMN liquidation_snapshots.price_bucket IS 'Lower edge of the price bucket, quote asset';
COMMENT ON COLUMN liquidation_snapshots.side IS 'Of the positions';
COMMENT ON COLUMN liquidation_snapshots.active_volume IS 'Quote asset at entry still open at the end of the interval';
COMMENT ON COLUMN liquidation_snapshots.consumed_volume IS 'Quote asset at entry liquidated within the interval';

CREATE TABLE heatmap_days (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    input_hash VARCHAR NOT NULL,
    previous_hash VARCHAR NOT NULL,
    state_hash VARCHAR NOT NULL,
    parameters VARCHAR NOT NULL,
    repairs VARCHAR NOT NULL,
    provisional BOOLEAN NOT NULL,
    created_at TIMESTAMP NOT NULL,
    state VARCHAR NOT NULL
);
COMMENT ON TABLE heatmap_days IS 'The chain: each computed day with the hashes of its input, of the state it started from and of the state it left';
COMMENT ON COLUMN heatmap_days.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN heatmap_days.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN heatmap_days.day IS 'The computed day, UTC';
COMMENT ON COLUMN heatmap_days.input_hash IS 'Hash of what the day was computed from besides the state before it';
COMMENT ON COLUMN heatmap_days.previous_hash IS 'state_hash of the day before; empty at the start of a history';
COMMENT ON COLUMN heatmap_days.state_hash IS 'Hash of the state the day left';
COMMENT ON COLUMN heatmap_days.parameters IS 'JSON: the numbers the day was computed with; the view model_parameters has them as columns';
COMMENT ON COLUMN heatmap_days.repairs IS 'JSON: how often each repair was made on the input of the day';
COMMENT ON COLUMN heatmap_days.provisional IS 'Whether the day was not over yet';
COMMENT ON COLUMN heatmap_days.created_at IS 'When it was computed, UTC';
COMMENT ON COLUMN heatmap_days.state IS 'JSON: what the day carries to the next besides the lots';

CREATE TABLE snapshot_days (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    state_hash VARCHAR NOT NULL,
    interval_seconds BIGINT NOT NULL,
    rows BIGINT NOT NULL
);
COMMENT ON TABLE snapshot_days IS 'The days whose cells are stored in liquidation_snapshots, and the state each was made from; of a computed day that is missing here no cells are kept';
COMMENT ON COLUMN snapshot_days.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN snapshot_days.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN snapshot_days.day IS 'The day of the cells, UTC';
COMMENT ON COLUMN snapshot_days.state_hash IS 'state_hash of the computed day the cells show';
COMMENT ON COLUMN snapshot_days.interval_seconds IS 'Width of an interval, seconds';
COMMENT ON COLUMN snapshot_days.rows IS 'Number of cells';

CREATE TABLE lot_days (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    state_hash VARCHAR NOT NULL
);
COMMENT ON TABLE lot_days IS 'The days whose lots are stored in open_positions; those of any other computed day follow from the nearest of these before it';
COMMENT ON COLUMN lot_days.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN lot_days.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN lot_days.day IS 'The day at whose end (the next midnight, UTC) the lots were open';
COMMENT ON COLUMN lot_days.state_hash IS 'state_hash of the computed day that left them';

CREATE TABLE coarse_days (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    cells BIGINT NOT NULL,
    digits BIGINT NOT NULL
);
COMMENT ON TABLE coarse_days IS 'Days that had more cells than are stored of one, and how many: those far from the price are put together in liquidation_snapshots';
COMMENT ON COLUMN coarse_days.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN coarse_days.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN coarse_days.day IS 'The day of the cells, UTC';
COMMENT ON COLUMN coarse_days.cells IS 'Number of cells before they were put together';
COMMENT ON COLUMN coarse_days.digits IS 'Leading digits that are kept of the number of a bucket, price_bucket / bucket of the day; the rest are 0';

CREATE TABLE saved_snapshots (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    positions_created BIGINT NOT NULL,
    positions_consumed BIGINT NOT NULL,
    content_hash VARCHAR NOT NULL
);
COMMENT ON TABLE saved_snapshots IS 'Snapshots that were saved by hand, one row each, also when a snapshot has no cell';
COMMENT ON COLUMN saved_snapshots.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN saved_snapshots.model IS 'Name it was saved under';
COMMENT ON COLUMN saved_snapshots.timestamp IS 'Instant of the snapshot as it was saved, UTC';
COMMENT ON COLUMN saved_snapshots.positions_created IS 'Number of openings';
COMMENT ON COLUMN saved_snapshots.positions_consumed IS 'Number of lots that price reached';
COMMENT ON COLUMN saved_snapshots.content_hash IS 'Hash of its cells';

CREATE TABLE map_scores (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    "window" VARCHAR NOT NULL,
    side side_name NOT NULL,
    horizon VARCHAR NOT NULL,
    measure VARCHAR NOT NULL,
    baseline VARCHAR NOT NULL,
    value DOUBLE,
    low DOUBLE,
    high DOUBLE,
    difference DOUBLE,
    difference_low DOUBLE,
    difference_high DOUBLE,
    hours BIGINT NOT NULL,
    parameters VARCHAR NOT NULL
);
COMMENT ON TABLE map_scores IS 'How well predicted and really reported liquidations agree (docs/score.md), in long form; NULL = undefined; parameters JSON';
COMMENT ON COLUMN map_scores.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN map_scores.model IS 'Model that is scored; its numbers are in model_parameters';
COMMENT ON COLUMN map_scores.source IS 'exchange_kind: whose liquidations it was held against';
COMMENT ON COLUMN map_scores."window" IS 'Which hours: 28d (the newest 28 days, UTC) or all';
COMMENT ON COLUMN map_scores.side IS 'Of the positions';
COMMENT ON COLUMN map_scores.horizon IS 'nowcast: all lots liquidated in an hour; at_start: of those that stood before it; empty of counts';
COMMENT ON COLUMN map_scores.measure IS 'spearman, partial, level, log_error, lift, or a count: hours_with_reports, days';
COMMENT ON COLUMN map_scores.baseline IS 'The rule whose value this is; empty for the model itself';
COMMENT ON COLUMN map_scores.value IS 'Of the model or of the baseline: spearman and partial from -1 to 1, level and lift a ratio, log_error a logarithm, counts a number; NULL = undefined';
COMMENT ON COLUMN map_scores.low IS 'Lower end of the 95 % interval of value, in its unit; NULL where there is none';
COMMENT ON COLUMN map_scores.high IS 'Upper end of the 95 % interval of value, in its unit; NULL where there is none';
COMMENT ON COLUMN map_scores.difference IS 'Model minus baseline over the hours that know both, in the unit of value';
COMMENT ON COLUMN map_scores.difference_low IS 'Lower end of the 95 % interval of difference, in the unit of value';
COMMENT ON COLUMN map_scores.difference_high IS 'Upper end of the 95 % interval of difference, in the unit of value';
COMMENT ON COLUMN map_scores.hours IS 'Number of hours that value was computed from';
COMMENT ON COLUMN map_scores.parameters IS 'JSON: how it was computed';

CREATE TABLE score_hours (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    hour TIMESTAMP NOT NULL,
    side side_name NOT NULL,
    predicted DOUBLE,
    predicted_at_start DOUBLE,
    reported DOUBLE,
    recorded BOOLEAN NOT NULL,
    open DOUBLE,
    high DOUBLE,
    low DOUBLE,
    volume DOUBLE,
    move DOUBLE,
    extreme DOUBLE,
    volume_only DOUBLE,
    volume_only_at_start DOUBLE
);
COMMENT ON TABLE score_hours IS 'Per hour (by its start) and side of the position, what map_scores is computed from: contracts, prices in the quote asset, NULL = unknown';
COMMENT ON COLUMN score_hours.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN score_hours.model IS 'Model that is scored; its numbers are in model_parameters';
COMMENT ON COLUMN score_hours.source IS 'exchange_kind: whose liquidations it was held against';
COMMENT ON COLUMN score_hours.hour IS 'Start of the hour, UTC';
COMMENT ON COLUMN score_hours.side IS 'Of the positions';
COMMENT ON COLUMN score_hours.predicted IS 'What the model liquidated in the hour, contracts';
COMMENT ON COLUMN score_hours.predicted_at_start IS 'Of that what had opened before the hour, contracts';
COMMENT ON COLUMN score_hours.reported IS 'What was really liquidated, contracts; NULL where the source did not record all of the hour';
COMMENT ON COLUMN score_hours.recorded IS 'Whether the source recorded all of the hour; where it did not, reported is NULL and never 0';
COMMENT ON COLUMN score_hours.open IS 'First price of the hour, quote asset';
COMMENT ON COLUMN score_hours.high IS 'Highest price of the hour, quote asset';
COMMENT ON COLUMN score_hours.low IS 'Lowest price of the hour, quote asset';
COMMENT ON COLUMN score_hours.volume IS 'What was traded in the hour, contracts';
COMMENT ON COLUMN score_hours.move IS 'From the open to the low (longs) or the high (shorts), as a share of the open';
COMMENT ON COLUMN score_hours.extreme IS 'How far its candles went beyond the 60 minutes before each, summed, as a share of the price';
COMMENT ON COLUMN score_hours.volume_only IS 'What the map from volume alone liquidated in the hour, contracts; NULL where there is no such map';
COMMENT ON COLUMN score_hours.volume_only_at_start IS 'Of that what had opened before the hour, contracts';

CREATE TABLE score_days (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    hours_hash VARCHAR NOT NULL
);
COMMENT ON TABLE score_days IS 'A hash of each day of score_hours';
COMMENT ON COLUMN score_days.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN score_days.model IS 'Model that is scored; its numbers are in model_parameters';
COMMENT ON COLUMN score_days.day IS 'The day of the hours, UTC';
COMMENT ON COLUMN score_days.hours_hash IS 'Hash of its rows of score_hours';

CREATE TABLE failed_days (
    symbol VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    day DATE NOT NULL,
    message VARCHAR NOT NULL,
    failed_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE failed_days IS 'Days that failed and were not yet repaired; private: always empty in heatmap.duckdb';
COMMENT ON COLUMN failed_days.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN failed_days.stage IS 'Asset that failed';
COMMENT ON COLUMN failed_days.day IS 'The day it failed at, UTC';
COMMENT ON COLUMN failed_days.message IS 'What was wrong and what to do, in words';
COMMENT ON COLUMN failed_days.failed_at IS 'When it failed, UTC';

-- `known_at`, not `timestamp`: an alert belongs to the instant at which it was known, which is no start of an interval.
CREATE TABLE alerts (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    known_at TIMESTAMP NOT NULL,
    rule VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    side side_name NOT NULL,
    price DOUBLE NOT NULL,
    low DOUBLE,
    high DOUBLE,
    peak DOUBLE,
    volume DOUBLE NOT NULL,
    words VARCHAR NOT NULL
);
COMMENT ON TABLE alerts IS 'What the rules of HEATMAP_ALERTS told, each once (docs/alerts.md); the newest 1,000 of each symbol';
COMMENT ON COLUMN alerts.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN alerts.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN alerts.known_at IS 'When it was known: the end of a candle, UTC';
COMMENT ON COLUMN alerts.rule IS 'Name of the rule in the file';
COMMENT ON COLUMN alerts.kind IS 'near, appears, consumed or cascade';
COMMENT ON COLUMN alerts.side IS 'Of the positions that would be, or were, liquidated';
COMMENT ON COLUMN alerts.price IS 'Close at that instant, quote asset';
COMMENT ON COLUMN alerts.low IS 'Lower edge of the zone, quote asset; NULL for a cascade';
COMMENT ON COLUMN alerts.high IS 'Upper edge of the zone, quote asset; NULL for a cascade';
COMMENT ON COLUMN alerts.peak IS 'Where the zone is thickest, quote asset; NULL for a cascade';
COMMENT ON COLUMN alerts.volume IS 'Of the zone, or liquidated within the hour, as modelled, quote asset';
COMMENT ON COLUMN alerts.words IS 'The alert in a sentence';

CREATE TABLE alert_watches (
    symbol VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    definition VARCHAR NOT NULL,
    evaluated TIMESTAMP NOT NULL,
    memory VARCHAR NOT NULL
);
COMMENT ON TABLE alert_watches IS 'What each rule remembers of a symbol; private: always empty in heatmap.duckdb';
COMMENT ON COLUMN alert_watches.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN alert_watches.rule IS 'Name of the rule in the file';
COMMENT ON COLUMN alert_watches.definition IS 'The rule when it last looked, JSON: another one begins anew';
COMMENT ON COLUMN alert_watches.evaluated IS 'The newest end of a candle that it was shown, UTC';
COMMENT ON COLUMN alert_watches.memory IS 'What it remembers from there on, JSON';

-- The start of the newest interval of each symbol and model, also when its book is empty and it has no cell.
CREATE VIEW newest_states AS
WITH last_days AS (
    SELECT symbol, model, max(day) AS day, arg_max(interval_seconds, day) AS seconds
    FROM snapshot_days GROUP BY symbol, model
), instants AS (
    SELECT l.symbol, l.model,
        make_timestamp(epoch_us(max(l.timestamp)) // (any_value(d.seconds) * 1000000) * (any_value(d.seconds) * 1000000)) AS timestamp
    FROM book_ledger AS l JOIN last_days AS d ON l.symbol = d.symbol AND l.model = d.model
    WHERE l.timestamp < CAST(d.day + 1 AS TIMESTAMP)
    GROUP BY l.symbol, l.model
    UNION ALL
    SELECT symbol, model, max(timestamp) FROM liquidation_snapshots GROUP BY symbol, model
    UNION ALL
    SELECT symbol, model, max(timestamp) FROM saved_snapshots GROUP BY symbol, model
)
SELECT symbol, model, max(timestamp) AS timestamp FROM instants GROUP BY symbol, model;
COMMENT ON VIEW newest_states IS 'Start of the newest interval per symbol and model';
COMMENT ON COLUMN newest_states.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN newest_states.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN newest_states.timestamp IS 'Start of the newest interval, UTC';

-- Longs lie below the price and shorts above it, but for the bucket that holds the price, which may hold both. So
-- cumulative_volume, from the price outward, is for buckets at or below the price (price_bucket <= close) the sum of all
-- longs in it and above it, and for buckets above the price the sum of all shorts in it and below it.
CREATE VIEW liquidation_map AS
WITH closes AS (
    SELECT n.symbol, n.model, arg_max(c.close, c.open_time) AS close
    FROM newest_states AS n JOIN raw_candles AS c ON c.symbol = n.symbol
    WHERE c.day <= CAST(n.timestamp AS DATE)
    GROUP BY n.symbol, n.model
), cells AS (
    SELECT s.symbol, s.model, s.timestamp, s.price_bucket,
        coalesce(sum(s.active_volume) FILTER (WHERE s.side = 'long'), 0) AS long_volume,
        coalesce(sum(s.active_volume) FILTER (WHERE s.side = 'short'), 0) AS short_volume
    FROM liquidation_snapshots AS s
    JOIN newest_states AS n ON s.symbol = n.symbol AND s.model = n.model AND s.timestamp = n.timestamp
    WHERE s.active_volume > 0
    GROUP BY s.symbol, s.model, s.timestamp, s.price_bucket
)
SELECT c.symbol, c.model, c.timestamp, c.price_bucket, c.long_volume, c.short_volume,
    100 * (c.price_bucket / p.close - 1) AS distance_percent,
    CASE WHEN p.close IS NULL THEN NULL
         WHEN c.price_bucket <= p.close THEN sum(c.long_volume) OVER downward
         ELSE sum(c.short_volume) OVER upward END AS cumulative_volume,
    p.close, CAST(c.timestamp + to_seconds(d.interval_seconds) AS TIMESTAMP) AS state_at
FROM cells AS c LEFT JOIN closes AS p ON c.symbol = p.symbol AND c.model = p.model
LEFT JOIN snapshot_days AS d ON d.symbol = c.symbol AND d.model = c.model AND d.day = CAST(c.timestamp AS DATE)
WINDOW downward AS (PARTITION BY c.symbol, c.model ORDER BY c.price_bucket DESC),
       upward AS (PARTITION BY c.symbol, c.model ORDER BY c.price_bucket)
ORDER BY c.symbol, c.model, c.price_bucket;
COMMENT ON VIEW liquidation_map IS 'The newest heatmap column: volume in the quote asset per price bucket, distance of its lower edge from the close in percent, cumulative volume from the price outward; modelled';
COMMENT ON COLUMN liquidation_map.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN liquidation_map.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN liquidation_map.timestamp IS 'Start of the newest interval, UTC';
COMMENT ON COLUMN liquidation_map.price_bucket IS 'Lower edge of the price bucket, quote asset';
COMMENT ON COLUMN liquidation_map.long_volume IS 'Longs that would be liquidated in it, quote asset at entry';
COMMENT ON COLUMN liquidation_map.short_volume IS 'Shorts that would be liquidated in it, quote asset at entry';
COMMENT ON COLUMN liquidation_map.distance_percent IS 'From close to price_bucket, percent of close';
COMMENT ON COLUMN liquidation_map.cumulative_volume IS 'What price would liquidate on its way from close through the bucket, quote asset at entry: longs at or below close, shorts above it';
COMMENT ON COLUMN liquidation_map.close IS 'Newest price, quote asset';
COMMENT ON COLUMN liquidation_map.state_at IS 'End of the interval, UTC: the instant whose state this is; of an interval still going on it is yet to come';

-- Longs lie below the price and shorts above it, so that of millions of buckets a handful per day hold both. Putting the
-- two rows of every bucket together by GROUP BY takes four times as long as doing it only between the lowest short and
-- the highest long of an instant, outside of which a bucket has one row. A test holds the view against GROUP BY.
CREATE VIEW heatmap AS
WITH reaches AS (
    SELECT symbol, model, timestamp,
        min(price_bucket) FILTER (WHERE side = 'short') AS lowest_short,
        max(price_bucket) FILTER (WHERE side = 'long') AS highest_long
    FROM liquidation_snapshots GROUP BY symbol, model, timestamp
), instants AS (
    SELECT r.symbol, r.model, r.timestamp, coalesce(r.lowest_short, 'infinity') AS lowest_short,
        coalesce(r.highest_long, '-infinity') AS highest_long,
        1000000 * d.interval_seconds AS width
    FROM reaches AS r
    LEFT JOIN snapshot_days AS d ON d.symbol = r.symbol AND d.model = r.model AND d.day = CAST(r.timestamp AS DATE)
)
SELECT s.symbol, s.model, s.timestamp, s.price_bucket,
    CASE WHEN s.side = 'long' THEN s.active_volume ELSE 0 END AS long_volume,
    CASE WHEN s.side = 'short' THEN s.active_volume ELSE 0 END AS short_volume,
    CASE WHEN s.side = 'long' THEN s.consumed_volume ELSE 0 END AS long_consumed_volume,
    CASE WHEN s.side = 'short' THEN s.consumed_volume ELSE 0 END AS short_consumed_volume,
    make_timestamp(epoch_us(s.timestamp) + i.width) AS state_at
FROM liquidation_snapshots AS s
JOIN instants AS i ON i.symbol = s.symbol AND i.model = s.model AND i.timestamp = s.timestamp
WHERE s.price_bucket < i.lowest_short OR s.price_bucket > i.highest_long
UNION ALL
SELECT s.symbol, s.model, s.timestamp, s.price_bucket,
    coalesce(sum(s.active_volume) FILTER (WHERE s.side = 'long'), 0),
    coalesce(sum(s.active_volume) FILTER (WHERE s.side = 'short'), 0),
    coalesce(sum(s.consumed_volume) FILTER (WHERE s.side = 'long'), 0),
    coalesce(sum(s.consumed_volume) FILTER (WHERE s.side = 'short'), 0),
    make_timestamp(epoch_us(s.timestamp) + any_value(i.width))
FROM liquidation_snapshots AS s
JOIN instants AS i ON i.symbol = s.symbol AND i.model = s.model AND i.timestamp = s.timestamp
WHERE i.lowest_short <= i.highest_long AND s.price_bucket BETWEEN i.lowest_short AND i.highest_long
GROUP BY s.symbol, s.model, s.timestamp, s.price_bucket;
COMMENT ON VIEW heatmap IS 'liquidation_snapshots with long and short side by side, in the quote asset; of the days whose cells are kept (snapshot_days); modelled';
COMMENT ON COLUMN heatmap.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN heatmap.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN heatmap.timestamp IS 'Start of the interval, UTC';
COMMENT ON COLUMN heatmap.price_bucket IS 'Lower edge of the price bucket, quote asset';
COMMENT ON COLUMN heatmap.long_volume IS 'Longs still open at the end of the interval, quote asset at entry';
COMMENT ON COLUMN heatmap.short_volume IS 'Shorts still open at the end of the interval, quote asset at entry';
COMMENT ON COLUMN heatmap.long_consumed_volume IS 'Longs liquidated within the interval, quote asset at entry';
COMMENT ON COLUMN heatmap.short_consumed_volume IS 'Shorts liquidated within the interval, quote asset at entry';
COMMENT ON COLUMN heatmap.state_at IS 'End of the interval, UTC: the instant whose state this is, and the first at which it can be known. Join candles that open at or after it; NULL of snapshots saved by hand';

-- The bucket follows the price, each a divisor of the next. Rows of days with different buckets are put together in the
-- largest of them, B: floor(price_bucket / B) * B.
CREATE VIEW buckets AS
SELECT symbol, model, day, CAST(json_extract(parameters, '$.bucket') AS DOUBLE) AS bucket FROM heatmap_days;
COMMENT ON VIEW buckets IS 'Height of a price bucket of each computed day, quote asset; put days together in the largest of theirs';
COMMENT ON COLUMN buckets.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN buckets.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN buckets.day IS 'The computed day, UTC';
COMMENT ON COLUMN buckets.bucket IS 'Height of a price bucket, quote asset';

-- The books of a base's markets side by side; their sum is the map of the base. Buckets of a market that are finer than the
-- largest of its base and day are put together, by price, so that the sums are the same to the last bit every time.
CREATE VIEW heatmap_by_base AS
WITH heights AS (
    SELECT s.base, s.exchange, b.symbol, b.model, b.day, CAST(round(b.bucket * 1e8) AS BIGINT) AS own,
        max(CAST(round(b.bucket * 1e8) AS BIGINT)) OVER (PARTITION BY s.base, b.model, b.day) AS units,
        1000000 * d.interval_seconds AS width
    FROM buckets AS b JOIN symbols AS s ON s.symbol = b.symbol
    LEFT JOIN snapshot_days AS d ON d.symbol = b.symbol AND d.model = b.model AND d.day = b.day
    WHERE s.base <> ''
)
SELECT h.base, c.model, c.timestamp, c.price_bucket, h.exchange, c.symbol, c.side, c.active_volume, c.consumed_volume,
    make_timestamp(epoch_us(c.timestamp) + h.width) AS state_at
FROM liquidation_snapshots AS c
JOIN heights AS h ON h.symbol = c.symbol AND h.model = c.model AND h.day = CAST(c.timestamp AS DATE)
WHERE h.own = h.units
UNION ALL
SELECT h.base, c.model, c.timestamp, CAST(round(c.price_bucket * 1e8) AS BIGINT) // h.units * h.units / 1e8,
    h.exchange, c.symbol, c.side, sum(c.active_volume ORDER BY c.price_bucket), sum(c.consumed_volume ORDER BY c.price_bucket),
    make_timestamp(epoch_us(c.timestamp) + any_value(h.width))
FROM liquidation_snapshots AS c
JOIN heights AS h ON h.symbol = c.symbol AND h.model = c.model AND h.day = CAST(c.timestamp AS DATE)
WHERE h.own < h.units
GROUP BY h.base, h.exchange, c.symbol, c.model, c.timestamp, c.side, h.units, CAST(round(c.price_bucket * 1e8) AS BIGINT) // h.units;
COMMENT ON VIEW heatmap_by_base IS 'liquidation_snapshots of all markets of a base in the largest bucket of theirs that day: the sum over exchange and symbol is the map of the base, as docs/api.md has it; a market without rows at a timestamp is missing or empty there; of the days whose cells are kept (snapshot_days); modelled';
COMMENT ON COLUMN heatmap_by_base.base IS 'The asset that one contract is, as in symbols; markets of which nobody said it are left out';
COMMENT ON COLUMN heatmap_by_base.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN heatmap_by_base.timestamp IS 'Start of the interval, UTC';
COMMENT ON COLUMN heatmap_by_base.price_bucket IS 'Lower edge of the price bucket, quote asset; its height is the largest of the markets of the base on that day';
COMMENT ON COLUMN heatmap_by_base.exchange IS 'Where the market is traded, as in symbols';
COMMENT ON COLUMN heatmap_by_base.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN heatmap_by_base.side IS 'Of the positions';
COMMENT ON COLUMN heatmap_by_base.active_volume IS 'Still open at the end of the interval, quote asset of the market at entry; of several (USDT, USDC, ...) added one for one as dollars';
COMMENT ON COLUMN heatmap_by_base.consumed_volume IS 'Liquidated within the interval, quote asset of the market at entry';
COMMENT ON COLUMN heatmap_by_base.state_at IS 'End of the interval, UTC: the instant whose state this is, and the first at which it can be known; join candles that open at or after it';

-- The sources of real liquidations that are stored of each symbol. One of them is chosen: whose sums fit into hours, then
-- the market's own exchange, then one that prints every liquidation, then the one that recorded most; the name decides
-- what is left.
CREATE VIEW liquidation_sources AS
WITH spans AS (
    SELECT symbol, source, min("from") AS "from", max("to") AS "to",
        sum(epoch_us("to") - epoch_us("from")) / 3.6e9 AS recorded_hours
    FROM recorded GROUP BY symbol, source
), kinds AS (
    SELECT symbol, source, bool_and(complete) AS complete, max(resolution_seconds) AS resolution_seconds,
        bool_and(resolution_seconds = 0 OR 3600 % greatest(resolution_seconds, 1) = 0) AS hourly,
        count(*) AS rows, max(timestamp) AS newest
    FROM raw_liquidations GROUP BY symbol, source
), told AS (
    SELECT s.symbol, s.source, split_part(s.source, '_', 1) AS exchange,
        split_part(s.source, '_', 1) = coalesce(y.exchange, 'binance') AS own_exchange,
        coalesce(k.complete, false) AS complete,
        k.resolution_seconds, coalesce(k.hourly, true) AS hourly, coalesce(k.rows, 0) AS rows, s."from", s."to",
        s.recorded_hours, k.newest
    FROM spans AS s LEFT JOIN kinds AS k ON k.symbol = s.symbol AND k.source = s.source
    LEFT JOIN symbols AS y ON y.symbol = s.symbol
)
SELECT symbol, source, exchange, own_exchange, complete, resolution_seconds, rows, "from", "to", recorded_hours, newest,
    hourly AND row_number() OVER (
        PARTITION BY symbol ORDER BY hourly DESC, own_exchange DESC, complete DESC, recorded_hours DESC, source
    ) = 1 AS chosen
FROM told;
COMMENT ON VIEW liquidation_sources IS 'Sources of real liquidations per symbol: whose, how much was recorded, and which one is chosen for the hours';
COMMENT ON COLUMN liquidation_sources.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN liquidation_sources.source IS 'exchange_kind: whose liquidations, and how they came here';
COMMENT ON COLUMN liquidation_sources.exchange IS 'Whose liquidations they are';
COMMENT ON COLUMN liquidation_sources.own_exchange IS 'Whether that is the exchange of the symbol';
COMMENT ON COLUMN liquidation_sources.complete IS 'Whether the source prints every liquidation';
COMMENT ON COLUMN liquidation_sources.resolution_seconds IS '0 = single liquidations, else the seconds of the longest sum; NULL where there is no row';
COMMENT ON COLUMN liquidation_sources.rows IS 'Number of stored rows';
COMMENT ON COLUMN liquidation_sources."from" IS 'Start of what was recorded, UTC';
COMMENT ON COLUMN liquidation_sources."to" IS 'End of what was recorded, UTC';
COMMENT ON COLUMN liquidation_sources.recorded_hours IS 'How much of the time between was recorded, hours';
COMMENT ON COLUMN liquidation_sources.newest IS 'Newest liquidation, UTC; NULL where there is none';
COMMENT ON COLUMN liquidation_sources.chosen IS 'Whether liquidations_hourly is made from it';

-- Per hour of a model's history and side, contracts: what the model liquidated, of that what stood open before the hour,
-- and what the chosen source reported. An hour counts as recorded from 98 % of it on, as a recorder loses some seconds
-- where it connects again; any other hour has no report (NULL), which is not 0.
CREATE VIEW liquidations_hourly AS
WITH hours AS (
    SELECT symbol, model, date_trunc('hour', timestamp) AS hour
    FROM book_ledger GROUP BY ALL
), predicted AS (
    SELECT symbol, model, date_trunc('hour', timestamp) AS hour, side, sum(quantity) AS quantity,
        sum(quantity) FILTER (WHERE opened_at < date_trunc('hour', timestamp)) AS at_start,
        sum(volume) AS volume, count(*) AS lots
    FROM position_events WHERE event_type = 'liquidate' GROUP BY ALL
), chosen AS (
    SELECT symbol, source FROM liquidation_sources WHERE chosen
), reported AS (
    SELECT l.symbol, date_trunc('hour', l.timestamp) AS hour, l.side, sum(l.quantity) AS quantity,
        CASE WHEN count(l.volume) = count(*) THEN sum(l.volume) END AS volume, count(*) AS rows
    FROM raw_liquidations AS l JOIN chosen AS c ON c.symbol = l.symbol AND c.source = l.source
    GROUP BY ALL
), stretches AS (
    SELECT r.symbol, r."from", r."to", unnest(range(
        date_trunc('hour', r."from"), date_trunc('hour', r."to" - INTERVAL 1 MICROSECOND) + INTERVAL 1 HOUR, INTERVAL 1 HOUR
    )) AS hour
    FROM recorded AS r JOIN chosen AS c ON c.symbol = r.symbol AND c.source = r.source
), watched AS (
    SELECT symbol, hour FROM stretches GROUP BY symbol, hour
    HAVING sum(epoch_us(least("to", hour + INTERVAL 1 HOUR)) - epoch_us(greatest("from", hour))) >= 0.98 * 3.6e9
), sides AS (SELECT CAST(unnest(enum_range(NULL::side_name)) AS side_name) AS side)
SELECT h.symbol, h.model, h.hour, s.side, coalesce(p.quantity, 0) AS predicted,
    coalesce(p.at_start, 0) AS predicted_at_start,
    CASE WHEN w.hour IS NOT NULL THEN coalesce(r.quantity, 0) END AS reported,
    w.hour IS NOT NULL AS recorded, c.source,
    coalesce(p.volume, 0) AS predicted_volume, coalesce(p.lots, 0) AS predicted_lots,
    CASE WHEN w.hour IS NOT NULL AND r.rows IS NULL THEN 0 WHEN w.hour IS NOT NULL THEN r.volume END AS reported_volume
FROM hours AS h CROSS JOIN sides AS s
LEFT JOIN predicted AS p ON p.symbol = h.symbol AND p.model = h.model AND p.hour = h.hour AND p.side = s.side
LEFT JOIN chosen AS c ON c.symbol = h.symbol
LEFT JOIN watched AS w ON w.symbol = h.symbol AND w.hour = h.hour
LEFT JOIN reported AS r ON r.symbol = h.symbol AND r.hour = h.hour AND r.side = s.side;
COMMENT ON VIEW liquidations_hourly IS 'Liquidated per hour and side: by the model, of that opened before the hour, and reported by the chosen source (NULL = not recorded)';
COMMENT ON COLUMN liquidations_hourly.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN liquidations_hourly.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN liquidations_hourly.hour IS 'Start of the hour, UTC';
COMMENT ON COLUMN liquidations_hourly.side IS 'Of the positions';
COMMENT ON COLUMN liquidations_hourly.predicted IS 'What the model liquidated in the hour, contracts';
COMMENT ON COLUMN liquidations_hourly.predicted_at_start IS 'Of that what had opened before the hour, contracts';
COMMENT ON COLUMN liquidations_hourly.reported IS 'What the chosen source reported, contracts; NULL where it did not record the hour';
COMMENT ON COLUMN liquidations_hourly.recorded IS 'Whether the chosen source recorded at least 98 % of the hour';
COMMENT ON COLUMN liquidations_hourly.source IS 'exchange_kind of the chosen source; NULL where there is none';
COMMENT ON COLUMN liquidations_hourly.predicted_volume IS 'What the model liquidated in the hour, quote asset at entry';
COMMENT ON COLUMN liquidations_hourly.predicted_lots IS 'Number of lots the model liquidated in the hour';
COMMENT ON COLUMN liquidations_hourly.reported_volume IS 'What the chosen source reported, quote asset; NULL where it did not record the hour, or not what was paid';

CREATE VIEW located_shares AS
WITH ends AS (
    SELECT symbol, model, CAST(timestamp AS DATE) AS day, max(timestamp) AS timestamp FROM book_ledger GROUP BY ALL
)
SELECT e.symbol, e.model, e.day, any_value(l.open_interest) AS open_interest, avg(l.located) AS located,
    CASE WHEN any_value(l.open_interest) > 0 THEN avg(l.located) / any_value(l.open_interest) ELSE 0 END AS located_share
FROM ends AS e JOIN book_ledger AS l ON l.symbol = e.symbol AND l.model = e.model AND l.timestamp = e.timestamp
GROUP BY e.symbol, e.model, e.day;
COMMENT ON VIEW located_shares IS 'How much of the open interest the map puts at a liquidation price, per day; modelled';
COMMENT ON COLUMN located_shares.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN located_shares.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN located_shares.day IS 'The day at the end of whose last candle this is, UTC';
COMMENT ON COLUMN located_shares.open_interest IS 'Open interest of the exchange, contracts';
COMMENT ON COLUMN located_shares.located IS 'What has a liquidation price, contracts; where there is a book per side the mean of the two';
COMMENT ON COLUMN located_shares.located_share IS 'located / open_interest, a share from 0 to 1; 0 without open interest';

CREATE VIEW leverage_mix AS
SELECT symbol, model, day, side, leverage, count(*) AS lots, sum(quantity) AS quantity, sum(volume) AS volume,
    sum(volume) / sum(sum(volume)) OVER (PARTITION BY symbol, model, day, side) AS share
FROM open_positions GROUP BY symbol, model, day, side, leverage;
COMMENT ON VIEW leverage_mix IS 'Open lots at the end of each day of lot_days by side and leverage; modelled';
COMMENT ON COLUMN leverage_mix.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN leverage_mix.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN leverage_mix.day IS 'The day at whose end (the next midnight, UTC) the lots were open';
COMMENT ON COLUMN leverage_mix.side IS 'Of the positions';
COMMENT ON COLUMN leverage_mix.leverage IS 'How many times the margin the positions are';
COMMENT ON COLUMN leverage_mix.lots IS 'Number of lots';
COMMENT ON COLUMN leverage_mix.quantity IS 'What is open, contracts';
COMMENT ON COLUMN leverage_mix.volume IS 'The same at entry, quote asset';
COMMENT ON COLUMN leverage_mix.share IS 'Of the volume of its side on that day, a share from 0 to 1';

CREATE VIEW model_parameters AS
WITH told AS (
    SELECT symbol, model, day, json_transform(parameters, '{"books": "VARCHAR", "turnover": "DOUBLE",
        "liquidable": "DOUBLE", "leverage_weights": [["DOUBLE"]], "entry": [["VARCHAR"]], "formula": "VARCHAR",
        "price_tick": "DOUBLE", "bucket": "DOUBLE", "candle_interval_seconds": "BIGINT",
        "maintenance_margin_rate": "DOUBLE", "max_leverage": "DOUBLE", "dust_share": "DOUBLE", "dust_rule": "VARCHAR"}') AS p
    FROM heatmap_days
)
SELECT symbol, model, day, p.books, p.turnover, p.liquidable,
    [tier[1] for tier in p.leverage_weights] AS leverages, [tier[2] for tier in p.leverage_weights] AS weights,
    [entry[1] for entry in p.entry] AS entries, [CAST(entry[2] AS DOUBLE) for entry in p.entry] AS entry_weights,
    p.formula, p.price_tick, p.bucket, p.candle_interval_seconds, p.maintenance_margin_rate, p.max_leverage,
    p.dust_share, p.dust_rule
FROM told;
COMMENT ON VIEW model_parameters IS 'heatmap_days.parameters as columns: the numbers each day was computed with; NULL = an earlier version did not know it';
COMMENT ON COLUMN model_parameters.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN model_parameters.model IS 'Model whose numbers they are';
COMMENT ON COLUMN model_parameters.day IS 'The computed day, UTC';
COMMENT ON COLUMN model_parameters.books IS 'Its books: one (both sides in it) or two (one per side)';
COMMENT ON COLUMN model_parameters.turnover IS 'Share of the volume of a candle that opens and closes besides the change of open interest, 0 to 1';
COMMENT ON COLUMN model_parameters.liquidable IS 'Share of what opens that has a liquidation price, 0 to 1';
COMMENT ON COLUMN model_parameters.leverages IS 'Leverage tiers, how many times the margin, rising';
COMMENT ON COLUMN model_parameters.weights IS 'Share of each tier of leverages, summing to 1';
COMMENT ON COLUMN model_parameters.entries IS 'Prices of a candle at which positions enter: close, high, low';
COMMENT ON COLUMN model_parameters.entry_weights IS 'Share of each of entries, summing to 1';
COMMENT ON COLUMN model_parameters.formula IS 'Formula of the liquidation price: exact, simple';
COMMENT ON COLUMN model_parameters.price_tick IS 'Grid of the liquidation prices, quote asset';
COMMENT ON COLUMN model_parameters.bucket IS 'Height of a price bucket, quote asset';
COMMENT ON COLUMN model_parameters.candle_interval_seconds IS 'Width of the candles the model ran over, seconds';
COMMENT ON COLUMN model_parameters.maintenance_margin_rate IS 'Of the first leverage bracket, a share of the notional';
COMMENT ON COLUMN model_parameters.max_leverage IS 'Of the first leverage bracket, how many times the margin';
COMMENT ON COLUMN model_parameters.dust_share IS 'Lots smaller than this share of the book count as dust, 0 to 1';
COMMENT ON COLUMN model_parameters.dust_rule IS 'What becomes of dust: drop, unlocate';

-- Most buckets hold something through all of a day; only of the others the single cells are looked at.
CREATE VIEW band_lives AS
WITH days AS (
    SELECT symbol, model, side, price_bucket, CAST(timestamp AS DATE) AS day, min(timestamp) AS first,
        max(timestamp) AS last, count(*) AS cells, max(active_volume) AS largest, arg_max(active_volume, timestamp) AS newest
    FROM liquidation_snapshots WHERE active_volume > 0 GROUP BY ALL
), stretches AS (
    SELECT d.*, to_seconds(s.interval_seconds) AS width,
        (epoch_us(d.last) - epoch_us(d.first)) // (1000000 * s.interval_seconds) + 1 = d.cells AS unbroken
    FROM days AS d JOIN snapshot_days AS s ON s.symbol = d.symbol AND s.model = d.model AND s.day = d.day
), cells AS (
    SELECT c.symbol, c.model, c.side, c.price_bucket, c.timestamp AS first, c.timestamp AS last,
        c.active_volume AS largest, c.active_volume AS newest, b.width
    FROM liquidation_snapshots AS c JOIN stretches AS b ON b.symbol = c.symbol AND b.model = c.model
        AND b.side = c.side AND b.price_bucket = c.price_bucket AND b.day = CAST(c.timestamp AS DATE)
    WHERE NOT b.unbroken AND c.active_volume > 0
    UNION ALL
    SELECT symbol, model, side, price_bucket, first, last, largest, newest, width FROM stretches WHERE unbroken
), marked AS (
    SELECT *, first IS DISTINCT FROM lag(last + width) OVER bucket AS begins FROM cells
    WINDOW bucket AS (PARTITION BY symbol, model, side, price_bucket ORDER BY first)
), numbered AS (
    SELECT *, count(*) FILTER (WHERE begins) OVER bucket AS run FROM marked
    WINDOW bucket AS (PARTITION BY symbol, model, side, price_bucket ORDER BY first)
), bands AS (
    SELECT symbol, model, side, price_bucket, min(first) AS began, max(last + width) AS gone, max(largest) AS largest,
        arg_max(newest, last) AS newest
    FROM numbered GROUP BY symbol, model, side, price_bucket, run
), ends AS (
    SELECT symbol, model, max(gone) AS newest FROM bands GROUP BY symbol, model
)
SELECT b.symbol, b.model, b.side, b.price_bucket, b.began, CASE WHEN b.gone < e.newest THEN b.gone END AS ended,
    (epoch_us(b.gone) - epoch_us(b.began)) / 3.6e9 AS hours, b.largest AS largest_volume, b.newest AS last_volume,
    CASE WHEN b.gone < e.newest THEN coalesce(c.consumed_volume, 0) END AS consumed_volume
FROM bands AS b JOIN ends AS e ON e.symbol = b.symbol AND e.model = b.model
LEFT JOIN liquidation_snapshots AS c ON c.symbol = b.symbol AND c.model = b.model AND c.side = b.side
    AND c.price_bucket = b.price_bucket AND c.timestamp = b.gone;
COMMENT ON VIEW band_lives IS 'Bands of the heatmap: from when to when a bucket and side held anything without a break, and how it ended; of the days whose cells are kept (snapshot_days), so that one of before begins with the first of them; modelled';
COMMENT ON COLUMN band_lives.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN band_lives.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN band_lives.side IS 'Of the positions';
COMMENT ON COLUMN band_lives.price_bucket IS 'Lower edge of the price bucket, quote asset';
COMMENT ON COLUMN band_lives.began IS 'Start of the interval in which it opened, UTC';
COMMENT ON COLUMN band_lives.ended IS 'Start of the interval in which it went, UTC; NULL = it stands at the end of the newest';
COMMENT ON COLUMN band_lives.hours IS 'How long it stood, hours; of one that stands, until the end of the newest interval';
COMMENT ON COLUMN band_lives.largest_volume IS 'Most it held at the end of an interval, quote asset at entry';
COMMENT ON COLUMN band_lives.last_volume IS 'What it held at the end of its last interval, quote asset at entry';
COMMENT ON COLUMN band_lives.consumed_volume IS 'What price liquidated of it in the interval in which it went, quote asset at entry; 0 = it was closed; NULL = it stands';

-- The zones of the book at the end of each day (docs/api.md, "Zones"; model/zones.py is the same rule in Python, and a
-- test holds the two together): smoothed over 0.25 % of the price, from the peak down to 60 % of it, at least 3 % of its
-- side's volume within 10 % of the price. Every bucket is spread over its neighbours, also where these are empty. The
-- book is that of the lots, of a day whose lots are not kept that of the cells at its end, which a bucket of cells fits.
CREATE VIEW daily_zones AS
WITH closes AS (
    SELECT symbol, day, arg_max(close, open_time) AS close FROM raw_candles GROUP BY symbol, day
), books AS (
    SELECT b.symbol, b.model, b.day, c.close, CAST(round(b.bucket * 1e8) AS BIGINT)
        * CAST(greatest(1, floor(0.0025 * c.close / b.bucket / 50)) AS BIGINT) AS units
    FROM buckets AS b JOIN closes AS c ON c.symbol = b.symbol AND c.day = b.day
), ends AS (
    SELECT d.symbol, d.model, d.day,
        make_timestamp(epoch_us(max(l.timestamp)) // (1000000 * d.interval_seconds) * (1000000 * d.interval_seconds)) AS newest
    FROM snapshot_days AS d JOIN book_ledger AS l
        ON l.symbol = d.symbol AND l.model = d.model AND CAST(l.timestamp AS DATE) = d.day
    WHERE NOT EXISTS (
        SELECT 1 FROM lot_days AS k WHERE k.symbol = d.symbol AND k.model = d.model AND k.day = d.day
    ) GROUP BY d.symbol, d.model, d.day, d.interval_seconds
), lots AS (
    SELECT symbol, model, day, side, liq_price AS price, volume FROM open_positions
    UNION ALL
    SELECT s.symbol, s.model, e.day, s.side, s.price_bucket, s.active_volume
    FROM liquidation_snapshots AS s JOIN ends AS e
        ON e.symbol = s.symbol AND e.model = s.model AND e.newest = s.timestamp
), cells AS (
    SELECT b.symbol, b.model, b.day, p.side, CAST(round(p.price * 1e8) AS BIGINT) // b.units AS bucket,
        sum(p.volume) AS volume, any_value(b.close) AS close, any_value(b.units) / 1e8 AS height
    FROM lots AS p JOIN books AS b ON b.symbol = p.symbol AND b.model = p.model AND b.day = p.day
    GROUP BY ALL
), spread AS (
    SELECT *, 0.0025 * close / height AS width,
        unnest(range(-CAST(ceil(0.0025 * close / height) AS BIGINT), CAST(ceil(0.0025 * close / height) AS BIGINT) + 1)) AS step
    FROM cells WHERE volume > 0
), smooth AS (
    SELECT symbol, model, day, side, bucket + step AS bucket, sum(volume * greatest(1 - abs(step) / width, 0)) AS volume
    FROM spread GROUP BY ALL
), tops AS (
    SELECT * FROM smooth WINDOW side AS (PARTITION BY symbol, model, day, side ORDER BY bucket)
    QUALIFY volume > coalesce(lag(volume) OVER side, 0) AND volume >= coalesce(lead(volume) OVER side, 0)
), stretches AS (
    SELECT t.symbol, t.model, t.day, t.side, t.bucket AS peak,
        max(s.bucket) FILTER (WHERE s.bucket < t.bucket AND s.volume < 0.6 * t.volume) AS below,
        min(s.bucket) FILTER (WHERE s.bucket > t.bucket AND s.volume < 0.6 * t.volume) AS above,
        max(s.bucket) FILTER (WHERE s.bucket < t.bucket AND s.volume >= t.volume) AS larger_below,
        min(s.bucket) FILTER (WHERE s.bucket > t.bucket AND s.volume > t.volume) AS larger_above
    FROM tops AS t JOIN smooth AS s ON s.symbol = t.symbol AND s.model = t.model AND s.day = t.day AND s.side = t.side
    GROUP BY ALL
), near AS (
    SELECT symbol, model, day, side,
        sum(volume) FILTER (WHERE abs((bucket + 0.5) * height / close - 1) <= 0.1) AS volume
    FROM cells GROUP BY ALL
), zones AS (
    SELECT z.symbol, z.model, z.day, z.side, min(c.bucket) * any_value(c.height) AS low,
        (max(c.bucket) + 1) * any_value(c.height) AS high, (z.peak + 0.5) * any_value(c.height) AS peak,
        sum(c.volume * (c.bucket + 0.5) * c.height) / sum(c.volume) AS price, sum(c.volume) AS volume,
        coalesce(sum(c.volume) FILTER (WHERE abs((c.bucket + 0.5) * c.height / c.close - 1) <= 0.1), 0) AS near,
        any_value(c.close) AS close
    FROM stretches AS z JOIN cells AS c ON c.symbol = z.symbol AND c.model = z.model AND c.day = z.day
        AND c.side = z.side AND c.bucket > z.below AND c.bucket < z.above
    WHERE coalesce(z.larger_below <= z.below, true) AND coalesce(z.larger_above >= z.above, true) AND c.volume > 0
    GROUP BY z.symbol, z.model, z.day, z.side, z.peak
)
SELECT z.symbol, z.model, z.day, z.side,
    CASE WHEN abs(z.price / z.close - 1) <= 0.1 THEN row_number() OVER (
        PARTITION BY z.symbol, z.model, z.day, z.side ORDER BY abs(z.price / z.close - 1) <= 0.1 DESC, z.volume DESC, z.low
    ) END AS rank,
    z.low, z.high, z.peak, z.price, z.volume, 100 * (z.price / z.close - 1) AS distance_percent,
    CASE WHEN n.volume > 0 THEN z.near / n.volume ELSE 0 END AS share, z.close,
    CAST(z.day + 1 AS TIMESTAMP) AS state_at
FROM zones AS z JOIN near AS n ON n.symbol = z.symbol AND n.model = z.model AND n.day = z.day AND n.side = z.side
WHERE z.volume >= 0.03 * coalesce(n.volume, 0);
COMMENT ON VIEW daily_zones IS 'Zones of the book at the end of each day: stretches of price where it is thick (docs/api.md); none of a day of which neither lots (lot_days) nor cells (snapshot_days) are kept; modelled';
COMMENT ON COLUMN daily_zones.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN daily_zones.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN daily_zones.day IS 'The day at whose end (the next midnight, UTC) the zone stood';
COMMENT ON COLUMN daily_zones.side IS 'Of the positions; those of longs lie below the price';
COMMENT ON COLUMN daily_zones.rank IS 'Number of the zone among those of its day and side within 10 % of the price, 1 = most volume; NULL beyond';
COMMENT ON COLUMN daily_zones.low IS 'Lower edge of its lowest bucket that holds anything, quote asset';
COMMENT ON COLUMN daily_zones.high IS 'Upper edge of its highest bucket that holds anything, quote asset';
COMMENT ON COLUMN daily_zones.peak IS 'Middle of the bucket where it is thickest, smoothed, quote asset';
COMMENT ON COLUMN daily_zones.price IS 'Mean of the middles of its buckets, weighted by volume, quote asset';
COMMENT ON COLUMN daily_zones.volume IS 'What would be liquidated in it, quote asset at entry';
COMMENT ON COLUMN daily_zones.distance_percent IS 'From close to price, percent of close; below 0 for a zone under it';
COMMENT ON COLUMN daily_zones.share IS 'Of the volume of its side within 10 % of the price, a share from 0 to 1';
COMMENT ON COLUMN daily_zones.close IS 'Last price of the day, quote asset';
COMMENT ON COLUMN daily_zones.state_at IS 'End of the day, UTC: join candles that open at or after it; of a day still going on it is yet to come';

-- A zone near the price is reached more often than one far away, whatever stands in it; so beside whether it was reached
-- stands how often any price as far away was.
CREATE VIEW zone_hits AS
WITH days AS (
    SELECT symbol, day, min(low) AS low, max(high) AS high, arg_max(close, open_time) AS close
    FROM raw_candles GROUP BY symbol, day
), ends AS (
    SELECT c.symbol, max(c.open_time) + to_seconds(any_value(s.candle_interval_seconds)) AS known_until
    FROM raw_candles AS c JOIN symbols AS s ON s.symbol = c.symbol GROUP BY c.symbol
), moves AS (
    SELECT d.symbol, d.day, n.high / d.close - 1 AS up, 1 - n.low / d.close AS down
    FROM days AS d JOIN days AS n ON n.symbol = d.symbol AND n.day = d.day + 1 JOIN ends AS e ON e.symbol = d.symbol
    WHERE e.known_until >= CAST(d.day + 2 AS TIMESTAMP)
), zones AS (
    SELECT *, CASE side WHEN 'long' THEN 1 - high / close ELSE low / close - 1 END AS way FROM daily_zones
), usual AS (
    SELECT z.symbol, z.model, z.day, z.side, z.peak,
        avg(CASE WHEN (CASE z.side WHEN 'long' THEN m.down ELSE m.up END) >= z.way THEN 1.0 ELSE 0.0 END) AS share
    FROM zones AS z JOIN moves AS m ON m.symbol = z.symbol GROUP BY z.symbol, z.model, z.day, z.side, z.peak
), firsts AS (
    SELECT z.symbol, z.model, z.day, z.side, z.peak, min(c.open_time) AS reached_at
    FROM zones AS z JOIN raw_candles AS c ON c.symbol = z.symbol AND c.day = z.day + 1
    WHERE CASE z.side WHEN 'long' THEN c.low <= z.high ELSE c.high >= z.low END
    GROUP BY z.symbol, z.model, z.day, z.side, z.peak
)
SELECT z.symbol, z.model, z.day, z.side, z.rank, z.low, z.high, z.volume, z.distance_percent, z.state_at,
    CASE WHEN m.day IS NOT NULL THEN f.reached_at IS NOT NULL END AS reached, f.reached_at, u.share AS usual_share
FROM zones AS z
LEFT JOIN moves AS m ON m.symbol = z.symbol AND m.day = z.day
LEFT JOIN firsts AS f ON f.symbol = z.symbol AND f.model = z.model AND f.day = z.day AND f.side = z.side AND f.peak = z.peak
LEFT JOIN usual AS u ON u.symbol = z.symbol AND u.model = z.model AND u.day = z.day AND u.side = z.side AND u.peak = z.peak;
COMMENT ON VIEW zone_hits IS 'Whether each of daily_zones was reached within the next 24 hours, and how often any price as far away was; zones modelled, prices real';
COMMENT ON COLUMN zone_hits.symbol IS 'Id of the market, as in symbols';
COMMENT ON COLUMN zone_hits.model IS 'Model that made the row; its numbers are in model_parameters';
COMMENT ON COLUMN zone_hits.day IS 'The day at whose end (the next midnight, UTC) the zone stood';
COMMENT ON COLUMN zone_hits.side IS 'Of the positions; those of longs lie below the price';
COMMENT ON COLUMN zone_hits.rank IS 'Number of the zone among those of its day and side within 10 % of the price, 1 = most volume; NULL beyond';
COMMENT ON COLUMN zone_hits.low IS 'Lower edge of the zone, quote asset';
COMMENT ON COLUMN zone_hits.high IS 'Upper edge of the zone, quote asset';
COMMENT ON COLUMN zone_hits.volume IS 'What would be liquidated in it, quote asset at entry';
COMMENT ON COLUMN zone_hits.distance_percent IS 'From the last price of the day to the middle of the zone, percent; below 0 for a zone under it';
COMMENT ON COLUMN zone_hits.state_at IS 'End of the day, UTC: the 24 hours begin here';
COMMENT ON COLUMN zone_hits.reached IS 'Whether price came to the near edge of the zone within the 24 hours; NULL = they are not over, or have no candle';
COMMENT ON COLUMN zone_hits.reached_at IS 'Start of the first candle of the 24 hours that reached it, UTC; NULL = none';
COMMENT ON COLUMN zone_hits.usual_share IS 'Share of all stored days on which price went as far as its near edge, to that side, within 24 hours; NULL = no day known';
