import assert from "node:assert/strict";
import { test } from "node:test";
import { bookBetween, clustersOf, maxPain } from "../../../heatmap_pipeline/render/static/clusters.js";
import { smallMap } from "./small.js";

/** Clusters of shorts above a price of 100: [price, volume] each, the largest first. */
const above = (short) => clustersOf(smallMap({ long: [[]], short: [short], price: 100 })).above;

const CASES = {
  "nothing is no cluster": [[0, 0, 0], []],
  "equal neighbours are one cluster": [[0, 8, 8, 0], [[120, 16]]],
  "equal neighbours all through are one cluster": [[4, 4, 4], [[115, 12]]],
  "a neighbour of three quarters stands alone, one above joins": [[0, 75, 100, 76, 0], [[129.31818181818181, 176]]],
  "two heaps are two clusters, the larger first": [
    [9, 0, 0, 10],
    [
      [135, 10],
      [105, 9],
    ],
  ],
};

for (const [name, [short, expected]] of Object.entries(CASES)) {
  test(name, () => {
    const found = above(short).map(({ price, volume }) => [price, volume]);
    assert.deepEqual(found, expected);
  });
}

test("a cluster says from where to where it reaches, and how far away it is", () => {
  const [cluster] = above([0, 8, 8, 0]);
  assert.deepEqual([cluster.low, cluster.high, cluster.side], [110, 130, "short"]);
  assert.ok(Math.abs(cluster.distance_percent - 20) < 1e-9);
});

test("the nearest is the closest that holds a tenth of the largest", () => {
  const { nearest } = clustersOf(smallMap({ long: [[]], short: [[9, 0, 11, 0, 100]], price: 100 }));
  assert.equal(nearest.above.price, 125);
  assert.equal(nearest.below, null);
});

test("max pain is the most per percent, and a short way counts as one percent", () => {
  const { above: up, below } = maxPain(smallMap({ long: [[]], short: [[1, 0, 90, 0]], price: 100 }));
  assert.deepEqual([up.price, up.volume], [130, 91]);
  assert.equal(below, null);
});

test("a part of the book reaches to the price even where that is out of view", () => {
  const map = smallMap({ long: [[1, 2, 3, 4, 5, 6]], short: [[]], price: 105 });
  const part = bookBetween(map, [130, 150]);
  assert.deepEqual([part.low, part.rows, [...part.book.long]], [100, 5, [1, 2, 3, 4, 5]]);
});
