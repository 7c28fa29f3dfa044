// The gateway's routes, relative to the page, so that they also work under a proxy's path prefix.

/** An error with a message for the user; `status` is the response's, 0 without a response. */
export class Problem extends Error {
  constructor(sentence, status = 0) {
    super(sentence);
    this.status = status;
  }
}

let key = ""; // in memory only

/** Send this API key with all further requests. */
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

/** Return the response for an image, and the round-trip time in milliseconds. */
export async function detect(model, image, signal) {
  const start = performance.now();
  const text = await send(detectPath(model, { score_threshold: 0.05, masks: "rle" }), {
    method: "POST",
    body: image,
    // The server detects the format from the bytes.
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
    throw new Problem("The server can't be reached: check that it is running, and your network connection.");
  }
  if (!response.ok) throw new Problem(sentence(response, text), response.status);
  return text;
}

function sentence(response, text) {
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === "string" && detail) return detail;
  } catch {
    // Not the gateway's problem document: a proxy in front of it responded.
  }
  return `The server answered ${response.status} ${response.statusText}`.trim() + ".";
}
