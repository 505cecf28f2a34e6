// Paper that is drawn on with a mouse, a pen or a finger, and what a model is given of it: as the scans were made that the models
// learned from, the digit's box is scaled to 32 by 32 points, and each of 8 by 8 fields counts its 16.

const INK = "#1c2430";
const WIDTH = 22; // of the pen on paper
const PEN = 4.5; // in a scan's points, whatever the size that was drawn
const POINTS = 32;
const FIELDS = 8;
const BRIGHTEST = 16;

export class Paper {
  #strokes = [];
  #onDrawn;

  constructor(canvas, onDrawn) {
    this.canvas = canvas;
    this.#onDrawn = onDrawn;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      canvas.setPointerCapture(event.pointerId);
      this.#strokes.push([this.#at(event)]);
      this.#draw();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      for (const one of event.getCoalescedEvents?.() ?? [event]) this.#strokes.at(-1).push(this.#at(one));
      this.#draw();
    });
    canvas.addEventListener("pointerup", () => this.#onDrawn());
    canvas.addEventListener("pointercancel", () => this.#onDrawn());
  }

  get isEmpty() {
    return this.#strokes.length === 0;
  }

  clear() {
    this.#strokes = [];
    this.#draw();
  }

  /** 64 numbers from 0 to 16, row by row. */
  row() {
    const points = this.#strokes.flat();
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    const [left, right] = [Math.min(...xs), Math.max(...xs)];
    const [top, bottom] = [Math.min(...ys), Math.max(...ys)];
    const scale = (POINTS - PEN) / Math.max(right - left, bottom - top, 1);
    const small = new OffscreenCanvas(POINTS, POINTS).getContext("2d", { willReadFrequently: true });
    small.translate(POINTS / 2, POINTS / 2);
    small.scale(scale, scale);
    small.translate(-(left + right) / 2, -(top + bottom) / 2);
    trace(small, this.#strokes, PEN / scale);
    const { data } = small.getImageData(0, 0, POINTS, POINTS);
    const row = new Array(FIELDS * FIELDS).fill(0);
    const side = POINTS / FIELDS;
    for (let y = 0; y < POINTS; y++) {
      for (let x = 0; x < POINTS; x++) {
        if (data[4 * (y * POINTS + x) + 3] >= 128) row[Math.floor(y / side) * FIELDS + Math.floor(x / side)]++;
      }
    }
    return row;
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * this.canvas.width) / box.width, ((event.clientY - box.top) * this.canvas.height) / box.height];
  }

  #draw() {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    trace(context, this.#strokes, WIDTH);
  }
}

function trace(context, strokes, width) {
  context.strokeStyle = INK;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...stroke[0]);
    for (const point of stroke) context.lineTo(...point);
    context.stroke();
  }
}

/** Shows what a model is given, a point a field. */
export function show(canvas, row) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(FIELDS, FIELDS);
  row.forEach((value, i) => image.data.set([28, 36, 48, Math.round((255 * value) / BRIGHTEST)], 4 * i));
  context.putImageData(image, 0, 0);
  canvas.dataset.row = JSON.stringify(row);
}
