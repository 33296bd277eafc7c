// What each market has of the map of a base: of every cell, zone and moment. A market without a candle in a column is
// missing there, and nothing older stands in for it.

import { labelled } from "./bases.js";
import { ageText, instantText } from "./words.js";

/** @import { HeatMap, Market, Numbers, Part, Side } from "./types.d.ts" */

/**
 * The parts of a payload; undefined for the map of one market.
 * @param {any} payload
 * @param {(array: any) => Numbers} unpack
 * @returns {Part[] | undefined}
 */
export function partsOf({ by_market: volumes, meta }, unpack) {
  if (!volumes) return undefined;
  const known = labelled(meta.parts);
  return meta.parts.map((/** @type {any} */ part, /** @type {number} */ i) => ({
    ...part,
    ...known[i],
    newest: Date.parse(part.newest),
    gone: part.without_candles,
    long: unpack(volumes[i].long),
    short: unpack(volumes[i].short),
    shares: unpack(volumes[i].located_shares),
    zones: { long: unpack(volumes[i].zones.long), short: unpack(volumes[i].zones.short) },
  }));
}

/**
 * Calls and colours the parts of a map as the markets they are of are, whichever of these are shown.
 * @param {HeatMap} map
 * @param {Market[] | undefined} markets
 */
export function nameParts(map, markets) {
  for (const part of map.parts ?? []) {
    const market = markets?.find(({ symbol }) => symbol === part.symbol);
    if (market) Object.assign(part, { label: market.label, colour: market.colour });
  }
}

/**
 * Whether a part has nothing to tell of a column.
 * @param {Part} part
 * @param {number} column
 */
export const isMissing = ({ gone }, column) => gone.some(([first, end]) => column >= first && column < end);

/**
 * Where the cells of a column begin in a rising list of columns.
 * @param {Numbers} times
 * @param {number} column
 */
function firstOf(times, column) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < column) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * What a part has of each row of a column.
 * @param {HeatMap} map
 * @param {Part} part
 * @param {Side} side
 * @param {number} column
 */
function rowsOf({ cells, merged, rows }, part, side, column) {
  const filled = new Float64Array(rows);
  const { time, price } = /** @type {NonNullable<HeatMap["cells"]>} */ (cells)[side];
  const { skipped, factor } = merged ?? { skipped: 0, factor: 1 };
  for (let i = firstOf(time, column); i < time.length && time[i] === column; i += 1) {
    const row = Math.floor((price[i] - skipped) / factor);
    if (row >= 0 && row < rows) filled[row] += part[side][i] || 0;
  }
  return filled;
}

/**
 * The book of each part at the end of a column, by row; null of one that is missing there.
 * @param {HeatMap} map
 * @param {number} column
 */
export function partBooks(map, column) {
  return (map.parts ?? []).map((part) =>
    isMissing(part, column)
      ? null
      : { long: rowsOf(map, part, "long", column), short: rowsOf(map, part, "short", column) },
  );
}

/** @param {Float64Array} volumes */
const sumOf = (volumes) => volumes.reduce((total, volume) => total + volume, 0);

/**
 * What each part is at a column: whether it is missing, what it holds of both sides, and its share of all that is held.
 * @param {HeatMap} map
 * @param {number} column
 */
export function partsAt(map, column) {
  const volumes = partBooks(map, column).map((book) => book && sumOf(book.long) + sumOf(book.short));
  const whole = volumes.reduce((/** @type {number} */ total, volume) => total + (volume ?? 0), 0);
  return (map.parts ?? []).map((part, i) => {
    const volume = volumes[i];
    return { part, volume, isMissing: volume === null, share: volume === null ? null : whole ? volume / whole : 0 };
  });
}

/**
 * Shares of one zone or cell by part, the largest first: [part, volume, share]; volumes of null are missing.
 * @param {Part[]} parts
 * @param {(number | null)[]} volumes
 * @returns {[Part, number | null, number][]}
 */
export function sharesOf(parts, volumes) {
  const known = volumes.map((volume) => volume || 0);
  const whole = known.reduce((total, volume) => total + volume, 0);
  return parts
    .map(
      (part, i) =>
        /** @type {[Part, number | null, number]} */ ([
          part,
          volumes[i] === null || Number.isNaN(volumes[i]) ? null : known[i],
          whole ? known[i] / whole : 0,
        ]),
    )
    .sort((a, b) => b[2] - a[2]);
}

/** @param {number} share */
export const percentOf = (share) => (share > 0 && share < 0.005 ? "<1 %" : `${Math.round(100 * share)} %`);

/**
 * Bars of a side stacked from the axis outward: by part the rows that it has anything in, where its bar begins and how
 * long it is.
 * @param {HeatMap} map
 * @param {number} column
 * @param {Side} side
 */
export function stacked(map, column, side) {
  const ends = new Float64Array(map.rows);
  return partBooks(map, column).map((book, i) => {
    const bars = { part: /** @type {Part[]} */ (map.parts)[i], rows: [], from: [], volume: [] };
    book?.[side].forEach((volume, row) => {
      if (!volume) return;
      /** @type {number[]} */ (bars.rows).push(row);
      /** @type {number[]} */ (bars.from).push(ends[row]);
      /** @type {number[]} */ (bars.volume).push(volume);
      ends[row] += volume;
    });
    return bars;
  });
}

/**
 * "2 of 3 markets" at a column: those that stand in the map, of all that were asked for.
 * @param {HeatMap} map
 * @param {number} column
 */
export function countWords(map, column) {
  const there = partsAt(map, column).filter((one) => !one.isMissing).length;
  const all = Math.max(map.markets ?? 0, map.parts?.length ?? 0);
  return { there, all, words: `${there} of ${all} market${all === 1 ? "" : "s"}` };
}

/**
 * Why a part is missing at a column.
 * @param {HeatMap} map
 * @param {Part} part
 * @param {number} column
 */
export function missingWords(map, part, column) {
  const end = Math.min(map.asOf, map.start + (column + 1) * map.width);
  const isOver = part.newest < end;
  const late = isOver ? `${ageText((end - part.newest) / 1000)} before` : "";
  const why = isOver
    ? `its newest data end ${instantText(part.newest)}, ${late} what is shown`
    : "it has no candle in this interval";
  return `${part.label} is missing: ${why}. Nothing older stands in for it.`;
}

/**
 * Stretches of time in which a part is missing: { from, to, words }, milliseconds.
 * @param {HeatMap} map
 */
export function missingStretches(map) {
  return (map.parts ?? []).flatMap(({ gone, label }) =>
    gone.map(([first, end]) => ({
      from: map.start + first * map.width,
      to: Math.min(map.end, map.start + end * map.width),
      words: `${label} is missing`,
    })),
  );
}
