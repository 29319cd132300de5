"""The way back in pieces that layers share.

Everything above some values of a network depends on the images through these alone: what goes into the second
convolution of a chain, what goes into a block of a residual network. Cut there, the way back from a layer is its own
head, then one piece for each block below:

    x ─ piece 0 ─ v₁ ─ piece 1 ─ v₂ ─ … ─ vᵢ ─ head ─ layer

So the network runs forward once for all its layers, and a block is compiled once for all blocks like it (`Once`):
ResNet50 has 53 convolutions and sixteen blocks, but eight kinds of blocks.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from jaxcam.neurons.backward import LayerPass, all_replacements, folded_too, layer_pass, starts_alone
from jaxcam.neurons.chain import Link, activity
from jaxcam.program.layers import Anatomy, Place
from jaxcam.program.once import Once
from jaxcam.program.recognize import is_affine
from jaxcam.program.sharing import divided, spread
from jaxcam.program.trace import Value, replay


def cuts(anatomy: Anatomy, places: Sequence[Place]) -> list[Value]:
    """The values through which alone the images reach what comes after: the images, then inputs of layers, in order.

    Args:
        anatomy: the network's.
        places: the layers wanted; what leads to none of them does not count.
    """
    program, live = anatomy.program, anatomy.live
    needed: set[Value] = set()
    for place in places:
        needed |= program.leading_to(place.value)
    nodes = [node for node in program.nodes if not needed.isdisjoint(v for v in node.outputs if v is not None)]
    last_read = {value: i for i, node in enumerate(nodes) for value in node.varying(live)}
    inputs_of_layers = {value for node in nodes if is_affine(node, live) for value in node.varying(live)}
    found, waiting = [anatomy.x], {anatomy.x}
    for i, node in enumerate(nodes):
        waiting |= {value for value in node.outputs if value in live}
        waiting = {value for value in waiting if last_read.get(value, -1) > i}
        if len(waiting) == 1 and (waiting & inputs_of_layers) - {found[-1]}:
            found += waiting
    return found


class Ways:
    """The pieces of a network, each compiled when it is first gone through.

    Args:
        anatomy: the network's, for as many images as go through it at once.
        places: the layers wanted.
        rule: "guided", "gradient" or "deconv".
        precision: of the matrix products.
        mesh: of the devices that share the units.
    """

    def __init__(
        self, anatomy: Anatomy, places: Sequence[Place], rule: str, *, precision: str, mesh: Mesh | None
    ) -> None:
        self.anatomy, self.rule, self.precision, self.mesh = anatomy, rule, precision, mesh
        self.cuts = cuts(anatomy, places)
        self.start = {place.name: self._start(place) for place in places}
        self.replacements = folded_too(anatomy, all_replacements(anatomy, rule, precision), precision)
        self.head = {place.name: Once(self._head(place)) for place in places}
        self._facts_of: dict[tuple[int, tuple[Value, ...]], Once] = {}
        self.pieces = [Once(self._piece(*ends)) for ends in zip(self.cuts, self.cuts[1:], strict=False)]
        self.ground = functools.cache(lambda value: Once(self._piece(self.cuts[0], value)))
        self.first = Once(lambda state, units: spread(state.sent(spread(units))))
        self.back = Once(lambda pull, signal: spread(jax.vmap(pull)(signal)[0]))
        self.finish = Once(lambda state, units, signal: state.finish(units, signal))

    def _start(self, place: Place) -> int:
        """The cut that a layer's head begins at: the last one on the way to it."""
        value = place.node.operands[0] if starts_alone(self.anatomy, place) else place.value
        upstream = self.anatomy.program.leading_to(value)
        return max(i for i, cut in enumerate(self.cuts) if cut in upstream)

    def _head(self, place: Place) -> Callable[[Array, list[Any]], LayerPass]:
        start = self.cuts[self.start[place.name]]

        def head(value: Array, arrays: list[Any]) -> LayerPass:
            values = {**self._given(arrays), start: value}
            return layer_pass(self.anatomy, values, place, self.rule, start, precision=self.precision)

        return head

    def _piece(self, below: Value, above: Value) -> Callable[[Array, list[Any]], tuple[Array, Any]]:
        program = self.anatomy.program

        def piece(value: Array, arrays: list[Any]) -> tuple[Array, Any]:
            given = self._given(arrays)
            return jax.vjp(lambda v: replay(program, {**given, below: v}, [above], self.replacements)[0], value)

        return piece

    def start_of(self, link: Link) -> int:
        """The cut that a link begins at: the last one below it."""
        upstream = self.anatomy.program.leading_to(link.total) - {link.total}
        return max(i for i, cut in enumerate(self.cuts) if cut in upstream)

    def facts(self, start: int, links: Sequence[Link]) -> Once:
        """(the value at a cut, the network's arrays) ↦ what is active at some links that begin there."""
        key = start, tuple(link.top for link in links)
        if key not in self._facts_of:
            cut, replacements = self.cuts[start], all_replacements(self.anatomy, self.rule)
            self._facts_of[key] = Once(
                lambda value, arrays: activity(self.anatomy, {**self._given(arrays), cut: value}, links, replacements)
            )
        return self._facts_of[key]

    def _given(self, arrays: list[Any]) -> dict[Value, Any]:
        return dict(zip([v for v in self.anatomy.program.inputs if v != self.anatomy.x], arrays, strict=True))

    def everywhere(self, values: Any) -> Any:
        """A pytree of arrays on all devices, so that it is not sent there with every chunk of units."""
        return values if self.mesh is None else jax.device_put(values, NamedSharding(self.mesh, PartitionSpec()))


