// Loading what is chosen: only the newest request counts, the ones before it are given up.

import { byId } from "./dom.js";
import { decode, rebin } from "./map.js";

const maps = new WeakMap(); // by payload: the map in each height of rows that was asked for

/** A payload in rows of `bin`, or in its own for 0 and for what is no multiple of it. */
export function mapOf(payload, bin) {
  if (!maps.has(payload)) maps.set(payload, new Map());
  const binned = maps.get(payload);
  if (!binned.has(0)) binned.set(0, decode(payload));
  const base = binned.get(0);
  Object.assign(base, { base });
  if (!bin) return base;
  if (!binned.has(bin)) {
    const factor = bin / base.bin;
    const fits = factor >= 1 && Math.abs(factor - Math.round(factor)) < 1e-9;
    binned.set(bin, fits ? rebin(base, bin) : base);
  }
  return binned.get(bin);
}

function busy(yes) {
  byId("progress").hidden = !yes;
  byId("map").setAttribute("aria-busy", String(yes));
}

export class Loading {
  #number = 0;
  #controller = null;
  running = Promise.resolve(); // the newest load and what was done with it

  /** Whether a request is the newest one. */
  isNewest(number) {
    return number === this.#number;
  }

  /** `load(signal)` gives a payload, `show(payload, number)` draws it, `fail(error)` says why not. */
  start(load, show, fail) {
    this.running = this.#run(load, show, fail);
    return this.running;
  }

  async #run(load, show, fail) {
    this.#number += 1;
    const mine = this.#number;
    this.#controller?.abort();
    this.#controller = new AbortController();
    const waiting = setTimeout(() => busy(true), 150);
    try {
      const payload = await load(this.#controller.signal);
      if (this.isNewest(mine)) await show(payload, mine);
    } catch (error) {
      if (this.isNewest(mine) && error.name !== "AbortError") fail(error);
    } finally {
      clearTimeout(waiting);
      if (this.isNewest(mine)) busy(false);
    }
  }
}
