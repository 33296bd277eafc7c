// What has to be said beside a map: that it is simulated, not complete, not whole; whose record real liquidations are.

import { COLOURS } from "./colours.js";
import { tiersText } from "./leverage.js";
import { countWords, missingStretches, missingWords, partsAt } from "./parts.js";
import { DAY } from "./time.js";

/** @import { HeatMap, Reported } from "./types.d.ts" */

/**
 * Whose record the real liquidations are, how complete, and how much they are of the modelled ones; as the PNG says
 * it.
 * @param {Reported} reported
 */
export function reportedWords({ exchange, own, complete, factor }) {
  const whole = complete === null ? "" : complete ? "complete" : "incomplete";
  const ratio = factor === null ? "" : `reported / modelled ${factor.toFixed(2)}`;
  return [own ? exchange : `${exchange}, another exchange`, whole, ratio].filter(Boolean).join(", ");
}

/**
 * What has to be said beside the name of a map: { words, style (of the badge), colour, about }.
 * @param {any} map
 */
export function marksOf(map) {
  const pale = "#b7c0d1";
  return [
    map.simulated && {
      words: "SIMULATED DATA",
      style: "",
      colour: COLOURS.warn,
      about: "A made-up market, for trying things out. Not real prices.",
    },
    map.leverage_tiers && {
      words: tiersText(map.leverage_tiers, map.tiers),
      style: "mild",
      colour: pale,
      about:
        `Shown is ${tiersText(map.leverage_tiers, map.tiers)}, not the other tiers. ` +
        "Located share is that of the whole book.",
    },
    missingMark(map),
    map.provisional && {
      words: "provisional",
      style: "mild",
      colour: pale,
      about: "The newest day is not complete yet; it will be computed again.",
    },
    map.ended && {
      words: `ended on ${map.ended}`,
      style: "mild",
      colour: pale,
      about: "The exchange does not trade this symbol any more: no later day will come.",
    },
    map.bucket_misfit && {
      words: "bucket does not fit",
      style: "old",
      colour: COLOURS.warn,
      about: `In this range ${map.bucket_misfit}.`,
    },
  ].filter(Boolean);
}

/**
 * That markets of a base are missing at the moment of a map, and why.
 * @param {any} map
 */
function missingMark(map) {
  if (!map.parts) return false;
  const column = map.column ?? map.columns - 1;
  const { there, all, words } = countWords(map, column);
  const gone = partsAt(map, column).filter((one) => one.isMissing);
  const why = [...gone.map(({ part }) => missingWords(map, part, column)), ...Object.values(map.not_shown ?? {})];
  return there < all && { words, style: "old", colour: COLOURS.warn, about: why.join(" ") };
}

/**
 * The days of a map that are not whole, rising, and where a market of a base is missing: { from, to, words }.
 * @param {HeatMap} map
 */
export function notWholeOf(map) {
  const days = Object.entries(map.not_whole ?? {})
    .sort()
    .map(([day, words]) => {
      const from = Date.parse(`${day}T00:00:00Z`);
      return { from: Math.max(from, map.start), to: Math.min(from + DAY, map.end), words };
    });
  return [...days, ...missingStretches(map)];
}
