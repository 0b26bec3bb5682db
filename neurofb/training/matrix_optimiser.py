"""What our own optimisers share: checked groups, and a step around an update."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from neurofb.training.matrix_groups import check_matrices


class MatrixOptimiser(torch.optim.Optimizer):
    """Base of optimisers whose groups say by ``matrix`` whether they hold matrices.

    Examples
    --------
    >>> from neurofb.training import Muon
    >>> isinstance(Muon([torch.zeros(2, 2)]), MatrixOptimiser)
    True
    """

    @staticmethod
    def check_settings(group: Mapping[str, Any]) -> None:
        """Refuse settings of a group that are out of their range.

        Raises
        ------
        ValueError
            With the setting's name, its value and what is allowed.
        """
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group after a look at its settings and parameters.

        Raises
        ------
        ValueError
            If they do not fit; the group is not added then.
        """
        super().add_param_group(param_group)
        try:
            self.check_settings(self.param_groups[-1])
            check_matrices(self.param_groups[-1], type(self).__name__)
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update all parameters that have a gradient.

        Parameters
        ----------
        closure
            Evaluates the loss anew, if given; its value is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update()
        return loss

    def update(self) -> None:
        """Update all parameters that have a gradient, without recording the operations."""
        raise NotImplementedError
