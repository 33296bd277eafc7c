// The bar below the map: which moment is looked at, the way to others, and replay.

import { byId } from "./dom.js";
import { SPEEDS } from "./player.js";
import { instantText, iso } from "./words.js";

/** Where data end, in words. */
export function endWords({ first, last }, live) {
  const words = `${instantText(first)} to ${instantText(last)}`;
  return live ? `There are data from ${words}.` : `This page holds ${words}; a server (heatmap serve) shows all.`;
}

export class Travel {
  /** `actions` are go(time), earlier(), later(), newest(), unpin() and the `player`. */
  constructor(actions) {
    const click = (id, action) => byId(id).addEventListener("click", action);
    click("earlier", actions.earlier);
    click("later", actions.later);
    click("newest", actions.newest);
    click("unpin", actions.unpin);
    click("play", () => actions.player.toggle());
    click("step-back", () => actions.player.step(-1));
    click("step-on", () => actions.player.step(1));
    byId("date").addEventListener("change", () => {
      const time = byId("date").valueAsNumber;
      if (Number.isFinite(time)) actions.go(time);
    });
    byId("speed").replaceChildren(...SPEEDS.map((speed) => new Option(`${speed}/s`, String(speed))));
    byId("speed").addEventListener("change", () => {
      actions.player.speed = Number(byId("speed").value);
      this.playing();
    });
    this.player = actions.player;
  }

  /** Shows where the view is within the data, and which moment everything beside the map belongs to. */
  update({ bounds, choice, edge, moment, view }, live) {
    const { first, last } = bounds;
    const ends = endWords(bounds, live);
    byId("travel").hidden = false;
    const say = (id, isOff, words, otherwise) => {
      byId(id).disabled = isOff;
      byId(id).title = isOff ? `${otherwise} ${ends}` : words;
    };
    say("earlier", edge.at - edge.span <= first, "Half a screen earlier (,)", "Nothing is earlier.");
    say("later", edge.at >= last, "Half a screen later (.)", "Nothing is later.");
    say("newest", choice.at === null && choice.pin === null && edge.at >= last, "The newest data (n)", "This is it.");
    const date = byId("date");
    const minute = (time) => iso(time).slice(0, 16);
    Object.assign(date, { min: minute(first), max: minute(last), title: `Where the view ends, UTC. ${ends}` });
    if (document.activeElement !== date) date.value = minute(edge.at);
    const isPinned = choice.pin !== null;
    byId("unpin").hidden = !isPinned;
    const words = choice.replay ? "replay at" : isPinned ? "pinned at" : moment.isPast ? "right edge," : "newest,";
    byId("moment").textContent = `${words} ${instantText(moment.asOf)}`;
    byId("edge").hidden = view.x[0] >= first && edge.at <= last && view.x[1] <= last + 0.05 * edge.span;
    byId("edge").textContent = ends;
    this.playing();
  }

  /** Shows whether the player plays, and how fast; also where it cannot keep up. */
  playing() {
    const { isPlaying, reached, speed } = this.player;
    byId("play").textContent = isPlaying ? "❚❚ Pause" : "▶ Play";
    byId("play").title = isPlaying ? "Pause (space)" : "Candle by candle, nothing of what comes after is shown (space)";
    byId("speed").value = String(speed);
    byId("reached").textContent = reached === null ? "" : `reaches ${reached}/s`;
  }
}
