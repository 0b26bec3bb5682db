"""Peak memory of a training step, counted two ways."""

import re
import resource
import sys
from pathlib import Path
from typing import Any

import torch
from cases import Trainee
from torch.profiler import ProfilerActivity, profile


def peak_memory(trainee: Trainee) -> dict[str, int]:
    """Return resident high-water mark and torch's own peak of a step, in bytes.

    Run it in a fresh process: the high-water mark is the process's. "allocated" is what torch's
    allocator held at its highest during one step, parameters and feedback matrices included; the
    scratch memory inside oneDNN is in the resident figure only.
    """
    for _ in range(3):
        trainee.step()
    resident = _resident_high_water_mark()
    trainee.optimiser.zero_grad(set_to_none=True)
    held = [trainee.images, trainee.labels, *trainee.network.state_dict(keep_vars=True).values()]
    held_bytes = sum(t.numel() * t.element_size() for t in held if isinstance(t, torch.Tensor))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        trainee.step()
    raw: Any = profiler.profiler  # `profiler.events()` leaves out what operators allocate
    recorded = raw.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in recorded if e.name() == "[memory]"]
    now, peak = 0, 0
    for _, change in sorted(changes, key=lambda item: item[0]):
        now += change
        peak = max(peak, now)
    return {"resident": resident, "allocated": held_bytes + peak}


def _resident_high_water_mark() -> int:
    """Return the process's largest resident set so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage's figure outlives exec on Linux: it may be the parent's
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))
        if found:
            return int(found.group(1)) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
