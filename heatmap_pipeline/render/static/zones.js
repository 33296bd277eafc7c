// Zones: stretches of price where the book of one side is thick (docs/api.md, "Zones"). They come with the numbers,
// found on the model's own buckets of each column, so they are the same at every zoom, range and height of a row.

/** @import { HeatMap, Numbers, Part, Side, Zone } from "./types.d.ts" */

const ZONES_LISTED = 5;
const ZONES_WITHIN = 10; // percent of the price, as the endpoint's map lists them

/**
 * The zones of a payload by column.
 * @param {any} part
 * @param {number} columns
 * @param {(array: any) => Numbers} unpack
 * @param {Part[]} [parts] of a base
 * @returns {Zone[][]}
 */
export function zonesOf(part, columns, unpack, parts) {
  /** @type {Zone[][]} */
  const byColumn = Array.from({ length: columns }, () => []);
  // Files of before there were zones have none.
  for (const [side, arrays] of Object.entries(part ?? {})) {
    const { time, since, ...numbers } = Object.fromEntries(
      Object.entries(arrays).map(([name, array]) => [name, unpack(array)]),
    );
    for (let i = 0; i < time.length; i += 1) {
      const values = Object.fromEntries(Object.entries(numbers).map(([name, column]) => [name, column[i]]));
      const stood = since[i];
      const of = parts && { parts: parts.map(({ zones }) => zones[/** @type {Side} */ (side)][i]) };
      const zone = { side, ...values, since: Number.isFinite(stood) ? stood : null, ...of };
      byColumn[time[i]].push(/** @type {Zone} */ (zone));
    }
  }
  return byColumn;
}

/**
 * What stands in a column, the newest unless another is named: the largest zones first, and the nearest of each side.
 * @param {Pick<HeatMap, "columns" | "zones">} map
 * @param {number} [column]
 */
export function zonesAt(map, column = map.columns - 1) {
  /** @param {Zone} zone */
  const away = (zone) => Math.abs(zone.distance_percent);
  /** @param {Side} side */
  const of = (side) => (map.zones[column] ?? []).filter((zone) => zone.side === side);
  /** @param {Zone[]} zones */
  const nearest = (zones) =>
    zones.reduce((best, zone) => (best && away(best) <= away(zone) ? best : zone), zones[0] ?? null);
  /** @param {Zone[]} zones */
  const largest = (zones) =>
    zones
      .filter((zone) => away(zone) <= ZONES_WITHIN)
      .sort((a, b) => b.volume - a.volume || away(a) - away(b))
      .slice(0, ZONES_LISTED);
  const [shorts, longs] = [of("short"), of("long")];
  return {
    above: largest(shorts),
    below: largest(longs),
    nearest: { above: nearest(shorts), below: nearest(longs) },
  };
}
