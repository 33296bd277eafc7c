import assert from "node:assert/strict";
import { test } from "node:test";
import { atMoment, columnAt } from "../../../heatmap_pipeline/render/static/moment.js";
import { START, smallMap, WIDTH } from "./small.js";

const map = smallMap({
  long: [
    [1, 0],
    [2, 0],
    [3, 0],
  ],
  short: [
    [0, 10],
    [0, 20],
    [0, 30],
  ],
});
map.candles[0].close = 101;
map.candles[1].close = 102;
map.shares = [0.1, 0.2, 0.3];

for (const [time, column] of [
  [START - 1, 0],
  [START + 0.5 * WIDTH, 0],
  [START + WIDTH, 0],
  [START + 1.9 * WIDTH, 0],
  [START + 2 * WIDTH, 1],
  [START + 3 * WIDTH, 2],
  [START + 9 * WIDTH, 2],
]) {
  test(`at ${(time - START) / WIDTH} columns the last one that had ended is ${column}`, () => {
    assert.equal(columnAt(map, time), column);
  });
}

test("book, price, located share and time are of one moment", () => {
  const then = atMoment(map, START + 2.5 * WIDTH);
  assert.deepEqual([...then.book.long, ...then.book.short], [2, 0, 0, 20]);
  assert.deepEqual([then.price, then.locatedShare, then.asOf], [102, 0.2, START + 2 * WIDTH]);
  const newest = atMoment(map, Infinity);
  assert.deepEqual([...newest.book.long, newest.price, newest.locatedShare], [3, 0, 125, 0.5]);
});

test("what a file of before does not say of the past is not known", () => {
  assert.equal(atMoment({ ...map, shares: null }, START + WIDTH).locatedShare, null);
});

test("an interval that is going on ends where the data end", () => {
  const going = { ...map, asOf: START + 2.4 * WIDTH };
  assert.deepEqual(
    [START + 2.2 * WIDTH, START + 2.4 * WIDTH].map((time) => columnAt(going, time)),
    [1, 2],
  );
});
