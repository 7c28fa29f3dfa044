// The error message, with the actions that the user can take.

import { make } from "./dom.js";

export class Alert {
  constructor(element) {
    this.element = element;
  }

  /** Show a message; `onRetry`, if given, repeats the failed action. */
  say(sentence, onRetry = null) {
    const buttons = [make("button", { onclick: () => this.clear() }, "Dismiss")];
    if (onRetry) buttons.unshift(make("button", { onclick: onRetry }, "Try again"));
    this.element.replaceChildren(make("p", {}, sentence), make("div", {}, ...buttons));
  }

  clear() {
    this.element.replaceChildren();
  }
}
