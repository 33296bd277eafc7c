// The page of all markets: a table of the endpoint's /markets that can be sorted, searched, and looks again by itself.
// Prices and volumes are in the quote asset of each market, times milliseconds since 1970 UTC.

const POLL_SECONDS = 30;
const SPARK = { width: 120, height: 28 };

/** What can be sorted by: words of the column, value of a market (null = unknown), and which way comes first. */
export const COLUMNS = {
  symbol: { words: "Market", value: ({ symbol }) => symbol, first: "ascending" },
  price: { words: "Price", value: ({ price }) => price, first: "descending" },
  change: { words: "24 h", value: (market) => market.change_24h_percent, first: "descending" },
  above: {
    words: "Zone above",
    about: "modelled shorts",
    value: ({ nearest }) => away(nearest.above),
    first: "ascending",
  },
  "above-volume": { words: "Volume above", value: ({ nearest }) => held(nearest.above), first: "descending" },
  below: {
    words: "Zone below",
    about: "modelled longs",
    value: ({ nearest }) => away(nearest.below),
    first: "ascending",
  },
  "below-volume": { words: "Volume below", value: ({ nearest }) => held(nearest.below), first: "descending" },
  score: { words: "Score", value: ({ score }) => meanOf(score), first: "descending" },
  age: { words: "Newest data", value: (market) => -Date.parse(market.as_of), first: "descending" },
};

const away = (zone) => (zone ? Math.abs(zone.distance_percent) : null);
const held = (zone) => zone?.volume ?? null;

