import assert from "node:assert/strict";
import { test } from "node:test";
import { colourScale } from "../../../heatmap_pipeline/render/static/colours.js";
import { caption } from "../../../heatmap_pipeline/render/static/png.js";
import { smallMap } from "./small.js";

const columns = Array.from({ length: 30 }, (_, t) => [0, 0, t === 0 ? 40 : 4]);
const map = smallMap({ long: columns.map(() => [0, 0, 0]), short: columns, price: 125 });
const VIEW = { x: [map.start, map.end], y: [100, 130] };
const CHOICE = { side: "both", scale: "linear", low: null, high: null, bubbles: true, reported: true };

/** What the head and the foot of a picture say, and where each word stands; a letter is 6 pixels wide. */
function written(choice, width, of = map) {
  const words = [];
  const context = {
    measureText: (text) => ({ width: 6 * text.length }),
    fillText(text, x, y) {
      const share = { left: 0, center: 0.5, right: 1 }[this.textAlign];
      words.push({ text, y, from: x - share * 6 * text.length, to: x + (1 - share) * 6 * text.length });
    },
    createLinearGradient: () => ({ addColorStop() {} }),
    fillRect() {},
    strokeRect() {},
  };
  caption(context, of, choice, colourScale(map, choice, VIEW), width, 600);
  return words;
}

for (const [change, expected] of [
  [{}, ["modelled USDT per 10 USDT of price · fit to view", "$0", "$10", "$20", "≥ $40"]],
  [{ scale: "log", high: 40 }, ["modelled USDT per 10 USDT of price, log · locked", "≥ $40"]],
  [{ scale: "relative" }, ["times the usual at this distance · fit to view", "not known", "1×", "2×", "5×", "≥ 10×"]],
]) {
  for (const width of [390, 1200]) {
    test(`the picture of ${width} pixels has the legend of ${JSON.stringify(change)}`, () => {
      const texts = written({ ...CHOICE, ...change }, width).map(({ text }) => text);
      for (const words of expected) assert.ok(texts.includes(words), `${words} in ${texts.join(" | ")}`);
    });
  }
}

const MARKED = {
  ...map,
  simulated: true,
  provisional: true,
  bucket_misfit: "rows are too large",
  tiers: [3, 5, 10, 20, 25, 50],
  leverage_tiers: [3, 5, 20, 50],
};

for (const [width, of] of [390, 700, 1000, 1200].flatMap((pixels) => [map, MARKED].map((one) => [pixels, one]))) {
  test(`no words of a picture of ${width} pixels stand on others${of === MARKED ? ", with all marks" : ""}`, () => {
    const words = written({ ...CHOICE, scale: "relative" }, width, of);
    for (const [i, one] of words.entries()) {
      assert.ok(one.from >= 0 && one.to <= width, one.text);
      for (const other of words.slice(i + 1)) {
        const apart = Math.abs(one.y - other.y) >= 10 || one.to <= other.from || other.to <= one.from;
        assert.ok(apart, `${one.text} and ${other.text}`);
      }
    }
  });
}

for (const [shown, expected] of [
  [[25, 50], "leverage 25x and up only"],
  [[3, 20], "leverage 3x, 20x only"],
  [null, undefined],
]) {
  test(`beside its name the picture says ${expected} of tiers ${shown}`, () => {
    const words = written(CHOICE, 1200, { ...MARKED, simulated: false, leverage_tiers: shown });
    const said = words.find(({ text }) => text.startsWith("leverage"));
    assert.equal(said?.text, expected);
    if (said) assert.equal(said.y, words.find(({ text }) => text === "BTCUSDT").y);
  });
}

test("a market of another exchange is called as it is typed", () => {
  const texts = written(CHOICE, 1200, { ...map, symbol: "BYBIT_BTCUSDT" }).map(({ text }) => text);
  assert.ok(texts.includes("bybit:BTCUSDT"), texts.join(" | "));
});

test("a located share that nobody knows is not 0", () => {
  const words = written(CHOICE, 1200, { ...map, locatedShare: null });
  assert.ok(words.some(({ text }) => text.endsWith("located share not known")));
});
