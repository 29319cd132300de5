"""Questions about a network: what its maps have in common, what its values are like, what it is made of."""

from jaxcam.studies.agreement import Surrogate, surrogates
from jaxcam.studies.ascent import Maximized
from jaxcam.studies.directions import Trajectory, random_directions, trajectory
from jaxcam.studies.exciting import evolution, maximize
from jaxcam.studies.exemplars import Exemplars, direction, most_exciting
from jaxcam.studies.goodness import Distributions, distributions
from jaxcam.studies.leaks import LeakCheck, RegionCheck, leak_check, region_check
from jaxcam.studies.monte_carlo import Resolution, resolution
from jaxcam.studies.pieces import HalfSpaces, LinearPieces, Reach, linear_piece, region_size
from jaxcam.studies.planting import palette, plant
from jaxcam.studies.principal import Redundancy, redundancy
from jaxcam.studies.probes import ConceptTest, concepts
from jaxcam.studies.sampling import layer_values
from jaxcam.studies.sharing import Polytopes, Shared, polytopes
from jaxcam.studies.spectrum import Spectrum, read_spectrum
from jaxcam.studies.strategies import HeatmapClusters, heatmap_clusters
from jaxcam.studies.surfaces import ClassificationLoss, Landscape, classification_loss, interpolation, landscape
from jaxcam.studies.textures import concept_images

__all__ = [
    "ClassificationLoss",
    "ConceptTest",
    "Distributions",
    "Exemplars",
    "HalfSpaces",
    "HeatmapClusters",
    "Landscape",
    "LeakCheck",
    "LinearPieces",
    "Maximized",
    "Polytopes",
    "Reach",
    "Redundancy",
    "RegionCheck",
    "Resolution",
    "Shared",
    "Spectrum",
    "Surrogate",
    "Trajectory",
    "classification_loss",
    "concept_images",
    "concepts",
    "direction",
    "distributions",
    "evolution",
    "heatmap_clusters",
    "interpolation",
    "landscape",
    "layer_values",
    "leak_check",
    "linear_piece",
    "maximize",
    "most_exciting",
    "palette",
    "plant",
    "polytopes",
    "random_directions",
    "read_spectrum",
    "redundancy",
    "region_check",
    "region_size",
    "resolution",
    "surrogates",
    "trajectory",
]
