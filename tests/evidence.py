"""Which test is evidence for which method: declared beside the test, drawn into docs/evidence.md.

A test says what it is evidence of with a marker of plain literals:

    @pytest.mark.evidence("saliency", "deconvnet", kind="library", source="Captum 0.9", tolerance=1e-4)
    def test_the_gradients_are_captums(measured): ...

kind is one of
    "twin"     the method again, slowly, in plain numpy from its paper
    "library"  another library on the same weights
    "axiom"    what has to hold of the answer: completeness, conservation, a limit case, an exhaustive sum
    "trained"  what it says about a trained network and real pictures
source is a few words: the library with its version, the paper, the axiom. The methods are names of METHODS or of
public functions; "*" means every method of METHODS. A whole file is marked by `pytestmark = pytest.mark.evidence(…)`.

The declarations are read from the source, not by importing it, so that the table needs neither PyTorch nor a run. A
test may add the error it measured with the fixture `measured`, which keeps the largest of each method:

    measured("saliency", relative_error(ours, theirs))

`pytest --record-evidence …` keeps what was measured in docs/evidence.json; `python tests/evidence.py` draws the page.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PAGE, MEASURED = DOCS / "evidence.md", DOCS / "evidence.json"
HEAD = """# Evidence

What each number is checked against, drawn from the tests' own declarations by `python tests/evidence.py`; do not edit.
A number is the largest relative error measured, max|a − b| / max|b|, beside the bar that the test sets. A *slow twin*
is the method written again in plain numpy from its paper; a *library* another implementation on the same weights; an
*axiom* what has to hold of every answer; *trained networks* are SqueezeNet 1.1 and the CIFAR-10 ResNets on real
pictures. What holds for all methods alike (shapes, dtypes, `jit`, batches, chunks, keys, targets, no second
compilation) is in [test_methods_contract.py](../tests/attribution/test_methods_contract.py)."""
KINDS = {"twin": "slow twin", "library": "library", "axiom": "axioms", "trained": "trained networks"}


class Evidence(NamedTuple):
    """One declaration: what a test is evidence of."""

    method: str
    kind: str
    source: str
    tolerance: float | None
    file: str
    test: str


def relative_error(ours: Any, theirs: Any) -> float:
    """max|a − b| / max|b|, in float64; the largest of those of the images would hide nothing that this shows."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
    scale = np.abs(b).max()
    assert scale > 0, "compared with nothing but zeros"
    return float(np.abs(a - b).max() / scale)


def declared(tests: Path = TESTS) -> list[Evidence]:
    """All declarations of the test files, in the order of files and lines."""
    from jaxcam.attribution.methods import METHODS

    found = []
    for path in sorted(tests.rglob("test_*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        file = path.relative_to(tests).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                marks, name = node.decorator_list, node.name
            elif isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "pytestmark" for t in node.targets):
                marks = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
                name = ""
            else:
                continue
            for mark in marks:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.evidence":
                    methods, kind, source, tolerance = _arguments(mark, f"{file}:{mark.lineno}")
                    for method in METHODS if methods == ["*"] else methods:
                        found.append(Evidence(method, kind, source, tolerance, file, name))
    return found


def _arguments(mark: ast.Call, place: str) -> tuple[list[str], str, str, float | None]:
    try:
        methods = [ast.literal_eval(argument) for argument in mark.args]
        options = {str(word.arg): ast.literal_eval(word.value) for word in mark.keywords}
        tolerance = options.pop("tolerance", None)
        kind, source = options.pop("kind"), options.pop("source")
    except (ValueError, KeyError) as error:
        raise AssertionError(f"{place}: evidence takes literals: names, kind=, source=, tolerance=") from error
    assert methods, f"{place}: evidence for no method"
    assert kind in KINDS, f"{place}: kind {kind!r} is none of {', '.join(KINDS)}"
    assert not options, f"{place}: evidence knows no {', '.join(options)}"
    return methods, kind, source, tolerance


def recorded() -> dict[str, dict[str, float]]:
    """The largest error measured, by "file::test" and method."""
    return json.loads(MEASURED.read_text("utf-8")) if MEASURED.exists() else {}


def render(evidence: list[Evidence], errors: dict[str, dict[str, float]]) -> str:
    """The page: a row for each method, a column for each kind of evidence."""
    from jaxcam.attribution.methods import METHODS

    rest = sorted({item.method for item in evidence} - METHODS.keys())
    lines = [HEAD]
    for title, names in (("Methods", list(METHODS)), ("Transformations and measures", rest)):
        if names:
            lines += [
                "",
                f"## {title}",
                "",
                "| | " + " | ".join(KINDS.values()) + " |",
                "|---" * (len(KINDS) + 1) + "|",
            ]
            lines += [_row(name, [item for item in evidence if item.method == name], errors) for name in names]
    return "\n".join(lines) + "\n"


def _row(name: str, evidence: list[Evidence], errors: dict[str, dict[str, float]]) -> str:
    cells = []
    for kind in KINDS:
        entries = [_entry(item, errors) for item in evidence if item.kind == kind]
        cells.append("<br>".join(dict.fromkeys(entries)))
    return f"| `{name}` | " + " | ".join(cells) + " |"


def _entry(item: Evidence, errors: dict[str, dict[str, float]]) -> str:
    link = f"[{item.source}](../tests/{item.file})"
    error = errors.get(f"{item.file}::{item.test}", {}).get(item.method)
    parts = ["" if error is None else f"{error:.0e}", "" if item.tolerance is None else f"≤ {item.tolerance:g}"]
    return " ".join(part for part in [link, *parts] if part)


def pytest_addoption(parser):
    parser.addoption("--record-evidence", action="store_true", help="keep the errors measured in docs/evidence.json")


def pytest_configure(config):
    config.addinivalue_line("markers", "evidence(*methods, kind, source, tolerance): see tests/evidence.py")


@pytest.fixture
def measured(request):
    """(method, error) ↦ None: the error that a test measured, kept by --record-evidence."""
    file = request.path.relative_to(TESTS).as_posix()
    errors = _measured(request.config)

    def keep(method: str, error: float) -> None:
        _merge(errors, {f"{file}::{request.node.originalname}": {method: float(error)}})

    return keep


def _measured(config: pytest.Config) -> dict[str, dict[str, float]]:
    return config.__dict__.setdefault("_measured_errors", {})


def _merge(errors: dict[str, dict[str, float]], more: dict[str, dict[str, float]]) -> None:
    """The larger error of each test and method."""
    for test, found in more.items():
        kept = errors.setdefault(test, {})
        kept.update({method: max(error, kept.get(method, 0.0)) for method, error in found.items()})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """A worker of pytest-xdist has ended: what it measured belongs to the whole run."""
    _merge(_measured(node.config), getattr(node, "workeroutput", {}).get("measured_errors", {}))


def pytest_sessionfinish(session):
    errors = _measured(session.config)
    if hasattr(session.config, "workeroutput"):  # a worker hands over; only the run itself writes
        session.config.workeroutput["measured_errors"] = errors
        return
    if session.config.getoption("--record-evidence") and errors:
        before = recorded()
        known = {f"{item.file}::{item.test}" for item in declared()}
        # Two digits: what differs from machine to machine is not worth a line of a diff.
        new = {t: {m: float(f"{error:.1e}") for m, error in found.items()} for t, found in errors.items()}
        kept = {t: {**before.get(t, {}), **new.get(t, {})} for t in {*before, *new} if t in known}
        MEASURED.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", "utf-8")
        PAGE.write_text(render(declared(), kept), "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS.parent))
    PAGE.write_text(render(declared(), recorded()), "utf-8")
