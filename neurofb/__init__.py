"""neurofb: how the dimensionality and the route of the error shape what a network learns."""

from importlib.metadata import version

__version__ = version("neurofb")
