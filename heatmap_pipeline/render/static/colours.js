// Colours, and what a volume looks like. Sides are blue and orange, candles white and pink: pairs that everyone can
// tell apart.

import { colourEnds } from "./map.js";
import { relativeCells } from "./relative.js";
import { binText, quote, timesText, volumeText } from "./words.js";

/** @import { Choice, HeatMap, Scale, Side, View } from "./types.d.ts" */

export const COLOURS = {
  background: "#0b0e14",
  text: "#d7dde8",
  muted: "#8a93a5",
  line: "#232a38",
  bright: "#ffffff",
  warn: "#ffd166",
  long: "#4ea8ff",
  short: "#ff9a3c",
  up: "#f4f7fb",
  down: "#f06ccf",
  price: "#ffffff",
  unknown: "#454d5e",
};
const VIRIDIS = [
  "#440154",
  "#481a6c",
  "#472f7d",
  "#414487",
  "#39568c",
  "#31688e",
  "#2a788e",
  "#23888e",
  "#1f988b",
  "#22a884",
  "#35b779",
  "#54c568",
  "#7ad151",
  "#a5db36",
  "#d2e21b",
  "#fde725",
];
// Viridis after a short run-in from the background: empty is dark, little is nearly so.
const RUN_IN = 0.14;
export const STOPS = /** @type {[number, string][]} */ ([
  [0, COLOURS.background],
  ...VIRIDIS.map((colour, i) => [RUN_IN + ((1 - RUN_IN) * i) / 15, colour]),
]);
const SHADES = 256;
const LOG_DECADES = 2;
export const FONT = 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

const RAMP = (() => {
  /** @param {string} colour */
  const parts = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return Array.from({ length: SHADES }, (_, i) => {
    const share = i / (SHADES - 1);
    const after = Math.max(
      1,
      STOPS.findIndex(([place]) => place >= share),
    );
    const [[from, low], [to, high]] = [STOPS[after - 1], STOPS[after]];
    const part = (share - from) / (to - from);
    const end = parts(high);
    return parts(low).map((value, k) => Math.round(value + part * (end[k] - value)));
  });
})();

const PIXELS = Uint32Array.from(RAMP, ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0);

const UNKNOWN = (() => {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(COLOURS.unknown.slice(at, at + 2), 16));
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
})();

/**
 * By the long cells of a map: what both sides make together.
 * @type {WeakMap<Float32Array, Record<string, Float32Array>>}
 */
const TOGETHER = new WeakMap();

/**
 * What the colours of a map's cells say: volumes, or how many times as much as usual; NaN where nobody knows. Volumes
 * of both sides add up; of two factors the larger one counts.
 * @param {HeatMap} map
 * @param {boolean} times whether they say factors
 * @param {"both" | Side} side
 */
export function cellValues(map, times, side) {
  if (side !== "both") return times ? relativeCells(map, side) : map[side];
  const kept = TOGETHER.get(map.long) ?? {};
  TOGETHER.set(map.long, kept);
  const name = times ? "times" : "volume";
  if (!kept[name]) {
    const [long, short] = times ? [relativeCells(map, "long"), relativeCells(map, "short")] : [map.long, map.short];
    const values = new Float32Array(long.length);
    for (let i = 0; i < values.length; i += 1) {
      const a = long[i];
      const b = short[i];
      // Of a known factor and an unknown one the known one; of 0 and an unknown one the unknown one.
      if (times && (a > 0 || b > 0)) values[i] = b > a || !(a > 0) ? b : a;
      else values[i] = a + b;
    }
    kept[name] = values;
  }
  return kept[name];
}

/**
 * Between which values the colours run: the user's own, else those that fit the cells in view, of both sides, so that a
 * colour says the same whatever side is shown.
 * @param {HeatMap} map
 * @param {Choice} choice
 * @param {View} view
 * @returns {Scale}
 */
