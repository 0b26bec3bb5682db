"""Fixed feedback matrices."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from neurofb.feedback.learning import Learning, Signals


@dataclass(frozen=True, kw_only=True)
class Fixed(Learning):
    """Leave Q and P as they were at the start (Lillicrap et al. 2016, doi:10.1038/ncomms13276).

    Examples
    --------
    >>> Fixed().learns
    ()
    """

    rule: Literal["fixed"] = "fixed"
    learns: ClassVar[tuple[str, ...]] = ()

    def gradients(self, signals: Signals) -> tuple[Tensor | None, Tensor | None]:
        """Return no pseudo-gradients."""
        del signals
        return None, None
