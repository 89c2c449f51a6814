"""Write what the live explorers in the book's pages need: ``make export``.

An explorer runs a shipped network in the reader's browser, by onnxruntime-web. For each of those in
`live_explorers.EXPLORERS` this writes, into ``book/assets/live/``,

==================  ==========================================================================
``NAME.onnx``       the network: data and base noise to draws and what they say of the indicators
``NAME.json``       sliders and fixed random numbers
``NAME.check.json`` what the Python package answers at some settings, for the checks
``NAME.png``        a still picture, for readers without scripts
==================  ==========================================================================

The first three name the weights that they belong to by their SHA-256, and a test compares. After a
training, run it again.
"""

import json
import logging
from pathlib import Path

import keras
import numpy as np
import onnx
import torch
from bayesflow.networks.inference.coupling.permutations import FixedPermutation
from live_explorers import EXPLORERS, answer, base_noise, check_answers
from live_stills import draw_still
from packaging.version import Version

import abmtools as abm
from abmtools.inference.estimator import FAR

TARGET = Path(__file__).parents[1] / "book" / "assets" / "live"
DATA = ("y", "replicate_mask", "noise")  # the network's inputs
DIGEST = "weights_sha256"
OLDEST_TORCH = "2.13"  # the exporter of 2.6 fails; nothing between was tried


class LiveNetwork(torch.nn.Module):
    """A workflow's networks in one: from data and base noise to posterior draws.

    Parameters
    ----------
    workflow : MixtureWorkflow
        With an emission scorer and replicates.

    Notes
    -----
    `forward` takes one data set ``y``, (1, N, R), with ``replicate_mask`` of the same shape, 1
    where observed, at least once for each observation, and base noise, (S, D). It returns each
    parameter, (S, ...); ``usable``, (S,), False for draws that the package would draw again; and
    about the indicators of a mixture ``membership``, (N, K), averaged over usable draws, of a chain
    ``scores``, (S, T, K).
    """

    def __init__(self, workflow):
        super().__init__()
        self.model, self.estimator = workflow.model, workflow.estimator
        self.output_names = [
            *self.model.parameter_names,
            "usable",
            "membership" if self.model.structure.exchangeable else "scores",
        ]

    def forward(self, y, replicate_mask, noise):
        estimator = self.estimator
        observations = torch.stack([y * replicate_mask, replicate_mask], dim=-1)
        summary = estimator.summary_network(observations).expand(noise.shape[0], -1)
        draws = estimator.inference_network(noise, conditions=summary, inverse=True)
        usable = torch.all(torch.abs(draws) < FAR, dim=-1)
        draws = torch.where(usable[:, None], draws, 0.0)
        u = estimator.standardizer.maybe_standardize(
            draws, key="inference_variables", forward=False
        )
        parameters = estimator.constrain(u)
        features = estimator.parameter_features(u, parameters)
        scores = estimator.emission_scorer(estimator.codes(observations), features[None])[0]
        if self.model.structure.exchangeable:
            membership = self.model.structure.membership(scores, parameters)
            weights = usable.to(membership.dtype) / usable.sum()
            scores = torch.sum(weights[:, None, None] * membership, dim=0)
        return *parameters.values(), usable, scores


def make_exportable(estimator) -> None:
    """Replace what has no ONNX form by constants of the same value, in this estimator only.

    `keras.ops.take` ends in a squeeze that ONNX refuses, and the standard deviations of a
    standardizer compare a float with an integer.
    """
    for layer in estimator.inference_network.invertible_layers:
        if isinstance(layer, FixedPermutation):
            order = torch.tensor(keras.ops.convert_to_numpy(layer.inverse_indices)).long()
            layer._inverse = lambda z, order=order: (z[..., order], z.new_zeros(z.shape[:-1]))
    for layer in (
        estimator.standardizer.standardize_layers["inference_variables"],
        estimator.parameter_standardizer,
    ):
        scale = layer.moving_std(0).detach()
        layer.moving_std = lambda index, scale=scale: scale


def to_onnx(workflow) -> onnx.ModelProto:
    """A workflow's networks as ONNX; the workflow is for nothing else afterwards.

    Sizes may vary, but for T of a chain: its recursions are written out.

    Raises
    ------
    RuntimeError
        If torch is older than `OLDEST_TORCH`.
    ValueError
        If the posterior is corrected by the likelihood, which a page does not have.
    """
    if workflow.estimator.correction is not None:
        raise ValueError("workflow: expected one without a correction, got one with it.")
    if Version(torch.__version__) < Version(OLDEST_TORCH):
        raise RuntimeError(f"torch: expected {OLDEST_TORCH} or newer, got {torch.__version__}.")
    network = LiveNetwork(workflow).eval()
    make_exportable(workflow.estimator)
    num_obs, num_reps = workflow.model.num_obs[1], workflow.model.num_reps[1]
    y = torch.zeros(1, num_obs, num_reps)
    noise = torch.zeros(8, workflow.model.num_unconstrained)
    varying = {2: torch.export.Dim.DYNAMIC}
    if workflow.model.structure.exchangeable:
        varying[1] = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        program = torch.onnx.export(
            network,
            (y, torch.ones_like(y), noise),
            input_names=DATA,
            output_names=network.output_names,
            dynamo=True,
            dynamic_shapes=(varying, varying, {0: torch.export.Dim.DYNAMIC}),
            verbose=False,
        )
    return slim(program.model_proto)


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without names of source lines and derived shapes: a third of the size."""
    slimmed = onnx.ModelProto()
    slimmed.CopyFrom(model)
    graph = slimmed.graph
    del graph.value_info[:]
    for part in (slimmed, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(slimmed)
    return slimmed


def export(name: str, target: Path) -> None:
    """Write the files of one explorer into a folder."""
    explorer, workflow = EXPLORERS[name], abm.load_pretrained(name)
    digest = {DIGEST: workflow.card["sha256"]}
    noise, fixed = base_noise(workflow), explorer.draw_fixed()
    settings = {control["name"]: control["value"] for control in explorer.controls}
    data, z, parameters = explorer.simulate(settings, fixed)
    posterior = answer(workflow, data, noise)
    draw_still(name, posterior, z, parameters, settings, target / f"{name}.png")
    answers = check_answers(explorer, workflow, fixed, noise)
    write_json(target / f"{name}.check.json", digest | {"answers": answers})
    shown = digest | {"controls": explorer.controls, "fixed": fixed | {"noise": noise}}
    write_json(target / f"{name}.json", shown)
    model = to_onnx(workflow)
    onnx.helper.set_model_props(model, digest)
    onnx.save(model, target / f"{name}.onnx")


def write_json(path: Path, content: dict) -> None:
    """Write JSON, arrays as lists, with no more digits than the numbers have."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(x) for key, x in value.items()}
        if isinstance(value, list):
            return [plain(x) for x in value]
        if isinstance(value, np.ndarray):
            return np.array(value.astype(str), dtype=value.dtype.kind + "8").tolist()
        return value

    path.write_text(json.dumps(plain(content), separators=(",", ":")) + "\n", encoding="utf-8")


def main() -> None:
    for name in ("onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in EXPLORERS:
        export(name, TARGET)
        for path in sorted(TARGET.glob(f"{name}.*")):
            print(f"{path.relative_to(TARGET.parents[2])}: {path.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
