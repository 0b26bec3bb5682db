"""Curves without simulation: what mathematics says that a simulation should give."""

from neurofb.theory.balanced_chaos import chaos_boundary, lyapunov_of_mean_field, scs_variance
from neurofb.theory.balanced_delay import (
    correlation_transform,
    critical_balance,
    delay_integral,
    optimal_balance,
)
from neurofb.theory.balanced_mean_field import MeanField, mean_field
from neurofb.theory.balanced_optimum import network_critical_balance, optimal_total
from neurofb.theory.balanced_readout import readout_spectrum, readout_variance, total_error
from neurofb.theory.balanced_scaling import ScalingCurve, scaling_law
from neurofb.theory.balanced_tracking import noise_gain, tracking_error, tracking_transfer
from neurofb.theory.curl_index import curl_index_of_flips
from neurofb.theory.curl_matrix import linearised_eigenvalues, reduced_matrix
from neurofb.theory.curl_norms import eigenvalues_with_norms
from neurofb.theory.curl_scalar import (
    conserved_blocks,
    escape_time,
    first_crossing,
    scalar_motion,
)
from neurofb.theory.curl_spectrum import Spectrum, spectral_density, spectrum
from neurofb.theory.curl_stability import (
    critical_hidden_fraction,
    critical_readout_fraction,
    largest_eigenvalue,
    largest_eigenvalue_many_outputs,
)
from neurofb.theory.linear_modes import (
    fixed_feedback_endpoint,
    kolen_pollack_gap,
    oja_flow,
    saxe_mode,
)
from neurofb.theory.mode_equations import ModeCurves, in_mode_frame, integrate_modes
from neurofb.theory.scalar_modes import (
    ScalarFeedback,
    scalar_fa,
    scalar_factored_kp,
    scalar_normative,
)
from neurofb.theory.tensor_channels import GaussianChannel, MixtureChannel, channel_of
from neurofb.theory.tensor_state_evolution import StateEvolution
from neurofb.theory.tensor_thresholds import Thresholds, critical_mean, critical_noise

__all__ = [
    "GaussianChannel",
    "MeanField",
    "MixtureChannel",
    "ModeCurves",
    "ScalarFeedback",
    "ScalingCurve",
    "Spectrum",
    "StateEvolution",
    "Thresholds",
    "channel_of",
    "chaos_boundary",
    "conserved_blocks",
    "correlation_transform",
    "critical_balance",
    "critical_hidden_fraction",
    "critical_mean",
    "critical_noise",
    "critical_readout_fraction",
    "curl_index_of_flips",
    "delay_integral",
    "eigenvalues_with_norms",
    "escape_time",
    "first_crossing",
    "fixed_feedback_endpoint",
    "in_mode_frame",
    "integrate_modes",
    "kolen_pollack_gap",
    "largest_eigenvalue",
    "largest_eigenvalue_many_outputs",
    "linearised_eigenvalues",
    "lyapunov_of_mean_field",
    "mean_field",
    "network_critical_balance",
    "noise_gain",
    "oja_flow",
    "optimal_balance",
    "optimal_total",
    "readout_spectrum",
    "readout_variance",
    "reduced_matrix",
    "saxe_mode",
    "scalar_fa",
    "scalar_factored_kp",
    "scalar_motion",
    "scalar_normative",
    "scaling_law",
    "scs_variance",
    "spectral_density",
    "spectrum",
    "total_error",
    "tracking_error",
    "tracking_transfer",
]
