"""Networks that are one chain: convolutions and pools, then a classifier.

AlexNet and VGG11 differ only in data, the plan of their features and the shape of their classifier, so the network
is written once. A plan can be cut anywhere, which is how layer pruning keeps the first convolutions.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Num

from jaxcam.models.blocks import adaptive_average_pool, prepare
from jaxcam.models.config import Config


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution with `channels` outputs and a square kernel, followed by ReLU."""

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1


@dataclasses.dataclass(frozen=True)
class Pool:
    """A max-pool with a square window and no padding."""

    window: int = 2
    stride: int = 2


@dataclasses.dataclass(frozen=True)
class Head:
    """A classifier: what the map is averaged to, the hidden widths, and where dropout stands.

    Args:
        cells: the map is averaged to cells × cells and flattened; 1 is the global average.
        hidden: widths of the dense layers before the last.
        dropout: "before" or "after" each hidden layer, or None.
    """

    cells: int
    hidden: tuple[int, ...]
    dropout: Literal["before", "after"] | None = None


Plan = tuple[Convolution | Pool, ...]


def cut(plan: Sequence[Convolution | Pool], convolutions: int | None) -> Plan:
    """The plan up to the given convolution, with the pool that follows it.

    Args:
        plan: convolutions and pools in order.
        convolutions: how many convolutions to keep; None for all.

    Returns:
        The kept part.

    Example:
        >>> cut((Convolution(8), Pool(), Convolution(16), Convolution(16)), 1)
        (Convolution(channels=8, kernel=3, stride=1, padding=1), Pool(window=2, stride=2))
    """
    kept: list[Convolution | Pool] = []
    count = 0
    for step in plan:
        if isinstance(step, Convolution):
            if count == convolutions:
                break
            count += 1
        kept.append(step)
    return tuple(kept)


class Features(nnx.Module):
    """The convolutions `conv0`, `conv1`, … of a plan, with ReLU after each and the plan's pools between.

    Args:
        plan: the steps in order.
        channels: c, channels of the image.
        rngs: the random streams.
    """

    def __init__(self, plan: Plan, channels: int, *, rngs: nnx.Rngs) -> None:
        self.plan = plan
        for index, step in enumerate(step for step in plan if isinstance(step, Convolution)):
            layer = nnx.Conv(
                channels,
                step.channels,
                (step.kernel, step.kernel),
                strides=step.stride,
                padding=((step.padding, step.padding), (step.padding, step.padding)),
                rngs=rngs,
            )
            setattr(self, f"conv{index}", layer)
            channels = step.channels

    def __call__(self, x: Float[jax.Array, "n h w c"]) -> Float[jax.Array, "n p q u"]:
        index = 0
        for step in self.plan:
            if isinstance(step, Convolution):
                x = jax.nn.relu(getattr(self, f"conv{index}")(x))
                index += 1
            # Very small images are used up before the last pool; what is smaller than the window stays as it is.
            elif min(x.shape[1:3]) >= step.window:
                x = nnx.max_pool(x, (step.window, step.window), strides=(step.stride, step.stride))
        return x


class Classifier(nnx.Module):
    """Dense layers `dense0`, `dense1`, … with ReLU between them, on the averaged and flattened map.

    The map is flattened in the order of its own axes (row, column, channel); torch's order is (channel, row, column).
    The difference lies in the rows of dense0's kernel and is settled when weights are read or written, so that the
    network itself has no transpose in it.

    Args:
        head: its shape.
        channels: channels of the map.
        classes: k.
        rngs: the random streams.
    """

    def __init__(self, head: Head, channels: int, classes: int, *, rngs: nnx.Rngs) -> None:
        self.head = head
        width = channels * head.cells**2
        for index, features in enumerate(head.hidden):
            if head.dropout:
                setattr(self, f"dropout{index}", nnx.Dropout(0.5, rngs=rngs))
            setattr(self, f"dense{index}", nnx.Linear(width, features, rngs=rngs))
            width = features
        last = nnx.Linear(width, classes, rngs=rngs)
        setattr(self, f"dense{len(head.hidden)}", last)

    def __call__(self, x: Float[jax.Array, "n h w c"]) -> Float[jax.Array, "n k"]:
        if self.head.cells == 1:
            x = x.mean(axis=(1, 2))
        else:
            x = adaptive_average_pool(x, self.head.cells)
            x = x.reshape(x.shape[0], -1)
        for index in range(len(self.head.hidden)):
            if self.head.dropout == "before":
                x = getattr(self, f"dropout{index}")(x)
            x = jax.nn.relu(getattr(self, f"dense{index}")(x))
            if self.head.dropout == "after":
                x = getattr(self, f"dropout{index}")(x)
        return getattr(self, f"dense{len(self.head.hidden)}")(x)


class ChainNetwork(nnx.Module):
    """A network that is one chain; `model(x)` maps images (n, h, w, c) to logits (n, k).

    Args:
        config: which network, for which images.
        plan: its features before any cut.
        head: its classifier.
        rngs: the random streams.
    """

    def __init__(self, config: Config, plan: Plan, head: Head, *, rngs: nnx.Rngs) -> None:
        self.config = config
        kept = cut(plan, config.convolutions)
        channels = [step.channels for step in kept if isinstance(step, Convolution)][-1]
        self.features = Features(kept, config.channels, rngs=rngs)
        self.classifier = Classifier(head, channels, config.classes, rngs=rngs)

    def __call__(self, x: Num[jax.Array | np.ndarray, "..."]) -> Float[jax.Array, "n k"]:
        """The logits of a batch of images.

        Args:
            x: (n, h, w, c) floating point in [0, 1].

        Returns:
            (n, k) logits.

        Raises:
            ValueError: the images have another size, number of channels or type.
        """
        return self.classifier(self.features(prepare(x, self.config)))
