"""Plots: they return axes, hold what they are given, and leave matplotlib as it was."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

import abmtools as abm
from abmtools import diagnostics, plots
from abmtools.plots import style

LABELS = [f"{name}[{k}]" for name in ("weights", "means") for k in range(3)]


@pytest.fixture(autouse=True)
def _closed_figures():
    """Every test starts without figures and must not change a setting."""
    settings = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == settings


@pytest.fixture(scope="module")
def model():
    return abm.GaussianMixture(num_obs=40, num_reps=3)


@pytest.fixture(scope="module")
def truth(model):
    return {"weights": np.array([[0.3, 0.5, 0.2]]), "means": np.array([[-2.0, 0.0, 2.0]])}


@pytest.fixture(scope="module")
def posteriors(model, truth):
    """Draws around the truth, with exact membership, as an object and as a DataTree."""
    rng = np.random.default_rng(1)
    y = model.simulate_data(truth, rng=rng, num_obs=40, num_reps=3)["y"]
    data = model.check_data({"y": y})

    def draw(scale):
        u = model.unconstrain(truth)[:, None] + scale * rng.normal(size=(1, 500, 5))
        membership = model.exact_membership(data, model.constrain(u))
        return abm.MixturePosterior(model, data, u, membership)

    return {"amortized": draw(0.2), "Stan": draw(0.15).to_arviz()}


@pytest.fixture(scope="module")
def race():
    """Draws of a model of vectors, with a parameter that the data bound."""
    model = abm.EvidenceAccumulationHMM(num_obs=20)
    rng = np.random.default_rng(0)
    simulated = model.simulate(1, rng=rng)
    data = model.check_data(simulated)
    u = model.unconstrain({name: simulated[name] for name in model.parameter_names}, data)
    u = u[:, None] + rng.normal(size=(1, 200, u.shape[-1]))
    return abm.MixturePosterior(model, data, u, np.full((1, 200, 20, 2), 0.5))


@pytest.fixture(scope="module")
def sbc(model):
    rng = np.random.default_rng(0)
    targets = model.prior(rng, 50)
    estimates = {
        name: x[:, None] + 0.1 * rng.normal(size=(50, 1, 3)) + 0.1 * rng.normal(size=(50, 40, 3))
        for name, x in targets.items()
    }
    return diagnostics.SimulationBasedCalibration(estimates, targets, LABELS)


@pytest.fixture(scope="module")
def calibrated():
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1.0, 1.0, 1.0], size=3000)
    z = (rng.random((3000, 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
    return diagnostics.membership_calibration(p, z)


def colors(ax):
    """Colours of the lines in axes."""
    return [to_hex(line.get_color()).upper() for line in ax.lines]


def legend_texts(ax):
    legends = ax.figure.legends or [ax.get_legend()]
    return [text.get_text() for text in legends[0].get_texts()]


# --- style ----------------------------------------------------------------------------------------


def test_import_changes_no_setting():
    code = """
import arviz_stats, bayesflow, matplotlib.pyplot, seaborn  # which may
before = dict(matplotlib.rcParams)
import abmtools.plots
assert dict(matplotlib.rcParams) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_roles_and_components_share_no_color():
    every = [*style.ROLES.values(), *style.COMPONENTS]
    assert len({to_hex(color) for color in every}) == len(every)
    assert style.component_color(0) == style.component_color(len(style.COMPONENTS))


def test_roles_and_components_can_be_told_apart_without_red_and_green():
    """As readers see them who cannot tell red from green: deuteranopia, by Viénot et al. (1999)."""
    to_lms = np.array([[17.88, 43.52, 4.12], [3.46, 27.16, 3.87], [0.03, 0.18, 1.47]])
    loss = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])

    def seen(color):
        linear = np.array(to_rgb(color)) ** 2.2
        return np.clip(np.linalg.inv(to_lms) @ loss @ to_lms @ linear, 0, 1) ** (1 / 2.2)

    for palette in (tuple(style.ROLES.values()), style.COMPONENTS[:4]):
        points = np.array([seen(color) for color in palette])
        apart = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(len(points), 1)]
        assert apart.min() > 0.15


