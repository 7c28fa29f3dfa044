// One sentence on what went wrong, with what can be done about it.

import { make } from "./dom.js";

export class Alert {
  constructor(element) {
    this.element = element;
  }

  /** Say a sentence; `onRetry`, if given, tries the same again. */
  say(sentence, onRetry = null) {
    const buttons = [make("button", { onclick: () => this.clear() }, "Dismiss")];
    if (onRetry) buttons.unshift(make("button", { onclick: onRetry }, "Try again"));
    this.element.replaceChildren(make("p", {}, sentence), make("div", {}, ...buttons));
  }

  clear() {
    this.element.replaceChildren();
  }
}
