// The page: what is chosen, loaded and drawn, wired to the controls.

import { OPTIONS } from "./address.js";
import { alertsPanel } from "./alerts.js";
import { entryText } from "./bases.js";
import { Chart } from "./chart.js";
import {
  ABOUT,
  binOptions,
  fillBins,
  fillHelp,
  group,
  LAYERS,
  listenToKeys,
  NOT_RECORDED,
  REPORTED_ALONE,
} from "./controls.js";
import { byId, make } from "./dom.js";
import { exchangesPanel } from "./exchanges.js";
import { csvOf, fileName } from "./export.js";
import { blank, notice, say, showFacts, staleness } from "./facts.js";
import { ladder } from "./ladder.js";
import { Legend } from "./legend.js";
import { Loading, mapOf } from "./loading.js";
import { LotsAsker, LotsKept, NewestLots, withSince } from "./lots.js";
import { decode, rebin } from "./map.js";
import { Player } from "./player.js";
import { pngOf, save } from "./png.js";
import { pinchZoom, pointer } from "./pointer.js";
import { truthPanel } from "./score.js";
import { fileSource, liveSource, SourceError } from "./source.js";
import { State } from "./state.js";
import { leverageControl } from "./tiers.js";
import { MINUTE, RANGES } from "./time.js";
import { measureFrame } from "./timing.js";
import { Travel } from "./travel.js";
import { binText, countIn } from "./words.js";
import { zonesAt } from "./zones.js";

const POLL_SECONDS = 30;
const HEALTH_MINUTES = 10;
const REST = 200; // milliseconds without a move, after which what is looked at is asked for
const ELSEWHERE = ["symbol", "model", "range", "view", "at", "pin"]; // what a replay does not go on after
const TOGGLES = { h: "map", c: "candles", x: "bubbles", o: "reported", p: "profile", k: "levels" };

/** Runs the library, which the page names and has fetched meanwhile; resolves when it is there. */
function plotlyRead() {
  const ready = new Promise((resolve, reject) => {
    const script = make("script", { src: byId("plotly").href });
    script.onload = resolve;
    script.onerror = () => {
      const words = "plotly.min.js is missing beside this page, so there is no chart. Copy the whole folder.";
      reject(new SourceError(words));
    };
    document.head.append(script);
  });
  ready.catch(() => {});
  return ready;
}

class Page {
  #source;
  #seconds; // from one look at what there is to the next
  #state;
  #loading = new Loading();
  #element = byId("chart");
  #plotly = null; // resolves when the library is there
  #looking = false;
  #asked = 0; // when health was asked for
  #health = Promise.resolve(); // until it is known and shown
  #judged = null; // whose score was asked for
  #resting = 0; // waits until the view rests
  #resizing = 0; // waits until the size rests, and draws