@pytest.mark.parametrize(
    ("labels", "roles"),
    [
        (["amortized", "Stan"], ["amortized", "reference"]),
        (["Stan (NUTS)", "amortized, PSIS"], ["reference", "amortized"]),
        (["prior", "NUTS", "truth"], ["prior", "reference", "truth"]),
    ],
    ids=["plain", "with details", "others"],
)
def test_labels_choose_the_color_of_their_role(labels, roles):
    assert list(style.role_colors(labels).values()) == [style.ROLES[role] for role in roles]


def test_every_label_has_a_color_of_its_own():
    chosen = style.role_colors(["amortized", "amortized, resampled", "Stan", "", "another"])
    assert len(set(chosen.values())) == 5


def test_figures_are_opaque_and_light(posteriors):
    with plt.style.context("dark_background"):
        ax = plots.membership_curves(posteriors["amortized"])
    assert to_rgb(ax.figure.get_facecolor()) == (1, 1, 1)
    assert ax.figure.get_facecolor()[3] == 1
    assert sum(to_rgb(ax.yaxis.label.get_color())) < 1


def test_given_axes_keep_their_style(posteriors, truth):
    with plt.style.context("dark_background"):
        axes = plt.subplots(2, 3)[1]
        plots.marginals(posteriors, truth=truth, axes=axes)
    assert to_rgb(axes[0, 0].get_facecolor()) == (0, 0, 0)
    assert sum(to_rgb(axes[0, 0].lines[-1].get_color())) > 2  # the truth can be seen


@pytest.mark.parametrize("size", [1, 3, 5, 9])
@pytest.mark.parametrize("label", ["state {}", "a rather long label of component {}"])
def test_legends_fit_the_figure(size, label):
    with style.context():
        figure, ax = plt.subplots(figsize=(5, 3))
        handles = {label.format(k): ax.plot([0, 1])[0] for k in range(size)}
        style.put_legend([ax], handles, own_figure=True)
        figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert legend_texts(ax) == list(handles)


# --- parameters -----------------------------------------------------------------------------------


def test_marginals_hold_every_posterior_and_the_truth(posteriors, truth, model):
    prior = model.prior(np.random.default_rng(0), 500)
    axes = plots.marginals({"prior": prior, **posteriors}, truth=truth)
    assert [ax.get_title() for ax in axes] == LABELS
    assert legend_texts(axes[0]) == ["prior", "amortized", "Stan", "truth"]
    blue, red, black = (style.ROLES[role] for role in ("amortized", "reference", "truth"))
    for ax, value in zip(axes, [0.3, 0.5, 0.2, -2.0, 0.0, 2.0], strict=True):
        assert colors(ax) == [blue, red, black]
        assert ax.lines[-1].get_xdata()[0] == pytest.approx(value)
        assert len(ax.collections) == 2  # filled: the prior and the first posterior
        low, high = ax.get_xlim()
        assert low < value < high
        area = np.trapezoid(ax.lines[0].get_ydata(), ax.lines[0].get_xdata())
        assert area == pytest.approx(1, abs=0.02)


def test_marginals_of_some_parameters_on_given_axes(posteriors):
    figure, axes = plt.subplots(1, 5)
    drawn = plots.marginals(posteriors, names=["means", "weights[1]"], axes=axes)
    assert [ax.get_title() for ax in drawn] == ["weights[1]", "means[0]", "means[1]", "means[2]"]
    assert not axes[4].lines
    assert not figure.legends
    assert legend_texts(drawn[0]) == ["amortized", "Stan"]


def test_only_what_is_called_prior_is_the_background(posteriors):
    draws = posteriors["amortized"]
    (first, *_) = plots.marginals({"amortized": draws, "Prior N(0, 10)": draws})
    assert len(first.lines) == 2


def test_marginals_of_a_scalar_and_of_a_prior_alone():
    draws = {"separation": np.random.default_rng(0).exponential(size=300)}
    (ax,) = plots.marginals({"prior": draws}, truth={"separation": np.array([1.0])})
    assert ax.get_title() == "separation"
    plots.marginals({"posterior": draws}, truth={"separation": 1.0})


