"""PyTorch's side: the same networks on the same weights, images there and maps back, and what a careful user sets.

Weights take no gradient, threads are as many as cores, the memory layout is the faster of PyTorch's two, and every ReLU
is a module of its own, which Captum's hooks need.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

import jaxcam as jc
from benchmarks.measuring import cores, interleaved, median

sys.path += [str(Path(__file__).parents[1] / "tests" / folder) for folder in ("models", "parity")]
import torch_twins
import torchvision_ops  # noqa: F401 - before torchvision
from torchvision.models.resnet import Bottleneck, ResNet

warnings.filterwarnings("ignore", "Setting (forward, )?backward hooks")  # Captum at every call
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def device() -> torch.device:
    """A GPU where PyTorch sees one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def settle() -> None:
    """Threads, and the precision of both libraries: float32, also where an accelerator would take TF32."""
    import jax

    torch.set_num_threads(cores())
    torch.backends.cudnn.benchmark = True  # the fastest of its convolutions for each shape
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "float32")


def tensor(x: Any) -> torch.Tensor:
    """Images (n, h, w, c) as PyTorch has them, on its device."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(x), -1, 1))).to(device())


def array(maps: torch.Tensor | np.ndarray) -> np.ndarray:
    """Maps (n, c, h, w) as (n, h, w, c); others as they are."""
    values = maps.detach().cpu().numpy() if isinstance(maps, torch.Tensor) else maps
    return np.moveaxis(values, 1, -1) if values.ndim == 4 else values


class Separate(Bottleneck):
    """Torchvision's block with a ReLU module for each ReLU, where it has one for three."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.relu = nn.ReLU()  # zennit's canonizer calls it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu3(y + (x if self.downsample is None else self.downsample(x)))


def resnet50(classes: int, small: bool) -> nn.Module:
    """Torchvision's ResNet50, whose form for small images has another stem."""
    network = ResNet(Separate, [3, 4, 6, 3], num_classes=classes)
    network.relu = nn.ReLU()
    if small:
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network


def vgg11(classes: int, small: bool, convolutions: int | None) -> nn.Module:
    if convolutions == 4:
        return torch_twins.four_convolutions(classes)
    assert convolutions is None, convolutions
    return torch_twins.small_vgg11(classes) if small else torch_twins.vgg11(classes)


def twin(model: Any) -> nn.Module:
    """The network in PyTorch with a model's weights, on PyTorch's device."""
    config = model.config
    if config.name == "resnet50":
        network = resnet50(config.classes, config.small)
    else:
        network = vgg11(config.classes, config.small, config.convolutions)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        jc.models.save(model, path, layout="torchvision")
        found = network.load_state_dict(safetensors.torch.load_file(path), strict=False)
    lost = [name for name in found.missing_keys if not name.endswith("num_batches_tracked")]
    assert not lost + found.unexpected_keys, found
    return network.eval().requires_grad_(False).to(device())


def faster_layout(network: nn.Module, images: torch.Tensor, repeats: int = 3) -> tuple[torch.Tensor, str]:
    """Brings network and images into the memory layout whose forward and backward pass is faster; says which."""

    def side(order: torch.memory_format) -> Any:
        def passes() -> torch.Tensor:
            network.to(memory_format=order)
            leaf = images.contiguous(memory_format=order).clone().requires_grad_()
            return torch.autograd.grad(network(leaf).sum(), leaf)[0]

        return passes

    sides = {name: side(order) for name, order in LAYOUTS.items()}
    times = interleaved(sides, repeats + 1)
    fastest = min(sides, key=lambda name: median(times[name][1:]))
    network.to(memory_format=LAYOUTS[fastest])
    return images.contiguous(memory_format=LAYOUTS[fastest]), fastest


def rectified(network: nn.Module, layer: str) -> nn.Module:
    """The module that gives a layer of jaxcam's: a stage, or a convolution with its batch norm and ReLU."""
    if isinstance(network, ResNet):
        *block, last = layer.split(".")
        if last == "0" and block[-1] == "downsample":
            return network.get_submodule(".".join([*block, "1"]))
        if layer == "conv1":
            return network.relu
        names = {"conv1": "relu1", "conv2": "relu2", "conv3": "bn3"}
        if last not in names:
            return network.get_submodule(layer)
        return network.get_submodule(".".join([*block, names[last]]))
    rectifiers = [module for module in network.features if isinstance(module, nn.ReLU)]
    return rectifiers[int(layer.removeprefix("features.conv"))]
