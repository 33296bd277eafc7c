import assert from "node:assert/strict";
import { test } from "node:test";
import { tipRows } from "../../../heatmap_pipeline/render/static/tip.js";
import { START, smallMap, WIDTH } from "./small.js";

// Rows from 100, 110, 120; the price closes at 125 and is 125 now.
const map = smallMap({
  long: [
    [1000, 0, 0],
    [3000, 1000, 0],
    [0, 2000, 0],
  ],
  consumedLong: [[], [0, 500, 500], []],
});
const UNDER = {
  map,
  choice: { side: "both", scale: "linear" },
  row: 0,
  column: 1,
  onMap: true,
  until: Number.POSITIVE_INFINITY,
};
const told = (change) => Object.fromEntries(tipRows({ ...UNDER, ...change }).map(([, left, right]) => [left, right]));

for (const [words, change, expected] of [
  ["the level", {}, { Price: "100 – 110", "Long, modelled": "3.00 k USDT", "Total, modelled": "3.00 k USDT" }],
  ["its share of what its side has", {}, { "Share of longs on the map": "75.0 %" }],
  ["no share of a side that is not there", {}, { "Share of shorts on the map": undefined }],
  ["the columns around it", {}, { "Column before → this → next": "1.00 k → 3.00 k → 0" }],
  ["no column before the first", { column: 0 }, { "Column before → this → next": "– → 1.00 k → 3.00 k" }],
  [
    "no column that a replay hides",
    { until: START + 2 * WIDTH },
    { "Column before → this → next": "1.00 k → 3.00 k → –" },
  ],
  ["the side that is chosen", { choice: { side: "short" } }, { "Column before → this → next": "0 → 0 → 0" }],
  ["its candle", {}, { "Candle open → close": "125.00 → 125.00", "Candle low – high": "120.00 – 130.00" }],
  [
    "what died there",
    {},
    { "Longs liquidated, modelled": "1.00 k USDT in 2 rows", "Shorts liquidated, modelled": "0 USDT" },
  ],
  [
    "both distances",
    { map: { ...map, price: 105 } },
    { "From the close of its time": "−16.00 %", "From last price": "+0.00 %" },
  ],
  [
    "that nobody knows what is usual",
    { choice: { side: "both", scale: "relative" } },
    { "Longs, at this distance": "not known" },
  ],
  [
    "the profile's sums",
    { onMap: false, column: 2, row: 1 },
    { "Longs down to here": "2.00 k USDT", "Candle low – high": undefined },
  ],
]) {
  test(`the pointer says ${words}`, () => {
    const rows = told(change);
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, rows[name]])), expected);
  });
}

test("a column wider than its candles has the candle of them all", () => {
  const wide = { ...map, candles: map.candles.map((bar, i) => ({ ...bar, time: START + (i * WIDTH) / 3 })) };
  wide.candles[0].open = 121;
  wide.candles[1].high = 200;
  wide.candles[2].close = 118;
  const rows = told({ map: wide, column: 0 });
  assert.deepEqual([rows["Candle open → close"], rows["Candle low – high"]], ["121.00 → 118.00", "120.00 – 200.00"]);
});
