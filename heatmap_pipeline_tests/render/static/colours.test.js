import assert from "node:assert/strict";
import { test } from "node:test";
import { colourScale, paintCells, roundVolumes } from "../../../heatmap_pipeline/render/static/colours.js";
import { smallMap } from "./small.js";

const CHOICE = { range: "7d", side: "both", scale: "linear", low: null, high: null };
const map = smallMap({ long: [[10, 0, 40]], short: [[0, 20, 0]], price: 115 });

/** The colours of the cells, from the top row down: null where nothing is drawn. */
function painted(choice) {
  let drawn = null;
  const context = {
    createImageData: (width, height) => ({ data: new Uint8ClampedArray(4 * width * height) }),
    putImageData: (image) => {
      drawn = new Uint32Array(image.data.buffer);
    },
  };
  paintCells({ getContext: () => context }, map, choice, colourScale(map, choice));
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
  assert.deepEqual([colourScale(map, CHOICE).low, colourScale(map, CHOICE).high], [0, 40]);
  const log = colourScale(map, { ...CHOICE, scale: "log", low: 0, high: 1000 });
  assert.deepEqual([log.low, log.place(1000), log.place(10)], [10, 1, 0]);
  assert.equal(colourScale(map, { ...CHOICE, low: 60 }).high, 120, "the upper end stays above the lower one");
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
