-- Every table and view, in one place. Timestamps are UTC; a candle or interval is named by its start, its state is the
-- one at its end. Prices and volumes are in the quote asset of the symbol (symbols.quote), quantities contracts. No
-- PRIMARY KEY and no UNIQUE: an index costs 11 times the disk and 25 times the time of a repeated day, and rows stored in
-- time order need none to be found.
-- The program reads from here which columns a table has (schema.py): a `symbol` makes a table one of each symbol; `day`,
-- `timestamp` or `hour` says which day a row belongs to; and one of the tables with a column `..._hash` differs in a day
-- if any other table does. A comment that ends in "private, never published" keeps a table out of the published database.

CREATE TYPE side_name AS ENUM ('long', 'short');
-- In the order in which they happen within a candle; what the close of its own candle passed is liquidated last.
CREATE TYPE event_name AS ENUM ('liquidate', 'close', 'open');

CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (4);

CREATE TABLE symbols (
    symbol VARCHAR NOT NULL,
    candle_interval_seconds BIGINT NOT NULL,
    bucket DOUBLE NOT NULL,
    source VARCHAR NOT NULL,
    simulated BOOLEAN NOT NULL,
    quote VARCHAR NOT NULL
);

CREATE TABLE ended_symbols (
    symbol VARCHAR NOT NULL,
    ended DATE NOT NULL,
    reason VARCHAR NOT NULL
);

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

CREATE TABLE raw_open_interest (
    symbol VARCHAR NOT NULL,
    day DATE NOT NULL,
    snapshot_time TIMESTAMP NOT NULL,
    contracts DOUBLE NOT NULL,
    value DOUBLE
);

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

CREATE TABLE recorded (
    symbol VARCHAR NOT NULL,
    day DATE NOT NULL,
    source VARCHAR NOT NULL,
    "from" TIMESTAMP NOT NULL,
    "to" TIMESTAMP NOT NULL
);

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

CREATE TABLE liquidation_snapshots (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    price_bucket DOUBLE NOT NULL,
    side side_name NOT NULL,
    active_volume DOUBLE NOT NULL,
    consumed_volume DOUBLE NOT NULL
);

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

CREATE TABLE snapshot_days (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    state_hash VARCHAR NOT NULL,
    interval_seconds BIGINT NOT NULL,
    rows BIGINT NOT NULL
);

CREATE TABLE coarse_days (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    cells BIGINT NOT NULL,
    digits BIGINT NOT NULL
);

CREATE TABLE saved_snapshots (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    timestamp TIMESTAMP NOT NULL,
    positions_created BIGINT NOT NULL,
    positions_consumed BIGINT NOT NULL,
    content_hash VARCHAR NOT NULL
);

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

CREATE TABLE score_days (
    symbol VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    day DATE NOT NULL,
    hours_hash VARCHAR NOT NULL
);

CREATE TABLE failed_days (
    symbol VARCHAR NOT NULL,
    stage VARCHAR NOT NULL,
    day DATE NOT NULL,
    message VARCHAR NOT NULL,
    failed_at TIMESTAMP NOT NULL
);

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

CREATE TABLE alert_watches (
    symbol VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    definition VARCHAR NOT NULL,
    evaluated TIMESTAMP NOT NULL,
    memory VARCHAR NOT NULL
);

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
    p.close
FROM cells AS c LEFT JOIN closes AS p ON c.symbol = p.symbol AND c.model = p.model
WINDOW downward AS (PARTITION BY c.symbol, c.model ORDER BY c.price_bucket DESC),
       upward AS (PARTITION BY c.symbol, c.model ORDER BY c.price_bucket)
ORDER BY c.symbol, c.model, c.price_bucket;

CREATE VIEW heatmap AS
SELECT symbol, model, timestamp, price_bucket,
    coalesce(sum(active_volume) FILTER (WHERE side = 'long'), 0) AS long_volume,
    coalesce(sum(active_volume) FILTER (WHERE side = 'short'), 0) AS short_volume,
    coalesce(sum(consumed_volume) FILTER (WHERE side = 'long'), 0) AS long_consumed_volume,
    coalesce(sum(consumed_volume) FILTER (WHERE side = 'short'), 0) AS short_consumed_volume
FROM liquidation_snapshots
GROUP BY symbol, model, timestamp, price_bucket;

-- The bucket follows the price, each a divisor of the next. Rows of days with different buckets are put together in the
-- largest of them, B: floor(price_bucket / B) * B.
CREATE VIEW buckets AS
SELECT symbol, model, day, CAST(json_extract(parameters, '$.bucket') AS DOUBLE) AS bucket FROM heatmap_days;

-- The sources of real liquidations that are stored of each symbol. One of them is chosen: whose sums fit into hours, then
-- the market's own exchange (a bare symbol is a contract of Binance), then one that prints every liquidation, then the
-- one that recorded most; the name decides what is left.
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
        split_part(s.source, '_', 1) = 'binance' AS own_exchange, coalesce(k.complete, false) AS complete,
        k.resolution_seconds, coalesce(k.hourly, true) AS hourly, coalesce(k.rows, 0) AS rows, s."from", s."to",
        s.recorded_hours, k.newest
    FROM spans AS s LEFT JOIN kinds AS k ON k.symbol = s.symbol AND k.source = s.source
)
SELECT symbol, source, exchange, own_exchange, complete, resolution_seconds, rows, "from", "to", recorded_hours, newest,
    hourly AND row_number() OVER (
        PARTITION BY symbol ORDER BY hourly DESC, own_exchange DESC, complete DESC, recorded_hours DESC, source
    ) = 1 AS chosen
