// What there is, what is chosen of it, and what is drawn.

import { choiceOf, hashOf, momentsWithout, troublesOf } from "./address.js";
import { entriesOf, readMarkets } from "./bases.js";
import { rangeOptions } from "./controls.js";
import { tiersAfter } from "./leverage.js";
import { overlaps, pricesOf, viewOf } from "./map.js";
import { atMoment, columnAt } from "./moment.js";
import { nameParts } from "./parts.js";
import { RANGES, suffices, windowOf, within } from "./time.js";

export class State {
  symbols = [];
  version = null; // of the publication that the symbols are from
  health = null;
  choice = null;
  map = null; // what is drawn
  troubles = []; // with the link
  #movedFrom = null; // the view before a move that goes on
  #loaded = null; // { key, window } of what is drawn
  #begins = new Map(); // by key: where the data begin, on a first day that is not whole

  constructor(live) {
    this.live = live;
  }

  /** What there is of the chosen symbol. */
  get entry() {
    return this.symbols.find(({ symbol }) => symbol === this.choice.symbol);
  }

  /** What there is from now on; the choice stays if it can, and a view that showed the newest data follows them. */
  publish(found) {
    const { version } = found;
    const symbols = entriesOf(found);
    const known = this.choice && this.entry ? symbols.some(({ symbol }) => symbol === this.choice.symbol) : false;
    const { last } = known ? this.bounds : { last: Infinity };
    Object.assign(this, { symbols, version });
    this.#begins.clear();
    if (!known) {
      this.open();
      return;
    }
    const { view } = this.choice;
    const grown = this.bounds.last - last;
    const follows = view && view.x[1] >= last && grown > 0;
    this.choose(follows ? { view: { ...view, x: view.x.map((time) => time + grown) } } : {});
  }

  /** Chooses what the address bar says; `troubles` is what of it cannot be shown. */
  open() {
    this.choice = choiceOf(location.hash, this.symbols);
    if (!this.live) this.choice.markets = "";
    this.troubles = [...troublesOf(location.hash, this.symbols), ...momentsWithout(this.choice, this.bounds)];
  }

  /** Changes the choice; what does not go with the change goes. */
  choose(change) {
    const isOtherUnit = "scale" in change && (change.scale === "relative") !== (this.choice.scale === "relative");
    if (isOtherUnit) this.choice = { ...this.choice, low: null, high: null };
    this.choice = { ...this.choice, ...change };
    if (!("tiers" in change)) this.choice.tiers = tiersAfter(change, this.choice.tiers);
    const { models, markets = [] } = this.entry;
    const of = markets.map(({ symbol }) => symbol);
    this.choice.markets = "symbol" in change ? "" : readMarkets(this.choice.markets, of);
    if (!models.includes(this.choice.model)) [this.choice.model] = models;
    // Volumes and prices of another symbol have nothing to do with these; moments have.
    if ("symbol" in change) Object.assign(this.choice, { low: null, high: null, bin: 0 });
    if ("symbol" in change && this.choice.view) this.choice.view = { x: this.choice.view.x, y: null };
    if (this.choice.pin === null) this.choice.replay = false;
  }

  /** Puts the choice into the address bar. */
  write() {
    try {
      history.replaceState(null, "", hashOf(this.choice));
    } catch {
      // Safari allows 100 in 30 seconds, which two fingers exceed; the next change writes what this one could not.
    }
  }

  /** The time there are data of; before a page from disk has read them, all of it. */
  get bounds() {
    const { first_day: first, as_of: last, candle_interval_seconds: finest = 0 } = this.entry;
    if (first && last) {
      const begin = this.#begins.get(this.#key) ?? Date.parse(`${first}T00:00:00Z`);
      return { first: begin, last: Date.parse(last), finest };
    }
    const { map } = this;
    const isKnown = map && map.symbol === this.choice.symbol;
    return { first: isKnown ? map.start : -Infinity, last: isKnown ? map.asOf : Infinity, finest };
  }

  get ranges() {
    const { first, last } = this.bounds;
    return rangeOptions(last - first, this.choice, this.live);
  }

  /** What is chosen, as far as there are data of it: the longest range there is, moments that lie within. */
  fit() {
    const allowed = Object.keys(this.ranges).filter((name) => !this.ranges[name].disabled);
    const { first, last } = this.bounds;
    const choice = { ...this.choice };
    if (!allowed.includes(choice.range)) choice.range = allowed.at(-1);
    if (choice.at !== null && (choice.at >= last || choice.at <= first)) choice.at = null;
    if (choice.pin !== null && (choice.pin > last || choice.pin <= first)) choice.pin = null;
    // A range that ends at the newest data and does not reach back to the pinned moment ends there instead.
    const isOut = choice.pin !== null && choice.pin <= last - RANGES[choice.range];
    if (isOut && choice.at === null && !choice.view) choice.at = choice.pin;
    if (choice.view && (choice.view.x[0] >= last || choice.view.x[1] <= first)) choice.view = null;
    if (choice.pin === null) choice.replay = false;
    this.choice = choice;
  }

