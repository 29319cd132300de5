"""Forks that run tests: what they say of tests that pass, fail, hang, crash, or are not there any more."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

TESTS = """
import os, time
def test_passes(): pass
def test_fails(): assert False
def test_works_for_ever():
    while True: pass
def test_crashes(): os.abort()
def test_sees_the_copy():
    assert os.environ["PYTHONPATH"] == os.getcwd()
"""

DRIVER = """
import json, os, sys
from pathlib import Path
tree = Path(sys.argv[1])
os.environ["NUMBA_CACHE_DIR"] = str(tree.parent / "numba")
import mutation_runs
run = lambda tests, limit=60: mutation_runs.run_tests(tree, ["test_some.py"], tests, limit)
names = lambda *names: [f"test_some.py::test_{name}" for name in names]
print(json.dumps({
    "passed": run(names("passes", "sees_the_copy")),
    "failed": run(names("passes", "fails", "crashes")),
    "time": run(names("works_for_ever"), limit=1),
    "crash": run(names("crashes")),
    "gone": run(names("passes", "was_there")),
}))
"""


def test_a_fork_tells_how_its_tests_ended(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "test_some.py").write_text(TESTS)
    (tree / "pytest.ini").write_text("[pytest]\n")
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tree)], cwd=HERE, capture_output=True, text=True, check=True
    )  # -c: the folder is on the path
    ends = json.loads(done.stdout)
    outcomes = {
        name: {test.split("::test_")[1]: entry["outcome"] for test, entry in end["outcomes"].items()}
        for name, end in ends.items()
    }
    assert ends["passed"]["end"] == ends["failed"]["end"] == "finished"
    assert outcomes["passed"] == {"passes": "passed", "sees_the_copy": "passed"}
    assert outcomes["failed"] == {"passes": "passed", "fails": "failed"}  # and none after it
    assert ends["time"]["end"] == "time"
    assert ends["crash"]["end"] == "crash"
    # A test that is not there any more: its file is run whole.
    assert outcomes["gone"] == {"passes": "passed", "fails": "failed"}
