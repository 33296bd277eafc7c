// A payload as typed arrays, and questions to it. Cells are kept column by column: cell (t, p) is at t * rows + p.

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

/** An array as the endpoint sends it (plain) or as a file holds it (packed, or the lengths of runs). */
function unpack(array) {
  if (Array.isArray(array)) return array;
  if (array.runs) {
    const runs = unpack(array.runs);
    let total = 0;
    for (const length of runs) total += length;
    const numbers = new Uint32Array(total);
    for (let i = 0, at = 0; i < runs.length; at += runs[i], i += 1) numbers.fill(i, at, at + runs[i]);
    return numbers;
  }
  const text = atob(array.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  return new ARRAYS[array.type](bytes.buffer);
}

function cellsOf(part) {
  return { time: unpack(part.time), price: unpack(part.price), volume: unpack(part.volume) };
}

function grid(cells, columns, rows) {
  const filled = new Float32Array(columns * rows);
  const { time, price, volume } = cells;
  for (let i = 0; i < volume.length; i += 1) filled[time[i] * rows + price[i]] = volume[i];
  return filled;
}

function decode(payload) {
  const { meta } = payload;
  const times = unpack(payload.timestamps);
  const prices = unpack(payload.prices);
  const [columns, rows] = [times.length, prices.length];
  const bars = payload.candles;
  const parts = Object.fromEntries(["open_time", "open", "high", "low", "close", "volume"].map((name) => [name, unpack(bars[name])]));
  const width = meta.interval_seconds * 1000;
  const start = columns ? times[0] : Date.parse(meta.start_time);
  const candles = Array.from(parts.open_time, (time, i) => ({
    time, open: parts.open[i], high: parts.high[i], low: parts.low[i], close: parts.close[i], volume: parts.volume[i],
  }));
  const swept = Object.fromEntries(["long", "short"].map((side) => [side, cellsOf(payload[`consumed_${side}`])]));
  const map = {
    ...meta, payload, columns, rows, width, start, candles, swept,
    end: start + columns * width,
    asOf: Date.parse(meta.as_of),
    bin: meta.price_bin_size,
    low: rows ? prices[0] : 0,
    candleWidth: bars.interval_seconds * 1000,
    long: grid(cellsOf(payload.long), columns, rows),
    short: grid(cellsOf(payload.short), columns, rows),
    quote: meta.units?.price ?? "USDT",
    // Files of before the word changed say coverage.
    locatedShare: meta.located_share ?? meta.coverage,
  };
  map.reported = reportedOf(payload.reported, map);
  return finished(map);
}

/**
 * Real liquidations, the largest first: { side, column, time (of the circle's middle), from, to, price (null = unknown),
 * place, volume, quantity }; null where nothing of the map's time was recorded.
 */
function reportedOf(part, map) {
  if (!part) return null;
  const known = (value) => (value === null || Number.isNaN(value) ? null : value);
  const [from, to] = [unpack(part.recorded.from), unpack(part.recorded.to)];
  const span = Math.max(map.width, part.resolution_seconds * 1000);
  const circles = ["long", "short"].flatMap((side) => {
    const [column, price, place, volume, quantity] = ["time", "price", "place", "volume", "quantity"].map((name) => unpack(part[side][name]));
    return Array.from(column, (at, i) => {
      const begin = map.start + at * map.width;
      return {
        side, column: at, from: begin, to: begin + span, time: begin + span / 2, price: known(price[i]), place: place[i],
        volume: volume[i], quantity: quantity[i],
      };
    });
  });
  return {
    source: part.source, exchange: part.exchange, own: part.own_exchange, complete: part.complete, factor: part.factor,
    seconds: part.resolution_seconds, recorded: Array.from(from, (begin, i) => [begin, to[i]]),
    circles: circles.sort((a, b) => b.volume - a.volume),
  };
}

/** Whose record the real liquidations are, how complete, and how much they are of the modelled ones; as the PNG says it. */
function reportedWords({ exchange, own, complete, factor }) {
  const whole = { true: "complete", false: "incomplete" }[complete] ?? "";
  const ratio = factor === null ? "" : `reported / modelled ${factor.toFixed(2)}`;
  return [own ? exchange : `${exchange}, another exchange`, whole, ratio].filter(Boolean).join(", ");
}

/** Whether all, a part or nothing of the time from an instant to another was recorded: "all", "some", "none". */
function recordedIn({ recorded }, from, to) {
  const parts = recorded.filter(([begin, end]) => begin < to && end > from);
  if (!parts.length) return "none";
  return parts.some(([begin, end]) => begin <= from && end >= to) ? "all" : "some";
}

/** What has to be said beside the name of a map: { words, style (of the badge), colour, about }. */
function marksOf(map) {
  const pale = "#b7c0d1";
  return [
    map.simulated && { words: "SIMULATED DATA", style: "", colour: COLOURS.warn, about: "A made-up market, for trying things out. Not real prices." },
    map.leverage_tiers && { words: tiersText(map.leverage_tiers, map.tiers), style: "mild", colour: pale, about: "Other leverage tiers are not shown. Located share is that of the whole book." },
    map.provisional && { words: "provisional", style: "mild", colour: pale, about: "The newest day is not complete yet; it will be computed again." },
    map.ended && { words: `ended on ${map.ended}`, style: "mild", colour: pale, about: "The exchange does not trade this symbol any more: no later day will come." },
    map.bucket_misfit && { words: "bucket does not fit", style: "old", colour: COLOURS.warn, about: `In this range ${map.bucket_misfit}.` },
  ].filter(Boolean);
}

/** The days of a map that are not whole, rising: { from, to, words }. */
function notWholeOf(map) {
  return Object.entries(map.not_whole ?? {}).sort().map(([day, words]) => {
    const from = Date.parse(`${day}T00:00:00Z`);
    return { from: Math.max(from, map.start), to: Math.min(from + DAY, map.end), words };
  });
}

/** What follows from the cells: the map's upper edge, the bubbles, whether there is anything at all. */
function finished(map) {
  if (!map.rows) withEmptyRows(map);
  map.high = map.low + map.rows * map.bin;
  map.bubbles = bubblesOf(map);
  map.empty = !map.long.some((volume) => volume > 0) && !map.short.some((volume) => volume > 0);
  map.ends = {};
  return map;
}

/** An empty book still has prices: those of its candles. */
function withEmptyRows(map) {
  const [low, high] = priceSpan(map.candles, 0);
  if (!(low <= high)) return;
  const first = Math.floor((low * 0.9) / map.bin);
  map.rows = Math.max(1, Math.min(2000, Math.ceil((high * 1.1) / map.bin) - first));
  map.low = first * map.bin;
  map.long = new Float32Array(map.columns * map.rows);
  map.short = new Float32Array(map.columns * map.rows);
}

function priceSpan(candles, from) {
  let [low, high] = [Infinity, -Infinity];
  for (const bar of candles) {
    if (bar.time < from) continue;
    low = Math.min(low, bar.low);
    high = Math.max(high, bar.high);
  }
  return [low, high];
}

/** The same map in rows of `bin`, a multiple of its own. Rows that reach beyond the map are left out. */
function rebin(map, bin) {
  const factor = Math.round(bin / map.bin);
  if (factor <= 1) return map;
  const first = Math.ceil(Math.round(map.low / map.bin) / factor);
  const skipped = first * factor - Math.round(map.low / map.bin);
  const rows = Math.floor((map.rows - skipped) / factor);
  if (rows < 2) return map;
  const merged = (cells) => {
    const sums = new Float32Array(map.columns * rows);
    for (let t = 0; t < map.columns; t += 1) {
      for (let p = 0; p < rows * factor; p += 1) {
        sums[t * rows + Math.floor(p / factor)] += cells[t * map.rows + skipped + p];
      }
    }
    return sums;
  };
  const moved = ({ time, price, volume }) => {
    const inside = Array.from(price.keys()).filter((i) => price[i] >= skipped && price[i] < skipped + rows * factor);
    return {
      time: inside.map((i) => time[i]), price: inside.map((i) => Math.floor((price[i] - skipped) / factor)), volume: inside.map((i) => volume[i]),
    };
  };
  return finished({
    ...map, rows, bin: map.bin * factor, low: first * factor * map.bin, long: merged(map.long), short: merged(map.short),
    swept: { long: moved(map.swept.long), short: moved(map.swept.short) },
  });
}

/** One bubble per column and side in which levels were consumed, at the mean price of their volume. */
function bubblesOf(map) {
  const bubbles = [];
  for (const side of ["long", "short"]) {
    const { time, price, volume } = map.swept[side];
    const byColumn = new Map();
    for (let i = 0; i < volume.length; i += 1) {
      const one = byColumn.get(time[i]) ?? { side, column: time[i], volume: 0, weighed: 0 };
      one.volume += volume[i];
      one.weighed += volume[i] * (map.low + (price[i] + 0.5) * map.bin);
      byColumn.set(time[i], one);
    }
    for (const one of byColumn.values()) {
      bubbles.push({ ...one, time: map.start + (one.column + 0.5) * map.width, price: one.weighed / one.volume });
    }
  }
  return bubbles.sort((a, b) => b.volume - a.volume);
}

/** The newest book: one entry per row; sums run outward from the price. */
function newestBook(map) {
  if (map.book) return map.book;
  const { rows } = map;
  const from = Math.max(0, map.columns - 1) * rows;
  const long = Float64Array.from(map.long.subarray(from, from + rows));
  const short = Float64Array.from(map.short.subarray(from, from + rows));
  const [longSum, shortSum] = [new Float64Array(rows), new Float64Array(rows)];
  for (let p = 0, sum = 0; p < rows; p += 1) shortSum[p] = sum += short[p];
  for (let p = rows - 1, sum = 0; p >= 0; p -= 1) longSum[p] = sum += long[p];
  map.book = { long, short, longSum, shortSum, middle: Float64Array.from(long, (_, p) => map.low + (p + 0.5) * map.bin) };
  return map.book;
}

const CANDLE_MINUTES = [5, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 10080];

/** Candles between two instants, merged until there are at most `most` of them. */
function candlesIn(map, from, to, most) {
  const own = map.candleWidth;
  const fits = (step) => step >= own && step % own === 0 && (to - from) / step <= most;
  const step = [own, ...CANDLE_MINUTES.map((minutes) => minutes * MINUTE)].find(fits) ?? own;
  const merged = [];
  for (const bar of map.candles) {
    if (bar.time < from - step || bar.time > to + step) continue;
    const time = Math.floor(bar.time / step) * step;
    const last = merged.at(-1);
    if (last && last.time === time) {
      last.high = Math.max(last.high, bar.high);
      last.low = Math.min(last.low, bar.low);
      last.close = bar.close;
    } else merged.push({ ...bar, time });
  }
  return { bars: merged, step };
}

/** Whether any of the map is within a view. */
const overlaps = (map, { x, y }) => x[0] < map.end && x[1] > map.start && y[0] < map.high && y[1] > map.low;

/** The part of the map that a range shows: its time, and its candles with prices around them as far as the map reaches. */
function viewOf(map, range) {
  const span = Math.min(RANGES[range], map.end - map.start);
  const from = Math.max(map.start, map.end - RANGES[range]);
  const x = [from, map.end + 0.012 * span];
  const [low, high] = priceSpan(map.candles, from);
  if (!(low <= high)) return { x, y: [map.low, map.high] };
  const margin = Math.max(0.8 * (high - low), 0.04 * map.price);
  return { x, y: [Math.min(low, Math.max(map.low, low - margin)), Math.max(high, Math.min(map.high, high + margin))] };
}

/**
 * Of the cells that a range shows the largest volume, and the one that 1 cell in 200 exceeds: there the colours end, so
 * that one cell does not dim the rest.
 */
function colourEnds(map, range) {
  if (map.ends[range]) return map.ends[range];
  const { x, y } = viewOf(map, range);
  const { long, short, rows } = map;
  const first = Math.max(0, Math.floor((x[0] - map.start) / map.width));
  const [bottom, top] = [Math.max(0, Math.floor((y[0] - map.low) / map.bin)), Math.min(rows, Math.ceil((y[1] - map.low) / map.bin))];
  const step = Math.max(1, Math.floor(((map.columns - first) * (top - bottom)) / 200000));
  const sample = [];
  let most = 0;
  for (let t = first, seen = 0; t < map.columns; t += 1) {
    for (let p = bottom; p < top; p += 1, seen += 1) {
      const total = long[t * rows + p] + short[t * rows + p];
      if (total > most) most = total;
      if (total > 0 && seen % step === 0) sample.push(total);
    }
  }
  const sorted = Float32Array.from(sample).sort();
  const limit = sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(0.995 * sorted.length))] : most;
  map.ends[range] = most > 0 ? { most, top: limit } : { most: 1, top: 1 };
  return map.ends[range];
}
