import assert from "node:assert/strict";
import { test } from "node:test";
import { csvOf, fileName } from "../../../heatmap_pipeline/render/static/export.js";
import { START, smallMap, WIDTH } from "./small.js";

const map = smallMap({
  long: [
    [1, 2],
    [3, 4],
    [5, 6],
  ],
});
const HEAD = "timestamp_utc,price_low,price_high,long_usdt,short_usdt,state_at_utc,leverage_tiers";
const rowsOf = (view) => csvOf(map, view).trimEnd().split("\n");
const whole = { x: [map.start, map.end], y: [map.low, map.high] };

for (const [name, view, expected] of [
  ["the whole map", whole, [1, 2, 3, 4, 5, 6]],
  [
    "a zoomed view keeps its first and its last, partly visible column",
    { ...whole, x: [START + 0.9 * WIDTH, START + 1.1 * WIDTH] },
    [1, 2, 3, 4],
  ],
  ["a column that only touches the view is left out", { ...whole, x: [START + WIDTH, START + 2 * WIDTH] }, [3, 4]],
  ["a row that is partly in view is kept", { ...whole, y: [105, 109] }, [1, 3, 5]],
  ["beyond the map there is nothing", { x: [map.end, map.end + WIDTH], y: whole.y }, []],
]) {
  test(`as a table: ${name}`, () => {
    const [head, ...rows] = rowsOf(view);
    assert.equal(head, HEAD);
    assert.deepEqual(
      rows.map((row) => Number(row.split(",")[3])),
      expected,
    );
  });
}

test("a row says its time, its prices and both sides", () => {
  assert.equal(rowsOf(whole)[2], "2024-07-04T00:00:00Z,110,120,2,0,2024-07-04T00:15:00Z,all");
});

test("a row of a filtered map says whose lots it is of", () => {
  const [, row] = csvOf({ ...map, leverage_tiers: [25, 50.5] }, whole).split("\n");
  assert.equal(row, "2024-07-04T00:00:00Z,100,110,1,0,2024-07-04T00:15:00Z,25x 50.5x");
});

test("a name says symbol, model, tiers, time, and that data are simulated", () => {
  assert.equal(fileName(map, "csv"), "BTCUSDT-turnover-20240704T0045Z.csv");
  assert.equal(fileName(map, "csv", "25,50"), "BTCUSDT-turnover-25x-50x-20240704T0045Z.csv");
  assert.equal(fileName(map, "png", "near"), "BTCUSDT-turnover-near-20240704T0045Z.png");
  assert.match(fileName({ ...map, simulated: true }, "png"), /-SIMULATED\.png$/);
});
