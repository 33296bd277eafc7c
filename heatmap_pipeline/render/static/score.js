// "How true is this?": what the score says of a map, beside the rules it has to beat, and what to say where there is
// none. A record is the answer of the endpoint's /score; docs/score.md says how its numbers are made.

import { typedName } from "./bases.js";
import { byId, make } from "./dom.js";

const TRUTH_SIDES = ["long", "short"];
const VOLUME_ONLY = "volume-only map";
const LEVEL_FITS = [0.5, 5];
const ABOUT_TRUTH = {
  agreement:
    "Rank correlation, hour by hour, of what the model liquidated and what was really liquidated. 1 is the " +
    "same order, 0 none. " +
    "In brackets 95 % of draws of days.",
  rule: "The simple rule that agrees best, by the same hours.",
  volumeOnly: "The same model from traded volume alone, without open interest.",
  start: "Only levels that stood in the map when the hour began, which is what a trader sees before it.",
  startRule: "The best rule that, like the map at the start, does not know the hour's volume.",
  brightest:
    "How much more was liquidated in the brightest tenth of the levels that price reached than in the average " +
    "one reached from as far away; beside it the same with shuffled levels, which should be 1.",
  level:
    `Modelled / reported, all hours together. Believable from ${LEVEL_FITS.join(" to ")}: what is ` +
    `reported is a floor.`,
};

/** The first row that is as wanted, if it has a value. */
const rowOf = (rows, wanted) =>
  rows.find((row) => row.value !== null && Object.entries(wanted).every(([name, value]) => row[name] === value));

/** The rule that agrees best; at the start of an hour only rules count that do not know its volume. */
function bestRule(rows, side, horizon) {
  const rules = rows.filter(
    (row) =>
      row.measure === "spearman" &&
      row.side === side &&
      row.horizon === horizon &&
      row.value !== null &&
      row.baseline &&
      row.baseline !== VOLUME_ONLY &&
      !(horizon === "at_start" && row.baseline.includes("volume")),
  );
  return rules.reduce((best, row) => (best && best.value >= row.value ? best : row), undefined);
}

const bracket = ({ low, high }, digits) =>
  low === null || high === null ? "" : `[${low.toFixed(digits)}, ${high.toFixed(digits)}]`;

/** "we beat it by 0.089", "beats us by 0.020", "a tie": from the interval of the difference. */
function against(row) {
  if (row.difference_low === null || row.difference_high === null) return "";
  if (row.difference_low > 0) return `we beat it by ${row.difference.toFixed(3)}`;
  if (row.difference_high < 0) return `beats us by ${(-row.difference).toFixed(3)}`;
  return "a tie";
}

/** What stands in a cell: a number, and words below it. */
function numberCell(row, digits, words) {
  if (!row) return make("td", { className: "none", textContent: "–" });
  return make(
    "td",
    {},
    make("b", { textContent: row.value.toFixed(digits) }),
    " ",
    make("small", { textContent: words }),
  );
}

/** Lines of the table: [words, explanation, cell of a side]. */
function truthLines(rows) {
  const found = (side, measure, horizon, baseline = "") => rowOf(rows, { side, measure, horizon, baseline });
  const own = (measure, horizon, digits) => (side) => {
    const row = found(side, measure, horizon);
    return numberCell(row, digits, row ? bracket(row, digits) : "");
  };
  const rule = (horizon) => (side) => {
    const row = bestRule(rows, side, horizon);
    return numberCell(row, 3, row ? `${row.baseline.replace(" x ", " × ")}: ${against(row)}` : "");
  };
  const volumeOnly = (side) => {
    const row = found(side, "spearman", "nowcast", VOLUME_ONLY);
    return numberCell(row, 3, row ? against(row) : "");
  };
  const lift = (side) => {
    const [row, shuffled] = [found(side, "lift", "at_start"), found(side, "lift", "at_start", "shuffled")];
    const beside = shuffled ? `, shuffled ${shuffled.value.toFixed(2)}` : "";
    return numberCell(row, 2, row ? `${bracket(row, 2)}${beside}` : "");
  };
  const level = (side) => {
    const row = found(side, "level", "nowcast");
    if (!row) return numberCell();
    const fits = row.value >= LEVEL_FITS[0] && row.value <= LEVEL_FITS[1];
    return numberCell(row, 2, `${bracket(row, 2)}, ${fits ? "within" : "outside"} ${LEVEL_FITS.join(" to ")}`);
  };
  return [
    ["Agreement", ABOUT_TRUTH.agreement, own("spearman", "nowcast", 3)],
    ["best simple rule", ABOUT_TRUTH.rule, rule("nowcast")],
    ["map from volume alone", ABOUT_TRUTH.volumeOnly, volumeOnly],
    ["At start of the hour", ABOUT_TRUTH.start, own("spearman", "at_start", 3)],
    ["best rule without its volume", ABOUT_TRUTH.startRule, rule("at_start")],
    ["Brightest tenth", ABOUT_TRUTH.brightest, lift],
    ["Level, modelled / reported", ABOUT_TRUTH.level, level],
  ];
}

