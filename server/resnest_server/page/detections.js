// The detections of a response, as the page uses them.

import { objectColors } from "./colors.js";
import { Mask } from "./rle.js";

/** Return the detections of a native response, best first, with colours, decoded masks, and areas in pixels. */
export function readDetections(answer) {
  const colors = objectColors(answer.detections);
  return answer.detections.map((row, index) => {
    const mask = row.mask ? new Mask(row.mask) : null;
    const [x1, y1, x2, y2] = row.box;
    return {
      box: row.box,
      score: row.score,
      label: row.label,
      name: row.class,
      color: colors[index],
      mask,
      area: mask ? mask.area : (x2 - x1) * (y2 - y1),
    };
  });
}

/** Return the smallest detection whose mask, else whose box, covers a pixel; null if there is none. */
export function detectionAt(detections, x, y) {
  const inBox = detections.filter(({ box: [x1, y1, x2, y2] }) => x >= x1 && x < x2 && y >= y1 && y < y2);
  const inMask = inBox.filter(({ mask }) => mask?.has(x, y));
  const candidates = inMask.length ? inMask : inBox;
  return candidates.reduce((best, one) => (best === null || one.area < best.area ? one : best), null);
}
