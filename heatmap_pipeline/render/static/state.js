// What there is, what is chosen of it, and what is drawn.

import { choiceOf, hashOf } from "./address.js";
import { rangeOptions } from "./controls.js";

export class State {
  symbols = [];
  version = null; // of the publication that the symbols are from
  health = null;
  choice = null;
  map = null; // what is drawn

  constructor(live) {
    this.live = live;
  }

  /** What there is of the chosen symbol. */
  get entry() {
    return this.symbols.find(({ symbol }) => symbol === this.choice.symbol);
  }

  /** What there is from now on; the choice stays if it can. */
  publish({ symbols, version }) {
    Object.assign(this, { symbols, version });
    const known = this.choice && symbols.some(({ symbol }) => symbol === this.choice.symbol);
    if (symbols.length && !known) this.open();
    else if (symbols.length) this.choose({});
  }

  /** Chooses what the address bar says. */
  open() {
    this.choice = choiceOf(location.hash, this.symbols);
  }

  /** Changes the choice; what does not go with the change goes. */
  choose(change) {
    this.choice = { ...this.choice, ...change };
    const { models } = this.entry;
    if (!models.includes(this.choice.model)) [this.choice.model] = models;
    // Volumes and prices of another symbol have nothing to do with these.
    if ("symbol" in change) Object.assign(this.choice, { low: null, high: null, bin: 0, view: null });
  }

  /** Puts the choice into the address bar. */
  write() {
    try {
      history.replaceState(null, "", hashOf(this.choice));
    } catch {
      // Safari allows 100 in 30 seconds, which two fingers exceed; the next change writes what this one could not.
    }
  }

  /** How much time the chosen symbol has data of, milliseconds. */
  get span() {
    const { first_day: first, as_of: last } = this.entry;
    if (first && last) return Date.parse(last) - Date.parse(`${first}T00:00:00Z`);
    const { map } = this;
    return map && map.symbol === this.choice.symbol ? map.end - map.start : Infinity;
  }

  get ranges() {
    return rangeOptions(this.span, this.choice, this.live);
  }

  /** The longest range there is data for, instead of one that has none. */
  fitRange() {
    const allowed = Object.keys(this.ranges).filter((name) => !this.ranges[name].disabled);
    if (!allowed.includes(this.choice.range)) this.choice = { ...this.choice, range: allowed.at(-1) };
  }

  /** Whether a map of what is chosen is drawn, if perhaps of another time. */
  get isDrawn() {
    const { map, choice } = this;
    return Boolean(map) && map.symbol === choice.symbol && map.model === choice.model;
  }
}
