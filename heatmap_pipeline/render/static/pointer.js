// What the pointer says: cross hairs, the price at its height, and the cell below it. A tap does the same on a phone,
// where two fingers zoom.

import { byId, make } from "./dom.js";
import { tipRows } from "./tip.js";
import { binDecimals, clockText, dayText, instantText, priceText } from "./words.js";

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

const SAME_PLACE = 16; // pixels, which a second tap may be off

/** Cross hairs and words at a point; `asker` knows the lots of columns. */
function teller(element, chart, asker) {
  const [tip, crossX, crossY, tag] = ["tip", "cross-x", "cross-y", "cross-price"].map(byId);
  let pointed = null; // the event that the tip is of

  function hide() {
    for (const one of [tip, crossX, crossY, tag]) one.hidden = true;
    asker.stop();
  }

  /** What is known of the lots of a column; when they come the tip says them. */
  function lotsOf({ map, column }) {
    return asker.ask(map, column, () => {
      if (!tip.hidden) show(pointed);
    });
  }

  function show(event) {
    const frame = element.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const found = chart.under(x, y);
    if (!found) return hide();
    pointed = event;
    const { box } = found;
    crossY.hidden = tag.hidden = false;
    Object.assign(crossY.style, { left: `${box.left}px`, width: `${box.right - box.left}px`, top: `${y}px` });
    Object.assign(tag.style, { left: `${box.mapRight + 3}px`, top: `${y}px` });
    tag.textContent = priceText(found.price, binDecimals(found.map.bin));
    crossX.hidden = !found.onMap;
    Object.assign(crossX.style, { left: `${x}px`, top: `${box.top}px`, height: `${box.height}px` });
    tip.hidden = found.row === null || found.column === null;
    if (!tip.hidden) {
      fillTip(tip, { ...found, lots: lotsOf(found) });
      const right = x + 18 + tip.offsetWidth > frame.width;
      const below = y + 18 + tip.offsetHeight > frame.height;
      const left = right ? x - 18 - tip.offsetWidth : x + 18;
      tip.style.left = `${Math.max(4, Math.min(frame.width - tip.offsetWidth - 4, left))}px`;
      tip.style.top = `${Math.max(4, below ? y - 18 - tip.offsetHeight : y + 18)}px`;
    }
    return undefined;
  }

  return { show, hide };
}

/** What a click and a tap into the map do; see `pointer`. */
function picker(element, chart, onPick, { show, hide }) {
  let tapped = null; // { x, y, time } of the newest tap into the map

  /** The end of the column under a click or tap, null outside of the map. */
  function timeUnder(event) {
    const frame = element.getBoundingClientRect();
    const found = chart.under(event.clientX - frame.left, event.clientY - frame.top);
    if (!found?.onMap || found.column === null) return null;
    const { start, width, end } = found.map;
    return Math.min(end, start + (found.column + 1) * width);
  }

  function pick(event) {
    const time = timeUnder(event);
    if (time !== null) onPick(time);
  }

  /** A tap pins and tells; another one at the same place lets go, though a finger seldom meets a column twice. */
  function tap(event) {
    const { clientX: x, clientY: y } = event;
    const isAgain = tapped && Math.hypot(x - tapped.x, y - tapped.y) <= SAME_PLACE;
    const under = timeUnder(event);
    const time = under !== null && isAgain ? tapped.time : under;
    tapped = time === null ? null : { x, y, time };
    if (time === null || onPick(time)) show(event);
    else hide();
  }

  return { pick, tap };
}

/**
 * Follows the pointer; `onPick(time)` after a click or tap into the map, with the end of the column, says whether that
 * moment is pinned now. `asker` knows the lots of columns.
 */
export function pointer(element, chart, onPick, asker) {
  const words = teller(element, chart, asker);
  const { show, hide } = words;
  const { pick, tap } = picker(element, chart, onPick, words);
  let pressed = null;
  const waiting = []; // for the pointer to be released

  element.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch") {
      if (pressed && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) > 8) hide();
    } else if (event.buttons) hide();
    else show(event);
  });
  element.addEventListener(
    "pointerdown",
    (event) => {
      if (!event.isPrimary && pressed) pressed.isPinch = true;
      else pressed = { x: event.clientX, y: event.clientY, button: event.button };
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
      const near = pressed && !pressed.isPinch && Math.hypot(event.clientX - pressed.x, event.clientY - pressed.y) <= 8;
      const isFirst = pressed?.button === 0;
      pressed = null;
      while (waiting.length) waiting.pop()();
      if (!near) return;
      if (event.pointerType === "touch") tap(event);
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