  constructor(source, { poll_seconds: seconds = POLL_SECONDS }) {
    this.#source = source;
    this.#seconds = seconds;
    this.#state = new State(source.live);
    this.chart = new Chart(this.#element, byId("density"), (view) => this.#moved(view));
    this.lots = source.lots ? new LotsKept(source.lots) : null;
    this.standing = this.lots && new LotsAsker(this.lots);
    const asker = this.lots ? new LotsAsker(this.lots) : new NewestLots();
    this.hand = pointer(this.#element, this.chart, (time) => this.#pin(time), asker);
    this.levels = ladder(byId("ladder"), this.chart);
    this.truth = truthPanel((symbol) => this.#choose({ symbol }));
    this.alerts = alertsPanel();
    this.legend = new Legend(
      (change) => this.#recolour(change),
      (change) => {
        this.#recolour(change);
        this.#state.write();
      },
    );
    this.pickers = {
      range: group("range", (range) => this.#choose({ range, view: null })),
      side: group("side", (side) => this.#choose({ side })),
      scale: group("scale", (scale) => this.#choose({ scale })),
      model: group("model", (model) => this.#choose({ model })),
      layers: group("layers", (name) => this.#toggle(name), { single: false }),
    };
    this.tiers = this.#source.live ? leverageControl(group, (tiers) => this.#choose({ tiers })) : null;
    this.exchanges = exchangesPanel(group, (markets) => this.#choose({ markets }), source.live);
    pinchZoom(this.#element, this.chart);
    this.player = new Player(
      (by) => this.#step(by),
      () => this.#played(),
    );
    this.travel = new Travel({
      go: (time) => this.#travel(time),
      earlier: () => this.#move(-0.5),
      later: () => this.#move(0.5),
      newest: () => this.#choose({ at: null, view: null, pin: null }),
      unpin: () => this.#unpin(),
      player: this.player,
    });
    this.actions = this.#actions();
    this.#wire();
    say("Loading …");
    this.#look();
  }

  // What is chosen.

  #choose(change) {
    if (ELSEWHERE.some((name) => name in change)) this.player.stop();
    this.#state.choose(change);
    this.#update();
  }

  #toggle(name) {
    this.#choose({ [name]: !this.#state.choice[name] });
  }

  /** Limits of the colours follow a handle at once; the chart above them need not. */
  #recolour(change) {
    const state = this.#state;
    state.choice = { ...state.choice, ...change };
    if (!state.map) return;
    this.chart.recolour(state.choice, state.fitted);
    this.legend.update(state.map, state.choice, state.fitted);
  }

  /** After the user moved or zoomed: candles of a width that can be read there, and the profile of what is in view. */
  #moved(view) {
    if (view === null) {
      this.#choose({ view: null });
      return;
    }
    const state = this.#state;
    state.move(view);
    this.#redraw();
    state.write();
    this.hand.hide();
    this.#restSoon();
  }

  // Other moments.

  #travel(time) {
    this.player.stop();
    this.#state.travel(time);
    this.#update();
  }

  /** Goes earlier or later by a share of what is looked at. */
  #move(share) {
    const { at, span } = this.#state.edge;
    this.#travel(at + share * span);
  }

  /** Everything beside the map belongs to a moment from now on, to the right edge again if it did; whether it does. */
  #pin(time) {
    this.player.stop();
    const pin = time === this.#state.choice.pin ? null : time;
    this.#state.choose({ pin });
    this.#showMoment();
    return pin !== null;
  }

  #unpin() {
    this.player.stop();
    this.#state.choose({ pin: null });
    this.#showMoment();
  }

  #showMoment() {
    this.#state.write();
    return this.#redraw();
  }

  /** After playing began or ended; the address follows where it ends, not on the way. */
  #played() {
    this.travel.playing();
    if (!this.player.isPlaying && this.#state.map) this.#showMoment();
  }

  /** One candle of a replay, forwards or back, as wide as the columns are; whether there is more to come. */
  async #step(by) {
    const state = this.#state;
    const { bounds, map } = state;
    if (!map) return false;
    const now = state.choice.replay ? state.choice.pin : state.replayStart;
    const time = Math.min(now + by * map.width, bounds.last);
    if (time < bounds.first + map.width) return false;
    state.replayTo(time);
    if (!state.isEnough(this.chart.mapWidth)) await this.#update();
    else if (this.player.isPlaying) await this.#drawMoment();
    else await this.#showMoment();
    return time < bounds.last;
  }

