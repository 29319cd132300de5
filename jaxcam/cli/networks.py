"""From what a user typed after `--model` to a model that can be asked."""

import dataclasses
import difflib
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxcam import models
from jaxcam.cli.errors import one_line
from jaxcam.cli.imagenet import output_of
from jaxcam.cli.run_directory import MANIFEST, describe
from jaxcam.data import Dataset
from jaxcam.models import sources
from jaxcam.models.fitting import recognize
from jaxcam.models.loading import is_path
from jaxcam.models.registry import check_name
from jaxcam.program.layers import path_name

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
WEIGHTS = "model.safetensors"
IMAGENET = 1000
"""So many outputs are ImageNet's, whose networks want its normalization."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A model and what is known about it.

    Attributes:
        model: any callable (n, h, w, c) -> (n, k).
        name: what to call it.
        origin: what a manifest says of where it came from.
        image_size: height and width it takes, in pixels; None where it does not say.
        names: of its outputs, where it says.
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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Selected:
    """x ↦ some of a model's outputs, in another order: those that stand for the classes of the data."""

    # Known to the program room under this name, so that layers keep the names they had.
    transformed_model: Any
    outputs: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Any) -> Any:
        return self.transformed_model(x)[:, np.array(self.outputs)]


def open_network(
    spec: str, *, weights: str | None = None, image_size: int | None = None, normalize: str = "auto"
) -> Network:
    """A trained network.

    Args:
        spec: a name with `weights`, the directory of a training run, a checkpoint, or `package.module:factory`.
        weights: a file, a name on the hub, or "random".
        image_size: in pixels, for weights that do not say.
        normalize: "auto", "imagenet" or "none".

    Returns:
        The network.

    Raises:
        ValueError: no such thing, with the closest; options that contradict what a checkpoint says; weights that do
            not fit; a factory that fails.
        FileNotFoundError: no such file.
    """
    source = {"spec": spec, "weights": weights, "image_size": image_size, "normalize": normalize}
    return dataclasses.replace(_open(spec, weights, image_size, normalize), source=source)


def _open(spec: str, weights: str | None, image_size: int | None, normalize: str) -> Network:
    options: dict[str, Any] = {"image_size": image_size, "normalize": "imagenet" if normalize == "imagenet" else None}
    if is_factory(spec):
        refuse(spec, weights=weights, normalize=options["normalize"])
        return Network(made_by(spec), spec, {"factory": spec})
    if spec in models.names():
        if weights is None:
            raise ValueError(
                f"{spec} by its name has learned nothing yet; give --weights FILE, or the directory of a training run "
                "for --model (--weights random explains it as it is)"
            )
        if weights == "random":
            return named(models.load(spec, **options), {"weights": "random"})
        return torchvision(spec, weights, options, normalize)
    path = Path(spec)
    if path.is_dir():
        refuse(f"{spec}, which has its own", weights=weights)
        return trained(path, options)
    if not is_path(spec):
        check_name(spec)
    if not path.exists():
        raise FileNotFoundError(f"no model {spec!r}: {sources.neighbor(path)}")
    refuse(f"{spec}, which has its own", weights=weights)
    return checkpoint(path, options)


def open_again(manifest: Mapping[str, Any], run: Path, spec: str | None = None) -> Network:
    """The network that a run was made with.

    Args:
        manifest: the run's.
        run: its directory, for messages.
        spec: where the network is now; None where it was.

    Returns:
        The network, with the outputs that were selected then.

    Raises:
        ValueError: the network has other weights than it had.
    """
    described = manifest["model"]
    source = dict(described["source"])
    network = open_network(**source | ({"spec": spec} if spec else {}))
    if described.get("outputs"):
        network = selected(network, described["outputs"], tuple(manifest["results"]["classes"]))
    if fingerprint(network.model) != described["fingerprint"]:
        raise ValueError(
            f"{spec or source['spec']} has other weights than when {run} was made from it; run jaxcam "
            f"{manifest['command']} again"
        )
    return network


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
    arguments = found["arguments"]
    factory = (found["model"] or {}).get("factory")
    if factory is None:
        return dataclasses.replace(checkpoint(directory / WEIGHTS, options), trained=arguments)
    refuse(f"{directory}, a training run of {factory}", normalize=options["normalize"])
    model = models.restore(made_by(factory), directory / WEIGHTS)
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


def torchvision(name: str, weights: str, options: dict[str, Any], normalize: str) -> Network:
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
            if normalize == "auto" and fitting.classes == IMAGENET and fitting.channels == 3:
                options["normalize"] = "imagenet"
    return dataclasses.replace(
        named(models.load(name, place, **options), {"weights": weights}), names=names and tuple(names)
    )


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
            normalize="imagenet" if normalize == "imagenet" else None,
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


