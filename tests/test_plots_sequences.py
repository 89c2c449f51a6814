"""Plots of sequences: they hold what they are given, and refuse what does not fit."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb

import abmtools as abm
from abmtools import plots
from abmtools.plots import style
from abmtools.plots.sequences import _central

T = 30


@pytest.fixture(autouse=True)
def _closed_figures():
    """Every test starts without figures and must not change a setting."""
    settings = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == settings


def exact_posterior(model, truth, data, *, scale, num_samples=50, seed=1):
    """Draws around the truth, with exact scores."""
    rng = np.random.default_rng(seed)
    u = model.unconstrain(truth)[:, None]
    u = u + scale * rng.normal(size=(len(u), num_samples, u.shape[-1]))
    data = model.check_data(data)
    parameters = model.constrain(u)
    return abm.MixturePosterior(
        model,
        data,
        u,
        membership=model.exact_membership(data, parameters),
        filtering=model.exact_filtering(data, parameters),
        scores=model.emission_scores(data, parameters),
    )


@pytest.fixture(scope="module")
def simulated():
    model = abm.GaussianHMM(num_obs=T)
    truth = {"stay": np.array([[0.8, 0.7]]), "means": np.array([[-0.8, 0.5]])}
    return model, truth, model.simulate_data(truth, rng=np.random.default_rng(1))


@pytest.fixture(scope="module")
def z(simulated):
    return simulated[2]["z"][0]


@pytest.fixture(scope="module")
def posterior(simulated):
    return exact_posterior(*simulated, scale=0.3)


@pytest.fixture(scope="module")
def reference(simulated):
    """As from Stan: a DataTree with a drawn path, without the most probable one."""
    tree = exact_posterior(*simulated, scale=0.2, num_samples=40).to_arviz()
    tree["posterior"] = tree["posterior"].to_dataset().drop_vars("most_probable_path")
    return tree


@pytest.fixture(scope="module")
def three_states():
    model = abm.GaussianHMM(3, num_obs=T)
    simulated = model.simulate(1, rng=np.random.default_rng(1))
    truth = {name: simulated[name] for name in model.parameter_names}
    return exact_posterior(model, truth, simulated, scale=0.2)


@pytest.fixture(scope="module")
def unordered():
    """A posterior of a mixture whose observations have no order."""
    model = abm.GaussianMixture(2, num_obs=T, num_reps=2)
    simulated = model.simulate(1, rng=np.random.default_rng(1))
    u = model.unconstrain({name: simulated[name] for name in model.parameter_names})
    u = u[:, None] + np.zeros((1, 20, 1))
    data = model.check_data(simulated)
    membership = model.exact_membership(data, model.constrain(u))
    return abm.MixturePosterior(model, data, u, membership)


def legend_texts(ax):
    legends = ax.figure.legends or [ax.get_legend()]
    return [text.get_text() for text in legends[0].get_texts()]


# --- probabilities --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["smoothing", "filtering"])
def test_state_probabilities(posterior, reference, kind):
    ax = plots.state_probabilities(posterior, reference, kind=kind)
    assert legend_texts(ax) == ["state 1", "Stan"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time", "p(state 1)")
    median, *outline = ax.lines
    ours = posterior.filtering if kind == "filtering" else posterior.smoothing
    name = "filtering" if kind == "filtering" else "membership"
    theirs = reference.posterior[name].values[0, :, :, 1]
    np.testing.assert_array_equal(median.get_xdata(), np.arange(1, T + 1))
    np.testing.assert_allclose(median.get_ydata(), np.median(ours[0, :, :, 1], axis=0))
    assert to_hex(median.get_color()).upper() == style.component_color(1)
    for line, level in zip(outline, (0.5, 0.05, 0.95), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.quantile(theirs, level, axis=0))
    assert [line.get_linestyle() for line in outline] == ["--", ":", ":"]
    assert len(ax.collections) == 2  # bands


def test_state_probabilities_without_reference_take_a_tree(posterior):
    ax = plots.state_probabilities(posterior.to_arviz(), state=0, ax=plt.subplots()[1])
    (median,) = ax.lines
    np.testing.assert_allclose(median.get_ydata(), np.median(posterior.membership[0, ..., 0], 0))
    assert legend_texts(ax) == ["state 0"]


def test_state_probabilities_of_three_states(three_states):
    ax = plots.state_probabilities(three_states)
    assert legend_texts(ax) == ["state 0", "state 1", "state 2"]
    assert len(ax.lines) == 3
    assert ax.get_ylabel() == "probability"


def test_true_states_are_a_strip_below(posterior, z):
    ax = plots.state_probabilities(posterior, z=z)
    assert legend_texts(ax) == ["state 1", "true state 0", "true state 1"]
    strip = ax.collections[-1]
    np.testing.assert_array_equal(np.ravel(strip.get_array()), z)
    shown = strip.cmap(strip.norm(z))[:, :3]
    np.testing.assert_allclose(shown, [to_rgb(style.component_color(k)) for k in z])
    corners = strip.get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], np.arange(T + 1) + 0.5)
    assert ax.get_ylim()[0] < corners[..., 1].min() < corners[..., 1].max() < 0


def test_filtering_and_smoothing(posterior, reference, z):
    axes = plots.filtering_and_smoothing(posterior, reference, z=z, reference_label="NUTS")
    assert [ax.get_title() for ax in axes] == ["filtering", "smoothing"]
    assert [ax.get_xlabel() for ax in axes] == ["", "time"]
    assert axes[0].get_shared_x_axes().joined(*axes)
    assert legend_texts(axes[0]) == ["state 1", "NUTS", "true state 0", "true state 1"]
    for ax, expected in zip(axes, (posterior.filtering, posterior.smoothing), strict=True):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), np.median(expected[0, :, :, 1], axis=0))
    given = plt.subplots(1, 2)[1]
    assert list(plots.filtering_and_smoothing(posterior, axes=given)) == list(given)


@pytest.mark.parametrize("plot", [plots.state_probabilities, plots.filtering_and_smoothing])
def test_probabilities_refuse(plot, posterior, reference, three_states, unordered, simulated, z):
    with pytest.raises(ValueError, match="posterior: expected the posterior of a chain"):
        plot(unordered)
    with pytest.raises(ValueError, match="posterior: expected the posterior of a chain"):
        plot(unordered.to_arviz())
    with pytest.raises(ValueError, match="reference: expected the posterior of a chain"):
        plot(posterior, unordered)
    with pytest.raises(ValueError, match=r"reference: expected probabilities of \(30, 2\)"):
        plot(posterior, three_states)
    with pytest.raises(TypeError, match="posterior: expected a MixturePosterior"):
        plot(np.zeros(3))
    model, truth, data = simulated
    twice = exact_posterior(
        model,
        {name: np.repeat(x, 2, axis=0) for name, x in truth.items()},
        {name: np.repeat(x, 2, axis=0) for name, x in data.items()},
        scale=0.1,
    )
    for several in (twice, twice.to_arviz()):
        with pytest.raises(ValueError, match=r"posterior: expected .* one data set"):
            plot(several)
    with pytest.raises(ValueError, match="state: expected one of 0 to 1, got 2"):
        plot(posterior, state=2)
    with pytest.raises(ValueError, match=r"z: expected shape \(30,\).* got \(29,\)"):
        plot(posterior, z=z[1:])
    with pytest.raises(ValueError, match="z: expected states as integers from 0 to 1"):
        plot(posterior, z=z + 1)
    with pytest.raises(ValueError, match="z: expected states as integers"):
        plot(posterior, z=z.astype(float))


@pytest.mark.parametrize("plot", [plots.state_probabilities, plots.filtering_and_smoothing])
def test_probabilities_refuse_a_reference_of_other_data(plot, posterior, simulated):
    model, truth, data = simulated
    other = exact_posterior(model, truth, {**data, "y": data["y"] + 0.5}, scale=0.2)
    for reference in (other, other.to_arviz()):
        with pytest.raises(
            ValueError, match="reference: expected the posterior's data, got others"
        ):
            plot(posterior, reference)


@pytest.mark.parametrize("plot", [plots.state_probabilities, plots.filtering_and_smoothing])
@pytest.mark.parametrize("state", ["1", 1.0, True, [0]])
def test_probabilities_refuse_a_state_that_is_no_integer(plot, posterior, state):
    with pytest.raises(TypeError, match="state: expected an integer, got"):
        plot(posterior, state=state)


def test_time_points_are_whole_numbers(posterior, simulated):
    short = simulated[2]["y"][0, :4, 0]
    for ax in (plots.sequence(short), plots.state_probabilities(posterior), plots.paths(posterior)):
        for limits in ((0.9, 4.1), (1, 2), (0, 900)):
            ax.set_xlim(*limits)
            np.testing.assert_array_equal(ax.get_xticks() % 1, 0)


def test_probabilities_refuse_a_kind_and_axes(posterior):
    with pytest.raises(ValueError, match=r"kind: expected one of .* got 'prediction'"):
        plots.state_probabilities(posterior, kind="prediction")
    with pytest.raises(ValueError, match="axes: expected two, got 3"):
        plots.filtering_and_smoothing(posterior, axes=plt.subplots(1, 3)[1])


# --- data -----------------------------------------------------------------------------------------


def test_sequence_colored_by_true_states(simulated, z):
    y, shown = (simulated[2][name][0] for name in ("y", "replicate_mask"))
    ax = plots.sequence(y, z, replicate_mask=shown)
    assert legend_texts(ax) == ["state 0", "state 1"]
    dots, means = ax.collections
    assert len(dots.get_offsets()) == shown.sum()
    expected = [np.mean(row[seen]) for row, seen in zip(y, shown, strict=True)]
    np.testing.assert_allclose(
        means.get_offsets(), np.column_stack([np.arange(1, T + 1), expected]), rtol=1e-5
    )
    np.testing.assert_allclose(
        means.get_facecolors()[:, :3], [to_rgb(style.component_color(k)) for k in z]
    )
    np.testing.assert_allclose(means.get_facecolors()[:, 3], 1)
    assert (dots.get_facecolors()[:, 3] < 0.5).all()


def test_sequence_is_fainter_where_the_state_is_uncertain():
    p = np.array([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]])
    ax = plots.sequence([0.0, 1.0, 2.0], probabilities=p, ax=plt.subplots()[1])
    (means,) = ax.collections  # no replicates
    np.testing.assert_allclose(means.get_facecolors()[:, 3], [1.0, 0.2, 0.2 + 0.8 * 0.6])
    chosen = [style.component_color(k) for k in (0, 0, 1)]
    assert [to_hex(color).upper() for color in means.get_facecolors()] == chosen


def test_sequence_leaves_missing_time_points_out():
    y = np.array([[0.0, 1.0], [np.nan, np.nan], [2.0, np.nan]])
    mask, shown = [True, False, True], np.isfinite(y)
    ax = plots.sequence(y, mask=mask, replicate_mask=shown)
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), [[1, 0.5], [3, 2.0]])
    assert len(ax.collections[0].get_offsets()) == 3
    np.testing.assert_array_equal(np.isnan(ax.lines[0].get_ydata()), [False, True, False])
    assert not ax.figure.legends


def test_sequence_refuses(z):
    y = np.zeros((T, 3))
    with pytest.raises(ValueError, match=r"y: expected one sequence .* got \(2, 30, 3\)"):
        plots.sequence(np.zeros((2, T, 3)))
    with pytest.raises(ValueError, match=r"z: expected shape \(30,\)"):
        plots.sequence(y, z[1:])
    with pytest.raises(ValueError, match=r"probabilities: expected shape \(30, K\), got \(30,\)"):
        plots.sequence(y, probabilities=np.zeros(T))
    with pytest.raises(ValueError, match="probabilities: expected either z or probabilities"):
        plots.sequence(y, z, probabilities=np.full((T, 2), 0.5))
    with pytest.raises(ValueError, match=r"mask: expected shape \(30,\), got \(3,\)"):
        plots.sequence(y, mask=[True] * 3)
    with pytest.raises(ValueError, match=r"replicate_mask: expected shape \(30, 3\), got \(30,\)"):
        plots.sequence(y, replicate_mask=[True] * T)


@pytest.mark.parametrize(("num_reps", "argument"), [(1, "mask"), (3, "replicate_mask")])
def test_sequence_refuses_nan_that_no_mask_explains(num_reps, argument):
    y = np.zeros((T, num_reps)).squeeze()
    y[4] = np.nan
    with pytest.raises(ValueError, match=rf"y: .* got NaN at time points \[5\]; .* by {argument}"):
        plots.sequence(y)
    assert plots.sequence(y, mask=np.arange(T) != 4)


def test_sequence_refuses_log_probabilities():
    p = np.full((T, 2), 0.5)
    with pytest.raises(ValueError, match=r"probabilities: expected values .* got -0\.693"):
        plots.sequence(np.zeros(T), probabilities=np.log(p))


# --- paths ----------------------------------------------------------------------------------------


def test_paths(posterior, z):
    ax = plots.paths(posterior, num_paths=16, seed=2, z=z)
    assert legend_texts(ax) == ["state 0", "state 1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "true",
        "most probable",
        "sampled",
    ]
    (image,) = ax.images
    rows = image.get_array()
    assert rows.shape == (2 + 1 + 2 + 1 + 16, T)  # the first two in double height, and gaps
    np.testing.assert_array_equal(rows[0], z)
    assert rows.mask[[2, 5]].all()
    assert not rows.mask[6:].any()
    assert any(np.array_equal(rows[3], path) for path in posterior.most_probable_path()[0])
    np.testing.assert_allclose(image.cmap(image.norm(1))[:3], to_rgb(style.component_color(1)))
    again = plots.paths(posterior, num_paths=16, seed=2, z=z).images[0].get_array()
    np.testing.assert_array_equal(rows, again)
    share = plots.paths(posterior, num_paths=50).images[0].get_array()[-50:].mean(axis=0)
    np.testing.assert_allclose(share, posterior.smoothing[0, ..., 1].mean(axis=0), atol=0.25)


def test_paths_of_a_tree_are_its_own(reference, posterior):
    ax = plots.paths(reference, num_paths=40, ax=plt.subplots()[1])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["sampled"]
    np.testing.assert_array_equal(ax.images[0].get_array(), reference.posterior["path"][0])
    ax = plots.paths(posterior.to_arviz(), num_paths=1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["most probable", "sampled"]


def test_the_most_probable_path_agrees_best_with_the_others():
    candidates = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]])
    np.testing.assert_array_equal(_central(candidates), [0, 1, 1, 1])  # 3 + 3 + 3 + 2 agreements


def test_paths_refuse(posterior, unordered, z):
    with pytest.raises(ValueError, match="posterior: expected the posterior of a Markov chain"):
        plots.paths(unordered)
    for number in (0, 51):
        with pytest.raises(ValueError, match=f"num_paths: expected 1 to 50, got {number}"):
            plots.paths(posterior, number)
    for number in (2.5, "3", True):
        with pytest.raises(TypeError, match="num_paths: expected an integer, got"):
            plots.paths(posterior, number)
    with pytest.raises(ValueError, match=r"z: expected shape \(30,\)"):
        plots.paths(posterior, z=z[1:])
