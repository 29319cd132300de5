"""Which images share a polytope, whole or from some layer on: those the network sorts by one linear function."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxcam.attribution.asking import check_chunk
from jaxcam.studies.answers import batches
from jaxcam.studies.held import at_once, checked, identifiers, no_switch, precise, states, together, whole


@dataclasses.dataclass(frozen=True)
class Shared:
    """How many images share the switches of one layer, or of it and all above. A row of `Polytopes.table`.

    Attributes:
        layer: its name; "(whole)" for all.
        switches: how many it has, counted in places.
        groups: into how many groups the images fall by this layer's own switches.
        sharing: the share of images that are not alone in theirs, in [0, 1].
        largest: the share of images in the largest group.
        groups_above: the same groups by this layer's switches and those of all layers after it together.
        sharing_above: the share of images that are not alone in those.
    """

    layer: str
    switches: int
    groups: int
    sharing: float
    largest: float
    groups_above: int
    sharing_above: float


@dataclasses.dataclass(frozen=True, eq=False)
class Polytopes:
    """The polytope of each image, also layer by layer. Made by `polytopes`.

    Attributes:
        whole: (n,) identifiers of the states of all switches: equal ones share W and b of `linear_piece`.
        layers: for each layer with switches (n,) identifiers of that layer's own states.
        above: for each layer (n,) identifiers of its states and those of all layers after it: images that have these in
            common are sorted by one linear function of that layer's input.
        switches: for each layer how many places it has.
    """

    whole: Shaped[np.ndarray, " n"]
    layers: Mapping[str, Shaped[np.ndarray, " n"]]
    above: Mapping[str, Shaped[np.ndarray, " n"]]
    switches: Mapping[str, int]

    def groups(self, layer: str | None = None, *, above: bool = False) -> Int[np.ndarray, " n"]:
        """The images sorted into groups.

        Args:
            layer: by the states of this layer; None for the whole polytope.
            above: by those of the layers after it as well.

        Returns:
            A number for each image (n,), from 0 up, in order of the first image of each group.

        Raises:
            ValueError: no such layer has switches.
        """
        if layer is not None and layer not in self.layers:
            raise ValueError(no_switch(layer, list(self.layers)))
        names = self.whole if layer is None else (self.above if above else self.layers)[layer]
        _, first, number = np.unique(names, return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first))[number]

    def table(self) -> list[Shared]:
        """How many images share what: a row for each layer, the whole polytope first."""
        rows = [_row("(whole)", sum(self.switches.values()), self.whole, self.whole)]
        return rows + [_row(n, self.switches[n], self.layers[n], self.above[n]) for n in self.layers]


def _row(layer: str, switches: int, own: np.ndarray, above: np.ndarray) -> Shared:
    sizes, beyond = (np.unique(names, return_counts=True)[1] for names in (own, above))
    n = len(own)
    return Shared(
        layer,
        switches,
        len(sizes),
        float(sizes[sizes > 1].sum() / n),
        float(sizes.max() / n),
        len(beyond),
        float(beyond[beyond > 1].sum() / n),
    )


def polytopes(model: Any, x: Any, *, chunk: int | None = None, progress: Any = None) -> Polytopes:
    """Sorts images by the linear piece of the network they lie in, whole and layer by layer.

    Two images are in one polytope if every ReLU is on for both or off for both, and every max pool takes the same
    place. Few images share a whole polytope; many share the switches of deep layers.

    Args:
        model: as for `linear_piece`.
        x: images (n, h, w, c), float; the whole data set may stay in host memory.
        chunk: how many images at once; None for what fits.
        progress: called with the number of images done after each chunk.

    Returns:
        `.whole`, `.layers`, `.above`: identifiers; `.groups(layer)`: numbers; `.table()`: how many share what.

    Raises:
        TypeError: no model, no images.
        ValueError: what `linear_piece` raises.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> net = lambda x: jax.nn.relu(x.mean((1, 2)) - 0.5)
        >>> found = polytopes(net, jnp.array([0.1, 0.9, 0.8]).reshape(3, 1, 1, 1))
        >>> found.groups().tolist()
        [0, 1, 1]
    """
    check_chunk(chunk)
    static, arrays, regions = checked(model, x)
    names: list[str] = []
    layers: dict[str, list[bytes]] = {switch.layer: [] for switch in regions.switches}
    places: dict[str, int] = dict.fromkeys(layers, 0)
    with precise():
        for batch, count in batches(x, at_once(regions, chunk)):
            found = states(static, arrays, batch)
            own = identifiers(regions, found, count)
            names += whole(own, count)
            for layer, rows in own.items():
                layers[layer] += rows
            if progress is not None:
                progress(len(names))
    for switch, values in zip(regions.switches, found, strict=True):
        places[switch.layer] += values[0].size
    return Polytopes(
        np.asarray(names),
        {layer: np.asarray([row.hex() for row in rows]) for layer, rows in layers.items()},
        _above(layers, len(x)),
        places,
    )


def _above(layers: Mapping[str, list[bytes]], n: int) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    after = [b""] * n
    for layer, rows in reversed(list(layers.items())):
        chain = [together([row, later]) for row, later in zip(rows, after, strict=True)]
        after = [name.encode() for name in chain]
        found[layer] = np.asarray(chain)
    return {layer: found[layer] for layer in layers}
