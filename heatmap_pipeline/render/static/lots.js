// What only the lots of a moment tell: how old a cell is, its leverage mix, since when zones stand. The server is asked
// once the pointer or the moment rests; nothing waits for the answer.

import { unpack } from "./map.js";

/** @import { CellLots, HeatMap, Lots, LotsQuery, Side, Zone } from "./types.d.ts" */

const LOTS_REST = 150; // milliseconds
const LOTS_KEPT = 40; // columns

/**
 * What to ask for: the lots at the end of a column, in its rows.
 * @param {HeatMap} map
 * @param {number} column
 * @returns {LotsQuery}
 */
export function lotsQuery({ symbol, model, leverage_tiers: tiers, parts, bin, start, width }, column) {
  const markets = parts?.map((part) => part.symbol).join() ?? "";
  return { symbol, markets, model, tiers: tiers?.join() ?? "", bin, time: start + (column + 1) * width };
}

/**
 * An answer by row of height `bin`: of each the oldest opening, and volume by leverage, the largest first.
 * @param {any} answer
 * @param {number} bin a multiple of the answer's own
 * @returns {Lots}
 */
export function decodeLots(answer, bin) {
  /** @param {Side} side */
  const cellsOf = (side) => {
    const {
      price,
      leverage,
      volume,
      opened_at: openedAt,
    } = Object.fromEntries(Object.entries(answer[side]).map(([name, array]) => [name, unpack(array)]));
    /** @type {Map<number, { openedAt: number, sums: Map<number, number> }>} */
    const cells = new Map();
    for (let i = 0; i < price.length; i += 1) {
      const row = Math.floor(price[i] / bin + 1e-6);
      const cell = cells.get(row) ?? { openedAt: Infinity, sums: new Map() };
      cell.openedAt = Math.min(cell.openedAt, openedAt[i]);
      cell.sums.set(leverage[i], (cell.sums.get(leverage[i]) ?? 0) + volume[i]);
      cells.set(row, cell);
    }
    return new Map(
      Array.from(cells, ([row, { openedAt: opened, sums }]) => [
        row,
        { openedAt: opened, tiers: [...sums].sort((a, b) => b[1] - a[1]) },
      ]),
    );
  };
  const { clusters = { above: [], below: [] }, nearest = {} } = answer;
  const listed = [...clusters.above, ...clusters.below, nearest.above, nearest.below].filter(Boolean);
  const zones = listed.map((zone) => ({ ...zone, since: zone.since === null ? null : Date.parse(zone.since) }));
  return { time: Date.parse(answer.time), long: cellsOf("long"), short: cellsOf("short"), zones };
}

/**
 * What lots tell of a cell; undefined where they have none there.
 * @param {Lots} lots
 * @param {HeatMap} map
 * @param {Side} side
 * @param {number} row
 */
export const lotsOfCell = (lots, map, side, row) => lots[side].get(Math.round(map.low / map.bin) + row);

/**
 * A map whose zones of a column say since when they stand.
 * @param {HeatMap} map
 * @param {number} column
 * @param {Lots} lots
 * @returns {HeatMap}
 */
export function withSince(map, column, lots) {
  /** @param {number} a @param {number} b */
  const same = (a, b) => Math.abs(a - b) <= 1e-6 * b + 1e-8;
  /** @param {Zone} zone */
  const known = (zone) =>
    lots.zones.find(({ side, low, high }) => side === zone.side && same(low, zone.low) && same(high, zone.high));
  const zones = map.zones.slice();
  zones[column] = zones[column].map((zone) => ({ ...zone, since: known(zone)?.since ?? zone.since }));
  return { ...map, zones };
}

/** What a page from disk knows: the lots of the newest column. */
export class NewestLots {
  /** @type {WeakMap<HeatMap["payload"], Map<number, Lots>>} */
  #decoded = new WeakMap();

  /**
   * The lots of a column, undefined where nobody knows them.
   * @param {HeatMap} map
   * @param {number} column
   */
  ask({ payload, columns, bin }, column) {
    if (!payload.lots || column !== columns - 1) return undefined;
    const byBin = this.#decoded.get(payload) ?? new Map();
    this.#decoded.set(payload, byBin);
    if (!byBin.has(bin)) byBin.set(bin, decodeLots({ ...payload.lots, time: payload.meta.as_of }, bin));
    return byBin.get(bin);
  }

  stop() {}
}

/** The answers of the columns that were asked for last. */
export class LotsKept {
  #fetch;
  /** @type {Map<string, Lots>} */
  #kept = new Map();

  /** @param {(query: LotsQuery, signal: AbortSignal) => Promise<any>} fetch */
  constructor(fetch) {
    this.#fetch = fetch;
  }

  /** @param {string} key */
  known(key) {
    return this.#kept.get(key);
  }

  /**
   * @param {string} key
   * @param {LotsQuery} query
   * @param {AbortSignal} signal
   */
  async load(key, query, signal) {
    const kept = this.#kept;
    kept.set(key, decodeLots(await this.#fetch(query, signal), query.bin));
    if (kept.size > LOTS_KEPT) kept.delete(kept.keys().next().value ?? "");
  }

  /** What was asked for before is of another publication; an answer that is on its way is, too. */
  forget() {
    this.#kept = new Map();
  }
}

/** Asks for one column at a time: for the newest one only, once nothing else was asked for during `LOTS_REST`. */
export class LotsAsker {
  #kept;
  #key = "";
  #isRefused = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {AbortController | undefined} */
  #controller;

  /** @param {LotsKept} kept */
  constructor(kept) {
    this.#kept = kept;
  }

  /**
   * What is known of a column now: its lots, "asked" until they come, null where the server could not say. `onCome` is
   * called when that has changed.
   * @param {HeatMap} map
   * @param {number} column
   * @param {() => void} onCome
   */
  ask(map, column, onCome) {
    const query = lotsQuery(map, column);
    const key = Object.values(query).join(" ");
    const known = this.#kept.known(key);
    if (key !== this.#key || known) this.stop();
    if (known) return known;
    if (key !== this.#key) {
      this.#key = key;
      this.#timer = setTimeout(() => this.#load(key, query, onCome), LOTS_REST);
    }
    return this.#isRefused ? null : "asked";
  }

  /** Gives up what was asked for. */
  stop() {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    this.#key = "";
    this.#isRefused = false;
  }

  /**
   * @param {string} key
   * @param {LotsQuery} query
   * @param {() => void} onCome
   */
  async #load(key, query, onCome) {
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    let isRefused = false;
    try {
      await this.#kept.load(key, query, signal);
    } catch {
      isRefused = true;
    }
    if (signal.aborted) return;
    this.#isRefused = isRefused;
    if (!isRefused) this.#key = ""; // an answer of another publication is not kept, and this asks again
    onCome();
  }
}
