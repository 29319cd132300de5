"""Is the explanation any good? Deletion and insertion, axioms, sanity checks. See README.md in this folder."""

from jaxcam.quality.curves import Curve, deletion, insertion

__all__ = ["Curve", "deletion", "insertion"]
