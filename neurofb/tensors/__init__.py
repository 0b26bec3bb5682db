"""Low-rank decomposition of noisy tensors: priors, approximate message passing, least squares."""

from neurofb.tensors.als import TensorALS

__all__ = ["TensorALS"]
