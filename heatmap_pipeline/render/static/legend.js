// The legend, which is the slider: a bar with the map's colours, and two handles that say where they begin and end.

import { colourScale, roundVolumes, STOPS, scaleText, scaleWords } from "./colours.js";
import { byId, make } from "./dom.js";
import { binText, quote, typedTimes, typedVolume } from "./words.js";

const TRACK_DECADES = 4;
const LEAST_TIMES = 0.1;
const ABOUT_VOLUME = "Modelled volume that would be liquidated in a row";
const ABOUT_TIMES =
  "How many times as much as usual a row holds: usual is the median of what is loaded at the same distance from the " +
  "price of its time, each side for itself";
const STEP = 0.01; // of the track, for one press of an arrow key
const percent = (share) => `${(100 * share).toFixed(2)}%`;
/** Three digits, so that the address bar and the labels say the same. */
const tidy = (volume) => Number(volume.toPrecision(3));

export class Legend {
  #onMove;
  #onDone;
  #track = byId("track");
  #handles = { low: byId("low-handle"), high: byId("high-handle") };
  #inputs = { low: byId("low"), high: byId("high") };
  #modes = { fit: byId("fit-colours"), lock: byId("lock-colours") };
  #shown = null; // { scale, from, to }: what the colours span, and what the track does

  /**
   * `onMove(change)` while a handle moves, `onDone(change)` when it rests; a change is { low } or { high }, a value of
   * the scale, or null to fit what is in view.
   */
  constructor(onMove, onDone) {
    this.#onMove = onMove;
    this.#onDone = onDone;
    for (const name of Object.keys(this.#handles)) {
      this.#handles[name].addEventListener("pointerdown", (event) => this.#drag(name, event));
      this.#handles[name].addEventListener("keydown", (event) => this.#press(name, event));
      this.#inputs[name].addEventListener("change", () => this.#typed(name));
      this.#inputs[name].addEventListener("focus", () => this.#inputs[name].select());
    }
    this.#track.addEventListener("pointerdown", (event) => this.#jump(event));
    this.#modes.fit.addEventListener("click", () => this.fit());
    this.#modes.lock.addEventListener("click", () => this.lock());
  }

  /** The colours fit what is in view from now on. */
  fit() {
    this.#onDone({ low: null, high: null });
  }

  /** The colours stay as they are now, whatever is in view; once more, and they fit it again. */
  lock() {
    if (!this.#shown) return;
    if (this.#shown.isLocked) this.fit();
    else this.#onDone({ high: tidy(this.#shown.scale.high) });
  }

  #place(volume) {
    const { from, to, scale } = this.#shown;
    const share = scale.log
      ? Math.log(Math.max(volume, from) / from) / Math.log(to / from)
      : (volume - from) / (to - from);
    return Math.min(1, Math.max(0, share));
  }

  #volumeAt(share) {
    const { from, to, scale } = this.#shown;
    const kept = Math.min(1, Math.max(0, share));
    return scale.log ? from * (to / from) ** kept : from + kept * (to - from);
  }

  #volumeUnder(event) {
    const frame = this.#track.getBoundingClientRect();
    return this.#volumeAt((event.clientX - frame.left) / frame.width);
  }

