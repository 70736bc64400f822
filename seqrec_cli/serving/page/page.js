// Ties the page together: what is typed, the history, and a list of recommendations for each run.

import { Answers } from "./answers.js";
import { nameOf } from "./elements.js";
import { History } from "./history.js";
import { get, useToken } from "./service.js";
import { Typing } from "./typing.js";

const MOST_SHOWN = 200; // events of a user's log, unless a run reads more
const TOPS = [5, 10, 20, 50, 100];
const on = (id) => document.getElementById(id);

let service = null; // what GET /runs answers
let answers = [];
let user = null; // whose history it is or was, for runs that know users
let logged = null; // how many events this user has, as long as the history is the log's own

const tell = (words) => (on("done").textContent = words);
const history = new History({ list: on("history"), changed: edited, say: tell, leave: () => on("typed").focus() });

function fail(fault) {
  if (fault.name === "AbortError") return;
  if (fault.status !== 401) {
    on("fault").textContent = fault.message;
    return;
  }
  on("fault").textContent = on("token").value ? "That is not this service's token." : "";
  on("token-form").hidden = false;
  on("token").value = "";
  on("token").focus();
}

async function start() {
  try {
    service = await get("runs");
  } catch (fault) {
    fail(fault);
    return;
  }
  on("fault").textContent = "";
  on("token").value = "";
  on("token-form").hidden = true;
  const runs = Object.entries(service.runs);
  const alone = runs.length === 1;
  on("runs").textContent = runs.map(([run, { model }]) => (alone ? model : `${run}: ${model}`)).join(", beside ");
  const tops = [...new Set([...TOPS, service.top])].sort((a, b) => a - b);
  on("top").replaceChildren(...tops.map((top) => new Option(top, top, top === service.top, top === service.top)));
  answers = runs.map(([run, facts]) => {
    const reasons = service.most_left_out > 0 ? Math.min(service.most_candidates, 100) : 0;
    const add = (item) => history.add(item);
    return new Answers({ run, facts, alone, reasons, ask, choice, nameAt, add, explain, said: compare, fail: refused });
  });
  on("answers").replaceChildren(...answers.map(({ box }) => box));
  changed();
  on("typed").focus();
}

// A list says itself why it is empty; of the token it says nothing.
function refused(fault) {
  if (fault.status === 401) fail(fault);
}

// For whom, knowing what: a user of the data as long as nothing was changed, a history of its own from then on.
function ask(facts) {
  if (logged !== null) return { user };
  const told = { user_history: history.events.map(({ item_id }) => item_id) };
  if (user !== null) told.user = user;
  if (facts.reads_times && history.events.length) told.times = history.times();
  return told;
}

function choice() {
  const repeats = on("repeats").value;
  return { top_k: Number(on("top").value), repeats: repeats === "" ? null : repeats === "true" };
}

function edited() {
  logged = null;
  changed();
}

function changed() {
  const count = history.events.length;
  const events = `${count} event${count === 1 ? "" : "s"}, the latest last`;
  let told = "Empty: type a title or an id, or load a user";
  if (logged !== null) told = `User ${user}: ${logged > count ? `the latest ${count} of ${logged} events` : events}`;
  else if (user !== null) told = `User ${user}, edited: ${events}`;
  else if (count) told = events;
  on("told").textContent = told;
  on("clear").hidden = count === 0 && user === null;
  explain(null);
  for (const each of answers) each.change();
}

// The service counts from a user's first event, of which the list may show the latest alone.
function hidden() {
  return logged === null ? 0 : logged - history.events.length;
}

function nameAt({ position, item_id }) {
  const event = history.events[position - hidden()];
  return event === undefined ? String(item_id) : nameOf(event);
}

// Shows in the history what its events add to one item's score; null: nothing.
function explain(contributions) {
  for (const each of answers) each.unpress();
  const first = hidden();
  history.mark(contributions && new Map([...contributions].map(([position, value]) => [position - first, value])));
}

function compare() {
  const counts = answers.map(({ rows }) => rows.length);
  if (answers.length === 2) {
    const both = Math.max(answers[0].compare(answers[1]), answers[1].compare(answers[0]));
    on("said").textContent = `${both} of ${Math.max(...counts)} items are in both lists`;
  } else {
    const [first] = answers[0].rows;
    on("said").textContent = first ? `${counts[0]} items, first ${nameOf(first.item)}` : "No items";
  }
}

async function load(id) {
  const most = Math.max(MOST_SHOWN, ...Object.values(service.runs).map((run) => run.max_length));
  try {
    const found = await get("history", { user: id, limit: most });
    on("fault").textContent = "";
    [user, logged] = [id, found.num_events];
    history.replace(found.history);
    tell(`The history is user ${id}'s`);
    changed();
  } catch (fault) {
    fail(fault);
  }
}

new Typing({ input: on("typed"), list: on("found"), choose: (item) => history.add(item), say: tell, fail });

on("user-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (service !== null) load(on("user").value.trim());
});
on("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(on("token").value);
  start();
});
on("clear").addEventListener("click", () => {
  [user, logged] = [null, null];
  history.replace([]);
  tell("The history is empty");
  changed();
  on("typed").focus();
});
for (const id of ["top", "repeats"]) on(id).addEventListener("change", changed);

start();
