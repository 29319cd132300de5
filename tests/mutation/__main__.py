"""Changes jaxcam one line at a time and counts how many changes the tests notice: see README.md beside this file.

python tests/mutation --sample 500 --seed 0
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mutation_runs
from mutation_choice import near_files, tests_for
from mutation_map import Map, digest, map_file
from mutation_sites import ROOMS, Mutant, apply, describe, mutants, sample

HERE = Path(__file__).resolve().parent
ARGUED = HERE / "argued.json"

# Processor time a changed program may take, over that of the unchanged: more counts as noticed.
SLOWER, ALLOWANCE = 3, 60

# Words in tests that start processes or look at the clock.
BY_THE_CLOCK = ("subprocess", "multiprocessing", "Popen", "monotonic", "perf_counter", "cli_helpers")

# Filled before the processes are forked, or in each of them.
shared: dict = {}


def main() -> int:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    mutation_runs.prepare(options.work)
    signal.signal(signal.SIGTERM, _stop)  # in the processes that are forked as well
    # Of this run alone: another may be under way.
    copies = Path(tempfile.mkdtemp(prefix="run-", dir=options.work))
    try:
        return _run(options, copies)
    finally:
        mutation_runs.remove(copies)


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _run(options: argparse.Namespace, copies: Path) -> int:
    source = mutation_runs.copy_of_checkout(copies / "checkout")
    shared.update(options=options, copies=copies, source=source, code=_code_digest(source))
    files = [str(path.relative_to(source)) for path in _test_files(source)]
    if not options.near:
        _make_maps(files)
    shared["map"] = Map(options.work, source, files)
    if options.map:
        return 0
    chosen = _sample(source)
    results = _stored(options.work / "results.jsonl", chosen)
    left = [mutant for mutant in chosen if mutant.identity not in results]
    _say(f"{len(chosen)} changes, of which {len(left)} are tried now; missing maps: {len(shared['map'].missing)}")
    began = time.monotonic()
    with _pool() as pool, (options.work / "results.jsonl").open("a") as log:
        for count, result in enumerate(pool.imap_unordered(_try, left), 1):
            results[result["mutant"]] = result
            log.write(json.dumps(result, ensure_ascii=False) + "\n")
            log.flush()
            minutes = (time.monotonic() - began) / 60
            _say(f"{count}/{len(left)} {minutes:.1f} min {result['outcome']:9} {_line(result)}  [{result['by']}]")
    return _report([results[mutant.identity] for mutant in chosen])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=500, help="how many changes, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--only", action="append", default=[], help="modules whose path begins so, e.g. neurons/aver")
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--budget", type=float, default=60, help="seconds of tests for one change, as mapped")
    parser.add_argument("--least", type=float, default=0, help="exit 1 if fewer per cent than this are noticed")
    parser.add_argument("--map", action="store_true", help="only write down which test executes which lines")
    parser.add_argument("--near", action="store_true", help="make no maps: run whole files of the room instead")
    default = Path(tempfile.gettempdir()) / f"jaxcam-mutation-{os.getuid()}"
    parser.add_argument("--work", type=Path, default=default, help="folder of copies, maps, and results")
    return parser.parse_args()


def _test_files(root: Path) -> list[Path]:
    return [path for room in (*ROOMS, "cli") for path in sorted((root / "tests" / room).glob("test_*.py"))]


def _pool():
    return multiprocessing.get_context("fork").Pool(shared["options"].processes, _start_process)


def _start_process() -> None:
    number = multiprocessing.current_process()._identity[0]
    shared["tree"] = mutation_runs.copy_of_checkout(shared["copies"] / f"tree{number}")


def _make_maps(files: list[str]) -> None:
    missing = Map(shared["options"].work, shared["source"], files).missing
    if not missing:
        return
    _say(f"which test executes which lines: {len(missing)} files of tests to map")
    with _pool() as pool:
        for count, (file, end, seconds) in enumerate(pool.imap_unordered(_map, missing), 1):
            _say(f"{count}/{len(missing)} {file}: {end}, {seconds:.0f} s")


def _map(file: str) -> tuple[str, str, float]:
    began = time.monotonic()
    end = map_file(shared["options"].work, shared["tree"], file)
    return file, end, time.monotonic() - began


def _sample(root: Path) -> list[Mutant]:
    """As many as asked for; what Python can't read is no change of the program."""
    options = shared["options"]
    population = mutants(root, options.only)
    _say(f"{len(population)} changes can be made")
    chosen: list[Mutant] = []
    for mutant in sample(population, len(population), options.seed):
        if len(chosen) == options.sample:
            break
        try:
            compile(apply(mutant, (root / "jaxcam" / mutant.module).read_text()), mutant.module, "exec")
        except SyntaxError:
            continue
        chosen.append(mutant)
    return chosen


