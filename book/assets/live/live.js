// Bring the explorers of a page to life when the reader comes near them; nothing is loaded before.

const observer = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      start(target);
    }
  },
  { rootMargin: "200px" },
);

document.querySelectorAll("figure[data-explorer]").forEach((figure) => observer.observe(figure));

// The figure's state tells style sheet and checks how far it is: loading, starting, live or failed.
async function start(figure) {
  const note = figure.querySelector(".live-note");
  const fail = (error) => {
    figure.dataset.state = "failed";
    note.textContent = `This stays a picture: the network does not run here (${error.message}).`;
  };
  figure.dataset.state = "loading";
  note.textContent = "Loading the network (4 MB) …";
  try {
    const { Explorer } = await import("./explorer.js");
    figure.explorer = await Explorer.load(figure, fail);
    figure.dataset.state = "live";
  } catch (error) {
    fail(error);
  }
}
