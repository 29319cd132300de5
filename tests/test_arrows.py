"""The rooms of the project and the one direction of the arrows between them (docs/design.md)."""

import ast
from pathlib import Path

import pytest

import jaxcam

PACKAGE = Path(jaxcam.__file__).parent
SHARED = {"checksums", "files", "interrupts", "manifest_paths", "version"}  # no rooms: what anybody may use
MAY_IMPORT = {
    "program": set(),
    "models": {"program"},
    "data": set(),
    "training": {"program", "models", "data"},
    "attribution": {"program"},
    "neurons": {"program", "attribution"},
    "quality": {"program", "attribution"},
    "studies": {"program", "attribution"},
    "viewing": {"program", "attribution", "neurons", "quality", "studies", "models", "data", "training"},
    "cli": {"program", "attribution", "neurons", "quality", "studies", "viewing", "models", "data", "training"},
}
ONLY_IN = {"matplotlib": "viewing", "plotly": "viewing", "jinja2": "viewing", "click": "cli"}
NEVER = {"captum", "zennit", "shap", "lime", "saliency", "pytorch_grad_cam", "pickle", "torchvision", "dill", "joblib"}
# Read where a user gives a .pth file, and only if it is installed.
TORCH_FILES = {"models/sources.py"}


def imports(source: str) -> set[str]:
    """The modules a source imports, dotted."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def complaints(room: str, path: str, source: str) -> list[str]:
    """What a file imports and should not."""
    wrong = []
    for name in sorted(imports(source)):
        top, _, rest = name.partition(".")
        first = rest.split(".")[0]
        if top == "jaxcam" and first not in MAY_IMPORT[room] | SHARED | {room}:
            wrong.append(f"{path}: {room} imports {name}")
        if ONLY_IN.get(top, room) != room:
            wrong.append(f"{path}: only {ONLY_IN[top]} imports {top}")
        if top in NEVER or (top == "torch" and path not in TORCH_FILES):
            wrong.append(f"{path}: the package never imports {top}")
        if name.startswith("jax._src") or (name.startswith("jax.extend") and room != "program"):
            wrong.append(f"{path}: contact with jaxprs is in program, and through public names; not {name}")
    return wrong


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_rooms_below_it(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    found = [c for f in files for c in complaints(room, f.relative_to(PACKAGE).as_posix(), f.read_text("utf-8"))]
    assert not found, "\n".join(found)


def test_every_folder_of_the_package_is_a_room():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert folders == set(MAY_IMPORT)


def test_the_arrows_have_no_circle():
    for room, below in MAY_IMPORT.items():
        assert all(room not in MAY_IMPORT[other] for other in below)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("program", "from jaxcam import neurons"),
        ("data", "from jaxcam.program import tap"),
        ("neurons", "import matplotlib.pyplot"),
        ("viewing", "import click"),
        ("models", "import torch"),
        ("training", "import pickle"),
        ("neurons", "from jax.extend import core"),
        ("program", "from jax._src import core"),
    ],
)
def test_a_forbidden_import_is_found(room, source):
    assert complaints(room, "somewhere.py", source)
