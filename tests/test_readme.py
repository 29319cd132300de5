"""What the pages tell a reader to type works as it stands."""

import re
import tomllib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from safetensors.numpy import load_file, save_file

from jaxcam import models

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
DOCS = [page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS, *(ROOT / "jaxcam").rglob("*.md")]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_python_of_the_readme_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = models.save(models.load("squeezenet1_1"), tmp_path / "squeezenet1_1.safetensors", layout="torchvision")
    save_file(load_file(weights), weights)  # as torchvision's, which say nothing of themselves
    pixels = np.random.default_rng(0).integers(256, size=(300, 400, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save("cat.jpg")
    names = {}
    for block in blocks(README, "python"):
        exec(compile(block, "README.md", "exec"), names)
    layers = {layer.name: layer.units for layer in names["jc"].layers(names["model"], names["x"])}
    similarity = names["similarity"]
    assert {name: values.shape for name, values in similarity.items()} == {
        name: (2, layers[name]) for name in layers if name.startswith("features")
    }
    assert names["maps"].shape == (2, 2, 32, 32, 3)
    assert names["logits"].shape == (2, 10)
    assert names["gradient"].shape == names["paths"].shape == names["unit"].shape == names["x"].shape
    assert names["cam"].shape[0] == names["area"].shape[0] == 2
    assert len(names["figure"].get_axes()) == 1
    assert names["network"].config.normalize == "imagenet"
    assert names["photo"].shape == (1, 224, 224, 3)
    assert (tmp_path / "cat.png").stat().st_size > 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_of_a_page_compiles(page):
    for block in blocks(page.read_text("utf-8"), "python"):
        compile(block, page.name, "exec")


def test_every_command_of_the_readme_exists_with_its_options():
    from jaxcam.cli.main import cli

    commands = re.findall(r"^jaxcam ([\w-]+)(.*?)(?:#.*)?$", "\n".join(blocks(README, "sh")), re.MULTILINE)
    assert {name for name, _ in commands} >= {"train", "averages", "neurons", "prune", "report", "explain", "compare"}
    for name, rest in commands:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[\w-]+", rest)) <= known, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_installs_the_other_project_of_our_name(page):
    assert not re.search(r"pip install ['\"]?jaxcam(?!-xai)\b", page.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_of_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_package_that_is_imported_is_declared():
    import ast
    import sys

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[\[<>=!~ ]", line)[0].lower().replace("_", "-") for line in project["dependencies"]}
    distribution = {
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "skimage": "scikit-image",
        "torch": None,  # used where it is installed
        "tensorboard": None,
        "markupsafe": "jinja2",
    }
    imported = set()
    for file in (ROOT / "jaxcam").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            imported.update(name.partition(".")[0] for name in names)
    wanted = {
        distribution.get(name, name.replace("_", "-")) for name in imported - sys.stdlib_module_names - {"jaxcam"}
    }
    assert wanted - {None} <= declared
