// Where the picture stands in its frame: how large, and how far moved. All in CSS pixels.

const MOST = 16; // times as large as what fits the frame

export class View {
  constructor() {
    this.frame = { width: 1, height: 1 };
    this.picture = { width: 1, height: 1 };
    this.fit();
  }

  /** Times as large as what fits the frame. */
  get zoom() {
    return this.times;
  }

  get isFit() {
    return this.times === 1;
  }

  /** CSS pixels for a pixel of the picture. */
  get scale() {
    return this.#whole * this.times;
  }

  /** Show all of the picture. */
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

  /** Zoom by a factor; what is at (x, y) of the frame stays there. */
  zoomBy(factor, x = this.frame.width / 2, y = this.frame.height / 2) {
    const before = this.scale;
    const times = Math.min(MOST, Math.max(1, this.times * factor));
    this.times = Math.abs(times - 1) < 0.01 ? 1 : times;
    const ratio = this.scale / before;
    this.#moveTo(x - (x - this.x) * ratio, y - (y - this.y) * ratio);
  }

  /** Move no further than needed for a box of the picture to be seen. */
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

  /** Move to there, but keep the frame filled; a side shorter than the frame stands in its middle. */
  #moveTo(x, y) {
    const kept = (position, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, position)));
    this.x = kept(x, this.picture.width * this.scale, this.frame.width);
    this.y = kept(y, this.picture.height * this.scale, this.frame.height);
  }
}
