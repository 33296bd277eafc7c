// What can be taken away as a picture: the view with everything one needs to know to read it.

import { COLOURS, copyCells, FONT, STOPS, scaleText, scaleWords } from "./colours.js";
import { make } from "./dom.js";
import { marksOf, reportedWords } from "./marks.js";
import { sidesOf } from "./traces.js";
import { instantText, priceText } from "./words.js";

export function save(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const HEAD = 64;
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
  const canvas = make("canvas", { width: width * fine, height: (height + HEAD + FOOT) * fine });
  const context = canvas.getContext("2d");
  context.scale(fine, fine);
  context.fillStyle = COLOURS.background;
  context.fillRect(0, 0, width, height + HEAD + FOOT);
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
        top: HEAD + box.top,
        width: box.mapRight - box.left,
        height: box.height,
      },
      until,
    );
  }
  const above = new Image();
  above.src = await Plotly.toImage(figureOf(chart, element), { format: "png", width, height, scale: fine });
  await above.decode();
  context.drawImage(above, 0, HEAD, width, height);
  caption(context, moment, choice, scale, width, height);
  return new Promise((resolve) => {
    canvas.toBlob(resolve, "image/png");
  });
}

export function caption(context, map, choice, scale, width, height) {
  const write = (text, x, y, { size = 12, weight = 400, colour = COLOURS.muted, align = "left" } = {}) => {
    context.font = `${weight} ${size}px ${FONT}`;
    context.fillStyle = colour;
    context.textAlign = align;
    context.textBaseline = "middle";
    context.fillText(text, x, y);
    return x + context.measureText(text).width;
  };
  let x = write(map.symbol, 14, 22, { size: 19, weight: 700, colour: COLOURS.bright });
  x = write(priceText(map.price), x + 12, 22, { size: 17, weight: 700, colour: COLOURS.bright });
  for (const { words, colour } of marksOf(map)) {
    context.font = `700 11px ${FONT}`;
    const wide = context.measureText(words).width + 14;
    context.fillStyle = colour;
    context.fillRect(x + 12, 12, wide, 20);
    write(words, x + 19, 22, { size: 11, weight: 700, colour: COLOURS.background });
    x += 12 + wide;
  }
  write(
    `Liquidation heatmap · ${map.model} model · as of ${instantText(map.asOf)} · located share ` +
      `${(map.locatedShare * 100).toFixed(1)} %`,
    14,
    48,
  );
  const wide = Math.min(300, width * 0.3);
  const left = width - wide - 14;
  const gradient = context.createLinearGradient(left, 0, left + wide, 0);
  for (const [share, colour] of STOPS) gradient.addColorStop(share, colour);
  context.fillStyle = gradient;
  context.fillRect(left, 26, wide, 9);
  context.strokeStyle = COLOURS.line;
  context.strokeRect(left, 26, wide, 9);
  const words = scaleWords(map, choice, scale);
  context.font = `400 11px ${FONT}`;
  const room = left + wide - x - 24;
  if (context.measureText(words).width < room) write(words, left + wide, 14, { size: 11, align: "right" });
  write(scaleText(scale, scale.low), left, 46, { size: 11 });
  if (scale.times) {
    context.fillStyle = COLOURS.unknown;
    context.fillRect(left + wide / 2 - 38, 41, 10, 10);
    write("not known", left + wide / 2 - 22, 46, { size: 11 });
  }
  write(`≥ ${scaleText(scale, scale.high)}`, left + wide, 46, { size: 11, align: "right" });
  const end = height + HEAD + FOOT / 2;
  const key = (words, mark, from) => {
    let at = write(words, from, end, { size: 11 });
    for (const side of sidesOf(choice))
      at = write(`${mark} ${side}s`, at + 8, end, { size: 11, colour: COLOURS[side] });
    return at;
  };
  x = choice.bubbles ? key("modelled liquidations:", "●", 14) : 14;
  if (map.reported && choice.reported) {
    x = key("reported:", "○", x + 18);
    if (width > 900) write(`(${reportedWords(map.reported)})`, x + 8, end, { size: 11 });
  }
  if (width > 700) write("modelled levels, no advice · time in UTC", width - 14, end, { size: 11, align: "right" });
}
