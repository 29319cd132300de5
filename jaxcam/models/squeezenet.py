"""SqueezeNet 1.1: eight fire modules; ImageNet in five megabytes, which any laptop explains in seconds."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Num

from jaxcam.models.blocks import prepare
from jaxcam.models.config import Config
from jaxcam.program import tag

FIRES = ((2, 16, 64), (3, 16, 64), (4, 32, 128), (5, 32, 128), (6, 48, 192), (7, 48, 192), (8, 64, 256), (9, 64, 256))
"""(number, width of the squeeze, width of each expansion), numbered as in the paper: the first layer is conv 1."""

POOLED = (2, 4, 6)
"""The fire modules that a max-pool stands before."""


def convolution(inputs: int, outputs: int, kernel: int, rngs: nnx.Rngs, stride: int = 1, padding: int = 0) -> nnx.Conv:
    """A square convolution with a bias."""
    pad = (padding, padding)
    return nnx.Conv(inputs, outputs, (kernel, kernel), strides=stride, padding=(pad, pad), rngs=rngs)


def pool(x: Float[jax.Array, "n h w c"]) -> Float[jax.Array, "n p q c"]:
    """A 3×3 max-pool with stride 2 that keeps a last window which is not full, as torch's `ceil_mode` does.

    Example:
        >>> pool(jnp.zeros((1, 6, 7, 1))).shape
        (1, 3, 3, 1)
    """
    height, width = x.shape[1:3]
    if min(height, width) < 3:  # very small images are used up before the last pool
        return x
    rest = ((0, (height - 3) % 2), (0, (width - 3) % 2))
    return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=rest)


class Fire(nnx.Module):
    """relu 1×1 to few channels, then relu 1×1 and relu 3×3 of these side by side.

    Args:
        inputs: channels of x.
        squeeze: channels in the middle.
        expand: channels of each half of the output.
        name: the name its output is tagged with.
        rngs: the random streams.
    """

    def __init__(self, inputs: int, squeeze: int, expand: int, name: str, *, rngs: nnx.Rngs) -> None:
        self.name = name
        self.squeeze = convolution(inputs, squeeze, 1, rngs)
        self.expand1x1 = convolution(squeeze, expand, 1, rngs)
        self.expand3x3 = convolution(squeeze, expand, 3, rngs, padding=1)

    def __call__(self, x: Float[jax.Array, "n h w c"]) -> Float[jax.Array, "n h w u"]:
        y = jax.nn.relu(self.squeeze(x))
        halves = [jax.nn.relu(self.expand1x1(y)), jax.nn.relu(self.expand3x3(y))]
        return tag(jnp.concatenate(halves, -1), self.name)


class Features(nnx.Module):
    """The first convolution `conv0` and the modules `fire2` … `fire9`, with the pools between them.

    Args:
        config: which form, for which images.
        rngs: the random streams.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        stride, padding = (1, 1) if config.small else (2, 0)
        self.conv0 = convolution(config.channels, 64, 3, rngs, stride, padding)
        inputs = 64
        for number, squeeze, expand in FIRES:
            name = f"fire{number}"
            setattr(self, name, Fire(inputs, squeeze, expand, f"features.{name}", rngs=rngs))
            inputs = 2 * expand

    def __call__(self, x: Float[jax.Array, "n h w c"]) -> Float[jax.Array, "n p q u"]:
        y = jax.nn.relu(self.conv0(x))
        for number, _, _ in FIRES:
            y = getattr(self, f"fire{number}")(pool(y) if number in POOLED else y)
        return y


class Classifier(nnx.Module):
    """Dropout, a 1×1 convolution to the classes, ReLU, and the mean over space.

    Args:
        config: which form, for which images.
        rngs: the random streams.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.conv = convolution(2 * FIRES[-1][2], config.classes, 1, rngs)

    def __call__(self, x: Float[jax.Array, "n h w c"]) -> Float[jax.Array, "n k"]:
        return jax.nn.relu(self.conv(self.dropout(x))).mean(axis=(1, 2))


class SqueezeNet(nnx.Module):
    """SqueezeNet 1.1 as torchvision builds it; `model(x)` maps images (n, h, w, c) to logits (n, k), none below 0.

    1,235,496 parameters for 1000 classes of color images. The small-input form (image_size up to 64) has stride 1 and
    padding in its first convolution. Outputs of the fire modules are tagged `features.fire2` … `features.fire9`.

    Args:
        config: which form, for which images.
        rngs: the random streams.

    Paper: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016.

    Differs from the paper: version 1.1 of its authors, with a smaller first convolution and earlier pools.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.features = Features(config, rngs=rngs)
        self.classifier = Classifier(config, rngs=rngs)

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
