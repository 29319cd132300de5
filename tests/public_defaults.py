"""What public functions do unless told otherwise, room by room: a changed default changes results without a word.

`python tests/public_defaults.py` writes them down anew, into the file beside it, after a change that is meant.
"""

import importlib
import inspect
import json
from pathlib import Path

ROOMS = ("attribution", "attribution.composites", "data", "models", "neurons", "quality", "studies", "training")
WRITTEN = Path(__file__).with_suffix(".json")


def defaults(room):
    """{name: {parameter: repr of its default}} of what a room or a module makes public."""
    module = importlib.import_module(f"jaxcam.{room}")
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    names = getattr(module, "__all__", [name for name in own if not name.startswith("_")])
    return {name: found for name in sorted(names) if (found := _defaults(getattr(module, name)))}


def written(room):
    return json.loads(WRITTEN.read_text())[room]


def _defaults(value):
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return {}
    values = {p.name: p.default for p in parameters if p.default is not p.empty}
    return {name: getattr(value, "__name__", repr(value)) for name, value in values.items()}


if __name__ == "__main__":
    WRITTEN.write_text(json.dumps({room: defaults(room) for room in ROOMS}, indent=1, sort_keys=True) + "\n")
