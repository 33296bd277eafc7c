import assert from "node:assert/strict";
import { test } from "node:test";
import {
  cellValues,
  colourScale,
  paintCells,
  roundVolumes,
  scaleText,
  scaleWords,
} from "../../../heatmap_pipeline/render/static/colours.js";
import { relativeCells } from "../../../heatmap_pipeline/render/static/relative.js";
import { smallMap } from "./small.js";

const CHOICE = { range: "7d", side: "both", scale: "linear", low: null, high: null };
const map = smallMap({ long: [[10, 0, 40]], short: [[0, 20, 0]], price: 115 });
const ALL = { x: [map.start, map.end], y: [100, 130] };

/** The colours of the cells, from the top row down: null where nothing is drawn. */
function painted(choice, of = map, view = ALL) {
  let drawn = null;
  const context = {
    createImageData: (width, height) => ({ data: new Uint8ClampedArray(4 * width * height) }),
    putImageData: (image) => {
      drawn = new Uint32Array(image.data.buffer);
    },
  };
  paintCells({ getContext: () => context }, of, choice, colourScale(of, choice, view));
  return [...drawn].map((colour) => colour || null);
}

test("more is brighter, nothing is nothing, and the brightest stays the brightest above the upper end", () => {
  const [top, middle, bottom] = painted({ ...CHOICE, high: 30 });
  const red = (colour) => colour & 255;
  assert.ok(red(top) > red(middle) && middle !== bottom);
  assert.deepEqual(painted({ ...CHOICE, high: 40 })[0], top);
});

for (const [change, expected] of [
  [{ side: "long" }, [true, false, true]],
  [{ side: "short" }, [false, true, false]],
  [{ low: 15, high: 40 }, [true, true, false]],
  [{ scale: "log", low: 15, high: 40 }, [true, true, false]],
]) {
  test(`${JSON.stringify(change)} hides what it has to`, () => {
    assert.deepEqual(
      painted({ ...CHOICE, ...change }).map((colour) => colour !== null),
      expected,
    );
  });
}

test("ends of the scale are the user's own, else they fit the map; a logarithm begins above 0", () => {
  assert.deepEqual([colourScale(map, CHOICE, ALL).low, colourScale(map, CHOICE, ALL).high], [0, 40]);
  const log = colourScale(map, { ...CHOICE, scale: "log", low: 0, high: 1000 }, ALL);
  assert.deepEqual([log.low, log.place(1000), log.place(10)], [10, 1, 0]);
  assert.equal(colourScale(map, { ...CHOICE, low: 60 }, ALL).high, 120, "the upper end stays above the lower one");
});

for (const [low, high, log, expected] of [
  [0, 80, false, [0, 10, 20, 30, 40, 50, 60, 70, 80]],
  [0, 100, false, [0, 20, 40, 60, 80, 100]],
  [15, 45, false, [15, 20, 25, 30, 35, 40, 45]],
  [10, 1000, true, [10, 20, 50, 100, 200, 500, 1000]],
]) {
  test(`round volumes from ${low} to ${high}${log ? ", logarithmic" : ""}`, () => {
    assert.deepEqual(roundVolumes(low, high, log), expected);
  });
}

test("the scale fits the cells in view, whatever the side, until it is locked", () => {
  const lowest = { ...ALL, y: [100, 110] };
  assert.equal(colourScale(map, CHOICE, lowest).high, 10);
  assert.equal(colourScale(map, { ...CHOICE, side: "short" }, lowest).high, 10);
  assert.equal(colourScale(map, { ...CHOICE, high: 40 }, lowest).high, 40);
});

// 30 columns; the price is at the edge of its row, the first row above it is in the first band. Usual there is 4 per row.
const usualColumns = Array.from({ length: 30 }, (_, t) => [0, 0, t === 0 ? 40 : 4]);
const even = smallMap({
  long: usualColumns.map((_, t) => [0, t === 5 ? 9 : 0, 0]),
  short: usualColumns,
  price: 125,
});
const RELATIVE = { ...CHOICE, scale: "relative" };
const EVERYWHERE = { x: [even.start, even.end], y: [100, 130] };

test("relative to distance, a cell is as bright as it holds more than usual; where nobody knows it is grey", () => {
  assert.deepEqual([...relativeCells(even, "short")].slice(0, 6), [0, 0, 10, 0, 0, 1]);
  const scale = colourScale(even, RELATIVE, EVERYWHERE);
  assert.deepEqual([scale.times, scale.log, scale.low, scale.high], [true, true, 1, 10]);
  assert.deepEqual([scale.place(1), scale.place(10)], [0, 1]);
  const values = cellValues(even, true, "both");
  assert.equal(values[2], 10);
  assert.ok(Number.isNaN(values[5 * 3 + 1]), "longs stand there in one column of 30: usually nothing does");
  const drawn = painted(RELATIVE, even, EVERYWHERE).map((colour) => colour !== null);
  assert.deepEqual([drawn[0], drawn[30 + 5], drawn[30 + 6]], [true, true, false]);
});

test("of both sides volumes add up, of two factors the larger one counts", () => {
  const columns = Array.from({ length: 30 }, (_, t) => [0, 0, t ? 2 : 6]);
  const both = smallMap({ long: columns, short: usualColumns, price: 125 });
  assert.deepEqual([...cellValues(both, false, "both")].slice(2, 6), [46, 0, 0, 6]);
  assert.deepEqual([...cellValues(both, true, "both")].slice(2, 6), [10, 0, 0, 1]);
});

test("with fewer than 24 columns nobody knows what is usual, and the scale still has two ends", () => {
  const scale = colourScale(map, RELATIVE, ALL);
  assert.deepEqual([scale.low, scale.high], [1, 2]);
  assert.deepEqual([...relativeCells(map, "long")], [NaN, 0, NaN]);
});

for (const [change, expected] of [
  [{}, "modelled USDT per 10 USDT of price · fit to view"],
  [{ low: 5 }, "modelled USDT per 10 USDT of price · fit to view"],
  [{ scale: "log", high: 20 }, "modelled USDT per 10 USDT of price, log · locked"],
  [{ scale: "relative" }, "times the usual at this distance · fit to view"],
  [{ scale: "relative", high: 5 }, "times the usual at this distance · locked"],
]) {
  test(`the legend says: ${expected}`, () => {
    const choice = { ...CHOICE, ...change };
    assert.equal(scaleWords(map, choice, colourScale(map, choice, ALL)), expected);
  });
}

test("the bar has true numbers", () => {
  assert.deepEqual(roundVolumes(1, 12, true), [1, 2, 5, 10]);
  assert.equal(scaleText({ times: true }, 5), "5×");
  assert.equal(scaleText({ times: false }, 5e6), "$5M");
});
