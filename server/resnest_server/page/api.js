// The gateway's routes, relative to the page: behind a proxy's path too.

/** What went wrong, in a sentence; `status` is that of the answer, 0 where there was none. */
export class Problem extends Error {
  constructor(sentence, status = 0) {
    super(sentence);
    this.status = status;
  }
}

let key = ""; // kept nowhere else

/** Send this API key from now on. */
export function useKey(value) {
  key = value;
}

/** Whether an API key is sent. */
export function hasKey() {
  return key !== "";
}

/** Return the path of a model's detection route with its query. */
export function detectPath(model, query) {
  return `v1/models/${encodeURIComponent(model)}/detect?${new URLSearchParams(query)}`;
}

/** Return {"models": [cards], "default": name}. */
export async function listModels() {
  return JSON.parse(await send("v1/models"));
}

/** Return the answer for an image, and how long it took to come, in milliseconds. */
export async function detect(model, image, signal) {
  const start = performance.now();
  const text = await send(detectPath(model, { score_threshold: 0.05, masks: "rle" }), {
    method: "POST",
    body: image,
    // What it is, the server tells from the bytes.
    headers: { "Content-Type": image.type.startsWith("image/") ? image.type : "image/x-unknown" },
    signal,
  });
  const roundTrip = performance.now() - start;
  performance.mark("answer");
  return { answer: JSON.parse(text), roundTrip };
}

async function send(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  let text;
  try {
    response = await fetch(path, { ...options, headers });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server can't be reached: it may have stopped, or the network is away.");
  }
  if (!response.ok) throw new Problem(sentence(response, text), response.status);
  return text;
}

function sentence(response, text) {
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === "string" && detail) return detail;
  } catch {
    // Not the gateway's words: those of a proxy before it.
  }
  return `The server answered ${response.status} ${response.statusText}`.trim() + ".";
}
