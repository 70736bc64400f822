// The past events, the latest last: moved by buttons and by dragging, removed, and marked with what each adds to a score.

import { button, detailsOf, element, nameOf, signed } from "./elements.js";

const MINUTE = 60; // seconds

export class History {
  constructor({ list, changed, say, leave }) {
    Object.assign(this, { list, changed, say, leave });
    this.events = []; // items as the service describes them, with their time and the elements of their row
    this.dragged = null;
    list.addEventListener("dragover", (over) => this.draggedOver(over));
    list.addEventListener("drop", (over) => this.dropped(over));
    list.addEventListener("dragleave", () => this.unmark());
  }

  replace(items) {
    this.events = items.map((item) => this.made(item));
    this.show();
    this.list.scrollTop = this.list.scrollHeight;
  }

  add(item) {
    this.events.push(this.made({ time: null, ...item }));
    this.show();
    this.list.scrollTop = this.list.scrollHeight;
    this.say(`${nameOf(item)} added as event ${this.events.length}`);
    this.changed();
  }

  made(item) {
    const event = { ...item };
    const name = nameOf(item);
    event.place = element("span", { class: "place", "aria-hidden": "true" });
    event.bar = element("div", { class: "bar" });
    event.bar.hidden = true;
    event.up = button("↑", `Move ${name} up, to earlier`, () => this.step(event, -1));
    event.down = button("↓", `Move ${name} down, to later`, () => this.step(event, 1));
    event.remove = button("✕", `Remove ${name}`, () => this.remove(event));
    event.row = element(
      "li",
      { draggable: "true" },
      event.place,
      element("div", {}, element("div", { class: "name", text: name }), element("small", { text: detailsOf(item) })),
      element("div", { class: "buttons" }, event.up, event.down, event.remove),
      event.bar,
    );
    event.row.addEventListener("dragstart", (start) => {
      this.dragged = event;
      start.dataTransfer.effectAllowed = "move";
      start.dataTransfer.setData("text/plain", name);
      event.row.classList.add("dragged");
    });
    event.row.addEventListener("dragend", () => {
      this.dragged = null;
      event.row.classList.remove("dragged");
      this.unmark();
    });
    return event;
  }

  show() {
    this.list.replaceChildren(...this.events.map(({ row }) => row));
    this.events.forEach(({ place, up, down }, nth) => {
      place.textContent = `⠿ ${nth + 1}`;
      up.disabled = nth === 0;
      down.disabled = nth === this.events.length - 1;
    });
  }

  step(event, by) {
    this.move(event, this.events.indexOf(event) + by);
    const [pressed, other] = by < 0 ? [event.up, event.down] : [event.down, event.up];
    (pressed.disabled ? other : pressed).focus(); // moving a row takes the focus from it
  }

  move(event, to) {
    const from = this.events.indexOf(event);
    if (from === to) return;
    this.events.splice(from, 1);
    this.events.splice(to, 0, event);
    const top = this.list.scrollTop;
    this.show();
    this.list.scrollTop = top;
    event.row.scrollIntoView({ block: "nearest" });
    this.say(`${nameOf(event)} is now event ${to + 1} of ${this.events.length}`);
    this.changed();
  }

  remove(event) {
    const nth = this.events.indexOf(event);
    this.events.splice(nth, 1);
    this.show();
    const next = this.events[Math.min(nth, this.events.length - 1)];
    if (next === undefined) this.leave();
    else next.remove.focus();
    this.say(`${nameOf(event)} removed, ${this.events.length} left`);
    this.changed();
  }

  draggedOver(over) {
    if (this.dragged === null) return;
    over.preventDefault(); // a drop is taken here
    this.unmark();
    const [row, below] = this.under(over);
    row?.classList.add(below ? "after" : "before");
  }

  dropped(over) {
    if (this.dragged === null) return;
    over.preventDefault();
    this.unmark();
    const [row, below] = this.under(over);
    const event = this.dragged;
    if (row === event.row) return;
    const others = this.events.filter((each) => each !== event);
    const nth = others.findIndex((each) => each.row === row);
    this.move(event, nth < 0 ? others.length : nth + (below ? 1 : 0));
  }

  // The row that the pointer is over, and whether in its lower half.
  under(over) {
    const row = over.target.closest?.("#history > li") ?? null;
    if (row === null) return [null, true];
    const box = row.getBoundingClientRect();
    return [row, over.clientY > box.top + box.height / 2];
  }

  unmark() {
    for (const row of this.list.children) row.classList.remove("before", "after");
  }

  // Shows what each event adds to one item's score: a Map by place in the list; null: none.
  mark(contributions) {
    const most = contributions && Math.max(...[...contributions.values()].map(Math.abs), Number.MIN_VALUE);
    this.events.forEach(({ bar }, nth) => {
      const value = contributions?.get(nth);
      bar.hidden = value === undefined;
      if (bar.hidden) return;
      const size = element("i");
      size.style.width = `${(60 * Math.abs(value)) / most}%`;
      bar.className = value < 0 ? "bar against" : "bar for";
      bar.replaceChildren(size, element("span", { text: signed(value) }));
    });
  }

  // Times in their order, whichever event stands where: to move an event is to move it in time. New ones are the latest.
  times() {
    const known = this.events.map(({ time }) => time).filter((time) => time !== null);
    known.sort((a, b) => a - b);
    const missing = this.events.length - known.length;
    const last = known.at(-1) ?? Math.floor(Date.now() / 1000) - MINUTE * missing;
    return [...known, ...Array.from({ length: missing }, (_, nth) => last + MINUTE * (nth + 1))];
  }
}
