import assert from "node:assert/strict";
import { test } from "node:test";
import { zonesAt, zonesOf } from "../../../heatmap_pipeline/render/static/zones.js";

const NAMES = ["low", "high", "peak", "price", "volume", "distance_percent", "share"];

/** A payload's zones of one side from rows of [column, distance, volume, since]. */
const side = (rows) => ({
  time: rows.map(([time]) => time),
  ...Object.fromEntries(NAMES.map((name) => [name, rows.map(() => 1)])),
  distance_percent: rows.map(([, distance]) => distance),
  volume: rows.map(([, , volume]) => volume),
  since: rows.map(([, , , since]) => since),
});
const mapOf = (short, long = []) => ({
  columns: 3,
  zones: zonesOf({ short: side(short), long: side(long) }, 3, (array) => array),
});
const volumes = (zones) => zones.map((zone) => zone.volume);

for (const [name, rows, column, above, nearest] of [
  [
    "the largest first, of the newest column unless another is named",
    [
      [2, 3, 5, null],
      [2, 1, 9, null],
      [1, 1, 7, null],
    ],
    undefined,
    [9, 5],
    9,
  ],
  [
    "of a column that is named",
    [
      [1, 4, 7, null],
      [2, 1, 9, null],
    ],
    1,
    [7],
    7,
  ],
  [
    "of equal ones the nearer first, and of equally near ones the first is the nearest",
    [
      [2, 5, 8, null],
      [2, 4, 8, null],
      [2, -4, 3, null],
    ],
    2,
    [8, 8, 3],
    8,
  ],
  [
    "at most five, none beyond 10 %, though it may be the nearest",
    [
      [0, 2, 1, null],
      [0, 3, 2, null],
      [0, 4, 3, null],
      [0, 5, 4, null],
      [0, 6, 5, null],
      [0, 7, 6, null],
      [0, 11, 9, null],
    ],
    0,
    [6, 5, 4, 3, 2],
    1,
  ],
  ["one beyond 10 % is the nearest where there is no other", [[2, 11, 9, null]], 2, [], 9],
  ["none", [], 2, [], undefined],
]) {
  test(`zones: ${name}`, () => {
    const found = zonesAt(mapOf(rows), column);
    assert.deepEqual(volumes(found.above), above);
    assert.equal(found.nearest.above?.volume, nearest);
    assert.deepEqual(found.below, []);
    assert.equal(found.nearest.below, null);
  });
}

test("zones know their side, and since when they stand where somebody says", () => {
  const found = zonesAt(mapOf([[2, 1, 9, 17]], [[2, -1, 4, Number.NaN]]));
  assert.deepEqual([found.above[0].side, found.above[0].since], ["short", 17]);
  assert.deepEqual([found.below[0].side, found.below[0].since], ["long", null]);
});

test("files of before there were zones have none", () => {
  const zones = zonesOf(undefined, 2, (array) => array);
  assert.deepEqual(zones, [[], []]);
  assert.equal(zonesAt({ columns: 2, zones }).nearest.above, null);
});
