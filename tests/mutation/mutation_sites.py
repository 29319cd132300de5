"""All changes of one line that can be made to the code that computes and guards, and a sample of them.

Left out, as no test ought to notice them: what stands in `raise`, `assert`, warnings and texts; annotations and
aliases of types; decorators (caching and compiling change no result); imports, `__all__`, `if TYPE_CHECKING`; keywords
that change how fast or how strictly something runs (`mutation_operators.WITHOUT_EFFECT`).
"""

import ast
import difflib
import hashlib
from pathlib import Path
from typing import NamedTuple

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from mutation_map import digest, function_names
from mutation_operators import WITHOUT_EFFECT, operators

ROOMS = ("program", "attribution", "neurons", "quality", "studies", "training", "models", "data")
FILES = ("files.py", "cli/errors.py", "cli/run_directory.py")


class Mutant(NamedTuple):
    """A change at one place.

    Attributes:
        module: its file, relative to jaxcam/.
        line: its line number, for people.
        function: the dotted name of the function it is in, "" at the level of the module.
        operator: the name of the operator.
        occurrence: which of the operator's places in the file.
        statement: the lines of the statement, stripped.
        identity: a digest that stays where code around moves.
    """

    module: str
    line: int
    function: str
    operator: str
    occurrence: int
    statement: tuple[str, ...]
    identity: str


def modules(root: Path) -> list[str]:
    """The files that are changed, relative to jaxcam/."""
    package = root / "jaxcam"
    found = [path for room in ROOMS for path in sorted((package / room).rglob("*.py")) if path.name != "__init__.py"]
    return [str(path.relative_to(package)) for path in found] + list(FILES)


def mutants(root: Path, only: list[str]) -> list[Mutant]:
    """All changes to all modules, or to those whose name begins as one of `only`."""
    chosen = [name for name in modules(root) if not only or any(name.startswith(start) for start in only)]
    return [mutant for name in chosen for mutant in _of_module(name, (root / "jaxcam" / name).read_text())]


def sample(population: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """A random part, which stays nearly the same where the code changes a little."""

    def rank(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed}:{mutant.identity}".encode()).digest()

    return sorted(population, key=rank)[:count]


def apply(mutant: Mutant, source: str) -> str:
    return mutate_code(source, operators()[mutant.operator], mutant.occurrence)


def describe(source: str, changed: str) -> tuple[str, str]:
    """The lines before and after, each on one line."""
    before, after = [], []
    for line in difflib.ndiff(source.splitlines(), changed.splitlines()):
        if line.startswith("- "):
            before.append(line[2:].strip())
        elif line.startswith("+ "):
            after.append(line[2:].strip())
    return " ".join(before), " ".join(after)


def _of_module(name: str, source: str) -> list[Mutant]:
    tree = parso.parse(source)
    functions, statements = function_names(source), _statements(source)
    lines = source.splitlines()
    seen: dict[tuple, int] = {}
    result = []
    nodes = list(ast_nodes(tree))
    for operator_name, operator in operators().items():
        occurrence = -1
        for node in nodes:
            for position, _ in operator.mutation_positions(node):
                occurrence += 1
                if _skipped(node, operator_name):
                    continue
                line = position[0]
                function = functions.get(line, "")
                first, last = statements.get(line, (line, line))
                statement = tuple(lines[i - 1].strip() for i in range(first, last + 1))
                place = (name, function, operator_name, lines[line - 1].strip())
                seen[place] = seen.get(place, -1) + 1
                identity = digest(*place, str(seen[place]))
                # Of a number one more or one less, one of the two: else they would be half of all changes.
                if operator_name == "NumberReplacer" and seen[place] % 2 != int(digest(*place), 16) % 2:
                    continue
                result.append(Mutant(name, line, function, operator_name, occurrence, statement, identity))
    return result


def _statements(source: str) -> dict[int, tuple[int, int]]:
    """For each line the first and last line of the innermost statement it belongs to, bodies left out."""
    ranges: dict[int, tuple[int, int]] = {}
    for node in ast.walk(ast.parse(source)):  # outer statements come first
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
            for line in range(node.lineno, last + 1):
                ranges[line] = (node.lineno, last)
    return ranges


def _skipped(node, operator: str) -> bool:
    if node.type == "operator" and node.parent.type in {"parameters", "param", "lambdef", "dictorsetmaker", "atom"}:
        return True  # the star of `def f(*, x)`, of `{**options}`
    below, at = node, node
    while at is not None:
        kind = at.type
        if kind in {"raise_stmt", "assert_stmt", "decorator", "import_from", "import_name", "tfpdef", "fstring"}:
            return True
        if kind == "argument" and at.children[0].get_code().strip() in WITHOUT_EFFECT:
            return True
        if kind == "annassign" and below is at.children[1]:
            return True
        if kind == "funcdef" and below is at.annotation:
            return True
        if kind == "if_stmt" and at.children[1].get_code().strip() == "TYPE_CHECKING":
            return True
        if kind in {"atom_expr", "power"} and at.children[0].get_code().strip() == "warnings":
            return True
        if kind == "expr_stmt":
            target = at.children[0].get_code().strip()
            outside = at.parent is not None and at.parent.parent is not None and at.parent.parent.type == "file_input"
            if target == "__all__" or (outside and "|" in at.get_code() and "BitOr" in operator):
                return True
        below, at = at, at.parent
    return False
