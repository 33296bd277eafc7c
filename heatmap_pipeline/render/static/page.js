"use strict";

/*
 * The heatmap page. Four parts, each of which knows only the ones before it:
 *   1. where numbers come from: a source has `symbols` and `load(symbol, model)`, which gives the columnar payload;
 *   2. decoding a payload into a map of typed arrays, and questions to a map;
 *   3. drawing a map with Plotly, and what the pointer says;
 *   4. the page: choices, the address bar, messages.
 * Prices and volumes are USDT, times milliseconds since 1970 UTC.
 */
(() => {
  // ------------------------------------------------------------------------------------------------ 1. source of numbers

  /** Numbers from files beside the page: a script per symbol and model that calls heatmapData(payload). */
  function fileSource(manifest) {
    const loaded = new Map();
    window.heatmapData = (payload) => loaded.set(`${payload.symbol}/${payload.model}`, payload);
    return {
      symbols: manifest.symbols,
      load(symbol, model) {
        const key = `${symbol}/${model}`;
        if (loaded.has(key)) return Promise.resolve(loaded.get(key));
        const entry = manifest.symbols.find((one) => one.symbol === symbol).models.find((one) => one.name === model);
        const file = entry.data.split("?")[0];
        return new Promise((resolve, reject) => {
          const script = document.createElement("script");
          script.src = entry.data;
          script.onload = () => {
            script.remove();
            if (loaded.has(key)) resolve(loaded.get(key));
            else reject(new Error(`${file} holds no data of ${symbol} and model ${model}. Run: heatmap refresh ${symbol}`));
          };
          script.onerror = () => {
            script.remove();
            reject(new Error(`${file} is missing beside this page. Copy the whole folder, or run: heatmap refresh ${symbol}`));
          };
          document.head.append(script);
        });
      },
    };
  }

  // ------------------------------------------------------------------------------------------------------------ 2. the map

  const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

  function unpack({ type, data }) {
    const text = atob(data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return new ARRAYS[type](bytes.buffer);
  }

  /** Rows of equal length, filled from columns that name only the rows that hold something. */
  function dense(sparse, rows, columns) {
    const starts = unpack(sparse.starts);
    const row = unpack(sparse.rows);
    const value = unpack(sparse.values);
    const grid = Array.from({ length: rows }, () => new Float32Array(columns));
    for (let t = 0; t < columns; t += 1) {
      for (let i = starts[t]; i < starts[t + 1]; i += 1) grid[row[i]][t] = value[i];
    }
    return grid;
  }

  function decode(payload) {
    const { rows, columns, start } = payload;
    const map = {
      ...payload,
      width: payload.interval_seconds * 1000,
      end: start + columns * payload.interval_seconds * 1000,
      low: payload.first_bucket * payload.bucket,
      high: (payload.first_bucket + rows) * payload.bucket,
      long: dense(payload.long, rows, columns),
      short: dense(payload.short, rows, columns),
    };
    const { consumed, candles } = payload;
    const column = unpack(consumed.column);
    const isShort = unpack(consumed.short);
    const price = unpack(consumed.price);
    const volume = unpack(consumed.volume);
    map.consumed = Array.from(column, (t, i) => ({
      column: t, time: start + (t + 0.5) * map.width, short: isShort[i] === 1, price: price[i], volume: volume[i],
    }));
    const step = unpack(candles.step);
    const bars = ["open", "high", "low", "close", "volume"].map((name) => unpack(candles[name]));
    map.candles = Array.from(step, (t, i) => ({
      time: start + t * payload.candle_seconds * 1000,
      open: bars[0][i], high: bars[1][i], low: bars[2][i], close: bars[3][i], volume: bars[4][i],
    }));
    map.top = colourTop(map);
    return map;
  }

  /** The volume at which the colour scale ends: exceeded by 1 cell in 200, so that one cell does not dim the rest. */
  function colourTop(map) {
    const filled = [];
    for (let p = 0; p < map.rows; p += 1) {
      const long = map.long[p];
      const short = map.short[p];
      for (let t = 0; t < map.columns; t += 1) {
        const total = long[t] + short[t];
        if (total > 0) filled.push(total);
      }
    }
    if (!filled.length) return 1;
    const sorted = Float32Array.from(filled).sort();
    return sorted[Math.min(sorted.length - 1, Math.floor(0.995 * sorted.length))];
  }

  /** The newest book: one entry per row, sums running outward from the price. */
  function newestBook(map) {
    const last = map.columns - 1;
    const long = map.long.map((row) => row[last]);
    const short = map.short.map((row) => row[last]);
    const longSum = new Array(map.rows);
    const shortSum = new Array(map.rows);
    for (let p = 0, sum = 0; p < map.rows; p += 1) shortSum[p] = sum += short[p];
    for (let p = map.rows - 1, sum = 0; p >= 0; p -= 1) longSum[p] = sum += long[p];
    const middle = long.map((_, p) => map.low + (p + 0.5) * map.bucket);
    return { long, short, longSum, shortSum, middle };
  }

  const MINUTES = [5, 15, 30, 60, 120, 240, 360, 720, 1440, 2880, 10080];

  /** Candles between two instants, merged until there are at most `most` of them. */
  function candlesIn(map, from, to, most) {
    const own = map.candle_seconds * 1000;
    const fits = (step) => step >= own && step % own === 0 && (to - from) / step <= most;
    const step = [own, ...MINUTES.map((minutes) => minutes * 60000)].find(fits) ?? own;
    const merged = [];
    for (const bar of map.candles) {
      if (bar.time < from - step || bar.time > to + step) continue;
      const time = Math.floor(bar.time / step) * step;
      const last = merged[merged.length - 1];
      if (last && last.time === time) {
        last.high = Math.max(last.high, bar.high);
        last.low = Math.min(last.low, bar.low);
        last.close = bar.close;
      } else merged.push({ ...bar, time });
    }
    return { bars: merged, step };
  }

  // -------------------------------------------------------------------------------------------------------- words and figures

  function usdt(value) {
    const [size, unit] = [[1e9, "B"], [1e6, "M"], [1e3, "k"]].find(([limit]) => Math.abs(value) >= limit * 0.9995) ?? [1, ""];
    const short = value / size;
    return `$${Math.abs(short) >= 99.95 ? short.toFixed(0) : String(Number(short.toPrecision(3)))}${unit}`;
  }

  function amount(value) {
    const [size, unit] = [[1e9, " B"], [1e6, " M"], [1e3, " k"]].find(([limit]) => value >= limit) ?? [1, ""];
    return `${(value / size).toFixed(value === 0 ? 0 : 2)}${unit} USDT`;
  }

  function priceText(price, decimals = Math.max(0, 4 - Math.floor(Math.log10(Math.max(price, 1e-9))))) {
    return price.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  }

  const bucketDecimals = (map) => Math.max(0, Math.ceil(-Math.log10(map.bucket) - 1e-9));

  const iso = (time) => new Date(time).toISOString();
  const dayText = (time) => iso(time).slice(0, 10);
  const clockText = (time) => iso(time).slice(11, 16);

  // ------------------------------------------------------------------------------------------------------------- 3. drawing

  const COLOURS = {
    background: "#0b0e14", text: "#d7dde8", muted: "#8a93a5", line: "#232a38", long: "#4ea8ff", short: "#ff9a3c",
    up: "#f4f7fb", down: "#ff6b57", price: "#ffffff",
  };
  const VIRIDIS = [
    "#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e",
    "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725",
  ];
  // Viridis after a short run-in from the background: empty is dark, little is nearly so.
  const RUN_IN = 0.14;
  const SCALE = [[0, COLOURS.background], ...VIRIDIS.map((colour, i) => [RUN_IN + ((1 - RUN_IN) * i) / 15, colour])];
  const PRICE_LABELS = 64; // pixels between the map and the profile
  const LOG_DECADES = 2;
  const FONT = 'system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif';

  /** Where things stand in an element of that size; a narrow one has no room for the profile. */
  function places(element) {
    const [width, height] = [element.clientWidth, element.clientHeight];
    const narrow = width < 760;
    const margin = { l: narrow ? 74 : 86, r: narrow ? 0 : 16, t: narrow ? 26 : 44, b: 38 };
    const inner = width - margin.l - margin.r;
    const profile = narrow ? 0 : Math.min(260, 0.15 * inner);
    const mapWidth = inner - profile - PRICE_LABELS;
    return { width, height, margin, narrow, mapWidth, mapEnd: mapWidth / inner, sideStart: (mapWidth + PRICE_LABELS) / inner };
  }

  function colourAxis(map, scale) {
    const { top } = map;
    if (scale === "log") {
      const floor = top / 10 ** LOG_DECADES;
      return { min: Math.log10(floor), max: Math.log10(top), of: (value) => Math.log10(Math.max(value, floor)), floor };
    }
    return { min: 0, max: top, of: (value) => value, floor: 0 };
  }

  /** Round volumes between the ends of the scale: even steps where it is linear, 1, 2 and 5 where it is not. */
  function colourTicks(axis, top) {
    const power = Math.floor(Math.log10(top));
    const place = (value) => (axis.of(value) - axis.min) / (axis.max - axis.min);
    let values = [];
    if (axis.floor) {
      for (let exponent = power - LOG_DECADES; exponent <= power; exponent += 1) values.push(...[1, 2, 5].map((digit) => digit * 10 ** exponent));
    } else {
      const step = [1, 2, 2.5, 5, 10].map((digit) => digit * 10 ** (power - 1)).find((size) => top / size <= 9);
      for (let value = step; value < top; value += step) values.push(value);
    }
    values = values.filter((value) => place(value) >= 0.04 && place(value) <= 0.96);
    const all = [axis.floor, ...values, top];
    const labels = all.map(usdt);
    if (axis.floor) labels[0] = `≤ ${labels[0]}`;
    labels[labels.length - 1] = `≥ ${usdt(top)}`;
    return { values: all.map(axis.of), labels };
  }

  function heatmapTrace(map, choice) {
    const axis = colourAxis(map, choice.scale);
    const z = Array.from({ length: map.rows }, (_, p) => {
      const row = new Float32Array(map.columns);
      const long = map.long[p];
      const short = map.short[p];
      const withLong = choice.side !== "short";
      const withShort = choice.side !== "long";
      for (let t = 0; t < map.columns; t += 1) row[t] = axis.of((withLong ? long[t] : 0) + (withShort ? short[t] : 0));
      return row;
    });
    const ticks = colourTicks(axis, map.top);
    return {
      type: "heatmap", name: "density", z, zmin: axis.min, zmax: axis.max, zsmooth: false, colorscale: SCALE,
      x0: map.start + map.width / 2, dx: map.width, y0: map.low + map.bucket / 2, dy: map.bucket,
      xaxis: "x", yaxis: "y", hoverinfo: "skip",
      colorbar: {
        xref: "container", x: 0, xanchor: "left", y: 0.5, len: 1, lenmode: "fraction", ypad: 0, xpad: 12,
        thickness: 10, outlinewidth: 0, tickmode: "array", tickvals: ticks.values, ticktext: ticks.labels, ticks: "",
        tickfont: { color: COLOURS.muted, size: 11 },
      },
    };
  }

  function candleTraces(map, view, pixels, visible) {
    const { bars, step } = candlesIn(map, view.x[0], view.x[1], Math.max(40, pixels / 4.5));
    const series = {
      type: "candlestick", x: bars.map((bar) => bar.time + step / 2), xaxis: "x", yaxis: "y", hoverinfo: "skip", visible,
      showlegend: false, whiskerwidth: 0,
    };
    for (const part of ["open", "high", "low", "close"]) series[part] = bars.map((bar) => bar[part]);
    const paint = (colour, width) => ({ line: { color: colour, width }, fillcolor: colour });
    const dark = paint(COLOURS.background, 3.4);
    return [
      { ...series, name: "halo", increasing: dark, decreasing: dark, opacity: 0.85 },
      { ...series, name: "candles", increasing: paint(COLOURS.up, 1), decreasing: paint(COLOURS.down, 1) },
    ];
  }

  function bubbleTrace(map, visible, pixels) {
    const biggest = [...map.consumed].sort((a, b) => b.volume - a.volume).slice(0, Math.round(pixels / 4));
    const largest = 12 + 14 * Math.min(1, pixels / 1000);
    const most = biggest.length ? biggest[0].volume : 1;
    return {
      type: "scatter", mode: "markers", name: "consumed", visible, xaxis: "x", yaxis: "y", hoverinfo: "skip", showlegend: false,
      x: biggest.map((one) => one.time), y: biggest.map((one) => one.price),
      marker: {
        size: biggest.map((one) => Math.max(3, largest * Math.sqrt(one.volume / most))),
        color: biggest.map((one) => (one.short ? COLOURS.short : COLOURS.long)),
        opacity: 0.55, line: { color: "#ffffff", width: 0.8 },
      },
    };
  }

  function profileTraces(map) {
    const book = newestBook(map);
    const traces = [];
    for (const [side, sum] of [["long", "longSum"], ["short", "shortSum"]]) {
      const shown = book[sum].map((value, p) => p).filter((p) => book[sum][p] > 0);
      traces.push({
        type: "scatter", mode: "lines", name: `${side} cumulative`, xaxis: "x3", yaxis: "y", hoverinfo: "skip", showlegend: false,
        x: shown.map((p) => book[sum][p]), y: shown.map((p) => book.middle[p]),
        line: { color: COLOURS[side], width: 1.6 }, fill: "tozerox", fillcolor: `${COLOURS[side]}1c`,
      }, {
        type: "bar", orientation: "h", name: `${side} profile`, xaxis: "x2", yaxis: "y", hoverinfo: "skip", showlegend: false,
        x: book[side], y: book.middle, width: map.bucket, marker: { color: COLOURS[side], opacity: 0.85, line: { width: 0 } },
      });
    }
    return traces;
  }

  function roundTicks(most) {
    const half = Math.max(most, 1) / 2;
    const power = 10 ** Math.floor(Math.log10(half));
    const step = [5, 2.5, 2, 1].map((digit) => digit * power).find((value) => value <= half);
    const values = [0, step, 2 * step];
    return { tickmode: "array", tickvals: values, ticktext: values.map((value) => (value ? usdt(value) : "0")) };
  }

  /** The axes of the profile, wide enough for what is in view: bars below, sums above. */
  function profileAxes(map, view) {
    const book = newestBook(map);
    const most = (columns) => {
      let found = 1;
      for (let p = 0; p < map.rows; p += 1) {
        if (book.middle[p] < view.y[0] || book.middle[p] > view.y[1]) continue;
        for (const column of columns) found = Math.max(found, column[p]);
      }
      return found;
    };
    const bars = most([book.long, book.short]);
    const sums = most([book.longSum, book.shortSum]);
    return { xaxis2: { range: [0, bars * 1.06], ...roundTicks(bars) }, xaxis3: { range: [0, sums * 1.06], ...roundTicks(sums) } };
  }

  function layout(map, view, at) {
    const { xaxis2, xaxis3 } = profileAxes(map, view);
    const font = { color: COLOURS.muted, size: 11.5 };
    const frame = { showgrid: false, zeroline: false, linecolor: COLOURS.line, mirror: true, showline: true, ticks: "", tickfont: font };
    const decimals = bucketDecimals(map);
    const tag = (text, y, style) => ({
      text, xref: "paper", yref: "y", y, showarrow: false, font: { size: 11, color: COLOURS.muted }, ...style,
    });
    const above = { yref: "paper", yanchor: "bottom", xanchor: "left", x: 0, y: 1 };
    const beside = { x: 0.998, xanchor: "right", bgcolor: "#0b0e14b0" };
    const height = `${priceText(map.bucket, bucketDecimals(map))} USDT of price`;
    return {
      width: at.width, height: at.height, margin: at.margin, paper_bgcolor: COLOURS.background, plot_bgcolor: COLOURS.background, dragmode: "pan", hovermode: false,
      showlegend: false, bargap: 0, barmode: "overlay", font: { family: FONT, color: COLOURS.text },
      xaxis: {
        ...frame, type: "date", domain: [0, at.mapEnd], anchor: "y", range: view.x.slice(), rangeslider: { visible: false },
        tickformatstops: [
          { dtickrange: [null, 43200000], value: "%H:%M\n%-d %b" },
          { dtickrange: [43200000, null], value: "%-d %b\n%Y" },
        ],
        nticks: at.narrow ? 4 : 12, tickangle: 0,
      },
      yaxis: { ...frame, anchor: "x", side: "right", range: view.y.slice(), tickformat: `,.${decimals}f`, nticks: 14, ticklabelstandoff: 5 },
      ...(at.narrow ? {} : {
        xaxis2: { ...frame, domain: [at.sideStart, 1], anchor: "y", fixedrange: true, ...xaxis2 },
        xaxis3: { ...frame, overlaying: "x2", side: "top", anchor: "free", position: 1, fixedrange: true, ...xaxis3 },
      }),
      shapes: [
        { type: "line", xref: "paper", x0: 0, x1: 1, y0: map.price, y1: map.price, line: { color: COLOURS.price, width: 1, dash: "dash" } },
        ...(at.narrow ? [] : [{
          type: "rect", xref: "paper", yref: "paper", x0: at.sideStart, x1: 1, y0: 0, y1: 1, line: { color: COLOURS.line, width: 1 },
        }]),
      ],
      annotations: [
        tag(`<b>Colour:</b> volume to be liquidated, USDT per ${height}`, 1, { ...above, yshift: 3 }),
        tag(`<b>${priceText(map.price)}</b>`, map.price, {
          x: at.mapEnd, xanchor: "left", bgcolor: COLOURS.price, borderpad: 2, font: { size: 12, color: COLOURS.background }, name: "price",
        }),
        ...(at.narrow ? [] : [
          tag("line: sum from price outward", 1, { ...above, x: at.sideStart, yshift: 20 }),
          tag(`bars: per ${height}`, 0, { ...above, x: at.sideStart, y: 0, yanchor: "top", yshift: -19 }),
          tag("shorts, if price rises", map.price, { ...beside, yanchor: "bottom", font: { size: 11, color: COLOURS.short } }),
          tag("longs, if price falls", map.price, { ...beside, yanchor: "top", font: { size: 11, color: COLOURS.long } }),
        ]),
      ],
    };
  }

  const CONFIG = { displayModeBar: false, scrollZoom: true, doubleClick: false, responsive: false, displaylogo: false };

  /** Draws one map into an element and keeps it right while the user moves and zooms. */
  function chartIn(element, onMoved) {
    let drawn = null; // { map, choice, traces }: candles are traces 1 and 2

    async function draw(map, choice, view) {
      const at = places(element);
      const candles = candleTraces(map, view, at.mapWidth, choice.candles);
      const profile = at.narrow ? [] : profileTraces(map);
      const traces = [heatmapTrace(map, choice), ...candles, bubbleTrace(map, choice.bubbles, at.mapWidth), ...profile];
      const first = drawn === null;
      drawn = { map, choice, traces };
      await Plotly.react(element, traces, layout(map, view, at), CONFIG);
      if (first) {
        element.on("plotly_relayout", moved);
        element.on("plotly_doubleclick", () => onMoved(null));
      }
    }

    /** After the user moved or zoomed: candles of a width that can be read there, and the profile of what is in view. */
    function moved(change) {
      if (!drawn || !Object.keys(change).some((key) => /^[xy]axis\.range/.test(key))) return;
      const { xaxis, yaxis } = element._fullLayout;
      const view = { x: xaxis.range.map((value) => xaxis.r2l(value)), y: yaxis.range.slice() };
      const { map, choice, traces } = drawn;
      const at = places(element);
      drawn.traces = [traces[0], ...candleTraces(map, view, at.mapWidth, choice.candles), ...traces.slice(3)];
      // Not restyle: it forgets that the axis is one of dates, and then takes it for one of numbers.
      Plotly.react(element, drawn.traces, layout(map, view, at), CONFIG);
      onMoved(view);
    }

    /** What lies under a point of the element, or null outside of the map and the profile. */
    function under(x, y) {
      if (!drawn || !element._fullLayout) return null;
      const { xaxis, xaxis2, yaxis } = element._fullLayout;
      const inside = (axis, at) => at >= axis._offset && at <= axis._offset + axis._length;
      if (!inside(yaxis, y) || !(inside(xaxis, x) || (xaxis2 && inside(xaxis2, x)))) return null;
      const { map } = drawn;
      const price = yaxis.p2l(y - yaxis._offset);
      const row = Math.floor((price - map.low) / map.bucket);
      const onMap = inside(xaxis, x);
      const mapRight = xaxis._offset + xaxis._length;
      const column = onMap ? Math.floor((xaxis.p2l(x - xaxis._offset) - map.start) / map.width) : map.columns - 1;
      return {
        map, price, onMap, row: row >= 0 && row < map.rows ? row : null,
        column: column >= 0 && column < map.columns ? column : null,
        box: {
          left: xaxis._offset, right: xaxis2 ? xaxis2._offset + xaxis2._length : mapRight, mapRight, top: yaxis._offset, height: yaxis._length,
        },
      };
    }

    return { draw, under };
  }

  /** Rows of the tooltip: [class of the row, left, right]. */
  function tipRows({ map, row, column, onMap }) {
    const low = map.low + row * map.bucket;
    const decimals = bucketDecimals(map);
    const away = ((low + map.bucket / 2) / map.price - 1) * 100;
    const long = map.long[row][column];
    const short = map.short[row][column];
    const rows = [
      ["", "Price", `${priceText(low, decimals)} – ${priceText(low + map.bucket, decimals)}`],
      ["", "From last price", `${away >= 0 ? "+" : "−"}${Math.abs(away).toFixed(2)} %`],
      ["rule long-text", "Long", amount(long)],
      ["short-text", "Short", amount(short)],
      ["", "Total", amount(long + short)],
    ];
    if (!onMap) {
      const book = newestBook(map);
      rows.push(["rule", "Longs down to here", amount(book.longSum[row])], ["", "Shorts up to here", amount(book.shortSum[row])]);
      return rows;
    }
    const dead = map.consumed.filter((one) => one.column === column);
    if (dead.length) {
      const sum = (short) => dead.filter((one) => one.short === short).reduce((total, one) => total + one.volume, 0);
      rows.push(["rule long-text", "Longs liquidated then", amount(sum(false))], ["short-text", "Shorts liquidated then", amount(sum(true))]);
    }
    return rows;
  }

  function pointer(element, chart) {
    const at = (id) => document.getElementById(id);
    const [tip, crossX, crossY, tag] = [at("tip"), at("cross-x"), at("cross-y"), at("cross-price")];
    const all = [tip, crossX, crossY, tag];
    const hide = () => all.forEach((one) => { one.hidden = true; });

    function fill(found) {
      const { map, column, onMap } = found;
      const start = map.start + column * map.width;
      const end = start + map.width;
      const when = document.createElement("div");
      when.className = "when";
      when.textContent = onMap
        ? `${dayText(start)} ${clockText(start)} – ${dayText(end) === dayText(start) ? "" : `${dayText(end)} `}${clockText(end)} UTC`
        : `Newest book, ${dayText(map.as_of)} ${clockText(map.as_of)} UTC`;
      const table = document.createElement("table");
      for (const [style, left, right] of tipRows(found)) {
        const line = table.insertRow();
        line.className = style;
        line.insertCell().textContent = left;
        line.insertCell().textContent = right;
      }
      tip.replaceChildren(when, table);
    }

    function show(event) {
      const frame = element.getBoundingClientRect();
      const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
      const found = event.buttons ? null : chart.under(x, y);
      if (!found) return hide();
      const { box } = found;
      crossY.hidden = tag.hidden = false;
      Object.assign(crossY.style, { left: `${box.left}px`, width: `${box.right - box.left}px`, top: `${y}px` });
      Object.assign(tag.style, { left: `${box.mapRight + 3}px`, top: `${y}px` });
      tag.textContent = priceText(found.price, bucketDecimals(found.map));
      crossX.hidden = !found.onMap;
      Object.assign(crossX.style, { left: `${x}px`, top: `${box.top}px`, height: `${box.height}px` });
      tip.hidden = found.row === null || found.column === null;
      if (!tip.hidden) {
        fill(found);
        const right = x + 18 + tip.offsetWidth > frame.width;
        const below = y + 18 + tip.offsetHeight > frame.height;
        tip.style.left = `${Math.max(4, right ? x - 18 - tip.offsetWidth : x + 18)}px`;
        tip.style.top = `${Math.max(4, below ? y - 18 - tip.offsetHeight : y + 18)}px`;
      }
      return undefined;
    }

    element.addEventListener("mousemove", show);
    element.addEventListener("mouseleave", hide);
    element.addEventListener("mousedown", hide);
    element.addEventListener("wheel", hide, { passive: true });
    return { hide };
  }

  // ------------------------------------------------------------------------------------------------------------- 4. the page

  const DAY = 86400000;
  const RANGES = { "1d": DAY, "3d": 3 * DAY, "7d": 7 * DAY, all: Infinity };
  const OPTIONS = {
    range: { "1d": "1d", "3d": "3d", "7d": "7d", all: "All" },
    side: { both: "Longs + shorts", long: "Longs", short: "Shorts" },
    scale: { linear: "Linear", log: "Log" },
  };
  const LAYERS = { candles: "Candles", bubbles: "Liquidations" };
  const ABOUT_MODEL = {
    turnover: "Volume tells how much opens and closes; every contract has a long and a short. The map to start with.",
    delta: "The classic rule: only a rise of open interest opens levels, all on the side of the candle; a fall closes them.",
  };
  const ABOUT_COVERAGE = "Share of the open interest whose liquidation prices the model knows. The rest was open before the "
    + "data begin or uses no leverage; it is not drawn.";

  const byId = (id) => document.getElementById(id);

  /** The part of the map that a range button shows: its time, and prices around its candles. */
  function viewOf(map, range) {
    const pad = 0.012 * Math.min(RANGES[range], map.end - map.start);
    const from = Math.max(map.start, map.end - RANGES[range]);
    if (range === "all") return { x: [map.start, map.end + pad], y: [map.low, map.high] };
    let [low, high] = [Infinity, -Infinity];
    for (const bar of map.candles) {
      if (bar.time < from) continue;
      low = Math.min(low, bar.low);
      high = Math.max(high, bar.high);
    }
    if (!(low <= high)) return { x: [from, map.end + pad], y: [map.low, map.high] };
    const margin = Math.max(0.8 * (high - low), 0.04 * map.price);
    return { x: [from, map.end + pad], y: [Math.max(map.low, low - margin), Math.min(map.high, high + margin)] };
  }

  function readHash(symbols) {
    const given = new URLSearchParams(location.hash.slice(1));
    const pick = (name, allowed, fallback) => (allowed.includes(given.get(name)) ? given.get(name) : fallback);
    const symbol = pick("symbol", symbols.map((one) => one.symbol), symbols[0].symbol);
    const models = symbols.find((one) => one.symbol === symbol).models.map((one) => one.name);
    return {
      symbol,
      model: pick("model", models, models[0]),
      side: pick("side", Object.keys(OPTIONS.side), "both"),
      scale: pick("scale", Object.keys(OPTIONS.scale), "linear"),
      range: pick("range", Object.keys(OPTIONS.range), "all"),
      candles: given.get("candles") !== "0",
      bubbles: given.get("bubbles") !== "0",
    };
  }

  function writeHash(choice) {
    const text = new URLSearchParams({ symbol: choice.symbol, model: choice.model, side: choice.side, scale: choice.scale });
    if (choice.range) text.set("range", choice.range);
    for (const layer of Object.keys(LAYERS)) if (!choice[layer]) text.set(layer, "0");
    history.replaceState(null, "", `#${text}`);
  }

  function say(words, picture) {
    const line = document.createElement("p");
    line.textContent = words;
    const parts = [line];
    if (picture) {
      const image = document.createElement("img");
      image.src = picture;
      image.alt = "The same map as a picture";
      parts.push(image);
    }
    byId("message").replaceChildren(...parts);
    byId("message").hidden = false;
  }

  function buttons(id, options, pressed, onClick, about = {}) {
    byId(id).replaceChildren(...Object.entries(options).map(([value, words]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = words;
      button.dataset.value = value;
      button.title = about[value] ?? "";
      button.setAttribute("aria-pressed", String(pressed(value)));
      button.addEventListener("click", () => onClick(value));
      return button;
    }));
  }

  function showFacts(map) {
    byId("price").textContent = priceText(map.price);
    const bold = (text) => Object.assign(document.createElement("b"), { textContent: text });
    byId("as-of").replaceChildren("as of ", bold(`${dayText(map.as_of)} ${clockText(map.as_of)} UTC`));
    byId("coverage").replaceChildren("coverage ", bold(`${(map.coverage * 100).toFixed(1)} %`));
    byId("coverage").dataset.about = ABOUT_COVERAGE;
    const badge = (words, style, about) => Object.assign(document.createElement("span"), { textContent: words, className: `badge ${style}`, title: about });
    byId("badges").replaceChildren(
      ...(map.simulated ? [badge("SIMULATED DATA", "", "A made-up market, for trying things out. Not real prices.")] : []),
      ...(map.provisional ? [badge("provisional", "mild", "The newest day is not complete yet; it will be computed again.")] : []),
    );
    document.title = `${map.symbol} ${priceText(map.price)} · liquidation heatmap`;
  }

  function start(source) {
    const { symbols } = source;
    const element = byId("chart");
    const maps = new WeakMap();
    let choice = readHash(symbols);
    let view = null;
    let request = 0;

    const chart = chartIn(element, (moved) => {
      if (moved === null) return choose({ range: choice.range ?? "all" }, true);
      view = moved;
      choice = { ...choice, range: null };
      controls();
      writeHash(choice);
      return undefined;
    });
    const hand = pointer(element, chart);

    function choose(change, fit = false) {
      choice = { ...choice, ...change };
      const models = symbols.find((one) => one.symbol === choice.symbol).models.map((one) => one.name);
      if (!models.includes(choice.model)) choice.model = models[0];
      if ("symbol" in change) choice.range ??= "all";
      if (fit || "symbol" in change) view = null;
      update();
    }

    function controls() {
      byId("symbol").replaceChildren(...symbols.map(({ symbol }) => new Option(symbol, symbol, false, symbol === choice.symbol)));
      const { models } = symbols.find((one) => one.symbol === choice.symbol);
      const names = Object.fromEntries(models.map(({ name }) => [name, name]));
      buttons("model", names, (value) => value === choice.model, (model) => choose({ model }), ABOUT_MODEL);
      for (const [name, options] of Object.entries(OPTIONS)) {
        buttons(name, options, (value) => value === choice[name], (value) => choose({ [name]: value }, name === "range"));
      }
      buttons("layers", LAYERS, (value) => choice[value], (value) => choose({ [value]: !choice[value] }));
    }

    async function update() {
      request += 1;
      const mine = request;
      const entry = symbols.find((one) => one.symbol === choice.symbol).models.find((one) => one.name === choice.model);
      controls();
      writeHash(choice);
      hand.hide();
      try {
        const payload = await source.load(choice.symbol, choice.model);
        if (mine !== request) return;
        if (!maps.has(payload)) maps.set(payload, decode(payload));
        const map = maps.get(payload);
        view ??= viewOf(map, choice.range ?? "all");
        showFacts(map);
        byId("message").hidden = true;
        await chart.draw(map, choice, view);
      } catch (error) {
        if (mine === request) say(error.message, entry.picture);
      }
    }

    byId("symbol").addEventListener("change", (event) => choose({ symbol: event.target.value }));
    window.addEventListener("hashchange", () => choose(readHash(symbols), true));
    let resized = 0;
    new ResizeObserver(() => {
      const { width, height } = element._fullLayout ?? {};
      clearTimeout(resized);
      if (width && (width !== element.clientWidth || height !== element.clientHeight)) resized = setTimeout(update, 120);
    }).observe(element);
    say("Loading …");
    update();
  }

  const manifest = JSON.parse(byId("manifest").textContent);
  if (!manifest.symbols.length) say("There is nothing to show yet. Run: heatmap demo");
  else if (typeof Plotly === "undefined") {
    const [first] = manifest.symbols;
    say("plotly.min.js is missing beside this page, so this is only a picture. Copy the whole folder to get the chart.", first.models[0].picture);
  } else start(fileSource(manifest));
})();
