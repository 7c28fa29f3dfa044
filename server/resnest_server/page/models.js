// The choice of the model, and the name and notes from its card.

export class ModelPicker {
  /** `onChange()` is called when the user selects another model. */
  constructor({ label, select, name, notes }, onChange) {
    this.label = label;
    this.select = select;
    this.name = name;
    this.notes = notes;
    this.cards = [];
    select.addEventListener("change", () => {
      this.#write();
      onChange();
    });
  }

  /** The card of the selected model; undefined until the list is loaded. */
  get card() {
    return this.cards[this.select.selectedIndex];
  }

  /** Show the models of the server's list. */
  open({ models, default: first }) {
    this.cards = models;
    this.select.replaceChildren(...models.map(({ name }) => new Option(name, name, false, name === first)));
    const several = models.length > 1;
    this.label.hidden = this.select.hidden = !several;
    this.#write();
  }

  #write() {
    const { name, family, backbone, notes } = this.card;
    const kind = [family, backbone].filter(Boolean).join(" on ");
    this.name.textContent = this.cards.length > 1 ? kind : `${name}: ${kind}`;
    this.notes.textContent = notes;
    this.notes.hidden = !notes;
  }
}
