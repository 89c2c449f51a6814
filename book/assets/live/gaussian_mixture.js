// The Gaussian mixture: three components, three replicates of each observation.

import { COLORS, mean, mix, percent, showDensities } from "./components.js";
import { rows, usable } from "./draws.js";
import { Panel, signed } from "./panel.js";

const RANGE = [-6.5, 6.5];
const DOT = 7; // pixels

// A data set of these settings; the same as simulate_mixture in tools/live_explorers.py.
export function simulate({ separation, position, weight, observations, own }, fixed) {
  const means = [-separation, position * separation, separation];
  const side = (1 - weight) / 2;
  const z = fixed.uniform
    .slice(0, observations)
    .map((u) => Number(u > side) + Number(u > side + weight));
  const y = z.map((k, i) => fixed.errors[i].map((error) => means[k] + error));
  y[observations - 1] = y[0].map(() => own);
  const observed = y.map((replicates) => replicates.map(() => 1));
  return { y, observed, z, truth: { weights: [side, weight, side], means } };
}

export function interpret(outputs) {
  return {
    weights: usable(outputs.weights, outputs.usable),
    means: usable(outputs.means, outputs.usable),
    membership: rows(outputs.membership.data, COLORS.length),
  };
}

export function makePanels(parent, explorer) {
  const panels = {
    data: new Panel(parent, { title: "Observations", height: 132, x: RANGE }),
    membership: new Panel(parent, {
      title: "Probability of each component",
      height: 112,
      x: RANGE,
      y: [-0.04, 1.04],
      yTicks: [0, 0.5, 1],
    }),
    means: new Panel(parent, { title: "Posterior of the means", height: 96, x: RANGE }),
    weights: new Panel(parent, { title: "Posterior of the weights", height: 96, x: [0, 1] }),
  };
  const move = ({ x }) => explorer.controls.set({ own: x });
  panels.data.onPoint(move);
  panels.membership.onPoint(move);
  return panels;
}

// Where dots lie that are stacked where they would overlap: [x, level], in the order of values.
function stack(values, panel) {
  const [low, high] = panel.xRange;
  const width = (DOT / panel.inner.width) * (high - low);
  const levels = new Map();
  return values.map((value) => {
    const bin = Math.round(value / width);
    levels.set(bin, (levels.get(bin) ?? -1) + 1);
    return [bin * width, levels.get(bin)];
  });
}

export function draw(panels, { data, settings, membership, means, weights }) {
  const values = data.y.map(mean);
  const yours = values.length - 1;
  const guide = (panel) => panel.rule(settings.own, "live-guide");

  const places = stack(values, panels.data);
  places[yours][0] = settings.own;
  const highest = Math.max(...places.map(([, level]) => level));
  panels.data.yRange = [-0.6, Math.max(highest + 0.6, panels.data.inner.height / DOT)];
  panels.data.show(
    guide(panels.data),
    places.map((place, i) => panels.data.dot(place, mix(membership[i]), DOT - 0.5)),
    panels.data.ring(places[yours], DOT + 4),
  );

  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const points = (k) => order.map((i) => [values[i], membership[i][k]]);
  panels.membership.show(
    guide(panels.membership),
    COLORS.map((color, k) => [
      panels.membership.curve(points(k), color, "live-thin"),
      panels.membership.dots(points(k), color, 4),
    ]).flat(),
    COLORS.map((_, k) => panels.membership.ring([values[yours], membership[yours][k]], 8)),
  );
  showDensities(panels.means, means, data.truth.means);
  showDensities(panels.weights, weights, data.truth.weights, { bounded: true });
}

export function describe({ settings, membership }) {
  const [left, middle, right] = Array.from(membership.at(-1), percent);
  return `Your observation at ${signed(settings.own.toFixed(2))} comes from the left component with
    probability ${left}, from the middle one with ${middle}, from the right one with ${right}.`;
}
