// Replay: one candle after the other, at a chosen speed, for as long as there are any.

/** Candles a second that may be chosen. */
export const SPEEDS = [1, 2, 5, 10, 20];

export class Player {
  #step;
  #onChange;
  #timer = 0;
  speed = 5;
  isPlaying = false;

  /** `step(by)` resolves when it is drawn, to whether more is to come; `onChange()` after playing began or ended. */
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
    this.#onChange();
    this.#run();
  }

  stop() {
    if (!this.isPlaying) return;
    clearTimeout(this.#timer);
    this.isPlaying = false;
    this.#onChange();
  }

  /** Stops and goes one candle on, or back for -1. */
  async step(by) {
    this.stop();
    await this.#step(by);
  }

  /** The next speed, or the one before for -1. */
  shift(by) {
    const at = SPEEDS.indexOf(this.speed) + by;
    this.speed = SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, at))];
    this.#onChange();
  }

  async #run() {
    const began = performance.now();
    const isMore = await this.#step(1);
    if (!this.isPlaying) return;
    if (!isMore) this.stop();
    else this.#timer = setTimeout(() => this.#run(), Math.max(0, 1000 / this.speed - (performance.now() - began)));
  }
}