def test_pairs(posteriors, truth):
    axes = plots.pairs(posteriors, truth=truth, names="means")
    assert axes.shape == (3, 3)
    assert not axes[0, 2].axison
    assert [ax.get_xlabel() for ax in axes[-1]] == LABELS[3:]
    assert [ax.get_ylabel() for ax in axes[1:, 0]] == LABELS[4:]
    assert legend_texts(axes[0, 0]) == ["amortized", "Stan", "truth"]
    contours = axes[2, 0].collections
    assert [to_hex(c.get_edgecolor()[0]).upper() for c in contours] == [
        style.ROLES["amortized"],
        style.ROLES["reference"],
    ]
    cross = axes[2, 0].lines[-1]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (-2.0, 2.0)
    assert len(axes[2, 0].lines) == 2  # draws and truth


def test_contours_hold_their_share_of_draws():
    x, y = np.random.default_rng(0).normal(size=(2, 4000))
    draws = {"a": x, "b": 0.8 * x + 0.6 * y}
    axes = plots.pairs({"posterior": draws}, points=False)
    (contours,) = axes[1, 0].collections
    inside = [
        path.contains_points(np.column_stack([draws["a"], draws["b"]])).mean()
        for path in contours.get_paths()
    ]
    np.testing.assert_allclose(inside, [0.9, 0.5], atol=0.03)


def test_pairs_on_given_axes_without_prior(posteriors, model):
    axes = plt.subplots(3, 3)[1]
    prior = model.prior(np.random.default_rng(0), 100)
    drawn = plots.pairs({"prior": prior, **posteriors}, names="weights", axes=axes)
    assert drawn[0, 0] is axes[0, 0]
    assert legend_texts(axes[0, 0]) == ["amortized", "Stan"]


@pytest.mark.parametrize("plot", [plots.marginals, plots.pairs], ids=["marginals", "pairs"])
def test_parameters_refuse(plot, posteriors, truth):
    with pytest.raises(
        TypeError, match="posteriors: expected a dictionary from label to posterior"
    ):
        plot(posteriors["amortized"])
    with pytest.raises(ValueError, match="posteriors: expected at least one"):
        plot({})
    with pytest.raises(TypeError, match=r"posteriors\['Stan'\]: expected a MixturePosterior"):
        plot({"Stan": np.zeros(3)})
    with pytest.raises(ValueError, match=r"names: expected some of \['means', .*'weights'"):
        plot(posteriors, names=["sigma"])
    with pytest.raises(ValueError, match=r"posteriors\['other'\]: \['weights\[0\]'"):
        plot({**posteriors, "other": {"means": np.zeros((10, 3))}})
    with pytest.raises(ValueError, match=r"truth: \['means\[0\]'"):
        plot(posteriors, truth={"weights": truth["weights"]})
    with pytest.raises(
        ValueError, match=r"truth\['weights'\]: .* one data set, got shape \(2, 3\)"
    ):
        plot(posteriors, truth={name: np.repeat(x, 2, axis=0) for name, x in truth.items()})
    with pytest.raises(ValueError, match="axes: expected"):
        plot(posteriors, axes=plt.subplots(1, 2)[1])


@pytest.mark.parametrize("plot", [plots.marginals, plots.pairs], ids=["marginals", "pairs"])
def test_parameters_refuse_what_is_no_mapping_of_labels(plot, posteriors):
    with pytest.raises(TypeError, match="posteriors: expected labels that are strings, got int"):
        plot({1: posteriors["Stan"]})
    with pytest.raises(TypeError, match="truth: expected a dictionary of values, got list"):
        plot(posteriors, truth=[1.0])


@pytest.mark.parametrize("first", ["few", "many"])
def test_posteriors_with_other_labels_are_refused_in_either_order(first):
    draws = {"few": {"weights": np.ones((9, 2))}, "many": {"weights": np.ones((9, 5))}}
    ordered = {name: draws[name] for name in sorted(draws, key=lambda name: name != first)}
    with pytest.raises(ValueError, match=r"posteriors\['few'\]: \['weights\[2\]', .* is missing"):
        plots.marginals(ordered)


