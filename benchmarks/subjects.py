"""What is explained: a network in both libraries on the same weights, the same images, and a check that they agree."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

import jaxcam as jc
from benchmarks import pytorch

TITLES = {"vgg11": "VGG11", "resnet50": "ResNet50"}
TARGET = 7


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network and images, twice.

    Attributes:
        model: jaxcam's.
        x: its images (n, h, w, c), on its device.
        network: PyTorch's, on the same weights.
        images: its images (n, c, h, w), on its device, in the layout that is faster for it.
        layout: which that is.
        weights: "random" or "trained".
    """

    model: Any
    x: Any
    network: torch.nn.Module
    images: torch.Tensor
    layout: str
    weights: str

    @property
    def title(self) -> str:
        config, side = self.model.config, self.x.shape[1]
        cut = f" of {config.convolutions} convolutions" if config.convolutions else ""
        return f"{TITLES[config.name]}{cut} at {side}×{side}"

    def first(self, count: int) -> Subject:
        """The same with fewer images."""
        return dataclasses.replace(self, x=self.x[:count], images=self.images[:count].clone())


def subject(
    name: str, side: int, batch: int, seed: int, weights: str | None = None, convolutions: int | None = None
) -> Subject:
    """Random weights unless a checkpoint is given; random images in [0, 1], each with both extremes."""
    classes = 10 if side <= 64 else 1000
    options = {"classes": classes, "image_size": side, "seed": seed, "convolutions": convolutions}
    model = jc.models.load(weights or name, **({} if weights else options))
    x = np.random.default_rng(seed).random((batch, side, side, 3), np.float32)
    x[:, 0, 0, :2] = 0, 1  # so that a share of the range is the same number for all, as PyTorch's libraries want it
    network = pytorch.twin(model)
    images, layout = pytorch.faster_layout(network, pytorch.tensor(x))
    with torch.no_grad():
        theirs = pytorch.array(network(images))
    np.testing.assert_allclose(np.asarray(model(jnp.asarray(x))), theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
    return Subject(model, jnp.asarray(x), network, images, layout, "trained" if weights else "random")
