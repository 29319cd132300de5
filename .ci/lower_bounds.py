"""Writes the lower bounds of pyproject.toml as constraints for pip: `jax>=0.8.1` becomes `jax==0.8.1`.

Requirements without a lower bound are left out. Run from the checkout: python .ci/lower_bounds.py > constraints.txt
"""

import re
import sys
import tomllib
from pathlib import Path


def constraints(pyproject: str) -> list[str]:
    """One line for each dependency of the package that has a lower bound.

    Example:
        >>> constraints('[project]\\ndependencies = ["jax>=0.8.1", "importlib_resources>=6.0", "rich"]')
        ['jax==0.8.1', 'importlib_resources==6.0']
    """
    requirements = tomllib.loads(pyproject)["project"]["dependencies"]
    bounds = [re.match(r"\s*([\w.-]+)\s*>=\s*([\w.]+)", requirement) for requirement in requirements]
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound is not None]


if __name__ == "__main__":
    sys.stdout.write("\n".join(constraints(Path("pyproject.toml").read_text(encoding="utf-8"))) + "\n")
