"""`save`, `restore` and `read_metadata`: networks to files and back."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from flax import nnx
from safetensors.numpy import save as to_safetensors

from jaxcam.files import write_atomically
from jaxcam.models import sources
from jaxcam.models.conversion import entries, to_torchvision
from jaxcam.models.fitting import converted, misfit_message, misfits
from jaxcam.models.registry import Network
from jaxcam.models.state import Module, filled, weights_of

RESERVED = ("config", "layout", sources.CHECKSUM)


def save(
    model: nnx.Module,
    path: str | os.PathLike[str],
    *,
    layout: Literal["jaxcam", "torchvision"] = "jaxcam",
    **metadata: Any,
) -> Path:
    """Writes a network to one .safetensors file, whole or not at all.

    The file's metadata has the key "jaxcam" with JSON: the configuration under "config", what is given beside, and a
    checksum of all of it by which a reader notices a changed byte.
    Random states of dropout are not weights and are not written.

    Args:
        model: from `load`; or any NNX module of your own, which `restore` then fills again.
        path: a name that ends in .safetensors, in an existing folder. A file of that name is replaced.
        layout: "jaxcam" for our names and shapes, "torchvision" for those of torchvision's state dicts, which torch
            loads with `load_state_dict(safetensors.torch.load_file(path))`. `load` reads both.
        **metadata: what else to keep that JSON can hold: class names, data set, epoch.

    Returns:
        The path.

    Raises:
        ValueError: another suffix, an unknown layout, or a reserved name ("config", "layout", "checksum") among the
            metadata.
        TypeError: metadata that JSON cannot hold, or torchvision's layout for a network of your own.
        FileNotFoundError: the folder does not exist.
        OSError: the disk is full or not writable; nothing is left behind.

    Example:
        >>> import tempfile
        >>> from jaxcam.models import load
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model = load("vgg11", classes=2, image_size=8, convolutions=1)
        ...     path = save(model, Path(folder) / "model.safetensors", names=["cat", "dog"])
        ...     read_metadata(path)["names"], load(path).config == model.config
        (['cat', 'dog'], True)
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} does not end in .safetensors, the one kind of file that save writes")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    if layout not in ("jaxcam", "torchvision"):
        raise ValueError(f"layout={layout!r} is unknown; give 'jaxcam' or 'torchvision'")
    reserved = [name for name in RESERVED if name in metadata]
    if reserved:
        raise ValueError(f"metadata cannot be named {' or '.join(reserved)}: save writes that itself")
    written: dict[str, Any] = {"layout": layout}
    if isinstance(model, Network):
        written["config"] = model.config.to_dict()
    if layout == "jaxcam":
        arrays = {name: np.asarray(array, order="C") for name, array in weights_of(model).items()}
    elif isinstance(model, Network):
        arrays = to_torchvision(model)
    else:
        raise TypeError(f"torchvision has no layout for {type(model).__name__}; save it with layout='jaxcam'")
    text = sources.with_checksum(arrays, json.dumps(written | metadata, sort_keys=True, default=plain))

    def write(file: BinaryIO) -> None:
        file.write(to_safetensors(arrays, {"jaxcam": text}))

    return write_atomically(path, write)


def plain(value: Any) -> Any:
    """NumPy's and JAX's numbers and arrays as JSON has them.

    Raises:
        TypeError: it is something else.

    Example:
        >>> json.dumps({"epoch": np.int64(3)}, default=plain)
        '{"epoch": 3}'
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"metadata must be what JSON can hold, not {type(value).__name__}")


def restore(model: Module, path: str | os.PathLike[str]) -> Module:
    """A module of your own with the weights that `save` wrote; `load` does this by itself for its networks.

    Args:
        model: any NNX module with the same layers as the one saved. It is left as it is.
        path: the file.

    Returns:
        A new module.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, or weights that do not fit; all that does not fit is listed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), Path(folder) / "linear.safetensors")
        ...     restore(nnx.Linear(2, 3, rngs=nnx.Rngs(1)), path).kernel.shape
        (2, 3)
    """
    found = sources.locate(path)
    arrays = sources.read(found).arrays
    if isinstance(model, Network):
        return filled(model, converted(arrays, model.config, entries(model.config, model), str(found)))
    problems = list(misfits(arrays, {name: tuple(array.shape) for name, array in weights_of(model).items()}))
    if problems:
        raise ValueError(misfit_message(f"{found} does not fit {type(model).__name__}", problems))
    return filled(model, arrays)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save` wrote beside the weights: "config", "layout" and what was given to it.

    Args:
        path: a weight file.

    Returns:
        A dictionary; {} for files of other programs.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged.

    Example:
        >>> import tempfile
        >>> from jaxcam.models import load
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model = load("vgg11", classes=2, image_size=8, convolutions=1)
        ...     read_metadata(save(model, Path(folder) / "model.safetensors", epoch=3))["epoch"]
        3
    """
    found = sources.locate(path)
    if found.suffix in sources.TORCH_SUFFIXES:
        return {}
    return sources.read_safetensors(found, only_metadata=True).metadata
