// The list beside the map: the zones above and below the price in the order of their prices.

function ladder(panel, chart) {
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
    const details = [
      `${price(zone.low)} – ${price(zone.high)}`,
      zone.share > 0 && `${(100 * zone.share).toFixed(0)} % of ${zone.side}s`,
      zone.since !== null && `since ${dayText(zone.since).slice(5)}`,
    ].filter(Boolean).join(" · ");
    const item = make(
      "li", { className: `level ${zone.side}`, tabIndex: 0 },
      make("span", { className: "level-price", textContent: price(zone.peak) }),
      make("span", { className: "away", textContent: percentText((zone.peak / map.price - 1) * 100) }),
      make("span", { className: "volume", textContent: volumeText(zone.volume) }),
      make("span", { className: "details", textContent: details }),
      make("span", { className: "marks", textContent: marks.join(" · ") }),
      bar,
    );
    item.title = zoneWords(zone, price);
    return pointing(item, zone.peak, COLOURS[zone.side]);
  }

  /** A zone in a sentence or two. */
  function zoneWords(zone, price) {
    const [side, where] = zone.side === "short" ? ["Shorts", "rise"] : ["Longs", "fall"];
    const share = zone.share > 0 ? `, ${(100 * zone.share).toFixed(0)} % of what that side has within 10 % of the price` : "";
    const since = zone.since === null ? "" : ` Half of it has stood since ${instantText(zone.since)}.`;
    return `${side} from ${price(zone.low)} to ${price(zone.high)}, thickest at ${price(zone.peak)}: ${amount(zone.volume)}, modelled, `
      + `which a ${where} there would liquidate${share}.${since}`;
  }

  /** Pointing at a row draws its price across the map. */
  function pointing(item, price, colour) {
    const show = () => point(price, colour);
    const hide = () => { line.hidden = true; };
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
    const words = where === "above" ? "Above: shorts" : "Below: longs";
    const title = make("h2", { className: where === "above" ? "short-text" : "long-text" }, words);
    const list = make("ol", {}, ...rows);
    if (!rows.length) list.append(make("li", { className: "none", textContent: "no zone" }));
    return where === "above" ? [title, list] : [list, title];
  }

  /** What stands out in a column, the newest unless another is named; the same whatever is in view. */
  function update(map, column) {
    const zones = zonesAt(map, column);
    const most = Math.max(1, ...[...zones.above, ...zones.below].map((zone) => zone.volume));
    panel.replaceChildren(
      ...side(map, "above", zones, most),
      make("p", { className: "now" }, make("b", { textContent: priceText(map.price) }), " last price"),
      ...side(map, "below", zones, most),
    );
    line.hidden = true;
  }

  return { update };
}
