// The last alerts of the symbol that is shown, newest first; only a server knows them, so a page from disk has none.

import { typedName } from "./bases.js";
import { byId, make } from "./dom.js";
import { instantText } from "./words.js";

/** Where alerts are listed: `show(key, ask)` asks for an answer of /alerts, once for each key. */
export function alertsPanel() {
  const panel = byId("alerts");
  let shown = null;

  function row(alert, several) {
    const time = make("time", { dateTime: alert.at, textContent: instantText(Date.parse(alert.at)) });
    const of = several ? `${typedName(alert.symbol)}: ` : "";
    const words = [make("b", { textContent: alert.rule }), make("span", { textContent: `${of}${alert.words}` })];
    return make("li", { className: alert.side }, time, ...words);
  }

  async function show(key, ask) {
    if (key === shown) return;
    shown = key;
    // Who is not told of alerts still has a map.
    const { alerts } = await ask().catch(() => ({ alerts: [] }));
    if (key !== shown) return;
    panel.hidden = !alerts.length;
    const of = new Set(alerts.map(({ symbol }) => symbol)).size;
    if (!alerts.length) panel.open = false;
    byId("alerts-count").textContent = alerts.length;
    byId("alerts-list").replaceChildren(...alerts.map((alert) => row(alert, of > 1)));
  }

  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !panel.open) return;
    event.stopPropagation();
    panel.open = false;
    panel.querySelector("summary").focus();
  });
  document.addEventListener("pointerdown", (event) => {
    if (!panel.contains(event.target)) panel.open = false;
  });
  return { show };
}
