// Where numbers come from. A source has `live`, `symbols()`, `load(query, signal)`, `score(query)` and `health()`; a query is
// { symbol, model, range, bin, entry }, what `load` gives is a payload of the endpoint's format=columns, what `score` gives an
// answer of its /score, or null where there is none.

const MINUTE = 60000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const RANGES = { "12h": 12 * HOUR, "24h": DAY, "3d": 3 * DAY, "7d": 7 * DAY, "30d": 30 * DAY, "90d": 90 * DAY, "1y": 365 * DAY };

/** A failure with a sentence for people. */
class SourceError extends Error {
  constructor(words, { status = 0 } = {}) {
    super(words);
    this.status = status;
  }
}

/** Numbers from files beside the page: a script per symbol and model that calls heatmapData(payload). */
function fileSource(manifest) {
  const loaded = new Map();
  const scores = new Map();
  window.heatmapData = (payload) => loaded.set(`${payload.meta.symbol}/${payload.meta.model}`, payload);
  window.heatmapScore = (records) => records.forEach((record) => scores.set(`${record.symbol}/${record.model}`, record));
  const symbols = manifest.symbols.map(({ symbol, models, score }) => ({
    symbol,
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
      script.onload = () => { script.remove(); resolve(); };
      script.onerror = () => {
        script.remove();
        reject(new SourceError(`${file} is missing beside this page. Copy the whole folder, or run: heatmap refresh ${symbol}`));
      };
      document.head.append(script);
    });
  }

  return {
    live: false,
    symbols: () => Promise.resolve({ symbols, version: "" }),
    health: () => Promise.resolve(null),
    forget() {},
    async load({ symbol, model, entry }) {
      const key = `${symbol}/${model}`;
      const address = entry.files[model].data;
      if (!loaded.has(key)) await run(address, symbol);
      if (loaded.has(key)) return loaded.get(key);
      throw new SourceError(`${decodeURI(address.split("?")[0])} holds no data of ${symbol} and model ${model}. Run: heatmap refresh ${symbol}`);
    },
    async score({ symbol, model, entry }) {
      const key = `${symbol}/${model}`;
      if (entry.score && !scores.has(key)) await run(entry.score, symbol);
      return scores.get(key) ?? null;
    },
  };
}

// Width of a column by range, seconds: fine where few days are shown, never more columns than a screen has.
const COLUMN_SECONDS = { "12h": 300, "24h": 300, "3d": 900, "7d": 900, "30d": 3600, "90d": 14400, "1y": 14400 };
const INTERVALS = [[300, "5m"], [900, "15m"], [3600, "1h"], [14400, "4h"], [86400, "1d"]];
const CELLS = 270000; // 7 days in columns of 15 minutes and 400 rows
const KEPT = 12;

/** Numbers from the read endpoint that serves this page. */
function liveSource() {
  const kept = new Map();

  /** A signal that also ends what does not answer for a minute. */
  const bounded = (signal) => AbortSignal.any([AbortSignal.timeout(60000), ...(signal ? [signal] : [])]);

  async function get(address, signal) {
    let answer;
    try {
      answer = await fetch(address, { signal: bounded(signal), headers: { Accept: "application/json" }, cache: "no-cache" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new SourceError("The server does not answer. It may be restarting, or the network is down.");
    }
    if (answer.ok) return answer.json();
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
    if (answer.status === 401 || answer.status === 403) return "The server asks for a token that this page does not have.";
    return detail ? String(detail) : `The server answered ${answer.status}.`;
  }

  function address({ symbol, model, range, bin, tiers, entry }) {
    const finest = Math.max(COLUMN_SECONDS[range], entry.candle_interval_seconds ?? 0);
    const [seconds, interval] = INTERVALS.find(([size]) => size >= finest) ?? INTERVALS.at(-1);
    const start = new Date(Math.max(Date.parse(entry.as_of) - RANGES[range], Date.parse(`${entry.first_day}T00:00:00Z`)));
    const given = new URLSearchParams({ symbol, model, interval, start_time: `${start.toISOString().slice(0, 19)}Z`, format: "columns" });
    if (tiers) given.set("leverage_tiers", tiers);
    const columns = RANGES[range] / 1000 / seconds;
    if (bin) given.set("price_bin_size", String(bin));
    else given.set("max_rows", String(Math.round(Math.min(1000, Math.max(400, CELLS / columns)))));
    return `liquidations/heatmap-timeseries?${given}`;
  }

  return {
    live: true,
    symbols: (signal) => get("symbols", signal),
    async health(signal) {
      const answer = await fetch("health", { signal: bounded(signal), cache: "no-cache" }).catch(() => null);
      return answer && (answer.ok || answer.status === 503) ? answer.json().catch(() => null) : null;
    },
    forget: () => kept.clear(),
    score: ({ symbol, model }) => get(`score?${new URLSearchParams({ symbol, model })}`),
    async load(query, signal) {
      const wanted = address(query);
      const payload = kept.get(wanted) ?? await get(wanted, signal);
      kept.delete(wanted);
      kept.set(wanted, payload);
      if (kept.size > KEPT) kept.delete(kept.keys().next().value);
      return payload;
    },
  };
}
