"""Networks in Flax NNX, for ImageNet's photographs and for small images; weights in and out.

AlexNet, VGG11, SqueezeNet 1.1 and ResNet50:

    model = load("resnet50", "weights.safetensors")         # torchvision's state dict, images normalized as it expects
    logits = model(images)                                  # (n, 224, 224, 3) in [0, 1] → (n, 1000)
    save(model, "mine.safetensors", names=["cat", "dog"])   # and load("mine.safetensors")

The files: `config` is the record that says which network; `chain`, `alexnet`, `vgg`, `squeezenet`, `resnet` the
networks; `registry` builds them; `sources` and `hub` find and read weight files, `conversion` and `fitting` bring them
into our layout or say why not; `loading` and `saving` put this together.
"""

from jaxcam.models.config import Config
from jaxcam.models.loading import load
from jaxcam.models.registry import names
from jaxcam.models.saving import read_metadata, restore, save

__all__ = ["Config", "load", "names", "read_metadata", "restore", "save"]
