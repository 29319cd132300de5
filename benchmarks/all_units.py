"""Every unit of VGG11 at 32×32, for one image: guided maps and their cosine to the image, jaxcam against Captum.

Three sides, same weights: jaxcam; Captum with units batched by hand (64 copies of the image, one unit each); Captum one
unit a call (a sample of units of every layer stands for all of them).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import jaxcam as jc
from benchmarks.measuring import interleaved, machine, matmul_rate, median, seconds

COPIES = 64


def twin(weights: Path) -> Any:
    """The network in PyTorch, as a user of Captum has it."""
    import safetensors.torch
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for i, units in enumerate((64, 128, 256, 256, 512, 512, 512, 512)):
        layers += [nn.Conv2d(channels, units, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i in (0, 1, 3, 5) else []
        channels = units

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.features(x).mean((2, 3)))

    network = Network().eval()
    state = safetensors.torch.load_file(weights)
    wanted = list(network.state_dict())
    network.load_state_dict(dict(zip(wanted, (state[name] for name in sorted(state, key=_order)), strict=True)))
    return network


def _order(name: str) -> tuple[bool, int, bool]:
    """The order of the network: features before classifier, by number, weight before bias."""
    room, number, kind = name.split(".")
    return room != "features", int(number), kind != "weight"


def captum_batched(network: Any, image: Any) -> dict[str, np.ndarray]:
    """All units with Captum, 64 at a time."""
    import torch
    from captum.attr import NeuronGuidedBackprop

    copies = image.expand(COPIES, -1, -1, -1).contiguous()
    found = {}
    for name, layer in _rectifiers(network):
        units = _units(network, layer)
        method, values = NeuronGuidedBackprop(network, layer), []
        for start in range(0, units, COPIES):
            some = torch.arange(start, min(start + COPIES, units))
            rows = torch.arange(len(some))
            maps = method.attribute(
                copies[: len(some)].clone().requires_grad_(),
                lambda out, rows=rows, some=some: out[rows, some].sum((1, 2)),
            )
            values.append(_cosine(maps, image))
        found[name] = np.concatenate(values)
    return found


def captum_single(network: Any, image: Any, per_layer: int) -> tuple[int, float]:
    """Captum one unit a call: how many units were sampled, and the time all units would take."""
    from captum.attr import NeuronGuidedBackprop

    sampled, total = 0, 0.0
    for _, layer in _rectifiers(network):
        method, units = NeuronGuidedBackprop(network, layer), _units(network, layer)

        def one(unit: int, method: Any = method) -> None:
            maps = method.attribute(image.clone().requires_grad_(), lambda out: out[:, unit].sum((1, 2)))
            _cosine(maps, image)

        one(0)
        times = [seconds(lambda unit=unit: one(unit)) for unit in np.linspace(0, units - 1, per_layer).astype(int)]
        sampled, total = sampled + per_layer, total + units * median(times)
    return sampled, total


def _rectifiers(network: Any) -> list[tuple[str, Any]]:
    from torch import nn

    rectifiers = [layer for layer in network.features if isinstance(layer, nn.ReLU)]
    return [(f"features.conv{i}", layer) for i, layer in enumerate(rectifiers)]


def _units(network: Any, layer: Any) -> int:
    layers = list(network.features)
    return layers[layers.index(layer) - 1].out_channels


def _cosine(maps: Any, image: Any) -> np.ndarray:
    import torch

    flat, reference = maps.detach().flatten(1), image.flatten(1)
    norms = flat.norm(dim=1) * reference.norm()
    return torch.where(norms > 0, (flat @ reference[0]) / norms.clamp(min=1e-30), 0).numpy()


def work(model: Any, x: np.ndarray) -> float:
    """FLOPs of the plain backward passes: for each unit, every convolution below its own, in full."""
    shapes = {layer.name: layer.shape for layer in jc.layers(model, x) if layer.kind == "conv"}
    total, below, channels = 0.0, 0.0, x.shape[-1]
    for height, width, units in shapes.values():
        total += units * below
        below += 2 * height * width * 9 * channels * units
        channels = units
    return total


def run(weights: str | None, repeats: int, seed: int) -> str:
    """Measures the three sides and writes the table."""
    import torch

    model = jc.models.load(weights or "vgg11", **({} if weights else {"classes": 10, "image_size": 32, "seed": seed}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        jc.models.save(model, path, layout="torchvision")
        network = twin(path)
    x = np.random.default_rng(seed).random((1, 32, 32, 3), np.float32)
    image = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    logits = np.asarray(model(x)), network(image).detach().numpy()
    np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-4)

    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    cold = seconds(lambda: ours.update(jc.neurons.similarity(model, x)))
    times = interleaved(
        {
            "jaxcam": lambda: ours.update(jc.neurons.similarity(model, x)),
            "captum": lambda: theirs.update(captum_batched(network, image)),
        },
        repeats,
    )
    sampled, single = captum_single(network, image, per_layer=4)
    ours = {name: np.asarray(values[0]) for name, values in ours.items()}
    apart = max(float(np.abs(ours[name] - theirs[name]).max()) for name in theirs)
    units = sum(len(values) for values in theirs.values())
    dead = sum(int((values == 0).sum()) for values in ours.values())
    rates = matmul_rate()
    best, flops = max(rates.values()), work(model, x)
    fast, batched = median(times["jaxcam"]), median(times["captum"])
    spread = ", ".join(f"{t:.2f}" for t in times["jaxcam"])
    rate, dense = flops / fast / 1e9, ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    kind = "trained" if weights else "random"
    return f"""All {units} units of VGG11 at 32×32, one image, guided, cosine ({dead} dead; {kind} weights)

| side | seconds | ratio |
|---|---|---|
| jaxcam | {fast:.2f} | 1 |
| Captum, {COPIES} units a batch | {batched:.2f} | {batched / fast:.1f} |
| Captum, one unit a call (from {sampled} units) | {single:.1f} | {single / fast:.1f} |

- first call, compilation included: {cold:.1f} s; repeats of jaxcam: {spread} s
- largest difference between the two libraries' similarities: {apart:.1e}
- the plain work is {flops / 1e12:.2f} TFLOP: jaxcam does it at {rate:.0f} GFLOP/s, {rate / best:.0%}
  of the dense matrix product ({dense} GFLOP/s); above 100 % means work left out
- {machine()}
"""