FROM told;

-- Per hour of a model's history and side, contracts: what the model liquidated, of that what stood open before the hour,
-- and what the chosen source reported. An hour counts as recorded from 98 % of it on, as a recorder loses some seconds
-- where it connects again; any other hour has no report (NULL), which is not 0.
CREATE VIEW liquidations_hourly AS
WITH hours AS (
    SELECT symbol, model, date_trunc('hour', timestamp) AS hour
    FROM book_ledger GROUP BY ALL
), predicted AS (
    SELECT symbol, model, date_trunc('hour', timestamp) AS hour, side, sum(quantity) AS quantity,
        sum(quantity) FILTER (WHERE opened_at < date_trunc('hour', timestamp)) AS at_start
    FROM position_events WHERE event_type = 'liquidate' GROUP BY ALL
), chosen AS (
    SELECT symbol, source FROM liquidation_sources WHERE chosen
), reported AS (
    SELECT l.symbol, date_trunc('hour', l.timestamp) AS hour, l.side, sum(l.quantity) AS quantity
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
    w.hour IS NOT NULL AS recorded, c.source
FROM hours AS h CROSS JOIN sides AS s
LEFT JOIN predicted AS p ON p.symbol = h.symbol AND p.model = h.model AND p.hour = h.hour AND p.side = s.side
LEFT JOIN chosen AS c ON c.symbol = h.symbol
LEFT JOIN watched AS w ON w.symbol = h.symbol AND w.hour = h.hour
LEFT JOIN reported AS r ON r.symbol = h.symbol AND r.hour = h.hour AND r.side = s.side;

COMMENT ON TABLE schema_version IS 'The version of these tables';
COMMENT ON TABLE symbols IS 'What was chosen once per symbol; simulated = made by the demo market';
COMMENT ON COLUMN symbols.quote IS 'The asset (USDT, USDC, ...) that all prices, volumes and buckets of the symbol are in, in every table; empty = nobody said';
COMMENT ON COLUMN symbols.bucket IS 'Height of a price bucket on the newest computed day, quote asset; the view buckets has that of every day';
COMMENT ON TABLE ended_symbols IS 'Symbols that are not traded any more: the last day there is of each, and how that was known; void where a later day is stored';
COMMENT ON TABLE raw_days IS 'One row per symbol, kind (candles, open_interest, liquidations), day and source that was read: hash, repairs and facts (JSON)';
COMMENT ON TABLE raw_candles IS 'Clean candles; prices and quote volumes in the quote asset, volume contracts, NULL = unknown';
COMMENT ON TABLE raw_open_interest IS 'Clean samples; day: whose data it is, a sample of the next midnight may belong to either day';
COMMENT ON COLUMN raw_open_interest.contracts IS 'Open interest, contracts';
COMMENT ON COLUMN raw_open_interest.value IS 'Open interest, quote asset; NULL = unknown';
COMMENT ON TABLE raw_liquidations IS 'Liquidations that really happened, single ones or sums of an interval; never an input of the map';
COMMENT ON COLUMN raw_liquidations.timestamp IS 'When it happened; of a sum the start of its interval';
COMMENT ON COLUMN raw_liquidations.source IS 'exchange_kind: whose liquidations, and how they came here';
COMMENT ON COLUMN raw_liquidations.side IS 'Of the position that was closed';
COMMENT ON COLUMN raw_liquidations.price IS 'Quote asset; NULL = unknown, as of most sums';
COMMENT ON COLUMN raw_liquidations.quantity IS 'Contracts (units of the base)';
COMMENT ON COLUMN raw_liquidations.volume IS 'Quote asset; NULL = unknown';
COMMENT ON COLUMN raw_liquidations.resolution_seconds IS '0 = a single liquidation, else the interval that the row is the sum of';
COMMENT ON COLUMN raw_liquidations.complete IS 'Whether the source prints every liquidation';
COMMENT ON TABLE recorded IS 'Stretches [from, to) in which a source was recorded, cut at midnights; outside of them nothing is known, which is not 0';
COMMENT ON TABLE position_events IS 'What opened (per candle, side, leverage and entry price), closed (per candle and book) and was liquidated (per lot)';
COMMENT ON COLUMN position_events.opened_at IS 'Start of the candle that opened first into the lot; of a liquidation equal to timestamp where the close of its own candle had passed its price';
COMMENT ON COLUMN position_events.side IS 'NULL where a closing took from a book that holds both sides';
COMMENT ON COLUMN position_events.quantity IS 'Contracts; of a close with the unlocated part';
COMMENT ON COLUMN position_events.volume IS 'Quote asset at entry; of a close that of located lots';
COMMENT ON TABLE open_positions IS 'The lots at the end of each day; quantity contracts, volume quote asset at entry, opened_at the earliest opening';
COMMENT ON TABLE book_ledger IS 'One row per model candle and book; contracts, active_volume and consumed_volume in the quote asset';
COMMENT ON COLUMN book_ledger.side IS 'NULL where one book holds both sides';
COMMENT ON COLUMN book_ledger.liquidated IS 'Contracts of lots of earlier candles that price reached';
COMMENT ON COLUMN book_ledger.liquidated_at_once IS 'Contracts of lots that the close of their own candle had passed; part of opened, and unlocated since';
COMMENT ON COLUMN book_ledger.rescaled IS 'Contracts that a shift of the level of the open interest added; below 0 it took away';
COMMENT ON TABLE liquidation_snapshots IS 'Cells of the heatmap: volume in the quote asset per interval (by its start), price bucket (lower edge, quote asset) and side';
COMMENT ON COLUMN liquidation_snapshots.active_volume IS 'Quote asset at entry still open at the end of the interval';
COMMENT ON COLUMN liquidation_snapshots.consumed_volume IS 'Quote asset at entry liquidated within the interval';
COMMENT ON TABLE heatmap_days IS 'The chain: each computed day with the hashes of its input, of the state it started from and of the state it left';
COMMENT ON COLUMN heatmap_days.state IS 'JSON: what the day carries to the next besides the lots';
COMMENT ON TABLE snapshot_days IS 'The state each day of liquidation_snapshots was made from';
COMMENT ON TABLE coarse_days IS 'Days that had more cells than are stored of one, and how many: those far from the price are put together in liquidation_snapshots';
COMMENT ON COLUMN coarse_days.digits IS 'Leading digits that are kept of the number of a bucket, price_bucket / bucket of the day; the rest are 0';
COMMENT ON TABLE saved_snapshots IS 'Snapshots that were saved by hand, one row each, also when a snapshot has no cell';
COMMENT ON TABLE map_scores IS 'How well predicted and really reported liquidations agree (docs/score.md), in long form; NULL = undefined; parameters JSON';
COMMENT ON COLUMN map_scores.baseline IS 'The rule whose value this is; empty for the model itself';
COMMENT ON COLUMN map_scores.difference IS 'Model minus baseline over the hours that know both';
COMMENT ON TABLE score_hours IS 'Per hour (by its start) and side of the position, what map_scores is computed from: contracts, prices in the quote asset, NULL = unknown';
COMMENT ON COLUMN score_hours.recorded IS 'Whether the source recorded all of the hour; where it did not, reported is NULL and never 0';
COMMENT ON COLUMN score_hours.move IS 'From the open to the low (longs) or the high (shorts), as a share of the open';
COMMENT ON COLUMN score_hours.extreme IS 'How far its candles went beyond the 60 minutes before each, summed, as a share of the price';
COMMENT ON TABLE score_days IS 'A hash of each day of score_hours';
COMMENT ON TABLE failed_days IS 'Days that failed and were not yet repaired; private, never published';
COMMENT ON TABLE alerts IS 'What the rules of HEATMAP_ALERTS told, each once (docs/alerts.md); the newest 1,000 of each symbol';
COMMENT ON COLUMN alerts.known_at IS 'When it was known: the end of a candle';
COMMENT ON COLUMN alerts.rule IS 'Name of the rule in the file';
COMMENT ON COLUMN alerts.kind IS 'near, appears, consumed or cascade';
COMMENT ON COLUMN alerts.side IS 'Of the positions that would be, or were, liquidated';
COMMENT ON COLUMN alerts.price IS 'Close at that instant, quote asset';
COMMENT ON COLUMN alerts.low IS 'Lower edge of the zone, quote asset; NULL for a cascade';
COMMENT ON COLUMN alerts.high IS 'Upper edge of the zone, quote asset; NULL for a cascade';
COMMENT ON COLUMN alerts.peak IS 'Where the zone is thickest, quote asset; NULL for a cascade';
COMMENT ON COLUMN alerts.volume IS 'Of the zone, or liquidated within the hour, as modelled, quote asset';
COMMENT ON COLUMN alerts.words IS 'The alert in a sentence';
COMMENT ON TABLE alert_watches IS 'What each rule remembers of a symbol; private, never published';
COMMENT ON VIEW newest_states IS 'Start of the newest interval per symbol and model';
COMMENT ON VIEW liquidation_map IS 'The newest heatmap column: volume in the quote asset per price bucket, distance of its lower edge from the close in percent, cumulative volume from the price outward';
COMMENT ON VIEW liquidation_sources IS 'Sources of real liquidations per symbol: whose, how much was recorded, and which one is chosen for the hours';
COMMENT ON VIEW liquidations_hourly IS 'Contracts liquidated per hour and side: by the model, of that opened before the hour, and reported by the chosen source (NULL = not recorded)';
COMMENT ON VIEW heatmap IS 'liquidation_snapshots with long and short side by side, in the quote asset';
COMMENT ON VIEW buckets IS 'Height of a price bucket of each computed day, quote asset; put days together in the largest of theirs';
