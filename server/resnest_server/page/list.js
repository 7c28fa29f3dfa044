// The list of detections: a list box whose active row is highlighted in the picture.

import { css } from "./colors.js";
import { make, thousands } from "./dom.js";

export class DetectionList {
  /** `onActive(detection)` is called with the active row's detection, or null. */
  constructor(element, onActive) {
    this.element = element;
    this.onActive = onActive;
    this.rows = [];
    this.active = null;
    element.addEventListener("keydown", (event) => this.#onKey(event));
    element.addEventListener("focus", () => {
      if (element.matches(":focus-visible")) this.#activate(this.rows[0], true);
    });
    element.addEventListener("blur", () => this.#activate(null, true));
    element.addEventListener("pointerover", (event) => {
      const row = this.rows.find(({ option }) => option.contains(event.target));
      if (row) this.#activate(row, true);
    });
    element.addEventListener("pointerleave", () => this.#activate(null, true));
  }

  show(detections) {
    this.rows = detections.map((detection, index) => {
      const swatch = make("span", { className: "swatch", "aria-hidden": "true" });
      swatch.style.background = css(detection.color);
      const option = make(
        "li",
        { id: `detection-${index}`, role: "option", "aria-selected": "false" },
        swatch,
        make("span", { className: "name" }, detection.name),
        make("span", { className: "number" }, make("span", { className: "spoken" }, "score "), detection.score.toFixed(3)),
        make("span", { className: "number area" }, thousands(detection.area), make("span", { className: "unit" }, " px")),
      );
      return { detection, option };
    });
    this.element.replaceChildren(...this.rows.map(({ option }) => option));
    this.active = null;
    this.element.removeAttribute("aria-activedescendant");
  }

  /** Activate the row of the detection that is highlighted in the picture, or none for null. */
  mark(detection) {
    this.#activate(this.rows.find((row) => row.detection === detection) ?? null, false);
  }

  #onKey(event) {
    const last = this.rows.length - 1;
    const at = this.rows.indexOf(this.active);
    const next = { ArrowDown: at + 1, ArrowUp: Math.max(at, 1) - 1, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.#activate(null, true);
    if (next === undefined || last < 0) return;
    event.preventDefault();
    this.#activate(this.rows[Math.min(next, last)], true);
  }

  #activate(row, tell) {
    row ??= null;
    if (row === this.active) return;
    this.active?.option.setAttribute("aria-selected", "false");
    this.active = row;
    if (row) {
      row.option.setAttribute("aria-selected", "true");
      this.element.setAttribute("aria-activedescendant", row.option.id);
      this.#scrollTo(row.option);
    } else {
      this.element.removeAttribute("aria-activedescendant");
    }
    if (tell) this.onActive(row?.detection ?? null);
  }

  /** Scroll the list without scrolling the page. */
  #scrollTo(option) {
    const { element } = this;
    const top = option.offsetTop;
    if (top < element.scrollTop) element.scrollTop = top;
    const bottom = top + option.offsetHeight;
    if (bottom > element.scrollTop + element.clientHeight) element.scrollTop = bottom - element.clientHeight;
  }
}
