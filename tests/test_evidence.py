"""The page of evidence is what the tests declare, and no method goes without."""

import evidence
import pytest

import jaxcam.attribution
from jaxcam.attribution.methods import METHODS

DECLARED = evidence.declared()
RECORDED = evidence.recorded()


def test_the_page_says_what_the_tests_declare():
    written = evidence.PAGE.read_text("utf-8") if evidence.PAGE.exists() else ""
    assert written == evidence.render(DECLARED, RECORDED), "python tests/evidence.py draws docs/evidence.md anew"


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_checked_against_another_implementation(method):
    kinds = {item.kind for item in DECLARED if item.method == method}
    assert kinds & {"twin", "library"}, f"{method} has no slow twin and no library to be compared with"


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_checked_against_an_axiom(method):
    kinds = {item.kind for item in DECLARED if item.method == method}
    assert "axiom" in kinds, f"{method} has no axiom"


def test_evidence_is_for_what_exists():
    # Quality measures are public as well, once there are any.
    import importlib.util

    known = {*METHODS, *jaxcam.attribution.__all__, *jaxcam.program.__all__}
    if importlib.util.find_spec("jaxcam.quality"):
        known |= set(importlib.import_module("jaxcam.quality").__all__)
    assert not {item.method for item in DECLARED} - known


def test_what_was_measured_is_within_the_bar_declared():
    bars = {(f"{item.file}::{item.test}", item.method): item.tolerance for item in DECLARED}
    for test, errors in RECORDED.items():
        for method, error in errors.items():
            assert (test, method) in bars, f"{test} measured {method} without declaring it; --record-evidence again"
            bar = bars[test, method]
            assert bar is None or error <= bar, f"{test}: {method} is off by {error}"


def test_declarations_are_read_without_importing(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import nothing_of_that_name\n"
        "pytestmark = [pytest.mark.parity, pytest.mark.evidence('cam', kind='axiom', source='a')]\n"
        "@pytest.mark.evidence('saliency', 'lrp', kind='library', source='Captum', tolerance=1e-4)\n"
        "def test_one(): ...\n"
    )
    found = evidence.declared(tmp_path)
    assert [item.method for item in found] == ["cam", "saliency", "lrp"]
    assert found[1] == evidence.Evidence("saliency", "library", "Captum", 1e-4, "test_it.py", "test_one")


@pytest.mark.parametrize(
    "marker", ["(kind='axiom', source='a')", "('cam', kind='faith', source='a')", "(*names, kind='axiom', source='a')"]
)
def test_a_declaration_that_cannot_be_read_is_refused(tmp_path, marker):
    (tmp_path / "test_it.py").write_text(f"@pytest.mark.evidence{marker}\ndef test_one(): ...\n")
    with pytest.raises(AssertionError, match=r"test_it\.py:1"):
        evidence.declared(tmp_path)


def test_a_row_names_source_error_and_bar():
    item = evidence.Evidence("saliency", "library", "Captum 0.9", 1e-4, "parity/test_x.py", "test_y")
    page = evidence.render([item], {"parity/test_x.py::test_y": {"saliency": 3.2e-7}})
    assert "| `saliency` |  | [Captum 0.9](../tests/parity/test_x.py) 3e-07 ≤ 0.0001 |  |  |" in page


def test_relative_error_is_of_the_largest_value():
    assert evidence.relative_error([1.0, 10.0], [1.5, 10.0]) == 0.05
    with pytest.raises(AssertionError, match="shapes"):
        evidence.relative_error([1.0], [1.0, 2.0])
    with pytest.raises(AssertionError, match="zeros"):
        evidence.relative_error([0.0], [0.0])
