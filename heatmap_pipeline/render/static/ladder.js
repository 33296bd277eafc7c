// The list beside the map: the zones above and below the price in the order of their prices.

import { COLOURS } from "./colours.js";
import { byId, make } from "./dom.js";
import { percentOf, sharesOf } from "./parts.js";
import { amount, binDecimals, clockText, dayText, instantText, percentText, priceText, volumeText } from "./words.js";
import { zonesAt } from "./zones.js";

const nowWords = (map) => (map.isPast ? ` price at ${dayText(map.asOf)} ${clockText(map.asOf)}` : " last price");

const shareWords = (zone) => `${(100 * zone.share).toFixed(0)} %`;

/** A zone in a sentence or two; `price` gives a price in words. */
function zoneWords(zone, price) {
  const [side, where] = zone.side === "short" ? ["Shorts", "rise"] : ["Longs", "fall"];
  const share = zone.share > 0 ? `, ${shareWords(zone)} of what that side has within 10 % of the price` : "";
  const since = zone.since === null ? "" : ` Half of it has stood since ${instantText(zone.since)}.`;
  return (
    `${side} from ${price(zone.low)} to ${price(zone.high)}, ${priceText(zone.price)} on average, thickest at ` +
    `${price(zone.peak)}: ` +
    `${amount(zone.volume)}, modelled, which a ${where} there would liquidate${share}.${since}`
  );
}

/** What stands under the price of a zone; a line ends between its parts only. */
function detailsOf(zone, price) {
  const parts = [
    `${price(zone.low)} – ${price(zone.high)}`,
    zone.share > 0 && `${shareWords(zone)} of ${zone.side}s`,
    zone.since !== null && `since ${dayText(zone.since).slice(5)}`,
  ].filter(Boolean);
  const whole = parts.map((textContent) => make("span", { textContent }));
  return make("span", { className: "details" }, ...whole.flatMap((part, i) => (i ? [" · ", part] : [part])));
}

/** What each market of a base has of a zone, in words, and as parts of its bar. */
function zoneParts(zone, parts) {
  const shares = sharesOf(parts, zone.parts);
  const words = shares.map(
    ([{ label }, volume, share]) => `${label} ${volume === null ? "missing" : percentOf(share)}`,
  );
  const bars = shares.map(([{ colour }, , share]) => {
    const bar = make("i");
    Object.assign(bar.style, { width: `${100 * share}%`, background: colour });
    return bar;
  });
  return { words: words.join(" · "), bars };
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

  function row(map, zone, marks, most) {
    const price = (value) => priceText(value, binDecimals(map.bin));
    const bar = make("i", { className: "bar" });
    bar.style.width = `${Math.max(2, (100 * zone.volume) / most)}%`;
    const part = (className, textContent) => make("span", { className, textContent });
    const of = map.parts && zone.parts ? zoneParts(zone, map.parts) : null;
    if (of) bar.append(...of.bars);
    const item = make(
      "li",
      { className: `level ${zone.side}`, tabIndex: 0 },
      part("level-price", priceText(zone.price)),
      part("away", percentText(zone.distance_percent)),
      part("volume", volumeText(zone.volume)),
      detailsOf(zone, price),
      ...(of ? [part("details parts", of.words)] : []),
      part("marks", marks.join(" · ")),
      bar,
    );
    item.title = [zoneWords(zone, price), of?.words].filter(Boolean).join(" ");
    return pointing(item, zone.price, COLOURS[zone.side]);
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

  function side(map, where, zones, most) {
    const nearest = zones.nearest[where];
    const listed = [...zones[where]];
    if (nearest && !listed.includes(nearest)) listed.push(nearest);
    listed.sort((a, b) => b.price - a.price);
    const rows = listed.map((zone) => {
      const marks = [zone === nearest && "nearest", zone === zones[where][0] && "largest"].filter(Boolean);
      return row(map, zone, marks, most);
    });
    const [name, words] = where === "above" ? ["short", "Above: shorts"] : ["long", "Below: longs"];
    const title = make("h2", { className: `${name}-text` }, words);
    const list = make("ol", {}, ...rows);
    if (!rows.length) list.append(make("li", { className: "none", textContent: "no zone" }));
    return where === "above" ? [title, list] : [list, title];
  }

  /** What stands out at a moment, of the sides that are chosen; the same whatever prices are in view. */
  function update(map, chosen) {
    const zones = zonesAt(map, map.column);
    // The nearest one may lie beyond those that are listed by size.
    const listed = [...zones.above, ...zones.below, ...Object.values(zones.nearest)];
    const most = Math.max(1, ...listed.map((zone) => zone?.volume ?? 0));
    panel.replaceChildren(
      ...(chosen === "long" ? [] : side(map, "above", zones, most)),
      make("p", { className: "now" }, make("b", { textContent: priceText(map.price) }), nowWords(map)),
      ...(chosen === "short" ? [] : side(map, "below", zones, most)),
    );
    line.hidden = true;
  }

  return { update };
}