  /** The window to ask for: what is loaded, as long as it shows what is chosen. */
  window(pixels) {
    const { bounds, choice } = this;
    const loaded = this.#loaded?.key === this.#key && this.#loaded.window;
    if (choice.view && loaded && suffices(loaded, choice.view, bounds, pixels)) return loaded;
    return windowOf(choice, bounds, pixels);
  }

  get #key() {
    return [this.choice.symbol, this.choice.model, this.choice.tiers, this.choice.markets].join("/");
  }

  /** Whether what is drawn shows the view as finely as the screen can. */
  isEnough(pixels) {
    return !this.live || !this.choice.view || this.#loaded?.window === this.window(pixels);
  }

  /** Takes a map as the one that is drawn, and the window it was loaded for. */
  take(map, window) {
    this.map = map;
    nameParts(map, this.entry.markets);
    this.#loaded = { key: this.#key, window };
    // The server cuts a window where the data begin, and nowhere else.
    if (window && map.start - window.from >= map.width) this.#begins.set(this.#key, map.start);
    const { choice } = this;
    // A link may be older than what there is now.
    if (choice.view && !overlaps(map, this.view)) this.choose({ view: null });
    if (choice.pin !== null && (choice.pin < map.start || choice.pin > map.end)) this.choose({ pin: null });
  }

  /** What is looked at of the map. */
  get view() {
    const { choice, map } = this;
    if (!choice.view) return viewOf(map, choice.range, choice.at);
    return { x: choice.view.x, y: choice.view.y ?? pricesOf(map, choice.view.x) };
  }

  /** Looks at something else; the colours stay as they are until it rests. */
  move(view) {
    this.#movedFrom ??= this.view;
    this.choose({ view });
  }

  rest() {
    this.#movedFrom = null;
  }

  /** The view that the colours fit. */
  get fitted() {
    return this.#movedFrom ?? this.view;
  }

  /** The moment that everything beside the map belongs to: the map as it stood then. */
  get moment() {
    const { choice, map, bounds } = this;
    const time = choice.pin ?? Math.min(this.view.x[1], choice.view ? Infinity : (choice.at ?? Infinity));
    const then = atMoment(map, time);
    return { ...then, column: columnAt(map, time), isPast: then.asOf < bounds.last };
  }

  /** After which nothing is shown: the pinned moment of a replay. */
  get until() {
    return this.choice.replay ? this.choice.pin : Infinity;
  }

  /** The right edge of what is looked at, and how much time that is. */
  get edge() {
    const { bounds, choice } = this;
    const { x } = choice.view ?? { x: [0, choice.at ?? bounds.last] };
    const span = choice.view ? x[1] - x[0] : Math.min(RANGES[choice.range], bounds.last - bounds.first);
    return { at: Math.min(x[1], bounds.last), span };
  }

  /** Looks at as much time as now, up to another moment; the prices follow. */
  travel(time) {
    const { first, last } = this.bounds;
    const { span } = this.edge;
    const x = within([time - span, time], [first, last]);
    if (this.choice.view) this.choose({ view: { x, y: null }, pin: null });
    else this.choose({ at: x[1] >= last ? null : x[1], pin: null });
  }

  /** Where a replay begins: at the pinned moment, else early enough in the view to see what follows. */
  get replayStart() {
    const { choice, map, view } = this;
    if (choice.pin !== null) return choice.pin;
    const time = view.x[0] + 0.25 * (Math.min(view.x[1], map.end) - view.x[0]);
    return map.start + Math.max(1, Math.floor((time - map.start) / map.width)) * map.width;
  }

  /** Shows nothing after a moment, which stays in view. */
  replayTo(time) {
    const { view } = this;
    this.choose({ pin: time, replay: true });
    const span = view.x[1] - view.x[0];
    const x = time > view.x[1] ? [time - 0.75 * span, time + 0.25 * span] : [time - 0.25 * span, time + 0.75 * span];
    if (time > view.x[1] || time < view.x[0]) this.choose({ view: { x, y: null } });
    // Prices that leave the view take it with them.
    const { price } = this.moment;
    if (price < this.view.y[0] || price > this.view.y[1]) this.choose({ view: { x: this.view.x, y: null } });
  }

  /** Whether a map of what is chosen is drawn, if perhaps of another time. */
  get isDrawn() {
    const { map, choice } = this;
    return Boolean(map) && map.symbol === choice.symbol && map.model === choice.model;
  }
}
