"""Where a network is trained: device by name, and random state that is given back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; ``"auto"`` takes cuda, else mps, else the CPU.

    Raises
    ------
    ValueError
        If the name is unknown or the device is not there.

    Examples
    --------
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    available = _available()
    if name == "auto":
        return torch.device(available[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in available or (device.index or 0) >= _count(device):
        raise ValueError(f"device={name!r} is not available; here: auto, {', '.join(available)}")
    return device


def seed_everything(device: torch.device, seed: int) -> None:
    """Seed torch's global generators of the CPU and of `device` (and of no other device)."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[_index(device)].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def preserved_random_state(device: torch.device) -> Iterator[None]:
    """Give torch's global random state of the CPU and of `device` back at the end."""
    state = torch.mps.get_rng_state() if device.type == "mps" else None
    try:
        with torch.random.fork_rng([_index(device)] if device.type == "cuda" else []):
            yield
    finally:
        if state is not None:
            torch.mps.set_rng_state(state)


def _available() -> list[str]:
    """List the device types of this machine, the fastest first."""
    names = ["cuda"] if torch.cuda.is_available() else []
    names += ["mps"] if torch.backends.mps.is_available() else []
    return [*names, "cpu"]


def _count(device: torch.device) -> int:
    """Count the devices of a type."""
    return torch.cuda.device_count() if device.type == "cuda" else 1


def _index(device: torch.device) -> int:
    """Return the number of a cuda device; one without a number is the current one."""
    return torch.cuda.current_device() if device.index is None else device.index