/** The numbers of a window, long and short beside each other. */
function truthTable(rows, caption) {
  const table = make("table", { className: "truth" }, make("caption", { textContent: caption }));
  const head = table.createTHead().insertRow();
  head.append(
    make("td"),
    ...TRUTH_SIDES.map((side) => make("th", { scope: "col", className: `${side}-text`, textContent: `${side}s` })),
  );
  const body = table.createTBody();
  for (const [words, about, cell] of truthLines(rows)) {
    const line = body.insertRow();
    line.className = /^[A-Z]/.test(words) ? "own" : "rival";
    line.append(make("th", { scope: "row", textContent: words, title: about }), ...TRUTH_SIDES.map(cell));
  }
  return table;
}

/** How many hours and days a window has, by side. */
function truthCounts(rows) {
  const parts = TRUTH_SIDES.flatMap((side) => {
    const [hours, days] = ["hours_with_reports", "days"].map((measure) => rowOf(rows, { side, measure }));
    return hours
      ? [`${side}s: ${hours.value} hours with reports of ${hours.hours} recorded${days ? `, ${days.value} days` : ""}`]
      : [];
  });
  return parts.join(" · ");
}

const isScored = (rows) => rows.some((row) => row.measure === "spearman" && row.value !== null);

// the page holds no address, not even this one
const SVG = make("div", { innerHTML: "<svg></svg>" }).firstChild.namespaceURI;

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

const SCATTER = { width: 320, height: 250, left: 46, right: 18, top: 10, bottom: 36 };

/** Modelled against reported, an hour and side a dot, both axes logarithmic; hours of 0 stand at the edge. */
function scatter({ side, predicted, reported }) {
  const positive = [...predicted, ...reported].filter((value) => value > 0);
  if (!positive.length) return null;
  const decades = [Math.min(...positive), Math.max(...positive)].map(Math.log10);
  const [low, high] = [Math.floor(decades[0]), Math.max(Math.floor(decades[0]) + 1, Math.ceil(decades[1]))];
  const { width, height, left, right, top, bottom } = SCATTER;
  const share = (value) => (value > 0 ? (Math.log10(value) - low + 0.25) / (high - low + 0.25) : 0);
  const x = (value) => left + share(value) * (width - left - right);
  const y = (value) => height - bottom - share(value) * (height - top - bottom);
  const text = (words, attributes) => {
    const label = svg("text", attributes);
    label.textContent = words;
    return label;
  };
  const short = (power) => (power >= -3 && power < 6 ? String(Number((10 ** power).toPrecision(1))) : `1e${power}`);
  const step = Math.ceil((high - low) / 6);
  const ticks = [];
  for (let power = low; power <= high; power += step) {
    const at = 10 ** power;
    ticks.push(
      svg("line", { class: "grid", x1: x(at), x2: x(at), y1: top, y2: height - bottom }),
      svg("line", { class: "grid", x1: left, x2: width - right, y1: y(at), y2: y(at) }),
      text(short(power), { x: x(at), y: height - bottom + 14, "text-anchor": "middle" }),
      text(short(power), { x: left - 5, y: y(at) + 4, "text-anchor": "end" }),
    );
  }
  const dots = predicted.map((value, i) =>
    svg("circle", { class: side[i], cx: x(value).toFixed(1), cy: y(reported[i]).toFixed(1), r: 1.9 }),
  );
  const both = predicted.filter((value, i) => value > 0 && reported[i] > 0).length;
  const about =
    `Modelled against reported contracts, ${predicted.length} hours and sides, both axes ` +
    `logarithmic; in ${both} both are above 0. On the line they would be equal.`;
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": about, class: "scatter" },
    ...ticks,
    svg("line", { class: "equal", x1: x(10 ** low), y1: y(10 ** low), x2: x(10 ** high), y2: y(10 ** high) }),
    ...dots,
    text("modelled, contracts in an hour", { x: (left + width - right) / 2, y: height - 5, "text-anchor": "middle" }),
    text("reported", {
      x: 11,
      y: (top + height - bottom) / 2,
      "text-anchor": "middle",
      transform: `rotate(-90 11 ${(top + height - bottom) / 2})`,
    }),
  );
}

const sentence = (words) => `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? "" : "."}`;
const windowWords = (name) => (name === "all" ? "all recorded time" : `last ${name.replace(/d$/, " days")}`);
const spanWords = (days) => (days ? `, ${days[0]} to ${days[1]}` : "");

/** The published reference score, which is of other days and not of this map. */
function referencePart(reference) {
  if (!reference?.scores?.length) return [];
  const names = reference.symbols.join(" and ");
  const tables = reference.scores.map((score) =>
    truthTable(score.windows.all, `${score.symbol}${spanWords(score.days?.all ?? reference.days)}`),
  );
  return [
    make("h3", { textContent: "Reference score" }),
    make("p", {
      className: "note",
      textContent:
        `The published score of ${names}${spanWords(reference.days)}. It is of those markets and ` +
        `days, not of this map.`,
    }),
    ...tables,
  ];
}

