// The list beside the map: clusters in view above and below the price in the order of their prices, and where a move
// hurts most.

import { bookBetween, clustersOf, maxPain } from "./clusters.js";
import { COLOURS } from "./colours.js";
import { byId, make } from "./dom.js";
import { amount, binDecimals, clockText, dayText, percentText, priceText, volumeText } from "./words.js";

const ABOUT_PAIN =
  "If price went straight there from now, this is where the most volume, as modelled, would be liquidated per " +
  "percent moved (less than 1 % counts as 1 %).";
const ABOUT_CLUSTER =
  "Neighbouring rows with much volume count as one cluster; its price is the mean weighted by volume.";

const facts = (price, one, volume, marks) => [
  make("span", { className: "level-price", textContent: price }),
  make("span", { className: "away", textContent: percentText(one.distance_percent) }),
  make("span", { className: "volume", textContent: volume }),
  make("span", { className: "marks", textContent: marks }),
];

const nowWords = (map) => (map.isPast ? ` price at ${dayText(map.asOf)} ${clockText(map.asOf)}` : " last price");

/** What a side holds in all, among the prices in view. */
function titleOf(where, part) {
  const [side, words] = where === "above" ? ["short", "Above: shorts"] : ["long", "Below: longs"];
  const total = part.book[side].reduce((sum, volume) => sum + volume, 0);
  const inView = make("span", { className: "total", textContent: `${volumeText(total)} in view` });
  return make("h2", { className: `${side}-text` }, words, inView);
}

export function ladder(panel, chart) {
  const line = byId("level-line");

  function point(price, colour) {
    const at = chart.heightOf(price);
    line.hidden = at === null;
    if (at === null) return;
    const { left, right } = chart.box();
    Object.assign(line.style, { left: `${left}px`, width: `${right - left}px`, top: `${at}px`, borderColor: colour });
  }

  function row(map, one, marks, most) {
    const words = priceText(one.price, binDecimals(map.bin));
    const bar = make("i", { className: "bar" });
    bar.style.width = `${Math.max(2, (100 * one.volume) / most)}%`;
    const item = make(
      "li",
      { className: `level ${one.side}`, tabIndex: 0 },
      ...facts(words, one, volumeText(one.volume), marks.join(" · ")),
      bar,
    );
    item.title =
      `${one.side === "short" ? "Shorts" : "Longs"} from ` +
      `${priceText(one.low, binDecimals(map.bin))} to ${priceText(one.high, binDecimals(map.bin))}: ` +
      `${amount(one.volume)}, modelled. ${ABOUT_CLUSTER}`;
    return pointing(item, one.price, COLOURS[one.side]);
  }

  function painRow(map, pain) {
    const words = facts(
      priceText(pain.price, binDecimals(map.bin)),
      pain,
      `${volumeText(pain.volume_per_percent)}/%`,
      "max pain: most per % moved",
    );
    const row = make(
      "div",
      { className: "level pain", tabIndex: 0, title: `${ABOUT_PAIN} On the way: ${amount(pain.volume)}.` },
      ...words,
    );
    return pointing(row, pain.price, COLOURS.warn);
  }

  /** Pointing at a row draws its price across the map. */
  function pointing(item, price, colour) {
    const show = () => point(price, colour);
    const hide = () => {
      line.hidden = true;
    };
    item.addEventListener("pointerenter", show);
    item.addEventListener("focus", show);
    item.addEventListener("pointerleave", hide);
    item.addEventListener("blur", hide);
    return item;
  }

  function side(map, where, part, most) {
    const { clusters } = part;
    const pain = part.pain[where];
    const nearest = clusters.nearest[where];
    const listed = [...clusters[where]];
    if (nearest && !listed.includes(nearest)) listed.push(nearest);
    listed.sort((a, b) => b.price - a.price);
    const rows = listed.map((one) => {
      const marks = [];
      if (one === nearest) marks.push("nearest");
      if (one === clusters[where][0]) marks.push("largest");
      return row(map, one, marks, most);
    });
    const title = titleOf(where, part);
    const list = make("ol", {}, ...rows);
    if (!rows.length) list.append(make("li", { className: "none", textContent: "no cluster" }));
    const hurts = pain ? [painRow(map, pain)] : [];
    return where === "above" ? [title, ...hurts, list] : [list, ...hurts, title];
  }

  /** What stands out between the prices in view, of the sides that are chosen. */
  function update(map, view, chosen) {
    const part = bookBetween(map, view.y);
    const clusters = clustersOf(part);
    Object.assign(part, { clusters, pain: maxPain(part) });
    const most = Math.max(1, ...[...clusters.above, ...clusters.below].map((one) => one.volume));
    panel.replaceChildren(
      ...(chosen === "long" ? [] : side(map, "above", part, most)),
      make("p", { className: "now" }, make("b", { textContent: priceText(map.price) }), nowWords(map)),
      ...(chosen === "short" ? [] : side(map, "below", part, most)),
    );
    line.hidden = true;
  }

  return { update };
}
