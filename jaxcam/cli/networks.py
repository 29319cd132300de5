"""From what a user typed after `--model` to a model that can be asked."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from jaxcam import models
from jaxcam.cli.factories import is_factory, made_by, meant_as_factory
from jaxcam.cli.relocated import factory_roots, relocated
from jaxcam.cli.run_directory import MANIFEST, describe
from jaxcam.cli.weighing import fingerprint, parameters
from jaxcam.data import Dataset
from jaxcam.models import sources
from jaxcam.models.fitting import recognize
from jaxcam.models.loading import SmallFormWarning, is_path
from jaxcam.models.registry import check_name
from jaxcam.neurons.candidates import Candidates, Selected, restrict

WEIGHTS = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and what is known about it.

    Attributes:
        model: any callable (n, h, w, c) -> (n, k).
        name: what to call it.
        origin: what a manifest says of where it came from.
        image_size: height and width it takes, in pixels; None where it does not say.
        names: of its outputs, where it says.
        candidates: which of its outputs are the classes of the data it is asked about, and which compete; None until
            that is known.
        trained: the options of `jaxcam train`, as far as they are known.
        source: the arguments of `open_network` that open it again.
    """

    model: Any
    name: str
    origin: Mapping[str, Any]
    image_size: int | None = None
    names: tuple[str, ...] | None = None
    trained: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    candidates: Candidates | None = None

    @property
    def outputs(self) -> tuple[int, ...]:
        """For each class of the data the place of its output among those of `model`."""
        assert self.candidates is not None, "which outputs the classes are is found out by select_outputs"
        return self.candidates.columns

    def labels(self, classes: Any) -> np.ndarray:
        """Numbers of the data's classes as numbers of the model's outputs."""
        return np.array(self.outputs, np.int64)[np.asarray(classes)]

    def output_names(self) -> tuple[str, ...]:
        """What each of the model's outputs is called, "class i" where nobody says."""
        assert self.candidates is not None
        names = self.names or ()
        return tuple(names[i] if i < len(names) and names[i] else f"class {i}" for i in range(self.candidates.count))

    def describe(self) -> dict[str, Any]:
        """What manifests and stores say about the network."""
        inner = self.model.transformed_model if isinstance(self.model, Selected) else self.model
        config = getattr(inner, "config", None)
        described = config.to_dict() if isinstance(config, models.Config) else {}
        return {
            "name": self.name,
            **{name: value for name, value in described.items() if value is not None and name != "name"},
            "parameters": parameters(self.model),
            **self.origin,
            "fingerprint": fingerprint(self.model),
            "source": dict(self.source),
        }


def open_network(
    spec: str,
    *,
    weights: str | None = None,
    image_size: int | None = None,
    normalize: str = "auto",
    roots: Sequence[str] = (),
) -> Network:
    """A trained network.

    Args:
        spec: a name with `weights`, the directory of a training run, a checkpoint, or `package.module:factory`.
        weights: a file, a name on the hub, or "random".
        image_size: in pixels, for weights that do not say.
        normalize: "auto", "imagenet" or "none".
        roots: folders in which a factory's module is looked for first.

    Returns:
        The network.

    Raises:
        ValueError: no such thing, with the closest; options that contradict what a checkpoint says; weights that do
            not fit; a factory that fails.
        FileNotFoundError: no such file.
    """
    source = {"spec": spec, "weights": weights, "image_size": image_size, "normalize": normalize}
    return dataclasses.replace(_open(spec, weights, image_size, normalize, roots), source=source)


def open_given(given: Mapping[str, Any]) -> Network:
    """The network of the options `jaxcam.cli.options.network` declares."""
    return open_network(given["model"], **{name: given[name] for name in ("weights", "image_size", "normalize")})


def _open(spec: str, weights: str | None, image_size: int | None, normalize: str, roots: Sequence[str]) -> Network:
    options: dict[str, Any] = {"image_size": image_size, "normalize": normalize}
    if is_factory(spec):
        refuse(spec, weights=weights, normalize="imagenet" if normalize == "imagenet" else None)
        return Network(made_by(spec, roots), spec, {"factory": spec})
    if spec in models.names():
        if weights is None:
            raise ValueError(
                f"{spec} by its name has learned nothing yet; give --weights FILE, or the directory of a training run "
                "for --model (--weights random explains it as it is)"
            )
        if weights == "random":
            return named(models.load(spec, **options), {"weights": "random"})
        return torchvision(spec, weights, options)
    path = Path(spec)
    if path.is_dir():
        refuse(f"{spec}, which has its own", weights=weights)
        return trained(path, options)
    if meant_as_factory(spec) and (path.suffix == ".py" or not path.exists()):
        raise ValueError(f"no model {spec!r}; a network of yours is package.module:factory, as mypkg.net:ready")
    if not is_path(spec):
        check_name(spec)
    if not path.exists():
        raise FileNotFoundError(f"no model {spec!r}: {sources.neighbor(path)}")
    refuse(f"{spec}, which has its own", weights=weights)
    return checkpoint(path, options)


