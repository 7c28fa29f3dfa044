// Pointer, wheel and keys on the canvas: zoom, pan, and hover over a detection.

const WHEEL = 0.0016; // change of log(zoom) per pixel of wheel movement
const STEP = 1.25; // zoom factor of a key or button
const ARROW = 60; // CSS pixels per arrow key
const LINE = 18; // CSS pixels per line, for wheels that report lines

/** Make the canvas zoom and pan; `onPoint(detection, x, y)` reports the detection under the pointer, or null. */
export function installGestures(canvas, stage, onPoint) {
  const pointers = new Map();
  let moved = false;

  const place = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const point = (event) => {
    const [x, y] = place(event);
    onPoint(stage.at(x, y), x, y);
  };

  canvas.addEventListener("wheel", (event) => {
    if (stage.view.isFit && event.deltaY > 0) return; // already fits: let the page scroll
    event.preventDefault();
    const way = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1);
    stage.change((view) => view.zoomBy(Math.exp(-way * WHEEL), ...place(event)));
    point(event);
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, place(event));
    moved = false;
    if (event.pointerType === "mouse" && !stage.view.isFit) canvas.setPointerCapture(event.pointerId);
    if (event.pointerType !== "mouse") point(event);
  });

  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return point(event);
    const now = place(event);
    const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    if (others.length === 1) pinch(stage, others[0], before, now);
    else if (!stage.view.isFit) stage.change((view) => view.move(now[0] - before[0], now[1] - before[1]));
    pointers.set(event.pointerId, now);
    if (Math.hypot(now[0] - before[0], now[1] - before[1]) > 2) moved = true;
    if (moved && !stage.view.isFit) onPoint(null, ...now);
    else point(event);
  });

  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", (event) => {
    pointers.delete(event.pointerId);
    if (event.pointerType === "mouse") onPoint(null, 0, 0);
  });
  canvas.addEventListener("dblclick", (event) => {
    stage.change((view) => (view.isFit ? view.zoomBy(2.5, ...place(event)) : view.fit()));
  });

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const how = KEYS[event.key];
    if (!how) return;
    event.preventDefault();
    stage.change(how);
  });
}

/** The actions of the zoom buttons. */
export const ZOOM = {
  in: (view) => view.zoomBy(STEP),
  out: (view) => view.zoomBy(1 / STEP),
  fit: (view) => view.fit(),
};

const KEYS = {
  "+": ZOOM.in,
  "=": ZOOM.in,
  "-": ZOOM.out,
  0: ZOOM.fit,
  ArrowLeft: (view) => view.move(ARROW, 0),
  ArrowRight: (view) => view.move(-ARROW, 0),
  ArrowUp: (view) => view.move(0, ARROW),
  ArrowDown: (view) => view.move(0, -ARROW),
};

function pinch(stage, still, before, now) {
  const factor = Math.hypot(now[0] - still[0], now[1] - still[1]) / Math.hypot(before[0] - still[0], before[1] - still[1]);
  const middle = [(now[0] + still[0]) / 2, (now[1] + still[1]) / 2];
  if (Number.isFinite(factor)) stage.change((view) => view.zoomBy(factor, ...middle));
}
