"""ResNet50: sixteen bottleneck blocks around a residual stream."""

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Num

from jaxcam.models.blocks import batch_norm, prepare
from jaxcam.models.config import Config
from jaxcam.program import tag

STAGES = ((64, 3), (128, 4), (256, 6), (512, 3))
"""(width, blocks) of layer1 to layer4."""

EXPANSION = 4
"""A block's output has four times as many channels as its inner convolutions."""


def convolution(inputs: int, outputs: int, kernel: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    """A convolution as ResNet uses them: square, padded to keep the size, without bias (batch norm brings one)."""
    padding = kernel // 2
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=((padding, padding), (padding, padding)),
        use_bias=False,
        rngs=rngs,
    )


class Bottleneck(nnx.Module):
    """relu(x + 1×1 · relu 3×3 · relu 1×1 (x)) with batch norm after each convolution.

    The stride stands at the 3×3 convolution, as in torchvision ("version 1.5"); the paper has it at the first.

    Args:
        inputs: channels of x.
        width: channels inside; the output has four times as many.
        stride: 1 or 2.
        name: the name its output is tagged with.
        rngs: the random streams.
    """

    def __init__(self, inputs: int, width: int, stride: int, name: str, *, rngs: nnx.Rngs) -> None:
        self.name = name
        outputs = width * EXPANSION
        self.conv1 = convolution(inputs, width, 1, 1, rngs)
        self.bn1 = batch_norm(width, rngs)
        self.conv2 = convolution(width, width, 3, stride, rngs)
        self.bn2 = batch_norm(width, rngs)
        self.conv3 = convolution(width, outputs, 1, 1, rngs)
        self.bn3 = batch_norm(outputs, rngs)
        self.shortcut = stride != 1 or inputs != outputs
        if self.shortcut:
            self.downsample = nnx.List([convolution(inputs, outputs, 1, stride, rngs), batch_norm(outputs, rngs)])

    def __call__(self, x: Float[jax.Array, "n h w c"]) -> Float[jax.Array, "n p q u"]:
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        y = jax.nn.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        if self.shortcut:
            x = self.downsample[1](self.downsample[0](x))
        return tag(jax.nn.relu(y + x), self.name)


class ResNet50(nnx.Module):
    """ResNet50 (He et al. 2016) as torchvision builds it; `model(x)` maps images (n, h, w, c) to logits (n, k).

    25,557,032 parameters for 1000 classes of color images. The small-input form (image_size up to 64) replaces the
    stem, a 7×7 convolution with stride 2 and a max-pool, by a 3×3 convolution with stride 1. Layers have torchvision's
    names; outputs of blocks and stages are tagged `layer1.0` … `layer4.2` and `layer1` … `layer4`.

    Args:
        config: which form, for which images.
        rngs: the random streams.

    Paper: He, Zhang, Ren & Sun, "Deep residual learning for image recognition", CVPR 2016.

    Differs from the paper: the stride of a block stands at its 3×3 convolution.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        self.config = config
        kernel, stride = (3, 1) if config.small else (7, 2)
        self.conv1 = convolution(config.channels, 64, kernel, stride, rngs)
        self.bn1 = batch_norm(64, rngs)
        inputs = 64
        for stage, (width, blocks) in enumerate(STAGES, start=1):
            layer: nnx.List[Bottleneck] = nnx.List([])
            for block in range(blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                layer.append(Bottleneck(inputs, width, stride, f"layer{stage}.{block}", rngs=rngs))
                inputs = width * EXPANSION
            setattr(self, f"layer{stage}", layer)
        self.fc = nnx.Linear(inputs, config.classes, rngs=rngs)

    def __call__(self, x: Num[jax.Array | np.ndarray, "..."]) -> Float[jax.Array, "n k"]:
        """The logits of a batch of images.

        Args:
            x: (n, h, w, c) floating point in [0, 1].

        Returns:
            (n, k) logits.

        Raises:
            ValueError: the images have another size, number of channels or type.
        """
        y = jax.nn.relu(self.bn1(self.conv1(prepare(x, self.config))))
        if not self.config.small:
            y = nnx.max_pool(y, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage in range(1, len(STAGES) + 1):
            for block in getattr(self, f"layer{stage}"):
                y = block(y)
            y = tag(y, f"layer{stage}")
        return self.fc(y.mean(axis=(1, 2)))
