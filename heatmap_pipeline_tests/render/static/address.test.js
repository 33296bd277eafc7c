import assert from "node:assert/strict";
import { test } from "node:test";
import { choiceOf, hashOf, momentsWithout, troublesOf } from "../../../heatmap_pipeline/render/static/address.js";

const SYMBOLS = [
  { symbol: "BTCUSDT", models: ["turnover", "delta"] },
  { symbol: "币安USDT", models: ["delta"] },
  { symbol: "BTC", models: ["turnover"], markets: [{ symbol: "BTCUSDT" }, { symbol: "BYBIT_BTCUSDT" }] },
  { symbol: "BYBIT_BTCUSDT", models: ["turnover"] },
];
const PLAIN = choiceOf("", SYMBOLS);

test("without a link it is the first symbol and model, a week, and everything is shown", () => {
  const { symbol, model, range, side, scale, bin, low, high, view, profile } = PLAIN;
  assert.deepEqual(
    { symbol, model, range, side, scale, bin, low, high, view, profile },
    {
      symbol: "BTCUSDT",
      model: "turnover",
      range: "7d",
      side: "both",
      scale: "linear",
      bin: 0,
      low: null,
      high: null,
      view: null,
      profile: true,
    },
  );
});

for (const change of [
  {},
  { model: "delta", range: "1y", side: "short", scale: "log" },
  { bin: 0.05, low: 0, high: 2.5e6 },
  { scale: "relative", low: 0.5, high: 8 },
  { candles: false, levels: false },
  { symbol: "币安USDT", model: "delta" },
  { symbol: "BTC", markets: "BYBIT_BTCUSDT" },
  { view: { x: [1720400000000, 1720500000000], y: [55000, 60000.5] } },
  { view: { x: [1720400000000, 1720500000000], y: null } },
  { at: Date.parse("2024-07-04T23:30:00Z") },
  { pin: Date.parse("2024-07-04T23:30:05Z"), replay: true },
  { view: { x: [1720400000000, 1720500000000], y: [0.00001234, 0.0000125] } },
]) {
  test(`a link opens what its sender saw: ${JSON.stringify(change)}`, () => {
    const choice = { ...PLAIN, ...change };
    assert.deepEqual(choiceOf(hashOf(choice), SYMBOLS), choice);
    assert.equal(hashOf(choiceOf(hashOf(choice), SYMBOLS)), hashOf(choice));
  });
}

for (const [hash, expected] of [
  ["#symbol=NONE&model=nonsense", { symbol: "BTCUSDT", model: "turnover" }],
  ["#symbol=币安USDT&model=turnover", { symbol: "币安USDT", model: "delta" }],
  ["#symbol=bybit:BTCUSDT", { symbol: "BYBIT_BTCUSDT", markets: "" }],
  ["#symbol=BTC&markets=bybit:BTCUSDT,NONE", { symbol: "BTC", markets: "BYBIT_BTCUSDT" }],
  ["#symbol=BTCUSDT&markets=BTCUSDT", { symbol: "BTCUSDT", markets: "" }],
  ["#range=9y&side=up&scale=square", { range: "7d", side: "both", scale: "linear" }],
  ["#bin=-3&low=x&high=0", { bin: 0, low: null, high: null }],
  ["#low=5&high=5", { low: null, high: 5 }],
  ["#view=1,2,3", { view: null }],
  ["#at=yesterday&pin=2024-13-45T00:00Z&replay=1", { at: null, pin: null, replay: false }],
  ["#replay=1", { replay: false }],
  ["#view=2,1,5,6", { view: null }],
  ["#view=1,2,a,6", { view: null }],
]) {
  test(`what ${hash} says wrong is as without a link`, () => {
    const choice = choiceOf(hash, SYMBOLS);
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((name) => [name, choice[name]])), expected);
  });
}

for (const [hash, expected] of [
  ["", []],
  [hashOf({ ...PLAIN, bin: 0.05, low: 1, high: 2.5e6, at: 1720135800000, pin: 1720135800000 }), []],
  ["#bin=1e3&view=1,2&low=0", []],
  ["#symbol=NONE&model=x", ["NONE is not here; shown is BTCUSDT."]],
  ["#symbol=BTCUSDT&model=x", ["There is no model x of BTCUSDT; shown is turnover."]],
  ["#range=9y", ["range = 9y cannot be read. Shown is 7d."]],
  ["#low=much", ["low = much cannot be read."]],
  ["#bin=-3&high=1,5", ["bin = -3 cannot be read.", "high = 1,5 cannot be read."]],
  ["#low=5&high=2e0", ["low = 5 is not below high = 2e0."]],
  ["#symbol=BYBIT_BTCUSDT&model=delta", ["There is no model delta of bybit:BTCUSDT; shown is turnover."]],
  ["#at=yesterday", ["at = yesterday cannot be read. Write it like 2024-07-04T23:30Z."]],
  ["#view=1,2,3", ["view = 1,2,3 cannot be read. Shown is the whole range."]],
]) {
  test(`what cannot be shown of ${hash} is said`, () => assert.deepEqual(troublesOf(hash, SYMBOLS), expected));
}

const BOUNDS = { first: Date.parse("2024-06-19T00:00Z"), last: Date.parse("2024-07-29T00:00Z") };
for (const [hash, expected] of [
  ["", []],
  ["#at=2024-07-29T00:00Z&pin=2024-06-19T00:00Z", []],
  ["#at=2030-01-01T00:00Z", ["There are no data of 2030-01-01 00:00 UTC."]],
  ["#pin=2023-01-01T00:00Z", ["There are no data of 2023-01-01 00:00 UTC."]],
  ["#view=1420156800000,1420243200000", ["There are no data of 2015-01-02 00:00 UTC."]],
  ["#view=1420156800000,1720156800000", []],
]) {
  test(`moments without data of ${hash} are said`, () => {
    assert.deepEqual(momentsWithout(choiceOf(hash, SYMBOLS), BOUNDS), expected);
    assert.deepEqual(momentsWithout(choiceOf(hash, SYMBOLS), { first: -Infinity, last: Infinity }), []);
  });
}