@pytest.mark.parametrize("value", [np.zeros(5), 0.5, np.zeros(2), np.zeros((1, 4))])
def test_truth_of_another_shape_is_refused(value):
    draws = {"a": {"weights": np.random.default_rng(0).random((50, 3))}}
    message = r"truth\['weights'\]: expected shape \(3,\), of one data set, got shape"
    with pytest.raises(ValueError, match=message):
        plots.marginals(draws, truth={"weights": value})


@pytest.mark.parametrize("order", [1, -1])
def test_a_name_that_begins_as_another_has_its_own_truth(order):
    rng = np.random.default_rng(0)
    draws = {"drift_var": rng.random((50, 2, 2)), "drift": rng.random((50, 2))}
    truth = {"drift": np.array([0.1, 0.2]), "drift_var": np.full((1, 2, 2), 0.3)}
    axes = plots.marginals({"a": dict([*draws.items()][::order])}, truth=truth)
    shown = {ax.get_title(): ax.lines[-1].get_xdata()[0] for ax in axes}
    assert (shown["drift[0]"], shown["drift[1]"], shown["drift_var[1, 0]"]) == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("num_columns", [0, -1, 1.5])
def test_marginals_refuse_a_number_of_columns(posteriors, num_columns):
    with pytest.raises(ValueError, match=f"num_columns: expected .*, got {num_columns}"):
        plots.marginals(posteriors, num_columns=num_columns)


def test_pairs_refuse_a_prior_alone(posteriors):
    with pytest.raises(ValueError, match=r"posteriors: expected .* not a prior, got \['prior'\]"):
        plots.pairs({"prior": posteriors["amortized"]})


def test_densities_end_at_zero_or_at_a_bound():
    rng = np.random.default_rng(0)
    draws = {"real": rng.normal(size=400), "scale": rng.exponential(size=400)}
    real, scale = plots.marginals({"a": draws})
    (x, height), (at, density) = (ax.lines[0].get_data() for ax in (real, scale))
    assert x[0] < draws["real"].min() < draws["real"].max() < x[-1]
    assert max(height[0], height[-1]) < 0.001
    assert 0 <= at[0] < 0.1
    assert density[0] > 0.5  # its true value is one
    for grid, values in ((x, height), (at, density)):
        assert np.trapezoid(values, grid) == pytest.approx(1, abs=0.02)


def test_bounds_are_those_of_the_model(model, posteriors, truth):
    """Means may lie anywhere, also where all draws are positive; weights are a simplex."""
    posterior = posteriors["amortized"]
    shifted = {"weights": truth["weights"], "means": truth["means"] + 2.8}
    u = posterior.unconstrained + model.unconstrain(shifted) - model.unconstrain(truth)
    moved = abm.MixturePosterior(model, posterior.data, u, posterior.membership)
    assert moved.parameters["means"].min() > 0
    for data in (moved, moved.to_arviz()):
        axes = plots.marginals({"a": data, "b": moved})
        ends = [ax.lines[0].get_xdata()[[0, -1]] for ax in axes]
        assert all(low >= 0 and high <= 1 for low, high in ends[:3])
        assert ends[3][0] < 0


def test_a_density_keeps_the_bound_by_data(race):
    (ax,) = plots.marginals({"a": race}, names=["non_decision_time"])
    grid, density = ax.lines[0].get_data()
    assert grid[0] >= 0
    assert grid[-1] <= race.data["y"][0, :, 0].min() + 0.001  # the margin of the model
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.02)
    wider = {"non_decision_time": np.random.default_rng(0).exponential(size=300)}
    (ax,) = plots.marginals({"a": race, "b": wider}, names=["non_decision_time"])
    grid, density = ax.lines[1].get_data()
    assert grid[0] >= 0
    assert grid[-1] > wider["non_decision_time"].max()
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("num_draws", [1, 2, 50, 200])
def test_pairs_without_a_density_are_points(num_draws):
    share = np.random.default_rng(0).uniform(0.2, 0.8, size=num_draws)
    weights = np.column_stack([share, 1 - share])
    draws = {"weights": weights, "constant": np.ones(num_draws)}
    axes = plots.pairs({"posterior": draws}, points=False)
    for i, j in ((1, 0), (2, 0), (2, 1)):
        assert not axes[i, j].collections
        (points,) = axes[i, j].lines
        assert len(points.get_xdata()) == num_draws
    axes[0, 0].figure.canvas.draw()


