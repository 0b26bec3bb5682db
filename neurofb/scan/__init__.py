"""Scans: a recipe over a grid of settings, on any executor, into one labelled store."""

from neurofb.scan.coordinator import ScanStoppedError
from neurofb.scan.opening import open_scan
from neurofb.scan.plan import Scan
from neurofb.scan.run_summary import summary
from neurofb.scan.scanning import run_scan
from neurofb.scan.status_text import status

__all__ = ["Scan", "ScanStoppedError", "open_scan", "run_scan", "status", "summary"]
