"""Do these arrays belong to this network? All that does not fit is said at once."""

from collections.abc import Iterator, Mapping

import numpy as np

from jaxcam.models.config import CONVOLUTIONS, Config
from jaxcam.models.conversion import Entry, entries

Arrays = Mapping[str, np.ndarray]

MOST = 10
"""How many misfits a message lists before it counts the rest."""

IGNORED = "num_batches_tracked"
"""Torch counts batches for a kind of running mean that none of these networks uses."""

FAMILIES = {"resnet50": "layer1.", "squeezenet1_1": ".squeeze."}
"""What the names of convolutions have in them that belong to no chain."""

LAST_CONVOLUTION = {True: "classifier.conv.kernel", False: "classifier.1.weight"}
"""What gives the classes where no layer is dense, by our names and by torchvision's."""


def converted(arrays: Arrays, config: Config, wanted: list[Entry], source: str) -> dict[str, np.ndarray]:
    """The arrays of a file by our names and in our layout.

    Args:
        arrays: by our names or by torchvision's.
        config: the network they are for.
        wanted: what it has, from `entries`.
        source: the file, for messages.

    Returns:
        float32 arrays, one for each entry.

    Raises:
        ValueError: names are missing or unknown, or shapes differ; all are listed, to ten, unless the arrays are of
            another network as a whole, which is named.
    """
    ours = is_ours(arrays)
    expected = {entry.path if ours else entry.torch_path: entry for entry in wanted}
    shapes = {name: entry.shape if ours else entry.torch_shape for name, entry in expected.items()}
    problems = list(misfits(arrays, shapes))
    if problems:
        found = recognize(arrays)
        if found is not None:
            raise ValueError(f"{source} does not fit {config.describe()}; it fits {found.describe()}")
        raise ValueError(misfit_message(f"{source} does not fit {config.describe()}{hint(arrays, config)}", problems))
    return {
        entry.path: np.asarray(arrays[name] if ours else entry.from_torch(arrays[name]), np.float32)
        for name, entry in expected.items()
    }


def is_ours(arrays: Arrays) -> bool:
    """Whether arrays have our names, not torchvision's.

    Example:
        >>> is_ours({"fc.kernel": np.zeros((2, 2))}), is_ours({"fc.weight": np.zeros((2, 2))})
        (True, False)
    """
    return any(name.endswith(".kernel") for name in arrays)


def misfits(arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """What does not fit, one short phrase each: wrong shapes and types first, then missing and unknown names.

    Example:
        >>> list(misfits({"a": np.zeros(2), "b": np.zeros(1)}, {"a": (3,), "c": (1,)}))
        ['a is (2,) but should be (3,)', 'c is missing', 'b is unknown']
    """
    for name in shapes:
        if name in arrays and tuple(arrays[name].shape) != tuple(shapes[name]):
            yield f"{name} is {tuple(arrays[name].shape)} but should be {tuple(shapes[name])}"
        elif name in arrays and arrays[name].dtype.kind in "iubc":
            yield f"{name} holds {arrays[name].dtype} but should hold floating point"
    yield from (f"{name} is missing" for name in shapes if name not in arrays)
    yield from (f"{name} is unknown" for name in arrays if name not in shapes and not name.endswith(IGNORED))


def misfit_message(beginning: str, problems: list[str]) -> str:
    """All problems in one line, the eleventh and later as a count.

    Example:
        >>> misfit_message("a.safetensors does not fit Linear", ["bias is missing", "scale is unknown"])
        'a.safetensors does not fit Linear: bias is missing; scale is unknown'
    """
    more = f"; and {len(problems) - MOST} more" if len(problems) > MOST else ""
    return f"{beginning}: {'; '.join(problems[:MOST])}{more}"


def hint(arrays: Arrays, config: Config) -> str:
    """Which other network the arrays are part of, as a clause for the message; empty where none is known."""
    name = looks_like(arrays)
    return f" (it looks like {name})" if name not in (None, config.name) else ""


def looks_like(arrays: Arrays) -> str | None:
    """The network that shares most names with the arrays, if that is at least half of them."""
    shares = {}
    for name in CONVOLUTIONS:
        known = {path for entry in entries(Config(name)) for path in (entry.path, entry.torch_path)}
        shares[name] = len(known & set(arrays)) / max(len(arrays), 1)
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= 0.5 and list(shares.values()).count(shares[best]) == 1 else None


def recognize(arrays: Arrays) -> Config | None:
    """The configuration that arrays fit exactly, apart from the image size, which only decides between two forms.

    Args:
        arrays: by our names or by torchvision's.

    Returns:
        The configuration, with image_size 32 or 224; None where nothing fits.

    Example:
        >>> config = Config("vgg11", classes=7, image_size=32, channels=1, convolutions=2)
        >>> shapes = {entry.torch_path: np.empty(entry.torch_shape) for entry in entries(config)}
        >>> recognize(shapes) == config
        True
    """
    ours = is_ours(arrays)
    kernels = {name: array.shape for name, array in arrays.items() if name.endswith(("weight", "kernel"))}
    convolutions = [name for name, shape in kernels.items() if len(shape) == 4]
    dense = [name for name, shape in kernels.items() if len(shape) == 2]
    last = max(dense, default=LAST_CONVOLUTION[ours])
    if last not in kernels or not convolutions:
        return None
    classes = kernels[last][-1 if ours else 0]
    channels = min(kernels[name][2 if ours else 1] for name in convolutions)
    family = next((name for name, part in FAMILIES.items() if any(part in path for path in convolutions)), None)
    for name, most in CONVOLUTIONS.items():
        # Each try builds a blueprint; that of another family is not worth it.
        if name != family if family or most is None else len(convolutions) > most:
            continue
        # The larger form first: SqueezeNet's forms have the same shapes, and photographs are what it was trained on.
        for size in (224, 32):
            config = Config(name, classes, size, channels, None if most is None else len(convolutions))
            shapes = {
                entry.path if ours else entry.torch_path: entry.shape if ours else entry.torch_shape
                for entry in entries(config)
            }
            if not list(misfits(arrays, shapes)):
                return config
    return None
