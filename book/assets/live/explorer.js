// An explorer: sliders, the data that they make, a network that answers, panels that show it.

import { Controls } from "./controls.js";
import { get, Network } from "./network.js";

const nextFrame = () => new Promise(requestAnimationFrame);

export class Explorer {
  // figure: <figure data-explorer="NAME">; NAME.js says what its data are and how they are shown.
  // fail is called with an error that comes later.
  static async load(figure, fail) {
    const name = figure.dataset.explorer;
    const address = (ending) => new URL(`${name}.${ending}`, import.meta.url);
    const [kind, { weights_sha256: digest, controls, fixed }] = await Promise.all([
      import(address("js").href),
      get(address("json")).then((response) => response.json()),
    ]);
    // A network of other weights has another address, so none comes from an old cache.
    const url = `${address("onnx").href}?${digest.slice(0, 8)}`;
    const explorer = new Explorer(figure, kind, fixed, await Network.load(url, fixed.noise));
    await explorer.mount(controls, fail);
    return explorer;
  }

  constructor(figure, kind, fixed, network) {
    Object.assign(this, { figure, kind, fixed, network });
    this.note = figure.querySelector(".live-note");
    this.stale = false;
  }

  async mount(controls, fail) {
    const stage = document.createElement("div");
    stage.className = "live-stage";
    stage.innerHTML = `<div class="live-sliders"></div><div class="live-panels"></div>
      <p class="live-readout" role="status"></p>`;
    const [sliders, panels, readout] = stage.children;
    this.readout = readout;
    this.controls = new Controls(sliders, controls, () => this.update().catch(fail));
    this.figure.dataset.state = "starting"; // the picture makes room
    this.figure.prepend(stage);
    this.panels = this.kind.makePanels(panels, this);
    new ResizeObserver(() => this.resize()).observe(panels);
    this.fit();
    await this.update();
  }

  fit() {
    Object.values(this.panels).forEach((panel) => panel.fit());
  }

  resize() {
    this.fit();
    if (this.answer) this.draw();
  }

  // Answer what the sliders now say. At most one run is under way; moves meanwhile are answered
  // together by the next one.
  update() {
    this.stale = true;
    this.running ??= this.answerAll().finally(() => (this.running = null));
    return this.running;
  }

  async answerAll() {
    while (this.stale) {
      this.stale = false;
      const start = performance.now();
      const settings = this.controls.settings;
      const data = this.kind.simulate(settings, this.fixed);
      const outputs = await this.network.run(data.y, data.observed);
      this.answer = { settings, data, ...this.kind.interpret(outputs) };
      this.draw();
      const elapsed = Math.max(1, Math.round(performance.now() - start));
      const draws = this.fixed.noise.length;
      this.note.textContent = `${draws} draws from the posterior in ${elapsed} ms`;
      if (this.stale) await nextFrame(); // let the page show it and take the next move
    }
  }

  draw() {
    this.kind.draw(this.panels, this.answer);
    this.readout.textContent = this.kind.describe(this.answer);
  }
}
