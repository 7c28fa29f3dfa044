// The picture with boxes, masks and labels, on a canvas that zooms and pans.

import { css, inkOn, overlap } from "./colors.js";
import { detectionAt } from "./detections.js";
import { Overlay } from "./overlay.js";
import { View } from "./view.js";

const FONT = "600 12px system-ui, sans-serif";
const LABEL = { height: 18, padding: 5 };
const PIXELATED = 4; // CSS pixels per picture pixel from which on pixels are drawn without smoothing
const HIGHEST = 0.68; // maximum height as a fraction of the window's

export class Stage {
  /** `onView()` is called when the view has changed. */
  constructor(frame, canvas, onView) {
    this.frame = frame;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.view = new View();
    this.onView = onView;
    this.size = null;
    this.picture = null;
    this.overlay = null;
    this.detections = [];
    this.layers = []; // the detections, the largest first
    this.lit = null;
    this.isPainted = false; // the overlay is up to date
    this.waiting = null; // the requested animation frame
    new ResizeObserver(() => this.resize()).observe(frame);
    addEventListener("resize", () => this.resize());
  }

  /** Show a picture of this size; null shows a plain background instead. */
  open(picture, size) {
    this.picture?.close();
    this.picture = picture;
    this.size = size;
    this.overlay = new Overlay(size);
    this.isPainted = true;
    this.detections = this.layers = [];
    this.lit = null;
    this.view.fit();
    this.resize();
  }

  /** Show these detections, best first. */
  show(detections) {
    this.detections = detections;
    this.layers = detections.toSorted((a, b) => b.area - a.area); // so that a large one doesn't hide a small one
    if (!detections.includes(this.lit)) this.lit = null;
    this.#repaint();
  }

  /** Highlight one of the detections, or none for null. */
  light(detection) {
    if (detection === this.lit) return;
    this.lit = detection;
    this.#repaint();
  }

  #repaint() {
    this.isPainted = false;
    this.draw();
  }

  /** Apply a function to the view. */
  change(how) {
    if (!this.size) return;
    how(this.view);
    this.draw();
    this.onView();
  }

  /** Return the detection at a position in the frame. */
  at(x, y) {
    return this.size ? detectionAt(this.detections, ...this.view.toPicture(x, y)) : null;
  }

  /** Fit the canvas to the frame's width and the picture's aspect ratio. */
  resize() {
    if (!this.size) return;
    const width = this.frame.clientWidth;
    if (width === 0) return; // hidden
    const height = Math.round(Math.min((width * this.size.height) / this.size.width, innerHeight * HIGHEST));
    const ratio = devicePixelRatio || 1;
    this.canvas.style.height = `${height}px`;
    const pixels = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== pixels[0] || this.canvas.height !== pixels[1]) {
      [this.canvas.width, this.canvas.height] = pixels;
    } else if (this.view.picture === this.size) {
      return;
    }
    this.view.resize({ width, height }, this.size);
    this.draw();
    this.onView();
  }

  /** Draw in the next animation frame, once for all changes until then. */
  draw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.#draw();
    });
  }

  #draw() {
    const { context, view } = this;
    if (!this.isPainted) this.overlay.paint(this.layers, this.lit);
    this.isPainted = true;
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, view.frame.width, view.frame.height);
    context.save();
    context.translate(view.x, view.y);
    context.scale(view.scale, view.scale);
    context.imageSmoothingEnabled = view.scale < PIXELATED;
    if (this.picture) {
      context.drawImage(this.picture, 0, 0, this.size.width, this.size.height);
    } else {
      context.fillStyle = "#8b95a1";
      context.fillRect(0, 0, this.size.width, this.size.height);
    }
    this.overlay.drawOn(context);
    context.restore();
    for (const detection of this.layers) this.#drawBox(detection);
    this.#drawLabels();
  }

  /** Return a detection's box in the frame: [left, top, right, bottom]. */
  boxOf({ box: [x1, y1, x2, y2] }) {
    return [...this.view.toFrame(x1, y1), ...this.view.toFrame(x2, y2)];
  }

  #drawBox(detection) {
    const { context, lit } = this;
    const [left, top, right, bottom] = this.boxOf(detection);
    context.strokeStyle = css(detection.color, lit && detection !== lit ? 0.35 : 1);
    context.lineWidth = detection === lit ? 3 : 1.5;
    context.strokeRect(left, top, right - left, bottom - top);
  }

  /** Draw classes and scores, best first, each where it overlaps no earlier one. */
  #drawLabels() {
    const { context, lit, view } = this;
    context.font = FONT;
    context.textBaseline = "middle";
    const taken = [];
    for (const detection of lit ? [lit] : this.detections) {
      const text = `${detection.name} ${detection.score.toFixed(2)}`;
      const width = context.measureText(text).width + 2 * LABEL.padding;
      const [left, boxTop, right] = this.boxOf(detection);
      if (right < 0 || left > view.frame.width) continue;
      const above = boxTop - LABEL.height;
      const x = Math.round(Math.max(0, Math.min(left, view.frame.width - width)));
      const y = Math.round(Math.max(0, above >= 0 ? above : boxTop));
      const place = [x, y, x + width, y + LABEL.height];
      if (y > view.frame.height || taken.some((other) => overlap(place, other))) continue;
      taken.push(place);
      context.fillStyle = css(detection.color);
      context.fillRect(x, y, width, LABEL.height);
      context.fillStyle = inkOn(detection.color);
      context.fillText(text, x + LABEL.padding, y + LABEL.height / 2 + 0.5);
    }
  }
}
