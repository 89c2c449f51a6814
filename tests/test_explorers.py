"""Explorers: data that move smoothly, the network's own numbers, and life in a kernel."""

import base64
import io
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import FRONT
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from PIL import Image
from scipy.stats import truncnorm

import abmtools as abm
from abmtools.diagnostics.importance_sampling import weigh
from abmtools.plots import EvidenceHMMExplorer, GaussianHMMExplorer, GaussianMixtureExplorer
from abmtools.plots.explorers.noise import Noise, chain_states, mixture_indicators
from abmtools.plots.explorers.picture import Picture, densities
from abmtools.plots.explorers.reweighting import rescaled, reweigh

ROOT = Path(__file__).parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"
PNG = b"\x89PNG\r\n\x1a\n"
SECONDS = 120  # for the kernel to answer


@pytest.fixture(scope="module")
def workflows():
    names = ("gaussian_mixture", "gaussian_hmm", "evidence_hmm")
    return {name: abm.load_pretrained(name) for name in names}


@pytest.fixture(scope="module")
def people(workflows):
    """Three participants with 150 trials each, of which the last one lacks some."""
    model = workflows["evidence_hmm"].model
    y = model.simulate(3, rng=np.random.default_rng(2), num_obs=150)["y"]
    mask = np.ones(y.shape[:2], dtype=bool)
    mask[2, 120:] = False
    return {"y": y * mask[..., None], "mask": mask}


@pytest.fixture
def mixture(workflows):
    return GaussianMixtureExplorer(workflows["gaussian_mixture"], num_samples=60)


@pytest.fixture
def hmm(workflows):
    return GaussianHMMExplorer(workflows["gaussian_hmm"], num_samples=60)


@pytest.fixture
def evidence(workflows, people):
    return EvidenceHMMExplorer(
        workflows["evidence_hmm"], people, labels=["A", "B", "C"], start="B", num_samples=200
    )


@pytest.fixture(params=["mixture", "hmm", "evidence"])
def explorer(request):
    return request.getfixturevalue(request.param)


def numbers(text: str) -> list[float]:
    """All numbers in the explorer's text, without what follows in the last parentheses."""
    return [float(x) for x in re.findall(r"-?\d+\.\d+", text.rsplit(" (network", 1)[0])]


# --- data that move smoothly ----------------------------------------------------------------------


def test_mixture_indicators_have_the_weights_as_frequencies():
    noise, weights = Noise.draw(1, num_obs=40_000, num_reps=1), np.array([0.5, 0.1, 0.4])
    shares = np.bincount(mixture_indicators(noise, weights), minlength=3) / 40_000
    np.testing.assert_allclose(shares, weights, atol=4 * np.sqrt(0.25 / 40_000))


def test_no_more_indicators_change_than_the_weights_require():
    noise = Noise.draw(1, num_obs=40_000, num_reps=1)
    before = mixture_indicators(noise, np.array([0.3, 0.3, 0.4]))
    after = mixture_indicators(noise, np.array([0.3, 0.4, 0.3]))
    assert set(zip(before, after, strict=True)) == {(0, 0), (1, 1), (2, 2), (2, 1)}


@pytest.mark.parametrize("stay", [0.5, 0.8, 0.98, 1.0])
def test_chain_stays_with_its_probability_in_both_states(stay):
    size = 40_000
    z = chain_states(Noise.draw(1, num_obs=size, num_reps=1), stay)
    for state in set(z):
        stayed = (z[1:] == state)[z[:-1] == state]
        error = np.sqrt(stay * (1 - stay) / len(stayed))
        assert stayed.mean() == pytest.approx(stay, abs=4 * error)
    assert set(z) == ({0, 1} if stay < 1 else {z[0]})


def test_a_little_more_persistence_changes_few_states():
    """A coin that is no longer tossed changes the states up to the next one, and no others."""
    noise = Noise.draw(1, num_obs=40_000, num_reps=1)
    before, after = chain_states(noise, 0.90), chain_states(noise, 0.91)
    assert 0 < (before != after).mean() < 0.06  # q goes from 0.20 to 0.18: a tenth, half of it seen


@pytest.mark.parametrize("stay", [0.4, 1.1, np.nan])
def test_chain_states_refuse_other_probabilities(stay):
    with pytest.raises(ValueError, match=r"stay: expected a probability between 0\.5 and 1"):
        chain_states(Noise.draw(1, num_obs=5, num_reps=1), stay)