  /** Shows the colours of a map, fitted to a view unless they are locked. */
  update(map, choice, view) {
    const scale = colourScale(map, choice, view);
    const most = Math.max(Math.min(scale.most, 2.5 * scale.top), scale.high);
    const least = scale.times ? LEAST_TIMES : most / 10 ** TRACK_DECADES;
    const isLocked = choice.high !== null;
    this.#shown = { scale, isLocked, from: scale.log ? Math.min(least, scale.low) : 0, to: most };
    const [low, high] = [this.#place(scale.low), this.#place(scale.high)];
    const stops = STOPS.map(([share, colour]) => `${colour} ${percent(low + share * (high - low))}`);
    byId("ramp").style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    const title = byId("legend-title");
    title.textContent = scaleWords(map, choice, scale);
    title.title = scale.times ? ABOUT_TIMES : `${ABOUT_VOLUME} of ${binText(map.bin)} ${quote} of price`;
    byId("not-known").hidden = !scale.times;
    for (const [mode, button] of Object.entries(this.#modes)) {
      button.setAttribute("aria-pressed", String(isLocked === (mode === "lock")));
    }
    const unit = scale.times ? "times the usual" : quote;
    const [kinds, example] = scale.times ? ["what is", "2x or 0.5"] : ["volumes", "2M, 500k or 2000000"];
    this.#inputs.low.setAttribute("aria-label", `Hide ${kinds} below, ${unit}`);
    this.#inputs.high.setAttribute("aria-label", `Brightest colour from, ${unit}`);
    this.#inputs.low.title = `Hide ${kinds} below (type ${example})`;
    this.#inputs.high.title = `Brightest colour from here on (type ${example})`;
    this.#say("low", scale.low, [this.#shown.from, scale.high]);
    this.#say("high", scale.high, [scale.low, this.#shown.to]);
    this.#label(low, high);
  }

  /** Puts a handle at its volume, which it may move from and to some others. */
  #say(name, volume, [least, most]) {
    const [handle, input] = [this.#handles[name], this.#inputs[name]];
    handle.style.left = percent(this.#place(volume));
    const { scale } = this.#shown;
    const words = scaleText(scale, volume);
    const number = (value) => String(scale.times ? tidy(value) : Math.round(value));
    handle.dataset.text = name === "high" ? `≥ ${words}` : words;
    handle.setAttribute("aria-valuemin", number(least));
    handle.setAttribute("aria-valuemax", number(most));
    handle.setAttribute("aria-valuenow", number(volume));
    handle.setAttribute("aria-valuetext", scale.times ? `${words} the usual` : `${words} of ${quote}`);
    if (document.activeElement !== input) input.value = words;
    input.classList.remove("wrong");
  }

  /** Round volumes below the bar, where no handle's own label stands. */
  #label(low, high) {
    const width = this.#track.clientWidth || 300;
    const taken = [low, high].map((share) => share * width);
    const { from, to, scale } = this.#shown;
    let last = -Infinity;
    const marks = [];
    for (const volume of roundVolumes(from, to, scale.log, Math.max(3, Math.round(width / 64)))) {
      const at = this.#place(volume) * width;
      if (at - last < 46 || at < 12 || at > width - 12 || taken.some((other) => Math.abs(other - at) < 48)) continue;
      last = at;
      const mark = make("span", { textContent: scaleText(scale, volume) });
      mark.style.left = `${at.toFixed(1)}px`;
      marks.push(mark);
    }
    byId("ticks").replaceChildren(...marks);
  }

  /** The change that puts a handle at a volume; handles never pass each other. */
  #changed(name, volume) {
    const { from, to } = this.#shown;
    const { low, high, log } = this.#shown.scale;
    const gap = 0.01 * (to - from);
    if (name === "low") {
      const most = log ? high / 1.05 : high - gap;
      return { low: tidy(Math.max(log ? from : 0, Math.min(volume, most))) };
    }
    return { high: tidy(Math.max(volume, log ? low * 1.05 : low + gap)) };
  }

  #drag(name, event) {
    if (!this.#shown) return;
    const handle = this.#handles[name];
    event.preventDefault();
    handle.focus();
    handle.setPointerCapture(event.pointerId);
    const move = (moving) => this.#onMove(this.#changed(name, this.#volumeUnder(moving)));
    const end = () => {
      handle.removeEventListener("pointermove", move);
      this.#onDone({});
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("lostpointercapture", end, { once: true });
  }

  #press(name, event) {
    if (!this.#shown) return;
    const now = this.#place(this.#shown.scale[name]);
    const to = {
      ArrowLeft: now - STEP,
      ArrowDown: now - STEP,
      ArrowRight: now + STEP,
      ArrowUp: now + STEP,
      PageDown: now - 10 * STEP,
      PageUp: now + 10 * STEP,
      Home: 0,
      End: 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.#onDone(this.#changed(name, this.#volumeAt(to)));
  }

  #typed(name) {
    if (!this.#shown) return;
    const input = this.#inputs[name];
    const { scale } = this.#shown;
    const { low, high, times } = scale;
    const volume = (times ? typedTimes : typedVolume)(input.value.replace(/^≥\s*/, ""));
    const fits = name === "low" ? volume < high : volume > low;
    const wanted = name === "low" ? `below ${scaleText(scale, high)}` : `above ${scaleText(scale, low)}`;
    input.classList.toggle("wrong", !fits);
    input.title = fits
      ? ""
      : `Type ${times ? "a factor" : "a volume"} ${wanted}, like ${times ? "2x" : "2.5M or 800k"}`;
    if (fits) this.#onDone(this.#changed(name, volume));
  }

  /** A press on the track takes the nearer handle there. */
  #jump(event) {
    if (event.target.closest(".handle") || !this.#shown) return;
    const volume = this.#volumeUnder(event);
    const away = (name) => Math.abs(this.#place(volume) - this.#place(this.#shown.scale[name]));
    const nearer = away("low") < away("high") ? "low" : "high";
    this.#handles[nearer].focus();
    this.#onDone(this.#changed(nearer, volume));
  }
}
