// Which leverage tiers are shown: the text that link and endpoint hold ("" = all, "near", "25,50,100"), and the control.

const NEAR_FROM = 25; // as the endpoint means the word

/** The tiers of a text among all there are, rising; one that there is not stays, for the endpoint to refuse in words. */
export function tiersOf(text, all) {
  if (!text || text === "all") return all;
  return text === "near" ? all.filter((tier) => tier >= NEAR_FROM) : text.split(",").map(Number);
}

/** The text of a link as it is kept: numbers rising and each once; "" for all and for what is no text of tiers. */
export function readTiers(text) {
  const given = (text ?? "").trim();
  if (given === "near") return given;
  const tiers = [...new Set(given.split(",").map(Number))].sort((a, b) => a - b);
  return given && tiers.every((tier) => tier > 1) ? tiers.join() : "";
}

/** The text after a press on a preset or a tier. The last tier that is on cannot be switched off. */
export function pressTier(text, all, pressed) {
  if (pressed === "all") return "";
  if (pressed === "near") return "near";
  const shown = tiersOf(text, all);
  const tier = Number.parseFloat(pressed);
  const left = all.filter((one) => shown.includes(one) !== (one === tier));
  if (!left.length) return text;
  const isNear = left.join() === tiersOf("near", all).join();
  return left.length === all.length ? "" : isNear ? "near" : left.join();
}

/** Buttons of the control: { value: { words, about, pressed, disabled } }. */
export function tierOptions(text, all) {
  const shown = tiersOf(text, all);
  const near = tiersOf("near", all);
  const presets = {
    all: { words: "all", about: "Every leverage tier", pressed: shown.length === all.length },
    near: {
      words: "near",
      about: near.length
        ? `${NEAR_FROM}x and up: what stands near the price`
        : `There is no tier from ${NEAR_FROM}x up.`,
      pressed: near.length > 0 && near.length < all.length && shown.join() === near.join(),
      disabled: !near.length,
    },
  };
  const tiers = all.map((tier) => [
    `${tier}x`,
    { words: `${tier}x`, about: `Positions opened with ${tier}x leverage`, pressed: shown.includes(tier) },
  ]);
  return { ...presets, ...Object.fromEntries(tiers) };
}

/** What a change of symbol or model leaves of a text: only the word, as other models have other tiers. */
export const tiersAfter = (change, text) => (("symbol" in change || "model" in change) && text !== "near" ? "" : text);

/** Words for a map that shows only some of the tiers there are. */
export function tiersText(shown, all) {
  const upward = all.filter((tier) => tier >= shown[0]).join() === shown.join() && shown.length > 1;
  return `leverage ${upward ? `${shown[0]}x and up` : shown.map((tier) => `${tier}x`).join(", ")} only`;
}

/**
 * The control, beside the others of the live page. `group` makes buttons, `choose` is told the new text; `update` is to
 * be called with every map and choice.
 */
export function leverageControl(group, choose) {
  const element = document.createElement("span");
  element.className = "line tight";
  element.hidden = true;
  element.innerHTML =
    '<span class="fact" title="Whose lots are shown, by the leverage they were opened with">leverage</span>' +
    '<span class="choice" id="tiers" role="group" aria-label="Leverage tiers"></span>';
  document.getElementById("drawer").append(element);
  let now = { text: "", all: [] };
  const buttons = group("tiers", (value) => choose(pressTier(now.text, now.all, value)), { single: false });
  return {
    update(map, text) {
      now = { text, all: map?.tiers ?? now.all };
      element.hidden = !now.all.length;
      if (now.all.length) buttons.update(tierOptions(text, now.all));
    },
  };
}
