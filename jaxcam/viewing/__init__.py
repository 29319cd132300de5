"""What the rooms before this one measured, made visible: figures for papers and one interactive page for everybody.

A figure function takes arrays or rows and returns a matplotlib figure; `save` writes it. `report` turns the directory
of a run into report.html. Nothing here computes what is not already in the data, beyond means over units and seeds.
"""

from jaxcam.viewing import figures
from jaxcam.viewing.figures import (
    averages,
    comparison,
    confidence,
    contact_sheet,
    dead_units,
    distributions,
    extreme_units,
    history,
    maps,
    overlay,
    pruning,
    redundancy,
    save,
    similarity_curves,
)
from jaxcam.viewing.report import report

__all__ = [
    "averages",
    "comparison",
    "confidence",
    "contact_sheet",
    "dead_units",
    "distributions",
    "extreme_units",
    "figures",
    "history",
    "maps",
    "overlay",
    "pruning",
    "redundancy",
    "report",
    "save",
    "similarity_curves",
]