def _try(mutant: Mutant) -> dict:
    """Makes the change in this process's copy, runs the tests chosen for it, and takes the change back."""
    tree, budget = shared["tree"], shared["options"].budget
    path = tree / "jaxcam" / mutant.module
    original, stamp = path.read_text(), path.stat()
    changed = apply(mutant, original)
    before, after = describe(original, changed)
    result = {
        "mutant": mutant.identity,
        "module": mutant.module,
        "line": mutant.line,
        "function": mutant.function,
        "operator": mutant.operator,
        "before": before,
        "after": after,
        "budget": budget,
    }
    known: Map = shared["map"]
    tests, seconds, executed = tests_for(mutant, known, budget)
    limit = SLOWER * seconds + ALLOWANCE
    # Files without a map are run whole, while the budget lasts.
    whole = [file for file in near_files(mutant, tree) if file in known.missing]
    if whole:
        tests, limit, executed = [*tests, *whole], seconds + budget, True
    began = time.monotonic()
    outcome, by = "survived", "" if executed else "no test executes it"
    if tests:
        path.write_text(changed)
        # numba's cache looks at the date of a file only, and not at the files it takes functions from.
        compiled = {"NUMBA_CACHE_DIR": str(tree.parent / f"{tree.name}.numba.{mutant.identity}")}
        try:
            files = list(dict.fromkeys(test.split("::")[0] for test in tests))
            environment = compiled if mutant.module in _with_numba(tree) else {}

            def run_some(some: list[str]) -> dict:
                return mutation_runs.run_tests(tree, files, some, limit, environment)

            run = _steady(run_some, tests, tree)
        finally:
            path.write_text(original)
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
            mutation_runs.remove(compiled["NUMBA_CACHE_DIR"])
        if failed := _failed(run):
            outcome, by = "noticed", failed
        elif whole and run["end"] == "time":
            by = "the budget is used up"
        elif run["end"] != "finished":
            outcome, by = "noticed", run["end"]
        elif not any(entry["outcome"] == "passed" for entry in run["outcomes"].values()):
            outcome, by = "noticed", "no test ran"
    result |= {"outcome": outcome, "by": by, "tests": len(tests), "seconds": round(time.monotonic() - began, 1)}
    return result | {"digest": _digest(result)}


def _steady(run: Callable[[list[str]], dict], tests: list[str], tree: Path) -> dict:
    """Runs tests. One that waits for other processes, and may fail on a busy machine, has to fail twice."""
    answer = run(tests)
    failed = _failed(answer)
    if failed is not None and (tree / failed.split("::")[0]).is_file() and "::" in failed:
        text = (tree / failed.split("::")[0]).read_text()
        if any(word in text for word in BY_THE_CLOCK) and not _failed(run([failed])):
            rest = [test for test in tests if test not in (failed, failed.split("::")[0])]
            return _steady(run, rest, tree) if rest else answer | {"outcomes": {failed: {"outcome": "passed"}}}
    return answer


def _failed(run: dict) -> str | None:
    return next((test for test, entry in run["outcomes"].items() if entry["outcome"] == "failed"), None)


def _with_numba(tree: Path) -> set[str]:
    rooms = tree / "jaxcam" / "neurons"
    return {str(p.relative_to(tree / "jaxcam")) for p in rooms.glob("*.py") if "loops" in p.read_text()}


def _digest(result: dict) -> str:
    """What a result depends on: noticed, on the module and the test; not noticed, on all code and all tests."""
    if result["outcome"] != "noticed":
        return digest(shared["code"], str(result["budget"]), str(len(shared["map"].missing)))
    test = shared["source"] / result["by"].split("::")[0]
    parts = [shared["source"] / "jaxcam" / result["module"], *([test] if test.suffix == ".py" else [])]
    return digest(*(part.read_text() if part.is_file() else "" for part in parts))


def _code_digest(root: Path) -> str:
    paths = [*sorted((root / "jaxcam").rglob("*.py")), *sorted((root / "tests").rglob("*.py"))]
    return digest(*(path.read_text() for path in paths if path.parent.name != "mutation"))


def _stored(path: Path, chosen: list[Mutant]) -> dict[str, dict]:
    """The results so far that still hold, by the change's identity."""
    wanted = {mutant.identity: mutant for mutant in chosen}
    results = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        result = json.loads(line)
        if result["mutant"] in wanted and result["digest"] == _digest(result):
            results[result["mutant"]] = result | {"line": wanted[result["mutant"]].line}
    return results


def _report(results: list[dict]) -> int:
    argued = json.loads(ARGUED.read_text()) if ARGUED.exists() else {}
    survivors = [result for result in results if result["outcome"] != "noticed"]
    survivors.sort(key=lambda result: (result["module"], result["line"]))
    kinds = {"equivalent": 0, "untested": 0}
    for result in survivors:
        reason = argued.get(_name(result))
        if reason:
            kinds[reason["kind"]] += 1
        _say(f"{'argued  ' if reason else 'survived'} {_line(result)}" + (f"  # {reason['why']}" if reason else ""))
    noticed, count = len(results) - len(survivors), len(results)
    share = 100 * noticed / max(count, 1)
    _say(
        f"\n{noticed} of {count} changes noticed: {share:.1f} %. Of the other {len(survivors)}, "
        f"{kinds['equivalent']} change nothing that a caller can see, {kinds['untested']} have a reason why no test "
        f"looks for them, {len(survivors) - sum(kinds.values())} are left. Without those that change nothing: "
        f"{100 * noticed / max(count - kinds['equivalent'], 1):.1f} %."
    )
    return int(share < shared["options"].least)


def _name(result: dict) -> str:
    """How argued.json names a change: by what it does, so that it stays named where lines move."""
    return f"{result['module']}:{result['function']}: {result['before']} → {result['after']}"


def _line(result: dict) -> str:
    return f"{result['module']}:{result['line']}: {result['before']} → {result['after']}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