/** Of the sides that are scored. */
function meanOf(score) {
  const known = [score?.long, score?.short].filter((value) => typeof value === "number");
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

/** Markets in the order of a column; what is not known stands last either way, equal ones by name. */
export function sorted(markets, column, order) {
  const { value } = COLUMNS[column];
  const sign = order === "descending" ? -1 : 1;
  return [...markets].sort((one, other) => {
    const [mine, its] = [value(one), value(other)];
    const byName = one.symbol < other.symbol ? -1 : Number(one.symbol > other.symbol);
    if (mine === its) return byName;
    if (mine === null || its === null) return mine === null ? 1 : -1;
    return mine < its ? -sign : sign;
  });
}

export const found = (markets, words) =>
  markets.filter(({ symbol, market }) =>
    [symbol, market].some((name) => name.toUpperCase().includes(words.trim().toUpperCase())),
  );

/** The next order when the head of a column is pressed. */
export function pressed(now, column) {
  if (now.column !== column) return { column, order: COLUMNS[column].first };
  return { column, order: now.order === "ascending" ? "descending" : "ascending" };
}

/** What the address says: the order, and what is looked for. */
export function readChoice(hash) {
  const given = new URLSearchParams(hash.slice(1));
  const column = Object.hasOwn(COLUMNS, given.get("sort") ?? "") ? given.get("sort") : "symbol";
  const order = ["ascending", "descending"].find((one) => one === given.get("order")) ?? COLUMNS[column].first;
  return { column, order, find: given.get("find") ?? "" };
}

export function writeChoice({ column, order, find }) {
  return `#${new URLSearchParams({ sort: column, order, ...(find && { find }) })}`;
}

/** The path of a line through the closes that there are; a gap stays one. */
export function sparkPath(closes, { width, height } = SPARK) {
  const known = closes.filter((close) => close !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const x = (i) => ((i * width) / Math.max(1, closes.length - 1)).toFixed(1);
  const y = (close) => (high > low ? height - ((close - low) / (high - low)) * height : height / 2).toFixed(1);
  return closes
    .map((close, i) => (close === null ? "" : `${(closes[i - 1] ?? null) === null ? "M" : "L"}${x(i)},${y(close)}`))
    .join("");
}

export function priceText(price) {
  const decimals = Math.max(0, 4 - Math.floor(Math.log10(Math.max(price, 1e-9))));
  return price.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

const SIZES = [
  [1e9, "B"],
  [1e6, "M"],
  [1e3, "k"],
];

/** 12300000 -> "12.3M". */
export function volumeText(volume) {
  const [size, unit] = SIZES.find(([limit]) => volume >= limit * 0.9995) ?? [1, ""];
  const short = volume / size;
  return `${short >= 99.95 ? short.toFixed(0) : Number(short.toPrecision(3))}${unit}`;
}

export const percentText = (percent) => `${percent < 0 ? "−" : "+"}${Math.abs(percent).toFixed(2)} %`;

export function ageText(seconds) {
  if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

const instantText = (time) => `${time.slice(0, 10)} ${time.slice(11, 16)} UTC`;

/** How many there are, and what is wrong with some. */
export function summaryText(markets, shown) {
  const count = (is, words) => (markets.some(is) ? [`${markets.filter(is).length} ${words}`] : []);
  const of = shown === markets.length ? "" : `${shown} of `;
  const all = `${of}${markets.length} market${markets.length === 1 ? "" : "s"}`;
  return [all, ...count(({ stale }) => stale, "stale"), ...count(({ ended }) => ended, "ended")].join(", ");
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A second line of a cell; `style` says on which screens. */
const small = (words, style = "") => make("small", { textContent: words, className: style });
const none = (words = "–", style = "") => make("td", { className: `number none ${style}`, textContent: words });
const direction = (change) => (change < 0 ? "down" : "up");

function priceCells({ price, quote, change_24h_percent: change }) {
  const words = change === null ? "–" : percentText(change);
  const style = change === null ? "none" : direction(change);
  return [
    make("td", { className: "number" }, priceText(price), small(quote, "wide"), small(words, `narrow ${style}`)),
    make("td", { className: `number wide ${style}`, textContent: words }),
  ];
}

function sparkCell({ sparkline: { closes } }) {
  const known = closes.filter((close) => close !== null);
  const cell = make("td", { className: "spark" });
  if (known.length < 2) return none("–", "spark");
  const [low, high] = [Math.min(...known), Math.max(...known)].map((price) => priceText(price));
  const words = `7 days: ${percentText(100 * (known.at(-1) / known[0] - 1))}, from ${low} to ${high}`;
  const { width, height } = SPARK;
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  cell.innerHTML = `<svg role="img" ${size}><path d="${sparkPath(closes)}"/></svg>`;
  cell.firstChild.setAttribute("aria-label", words);
  cell.title = words;
  return cell;
}

function zoneCells(zone, quote) {
  if (!zone) return [none(), none("–", "wide")];
  const [volume, price] = [volumeText(zone.volume), priceText(zone.price)];
  return [
    make(
      "td",
      { className: "number" },
      percentText(zone.distance_percent),
      small(`at ${price}`, "wide"),
      small(`${volume} at ${price}`, "narrow"),
    ),
    make("td", { className: "number wide" }, volume, small(quote)),
  ];
}

function scoreCell({ score, simulated }) {
  if (meanOf(score) === null) return none(simulated ? "simulated" : "no record");
  const [long, short] = [score.long, score.short].map((value) => (value === null ? "–" : value.toFixed(2)));
  const words = `${score.window === "28d" ? "28 days" : "all days"}, ${score.hours} h`;
  const whose = score.own_exchange ? "" : `, ${score.source.split("_")[0]}`;
  return make("td", { className: "number" }, `${long} / ${short}`, small(`${words}${whose}`));
}

const badge = (words, style = "") => make("span", { className: `badge ${style}`, textContent: words });

/** The name, which leads to the map, and what has to be said of the market. */
function nameCell(market) {
  const address = `map#${new URLSearchParams({ symbol: market.symbol })}`;
  const link = make("a", { title: `${market.title}, ${market.model}`, href: address });
  const [exchange, name] = market.market.split(":");
  link.append(...(name ? [`${exchange}:`, make("wbr"), name] : [exchange]));
  const marks = [
    market.ended && badge(`ended on ${market.ended}`),
    market.simulated && badge("simulated", "warn"),
    market.provisional && badge("provisional"),
  ].filter(Boolean);
  const cell = make("th", { scope: "row" }, link, make("div", {}, ...marks));
  if (market.stale) {
    const why = make("p", { textContent: market.reason });
    const fold = make("details", {}, make("summary", { className: "badge warn", textContent: "STALE" }), why);
    fold.dataset.symbol = market.symbol;
    cell.lastChild.append(fold);
  }
  return cell;
}

/** How old the newest data are. */
function ageCell({ as_of: time }) {
  const age = make("span", { className: "age" });
  age.dataset.asOf = time;
  return make("td", {}, age, small(instantText(time)));
}

function rowOf(market) {
  const { nearest, quote } = market;
  return make(
    "tr",
    {},
    nameCell(market),
    ...priceCells(market),
    sparkCell(market),
    ...zoneCells(nearest.above, quote),
    ...zoneCells(nearest.below, quote),
    scoreCell(market),
    ageCell(market),
  );
}

/** Heads of columns become buttons; `press` is told which. */
function makeHeads(press) {
  for (const head of document.querySelectorAll("[data-sort]")) {
    const { words, about } = COLUMNS[head.dataset.sort];
    const button = make("button", { type: "button" }, make("span", { textContent: words }));
    if (about) button.append(" ", small(about));
    button.addEventListener("click", () => press(head.dataset.sort));
    head.append(button);
  }
}

function showOrder({ column, order }) {
  for (const head of document.querySelectorAll("[data-sort]")) {
    if (head.dataset.sort === column) head.setAttribute("aria-sort", order);
    else head.removeAttribute("aria-sort");
  }
}

function showAges() {
  for (const age of document.querySelectorAll(".age")) {
    age.textContent = ageText(Math.max(0, (Date.now() - Date.parse(age.dataset.asOf)) / 1000));
  }
}

/** Rows in place of those there are; the focus and what is unfolded stay. */
function showRows(markets) {
  const body = document.querySelector("tbody");
  const focused = body.contains(document.activeElement)
    ? document.activeElement.closest("tr").querySelector("a").textContent
    : null;
  const open = new Set([...body.querySelectorAll("details[open]")].map(({ dataset }) => dataset.symbol));
  body.replaceChildren(...markets.map(rowOf));
  for (const why of body.querySelectorAll("details")) why.open = open.has(why.dataset.symbol);
  if (focused) [...body.querySelectorAll("a")].find(({ textContent }) => textContent === focused)?.focus();
  showAges();
}

async function ask() {
  let answer;
  try {
    answer = await fetch("markets", { signal: AbortSignal.timeout(60000), cache: "no-cache" });
    if (answer.ok) return await answer.text(); // which may be cut as well
  } catch {
    throw new Error("The server does not answer. It may be restarting, or the network is down.");
  }
  const { detail } = await answer.json().catch(() => ({}));
  throw new Error(detail ?? `The server answered ${answer.status}.`);
}

function start() {
  const byId = (id) => document.getElementById(id);
  let choice = readChoice(location.hash);
  let markets = null;
  let text = "";

  function show() {
    if (!markets) return;
    const rows = sorted(found(markets, choice.find), choice.column, choice.order);
    byId("summary").textContent = summaryText(markets, rows.length);
    byId("table").hidden = false;
    showOrder(choice);
    showRows(rows);
  }

  function choose(change) {
    choice = { ...choice, ...change };
    history.replaceState(null, "", writeChoice(choice));
    show();
  }

  async function look() {
    try {
      const now = await ask();
      byId("notice").hidden = true;
      if (now === text) return;
      text = now;
      ({ markets } = JSON.parse(now));
      show();
    } catch (error) {
      byId("notice").textContent = `${error.message}${markets ? " Shown is what was loaded before." : ""}`;
      byId("notice").hidden = false;
      if (!markets) byId("summary").textContent = "";
    }
  }

  makeHeads((column) => choose(pressed(choice, column)));
  byId("find").value = choice.find;
  byId("find").addEventListener("input", ({ target }) => choose({ find: target.value }));
  window.addEventListener("hashchange", () => {
    choice = readChoice(location.hash);
    byId("find").value = choice.find;
    show();
  });
  setInterval(() => !document.hidden && look(), POLL_SECONDS * 1000);
  setInterval(showAges, 60000);
  document.addEventListener("visibilitychange", () => !document.hidden && look());
  return look();
}

if (typeof document !== "undefined") {
  // A link to the map of a market, of when the map was what is shown first.
  if (new URLSearchParams(location.hash.slice(1)).has("symbol")) location.replace(`map${location.hash}`);
  else start();
}
