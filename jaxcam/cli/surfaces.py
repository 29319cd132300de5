"""What `jaxcam landscape` is asked, and what it says of the answer."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxcam import studies
from jaxcam.cli import checkpoints
from jaxcam.cli.datasets import open_data
from jaxcam.cli.networks import Network, open_given, open_network
from jaxcam.cli.outputs import select_outputs
from jaxcam.data import Dataset
from jaxcam.neurons.candidates import Candidates

RANDOM = ("first direction", "second direction")


@dataclasses.dataclass(frozen=True)
class Asked:
    """Everything that is known before the first point.

    Attributes:
        network: the network at the center.
        described: what a manifest says of the data.
        compute: makes the landscape.
        title: of the figure.
        names: of its axes.
        path: where the epochs of the training are; None where they are not asked for.
    """

    network: Network
    described: dict[str, Any]
    compute: Callable[..., studies.Landscape]
    title: str
    names: tuple[str, str]
    path: studies.Trajectory | None = None


def asked(given: Mapping[str, Any], *, progress: bool) -> Asked:
    """Reads and checks what was typed.

    Raises:
        ValueError: anything given is wrong, or the networks do not have the same shapes.
        FileNotFoundError: a file is not there.
    """
    if given["to"] is not None and given["trajectory"]:
        raise ValueError("--to is a line and --trajectory a plane; give one of them")
    network = open_given(given)
    others = [network for _, network in checkpoints.kept(given["model"])] if given["trajectory"] else []
    dataset, described = open_data(network, given["split"], given, progress=progress)
    network = select_outputs(network, dataset, given["outputs"], given["candidates"])
    assert network.candidates is not None
    model = prepared(network.model, given["statistics"])
    count = dataset.count
    if given["statistics"] == "batch":  # black images to fill up the last batch would be in its statistics
        count -= count % min(given["batch"], count)
    labels = network.labels(dataset.labels[:count])
    loss = studies.classification_loss(dataset.images[:count], labels, batch=given["batch"])
    options: dict[str, Any] = {"points": given["points"], "chunk": given["chunk"]}
    where = f"Loss of {network.name} on {count} images of {dataset.name}, softmax over {network.candidates.words}"
    if given["to"] is not None:
        end = open_network(given["to"], image_size=given["image_size"], normalize=given["normalize"])
        other = prepared(like(network, end, dataset, given).model, given["statistics"])
        compute = partial(studies.interpolation, loss, model, other, span=given["span"] or (0.0, 1.0), **options)
        return Asked(network, described, compute, where, ("0: --model, 1: --to", ""))
    if given["trajectory"]:
        others = [like(network, other, dataset, given) for other in others]
        path = studies.trajectory([prepared(other.model, given["statistics"]) for other in others])
        # The last epoch that was kept is the center: where all steps are measured from.
        center = prepared(others[-1].model, given["statistics"])
        span = given["span"] or path.span()
        compute = partial(studies.landscape, loss, center, path.directions, span=span, **options)
        names = tuple(f"component {i}, {share:.0%} of the variance" for i, share in enumerate(path.shares, 1))
        return Asked(network, described, compute, where, (names[0], names[1]), path)
    compute = partial(
        studies.landscape,
        loss,
        model,
        key=jax.random.key(given["seed"]),
        dimensions=given["dimensions"],
        normalize=given["normalize_by"],
        span=given["span"] or (-1.0, 1.0),
        **options,
    )
    return Asked(network, described, compute, where, RANDOM)


def like(network: Network, other: Network, dataset: Dataset, given: Mapping[str, Any]) -> Network:
    """Another network, asked about the same classes by the same outputs: one loss serves both.

    Raises:
        ValueError: its outputs for the classes are others.
    """
    other = select_outputs(other, dataset, given["outputs"], given["candidates"])
    if other.outputs != network.outputs:
        raise ValueError(
            f"{other.name} and {network.name} have other outputs for the classes of {dataset.name}, so one loss "
            "cannot be of both; --candidates data compares them by these classes only"
        )
    return other


def prepared(model: Any, statistics: str) -> Any:
    """The model as a pytree whose batch norm uses the statistics asked for.

    Raises:
        ValueError: nothing to step along, or no batch norm whose statistics could be a batch's.
    """
    if jax.tree_util.all_leaves([model]):
        raise ValueError("the model holds no weights as a pytree; give a Flax or Equinox module, or a Partial")
    if statistics == "kept":
        return model
    if not isinstance(model, nnx.Module) or not any(
        isinstance(part, nnx.BatchNorm) for _, part in nnx.iter_graph(model)
    ):
        raise ValueError("--statistics batch is for Flax NNX modules with batch norm; leave it out")
    copy = nnx.clone(model)
    copy.set_attributes(nnx.BatchNorm, use_running_average=False)
    return copy


def results_of(found: studies.Landscape, asked: Asked) -> dict[str, Any]:
    """What the manifest says of a landscape."""
    finite = found.values[np.isfinite(found.values)]
    assert asked.network.candidates is not None
    return {
        "candidates": asked.network.candidates.to_dict(),
        "points": list(found.values.shape),
        "span": [[float(axis[0]), float(axis[-1])] for axis in found.axes],
        "center": found.center,
        "lowest": {"loss": float(finite.min()), "at": list(found.lowest)},
        "highest": float(finite.max()),
        "not_finite": int(found.values.size - finite.size),
        "shares": None if asked.path is None else asked.path.shares.tolist(),
    }


def summary(results: Mapping[str, Any]) -> str:
    """The same in a line."""
    at = ", ".join(f"{step:.3g}" for step in results["lowest"]["at"])
    text = (
        f"loss {results['center']:.4g} at the center, least {results['lowest']['loss']:.4g} at ({at}), "
        f"greatest {results['highest']:.4g}"
    )
    text += f"; {results['not_finite']} points not finite" if results["not_finite"] else ""
    known = Candidates.of_manifest({"results": results})
    return text + (f"\nloss: cross-entropy of the softmax over {known.words}" if known else "")
