"""The changes that `python tests/mutation` makes: which there are, where there are none, and what they are called."""

from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="cosmic-ray is not installed: pip install -e '.[dev]'")

from mutation_choice import distance, near_files
from mutation_map import function_names
from mutation_operators import CORE, operators
from mutation_sites import _of_module, apply, describe, sample


def changes(source, *names):
    """What the operators make of a line, in order of their names."""
    return [
        describe(source, apply(mutant, source))[1]
        for mutant in _of_module("somewhere.py", source)
        if not names or mutant.operator in names
    ]


@pytest.mark.parametrize(
    ("operator", "before", "after"),
    [
        ("GuardDropped", "if x < 0:\n    raise ValueError('negative')", ["if False:"]),
        ("GuardDropped", "if x < 0:\n    x = 0", []),
        ("GuardDropped", "if x < 0:\n    raise ValueError('negative')\nelse:\n    x = 0", []),
        ("OperandDropped", "a and b or c", ["c", "a and b", "b or c", "a or c"]),
        ("OperandDropped", "a and b and c", ["b and c", "a and c", "a and b"]),
        ("KeywordDropped", "f(a, axis=1)", ["f(a)"]),
        ("KeywordDropped", "f(axis=1)", ["f()"]),
        ("KeywordDropped", "f(axis=1, keepdims=True)", ["f( keepdims=True)", "f(axis=1)"]),
        ("KeywordDropped", "zip(a, b, strict=True)", []),
        ("CallUnwrapped", "y = jnp.clip(x, 0, 1)", ["y = (x)"]),
        ("CallUnwrapped", "y = x.clip(0, 1).sum()", ["y = (x).sum()"]),
        ("CallUnwrapped", "y = jnp.where(x > 0, x, 0)", ["y = (0)"]),
        ("CallUnwrapped", "y = jax.nn.relu(x + 1)", ["y = (x + 1)"]),
        ("CallUnwrapped", "y = sorted(x, key=len)", ["y = (x)"]),
        ("CallUnwrapped", "y = f(x)", []),
    ],
)
def test_our_own_operators(operator, before, after):
    assert changes(before + "\n", operator) == after


@pytest.mark.parametrize(
    "source",
    [
        "raise ValueError(f'{x + 1} of {3}', 1 < 2)",
        "assert x > 0 and y < 3",
        "warnings.warn('x' * 2, stacklevel=3)",
        "text = f'{x + 1:.3f}'",
        "import a.b as c",
        "__all__ = ['a'] + ['b']",
        "Images = Array | None",
        "def f(x: int | None, *, y: 'a | b') -> int | None: ...",
        "@partial(jax.jit, static_argnums=(0, 1))\ndef f(): ...",
        "if TYPE_CHECKING:\n    x = 1 + 2",
        "x: int | None",
        "zip(a, b, strict=True)",
        "options = {**a, **b}",
    ],
)
def test_nothing_is_changed_that_no_test_should_notice(source):
    assert changes(source + "\n", *(set(operators()) - {"AddNot"})) == []


def test_there_is_every_operator_of_cosmic_ray_that_we_name():
    assert set(CORE) < set(operators())


def test_a_change_keeps_its_name_where_lines_move_and_a_sample_its_members():
    source = "def f(x):\n    return x + 1 < 2\n\n\ndef g(x):\n    return x - 1\n"
    first, moved = (_of_module("somewhere.py", text) for text in (source, "# a line more\n\n" + source))
    assert [mutant.identity for mutant in first] == [mutant.identity for mutant in moved]
    assert len({mutant.identity for mutant in first}) == len(first)
    assert [m.identity for m in sample(first, 3, 7)] == [m.identity for m in sample(moved[::-1], 3, 7)]
    assert sample(first, 3, 7) != sample(first, 3, 8)


def test_a_line_belongs_to_its_innermost_function_and_a_signature_to_what_is_around_it():
    source = "class A:\n    def f(self, x=1):\n        def g():\n            return 2\n        return g\nx = 3\n"
    assert function_names(source) == {2: "A", 3: "A.f", 4: "A.f.g", 5: "A.f"}


def test_tests_named_like_the_module_are_nearest():
    assert distance("neurons/averages.py", "tests/neurons/test_averages_edges.py") == 0
    assert distance("attribution/rules.py", "tests/attribution/test_relevance_rules.py") == 0
    assert distance("neurons/averages.py", "tests/neurons/test_measures.py") == 1
    assert distance("neurons/averages.py", "tests/program/test_averages.py") == 2
    assert distance("cli/errors.py", "tests/cli/test_cli_bad_input.py") == 1


def test_without_a_map_tests_that_speak_of_the_changed_function_come_first():
    root = Path(__file__).parents[2]
    by_name = {}
    for module, function, file in (
        ("studies/surfaces.py", "landscape", "tests/studies/test_landscape.py"),
        ("studies/principal.py", "redundancy", "tests/studies/test_redundancy.py"),
        ("neurons/hosts.py", "shares", "tests/neurons/test_hosts.py"),
    ):
        source = (root / "jaxcam" / module).read_text()
        mutant = next(m for m in _of_module(module, source) if m.function.split(".")[0] == function)
        by_name[module] = near_files(mutant, root)
        assert file in by_name[module][:2]
    assert all(file.startswith("tests/neurons/") for file in by_name["neurons/hosts.py"])
