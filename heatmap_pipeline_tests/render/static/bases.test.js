import assert from "node:assert/strict";
import { test } from "node:test";
import {
  entriesOf,
  entryText,
  idOf,
  labelled,
  marketsOf,
  pressMarket,
  readMarkets,
  typedName,
} from "../../../heatmap_pipeline/render/static/bases.js";

const market = (symbol, more = {}) => ({
  symbol,
  models: ["turnover"],
  exchange: "binance",
  title: "Binance USDT-M perpetual",
  quote: "USDT",
  first_day: "2024-07-01",
  as_of: "2024-07-11T00:00:00Z",
  candle_interval_seconds: 300,
  ...more,
});
const BTC = market("BTCUSDT", { models: ["turnover", "delta"], first_day: "2024-06-01" });
const BYBIT = market("BYBIT_BTCUSDT", {
  exchange: "bybit",
  title: "Bybit USDT-M perpetual",
  as_of: "2024-07-11T00:05:00Z",
  candle_interval_seconds: 900,
});
const ETH = market("ETHUSDT");

for (const [id, typed] of [
  ["BTCUSDT", "BTCUSDT"],
  ["BYBIT_BTCUSDT", "bybit:BTCUSDT"],
  ["BTCUSDT_240927", "BTCUSDT_240927"],
  ["BTCUSD_PERP", "BTCUSD_PERP"],
  ["币安USDT", "币安USDT"],
]) {
  test(`${id} is typed ${typed}`, () => {
    assert.equal(typedName(id), typed);
    assert.equal(idOf(typed), id);
  });
}

test("binance: before a name is read, and never written", () => assert.equal(idOf("binance:BTCUSDT"), "BTCUSDT"));

for (const [name, symbols, bases, expected] of [
  ["one market is no base", [BTC, ETH], [{ base: "BTC", markets: ["BTCUSDT"] }], ["BTCUSDT", "ETHUSDT"]],
  [
    "a base stands before its first market, and first where that one does",
    [BTC, BYBIT, ETH],
    [{ base: "BTC", markets: ["BTCUSDT", "BYBIT_BTCUSDT"] }],
    ["BTC", "BTCUSDT", "BYBIT_BTCUSDT", "ETHUSDT"],
  ],
  [
    "a name that is a market as well is the market",
    [BTC, BYBIT, market("BTC")],
    [{ base: "BTC", markets: ["BTCUSDT", "BYBIT_BTCUSDT"] }],
    ["BTCUSDT", "BYBIT_BTCUSDT", "BTC"],
  ],
  ["servers of before say nothing of bases", [BTC, BYBIT], undefined, ["BTCUSDT", "BYBIT_BTCUSDT"]],
]) {
  test(`what can be chosen: ${name}`, () => {
    assert.deepEqual(
      entriesOf({ symbols, bases }).map(({ symbol }) => symbol),
      expected,
    );
  });
}

test("a base has what its markets have together", () => {
  const [base, ...markets] = entriesOf({
    symbols: [BTC, BYBIT],
    bases: [{ base: "BTC", markets: ["BTCUSDT", "BYBIT_BTCUSDT"] }],
  });
  const { models, first_day, as_of, candle_interval_seconds } = base;
  assert.deepEqual(
    { models, first_day, as_of, candle_interval_seconds },
    {
      models: ["turnover", "delta"],
      first_day: "2024-06-01",
      as_of: "2024-07-11T00:05:00Z",
      candle_interval_seconds: 900,
    },
  );
  assert.deepEqual([base, ...markets].map(entryText), ["BTC, 2 markets", "BTCUSDT", "bybit:BTCUSDT"]);
});

for (const [name, markets, labels] of [
  ["the exchange", [BTC, BYBIT], ["Binance", "Bybit"]],
  [
    "with the quote asset where an exchange has several",
    [BTC, market("BTCUSDC", { quote: "USDC", title: "Binance USDC-M perpetual" }), BYBIT],
    ["Binance USDT", "Binance USDC", "Bybit"],
  ],
  [
    "of one that is made up as its id says",
    [BTC, BYBIT].map((one) => ({ ...one, exchange: null, title: "Simulated USDT-M perpetual" })),
    ["Binance", "Bybit"],
  ],
]) {
  test(`a market of a base is called: ${name}`, () => {
    const found = labelled(markets);
    assert.deepEqual(
      found.map(({ label }) => label),
      labels,
    );
    assert.equal(new Set(found.map(({ colour }) => colour)).size, markets.length);
  });
}

const ALL = ["BTCUSDT", "BYBIT_BTCUSDT", "GATE_BTCUSDT"];
for (const [text, pressed, expected] of [
  ["", "BYBIT_BTCUSDT", "BTCUSDT,GATE_BTCUSDT"],
  ["BTCUSDT,GATE_BTCUSDT", "BYBIT_BTCUSDT", ""],
  ["BTCUSDT,GATE_BTCUSDT", "BTCUSDT", "GATE_BTCUSDT"],
  ["GATE_BTCUSDT", "GATE_BTCUSDT", "GATE_BTCUSDT"],
]) {
  test(`${text || "all"} after a press on ${pressed}: ${expected || "all"}`, () => {
    assert.equal(pressMarket(text, ALL, pressed), expected);
  });
}

for (const [text, kept] of [
  [null, ""],
  ["", ""],
  ["gate:BTCUSDT,BTCUSDT", "BTCUSDT,GATE_BTCUSDT"],
  ["NONE,bybit:BTCUSDT", "BYBIT_BTCUSDT"],
  ["NONE", ""],
  [ALL.join(), ""],
]) {
  test(`a link that says ${text} shows ${kept || "all"}`, () => {
    assert.equal(readMarkets(text, ALL), kept);
    assert.deepEqual(marketsOf(kept, ALL), kept ? kept.split(",") : ALL);
  });
}
