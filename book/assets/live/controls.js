// Sliders with labels and values.

export class Controls {
  // controls: [{name, label, min, max, step, value}]; changed is called after every move.
  constructor(parent, controls, changed) {
    this.sliders = new Map();
    for (const control of controls) {
      const { name, label, min, max, step, value } = control;
      parent.insertAdjacentHTML(
        "beforeend",
        `<label class="live-slider"><span>${label}</span><output></output>
           <input type="range" name="${name}" min="${min}" max="${max}" step="${step}"></label>`,
      );
      const input = parent.lastElementChild.querySelector("input");
      input.value = value;
      input.addEventListener("input", () => {
        this.show(name);
        changed();
      });
      this.sliders.set(name, { input, digits: `${step}`.split(".")[1]?.length ?? 0 });
      this.show(name);
    }
  }

  show(name) {
    const { input, digits } = this.sliders.get(name);
    const text = Number(input.value).toFixed(digits);
    input.parentElement.querySelector("output").value = text.replace("-", "−");
  }

  // Move sliders, within their ends, as if the reader did.
  set(values) {
    for (const [name, value] of Object.entries(values)) {
      this.sliders.get(name).input.value = value;
      this.show(name);
    }
    this.sliders.values().next().value.input.dispatchEvent(new Event("input"));
  }

  get settings() {
    return Object.fromEntries(
      [...this.sliders].map(([name, { input }]) => [name, Number(input.value)]),
    );
  }
}
