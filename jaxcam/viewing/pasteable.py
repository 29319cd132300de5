"""A run's arguments as they have to be typed today, where the reader of a report stands."""

import os
from collections.abc import Mapping
from typing import Any

from jaxcam.manifest_paths import ENTRY, locate, shortened
from jaxcam.viewing.runs import Run


def arguments_here(run: Run, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments whose paths lead from the working directory to what they led to when the run was made.

    Args:
        run: whose manifest says which arguments are paths; an older one says nothing, and all stay as they were typed.
        arguments: by name; each a value or a list of values.

    Returns:
        The same, a path as it was typed wherever that still leads there; one that leads nowhere any more stays too.
    """
    here = {
        name: [_path_here(run, item) for item in value] if isinstance(value, list | tuple) else _path_here(run, value)
        for name, value in arguments.items()
    }
    out = arguments.get("out")
    if ENTRY in run.manifest and isinstance(out, str) and not _is_same(out, str(run.path)):
        here["out"] = shortened(os.path.abspath(run.path))
    return here


def _path_here(run: Run, value: Any) -> Any:
    if not isinstance(value, str) or value not in run.part(ENTRY) or _factory(run) == value:
        return value
    return locate(run.manifest, run.path, value) or value


def module_path(run: Run, arguments: Mapping[str, Any]) -> str | None:
    """The folder that Python has to be told of before it finds the module of `--model package.module:factory`."""
    factory = _factory(run)
    if factory is None or arguments.get("model") != factory or factory not in run.part(ENTRY):
        return None
    root = locate(run.manifest, run.path, factory)
    return None if root is None or _is_same(root, ".") else root


def _factory(run: Run) -> str | None:
    return run.part("model").get("factory")


def _is_same(one: str, other: str) -> bool:
    """Whether two paths are one place, if there is something."""
    one, other = (os.path.abspath(os.path.expanduser(path)) for path in (one, other))
    return one == other or (os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other))
