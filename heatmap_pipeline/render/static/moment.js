// What there is at a moment: everything beside the map belongs to one, the right edge of the view or a pinned one.

import { bookAt } from "./map.js";

/** @import { HeatMap } from "./types.d.ts" */

/**
 * The last column that had ended by a moment, the first one where none had.
 * @param {HeatMap} map
 * @param {number} time
 */
export function columnAt(map, time) {
  if (time >= map.asOf) return map.columns - 1;
  return Math.max(0, Math.min(map.columns, Math.floor((time - map.start) / map.width + 1e-9)) - 1);
}

/**
 * The map as it stood at a moment: `book`, `price`, `locatedShare` (null where it is not known) and `asOf` are of the
 * last column that had ended by then.
 * @param {HeatMap} map
 * @param {number} time
 * @returns {HeatMap}
 */
export function atMoment(map, time) {
  const column = columnAt(map, time);
  const book = bookAt(map, column);
  if (column === map.columns - 1) return { ...map, book, column };
  const asOf = Math.min(map.asOf, map.start + (column + 1) * map.width);
  const before = map.candles.filter((bar) => bar.time + map.candleWidth <= asOf);
  const price = before.at(-1)?.close ?? map.candles[0]?.open ?? map.price;
  return { ...map, book, column, asOf, price, locatedShare: map.shares ? map.shares[column] : null };
}
