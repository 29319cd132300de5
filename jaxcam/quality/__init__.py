"""Is the explanation any good? Deletion and insertion, axioms, sanity checks. See README.md in this folder."""

from jaxcam.quality.axioms import Completeness, completeness
from jaxcam.quality.curves import Curve, deletion, insertion
from jaxcam.quality.masking import average_drop, average_increase, pointing_game
from jaxcam.quality.perturbing import infidelity, sensitivity_n
from jaxcam.quality.randomization import Randomization, randomization_check
from jaxcam.quality.stability import max_sensitivity

__all__ = [
    "Completeness",
    "Curve",
    "Randomization",
    "average_drop",
    "average_increase",
    "completeness",
    "deletion",
    "infidelity",
    "insertion",
    "max_sensitivity",
    "pointing_game",
    "randomization_check",
    "sensitivity_n",
]
