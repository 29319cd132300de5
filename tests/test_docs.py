"""The documentation holds together: every public name is described, every command shown, every block runs."""

import json
import re
from pathlib import Path

import api_pages
import command_line
import pytest
from test_public_names import NAMES
from test_readme import PAGES, blocks

from jaxcam.cli.group import SECTIONS
from jaxcam.cli.main import cli

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
CODED = [page for page in PAGES if page.name != "README.md" and blocks(page.read_text("utf-8"), "python")]


def name(path):
    return path.relative_to(ROOT).as_posix()


def test_the_api_describes_every_public_name():
    rooms = {module: written for written, module, _, _ in api_pages.ROOMS.values()}
    described = set(api_pages.described())
    for dotted, _ in NAMES:
        module, _, short = dotted.rpartition(".")
        assert f"{rooms.get(module, module)}.{short}" in described, dotted


def test_docstrings_keep_their_bars_and_stars():
    lines = ["Σ |M| over `x * y`, a*b", "    >>> 2 * 3 | 1"]
    api_pages.escape(None, "function", "f", None, None, lines)
    assert lines == [r"Σ \|M\| over ``x * y``, a\*b", "    >>> 2 * 3 | 1"]


@pytest.mark.slow
@pytest.mark.parametrize("page", CODED, ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(page.read_text("utf-8"), "python"):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_a_page_exists_with_its_options(page):
    text = page.read_text("utf-8")
    code = "\n".join(
        [*blocks(text, "sh"), *blocks(text, "console"), *re.findall(r"^    jaxcam .*", text, re.MULTILINE)]
    )
    for command, rest in re.findall(r"^(?:    |\$ )?jaxcam ([a-z][\w-]*)(.*?)(?:  #.*)?$", code, re.MULTILINE):
        known = {option for parameter in cli.commands[command].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--[\w-]+", rest)) <= known | {"--help"}, command


def test_every_command_is_shown_with_what_it_prints():
    page = command_line.PAGE.read_text("utf-8")
    shown = command_line.recorded(page)
    assert list(shown) == [words for commands in command_line.EXAMPLES.values() for words in commands]
    assert set(command_line.EXAMPLES) | {"demo"} == {name for names in SECTIONS.values() for name in names}
    for words, output in shown.items():
        assert output.strip(), words
        assert "jaxcam:" not in output, words


@pytest.mark.parametrize("command", ["", *cli.commands])
def test_the_help_on_the_page_is_what_the_command_says(command):
    page = " ".join(command_line.PAGE.read_text("utf-8").split())
    assert " ".join(command_line.help_of(command).split()) in page, "python docs/command_line.py help"


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_and_its_script_say_the_same_and_hold_no_outputs(script):
    import jupytext

    notebook = json.loads(script.with_suffix(".ipynb").read_text("utf-8"))
    ours = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert ours == [(cell.cell_type, cell.source) for cell in jupytext.read(script).cells], f"jupytext --sync {script}"
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_there_are_as_many_notebooks_as_scripts():
    assert [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))] == [path.stem for path in NOTEBOOKS]
