"""Questions about a network: what its maps have in common, what its values are like, what it is made of."""

from jaxcam.studies.principal import Redundancy, Spectrum, read_spectrum, redundancy

__all__ = ["Redundancy", "Spectrum", "read_spectrum", "redundancy"]
