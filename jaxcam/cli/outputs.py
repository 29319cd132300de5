"""Which outputs of a network stand for the classes of the data."""

import dataclasses
import difflib

from jaxcam.cli.calling import count_classes
from jaxcam.cli.classes import NUMBER, spoken
from jaxcam.cli.imagenet import IMAGENET, output_of
from jaxcam.cli.networks import Network, selected
from jaxcam.data import Dataset
from jaxcam.neurons.candidates import Candidates, Selected


def select_outputs(network: Network, data: Dataset, given: str | None, candidates: str = "all") -> Network:
    """The network that knows which of its outputs each class of the data is.

    Args:
        network: any.
        data: what it will be asked about.
        given: the outputs as a user gave them, "281,511", or None to find them: by the names of the network's outputs,
            by ImageNet's numbers, or one to one where there are as many.
        candidates: which outputs compete in softmax and accuracy: "all", or "data" for those of the data's classes.

    Returns:
        A network with `outputs`, the place of each class among the outputs of its model. With "data" its model has
        len(data.names) outputs, in the order of the classes.

    Raises:
        ValueError: it cannot be told which outputs are meant, or the images do not fit.
    """
    available = count_outputs(network, data)
    if given is None:
        chosen = matching(network, data, available)
    else:
        parts = [part.strip() for part in given.split(",") if part.strip()]
        if not all(NUMBER.fullmatch(part) and 0 <= int(part) < available for part in parts):
            raise ValueError(f"--outputs {given}: {network.name} has the outputs 0 to {available - 1}")
        chosen = [int(part) for part in parts]
        if len(chosen) != len(data.names):
            raise ValueError(f"--outputs names {len(chosen)} outputs, {data.name} has {len(data.names)} classes")
    twice = next((output for output in chosen if chosen.count(output) > 1), None)
    if twice is not None:
        same = [name for name, output in zip(data.names, chosen, strict=True) if output == twice]
        raise ValueError(
            f"{data.name} has {len(same)} classes for the one output {twice} of {network.name}, "
            f"{', '.join(map(repr, same[:5]))}; put their images in one folder, or name an output each with --outputs"
        )
    return selected(network, Candidates(candidates, tuple(chosen), available), data.names)


def with_candidates(network: Network, data: Dataset, candidates: str) -> Network:
    """A network whose outputs were selected before, with others that compete.

    Args:
        network: from `select_outputs` or `open_again`.
        data: what it will be asked about, of the same classes.
        candidates: "all" or "data".
    """
    assert network.candidates is not None
    model = network.model
    model = model.transformed_model if isinstance(model, Selected) else model
    whole = dataclasses.replace(network, model=model, names=None)
    available = count_outputs(whole, data)
    return selected(whole, Candidates(candidates, network.candidates.outputs, available), data.names)


def matching(network: Network, data: Dataset, available: int) -> list[int]:
    """The output of each class of the data."""
    if network.names is not None:
        missing = [name for name in data.names if name not in network.names]
        if missing:
            near = difflib.get_close_matches(missing[0], network.names, n=1)
            meant = f"did you mean {near[0]!r}? It" if near else "it"
            raise ValueError(
                f"{data.name} has a class {missing[0]!r} that {network.name} was not trained on; {meant} "
                f"knows {', '.join(network.names[:10])}{', …' if len(network.names) > 10 else ''}"
            )
        several = [name for name in data.names if network.names.count(name) > 1]
        if several:
            same = [number for number, name in enumerate(network.names) if name == several[0]]
            raise ValueError(
                f"{network.name} has {len(same)} outputs called {several[0]!r}, {spoken(same)}; say with --outputs "
                f"which output each class of {data.name} is"
            )
        return [network.names.index(name) for name in data.names]
    numbers = [output_of(name) for name in data.names]
    if available == IMAGENET and None not in numbers:
        return [number for number in numbers if number is not None]
    if available == len(data.names):
        return list(range(available))
    raise ValueError(
        f"{network.name} has {available} outputs, {data.name} has {len(data.names)} classes; say with --outputs which "
        "output each class is, in the order " + ", ".join(data.names[:5]) + ("…" if len(data.names) > 5 else "")
    )


def count_outputs(network: Network, data: Dataset) -> int:
    """How many outputs a network has for these images.

    Raises:
        ValueError: it does not take them, or gives no logits (n, k).
    """
    shape = data.images.shape[1:]
    images = f"the {'×'.join(map(str, shape))} images of {data.name}"
    return count_classes(network.model, network.name, (2, *shape), images)
