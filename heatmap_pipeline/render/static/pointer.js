// What the pointer says: cross hairs, the price at its height, and the cell below it. A tap does the same on a phone,
// where two fingers zoom.

import { byId, make } from "./dom.js";
import { newestBook, recordedIn } from "./map.js";
import { notWholeOf } from "./marks.js";
import { relativeCells } from "./relative.js";
import { amount, binDecimals, clockText, dayText, instantText, percentText, priceText, timesText } from "./words.js";

/** Rows of the tooltip: [class of the row, left, right]. */
function tipRows({ map, choice, row, column, onMap }) {
  const low = map.low + row * map.bin;
  const decimals = binDecimals(map.bin);
  const cell = column * map.rows + row;
  const [long, short] = [map.long[cell], map.short[cell]];
  const rows = [
    ["", "Price", `${priceText(low, decimals)} – ${priceText(low + map.bin, decimals)}`],
    ["", map.isPast ? "From price then" : "From last price", percentText(((low + map.bin / 2) / map.price - 1) * 100)],
    ["rule long-text", "Long, modelled", amount(long)],
    ["short-text", "Short, modelled", amount(short)],
    ["", "Total, modelled", amount(long + short)],
    ...(choice.scale === "relative" ? timesRows(map, cell) : []),
  ];
  if (!onMap) {
    const book = newestBook(map);
    rows.push(
      ["rule", "Longs down to here", amount(book.longSum[row])],
      ["", "Shorts up to here", amount(book.shortSum[row])],
    );
    return rows;
  }
  const dead = map.bubbles.filter((one) => one.column === column);
  if (dead.length) {
    const sum = (side) => dead.find((one) => one.side === side)?.volume ?? 0;
    rows.push(
      ["rule long-text", "Longs liquidated, modelled", amount(sum("long"))],
      ["short-text", "Shorts liquidated, modelled", amount(sum("short"))],
    );
  }
  const [from, to] = [map.start + column * map.width, map.start + (column + 1) * map.width];
  const partly = notWholeOf(map)
    .filter((one) => one.from < to && one.to > from)
    .map(({ words }) => ["rule marks", "Not whole", words]);
  return [...rows, ...reportedRows(map, column), ...partly];
}

/** How many times as much as usual a cell holds of each side that it holds. */
function timesRows(map, cell) {
  const sides = ["long", "short"].filter((side) => map[side][cell] > 0);
  return sides.map((side, i) => {
    const times = relativeCells(map, side)[cell];
    const words = Number.isNaN(times) ? "not known" : `${timesText(times)} the usual`;
    return [`${i ? "" : "rule "}${side}-text`, `${side === "long" ? "Longs" : "Shorts"}, at this distance`, words];
  });
}

/** What was really liquidated in a column, or in the hour around it where only the hour's sum is reported. */
function reportedRows({ reported, start, width }, column) {
  if (!reported) return [];
  const [from, to] = [start + column * width, start + (column + 1) * width];
  const found = reported.circles.filter((one) => one.from < to && one.to > from);
  const known = recordedIn(reported, from, to);
  const wide = reported.seconds * 1000 > width;
  const rows = [];
  if (wide && found.length)
    rows.push(["rule", "Reported as one sum", `${clockText(found[0].from)} – ${clockText(found[0].to)}`]);
  else if (known === "none") return [["rule", "Reported", "not recorded"]];
  for (const [side, words] of [
    ["long", "Longs"],
    ["short", "Shorts"],
  ]) {
    const one = found.find((circle) => circle.side === side);
    const style = `${rows.length ? "" : "rule "}${side}-text`;
    rows.push([style, `${words} liquidated, reported`, amount(one?.volume ?? 0)]);
  }
  if (known === "some") rows.push(["", "Recorded", "in part"]);
  return rows;
}

function fillTip(tip, found) {
  const { map, column, onMap } = found;
  const start = map.start + column * map.width;
  const end = start + map.width;
  const until = dayText(end) === dayText(start) ? clockText(end) : `${dayText(end)} ${clockText(end)}`;
  const when = onMap
    ? `${dayText(start)} ${clockText(start)} – ${until} UTC`
    : `${map.isPast ? "Book" : "Newest book"}, ${instantText(map.asOf)}`;
  const table = document.createElement("table");
  for (const [style, left, right] of tipRows(found)) {
    const line = table.insertRow();
    line.className = style;
    line.insertCell().textContent = left;
    line.insertCell().textContent = right;
  }
  tip.replaceChildren(make("div", { className: "when", textContent: when }), table);
}

