import assert from "node:assert/strict";
import { test } from "node:test";
import { rebin } from "../../../heatmap_pipeline/render/static/map.js";
import { marksOf, notWholeOf } from "../../../heatmap_pipeline/render/static/marks.js";
import { atMoment } from "../../../heatmap_pipeline/render/static/moment.js";
import {
  countWords,
  isMissing,
  missingWords,
  nameParts,
  partBooks,
  partsAt,
  sharesOf,
  stacked,
} from "../../../heatmap_pipeline/render/static/parts.js";
import { tipRows } from "../../../heatmap_pipeline/render/static/tip.js";
import { titleText } from "../../../heatmap_pipeline/render/static/words.js";
import { zonesAt } from "../../../heatmap_pipeline/render/static/zones.js";
import { START, smallMap, WIDTH } from "./small.js";

const instant = (column) => new Date(START + column * WIDTH).toISOString();
const part = (symbol, exchange, more = {}) => ({
  symbol,
  exchange,
  title: `${exchange} USDT-M perpetual`,
  quote: "USDT",
  newest: instant(3),
  open_interest: 1000,
  located_share: 0.02,
  without_candles: [],
  ...more,
});
const volumes = (long, short, more = {}) => ({
  long,
  short,
  located_shares: [0.01, 0.02, 0.03],
  zones: { long: [], short: [2] },
  ...more,
});

/** Three columns of three rows; Bybit's newest candle is the second. */
function baseMap(more = {}) {
  return smallMap({
    long: [[6], [8, 0, 4], [3, 0, 5]],
    short: [
      [0, 2],
      [0, 2],
      [0, 1],
    ],
    meta: {
      symbol: "BTC",
      title: "BTC perpetuals: Binance, Bybit",
      candles_of: "BTCUSDT",
      markets: 2,
      parts: [
        part("BTCUSDT", "Binance"),
        part("BYBIT_BTCUSDT", "Bybit", { newest: instant(2), quote: "USDC", without_candles: [[2, 3]] }),
      ],
      ...more,
    },
    zones: {
      short: {
        ...Object.fromEntries(["low", "high", "peak", "price", "distance_percent", "share"].map((name) => [name, [1]])),
        time: [1],
        volume: [3],
        since: [null],
      },
    },
    by_market: [
      volumes([4, 6, 4, 3, 5], [1, 2, 1]),
      volumes([2, 2, 0, null, null], [1, 0, null], { zones: { long: [], short: [1] } }),
    ],
  });
}

test("parts of a column by row, none of what is missing, and their sum is the map", () => {
  const map = baseMap();
  const [binance, bybit] = partBooks(map, 1);
  assert.deepEqual(Array.from(binance.long), [6, 0, 4]);
  assert.deepEqual(Array.from(bybit.long), [2, 0, 0]);
  for (let column = 0; column < 3; column += 1) {
    for (const side of ["long", "short"]) {
      const sum = new Float32Array(map.rows);
      for (const book of partBooks(map, column)) {
        sum.forEach((_, row) => {
          sum[row] += book?.[side][row] ?? 0;
        });
      }
      assert.deepEqual(sum, map[side].slice(column * map.rows, (column + 1) * map.rows), `${side} of ${column}`);
    }
  }
  assert.equal(partBooks(map, 2)[1], null);
  assert.deepEqual(
    map.parts.map((one) => isMissing(one, 2)),
    [false, true],
  );
});

test("rows that are put together are of the parts as of the map", () => {
  const map = rebin(
    smallMap({
      long: [[1, 2, 3, 4, 5]],
      meta: { parts: [part("BTCUSDT", "Binance")], markets: 1 },
      by_market: [volumes([1, 2, 3, 4, 5], [])],
    }),
    20,
  );
  assert.deepEqual(Array.from(partBooks(map, 0)[0].long), Array.from(map.long));
});

