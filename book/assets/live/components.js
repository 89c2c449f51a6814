// Colours of components, those of the book's figures (Okabe & Ito, 2008).

import { column, density } from "./draws.js";

export const COLORS = ["#009E73", "#CC79A7", "#E69F00"];

const CHANNELS = COLORS.map((color) =>
  [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16)),
);

// The components' colours, mixed by their probabilities.
export function mix(probabilities) {
  const channel = (c) => probabilities.reduce((sum, p, k) => sum + p * CHANNELS[k][c], 0);
  return `rgb(${[0, 1, 2].map((c) => Math.round(channel(c))).join(" ")})`;
}

export const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

export const percent = (p) => `${Math.round(100 * p)}\u00a0%`;

// Densities of the components' draws, with the true values, in a panel of its own scale.
export function showDensities(panel, draws, truth, { bounded = false } = {}) {
  const curves = truth.map((_, k) => density(column(draws, k), panel.xRange, { bounded }));
  const highest = Math.max(...curves.flat().map(([, height]) => height), Number.MIN_VALUE);
  panel.yRange = [0, 1.05 * highest];
  const visible = ([, height]) => height > 0.002 * highest;
  panel.show(
    curves.map((points, k) => panel.area(points.filter(visible), COLORS[k])),
    truth.map((value) => panel.rule(value, "live-truth")),
  );
}
