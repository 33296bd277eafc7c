// Drawing a map: its cells on a canvas, and above that axes, candles, circles and profile with Plotly. Cells are not a
// Plotly heatmap: that is drawn anew as a whole for every change of colour, and colours have to follow a moving handle.

import { colourScale, copyCells, paintCells } from "./colours.js";
import { priceBounds } from "./map.js";
import { onData } from "./time.js";
import { candleTraces, circleTraces, isNarrow, layout, places, profileTraces } from "./traces.js";

const CONFIG = {
  displayModeBar: false,
  scrollZoom: true,
  doubleClick: false,
  responsive: false,
  displaylogo: false,
};

/** Draws one map into an element and its cells into a canvas below; keeps both right while the user moves and zooms. */
export class Chart {
  #element;
  #canvas;
  #onMoved;
  #drawn = null; // { map, choice, view, moment, until, scale, painted }
  #wired = false;
  #deafUntil = 0; // to double clicks, which Plotly takes the fingers of a pinch for
  cells = document.createElement("canvas");

  /** `onMoved(view)` after the user moved or zoomed, with null for a double click. */
  constructor(element, canvas, onMoved) {
    this.#element = element;
    this.#canvas = canvas;
    this.#onMoved = onMoved;
  }

  /** Whether there is no room beside the map. */
  get isNarrow() {
    return isNarrow(this.#element);
  }

  /** Pixels of the map from left to right. */
  get mapWidth() {
    return places(this.#element, { profile: true }).mapWidth;
  }

  /** The cells alone, where they will be: Plotly takes longer to read than the numbers. */
  early(map, choice, view) {
    const { margin, mapWidth, height } = places(this.#element, choice);
    this.#colour(map, choice, view);
    this.#paintIn(view, { left: margin.l, top: margin.t, width: mapWidth, height: height - margin.t - margin.b });
  }

  /**
   * Draws a scene: { map, choice, view, bounds }, the `moment` that profile and price belong to, `until` when anything
   * is shown, and the view that the colours are `fitted` to.
   */
  async draw(scene) {
    const { map, choice, view, moment, until } = scene;
    const at = places(this.#element, choice);
    const traces = [
      ...candleTraces(map, view, at.mapWidth, choice.candles, until),
      ...circleTraces(map, choice, at.mapWidth, until),
      ...(at.withProfile ? profileTraces(moment, choice) : []),
    ];
    this.#colour(map, choice, scene.fitted);
    Object.assign(this.#drawn, scene);
    // Not restyle: it forgets that the axis is one of dates, and then takes it for one of numbers.
    await Plotly.react(this.#element, traces, layout(scene, at), CONFIG);
    this.#paint();
    this.#wire();
  }

  #wire() {
    if (this.#wired) return;
    this.#wired = true;
    this.#element.on("plotly_relayout", (change) => {
      if (Object.keys(change).some((key) => /^[xy]axis\.range/.test(key))) this.#moved();
    });
    this.#element.on("plotly_relayouting", () => this.#paint());
    this.#element.on("plotly_doubleclick", () => {
      if (performance.now() > this.#deafUntil) this.#onMoved(null);
    });
  }

  /** What was moved too far goes back, as wide as it was: Plotly's own limits would zoom in instead. */
  #moved() {
    const view = this.view();
    const kept = this.#onData(view);
    const isOff = (axis) => {
      const least = 1e-6 * (kept[axis][1] - kept[axis][0]);
      return kept[axis].some((end, i) => Math.abs(end - view[axis][i]) > least);
    };
    if (isOff("x") || isOff("y")) this.goTo(kept);
    else this.#onMoved(view);
  }

  /** The view moved to where half of it is on data, of times and of prices. */
  #onData({ x, y }) {
    const { bounds, map } = this.#drawn;
    return { x: onData(x, bounds), y: onData(y, priceBounds(map)) };
  }

  /** Colours the cells for a choice, unless they are so already. */
  #colour(map, choice, fitted) {
    const scale = colourScale(map, choice, fitted);
    const painted = [choice.side, choice.scale, scale.low, scale.high].join();
    if (this.#drawn?.map !== map || this.#drawn.painted !== painted) paintCells(this.cells, map, choice, scale);
    this.#drawn = { moment: map, until: Infinity, ...this.#drawn, map, choice, scale, painted };
  }

  recolour(choice, fitted) {
    if (!this.#drawn?.view) return;
    this.#colour(this.#drawn.map, choice, fitted);
    this.#paint();
  }

  /** What is drawn: the scene and the scale of its colours. */
  state() {
    return this.#drawn;
  }

  /** What is in view, null before anything is drawn. */
  view() {
    if (!this.#element._fullLayout) return null;
    const { xaxis, yaxis } = this.#element._fullLayout;
    return { x: xaxis.range.map((value) => xaxis.r2l(value)), y: yaxis.range.map(Number) };
  }

  /** Puts the cells where the axes are now. */
  #paint() {
    const { xaxis, yaxis } = this.#element._fullLayout;
    this.#clearPriceLabel();
    this.#paintIn(this.view(), {
      left: xaxis._offset,
      top: yaxis._offset,
      width: xaxis._length,
      height: yaxis._length,
    });
  }

