// The page sends an image to the gateway and draws the detections in the response.

import { Alert } from "./alert.js";
import { detect, detectPath, hasKey, listModels, useKey } from "./api.js";
import { readDetections } from "./detections.js";
import { byId } from "./dom.js";
import { Filter } from "./filter.js";
import { installGestures, ZOOM } from "./gestures.js";
import { DetectionList } from "./list.js";
import { ModelPicker } from "./models.js";
import { installPicking } from "./pick.js";
import { Stage } from "./stage.js";
import { showTimings } from "./timings.js";
import { showTip } from "./tip.js";
import { Use } from "./use.js";

const UNAUTHORIZED = 401;
const EXAMPLE = { name: "photo.jpg", type: "image/jpeg" };

const alert = new Alert(byId("alert"));
const models = new ModelPicker(
  { label: byId("model-label"), select: byId("model"), name: byId("model-name"), notes: byId("notes") },
  () => ask(),
);
const filter = new Filter(
  {
    slider: byId("score"),
    output: byId("score-value"),
    classes: byId("classes"),
    all: byId("classes-all"),
    none: byId("classes-none"),
  },
  () => showDetections(),
);
const stage = new Stage(byId("frame"), byId("canvas"), writeZoom);
const list = new DetectionList(byId("list"), (detection) => {
  stage.light(detection);
  tipAtBox(detection);
});
const use = new Use({
  tabs: [byId("tab-curl"), byId("tab-python")],
  code: byId("code"),
  copy: byId("copy"),
  copied: byId("copied"),
});

let file = null; // the current image
let summary = ""; // of its response: "found by demo in 95 ms"
let running = new AbortController(); // aborts the request in flight

installPicking(
  {
    input: byId("file"),
    choosers: document.querySelectorAll(".choose"),
    samples: document.querySelectorAll(".sample"),
    body: document.body,
  },
  (image) => {
    file = image;
    ask();
  },
  (problem) => alert.say(problem.message),
);
installGestures(byId("canvas"), stage, (detection, x, y) => {
  stage.light(detection);
  list.mark(detection);
  showTip(byId("tip"), detection, x, y, stage.view.frame);
});
for (const [name, change] of Object.entries(ZOOM)) {
  byId(`zoom-${name}`).addEventListener("click", () => stage.change(change));
}
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key").value = "";
  byId("key-form").hidden = true;
  start();
});
start();

/** Load the list of models, then process a waiting image. */
async function start() {
  alert.clear();
  try {
    models.open(await listModels());
  } catch (problem) {
    fail(problem, start);
    return;
  }
  writeRequest();
  if (file) ask();
}

/** Send the image, show it, then show its detections. */
async function ask() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  alert.clear();
  if (!file) return writeRequest();
  if (!models.card) return start();
  const image = file;
  const model = models.card.name;
  byId("status").textContent = `Running ${model} on ${image.name} …`;
  document.body.classList.add("is-busy");
  const request = detect(model, image, signal);
  request.catch(() => {}); // handled below
  const picture = await createImageBitmap(image).catch(() => null); // null: only the server can decode it
  if (signal.aborted) return;
  if (picture) openPicture(picture, { width: picture.width, height: picture.height });
  try {
    const { answer, roundTrip } = await request;
    if (!picture) openPicture(null, answer.image);
    showAnswer(answer, roundTrip);
  } catch (problem) {
    if (signal.aborted) return;
    if (!picture) close();
    fail(problem, ask);
  } finally {
    if (!signal.aborted) document.body.classList.remove("is-busy");
  }
}

function openPicture(picture, size) {
  const focused = document.activeElement;
  byId("drop").hidden = true;
  byId("picture").hidden = false;
  byId("results").hidden = true;
  document.body.classList.remove("is-new");
  byId("file-name").textContent = file.name;
  showTip(byId("tip"), null);
  stage.open(picture, size);
  if (focused?.closest("#drop")) byId("canvas").focus({ preventScroll: true });
}

/** Return to the initial state without an image. */
function close() {
  file = null;
  byId("drop").hidden = false;
  byId("picture").hidden = true;
  byId("results").hidden = true;
  document.body.classList.add("is-new");
  writeRequest();
}

function showAnswer(answer, roundTrip) {
  byId("results").hidden = false;
  const detections = readDetections(answer);
  summary = `found by ${answer.model} in ${Math.round(roundTrip)} ms`;
  stage.resize(); // the results panel makes it narrower
  filter.open(detections);
  showDetections();
  showTimings(byId("timings"), answer.timings_ms ?? {}, roundTrip);
  afterNextFrame(() => performance.measure("first-draw", "answer"));
}

/** Show the detections that pass the filter. */
function showDetections() {
  const shown = filter.shown();
  const all = filter.detections.length;
  stage.show(shown);
  list.show(shown);
  showTip(byId("tip"), null);
  byId("list-none").hidden = shown.length > 0;
  byId("list").hidden = shown.length === 0;
  byId("status").textContent = `${all} ${all === 1 ? "detection" : "detections"} ${summary}; ${shown.length} shown.`;
  const names = [...new Set(shown.map(({ name }) => name))].join(", ");
  byId("canvas").setAttribute("aria-label", `The image ${file.name} with ${shown.length} detections${names && `: ${names}`}`);
  writeRequest();
}

function fail(problem, again) {
  byId("status").textContent = "";
  const needsKey = problem.status === UNAUTHORIZED;
  byId("key-form").hidden = !needsKey;
  alert.say(problem.message, needsKey || isFinal(problem) ? null : again);
  if (needsKey) byId("key").focus();
}

/** Whether the same request would fail again. */
function isFinal({ status }) {
  return status >= 400 && status < 500 && status !== 429;
}

function tipAtBox(detection) {
  if (detection) stage.change((view) => view.reveal(detection.box));
  const [left, , , bottom] = detection ? stage.boxOf(detection) : [0, 0, 0, 0];
  showTip(byId("tip"), detection, left, bottom, stage.view.frame);
}

function writeZoom() {
  byId("zoom").textContent = `${Math.round(stage.view.zoom * 100)}%`;
  byId("canvas").classList.toggle("is-zoomed", !stage.view.isFit);
}

function writeRequest() {
  if (!models.card) return;
  const { name, type } = file ?? EXAMPLE;
  use.show({
    address: location.href,
    path: detectPath(models.card.name, { score_threshold: filter.threshold }),
    file: name,
    type: type || "image/*",
    withKey: hasKey(),
  });
}

function afterNextFrame(then) {
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = then;
    channel.port2.postMessage(null);
  });
}
