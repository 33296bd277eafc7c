import assert from "node:assert/strict";
import { mock, test } from "node:test";
import {
  decodeLots,
  LotsAsker,
  LotsKept,
  lotsOfCell,
  lotsQuery,
  NewestLots,
  withSince,
} from "../../../heatmap_pipeline/render/static/lots.js";
import { rebin } from "../../../heatmap_pipeline/render/static/map.js";
import { START, smallMap, WIDTH } from "./small.js";

const NONE = { price: [], leverage: [], volume: [], opened_at: [] };
const ZONE = { side: "long", low: 100.0000001, high: 120, since: "2024-07-01T12:05:00Z" };
const ANSWER = {
  time: "2024-07-04T00:30:00Z",
  price_bin_size: 10,
  long: { price: [100, 100, 110], leverage: [3, 25, 25], volume: [1, 5, 7], opened_at: [START - 5, START - 9, START] },
  short: NONE,
  clusters: { above: [], below: [ZONE] },
  nearest: { above: null, below: ZONE },
};
const map = smallMap({ long: [[6, 7, 0, 1], [6, 7], [0]], meta: { leverage_tiers: [3, 25] } });
/** Lets what waits for answers go on. */
const settle = () => new Promise((done) => setImmediate(done));

/** An asker over a server that is answered by hand: `asked` are [query, signal, answer, refuse]. */
function asking() {
  const asked = [];
  const kept = new LotsKept(
    (query, signal) => new Promise((answer, refuse) => asked.push({ query, signal, answer, refuse })),
  );
  return { asked, kept, asker: new LotsAsker(kept) };
}

test("what is asked for: the end of the column, in its rows, of the tiers shown", () => {
  const query = { symbol: "BTCUSDT", markets: "", model: "turnover", tiers: "3,25", bin: 10, time: START + 2 * WIDTH };
  assert.deepEqual(lotsQuery(map, 1), query);
  assert.equal(lotsQuery({ ...map, leverage_tiers: null }, 1).tiers, "");
  const parts = ["BTCUSDT", "BYBIT_BTCUSDT"].map((symbol) => ({ symbol }));
  assert.equal(lotsQuery({ ...map, symbol: "BTC", parts }, 1).markets, "BTCUSDT,BYBIT_BTCUSDT");
});

test("an answer by row: the oldest of all leverages, and their volumes, the largest first", () => {
  const lots = decodeLots(ANSWER, 10);
  const first = {
    openedAt: START - 9,
    tiers: [
      [25, 5],
      [3, 1],
    ],
  };
  assert.deepEqual(lotsOfCell(lots, map, "long", 0), first);
  assert.deepEqual(lotsOfCell(lots, map, "long", 1), { openedAt: START, tiers: [[25, 7]] });
  assert.equal(lotsOfCell(lots, map, "short", 0), undefined);
  assert.equal(lots.time, START + 2 * WIDTH);
});

test("in higher rows the same leverage is put together", () => {
  const lots = decodeLots(ANSWER, 20);
  const tiers = [
    [25, 12],
    [3, 1],
  ];
  assert.deepEqual(lotsOfCell(lots, rebin(map, 20), "long", 0), { openedAt: START - 9, tiers });
});

test("a page from disk knows the lots of the newest column, in whatever rows", () => {
  const payload = { ...map.payload, lots: { long: ANSWER.long, short: NONE } };
  const newest = new NewestLots();
  const lots = newest.ask({ ...map, payload }, 2);
  assert.equal(lotsOfCell(lots, map, "long", 1).openedAt, START);
  assert.equal(lots.time, START + 3 * WIDTH);
  assert.equal(newest.ask({ ...map, payload }, 2), lots);
  assert.equal(newest.ask({ ...rebin(map, 20), payload }, 2).long.get(5).openedAt, START - 9);
  assert.equal(newest.ask({ ...map, payload }, 1), undefined);
  assert.equal(newest.ask(map, 2), undefined, "files of before have none");
});

