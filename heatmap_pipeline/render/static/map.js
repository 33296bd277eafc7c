// A payload as typed arrays, and questions to it. Cells are kept column by column: cell (t, p) is at t * rows + p.

import { partsOf } from "./parts.js";
import { MINUTE, RANGES } from "./time.js";
import { zonesOf } from "./zones.js";

/** @import { Book, Bubble, Candle, Cells, HeatMap, Numbers, RangeName, Reported, Side, View } from "./types.d.ts" */

/** @type {Side[]} */
const SIDES = ["long", "short"];
/** @type {Record<string, new (buffer: ArrayBuffer) => Numbers>} */
const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

/**
 * An array as the endpoint sends it (plain) or as a file holds it (packed, or the lengths of runs).
 * @param {any} array
 * @returns {Numbers}
 */
export function unpack(array) {
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

/**
 * @param {any} part
 * @returns {Cells}
 */
function cellsOf(part) {
  return { time: unpack(part.time), price: unpack(part.price), volume: unpack(part.volume) };
}

/**
 * @param {Cells} cells
 * @param {number} columns
 * @param {number} rows
 */
export function grid(cells, columns, rows) {
  const filled = new Float32Array(columns * rows);
  const { time, price, volume } = cells;
  for (let i = 0; i < volume.length; i += 1) filled[time[i] * rows + price[i]] = volume[i];
  return filled;
}

/**
 * @param {any} payload
 * @returns {HeatMap}
 */
export function decode(payload) {
  const { meta } = payload;
  const times = unpack(payload.timestamps);
  const prices = unpack(payload.prices);
  const [columns, rows] = [times.length, prices.length];
  const bars = payload.candles;
  const bar = Object.fromEntries(
    ["open_time", "open", "high", "low", "close", "volume"].map((name) => [name, unpack(bars[name])]),
  );
  const cells = { long: cellsOf(payload.long), short: cellsOf(payload.short) };
  const parts = partsOf(payload, unpack);
  const width = meta.interval_seconds * 1000;
  const start = columns ? times[0] : Date.parse(meta.start_time);
  const candles = Array.from(bar.open_time, (time, i) => ({
    time,
    open: bar.open[i],
    high: bar.high[i],
    low: bar.low[i],
    close: bar.close[i],
    volume: bar.volume[i],
  }));
  const map = {
    ...meta,
    payload,
    columns,
    rows,
    width,
    start,
    candles,
    end: start + columns * width,
    asOf: Date.parse(meta.as_of),
    bin: meta.price_bin_size,
    low: rows ? prices[0] : 0,
    candleWidth: bars.interval_seconds * 1000,
    long: grid(cells.long, columns, rows),
    short: grid(cells.short, columns, rows),
    ...(parts && { parts, cells }),
    quote: meta.units?.price ?? "USDT",
    // Files of before the word changed say coverage.
    locatedShare: meta.located_share ?? meta.coverage,
    shares: payload.located_shares ? unpack(payload.located_shares) : null,
  };
  map.reported = reportedOf(payload.reported, map);
  map.zones = zonesOf(payload.zones, columns, unpack, parts);
  map.bubbles = bubblesOf(payload, map);
  return finished(map);
}

/**
 * Real liquidations, the largest first: { side, column, time (of the circle's middle), from, to, price (null is
 * unknown), place, volume, quantity }; null where nothing of the map's time was recorded.
 * @param {any} part
 * @param {HeatMap} map
 * @returns {Reported | null}
 */
function reportedOf(part, map) {
  if (!part) return null;
  /** @param {number | null} value */
  const known = (value) => (value === null || Number.isNaN(value) ? null : value);
  const [from, to] = [unpack(part.recorded.from), unpack(part.recorded.to)];
  const span = Math.max(map.width, part.resolution_seconds * 1000);
  const circles = SIDES.flatMap((side) => {
    const [column, price, place, volume, quantity] = ["time", "price", "place", "volume", "quantity"].map((name) =>
      unpack(part[side][name]),
    );
    return Array.from(column, (at, i) => {
      const begin = map.start + at * map.width;
      return {
        side,
        column: at,
        from: begin,
        to: begin + span,
        time: begin + span / 2,
        price: known(price[i]),
        place: place[i],
        volume: volume[i],
        quantity: quantity[i],
      };
    });
  });
  return {
    source: part.source,
    exchange: part.exchange,
    own: part.own_exchange,
    complete: part.complete,
    factor: part.factor,
    seconds: part.resolution_seconds,
    recorded: Array.from(from, (begin, i) => [begin, to[i]]),
    circles: circles.sort((a, b) => b.volume - a.volume),
  };
}

/**
 * Whether all, a part or nothing of the time from an instant to another was recorded: "all", "some", "none".
 * @param {Reported} reported
 * @param {number} from
 * @param {number} to
 */
export function recordedIn({ recorded }, from, to) {
  const parts = recorded.filter(([begin, end]) => begin < to && end > from);
  if (!parts.length) return "none";
  return parts.some(([begin, end]) => begin <= from && end >= to) ? "all" : "some";
}

/**
 * What follows from the cells: the map's upper edge, and whether there is anything at all.
 * @param {any} map
 * @returns {HeatMap}
 */
function finished(map) {
  if (!map.rows) withEmptyRows(map);
  map.high = map.low + map.rows * map.bin;
  map.empty =
    !map.long.some((/** @type {number} */ volume) => volume > 0) &&
    !map.short.some((/** @type {number} */ volume) => volume > 0);
  return map;
}

/**
 * An empty book still has prices: those of its candles.
 * @param {HeatMap} map
 */
function withEmptyRows(map) {
  const [low, high] = priceSpan(map.candles, 0);
  if (!(low <= high)) return;
  const first = Math.floor((low * 0.9) / map.bin);
  map.rows = Math.max(1, Math.min(2000, Math.ceil((high * 1.1) / map.bin) - first));
  map.low = first * map.bin;
  map.long = new Float32Array(map.columns * map.rows);
  map.short = new Float32Array(map.columns * map.rows);
}

/**
 * Lowest low, highest high and last close of the candles that begin in a stretch.
 * @param {Candle[]} candles
 * @param {number} from
 * @param {number} to
 */
function priceSpan(candles, from, to = Infinity) {
  let [low, high, last] = [Infinity, -Infinity, 0];
  for (const bar of candles) {
    if (bar.time < from || bar.time >= to) continue;
    low = Math.min(low, bar.low);
    high = Math.max(high, bar.high);
    last = bar.close;
  }
  return [low, high, last];
}

/**
 * The same map in rows of `bin`, a multiple of its own. Rows that reach beyond the map are left out.
 * @param {HeatMap} map
 * @param {number} bin
 */
export function rebin(map, bin) {
  const factor = Math.round(bin / map.bin);
  if (factor <= 1) return map;
  const first = Math.ceil(Math.round(map.low / map.bin) / factor);
  const skipped = first * factor - Math.round(map.low / map.bin);
  const rows = Math.floor((map.rows - skipped) / factor);
  if (rows < 2) return map;
  /** @param {Float32Array} cells */
  const merged = (cells) => {
    const sums = new Float32Array(map.columns * rows);
    for (let t = 0; t < map.columns; t += 1) {
      for (let p = 0; p < rows * factor; p += 1) {
        sums[t * rows + Math.floor(p / factor)] += cells[t * map.rows + skipped + p];
      }
    }
    return sums;
  };
  return finished({
    ...map,
    rows,
    bin: map.bin * factor,
    low: first * factor * map.bin,
    merged: { skipped, factor },
    long: merged(map.long),
    short: merged(map.short),
  });
}

/**
 * Modelled liquidations, the largest first: one of each column and side in which lots died, where they died.
 * @param {any} payload
 * @param {HeatMap} map
 * @returns {Bubble[]}
 */
function bubblesOf(payload, map) {
  const bubbles = SIDES.flatMap((side) => {
    if (!payload.modelled) return bubblesOfCells(cellsOf(payload[`consumed_${side}`]), side, map);
    const [column, price, volume, lots, low, high] = ["time", "price", "volume", "lots", "entry_low", "entry_high"].map(
      (name) => unpack(payload.modelled[side][name]),
    );
    return Array.from(column, (at, i) => ({
      side,
      column: at,
      time: map.start + (at + 0.5) * map.width,
      price: price[i],
      volume: volume[i],
      lots: lots[i],
      entryLow: low[i],
      entryHigh: high[i],
    }));
  });
  return bubbles.sort((a, b) => b.volume - a.volume);
}

/**
 * The same of files of before that was told: from their cells, not beyond where price was.
 * @param {Cells} cells
 * @param {Side} side
 * @param {HeatMap} map
 * @returns {Bubble[]}
 */
function bubblesOfCells({ time, price, volume }, side, map) {
  /** @type {Map<number, { volume: number, weighed: number }>} */
  const sums = new Map();
  for (let i = 0; i < volume.length; i += 1) {
    const sum = sums.get(time[i]) ?? { volume: 0, weighed: 0 };
    sum.volume += volume[i];
    sum.weighed += volume[i] * (map.low + (price[i] + 0.5) * map.bin);
    sums.set(time[i], sum);
  }
  return Array.from(sums, ([column, sum]) => {
    const from = map.start + column * map.width;
    const [low, high] = priceSpan(map.candles, from, from + map.width);
    const mean = Math.min(high, Math.max(low, sum.weighed / sum.volume));
    const rest = { lots: null, entryLow: null, entryHigh: null };
    return { side, column, time: from + 0.5 * map.width, price: mean, volume: sum.volume, ...rest };
  });
}

/**
 * The book at the end of a column: one entry per row; sums run outward from the price.
 * @param {HeatMap} map
 * @param {number} column
 * @returns {Book}
 */
export function bookAt(map, column) {
  const { rows } = map;
  const from = Math.max(0, column) * rows;
  const long = Float64Array.from(map.long.subarray(from, from + rows));
  const short = Float64Array.from(map.short.subarray(from, from + rows));
  const [longSum, shortSum] = [new Float64Array(rows), new Float64Array(rows)];
  for (let p = 0, sum = 0; p < rows; p += 1) shortSum[p] = sum += short[p];
  for (let p = rows - 1, sum = 0; p >= 0; p -= 1) longSum[p] = sum += long[p];
  return { long, short, longSum, shortSum, middle: Float64Array.from(long, (_, p) => map.low + (p + 0.5) * map.bin) };
}

/**
 * The book of a map at its moment, which is its newest unless `atMoment` chose another.
 * @param {HeatMap} map
 * @returns {Book}
 */
export function newestBook(map) {
  map.book ??= bookAt(map, map.columns - 1);
  return map.book;
}

const CANDLE_MINUTES = [5, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 10080];

/**
 * Candles between two instants, merged until there are at most `most` of them; what ends after `until` is left out.
 * @param {HeatMap} map
 * @param {number} from
 * @param {number} to
 * @param {number} most
 * @param {number} until
 */
export function candlesIn(map, from, to, most, until = Infinity) {
  const own = map.candleWidth;
  /** @param {number} step */
  const fits = (step) => step >= own && step % own === 0 && (to - from) / step <= most;
  const step = [own, ...CANDLE_MINUTES.map((minutes) => minutes * MINUTE)].find(fits) ?? own;
  /** @type {Candle[]} */
  const merged = [];
  for (const bar of map.candles) {
    if (bar.time < from - step || bar.time > to + step || bar.time + own > until) continue;
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

/**
 * Whether any of the map is within a view.
 * @param {HeatMap} map
 * @param {View} view
 */
export const overlaps = (map, { x, y }) => x[0] < map.end && x[1] > map.start && y[0] < map.high && y[1] > map.low;

/**
 * The part of the map that a range shows: its time, and its candles with prices around them as far as the map reaches.
 * @param {HeatMap} map
 * @param {RangeName} range
 * @param {number | null} at its end, null for the newest
 * @returns {View}
 */
export function viewOf(map, range, at = null) {
  const end = Math.min(at ?? map.end, map.end);
  const span = Math.min(RANGES[range], end - map.start);
  // Beside the newest data there is some room; beside the past there is no void.
  const x = [end - span, at === null ? end + 0.012 * span : end];
  return { x, y: pricesOf(map, x) };
}

/**
 * The prices at which there is anything: cells or candles.
 * @param {HeatMap} map
 */
export function priceBounds(map) {
  const [low, high] = priceSpan(map.candles, 0);
  return { first: Math.min(map.low, low), last: Math.max(map.high, high) };
}

/**
 * The candles of a stretch of time, with prices around them as far as the map reaches.
 * @param {HeatMap} map
 * @param {number[]} x
 */
export function pricesOf(map, [from, to]) {
  const [low, high, last] = priceSpan(map.candles, from, to);
  if (!(low <= high)) return [map.low, map.high];
  const margin = Math.max(0.8 * (high - low), 0.04 * last);
  return [Math.min(low, Math.max(map.low, low - margin)), Math.max(high, Math.min(map.high, high + margin))];
}

/**
 * By values: where the colours of the newest view end, as pointer and handles ask again and again.
 * @type {WeakMap<Float32Array, { part: string, ends: { most: number, top: number } }>}
 */
const ENDS = new WeakMap();

/**
 * Of the cells in view the largest value, and the one that 1 cell in 200 exceeds: there the colours end, so that one
 * cell does not dim the rest. With nothing in view they are those of the whole map.
 * @param {HeatMap} map
 * @param {Float32Array} values of the cells; NaN is not known
 * @param {View} view
 * @returns {{ most: number, top: number }}
 */
export function colourEnds(map, values, { x, y }) {
  const { columns, rows } = map;
  const first = Math.max(0, Math.floor((x[0] - map.start) / map.width));
  const last = Math.min(columns, Math.ceil((x[1] - map.start) / map.width));
  const bottom = Math.max(0, Math.floor((y[0] - map.low) / map.bin));
  const top = Math.min(rows, Math.ceil((y[1] - map.low) / map.bin));
  const part = [first, last, bottom, top].join();
  const kept = ENDS.get(values);
  if (kept?.part === part) return kept.ends;
  let ends = endsOf(values, rows, [first, last], [bottom, top]);
  if (!ends.most) ends = endsOf(values, rows, [0, columns], [0, rows]);
  if (!ends.most) ends = { most: 1, top: 1 };
  ENDS.set(values, { part, ends });
  return ends;
}

/**
 * @param {Float32Array} values
 * @param {number} rows
 * @param {number[]} columns from one to before another
 * @param {number[]} inside the same of rows
 */
function endsOf(values, rows, [first, last], [bottom, top]) {
  const step = Math.max(1, Math.floor(((last - first) * (top - bottom)) / 200000));
  const sample = [];
  let most = 0;
  for (let t = first, seen = 0; t < last; t += 1) {
    for (let p = bottom; p < top; p += 1, seen += 1) {
      const value = values[t * rows + p];
      if (value > most) most = value;
      if (value > 0 && seen % step === 0) sample.push(value);
    }
  }
  const sorted = Float32Array.from(sample).sort();
  const limit = sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(0.995 * sorted.length))] : most;
  return { most, top: limit };
}