/** What the panel says of a record, in its three states: scored, not enough yet, not scored. */
function truthParts(record, chosen, onWindow) {
  const { source, windows, hours } = record;
  const parts = [make("p", { className: "verdict", textContent: sentence(record.words) })];
  if (record.simulated && !/never scored/.test(record.words))
    parts.push(make("p", { textContent: "Simulated data are never scored." }));
  if (source) {
    const whole = source.complete
      ? "complete: it prints every liquidation"
      : "incomplete: it does not print every liquidation";
    parts.push(make("p", { className: "note", textContent: `Source: ${source.name}, ${whole}.` }));
  }
  const names = Object.keys(windows).filter((name) => windows[name].length);
  if (names.length) {
    const name = names.includes(chosen) ? chosen : names[0];
    const rows = windows[name];
    const choice = make(
      "div",
      { className: "choice", role: "group", ariaLabel: "Window" },
      ...names.map((one) => {
        const button = make("button", { type: "button", textContent: windowWords(one) });
        button.dataset.value = one;
        button.setAttribute("aria-pressed", String(one === name));
        button.addEventListener("click", () => onWindow(one));
        return button;
      }),
    );
    parts.push(choice, make("p", { className: "note counts", textContent: truthCounts(rows) }));
    if (isScored(rows))
      parts.push(
        truthTable(
          rows,
          `${typedName(record.symbol)}, ${record.model} model, ${windowWords(name)}${spanWords(record.days?.[name])}`,
        ),
      );
  }
  const dots = hours?.hour?.length ? scatter(hours) : null;
  if (dots)
    parts.push(
      make(
        "figure",
        {},
        dots,
        make("figcaption", {
          className: "note",
          textContent:
            "A dot is an hour and side of the trailing window; hours of 0 stand at the edge. On the line both " +
            "are equal.",
        }),
      ),
    );
  return record.scored ? parts : [...parts, ...referencePart(record.reference)];
}

/** In a few words, for the button: the agreement of longs and shorts, or why there is none. */
function truthShort(record) {
  if (!record) return "no score";
  const rows = Object.values(record.windows).find(isScored);
  if (!record.scored || !rows)
    return record.simulated ? "simulated" : record.source ? "not enough yet" : "not scored here";
  return TRUTH_SIDES.map(
    (side) => rowOf(rows, { side, measure: "spearman", horizon: "nowcast", baseline: "" })?.value.toFixed(2) ?? "–",
  ).join(" / ");
}

/** What the panel says of a base: the score of each market in short, and a button that chooses it. */
function marketParts(markets, onPick) {
  const lines = markets.map(({ symbol, record }) => {
    const button = make("button", { type: "button", textContent: typedName(symbol) });
    button.addEventListener("click", () => onPick(symbol));
    const sides = record?.scored ? " longs / shorts" : "";
    return make("p", {}, button, " ", make("b", { textContent: truthShort(record) }), sides);
  });
  return [make("p", { className: "verdict", textContent: "A score is of one market: choose one." }), ...lines];
}

/**
 * The panel and the button that opens it. `show(symbol, model, answer)` takes the promise of a record, of null, or of
 * the symbols and records of a base's markets, one of which `onPick(symbol)` chooses.
 */
export function truthPanel(onPick) {
  const [button, dialog, content] = ["truth-button", "truth", "truth-content"].map(byId);
  let asked = "";
  let chosen = "";
  let shown = null; // the record in the panel

  function fill() {
    const pressed = document.activeElement?.closest("#truth-content .choice button")?.dataset.value;
    content.replaceChildren(
      ...truthParts(shown, chosen, (name) => {
        chosen = name;
        fill();
      }),
    );
    if (pressed) content.querySelector('.choice [aria-pressed="true"]')?.focus();
  }

  function say(short, words) {
    byId("truth-short").textContent = short;
    if (words) content.replaceChildren(make("p", { className: "verdict", textContent: words }));
  }

  function pick(symbol) {
    onPick(symbol);
    byId("truth-close").focus(); // what had it is replaced
  }

  async function show(symbol, model, answer) {
    const mine = `${symbol}/${model}`;
    if (asked !== mine) say("…", "Loading …");
    asked = mine;
    const name = typedName(symbol);
    byId("truth-of").textContent = `${name}, ${model} model`;
    try {
      const found = await answer;
      if (asked !== mine) return;
      const isBase = Array.isArray(found);
      shown = isBase ? null : found;
      if (isBase) {
        say("by market");
        content.replaceChildren(...marketParts(found, pick));
      } else if (found) {
        say(truthShort(found));
        fill();
      } else say("no score", `There is no score of ${name} beside this page. Run: heatmap refresh ${name}`);
    } catch (error) {
      if (asked === mine) say("no score", `The score cannot be shown. ${error.message}`);
    }
  }

  function open() {
    if (dialog.open) dialog.close();
    else dialog.showModal();
    button.setAttribute("aria-expanded", String(dialog.open));
  }

  button.addEventListener("click", open);
  byId("truth-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => button.setAttribute("aria-expanded", "false"));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return { show, open, state: () => ({ asked, shown }) };
}
