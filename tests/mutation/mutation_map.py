"""Which test executes which lines: a map made once, by coverage.py, and kept by a digest of the test file.

A line is kept by the name of its function and by its text, not by its number: the map of a test file holds while the
file stays as it is, even where code around a line has moved.
"""

import ast
import hashlib
import json
from pathlib import Path

import numpy as np
from mutation_runs import run_tests

# Seconds of processor time that the tests of one file may take while they are mapped.
MOST_SECONDS = 1500


def digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def key(*words: str) -> int:
    """A number for a line (module, function, text), a function (module, name) or a module."""
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:7], "big")


def function_names(source: str) -> dict[int, str]:
    """For each line inside a function or class its dotted name; the line of a decorator or `def` belongs outside."""
    names: dict[int, str] = {}

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{prefix}.{child.name}" if prefix else child.name
                for line in range(child.body[0].lineno, child.end_lineno + 1):
                    names[line] = inner
            walk(child, inner)

    walk(ast.parse(source), "")
    return names


class Recorder:
    """A pytest plugin that gives coverage.py a context for each test."""

    def __init__(self, outcomes: dict, tree: Path):
        import coverage

        self.outcomes = outcomes
        self.package = tree / "jaxcam"
        self.measurement = coverage.Coverage(data_file=None, source=[str(self.package)], config_file=False)
        self.measurement.start()
        self.measurement.switch_context("collection")
        self.order: list[str] = []

    def pytest_runtest_logstart(self, nodeid: str, location) -> None:
        self.order.append(nodeid)
        self.measurement.switch_context(f"{len(self.order) - 1}")

    def pytest_runtest_logfinish(self, nodeid: str, location) -> None:
        self.measurement.switch_context("collection")

    def result(self) -> dict:
        """{"order": node ids, "lines": {test number or "collection": [key]}}"""
        self.measurement.stop()
        data = self.measurement.get_data()
        lines: dict[str, set[int]] = {}
        for file in data.measured_files():
            if not file.endswith(".py"):  # templates of pages run as well
                continue
            source = Path(file).read_text()
            texts, names = source.splitlines(), function_names(source)
            module = str(Path(file).relative_to(self.package))
            for number, contexts in data.contexts_by_lineno(file).items():
                name = names.get(number, "")
                keys = {key(module, name, texts[number - 1].strip()), key(module)}
                if name:
                    keys.add(key(module, name))
                for context in contexts:
                    lines.setdefault(context, set()).update(keys)
        return {"order": self.order, "lines": {context: sorted(keys) for context, keys in lines.items()}}


def map_file(work: Path, tree: Path, file: str) -> str:
    """Makes the map of one test file, unless there is one."""
    place = _place(work, tree, file)
    if place.exists():
        return "there"
    run = run_tests(tree, [file], None, MOST_SECONDS, plugin=lambda outcomes: Recorder(outcomes, tree), to_the_end=True)
    if run["end"] != "finished":
        place.parent.mkdir(parents=True, exist_ok=True)
        place.with_suffix(".failed").write_text(f"{file}: {run['end']}\n")
        return run["end"]
    extra = run["extra"]
    numbers = sorted({k for keys in extra["lines"].values() for k in keys})
    index = {k: i for i, k in enumerate(numbers)}
    contexts = list(extra["lines"])
    rows = [np.array([index[k] for k in extra["lines"][context]], np.int32) for context in contexts]
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f"{place.stem}.part.npz")
    np.savez_compressed(
        part,
        keys=np.array(numbers, np.int64),
        rows=np.concatenate(rows) if rows else np.zeros(0, np.int32),
        ends=np.cumsum([len(row) for row in rows]),
        about=json.dumps({"file": file, "contexts": contexts, "order": extra["order"], "outcomes": run["outcomes"]}),
    )
    part.replace(place)
    return f"{len(extra['order'])} tests"


def _place(work: Path, tree: Path, file: str) -> Path:
    return work / "map" / f"{file.replace('/', '.')}-{digest((tree / file).read_text())}.npz"


class Map:
    """The maps of all test files of a tree that have one."""

    def __init__(self, work: Path, tree: Path, files: list[str]):
        self.seconds: dict[str, float] = {}
        self.tests: dict[int, set[str]] = {}
        self.of_files: dict[int, set[str]] = {}
        self.missing: list[str] = []
        for file in files:
            place = _place(work, tree, file)
            if not place.exists():
                if not place.with_suffix(".failed").exists():
                    self.missing.append(file)
                continue
            with np.load(place) as stored:
                keys, rows, ends = stored["keys"], stored["rows"], stored["ends"]
                about = json.loads(str(stored["about"]))
            outcomes = about["outcomes"]
            for k in keys.tolist():
                self.of_files.setdefault(k, set()).add(file)
            for test in about["order"]:
                if outcomes.get(test, {}).get("outcome") == "passed":
                    self.seconds[test] = outcomes[test]["seconds"]
            for context, row in zip(about["contexts"], np.split(rows, ends)[:-1], strict=True):
                test = about["order"][int(context)] if context.isdigit() else None
                if test in self.seconds:
                    for k in keys[row].tolist():
                        self.tests.setdefault(k, set()).add(test)

    def of_file(self, file: str) -> list[str]:
        """The tests of a file that pass."""
        return [test for test in self.seconds if test.startswith(f"{file}::")]
