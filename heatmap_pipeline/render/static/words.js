// How volumes, prices and times are written. Prices and volumes are in the quote asset of what is shown, times
// milliseconds since 1970 UTC.

/** @import { HeatMap } from "./types.d.ts" */

/** @type {[number, string][]} */
const SIZES = [
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "k"],
];

export let quote = "USDT";

/**
 * Says what prices and volumes are in from now on.
 * @param {string} asset
 */
export function countIn(asset) {
  quote = asset;
}

const dollarSign = () => (/USD|^DAI$/.test(quote) ? "$" : "");

/**
 * 12300000 -> "$12.3M".
 * @param {number} value
 */
export function volumeText(value) {
  const [size, unit] = SIZES.find(([limit]) => Math.abs(value) >= limit * 0.9995) ?? [1, ""];
  const short = value / size;
  return `${dollarSign()}${Math.abs(short) >= 99.95 ? short.toFixed(0) : String(Number(short.toPrecision(3)))}${unit}`;
}

/**
 * 12300000 -> "12.30 M USDT".
 * @param {number} value
 * @param {string} [asset] it is in, if it is not that of what is shown
 */
export function amount(value, asset = quote) {
  const [size, unit] = SIZES.find(([limit]) => value >= limit) ?? [1, ""];
  return `${(value / size).toFixed(value === 0 ? 0 : 2)}${unit && ` ${unit}`} ${asset}`;
}

/**
 * What people type for a volume: "$12.3M", "500k", "2,000,000"; NaN for anything else.
 * @param {string} text
 */
export function typedVolume(text) {
  const found = /^\$?\s*(\d[\d,_ ]*(?:\.\d+)?|\.\d+)\s*([kmb]?)$/i.exec(text.trim());
  if (!found) return NaN;
  const size = { k: 1e3, m: 1e6, b: 1e9 }[found[2].toLowerCase()] ?? 1;
  return Number(found[1].replace(/[,_ ]/g, "")) * size;
}

/**
 * How numbers of so many decimals are written; made once, as that takes longer than all the rest.
 * @type {Map<number, Intl.NumberFormat>}
 */
const FORMATS = new Map();

/**
 * @param {number} price
 * @param {number} [decimals]
 */
export function priceText(price, decimals = Math.max(0, 4 - Math.floor(Math.log10(Math.max(price, 1e-9))))) {
  const digits = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  const format = FORMATS.get(decimals) ?? new Intl.NumberFormat("en-US", digits);
  FORMATS.set(decimals, format);
  return format.format(price);
}

/**
 * Decimals that a bin of that height needs.
 * @param {number} bin
 */
export function binDecimals(bin) {
  let decimals = 0;
  /** @param {number} scaled */
  const rest = (scaled) => Math.abs(scaled - Math.round(scaled)) / scaled; // of 0.00000001, too, not 0
  while (decimals < 8 && rest(bin * 10 ** decimals) > 1e-6) decimals += 1;
  return decimals;
}

/** @param {number} bin */
export const binText = (bin) => priceText(bin, binDecimals(bin));

/** @param {number} percent */
export function percentText(percent) {
  return `${percent < 0 ? "−" : "+"}${Math.abs(percent).toFixed(2)} %`;
}

/**
 * 3.14 -> "3.1×": how many times as much as usual.
 * @param {number} times
 */
export const timesText = (times) => `${times < 9.95 ? Number(times.toPrecision(2)) : Math.round(times)}×`;

/**
 * What people type for a factor: "3", "2.5x", "10×"; NaN for anything else.
 * @param {string} text
 */
export function typedTimes(text) {
  const found = /^(\d+(?:\.\d+)?|\.\d+)\s*[x×]?$/i.exec(text.trim());
  return found ? Number(found[1]) : NaN;
}

/** @param {number} time */
export const iso = (time) => new Date(time).toISOString();
/** @param {number} time */
export const dayText = (time) => iso(time).slice(0, 10);
/** @param {number} time */
export const clockText = (time) => iso(time).slice(11, 16);
/** @param {number} time */
export const instantText = (time) => `${dayText(time)} ${clockText(time)} UTC`;

/**
 * 90 -> "2 min", 7200 -> "2 h", 200000 -> "2 d".
 * @param {number} seconds
 */
export function ageText(seconds) {
  if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

/**
 * What a map is of: exchange and kind of contract, and the model; of a base also whose candles are drawn.
 * @param {Pick<HeatMap, "title" | "model" | "parts" | "candles_of">} map
 */
export function titleText({ title, model, parts, candles_of: candles }) {
  if (!title) return `${model} model`;
  const drawn = parts?.find(({ symbol }) => symbol === candles);
  return `${title}, ${model}${drawn ? `, candles: ${drawn.label}` : ""}`;
}
