// The Gaussian hidden Markov model: two states, two to five replicates at each time point.

import { filteringAndSmoothing } from "./chain.js";
import { COLORS as ALL_COLORS, mean, mix, percent, showDensities } from "./components.js";
import { rows, usable } from "./draws.js";
import { Panel } from "./panel.js";

const COLORS = ALL_COLORS.slice(0, 2);

// A data set of these settings; the same as simulate_chain in tools/live_explorers.py.
export function simulate({ persistence, separation, time, shift }, fixed) {
  const z = fixed.coins.slice();
  for (let t = 1; t < z.length; t++) {
    if (fixed.uniform[t] >= 2 * (1 - persistence)) z[t] = z[t - 1];
  }
  const means = [-0.5 * separation, 0.5 * separation];
  const observed = fixed.errors.map((row, t) => row.map((_, j) => Number(j < fixed.counts[t])));
  const y = fixed.errors.map((row, t) =>
    row.map((error, j) => {
      const moved = t === time - 1 ? shift : 0;
      return observed[t][j] * (means[z[t]] + error + moved);
    }),
  );
  return { y, observed, z, truth: { stay: [persistence, persistence], means } };
}

export function interpret(outputs) {
  const stay = usable(outputs.stay, outputs.usable);
  const scores = usable(outputs.scores, outputs.usable);
  const { filtering, smoothing } = filteringAndSmoothing(scores, stay);
  return {
    stay,
    means: usable(outputs.means, outputs.usable),
    filtering: rows(filtering, COLORS.length),
    smoothing: rows(smoothing, COLORS.length),
  };
}

const observedMean = ({ y, observed }, t) => mean(y[t].filter((_, j) => observed[t][j]));

// A press moves the observation at that time to that height.
function pick({ x, y }, { controls, fixed }) {
  const last = fixed.coins.length;
  const time = Math.min(last, Math.max(1, Math.round(x)));
  const unmoved = simulate({ ...controls.settings, time, shift: 0 }, fixed);
  return { time, shift: y - observedMean(unmoved, time - 1) };
}

export function makePanels(parent, explorer) {
  const time = [0, explorer.fixed.coins.length + 1];
  const half = { height: 100, half: true };
  const panels = {
    data: new Panel(parent, {
      title: "Observations over time",
      height: 150,
      x: time,
      y: [-6.5, 6.5],
      yTicks: [-4, 0, 4],
    }),
    states: new Panel(parent, {
      title: "Upper state: filtering (dashed), smoothing",
      height: 150,
      x: time,
      y: [-0.16, 1.04],
      yTicks: [0, 0.5, 1],
    }),
    means: new Panel(parent, { ...half, title: "Posterior of the means", x: [-4, 4] }),
    stay: new Panel(parent, { ...half, title: "Posterior of persistence", x: [0, 1] }),
  };
  panels.data.onPoint((point) => explorer.controls.set(pick(point, explorer)));
  return panels;
}

// The true states as a strip of lines, one for each stay.
function strip(panel, z) {
  const starts = z.map((_, t) => t).filter((t) => t === 0 || z[t] !== z[t - 1]);
  return starts.map((t, i) => {
    const end = starts[i + 1] ?? z.length;
    const line = [t + 0.5, end + 0.5].map((x) => [x, -0.1]);
    return panel.curve(line, COLORS[z[t]], "live-strip");
  });
}

export function draw(panels, { data, settings, filtering, smoothing, means, stay }) {
  const { time } = settings;
  const places = data.y.map((_, t) => [t + 1, observedMean(data, t)]);
  const upper = (table) => table.map((row, t) => [t + 1, row[1]]);
  panels.data.show(
    panels.data.rule(time, "live-guide"),
    places.map((place, t) => panels.data.dot(place, mix(smoothing[t]), 6)),
    panels.data.ring(places[time - 1], 10),
  );
  panels.states.show(
    panels.states.rule(time, "live-guide"),
    strip(panels.states, data.z),
    panels.states.curve(upper(filtering), "currentColor", "live-filtering"),
    panels.states.curve(upper(smoothing), "currentColor", "live-smoothing"),
  );
  showDensities(panels.means, means, data.truth.means);
  showDensities(panels.stay, stay, data.truth.stay, { bounded: true });
}

export function describe({ settings, filtering, smoothing }) {
  const at = (table) => percent(table[settings.time - 1][1]);
  return `At time point ${settings.time} the upper state has probability ${at(filtering)} given the
    observations so far, and ${at(smoothing)} given all of them.`;
}
