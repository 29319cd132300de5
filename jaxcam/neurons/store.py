"""The sweep's store: Zarr on disk, one group for each layer, readable with xarray.

    sweep.zarr/            attributes: what was measured, how, with which versions
      average              (class, y, x, channel)
      confidence           (class, output)
      done                 (class, layer)    1 once everything of that class and layer is there
      features.conv3/
        similarity         (class, unit)
        dead               (class, unit)
        activation         (class, unit)     mean over space
        extreme_unit       (class, rank)     8 least similar live units, then the 8 most similar; −1: none
        extreme_map        (class, rank, y, x, channel)

One class of one layer is one chunk of each array, so no two writers ever touch the same file. Each chunk ends with its
checksum (CRC-32C). Nothing in the store depends on when, where or in how many attempts it was made: dates and places
belong in a run's manifest.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import zarr
import zarr.errors
from jaxtyping import Bool, Float, Int
from zarr.codecs import Crc32cCodec, ZstdCodec

from jaxcam.interrupts import safe_point
from jaxcam.neurons.store_checks import CHECKSUM, METADATA, check_names, check_seal, read, seal
from jaxcam.program.layers import Layer, unknown_layer
from jaxcam.version import __version__

EXTREMES = 8  # units shown at either end of a layer
THUMBNAIL = 64  # the longest side of a map that is kept
_FORMAT = 2


def versions() -> dict[str, str]:
    """The versions that numbers depend on."""
    return {
        "jaxcam": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


class Store:
    """A store being written. Made by `create_or_continue`."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path, self.group = path, group
        self.layers: list[str] = list(group.attrs["layers"])  # type: ignore[arg-type]
        self.classes: list[str] = list(group.attrs["classes"])  # type: ignore[arg-type]
        self.memory = int(group.attrs["memory"])  # type: ignore[arg-type]
        self.units = {name: int(_array(group, f"{name}/similarity").shape[1]) for name in self.layers}

    @classmethod
    def create_or_continue(
        cls,
        out: str | os.PathLike[str],
        *,
        layers: Mapping[str, Layer],
        classes: Sequence[str],
        averages: np.ndarray,
        outputs: int,
        options: dict[str, Any],
        memory: int,
        identity: dict[str, str],
        describe: dict[str, Any],
        alone: bool = True,
    ) -> Store:
        """Opens the store for writing; makes it if it is not there.

        Not `alone`, it is there already, and others may be writing to it. `memory`, the bytes that chunks of units may
        take, is what the store was begun with: the last bits of its numbers depend on it.

        Raises:
            ValueError: there is a store already, of something else; or something that is no store.
        """
        path = Path(out)
        attributes = {
            "title": "jaxcam: similarity of every unit to every class average",
            "format": _FORMAT,
            "jaxcam": versions()["jaxcam"],
            **options,
            "memory": memory,
            "layers": list(layers),
            "classes": list(classes),
            "versions": versions(),
            "identity": identity,
            **{key: value for key, value in describe.items() if key not in {"layers", "classes", "identity"}},
        }
        if not alone:
            group = _open(path)
            _check_same(path, dict(group.attrs), attributes)
            return cls(path, group)
        building = path.with_name(f".{path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(building)
        if path.exists():
            group = _open(path)
            _check_same(path, dict(group.attrs), attributes)
            for leftover in path.rglob("*.partial"):
                leftover.unlink()
            return cls(path, group)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _build(building, layers, averages, outputs, attributes)
            os.replace(building, path)
        except BaseException:
            _discard(building)
            raise
        return cls(path, _open(path))

    def missing(self) -> list[tuple[int, str]]:
        """The classes and layers that are not written, or not whole, in order."""
        done = read(self.path, self.group, "done")
        return [(int(i), self.layers[j]) for i, j in np.argwhere(done == 0)]

    def write(self, index: int, layer: str, **arrays: np.ndarray) -> None:
        """Writes everything of one class and one layer; the mark comes last."""
        for name, values in arrays.items():
            safe_point()
            _array(self.group, f"{layer}/{name}")[index] = values
        _array(self.group, "done")[index, self.layers.index(layer)] = 1

    def write_confidence(self, values: np.ndarray) -> None:
        """Writes the softmax outputs for the averages (class, output)."""
        _array(self.group, "confidence")[:] = values


def _array(group: zarr.Group, name: str) -> zarr.Array:
    found = group[name]
    assert isinstance(found, zarr.Array)
    return found


def _discard(folder: Path) -> None:
    """Removes a folder that threads may still write to: zarr's other writes go on for a moment after one has failed."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
        if not folder.exists():
            return


def _build(
    path: Path, layers: Mapping[str, Layer], averages: np.ndarray, outputs: int, attributes: dict[str, Any]
) -> None:
    k, h, w, c = averages.shape
    factor = -(-max(h, w) // THUMBNAIL)
    thumbnail = (-(-h // factor), -(-w // factor), c)
    root = zarr.open_group(path, mode="w", attributes=attributes, zarr_format=3)

    def make(
        group: zarr.Group, name: str, dtype: str, dims: Mapping[str, int], chunks: tuple[int, ...], fill: Any
    ) -> None:
        safe_point()
        group.create_array(
            name,
            shape=tuple(dims.values()),
            chunks=chunks,
            dtype=dtype,
            fill_value=fill,
            dimension_names=list(dims),
            compressors=[ZstdCodec(level=0), Crc32cCodec()],
        )

    image = {"y": h, "x": w, "channel": c}
    make(root, "average", "float32", {"class": k, **image}, (1, h, w, c), 0.0)
    root["average"][:] = averages  # type: ignore[index]
    make(root, "confidence", "float32", {"class": k, "output": outputs}, (k, outputs), np.nan)
    make(root, "done", "uint8", {"class": k, "layer": len(layers)}, (1, 1), 0)
    for name, layer in layers.items():
        group = root.create_group(
            name, attributes={"kind": layer.kind, "shape": list(layer.shape), "units": layer.units}
        )
        u, ranks = layer.units, 2 * EXTREMES
        make(group, "similarity", "float32", {"class": k, "unit": u}, (1, u), np.nan)
        make(group, "dead", "bool", {"class": k, "unit": u}, (1, u), False)
        make(group, "activation", "float32", {"class": k, "unit": u}, (1, u), np.nan)
        make(group, "extreme_unit", "int32", {"class": k, "rank": ranks}, (1, ranks), -1)
        small = dict(zip(("y", "x", "channel"), thumbnail, strict=True))
        make(group, "extreme_map", "float32", {"class": k, "rank": ranks, **small}, (1, ranks, *thumbnail), 0.0)
    with warnings.catch_warnings():
        # Zarr says that version 3 of its format does not specify this yet; xarray reads it, and others need not.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        zarr.consolidate_metadata(path)
    seal(path)


def _open(path: Path, mode: Any = "r+") -> zarr.Group:
    try:
        group = zarr.open_group(path, mode=mode)
        known = group.attrs.get("format")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        if (path / METADATA).is_file():
            check_seal(path)
        # Zarr 3.1.2 asserts that it is a group.
        reason = "an array" if isinstance(error, AssertionError) else error
        raise ValueError(f"{path} is no store of a sweep ({reason}); give another path.") from error
    if CHECKSUM in group.attrs:
        check_seal(path)
    if known != _FORMAT:
        raise ValueError(f"{path} is no store of a sweep, or one of another format ({known}); give another path.")
    check_names(path, dict(group.attrs))
    return group


def _check_same(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raises if a store was made of something else, naming all that differs."""
    differing = []
    for key in ("model", "averages"):
        if there["identity"].get(key) != here["identity"].get(key):
            differing.append(f"another {key.rstrip('s')}" if key == "model" else "other class averages")
    for key in ("rule", "against", "metric", "steps", "precision", "classes", "outputs", "versions"):
        if there.get(key) != here.get(key):
            differing.append(f"{key} {there.get(key)} instead of {here.get(key)}")
    if there.get("layers") != here.get("layers"):
        differing.append("other layers")
    if differing:
        raise ValueError(f"{path} holds a sweep of {'; '.join(differing)}. Give another path, or remove that one.")


class Sweep:
    """A finished sweep, open for reading. Made by `open_sweep`; arrays are read when asked for.

    Attributes:
        path: of the store.
        attrs: what was measured, how, with which versions.
        layers: the layers' names, in the order of the network.
        classes: the classes' names.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path, self._group = path, group
        self.attrs: dict[str, Any] = {name: value for name, value in group.attrs.items() if name != CHECKSUM}
        self.layers: list[str] = list(self.attrs["layers"])
        self.classes: list[str] = list(self.attrs["classes"])

    @property
    def average(self) -> Float[np.ndarray, "k h w c"]:
        """The class averages."""
        return read(self.path, self._group, "average")

    @property
    def confidence(self) -> Float[np.ndarray, "k outputs"]:
        """The network's softmax outputs for the class averages."""
        return read(self.path, self._group, "confidence")

    def similarity(self, layer: str) -> Float[np.ndarray, "k u"]:
        """Each unit's similarity to each class; what the measure gives a black map where the unit is dead."""
        return self._read(layer, "similarity")

    def dead(self, layer: str) -> Bool[np.ndarray, "k u"]:
        """Which units each class average leaves silent."""
        return self._read(layer, "dead")

    def activation(self, layer: str) -> Float[np.ndarray, "k u"]:
        """Each unit's activation, mean over space."""
        return self._read(layer, "activation")

    def extremes(self, layer: str) -> tuple[Int[np.ndarray, "k ranks"], Float[np.ndarray, "k ranks y x c"]]:
        """The 8 least similar live units, ascending, then the 8 most similar; −1 for none; and their raw maps."""
        return self._read(layer, "extreme_unit"), self._read(layer, "extreme_map")

    def curves(self, live: bool = False) -> tuple[Float[np.ndarray, "k layers"], Float[np.ndarray, "k layers"]]:
        """The mean and the standard deviation of each layer's similarities, by class.

        Args:
            live: over live units only; by default dead units count as well, as in the thesis. NaN where none is live.
        """
        means, deviations = (np.full((len(self.classes), len(self.layers)), np.nan) for _ in range(2))
        for j, layer in enumerate(self.layers):
            values, dead = self.similarity(layer), self.dead(layer)
            for i in range(len(self.classes)):
                counted = values[i][~dead[i]] if live else values[i]
                if len(counted):
                    means[i, j], deviations[i, j] = counted.mean(), counted.std()
        return means, deviations

    def _read(self, layer: str, name: str) -> np.ndarray:
        if layer not in self.layers:
            raise ValueError(unknown_layer(layer, self.layers))
        return read(self.path, self._group, f"{layer}/{name}")


def open_sweep(path: str | os.PathLike[str]) -> Sweep:
    """Opens a finished sweep.

    With xarray: `xarray.open_zarr(path, group="features.conv3")`, or `xarray.open_datatree(path, engine="zarr")` for
    all.

    Args:
        path: of the store, a directory `*.zarr`.

    Returns:
        The sweep, for reading.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: it is no sweep, or one that is not finished.

    Example:
        >>> import tempfile
        >>> from jaxcam.neurons import sweep
        >>> averages = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3) / 12
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = sweep(lambda x: x.mean((1, 2)), averages, f"{folder}/sweep.zarr", layers=["pool_0"], progress=False)
        ...     open_sweep(f"{folder}/sweep.zarr").layers
        ['pool_0']
    """
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"no sweep at {place}; `jaxcam neurons` makes one.")
    group = _open(place, "r")
    done = read(place, group, "done")
    if not done.all():
        raise ValueError(
            f"the sweep at {place} is not finished: {int(done.sum())} of {done.size} parts; run the same command again."
        )
    return Sweep(place, group)
