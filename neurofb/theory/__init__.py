"""Curves without simulation: what mathematics says that a simulation should give."""

from neurofb.theory.curl_stability import (
    critical_hidden_fraction,
    critical_readout_fraction,
    largest_eigenvalue,
    largest_eigenvalue_many_outputs,
)

__all__ = [
    "critical_hidden_fraction",
    "critical_readout_fraction",
    "largest_eigenvalue",
    "largest_eigenvalue_many_outputs",
]