  #paintIn(view, box) {
    const [element, canvas] = [this.#element, this.#canvas];
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(element.clientWidth * ratio), Math.round(element.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      // In pixels, as Plotly's pictures are: while the window changes its size, cells stay where the prices say.
      Object.assign(canvas.style, { width: `${width / ratio}px`, height: `${height / ratio}px` });
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const { choice, map, until } = this.#drawn;
    if (choice.map) copyCells(context, this.cells, map, view, box, until);
  }

  /** Labels of the price axis that would stick out below the label of the price are not shown. */
  #clearPriceLabel() {
    for (const label of this.#element.querySelectorAll(".ytick text")) {
      label.style.visibility = this.isCovered(label.__data__.x) ? "hidden" : "";
    }
  }

  /** Whether a label of the price axis would stick out below the one of the price. */
  isCovered(price) {
    const [tag, label] = [this.heightOf(this.#drawn.moment.price), this.heightOf(price)];
    return tag !== null && label !== null && Math.abs(label - tag) < 17;
  }

  /**
   * Moves the view by shares of its width and height, after scaling it about its middle, or about the newest data where
   * they are in view; half of it stays on data.
   */
  shift({ scale = 1, x = 0, y = 0 }) {
    if (!this.#drawn?.view) return;
    const view = this.view();
    const changed = ([from, to], by, share = 0.5) => {
      const [length, fixed] = [to - from, from + share * (to - from)];
      const begin = fixed - share * length * scale + by * length;
      return [begin, begin + length * scale];
    };
    const { last } = this.#drawn.bounds;
    const times = changed(view.x, x, view.x[1] >= last ? (last - view.x[0]) / (view.x[1] - view.x[0]) : 0.5);
    this.goTo(this.#onData({ x: times, y: changed(view.y, y) }));
  }

  ignoreDoubleClick() {
    this.#deafUntil = performance.now() + 700;
  }

  goTo(view) {
    return Plotly.relayout(this.#element, { "xaxis.range": view.x, "yaxis.range": view.y });
  }

  /** What lies under a point of the element, or null outside of the map and the profile. */
  under(x, y) {
    if (!this.#drawn?.view || !this.#element._fullLayout) return null;
    const { xaxis, xaxis2, yaxis } = this.#element._fullLayout;
    const inside = (axis, at) => at >= axis._offset && at <= axis._offset + axis._length;
    if (!inside(yaxis, y) || !(inside(xaxis, x) || (xaxis2 && inside(xaxis2, x)))) return null;
    const { map, moment, until, choice } = this.#drawn;
    const price = yaxis.p2l(y - yaxis._offset);
    const row = Math.floor((price - map.low) / map.bin);
    const onMap = inside(xaxis, x);
    const column = onMap ? Math.floor((xaxis.p2l(x - xaxis._offset) - map.start) / map.width) : moment.column;
    const isShown = column >= 0 && column < map.columns && map.start + (column + 1) * map.width <= until;
    return {
      map: moment,
      choice,
      until,
      price,
      onMap,
      row: row >= 0 && row < map.rows ? row : null,
      column: isShown ? column : null,
      box: this.box(),
    };
  }

  /** Pixels of the map and of what stands beside it. */
  box() {
    const { xaxis, xaxis2, yaxis } = this.#element._fullLayout;
    const mapRight = xaxis._offset + xaxis._length;
    return {
      left: xaxis._offset,
      right: xaxis2 ? xaxis2._offset + xaxis2._length : mapRight,
      mapRight,
      top: yaxis._offset,
      height: yaxis._length,
    };
  }

  /** The pixel at which a price stands, or null if it is out of view. */
  heightOf(price) {
    if (!this.#drawn?.view) return null;
    const { yaxis } = this.#element._fullLayout;
    const at = yaxis.l2p(price);
    return at >= 0 && at <= yaxis._length ? yaxis._offset + at : null;
  }
}
