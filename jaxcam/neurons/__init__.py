"""Every unit of every layer: what it saw, how similar that is to a class, and what the network is without it."""

from jaxcam.neurons.average_record import ClassAverages
from jaxcam.neurons.averages import average_classes, class_averages
from jaxcam.neurons.candidates import restrict
from jaxcam.neurons.confidence import confidences, log_odds
from jaxcam.neurons.hosts import Processes, ProcessLost, join
from jaxcam.neurons.measures import MEASURES, Measure, measure
from jaxcam.neurons.precision import PRECISIONS, Change, changes
from jaxcam.neurons.prune import peak_layer, prune
from jaxcam.neurons.pruning import pruning_study
from jaxcam.neurons.pruning_table import PruningRow, PruningSummary, read_pruning, summarize_pruning, write_pruning
from jaxcam.neurons.similarity import maps, similarity
from jaxcam.neurons.store import Sweep, open_sweep
from jaxcam.neurons.sweep import sweep

__all__ = [
    "MEASURES",
    "PRECISIONS",
    "Change",
    "ClassAverages",
    "Measure",
    "ProcessLost",
    "Processes",
    "PruningRow",
    "PruningSummary",
    "Sweep",
    "average_classes",
    "changes",
    "class_averages",
    "confidences",
    "join",
    "log_odds",
    "maps",
    "measure",
    "open_sweep",
    "peak_layer",
    "prune",
    "pruning_study",
    "read_pruning",
    "restrict",
    "similarity",
    "summarize_pruning",
    "sweep",
    "write_pruning",
]
