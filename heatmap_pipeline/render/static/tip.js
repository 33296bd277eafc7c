// What the pointer says of a cell, as rows: the level, its distance and share, its candle, what was liquidated.

import { lotsOfCell } from "./lots.js";
import { newestBook, recordedIn } from "./map.js";
import { notWholeOf } from "./marks.js";
import { isMissing, partBooks, percentOf, sharesOf } from "./parts.js";
import { columnCloses, relativeCells } from "./relative.js";
import { ageText, amount, binDecimals, clockText, dayText, percentText, priceText, timesText } from "./words.js";

/** @import { Choice, HeatMap, Lots, Reported, Side } from "./types.d.ts" */

/** @typedef {[style: string, left: string, right: string]} Row the class of the row, and two cells */
/**
 * What is pointed at; `lots` are those of its column, "asked" until they come, null where the server could not say;
 * without them there is nobody to ask.
 * @typedef {{ map: HeatMap, choice: Choice, row: number, column: number, onMap: boolean, until: number,
 *   lots?: Lots | "asked" | null }} Under
 */

const SIDE_WORDS = /** @type {[Side, string][]} */ ([
  ["long", "Longs"],
  ["short", "Shorts"],
]);

/**
 * Rows of the tooltip; `map` is as it stood at the moment that the page shows, `until` is after which nothing is told.
 * @param {Under} under
 * @returns {Row[]}
 */
export function tipRows({ map, choice, row, column, onMap, until, lots }) {
  const low = map.low + row * map.bin;
  const decimals = binDecimals(map.bin);
  const cell = column * map.rows + row;
  const [long, short] = [map.long[cell], map.short[cell]];
  /** @param {number} price */
  const away = (price) => percentText(((low + map.bin / 2) / price - 1) * 100);
  const close = onMap ? columnCloses(map)[column] : NaN;
  /** @type {Row[]} */
  const rows = [
    ["", "Price", `${priceText(low, decimals)} – ${priceText(low + map.bin, decimals)}`],
    ...(Number.isNaN(close) ? [] : [/** @type {Row} */ (["", "From the close of its time", away(close)])]),
    ["", map.isPast ? "From price then" : "From last price", away(map.price)],
    ["rule long-text", "Long, modelled", amount(long)],
    ["short-text", "Short, modelled", amount(short)],
    ["", "Total, modelled", amount(long + short)],
    ...partRows(map, column, row),
    ...shareRows(map, column, row),
    ...lotsRows(map, column, row, lots),
    ...(choice.scale === "relative" ? timesRows(map, cell) : []),
  ];
  if (!onMap) {
    const book = newestBook(map);
    rows.push(
      ["rule", "Longs down to here", amount(book.longSum[row])],
      ["", "Shorts up to here", amount(book.shortSum[row])],
    );
    return rows;
  }
  const [from, to] = [map.start + column * map.width, map.start + (column + 1) * map.width];
  const partly = notWholeOf(map)
    .filter((one) => one.from < to && one.to > from)
    .map(({ words }) => /** @type {Row} */ (["rule marks", "Not whole", words]));
  return [
    ...rows,
    besideRow(map, choice, row, column, until),
    ...candleRows(map, column),
    ...modelledRows(map, column),
    ...reportedRows(map, column),
    ...partly,
  ];
}

/**
 * The sides that a cell holds.
 * @param {HeatMap} map
 * @param {number} cell
 */
const sidesIn = (map, cell) => SIDE_WORDS.filter(([side]) => map[side][cell] > 0);

/**
 * What each market of a base has of a cell, in its own quote asset, and its share; of both sides, one after the other.
 * @param {HeatMap} map
 * @param {number} column
 * @param {number} row
 * @returns {Row[]}
 */
function partRows(map, column, row) {
  const { parts } = map;
  if (!parts) return [];
  const books = partBooks(map, column);
  const sides = sidesIn(map, column * map.rows + row);
  const told = sides.flatMap(([side, words]) =>
    sharesOf(
      parts,
      books.map((book) => (book ? book[side][row] : null)),
    )
      .filter(([, volume]) => volume)
      .map(([{ label, quote }, volume, share]) => {
        const name = sides.length > 1 ? `${label}, ${words.toLowerCase()}` : label;
        return /** @type {Row} */ (["part", name, `${amount(volume ?? 0, quote)} · ${percentOf(share)}`]);
      }),
  );
  const gone = parts.filter((part) => isMissing(part, column));
  return [...told, ...gone.map(({ label }) => /** @type {Row} */ (["part marks", label, "missing"]))];
}

/**
 * How much of its side's book on the map a cell is.
 * @param {HeatMap} map
 * @param {number} column
 * @param {number} row
 * @returns {Row[]}
 */
function shareRows(map, column, row) {
  return sidesIn(map, column * map.rows + row).map(([side, words]) => {
    const book = map[side].subarray(column * map.rows, (column + 1) * map.rows);
    const sum = book.reduce((total, volume) => total + volume, 0);
    return ["", `Share of ${words.toLowerCase()} on the map`, `${((100 * book[row]) / sum).toFixed(1)} %`];
  });
}

/**
 * How old the oldest part of a cell is, and how much of it is of each leverage.
 * @param {HeatMap} map
 * @param {number} column
 * @param {number} row
 * @param {Under["lots"]} lots
 * @returns {Row[]}
 */
