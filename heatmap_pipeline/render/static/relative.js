// How much more than usual stands at a distance from the price: the definition of docs/model.md, "Relative to
// distance", as model/distance.py computes it for the endpoint. Pure functions of a map's cells, kept column by column
// as in map.js.

/** @import { HeatMap, Side } from "./types.d.ts" */

/**
 * By the cells of a map, which are other ones in other rows: what was computed of them, as the pointer asks again and
 * again.
 * @type {WeakMap<Float32Array, Float32Array>}
 */
const RELATIVE = new WeakMap();
/** @type {WeakMap<Float32Array, Record<Side, (number | null)[]>>} */
const USUAL = new WeakMap();

// Between bands, percent of the price: 0.25 wide up to 10, 1 up to 20, 5 up to 50, 25 up to 100; beyond, none.
export const DISTANCE_EDGES = [
  ...Array.from({ length: 40 }, (_, i) => i / 4),
  ...Array.from({ length: 10 }, (_, i) => 10 + i),
  ...Array.from({ length: 6 }, (_, i) => 20 + 5 * i),
  50,
  75,
  100,
];
const LEAST_TOLD = 24; // columns; with fewer nobody knows what is usual

/**
 * Where bands begin, as numbers of rows counted from price 0. Shorts: band b has the rows from [b] up to [b + 1], not
 * included. Longs: from [b + 1] up to [b], not included. The row that holds the price belongs to the first band of
 * both.
 * @param {number} price
 * @param {number} bin
 * @param {Side} side
 */
export function bandRows(price, bin, side) {
  const holding = Math.floor(price / bin);
  return DISTANCE_EDGES.map((edge, i) => {
    if (side === "short") {
      return i === 0 ? holding : Math.max(Math.ceil((price * (100 + edge)) / 100 / bin - 0.5), holding + 1);
    }
    return i === 0 ? holding + 1 : Math.min(Math.floor((price * (100 - edge)) / 100 / bin - 0.5) + 1, holding);
  });
}

/**
 * The last close within each column of a map; NaN where it has no candle.
 * @param {HeatMap} map
 */
export function columnCloses({ candles, columns, start, width }) {
  const closes = new Float64Array(columns).fill(NaN);
  for (const { time, close } of candles) {
    const column = Math.floor((time - start) / width);
    if (column >= 0 && column < columns) closes[column] = close;
  }
  return closes;
}

/**
 * Calls `each(band, first, end, count)` for every band of a column, with its rows among those of the map, and how many
 * there are of it, also beyond the map.
 * @param {HeatMap} map
 * @param {number} price
 * @param {Side} side
 * @param {(band: number, first: number, end: number, count: number) => void} each
 */
function eachBand({ rows, low, bin }, price, side, each) {
  const [starts, lowest] = [bandRows(price, bin, side), Math.round(low / bin)];
  const bands = starts.length - 1;
  for (let band = 0; band < bands; band += 1) {
    const [from, to] = side === "short" ? [starts[band], starts[band + 1]] : [starts[band + 1], starts[band]];
    // What lies on the other side of the price counts for the first band.
    const first = side === "short" && band === 0 ? 0 : Math.max(0, from - lowest);
    const end = side === "long" && band === 0 ? rows : Math.min(rows, to - lowest);
    each(band, first, end, to - from);
  }
}

/** @param {number[]} values */
function middleOf(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * The volume per row that usually stands in each band, by side: the median over the columns of a map of the mean over
 * the rows of the band. null where fewer than LEAST_TOLD columns tell it, or where it is 0.
 * @param {HeatMap} map
 */
export function usualOf(map) {
  const known = USUAL.get(map.long);
  if (known) return known;
  const closes = columnCloses(map);
  /** @type {Record<Side, (number | null)[]>} */
  const usual = { long: [], short: [] };
  for (const side of /** @type {Side[]} */ (["long", "short"])) {
    const cells = map[side];
    const means = DISTANCE_EDGES.slice(1).map(() => /** @type {number[]} */ ([]));
    closes.forEach((price, t) => {
      if (Number.isNaN(price)) return;
      eachBand(map, price, side, (band, first, end, count) => {
        if (count <= 0) return;
        let sum = 0;
        for (let i = t * map.rows + first; i < t * map.rows + end; i += 1) sum += cells[i];
        means[band].push(sum / count);
      });
    });
    usual[side] = means.map((values) => (values.length < LEAST_TOLD ? null : middleOf(values) || null));
  }
  USUAL.set(map.long, usual);
  return usual;
}

/**
 * How many times as much as usual each cell of a side holds: 1 = as much as usual. 0 where nothing stands, NaN where
 * something does but nobody knows what is usual there.
 * @param {HeatMap} map
 * @param {Side} side
 */
export function relativeCells(map, side) {
  const cells = map[side];
  const known = RELATIVE.get(cells);
  if (known) return known;
  const usual = usualOf(map)[side];
  // Loops, not from(): that takes ten times as long, and a map has millions of cells.
  const times = new Float32Array(cells.length);
  for (let i = 0; i < cells.length; i += 1) if (cells[i] > 0) times[i] = NaN;
  columnCloses(map).forEach((price, t) => {
    if (Number.isNaN(price)) return;
    eachBand(map, price, side, (band, first, end) => {
      const volume = usual[band];
      if (volume === null) return;
      for (let i = t * map.rows + first; i < t * map.rows + end; i += 1) times[i] = cells[i] / volume;
    });
  });
  RELATIVE.set(cells, times);
  return times;
}
