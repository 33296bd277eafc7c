// Zones: stretches of price where the book of one side is thick (docs/api.md, "Zones"). They come with the numbers, found
// on the model's own buckets of each column, so they are the same at every zoom, range and height of a row.

const ZONES_LISTED = 5;
const ZONES_WITHIN = 10; // percent of the price, as the endpoint's map lists them

/** The zones of a payload by column: arrays of { side, low, high, peak, price, volume, distance_percent, share, since }. */
function zonesOf(part, columns) {
  const byColumn = Array.from({ length: columns }, () => []);
  // Files of before there were zones have none.
  for (const [side, arrays] of Object.entries(part ?? {})) {
    const names = Object.keys(arrays);
    const unpacked = names.map((name) => unpack(arrays[name]));
    const count = unpacked[0].length;
    for (let i = 0; i < count; i += 1) {
      const zone = { side };
      names.forEach((name, n) => { zone[name] = unpacked[n][i]; });
      if (!Number.isFinite(zone.since)) zone.since = null;
      byColumn[zone.time].push(zone);
    }
  }
  return byColumn;
}

/** What stands in a column, the newest unless another is named: the largest zones first, and the nearest of each side. */
function zonesAt(map, column = map.columns - 1) {
  const away = (zone) => Math.abs(zone.distance_percent);
  const result = { nearest: {} };
  for (const [where, side] of [["above", "short"], ["below", "long"]]) {
    const zones = (map.zones[column] ?? []).filter((zone) => zone.side === side);
    result.nearest[where] = zones.reduce((best, zone) => (best === null || away(zone) < away(best) ? zone : best), null);
    result[where] = zones.filter((zone) => away(zone) <= ZONES_WITHIN)
      .sort((a, b) => b.volume - a.volume || away(a) - away(b)).slice(0, ZONES_LISTED);
  }
  return result;
}
