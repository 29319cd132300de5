"""What the rooms before this one measured, made visible: figures for papers and interactive pages for everybody.

A figure function takes arrays or rows and returns a matplotlib figure; `save` writes it. `report` turns the directory
of a run into one page, `atlas` into a folder of pages. Nothing here computes what is not already in the data, beyond
means over units and seeds; the maps of all units in an atlas are computed by who asks for it.
"""

from jaxcam.viewing import figures
from jaxcam.viewing.atlas.building import Probe, atlas
from jaxcam.viewing.figures import (
    averages,
    comparison,
    concepts,
    confidence,
    contact_sheet,
    dead_units,
    distributions,
    exchange_curves,
    excitements,
    extreme_units,
    heatmap_groups,
    history,
    landscape,
    leaks,
    linear_pieces,
    maps,
    network_graph,
    overlay,
    pruning,
    randomization,
    redundancy,
    save,
    save_page,
    similarity_curves,
    turning_landscape,
    weights,
)
from jaxcam.viewing.report import report

__all__ = [
    "Probe",
    "atlas",
    "averages",
    "comparison",
    "concepts",
    "confidence",
    "contact_sheet",
    "dead_units",
    "distributions",
    "exchange_curves",
    "excitements",
    "extreme_units",
    "figures",
    "heatmap_groups",
    "history",
    "landscape",
    "leaks",
    "linear_pieces",
    "maps",
    "network_graph",
    "overlay",
    "pruning",
    "randomization",
    "redundancy",
    "report",
    "save",
    "save_page",
    "similarity_curves",
    "turning_landscape",
    "weights",
]
