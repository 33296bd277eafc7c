// The markets of a base beside its map: which are shown, what each holds at the moment, how new its data are.

import { pressMarket } from "./bases.js";
import { byId, make } from "./dom.js";
import { countWords, missingWords, partsAt, percentOf } from "./parts.js";
import { amount, instantText, titleText } from "./words.js";

const HEADS = [
  "exchange",
  "contract",
  "share",
  "open volume, modelled",
  "located share",
  "open interest",
  "newest data",
];

const FROM_DISK = "This page shows all of them, or one alone; a server (heatmap serve) switches them on and off.";

/** A row of the table: what a market is and has at a column of a map. */
function row(map, column, { part, isMissing, share, volume }) {
  const located = part.shares[column];
  const known = (value, words) => (value === null || value === undefined || Number.isNaN(value) ? "–" : words(value));
  const cells = [
    part.label,
    part.title,
    isMissing ? "missing" : percentOf(share),
    known(volume, (value) => amount(value, part.quote)),
    known(isMissing ? null : located, (value) => `${(100 * value).toFixed(1)} %`),
    known(part.open_interest, (value) => `${Math.round(value).toLocaleString("en-US")} contracts`),
    instantText(part.newest),
  ];
  const line = make("tr", { className: isMissing ? "gone" : "" });
  const swatch = make("i", { className: "swatch" });
  swatch.style.background = part.colour;
  line.append(...cells.map((words, i) => make(i ? "td" : "th", {}, ...(i ? [words] : [swatch, words]))));
  if (isMissing) line.title = missingWords(map, part, column);
  return line;
}

/**
 * `group` makes buttons, `choose` is told the new text of markets where the page is `live`; `update` is to be called
 * with every moment.
 */
export function exchangesPanel(group, choose, live) {
  const panel = byId("exchanges");
  const table = byId("exchanges-table");
  let now = { text: "", all: [] };
  const buttons = group("markets", (id) => choose(pressMarket(now.text, now.all, id)), { single: false });

  function options(map, column, markets, shown) {
    const at = new Map((map ? partsAt(map, column) : []).map((one) => [one.part.symbol, one]));
    return Object.fromEntries(
      markets.map(({ symbol, label, title }) => {
        const isOn = shown.includes(symbol);
        const one = isOn ? at.get(symbol) : undefined;
        const why = one?.isMissing ? missingWords(map, one.part, column) : (isOn && map?.not_shown?.[symbol]) || "";
        const rest = why ? "missing" : one ? percentOf(one.share) : "";
        const about = `${title || label}: ${isOn ? "shown" : "not shown"}. ${why}${live ? "" : ` ${FROM_DISK}`}`;
        const words = `${label}${rest && ` ${rest}`}`;
        return [symbol, { words, about, pressed: isOn, disabled: !live, isMissing: Boolean(why) }];
      }),
    );
  }

  /** Shows the markets of an entry, none of one market; `map` is at its moment, null before there is one. */
  function update(entry, map, text) {
    const { markets } = entry;
    panel.hidden = !markets;
    if (!markets) return;
    now = { text, all: markets.map(({ symbol }) => symbol) };
    const of = map?.parts ? map : null;
    const shown = text ? text.split(",") : now.all;
    const made = options(of, of?.column, markets, shown);
    buttons.update(made);
    for (const { symbol, colour } of markets) {
      const button = panel.querySelector(`[data-value="${CSS.escape(symbol)}"]`);
      button.style.setProperty("--swatch", colour);
      button.classList.toggle("missing", made[symbol].isMissing);
    }
    for (const id of ["exchanges-more", "exchanges-title"]) byId(id).hidden = !of;
    if (!of) return;
    byId("exchanges-title").textContent = titleText(of);
    const { words, there, all } = countWords(of, of.column);
    const summary = byId("exchanges-count");
    summary.textContent = words;
    summary.classList.toggle("missing", there < all);
    table.tHead.replaceChildren(
      make("tr", {}, ...HEADS.map((text) => make("th", { scope: "col", textContent: text }))),
    );
    table.tBodies[0].replaceChildren(...partsAt(of, of.column).map((one) => row(of, of.column, one)));
    byId("exchanges-note").textContent = Object.values(of.not_shown ?? {}).join(" ");
  }

  const more = byId("exchanges-more");
  more.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !more.open) return;
    event.stopPropagation();
    more.open = false;
    more.querySelector("summary").focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!more.contains(event.target)) more.open = false;
  });
  return { update };
}