def test_mixture_data_follow_the_sliders(mixture):
    data = mixture.simulate(separation=3.0, middle=0.5, weight=0.6, num_obs=170, position=-1.5)
    np.testing.assert_allclose(data["means"], [[-3.0, 1.5, 3.0]])
    np.testing.assert_allclose(data["weights"], [[0.2, 0.6, 0.2]])
    assert data["y"].shape == (1, 170, 3)
    assert (data["y"][0, -1] == -1.5).all()
    closer = mixture.simulate(separation=2.0, middle=0.5, weight=0.6, num_obs=170, position=-1.5)
    moved = (data["y"] - closer["y"])[0, :-1]
    expected = np.array([-1.0, 0.5, 1.0])[data["z"][0, :-1]]
    np.testing.assert_allclose(moved, np.broadcast_to(expected[:, None], moved.shape))


def test_hmm_data_follow_the_sliders(hmm):
    settings = {"persistence": 0.8, "separation": 3.0, "time": 7}
    still, moved = (hmm.simulate(**settings, shift=shift) for shift in (0.0, 2.5))
    difference = (moved["y"] - still["y"])[0]
    np.testing.assert_allclose(difference[6], 2.5)
    assert not np.delete(difference, 6, axis=0).any()
    assert still["means"].tolist() == [[-1.5, 1.5]]
    assert still["stay"].tolist() == [[0.8, 0.8]]


# --- another prior --------------------------------------------------------------------------------


def test_weights_are_equal_at_the_prior_of_the_network(evidence):
    num_samples = evidence.num_samples
    np.testing.assert_allclose(np.exp(evidence.weights.log_weights), 1 / num_samples)
    assert evidence.weights.ess[0] == pytest.approx(num_samples)
    assert np.isneginf(evidence.weights.pareto_k[0])
    for name, draws in evidence.posterior.mean().items():
        np.testing.assert_allclose(draws, evidence.drawn.mean()[name])


@pytest.mark.parametrize(("thresholds", "drifts"), [(2.0, 1.0), (1.0, 0.5), (0.7, 1.4)])
def test_weights_are_the_ratio_of_truncated_normals(evidence, thresholds, drifts):
    model = evidence.workflow.model
    other = rescaled(model, thresholds=thresholds, drifts=drifts)
    p = evidence.drawn.parameters
    values = {
        "guessing_threshold": p["threshold"][..., 0],
        "threshold_difference": p["threshold"][..., 1] - p["threshold"][..., 0],
        "guessing_drift": p["guessing_drift"],
        "incorrect_drift": p["controlled_drift"][..., 0],
        "drift_difference": p["controlled_drift"][..., 1] - p["controlled_drift"][..., 0],
    }

    def log_density(normals):
        return sum(
            truncnorm.logpdf(values[name], -location / scale, np.inf, location, scale)
            for name, (location, scale) in normals.items()
        )

    ratio = (log_density(other.normals) - log_density(model.normals))[0]
    ratio -= np.logaddexp.reduce(ratio)
    found = reweigh(evidence.drawn, other).log_weights[0]
    tail = int(min(len(ratio) / 5, 3 * np.sqrt(len(ratio))))  # the largest weights are smoothed
    kept = np.argsort(ratio)[:-tail]
    shift = found[kept] - ratio[kept]
    np.testing.assert_allclose(shift, shift[0], atol=1e-8)
    assert np.logaddexp.reduce(found) == pytest.approx(0.0, abs=1e-10)


def test_a_narrow_prior_pulls_and_a_wide_one_lets_go(evidence):
    """The mean squared distance from the prior's locations moves with the scale."""
    distances = {}
    for factor in (0.5, 1.0, 2.0):
        evidence.controls["thresholds"].value = factor
        low, high = np.moveaxis(evidence.posterior.parameters["threshold"], -1, 0)
        squares = ((low - 0.5) / 0.3) ** 2 + ((high - low - 1.5) / 0.5) ** 2
        distances[factor] = (evidence.posterior.weights * squares).sum()
    assert distances[0.5] < distances[1.0] < distances[2.0]


@pytest.mark.parametrize(("scale", "verdict"), [(0.1, "can be"), (3.0, "cannot be")])
def test_the_verdict_says_whether_weights_can_be_trusted(evidence, monkeypatch, scale, verdict):
    assert "equal weights, no Pareto k" in evidence.text()
    log_ratio = scale * np.random.default_rng(1).exponential(size=(1, evidence.num_samples))
    weights = weigh(log_ratio)  # their tail is a Pareto distribution of shape k = scale
    monkeypatch.setattr("abmtools.plots.explorers.evidence.reweigh", lambda *_: weights)
    evidence.update()
    k, ess = weights.pareto_k[0], weights.ess[0]
    assert (k < 0.7) == (scale < 0.7)
    expected = f"Pareto k {k:.2f}, the weights {verdict} trusted; {ess:.0f} effective draws"
    assert expected in evidence.text()