test("shares of what stands at a moment, and how many of the markets do", () => {
  const map = baseMap();
  assert.deepEqual(
    partsAt(map, 1).map(({ volume, share, isMissing: gone }) => [volume, share, gone]),
    [
      [12, 12 / 14, false],
      [2, 2 / 14, false],
    ],
  );
  assert.deepEqual(
    partsAt(map, 2).map(({ volume, share, isMissing: gone }) => [volume, share, gone]),
    [
      [9, 1, false],
      [null, null, true],
    ],
  );
  assert.equal(countWords(map, 1).words, "2 of 2 markets");
  assert.equal(countWords(map, 2).words, "1 of 2 markets");
  assert.equal(countWords(baseMap({ markets: 3 }), 1).words, "2 of 3 markets");
});

test("what is missing is said: why, as a mark, and where", () => {
  const map = baseMap();
  assert.equal(
    missingWords(map, map.parts[1], 2),
    "Bybit is missing: its newest data end 2024-07-04 00:30 UTC, 15 min before what is shown. " +
      "Nothing older stands in for it.",
  );
  assert.match(missingWords(map, { ...map.parts[1], newest: map.end }, 2), /it has no candle in this interval/);
  assert.deepEqual(
    marksOf(map).map(({ words, style }) => [words, style]),
    [["1 of 2 markets", "old"]],
  );
  assert.deepEqual(marksOf(atMoment(map, START + 2 * WIDTH)), [], "at that moment both were there");
  assert.deepEqual(notWholeOf(map), [{ from: START + 2 * WIDTH, to: START + 3 * WIDTH, words: "Bybit is missing" }]);
  const absent = baseMap({ markets: 3, not_shown: { GATE_BTCUSDT: "GATE_BTCUSDT: computed by an earlier version" } });
  assert.match(marksOf(absent)[0].about, /earlier version/);
});

test("bars are stacked: each part begins where the one before ends", () => {
  const [binance, bybit] = stacked(baseMap(), 1, "long");
  assert.deepEqual(
    [binance.rows, binance.from, binance.volume],
    [
      [0, 2],
      [0, 0],
      [6, 4],
    ],
  );
  assert.deepEqual([bybit.rows, bybit.from, bybit.volume], [[0], [6], [2]]);
  assert.deepEqual(stacked(baseMap(), 2, "long")[1].rows, [], "nothing of what is missing");
});

test("zones know what each market has of them", () => {
  const [zone] = zonesAt(baseMap(), 1).above;
  assert.deepEqual(zone.parts, [2, 1]);
});

test("shares are told the largest first; missing is not 0", () => {
  const parts = ["a", "b", "c"].map((label) => ({ label }));
  assert.deepEqual(
    sharesOf(parts, [1, null, 3]).map(([{ label }, volume, share]) => [label, volume, share]),
    [
      ["c", 3, 0.75],
      ["a", 1, 0.25],
      ["b", null, 0],
    ],
  );
  assert.deepEqual(sharesOf(parts, [0, NaN, 0])[1].slice(1), [null, 0]);
});

test("the pointer tells a cell by market, each in its own asset, and what is missing", () => {
  const choice = { scale: "linear", side: "both" };
  const told = (column, row) =>
    tipRows({ map: atMoment(baseMap(), Infinity), choice, row, column, onMap: true, until: Infinity })
      .filter(([style]) => style.startsWith("part"))
      .map(([, left, right]) => [left, right]);
  assert.deepEqual(told(1, 0), [
    ["Binance", "6.00 USDT · 75 %"],
    ["Bybit", "2.00 USDC · 25 %"],
  ]);
  assert.deepEqual(told(2, 0), [
    ["Binance", "3.00 USDT · 100 %"],
    ["Bybit", "missing"],
  ]);
});

test("the title says which exchanges are added up, and whose candles are drawn", () => {
  const map = baseMap();
  assert.equal(titleText(map), "BTC perpetuals: Binance, Bybit, turnover, candles: Binance");
});

test("parts are called and coloured as among all markets, whichever are shown", () => {
  const map = baseMap();
  nameParts(map, [{ symbol: "BYBIT_BTCUSDT", label: "Bybit USDC", colour: "#123456" }]);
  assert.deepEqual(
    map.parts.map(({ label }) => label),
    ["Binance", "Bybit USDC"],
  );
  assert.equal(map.parts[1].colour, "#123456");
});
