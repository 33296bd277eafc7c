// What Plotly draws of a map: candles, circles, the profile, axes and words; where they stand in an element of some
// size.

import { COLOURS, FONT } from "./colours.js";
import { candlesIn, newestBook } from "./map.js";
import { notWholeOf } from "./marks.js";
import { stacked } from "./parts.js";
import { binDecimals, binText, priceText, quote, volumeText } from "./words.js";

const PRICE_LABELS = 66; // pixels between the map and the profile

export const isNarrow = (element) => element.clientWidth < 700;

/** Where things stand in an element of that size; a narrow one has no room for the profile. */
export function places(element, choice) {
  const [width, height] = [element.clientWidth, element.clientHeight];
  const narrow = isNarrow(element);
  const withProfile = choice.profile && !narrow;
  const margin = { l: narrow ? 18 : 24, r: withProfile ? 14 : 0, t: withProfile ? 40 : 22, b: 38 };
  const inner = width - margin.l - margin.r;
  const profile = withProfile ? Math.max(120, Math.min(240, 0.17 * inner)) : 0;
  const mapWidth = inner - profile - PRICE_LABELS;
  return {
    width,
    height,
    margin,
    narrow,
    withProfile,
    profile,
    mapWidth,
    mapEnd: mapWidth / inner,
    sideStart: (mapWidth + PRICE_LABELS) / inner,
  };
}

export function candleTraces(map, view, pixels, visible, until) {
  const { bars, step } = candlesIn(map, view.x[0], view.x[1], Math.max(40, pixels / 4.5), until);
  const series = {
    type: "candlestick",
    x: bars.map((bar) => bar.time + step / 2),
    xaxis: "x",
    yaxis: "y",
    hoverinfo: "skip",
    visible,
    showlegend: false,
    whiskerwidth: 0,
  };
  for (const part of ["open", "high", "low", "close"]) series[part] = bars.map((bar) => bar[part]);
  const paint = (colour, width) => ({ line: { color: colour, width }, fillcolor: colour });
  const dark = paint(COLOURS.background, 3.4);
  return [
    { ...series, name: "halo", increasing: dark, decreasing: dark, opacity: 0.85 },
    { ...series, name: "candles", increasing: paint(COLOURS.up, 1), decreasing: paint(COLOURS.down, 1) },
  ];
}

/** Modelled liquidations as filled circles and reported ones as hollow ones, of one scale. */
export function circleTraces(map, choice, pixels, until) {
  const circles = (map.reported?.circles ?? []).filter((one) => one.to <= until);
  const bubbles = map.bubbles.filter((one) => map.start + (one.column + 1) * map.width <= until);
  const most = Math.max(map.bubbles[0]?.volume ?? 0, map.reported?.circles[0]?.volume ?? 0) || 1;
  const largest = 9 + 15 * Math.min(1, pixels / 1000);
  const trace = (name, all, visible, price, marker) => {
    const shown = all
      .filter((one) => choice.side === "both" || one.side === choice.side)
      .slice(0, Math.round(pixels / 5));
    return {
      type: "scatter",
      mode: "markers",
      name,
      visible,
      xaxis: "x",
      yaxis: "y",
      hoverinfo: "skip",
      showlegend: false,
      x: shown.map((one) => one.time),
      y: shown.map(price),
      marker: {
        size: shown.map((one) => Math.max(3, largest * Math.sqrt(one.volume / most))),
        color: shown.map((one) => COLOURS[one.side]),
        ...marker,
      },
    };
  };
  return [
    trace("consumed", bubbles, choice.bubbles, (one) => one.price, {
      opacity: 0.6,
      line: { color: "#ffffff", width: 0.8 },
    }),
    trace("reported", circles, choice.reported, (one) => one.place, { symbol: "circle-open", line: { width: 1.8 } }),
  ];
}

/** A line along the time axis where real liquidations were recorded: elsewhere they are missing, not 0. */
function recordedShapes(map, choice, until) {
  if (!map.reported || !choice.reported) return [];
  const known = map.reported.recorded.filter(([from]) => from < until);
  return known.map(([from, to]) => ({
    type: "line",
    name: "recorded",
    xref: "x",
    yref: "paper",
    x0: from,
    x1: Math.min(to, until),
    y0: 0,
    y1: 0,
    line: { color: COLOURS.text, width: 3 },
  }));
}

