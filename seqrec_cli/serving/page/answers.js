// One run's recommendations: titles, attributes, scores, how each item moved, and the past events that mattered.

import { button, detailsOf, element, nameOf, signed } from "./elements.js";
import { debounced, get, post } from "./service.js";

const WAIT = 60; // ms after the last change
const REASONS = 3; // events that are named below an item
const known = new Map(); // attributes of items, by id

export class Answers {
  // `facts` are those of GET /runs; `reasons`: of how many items they are asked for; `ask` gives the history as a
  // request's body has it, `choice` what else it asks.
  constructor({ run, facts, alone, reasons, ask, choice, nameAt, add, explain, said, fail }) {
    Object.assign(this, { run, facts, alone, reasons, ask, choice, nameAt, add, explain, said, fail });
    this.head = element("h3", { id: `run-${run}` });
    this.note = element("p", { class: "note" });
    this.list = element("ol", { "aria-labelledby": this.head.id });
    this.box = element("div", { class: "run", "data-run": run }, this.head, this.note, this.list);
    this.rows = [];
    this.change = debounced(WAIT, (signal) => this.update(signal));
    this.entitle(facts.model_version);
  }

  entitle(version) {
    this.head.textContent = `${this.alone ? "" : `${this.run}: `}${this.facts.model} (${version})`;
  }

  async update(signal) {
    const asked = { run: this.run, ...this.ask(this.facts) };
    try {
      const found = await post("recommend", { ...asked, ...this.choice() }, signal);
      this.entitle(found.model_version);
      this.show(found);
      this.said();
      await this.tell_more(found, asked, signal);
    } catch (fault) {
      if (fault.name === "AbortError") return;
      this.rows = [];
      this.list.replaceChildren();
      this.note.textContent = fault.message;
      this.note.classList.add("fault");
      this.said();
      this.fail(fault);
    }
  }

  // What comes after the list; where it is refused, the list stays.
  async tell_more(found, asked, signal) {
    const ids = found.recommendations.map((item) => item.item_id);
    const more = [this.describe(ids, signal), this.give_reasons(found, asked, signal)];
    for (const { reason } of await Promise.allSettled(more)) {
      if (reason && reason.name !== "AbortError" && !signal.aborted) this.note.textContent += `; ${reason.message}`;
    }
  }

  show({ recommendations, answered_by, num_input_items, unknown_items }) {
    const before = new Map(this.rows.map(({ item }, nth) => [String(item.item_id), nth]));
    const focused = this.rows.findIndex(({ box }) => box.contains(document.activeElement));
    const kind = document.activeElement?.className;
    if (this.rows.some(({ why }) => why.getAttribute("aria-pressed") === "true")) this.explain(null);
    this.rows = recommendations.map((item, nth) => this.row(item, nth, before));
    this.list.replaceChildren(...this.rows.map(({ box }) => box));
    if (focused >= 0) {
      const now = this.rows[Math.min(focused, this.rows.length - 1)];
      (kind === "why" && !now?.why.disabled ? now.why : now?.plus)?.focus();
    }
    const unknown = unknown_items.length ? `; it does not know ${unknown_items.join(", ")}` : "";
    this.note.classList.remove("fault");
    this.note.textContent =
      answered_by === "popularity"
        ? `Nothing is known that it could read: the most popular items${unknown}`
        : `It read ${num_input_items === 1 ? "the latest event" : `the latest ${num_input_items} events`}${unknown}`;
  }

  row(item, nth, before) {
    const id = String(item.item_id);
    const name = nameOf(item);
    const row = { item, contributions: null };
    row.details = element("small", { text: detailsOf({ ...item, ...known.get(id) }) });
    row.because = element("div", { class: "because" });
    row.also = element("span", { class: "moved also" });
    row.plus = button("+", `Add ${name} to the history`, () => this.add({ ...item, ...known.get(id) }));
    row.plus.className = "plus";
    row.why = button("?", `Why ${name}: show in the history what each event adds`, () => this.press(row));
    row.why.className = "why";
    row.why.setAttribute("aria-pressed", "false");
    row.why.disabled = true; // until it is known
    const moved = element("span", { class: "moved", text: movement(before, id, nth) });
    row.box = element(
      "li",
      { "data-item": id },
      element("span", { class: "rank", "aria-hidden": "true", text: String(nth + 1) }),
      element(
        "div",
        {},
        element("div", {}, element("span", { class: "name", text: name }), moved, row.also),
        row.details,
        element("small", { class: "score", text: `${row.details.textContent ? " · " : ""}score ${item.score.toFixed(3)}` }),
      ),
      element("div", { class: "buttons" }, row.plus, row.why),
      row.because,
    );
    return row;
  }

  async describe(ids, signal) {
    const missing = ids.map(String).filter((id) => !known.has(id));
    if (!missing.length) return;
    const { items } = await get("items", { id: missing }, signal);
    for (const { item_id, attributes } of items) known.set(String(item_id), { attributes });
    for (const { item, details } of this.rows) {
      details.textContent = detailsOf({ ...item, ...known.get(String(item.item_id)) });
    }
  }

  async give_reasons({ recommendations, answered_by, num_input_items }, asked, signal) {
    const candidates = recommendations.slice(0, this.reasons).map((item) => item.item_id);
    if (answered_by !== "model" || num_input_items < 2 || !candidates.length) return;
    const { explained } = await post("explain", { ...asked, candidates }, signal);
    const events = new Map(explained.map((item) => [String(item.item_id), item.events]));
    for (const row of this.rows) this.reason(row, events.get(String(row.item.item_id)) ?? []);
  }

  reason(row, events) {
    row.contributions = new Map(events.map(({ position, contribution }) => [position, contribution]));
    row.why.disabled = !events.length;
    const named = events.slice(0, REASONS).flatMap((event, nth) => [
      nth ? ", " : "what counted: ",
      element("span", {
        class: event.contribution < 0 ? "against" : "for",
        text: `${this.nameAt(event)} ${signed(event.contribution)}`,
      }),
    ]);
    row.because.replaceChildren(...named);
  }

  press(row) {
    const on = row.why.getAttribute("aria-pressed") !== "true";
    this.explain(on ? row.contributions : null);
    row.why.setAttribute("aria-pressed", String(on));
  }

  unpress() {
    for (const { why } of this.rows) why.setAttribute("aria-pressed", "false");
  }

  // Marks the items that the other run's list has, too; how many there are.
  compare(other) {
    const places = new Map(other.rows.map(({ item }, nth) => [String(item.item_id), nth + 1]));
    for (const { item, also } of this.rows) {
      const place = places.get(String(item.item_id));
      also.textContent = place ? `${other.run}: ${place}` : "";
    }
    return this.rows.filter(({ item }) => places.has(String(item.item_id))).length;
  }
}

function movement(before, id, nth) {
  const was = before.get(id);
  if (was === undefined) return before.size ? "new" : "";
  if (was === nth) return "";
  return was > nth ? `▲ ${was - nth}` : `▼ ${nth - was}`;
}
