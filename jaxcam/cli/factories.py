"""`package.module:factory`: a network of the user's own."""

import difflib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from flax import nnx

from jaxcam.cli.errors import OWN, failure, one_line

MODULE = re.compile(r"[A-Za-z_]\w*(\.(?!safetensors$|pth?$)[A-Za-z_]\w*)+")
FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_factory(spec: str) -> bool:
    """Whether a user means a function of theirs that makes a network."""
    return FACTORY.fullmatch(spec) is not None and not os.path.exists(spec)


def meant_as_factory(spec: str) -> bool:
    """Whether a user may have meant such a function, but wrote a module or a file of Python.

    Example:
        >>> [meant_as_factory(spec) for spec in ("mypkg.net", "mypkg/net.py:ready", "resnet5", "runs/train")]
        [True, True, False, False]
    """
    module, _, _ = spec.partition(":")
    return module.endswith(".py") or MODULE.fullmatch(module) is not None


def folders_of(module: ModuleType) -> list[Path]:
    """Where the code lies that came with a module: a line of it belongs into a message about it."""
    top = sys.modules[module.__name__.partition(".")[0]]
    if hasattr(top, "__path__"):
        return [Path(folder).absolute() for folder in top.__path__]
    file = Path(top.__file__ or "").absolute()
    return [file if file.parent.name == "site-packages" else file.parent]


def made_by(spec: str, roots: Sequence[str] = ()) -> Any:
    """What `package.module:factory` gives, called without arguments; in evaluation mode, where it has one.

    Args:
        spec: the module, as Python imports it, and the function.
        roots: folders in which the module is looked for before the working directory and all others.

    Raises:
        ValueError: no such module or function, it fails, or gives nothing that can be called.
    """
    module_name, _, name = spec.partition(":")
    # As `python -m` has it: what a user wrote lies where the user is.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    OWN.update(map(Path, [*roots, os.getcwd()]))
    try:
        module = imported(module_name, [*roots, os.getcwd()])
        OWN.update(folders_of(module))
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"{module_name} cannot be imported: {one_line(error)}") from error
        raise ValueError(
            f"no module {error.name!r} for --model {spec}, neither in {os.getcwd()} nor among the installed packages"
            + (f", nor where it was ({roots[-1]})" if roots else "")
        ) from error
    except (Exception, SystemExit) as error:  # whatever the user's module does when it is imported
        raise ValueError(f"{module_name} cannot be imported: {failure(error)}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        near = difflib.get_close_matches(name, known, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{module_name} has no function {name!r}{meant}")
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ValueError(f"{spec} cannot be called: {one_line(error)}; a factory takes no arguments") from error
    except ValueError:  # a builtin says nothing of its arguments
        pass
    try:
        model = factory()
    except (Exception, SystemExit) as error:  # whatever the user's function does
        raise ValueError(f"{spec} failed: {failure(error)}") from error
    if not callable(model):
        raise ValueError(f"{spec} gave {type(model).__name__}, which cannot be called on images")
    if isinstance(model, nnx.Module):
        model.eval()
    return model


def imported(name: str, roots: Sequence[str]) -> ModuleType:
    """A module, of the first folder that has it, else of wherever Python finds it.

    Two networks may come from two modules of one name. Then the one that was imported before makes room: its network is
    made already, and the other one would silently be made by it.
    """
    top = name.partition(".")[0]
    for root in map(os.path.realpath, roots):
        path = Path(root, *name.split("."))
        if not (path / "__init__.py").is_file() and not path.with_suffix(".py").is_file():
            continue
        if top in sys.modules and not _is_from(sys.modules[top], os.path.join(root, top)):
            for loaded in [loaded for loaded in sys.modules if f"{loaded}.".startswith(f"{top}.")]:
                del sys.modules[loaded]
        sys.path[:] = [root, *(place for place in sys.path if place != root)]
        importlib.invalidate_caches()
        break
    return importlib.import_module(name)


def _is_from(module: ModuleType, place: str) -> bool:
    """Whether a module was imported from `place`, a path without the ending of its name."""
    files = [*getattr(module, "__path__", []), getattr(module, "__file__", None) or ""]
    return any(os.path.realpath(file).removesuffix(".py") == place for file in files)
