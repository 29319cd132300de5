"""A Sphinx extension: a page for each room with every public name, written from `__all__` when the pages are built.

So a name that a room exports cannot be missing, and `check` makes the build fail where one was not described all the
same. Docstrings are plain text with Greek and bars in their formulas; `escape` keeps them from being read as markup.
"""

import importlib
import inspect
import re
import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOMS = {
    "program": ("jaxcam", "jaxcam.program", "Programs", "What a model is made of: layers, tap, patch, backward rules."),
    "attribution": ("jaxcam", "jaxcam.attribution", "Attribution", "Why this output?"),
    "composites": ("jaxcam.composites", "jaxcam.attribution.composites", "Composites", "Which rule goes where."),
    "rules": ("jaxcam.rules", "jaxcam.attribution.rules", "Rules", "How one equation shares its relevance."),
    "neurons": ("jaxcam.neurons", "jaxcam.neurons", "Neurons", "Every unit of every layer."),
    "quality": ("jaxcam.quality", "jaxcam.quality", "Quality", "Is the explanation any good?"),
    "studies": ("jaxcam.studies", "jaxcam.studies", "Studies", "Questions about a network."),
    "models": ("jaxcam.models", "jaxcam.models", "Models", "Networks in Flax NNX, and their weights."),
    "data": ("jaxcam.data", "jaxcam.data", "Data", "Labeled images in [0, 1]."),
    "training": ("jaxcam.training", "jaxcam.training", "Training", "The optax loop and its checkpoints."),
    "viewing": ("jaxcam.viewing", "jaxcam.viewing", "Viewing", "Figures, and the report."),
}
"""For each page: how a user writes the names, the module that exports them, the title, what the room is for."""

PAGES = Path(__file__).parent / "api"


def public(module: str) -> dict[str, Any]:
    """The functions and classes that a module exports, by name, in its order."""
    room = importlib.import_module(module)
    things = {name: getattr(room, name) for name in room.__all__}
    return {
        name: thing
        for name, thing in things.items()
        if not isinstance(thing, types.ModuleType) and (inspect.isroutine(thing) or inspect.isclass(thing))
    }


def described() -> Iterator[str]:
    """Every name the pages describe, as users write it."""
    for written, module, _, _ in ROOMS.values():
        yield from (f"{written}.{name}" for name in public(module))


def page(written: str, module: str, title: str, purpose: str) -> str:
    """One room's page, in reStructuredText."""
    short = written.replace("jaxcam", "jc", 1) if module != "jaxcam.viewing" else written
    lines = [title, "=" * len(title), "", f"{purpose} Written as ``{short}.NAME`` after ``import jaxcam as jc``.", ""]
    lines += [f".. currentmodule:: {written}", ""]
    for name, thing in public(module).items():
        if inspect.isclass(thing):
            lines += [f".. autoclass:: {name}", "   :members:", ""]
        else:
            lines += [f".. autofunction:: {name}", ""]
    return "\n".join(lines)


def write(app: "Sphinx") -> None:
    """Writes the pages, and leaves alone those that are as they should be."""
    PAGES.mkdir(exist_ok=True)
    for room, about in ROOMS.items():
        text, path = page(*about), PAGES / f"{room}.rst"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def copy_notebooks(app: "Sphinx") -> None:
    """Copies the notebooks, with what they drew if they were executed, to where Sphinx may read them."""
    there = PAGES.with_name("notebooks")
    shutil.rmtree(there, ignore_errors=True)
    there.mkdir()
    for notebook in sorted((PAGES.parents[1] / "notebooks").glob("*.ipynb")):
        shutil.copy2(notebook, there)


def escape(app: "Sphinx", what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Makes a docstring's `code` literal and its bars and stars plain, outside of examples."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`[^`]+`)", line)
            lines[number] = "".join(
                f"`{part}`" if part.startswith("`") and len(part) > 1 else re.sub(r"([|*\\])", r"\\\1", part)
                for part in parts
            )


def link(app: "Sphinx", document: str, source: list[str]) -> None:
    """Makes each name in the tables of reference.md lead to its description, and notebooks' links to pages to them."""
    # The notebooks are copied into docs/; in the repository they are beside it.
    source[0] = source[0].replace("](../docs/", "](../").replace("](../notebooks/", "](notebooks/")
    if document != "reference":
        return
    room = "jaxcam"
    lines = source[0].splitlines()
    for number, line in enumerate(lines):
        if heading := re.match(r"## .* — `(jc|jaxcam)(\.\w+)?\.…`", line):
            room = "jaxcam" + (heading[2] or "")
        lines[number] = re.sub(r"^\| `(\w+)` \|", rf"| {{py:obj}}`\1 <{room}.\1>` |", line)
    source[0] = "\n".join(lines) + "\n"


def check(app: "Sphinx", env: Any) -> None:
    """A public name that no page describes is a warning, and so fails a build with -W."""
    from sphinx.util import logging

    there = {name for name, *_ in env.get_domain("py").get_objects()}
    for name in sorted(set(described()) - there):
        logging.getLogger(__name__).warning("%s is public and described nowhere", name)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connects the above."""
    app.connect("builder-inited", write)
    app.connect("builder-inited", copy_notebooks)
    app.connect("autodoc-process-docstring", escape, priority=400)
    app.connect("source-read", link)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
