"""Figures for papers: each function returns a matplotlib figure and neither shows nor writes it."""

from jaxcam.viewing.figures.accuracy import history, pruning
from jaxcam.viewing.figures.charts import confidence, dead_units, similarity_curves
from jaxcam.viewing.figures.checks import exchange_curves, randomization
from jaxcam.viewing.figures.comparison import comparison
from jaxcam.viewing.figures.components import redundancy
from jaxcam.viewing.figures.exciting import excitements
from jaxcam.viewing.figures.explanations import contact_sheet, overlay
from jaxcam.viewing.figures.facets import linear_pieces
from jaxcam.viewing.figures.groups import heatmap_groups
from jaxcam.viewing.figures.laws import distributions
from jaxcam.viewing.figures.leaking import leaks
from jaxcam.viewing.figures.learned import weights
from jaxcam.viewing.figures.meanings import concepts
from jaxcam.viewing.figures.pictures import averages, extreme_units, maps
from jaxcam.viewing.figures.style import save
from jaxcam.viewing.figures.terrain import landscape, save_page, turning_landscape
from jaxcam.viewing.figures.wiring import network_graph

__all__ = [
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
    "save",
    "save_page",
    "similarity_curves",
    "turning_landscape",
    "weights",
]