/** A line along the time axis below the days that are not whole; the pointer says what is not. */
function notWholeShapes(map) {
  return notWholeOf(map).map(({ from, to }) => ({
    type: "line",
    name: "not whole",
    xref: "x",
    yref: "paper",
    x0: from,
    x1: to,
    y0: 0.006,
    y1: 0.006,
    line: { color: COLOURS.warn, width: 3 },
  }));
}

export const sidesOf = (choice) => ["long", "short"].filter((side) => choice.side === "both" || choice.side === side);

/**
 * The outline of a bar to each row, with a gap after each, so that each is filled by itself: a bar of Plotly's to each
 * of some hundred rows costs a third of a frame.
 */
function barsOf({ low, bin }, bars) {
  const [x, y] = [[], []];
  for (const [row, from, volume] of bars) {
    const [bottom, top] = [low + row * bin, low + (row + 1) * bin];
    x.push(from, from + volume, from + volume, from, null);
    y.push(bottom, bottom, top, top, null);
  }
  return { x, y };
}

/** The bars of a side: of a base one stack by market, in their colours. */
function profileBars(map, side) {
  const trace = {
    type: "scatter",
    mode: "lines",
    name: `${side} profile`,
    xaxis: "x2",
    yaxis: "y",
    hoverinfo: "skip",
    showlegend: false,
    line: { width: 0 },
    fill: "toself",
  };
  if (map.parts) {
    return stacked(map, map.column, side).map(({ part, rows, from, volume }) => ({
      ...trace,
      name: `${side} profile ${part.symbol}`,
      ...barsOf(
        map,
        rows.map((row, i) => [row, from[i], volume[i]]),
      ),
      fillcolor: `${part.colour}d9`,
    }));
  }
  const book = newestBook(map);
  const bars = Array.from(book[side], (volume, row) => [row, 0, volume]).filter(([, , volume]) => volume > 0);
  return [{ ...trace, ...barsOf(map, bars), fillcolor: `${COLOURS[side]}d9` }];
}

export function profileTraces(map, choice) {
  const book = newestBook(map);
  const rows = Array.from(book.middle.keys());
  return sidesOf(choice).flatMap((side) => {
    const sum = book[`${side}Sum`];
    const below = rows.filter((p) => sum[p] > 0);
    return [
      {
        type: "scatter",
        mode: "lines",
        name: `${side} cumulative`,
        xaxis: "x3",
        yaxis: "y",
        hoverinfo: "skip",
        showlegend: false,
        x: below.map((p) => sum[p]),
        y: below.map((p) => book.middle[p]),
        line: { color: COLOURS[side], width: 1.6 },
        fill: "tozerox",
        fillcolor: `${COLOURS[side]}1c`,
      },
      ...profileBars(map, side),
    ];
  });
}

function roundTicks(most) {
  const half = Math.max(most, 1) / 2;
  const power = 10 ** Math.floor(Math.log10(half));
  const step = [5, 2.5, 2, 1].map((digit) => digit * power).find((value) => value <= half);
  const values = [0, step, 2 * step];
  return { tickmode: "array", tickvals: values, ticktext: values.map((value) => (value ? volumeText(value) : "0")) };
}

/** The axes of the profile, wide enough for what is in view: bars below, sums above. */
function profileAxes(map, view, choice) {
  const book = newestBook(map);
  const most = (columns) => {
    let found = 1;
    for (let p = 0; p < map.rows; p += 1) {
      if (book.middle[p] < view.y[0] || book.middle[p] > view.y[1]) continue;
      for (const column of columns) found = Math.max(found, column[p]);
    }
    return found;
  };
  const bars = most(sidesOf(choice).map((side) => book[side]));
  const sums = most(sidesOf(choice).map((side) => book[`${side}Sum`]));
  return {
    xaxis2: { range: [0, bars * 1.06], ...roundTicks(bars) },
    xaxis3: { range: [0, sums * 1.06], ...roundTicks(sums) },
  };
}

/** The price of the past is not taken for the one of now. */
const priceColour = (moment) => (moment.isPast ? COLOURS.warn : COLOURS.price);

function priceShape(moment) {
  const { price, isPast } = moment;
  const line = { color: priceColour(moment), width: 1, dash: isPast ? "dot" : "dash" };
  return { type: "line", name: "price", xref: "paper", x0: 0, x1: 1, y0: price, y1: price, line };
}

/** The moment that everything beside the map belongs to, where it is not the right edge. */
function momentShapes(moment, choice) {
  if (choice.pin === null) return [];
  const line = { color: COLOURS.warn, width: 1.5 };
  const time = moment.asOf;
  return [{ type: "line", name: "moment", xref: "x", yref: "paper", x0: time, x1: time, y0: 0, y1: 1, line }];
}

