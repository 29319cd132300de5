"""Units of a layer and their cosine to the image: jaxcam's way, and two ways with Captum.

Captum explains one unit a call. Batched by hand the same image stands in a batch many times, and each row of it asks
for another unit; that is the fastest way its interface has, and a user has to find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from captum.attr import NeuronGuidedBackprop

from benchmarks import pytorch
from benchmarks.subjects import Subject
from jaxcam.neurons.engine import Engine, ImageUnits, LayerUnits
from jaxcam.neurons.measures import measure
from jaxcam.program.costs import costs, edges

_cosine = jax.jit(measure("cosine").function)


class Ours:
    """What `jc.neurons.similarity` does, in steps that can be timed one by one, and of some units only.

    Args:
        given: network and image.
        layers: which layers; the network's last one too.
        memory: bytes that may be taken; None for the default.
        asked: how many units are going to be asked; None for many.
    """

    def __init__(self, given: Subject, layers: Sequence[str], memory: int | None, asked: int | None = None) -> None:
        self.x, self.last = given.x[:1], layers[-1]
        self.engine = Engine(given.model, self.x.shape, layers, "guided", memory=memory, asked=asked)

    def image(self) -> ImageUnits:
        """Once for each image: the forward pass, and what the layers share on the way back."""
        image = self.engine.image(self.x)
        image.layer(self.last)
        return image

    def layer(self, image: ImageUnits, name: str) -> LayerUnits:
        """Once for each layer: its own head, and which units are dead."""
        sender = image.layer(name)
        assert sender.dead is not None  # computed here, waited for
        return sender

    def similarities(self, sender: LayerUnits, units: np.ndarray) -> np.ndarray:
        """Of some units, (m,)."""
        chunks = [np.asarray(_cosine(maps, self.x))[: len(some), 0] for some, maps in sender.chunks(units)]
        return np.concatenate(chunks)


def captum_batched(given: Subject, layer: str, units: np.ndarray, copies: int) -> np.ndarray:
    """The same with Captum, so many units a batch."""
    method = NeuronGuidedBackprop(given.network, pytorch.rectified(given.network, layer))
    image, values = given.images[:1], []
    order = pytorch.LAYOUTS[given.layout]
    batch = image.expand(min(copies, len(units)), -1, -1, -1).contiguous(memory_format=order)
    for start in range(0, len(units), copies):
        some = torch.from_numpy(units[start : start + copies]).to(image.device)
        rows = torch.arange(len(some), device=image.device)
        maps = method.attribute(
            batch[: len(some)].clone().requires_grad_(),
            lambda out, rows=rows, some=some: out[rows, some].sum((1, 2)),
        )
        values.append(_torch_cosine(maps, image))
    return torch.cat(values).cpu().numpy()


def captum_single(given: Subject, layer: str, unit: int) -> np.ndarray:
    """The same with Captum, one unit a call."""
    method = NeuronGuidedBackprop(given.network, pytorch.rectified(given.network, layer))
    image = given.images[:1]
    maps = method.attribute(image.clone().requires_grad_(), lambda out: out[:, unit].sum((1, 2)))
    return _torch_cosine(maps, image).cpu().numpy()


def _torch_cosine(maps: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    flat, reference = maps.detach().flatten(1), image.flatten(1)
    norms = flat.norm(dim=1) * reference.norm()
    return torch.where(norms > 0, (flat @ reference[0]) / norms.clamp(min=1e-30), 0)


def work_below(model: Any, x: Any) -> dict[str, int]:
    """FLOPs of one unit's plain way back, by layer: every convolution that its layer's input depends on, in full."""
    shape = jax.ShapeDtypeStruct((1, *x.shape[1:]), jnp.float32)
    own = {cost.layer: cost.operations for cost in costs(model, shape)}
    below: dict[str, set[str]] = {"": set()}
    for source, reader in edges(model, shape):
        below.setdefault(reader, set()).update(below[source], {source})
    return {layer: sum(own.get(name, 0) for name in names) for layer, names in below.items()}
