"""The collapse of feedback alignment's error while a deep network trains, and its two cures.

What `models/deep_mlp.py` finds on Fashion-MNIST, on made-up images and in seconds: ten classes of
four noisy patterns each. Seeds 0 and 1 gave, for the last of six hidden layers, row-normalised
ranks of 52 and 50 (BP), 21 and 12 (FA), 76 (FA with batch norm), 51 and 49 (FA with Muon) after
starts of 54 to 57 (77 with batch norm), and test accuracies of 0.98, 0.12, 0.4 and 0.55.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurofb import feedback as fb
from neurofb.measures import error_rank
from neurofb.networks import MLPConfig
from neurofb.training import Optimiser

ADAM = Optimiser(name="Adam", learning_rate=1e-3)
MUON = Optimiser(name="Muon", learning_rate=0.01, other_learning_rate=1e-3)
FA = fb.Random(start="normal")
CONDITIONS = {
    "BP": ({}, ADAM, "none"),
    "FA": ({"hidden_[2-6]": FA, "readout": FA}, ADAM, "none"),
    "FA, batch": ({"hidden_[2-6]": FA, "readout": FA}, ADAM, "batch"),
    "FA, Muon": ({"hidden_[2-6]": FA, "readout": FA}, MUON, "none"),
}


def images(num: int, seed: int) -> tuple[Tensor, Tensor]:
    patterns = torch.randn(40, 144, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    of = torch.randint(40, (num,), generator=generator)
    x = patterns[of] + torch.randn(num, 144, generator=generator)
    return x.reshape(num, 1, 12, 12), of % 10


def trained(name: str, seed: int) -> tuple[float, float, float]:
    """Return rank of the error in the last hidden layer before and after, and test accuracy."""
    pathways, optimiser, normalisation = CONDITIONS[name]
    settings = {"image_size": 12, "in_channels": 1, "initialisation": "he_normal"}
    config = MLPConfig(**settings, hidden=(96,) * 6, normalisation=normalisation)
    network = fb.attach(config.build(seed), pathways, seed=seed)
    step = optimiser.build(network)
    (x, classes), (x_test, classes_test) = images(2000, 1), images(1000, 2)

    def rank() -> float:
        answer = error_rank(network, x[:256], classes[:256], kinds=["entropy"], views=["channel"])
        return answer.error_rank_normalised.sel(layer="hidden_6").item()

    before, generator = rank(), torch.Generator().manual_seed(seed)
    for _ in range(150):
        batch = torch.randint(2000, (64,), generator=generator)
        step.zero_grad()
        functional.cross_entropy(network(x[batch]), classes[batch]).backward()
        step.step()
    after = rank()
    correct = network.eval()(x_test).argmax(1) == classes_test
    return before, after, correct.float().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_error_of_feedback_alignment_collapses_and_both_cures_help(seed: int):
    before, after, accuracy = (
        dict(zip(CONDITIONS, values, strict=True))
        for values in zip(*(trained(name, seed) for name in CONDITIONS), strict=True)
    )
    assert before["FA"] == pytest.approx(before["BP"], rel=0.08)  # it is training that does it
    assert after["FA"] < 0.5 * after["BP"]
    assert after["FA"] < 0.5 * before["FA"]
    assert after["FA, batch"] > 2 * after["FA"]
    assert after["FA, Muon"] > 2 * after["FA"]
    assert accuracy["FA, batch"] - accuracy["FA"] > 0.15
    assert accuracy["FA, Muon"] - accuracy["FA"] > 0.15
    assert accuracy["BP"] - max(accuracy["FA, batch"], accuracy["FA, Muon"]) > 0.2
