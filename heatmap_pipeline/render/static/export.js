// What can be taken away as a table: the cells in view. And the name of a file.

import { binDecimals, iso } from "./words.js";

/** @import { HeatMap, View } from "./types.d.ts" */

/**
 * @param {HeatMap} map
 * @param {string} ending
 * @param {string} tiers leverage tiers that are shown, as a link says them; "" is all
 */
export function fileName(map, ending, tiers = "") {
  const simulated = map.simulated ? "-SIMULATED" : "";
  const leverage = tiers.replace(/[\d.]+/g, "$&x").replaceAll(",", "-");
  const time = iso(map.asOf).slice(0, 16).replace(/[-:]/g, "");
  return `${map.symbol}-${map.model}${leverage && `-${leverage}`}-${time}Z${simulated}.${ending}`;
}

/**
 * Cells in view that hold something: start of the column (UTC), lower and upper price of the row, volumes (quote
 * asset), the column's end (UTC), which is when they are known, and whose lots they are: "all", or the leverage tiers
 * like "25x 50x". New columns come last, so that who reads by place finds the others where they were.
 * @param {HeatMap} map
 * @param {View} view
 */
export function csvOf(map, view) {
  const unit = map.quote.toLowerCase();
  const lines = [`timestamp_utc,price_low,price_high,long_${unit},short_${unit},state_at_utc,leverage_tiers`];
  const tiers = map.leverage_tiers?.map((tier) => `${tier}x`).join(" ") ?? "all";
  const decimals = binDecimals(map.bin);
  const first = Math.max(0, Math.floor((view.x[0] - map.start) / map.width));
  const last = Math.min(map.columns, Math.ceil((view.x[1] - map.start) / map.width));
  const bottom = Math.max(0, Math.floor((view.y[0] - map.low) / map.bin));
  const top = Math.min(map.rows, Math.ceil((view.y[1] - map.low) / map.bin));
  for (let t = first; t < last; t += 1) {
    const [time, end] = [t, t + 1].map((column) => `${iso(map.start + column * map.width).slice(0, 19)}Z`);
    for (let p = bottom; p < top; p += 1) {
      const [long, short] = [map.long[t * map.rows + p], map.short[t * map.rows + p]];
      if (long + short > 0) {
        const low = map.low + p * map.bin;
        const prices = `${low.toFixed(decimals)},${(low + map.bin).toFixed(decimals)}`;
        lines.push(`${time},${prices},${long},${short},${end},${tiers}`);
      }
    }
  }
  return `${lines.join("\n")}\n`;
}
