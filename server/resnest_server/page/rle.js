// Masks in COCO's compressed run lengths, {"size": [height, width], "counts": "…"}, as pycocotools reads and writes them.
//
// The mask is read column by column, top to bottom. Runs alternate between pixels outside and inside the mask, starting
// outside. From the fourth on, a run is encoded as its difference from the one two places before. Each number is encoded in
// characters of 6 bits, character code minus 48, lowest bits first: five bits of the number, and a sixth (32) that says
// whether another character follows. In the last character the fifth bit (16) is the sign.

const FIRST_CODE = 48;
const MORE = 32;
const SIGN = 16;

/** Return the lengths of the runs in a string of counts. */
export function decodeCounts(counts) {
  const runs = [];
  let at = 0;
  while (at < counts.length) {
    let number = 0;
    let shift = 0;
    let bits;
    do {
      bits = counts.charCodeAt(at++) - FIRST_CODE;
      number |= (bits & 31) << shift;
      shift += 5;
    } while (bits & MORE);
    if (bits & SIGN && shift < 32) number |= -1 << shift;
    if (runs.length > 2) number += runs[runs.length - 2];
    runs.push(number);
  }
  return runs;
}

/** A mask of an image: start and end of its runs, as positions in column-major order. */
export class Mask {
  constructor({ size: [height, width], counts }) {
    this.height = height;
    this.width = width;
    const runs = decodeCounts(counts);
    this.starts = new Uint32Array(runs.length >> 1);
    this.ends = new Uint32Array(runs.length >> 1);
    this.area = 0;
    let position = 0;
    for (let run = 0; run + 1 < runs.length; run += 2) {
      position += runs[run];
      this.starts[run >> 1] = position;
      position += runs[run + 1];
      this.ends[run >> 1] = position;
      this.area += runs[run + 1];
    }
  }

  /** Whether the pixel (x, y) is in the mask. */
  has(x, y) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return false;
    const position = Math.floor(x) * this.height + Math.floor(y);
    let low = 0;
    let high = this.ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ends[middle] > position) high = middle;
      else low = middle + 1;
    }
    return low < this.starts.length && this.starts[low] <= position;
  }

  /**
   * Write `value` to the mask's pixels in an array of the image's pixels in column-major order.
   * With a step of n the array holds every n-th pixel of every n-th column.
   */
  fill(array, value, step = 1) {
    if (step === 1) {
      for (let run = 0; run < this.starts.length; run++) array.fill(value, this.starts[run], this.ends[run]);
      return;
    }
    const rows = Math.ceil(this.height / step);
    for (let run = 0; run < this.starts.length; run++) {
      const last = Math.floor((this.ends[run] - 1) / this.height);
      for (let column = Math.floor(this.starts[run] / this.height); column <= last; column++) {
        if (column % step) continue;
        const top = Math.max(0, this.starts[run] - column * this.height);
        const bottom = Math.min(this.height, this.ends[run] - column * this.height);
        const offset = (column / step) * rows;
        array.fill(value, offset + Math.ceil(top / step), offset + Math.ceil(bottom / step));
      }
    }
  }
}
