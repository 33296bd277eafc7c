// The shapes that the parts of the script hand each other. Times are milliseconds since 1970 UTC, prices and volumes in
// the quote asset.

export type Side = "long" | "short";
export type Numbers = ArrayLike<number> & Iterable<number>;

export interface Candle {
  time: number;
  open: number;
  high: number;
  low: number;
  close: number;
  volume: number;
}

/** Cells that hold something, by column and row. */
export interface Cells {
  time: Numbers;
  price: Numbers;
  volume: Numbers;
}

/** What was liquidated in a column and on a side, as modelled; nulls in files of before they were told. */
export interface Bubble {
  side: Side;
  column: number;
  time: number;
  price: number;
  volume: number;
  lots: number | null;
  entryLow: number | null;
  entryHigh: number | null;
}

/** Of a cell: when its oldest part opened, and (leverage, volume), the largest first. */
export interface CellLots {
  openedAt: number;
  tiers: [number, number][];
}

/** What the lots of a moment tell, by number of the row: its lower edge / the height of a row. */
export interface Lots {
  time: number;
  long: Map<number, CellLots>;
  short: Map<number, CellLots>;
  zones: Zone[];
}

export interface LotsQuery {
  symbol: string;
  /** Of a base: those that are shown. */
  markets: string;
  model: string;
  tiers: string;
  bin: number;
  time: number;
}

/** The same as reported; a price of null is unknown. */
export interface Circle {
  side: Side;
  column: number;
  from: number;
  to: number;
  time: number;
  price: number | null;
  place: number;
  volume: number;
  quantity: number;
}

export interface Reported {
  source: string;
  exchange: string;
  own: boolean;
  complete: boolean | null;
  factor: number | null;
  seconds: number;
  recorded: [number, number][];
  circles: Circle[];
}

/** Open volume by row; the sums run outward from the price. */
export interface Book {
  long: Float64Array;
  short: Float64Array;
  longSum: Float64Array;
  shortSum: Float64Array;
  middle: Float64Array;
}

/** A stretch of price where the book of one side is thick (docs/api.md). */
export interface Zone {
  side: Side;
  low: number;
  high: number;
  peak: number;
  price: number;
  volume: number;
  distance_percent: number;
  share: number;
  /** Since when half of it has stood; null where nobody says, as in all but the newest column. */
  since: number | null;
  /** Of a base: the volume of each part in it; null where one is missing. */
  parts?: (number | null)[];
}

export interface View {
  x: number[];
  y: number[];
}

/** A payload as typed arrays: cell (t, p) is at t * rows + p. */
export interface HeatMap {
  /** As it came. */
  payload: { lots?: object | null; meta: { as_of: string } };
  symbol: string;
  model: string;
  /** Exchange and kind of contract; files of before it was written have none. */
  title?: string;
  quote: string;
  columns: number;
  rows: number;
  start: number;
  end: number;
  width: number;
  asOf: number;
  low: number;
  high: number;
  bin: number;
  bucket: number;
  price: number;
  locatedShare: number | null;
  /** Located share at the end of each column; null in files of before it was written. */
  shares: Numbers | null;
  long: Float32Array;
  short: Float32Array;
  candles: Candle[];
  candleWidth: number;
  bubbles: Bubble[];
  reported: Reported | null;
  /** By column. */
  zones: Zone[][];
  empty: boolean;
  /** Of a map at a moment: the column, and whether there is something newer. */
  column?: number;
  isPast?: boolean;
  book?: Book;
  base?: HeatMap;
  /** Those that are shown; null where it is all of them. */
  leverage_tiers?: number[] | null;
  simulated: boolean;
  provisional: boolean;
  ended: string | null;
  not_whole?: Record<string, string>;
  /** Of the map of a base: its markets, and how many were asked for. */
  parts?: Part[];
  markets?: number;
  /** Which market has the candles. */
  candles_of?: string;
  not_shown?: Record<string, string>;
  /** Of a base: which cells are listed, and how rows were put together since. */
  cells?: Record<Side, Cells>;
  merged?: { skipped: number; factor: number };
  bucket_misfit?: string | null;
}

/** The time there are data of, and the width of their candles, seconds. */
export interface Bounds {
  first: number;
  last: number;
  finest: number;
}

/** A stretch of time in columns of so many seconds; `to` of null is the newest there is. */
export interface Window {
  from: number;
  to: number | null;
  seconds: number;
}

/** A market of a base, as it is called and coloured on the page. */
export interface Market {
  symbol: string;
  title: string;
  quote: string;
  label: string;
  colour: string;
}

/** What one market has of the map of a base. */
export interface Part extends Market {
  newest: number;
  open_interest: number | null;
  located_share: number | null;
  /** Columns that it is missing in: the first, and the one after the last. */
  gone: [number, number][];
  /** Volumes of the cells that the map lists, in their order; null or NaN where it is missing. */
  long: Numbers;
  short: Numbers;
  /** Located share by column. */
  shares: Numbers;
  /** Volumes of the zones that the payload lists, by side. */
  zones: Record<Side, Numbers>;
}

export type RangeName = "12h" | "24h" | "3d" | "7d" | "14d" | "30d" | "90d" | "180d" | "1y";

/** Everything that can be chosen. */
export interface Choice {
  symbol: string;
  model: string;
  range: RangeName;
  side: "both" | Side;
  scale: "linear" | "log" | "relative";
  bin: number;
  /** Leverage tiers that are shown, as link and endpoint say them; "" is all. */
  tiers: string;
  /** Markets of a base that are shown; "" is all. */
  markets: string;
  /** Where colours begin and end, in the unit of the scale; null fits what is in view. */
  low: number | null;
  high: number | null;
  map: boolean;
  candles: boolean;
  bubbles: boolean;
  reported: boolean;
  profile: boolean;
  levels: boolean;
  /** A moment up to which the range is shown; null is the newest. */
  at: number | null;
  /** A moment that everything beside the map belongs to; null is the right edge of the view. */
  pin: number | null;
  /** Whether nothing after the pinned moment is shown. */
  replay: boolean;
  /** What is looked at where it is not the range; prices of null fit the candles. */
  view: { x: number[]; y: number[] | null } | null;
}

export interface Scale {
  log: boolean;
  /** Whether it says how many times as much as usual, not volumes. */
  times: boolean;
  low: number;
  high: number;
  /** The largest value in view, and the one that 1 cell in 200 exceeds. */
  most: number;
  top: number;
  place: (volume: number) => number;
}

/** What there is of a symbol. */
export interface Entry {
  symbol: string;
  models: string[];
  roles?: Record<string, string>;
  first_day?: string;
  as_of?: string;
  candle_interval_seconds?: number;
  exchange?: string | null;
  title?: string;
  quote?: string;
  /** Of a base. */
  markets?: Market[];
}