def trained(directory: Path, options: Mapping[str, Any]) -> Network:
    """The network of a finished training run, and how it was trained.

    Raises:
        ValueError: the directory is another command's, or the training is not finished.
    """
    found = describe(directory)
    command = found["command"] if found else None
    inside = directory / "train"
    if command == "demo" or (found is None and (inside / MANIFEST).is_file()):
        raise ValueError(f"{directory} is no training run; did you mean {inside}?")
    if found is None or command != "train":
        what = f"a run of jaxcam {command}" if command else "no run of jaxcam"
        raise ValueError(f"{directory} is {what}, not a training run; jaxcam train --out DIR makes one")
    if not (directory / MANIFEST).is_file():
        raise ValueError(
            f"{directory} is a training that is not finished; run it again to finish it, or give {directory / WEIGHTS}"
        )
    arguments = relocated(found["arguments"], ("data", "data_dir"), found, directory)
    factory = (found["model"] or {}).get("factory")
    if factory is None:
        return dataclasses.replace(checkpoint(directory / WEIGHTS, options), trained=arguments)
    asked = options["normalize"]
    refuse(f"{directory}, a training run of {factory}", normalize="imagenet" if asked == "imagenet" else None)
    model = models.restore(made_by(factory, factory_roots(found, directory, factory)), directory / WEIGHTS)
    names = models.read_metadata(directory / WEIGHTS).get("names")
    origin = {"factory": factory, "weights": str(directory / WEIGHTS)}
    return Network(model, factory, origin, arguments.get("image_size"), names and tuple(names), arguments)


def checkpoint(path: Path, options: Mapping[str, Any]) -> Network:
    """A network from a file of ours, which knows what it is."""
    metadata = models.read_metadata(path)
    if "config" not in metadata:
        if metadata.get("layout") == "jaxcam":
            raise ValueError(f"{path} holds a network of your own; give the directory it was trained in")
        raise ValueError(f"{path} does not say which network it is for; give --model NAME --weights {path}")
    network = named(models.load(path, **options), {"weights": str(path)})
    names, data = metadata.get("names"), metadata.get("data")
    known = {"data": data["name"]} if isinstance(data, Mapping) and "name" in data else {}
    return dataclasses.replace(network, names=names and tuple(names), trained=known)


def torchvision(name: str, weights: str, options: dict[str, Any]) -> Network:
    """A network by name, with weights that may not say for how many classes, or whether small."""
    place = sources.locate(weights)
    tensors = sources.read(place)
    names = tensors.metadata.get("names")
    if "config" not in tensors.metadata:
        fitting = recognize(tensors.arrays)
        if fitting is not None and fitting.name == name:
            found = fitting.to_dict()
            options = {
                option: options.get(option) or found[option]
                for option in ("classes", "channels", "convolutions", "image_size")
            } | {"normalize": options["normalize"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error", SmallFormWarning)  # who asks it on a command line wants its answers
        try:
            model = models.load(name, place, **options)
        except SmallFormWarning as warning:
            raise ValueError(str(warning)) from None
    return dataclasses.replace(named(model, {"weights": weights}), names=names and tuple(names))


def new_network(spec: str, data: Dataset, *, convolutions: int | None, normalize: str, seed: int) -> Network:
    """A network to be trained on these images.

    Args:
        spec: a name; `package.module:factory`; or a training run or checkpoint, whose training then goes further.
        data: what it will be trained on.
        convolutions: keep only the first so many.
        normalize: "auto", "imagenet" or "none".
        seed: of its weights.

    Returns:
        The network; as many outputs as the data has classes, if it is ours.

    Raises:
        ValueError: as `open_network`.
        TypeError: it is a network, but not one that can be trained here.
    """
    if spec in models.names():
        h, w, channels = data.images.shape[1:]
        if h != w:
            raise ValueError(f"{spec} takes square images, those of {data.name} are {h}×{w}; give --image-size")
        model = models.load(
            spec,
            classes=len(data.names),
            image_size=h,
            channels=channels,
            seed=seed,
            normalize=normalize,
            convolutions=convolutions,
        )
        return named(model, {})
    refuse(spec, convolutions=convolutions)
    network = open_network(spec, normalize=normalize)
    if not isinstance(network.model, nnx.Module):
        raise TypeError(f"training takes a Flax NNX module, {spec} is a {type(network.model).__name__}")
    return network


def named(model: Any, origin: Mapping[str, Any]) -> Network:
    """One of our networks."""
    return Network(model, model.config.name, origin, model.config.image_size)


def selected(network: Network, candidates: Candidates, classes: tuple[str, ...]) -> Network:
    """The network that is asked about some classes: with all its outputs, or with theirs only where only they compete.

    Args:
        network: with all its outputs.
        candidates: which outputs are the classes, and which compete.
        classes: names of the classes, in the order of their outputs.
    """
    origin = dict(network.origin)
    if candidates.outputs != tuple(range(candidates.available or 0)):
        origin["outputs"] = list(candidates.outputs)
    origin["candidates"] = candidates.to_dict()
    if candidates.kind == "data" and "outputs" in origin:
        model = restrict(network.model, candidates.outputs)
        return dataclasses.replace(network, model=model, origin=origin, names=classes, candidates=candidates)
    named = dict(enumerate(network.names or ())) | dict(zip(candidates.outputs, classes, strict=True))
    names = tuple(named.get(i, "") for i in range(max(named) + 1))
    return dataclasses.replace(network, origin=origin, names=names, candidates=candidates)


def refuse(what: str, **options: Any) -> None:
    """Raises where an option was given that says nothing here."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"--{name} says nothing about {what}; leave it out")
