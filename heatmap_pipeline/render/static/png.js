// What can be taken away as a picture: the view with everything one needs to know to read it.

import { typedName } from "./bases.js";
import { COLOURS, copyCells, FONT, roundVolumes, STOPS, scaleText, scaleWords } from "./colours.js";
import { make } from "./dom.js";
import { marksOf, reportedWords } from "./marks.js";
import { sidesOf } from "./traces.js";
import { instantText, priceText, titleText } from "./words.js";

export function save(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const ROOM = 1000; // pixels, from which on the colours stand beside the words of the head

const LINE = 26; // pixels from one line of marks to the next

/** How high the head is, and where its name, price, marks, facts and bar of colours stand. */
function headOf(context, map, width) {
  const isNarrow = width < ROOM;
  const wide = isNarrow ? width - 28 : Math.max(360, Math.min(420, 0.3 * width));
  const left = width - wide - 14;
  const right = isNarrow ? width - 14 : left - 14;
  const price = 14 + widthOf(context, typedName(map.symbol), NAME) + 12;
  let [x, y] = [price + widthOf(context, priceText(map.price), PRICE) + 12, 22];
  const marks = marksOf(map).map(({ words, colour }) => {
    const room = widthOf(context, words, MARK) + 14;
    if (x + room > right && x > 14) [x, y] = [14, y + LINE];
    const mark = { words, colour, left: x, y, wide: room };
    x += room + 12;
    return mark;
  });
  const bar = { left, top: isNarrow ? y + 74 : 26, wide };
  return { head: y + (isNarrow ? 106 : 42), price, marks, facts: y + 26, bar };
}

const FOOT = 26;

/** What is on the screen: without the labels of the price axis that are hidden below the price. */
function figureOf(chart, element) {
  const { yaxis } = element._fullLayout;
  const tickvals = yaxis._vals.map(({ x }) => x).filter((price) => !chart.isCovered(price));
  const layout = { ...element.layout, yaxis: { ...element.layout.yaxis, tickmode: "array", tickvals } };
  return { data: element.data, layout };
}

/** The picture: title, the map as it is on the screen, the colour bar with its volumes. Twice as fine as the screen. */
export async function pngOf(chart, element) {
  const { map, choice, scale, moment, until } = chart.state();
  const [width, height, fine] = [element.clientWidth, element.clientHeight, 2];
  const canvas = make("canvas");
  const context = canvas.getContext("2d");
  const { head } = headOf(context, moment, width);
  Object.assign(canvas, { width: width * fine, height: (height + head + FOOT) * fine });
  context.scale(fine, fine);
  context.fillStyle = COLOURS.background;
  context.fillRect(0, 0, width, height + head + FOOT);
  const view = chart.view();
  const box = chart.box();
  if (choice.map) {
    copyCells(
      context,
      chart.cells,
      map,
      view,
      {
        left: box.left,
        top: head + box.top,
        width: box.mapRight - box.left,
        height: box.height,
      },
      until,
    );
  }
  const above = new Image();
  above.src = await Plotly.toImage(figureOf(chart, element), { format: "png", width, height, scale: fine });
  await above.decode();
  context.drawImage(above, 0, head, width, height);
  caption(context, moment, choice, scale, width, height);
  return new Promise((resolve) => {
    canvas.toBlob(resolve, "image/png");
  });
}

const NAME = { size: 19, weight: 700, colour: COLOURS.bright };
const PRICE = { size: 17, weight: 700, colour: COLOURS.bright };
const MARK = { size: 11, weight: 700, colour: COLOURS.background };

function widthOf(context, text, { size = 12, weight = 400 }) {
  context.font = `${weight} ${size}px ${FONT}`;
  return context.measureText(text).width;
}

/** Writes on a canvas; gives where what it wrote ends. */
function write(context, text, x, y, { size = 12, weight = 400, colour = COLOURS.muted, align = "left" } = {}) {
  context.font = `${weight} ${size}px ${FONT}`;
  context.fillStyle = colour;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.fillText(text, x, y);
  return x + context.measureText(text).width;
}

/** The colours as the legend has them: what they say and fit, the bar, the numbers below it. */
function colourBar(context, map, choice, scale, { left, top, wide }) {
  const gradient = context.createLinearGradient(left, 0, left + wide, 0);
  for (const [share, colour] of STOPS) gradient.addColorStop(share, colour);
  context.fillStyle = gradient;
  context.fillRect(left, top, wide, 9);
  context.strokeStyle = COLOURS.line;
  context.strokeRect(left, top, wide, 9);
  const size = 11;
  const x = write(context, scaleWords(map, choice, scale), left, top - 12, { size });
  if (scale.times) {
    context.fillStyle = COLOURS.unknown;
    context.fillRect(x + 8, top - 17, 10, 10);
    write(context, "not known", x + 22, top - 12, { size });
  }
  let free = write(context, scaleText(scale, scale.low), left, top + 20, { size });
  const last = `≥ ${scaleText(scale, scale.high)}`;
  write(context, last, left + wide, top + 20, { size, align: "right" });
  const room = left + wide - context.measureText(last).width;
  for (const value of roundVolumes(scale.low, scale.high, scale.log, 5)) {
    const [at, words] = [left + scale.place(value) * wide, scaleText(scale, value)];
    const half = context.measureText(words).width / 2;
    if (at - half < free + 8 || at + half > room - 8) continue;
    write(context, words, at, top + 20, { size, align: "center" });
    free = at + half;
  }
}

export function caption(context, map, choice, scale, width, height) {
  const { head, price, marks, facts: below, bar } = headOf(context, map, width);
  write(context, typedName(map.symbol), 14, 22, NAME);
  write(context, priceText(map.price), price, 22, PRICE);
  for (const { words, colour, left, y, wide } of marks) {
    context.fillStyle = colour;
    context.fillRect(left, y - 10, wide, 20);
    write(context, words, left + 7, y, MARK);
  }
  const share = map.locatedShare === null ? "not known" : `${(map.locatedShare * 100).toFixed(1)} %`;
  const facts = [`Liquidation heatmap · ${titleText(map)}`, `as of ${instantText(map.asOf)} · located share ${share}`];
  const lines = width < ROOM ? facts : [facts.join(" · ")];
  lines.forEach((line, i) => {
    write(context, line, 14, below + 18 * i);
  });
  colourBar(context, map, choice, scale, bar);
  const end = height + head + FOOT / 2;
  const key = (words, mark, from) => {
    let at = write(context, words, from, end, { size: 11 });
    for (const side of sidesOf(choice))
      at = write(context, `${mark} ${side}s`, at + 8, end, { size: 11, colour: COLOURS[side] });
    return at;
  };
  let x = choice.bubbles ? key("modelled liquidations:", "●", 14) : 14;
  if (map.reported && choice.reported) {
    x = key("reported:", "○", x + 18);
    if (width > 900) write(context, `(${reportedWords(map.reported)})`, x + 8, end, { size: 11 });
  }
  if (width > 700)
    write(context, "modelled levels, no advice · time in UTC", width - 14, end, { size: 11, align: "right" });
}
