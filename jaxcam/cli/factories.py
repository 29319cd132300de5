"""`package.module:factory`: a network of the user's own."""

import difflib
import importlib
import inspect
import os
import re
import sys
from typing import Any

from flax import nnx

from jaxcam.cli.errors import one_line

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
        inspect.signature(factory).bind()
    except TypeError as error:
        raise ValueError(f"{spec} cannot be called: {one_line(error)}; a factory takes no arguments") from error
    except ValueError:  # a builtin says nothing of its arguments
        pass
    try:
        model = factory()
    except Exception as error:  # whatever the user's function does
        raise ValueError(f"{spec} failed: {type(error).__name__}: {one_line(error)}") from error
    if not callable(model):
        raise ValueError(f"{spec} gave {type(model).__name__}, which cannot be called on images")
    if isinstance(model, nnx.Module):
        model.eval()
    return model