# --- membership -----------------------------------------------------------------------------------


def test_membership_curves(posteriors):
    posterior = posteriors["amortized"]
    ax = plots.membership_curves(posterior, posteriors["Stan"])
    assert legend_texts(ax) == ["component 0", "component 1", "component 2", "Stan"]
    assert colors(ax)[:3] == [style.component_color(k) for k in range(3)]
    assert len(ax.collections) == 6  # two bands of each component
    assert len(ax.lines) == 3 + 3 * 3  # medians, and three lines of the reference
    means = posterior.data["y"][0].mean(axis=-1)
    for k, line in enumerate(ax.lines[:3]):
        np.testing.assert_allclose(line.get_xdata(), np.sort(means))
        median = np.median(posterior.membership[0, :, :, k], axis=0)
        np.testing.assert_allclose(line.get_ydata(), median[np.argsort(means)])
    alone = plots.membership_curves(posterior, ax=plt.subplots()[1])
    assert len(alone.lines) == 3


def test_membership_curves_of_other_numbers_of_replicates_are_apart(posteriors):
    posterior = posteriors["amortized"]
    mask = np.ones((1, 40, 3), dtype=bool)
    mask[0, :15, 2] = False
    data = {**posterior.data, "replicate_mask": mask, "mask": np.arange(40)[None] < 35}
    masked = abm.MixturePosterior(
        posterior.model, data, posterior.unconstrained, posterior.membership
    )
    ax = plots.membership_curves(masked)
    assert sorted(len(line.get_xdata()) for line in ax.lines) == [15] * 3 + [20] * 3
    two = np.sort(data["y"][0, :15, :2].mean(axis=-1))
    np.testing.assert_allclose(ax.lines[0].get_xdata(), two)


def test_membership_curves_of_single_observations_and_vectors():
    membership = np.full((20, 5, 2), 0.5)
    single = diagnostics.Draws({"a": np.zeros(20)}, membership, {"y": np.arange(5.0)})
    ax = plots.membership_curves(single)
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(5))
    vector = diagnostics.Draws({"a": np.zeros(20)}, membership, {"y": np.zeros((5, 2, 3))})
    with pytest.raises(ValueError, match=r"x: .* because these are vectors"):
        plots.membership_curves(vector)
    with pytest.raises(ValueError, match="these draws have no data"):
        plots.membership_curves(diagnostics.Draws({"a": np.zeros(20)}, membership))
    with pytest.raises(ValueError, match=r"x: expected shape \(5,\), got \(4,\)"):
        plots.membership_curves(vector, x=np.arange(4))
    assert plots.membership_curves(vector, x=np.arange(5)).lines


@pytest.mark.parametrize("as_tree", [False, True])
def test_membership_curves_of_a_vector_need_x(race, as_tree):
    """Entries of a vector are not averaged, though it has the shape of replicates."""
    y = race.data["y"][0]
    assert y.shape == (20, 2)
    posterior = race.to_arviz() if as_tree else race
    with pytest.raises(ValueError, match=r"x: .* because these are vectors"):
        plots.membership_curves(posterior)
    assert plots.membership_curves(posterior, x=y[:, 0]).lines


@pytest.mark.parametrize("plot", [plots.membership_curves, plots.membership_scatter])
def test_a_reference_of_other_data_is_refused(plot, posteriors):
    posterior = posteriors["amortized"]
    y = posterior.data["y"].copy()
    y[0, 3, 1] += 0.1
    replicate_mask = np.ones(y.shape, dtype=bool)

    def of(**data):
        data = posterior.model.check_data(data)
        return abm.MixturePosterior(
            posterior.model, data, posterior.unconstrained, posterior.membership
        )

    for other in (of(y=y), of(y=y).to_arviz()):
        with pytest.raises(
            ValueError, match=r"reference: expected the posterior's data, .* at 1 of"
        ):
            plot(posterior, other)
    replicate_mask[0, 3, 1] = False
    unseen = of(y=y, replicate_mask=replicate_mask)
    assert plot(posterior, unseen)
    assert plot(of(y=posterior.data["y"], replicate_mask=replicate_mask), unseen)
    with pytest.raises(ValueError, match=r"reference: .* got shape \(40, 2\)"):
        plot(posterior, of(y=y[:, :, :2]))


