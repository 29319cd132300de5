"""Runs tests in a copy of the checkout, in a process forked from one that has imported the libraries, not jaxcam.

Importing JAX and its neighbors takes longer than most tests. Here it is done once; each run is a fork, which imports
jaxcam anew, with whatever was changed in its copy of the files. The folder of all runs lies outside the checkout and
keeps what JAX and numba compiled, so that what is unchanged is not compiled again.
"""

import compileall
import contextlib
import importlib
import importlib.util
import json
import os
import py_compile
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# What tests import and jaxcam does; none of these starts a backend of JAX, which would not survive a fork.
LIBRARIES = """jax jax.numpy flax.nnx flax.linen equinox optax scipy.stats scipy.ndimage scipy.optimize scipy.sparse
    skimage.segmentation sklearn.linear_model sklearn.cluster zarr xarray matplotlib.pyplot plotly numba click
    rich.progress PIL.Image safetensors.numpy huggingface_hub pytest psutil jaxtyping beartype threadpoolctl""".split()  # noqa: SIM905

# More memory than this, in bytes, is taken by no test: a change that does is stopped, and counts as noticed.
MOST_MEMORY = 5 << 30
# Seconds without any work until tests are taken to wait for each other for ever.
IDLE = 180


def prepare(work: Path) -> None:
    """Sets what all runs share, then imports the libraries."""
    os.environ.update(
        JAX_PLATFORMS=os.environ.get("JAX_PLATFORMS", "cpu"),
        JAX_DISABLE_MOST_OPTIMIZATIONS="1",
        JAX_COMPILATION_CACHE_DIR=str(work / "jax"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
        JAXCAM_CACHE=str(work / "jaxcam"),
        NUMBA_CACHE_DIR=str(work / "numba"),
    )
    data = ROOT.parent / "shared" / "data"
    if data.is_dir():
        os.environ.setdefault("JAXCAM_TEST_DATA", str(data))
    for name in LIBRARIES:
        if importlib.util.find_spec(name.split(".")[0]) is not None:
            importlib.import_module(name)


def copy_of_checkout(destination: Path) -> Path:
    """A copy of all files that git tracks or would, with jaxcam's bytecode checked by content, not by date."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    shutil.rmtree(destination, ignore_errors=True)
    for name in filter(None, names):
        if (ROOT / name).is_file():
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    compileall.compile_dir(
        destination / "jaxcam", quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
    )
    return destination


def remove(folder: str | Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


class Selection:
    """A pytest plugin: keeps the tests asked for, in their order, and writes down what each did.

    A file some of whose tests are not there any more is run whole: what a change does to the list of tests must not
    hide them.
    """

    def __init__(self, tests: list[str] | None, outcomes: dict[str, dict]):
        self.tests = tests
        self.outcomes = outcomes
        self.began = 0.0

    def pytest_runtest_logstart(self, nodeid: str, location) -> None:
        self.began = time.process_time()

    def pytest_runtest_logfinish(self, nodeid: str, location) -> None:
        # By the clock a busy machine counts others' work as well; of tests that wait for processes it is all there is.
        entry = self.outcomes[nodeid]
        entry["seconds"] = max(time.process_time() - self.began, entry["seconds"] / 4)

    def pytest_collection_modifyitems(self, items: list) -> None:
        if self.tests is None:
            return
        by_id = {item.nodeid: item for item in items}
        wanted = [by_id[test] for test in self.tests if test in by_id]
        incomplete = {test.split("::")[0] for test in self.tests if test not in by_id}
        wanted += [item for item in items if item.nodeid.split("::")[0] in incomplete and item not in wanted]
        items[:] = wanted

    def pytest_runtest_logreport(self, report) -> None:
        entry = self.outcomes.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0})
        entry["seconds"] += report.duration
        if report.outcome != "passed" and entry["outcome"] != "failed":
            entry["outcome"] = report.outcome

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.outcomes[report.nodeid] = {"outcome": "failed", "seconds": 0.0}


def run_tests(
    tree: Path,
    files: list[str],
    tests: list[str] | None,
    limit: float,
    environment: dict[str, str] | None = None,
    plugin=None,
    to_the_end: bool = False,
) -> dict:
    """Runs tests of some files in a fork, in the copy `tree`, until one fails.

    Args:
        tree: a copy of the checkout.
        files: test files, relative to it.
        tests: node ids to run, in this order; None for all.
        limit: seconds of processor time, of all processes together.
        environment: more variables.
        plugin: a function `outcomes -> pytest plugin`, made inside the fork.
        to_the_end: goes on where a test fails.

    Returns:
        {"end": …, "outcomes": {node id: {"outcome", "seconds"}}, "extra": …}: how it ended is "finished", "time",
        "idle", "memory" or "crash".
    """
    log = tree.parent / f"{tree.name}.log"
    answer = tree.parent / f"{tree.name}.answer"
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        os.setsid()
        options = [] if to_the_end else ["-x"]
        _in_the_fork(tree, [*options, *files], tests, limit, environment or {}, plugin, log, answer)
    try:
        end = _wait(child, limit)
    except BaseException:
        os.killpg(child, signal.SIGKILL)  # stopped: what is run for nobody ends as well
        raise
    if end == "finished" and not answer.exists():
        end = "crash"
    found = json.loads(answer.read_text()) if end == "finished" else {"outcomes": {}, "extra": None}
    return {"end": end, **found}


def _in_the_fork(tree, arguments, tests, limit, environment, plugin, log, answer) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.update(environment, PYTHONPATH=str(tree))
    os.chdir(tree)
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in {here, str(ROOT), ""})]
    sys.argv = ["pytest"]
    code = 1
    try:
        import numba
        import pytest

        numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]  # read when it was imported, before the fork
        outcomes: dict[str, dict] = {}
        extra = plugin(outcomes) if plugin else None
        options = ["-n", "0", "-p", "no:cacheprovider", "--tb=short", f"--basetemp={tree.parent / tree.name}.tmp"]
        plugins = [Selection(tests, outcomes), *([extra] if extra else [])]
        pytest.main([*options, *arguments], plugins=plugins)
        result = {"outcomes": outcomes, "extra": extra.result() if extra else None}
        sys.stdout.flush()
        answer.with_suffix(".part").write_text(json.dumps(result))
        os.replace(answer.with_suffix(".part"), answer)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        # Not through the interpreter's end: threads of XLA, and what the parent registered, are none of its business.
        os._exit(code)


def _wait(child: int, limit: float) -> str:
    """How a fork ended: by itself, or stopped: too much processor time or memory, or none at all for long."""
    import psutil

    begin = looked = moved = time.monotonic()
    spent, end = 0.0, "finished"
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        now = time.monotonic()
        time.sleep(0.02 if now - begin < 2 else 0.1)
        if now - looked < 1:
            continue
        looked = now
        try:
            family = [psutil.Process(child), *psutil.Process(child).children(recursive=True)]
            taken = sum(process.memory_info().rss for process in family)
            before, spent = spent, sum(sum(process.cpu_times()[:4]) for process in family)
        except psutil.Error:
            continue
        # Not by the clock: what waits for its turn on a busy machine is not slow.
        moved = now if spent != before else moved
        if taken > MOST_MEMORY:
            end = "memory"
        elif spent > limit:
            end = "time"
        elif now - moved > IDLE:
            end = "idle"
        if end != "finished":
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return end
    # What the tests started and left.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return end
