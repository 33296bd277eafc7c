// Clusters of the newest book and max pain: the definitions of docs/api.md, as the endpoint's map computes them.

import { newestBook } from "./map.js";

/** @import { BookPart, Cluster, HeatMap, Pain, Side } from "./types.d.ts" */

const MERGED_ABOVE = 0.75; // of the side's largest bin: neighbouring bins above it are one cluster
const NEAR_ENOUGH = 0.1; // of the side's largest cluster: what counts as the nearest one
const CLUSTERS_LISTED = 5;
const LEAST_PERCENT = 1; // a shorter way counts as this long for max pain, or the row next to the price would win

/**
 * Local maxima of one side's volumes, rising in price: { price, volume, distance_percent, side, low, high }.
 * @param {Float64Array} volumes
 * @param {Side} side
 * @param {Pick<BookPart, "low" | "bin" | "price">} part
 * @returns {Cluster[]}
 */
function sideClusters(volumes, side, { low, bin, price }) {
  let largest = 0;
  for (const volume of volumes) largest = Math.max(largest, volume);
  /** @type {number[][]} */
  const groups = [];
  let open = false;
  for (let p = 0; p < volumes.length; p += 1) {
    const high = largest > 0 && volumes[p] > MERGED_ABOVE * largest;
    if (high && open) groups[groups.length - 1].push(p);
    else groups.push([p]);
    open = high;
  }
  const sums = groups.map((rows) => rows.reduce((sum, p) => sum + volumes[p], 0));
  return groups.flatMap((rows, i) => {
    const volume = sums[i];
    if (!(volume > 0 && volume > (sums[i - 1] ?? 0) && volume >= (sums[i + 1] ?? 0))) return [];
    const mean = rows.reduce((sum, p) => sum + volumes[p] * (low + (p + 0.5) * bin), 0) / volume;
    return [
      {
        price: mean,
        volume,
        distance_percent: (mean / price - 1) * 100,
        side,
        low: low + rows[0] * bin,
        high: low + (rows[rows.length - 1] + 1) * bin,
      },
    ];
  });
}

/**
 * The newest book between two prices, and up to the last price if that is outside: as much of a map as the questions
 * below need.
 * @param {HeatMap} map
 * @param {number[]} prices
 * @returns {BookPart}
 */
export function bookBetween(map, [from, to]) {
  const first = Math.max(0, Math.floor((Math.min(from, map.price) - map.low) / map.bin));
  const end = Math.min(map.rows, Math.ceil((Math.max(to, map.price) - map.low) / map.bin));
  const { long, short } = newestBook(map);
  return {
    low: map.low + first * map.bin,
    bin: map.bin,
    rows: end - first,
    price: map.price,
    book: { long: long.subarray(first, end), short: short.subarray(first, end) },
  };
}

/**
 * The largest clusters above (shorts) and below (longs), largest first, and the nearest of each.
 * @param {HeatMap} map or a part of its book
 * @returns {Record<string, any>}
 */
export function clustersOf(map) {
  const book = newestBook(map);
  const found = { above: sideClusters(book.short, "short", map), below: sideClusters(book.long, "long", map) };
  /** @type {Record<string, any>} */
  const result = { nearest: {} };
  for (const [where, all] of Object.entries(found)) {
    /** @param {Cluster} one */
    const away = (one) => Math.abs(one.distance_percent);
    const sorted = [...all].sort((a, b) => b.volume - a.volume || away(a) - away(b));
    const worth = all.filter((one) => one.volume >= NEAR_ENOUGH * sorted[0].volume);
    result[where] = sorted.slice(0, CLUSTERS_LISTED);
    const [first = null] = worth;
    result.nearest[where] = worth.reduce((best, one) => (best && away(best) <= away(one) ? best : one), first);
  }
  return result;
}

/**
 * Where a straight move from the price would liquidate the most volume per percent moved, one price per direction.
 * @param {HeatMap} map or a part of its book
 */
export function maxPain(map) {
  const { long, short } = newestBook(map);
  /** @type {Record<string, Pain | null>} */
  const best = { above: null, below: null };
  // Edges come with growing distance, so of equal ones the nearer stays.
  /** @type {(where: string, edge: number, volume: number) => void} */
  const take = (where, edge, volume) => {
    const distance = (edge / map.price - 1) * 100;
    const rate = volume / Math.max(Math.abs(distance), LEAST_PERCENT);
    if (volume > 0 && rate > (best[where]?.volume_per_percent ?? 0)) {
      best[where] = { price: edge, volume, volume_per_percent: rate, distance_percent: distance };
    }
  };
  for (let p = 0, sum = 0; p < map.rows; p += 1) {
    sum += short[p];
    const edge = map.low + (p + 1) * map.bin;
    if (edge > map.price) take("above", edge, sum);
  }
  for (let p = map.rows - 1, sum = 0; p >= 0; p -= 1) {
    sum += long[p];
    const edge = map.low + p * map.bin;
    if (edge < map.price) take("below", edge, sum);
  }
  return best;
}
