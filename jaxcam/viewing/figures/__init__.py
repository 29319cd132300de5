"""Figures for papers: each function returns a matplotlib figure and neither shows nor writes it."""

from jaxcam.viewing.figures.accuracy import history, pruning
from jaxcam.viewing.figures.charts import confidence, dead_units, similarity_curves
from jaxcam.viewing.figures.comparison import comparison
from jaxcam.viewing.figures.components import redundancy
from jaxcam.viewing.figures.explanations import contact_sheet, overlay
from jaxcam.viewing.figures.laws import distributions
from jaxcam.viewing.figures.pictures import averages, extreme_units, maps
from jaxcam.viewing.figures.style import save

__all__ = [
    "averages",
    "comparison",
    "confidence",
    "contact_sheet",
    "dead_units",
    "distributions",
    "extreme_units",
    "history",
    "maps",
    "overlay",
    "pruning",
    "redundancy",
    "save",
    "similarity_curves",
]
