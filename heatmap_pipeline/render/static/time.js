// Spans of time, milliseconds: the ranges on offer, and which window has to be asked for to show what is looked at.

/** @import { Bounds, RangeName, View, Window } from "./types.d.ts" */

export const MINUTE = 60000;
const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;
/** @type {Record<RangeName, number>} */
export const RANGES = {
  "12h": 12 * HOUR,
  "24h": DAY,
  "3d": 3 * DAY,
  "7d": 7 * DAY,
  "14d": 14 * DAY,
  "30d": 30 * DAY,
  "90d": 90 * DAY,
  "180d": 180 * DAY,
  "1y": 365 * DAY,
};
/**
 * Seconds of a column by range: fine where few days are shown, never more columns than a screen has.
 * @type {Record<RangeName, number>}
 */
const COLUMN_SECONDS = {
  "12h": 300,
  "24h": 300,
  "3d": 900,
  "7d": 900,
  "14d": 3600,
  "30d": 3600,
  "90d": 14400,
  "180d": 14400,
  "1y": 14400,
};
const INTERVALS = [300, 900, 3600, 14400, 86400];
const LEAST_COLUMNS = 240; // in view, however narrow the screen is
const PIXELS_OF_A_COLUMN = 1.5;
const AROUND = 0.4; // of a view is loaded on either side of it, so that a small move needs nothing new
const MOST_COLUMNS = 2500; // in view, before a coarser window is asked for

/**
 * The finest interval, seconds, that is not finer than the candles and of which a span has not too many.
 * @param {number} span
 * @param {number} finest of the candles, seconds
 * @param {number} most
 */
function intervalOf(span, finest, most) {
  const usable = INTERVALS.filter((seconds) => seconds >= finest);
  return usable.find((seconds) => span / (seconds * 1000) <= most) ?? INTERVALS[INTERVALS.length - 1];
}

/**
 * A stretch of the same length that lies within bounds, or the bounds if it is longer than they are.
 * @param {number[]} stretch
 * @param {number[]} bounds
 */
export function within([from, to], [first, last]) {
  const length = Math.min(to - from, last - first);
  const begin = Math.min(Math.max(from, first), last - length);
  return [begin, begin + length];
}

/**
 * Where a stretch that is looked at may be: half of it lies between the first and the last that there is, and it is at
 * most twice as long as that.
 * @param {number[]} stretch
 * @param {{ first: number, last: number }} bounds
 */
export function onData([from, to], { first, last }) {
  const half = Math.min((to - from) / 2, last - first);
  const middle = Math.min(Math.max((from + to) / 2, first), last);
  return [middle - half, middle + half];
}

/**
 * The window to ask for: that of a range up to a moment (null is the newest), or around a view.
 * @param {{ range: RangeName, at: number | null, view: { x: number[] } | null }} choice
 * @param {Bounds} bounds
 * @param {number} pixels width of the map
 * @returns {Window}
 */
export function windowOf({ range, at, view }, { first, last, finest }, pixels) {
  if (!view) {
    const seconds = intervalOf(0, Math.max(COLUMN_SECONDS[range], finest), 1);
    return { from: Math.max(first, (at ?? last) - RANGES[range]), to: at, seconds };
  }
  const [from, to] = [Math.max(first, view.x[0]), Math.min(last, view.x[1])];
  const span = to - from;
  const seconds = intervalOf(span, finest, Math.max(LEAST_COLUMNS, pixels / PIXELS_OF_A_COLUMN));
  // In quarters of the view, so that going there and back asks for the same.
  const step = Math.ceil(span / 4 / (seconds * 1000)) * seconds * 1000;
  const end = Math.ceil((to + AROUND * span) / step) * step;
  return {
    from: Math.max(first, Math.floor((from - AROUND * span) / step) * step),
    to: end >= last ? null : end,
    seconds,
  };
}

/**
 * Whether what is loaded shows a view, as far as there are data, as finely as the screen can.
 * @param {Window} loaded
 * @param {{ x: number[] }} view
 * @param {Bounds} bounds
 * @param {number} pixels
 */
export function suffices(loaded, view, bounds, pixels) {
  const wanted = windowOf({ range: "7d", at: null, view }, bounds, pixels);
  const [from, to] = [Math.max(bounds.first, view.x[0]), Math.min(bounds.last, view.x[1])];
  const isThere = loaded.from <= from && (loaded.to ?? bounds.last) >= to;
  return isThere && loaded.seconds <= wanted.seconds && (to - from) / (loaded.seconds * 1000) <= MOST_COLUMNS;
}
