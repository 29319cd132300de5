"""Two layouts of the same weights: ours, and torchvision's state dicts.

| | ours | torchvision |
|---|---|---|
| names | paths in the module: `features.conv3.kernel` | `features.8.weight` |
| convolution | (rows, columns, in, out) | (out, in, rows, columns) |
| dense | (in, out) | (out, in) |
| dense on a flattened map | in = (row, column, channel) | in = (channel, row, column) |
| batch norm | scale, bias, mean, var | weight, bias, running_mean, running_var, num_batches_tracked |

What differs between the networks is the tables below; the rest follows from the shapes. ResNet50's modules already
have torchvision's names. Torchvision has no small-input forms; theirs take the same numbers for the features, and 0 and
2 for a classifier Sequential(Linear, ReLU, Linear).
"""

import dataclasses

import numpy as np

from jaxcam.models.config import Config
from jaxcam.models.registry import Network, blueprint
from jaxcam.models.state import weights_of

FEATURES = {"alexnet": (0, 3, 6, 8, 10), "vgg11": (0, 3, 6, 8, 11, 13, 16, 18)}
"""Where conv0, conv1, … stand in torchvision's `features`."""

FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}
"""Where SqueezeNet's fire2, fire3, … stand in torchvision's `features`."""

CLASSIFIER = {"alexnet": (1, 4, 6), "vgg11": (0, 3, 6)}
"""Where dense0, dense1, … stand in torchvision's `classifier`."""

SMALL_CLASSIFIER = (0, 2)

PARAMETERS = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array of a network in both layouts.

    Args:
        path: its name in ours.
        shape: its shape in ours.
        torch_path: its name in torchvision's.
        grid: rows and columns of the map that the array's inputs are flattened from; None if they are not.
    """

    path: str
    shape: tuple[int, ...]
    torch_path: str
    grid: int | None = None

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Its shape in torchvision's layout."""
        if len(self.shape) == 4:
            rows, columns, inputs, outputs = self.shape
            return outputs, inputs, rows, columns
        return self.shape[::-1]

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """The array in torchvision's layout."""
        if array.ndim == 4:
            return array.transpose(3, 2, 0, 1)
        if self.grid:
            inputs, outputs = array.shape
            split = array.reshape(self.grid, self.grid, -1, outputs)
            return split.transpose(3, 2, 0, 1).reshape(outputs, inputs)
        return array.T

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        """The array in our layout."""
        if array.ndim == 4:
            return array.transpose(2, 3, 1, 0)
        if self.grid:
            outputs, inputs = array.shape
            split = array.reshape(outputs, -1, self.grid, self.grid)
            return split.transpose(2, 3, 1, 0).reshape(inputs, outputs)
        return array.T


def torch_modules(config: Config) -> dict[str, str]:
    """Our names of modules that torchvision calls otherwise, with torchvision's.

    Example:
        >>> torch_modules(Config("vgg11"))["features.conv3"]
        'features.8'
    """
    if config.name == "squeezenet1_1":
        parts = ("squeeze", "expand1x1", "expand3x3")
        fires = {f"features.fire{i}.{part}": f"features.{at}.{part}" for i, at in FIRES.items() for part in parts}
        return {"features.conv0": "features.0", **fires, "classifier.conv": "classifier.1"}
    if config.name not in FEATURES:
        return {}
    classifier = SMALL_CLASSIFIER if config.small else CLASSIFIER[config.name]
    features = FEATURES[config.name][: config.convolutions]
    return {f"features.conv{index}": f"features.{place}" for index, place in enumerate(features)} | {
        f"classifier.dense{index}": f"classifier.{place}" for index, place in enumerate(classifier)
    }


def entries(config: Config, network: Network | None = None) -> list[Entry]:
    """Every array of a network, in both layouts.

    Args:
        config: which network.
        network: the network itself if it is at hand; saves building its blueprint.

    Returns:
        One entry an array, in the order of our names.

    Example:
        >>> entries(Config("vgg11", classes=10, image_size=32))[-1].torch_path
        'features.18.weight'
    """
    modules = torch_modules(config)
    result = []
    for path, array in weights_of(network or blueprint(config)).items():
        module, _, parameter = path.rpartition(".")
        grid = None
        if path == "classifier.dense0.kernel" and not config.small:
            grid = network_grid(config)
        torch_path = f"{modules.get(module, module)}.{PARAMETERS[parameter]}"
        result.append(Entry(path, tuple(array.shape), torch_path, grid))
    return result


def network_grid(config: Config) -> int:
    """Rows and columns of the map that a torchvision classifier flattens: 6 for AlexNet, 7 for VGG11."""
    return {"alexnet": 6, "vgg11": 7}[config.name]


def to_torchvision(network: Network) -> dict[str, np.ndarray]:
    """A network's weights in torchvision's layout.

    Args:
        network: one of ours.

    Returns:
        The arrays by torchvision's names, with the counters of batch norm at 0.
    """
    arrays = weights_of(network)
    converted = {}
    for entry in entries(network.config, network):
        converted[entry.torch_path] = np.asarray(entry.to_torch(np.asarray(arrays[entry.path])), order="C")
        if entry.path.endswith(".var"):
            converted[entry.torch_path.removesuffix("running_var") + "num_batches_tracked"] = np.zeros((), np.int64)
    return converted
