"""Measures: from a network or a tensor to labelled numbers."""

from neurofb.measures.receptive_field import gaussian_probes, receptive_field
from neurofb.measures.shape import shape_measures

__all__ = ["gaussian_probes", "receptive_field", "shape_measures"]