def test_membership_scatter_leaves_missing_observations_out(posteriors):
    posterior = posteriors["amortized"]
    mask = np.arange(40)[None] < 35
    data = {**posterior.data, "mask": mask}
    other = posterior.membership.copy()
    other[:, :, 35:] = other[:, :, 35:, ::-1]  # only missing ones differ
    ours, theirs = (
        abm.MixturePosterior(posterior.model, data, posterior.unconstrained, membership)
        for membership in (posterior.membership, other)
    )
    for reference in (theirs, theirs.to_arviz()):
        ax = plots.membership_scatter(ours, reference)
        assert ax.texts[0].get_text() == "largest difference 0.000"
        assert [len(line.get_xdata()) for line in ax.lines[1:]] == [35] * 3


def test_membership_scatter(posteriors):
    ax = plots.membership_scatter(*posteriors.values(), labels=("networks", "NUTS"))
    assert ax.get_xlabel() == "mean membership, NUTS"
    assert ax.get_ylabel() == "mean membership, networks"
    assert legend_texts(ax) == ["component 0", "component 1", "component 2"]
    ours = posteriors["amortized"].membership[0].mean(axis=0)
    theirs = posteriors["Stan"].posterior["membership"].mean(("chain", "draw")).values
    np.testing.assert_allclose(ax.lines[1].get_xdata(), theirs[:, 0])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), ours[:, 0])
    assert f"{np.abs(ours - theirs).max():.3f}" in ax.texts[0].get_text()
    given = plt.subplots()[1]
    assert plots.membership_scatter(*posteriors.values(), ax=given) is given


def test_membership_plots_refuse(posteriors):
    with pytest.raises(ValueError, match="posterior: expected draws with membership"):
        plots.membership_curves({"means": np.zeros((10, 3))})
    fewer = diagnostics.Draws({"a": np.zeros(9)}, np.zeros((9, 7, 3)))
    for plot in (plots.membership_curves, plots.membership_scatter):
        with pytest.raises(ValueError, match=r"reference: expected membership of \(40, 3\)"):
            plot(posteriors["amortized"], fewer)


@pytest.mark.parametrize("difference", [False, True])
def test_calibration(calibrated, difference):
    ax = plots.calibration(calibrated, difference=difference)
    assert legend_texts(ax) == ["component 0", "component 1", "component 2"]
    assert colors(ax)[1:] == [style.component_color(k) for k in range(3)]
    assert len(ax.collections) == 3
    for k, line in enumerate(ax.lines[1:]):
        expected = calibrated.observed[k] - calibrated.predicted[k] * difference
        np.testing.assert_allclose(line.get_xdata(), calibrated.predicted[k])
        np.testing.assert_allclose(line.get_ydata(), expected)
        band = ax.collections[k].get_paths()[0]
        points = np.column_stack([line.get_xdata(), line.get_ydata()])
        assert np.mean([band.contains_point(p, radius=1e-6) for p in points[1:-1]]) >= 0.75
    given = plt.subplots()[1]
    assert plots.calibration(calibrated, labels=["a", "b", "c"], ax=given) is given
    assert legend_texts(given) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="labels: expected 3, one a component, got 2"):
        plots.calibration(calibrated, labels=["a", "b"])


def test_calibration_leaves_empty_bins_out():
    p = np.array([[0.9, 0.1]] * 5)
    result = diagnostics.membership_calibration(p, np.array([0, 0, 0, 0, 1]))
    ax = plots.calibration(result)
    assert [len(line.get_xdata()) for line in ax.lines[1:]] == [1, 1]


# --- many data sets, and training -----------------------------------------------------------------


def test_rank_ecdf(sbc):
    axes = plots.rank_ecdf(sbc)
    assert [ax.get_title() for ax in axes] == LABELS
    assert all(style.ROLES["amortized"] in colors(ax) for ax in axes)
    assert len(axes[0].figure.legends) == 1


