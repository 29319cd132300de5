"""All that a training needs to go on, in one file, so that no kill can tear it apart.

`state.safetensors` holds the parameters, the statistics, Adam's moments and step count as arrays, and beside them, as
JSON, the epoch, the history and the settings. The order of the images and the noise of dropout follow from the seed,
the epoch and the step, so no generator has to be kept. A training that goes on from it ends with the very bits of one
that was never interrupted; and it goes on only with the settings, data and network it was begun with.
"""

import dataclasses
import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxcam.checksums import of_arrays
from jaxcam.files import write_atomically
from jaxcam.training.arrays import Arrays, Form
from jaxcam.training.history import History
from jaxcam.training.step import loss_function

KEY, CHECKSUM = "jaxcam-training", "checksum"
SHOWN = 6
# Functions and objects are printed with their addresses, which are others in every process.
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclasses.dataclass
class State:
    """Where a training stands at the end of an epoch."""

    parameters: Arrays
    statistics: Arrays
    moments: Any
    history: History

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""
        return self.history[-1].epoch if self.history else 0


def write_state(path: Path, state: State, settings: dict[str, Any]) -> None:
    """Writes a state and the settings it came about with; whole or not at all."""
    arrays = {
        f"{group}/{name}": np.asarray(array, order="C")
        for group, members in _groups(state).items()
        for name, array in members.items()
    }
    content = json.loads(json.dumps({"settings": settings, "history": state.history}))
    text = json.dumps(content | {CHECKSUM: of_arrays(arrays, json.dumps(content, sort_keys=True))})
    write_atomically(path, lambda file: file.write(save(arrays, {KEY: text})))


def read_state(path: Path, like: State, settings: dict[str, Any]) -> tuple[State, dict[str, Any]]:
    """Reads a state back, if it belongs to this training.

    The network may have the weights that the training began with or those that it has reached.

    Args:
        path: the file.
        like: a state of the same form.
        settings: of the training that wants to go on.

    Returns:
        the state and the settings it was stored with.

    Raises:
        ValueError: the file is damaged, or the training it comes from had other settings, other data or another
            network; all differences are listed.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {})[KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
        known = metadata.pop(CHECKSUM, None)
        if known is not None and known != of_arrays(arrays, json.dumps(metadata, sort_keys=True)):
            raise KeyError("its checksum is not that of its content")
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no state of a training: remove it to start anew") from error
    stored = metadata["settings"]
    comparable = {name: dict(value) if name == "model" else value for name, value in settings.items()}
    _forgive(comparable["model"], stored["model"], reached=_digest(arrays))
    found = differences(stored, comparable)
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ValueError(
            f"{path.parent} holds a training with other settings: {'; '.join(found[:SHOWN])}{more}; "
            "pass another out, or resume=False to start anew"
        )
    groups = {
        group: {name: jnp.array(arrays[f"{group}/{name}"], dtype=value.dtype) for name, value in members.items()}
        for group, members in _groups(like).items()
    }
    adam = _adam(like.moments)._replace(count=groups["adam"]["count"], mu=groups["mu"], nu=groups["nu"])
    moments = tuple(adam if isinstance(part, optax.ScaleByAdamState) else part for part in like.moments)
    return State(groups["parameters"], groups["statistics"], moments, History(metadata["history"])), stored


def _forgive(model: dict[str, Any], stored: dict[str, Any], reached: str) -> None:
    """Passes over two differences that are none: weights already reached, and how a version writes its equations."""
    if model["initial weights"] == reached:
        model["initial weights"] = stored["initial weights"]
    if model["versions"] != stored["versions"]:
        warnings.warn(
            f"goes on with {model['versions']} what was begun with {stored['versions']}: the numbers are those of an "
            "uninterrupted training up to rounding only",
            stacklevel=4,
        )
        model["versions"], model["equations"] = stored["versions"], stored["equations"]


def differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    """What differs between the settings of a stored training and of this one, each in a few words.

    Example:
        >>> differences({"batch": 128, "model": {"classes": 10}}, {"batch": 64, "model": {"classes": 10}})
        ['batch was 128, is 64']
    """
    found = []
    for name in [*there, *(name for name in here if name not in there)]:
        old, new = there.get(name), here.get(name)
        label = f"{prefix}{name}"
        if isinstance(old, dict) and isinstance(new, dict) and "fingerprint" in old:
            # Data are the same by what they hold, not by the name they were loaded under.
            if old["fingerprint"] != new.get("fingerprint"):
                found.append(f"{label} was {_short(old)}, is {_short(new)}")
        elif isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{label} ")
        elif old != new:
            found.append(f"{label} was {_short(old)}, is {_short(new)}")
    return found


def describe_model(model: nnx.Module, form: Form, state: State, image: tuple[int, ...]) -> dict[str, Any]:
    """What makes this network this network: the shapes of its arrays, its computation and the weights it began with.

    Args:
        model: the network.
        form: its form.
        state: its values at the beginning.
        image: (h, w, c), the shape of what it is trained on.

    Returns:
        a dict that JSON can hold.
    """
    shapes = {
        name: f"{array.dtype}{list(array.shape)}" for name, array in (state.parameters | state.statistics).items()
    }
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    y = jax.ShapeDtypeStruct((2,), jnp.int32)
    equations = jax.make_jaxpr(loss_function(form))(state.parameters, state.statistics, x, y, jax.random.key(0))
    text = ADDRESS.sub("", str(equations))
    name = str(getattr(model, "config", type(model).__name__))
    return {
        "network": ADDRESS.sub("", name),
        "shapes": shapes,
        "equations": hashlib.sha256(text.encode()).hexdigest(),
        "initial weights": fingerprint(state),
        "versions": f"jax {jax.__version__} and flax {flax.__version__}",
    }


def fingerprint(state: State) -> str:
    """The sha256 of parameters and statistics."""
    groups = {"parameters": state.parameters, "statistics": state.statistics}
    return _digest({f"{group}/{name}": array for group, members in groups.items() for name, array in members.items()})


def _digest(arrays: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(name for name in arrays if name.startswith(("parameters/", "statistics/"))):
        digest.update(name.encode())
        digest.update(np.asarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _groups(state: State) -> dict[str, Arrays]:
    adam = _adam(state.moments)
    return {
        "parameters": state.parameters,
        "statistics": state.statistics,
        "mu": adam.mu,
        "nu": adam.nu,
        "adam": {"count": adam.count},
    }


def _adam(moments: Any) -> Any:
    return next(part for part in moments if isinstance(part, optax.ScaleByAdamState))


def _short(value: Any) -> str:
    if isinstance(value, dict) and "fingerprint" in value:
        return f"{value['name']} ({value['count']} images, {value['fingerprint'][:8]})"
    text = "missing" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:8]}…"
