"""What the active pass stands on: for one image, the active entries of a network and the matrices between them.

Made when a layer first asks for it, and shared between layers: what lies below a layer lies below all above it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxcam.neurons.active import Entries, Skip, Step, entries
from jaxcam.neurons.arena import Arena
from jaxcam.neurons.budget import warn_if_scarce
from jaxcam.neurons.chain import Branch, Link, bottom, geometry, pooling
from jaxcam.neurons.cuts import Walk
from jaxcam.neurons.descent import ActivePass, Stop
from jaxcam.program.trace import Value


class Footing:
    """One image's active entries and matrices.

    Args:
        walk: the image on its way up.
        guided: whether cotangents are clipped at zero at every ReLU.
        arena: memory to go down in.
    """

    def __init__(self, walk: Walk, guided: bool, arena: Arena) -> None:
        self.walk, self.anatomy, self.guided = walk, walk.ways.anatomy, guided
        self._arena = arena
        self._facts: dict[Value, dict[str, Any]] = {}
        self._entries: dict[Value, Entries] = {}
        self._ways: dict[Value, list[tuple[int, Step | Skip]]] = {}
        self._refused: set[Value] | None = None  # too many, and so are these with others

    def below(self, links: list[Link], memory: int, layer: str = "") -> ActivePass | None:
        """The way down from the first of the links, which are all below it; None if its matrices take too much memory.

        Args:
            links: highest first.
            memory: bytes the matrices may take.
            layer: whose way down it is, for a warning.
        """
        tops = {link.top for link in links}
        if self._refused is not None and self._refused <= tops:
            return None
        known = self._facts.keys() | self._ways.keys()
        for link, facts in self.walk.facts([link for link in links if link.top not in known]):
            winners = np.asarray(facts["winners"])[0] if "winners" in facts else None
            self._entries[link.top] = entries(np.asarray(facts["passed"])[0], winners, pooling(link))
            self._facts[link.top] = facts
        if self.bytes(links) > memory:
            self._refused = tops
            return None
        warn_if_scarce(layer, self.bytes([link for link in links if link.top not in self._ways]))
        for link in links:
            if link.top not in self._ways:
                facts = self._facts.pop(link.top)
                parts = zip(link.branches, facts["kernels"], facts["scales"], strict=True)
                passed = np.asarray(facts["passed"])[0]
                self._ways[link.top] = [
                    (int(branch.below), self._way(link, branch, kernel, passed * np.asarray(scale)[0]))
                    for branch, kernel, scale in parts
                ]
        stops = [Stop(int(link.top), self._entries[link.top], self._ways[link.top]) for link in links]
        return ActivePass(stops, self._shape(bottom(links)), self.guided, self._arena)

    def forget(self) -> None:
        """Gives up the matrices, and what they would be made of."""
        for known in (self._facts, self._entries, self._ways):
            known.clear()
        self._arena.forget()

    def bytes(self, links: list[Link]) -> int:
        """About how many bytes the matrices of some links take, and the lists of their entries."""
        matrices = 4 * sum(self._size(link, branch) for link in links for branch in link.branches)
        return matrices + sum(self._entries[link.top].bytes for link in links)

    def _way(self, link: Link, branch: Branch, kernel: Any, factor: np.ndarray) -> Step | Skip:
        above, wanted = self._entries[link.top], self._wanted(branch.below)
        if branch.convolution is None:
            return Skip(above, wanted, factor)
        return Step(geometry(self.anatomy, branch.convolution, np.asarray(kernel)), above, wanted, factor)

    def _size(self, link: Link, branch: Branch) -> int:
        above, wanted = self._entries[link.top], self._wanted(branch.below)
        if branch.convolution is None:
            return len(above.flat)
        kernel = np.empty(self.anatomy.program.avals[branch.convolution.operands[1]].shape, np.bool_)
        return Step.size(geometry(self.anatomy, branch.convolution, kernel), above, wanted)

    def _wanted(self, below: Value) -> np.ndarray:
        if below in self._entries:
            return self._entries[below].wanted
        return np.arange(np.prod(self._shape(below)))

    def _shape(self, value: Value) -> tuple[int, ...]:
        return tuple(self.anatomy.program.avals[value].shape[1:])
