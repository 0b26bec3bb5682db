"""One thread, deterministic algorithms, no leaking random state."""

import matplotlib as mpl
import pytest
import torch
from hypothesis import HealthCheck, settings

mpl.use("Agg")
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
settings.register_profile(
    "torch", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("torch")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
