// Colours of classes: constant, bright, and distinct for adjacent labels. The server's drawings use the same.

const GOLDEN_RATIO = 0.618034; // steps around the colour circle that stay far from earlier ones
const SATURATION = 0.75;

/** Return [red, green, blue], 0…255. */
export function classColor(label) {
  const hue = (label * GOLDEN_RATIO) % 1;
  return [5, 3, 1].map((n) => {
    const k = (n + hue * 6) % 6;
    return Math.round(255 * (1 - SATURATION * Math.max(0, Math.min(k, 4 - k, 1))));
  });
}

/** Return a colour in CSS syntax. */
export function css([red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}

/** Return the text colour, black or white, with the better contrast on a colour. */
export function inkOn([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue < 118 ? "#fff" : "#000";
}
