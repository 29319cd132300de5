"""ResNet50 at 224×224: attribution methods against Captum and pytorch-grad-cam, same weights, both sides in turns.

Every side does what its documentation recommends for speed: weights take no gradient in PyTorch, Captum's steps and
noise go through in passes of one batch (larger ones are slower and need gigabytes), pytorch-grad-cam gets the batch
size that its author recommends. Times are medians; the sides take turns, so a noisy minute hits both.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxcam as jc
from benchmarks.measuring import interleaved, machine, median, seconds

STAGE = "layer2"  # 512 channels, for Score-CAM


def twin(model: Any) -> Any:
    """Torchvision's ResNet50 with the model's weights."""
    import safetensors.torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "parity"))
    import torchvision_ops  # noqa: F401 - before torchvision
    from torchvision.models import resnet50

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        jc.models.save(model, path, layout="torchvision")
        network = resnet50().eval()
        network.load_state_dict(safetensors.torch.load_file(path), strict=False)
    return network.requires_grad_(False)


def stage_ends(model: Any, x: np.ndarray) -> dict[str, str]:
    """Each stage of the network, and jaxcam's name for its last value."""
    shapes = {256: "layer1", 512: "layer2", 1024: "layer3", 2048: "layer4"}
    return {shapes[layer.units]: layer.name for layer in jc.layers(model, x) if layer.kind == "add"}


def pairs(
    model: Any, network: Any, x: np.ndarray, few: int, steps: int
) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """For each method jaxcam's side and the other's; both return their map as an array with channels last."""
    import torch
    from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel, Saliency
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    target, ends = 7, stage_ends(model, x)

    def last(maps: Any) -> np.ndarray:
        """Channels last, as an array."""
        return maps.detach().numpy().transpose(0, 2, 3, 1)

    saliency, grad_cam = Saliency(network), LayerGradCam(network, network.layer4)
    integrated, noise = IntegratedGradients(network), NoiseTunnel(saliency)
    score = ScoreCAM(network, [network.layer2])
    score.batch_size = 32

    def both(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
        return (lambda: np.asarray(jax.block_until_ready(ours()))), theirs

    def score_cam() -> Any:
        # What is timed is the library's own path to its unscaled map.
        part = images[:few].clone()
        targets = [ClassifierOutputTarget(target)] * few
        score.outputs = score.activations_and_grads(part)
        score.compute_cam_per_layer(part, targets, False)

    return {
        "saliency": both(
            lambda: jc.saliency(model, x, target),
            lambda: last(saliency.attribute(images.clone().requires_grad_(), target=target, abs=False)),
        ),
        "Grad-CAM": both(
            lambda: jc.grad_cam(model, x, target, layer=ends["layer4"]),
            lambda: grad_cam.attribute(images.clone(), target=target, relu_attributions=True).detach().numpy()[:, 0],
        ),
        f"integrated gradients ({steps} steps)": both(
            lambda: jc.integrated_gradients(model, x, target, steps=steps),
            lambda: last(
                integrated.attribute(images.clone(), target=target, n_steps=steps, internal_batch_size=len(x)).float()
            ),
        ),
        f"SmoothGrad ({steps} samples)": both(
            lambda: jc.smooth_grad(model, x, target, key=jax.random.key(0), samples=steps),
            lambda: last(
                noise.attribute(
                    images.clone().requires_grad_(),
                    target=target,
                    abs=False,
                    nt_type="smoothgrad",
                    nt_samples=steps,
                    nt_samples_batch_size=1,
                    stdevs=0.15,
                )
            ),
        ),
        f"Score-CAM (512 channels, {few} image{'s' * (few > 1)})": both(
            lambda: jc.score_cam(model, x[:few], target, layer=ends[STAGE]), score_cam
        ),
    }


def keeping(found: dict[str, Any], name: str, side: Callable[[], Any]) -> Callable[[], None]:
    """A side that puts away what it found."""

    def call() -> None:
        found[name] = side()

    return call


def run(only: list[str] | None, batch: int, few: int, steps: int, repeats: int, seed: int) -> str:
    """Measures every pair and writes the table."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = jc.models.load("resnet50", seed=seed)
    x = np.random.default_rng(seed).random((batch, 224, 224, 3), np.float32)
    network = twin(model)
    rows = []
    sides_of = pairs(model, network, x, few, steps)
    chosen = [name for name in sides_of if not only or any(word.lower() in name.lower() for word in only)]
    if not chosen:
        raise SystemExit(f"no method's name contains {' or '.join(only or [])}; there are {', '.join(sides_of)}")
    for name in chosen:
        ours, theirs = sides_of[name]
        found: dict[str, Any] = {}
        cold = seconds(ours)
        if repeats > 1:  # PyTorch's first call is slower as well
            theirs()
        sides = {"jaxcam": keeping(found, "jaxcam", ours), "other": keeping(found, "other", theirs)}
        times = interleaved(sides, repeats)
        a, b = found["jaxcam"], found["other"]
        same = b is not None and "Smooth" not in name  # noise is drawn anew on either side
        error = f"{np.linalg.norm(a - b) / np.linalg.norm(b):.0e}" if same else "—"
        fast, other = median(times["jaxcam"]), median(times["other"])
        rows.append(f"| {name} | {fast:.2f} | {other:.2f} | {other / fast:.2f} | {cold:.1f} | {error} |")
        print(rows[-1], file=sys.stderr, flush=True)
    table = "\n".join(rows)
    return f"""ResNet50 at 224×224, batch of {batch}, random weights, medians of {repeats}

| method | jaxcam, s | Captum (Score-CAM: pytorch-grad-cam), s | ratio | first call, s | difference |
|---|---|---|---|---|---|
{table}

- difference: of the two maps, as lengths of vectors; float32 rounding turns some ReLUs of so deep a network
- {machine()}
"""