  /** Once what is looked at rests, the colours fit it; where it could be shown finer than it is, it is asked for. */
  #restSoon() {
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => {
      this.#resting = 0;
      this.#state.rest();
      if (this.#state.isEnough(this.chart.mapWidth)) this.#recolour({});
      else this.#update();
    }, REST);
  }

  #bins() {
    const { map } = this.#state;
    return binOptions(map, map.base, this.#source.live);
  }

  #nextBin(step) {
    const { map, choice } = this.#state;
    const usable = this.#bins().filter(([, , why]) => !why);
    const offered = [0, ...usable.map(([bin]) => bin)];
    const now = choice.bin ? offered.indexOf(choice.bin) : offered.indexOf(map.bin);
    const next = offered[Math.max(1, Math.min(offered.length - 1, now + step))];
    if (next) this.#choose({ bin: next });
  }

  #nextModel() {
    const { models } = this.#state.entry;
    this.#choose({ model: models[(models.indexOf(this.#state.choice.model) + 1) % models.length] });
  }

  // What the controls show.

  /** A model and what it is for, unless it is the one to look at. */
  #modelWords(name) {
    const role = this.#state.entry.roles?.[name] ?? "default";
    return role === "default" ? name : `${name} (${role})`;
  }

  #controls() {
    const { choice, entry, map, ranges, symbols } = this.#state;
    document.body.classList.remove("bare");
    const names = symbols.map(({ symbol }) => symbol);
    const select = byId("symbol");
    if ([...select.options].map(({ value }) => value).join() !== names.join()) {
      select.replaceChildren(...symbols.map((one) => new Option(entryText(one), one.symbol)));
    }
    select.value = choice.symbol;
    const options = (all, isPressed) =>
      Object.fromEntries(
        Object.entries(all).map(([value, words]) => [value, { words, about: ABOUT[value], pressed: isPressed(value) }]),
      );
    const models = Object.fromEntries(entry.models.map((name) => [name, this.#modelWords(name)]));
    this.pickers.model.update(options(models, (name) => name === choice.model));
    for (const [name, all] of Object.entries(OPTIONS)) {
      this.pickers[name].update(options(all, (value) => value === choice[name]));
    }
    const layers = options(LAYERS, (name) => choice[name]);
    if (this.chart.isNarrow) {
      Object.assign(layers.profile, { disabled: true, about: "There is no room for it here; turn the screen." });
    }
    if (map && !map.reported) {
      const about = map.parts ? REPORTED_ALONE : NOT_RECORDED;
      Object.assign(layers.reported, { disabled: true, pressed: false, about });
    }
    this.pickers.layers.update(layers);
    this.pickers.range.update(ranges);
    this.tiers?.update(map, choice.tiers);
    byId("ladder").hidden = !choice.levels;
    this.exchanges.update(entry, this.#state.isDrawn ? this.#state.moment : null, choice.markets);
    if (map) fillBins(byId("bin"), this.#bins(), choice, map);
  }

  // What is loaded and drawn.

  #update() {
    const state = this.#state;
    clearTimeout(this.#resting);
    this.#resting = 0;
    state.rest();
    state.fit();
    this.#controls();
    state.write();
    this.hand.hide();
    const window = this.#source.live ? state.window(this.chart.mapWidth) : null;
    const asked = performance.now();
    const shown = this.#loading.start(
      (signal) => this.#source.load({ ...state.choice, entry: state.entry, window }, signal),
      (payload, number) => this.#show(payload, { window, number, asked }),
      (error) => this.#failed(error),
    );
    this.#readPlotly();
    return shown;
  }

  /** Not before numbers are asked for: while it is run, nothing else is, and they take as long to come. */
  #readPlotly() {
    this.#plotly ??= plotlyRead();
    return this.#plotly;
  }

  async #show(payload, { window, number, asked }) {
    const state = this.#state;
    const { live } = this.#source;
    // The server puts numbers into rows itself.
    const map = mapOf(payload, live ? 0 : state.choice.bin);
    if (!live && map === map.base && state.choice.bin !== map.bin) state.choose({ bin: 0 });
    countIn(map.quote);
    state.take(map, window);
    state.fit();
    const { choice } = state;
    if (!map.columns || !map.rows) {
      state.map = null;
      const words = `There are no data of ${choice.symbol} (${choice.model}) in this range. Choose a longer one, or`;
      const of = state.entry.markets?.map(({ symbol }) => symbol).join(" ") ?? choice.symbol;
      blank(`${words} run: heatmap refresh ${of}`, { retry: () => this.#update() });
      return;
    }
    // Shown first: what is hidden has no size to draw in.
    byId("message").hidden = true;
    this.#controls();
    state.write();
    this.legend.update(map, choice, state.fitted);
    this.#beside(state.view, state.moment);
    if (typeof Plotly === "undefined") {
      this.chart.early(map, choice, state.view);
      measureFrame("heatmap-first-cells", 0);
    }
    await this.#readPlotly();
    await this.hand.released(); // what is dragged would jump
    if (!this.#loading.isNewest(number)) return;
    await this.#draw();
    this.#askTruth();
    this.alerts.show(`${choice.symbol}/${state.version}`, () => this.#source.alerts({ ...choice, entry: state.entry }));
    const troubles = state.troubles.splice(0);
    if (map.empty) troubles.push("The book is empty in this range: there are candles, but no levels.");
    notice(troubles.join(" "));
    for (const id of ["save-png", "save-csv"]) byId(id).disabled = false;
    if (!performance.getEntriesByName("heatmap-first-paint").length) measureFrame("heatmap-first-paint", 0);
    measureFrame("heatmap-drawn", asked);
  }

  /** What stands beside the map, of a moment. */
  #beside(view, moment) {
    const { bounds, choice, edge, health } = this.#state;
    this.travel.update({ bounds, choice, edge, moment, view }, this.#source.live);
    showFacts(moment, staleness(moment, health, bounds.last), bounds.last);
    this.levels.update(this.#standingSince(moment), choice.side);
    this.exchanges.update(this.#state.entry, moment, choice.markets);
  }

  /** A moment whose zones say since when they stand: the newest ones do, of others the server says it when it rests. */
  #standingSince(moment) {
    if (!this.standing || moment.column === moment.columns - 1) return moment;
    if (this.player.isPlaying) {
      this.standing.stop();
      return moment;
    }
    const lots = this.standing.ask(moment, moment.column, () => {
      const { choice, map } = this.#state;
      if (map) this.levels.update(this.#standingSince(this.#state.moment), choice.side);
    });
    return lots && lots !== "asked" ? withSince(moment, moment.column, lots) : moment;
  }

  async #draw() {
    const { map, choice, view, fitted, moment, until, bounds } = this.#state;
    await this.chart.draw({ map, choice, view, fitted, moment, until, bounds });
    // Words that changed since may have left it another place for no longer than this: no observer is told of that.
    requestAnimationFrame(() => this.#fitSize());
  }

  /** Draws another moment of what is there. */
  #drawMoment() {
    this.#beside(this.#state.view, this.#state.moment);
    return this.#draw();
  }

  /** Draws what is there anew, as the choice or the room for it changed; what is on its way is drawn when it comes. */
  #redraw() {
    if (!this.#state.isDrawn) return undefined;
    this.#controls();
    this.legend.update(this.#state.map, this.#state.choice, this.#state.fitted);
    return this.#drawMoment();
  }

  /** The score of what is drawn, of a base those of its markets, once for each symbol, model and publication. */
  #askTruth() {
    const { choice, entry, symbols, version } = this.#state;
    const wanted = `${choice.symbol}/${choice.model}/${version}`;
    if (wanted === this.#judged) return;
    this.#judged = wanted;
    const score = (one) => this.#source.score({ ...choice, symbol: one.symbol, entry: one });
    const each = async (one) => ({ symbol: one.symbol, record: await score(one).catch(() => null) });
    const of = entry.markets && symbols.filter((one) => entry.markets.some(({ symbol }) => symbol === one.symbol));
    this.truth.show(choice.symbol, choice.model, of ? Promise.all(of.map(each)) : score(entry));
  }

  #failed(error) {
    const state = this.#state;
    const { choice, entry } = state;
    // A bin that this range has too many rows of is no reason to show nothing.
    if (error.status === 422 && choice.bin) {
      this.#choose({ bin: 0 });
      this.#loading.running.then(() => notice(`${error.message}. Back to an automatic bin.`.replace("..", ".")));
      return;
    }
    const words = error instanceof SourceError ? error.message : `This page failed: ${error.message}`;
    const retry = () => this.#update();
    if (this.chart.view() && state.isDrawn) notice(`${words} Shown is what was loaded before.`, retry);
    else {
      state.map = null; // so that the next look tries again
      blank(words, { picture: entry.files?.[choice.model]?.picture, retry });
    }
  }

  async #look() {
    if (this.#looking) return;
    this.#looking = true;
    await this.#lookOnce().finally(() => {
      this.#looking = false;
    });
  }

  /** Asks what there is; new data replace the old in place, and the part that is in view stays. */
  async #lookOnce() {
    const state = this.#state;
    let found;
    try {
      found = await this.#source.symbols();
    } catch (error) {
      this.#readPlotly();
      const retry = () => this.#look();
      const again = `trying again every ${this.#seconds} s.`;
      if (state.map) notice(`${error.message} Shown is what was loaded before; ${again}`, retry);
      else say(error.message, { retry });
      return;
    }
    if (!found.symbols.length) {
      this.#nothing();
      return;
    }
    const isNew = found.version !== state.version;
    const isTroubled = !byId("notice").hidden || (!state.map && state.version !== null);
    let shown = null;
    if (isNew || isTroubled) {
      state.publish(found);
      if (isNew) this.#source.forget();
      if (isNew) this.lots?.forget();
      shown = this.#update();
    }
    if (isNew || Date.now() - this.#asked > HEALTH_MINUTES * MINUTE) this.#health = this.#askHealth();
    await Promise.all([shown, this.#health]);
  }

  /** Numbers do not wait for it. */
  async #askHealth() {
    const state = this.#state;
    this.#asked = Date.now();
    state.health = await this.#source.health();
    if (state.isDrawn) this.#beside(state.view, state.moment);
  }

  #nothing() {
    this.#readPlotly();
    Object.assign(this.#state, { symbols: [], version: null, map: null });
    document.body.classList.add("bare");
    const { live } = this.#source;
    const words = "There is nothing to show yet. Run: heatmap demo, or: heatmap run BTCUSDT --start DAY --end DAY";
    if (live) say(`${words} This page looks again by itself.`, { retry: () => this.#look() });
    else say(words);
  }

  // What the user does.

  /** What each key does, besides the ranges and the layers. */
  #actions() {
    const { chart } = this;
    const nextScale = { linear: "log", log: "relative", relative: "linear" };
    return {
      l: () => this.#choose({ side: "long" }),
      s: () => this.#choose({ side: "short" }),
      b: () => this.#choose({ side: "both" }),
      g: () => this.#choose({ scale: nextScale[this.#state.choice.scale] }),
      m: () => this.#nextModel(),
      r: () => this.legend.fit(),
      f: () => this.legend.lock(),
      "[": () => this.#nextBin(-1),
      "]": () => this.#nextBin(1),
      "?": () => byId("help").showModal(),
      t: () => this.truth.open(),
      "+": () => chart.shift({ scale: 0.7 }),
      "=": () => chart.shift({ scale: 0.7 }),
      "-": () => chart.shift({ scale: 1 / 0.7 }),
      0: () => this.#choose({ view: null }),
      ArrowLeft: () => chart.shift({ x: -0.15 }),
      ArrowRight: () => chart.shift({ x: 0.15 }),
      ArrowUp: () => chart.shift({ y: 0.15 }),
      ArrowDown: () => chart.shift({ y: -0.15 }),
      ",": () => this.#move(-0.5),
      ".": () => this.#move(0.5),
      n: () => this.#choose({ at: null, view: null, pin: null }),
      " ": () => this.player.toggle(),
      "<": () => this.player.step(-1),
      ">": () => this.player.step(1),
      "{": () => this.player.shift(-1),
      "}": () => this.player.shift(1),
      Escape: () => (byId("more").checkVisibility() && this.#isOpen ? this.#fold() : this.#unpin()),
    };
  }

  /** Does what a key stands for; whether it stands for anything. */
  act(key) {
    const { map, ranges } = this.#state;
    if (key === "?" || key === "t" || (map && this.actions[key])) this.actions[key]();
    else if (map && TOGGLES[key]) this.#toggle(TOGGLES[key]);
    else if (map && /^[1-9]$/.test(key)) {
      const range = Object.keys(RANGES)[Number(key) - 1];
      if (!ranges[range].disabled) this.#choose({ range, view: null });
    } else return false;
    return true;
  }

  #wire() {
    const state = this.#state;
    const click = (id, action) => byId(id).addEventListener("click", action);
    const keys = { "zoom-in": "+", "zoom-out": "-", "zoom-fit": "0", "help-button": "?" };
    for (const [id, key] of Object.entries(keys)) click(id, () => this.act(key));
    byId("symbol").addEventListener("change", (event) => this.#choose({ symbol: event.target.value }));
    byId("bin").addEventListener("change", (event) => this.#choose({ bin: Number(event.target.value) }));
    click("save-csv", () => {
      const { x, y } = this.chart.view();
      const text = csvOf(state.map, { x: [x[0], Math.min(x[1], state.until)], y });
      save(fileName(state.moment, "csv", state.choice.tiers), new Blob([text], { type: "text/csv" }));
    });
    click("save-png", async () => save(fileName(state.moment, "png", state.choice.tiers), await this.pngOf()));
    click("more", () => this.#fold());
    for (const id of ["save-png", "save-csv"]) byId(id).disabled = true;
    byId("map").tabIndex = 0;
    fillHelp(byId("help"));
    listenToKeys((key) => this.act(key));
    window.addEventListener("hashchange", () => {
      if (!state.symbols.length) return;
      this.player.stop();
      state.open();
      this.#update();
    });
    this.#followSize();
    if (!this.#source.live) return;
    const look = () => {
      if (!document.hidden) this.#look();
    };
    setInterval(look, this.#seconds * 1000);
    document.addEventListener("visibilitychange", look);
  }

  get #isOpen() {
    return document.body.classList.contains("open");
  }

  /** Opens or closes the controls where they are folded away. */
  #fold() {
    byId("more").setAttribute("aria-expanded", String(document.body.classList.toggle("open")));
    byId("more").focus();
  }

  #followSize() {
    new ResizeObserver(() => this.#fitSize()).observe(this.#element);
  }

  /** Where what is drawn has not the size of its place, it is drawn anew once that rests. */
  #fitSize() {
    const element = this.#element;
    const { width, height } = element._fullLayout ?? {};
    clearTimeout(this.#resizing);
    this.#resizing = 0;
    if (!this.#state.map || !width || (width === element.clientWidth && height === element.clientHeight)) return;
    const own = setTimeout(async () => {
      await this.#redraw();
      if (this.#resizing === own) this.#resizing = 0;
    }, 60);
    this.#resizing = own;
  }

  pngOf() {
    return pngOf(this.chart, this.#element);
  }

  /** For consoles and tests: what is chosen and drawn. */
  state() {
    const { choice, map, health, version } = this.#state;
    return { ...this.chart.state(), choice, map, health, version };
  }

  /** The newest load and draw, at the size of the window, and the colours that fit it. */
  async settled() {
    while (this.#resting || this.#resizing) await new Promise((done) => setTimeout(done, REST / 10));
    await Promise.all([this.#loading.running, this.#health]);
  }
}

const manifest = JSON.parse(byId("manifest").textContent);
const page = new Page(manifest.live ? liveSource() : fileSource(manifest), manifest);
// For consoles and tests: what is drawn, and the pure functions behind it.
window.heatmapPage = {
  state: () => page.state(),
  settled: () => page.settled(),
  pngOf: () => page.pngOf(),
  view: () => page.chart.view(),
  truth: page.truth.state,
  decode,
  rebin,
  zonesAt,
  binText,
  csvOf,
};
