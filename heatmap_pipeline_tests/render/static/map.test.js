import assert from "node:assert/strict";
import { test } from "node:test";
import {
  candlesIn,
  colourEnds,
  decode,
  newestBook,
  overlaps,
  rebin,
  recordedIn,
  viewOf,
} from "../../../heatmap_pipeline/render/static/map.js";
import { START, smallMap, WIDTH } from "./small.js";

const DEAD = { time: [1], price: [121.25], volume: [4], lots: [1], entry_low: [130], entry_high: [130] };
const base64 = (array) => Buffer.from(array.buffer).toString("base64");

test("a payload is decoded plain and packed to the same cells", () => {
  const plain = smallMap({
    long: [
      [0, 5],
      [7, 0],
    ],
  });
  const packed = structuredClone(plain.payload);
  packed.timestamps = { type: "f8", data: base64(Float64Array.from(plain.payload.timestamps)) };
  packed.long = {
    time: { runs: { type: "u2", data: base64(Uint16Array.from([1, 1])) } },
    price: { type: "u2", data: base64(Uint16Array.from([1, 0])) },
    volume: { type: "f4", data: base64(Float32Array.from([5, 7])) },
  };
  assert.deepEqual([...decode(packed).long], [...plain.long]);
  assert.deepEqual([...plain.long], [0, 5, 7, 0]);
  assert.deepEqual([plain.low, plain.high, plain.end], [100, 120, START + 2 * WIDTH]);
});

test("an empty book still has rows where the candles are", () => {
  const map = smallMap({ long: [[]], price: 200 });
  assert.ok(map.empty && map.rows > 1 && map.low <= 180 && map.high >= 205);
});

test("rows are merged into multiples; those that reach beyond the map are left out, none is counted twice", () => {
  const map = smallMap({ long: [[1, 2, 3, 4, 5]], modelled: { long: DEAD }, meta: { price_bin_size: 10 } });
  const merged = rebin(map, 20);
  assert.deepEqual([merged.low, merged.bin, [...merged.long]], [100, 20, [3, 7]]);
  assert.deepEqual(merged.bubbles, map.bubbles, "circles are where they are at any height of a row");
  assert.equal(rebin(map, 10), map);
});

test("one circle a column and side, where its lots died, the largest first", () => {
  const short = { time: [0], price: [123.5], volume: [9], lots: [3], entry_low: [110], entry_high: [112] };
  const map = smallMap({ long: [[1], [1]], modelled: { long: DEAD, short } });
  const middle = START + 0.5 * WIDTH;
  assert.deepEqual(map.bubbles, [
    { side: "short", column: 0, time: middle, price: 123.5, volume: 9, lots: 3, entryLow: 110, entryHigh: 112 },
    { side: "long", column: 1, time: middle + WIDTH, price: 121.25, volume: 4, lots: 1, entryLow: 130, entryHigh: 130 },
  ]);
});

test("circles of files of before are at the mean of their cells, as far as price was there; more is not known", () => {
  // The candles go from 120 to 130.
  const map = smallMap({ long: [[1], [1]], consumedLong: [[], [2, 0, 2]], consumedShort: [[0, 0, 1]] });
  assert.deepEqual(
    map.bubbles.map(({ side, column, volume, price, lots, entryLow }) => [side, column, volume, price, lots, entryLow]),
    [
      ["long", 1, 4, 120, null, null],
      ["short", 0, 1, 125, null, null],
    ],
  );
});

test("sums of the book run outward from the price", () => {
  const book = newestBook(smallMap({ long: [[9], [1, 2]], short: [[], [0, 0, 3, 4]] }));
  assert.deepEqual([...book.longSum], [3, 2, 0, 0]);
  assert.deepEqual([...book.shortSum], [0, 0, 3, 7]);
});

test("candles are merged until there are few enough, and keep their extremes", () => {
  const map = smallMap({ long: Array.from({ length: 8 }, () => [1]) });
  map.candles[1].high = 300;
  const { bars, step } = candlesIn(map, map.start, map.end, 4);
  assert.deepEqual([step, bars.length, bars[0].high, bars[0].time], [2 * WIDTH, 4, 300, START]);
});

test("a candle that is going on at a moment shows nothing of what comes after it", () => {
  const map = smallMap({ long: Array.from({ length: 8 }, () => [1]) });
  map.candles[3].high = 300;
  const { bars } = candlesIn(map, map.start, map.end, 4, START + 3 * WIDTH);
  assert.deepEqual(
    bars.map(({ time, high }) => [(time - START) / WIDTH, high]),
    [
      [0, 130],
      [2, 130],
    ],
  );
});

test("a range shows its candles with prices around them as far as the map reaches", () => {
  const map = smallMap({ long: [Array(20).fill(1)], price: 150 });
  const view = viewOf(map, "7d");
  assert.equal(view.x[0], map.start);
  assert.deepEqual(view.y, [137, 163]);
  assert.ok(overlaps(map, view));
  assert.ok(!overlaps(map, { x: [map.end, map.end + 1], y: view.y }));
});

for (const [words, view, expected] of [
  ["of the whole map", {}, { most: 400, top: 398 }],
  ["of the rows in view", { y: [100, 300] }, { most: 20, top: 20 }],
  ["of a row that is partly in view, too", { y: [105, 301] }, { most: 21, top: 21 }],
  ["of the columns in view", { x: [START + WIDTH, START + 2 * WIDTH] }, { most: 7, top: 7 }],
  ["of the whole map where nothing is in view", { y: [9000, 9100] }, { most: 400, top: 398 }],
]) {
  test(`colours end where one cell in 200 is exceeded, ${words}`, () => {
    const volumes = Array.from({ length: 400 }, (_, i) => i + 1);
    const map = smallMap({ long: [volumes, [7, 6]] });
    assert.deepEqual(colourEnds(map, map.long, { x: [map.start, map.end], y: [100, 4100], ...view }), expected);
  });
}

test("colours of an empty map end somewhere, and what nobody knows does not count", () => {
  const empty = smallMap({ long: [[]] });
  const all = { x: [empty.start, empty.end], y: [0, 1000] };
  assert.deepEqual(colourEnds(empty, empty.long, all), { most: 1, top: 1 });
  const map = smallMap({ long: [[1, 1]] });
  assert.deepEqual(colourEnds(map, Float32Array.of(NaN, 3), all), { most: 3, top: 3 });
});

const RECORDED = { recorded: [[10, 20]] };
for (const [from, to, expected] of [
  [10, 20, "all"],
  [5, 15, "some"],
  [20, 30, "none"],
  [0, 10, "none"],
]) {
  test(`from ${from} to ${to} ${expected} of 10 to 20 is recorded`, () => {
    assert.equal(recordedIn(RECORDED, from, to), expected);
  });
}
