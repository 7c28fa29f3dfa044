// The score slider and the class checkboxes filter a response's detections in the page, without a new request.

import { classColors, css } from "./colors.js";
import { make } from "./dom.js";

export class Filter {
  /** `onChange()` is called when the filter changes. */
  constructor({ slider, output, classes, all, none }, onChange) {
    this.slider = slider;
    this.output = output;
    this.classes = classes;
    this.onChange = onChange;
    this.detections = [];
    this.boxes = [];
    slider.addEventListener("input", () => this.#changed());
    classes.addEventListener("change", () => this.#changed());
    all.addEventListener("click", () => this.#check(true));
    none.addEventListener("click", () => this.#check(false));
    this.#write();
  }

  get threshold() {
    return Number(this.slider.value);
  }

  /** Show a checkbox for each class of these detections. */
  open(detections) {
    this.detections = detections;
    const labels = new Map(detections.map(({ label, name }) => [label, name]));
    const colors = classColors([...labels.keys()]);
    this.boxes = [...labels].map(([label, name]) => {
      const input = make("input", { type: "checkbox", checked: true });
      const count = make("span", { className: "count" });
      const swatch = make("span", { className: "swatch", "aria-hidden": "true" });
      swatch.style.background = css(colors.get(label));
      return { label, input, count, row: make("label", {}, input, swatch, make("span", { className: "name" }, name), count) };
    });
    this.classes.replaceChildren(...this.boxes.map(({ row }) => row));
    this.#write();
  }

  /** Return the detections that pass the filter. */
  shown() {
    const labels = new Set(this.boxes.filter(({ input }) => input.checked).map(({ label }) => label));
    return this.#above().filter(({ label }) => labels.has(label));
  }

  #above() {
    return this.detections.filter(({ score }) => score > this.threshold);
  }

  #check(checked) {
    for (const { input } of this.boxes) input.checked = checked;
    this.#changed();
  }

  #changed() {
    this.#write();
    this.onChange();
  }

  #write() {
    this.output.textContent = this.threshold.toFixed(2);
    const above = this.#above();
    for (const { label, count, row } of this.boxes) {
      const number = above.filter((one) => one.label === label).length;
      count.textContent = number;
      row.classList.toggle("is-empty", number === 0);
    }
  }
}
