// A small map to ask: columns of 15 minutes from 2024-07-04, rows of 10 from 100, unless something else is asked for.

import { decode } from "../../../heatmap_pipeline/render/static/map.js";

export const START = Date.parse("2024-07-04T00:00:00Z");
export const WIDTH = 900_000;

const sparse = (columns) => {
  const cells = { time: [], price: [], volume: [] };
  columns.forEach((column, t) => {
    column.forEach((volume, p) => {
      if (!volume) return;
      cells.time.push(t);
      cells.price.push(p);
      cells.volume.push(volume);
    });
  });
  return cells;
};

const NOBODY = { time: [], price: [], volume: [], lots: [], entry_low: [], entry_high: [] };

/**
 * `long` and `short` are volumes by column, then row; `consumed` the same of what was liquidated on each side, as files
 * of before circles were told have it; `modelled` circles by side.
 */
export function smallMap({
  long,
  short = [],
  consumedLong = [],
  consumedShort = [],
  modelled,
  price = 125,
  meta = {},
  ...more
}) {
  const rows = Math.max(...[...long, ...short].map((column) => column.length));
  const times = long.map((_, t) => START + t * WIDTH);
  return decode({
    timestamps: times,
    prices: Array.from({ length: rows }, (_, p) => 100 + p * 10),
    long: sparse(long),
    short: sparse(short),
    consumed_long: sparse(consumedLong),
    consumed_short: sparse(consumedShort),
    ...(modelled ? { modelled: { long: NOBODY, short: NOBODY, ...modelled } } : {}),
    candles: {
      interval_seconds: 900,
      open_time: times,
      open: times.map(() => price),
      high: times.map(() => price + 5),
      low: times.map(() => price - 5),
      close: times.map(() => price),
      volume: times.map(() => 1),
    },
    reported: null,
    ...more,
    meta: {
      symbol: "BTCUSDT",
      model: "turnover",
      interval_seconds: 900,
      price_bin_size: 10,
      bucket: 10,
      price,
      as_of: new Date(START + long.length * WIDTH).toISOString(),
      located_share: 0.5,
      units: { price: "USDT" },
      simulated: false,
      ...meta,
    },
  });
}
