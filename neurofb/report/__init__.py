"""A scan, a study or a run as one HTML file that needs nothing else."""

from neurofb.report.page import report, write_report

__all__ = ["report", "write_report"]
