"""The live explorers answer what the package answers: their networks, their data, their pages."""

import gzip
import json
import shutil

import check_explorers
import check_pages
import export_networks
import live_explorers
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import to_numpy
from packaging.version import Version

import abmtools as abm
from abmtools.inference.pretrained import default_flow
from abmtools.networks import (
    LikelihoodCorrection,
    ObservationEncoder,
    SequenceSummary,
    SetSummary,
)

LIVE = export_networks.TARGET
NAMES = list(live_explorers.EXPLORERS)
BROWSER = next(filter(None, map(shutil.which, check_pages.BROWSERS)), None)
EXACT = {"rtol": 1e-4, "atol": 1e-4}

pytestmark = pytest.mark.usefixtures("_shipped")


@pytest.fixture
def _shipped(monkeypatch):
    """The networks of the package, whatever else is to be loaded elsewhere."""
    monkeypatch.delenv("ABMTOOLS_WEIGHTS", raising=False)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def shipped(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ABMTOOLS_WEIGHTS", raising=False)
        return abm.load_pretrained(name)


@pytest.fixture(scope="module")
def session(name):
    return onnxruntime.InferenceSession(LIVE / f"{name}.onnx", providers=["CPUExecutionProvider"])


def read(name):
    return json.loads((LIVE / name).read_text(encoding="utf-8"))


def noise_of(name):
    return np.float32(read(f"{name}.json")["fixed"]["noise"])


def run(session, data, noise):
    """Outputs {name: array} of an exported network for one data set, (N, R)."""
    y = np.float32(data["y"])[None]
    mask = np.float32(data.get("replicate_mask", np.ones_like(y[0])))[None]
    names = [output.name for output in session.get_outputs()]
    found = session.run(None, {"y": y, "replicate_mask": mask, "noise": noise})
    return dict(zip(names, found, strict=True))


def assert_same(found, posterior):
    """The network's outputs are the draws of a posterior and what it says of the indicators."""
    usable = found["usable"]
    assert usable.sum() == posterior.num_samples
    parameters = {name: found[name][usable] for name in posterior.parameters}
    for name, draws in posterior.parameters.items():
        np.testing.assert_allclose(parameters[name], draws[0], **EXACT)
    if "membership" in found:
        np.testing.assert_allclose(found["membership"], posterior.mean_membership()[0], atol=1e-4)
        return
    both = posterior.model.structure.filtering_and_smoothing(found["scores"][usable], parameters)
    for ours, theirs in zip(both, (posterior.filtering, posterior.smoothing), strict=True):
        np.testing.assert_allclose(to_numpy(ours), theirs[0], atol=1e-4)


# --- the committed files --------------------------------------------------------------------------


def test_files_are_those_of_the_shipped_weights(name):
    """After a training: make export."""
    expected = abm.load_pretrained(name).card["sha256"]
    model = onnx.load(LIVE / f"{name}.onnx")
    digests = {
        "onnx": {entry.key: entry.value for entry in model.metadata_props}["weights_sha256"],
        "json": read(f"{name}.json")["weights_sha256"],
        "check.json": read(f"{name}.check.json")["weights_sha256"],
    }
    assert digests == dict.fromkeys(digests, expected)


def test_networks_are_the_packages(name, shipped, session):
    """On simulated data sets of many sizes, with every draw and every probability."""
    noise, rng = noise_of(name), np.random.default_rng(1)
    for _ in range(5):
        simulated = shipped.model.simulate(1, rng=rng)
        data = {key: simulated[key][0] for key in ("y", "replicate_mask") if key in simulated}
        posterior = live_explorers.answer(shipped, data, noise)
        assert_same(run(session, data, noise), posterior)


def test_draws_are_those_that_sample_would_make(shipped):
    """From the noise that belongs to a seed."""
    data = shipped.model.simulate(1, rng=np.random.default_rng(2), num_reps=3)
    noise = live_explorers.base_noise(shipped)
    posterior = live_explorers.answer(shipped, {"y": data["y"][0]}, noise)
    sampled = shipped.sample(
        conditions={"y": data["y"]}, num_samples=len(noise), seed=live_explorers.SEED
    )
    np.testing.assert_allclose(posterior.unconstrained, sampled.unconstrained, **EXACT)
    np.testing.assert_allclose(posterior.membership, sampled.membership, atol=1e-4)


def test_what_the_pages_are_compared_with(name, shipped):
    explorer, noise = live_explorers.EXPLORERS[name], noise_of(name)
    fixed = {key: np.array(value) for key, value in read(f"{name}.json")["fixed"].items()}
    answers = live_explorers.check_answers(explorer, shipped, fixed, noise)
    written = read(f"{name}.check.json")["answers"]
    for new, old in zip(answers, written, strict=True):
        assert new["settings"] == old["settings"]
        assert new["numbers"].keys() == old["numbers"].keys()
        for key, value in new["numbers"].items():
            np.testing.assert_allclose(value, old["numbers"][key], **EXACT)


def test_draws_far_from_the_prior_are_marked_and_left_out(name, shipped, session):
    data = shipped.model.simulate(1, rng=np.random.default_rng(3), num_reps=3)
    noise = noise_of(name)
    spoiled = np.concatenate([noise, np.full_like(noise[:1], 1e6)])
    plain, found = (run(session, {"y": data["y"][0]}, x) for x in (noise, spoiled))
    np.testing.assert_array_equal(found["usable"], [*plain["usable"], False])
    assert all(np.isfinite(value).all() for value in found.values())
    if "membership" in found:
        np.testing.assert_allclose(found["membership"], plain["membership"], atol=1e-6)


def test_the_runtime_is_whole():
    packed = (LIVE / "onnxruntime" / "ort-wasm-simd-threaded.wasm.gz").read_bytes()
    assert gzip.decompress(packed).startswith(b"\0asm")
    script = (LIVE / "onnxruntime" / "ort.wasm.bundle.min.mjs").read_text(encoding="utf-8")
    licence = (LIVE / "onnxruntime" / "LICENSE").read_text(encoding="utf-8")
    version = "1.30.0"
    assert f"ONNX Runtime Web v{version}" in script
    assert f"onnxruntime-web {version}" in licence
    assert "MIT License" in licence


# --- export ---------------------------------------------------------------------------------------


def small_workflow(kind):
    """Small, untrained networks for a mixture or a chain."""
    encoder = ObservationEncoder(replicates=True, width=2)
    size = {"num_passes": 1, "summary_dim": 6, "width": 4, "pooled_widths": (8,)}
    mixture = kind == "mixture"
    return abm.MixtureWorkflow(
        abm.GaussianMixture(2, num_obs=(8, 16), num_reps=(1, 3))
        if mixture
        else abm.GaussianHMM(num_obs=12, num_reps=(1, 3)),
        summary_network=(SetSummary if mixture else SequenceSummary)(encoder, **size),
        inference_network=default_flow(depth=2, width=8),
        seed=1,
    )


@pytest.mark.parametrize("kind", ["mixture", "chain"])
def test_any_workflow_with_replicates_can_be_exported(kind):
    """Where torch is too old for it, that is said."""
    workflow, rng = small_workflow(kind), np.random.default_rng(4)
    if Version(torch.__version__) < Version(export_networks.OLDEST_TORCH):
        with pytest.raises(RuntimeError, match="torch: expected"):
            export_networks.to_onnx(workflow)
        return
    data = {key: x[0] for key, x in workflow.model.simulate(1, rng=rng).items()}
    data = {key: data[key] for key in ("y", "replicate_mask") if key in data}
    noise = live_explorers.base_noise(workflow)
    posterior = live_explorers.answer(workflow, data, noise)
    model = export_networks.to_onnx(workflow)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert_same(run(session, data, noise), posterior)


def test_a_correction_by_the_likelihood_is_refused():
    workflow = abm.MixtureWorkflow(abm.GaussianMixture(), correction=LikelihoodCorrection())
    with pytest.raises(ValueError, match="workflow: expected one without a correction"):
        export_networks.to_onnx(workflow)


def test_an_old_torch_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.6.0+cu124")
    with pytest.raises(RuntimeError, match=r"torch: expected 2\.13 or newer, got 2\.6\.0"):
        export_networks.to_onnx(small_workflow("mixture"))


# --- data -----------------------------------------------------------------------------------------


def settings_of(name, **changes):
    controls = live_explorers.EXPLORERS[name].controls
    return {control["name"]: control["value"] for control in controls} | changes


def test_settings_that_are_compared_are_within_the_sliders(name):
    explorer = live_explorers.EXPLORERS[name]
    for settings in [*explorer.checked, settings_of(name)]:
        for control in explorer.controls:
            assert control["min"] <= settings[control["name"]] <= control["max"]
        assert len(settings) == len(explorer.controls)


def test_mixture_data():
    fixed = live_explorers.draw_fixed_mixture()
    settings = settings_of("gaussian_mixture", observations=180, own=-2.5)
    data, z, truth = live_explorers.simulate_mixture(settings, fixed)
    assert data["y"].shape == (180, 3)
    np.testing.assert_array_equal(data["y"][-1], -2.5)
    residuals = data["y"][:-1] - truth["means"][z][:-1, None]
    np.testing.assert_allclose(residuals, fixed["errors"][:179])
    np.testing.assert_allclose(truth["weights"].sum(), 1)


def test_chain_data():
    fixed = live_explorers.draw_fixed_chain()
    calm, shifted = (
        live_explorers.simulate_chain(settings_of("gaussian_hmm", time=9, shift=x), fixed)[0]
        for x in (0, 3)
    )
    mask = calm["replicate_mask"]
    assert set(mask.sum(axis=1)) == {2, 3, 4, 5}
    moved = shifted["y"] - calm["y"]
    np.testing.assert_allclose(moved[8], 3 * mask[8])
    assert not np.delete(moved, 8, axis=0).any()


# --- pages ----------------------------------------------------------------------------------------

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>t</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"></head><body><div style="height: {above}px">Above.</div>
{explorer}</body></html>"""


@pytest.fixture
def write(tmp_path):
    """Write a small book whose one page has an explorer, far below its top or not."""
    shutil.copytree(LIVE, tmp_path / "_static" / "live")
    (tmp_path / "book").mkdir()

    def write(name, *, above=3000):
        explorer = (LIVE / f"{name}.html").read_text(encoding="utf-8")
        page = PAGE.format(above=above, explorer=explorer)
        (tmp_path / "book" / "page.html").write_text(page, encoding="utf-8")
        (tmp_path / "index.html").write_text(PAGE.format(above=1, explorer=""), encoding="utf-8")
        return tmp_path

    return write


def look(root, monkeypatch, capsys):
    """What is wrong with the page, and what is printed; without a browser that is said."""
    if BROWSER is not None:
        return check_pages.check_in_browser(root, BROWSER), capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["check_pages", str(root)])
    check_pages.main()
    assert "checked as files only: no Chromium here" in capsys.readouterr().out
    return None, ""


@pytest.mark.parametrize("name", NAMES)
def test_explorers_answer_in_a_browser(name, write, monkeypatch, capsys):
    root = write(name)
    assert check_pages.check_files(root) == []
    wrong, said = look(root, monkeypatch, capsys)
    if BROWSER is not None:
        assert wrong == []
        assert f"book/page.html: explorer {name} answers a slider in" in said


def spoil_number(folder):
    path = folder / "gaussian_mixture.check.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["answers"][0]["numbers"]["membership"][0][0] += 0.01
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "above", "expected"),
    [
        (spoil_number, 3000, "differs from the package by 1.0e-02"),
        (lambda folder: (folder / "gaussian_mixture.onnx").unlink(), 3000, "does not come alive"),
        (lambda folder: None, 0, "was loaded before it was reached"),
    ],
)
def test_what_is_wrong_with_explorers(write, monkeypatch, capsys, spoil, above, expected):
    root = write("gaussian_mixture", above=above)
    spoil(root / "_static" / "live")
    wrong, _ = look(root, monkeypatch, capsys)
    if BROWSER is not None:
        assert any(expected in line for line in wrong)
        assert all(line.startswith("book/page.html: ") for line in wrong)


def test_a_page_that_cannot_be_examined():
    class Gone:
        def call(self, method, **parameters):
            return {"result": {}}

    wrong = check_explorers.check_explorers(Gone(), "page.html")
    assert wrong == ["the explorers could not be examined"]