def test_rank_ecdf_draws_one_band_and_keeps_the_global_generator(sbc):
    bands = []
    for seed in (1, 2):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()[1].copy()  # noqa: NPY002
        ax = plots.rank_ecdf(sbc)[0]
        np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
        bands.append(ax.collections[0].get_paths()[0].vertices)
    np.testing.assert_array_equal(*bands)


def test_recovery(sbc):
    axes = plots.recovery(sbc, num_col=2)
    assert [ax.get_title() for ax in axes] == LABELS
    assert axes[0].get_subplotspec().get_gridspec().ncols == 2


@pytest.mark.parametrize(
    ("plot", "kind"),
    [
        (plots.rank_ecdf, "SimulationBasedCalibration"),
        (plots.recovery, "SimulationBasedCalibration"),
        (plots.calibration, "MembershipCalibration"),
    ],
    ids=["rank_ecdf", "recovery", "calibration"],
)
def test_plots_of_diagnostics_refuse_what_is_none(plot, kind):
    with pytest.raises(TypeError, match=f"result: expected a {kind}, got dict"):
        plot({})


def test_losses():
    history = {"loss": [3.0, 2.0], "posterior_loss": [1.0, 0.5], "membership_loss": [0.4, 0.3]}
    axes = plots.losses(history)
    assert [ax.get_title() for ax in axes] == [
        "posterior, nats per data set",
        "membership, nats per observation",
    ]
    np.testing.assert_array_equal(axes[1].lines[0].get_xdata(), [1, 2])
    np.testing.assert_array_equal(axes[1].lines[0].get_ydata(), [0.4, 0.3])

    class History:
        def __init__(self):
            self.history = history | {"val_membership_loss": [0.5, 0.4]}

    axes = plots.losses(History(), exact={"membership_loss": 0.23}, axes=plt.subplots(1, 2)[1])
    assert [line.get_label() for line in axes[1].lines] == ["training", "validation", "exact"]
    assert axes[1].lines[2].get_ydata()[0] == 0.23
    assert len(axes[0].lines) == 1


@pytest.mark.parametrize("num_epochs", [1, 2, 3, 7, 250])
def test_epochs_are_whole_numbers(num_epochs):
    values = np.linspace(1, 0.5, num_epochs)
    axes = plots.losses({"posterior_loss": values, "membership_loss": values})
    axes[0].figure.canvas.draw()
    for ax in axes:
        np.testing.assert_array_equal(ax.get_xticks() % 1, 0)


@pytest.mark.parametrize("hole", [0.0, 0.3])
def test_a_predictive_check_leaves_only_entries_out_that_are_nan(hole):
    rng = np.random.default_rng(0)
    observed, replicated = rng.normal(size=(2, 1, 40, 1, 3))
    observed[rng.random(observed.shape) < hole] = np.nan
    observed[..., 2] = np.nan  # an entry without any value
    check = diagnostics.PredictiveCheck(observed, replicated)
    ax = plots.predictive_check(check)
    dots = ax.lines[1]
    np.testing.assert_array_equal(dots.get_xdata(), [0, 1])
    expected = np.nanmedian(observed[0, :, 0, :2], axis=0)
    np.testing.assert_allclose(dots.get_ydata(), expected)
    nothing = diagnostics.PredictiveCheck(observed * np.nan, replicated * np.nan)
    with pytest.raises(ValueError, match=r"result: expected some values .* got only NaN"):
        plots.predictive_check(nothing)


def test_losses_refuse():
    with pytest.raises(
        TypeError, match="history: expected a Keras History or a dictionary, got list"
    ):
        plots.losses([1.0])
    with pytest.raises(ValueError, match=r"history: expected values of \['membership_loss'\], got"):
        plots.losses({"posterior_loss": [1.0], "membership_loss": []})
    both = {"posterior_loss": [1.0], "membership_loss": [1.0]}
    with pytest.raises(ValueError, match=r"exact: expected some of .* got \['posterior'\]"):
        plots.losses(both, exact={"posterior": 1.2})
    with pytest.raises(TypeError, match="exact: expected a dictionary of losses, got float"):
        plots.losses(both, exact=1.2)
    with pytest.raises(ValueError, match="axes: expected two, got 3"):
        plots.losses(both, axes=plt.subplots(1, 3)[1])
