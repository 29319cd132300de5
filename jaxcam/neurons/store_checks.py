"""Reading a sweep's store without believing it: checksums, ranges, and the words for what is damaged.

Each chunk ends with a CRC-32C (a codec of Zarr, so any reader of Zarr checks it), and the attributes of zarr.json hold
a checksum of all else that zarr.json says. Stores of older versions have neither; there, as everywhere, a number that
its metric cannot give is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from jaxcam import checksums
from jaxcam.files import write_atomically
from jaxcam.neurons.measures import MEASURES

METADATA, CHECKSUM = "zarr.json", "checksum"
AGAIN = "jaxcam neurons with the same options and --overwrite measures it again"


def seal(path: Path) -> None:
    """Adds to the metadata of a store, its arrays' among them, the checksum of them."""
    content = json.loads((path / METADATA).read_text("utf-8"))
    content["attributes"][CHECKSUM] = _checksum(content)
    text = json.dumps(content, indent=2)
    write_atomically(path / METADATA, lambda file: file.write(text.encode()))


def check_seal(path: Path) -> None:
    """Raises where the metadata of a store are not those that were sealed.

    Raises:
        ValueError: they are not, or they are no JSON.
    """
    try:
        content = json.loads((path / METADATA).read_text("utf-8"))
        known = content["attributes"].get(CHECKSUM)
        whole = known is None or known == _checksum(content)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{path / METADATA} is damaged: its checksum is not that of its content; {AGAIN}")


def _checksum(content: dict[str, Any]) -> str:
    attributes = {name: value for name, value in content["attributes"].items() if name != CHECKSUM}
    return checksums.of_bytes(json.dumps(content | {"attributes": attributes}, sort_keys=True).encode())


def read(path: Path, group: zarr.Group, name: str) -> np.ndarray:
    """A whole array of a store.

    Args:
        path: of the store.
        group: its root.
        name: of the array, such as "features.conv3/similarity".

    Raises:
        ValueError: a chunk is damaged, or holds what cannot be; the message names it and the command that measures it
            again.
    """
    try:
        array = group[name]
        assert isinstance(array, zarr.Array)
        values = np.asarray(array[:])
    except MemoryError:
        raise
    except Exception as error:  # a damaged chunk raises whatever its damaged part raises
        raise ValueError(f"{_damaged(path, group, name)} is damaged ({_words(error)}); {AGAIN}") from error
    bad, why = _impossible(group, name, values)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = path / name / _key(array, first)
        raise ValueError(f"{why.format(count=int(bad.sum()), value=values[first])}: {where} is damaged; {AGAIN}")
    return values


def _impossible(group: zarr.Group, name: str, values: np.ndarray) -> tuple[np.ndarray, str]:
    """Which values cannot be, and why."""
    layer, _, kind = name.rpartition("/")
    what = f"{kind} of layer '{layer}'" if layer else kind
    if kind in {"done", "dead"}:
        return values.view(np.uint8) > 1, f"{what} holds {{count}} that are neither true nor false"
    if kind == "extreme_unit":
        units = group[f"{layer}/similarity"].shape[1]  # type: ignore[union-attr]
        return (values < -1) | (values >= units), f"{what} names unit {{value}}, and there are 0 to {units - 1}"
    infinite = ~np.isfinite(values)
    metric = str(group.attrs.get("metric", "cosine"))
    if kind == "similarity" and metric not in MEASURES:
        raise ValueError(f"a sweep of the metric {metric!r}, which nobody knows; {AGAIN}")
    if infinite.any() or kind not in {"similarity", "confidence"}:
        return infinite, f"{what} holds {{count}} NaN or infinite of {values.size} values"
    low, high = MEASURES[metric].range if kind == "similarity" else (0.0, 1.0)
    measure = f"{metric} is from" if kind == "similarity" else "a confidence is from"
    # A share of float32 may end a rounding above 1.
    wrong = (values < low - 1e-5) | (values > high + 1e-5)
    return wrong, f"{what} holds {{value:.3g}}, and {measure} {low:g} to {high:g}"


def _damaged(path: Path, group: zarr.Group, name: str) -> Path:
    """The file that does not read; the array's folder where none does alone."""
    try:
        array = group[name]
        assert isinstance(array, zarr.Array)
        for index in np.ndindex(*(-(-size // chunk) for size, chunk in zip(array.shape, array.chunks, strict=True))):
            try:
                array.get_block_selection(index)
            except Exception:
                return path / name / array.metadata.encode_chunk_key(index)
    except Exception:
        return path / name
    return path / name


def _key(array: zarr.Array, index: Sequence[int]) -> str:
    """The file of the chunk that a value is in."""
    return str(array.metadata.encode_chunk_key(tuple(i // size for i, size in zip(index, array.chunks, strict=True))))


def _words(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return "its checksum is not that of its content" if "checksum" in text else text.removesuffix(".") or "unreadable"


def check_names(path: Path, attrs: dict[str, Any]) -> None:
    """Raises unless the attributes of a store say of which layers and classes it is."""
    for name in ("layers", "classes"):
        if not isinstance(attrs.get(name), list) or not all(isinstance(item, str) for item in attrs[name]):
            raise ValueError(f"{os.fspath(path)} does not say of which {name} it is: it is damaged; {AGAIN}")
