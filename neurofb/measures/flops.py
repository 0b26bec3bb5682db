"""FLOPs of one torch operation: products by formula, everything else by its elements."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


def singular_value_flops(num_rows: int, num_columns: int) -> int:
    """Return the FLOPs of a thin SVD of one matrix with both sets of vectors.

    6 n m² + 20 m³ for n ≥ m (R-SVD; Golub & Van Loan 2013, Matrix Computations, fig. 8.6.1).

    Examples
    --------
    >>> singular_value_flops(10, 2) == singular_value_flops(2, 10) == 6 * 10 * 4 + 20 * 8
    True
    """
    large, small = max(num_rows, num_columns), min(num_rows, num_columns)
    return 6 * large * small**2 + 20 * small**3


def operation_flops(function: Any, args: Any, kwargs: Any, out: Any) -> int | None:
    """Return the FLOPs of a matrix product, convolution, attention or factorisation, else None.

    Two FLOPs a multiply-add; by the formulas of `torch.utils.flop_counter`, and by our own for
    what these lack: attention on the CPU, the backward pass of grouped convolutions, SVD and QR.

    Parameters
    ----------
    function
        The operation as a dispatch mode sees it, ``torch.ops.aten.mm.default``.
    args, kwargs, out
        What went in and what came out.

    Examples
    --------
    >>> a, b = torch.ones(2, 3), torch.ones(3, 4)
    >>> operation_flops(torch.ops.aten.mm.default, (a, b), {}, a @ b)
    48
    """
    packet = getattr(function, "overloadpacket", None)
    if packet in _OWN:
        return _OWN[packet](*args, **kwargs)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=out))
    return None


def _attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(q.shape, k.shape, v.shape))


def _attention_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(grad.shape, q.shape, k.shape, v.shape))


def _convolution_backward(delta: Tensor, x: Tensor, kernel: Tensor, *rest: Any) -> int:
    is_transposed, wanted = rest[4], rest[7]
    positions = x if is_transposed else delta
    return 2 * (wanted[0] + wanted[1]) * positions.numel() * math.prod(kernel.shape[1:])


def _svd(matrix: Tensor, *_: Any, **__: Any) -> int:
    return math.prod(matrix.shape[:-2]) * singular_value_flops(*matrix.shape[-2:])


def _qr(matrix: Tensor, *_: Any, **__: Any) -> int:
    """Householder QR and the thin orthonormal factor (Golub & Van Loan 2013, sec. 5.2)."""
    n, m = max(matrix.shape[-2:]), min(matrix.shape[-2:])
    return math.prod(matrix.shape[:-2]) * 4 * (3 * n * m**2 - m**3) // 3


_OWN: dict[Any, Callable[..., int]] = {
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    aten.convolution_backward: _convolution_backward,
    aten._linalg_svd: _svd,
    aten.linalg_qr: _qr,
}
