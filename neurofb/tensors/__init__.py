"""Low-rank decomposition of noisy tensors: priors, approximate message passing, least squares."""

__all__: list[str] = []
