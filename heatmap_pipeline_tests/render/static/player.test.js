import assert from "node:assert/strict";
import { test } from "node:test";
import { Player, SPEEDS } from "../../../heatmap_pipeline/render/static/player.js";

/** A player of so many candles, its steps, and a promise that resolves when it stops. */
function played(candles) {
  const steps = [];
  let stopped;
  const end = new Promise((resolve) => {
    stopped = resolve;
  });
  const player = new Player(
    async (by) => {
      steps.push(by);
      return steps.length < candles;
    },
    () => {
      if (!player.isPlaying) stopped();
    },
  );
  player.speed = 1000;
  return { player, steps, end };
}

test("it plays candle by candle until there are no more", async () => {
  const { player, steps, end } = played(4);
  player.play();
  player.play();
  await end;
  assert.deepEqual([steps, player.isPlaying], [[1, 1, 1, 1], false]);
});

test("it stops at once, and a step by hand stops it", async () => {
  const { player, steps } = played(1000);
  player.toggle();
  player.toggle();
  await player.step(-1);
  const taken = steps.length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual([steps.length, steps.at(-1), player.isPlaying], [taken, -1, false]);
});

test("a stop while a candle is drawn is not forgotten", async () => {
  let draw;
  const player = new Player(
    () =>
      new Promise((resolve) => {
        draw = resolve;
      }),
    () => {},
  );
  player.play();
  player.stop();
  draw(true);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(player.isPlaying, false);
});

test("begun anew while a candle is drawn, it plays once", async () => {
  const draws = [];
  const player = new Player(
    () =>
      new Promise((resolve) => {
        draws.push(resolve);
      }),
    () => {},
  );
  player.speed = 1000;
  player.play();
  player.stop();
  player.play();
  assert.equal(draws.length, 2);
  for (const draw of draws) draw(true);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(draws.length, 3);
  player.stop();
});

test("speeds go up and down, and no further than they go", () => {
  const { player } = played(1);
  player.speed = SPEEDS[0];
  const seen = [-1, 1, 1, 1, 1, 1, -1].map((by) => {
    player.shift(by);
    return player.speed;
  });
  assert.deepEqual(seen, [1, 2, 5, 10, 20, 20, 10]);
});

/** What a player says of its speed over some seconds of playing, when a candle takes so long to draw. */
async function saidWhile(speed, milliseconds, t) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  t.mock.method(performance, "now", () => now);
  const said = [];
  const player = new Player(
    async () => {
      now += milliseconds;
      return true;
    },
    () => said.push(player.reached),
  );
  player.speed = speed;
  player.play();
  while (now < 3500) {
    for (let i = 0; i < 5; i += 1) await Promise.resolve();
    const wait = Math.max(0, 1000 / speed - milliseconds);
    now += wait;
    t.mock.timers.tick(wait);
  }
  player.stop();
  return said;
}

for (const [speed, milliseconds, expected] of [
  [20, 100, 10],
  [10, 250, 4],
  [20, 20, null],
  [5, 190, null],
]) {
  test(`at ${speed}/s with ${milliseconds} ms a candle it says ${expected} until it stops`, async (t) => {
    const said = await saidWhile(speed, milliseconds, t);
    assert.deepEqual(said, expected === null ? [null, null] : [null, expected, null]);
  });
}