/** Follows the pointer; `onPick(time)` after a click into the map, with the end of the column. */
export function pointer(element, chart, onPick) {
  const [tip, crossX, crossY, tag] = ["tip", "cross-x", "cross-y", "cross-price"].map(byId);
  let pressed = null;
  const waiting = []; // for the pointer to be released

  function hide() {
    for (const one of [tip, crossX, crossY, tag]) one.hidden = true;
  }

  function show(event) {
    const frame = element.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const found = chart.under(x, y);
    if (!found) return hide();
    const { box } = found;
    crossY.hidden = tag.hidden = false;
    Object.assign(crossY.style, { left: `${box.left}px`, width: `${box.right - box.left}px`, top: `${y}px` });
    Object.assign(tag.style, { left: `${box.mapRight + 3}px`, top: `${y}px` });
    tag.textContent = priceText(found.price, binDecimals(found.map.bin));
    crossX.hidden = !found.onMap;
    Object.assign(crossX.style, { left: `${x}px`, top: `${box.top}px`, height: `${box.height}px` });
    tip.hidden = found.row === null || found.column === null;
    if (!tip.hidden) {
      fillTip(tip, found);
      const right = x + 18 + tip.offsetWidth > frame.width;
      const below = y + 18 + tip.offsetHeight > frame.height;
      const left = right ? x - 18 - tip.offsetWidth : x + 18;
      tip.style.left = `${Math.max(4, Math.min(frame.width - tip.offsetWidth - 4, left))}px`;
      tip.style.top = `${Math.max(4, below ? y - 18 - tip.offsetHeight : y + 18)}px`;
    }
    return undefined;
  }

  function pick(event) {
    const frame = element.getBoundingClientRect();
    const found = chart.under(event.clientX - frame.left, event.clientY - frame.top);
    if (!found?.onMap || found.column === null) return;
    const { start, width, end } = found.map;
    onPick(Math.min(end, start + (found.column + 1) * width));
  }

  element.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") {
      if (pressed && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > 8) hide();
    } else if (event.buttons) hide();
    else show(event);
  });
  element.addEventListener(
    "pointerdown",
    (event) => {
      pressed = { x: event.clientX, y: event.clientY, button: event.button };
      if (event.pointerType === "touch") return;
      hide();
      byId("map").focus({ preventScroll: true }); // so that the arrow keys are the map's
    },
    true,
  );
  // Of the window: Plotly puts something between the pointer and the element while a button is down.
  window.addEventListener(
    "pointerup",
    (event) => {
      const near = pressed && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) <= 8;
      const isFirst = pressed?.button === 0;
      pressed = null;
      while (waiting.length) waiting.pop()();
      if (!near) return;
      if (event.pointerType === "touch") show(event);
      else if (isFirst) pick(event);
    },
    true,
  );
  for (const end of ["pointercancel", "blur"]) {
    window.addEventListener(end, () => {
      pressed = null;
      while (waiting.length) waiting.pop()();
    });
  }
  element.addEventListener("pointerleave", (event) => {
    if (event.pointerType !== "touch") hide();
  });
  element.addEventListener("wheel", hide, { passive: true });
  /** Resolves when nothing is dragged. */
  const released = () => new Promise((resolve) => (pressed ? waiting.push(resolve) : resolve()));
  return { hide, released };
}

/** Two fingers zoom about the point between them. Plotly knows one finger only, which moves the map. */
export function pinchZoom(element, chart) {
  let pinch = null; // { spread, view, across, up }: where the fingers began, as shares of the map
  let next = 0;
  const between = ({ touches: [a, b] }) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  const zoomed = ([from, to], share, scale) => {
    const fixed = from + share * (to - from);
    return [fixed - share * (to - from) * scale, fixed + (1 - share) * (to - from) * scale];
  };

  element.addEventListener(
    "touchstart",
    (event) => {
      if (event.touches.length !== 2 || !chart.view()) return;
      const frame = element.getBoundingClientRect();
      const { left, mapRight, top, height } = chart.box();
      const [a, b] = event.touches;
      pinch = {
        spread: between(event),
        view: chart.view(),
        across: ((a.clientX + b.clientX) / 2 - frame.left - left) / (mapRight - left),
        up: 1 - ((a.clientY + b.clientY) / 2 - frame.top - top) / height,
      };
      event.preventDefault();
      event.stopPropagation();
    },
    { capture: true, passive: false },
  );
  element.addEventListener(
    "touchmove",
    (event) => {
      if (!pinch) return;
      event.preventDefault();
      event.stopPropagation();
      if (event.touches.length !== 2) return;
      const scale = Math.min(20, Math.max(0.05, pinch.spread / between(event)));
      const { view, across, up } = pinch;
      cancelAnimationFrame(next);
      next = requestAnimationFrame(() =>
        chart.goTo({ x: zoomed(view.x, across, scale), y: zoomed(view.y, up, scale) }),
      );
    },
    { capture: true, passive: false },
  );
  for (const end of ["touchend", "touchcancel"]) {
    element.addEventListener(
      end,
      (event) => {
        if (pinch) chart.ignoreDoubleClick();
        if (!event.touches.length) pinch = null;
      },
      { capture: true },
    );
  }
}