export function colourScale(map, choice, view) {
  const times = choice.scale === "relative";
  const log = times || choice.scale === "log";
  const ends = colourEnds(map, cellValues(map, times, "both"), view);
  const high = choice.high ?? Math.max(ends.top, (choice.low ?? (times ? 1 : 0)) * 2);
  let low = choice.low ?? (times ? 1 : log ? high / 10 ** LOG_DECADES : 0);
  if (log && (low <= 0 || low >= high)) low = high / 10 ** LOG_DECADES;
  const span = log ? Math.log(high / low) : high - low;
  return {
    log,
    times,
    low,
    high,
    most: ends.most,
    top: ends.top,
    /** 0 at the lower end, 1 at the upper one. */
    place: (volume) => (log ? Math.log(Math.max(volume, Number.MIN_VALUE) / low) : volume - low) / span,
  };
}

/**
 * A value of a scale in words.
 * @param {Scale} scale
 * @param {number} value
 */
export const scaleText = (scale, value) => (scale.times ? timesText(value) : volumeText(value));

/**
 * What the colours say, and what they fit; the legend and the picture say it alike.
 * @param {HeatMap} map
 * @param {Choice} choice
 * @param {Scale} scale
 */
export function scaleWords(map, choice, scale) {
  const what = scale.times
    ? "times the usual at this distance"
    : `modelled ${quote} per ${binText(map.bin)} ${quote} of price${scale.log ? ", log" : ""}`;
  return `${what} · ${choice.high === null ? "fit to view" : "locked"}`;
}

/**
 * A canvas with one pixel per cell: transparent where nothing is, or less than the scale shows; grey where nobody
 * knows.
 * @param {HTMLCanvasElement} canvas
 * @param {HeatMap} map
 * @param {Choice} choice
 * @param {Scale} scale
 */
export function paintCells(canvas, map, choice, scale) {
  const { columns, rows } = map;
  canvas.width = Math.max(1, columns);
  canvas.height = Math.max(1, rows);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const { log, low, high } = scale;
  const values = cellValues(map, scale.times, choice.side);
  const factor = (SHADES - 1) / (log ? Math.log(high / low) : high - low);
  for (let t = 0, i = 0; t < columns; t += 1) {
    for (let p = 0; p < rows; p += 1, i += 1) {
      const value = values[i];
      if (value > 0 && value >= low) {
        const shade = (log ? Math.log(value / low) : value - low) * factor;
        pixels[(rows - 1 - p) * columns + t] = PIXELS[shade < SHADES ? shade | 0 : SHADES - 1];
      } else if (Number.isNaN(value)) pixels[(rows - 1 - p) * columns + t] = UNKNOWN;
    }
  }
  context.putImageData(image, 0, 0);
}

/**
 * Copies the part of the cells that a view shows into a box; cells stay sharp rectangles.
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLCanvasElement} cells
 * @param {HeatMap} map
 * @param {View} view
 * @param {{left: number, top: number, width: number, height: number}} box
 * @param {number} until nothing after it is shown
 */
export function copyCells(context, cells, map, view, box, until = Infinity) {
  context.save();
  context.beginPath();
  const across = (view.x[1] - view.x[0]) / box.width;
  context.rect(box.left, box.top, Math.max(0, Math.min(box.width, (until - view.x[0]) / across)), box.height);
  context.clip();
  const down = (view.y[1] - view.y[0]) / box.height;
  context.imageSmoothingEnabled = down > 1.2 * map.bin;
  context.drawImage(
    cells,
    box.left + (map.start - view.x[0]) / across,
    box.top + (view.y[1] - map.high) / down,
    (map.end - map.start) / across,
    (map.high - map.low) / down,
  );
  context.restore();
}

/**
 * Round volumes within a scale: even steps where it is linear, 1, 2 and 5 where it is not.
 * @param {number} low
 * @param {number} high
 * @param {boolean} log
 */
export function roundVolumes(low, high, log, most = 8) {
  if (!log) {
    const power = 10 ** Math.floor(Math.log10((high - low) / most));
    const step =
      [1, 2, 2.5, 5, 10].map((digit) => digit * power).find((size) => (high - low) / size <= most) ?? 10 * power;
    const values = [];
    for (let i = Math.max(0, Math.ceil(low / step - 1e-9)); i * step <= high * (1 + 1e-9); i += 1)
      values.push(i * step);
    return values;
  }
  const values = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power += 1) {
    for (const digit of [1, 2, 5]) values.push(digit * 10 ** power);
  }
  return values.filter((value) => value >= low * 0.999 && value <= high * 1.001);
}
