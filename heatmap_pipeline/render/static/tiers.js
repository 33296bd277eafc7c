// The control of the leverage tiers, beside the others of the live page.

import { byId, make } from "./dom.js";
import { pressTier, tierOptions } from "./leverage.js";

/** `group` makes buttons, `choose` is told the new text; `update` is to be called with every map and choice. */
export function leverageControl(group, choose) {
  const about = "Whose lots are shown, by the leverage they were opened with";
  const buttonsOf = make("span", { className: "choice", id: "tiers", role: "group", ariaLabel: "Leverage tiers" });
  const name = make("span", { className: "fact", title: about, textContent: "leverage" });
  const element = make("span", { className: "line tight", hidden: true }, name, buttonsOf);
  byId("drawer").append(element);
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
