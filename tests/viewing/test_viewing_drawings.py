"""Every figure of the room is one that a notebook shows by itself."""

import ast
from pathlib import Path

import pytest

FIGURES = sorted((Path(__file__).parents[2] / "jaxcam/viewing/figures").glob("*.py"))


@pytest.mark.parametrize("file", FIGURES, ids=lambda file: file.stem)
def test_no_figure_is_made_that_a_notebook_would_not_show(file):
    made = [
        node.func.id
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "Figure" not in made