def select_outputs(network: Network, data: Dataset, given: str | None) -> Network:
    """The network with one output for each class of the data, in their order.

    Args:
        network: any.
        data: what it will be asked about.
        given: the outputs as a user gave them, "281,511", or None to find them: by the names of the network's outputs,
            by ImageNet's numbers, or one to one where there are as many.

    Returns:
        A network whose model has len(data.names) outputs: the same one where nothing is to be done.

    Raises:
        ValueError: it cannot be told which outputs are meant, or the images do not fit.
    """
    available = count_outputs(network, data)
    if given is None:
        chosen = matching(network, data, available)
    else:
        parts = [part.strip() for part in given.split(",") if part.strip()]
        if not all(part.isdigit() and int(part) < available for part in parts):
            raise ValueError(f"--outputs {given}: {network.name} has the outputs 0 to {available - 1}")
        chosen = [int(part) for part in parts]
        if len(chosen) != len(data.names):
            raise ValueError(f"--outputs names {len(chosen)} outputs, {data.name} has {len(data.names)} classes")
    return network if chosen == list(range(available)) else selected(network, chosen, data.names)


def selected(network: Network, outputs: Sequence[int], names: tuple[str, ...]) -> Network:
    """The network with these of its outputs only, and their names."""
    model, origin = Selected(network.model, tuple(outputs)), {**network.origin, "outputs": list(outputs)}
    return dataclasses.replace(network, model=model, origin=origin, names=names)


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
    try:
        outputs = jax.eval_shape(lambda x: network.model(x), jax.ShapeDtypeStruct((2, *shape), jnp.float32))
    except Exception as error:  # a user's own network may fail in any way
        size = "×".join(map(str, shape))
        raise ValueError(f"{network.name} does not take the {size} images of {data.name}: {one_line(error)}") from error
    found = getattr(outputs, "shape", None)
    if found is None or len(found) != 2 or found[0] != 2:
        raise ValueError(
            f"{network.name} does not give logits (n, k): of 2 images it makes {found or type(outputs).__name__}"
        )
    return int(found[1])


def is_factory(spec: str) -> bool:
    """Whether a user means a function of theirs that makes a network."""
    return FACTORY.fullmatch(spec) is not None and not os.path.exists(spec)


def made_by(spec: str) -> Any:
    """What `package.module:factory` gives, called without arguments; in evaluation mode, where it has one.

    Raises:
        ValueError: no such module or function, it fails, or gives nothing that can be called.
    """
    module_name, _, name = spec.partition(":")
    # As `python -m` has it: what a user wrote lies where the user is.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"{module_name} cannot be imported: {one_line(error)}") from error
        raise ValueError(
            f"no module {error.name!r} for --model {spec}, neither in {os.getcwd()} nor among the installed packages"
        ) from error
    except Exception as error:  # whatever the user's module does when it is imported
        raise ValueError(f"{module_name} cannot be imported: {type(error).__name__}: {one_line(error)}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{module_name} has no function {name!r}{meant}")
    try:
        model = factory()
    except Exception as error:  # whatever the user's function does
        raise ValueError(f"{spec} failed: {type(error).__name__}: {one_line(error)}") from error
    if not callable(model):
        raise ValueError(f"{spec} gave {type(model).__name__}, which cannot be called on images")
    if isinstance(model, nnx.Module):
        model.eval()
    return model


def refuse(what: str, **options: Any) -> None:
    """Raises where an option was given that says nothing here."""
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"--{name} says nothing about {what}; leave it out")


def arrays_of(model: Any) -> list[tuple[str, Any]]:
    """A model's floating-point arrays, with the names that the program room gives to their places."""
    flat = jax.tree_util.tree_flatten_with_path(model)[0]
    return [
        (path_name(path), leaf)
        for path, leaf in flat
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]


def parameters(model: Any) -> int:
    """How many numbers a model has learned: of an NNX module its parameters, else all its floating-point numbers."""
    model = model.transformed_model if isinstance(model, Selected) else model
    if isinstance(model, nnx.Module):
        return sum(int(leaf.size) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return sum(int(np.prod(array.shape)) for _, array in arrays_of(model))


def fingerprint(model: Any) -> str:
    """The sha256 of a model's arrays: another training, another fingerprint. Of a model without arrays that of none."""
    digest = hashlib.sha256()
    for name, array in arrays_of(model):
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def of_layers(model: Any, layers: Sequence[str]) -> list[int]:
    """How many floating-point numbers the arrays under each layer's name hold."""
    sizes = [(name, int(np.prod(array.shape))) for name, array in arrays_of(model)]
    return [sum(size for name, size in sizes if f"{name}.".startswith(f"{layer}.")) for layer in layers]
