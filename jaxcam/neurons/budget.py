"""How many units go back at once: as many as fit in the memory there is for them.

A chunk of another size, or the plain pass in place of the active one, gives the same numbers but for their last bits.
Equal calls must give equal bits, so both follow from what the machine has, never from what happens to be free of it
today; and a sweep that goes on where another one stopped, on whatever machine, takes its memory from the store.
"""

from __future__ import annotations

import warnings

import jax

from jaxcam.program.layers import Anatomy, Place
from jaxcam.program.memory import free_bytes, held_bytes, total_bytes
from jaxcam.program.trace import Value

# What the engine may take on a CPU unless asked otherwise: enough for the active pass of ResNet50 at 224×224.
MEMORY = 1 << 33
# What chunks of units take of it at most: enough for matrix products to be fast.
_CHUNKS = 1 << 30
_LARGEST_CHUNK = 512


def chunk_memory(budget: int | None) -> int:
    """Bytes that an engine may take on each device, for chunks of units and matrices between active entries.

    Args:
        budget: what the whole process may take, of which this is a third; the rest is for libraries, the model and what
            JAX compiles. None for half of what the machine (the container, the GPU) has, but on CPUs no more than
            `MEMORY`, as more does not make anything faster.

    Raises:
        ValueError: the process has taken that much already.
    """
    if budget is None:
        half = max(1, total_bytes() // 2)
        if jax.default_backend() == "cpu":
            half = min(half, MEMORY)
        return 1 << (half.bit_length() - 1)  # the same for machines of about the same size
    if (held := held_bytes()) > budget // 2:
        raise ValueError(
            f"a memory of {budget / 1e9:.2g} GB is too small: libraries and the model take {held / 1e9:.2g} GB before "
            f"anything is measured; give {2.5 * held / 1e9:.2g} GB or more"
        )
    return budget // 3


def warn_if_scarce(layer: str, needed: int) -> None:
    """Says so where less is free than is going to be taken; the answer must not depend on it, so nothing else is done.

    Args:
        layer: what it is for.
        needed: bytes.
    """
    if needed > (free := free_bytes()):
        warnings.warn(
            f"layer '{layer}' takes {needed / 1e9:.2g} GB and {free / 1e9:.2g} GB are free; should the system stop "
            "this process, make room, or give a smaller memory (--memory)",
            RuntimeWarning,
            stacklevel=2,
        )


def useful(memory: int) -> int:
    """How much of some memory chunks of units take: on CPUs more does not make them faster."""
    return min(memory, _CHUNKS) if jax.default_backend() == "cpu" else memory


def fitting(units: int, each: int, memory: int) -> int:
    """How many units go back at once: a power of two, unless these are all.

    Args:
        units: how many there are.
        each: bytes that one takes.
        memory: bytes there are.

    Example:
        >>> fitting(100, each=10, memory=75), fitting(3, each=10, memory=75), fitting(3, each=10, memory=1)
        (4, 3, 1)
    """
    many = max(1, memory // each)
    return min(units, _LARGEST_CHUNK, 1 << (many.bit_length() - 1))


def bytes_per_unit(anatomy: Anatomy, place: Place) -> int:
    """How much memory one unit's plain way back takes at its widest, from the traced sizes."""
    upstream, widest = anatomy.program.leading_to(place.value), 0
    for node in anatomy.program.nodes:
        if not upstream.isdisjoint(v for v in node.outputs if v is not None):
            sizes = [_bytes(anatomy, v) for v in {*node.operands, *node.outputs} if v in anatomy.live]
            widest = max(widest, sum(sizes))
    # The cotangents of a node's operand and result, and one copy in another layout.
    return max(2 * widest, 1)


def _bytes(anatomy: Anatomy, value: Value | None) -> int:
    aval = anatomy.program.avals[value]  # type: ignore[index]
    return int(aval.size) * aval.dtype.itemsize