def test_only_another_participant_asks_the_network(evidence):
    drawn = evidence.drawn
    evidence.controls["thresholds"].value = 2.0
    assert evidence.drawn is drawn
    evidence.controls["participant"].value = "C"
    assert evidence.drawn is not drawn
    assert evidence.data["mask"].sum() == 120


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_rescaled_refuses_factors_that_are_not_positive(factor):
    model = abm.EvidenceAccumulationHMM()
    with pytest.raises(ValueError, match="guessing_threshold: expected a location and a positive"):
        rescaled(model, thresholds=factor, drifts=1.0)


# --- the network's answers ------------------------------------------------------------------------


def test_membership_sums_to_one(explorer):
    np.testing.assert_allclose(explorer.posterior.membership.sum(axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["hmm", "evidence"])
def test_filtering_is_smoothing_at_the_end(name, request):
    posterior = request.getfixturevalue(name).posterior
    at_end = [x[:, :, -1] for x in (posterior.filtering, posterior.smoothing)]
    np.testing.assert_allclose(*at_end, atol=1e-5)


MOVES = {
    "mixture": {"separation": 3.1, "weight": 0.2, "num_obs": 230},
    "hmm": {"persistence": 0.7, "time": 20, "shift": 3.0},
    "evidence": {"participant": "A", "drifts": 1.5},
}


@pytest.mark.parametrize("name", MOVES)
def test_a_moved_slider_shows_what_the_network_says(name, request):
    explorer = request.getfixturevalue(name)
    before = explorer.picture()
    for control, value in MOVES[name].items():
        explorer.controls[control].value = value
    assert explorer.settings.items() >= MOVES[name].items()
    conditions = {key: explorer.data[key] for key in ("y", "mask") if key in explorer.data}
    expected = explorer.workflow.sample(
        conditions=conditions, num_samples=explorer.num_samples, seed=explorer.seed
    )
    if name == "evidence":
        np.testing.assert_array_equal(explorer.drawn.unconstrained, expected.unconstrained)
        expected = explorer.weights.correct(expected)
    for parameter, value in expected.mean().items():
        np.testing.assert_allclose(explorer.posterior.mean()[parameter], value)
    assert explorer.picture() != before


def test_text_has_the_numbers(mixture, hmm, evidence):
    mean, truth = mixture.posterior.mean(), mixture.data
    pairs = [
        pair
        for name in ("means", "weights")
        for pair in zip(mean[name][0], truth[name][0], strict=True)
    ]
    yours = mixture.posterior.mean_membership()[0, -1]
    expected = [*np.ravel(pairs), *yours]
    np.testing.assert_allclose(numbers(mixture.text()), expected, atol=0.0051)

    hmm.controls["time"].value = 31
    shown = numbers(hmm.text())[-2:]
    chain = hmm.posterior.mean_filtering()[0, 30, 1], hmm.posterior.mean_smoothing()[0, 30, 1]
    np.testing.assert_allclose(shown, chain, atol=0.00051)

    mean = evidence.posterior.mean()
    expected = [*mean["threshold"][0], mean["guessing_drift"][0], *mean["controlled_drift"][0]]
    np.testing.assert_allclose(numbers(evidence.text()), expected, atol=0.0051)


@pytest.mark.parametrize("name", ["mixture", "hmm"])
def test_every_corner_of_the_sliders_has_an_answer(name, request):
    explorer = request.getfixturevalue(name)
    ends = [(control.min, control.max) for control in explorer.controls.values()]
    for corner in itertools.product(*ends):
        data = explorer.simulate(**dict(zip(explorer.controls, corner, strict=True)))
        posterior = explorer.workflow.sample(
            conditions={"y": data["y"]}, num_samples=explorer.num_samples, seed=explorer.seed
        )
        assert np.isfinite(posterior.unconstrained).all()


# --- the picture ----------------------------------------------------------------------------------


def test_nothing_is_left_behind_when_a_slider_comes_back(explorer):
    before = explorer.picture()
    name = next(name for name, x in explorer.controls.items() if isinstance(x.value, float))
    value = explorer.controls[name].value
    explorer.controls[name].value = value + 0.2
    assert explorer.picture() != before
    explorer.controls[name].value = value
    assert explorer.picture() == before


def test_moving_parts_are_where_matplotlib_draws_them():
    """Drawn over the background, they give the picture that a whole new drawing gives."""
    picture = Picture(xlabel="x", panels=("upper", "lower"))
    picture.data.set(xlim=(0, 1), ylim=(0, 1))
    line = picture.line(picture.data, color="#0072B2")
    line.set_data([0.1, 0.9], [0.2, 0.8])
    found = np.asarray(Image.open(io.BytesIO(picture.render())).convert("RGB"), dtype=float)
    line.set_animated(False)
    picture.figure.canvas.draw()
    whole = np.asarray(picture.figure.canvas.buffer_rgba())[..., :3].astype(float)
    assert np.abs(found - whole).max() < 20  # 128 colours
    assert found[0, 0].min() > 250


@pytest.mark.parametrize("num_others", [0, 1, 40, 200])
def test_densities_of_draws_that_are_mostly_the_same(num_others):
    """As after resampling by weights of which one is nearly all."""
    rng = np.random.default_rng(1)
    draws = np.where(np.arange(200) < num_others, rng.normal(2.0, 1.0, 200), 2.0)
    ((grid, density),) = densities(draws[:, None])
    assert np.isfinite(density).all()
    assert grid[density.argmax()] == pytest.approx(2.0, abs=0.5)


def test_explorers_leave_pyplot_and_its_settings_alone(workflows):
    settings, figures = dict(mpl.rcParams), plt.get_fignums()
    GaussianHMMExplorer(workflows["gaussian_hmm"], num_samples=30)
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == figures


def test_display_holds_a_widget_and_a_still_picture(explorer):
    bundle = explorer._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == explorer.picture()
    assert explorer.picture().startswith(PNG)
    assert bundle[WIDGET]["version_major"] == 2
    assert bundle["text/plain"].startswith(type(explorer).__name__)
    assert len(explorer.picture()) < 100_000


# --- what does not fit ----------------------------------------------------------------------------


def test_plots_need_no_widgets():
    """BayesFlow's progress bars import ipywidgets where it is, so here it cannot be imported."""
    code = "import sys; sys.modules['ipywidgets'] = None; from abmtools import plots; plots.losses"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_ipywidgets_the_message_names_the_extra(workflows, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match=r"pip install 'abmtools\[book\]'"):
        GaussianHMMExplorer(workflows["gaussian_hmm"])


def test_workflows_of_other_models_are_refused(workflows, people):
    with pytest.raises(TypeError, match=r"workflow: expected one for a GaussianHMM, got .*Mixture"):
        GaussianHMMExplorer(workflows["gaussian_mixture"])
    with pytest.raises(TypeError, match="workflow: expected one for a GaussianMixture, got str"):
        GaussianMixtureExplorer("gaussian_mixture")
    with pytest.raises(TypeError, match="workflow: expected one for a EvidenceAccumulationHMM"):
        EvidenceHMMExplorer(workflows["gaussian_hmm"], people, start="B")
    with pytest.raises(ValueError, match="workflow: expected one for 3 components, got 2"):
        GaussianMixtureExplorer(abm.MixtureWorkflow(abm.GaussianMixture(2)))


def test_labels_and_start_have_to_fit(workflows, people):
    network = workflows["evidence_hmm"]
    for labels in (["A", "B"], ["A", "B", "B"]):
        with pytest.raises(ValueError, match="labels: expected 3 different ones"):
            EvidenceHMMExplorer(network, people, labels=labels)
    with pytest.raises(ValueError, match=r"start: expected one of \['data set 0', .*got 'B'"):
        EvidenceHMMExplorer(network, people, start="B")


# --- on a page ------------------------------------------------------------------------------------

PAGE = (
    FRONT
    + """# Page

```{code-cell} ipython3
---
tags: [remove-stderr]
---
import abmtools as abm
from abmtools import plots

shipped = abm.load_pretrained("gaussian_hmm")
```

```{code-cell} ipython3
---
mystnb:
  image:
    alt: An explorer.
  figure:
    caption: What to see.
---
plots.GaussianHMMExplorer(shipped, num_samples=50)
```
"""
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with an explorer, executed and built with the settings of the book."""
    root = tmp_path_factory.mktemp("page")
    (root / "book").mkdir()
    (root / "book" / "page.md").write_text(PAGE, encoding="utf-8")
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/page\n", encoding="utf-8")
    for name in ("_config.yml", "pyproject.toml", "abmtools", "tools"):
        (root / name).symlink_to(ROOT / name)
    for name in ("assets", "references.bib"):
        (root / "book" / name).symlink_to(ROOT / "book" / name)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", root, "--warningiserror"]
    environment = os.environ | {"JUPYTER_PREFER_ENV_PATH": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "_build" / "html" / "book" / "page.html"


def test_a_page_shows_the_still_picture(page):
    html = page.read_text(encoding="utf-8")
    (source,) = re.findall(r'<img alt="An explorer\." src="([^"]+)"', html)
    assert (page.parent / source).read_bytes().startswith(PNG)
    assert "What to see." in html


def test_a_page_holds_nothing_of_widgets_and_loads_nothing_from_elsewhere(page):
    html = page.read_text(encoding="utf-8")
    assert "jupyter.widget" not in html
    elsewhere = re.findall(
        r'<(?:script|img|link rel="stylesheet")[^>]+(?:src|href)="http[^"]*', html
    )
    assert elsewhere == []


# --- in a kernel ----------------------------------------------------------------------------------

CELL = """
import json
import abmtools as abm
from abmtools.plots import {kind}
{given}
explorer = {kind}(abm.load_pretrained({name!r}){arguments}, num_samples=100)
explorer
"""
PEOPLE = """
import numpy as np
simulated = abm.EvidenceAccumulationHMM().simulate(2, rng=np.random.default_rng(1), num_obs=120)
people = {"y": simulated["y"]}
"""
CASES = {
    "gaussian_mixture": ("GaussianMixtureExplorer", "", "", "separation", 3.0),
    "gaussian_hmm": ("GaussianHMMExplorer", "", "", "separation", 3.0),
    "evidence_hmm": ("EvidenceHMMExplorer", PEOPLE, ", people", "participant", 1),
}


class Kernel:
    """A kernel of this Python, and what it says."""

    def __init__(self):
        specs = KernelSpecManager(kernel_dirs=[])  # leaves the native one
        self.manager = KernelManager(kernel_name="python3", kernel_spec_manager=specs)
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    def run(self, code: str) -> list[dict]:
        """Messages on the way to the end of the code."""
        return self._follow(self.client.execute(code))

    def move(self, model_id: str, state: dict) -> list[dict]:
        """Messages after a slider was moved in a page, as the page reports it."""
        content = {"comm_id": model_id, "data": {"method": "update", "state": state}}
        message = self.client.session.msg("comm_msg", content)
        self.client.shell_channel.send(message)
        return self._follow(message["header"]["msg_id"])

    def _follow(self, parent: str) -> list[dict]:
        found = []
        while True:
            message = self.client.get_iopub_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") != parent:
                continue
            found.append(message)
            assert message["msg_type"] != "error", "\n".join(message["content"]["traceback"])
            if message["content"].get("execution_state") == "idle":
                return found

    def value(self, expression: str):
        """A value, by way of JSON."""
        said = self.run(f"print(json.dumps({expression}))")
        text = "".join(x["content"]["text"] for x in said if x["msg_type"] == "stream")
        return json.loads(text)

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.stop()


@pytest.mark.parametrize("name", CASES)
def test_in_a_kernel_a_slider_moves_the_picture_and_the_numbers(kernel, workflows, name):
    kind, given, arguments, control, value = CASES[name]
    said = kernel.run(CELL.format(kind=kind, name=name, given=given, arguments=arguments))
    (bundle,) = [x["content"]["data"] for x in said if x["msg_type"] == "execute_result"]
    still = base64.b64decode(bundle["image/png"])
    assert still.startswith(PNG)
    opened = {x["content"]["comm_id"] for x in said if x["msg_type"] == "comm_open"}
    assert bundle[WIDGET]["model_id"] in opened

    slider = kernel.value(f"explorer.controls[{control!r}].model_id")
    state = {"index": value} if control == "participant" else {"value": value}
    said = kernel.move(slider, state)
    updates = [x for x in said if x["msg_type"] == "comm_msg"]
    pictures = [bytes(b) for x in updates for b in x["buffers"]]
    states = [x["content"]["data"].get("state", {}) for x in updates]
    texts = [x["value"] for x in states if str(x.get("value", "")).endswith("ms)")]
    assert len(pictures) == len(texts) == 1
    assert pictures[0].startswith(PNG)
    assert pictures[0] != still

    conditions = {"y": np.array(kernel.value("explorer.data['y'].tolist()"))}
    expected = workflows[name].sample(conditions=conditions, num_samples=100, seed=1).mean()
    parameter = "threshold" if name == "evidence_hmm" else "means"
    shown = numbers(texts[0])
    shown = shown[:2] if name == "evidence_hmm" else shown[: 2 * expected[parameter].size : 2]
    np.testing.assert_allclose(shown, expected[parameter][0], atol=0.0051)
