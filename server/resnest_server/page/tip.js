// The tooltip of the highlighted detection: its class, score and area.

import { thousands } from "./dom.js";

const GAP = 14; // CSS pixels

/** Show the tooltip for a detection at (x, y) in the frame; hide it without a detection. */
export function showTip(tip, detection, x, y, frame) {
  tip.hidden = !detection;
  if (!detection) return;
  tip.textContent = "";
  const name = document.createElement("strong");
  name.textContent = detection.name;
  tip.append(name, ` score ${detection.score.toFixed(3)} · ${thousands(detection.area)} px`);
  const right = x + GAP + tip.offsetWidth > frame.width;
  const below = y + GAP + tip.offsetHeight <= frame.height;
  tip.style.left = `${Math.max(0, right ? x - GAP - tip.offsetWidth : x + GAP)}px`;
  tip.style.top = `${Math.max(0, below ? y + GAP : y - GAP - tip.offsetHeight)}px`;
}
