// Elements whose texts are texts: nothing that the data hold is ever read as HTML.

export function element(tag, { text = null, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

export function button(label, words, act) {
  const made = element("button", { type: "button", "aria-label": words, title: words, text: label });
  made.addEventListener("click", act);
  return made;
}

export function nameOf(item) {
  return item.title || String(item.item_id);
}

// The id, where the title is shown instead of it, and what is known of the item.
export function detailsOf(item) {
  const known = Object.values(item.attributes ?? {}).map((values) => values.join(", "));
  return [...(item.title ? [`id ${item.item_id}`] : []), ...known].join(" · ");
}

export function signed(number) {
  const size = Math.abs(number);
  const digits = size >= 0.005 || size === 0 ? size.toFixed(2) : size.toExponential(0);
  return `${number < 0 ? "−" : "+"}${digits}`;
}
