// The library that ships with the page is the one that package.json names, byte for byte.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";

const root = new URL("../../../", import.meta.url);
const published = new URL("node_modules/plotly.js-finance-dist-min/", root);
const vendor = new URL("heatmap_pipeline/render/vendor/", root);
const skip = existsSync(published) ? false : "npm has not installed it; run: npm ci --ignore-scripts";

for (const [ours, theirs] of [
  ["plotly-finance.min.js", "plotly-finance.min.js"],
  ["plotly-LICENSE", "LICENSE"],
]) {
  test(`${ours} is what npm publishes`, { skip }, () => {
    assert.ok(readFileSync(new URL(ours, vendor)).equals(readFileSync(new URL(theirs, published))));
  });
}

test("it says the version that package.json pins", () => {
  const { dependencies } = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));
  const head = readFileSync(new URL("plotly-finance.min.js", vendor), "utf8").slice(0, 200);
  assert.match(head, new RegExp(`finance - minified\\) v${dependencies["plotly.js-finance-dist-min"]}\\n`));
});
