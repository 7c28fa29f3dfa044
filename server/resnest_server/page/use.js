// The panel with the request as curl and Python, for copying.

import { curl, python } from "./snippets.js";

const WRITERS = { "tab-curl": curl, "tab-python": python };

export class Use {
  constructor({ tabs, code, copy, copied }) {
    this.tabs = tabs;
    this.code = code;
    this.copied = copied;
    this.request = null;
    tabs.forEach((tab, index) => {
      tab.addEventListener("click", () => this.#select(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step === undefined) return;
        const next = tabs[(index + step + tabs.length) % tabs.length];
        this.#select(next);
        next.focus();
      });
    });
    copy.addEventListener("click", () => this.#copy());
  }

  /** Show this request: {address, path, file, type, withKey}. */
  show(request) {
    this.request = request;
    this.#write();
  }

  get #selected() {
    return this.tabs.find((tab) => tab.getAttribute("aria-selected") === "true");
  }

  #select(chosen) {
    for (const tab of this.tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
    this.code.setAttribute("aria-labelledby", chosen.id);
    this.#write();
  }

  #write() {
    this.copied.textContent = "";
    this.code.firstElementChild.textContent = this.request ? WRITERS[this.#selected.id](this.request) : "";
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.code.textContent);
      this.copied.textContent = "Copied.";
    } catch {
      // Without TLS browsers offer no clipboard API: select the text, so that the user can copy it.
      getSelection().selectAllChildren(this.code);
      this.copied.textContent = "Selected: press Ctrl+C or ⌘C to copy.";
    }
  }
}
