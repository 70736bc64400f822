// A combobox of items whose title or id holds what is typed: the ARIA guide's pattern with a list.

import { detailsOf, element, nameOf } from "./elements.js";
import { debounced, get } from "./service.js";

const WAIT = 60; // ms after the last key
const SHOWN = 10;

export class Typing {
  constructor({ input, list, choose, say, fail }) {
    Object.assign(this, { input, list, choose, say, fail });
    this.items = [];
    this.active = -1;
    this.listed = null; // the text whose items are shown
    this.hurried = false; // Enter came before the items of what was typed
    this.search = debounced(WAIT, (signal) => this.find(signal));
    input.addEventListener("input", () => {
      this.hurried = false;
      this.search();
    });
    input.addEventListener("keydown", (event) => this.pressed(event));
    input.addEventListener("blur", () => this.close());
    // The focus stays in the field: a click on an item is no blur.
    list.addEventListener("mousedown", (event) => event.preventDefault());
  }

  async find(signal) {
    const typed = this.input.value;
    try {
      const { items } = await get("items", { q: typed.slice(0, 200), limit: SHOWN }, signal);
      if (document.activeElement === this.input && typed === this.input.value) this.open(items, typed);
    } catch (fault) {
      this.fail(fault);
    }
  }

  open(items, typed) {
    this.items = items;
    this.listed = typed;
    if (this.hurried && items.length) {
      this.take(0);
      return;
    }
    this.hurried = false;
    this.active = -1;
    this.list.replaceChildren(
      ...items.map((item, nth) => {
        const option = element(
          "li",
          { role: "option", id: `found-${nth}`, "aria-selected": "false" },
          element("div", { text: nameOf(item) }),
          element("small", { text: detailsOf(item) }),
        );
        option.addEventListener("click", () => this.take(nth));
        return option;
      }),
    );
    this.list.hidden = items.length === 0;
    this.input.setAttribute("aria-expanded", String(items.length > 0));
    this.mark(items.length ? 0 : -1);
    this.say(items.length ? `${items.length} found; Enter takes the marked one` : "No title and no id has this in it");
  }

  close() {
    this.search.stop();
    this.hurried = false;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.mark(-1);
  }

  mark(nth) {
    this.list.children[this.active]?.setAttribute("aria-selected", "false");
    this.active = nth;
    const option = this.list.children[nth];
    if (option === undefined) {
      this.input.removeAttribute("aria-activedescendant");
      return;
    }
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  take(nth) {
    this.input.value = "";
    this.close();
    this.choose(this.items[nth]);
  }

  // Takes the first item of what is typed as soon as it is known.
  hurry() {
    this.search();
    this.hurried = true;
  }

  pressed(event) {
    if (event.isComposing) return;
    const shown = !this.list.hidden;
    const count = this.items.length;
    if (event.key === "ArrowDown" && !shown) this.search();
    else if (event.key === "ArrowDown") this.mark((this.active + 1) % count);
    else if (event.key === "ArrowUp" && shown) this.mark((this.active + count - 1) % count);
    else if (event.key === "Enter" && shown && this.listed === this.input.value) this.take(this.active);
    else if (event.key === "Enter" && this.input.value) this.hurry();
    else if (event.key === "Escape" && shown) this.close();
    else return;
    event.preventDefault();
  }
}
