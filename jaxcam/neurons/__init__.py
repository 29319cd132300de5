"""Every unit of every layer: what it saw, how similar that is to a class, and what the network is without it."""

from jaxcam.neurons.averages import class_averages, confidences
from jaxcam.neurons.measures import MEASURES, Measure
from jaxcam.neurons.prune import prune
from jaxcam.neurons.similarity import maps, similarity
from jaxcam.neurons.store import Sweep, open_sweep
from jaxcam.neurons.sweep import sweep

__all__ = [
    "MEASURES",
    "Measure",
    "Sweep",
    "class_averages",
    "confidences",
    "maps",
    "open_sweep",
    "prune",
    "similarity",
    "sweep",
]