class Walk:
    """One batch of images on its way through a network: as far up as anybody asked, and back.

    Args:
        ways: the network's pieces.
        arrays: the network's arrays.
        x: the images.
    """

    def __init__(self, ways: Ways, arrays: list[Any], x: Array) -> None:
        self.ways, self.arrays = ways, arrays
        self._values: list[Array] = [x]
        self._pulls: list[Any] = []

    def head(self, layer: str) -> LayerPass:
        """Goes up to a layer."""
        start = self.ways.start[layer]
        state = self.ways.head[layer](self._value(start), self.arrays)
        return self.ways.everywhere(state)

    def _value(self, cut: int) -> Array:
        """Goes up to a cut."""
        for piece in self.ways.pieces[len(self._pulls) : cut]:
            value, pull = piece(self._values[-1], self.arrays)
            self._values.append(value)
            self._pulls.append(self.ways.everywhere(pull))
        return self._values[cut]

    def facts(self, links: Sequence[Link]) -> Iterator[tuple[Link, dict[str, Any]]]:
        """Goes up to links, and tells what the images make active there."""
        for start, some in itertools.groupby(sorted(links, key=self.ways.start_of), self.ways.start_of):
            together = tuple(some)
            yield from zip(together, self.ways.facts(start, together)(self._value(start), self.arrays), strict=True)

    def grounded(self, value: Value, signal: np.ndarray) -> Array:
        """The maps (b, n, h, w, c) of units, from their cotangents of a value that is the images, but for scales.

        Args:
            value: whose cotangents.
            signal: (b, h·w·c); it becomes the maps, where it can.
        """
        maps = jax.device_put(signal.reshape(len(signal), *self.ways.anatomy.program.avals[value].shape))
        if value == self.ways.cuts[0]:
            return maps
        _, pull = self.ways.ground(value)(self._values[0], self.arrays)
        return self.ways.back(pull, maps)

    def maps(self, layer: str, state: Any, units: np.ndarray) -> Array:
        """Goes back from some units (b,) of a layer: their maps (b, n, h, w, c)."""
        with divided(self.ways.mesh):
            signal = self.ways.first(state, units)
            for pull in reversed(self._pulls[: self.ways.start[layer]]):
                signal = self.ways.back(pull, signal)
            return self.ways.finish(state, units, signal)
