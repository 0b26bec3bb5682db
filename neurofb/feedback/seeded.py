"""Pathways that draw random numbers while they run: the same ones after a restart."""

from typing import Any

import torch

from neurofb.feedback.pathway import Pathway


class SeededPathway(Pathway):
    """Base of the pathways that draw in a backward pass.

    What is drawn depends on the pathway's seed and on the number of the pass (`fired`) only, so a
    checkpoint needs no state of a generator.
    """

    def __init__(self, layer_name: str, seed: int) -> None:
        super().__init__(layer_name)
        self.seed = seed

    def get_extra_state(self) -> dict[str, int]:
        """Return what a checkpoint keeps beside the matrices: the number of passes, the seed."""
        return {**super().get_extra_state(), "seed": self.seed}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Set what a checkpoint has kept (those of older versions have no seed)."""
        super().set_extra_state(state)
        self.seed = int(state.get("seed", self.seed))


def generator_of_pass(seed: int, fired: int, device: Any = "cpu") -> torch.Generator:
    """Return the generator of one backward pass.

    Parameters
    ----------
    seed
        The pathway's.
    fired
        Number of backward passes before this one.
    device
        Where the numbers are drawn; the same seed gives other numbers on another kind of device.

    Examples
    --------
    >>> draw = lambda fired: torch.rand(2, generator=generator_of_pass(7, fired))
    >>> torch.equal(draw(3), draw(3)), torch.equal(draw(3), draw(4))
    (True, False)
    """
    mixed = (seed + (fired + 1) * 0x9E3779B97F4A7C15) % 2**63
    return torch.Generator(device).manual_seed(mixed)
