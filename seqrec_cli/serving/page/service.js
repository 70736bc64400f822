// The service's routes. The token stays in this module's memory.

let token = null;

export class Refusal extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export function useToken(given) {
  token = given;
}

// `query` holds plain values, or lists for names that stand there several times.
export function get(path, query = {}, signal = null) {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const each of Array.isArray(value) ? value : [value]) words.append(name, each);
  }
  const asked = words.toString();
  return answer(asked ? `${path}?${asked}` : path, { signal });
}

export function post(path, body, signal = null) {
  return answer(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
}

async function answer(path, how) {
  const headers = { ...how.headers, ...(token === null ? {} : { Authorization: `Bearer ${token}` }) };
  let found;
  let text;
  try {
    found = await fetch(path, { ...how, headers, cache: "no-store" });
    text = await found.text();
  } catch (fault) {
    if (fault.name === "AbortError") throw fault;
    throw new Refusal(0, "The service does not answer; is it still running?");
  }
  let read;
  try {
    // Ids beyond 2^53 are no exact numbers in JavaScript; the service takes texts as well.
    read = JSON.parse(text.replace(/"item_id":(-?\d{16,})/g, '"item_id":"$1"'));
  } catch {
    throw new Refusal(found.status, `The service answered status ${found.status}, and no JSON.`);
  }
  if (!found.ok) throw new Refusal(found.status, String(read.detail));
  return read;
}

// Calls `work(signal)` a moment after the last call; what an earlier one still waits for is given up, as by `stop`.
export function debounced(wait, work) {
  let timer = 0;
  let control = null;
  const later = () => {
    later.stop();
    timer = setTimeout(() => {
      control = new AbortController();
      work(control.signal);
    }, wait);
  };
  later.stop = () => {
    clearTimeout(timer);
    control?.abort();
  };
  return later;
}
