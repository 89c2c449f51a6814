// Runs in a page, for check_explorers.py. Goes to each live explorer as a reader does, and returns
// [{name, early, state, note, difference, fastest, milliseconds, wide}].
(async () => {
  const MOVES = 25;
  const PATIENCE = 45_000; // milliseconds, for a first answer
  const STILL = /\/live\/(live\.js|live\.css|[^/]+\.png)$/; // what a page may load at once

  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  const loaded = () => performance.getEntriesByType("resource").map((entry) => entry.name);
  const figures = [...document.querySelectorAll("figure[data-explorer]")];
  if (figures.length) await pause(500); // what loads by itself has begun by now
  const early = loaded().filter((name) => name.includes("/live/") && !STILL.test(name));

  async function settled(figure) {
    const end = performance.now() + PATIENCE;
    while (!["live", "failed"].includes(figure.dataset.state) && performance.now() < end) {
      await pause(20);
    }
    return figure.dataset.state ?? "asleep";
  }

  async function ask(explorer, settings) {
    explorer.controls.set(settings);
    await explorer.running;
  }

  // The largest difference between rows of numbers; what is missing differs infinitely.
  function compare(expected, found) {
    const differences = expected.flatMap((row, i) =>
      row.map((value, k) => Math.abs(value - (found[i]?.[k] ?? NaN))),
    );
    const largest = Math.max(...differences);
    return Number.isFinite(largest) ? largest : 1e9;
  }

  async function check(figure) {
    const name = figure.dataset.explorer;
    figure.scrollIntoView();
    const state = await settled(figure);
    const note = figure.querySelector(".live-note").textContent;
    if (state !== "live") return { name, early, state, note };
    const { explorer } = figure;
    const folder = document.querySelector('script[src$="live/live.js"]').src;
    const { answers } = await (await fetch(new URL(`${name}.check.json`, folder))).json();
    let difference = 0;
    for (const { settings, numbers } of answers) {
      await ask(explorer, settings);
      for (const [key, expected] of Object.entries(numbers)) {
        difference = Math.max(difference, compare(expected, explorer.answer[key]));
      }
    }
    const times = [];
    const slider = figure.querySelector("input[name=separation]");
    for (let move = 0; move < MOVES; move++) {
      slider.value = 1 + (2 * move) / MOVES;
      const start = performance.now();
      slider.dispatchEvent(new Event("input"));
      await explorer.running;
      times.push(performance.now() - start);
      await pause(10);
    }
    times.sort((a, b) => a - b);
    const [fastest, milliseconds] = [times[0], times[Math.floor(MOVES / 2)]];
    const root = document.scrollingElement;
    const wide = root.scrollWidth - root.clientWidth;
    return { name, early, state, note, difference, fastest, milliseconds, wide };
  }

  const found = [];
  for (const figure of figures) found.push(await check(figure));
  return found;
})();
