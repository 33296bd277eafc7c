// Replay: one candle after the other, at a chosen speed, for as long as there are any.

/** Candles a second that may be chosen. */
export const SPEEDS = [1, 2, 5, 10, 20];

export class Player {
  #step;
  #onChange;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #turn = 0; // how often it was begun
  speed = 5;
  isPlaying = false;

  /**
   * @param {(by: number) => Promise<boolean>} step resolves when it is drawn, to whether there is more to come
   * @param {() => void} onChange after playing began or ended, or the speed changed
   */
  constructor(step, onChange) {
    this.#step = step;
    this.#onChange = onChange;
  }

  toggle() {
    if (this.isPlaying) this.stop();
    else this.play();
  }

  play() {
    if (this.isPlaying) return;
    this.isPlaying = true;
    this.#turn += 1;
    this.#onChange();
    this.#run(this.#turn);
  }

  stop() {
    if (!this.isPlaying) return;
    clearTimeout(this.#timer);
    this.isPlaying = false;
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
    if (!isMore) this.stop();
    else this.#timer = setTimeout(() => this.#run(turn), Math.max(0, 1000 / this.speed - (performance.now() - began)));
  }
}