function annotations(map, choice, at) {
  const tag = (text, y, style) => ({
    text,
    xref: "paper",
    yref: "y",
    y,
    showarrow: false,
    font: { size: 11, color: COLOURS.muted },
    ...style,
  });
  const price = tag(`<b>${priceText(map.price)}</b>`, map.price, {
    x: at.mapEnd,
    xanchor: "left",
    bgcolor: priceColour(map),
    borderpad: 2,
    font: { size: 12, color: COLOURS.background },
    name: "price",
  });
  const units = {
    xref: "paper",
    yref: "paper",
    x: at.mapEnd,
    xanchor: "left",
    font: { size: 10.5, color: COLOURS.muted },
  };
  const both = [
    price,
    tag("UTC", 0, { ...units, yanchor: "top", yshift: -17, xshift: 36 }),
    tag(quote, 1, { ...units, yanchor: "bottom", xshift: 5, yshift: 5 }),
  ];
  if (!at.withProfile) return both;
  const above = { yref: "paper", yanchor: "bottom", xanchor: "left", x: at.sideStart, y: 1 };
  const beside = { x: 0.998, xanchor: "right", bgcolor: "#0b0e14e0" };
  const words = {
    short: tag("shorts, if price rises", map.price, {
      ...beside,
      yanchor: "bottom",
      font: { size: 11, color: COLOURS.short },
    }),
    long: tag("longs, if price falls", map.price, {
      ...beside,
      yanchor: "top",
      font: { size: 11, color: COLOURS.long },
    }),
  };
  return [
    ...both,
    tag(at.profile < 170 ? "line: running sum" : "line: sum from price outward", 1, { ...above, yshift: 18 }),
    tag(`bars: per ${binText(map.bin)} ${quote}`, 0, { ...above, y: 0, yanchor: "top", yshift: -19 }),
    ...sidesOf(choice).map((side) => words[side]),
  ];
}

export function layout({ map, view, choice, moment, until }, at) {
  const font = { color: COLOURS.muted, size: 11.5 };
  const frame = {
    showgrid: false,
    zeroline: false,
    linecolor: COLOURS.line,
    mirror: true,
    showline: true,
    ticks: "",
    tickfont: font,
    // Else Plotly measures every label, at each move, to hide what sticks out of the page; only times can.
    ticklabeloverflow: "allow",
  };
  const { xaxis2, xaxis3 } = profileAxes(moment, view, choice);
  return {
    width: at.width,
    height: at.height,
    margin: at.margin,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    dragmode: "pan",
    hovermode: false,
    showlegend: false,
    font: { family: FONT, color: COLOURS.text },
    xaxis: {
      ...frame,
      ticklabeloverflow: "hide past div",
      type: "date",
      domain: [0, at.mapEnd],
      anchor: "y",
      range: view.x.slice(),
      rangeslider: { visible: false },
      tickformatstops: [
        { dtickrange: [null, 43200000], value: "%H:%M\n%-d %b" },
        { dtickrange: [43200000, null], value: "%-d %b\n%Y" },
      ],
      nticks: at.narrow ? 4 : Math.max(5, Math.min(12, Math.round(at.mapWidth / 95))),
      tickangle: 0,
    },
    yaxis: {
      ...frame,
      anchor: "x",
      side: "right",
      range: view.y.slice(),
      tickformat: `,.${binDecimals(map.bin)}f`,
      nticks: 14,
      ticklabelstandoff: 5,
      ticklabeloverflow: "allow", // or each is measured at every drawing
    },
    ...(at.withProfile
      ? {
          xaxis2: { ...frame, tickangle: 0, domain: [at.sideStart, 1], anchor: "y", fixedrange: true, ...xaxis2 },
          xaxis3: {
            ...frame,
            tickangle: 0,
            overlaying: "x2",
            side: "top",
            anchor: "free",
            position: 1,
            fixedrange: true,
            ...xaxis3,
          },
        }
      : {}),
    shapes: [
      ...recordedShapes(map, choice, until),
      ...notWholeShapes(map),
      ...momentShapes(moment, choice),
      priceShape(moment),
      ...(at.withProfile
        ? [
            {
              type: "rect",
              xref: "paper",
              yref: "paper",
              x0: at.sideStart,
              x1: 1,
              y0: 0,
              y1: 1,
              line: { color: COLOURS.line, width: 1 },
            },
          ]
        : []),
    ],
    annotations: annotations(moment, choice, at),
  };
}
