// Colours that tell the objects of a picture apart: the same as in the server's drawings (`resnest_core.colors`).

// Okabe and Ito's, which people with any kind of colour vision can tell apart.
const PALETTE = [
  [230, 159, 0],
  [86, 180, 233],
  [0, 158, 115],
  [240, 228, 66],
  [204, 121, 167],
  [213, 94, 0],
  [0, 114, 178],
];
const DARK = 0.179; // relative luminance (WCAG 2.2) below which white text is more legible than black

/** Return a Map from each label to an index into the palette: different ones, as far as there are. */
function classIndices(labels) {
  const chosen = new Map();
  for (const label of [...new Set(labels)].sort((a, b) => a - b)) chosen.set(label, leastUsed(label, [...chosen.values()]));
  return chosen;
}

/** Return a Map from each label to [red, green, blue], 0…255. */
export function classColors(labels) {
  return new Map([...classIndices(labels)].map(([label, index]) => [label, PALETTE[index]]));
}

/** Return a colour for each detection, best first: its class's, or another where that is an overlapping object's. */
export function objectColors(detections) {
  const ofClass = classIndices(detections.map(({ label }) => label));
  const chosen = [];
  for (const { box, label } of detections) {
    const used = chosen.filter((_, other) => overlap(box, detections[other].box));
    chosen.push(leastUsed(ofClass.get(label), used));
  }
  return chosen.map((index) => PALETTE[index]);
}

/** Return the index of the palette that occurs least in `used`, the first from `start` on. */
function leastUsed(start, used) {
  const counts = PALETTE.map((_, index) => used.filter((one) => one === index).length);
  const cycle = PALETTE.map((_, step) => (start + step) % PALETTE.length);
  return cycle.reduce((best, index) => (counts[index] < counts[best] ? index : best));
}

/** Return whether two rectangles [left, top, right, bottom] share an area. */
export function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}

/** Return a colour in CSS syntax. */
export function css([red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}

/** Return the text colour, black or white, with the better contrast on a colour. */
export function inkOn(color) {
  const [red, green, blue] = color.map((value) => (value / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < DARK ? "#fff" : "#000";
}
