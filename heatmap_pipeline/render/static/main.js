// The page: what is chosen, what is loaded for it, and what is said while there is nothing to see.

const STALE_HOURS = 36;
const POLL_SECONDS = 30;
const HEALTH_MINUTES = 10;

/** Words instead of a map; with a picture where there is one, and a button that tries again. */
function say(words, { picture, retry } = {}) {
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
function blank(words, more) {
  for (const id of ["price", "as-of", "located", "badges", "ladder", "reported"]) byId(id).replaceChildren();
  for (const id of ["save-png", "save-csv"]) byId(id).disabled = true;
  document.title = "Liquidation heatmap";
  notice("");
  say(words, more);
}

/** Words above a map that stays. */
function notice(words, retry) {
  byId("notice").hidden = !words;
  byId("notice").replaceChildren(...(words ? [make("span", { textContent: words }), ...(retry ? [retryButton(retry)] : [])] : []));
}

function badge(words, style, about) {
  return make("span", { textContent: words, className: `badge ${style}`, title: about, tabIndex: 0 });
}

function showFacts(map, stale) {
  const bold = (text) => make("b", { textContent: text });
  byId("price").textContent = priceText(map.price);
  byId("price").title = `Last close, ${quote}`;
  byId("as-of").replaceChildren("as of ", bold(instantText(map.asOf)));
  byId("located").replaceChildren("located share ", bold(`${(map.locatedShare * 100).toFixed(1)} %`));
  byId("located").dataset.about = ABOUT_LOCATED;
  byId("reported").replaceChildren(...(map.reported ? reportedKey(map.reported) : []));
  byId("badges").replaceChildren(
    ...marksOf(map).map(({ words, style, about }) => badge(words, style, about)),
    ...(stale ? [badge(`STALE ${stale.age}`, "old", stale.about)] : []),
  );
  document.title = `${map.symbol} ${priceText(map.price)} · liquidation heatmap`;
}

/** The legend of the hollow circles. */
function reportedKey(reported) {
  const entry = (side) => make("span", {}, make("i", { className: `ring ${side}` }), `${side}s`);
  const words = make("span", { className: "note", textContent: `(${reportedWords(reported)})`, title: `Source: ${reported.source}` });
  return [make("span", { className: "note", textContent: "reported:" }), entry("long"), entry("short"), words];
}

/** How old the newest data are, if that is too old: by the server's own word, else by their time. */
function staleness(map, health) {
  if (map.ended) return null;
  const known = health?.symbols?.filter((one) => one.symbol === map.symbol && (one.model ?? map.model) === map.model) ?? [];
  const seconds = (Date.now() - map.asOf) / 1000;
  const old = known.length ? known.some((one) => one.stale) : seconds > STALE_HOURS * 3600;
  if (!old) return null;
  const reason = known.map((one) => one.reason).find(Boolean) ?? `run heatmap refresh ${map.symbol}; heatmap status says what is missing`;
  return { age: ageText(Math.max(0, seconds)), about: `The newest data end ${instantText(map.asOf)}: ${reason}` };
}

function start(source, { poll_seconds: seconds = POLL_SECONDS }) {
  const element = byId("chart");
  const maps = new WeakMap();
  let symbols = [];
  let version = null;
  let health = null;
  let asked = 0; // when health was asked for
  let choice = null;
  let map = null; // what is drawn
  let request = 0;
  let controller = null;
  let running = Promise.resolve(); // the newest load and draw
  let looking = false;
  let judged = null; // whose score was asked for

  const chart = chartIn(element, byId("density"), (moved) => {
    if (moved === null) return choose({ view: null });
    choice = { ...choice, view: moved };
    levels.update(map, moved);
    controls();
    writeHash(choice);
    hand.hide();
    return undefined;
  });
  const hand = pointer(element, chart);
  pinchZoom(element, chart);
  const levels = ladder(byId("ladder"), chart);
  const truth = truthPanel();
  const slider = legend(
    (change) => recolour(change),
    (change) => { recolour(change); writeHash(choice); },
  );
  const pickers = {
    range: group("range", (range) => choose({ range, view: null })),
    side: group("side", (side) => choose({ side })),
    scale: group("scale", (scale) => choose({ scale })),
    model: group("model", (model) => choose({ model })),
    layers: group("layers", (name) => choose({ [name]: !choice[name] }), { single: false }),
  };
  const tiers = source.live ? leverageControl(group, (text) => choose({ tiers: text })) : null;
  const entry = () => symbols.find((one) => one.symbol === choice.symbol);

  /** A model and what it is for, unless it is the one to look at. */
  function modelWords(name) {
    const role = entry().roles?.[name] ?? "default";
    return role === "default" ? name : `${name} (${role})`;
  }

  /** Limits of the colours follow a handle at once; the chart above them need not. */
  function recolour(change) {
    choice = { ...choice, ...change };
    chart.recolour(choice);
    if (map) slider.update(map, choice);
  }

  function choose(change) {
    choice = { ...choice, ...change };
    if (!("tiers" in change)) choice.tiers = tiersAfter(change, choice.tiers);
    const { models } = entry();
    if (!models.includes(choice.model)) [choice.model] = models;
    // Volumes and prices of another symbol have nothing to do with these.
    if ("symbol" in change) Object.assign(choice, { low: null, high: null, bin: 0, view: null });
    update();
  }

  function span() {
    const { first_day: first, as_of: last } = entry();
    if (first && last) return Date.parse(last) - Date.parse(`${first}T00:00:00Z`);
    return map && map.symbol === choice.symbol ? map.end - map.start : Infinity;
  }

  function controls() {
    document.body.classList.remove("bare");
    const names = symbols.map((one) => one.symbol);
    const select = byId("symbol");
    if ([...select.options].map((one) => one.value).join() !== names.join()) select.replaceChildren(...names.map((name) => new Option(name)));
    select.value = choice.symbol;
    const each = (options, pressed) => Object.fromEntries(Object.entries(options).map(([value, words]) => [value, { words, about: ABOUT[value], pressed: pressed(value) }]));
    pickers.model.update(each(Object.fromEntries(entry().models.map((name) => [name, modelWords(name)])), (name) => name === choice.model));
    for (const [name, options] of Object.entries(OPTIONS)) pickers[name].update(each(options, (value) => value === choice[name]));
    const layers = each(LAYERS, (name) => choice[name]);
    if (isNarrow(element)) Object.assign(layers.profile, { disabled: true, about: "There is no room for it here; turn the screen." });
    if (map && !map.reported) Object.assign(layers.reported, { disabled: true, pressed: false, about: NOT_RECORDED });
    pickers.layers.update(layers);
    pickers.range.update(rangeOptions(span(), choice, source.live));
    tiers?.update(map, choice.tiers);
    byId("ladder").hidden = !choice.levels;
    if (map) fillBins(byId("bin"), bins(), choice, map);
  }

  const bins = () => binOptions(map, map.base, source.live);

  /** The longest range there is data for, instead of one that has none. */
  function fitRange() {
    const allowed = Object.entries(rangeOptions(span(), choice, source.live)).filter(([, one]) => !one.disabled).map(([name]) => name);
    if (!allowed.includes(choice.range)) choice = { ...choice, range: allowed.at(-1) };
  }

  /** The payload in the rows that are wanted; the server bins for itself. */
  function mapOf(payload) {
    if (!maps.has(payload)) maps.set(payload, new Map());
    const binned = maps.get(payload);
    if (!binned.has(0)) binned.set(0, decode(payload));
    const base = binned.get(0);
    base.base = base;
    if (source.live || !choice.bin) return base;
    if (!binned.has(choice.bin)) {
      const factor = choice.bin / base.bin;
      binned.set(choice.bin, factor >= 1 && Math.abs(factor - Math.round(factor)) < 1e-9 ? rebin(base, choice.bin) : base);
    }
    const found = binned.get(choice.bin);
    if (found === base && choice.bin !== base.bin) choice = { ...choice, bin: 0 };
    return found;
  }

  function busy(yes) {
    byId("progress").hidden = !yes;
    byId("map").setAttribute("aria-busy", String(yes));
  }

  function update() {
    running = load();
    return running;
  }

  async function load() {
    request += 1;
    const mine = request;
    controller?.abort();
    controller = new AbortController();
    fitRange();
    controls();
    writeHash(choice);
    hand.hide();
    const waiting = setTimeout(() => busy(true), 150);
    try {
      const payload = await source.load({ ...choice, entry: entry() }, controller.signal);
      if (mine === request) await show(payload, mine);
    } catch (error) {
      if (mine === request && error.name !== "AbortError") failed(error);
    } finally {
      clearTimeout(waiting);
      if (mine === request) busy(false);
    }
  }

  async function show(payload, mine) {
    map = mapOf(payload);
    countIn(map.quote);
    fitRange();
    // A link may be older than what the range holds now.
    if (choice.view && !overlaps(map, choice.view)) choice = { ...choice, view: null };
    if (!map.columns || !map.rows) {
      map = null;
      blank(`There are no data of ${choice.symbol} (${choice.model}) in this range. Choose a longer one, or run: heatmap refresh ${choice.symbol}`, { retry: update });
      return;
    }
    // Shown first: what is hidden has no size to draw in.
    byId("message").hidden = true;
    controls();
    writeHash(choice);
    slider.update(map, choice);
    showFacts(map, staleness(map, health));
    const view = choice.view ?? viewOf(map, choice.range);
    levels.update(map, view);
    if (typeof Plotly === "undefined") chart.early(map, choice, view);
    await plotly;
    if (mine !== request) return;
    await chart.draw(map, choice, view);
    askTruth();
    notice(map.empty ? "The book is empty in this range: there are candles, but no levels." : "");
    for (const id of ["save-png", "save-csv"]) byId(id).disabled = false;
    if (!performance.getEntriesByName("heatmap-first-paint").length) {
      requestAnimationFrame(() => performance.measure("heatmap-first-paint", { start: 0 }));
    }
  }

  /** The score of what is drawn, once for each symbol, model and publication. */
  function askTruth() {
    const wanted = `${choice.symbol}/${choice.model}/${version}`;
    if (wanted === judged) return;
    judged = wanted;
    truth.show(choice.symbol, choice.model, source.score({ ...choice, entry: entry() }));
  }

  function failed(error) {
    // A bin that this range has too many rows of is no reason to show nothing.
    if (error.status === 422 && choice.bin) {
      choose({ bin: 0 });
      running.then(() => notice(`${error.message}. Back to an automatic bin.`.replace("..", ".")));
      return;
    }
    const words = error instanceof SourceError ? error.message : `This page failed: ${error.message}`;
    if (map && chart.view() && map.symbol === choice.symbol && map.model === choice.model) notice(`${words} Shown is what was loaded before.`, update);
    else {
      map = null; // so that the next look tries again
      blank(words, { picture: entry().files?.[choice.model]?.picture, retry: update });
    }
  }

  async function look() {
    if (looking) return;
    looking = true;
    await lookOnce().finally(() => { looking = false; });
  }

  /** Asks what there is; new data replace the old in place, and the part that is in view stays. */
  async function lookOnce() {
    let found;
    try {
      found = await source.symbols();
    } catch (error) {
      if (map) notice(`${error.message} Shown is what was loaded before; trying again every ${seconds} s.`, look);
      else say(error.message, { retry: look });
      return;
    }
    if (!found.symbols.length) {
      [symbols, version, map] = [[], null, null];
      document.body.classList.add("bare");
      say("There is nothing to show yet. Run: heatmap demo, or: heatmap run BTCUSDT --start DAY --end DAY"
        + `${source.live ? " This page looks again by itself." : ""}`, source.live ? { retry: look } : {});
      return;
    }
    const fresh = found.version !== version;
    const troubled = !byId("notice").hidden || (!map && version !== null);
    if (fresh || Date.now() - asked > HEALTH_MINUTES * MINUTE) {
      asked = Date.now();
      health = await source.health();
      if (map) showFacts(map, staleness(map, health));
    }
    if (!fresh && !troubled) return;
    ({ symbols, version } = found);
    if (fresh) source.forget();
    choice = choice && symbols.some((one) => one.symbol === choice.symbol) ? choice : readHash(symbols);
    if (!entry().models.includes(choice.model)) [choice.model] = entry().models;
    await update();
  }

  function nextBin(step) {
    const offered = [0, ...bins().filter(([, , why]) => !why).map(([bin]) => bin)];
    const now = choice.bin ? offered.indexOf(choice.bin) : offered.indexOf(map.bin);
    const next = offered[Math.max(1, Math.min(offered.length - 1, now + step))];
    if (next) choose({ bin: next });
  }

  const nextModel = () => {
    const { models } = entry();
    choose({ model: models[(models.indexOf(choice.model) + 1) % models.length] });
  };
  const toggles = { h: "map", c: "candles", x: "bubbles", o: "reported", p: "profile", k: "levels" };
  const actions = {
    l: () => choose({ side: "long" }), s: () => choose({ side: "short" }), b: () => choose({ side: "both" }),
    g: () => choose({ scale: choice.scale === "log" ? "linear" : "log" }), m: nextModel, r: () => choose({ low: null, high: null }),
    "[": () => nextBin(-1), "]": () => nextBin(1), "?": () => byId("help").showModal(), t: truth.open,
    "+": () => chart.shift({ scale: 0.7 }), "=": () => chart.shift({ scale: 0.7 }), "-": () => chart.shift({ scale: 1 / 0.7 }),
    0: () => choose({ view: null }), ArrowLeft: () => chart.shift({ x: -0.15 }), ArrowRight: () => chart.shift({ x: 0.15 }),
    ArrowUp: () => chart.shift({ y: 0.15 }), ArrowDown: () => chart.shift({ y: -0.15 }),
  };

  function act(key) {
    if (key === "?" || key === "t" || (map && actions[key])) actions[key]();
    else if (map && toggles[key]) choose({ [toggles[key]]: !choice[toggles[key]] });
    else if (map && /^[1-7]$/.test(key)) {
      const range = Object.keys(RANGES)[Number(key) - 1];
      if (!rangeOptions(span(), choice, source.live)[range].disabled) choose({ range, view: null });
    } else return false;
    return true;
  }

  function wire() {
    const click = (id, action) => byId(id).addEventListener("click", action);
    byId("symbol").addEventListener("change", (event) => choose({ symbol: event.target.value }));
    byId("bin").addEventListener("change", (event) => choose({ bin: Number(event.target.value) }));
    for (const [id, key] of [["reset-colours", "r"], ["zoom-in", "+"], ["zoom-out", "-"], ["zoom-fit", "0"], ["help-button", "?"]]) {
      click(id, () => act(key));
    }
    click("save-csv", () => save(fileName(map, "csv"), new Blob([csvOf(map, chart.view())], { type: "text/csv" })));
    click("save-png", async () => save(fileName(map, "png"), await pngOf(chart, element)));
    click("more", () => byId("more").setAttribute("aria-expanded", String(document.body.classList.toggle("open"))));
    for (const id of ["save-png", "save-csv"]) byId(id).disabled = true;
    byId("map").tabIndex = 0;
    fillHelp(byId("help"));
    listenToKeys(act);
    window.addEventListener("hashchange", () => { if (symbols.length) { choice = readHash(symbols); update(); } });
    let resized = 0;
    new ResizeObserver(() => {
      const { width, height } = element._fullLayout ?? {};
      clearTimeout(resized);
      if (map && width && (width !== element.clientWidth || height !== element.clientHeight)) resized = setTimeout(redraw, 60);
    }).observe(element);
    if (!source.live) return;
    setInterval(() => { if (!document.hidden) look(); }, seconds * 1000);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  }

  function redraw() {
    controls();
    slider.update(map, choice);
    chart.draw(map, choice, choice.view ?? viewOf(map, choice.range));
  }

  // The library is large; numbers are asked for while it is read.
  const plotly = new Promise((resolve, reject) => {
    const check = () => (typeof Plotly === "undefined"
      ? reject(new SourceError("plotly.min.js is missing beside this page, so there is no chart. Copy the whole folder."))
      : resolve());
    if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", check);
    else check();
  });
  plotly.catch(() => {});

  // For consoles and tests: what is drawn, and the pure functions behind it.
  window.heatmapPage = {
    state: () => ({ ...chart.state(), choice, map, health, version }), settled: () => running, truth: truth.state, view: chart.view, decode, rebin, bookBetween, clustersOf, maxPain, csvOf, pngOf: () => pngOf(chart, element),
  };
  wire();
  say("Loading …");
  look();
}

const manifest = JSON.parse(byId("manifest").textContent);
start(manifest.live ? liveSource() : fileSource(manifest), manifest);
