// The legend, which is the slider: a bar with the map's colours, and two handles that say where they begin and end.

const TRACK_DECADES = 4;
const STEP = 0.01; // of the track, for one press of an arrow key

/** `onMove(change)` while a handle moves, `onDone(change)` when it rests; a change is { low } or { high }, a volume. */
function legend(onMove, onDone) {
  const [track, ramp, ticks] = ["track", "ramp", "ticks"].map(byId);
  const handles = { low: byId("low-handle"), high: byId("high-handle") };
  const inputs = { low: byId("low"), high: byId("high") };
  let shown = null; // { scale, from, to }: what the colours span, and what the track does

  const place = (volume) => {
    const { from, to, scale } = shown;
    const share = scale.log ? Math.log(Math.max(volume, from) / from) / Math.log(to / from) : (volume - from) / (to - from);
    return Math.min(1, Math.max(0, share));
  };
  const volumeAt = (share) => {
    const { from, to, scale } = shown;
    const kept = Math.min(1, Math.max(0, share));
    return scale.log ? from * (to / from) ** kept : from + kept * (to - from);
  };
  /** Three digits, so that the address bar and the labels say the same. */
  const tidy = (volume) => Number(volume.toPrecision(3));

  function update(map, choice) {
    const scale = colourScale(map, choice);
    const ends = colourEnds(map, choice.range);
    const most = Math.max(Math.min(ends.most, 2.5 * ends.top), scale.high);
    shown = { scale, from: scale.log ? Math.min(most / 10 ** TRACK_DECADES, scale.low) : 0, to: most };
    const [low, high] = [place(scale.low), place(scale.high)];
    const percent = (share) => `${(100 * share).toFixed(2)}%`;
    const stops = STOPS.map(([share, colour]) => `${colour} ${percent(low + share * (high - low))}`);
    ramp.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    byId("legend-title").textContent = `modelled ${quote} per ${binText(map.bin)} ${quote} of price`;
    byId("legend-title").title = `Modelled volume that would be liquidated in a row of ${binText(map.bin)} ${quote} of price`;
    inputs.low.setAttribute("aria-label", `Hide volumes below, ${quote}`);
    inputs.high.setAttribute("aria-label", `Brightest colour from, ${quote}`);
    for (const [name, volume] of [["low", scale.low], ["high", scale.high]]) {
      const handle = handles[name];
      const text = name === "high" ? `≥ ${volumeText(volume)}` : volumeText(volume);
      handle.style.left = percent(place(volume));
      handle.dataset.text = text;
      handle.setAttribute("aria-valuemin", String(Math.round(name === "low" ? shown.from : scale.low)));
      handle.setAttribute("aria-valuemax", String(Math.round(name === "low" ? scale.high : shown.to)));
      handle.setAttribute("aria-valuenow", String(Math.round(volume)));
      handle.setAttribute("aria-valuetext", `${volumeText(volume)} of ${quote}`);
      if (document.activeElement !== inputs[name]) inputs[name].value = volumeText(volume);
      inputs[name].classList.remove("wrong");
    }
    byId("reset-colours").disabled = choice.low === null && choice.high === null;
    label(low, high);
  }

  /** Round volumes below the bar, where no handle's own label stands. */
  function label(low, high) {
    const width = track.clientWidth || 300;
    const taken = [low, high].map((share) => share * width);
    const volumes = roundVolumes(shown.from, shown.to, shown.scale.log, Math.max(3, Math.round(width / 64)));
    let last = -Infinity;
    const marks = [];
    for (const volume of volumes) {
      const at = place(volume) * width;
      if (at - last < 46 || at < 12 || at > width - 12 || taken.some((one) => Math.abs(one - at) < 48)) continue;
      last = at;
      const mark = make("span", { textContent: volumeText(volume) });
      mark.style.left = `${at.toFixed(1)}px`;
      marks.push(mark);
    }
    ticks.replaceChildren(...marks);
  }

  /** The change that puts a handle at a volume; handles never pass each other. */
  function changed(name, volume) {
    const { low, high, log } = shown.scale;
    const gap = log ? 1.05 : 0;
    const least = log ? shown.from : 0;
    if (name === "low") return { low: tidy(Math.max(least, Math.min(volume, log ? high / gap : high - 0.01 * (shown.to - shown.from)))) };
    return { high: tidy(Math.max(volume, log ? low * gap : low + 0.01 * (shown.to - shown.from))) };
  }

  for (const [name, handle] of Object.entries(handles)) {
    handle.addEventListener("pointerdown", (event) => {
      if (!shown) return;
      event.preventDefault();
      handle.focus();
      handle.setPointerCapture(event.pointerId);
      const move = (moving) => {
        const frame = track.getBoundingClientRect();
        onMove(changed(name, volumeAt((moving.clientX - frame.left) / frame.width)));
      };
      const end = () => {
        handle.removeEventListener("pointermove", move);
        onDone({});
      };
      handle.addEventListener("pointermove", move);
      handle.addEventListener("lostpointercapture", end, { once: true });
    });
    handle.addEventListener("keydown", (event) => {
      if (!shown) return;
      const now = place(shown.scale[name]);
      const to = {
        ArrowLeft: now - STEP, ArrowDown: now - STEP, ArrowRight: now + STEP, ArrowUp: now + STEP,
        PageDown: now - 10 * STEP, PageUp: now + 10 * STEP, Home: 0, End: 1,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      onDone(changed(name, volumeAt(to)));
    });
    inputs[name].addEventListener("change", () => {
      if (!shown) return;
      const volume = typedVolume(inputs[name].value.replace(/^≥\s*/, ""));
      const { low, high } = shown.scale;
      const fits = name === "low" ? volume < high : volume > low;
      inputs[name].classList.toggle("wrong", !fits);
      inputs[name].title = fits ? "" : `Type a volume ${name === "low" ? `below ${volumeText(high)}` : `above ${volumeText(low)}`}, like 2.5M or 800k`;
      if (fits) onDone(changed(name, volume));
    });
    inputs[name].addEventListener("focus", () => inputs[name].select());
  }

  track.addEventListener("pointerdown", (event) => {
    if (event.target.closest(".handle") || !shown) return;
    const frame = track.getBoundingClientRect();
    const share = (event.clientX - frame.left) / frame.width;
    const nearer = Math.abs(share - place(shown.scale.low)) < Math.abs(share - place(shown.scale.high)) ? "low" : "high";
    handles[nearer].focus();
    onDone(changed(nearer, volumeAt(share)));
  });

  return { update };
}
