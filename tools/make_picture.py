"""Draw README's picture, ``book/assets/overview.png``: both posteriors of its first example.

``make picture`` runs this. The ground is white, so the picture reads the same on a dark page.
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

import abmtools as abm

PATH = Path(__file__).parents[1] / "book" / "assets" / "overview.png"


def draw() -> plt.Figure:
    """Data, p(theta | y) and p(z | y), by the shipped network and by Stan."""
    model = abm.models.GaussianMixture()
    simulated = model.simulate(1, rng=np.random.default_rng(7), num_obs=200, num_reps=3)
    workflow = abm.load_pretrained("gaussian_mixture")
    posterior = workflow.sample(conditions={"y": simulated["y"]}, num_samples=2000, seed=1)
    reference = abm.stan.sample(model, {"y": simulated["y"][0]}, seed=1)
    with abm.plots.style.context():
        figure = plt.figure(figsize=(9.6, 3.6))
        left, middle, right = figure.subfigures(1, 3, width_ratios=(1, 1.1, 1.5))
        draw_data(left.subplots(), simulated)
        draw_parameters(middle.subplots(3, 1), {"network": posterior, "Stan": reference})
        ax = right.subplots()
        abm.plots.membership_curves(posterior, reference, ax=ax)
        ax.get_legend().remove()  # that of the middle names the two
        ax.set(title="which component? p(z | y)", xlabel="mean of an observation", ylabel="")
    return figure


def draw_data(ax, simulated: dict) -> None:
    """Observations, ordered by their means, as they come: without their components."""
    y = simulated["y"][0]
    ordered = y[np.argsort(y.mean(axis=1))]
    ax.plot(ordered, np.arange(len(y)), ".", color=abm.plots.style.INK, markersize=2)
    ax.set(title="data y", xlabel="three replicates each", yticks=[])
    ax.spines["left"].set_visible(False)


def draw_parameters(axes, posteriors: dict) -> None:
    """Marginals of the three means."""
    abm.plots.marginals(posteriors, names=["means"], axes=axes)
    for ax, label in zip(axes, ("$\\mu_0$", "$\\mu_1$", "$\\mu_2$"), strict=True):
        ax.set(title="")
        ax.text(1, 0.8, label, transform=ax.transAxes, ha="right")
    axes[0].set_title("parameters p(θ | y)")


def main() -> None:
    mpl.use("agg")
    draw().savefig(PATH, dpi=120)
    print(f"Wrote {PATH}.")


if __name__ == "__main__":
    main()
