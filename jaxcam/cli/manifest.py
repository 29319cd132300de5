"""What manifests are made of: arguments and how they differ, versions, and JSON files that are whole or not there."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxcam.files import write_atomically
from jaxcam.version import __version__

OUTSIDE = ("out", "overwrite", "quiet", "distributed", "coordinator", "processes", "process", "patience")
"""Options that do not change what a run is."""


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Which arguments differ between two runs, in a few words; empty where none does.

    Example:
        >>> differences({"epochs": 30, "out": "a"}, {"epochs": 5})
        'epochs was 30, is 5'
    """

    def each() -> Iterator[str]:
        for name in dict.fromkeys([*there, *here]):
            old, new = there.get(name), here.get(name)
            if name not in OUTSIDE and old != new:
                yield f"{name.replace('_', '-')} was {old}, is {new}"

    return "; ".join(each())


def versions() -> dict[str, str]:
    """The versions that results depend on."""
    found = {name: importlib.metadata.version(name) for name in ("jax", "flax", "numpy")}
    return {"jaxcam": __version__, **found, "python": platform.python_version()}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    text = json.dumps(content, indent=2, default=plain, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def plain(value: Any) -> Any:
    """A value as JSON gives it back: paths as text, arrays and tuples as lists.

    Example:
        >>> plain((Path("a"), 1))
        ['a', 1]
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value
