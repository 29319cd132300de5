"""The networks that a training kept on its way, for commands that watch one learn."""

import re
from pathlib import Path

from jaxcam import models
from jaxcam.cli.factories import is_factory, made_by
from jaxcam.cli.networks import Network, open_network
from jaxcam.cli.relocated import factory_roots
from jaxcam.cli.run_directory import describe

EPOCHS = "epochs"


def kept(directory: str) -> list[tuple[str, Network]]:
    """The network of each epoch that a training kept, in their order, and what to call it.

    Args:
        directory: of a training run.

    Raises:
        ValueError: no training run, or one that kept only its end.
    """
    files = sorted((Path(directory) / EPOCHS).glob("epoch_*.safetensors"), key=number)
    if not files:
        raise ValueError(
            f"{directory} kept no epochs to follow; jaxcam train --keep-every 1 --out DIR makes a training that does"
        )
    manifest = describe(Path(directory)) or {}
    factory = (manifest.get("model") or {}).get("factory")
    found = []
    for file in files:
        if factory is not None and is_factory(factory):
            made = made_by(factory, factory_roots(manifest, Path(directory), factory))
            network = Network(models.restore(made, file), factory, {"weights": str(file)})
        else:
            network = open_network(str(file))
        found.append((f"epoch {number(file)}", network))
    return found


def number(file: Path) -> int:
    """The epoch of a file.

    Example:
        >>> number(Path("epochs/epoch_003.safetensors"))
        3
    """
    found = re.search(r"(\d+)$", file.stem)
    return int(found.group(1)) if found else 0
