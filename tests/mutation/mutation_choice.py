"""Which tests are run for a change, and in which order.

First the tests that execute the changed statement; then the others of their files, which may not execute it only
because it was done once for all of them (a fixture, a cache, a compiled function). Of each, first those whose file is
named like the module, then those of its room, then all others; the fastest first, until the budget is used up.
A statement that no test executes (code that numba compiles, or that runs in a process of its own) is left to the
tests that execute its function, or else its module.
"""

import ast
import re
from pathlib import Path, PurePath

from mutation_map import Map, key
from mutation_sites import Mutant


def tests_for(mutant: Mutant, known: Map, budget: float) -> tuple[list[str], float, bool]:
    """The node ids in order, the seconds they take, and whether any test executes the statement."""
    lines = [key(mutant.module, mutant.function, text) for text in mutant.statement if text]
    direct = set().union(*(known.tests.get(line, ()) for line in lines))
    files = set().union(*(known.of_files.get(line, ()) for line in lines))
    executed = bool(direct or files)
    if not direct:
        direct = known.tests.get(key(mutant.module, mutant.function), set()) if mutant.function else set()
    if not direct:
        direct = known.tests.get(key(mutant.module), set())
    if not files:
        files = {test.split("::")[0] for test in direct}
    others = {test for test in known.seconds if test.split("::")[0] in files} - direct

    def rank(test: str) -> tuple:
        file = test.split("::")[0]
        return test not in direct, distance(mutant.module, file), known.seconds[test]

    chosen, total = [], 0.0
    for test in sorted(direct | others, key=rank):
        total += known.seconds[test]
        if chosen and total > budget:
            total -= known.seconds[test]
            continue
        chosen.append(test)
    return _by_file(chosen), total, executed


def near_files(mutant: Mutant, root: Path) -> list[str]:
    """All test files of the module's room, without a map.

    First those that speak of the changed function, then those that speak of most of what its module defines, then those
    named like the module, then the shortest.
    """
    source = (root / "jaxcam" / mutant.module).read_text()
    names = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    function = mutant.function.split(".")[0]

    def rank(path: Path) -> tuple:
        text = path.read_text()
        spoken_of = {name for name in names if re.search(rf"\b{name}\b", text)}
        file = str(path.relative_to(root))
        return function not in spoken_of, -len(spoken_of), distance(mutant.module, file), len(text)

    folder = root / "tests" / PurePath(mutant.module).parent
    return [str(path.relative_to(root)) for path in sorted(folder.glob("test_*.py"), key=rank)]


def distance(module: str, file: str) -> int:
    """0 for a test file named like the module, 1 for one of its room, 2 for any other."""
    place, test = PurePath(module), PurePath(file)
    if test.parts[1:-1] != place.parts[:-1]:
        return 2
    return 0 if _words(place.stem) & _words(test.stem) else 1


def _words(stem: str) -> set[str]:
    return {word.removesuffix("s") for word in stem.split("_")} - {"test", "cli", "and", "of"}


def _by_file(tests: list[str]) -> list[str]:
    """The files in order of their first test, so that what a file prepares is prepared once."""
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.split("::")[0], []).append(test)
    return [test for some in files.values() for test in some]
