// Replay: one candle after the other, at a chosen speed, for as long as there are any.

/** Candles a second that may be chosen. */
export const SPEEDS = [1, 2, 5, 10, 20];
const MEASURED = 1000; // milliseconds of playing, after which the speed that was reached is known
const NEARLY = 0.9; // of the speed that was asked for, from which on there is nothing to say

export class Player {
  #step;
  #onChange;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #turn = 0; // how often it was begun
  #speed = 5;
  #count = { since: 0, steps: 0 };
  isPlaying = false;
  /**
   * Candles a second that it draws where that is clearly less than was asked for.
   * @type {number | null}
   */
  reached = null;

  /**
   * @param {(by: number) => Promise<boolean>} step resolves when it is drawn, to whether there is more to come
   * @param {() => void} onChange after playing began or ended, or a speed changed
   */
  constructor(step, onChange) {
    this.#step = step;
    this.#onChange = onChange;
  }

  /** Candles a second that are asked for. */
  get speed() {
    return this.#speed;
  }

  set speed(speed) {
    this.#speed = speed;
    this.#countAnew();
    this.reached = null;
  }

  #countAnew() {
    this.#count = { since: performance.now(), steps: 0 };
  }

  /** Counts a step that was drawn, and says so where the speed that was reached is another than before. */
  #drawn() {
    this.#count.steps += 1;
    const time = performance.now() - this.#count.since;
    if (time < MEASURED) return;
    const rate = (1000 * this.#count.steps) / time;
    const reached = rate < NEARLY * this.speed ? Number(rate.toPrecision(2)) : null;
    this.#countAnew();
    if (reached === this.reached) return;
    this.reached = reached;
    this.#onChange();
  }

  toggle() {
    if (this.isPlaying) this.stop();
    else this.play();
  }

  play() {
    if (this.isPlaying) return;
    this.isPlaying = true;
    this.#turn += 1;
    this.#countAnew();
    this.#onChange();
    this.#run(this.#turn);
  }

  stop() {
    if (!this.isPlaying) return;
    clearTimeout(this.#timer);
    this.isPlaying = false;
    this.reached = null;
    this.#onChange();
  }

  /**
   * Stops and goes one candle on, or back for -1.
   * @param {number} by
   */
  async step(by) {
    this.stop();
    await this.#step(by);
  }

  /**
   * The next speed, or the one before for -1.
   * @param {number} by
   */
  shift(by) {
    const at = SPEEDS.indexOf(this.speed) + by;
    this.speed = SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, at))];
    this.#onChange();
  }

  /** @param {number} turn that it was begun in */
  async #run(turn) {
    const began = performance.now();
    const isMore = await this.#step(1);
    if (!this.isPlaying || turn !== this.#turn) return;
    this.#drawn();
    if (!isMore) this.stop();
    else this.#timer = setTimeout(() => this.#run(turn), Math.max(0, 1000 / this.speed - (performance.now() - began)));
  }
}
