// Panels: small plots in SVG. A panel has axes, which change with its width, and marks, which are
// drawn anew each time. Colours and type come from the style sheet.

const LEFT = 34; // pixels, for the labels of the vertical axis
const RIGHT = 10;
const TOP = 20; // for the title
const BOTTOM = 20;

const round = (x) => Math.round(10 * x) / 10;

// A number with a minus sign rather than a hyphen.
export const signed = (value) => `${value}`.replace("-", "−");

function ticks([low, high], count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((x) => x * power).find((x) => x >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => +((first + i) * step).toFixed(6));
}

export class Panel {
  // x and y: ends of the axes; yTicks: labelled heights, none where heights mean nothing; half: of
  // the width, where there is room for two.
  constructor(parent, { title, height, x, y = [0, 1], yTicks = [], half = false }) {
    Object.assign(this, { title, height, xRange: x, yRange: y, yTicks });
    parent.insertAdjacentHTML(
      "beforeend",
      `<svg class="live-panel ${half ? "live-half" : ""}" height="${height}" role="img"
         aria-label="${title}"><g class="live-axes"></g><g class="live-marks"></g></svg>`,
    );
    this.svg = parent.lastElementChild;
    [this.axes, this.marks] = this.svg.children;
  }

  // Fit the panel to the width that the page gives it.
  fit() {
    this.width = this.svg.clientWidth;
    this.inner = { width: this.width - LEFT - RIGHT, height: this.height - TOP - BOTTOM };
    const bottom = this.height - BOTTOM;
    const parts = [`<text x="${LEFT}" y="12" class="live-title">${this.title}</text>`];
    parts.push(`<path d="M${LEFT} ${bottom}H${this.width - RIGHT}"/>`);
    for (const value of ticks(this.xRange, this.inner.width / 55)) {
      const x = this.x(value);
      parts.push(`<path d="M${x} ${bottom}v4"/>`);
      parts.push(`<text x="${x}" y="${bottom + 16}" text-anchor="middle">${signed(value)}</text>`);
    }
    for (const value of this.yTicks) {
      const y = this.y(value);
      parts.push(`<path class="live-grid" d="M${LEFT} ${y}H${this.width - RIGHT}"/>`);
      parts.push(`<text x="${LEFT - 6}" y="${y + 4}" text-anchor="end">${signed(value)}</text>`);
    }
    this.axes.innerHTML = parts.join("");
  }

  x(value) {
    const [low, high] = this.xRange;
    return round(LEFT + ((value - low) / (high - low)) * this.inner.width);
  }

  y(value) {
    const [low, high] = this.yRange;
    return round(this.height - BOTTOM - ((value - low) / (high - low)) * this.inner.height);
  }

  show(...marks) {
    this.marks.innerHTML = marks.flat().join("");
  }

  // Where a pointer is, in the units of the axes.
  locate(event) {
    const box = this.svg.getBoundingClientRect();
    const [lowX, highX] = this.xRange;
    const [lowY, highY] = this.yRange;
    return {
      x: lowX + ((event.clientX - box.left - LEFT) / this.inner.width) * (highX - lowX),
      y: highY - ((event.clientY - box.top - TOP) / this.inner.height) * (highY - lowY),
    };
  }

  // Call back with the place of every press, and of the moves of a pointer that is pressed.
  onPoint(callback) {
    this.svg.classList.add("live-touchable");
    this.svg.addEventListener("pointerdown", (event) => {
      this.svg.setPointerCapture(event.pointerId);
      callback(this.locate(event));
    });
    this.svg.addEventListener("pointermove", (event) => {
      if (this.svg.hasPointerCapture(event.pointerId)) callback(this.locate(event));
    });
  }

  // --- marks, as SVG ---------------------------------------------------------------------------

  path(points) {
    return points.map(([x, y], i) => `${i ? "L" : "M"}${this.x(x)} ${this.y(y)}`).join("");
  }

  curve(points, color, style = "") {
    return `<path class="live-curve ${style}" stroke="${color}" d="${this.path(points)}"/>`;
  }

  area(points, color) {
    if (!points.length) return "";
    const outline = this.path([[points[0][0], 0], ...points, [points.at(-1)[0], 0]]);
    return `<path class="live-area" fill="${color}" d="${outline}Z"/>${this.curve(points, color)}`;
  }

  // Dots of one colour: strokes of no length with round ends.
  dots(points, color, size) {
    const d = points.map(([x, y]) => `M${this.x(x)} ${this.y(y)}h0`).join("");
    return `<path class="live-dots" stroke="${color}" stroke-width="${size}" d="${d}"/>`;
  }

  dot([x, y], color, size) {
    return `<circle cx="${this.x(x)}" cy="${this.y(y)}" r="${size / 2}" fill="${color}"/>`;
  }

  ring([x, y], size) {
    return `<circle class="live-ring" cx="${this.x(x)}" cy="${this.y(y)}" r="${size / 2}"/>`;
  }

  // A vertical line at x.
  rule(x, style) {
    return `<path class="${style}" d="M${this.x(x)} ${this.height - BOTTOM}V${TOP}"/>`;
  }
}
