"""The network and the data of a finished run, opened again wherever the run and they are now."""

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcam import models
from jaxcam.cli.factories import is_factory
from jaxcam.cli.networks import Network, open_network, selected
from jaxcam.cli.relocated import factory_roots, is_name, relocated, tried
from jaxcam.cli.weighing import fingerprint
from jaxcam.manifest_paths import ENTRY, locations
from jaxcam.models.loading import is_path
from jaxcam.neurons.candidates import Candidates


def open_again(
    manifest: Mapping[str, Any], run: Path, spec: str | None = None, *, weights: str | None = None
) -> Network:
    """The network that a run was made with.

    Args:
        manifest: the run's.
        run: its directory.
        spec: where the network is now; None to look where it was, beside the run first.
        weights: where the weights of a network by name are now.

    Returns:
        The network, with the outputs that were the classes then, and with those that competed.

    Raises:
        ValueError: the network has other weights than it had.
        FileNotFoundError: it is not there any more, or its weights are not.
    """
    described = manifest["model"]
    source = dict(described["source"])
    specs = [spec] if spec else networks(manifest, run, source["spec"])
    if weights is not None:
        files: list[str | None] = [weights]
    elif spec and spec not in models.names():
        files = [None]
    else:
        files = weight_files(manifest, run, source["weights"])
    roots = factory_roots(manifest, run, source["spec"]) if not spec and is_factory(source["spec"]) else []
    known, classes = Candidates.of_manifest(manifest), manifest["results"].get("classes")
    wrong: list[Exception] = []
    for place, file in itertools.product(specs, files):
        try:
            network = open_network(**source | {"spec": place, "weights": file}, roots=roots)
        except (ValueError, OSError) as error:  # told at the end, unless the network is at another place
            wrong.append(error)
            continue
        if known is not None and classes is not None:
            network = selected(network, known, tuple(classes))
        if fingerprint(network.model) == described["fingerprint"]:
            return network
        again = f"run jaxcam {manifest['command']} again"
        wrong.append(ValueError(f"{place} has other weights than when {run} was made from it; {again}"))
    raise wrong[0]


def networks(manifest: Mapping[str, Any], run: Path, spec: str) -> list[str]:
    """What `--model` would have to be today.

    Raises:
        FileNotFoundError: nothing is there.
    """
    if is_name("model", spec) or is_factory(spec):
        return [spec]
    found = locations(manifest, run, spec)
    if not found and spec not in (manifest.get(ENTRY) or {}) and not is_path(spec):
        return [spec]  # no path at all: there is more to say of such a name
    if not found:
        raise FileNotFoundError(
            f"{run} was made from the network {spec}, which is {tried(manifest, run, spec)}; give --model with where "
            "it is now"
        )
    return found


def weight_files(manifest: Mapping[str, Any], run: Path, weights: str | None) -> list[str | None]:
    """What `--weights` would have to be today.

    Raises:
        FileNotFoundError: there was a file, and there is none now.
    """
    if weights is None or weights == "random":
        return [weights]
    found = locations(manifest, run, weights)
    if not found and weights in (manifest.get(ENTRY) or {}):
        raise FileNotFoundError(
            f"{run} was made with the weights {weights}, which are {tried(manifest, run, weights)}; give --weights "
            "with where they are now"
        )
    return [*found] or [weights]  # a name on the hub


def data_again(manifest: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """What a manifest says of the data of a run, with the paths of the images where they are now."""
    described = dict(manifest["data"])
    source = described.get("source")
    return described | ({"source": relocated(source, ("data", "data_dir"), manifest, run)} if source else {})


def trained_on(network: Network, data: Mapping[str, Any]) -> Network:
    """The network, asked about the images of a run unless a command names others."""
    return dataclasses.replace(network, trained=data["source"], image_size=data["image"][0])
