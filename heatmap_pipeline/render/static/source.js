// Where numbers come from. A source has `live`, `symbols()`, `load(query, signal)`, `score(query)`,
// `alerts(query)` and `health()`; a query is { symbol, model, bin, entry, window }, what `load` gives is a payload of
// the endpoint's format=columns, what `score` gives an answer of its /score, or null where there is none.

import { labelled, typedName } from "./bases.js";
import { make } from "./dom.js";

/** A failure with a sentence for people. */
export class SourceError extends Error {
  constructor(words, { status = 0 } = {}) {
    super(words);
    this.status = status;
  }
}

/** Numbers from files beside the page: a script per symbol and model that calls heatmapData(payload). */
export function fileSource(manifest) {
  const loaded = new Map();
  const scores = new Map();
  window.heatmapData = (payload) => loaded.set(`${payload.meta.symbol}/${payload.meta.model}`, payload);
  window.heatmapScore = (records) => {
    for (const record of records) scores.set(`${record.symbol}/${record.model}`, record);
  };
  const symbols = manifest.symbols.map(({ symbol, models, score, markets }) => ({
    symbol,
    ...(markets && { markets: labelled(markets) }),
    score,
    models: models.map((one) => one.name),
    roles: Object.fromEntries(models.map((one) => [one.name, one.role])),
    files: Object.fromEntries(models.map((one) => [one.name, one])),
  }));
  /** Runs a script beside the page, which hands over what it holds. */
  function run(address, symbol) {
    const file = decodeURI(address.split("?")[0]);
    return new Promise((resolve, reject) => {
      const script = make("script", { src: address });
      script.onload = () => {
        script.remove();
        resolve();
      };
      script.onerror = () => {
        script.remove();
        reject(
          new SourceError(
            `${file} is missing beside this page. Copy the whole folder, or run: heatmap refresh ${typedName(symbol)}`,
          ),
        );
      };
      document.head.append(script);
    });
  }

  return {
    live: false,
    symbols: () => Promise.resolve({ symbols, version: "" }),
    health: () => Promise.resolve(null),
    forget() {},
    alerts: () => Promise.resolve({ alerts: [] }),
    lots: null,
    async load({ symbol, model, entry }) {
      const key = `${symbol}/${model}`;
      const address = entry.files[model].data;
      if (!loaded.has(key)) await run(address, symbol);
      if (loaded.has(key)) return loaded.get(key);
      throw new SourceError(
        `${decodeURI(address.split("?")[0])} holds no data of ${typedName(symbol)} and model ${model}. ` +
          `Run: heatmap refresh ${typedName(symbol)}`,
      );
    },
    async score({ symbol, model, entry }) {
      const key = `${symbol}/${model}`;
      if (entry.score && !scores.has(key)) await run(entry.score, symbol);
      return scores.get(key) ?? null;
    },
  };
}

const INTERVAL_NAMES = { 300: "5m", 900: "15m", 3600: "1h", 14400: "4h", 86400: "1d" };
const CELLS = 270000; // 7 days in columns of 15 minutes and 400 rows
const KEPT = 12;

/** Numbers from the read endpoint that serves this page. */
export function liveSource() {
  const kept = new Map();

  /** A signal that also ends what does not answer for a minute. */
  const bounded = (signal) => AbortSignal.any([AbortSignal.timeout(60000), ...(signal ? [signal] : [])]);

  async function get(address, signal) {
    let answer;
    try {
      answer = await fetch(address, {
        signal: bounded(signal),
        headers: { Accept: "application/json" },
        cache: "no-cache",
      });
      if (answer.ok) return await answer.json(); // which may be cut as well
    } catch (error) {
      if (error.name === "AbortError" || error instanceof SyntaxError) throw error;
      throw new SourceError("The server does not answer. It may be restarting, or the network is down.");
    }
    throw new SourceError(await reason(answer), { status: answer.status });
  }

  /** The endpoint's own words: {"detail": sentence}, or a list of them. */
  async function reason(answer) {
    let detail = "";
    try {
      ({ detail } = await answer.json());
    } catch {
      detail = "";
    }
    if (Array.isArray(detail)) detail = detail.map((one) => one.msg ?? String(one)).join("; ");
    if (answer.status === 401 || answer.status === 403)
      return "The server asks for a token that this page does not have.";
    return detail ? String(detail) : `The server answered ${answer.status}.`;
  }

  const instant = (time) => `${new Date(time).toISOString().slice(0, 19)}Z`;

  function address({ symbol, model, bin, tiers, markets, entry, window: { from, to, seconds } }) {
    const of = markets ? { symbols: markets } : { symbol };
    const given = new URLSearchParams({ ...of, model, interval: INTERVAL_NAMES[seconds], start_time: instant(from) });
    if (to !== null) given.set("end_time", instant(to));
    given.set("format", "columns");
    if (tiers) given.set("leverage_tiers", tiers);
    const columns = ((to ?? Date.parse(entry.as_of)) - from) / 1000 / seconds;
    if (bin) given.set("price_bin_size", String(bin));
    else given.set("max_rows", String(Math.round(Math.min(1000, Math.max(400, CELLS / columns)))));
    return `liquidations/heatmap-timeseries?${given}`;
  }

  return {
    live: true,
    symbols: (signal) => get("symbols", signal),
    async health(signal) {
      const answer = await fetch("health?always_ok=true", { signal: bounded(signal), cache: "no-cache" }).catch(
        () => null,
      );
      return answer && (answer.ok || answer.status === 503) ? answer.json().catch(() => null) : null;
    },
    forget: () => kept.clear(),
    async alerts({ symbol, entry }) {
      const of = entry.markets?.map((market) => market.symbol) ?? [symbol];
      const asked = of.map((name) => get(`alerts?${new URLSearchParams({ symbol: name, limit: "20" })}`));
      const listed = (await Promise.all(asked)).flatMap(({ alerts }) => alerts);
      return { alerts: listed.sort((a, b) => Date.parse(b.at) - Date.parse(a.at)).slice(0, 20) };
    },
    lots({ symbol, markets, model, tiers, bin, time }, signal) {
      const of = markets ? { symbols: markets } : { symbol };
      const given = new URLSearchParams({ ...of, model, time: instant(time), price_bin_size: String(bin) });
      if (tiers) given.set("leverage_tiers", tiers);
      return get(`liquidations/lots?${given}`, signal);
    },
    score: ({ symbol, model }) => get(`score?${new URLSearchParams({ symbol, model })}`),
    async load(query, signal) {
      const wanted = address(query);
      const payload = kept.get(wanted) ?? (await get(wanted, signal));
      kept.delete(wanted);
      kept.set(wanted, payload);
      if (kept.size > KEPT) kept.delete(kept.keys().next().value);
      return payload;
    },
  };
}
