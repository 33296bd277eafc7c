// Everything that can be chosen, and how the address bar holds it: a link opens exactly what its sender saw.

import { idOf, readMarkets, typedName } from "./bases.js";
import { readTiers } from "./leverage.js";
import { RANGES } from "./time.js";
import { instantText, iso } from "./words.js";

/** @import { Choice, Entry } from "./types.d.ts" */

/** @type {("map" | "candles" | "bubbles" | "reported" | "profile" | "levels")[]} */
const SWITCHES = ["map", "candles", "bubbles", "reported", "profile", "levels"];
export const OPTIONS = {
  side: { both: "Longs + shorts", long: "Longs", short: "Shorts" },
  scale: { linear: "Linear", log: "Log", relative: "Relative" },
};

/**
 * "2024-07-04T23:00Z", or with seconds, as milliseconds; null for anything else.
 * @param {string | null} text
 */
function instant(text) {
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?Z$/.test(text ?? "") ? Date.parse(String(text)) : Number.NaN;
  return Number.isFinite(time) ? time : null;
}

/**
 * What a link chooses; what it does not say, or says wrong, is as it is without a link.
 * @param {string} hash
 * @param {Entry[]} symbols
 * @returns {Choice}
 */
export function choiceOf(hash, symbols) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  /** @type {(name: string, allowed: any[], fallback: string) => any} */
  const pick = (name, allowed, fallback) => (allowed.includes(given.get(name)) ? given.get(name) : fallback);
  /** @param {string} name */
  const volume = (name) => {
    const value = Number(given.get(name) ?? NaN);
    return given.get(name) && Number.isFinite(value) && value >= 0 ? value : null;
  };
  const names = symbols.map(({ symbol }) => symbol);
  const named = idOf(given.get("symbol") ?? "");
  const symbol = names.includes(named) ? named : names[0];
  const { models, markets = [] } = symbols[names.indexOf(symbol)];
  const all = markets.map((market) => market.symbol);
  const [low, high] = [volume("low"), volume("high")];
  const view = (given.get("view") ?? "").split(",").map(Number);
  const isStretch = view.every(Number.isFinite) && view[0] < view[1];
  const isView = isStretch && (view.length === 2 || (view.length === 4 && view[2] < view[3]));
  const pin = instant(given.get("pin"));
  return /** @type {Choice} */ ({
    symbol,
    model: pick("model", models, models[0]),
    range: pick("range", Object.keys(RANGES), "7d"),
    side: pick("side", Object.keys(OPTIONS.side), "both"),
    scale: pick("scale", Object.keys(OPTIONS.scale), "linear"),
    bin: volume("bin") ?? 0,
    tiers: readTiers(given.get("tiers")),
    markets: readMarkets(given.get("markets"), all),
    low: high !== null && low !== null && low >= high ? null : low,
    high: high === 0 ? null : high,
    ...Object.fromEntries(SWITCHES.map((name) => [name, given.get(name) !== "0"])),
    at: instant(given.get("at")),
    pin,
    replay: pin !== null && given.get("replay") === "1",
    view: isView ? { x: view.slice(0, 2), y: view.length === 4 ? view.slice(2) : null } : null,
  });
}

/**
 * What a link says that cannot be shown, in sentences.
 * @param {string} hash
 * @param {Entry[]} symbols
 * @returns {string[]}
 */
export function troublesOf(hash, symbols) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const choice = choiceOf(hash, symbols);
  /** @type {(name: string, word: string) => string} */
  const unread = (name, word) => `${name} = ${word} cannot be read.`;
  const troubles = [];
  const { symbol = choice.symbol, model = choice.model, ...rest } = Object.fromEntries(given);
  if (idOf(symbol) !== choice.symbol) troubles.push(`${symbol} is not here; shown is ${typedName(choice.symbol)}.`);
  else if (model !== choice.model)
    troubles.push(`There is no model ${model} of ${typedName(choice.symbol)}; shown is ${choice.model}.`);
  for (const name of ["range", "side", "scale"]) {
    const shown = /** @type {any} */ (choice)[name];
    if (rest[name] && rest[name] !== shown) troubles.push(`${unread(name, rest[name])} Shown is ${shown}.`);
  }
  for (const name of ["bin", "low", "high"]) {
    const isAmount = /^\d+(\.\d+)?(e[+-]?\d+)?$/.test(rest[name] ?? "0");
    if (!isAmount) troubles.push(unread(name, rest[name]));
  }
  if (Number(rest.low) >= Number(rest.high)) troubles.push(`low = ${rest.low} is not below high = ${rest.high}.`);
  for (const name of ["at", "pin"]) {
    if (rest[name] && instant(rest[name]) === null) {
      troubles.push(`${unread(name, rest[name])} Write it like 2024-07-04T23:30Z.`);
    }
  }
  if (rest.tiers && rest.tiers !== "all" && !choice.tiers) troubles.push(unread("tiers", rest.tiers));
  const all = symbols.find((one) => one.symbol === choice.symbol)?.markets?.map((market) => market.symbol) ?? [];
  const gone = (rest.markets ?? "").split(",").filter((typed) => typed && !all.includes(idOf(typed)));
  if (gone.length) troubles.push(`${gone.join(", ")} is not among the markets of ${choice.symbol}.`);
  if (rest.view && !choice.view) troubles.push(`${unread("view", rest.view)} Shown is the whole range.`);
  return troubles;
}

/**
 * The moments of a link that there are no data of, in sentences.
 * @param {Choice} choice
 * @param {{ first: number, last: number }} bounds
 * @returns {string[]}
 */
export function momentsWithout({ at, pin, view }, { first, last }) {
  /** @type {(time: number | null | undefined) => boolean} */
  const isOut = (time) => typeof time === "number" && (time < first || time > last);
  const out = [at, pin].filter(isOut);
  if (view && (view.x[1] <= first || view.x[0] >= last)) out.push(view.x[0]);
  return out.map((time) => `There are no data of ${instantText(Number(time))}.`);
}

/** @param {number} time */
const instantWord = (time) => `${iso(time).slice(0, 19)}Z`.replace(":00Z", "Z");

/**
 * The link of a choice.
 * @param {Choice} choice
 */
export function hashOf(choice) {
  const { symbol, model, range, side, scale, low, high, view } = choice;
  const text = new URLSearchParams({ symbol, model, range, side, scale });
  if (choice.bin) text.set("bin", String(choice.bin));
  if (choice.tiers) text.set("tiers", choice.tiers);
  if (choice.markets) text.set("markets", choice.markets);
  if (low !== null) text.set("low", String(low));
  if (high !== null) text.set("high", String(high));
  for (const name of SWITCHES) if (!choice[name]) text.set(name, "0");
  if (choice.at !== null) text.set("at", instantWord(choice.at));
  if (choice.pin !== null) text.set("pin", instantWord(choice.pin));
  if (choice.pin !== null && choice.replay) text.set("replay", "1");
  if (view) {
    const digits = view.y ? Math.min(12, Math.max(0, 6 - Math.floor(Math.log10(view.y[1])))) : 0;
    const prices = view.y?.map((price) => Number(price.toFixed(digits))) ?? [];
    text.set("view", [...view.x.map(Math.round), ...prices].join());
  }
  return `#${text.toString().replaceAll("%2C", ",").replaceAll("%3A", ":")}`;
}
