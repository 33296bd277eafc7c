import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ageText,
  amount,
  binDecimals,
  binText,
  countIn,
  instantText,
  percentText,
  priceText,
  timesText,
  titleText,
  typedTimes,
  typedVolume,
  volumeText,
} from "../../../heatmap_pipeline/render/static/words.js";

const table = (name, ask, rows) =>
  test(name, () => {
    for (const [given, expected] of rows) assert.deepEqual(ask(given), expected, `${name} of ${given}`);
  });

table("typed volumes", typedVolume, [
  ["2B", 2e9],
  ["$12.3M", 12.3e6],
  ["500k", 5e5],
  ["2,000,000", 2e6],
  ["2_000 000", 2e6],
  [".5m", 5e5],
  [" 7 ", 7],
  ["much", Number.NaN],
  ["", Number.NaN],
  ["-5", Number.NaN],
  ["1.2.3", Number.NaN],
  ["3x", Number.NaN],
]);

table("typed factors", typedTimes, [
  ["3", 3],
  ["2.5x", 2.5],
  ["10×", 10],
  [".5 X", 0.5],
  ["3M", Number.NaN],
  ["-2x", Number.NaN],
]);

table("factors", timesText, [
  [1, "1×"],
  [0.123, "0.12×"],
  [3.14, "3.1×"],
  [9.96, "10×"],
  [123.4, "123×"],
]);

table("short volumes", volumeText, [
  [0, "$0"],
  [999, "$999"],
  [999.6, "$1k"],
  [12_300_000, "$12.3M"],
  [99_960_000, "$100M"],
  [238_000_000, "$238M"],
  [2e9, "$2B"],
]);

table("amounts", amount, [
  [0, "0 USDT"],
  [12.5, "12.50 USDT"],
  [12_300_000, "12.30 M USDT"],
  [1_500_000_000, "1.50 B USDT"],
]);

table("prices", priceText, [
  [68215.5, "68,216"],
  [3.21, "3.2100"],
  [0.1, "0.10000"],
]);

table("decimals of a bin", binDecimals, [
  [100, 0],
  [0.5, 1],
  [0.00025, 5],
]);

table("heights of a bin", binText, [
  [1000, "1,000"],
  [0.05, "0.05"],
]);

table("percents", percentText, [
  [1.234, "+1.23 %"],
  [-1.235, "−1.24 %"],
  [0, "+0.00 %"],
]);

table("ages", ageText, [
  [0, "1 min"],
  [5399, "90 min"],
  [7200, "2 h"],
  [200_000, "2 d"],
]);

table("instants", instantText, [[Date.parse("2024-07-04T23:05:00Z"), "2024-07-04 23:05 UTC"]]);

test("another quote asset is named, and has no dollar sign unless it is one", () => {
  countIn("BTC");
  assert.equal(volumeText(1500), "1.5k");
  assert.equal(amount(1500), "1.50 k BTC");
  countIn("USDC");
  assert.equal(volumeText(1500), "$1.5k");
  countIn("USDT");
});

table("titles", titleText, [
  [{ title: "Binance USDT-M perpetual", model: "turnover" }, "Binance USDT-M perpetual, turnover"],
  [{ model: "delta" }, "delta model"], // a file of before the title was written
]);
