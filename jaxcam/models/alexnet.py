"""AlexNet: five convolutions in a chain."""

from flax import nnx

from jaxcam.models.chain import ChainNetwork, Convolution, Head, Pool
from jaxcam.models.config import Config

IMAGENET_PLAN = (
    Convolution(64, kernel=11, stride=4, padding=2),
    Pool(3),
    Convolution(192, kernel=5, padding=2),
    Pool(3),
    Convolution(384),
    Convolution(256),
    Convolution(256),
    Pool(3),
)
IMAGENET_HEAD = Head(cells=6, hidden=(4096, 4096), dropout="before")

# The same widths with kernels, strides and windows for maps a seventh of the size: 32 → 16 → 8 → 4 → 2.
SMALL_PLAN = (
    Convolution(64, kernel=5, stride=2, padding=2),
    Pool(),
    Convolution(192),
    Pool(),
    Convolution(384),
    Convolution(256),
    Convolution(256),
    Pool(),
)
SMALL_HEAD = Head(cells=1, hidden=(512,))


class AlexNet(ChainNetwork):
    """AlexNet (Krizhevsky 2014), 5 convolutions, without normalization layers.

    ImageNet form (image_size above 64): torchvision's, 61,100,840 parameters for 1000 classes of color images, dropout
    before its two hidden dense layers. Small-input form: the same channels with smaller kernels and windows, global
    average pool, one hidden dense layer of 512, no dropout; 2,391,370 parameters for 10 classes of color images.

    Args:
        config: which form, for which images.
        rngs: the random streams.

    Paper: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, arXiv:1404.5997.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        plan, head = (SMALL_PLAN, SMALL_HEAD) if config.small else (IMAGENET_PLAN, IMAGENET_HEAD)
        super().__init__(config, plan, head, rngs=rngs)
