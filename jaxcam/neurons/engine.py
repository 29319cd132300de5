"""Every unit of every layer for one image after another: chooses the way, the chunks, and keeps what can be kept.

There are two ways from a unit to the image, with the same numbers: the plain one (`backward.py`), which works on any
model and any device, and the one over active entries (`active.py`), for chains of convolutions on CPUs. An `Engine`
reads a model once; its `image(x)` runs it forward once; `LayerUnits.maps(units)` sends a chunk of units back.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxcam.neurons.active import Seeds
from jaxcam.neurons.arena import Arena, aligned
from jaxcam.neurons.backward import LayerPass, all_replacements, starts_alone
from jaxcam.neurons.budget import bytes_per_unit, chunk_memory, fitting, useful, warn_if_scarce
from jaxcam.neurons.chain import Link, bottom, geometry, is_convolution, links_below
from jaxcam.neurons.cuts import Walk, Ways
from jaxcam.neurons.descent import ActivePass
from jaxcam.neurons.footing import Footing
from jaxcam.neurons.passes import PathPass, path
from jaxcam.neurons.precision import check_precision, products
from jaxcam.program.batch import batch_dependence
from jaxcam.program.empty_maps import check_not_empty
from jaxcam.program.layers import Anatomy, study
from jaxcam.program.sharing import mesh_for, parts
from jaxcam.program.trace import Program, split

MAP_RULES = ("guided", "gradient", "deconv", "integrated")

# Ways through the last few models: to be asked again takes no second look at a model, only at its numbers.
_WAYS: dict[Any, tuple[Anatomy, Ways]] = {}
_KEPT = 4
# Units for which matrices between active entries are worth making: that takes as long as they save for about so many.
_WORTH = 64
# More units abreast in the active pass are no faster: what comes next is fetched in time as it is.
_ABREAST = 128
# Bytes of arrays that the system keeps at hand; larger ones it brings page by page, each time.
_SMALL = 1 << 24


class Engine:
    """A model, read once, whose units can be sent back for any image of one shape.

    Args:
        model: any callable `x -> outputs`.
        shape: of one batch (1, h, w, c).
        layers: the layers wanted; None for every convolution.
        rule: "guided", "gradient" or "deconv".
        steps: of integrated gradients.
        precision: of the matrix products (`precision.py`).
        memory: bytes that may be taken on each device; None for half of what it has, but on CPUs at most 8 GiB.
        asked: how many units are going to be asked of an image; None for many.
        dtype: of the images.

    Raises:
        ValueError: no such layer, no layer at all, images the model fails on, a model in training mode, or an operation
            the rule says nothing about.
    """

    def __init__(
        self,
        model: Any,
        shape: tuple[int, ...],
        layers: Sequence[str] | None,
        rule: str,
        *,
        steps: int = 32,
        precision: str = "float32",
        memory: int | None = None,
        asked: int | None = None,
        dtype: Any = jnp.float32,
    ) -> None:
        check_rule(rule, steps)
        check_precision(precision)
        self.precision, self.asked = precision, asked
        self.arrays, self.static = split(model)
        # Integrated gradients are plain gradients along a path.
        self.steps = steps if rule == "integrated" else 0
        self.rule = "gradient" if rule == "integrated" else rule
        self.memory = chunk_memory(None) if memory is None else memory
        self.anatomy = _study(model, shape, dtype, precision)
        if layers is None:
            if (complaint := self.anatomy.unopened("conv_general_dilated")) is not None:
                raise ValueError(f"not all units can be measured: {complaint}; or name the layers")
            layers = [place.name for place in self.anatomy.places if place.kind == "conv"]
        if not layers:
            raise ValueError("the model has no convolution; name the layers: jc.layers(model, x) lists them.")
        named = [layers] if isinstance(layers, str) else layers
        self.layers = tuple(dict.fromkeys(self.anatomy.find(name).name for name in named))
        self._check_not_empty(model, dtype)
        if (complaint := batch_dependence(self.static, self.arrays, jax.ShapeDtypeStruct(shape, dtype))) is not None:
            raise ValueError(complaint)
        all_replacements(self.anatomy, self.rule)  # an operation without a rule is told before anything runs
        self.links = {name: self._links(name) for name in self.layers}
        self.mesh = mesh_for(1, self.arrays)
        self.arena = Arena()

    def _check_not_empty(self, model: Any, dtype: Any) -> None:
        """Raises where a layer has no value on images as small as these."""

        def up_to_layers(anatomy: Anatomy) -> Program:
            return dataclasses.replace(anatomy.program, outputs=tuple(anatomy.find(name).value for name in self.layers))

        check_not_empty(
            up_to_layers(self.anatomy), lambda shape: up_to_layers(_study(model, shape, dtype, self.precision))
        )

    @functools.cached_property
    def ways(self) -> Ways:
        """The pieces that the plain pass goes through; those of the last few models are kept, compiled."""
        images, anatomy = self.anatomy.program.avals[self.anatomy.x], self.anatomy
        key = (
            *(self.static, images.shape, images.dtype, self.layers, self.rule, self.steps, self.precision, self.mesh),
            *((np.shape(array), jnp.result_type(array)) for array in self.arrays),
            *(jax.default_backend(), jax.config.jax_enable_x64),  # type: ignore[attr-defined]
        )
        known = _WAYS.pop(key, None)
        if known is None or not _same_constants(known[0], anatomy):
            whole = anatomy
            if self.steps:
                shape = (self.steps + 1, *images.shape[1:])
                whole = _study(self.static.join(self.arrays), shape, images.dtype, self.precision)
            places = [whole.find(name) for name in self.layers]
            known = anatomy, Ways(whole, places, self.rule, precision=self.precision, mesh=self.mesh)
        _WAYS[key] = known  # the last used stands last
        while len(_WAYS) > _KEPT:
            del _WAYS[next(iter(_WAYS))]
        return known[1]

    def _links(self, name: str) -> list[Link]:
        """What the active pass walks down below a layer; empty where the plain pass is the way."""
        place = self.anatomy.find(name)
        suitable = self.rule in {"guided", "gradient"} and not self.steps and self.precision == "float32"
        suitable &= self.asked is None or self.asked >= _WORTH
        if not suitable or jax.default_backend() != "cpu":
            return []
        if not starts_alone(self.anatomy, place) or not is_convolution(place.node, self.anatomy):
            return []
        return links_below(self.anatomy, place)

    def chunk(self, name: str, units: int) -> int:
        """How many of a layer's units the plain pass sends back at once."""
        each = bytes_per_unit(self.anatomy, self.anatomy.find(name)) * (self.steps + 1)
        count = parts(self.mesh)
        chunk = fitting(-(-units // count), each, useful(self.memory))
        warn_if_scarce(name, chunk * each)
        return count * chunk

    def active_chunk(self, name: str, walk: ActivePass, units: int) -> int:
        """How many of a layer's units the active pass sends back at once, beside its matrices."""
        avals, (_, kernel) = self.anatomy.program.avals, self.anatomy.find(name).node.operands
        # A column of the kernel; and of maps there are two, as they change their order of axes.
        own = math.prod(avals[kernel].shape[:-1])
        whole = own + 2 * math.prod(avals[self.anatomy.x].shape)
        each = 4 * (walk.rows + whole)
        chunk = fitting(min(units, _ABREAST), each, useful(self.memory - walk.bytes))
        warn_if_scarce(name, chunk * each - self.arena.bytes)
        return chunk

    def image(self, x: Array) -> ImageUnits:
        """Runs the network forward for one image (1, h, w, c)."""
        return ImageUnits(self, x)


class ImageUnits:
    """The units of all layers for one image."""

    def __init__(self, engine: Engine, x: Array) -> None:
        self.engine, self.x = engine, x

    def layer(self, name: str) -> LayerUnits:
        """One layer, ready to send units back."""
        head = self._plain.head(name)
        state = PathPass(head, self.x) if self.engine.steps else head
        walk = self._active(name) or self._plain
        return LayerUnits(self.engine, name, state, walk, self._plain, state.dead.shape[-1])

    @functools.cached_property
    def _plain(self) -> Walk:
        """The plain pass, for all layers."""
        engine = self.engine
        return Walk(engine.ways, engine.arrays, path(self.x, engine.steps) if engine.steps else self.x)

    @functools.cached_property
    def _footing(self) -> Footing:
        return Footing(self._plain, self.engine.rule == "guided", self.engine.arena)

    def _active(self, name: str) -> ActivePass | None:
        """The active pass below a layer, where there is one and its matrices fit."""
        links = self.engine.links[name]
        found = self._footing.below(links, self.engine.memory * 5 // 8, name) if links else None
        if links and found is None:
            self._footing.forget()  # the plain pass has use for the memory
        return found


@dataclasses.dataclass
class LayerUnits:
    """The units of one layer for one image.

    Attributes:
        engine: whose model it is.
        name: the layer's.
        state: the forward pass, ready to go back.
        walk: the way back: through the active entries below the layer's input, or the plain one.
        plain: the plain one.
        units: how many there are.
    """

    engine: Engine
    name: str
    state: LayerPass | PathPass
    walk: ActivePass | Walk
    plain: Walk
    units: int

    @functools.cached_property
    def activation(self) -> np.ndarray:
        """The mean of each unit over space, (u,)."""
        value = self.state.activation[0]
        return np.asarray(jnp.mean(value, axis=tuple(range(value.ndim - 1))))

    @functools.cached_property
    def dead(self) -> np.ndarray:
        """Which units the image does not activate, (u,)."""
        return np.asarray(self.state.dead[0])

    @functools.cached_property
    def chunk(self) -> int:
        """How many units go back at once within the memory given."""
        units = min(self.units, self.engine.asked or self.units)
        if isinstance(self.walk, ActivePass):
            return self.engine.active_chunk(self.name, self.walk, units)
        return self.engine.chunk(self.name, units)

    def chunks(self, units: np.ndarray) -> Iterator[tuple[np.ndarray, Array]]:
        """Sends units back.

        Args:
            units: which, (m,).

        Yields:
            Units (b,) and their maps (b', 1, h, w, c), b' ≥ b: the last are filled up, so that nothing compiles twice.
        """
        done = 0
        while done < len(units):
            some = units[done : done + self.chunk]
            try:
                for part, found in self._sent(some):
                    yield part, found
                    done += len(part)
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                self._halve(error)

    def _halve(self, error: Exception) -> None:
        """Half as many units at once from now on, if it was memory that ran out; raises what cannot be helped."""
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise error
        if self.chunk <= parts(self.engine.mesh):
            raise MemoryError(f"one unit of layer '{self.name}' at a time takes more than there is") from error
        before = self.chunk
        while self.chunk == before:
            self.engine.memory //= 2
            del self.chunk
        warnings.warn(
            f"memory ran out in layer '{self.name}' with {before} units at once; going on with {self.chunk}",
            RuntimeWarning,
            stacklevel=2,
        )

    def maps(self, units: np.ndarray) -> Array:
        """The maps (b, 1, h, w, c) of units (b,), all at once."""
        if isinstance(self.walk, Walk):
            return self.walk.maps(self.name, self.state, units)
        return jnp.concatenate([found[: len(part)] for part, found in self._sent(units)])

    def _sent(self, units: np.ndarray) -> Iterator[tuple[np.ndarray, Array]]:
        """Sends units back at once; see `chunks`."""
        if isinstance(self.walk, Walk):
            yield units, jax.block_until_ready(self.walk.maps(self.name, self.state, np.resize(units, self.chunk)))
            return
        assert isinstance(self.state, LayerPass)
        below = bottom(self.engine.links[self.name])
        size, done = self.engine.anatomy.program.avals[below].size, 0
        signal = self.walk(self._seeds, units)
        for part, width in _pieces(units, size, self.chunk):
            turned = aligned(width, size)
            self.walk.turn(signal, done, turned[: len(part)])
            black = np.ones(width, np.bool_)
            black[: len(part)] = self.dead[part]
            turned[black] = 0
            done += len(part)
            yield part, jax.block_until_ready(self.plain.grounded(below, turned))

    @functools.cached_property
    def _seeds(self) -> Seeds:
        """The units' own first step, for the active pass."""
        assert isinstance(self.state, LayerPass)
        slopes, kernel = self.state.first.args
        convolution = geometry(self.engine.anatomy, self.engine.anatomy.find(self.name).node, np.asarray(kernel))
        return Seeds(convolution, np.asarray(slopes)[0])


def _pieces(units: np.ndarray, each: int, chunk: int) -> Iterator[tuple[np.ndarray, int]]:
    """Units in parts for which arrays of so many numbers a unit are small, and how many a part of a chunk may have."""
    width = fitting(chunk, 4 * each, _SMALL)
    for first in range(0, len(units), width):
        yield units[first : first + width], width


def _study(model: Any, shape: tuple[int, ...], dtype: Any, precision: str) -> Anatomy:
    """Reads a model; what goes wrong inside it is told in one line."""
    try:
        with products(precision):
            return study(model, jax.ShapeDtypeStruct(shape, dtype))[0]
    except Exception as error:
        if not callable(model):
            raise
        why = str(error).strip().partition("\n")[0]
        raise ValueError(f"the model fails on images of shape {shape}, {jnp.dtype(dtype)}: {why}") from error


def _same_constants(one: Anatomy, other: Anatomy) -> bool:
    """Whether two readings of a model closed over the same numbers; a closure may have others than last time."""
    ours, theirs = one.program.constants, other.program.constants
    small = 1 << 12
    return ours.keys() == theirs.keys() and all(
        a is theirs[value] or (np.size(a) == np.size(theirs[value]) <= small and np.array_equal(a, theirs[value]))
        for value, a in ours.items()
    )


def check_rule(rule: str, steps: int = 1) -> None:
    """Raises for a rule there isn't."""
    if rule not in MAP_RULES:
        close = difflib.get_close_matches(str(rule), MAP_RULES, n=1)
        raise ValueError(
            f"no rule '{rule}'{f'; did you mean {close[0]!r}?' if close else '.'} There are {', '.join(MAP_RULES)}."
        )
    if steps < 1:
        raise ValueError(f"integrated gradients take at least 1 step; got steps={steps}")
