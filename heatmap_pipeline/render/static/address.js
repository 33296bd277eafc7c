// Everything that can be chosen, and how the address bar holds it: a link opens exactly what its sender saw.

const SWITCHES = ["map", "candles", "bubbles", "reported", "profile", "levels"];
const OPTIONS = {
  side: { both: "Longs + shorts", long: "Longs", short: "Shorts" },
  scale: { linear: "Linear", log: "Log" },
};

function readHash(symbols) {
  const given = new URLSearchParams(location.hash.slice(1));
  const pick = (name, allowed, fallback) => (allowed.includes(given.get(name)) ? given.get(name) : fallback);
  const volume = (name) => {
    const value = Number(given.get(name) ?? NaN);
    return given.get(name) && Number.isFinite(value) && value >= 0 ? value : null;
  };
  const symbol = pick("symbol", symbols.map((one) => one.symbol), symbols[0].symbol);
  const { models } = symbols.find((one) => one.symbol === symbol);
  const [low, high] = [volume("low"), volume("high")];
  const view = (given.get("view") ?? "").split(",").map(Number);
  const isView = view.length === 4 && view.every(Number.isFinite) && view[0] < view[1] && view[2] < view[3];
  return {
    symbol,
    model: pick("model", models, models[0]),
    range: pick("range", Object.keys(RANGES), "7d"),
    side: pick("side", Object.keys(OPTIONS.side), "both"),
    scale: pick("scale", Object.keys(OPTIONS.scale), "linear"),
    bin: volume("bin") ?? 0,
    tiers: readTiers(given.get("tiers")),
    low: high !== null && low !== null && low >= high ? null : low,
    high: high === 0 ? null : high,
    ...Object.fromEntries(SWITCHES.map((name) => [name, given.get(name) !== "0"])),
    view: isView ? { x: view.slice(0, 2), y: view.slice(2) } : null,
  };
}

function writeHash(choice) {
  const { symbol, model, range, side, scale } = choice;
  const text = new URLSearchParams({ symbol, model, range, side, scale });
  if (choice.bin) text.set("bin", String(choice.bin));
  if (choice.tiers) text.set("tiers", choice.tiers);
  for (const end of ["low", "high"]) if (choice[end] !== null) text.set(end, String(choice[end]));
  for (const name of SWITCHES) if (!choice[name]) text.set(name, "0");
  if (choice.view) {
    const digits = Math.max(0, 6 - Math.floor(Math.log10(choice.view.y[1])));
    text.set("view", [...choice.view.x.map(Math.round), ...choice.view.y.map((price) => Number(price.toFixed(Math.min(digits, 12))))].join());
  }
  try {
    history.replaceState(null, "", `#${text.toString().replaceAll("%2C", ",")}`);
  } catch {
    // Safari allows 100 in 30 seconds, which two fingers exceed; the next change writes what this one could not.
  }
}
