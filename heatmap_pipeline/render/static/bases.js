// What there is to choose: each market for itself, and before the first one of a base with several the base, whose
// markets are added up. How markets are called, and which of a base are shown ("" = all, "BTCUSDT,BYBIT_BTCUSDT").

/** @import { Entry, Market } from "./types.d.ts" */

/** Of markets: none is the colour of a side, a candle or a warning. */
const MARKET_COLOURS = ["#2dd4bf", "#b79cff", "#c5e063", "#ff86a8", "#c9d1e0", "#c9965f"];

/**
 * "BYBIT_BTCUSDT" -> "bybit:BTCUSDT", as people type it; "BTCUSDT_240927" is itself.
 * @param {string} id
 */
export const typedName = (id) =>
  id.replace(/^([A-Z]+)_(?!(?:PERP|\d{6})$)(.+)$/, (_, exchange, name) => `${exchange.toLowerCase()}:${name}`);

/**
 * "bybit:BTCUSDT" -> "BYBIT_BTCUSDT", and any other text as it is.
 * @param {string} typed
 */
export function idOf(typed) {
  const [exchange, name] = typed.split(":");
  if (!name) return typed;
  return exchange.toLowerCase() === "binance" ? name : `${exchange.toUpperCase()}_${name}`;
}

/**
 * The exchange of a market, as its title writes it; of one that is made up the one that its id names.
 * @param {{ symbol: string, title?: string }} market
 */
function exchangeOf({ symbol, title = "" }) {
  const [written] = title.split(" ");
  if (written && written !== "Simulated") return written;
  const exchange = typedName(symbol).includes(":") ? typedName(symbol).split(":")[0] : "binance";
  return exchange.replace(/^./, (letter) => letter.toUpperCase());
}

/**
 * Markets of a base with the name and the colour that each has on the page: the exchange, with the quote asset where it
 * has several.
 * @param {{ symbol: string, title?: string, quote?: string }[]} markets
 * @returns {Market[]}
 */
export function labelled(markets) {
  const names = markets.map(exchangeOf);
  return markets.map(({ symbol, title = "", quote = "" }, i) => {
    const isAlone = names.filter((name) => name === names[i]).length === 1;
    const label = isAlone || !quote ? names[i] : `${names[i]} ${quote}`;
    return { symbol, title, quote, label, colour: MARKET_COLOURS[i % MARKET_COLOURS.length] };
  });
}

/**
 * The entry of a base: what its markets have together.
 * @param {string} base
 * @param {Entry[]} of its markets
 * @returns {Entry}
 */
function baseEntry(base, of) {
  /** @param {(Date | string | undefined)[]} values */
  const sorted = (values) => /** @type {string[]} */ (values.filter(Boolean)).sort();
  return {
    symbol: base,
    models: [...new Set(of.flatMap(({ models }) => models))],
    roles: Object.assign({}, ...of.map(({ roles }) => roles ?? {})),
    first_day: sorted(of.map(({ first_day: day }) => day))[0],
    as_of: sorted(of.map(({ as_of: time }) => time)).at(-1),
    candle_interval_seconds: Math.max(...of.map(({ candle_interval_seconds: seconds = 0 }) => seconds)),
    markets: labelled(of),
  };
}

/**
 * What can be chosen, in the order in which it is offered. A name that is a market as well as a base is the market.
 * @param {{ symbols: Entry[], bases?: { base: string, markets: string[] }[] }} found
 * @returns {Entry[]}
 */
export function entriesOf({ symbols, bases = [] }) {
  const names = symbols.map(({ symbol }) => symbol);
  const several = bases
    .map(({ base, markets }) => ({ base, of: symbols.filter(({ symbol }) => markets.includes(symbol)) }))
    .filter(({ base, of }) => of.length > 1 && !names.includes(base));
  return symbols.flatMap((entry) => {
    const begun = several.find(({ of }) => of[0] === entry);
    return begun ? [baseEntry(begun.base, begun.of), entry] : [entry];
  });
}

/**
 * How an entry is written where it can be chosen.
 * @param {Entry} entry
 */
export const entryText = ({ symbol, markets }) =>
  markets ? `${symbol}, ${markets.length} markets` : typedName(symbol);

/**
 * The markets of a text among all there are, in their order.
 * @param {string} text
 * @param {string[]} all
 */
export const marketsOf = (text, all) => (text ? all.filter((id) => text.split(",").includes(id)) : all);

/**
 * The text of a link as it is kept: ids of markets there are; "" for all of them and for none.
 * @param {string | null} text
 * @param {string[]} all
 */
export function readMarkets(text, all) {
  const given = (text ?? "").split(",").map((typed) => idOf(typed.trim()));
  const shown = all.filter((id) => given.includes(id));
  return shown.length === all.length ? "" : shown.join();
}

/**
 * The text after a press on a market. The last one that is on cannot be switched off.
 * @param {string} text
 * @param {string[]} all
 * @param {string} pressed
 */
export function pressMarket(text, all, pressed) {
  const shown = marketsOf(text, all);
  const left = all.filter((id) => shown.includes(id) !== (id === pressed));
  return left.length ? readMarkets(left.join(), all) : text;
}
