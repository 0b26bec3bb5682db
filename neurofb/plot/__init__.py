"""Datasets in, matplotlib figures out; nothing is computed here but selections and medians.

Each function takes a labelled dataset and returns a `matplotlib.figure.Figure` that belongs to no
global state (nothing is shown, nothing to close). Matplotlib is imported on the first use.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurofb.plot.activity_tensor import activity_errors, activity_factors
    from neurofb.plot.alignment import alignment_curves
    from neurofb.plot.balanced_coding import coding_against_balance, coding_scaling
    from neurofb.plot.balanced_delay import balance_ramps, delay_diagram, noise_and_delay
    from neurofb.plot.balanced_tracking import tracking_errors
    from neurofb.plot.composite import figure5
    from neurofb.plot.curl import curl_spectra, phase_diagram
    from neurofb.plot.curl_rules import curl_over_epochs, curl_rows
    from neurofb.plot.curl_runs import escape_times, flip_loss_curves, lyapunov_exponents
    from neurofb.plot.distributions import measure_distributions
    from neurofb.plot.error_rank import rank_over_depth, rank_over_epochs
    from neurofb.plot.example import example_study
    from neurofb.plot.example_rank import example_rank_study
    from neurofb.plot.learning import learning_curves
    from neurofb.plot.modes import learned_modes, mode_endpoints
    from neurofb.plot.modes_rank import modes_against_rank
    from neurofb.plot.montage import receptive_field_montage
    from neurofb.plot.rank import symmetry_against_rank
    from neurofb.plot.rank_accuracy import accuracy_against_error_rank, measures_by_category
    from neurofb.plot.rules import accuracy_against_rank, compute_against_accuracy, rule_table
    from neurofb.plot.save import save_figure
    from neurofb.plot.scan import scan_curves, scan_measure
    from neurofb.plot.scan_map import scan_status
    from neurofb.plot.surface import symmetry_surface
    from neurofb.plot.tensor_curves import schedule_traces, tensor_errors
    from neurofb.plot.tensor_phases import hard_phase_width, tensor_phase_diagram
    from neurofb.plot.tuning import orientation_tuning

__all__ = [
    "accuracy_against_error_rank",
    "accuracy_against_rank",
    "activity_errors",
    "activity_factors",
    "alignment_curves",
    "balance_ramps",
    "coding_against_balance",
    "coding_scaling",
    "compute_against_accuracy",
    "curl_over_epochs",
    "curl_rows",
    "curl_spectra",
    "delay_diagram",
    "escape_times",
    "example_rank_study",
    "example_study",
    "figure5",
    "flip_loss_curves",
    "hard_phase_width",
    "learned_modes",
    "learning_curves",
    "lyapunov_exponents",
    "measure_distributions",
    "measures_by_category",
    "mode_endpoints",
    "modes_against_rank",
    "noise_and_delay",
    "orientation_tuning",
    "phase_diagram",
    "rank_over_depth",
    "rank_over_epochs",
    "receptive_field_montage",
    "rule_table",
    "save_figure",
    "scan_curves",
    "scan_measure",
    "scan_status",
    "schedule_traces",
    "symmetry_against_rank",
    "symmetry_surface",
    "tensor_errors",
    "tensor_phase_diagram",
    "tracking_errors",
]

_HOME = {
    "accuracy_against_error_rank": "rank_accuracy",
    "accuracy_against_rank": "rules",
    "activity_errors": "activity_tensor",
    "activity_factors": "activity_tensor",
    "alignment_curves": "alignment",
    "balance_ramps": "balanced_delay",
    "coding_against_balance": "balanced_coding",
    "coding_scaling": "balanced_coding",
    "compute_against_accuracy": "rules",
    "curl_over_epochs": "curl_rules",
    "curl_rows": "curl_rules",
    "curl_spectra": "curl",
    "delay_diagram": "balanced_delay",
    "escape_times": "curl_runs",
    "example_rank_study": "example_rank",
    "example_study": "example",
    "figure5": "composite",
    "flip_loss_curves": "curl_runs",
    "hard_phase_width": "tensor_phases",
    "learned_modes": "modes",
    "learning_curves": "learning",
    "lyapunov_exponents": "curl_runs",
    "measure_distributions": "distributions",
    "measures_by_category": "rank_accuracy",
    "mode_endpoints": "modes",
    "modes_against_rank": "modes_rank",
    "noise_and_delay": "balanced_delay",
    "orientation_tuning": "tuning",
    "phase_diagram": "curl",
    "rank_over_depth": "error_rank",
    "rank_over_epochs": "error_rank",
    "receptive_field_montage": "montage",
    "rule_table": "rules",
    "save_figure": "save",
    "scan_curves": "scan",
    "scan_measure": "scan",
    "scan_status": "scan_map",
    "schedule_traces": "tensor_curves",
    "symmetry_against_rank": "rank",
    "symmetry_surface": "surface",
    "tensor_errors": "tensor_curves",
    "tensor_phase_diagram": "tensor_phases",
    "tracking_errors": "balanced_tracking",
}


def __getattr__(name: str) -> object:
    """Import a plot function, and with it matplotlib, when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module 'neurofb.plot' has no attribute {name!r}")
    return getattr(importlib.import_module(f"neurofb.plot.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public functions."""
    return __all__
