"""Where weights come from: a path or a name on the hub, to a dictionary of arrays. Nothing is unpickled."""

import difflib
import json
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxcam.checksums import of_arrays
from jaxcam.files import instead_of_a_file
from jaxcam.models import hub

TORCH_SUFFIXES = (".pth", ".pt")
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
CHECKSUM = "checksum"


class Tensors(NamedTuple):
    """What a weight file holds: its arrays by name, and what jaxcam wrote beside them ({} if another program did)."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]


def locate(source: str | os.PathLike[str]) -> Path:
    """The file that a user means.

    Args:
        source: a path, or `owner/repo` or `owner/repo/file.safetensors` on the hub.

    Returns:
        The path of an existing file.

    Raises:
        FileNotFoundError: it does not exist; the closest name in its folder is given.
        ValueError: it is a folder, or of a kind that is not read.
    """
    path = Path(source).expanduser()
    if not path.exists() and hub.is_hub_name(str(source)):
        return hub.fetch(str(source))
    if path.is_dir():
        files = sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES)
        inside = f"it holds {', '.join(files[:5])}" if files else "it holds no weights"
        raise ValueError(f"{path} is a folder, weights are one file; {inside}")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}{instead_of_a_file(path)}; {neighbor(path)}")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path} is neither .safetensors nor .pth, the two kinds of weight files that are read")
    return path


def neighbor(path: Path) -> str:
    """What to say about the folder of a missing file: the closest name in it, or how far the path exists.

    Example:
        >>> neighbor(Path("/nowhere/weights.safetensors"))
        'there is no folder /nowhere either'
    """
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    files = sorted(file.name for file in path.parent.iterdir() if file.suffix in SUFFIXES)
    close = difflib.get_close_matches(path.name, files, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}? It is in the same folder"
    return f"its folder holds {', '.join(files[:5])}" if files else "its folder holds no weights"


def read(path: Path) -> Tensors:
    """Reads a weight file.

    Args:
        path: a .safetensors file, or a .pth file where torch is installed.

    Returns:
        Its arrays and its metadata.

    Raises:
        ValueError: it is damaged, or holds something else than arrays.
        ModuleNotFoundError: a .pth file without torch.
    """
    return read_torch(path) if path.suffix in TORCH_SUFFIXES else read_safetensors(path)


def read_safetensors(path: Path, *, only_metadata: bool = False) -> Tensors:
    """Reads a .safetensors file, or just what stands at its head.

    Raises:
        ValueError: it is cut short, no such file at all, or its jaxcam metadata is no JSON object.
    """
    try:
        with safe_open(path, framework="np") as file:
            written = (file.metadata() or {}).get("jaxcam")
            arrays = {} if only_metadata else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no whole safetensors file ({hub.one_line(error)}); copy or download it again"
        ) from None
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path} holds numbers that NumPy has no type for: {hub.one_line(error)}") from None
    metadata: Any = {}
    if written is not None:
        try:
            metadata = json.loads(written)
        except json.JSONDecodeError:
            metadata = None
        if not isinstance(metadata, dict) or not isinstance(metadata.get("config", {}), dict):
            raise ValueError(f"{path} has damaged jaxcam metadata: {written[:60]!r} is no JSON object")
    known = metadata.pop(CHECKSUM, None)
    beside = json.dumps(metadata, sort_keys=True)
    if known is not None and known[:8] != of_arrays({}, beside):
        raise ValueError(f"{path} is damaged: what it says of itself has changed since it was saved; {AGAIN}")
    if known is not None and not only_metadata and known[8:] != of_arrays(arrays, beside):
        raise ValueError(f"{path} is damaged: its weights are not those that were saved; {AGAIN}")
    return Tensors(arrays, metadata)


AGAIN = "copy it again, or run the training that wrote it again"


def with_checksum(arrays: dict[str, np.ndarray], text: str) -> str:
    """The JSON that stands beside arrays, with a checksum of itself and another of arrays and itself.

    Args:
        arrays: what the file holds.
        text: a JSON object, sorted by its keys.
    """
    found = json.loads(text)
    beside = json.dumps(found, sort_keys=True)
    return json.dumps(found | {CHECKSUM: of_arrays({}, beside) + of_arrays(arrays, beside)}, sort_keys=True)


def read_torch(path: Path) -> Tensors:
    """Reads a state dict that torch saved, with `weights_only=True`: arrays, and no code that could run.

    Also understood: a state dict under the key "model" or "state_dict", as training scripts save it, and names with
    "module." before them, as data-parallel training leaves them.

    Raises:
        ModuleNotFoundError: torch is not installed.
        ValueError: the file is damaged, holds more than arrays, or holds none.
    """
    try:
        import torch
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"reading {path} needs PyTorch, to read it without running code in it: pip install torch; "
            "or convert the file to .safetensors where PyTorch is"
        ) from None
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise whatever the damaged part raises
        raise ValueError(f"{path} {torch_complaint(path, error)}") from None
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(torch.is_tensor(value) for value in loaded.values()):
        raise ValueError(f"{path} holds no state dict; save one with torch.save(model.state_dict(), path)")
    if all(name.startswith("module.") for name in loaded):
        loaded = {name.removeprefix("module."): value for name, value in loaded.items()}
    arrays = {
        name: (value.float() if value.is_floating_point() else value).detach().numpy() for name, value in loaded.items()
    }
    return Tensors(arrays, {})


def torch_complaint(path: Path, error: Exception) -> str:
    """Why torch did not read a file, in a few words."""
    if not zipfile.is_zipfile(path):
        return "is no whole .pth file of weights alone; copy or download it again"
    if "weights" in str(error).lower() and "only" in str(error).lower():
        return "holds more than weights, and code is never run; save model.state_dict() alone"
    return f"cannot be read ({hub.one_line(error)}); copy or download it again"
