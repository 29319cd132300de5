"""What a model is made of: its equations, its layers, and how to run them otherwise. See README.md in this folder."""

from jaxcam.program.layers import Layer, layers, tag
from jaxcam.program.rewrite import accelerate
from jaxcam.program.sharing import devices
from jaxcam.program.transform import deconv, guided, patch, tap

__all__ = ["Layer", "accelerate", "deconv", "devices", "guided", "layers", "patch", "tag", "tap"]
