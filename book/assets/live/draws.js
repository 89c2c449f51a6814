// Posterior draws: from a network's flat outputs to rows, and to densities.

// Rows of a flat table.
export function rows(flat, size) {
  return Array.from({ length: flat.length / size }, (_, i) =>
    flat.subarray(i * size, (i + 1) * size),
  );
}

// Of a network's output {data, dims}, what belongs to each draw that can be used, flat; the other
// draws lie where the prior has no mass at all.
export function usable({ data, dims }, flags) {
  return rows(data, data.length / dims[0]).filter((_, s) => flags.data[s]);
}

export const column = (table, k) => table.map((row) => row[k]);

// Bandwidth by Silverman's rule.
function bandwidth(draws) {
  const sorted = Float64Array.from(draws).sort();
  const quantile = (q) => sorted[Math.round(q * (sorted.length - 1))];
  const mean = sorted.reduce((a, b) => a + b, 0) / sorted.length;
  const variance = sorted.reduce((a, b) => a + (b - mean) ** 2, 0) / sorted.length;
  const spread = Math.min(Math.sqrt(variance), (quantile(0.75) - quantile(0.25)) / 1.349);
  return 0.9 * Math.max(spread, 1e-6) * sorted.length ** -0.2;
}

// A kernel estimate of the density on [low, high], as points [x, density]; where the parameter
// itself ends there, mass beyond an end is reflected.
export function density(draws, [low, high], { bounded = false, size = 400 } = {}) {
  const step = (high - low) / (size - 1);
  const width = Math.max(bandwidth(draws), step);
  const heights = new Float64Array(size);
  const add = (center) => {
    const first = Math.max(0, Math.ceil((center - 4 * width - low) / step));
    const last = Math.min(size - 1, Math.floor((center + 4 * width - low) / step));
    for (let i = first; i <= last; i++) {
      heights[i] += Math.exp(-0.5 * ((low + i * step - center) / width) ** 2);
    }
  };
  for (const draw of draws) {
    add(draw);
    if (bounded) [2 * low - draw, 2 * high - draw].forEach(add);
  }
  const scale = draws.length * width * Math.sqrt(2 * Math.PI);
  return Array.from(heights, (height, i) => [low + i * step, height / scale]);
}
