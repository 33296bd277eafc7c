// The controls: groups of buttons that are changed in place, so that the focus stays; keys; the words of help.

import { byId, make } from "./dom.js";
import { MINUTE, RANGES } from "./time.js";
import { ageText, binText } from "./words.js";

export const LAYERS = {
  map: "Map",
  candles: "Candles",
  bubbles: "● Modelled",
  reported: "○ Reported",
  profile: "Profile",
  levels: "Zones",
};
export const ABOUT = {
  turnover: "Volume tells how much opens and closes; every contract has a long and a short. The map to start with.",
  delta:
    "The classic rule: only a rise of open interest opens levels, all on the side of the candle; a fall closes them.",
  map: "The cells (h)",
  candles: "Candles (c)",
  bubbles: "Modelled liquidations: filled circles where price reached levels (x)",
  reported: "Reported liquidations: hollow circles, what an exchange says was liquidated (o)",
  profile: "The book of the moment beside the map (p)",
  levels: "Zones above and below the price, where the book is thick (k)",
  both: "Both sides (b)",
  long: "Longs, which a fall liquidates (l)",
  short: "Shorts, which a rise liquidates (s)",
  linear: "Colours in even steps (g changes it)",
  log: "Colours in equal ratios, for faint levels (g changes it)",
  relative: "How much more than usual at this distance from the price (g changes it)",
};
export const ABOUT_LOCATED =
  "Share of open interest that the map puts at a liquidation price. The rest was open before the data begin, or " +
  "has no price that would liquidate it; it is not drawn.";
export const NOT_RECORDED =
  "No real liquidations were recorded in this time. The setting HEATMAP_LIQUIDATIONS says where they come from.";
export const REPORTED_ALONE =
  "Real liquidations are told by market: choose one of them alone to see what its exchange reports.";
const KEYS = [
  ["1 … 9", "time range, 12 hours … 1 year"],
  ["l  s  b", "longs, shorts, both"],
  ["g", "linear, logarithmic, relative colours"],
  ["m", "next model"],
  ["h  c", "hide or show map, candles"],
  ["x  o", "hide or show modelled, reported liquidations"],
  ["p  k", "hide or show profile, zones"],
  ["[  ]", "smaller or larger price bins"],
  ["r  f", "fit the colours to the view; lock them as they are"],
  ["+  −  0", "zoom in, out, show the whole range (or wheel, or two fingers)"],
  [",  .  n", "earlier, later, newest"],
  ["space  <  >", "replay candle by candle, one back, one on"],
  ["{  }", "replay slower, faster"],
  ["Esc", "unpin the moment, which a click into the map pins"],
  ["← → ↑ ↓", "move the map, a handle, or along a group of buttons"],
  ["t", "how true is this?"],
  ["?", "this help"],
];
const HELP = [
  [
    "Colours",
    "say how much, as modelled, would be liquidated in a row if price went there. Drag the two handles or " +
      "type values: the left one hides what is smaller, from the right one on all is brightest. By default they " +
      "fit what is in view; Lock, or a right end of your own, keeps one scale whatever is in view.",
  ],
  [
    "Relative colours",
    "say how many times as much as usual stands in a row. Usual is the median over what is loaded of what " +
      "stands at the same distance from the price of its time, each side for itself: so what is near the price, " +
      "always fainter than what is far, shows where it is unusual. Grey: nobody knows what is usual there.",
  ],
  [
    "A level ends",
    "at the candle that reached it; filled circles there are modelled liquidations, at the mean price at which lots " +
      "died, by volume. Blue: longs, which a fall liquidates. Orange: shorts, which a rise liquidates. The pointer " +
      "says how many lots died, and the range of their entry prices.",
  ],
  [
    "Reported liquidations",
    "are hollow circles: real ones as an exchange reports them, of the same scale. They stand at their mean price; " +
      "where no price is reported, at the low (longs) or high (shorts) of their time. The line along the time " +
      "axis shows when they were recorded; elsewhere they are missing, not 0. Incomplete: the source does " +
      "not print every liquidation. Reported / modelled compares the recorded columns loaded.",
  ],
  [
    "Age and leverage",
    "of a cell are its lots': when the oldest part opened, and how its volume is shared among leverages. The live " +
      "page asks the server once the pointer rests; a page from disk knows the newest column only.",
  ],
  [
    "One moment",
    "is what everything beside the map belongs to: price, profile, zones and located share. It is the right " +
      "edge of the view, or what a click or tap into the map pins; Esc, or another one at the same place, lets go " +
      "of it. The past is yellow. A replay goes on from there candle by candle and shows nothing of what comes after.",
  ],
  [
    "Zones",
    "are stretches of price where the book, smoothed over 0.25 % of the price, stays above 60 % of its peak. " +
      "They do not depend on zoom, range or price bin. Listed are the nearest one and the five largest within " +
      "10 % of the price; share is of what that side has within 10 %, and half of a zone has stood since the " +
      "time it says. A page from disk knows that of the newest column only.",
  ],
  [
    "Modelled",
    "from open interest, volume and price: no exchange publishes positions. A level is no order and no target.",
  ],
];

/**
 * Buttons of which one or several are pressed. `update(options)` takes { value: { words, about, pressed, disabled } }.
 */
