"""Every public name is documented: in its docstring, with the sections of the house, and in docs/reference.md."""

import doctest
import importlib
import inspect
import re
import types
from pathlib import Path

import pytest

import jaxcam

ROOMS = [
    "jaxcam",
    *(
        f"jaxcam.{room}"
        for room in ("program", "models", "data", "training", "neurons", "quality", "studies", "viewing")
    ),
    *(f"jaxcam.attribution.{module}" for module in ("composites", "rules")),
]
PAGES = Path(__file__).parents[1]


def public_names():
    """(dotted name, object), each object once, under the first room that exports it."""
    seen = {}
    for room in reversed(ROOMS):
        module = importlib.import_module(room)
        for name in module.__all__:
            thing = getattr(module, name)
            if not isinstance(thing, types.ModuleType) and (inspect.isroutine(thing) or inspect.isclass(thing)):
                seen[id(thing)] = (f"{room}.{name}", thing)
    return sorted(seen.values())


NAMES = public_names()


def missing(thing):
    """What a public function's or class's docstring lacks."""
    text = inspect.getdoc(thing) or ""
    first, _, rest = text.partition("\n")
    lacks = []
    if not first.rstrip().endswith("."):
        lacks.append("a first line that is a sentence")
    if rest and rest.lstrip(" ")[:1] not in {"\n", ""}:
        lacks.append("an empty line after the first")
    if inspect.isclass(thing):
        fields = [name for name in vars(thing).get("__annotations__", {}) if not name.startswith("_")]
        if fields and not re.search(r"^(Attributes|Args):$", text, re.MULTILINE):
            lacks.append("Attributes:")
        section = re.split(r"^(?:Attributes|Args):$", text, maxsplit=1, flags=re.MULTILINE)[-1]
        return lacks + [f"the attribute {name}" for name in fields if not re.search(rf"\b{name}\b", section)]
    signature = inspect.signature(thing)
    section = re.split(r"^Args:$", text, maxsplit=1, flags=re.MULTILINE)
    described = re.split(r"^[A-Z]\w+:$", section[-1], maxsplit=1, flags=re.MULTILINE)[0] if section[1:] else ""
    lacks += [
        f"the argument {name}"
        for name in signature.parameters
        if not re.search(rf"^ +\*{{0,2}}[\w, ]*\b{name}\b", described, re.MULTILINE)
    ]
    if signature.return_annotation not in {None, "None"} and not re.search(r"^(Returns|Yields):$", text, re.MULTILINE):
        lacks.append("Returns:")
    if not doctest.DocTestParser().get_examples(text):
        lacks.append("an example")
    return lacks


@pytest.mark.parametrize(("name", "thing"), NAMES, ids=[name for name, _ in NAMES])
def test_a_public_name_has_a_whole_docstring(name, thing):
    assert not missing(thing), f"{name} lacks {', '.join(missing(thing))}"


def test_the_reference_has_every_public_name_with_its_first_line():
    page = (PAGES / "docs" / "reference.md").read_text("utf-8").splitlines()
    rows = {
        f"| `{name.rpartition('.')[2]}` | {(inspect.getdoc(thing) or '').partition(chr(10))[0]} |"
        for name, thing in NAMES
    }
    written = {line for line in page if line.startswith("| `")}
    assert rows <= written, "docs/reference.md lacks\n" + "\n".join(sorted(rows - written))
    assert written <= rows, "docs/reference.md has what is no more\n" + "\n".join(sorted(written - rows))


def test_what_a_room_exports_exists_and_is_sorted():
    for room in ROOMS:
        module = importlib.import_module(room)
        assert len(set(module.__all__)) == len(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


def test_a_docstring_that_lacks_something_is_found():
    def shrink(x: int, by: int) -> int:
        """Makes a number smaller

        Args:
            x: a number.
        """
        return x - by

    def whole(x: int, by: int) -> int:
        """Makes a number smaller.

        Args:
            x: a number.
            by: how much.

        Returns:
            x − by.

        Example:
            >>> 3 - 1
            2
        """
        return x - by

    assert missing(shrink) == ["a first line that is a sentence", "the argument by", "Returns:", "an example"]
    assert missing(whole) == []
    assert jaxcam.__doc__
