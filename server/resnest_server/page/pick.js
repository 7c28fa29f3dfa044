// Image input: file dialog, drag and drop, paste, or a sample.

import { Problem } from "./api.js";

/** `onImage(file)` is called with an image, `onProblem(error)` if there is none. */
export function installPicking({ input, choosers, samples, body }, onImage, onProblem) {
  const take = (files, way) => {
    const [file] = files;
    if (file) onImage(file);
    else onProblem(new Problem(`No file was ${way}: save the image first, then choose it.`));
  };

  for (const button of choosers) button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files.length) onImage(input.files[0]);
    input.value = ""; // so that choosing the same file again fires `change`
  });

  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input, textarea") && !event.clipboardData.files.length) return;
    event.preventDefault();
    take(event.clipboardData.files, "pasted");
  });

  let depth = 0; // `dragenter` of a child fires before `dragleave` of its parent
  const drag = (change) => {
    depth = change === 0 ? 0 : Math.max(0, depth + change);
    body.classList.toggle("is-dragging", depth > 0);
  };
  document.addEventListener("dragenter", () => drag(1));
  document.addEventListener("dragleave", () => drag(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drag(0);
    take(event.dataTransfer.files, "dropped");
  });

  for (const button of samples) {
    button.addEventListener("click", async () => {
      const address = button.querySelector("img").src;
      try {
        const response = await fetch(address);
        if (!response.ok) throw new Error(response.statusText);
        const blob = await response.blob();
        onImage(new File([blob], address.split("/").pop(), { type: blob.type }));
      } catch {
        onProblem(new Problem("The sample can't be loaded: check that the server is running, and your network connection."));
      }
    });
  }
}
