// What is said in words around the map: its facts in the head, badges, notices, and words in its place.

import { typedName } from "./bases.js";
import { ABOUT_LOCATED } from "./controls.js";
import { byId, make } from "./dom.js";
import { marksOf, reportedWords } from "./marks.js";
import { ageText, instantText, priceText, quote, titleText } from "./words.js";

const STALE_HOURS = 36;

/** Words instead of a map; with a picture where there is one, and a button that tries again. */
export function say(words, { picture, retry } = {}) {
  const parts = [make("p", { textContent: words })];
  if (retry) parts.push(retryButton(retry));
  if (picture) parts.push(make("img", { src: picture, alt: "The same map as a picture" }));
  byId("message").replaceChildren(...parts);
  byId("message").hidden = false;
}

function retryButton(retry) {
  const button = make("button", { type: "button", className: "retry", textContent: "Try again" });
  button.addEventListener("click", retry);
  return button;
}

/** Words in place of everything that would be of another choice. */
export function blank(words, more) {
  for (const id of ["price", "contract", "as-of", "located", "badges", "ladder", "reported"])
    byId(id).replaceChildren();
  for (const id of ["save-png", "save-csv"]) byId(id).disabled = true;
  byId("travel").hidden = true;
  document.body.classList.remove("past");
  document.title = "Liquidation heatmap";
  notice("");
  say(words, more);
}

/** Words above a map that stays. */
export function notice(words, retry) {
  byId("notice").hidden = !words;
  byId("notice").replaceChildren(
    ...(words ? [make("span", { textContent: words }), ...(retry ? [retryButton(retry)] : [])] : []),
  );
}

function badge(words, style, about) {
  return make("span", { textContent: words, className: `badge ${style}`, title: about, tabIndex: 0 });
}

/** What is true of a map at its moment; `stale` is what `staleness` says of the newest data. */
export function showFacts(map, stale, newest) {
  const bold = (text) => make("b", { textContent: text });
  const { isPast, locatedShare } = map;
  document.body.classList.toggle("past", isPast);
  const contract = byId("contract");
  contract.textContent = contract.title = titleText(map);
  contract.hidden = Boolean(map.parts); // which has it beside its markets, where there is room
  byId("price").textContent = priceText(map.price);
  byId("price").title = isPast ? `Close at ${instantText(map.asOf)}, ${quote}` : `Last close, ${quote}`;
  byId("as-of").replaceChildren("as of ", bold(instantText(map.asOf)));
  const share = locatedShare === null ? "not known" : `${(locatedShare * 100).toFixed(1)} %`;
  byId("located").replaceChildren("located share ", bold(share));
  byId("located").dataset.about = ABOUT_LOCATED;
  byId("reported").replaceChildren(...(map.reported ? reportedKey(map.reported) : []));
  const about = `Price, profile, zones and located share are of that moment; data end ${instantText(newest)}.`;
  byId("badges").replaceChildren(
    ...(isPast ? [badge("PAST", "past", about)] : []),
    ...marksOf(map).map(({ words, style, about }) => badge(words, style, about)),
    ...(stale ? [badge(`STALE ${stale.age}`, "old", stale.about)] : []),
  );
  const when = isPast ? ` at ${instantText(map.asOf)}` : "";
  document.title = `${typedName(map.symbol)} ${priceText(map.price)}${when} · liquidation heatmap`;
}

/** The legend of the hollow circles. */
function reportedKey(reported) {
  const entry = (side) => make("span", {}, make("i", { className: `ring ${side}` }), `${side}s`);
  const words = make("span", {
    className: "note",
    textContent: `(${reportedWords(reported)})`,
    title: `Source: ${reported.source}`,
  });
  return [make("span", { className: "note", textContent: "reported:" }), entry("long"), entry("short"), words];
}

/** How old the newest data are, if that is too old: by the server's own word, else by their time. */
export function staleness(map, health, newest) {
  if (map.ended) return null;
  const of = map.parts?.map(({ symbol }) => symbol) ?? [map.symbol];
  const known =
    health?.symbols?.filter((one) => of.includes(one.symbol) && (one.model ?? map.model) === map.model) ?? [];
  const seconds = (Date.now() - newest) / 1000;
  // One market of several that is late is missing, and said to be.
  const isOld = (one) => one.stale;
  const old = known.length ? (map.parts ? known.every(isOld) : known.some(isOld)) : seconds > STALE_HOURS * 3600;
  if (!old) return null;
  const reason =
    known.map((one) => one.reason).find(Boolean) ??
    `run heatmap refresh ${typedName(map.symbol)}; heatmap status says what is missing`;
  return { age: ageText(Math.max(0, seconds)), about: `The newest data end ${instantText(newest)}: ${reason}` };
}
