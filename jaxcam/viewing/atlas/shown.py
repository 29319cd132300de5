"""One sweep as an atlas shows it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxcam.neurons import Sweep
from jaxcam.program import Layer
from jaxcam.viewing.atlas.sprites import Sheets
from jaxcam.viewing.runs import Run


class Real(NamedTuple):
    """Real images, all on one sheet, and for each layer which of them excite its units (u, count)."""

    sheet: dict[str, Any]
    exciting: dict[str, np.ndarray]


@dataclass(frozen=True)
class Shown:
    """One sweep of the atlas: the run, its numbers, its part of the single page, its maps, the network around it."""

    index: int
    run: Run
    sweep: Sweep
    section: dict[str, Any]
    sheets: Sheets
    layers: list[Layer]
    edges: list[tuple[str, str]]
    note: str
    real: Real | None

    @property
    def prefix(self) -> str:
        """What the names of its pages begin with."""
        return f"s{self.index}-" if self.index else ""

    def file(self, layer: int, kind: str = "layer") -> str:
        """The page of a layer, or of its units."""
        return f"{self.prefix}{kind}-{layer}.html"

    def thumb(self, layer: str, k: int, unit: int) -> str:
        """Where a unit's map is, for the style sheet."""
        at, columns = int(self.sheets.places[layer][k][unit]), self.sheets.columns[layer]
        file = self.sheets.files[layer][k]
        return f"--x:{at % columns};--y:{at // columns};--n:{columns};background-image:url({file})"
