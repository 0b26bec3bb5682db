"""Number format and memory layout of a training run."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """Number format of matrix products and convolutions, and layout of maps in memory.

    Parameters
    ----------
    precision
        ``"float32"``, or ``"bfloat16"`` for automatic mixed precision: weights, optimiser and loss
        stay in float32.
    channels_last
        Keep maps and kernels with the channel innermost in memory. Values are the same up to
        rounding.

    Examples
    --------
    >>> Arithmetic(precision="bfloat16").precision
    'bfloat16'
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the forward pass runs."""
        enabled = self.precision == "bfloat16"
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)

    def layout_images(
        self, images: Float[Tensor, "image channel y x"]
    ) -> Float[Tensor, "image channel y x"]:
        """Return the images in this layout."""
        return images.contiguous(memory_format=self._memory_format)

    def layout_network(self, network: nn.Module) -> None:
        """Bring the network's kernels into this layout, in place; values are unchanged."""
        network.to(memory_format=self._memory_format)  # pyright: ignore[reportCallIssue]

    @property
    def _memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format


def resolve_arithmetic(
    precision: Literal["auto", "float32", "bfloat16"],
    channels_last: Literal["auto"] | bool,
    device: torch.device,
) -> Arithmetic:
    """Decide what ``"auto"`` means on this machine; the same on every call (nothing is timed).

    bfloat16 is on where the hardware multiplies it natively: a CPU with AMX (measured here: a
    training step of the default network takes a third of the time) or a CUDA device that supports
    it. The channels-last layout goes with bfloat16.

    Examples
    --------
    >>> resolve_arithmetic("float32", "auto", torch.device("cpu"))
    Arithmetic(precision='float32', channels_last=False)
    """
    if precision == "auto":
        precision = "bfloat16" if _multiplies_bfloat16(device) else "float32"
    if channels_last == "auto":
        channels_last = precision == "bfloat16"
    return Arithmetic(precision=precision, channels_last=channels_last)


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether the device has fast bfloat16 products."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # absent in older torch
        return bool(capabilities.get("amx_bf16", False))
    return False
