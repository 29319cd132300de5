"""The command line; `jaxcam --help` is its map.

Each command is a file, and a few lines over the rooms. What they share:

- `group`: how the commands are listed, and the one place where an exception becomes a line and an exit code (`errors`);
- `options`: what several commands ask for, said once;
- `run_directory`: where a command writes, and how anybody can tell a finished run from an unfinished one;
- `networks` (with `factories`, `outputs`, `weighing`) and `datasets`: from what a user typed to a model and to images.

Modules that import JAX are imported inside the commands: help and complaints about a mistyped option appear at once.
"""

from jaxcam.cli.main import main

__all__ = ["main"]
