"""Images in: digits, MNIST, CIFAR-10, tensorflow-datasets and folders of photographs, as float32 in [0, 1].

    images, labels, names = jaxcam.data.load("digits", "train")

Every source gives a `Dataset`, in the same order on every machine, with a fingerprint by which a later run can tell
whether it sees the same data. Images stay in [0, 1]: normalization belongs to the network, which does it as its first
operation and carries it in its checkpoint.
"""

from jaxcam.data.checks import check_images
from jaxcam.data.dataset import Dataset
from jaxcam.data.images import read_image, resize
from jaxcam.data.loading import load, names

__all__ = ["Dataset", "check_images", "load", "names", "read_image", "resize"]