export function group(id, onPick, { single = true } = {}) {
  const element = byId(id);
  const made = new Map();
  const enabled = () => [...made.values()].filter((button) => !button.disabled);

  function add(value) {
    const button = make("button", { type: "button" });
    button.dataset.value = value;
    button.addEventListener("click", () => onPick(value));
    made.set(value, button);
    return button;
  }

  element.addEventListener("keydown", (event) => {
    const all = enabled();
    const here = all.indexOf(document.activeElement);
    const to = {
      ArrowRight: here + 1,
      ArrowDown: here + 1,
      ArrowLeft: here - 1,
      ArrowUp: here - 1,
      Home: 0,
      End: all.length - 1,
    }[event.key];
    if (here < 0 || to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = all[(to + all.length) % all.length];
    for (const button of all) button.tabIndex = button === next ? 0 : -1;
    next.focus();
    if (single) next.click();
  });

  function update(options) {
    if ([...made.keys()].join() !== Object.keys(options).join()) {
      made.clear();
      element.replaceChildren(...Object.keys(options).map(add));
    }
    for (const [value, { words, about = "", pressed, disabled = false }] of Object.entries(options)) {
      const button = made.get(value);
      button.textContent = words;
      button.title = about;
      button.disabled = disabled;
      button.setAttribute("aria-pressed", String(pressed));
    }
    const all = enabled();
    const stop =
      all.find((button) => button === document.activeElement) ??
      all.find((button) => button.getAttribute("aria-pressed") === "true") ??
      all[0];
    for (const button of made.values()) button.tabIndex = button === stop ? 0 : -1;
  }

  return { update };
}

/** Which ranges there are data for: the ones that begin within them, and the first that shows them all. */
export function rangeOptions(span, choice, live) {
  const spans = Object.values(RANGES);
  const held = ageText(Math.max(span, MINUTE) / 1000);
  return Object.fromEntries(
    Object.keys(RANGES).map((name, i) => {
      const disabled = i > 0 && span <= spans[i - 1] * 1.001;
      const more = live
        ? "The history is not longer yet."
        : "This page holds the newest days only; a server (heatmap serve) shows all.";
      return [
        name,
        {
          words: name,
          pressed: choice.range === name && !choice.view,
          disabled,
          about: disabled ? `There are ${held} of data here. ${more}` : `Key ${i + 1}`,
        },
      ];
    }),
  );
}

const BIN_FACTORS = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const MOST_ROWS = 2000;

/** Heights of rows on offer: [height, words, reason why not]. */
export function binOptions(map, base, live) {
  const span = map.high - map.low;
  return BIN_FACTORS.map((factor) => {
    const bin = Number((map.bucket * factor).toPrecision(12));
    const words = `${binText(bin)} (×${factor})`;
    if (span / bin < 8) return null;
    if (live) return [bin, words, span / bin > MOST_ROWS ? "too many rows for this range" : ""];
    const times = bin / base.bin;
    return [
      bin,
      words,
      Math.abs(times - Math.round(times)) > 1e-9 || times < 1 ? `this page holds rows of ${binText(base.bin)}` : "",
    ];
  }).filter(Boolean);
}

export function fillBins(select, options, choice, map) {
  const auto = choice.bin ? "auto" : `auto (${binText(map.bin)})`;
  select.replaceChildren(
    new Option(auto, "0", false, !choice.bin),
    ...options.map(([bin, words, why]) => {
      const option = new Option(words, String(bin), false, bin === choice.bin);
      option.disabled = Boolean(why);
      option.title = why;
      return option;
    }),
  );
}

export function fillHelp(dialog) {
  const table = make("table");
  for (const [keys, words] of KEYS) {
    const line = table.insertRow();
    const parts = keys.split(/\s{2,}|(?<=\S) (?=\S)/);
    const drawn = parts.map((key) => (key === "…" ? " … " : make("kbd", { textContent: key })));
    line.insertCell().append(...drawn);
    line.insertCell().textContent = words;
  }
  // At the top, as a dialog opens scrolled to what has the focus, which is its first button.
  const close = make("button", { type: "button", className: "end", ariaLabel: "Close", textContent: "✕" });
  close.addEventListener("click", () => dialog.close());
  dialog.replaceChildren(
    make("div", { className: "line" }, make("h2", { textContent: "How to read the map" }), close),
    ...HELP.map(([title, words]) => make("p", {}, make("b", { textContent: `${title} ` }), words)),
    make("h2", { textContent: "Keys" }),
    table,
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

const TOLD = ".explained:is(:hover, :focus), .badge:focus-visible"; // what hangs over the page

/** Keys for the whole page, except where something is typed. `act(key)` says whether it took one. */
export function listenToKeys(act) {
  const { classList } = document.body;
  for (const other of ["focusin", "pointermove"]) document.addEventListener(other, () => classList.remove("quiet"));
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return; // whose keys these are, wherever the focus is
    if (event.key === "Escape" && !classList.contains("quiet") && document.querySelector(TOLD)) {
      classList.add("quiet");
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest?.("input, select, textarea")) return;
    if (event.key.startsWith("Arrow") && event.target.closest?.("button, [role=slider], .level")) return;
    if (event.key === " " && event.target.closest?.("button, summary")) return; // which it presses
    if (act(event.key)) event.preventDefault();
  });
}
