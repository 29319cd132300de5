"""VGG11: eight 3×3 convolutions in a chain."""

from flax import nnx

from jaxcam.models.chain import ChainNetwork, Convolution, Head, Pool
from jaxcam.models.config import Config

# Without the last pool, which the small-input form drops so that its last maps are 2×2 for 32×32 images.
SMALL_PLAN = (
    Convolution(64),
    Pool(),
    Convolution(128),
    Pool(),
    Convolution(256),
    Convolution(256),
    Pool(),
    Convolution(512),
    Convolution(512),
    Pool(),
    Convolution(512),
    Convolution(512),
)
IMAGENET_PLAN = (*SMALL_PLAN, Pool())

SMALL_HEAD = Head(cells=1, hidden=(512,))
IMAGENET_HEAD = Head(cells=7, hidden=(4096, 4096), dropout="after")


class VGG11(ChainNetwork):
    """VGG11, configuration A of Simonyan & Zisserman (2015), 8 convolutions, without normalization layers.

    ImageNet form (image_size above 64): torchvision's, 132,863,336 parameters for 1000 classes of color images, dropout
    after its two hidden dense layers. Small-input form: the last max-pool dropped, global average pool, one hidden
    dense layer of 512, no dropout; 9,488,266 parameters for 10 classes of color images, 1,097,610 with the first
    4 convolutions.

    Args:
        config: which form, for which images.
        rngs: the random streams.

    Paper: Simonyan & Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.
    """

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        plan, head = (SMALL_PLAN, SMALL_HEAD) if config.small else (IMAGENET_PLAN, IMAGENET_HEAD)
        super().__init__(config, plan, head, rngs=rngs)