function lotsRows(map, column, row, lots) {
  if (lots === undefined) return [];
  return sidesIn(map, column * map.rows + row).flatMap(([side, words]) => {
    const cell = lots && lots !== "asked" ? lotsOfCell(lots, map, side, row) : null;
    let [age, mix] = lots === "asked" ? ["…", "…"] : ["not known", "not known"];
    if (cell && lots && lots !== "asked") {
      const total = cell.tiers.reduce((sum, [, volume]) => sum + volume, 0);
      const opened = `${dayText(cell.openedAt)} ${clockText(cell.openedAt)}`;
      age = `${ageText((lots.time - cell.openedAt) / 1000)}, ${opened}`;
      mix = cell.tiers.map(([leverage, volume]) => `${leverage}x\u00a0${shareText(volume / total)}`).join(" · ");
    }
    return /** @type {Row[]} */ ([
      ["", `Oldest of the ${words.toLowerCase()}`, age],
      ["mix", `${words} by leverage`, mix],
    ]);
  });
}

/** @param {number} share */
const shareText = (share) => (share < 0.005 ? "<1\u00a0%" : `${(100 * share).toFixed(0)}\u00a0%`);

/**
 * How many times as much as usual a cell holds of each side that it holds.
 * @param {HeatMap} map
 * @param {number} cell
 * @returns {Row[]}
 */
function timesRows(map, cell) {
  return sidesIn(map, cell).map(([side, words], i) => {
    const times = relativeCells(map, side)[cell];
    const told = Number.isNaN(times) ? "not known" : `${timesText(times)} the usual`;
    return [`${i ? "" : "rule "}${side}-text`, `${words}, at this distance`, told];
  });
}

/**
 * What the row held in the column before and what it holds in the next one; "–" where nothing is told of one.
 * @param {HeatMap} map
 * @param {Choice} choice
 * @param {number} row
 * @param {number} column
 * @param {number} until
 * @returns {Row}
 */
function besideRow(map, choice, row, column, until) {
  const told = [column - 1, column, column + 1].map((at) => {
    if (at < 0 || at >= map.columns || map.start + (at + 1) * map.width > until) return "–";
    const cell = at * map.rows + row;
    const sides = SIDE_WORDS.filter(([side]) => choice.side === "both" || choice.side === side);
    return amount(sides.reduce((sum, [side]) => sum + map[side][cell], 0)).replace(` ${map.quote}`, "");
  });
  return ["", "Column before → this → next", told.join(" → ")];
}

/**
 * The candle of a column: of all that begin in it.
 * @param {HeatMap} map
 * @param {number} column
 * @returns {Row[]}
 */
function candleRows(map, column) {
  const [from, to] = [map.start + column * map.width, map.start + (column + 1) * map.width];
  const bars = map.candles.filter((bar) => bar.time >= from && bar.time < to);
  if (!bars.length) return [];
  const [low, high] = [Math.min(...bars.map((bar) => bar.low)), Math.max(...bars.map((bar) => bar.high))];
  return [
    ["rule", "Candle open → close", `${priceText(bars[0].open)} → ${priceText(bars[bars.length - 1].close)}`],
    ["", "Candle low – high", `${priceText(low)} – ${priceText(high)}`],
  ];
}

/**
 * What was liquidated in a column, as modelled: sum, number of lots, where they died and where they had been entered.
 * @param {HeatMap} map
 * @param {number} column
 * @returns {Row[]}
 */
function modelledRows(map, column) {
  const dead = map.bubbles.filter((one) => one.column === column);
  if (!dead.length) return [];
  return SIDE_WORDS.flatMap(([side, words], i) => {
    const sum = dead.find((one) => one.side === side);
    const style = `${i ? "" : "rule "}${side}-text`;
    const lots = sum?.lots ? `, ${sum.lots} lot${sum.lots === 1 ? "" : "s"}` : "";
    /** @type {Row[]} */
    const rows = [[style, `${words} liquidated, modelled`, `${amount(sum?.volume ?? 0)}${lots}`]];
    if (sum?.entryLow && sum.entryHigh) {
      const entries = [...new Set([sum.entryLow, sum.entryHigh].map((price) => priceText(price)))].join(" – ");
      rows.push(["", `${words} liquidated at`, `${priceText(sum.price)} on average`]);
      rows.push(["", `${words} entered at`, entries]);
    }
    return rows;
  });
}

/**
 * What was really liquidated in a column, or in the hour around it where only the hour's sum is reported.
 * @param {HeatMap} map
 * @param {number} column
 * @returns {Row[]}
 */
function reportedRows({ reported, start, width }, column) {
  if (!reported) return [];
  const [from, to] = [start + column * width, start + (column + 1) * width];
  const found = reported.circles.filter((one) => one.from < to && one.to > from);
  const known = recordedIn(reported, from, to);
  const wide = reported.seconds * 1000 > width;
  /** @type {Row[]} */
  const rows = [];
  if (wide && found.length)
    rows.push(["rule", "Reported as one sum", `${clockText(found[0].from)} – ${clockText(found[0].to)}`]);
  else if (known === "none") return [["rule", "Reported", "not recorded"]];
  for (const [side, words] of SIDE_WORDS) {
    const one = found.find((circle) => circle.side === side);
    const style = `${rows.length ? "" : "rule "}${side}-text`;
    rows.push([style, `${words} liquidated, reported`, amount(one?.volume ?? 0)]);
  }
  if (known === "some") rows.push(["", "Recorded", "in part"]);
  return rows;
}