test("zones of a column learn since when they stand; the others stay", () => {
  const zone = { side: "long", low: 100, high: 120, since: null };
  const zones = [[], [zone, { ...zone, side: "short" }, { ...zone, high: 130 }], [zone]];
  const known = withSince({ ...map, zones }, 1, decodeLots(ANSWER, 10));
  const since = Date.parse("2024-07-01T12:05:00Z");
  assert.deepEqual(
    known.zones[1].map((one) => one.since),
    [since, null, null],
  );
  assert.equal(known.zones[2][0].since, null);
  assert.equal(zone.since, null, "what was there before is not changed");
});

test("the server is asked once the pointer rests, for the newest column, and not twice", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { asked, asker } = asking();
  let came = 0;
  const come = () => {
    came += 1;
  };
  const ask = (column) => asker.ask(map, column, come);
  assert.equal(ask(0), "asked");
  mock.timers.tick(100);
  assert.equal(ask(1), "asked");
  mock.timers.tick(100);
  assert.equal(asked.length, 0, "not on the way");
  mock.timers.tick(100);
  assert.deepEqual(
    asked.map(({ query }) => query.time),
    [START + 2 * WIDTH],
  );
  assert.equal(ask(1), "asked");
  mock.timers.tick(1000);
  assert.equal(asked.length, 1, "not again while it is asked for");
  asked[0].answer(ANSWER);
  await settle();
  assert.equal(came, 1);
  assert.equal(ask(1).time, START + 2 * WIDTH);
  mock.timers.tick(1000);
  assert.equal(asked.length, 1, "what is known is not asked for");
  mock.timers.reset();
});

test("what is overtaken is cancelled, and says nothing any more", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { asked, asker } = asking();
  let came = 0;
  const come = () => {
    came += 1;
  };
  asker.ask(map, 0, come);
  mock.timers.tick(200);
  asker.ask(map, 1, come);
  assert.equal(asked[0].signal.aborted, true);
  asked[0].refuse(new DOMException("", "AbortError"));
  mock.timers.tick(200);
  asker.stop();
  assert.equal(asked[1].signal.aborted, true);
  asked[1].answer(ANSWER);
  await settle();
  assert.equal(came, 0);
  assert.equal(typeof asker.ask(map, 1, come), "object", "an answer that came all the same is known");
  mock.timers.reset();
});

test("a refusal is said and not asked for again until the pointer was elsewhere", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { asked, asker } = asking();
  const come = () => {};
  asker.ask(map, 0, come);
  mock.timers.tick(200);
  asked[0].refuse(new Error("503"));
  await settle();
  assert.equal(asker.ask(map, 0, come), null);
  mock.timers.tick(1000);
  assert.equal(asked.length, 1);
  assert.equal(asker.ask(map, 1, come), "asked");
  assert.equal(asker.ask(map, 0, come), "asked");
  mock.timers.tick(200);
  assert.equal(asked.length, 2);
  mock.timers.reset();
});

test("an answer that was on its way when there was a publication is asked for again", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const { asked, asker, kept } = asking();
  const come = () => asker.ask(map, 0, come);
  assert.equal(come(), "asked");
  mock.timers.tick(200);
  kept.forget();
  asked[0].answer(ANSWER);
  await settle();
  mock.timers.tick(200);
  assert.equal(asked.length, 2);
  asked[1].answer(ANSWER);
  await settle();
  assert.equal(typeof come(), "object");
  mock.timers.reset();
});

test("a publication makes all be asked for again, and as many columns are kept as are worth it", async () => {
  const kept = new LotsKept(() => Promise.resolve(ANSWER));
  const { signal } = new AbortController();
  for (let i = 0; i < 50; i += 1) await kept.load(String(i), lotsQuery(map, 0), signal);
  assert.deepEqual([kept.known("9"), typeof kept.known("10")], [undefined, "object"]);
  const late = kept.load("late", lotsQuery(map, 0), signal);
  kept.forget();
  await late;
  assert.deepEqual([kept.known("49"), kept.known("late")], [undefined, undefined]);
});
