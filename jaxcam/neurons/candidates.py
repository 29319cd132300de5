"""Candidate outputs: those that compete in a softmax, a prediction and an accuracy.

A network of 1000 classes asked about 2 of them can be read in two ways. All its outputs compete, and p is exp z_own by
Σ exp z over all 1000: that is what the network says. Or only the outputs of the data's classes do, with Σ over those 2:
that asks which of the two it would be if nothing else could be, and is never less sure. All is the default everywhere;
the restricted reading has to be asked for, and is named beside every number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

CANDIDATES = ("all", "data")
"""All outputs of the network, or those of the data's classes only."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Selected:
    """x ↦ some of a model's outputs, in another order. Made by `restrict`."""

    # Known to the program room under this name, so that layers keep the names they had.
    transformed_model: Any
    outputs: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Any) -> Any:
        values = self.transformed_model(x)
        shape: tuple[int, ...] = getattr(values, "shape", ())
        if len(shape) != 2:
            raise ValueError(
                f"candidates are some of the outputs (n, k) of a model; this one gives {shape or type(values).__name__}"
            )
        # An index too large would be cut to the last output without a word.
        if max(self.outputs) >= shape[1]:
            raise ValueError(
                f"there is no output {max(self.outputs)} among the {shape[1]} of the model, 0 to {shape[1] - 1}"
            )
        return values[:, np.array(self.outputs)]


def restrict(model: Any, candidates: Sequence[int]) -> Selected:
    """A model with some of its outputs only: the others no longer compete in a softmax or for the largest.

    f_C(x) = (f(x)_c for c in C), so p = exp z_own / Σ_{c in C} exp z_c.

    Args:
        model: any callable x (n, h, w, c) -> logits (n, k).
        candidates: numbers of outputs, from 0, each once, in the order wanted.

    Returns:
        A callable pytree x -> logits (n, len(candidates)), with the model's arrays for leaves and its layers' names.

    Raises:
        ValueError: no candidate, one twice or below 0; at the call, one that the model does not have.
        TypeError: candidates are not whole numbers.

    Example:
        >>> net = lambda x: x.mean((1, 2)) @ np.array([[1.0, 2.0, 3.0]])
        >>> restrict(net, [2, 0])(jax.numpy.ones((1, 4, 4, 1))).tolist()
        [[3.0, 1.0]]

    When it misleads: a confidence among two candidates says nothing of the outputs left out, one of which may be what
    the model predicts.
    """
    return Selected(model, checked(candidates))


def checked(candidates: Sequence[int]) -> tuple[int, ...]:
    """Candidates as whole numbers.

    Raises:
        ValueError: none, one twice, or one below 0.
        TypeError: they are not whole numbers.
    """
    values = np.asarray(candidates)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"candidates are one output or several; got {candidates!r}")
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"candidates are whole numbers, the model's outputs; got {values.dtype}")
    outputs = tuple(int(value) for value in values)
    twice = [output for output in outputs if outputs.count(output) > 1] if len(outputs) < 10_000 else []
    if min(outputs) < 0 or twice:
        what = f"output {twice[0]} twice" if twice else f"{min(outputs)}"
        raise ValueError(f"candidates count from 0, each output once; got {what}")
    return outputs


def compete(model: Any, labels: Any, candidates: Sequence[int] | None) -> tuple[Any, np.ndarray]:
    """A model whose outputs are the candidates, and labels as places among them.

    Args:
        model: x -> logits (n, k).
        labels: (n,) numbers of the model's outputs.
        candidates: which outputs compete; None for all.

    Raises:
        ValueError: a label is no candidate; and as `restrict`.

    Example:
        >>> compete(lambda x: x, np.array([7, 3]), [3, 5, 7])[1].tolist()
        [2, 0]
    """
    labels = np.asarray(labels)
    if candidates is None:
        return model, labels
    outputs = checked(candidates)
    order = np.argsort(outputs)
    places = order[np.searchsorted(np.array(outputs)[order], labels).clip(max=len(outputs) - 1)]
    outside = np.array(outputs)[places] != labels
    if outside.any():
        first = int(np.argmax(outside))
        shown = ", ".join(map(str, outputs[:10])) + (", …" if len(outputs) > 10 else "")
        raise ValueError(
            f"label {labels[first]} (number {first}) is no candidate; the candidates are the "
            f"outputs {shown}; leave out what has other labels, or leave out `candidates`"
        )
    return restrict(model, outputs), places.astype(labels.dtype)


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Which outputs of a network compete when it is asked about the classes of some data.

    Attributes:
        kind: one of `CANDIDATES`.
        outputs: the network's output for each class of the data, in their order.
        available: how many outputs the network has; None where an old run does not say.
    """

    kind: str
    outputs: tuple[int, ...]
    available: int | None

    @property
    def count(self) -> int:
        """How many outputs compete."""
        return len(self.outputs) if self.kind == "data" or self.available is None else self.available

    @property
    def columns(self) -> tuple[int, ...]:
        """For each class of the data its place among the outputs that compete."""
        return tuple(range(len(self.outputs))) if self.kind == "data" else self.outputs

    @property
    def words(self) -> str:
        """Which outputs compete, for a reader: what follows "softmax over" and "accuracy among".

        Example:
            >>> Candidates("all", (283, 511), 1000).words
            'all 1,000 outputs'
            >>> Candidates("data", (283, 511), 1000).words
            'the 2 outputs of the data’s classes only, of 1,000'
        """
        if self.kind == "all" or self.count == self.available:
            return f"all {self.count:,} outputs"
        words = f"the {self.count:,} outputs of the data’s classes only"
        return words + (f", of {self.available:,}" if self.available is not None else "")

    def to_dict(self) -> dict[str, Any]:
        """All of it for a JSON file."""
        return {
            "kind": self.kind,
            "count": self.count,
            "available": self.available,
            "outputs": list(self.outputs),
        }

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> Candidates | None:
        """What a run's manifest says; None where it names no classes.

        Runs of before do not say which outputs competed: those of the data's classes only did where the manifest lists
        outputs, and else there were no others.
        """
        results, model = (manifest.get(part) for part in ("results", "model"))
        results, model = (part if isinstance(part, Mapping) else {} for part in (results, model))
        entry = results.get("candidates") or model.get("candidates")
        if isinstance(entry, Mapping):
            return cls(str(entry["kind"]), tuple(entry["outputs"]), entry["available"])
        classes = results.get("classes")
        if model.get("outputs"):
            return cls("data", tuple(model["outputs"]), None)
        return cls("all", tuple(range(len(classes))), len(classes)) if classes else None


def one_to_one(count: int) -> Candidates:
    """Of a network that has one output for each class of the data, in their order."""
    return Candidates("all", tuple(range(count)), count)
