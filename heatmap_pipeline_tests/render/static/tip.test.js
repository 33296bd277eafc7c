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
  modelled: {
    long: { time: [1], price: [121.5], volume: [1000], lots: [2], entry_low: [130.25], entry_high: [140] },
  },
});
const OPENED = START - 3 * 86_400_000;
const LOTS = {
  time: START + 2 * WIDTH,
  long: new Map([
    [
      10,
      {
        openedAt: OPENED,
        tiers: [
          [25, 2000],
          [100, 990],
          [3, 10],
        ],
      },
    ],
  ]),
  short: new Map(),
  zones: [],
};
const MIX = "25x\u00a067\u00a0% · 100x\u00a033\u00a0% · 3x\u00a0<1\u00a0%";
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
    {
      "Longs liquidated, modelled": "1.00 k USDT, 2 lots",
      "Longs liquidated at": "121.50 on average",
      "Longs entered at": "130.25 – 140.00",
      "Shorts liquidated, modelled": "0 USDT",
    },
  ],
  [
    "nothing of the lots where nobody can say",
    {},
    { "Oldest of the longs": undefined, "Longs by leverage": undefined },
  ],
  ["that lots are asked for", { lots: "asked" }, { "Oldest of the longs": "…", "Longs by leverage": "…" }],
  ["that lots are not known", { lots: null }, { "Oldest of the longs": "not known", "Longs by leverage": "not known" }],
  [
    "age and leverage of a cell",
    { lots: LOTS },
    { "Oldest of the longs": "3 d, 2024-07-01 00:00", "Longs by leverage": MIX, "Shorts by leverage": undefined },
  ],
  ["that a cell has no such lots", { row: 1, lots: LOTS }, { "Oldest of the longs": "not known" }],
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
