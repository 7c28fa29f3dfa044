// Scale and offset of the picture in its frame, in CSS pixels.

const MOST = 16; // maximum zoom, relative to the fitted size

export class View {
  constructor() {
    this.frame = { width: 1, height: 1 };
    this.picture = { width: 1, height: 1 };
    this.fit();
  }

  /** The zoom, relative to the fitted size. */
  get zoom() {
    return this.times;
  }

  get isFit() {
    return this.times === 1;
  }

  /** CSS pixels per picture pixel. */
  get scale() {
    return this.#whole * this.times;
  }

  /** Fit the whole picture into the frame. */
  fit() {
    this.times = 1;
    this.#moveTo(0, 0);
  }

  resize(frame, picture = this.picture) {
    this.frame = frame;
    this.picture = picture;
    this.#moveTo(this.x, this.y);
  }

  move(dx, dy) {
    this.#moveTo(this.x + dx, this.y + dy);
  }

  /** Zoom by a factor; the point at (x, y) in the frame stays in place. */
  zoomBy(factor, x = this.frame.width / 2, y = this.frame.height / 2) {
    const before = this.scale;
    const times = Math.min(MOST, Math.max(1, this.times * factor));
    this.times = Math.abs(times - 1) < 0.01 ? 1 : times;
    const ratio = this.scale / before;
    this.#moveTo(x - (x - this.x) * ratio, y - (y - this.y) * ratio);
  }

  /** Pan as little as needed to make a box of the picture visible. */
  reveal([x1, y1, x2, y2]) {
    const nudge = (low, high, size) => (high > size ? Math.max(size - high, -low) : Math.max(0, -low));
    const [left, top] = this.toFrame(x1, y1);
    const [right, bottom] = this.toFrame(x2, y2);
    this.move(nudge(left, right, this.frame.width), nudge(top, bottom, this.frame.height));
  }

  toFrame(x, y) {
    return [this.x + x * this.scale, this.y + y * this.scale];
  }

  toPicture(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  get #whole() {
    return Math.min(this.frame.width / this.picture.width, this.frame.height / this.picture.height);
  }

  /** Pan to an offset, but keep the frame filled; centre a side that is shorter than the frame. */
  #moveTo(x, y) {
    const kept = (position, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, position)));
    this.x = kept(x, this.picture.width * this.scale, this.frame.width);
    this.y = kept(y, this.picture.height * this.scale, this.frame.height);
  }
}
