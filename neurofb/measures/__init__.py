"""Measures: from a network or a tensor to labelled numbers."""

from neurofb.measures.accuracy_cost import compute_to_accuracy
from neurofb.measures.activity_tensor import grating_activity
from neurofb.measures.alignment import alignment
from neurofb.measures.alive import response_to_images
from neurofb.measures.analytic_cost import analytic_cost
from neurofb.measures.bars import bar_orientedness
from neurofb.measures.boundary import distance_to_line, failing_boundary
from neurofb.measures.circulation import circulation, loss_rise
from neurofb.measures.claims import contrast, rank_trend, verdict
from neurofb.measures.compute_cost import compute_cost
from neurofb.measures.curl import curl_index
from neurofb.measures.effective_rank import effective_rank
from neurofb.measures.error_matrix import error_matrix
from neurofb.measures.error_rank import error_rank
from neurofb.measures.factor_cost import factor_cost
from neurofb.measures.factor_state import factor_state
from neurofb.measures.field_eigenvalues import largest_real_eigenvalue
from neurofb.measures.fits import fit_dog, fit_gabor
from neurofb.measures.flip_stability import flip_stability
from neurofb.measures.grating_tuning import grating_tuning
from neurofb.measures.growth import growth_rate
from neurofb.measures.jacobian import jacobian
from neurofb.measures.lyapunov import lyapunov_exponent
from neurofb.measures.mode_overlap import linear_mode_overlap, mode_overlap
from neurofb.measures.nulls import spectrum_matched_noise
from neurofb.measures.oscillation import oscillation_frequency
from neurofb.measures.population import counted_units, population_medians
from neurofb.measures.power_law import power_law
from neurofb.measures.receptive_field import gaussian_probes, receptive_field
from neurofb.measures.rule_curl import rule_curl
from neurofb.measures.shape import shape_measures
from neurofb.measures.signed_ntk import signed_ntk
from neurofb.measures.survival import median_time, survival_curve
from neurofb.measures.symmetry import rotation_correlation, rotational_symmetry
from neurofb.measures.tensor_ranks import (
    normalised_activity,
    posterior_agreement,
    split_half_errors,
)
from neurofb.measures.update_field import update_field

__all__ = [
    "alignment",
    "analytic_cost",
    "bar_orientedness",
    "circulation",
    "compute_cost",
    "compute_to_accuracy",
    "contrast",
    "counted_units",
    "curl_index",
    "distance_to_line",
    "effective_rank",
    "error_matrix",
    "error_rank",
    "factor_cost",
    "factor_state",
    "failing_boundary",
    "fit_dog",
    "fit_gabor",
    "flip_stability",
    "gaussian_probes",
    "grating_activity",
    "grating_tuning",
    "growth_rate",
    "jacobian",
    "largest_real_eigenvalue",
    "linear_mode_overlap",
    "loss_rise",
    "lyapunov_exponent",
    "median_time",
    "mode_overlap",
    "normalised_activity",
    "oscillation_frequency",
    "population_medians",
    "posterior_agreement",
    "power_law",
    "rank_trend",
    "receptive_field",
    "response_to_images",
    "rotation_correlation",
    "rotational_symmetry",
    "rule_curl",
    "shape_measures",
    "signed_ntk",
    "spectrum_matched_noise",
    "split_half_errors",
    "survival_curve",
    "update_field",
    "verdict",
]
