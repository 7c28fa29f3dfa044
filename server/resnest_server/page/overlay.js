// The masks of all detections shown, as one picture.
//
// COCO's runs go down the columns, so the picture is transposed: its rows are the image's columns, and a run is contiguous
// in memory. `drawOn` transposes it back. Large images are stored at a half, a third, …

const PIXELS = 2_000_000; // maximum stored
const OPACITY = { plain: 115, strong: 165, weak: 45, outline: 255, weakOutline: 110 };

export class Overlay {
  constructor({ width, height }) {
    this.step = Math.ceil(Math.sqrt((width * height) / PIXELS));
    this.columns = Math.ceil(width / this.step);
    this.rows = Math.ceil(height / this.step);
    this.owners = new Uint16Array(this.columns * this.rows); // 1 + index of the topmost detection; 0: none
    this.canvas = document.createElement("canvas");
    this.canvas.width = this.rows;
    this.canvas.height = this.columns;
    this.context = this.canvas.getContext("2d");
    this.image = this.context.createImageData(this.rows, this.columns);
    this.pixels = new Uint32Array(this.image.data.buffer);
  }

  /** Store the masks of these detections, later ones over earlier ones; `lit`, one of them or null, is highlighted. */
  paint(detections, lit) {
    this.owners.fill(0);
    detections.forEach(({ mask }, index) => mask?.fill(this.owners, index + 1, this.step));
    if (lit) lit.mask?.fill(this.owners, detections.indexOf(lit) + 1, this.step);
    const faces = [0, ...detections.map((one) => rgba(one.color, faceOf(one, lit)))];
    const outlines = [0, ...detections.map((one) => rgba(one.color, outlineOf(one, lit)))];
    this.#colour(Uint32Array.from(faces), Uint32Array.from(outlines));
    this.context.putImageData(this.image, 0, 0);
  }

  /** Draw the masks; the context's units are the image's pixels. */
  drawOn(context) {
    context.save();
    context.transform(0, this.step, this.step, 0, 0, 0); // transposes
    context.drawImage(this.canvas, 0, 0);
    context.restore();
  }

  #colour(faces, outlines) {
    const { owners, pixels, rows, columns } = this;
    for (let column = 0, at = 0; column < columns; column++) {
      for (let row = 0; row < rows; row++, at++) {
        const owner = owners[at];
        if (owner === 0) {
          pixels[at] = 0;
          continue;
        }
        const inside =
          (row === 0 || owners[at - 1] === owner) &&
          (row === rows - 1 || owners[at + 1] === owner) &&
          (column === 0 || owners[at - rows] === owner) &&
          (column === columns - 1 || owners[at + rows] === owner);
        pixels[at] = inside ? faces[owner] : outlines[owner];
      }
    }
  }
}

function faceOf(detection, lit) {
  if (!lit) return OPACITY.plain;
  return detection === lit ? OPACITY.strong : OPACITY.weak;
}

function outlineOf(detection, lit) {
  return lit && detection !== lit ? OPACITY.weakOutline : OPACITY.outline;
}

function rgba([red, green, blue], alpha) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0; // little-endian: browsers run on nothing else
}
