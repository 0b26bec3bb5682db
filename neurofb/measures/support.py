"""The exact theoretical support of a unit: the input pixels that it can depend on.

The operations of one forward pass are followed, not the modules, so residual sums, functional
activations and in-place operations are seen as well.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_POOLS = ("aten::max_pool2d_with_indices", "aten::max_pool2d", "aten::avg_pool2d")
_PADS = ("aten::constant_pad_nd", "aten::reflection_pad2d", "aten::replication_pad2d")
#: Position by position, though torch does not tag them so.
_POINTWISE = (
    "aten::clone",
    "aten::detach",
    "aten::alias",
    "aten::_to_copy",
    "aten::_prelu_kernel",
    "aten::log_sigmoid_forward",
    "aten::hardswish",
    "aten::hardswish_",
)


@dataclass(frozen=True, kw_only=True)
class Support:
    """Input pixels behind position i of a map: start + i jump … start + i jump + size - 1 (y, x).

    `size_free` says that a larger or smaller image gives the same map, borders aside.
    """

    start: tuple[int, int] = (0, 0)
    size: tuple[int, int] = (1, 1)
    jump: tuple[int, int] = (1, 1)
    size_free: bool = True


class SupportTracker(TorchDispatchMode):
    """Follow the support of every tensor computed from `image` while the mode is on.

    Convolutions, pooling, padding, pointwise operations, evaluation batch normalisation and
    concatenation of channels are followed; behind anything else a unit counts as depending on the
    whole image (support None).

    Examples
    --------
    >>> image, conv = torch.zeros(1, 1, 9, 9), torch.nn.Conv2d(1, 2, 5, padding=2)
    >>> with torch.no_grad(), SupportTracker(image) as tracker:
    ...     answer = conv(image).relu()
    >>> tracker.of(answer).start, tracker.of(answer).size
    ((-2, -2), (5, 5))
    """

    def __init__(self, image: Tensor):
        super().__init__()
        # tensors are kept alive, so that an id is never used twice
        self._known: dict[int, tuple[Tensor, Support | None]] = {id(image): (image, Support())}
        self._lost = False

    def of(self, tensor: Tensor) -> Support | None:
        """Return the support of a tensor seen under the mode, None for the whole image."""
        known = self._known.get(id(tensor))
        return known[1] if known and not self._lost else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = func(*args, **(kwargs or {}))
        tensors = [value for value in _flat((args, kwargs or {})) if isinstance(value, Tensor)]
        if any(id(value) in self._known for value in tensors):
            self._lost |= func._schema.is_mutable and self._writes_elsewhere(tensors[0])
            support = self._next(func, args, tensors)
            for value in _flat(answer):
                if isinstance(value, Tensor):
                    self._known[id(value)] = (value, support)
        return answer

    def _writes_elsewhere(self, target: Tensor) -> bool:
        """Say whether writing into a tensor changes another one (its base, a view of it)."""
        storage = target.untyped_storage().data_ptr()
        same = [t for t, _ in self._known.values() if t.untyped_storage().data_ptr() == storage]
        return [id(value) for value in same] != [id(target)]

    def _next(self, func: Any, args: Any, tensors: list[Tensor]) -> Support | None:
        name = func._schema.name
        first = self.of(tensors[0])
        if torch.Tag.pointwise in func.tags or name in _POINTWISE:
            return self._union(tensors)
        if name == "aten::cat" and len(args) > 1 and args[1] in (1, -3):
            return self._union(tensors)
        if first is None or tensors[0].ndim != 4:
            return None
        if name == "aten::convolution" and not args[6]:
            return _window(first, args[1].shape[-2:], args[3], args[4], args[5])
        if name in _POOLS:
            rest = [*args[1:], *([], 0, 1, False)[len(args) - 2 :]]
            dilation = 1 if name == "aten::avg_pool2d" else rest[3]
            return _window(first, rest[0], rest[1] or rest[0], rest[2], dilation)
        if name in _PADS and len(args[1]) == 4:
            return _window(first, 1, 1, (args[1][2], args[1][0]), 1)
        if "batch_norm" in name and (name.endswith("no_training") or args[5] is False):
            return first
        return None

    def _union(self, tensors: list[Tensor]) -> Support | None:
        """Join the supports of tensors that are combined position by position."""
        known = [self._known[id(value)] for value in tensors if id(value) in self._known]
        others = [value for value in tensors if id(value) not in self._known]
        supports = [support for _, support in known if support is not None]
        if len(supports) < len(known) or len({s.jump for s in supports}) > 1:
            return None
        if len({value.shape[-2:] for value, _ in known}) > 1:
            return None
        starts = [min(s.start[a] for s in supports) for a in (0, 1)]
        ends = [max(s.start[a] + s.size[a] for s in supports) for a in (0, 1)]
        fixed = any(size > 1 for value in others for size in value.shape[-2:])
        return replace(
            supports[0],
            start=(starts[0], starts[1]),
            size=(ends[0] - starts[0], ends[1] - starts[1]),
            size_free=all(s.size_free for s in supports) and not fixed,
        )


def _window(before: Support, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Support:
    """Return the support behind a sliding window over a map of known support."""
    kernel, stride, padding, dilation = map(_pair, (kernel, stride, padding, dilation))
    axes = (0, 1)
    start = [before.start[a] - padding[a] * before.jump[a] for a in axes]
    size = [before.size[a] + (kernel[a] - 1) * dilation[a] * before.jump[a] for a in axes]
    jump = [before.jump[a] * stride[a] for a in axes]
    return replace(
        before, start=(start[0], start[1]), size=(size[0], size[1]), jump=(jump[0], jump[1])
    )


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    values = [int(item) for item in value]
    return values[0], values[-1]


def _flat(value: Any) -> list[Any]:
    """List the leaves of nested tuples, lists and dicts."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _flat(item)]
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in _flat(item)]
    return [value]
