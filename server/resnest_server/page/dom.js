// DOM helpers.

/** Return the element with this id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Make an element: properties are set on it, those with a dash as attributes; children are nodes or text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Format an integer with thousands separators. */
export function thousands(number) {
  return Math.round(number).toLocaleString("en");
}
