import assert from "node:assert/strict";
import { test } from "node:test";
import { DAY, MINUTE, onData, suffices, windowOf, within } from "../../../heatmap_pipeline/render/static/time.js";

const FIRST = Date.parse("2024-06-19T00:00:00Z");
const LAST = Date.parse("2024-07-29T00:00:00Z");
const CRASH = Date.parse("2024-07-04T23:30:00Z");
const BOUNDS = { first: FIRST, last: LAST, finest: 300 };
const PIXELS = 900;
const HOUR = 60 * MINUTE;
const ask = (choice, bounds = BOUNDS, pixels = PIXELS) =>
  windowOf({ range: "7d", at: null, view: null, ...choice }, bounds, pixels);
const around = (span) => ({ view: { x: [CRASH - span / 2, CRASH + span / 2] } });

for (const [name, choice, expected] of [
  ["the newest week", {}, { from: LAST - 7 * DAY, to: null, seconds: 900 }],
  ["a day", { range: "24h" }, { from: LAST - DAY, to: null, seconds: 300 }],
  ["more than there is", { range: "1y" }, { from: FIRST, to: null, seconds: 14400 }],
  ["a day up to a moment", { range: "24h", at: CRASH }, { from: CRASH - DAY, to: CRASH, seconds: 300 }],
  ["a week that begins before the data", { at: FIRST + DAY }, { from: FIRST, to: FIRST + DAY, seconds: 900 }],
]) {
  test(`what is asked for: ${name}`, () => assert.deepEqual(ask(choice), expected));
}

for (const [hours, seconds] of [
  [3, 300],
  [48, 300],
  [51, 900],
  [7 * 24, 3600],
  [39 * 24, 14400],
]) {
  test(`a view of ${hours} hours is asked for in columns of ${seconds} s, with some time on either side`, () => {
    const wanted = ask(around(hours * HOUR));
    const [from, to] = around(hours * HOUR).view.x;
    assert.equal(wanted.seconds, seconds);
    assert.ok(wanted.from <= Math.max(FIRST, from) && (wanted.to ?? LAST) >= Math.min(LAST, to));
    assert.equal(wanted.from % (seconds * 1000), 0);
    assert.ok(((wanted.to ?? LAST) - wanted.from) / (seconds * 1000) <= 1500, "bounded");
  });
}

test("coarse candles have no finer columns, and a narrow screen fewer", () => {
  assert.equal(ask(around(3 * HOUR), { ...BOUNDS, finest: 900 }).seconds, 900);
  assert.equal(ask(around(48 * HOUR), BOUNDS, 300).seconds, 900);
});

test("a small move asks for nothing new, and going there and back for the same", () => {
  const wanted = ask(around(DAY));
  const moved = (by) => ({ x: around(DAY).view.x.map((time) => time + by) });
  assert.ok(suffices(wanted, moved(0), BOUNDS, PIXELS));
  assert.ok(suffices(wanted, moved(0.3 * DAY), BOUNDS, PIXELS));
  assert.ok(!suffices(wanted, moved(DAY), BOUNDS, PIXELS));
  assert.deepEqual(ask({ view: moved(10 * MINUTE) }), ask({ view: moved(11 * MINUTE) }));
});

test("what is loaded too coarse, or far too fine, does not suffice", () => {
  const view = around(3 * HOUR).view;
  assert.ok(!suffices({ from: FIRST, to: null, seconds: 14400 }, view, BOUNDS, PIXELS));
  assert.ok(!suffices({ from: FIRST, to: null, seconds: 300 }, { x: [FIRST, LAST] }, BOUNDS, PIXELS));
});

test("beyond the data there is nothing to load", () => {
  const wanted = ask({ view: { x: [LAST - HOUR, LAST + HOUR] } });
  assert.ok(wanted.to === null && suffices(wanted, { x: [LAST - HOUR, LAST + HOUR] }, BOUNDS, PIXELS));
});

for (const [stretch, expected] of [
  [
    [2, 4],
    [2, 4],
  ],
  [
    [-3, 1],
    [0, 4],
  ],
  [
    [9, 12],
    [7, 10],
  ],
  [
    [-5, 20],
    [0, 10],
  ],
]) {
  test(`${stretch} within 0 to 10 is ${expected}`, () => assert.deepEqual(within(stretch, [0, 10]), expected));
}

for (const [name, stretch, expected] of [
  ["on data stays as it is", [10, 30], [10, 30]],
  ["half on them stays, too", [-10, 10], [-10, 10]],
  ["before them goes on", [-50, -30], [-10, 10]],
  ["after them goes back", [115, 125], [95, 105]],
  ["longer than twice of them is cut about its middle", [-400, 500], [-50, 150]],
]) {
  test(`a stretch ${name}`, () => assert.deepEqual(onData(stretch, { first: 0, last: 100 }), expected));
}

test("where nobody knows yet how far data reach, a stretch may be anywhere", () => {
  assert.deepEqual(onData([5, 7], { first: -Infinity, last: Infinity }), [5, 7]);
});
